//! NATS `JetStream`: a work queue in memory. A send waits until the server has the message; a receive acknowledges it
//! without waiting for that to arrive. The client is async-nats on a runtime of one thread.

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

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

async fn connect(port: u16) -> Result<Context> {
    let client = async_nats::connect(format!("nats://127.0.0.1:{port}")).await;
    Ok(jetstream::new(client.map_err(|error| anyhow!("connecting to NATS: {error}"))?))
}

pub(super) fn make(port: u16, name: &str, shared: bool) -> Result<Address> {
    make_stream(port, name, shared, StorageType::Memory)
}

pub(super) fn make_in_files(port: u16, name: &str) -> Result<Address> {
    make_stream(port, name, true, StorageType::File)
}

fn make_stream(port: u16, name: &str, shared: bool, storage: StorageType) -> Result<Address> {
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
            max_ack_pending: if shared { 1_000 } else { -1 },
            ..pull::Config::default()
        };
        stream.create_consumer(config).await.map_err(|error| anyhow!("making a consumer: {error}"))?;
        let kind = if shared { "shared" } else { "alone" };
        Ok(Address::Nats(port, format!("{name} {kind}")))
    })
}

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

/// With the message that it received last.
pub(super) struct Subscriber {
    runtime: Runtime,
    /// There until it is dropped.
    messages: Option<pull::Stream>,
    received: Option<Message>,
}

impl Subscriber {
    pub(super) fn open(port: u16, name: &str) -> Result<Subscriber> {
        let runtime = runtime()?;
        let (name, ahead) = parse(name);
        let messages = runtime.block_on(async {
            let context = connect(port).await?;
            let consumer: PullConsumer = context
                .get_consumer_from_stream(READERS, name)
                .await
                .map_err(|error| anyhow!("finding a consumer: {error}"))?;
            consumer
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
