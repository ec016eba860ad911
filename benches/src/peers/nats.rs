//! NATS `JetStream`: a work queue in memory. A send waits until the server has the message; a receive acknowledges it
//! without waiting for that to arrive. Or one in files, as ipcfs uses it for mailboxes of several hosts: a receive asks for one
//! message, and waits until the server has the acknowledgement. The client is async-nats on a runtime of one thread.

use std::time::Duration;

use anyhow::{Result, anyhow};
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, Message};
use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Runtime};

use super::{Address, Receiver, Sender};

/// Messages that a receiver has sent ahead of itself. One that shares a stream takes one at a time, or it would keep
/// messages from the others.
const AHEAD: usize = 200;

const READERS: &str = "readers";

/// How long a request for one message holds.
const EXPIRES: Duration = Duration::from_secs(60);

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

async fn connect(port: u16) -> Result<Context> {
    let client = async_nats::connect(format!("nats://127.0.0.1:{port}")).await;
    Ok(jetstream::new(client.map_err(|error| anyhow!("connecting to NATS: {error}"))?))
}

pub(super) fn make(port: u16, name: &str, shared: bool) -> Result<Address> {
    make_stream(port, name, if shared { "shared" } else { "alone" }, StorageType::Memory)
}

pub(super) fn make_in_files(port: u16, name: &str) -> Result<Address> {
    make_stream(port, name, "shared", StorageType::File)
}

pub(super) fn make_one_by_one(port: u16, name: &str) -> Result<Address> {
    make_stream(port, name, ONE_BY_ONE, StorageType::File)
}

fn make_stream(port: u16, name: &str, kind: &str, storage: StorageType) -> Result<Address> {
    runtime()?.block_on(async {
        let context = connect(port).await?;
        let config = Config {
            name: name.to_owned(),
            subjects: vec![name.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage,
            ..Config::default()
        };
        let stream =
            context.create_stream(config).await.map_err(|error| anyhow!("making a stream: {error}"))?;
        let config = pull::Config {
            durable_name: Some(READERS.to_owned()),
            max_ack_pending: if kind == "alone" { -1 } else { 1_000 },
            ..pull::Config::default()
        };
        stream.create_consumer(config).await.map_err(|error| anyhow!("making a consumer: {error}"))?;
        Ok(Address::Nats(port, format!("{name} {kind}")))
    })
}

/// The kind of a stream whose receivers ask for each message.
const ONE_BY_ONE: &str = "one-by-one";

/// A stream's name, and how many messages a receiver of it has sent ahead.
fn parse(name: &str) -> (&str, usize) {
    match name.split_once(' ') {
        Some((name, "shared")) => (name, 1),
        Some((name, _)) => (name, AHEAD),
        None => (name, AHEAD),
    }
}

pub(super) fn remove(port: u16, name: &str) {
    let Ok(runtime) = runtime() else { return };
    runtime.block_on(async {
        if let Ok(context) = connect(port).await {
            let _ = context.delete_stream(parse(name).0).await;
        }
    });
}

pub(super) struct Publisher {
    runtime: Runtime,
    context: Context,
    subject: String,
}

impl Publisher {
    pub(super) fn open(port: u16, name: &str) -> Result<Publisher> {
        let runtime = runtime()?;
        let context = runtime.block_on(connect(port))?;
        Ok(Publisher { runtime, context, subject: parse(name).0.to_owned() })
    }
}

impl Sender for Publisher {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let Publisher { runtime, context, subject } = self;
        runtime.block_on(async {
            let sent = context.publish(subject.clone(), message.to_vec().into()).await;
            sent.map_err(|error| anyhow!("publishing: {error}"))?
                .await
                .map_err(|error| anyhow!("publishing: {error}"))?;
            Ok(())
        })
    }
}

/// A receiver that asks for each message, with the one that it received last.
pub(super) struct Asker {
    runtime: Runtime,
    consumer: PullConsumer,
    received: Option<Message>,
}

impl Asker {
    fn open(port: u16, name: &str) -> Result<Asker> {
        let runtime = runtime()?;
        let consumer = runtime.block_on(consumer(port, name))?;
        Ok(Asker { runtime, consumer, received: None })
    }
}

impl Receiver for Asker {
    fn receive(&mut self) -> Result<&[u8]> {
        let Asker { runtime, consumer, received } = self;
        let message = runtime.block_on(async {
            let mut messages = consumer.fetch().max_messages(1).expires(EXPIRES).messages().await;
            let messages = messages.as_mut().map_err(|error| anyhow!("asking for a message: {error}"))?;
            let message = messages.next().await.ok_or_else(|| anyhow!("no message came"))?;
            let message = message.map_err(|error| anyhow!("receiving: {error}"))?;
            message.double_ack().await.map_err(|error| anyhow!("acknowledging: {error}"))?;
            anyhow::Ok(message)
        })?;
        Ok(&received.insert(message).payload)
    }
}

/// A receiver of a stream.
pub(super) fn receiver(port: u16, name: &str) -> Result<Box<dyn Receiver>> {
    Ok(match name.split_once(' ') {
        Some((name, ONE_BY_ONE)) => Box::new(Asker::open(port, name)?),
        _ => Box::new(Subscriber::open(port, name)?),
    })
}

async fn consumer(port: u16, name: &str) -> Result<PullConsumer> {
    let consumer = connect(port).await?.get_consumer_from_stream(READERS, name).await;
    consumer.map_err(|error| anyhow!("finding a consumer: {error}"))
}

/// With the message that it received last.
pub(super) struct Subscriber {
    runtime: Runtime,
    /// There until it is dropped.
    messages: Option<pull::Stream>,
    received: Option<Message>,
}

impl Subscriber {
    fn open(port: u16, name: &str) -> Result<Subscriber> {
        let runtime = runtime()?;
        let (name, ahead) = parse(name);
        let messages = runtime.block_on(async {
            consumer(port, name)
                .await?
                .stream()
                .max_messages_per_batch(ahead)
                .messages()
                .await
                .map_err(|error| anyhow!("subscribing: {error}"))
        })?;
        Ok(Subscriber { runtime, messages: Some(messages), received: None })
    }
}

impl Receiver for Subscriber {
    fn receive(&mut self) -> Result<&[u8]> {
        let Subscriber { runtime, messages, received } = self;
        let message = runtime.block_on(async {
            let messages = messages.as_mut().ok_or_else(|| anyhow!("closed"))?;
            let message = messages.next().await.ok_or_else(|| anyhow!("the subscription ended"))?;
            let message = message.map_err(|error| anyhow!("receiving: {error}"))?;
            message.ack().await.map_err(|error| anyhow!("acknowledging: {error}"))?;
            anyhow::Ok(message)
        })?;
        Ok(&received.insert(message).payload)
    }
}

impl Drop for Subscriber {
    /// A subscription says good-bye by its runtime.
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        drop(self.messages.take());
    }
}
