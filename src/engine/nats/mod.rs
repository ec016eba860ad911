//! Carries mailboxes through NATS `JetStream`. One thread with a runtime of its own; nothing else of the program knows that.
//!
//! ```text
//! bucket   ipcfs-SPACE       a key for each path: the mailbox's identity, owner, mode and limits
//! stream   ipcfs-SPACE-ID    the messages of a mailbox, a work queue with a consumer for each priority, which all hosts share
//! subject  ipcfs.SPACE.ID    where they are sent; below it those with a priority, and questions
//! ```
//!
//! Commands come through a channel without a bound of its own: each belongs to a call that waits, to a message in hand or to a
//! change of a name, and the tree has a limit for each of these.

mod api;
mod ask;
mod asker;
mod connect;
mod dead;
mod lane;
mod messages;
mod names;
mod priority;
mod questions;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_nats::{Client, Subject, jetstream};
use log::{info, warn};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, OnceCell as Once, oneshot, watch};
use tokio::time::{Instant, interval, timeout};

use super::{Asked, Command, DeliveryId, EngineConfig, Event, Path, Settle, Tell};
use crate::op::Ino;
use asker::Asker;
use connect::Connected;
use messages::Inbox;
use names::Names;
use questions::Questions;

/// The consumer of each stream.
const CONSUMER: &str = "readers";

/// For how long settling a message is tried. It is another reader's by then.
const SETTLE: Duration = Duration::from_secs(60);

/// How often it is looked what can be forgotten.
const TIDY: Duration = Duration::from_secs(10);

/// Bytes of a message's headers at most, and of what the server adds.
const HEADERS: usize = 4096;

/// How long the end of a mount waits until all is told that is decided.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Takes events.
pub type Sink = Box<dyn Fn(Event)>;

/// Makes the sink, on the thread of the engine.
type MakeSink = Box<dyn FnOnce() -> Sink + Send>;

/// The thread that carries mailboxes.
#[derive(Debug)]
pub struct Engine {
    inputs: UnboundedSender<Input>,
    thread: Option<JoinHandle<()>>,
}

enum Input {
    Serve(MakeSink, mpsc::Sender<()>),
    Command(Command),
    End,
}

/// Whether there is a connection, and how many there have been.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    up: bool,
    count: u64,
}

impl Link {
    fn note_connected(&mut self) {
        *self = Link { up: true, count: self.count + 1 };
    }

    fn note_lost(&mut self) {
        self.up = false;
    }
}

/// A message in hand.
#[derive(Debug, Clone)]
struct Delivery {
    /// Where it is settled.
    ack: Subject,
    mailbox: Ino,
    path: Path,
    /// It is leased, and the servers are told again and again that it is in hand.
    leased: bool,
    /// It is a question.
    asker: Option<Asker>,
}

/// What the tasks of the thread share.
struct Hosts {
    client: Client,
    store: jetstream::kv::Store,
    link: watch::Receiver<Link>,
    space: String,
    /// Copies of each message, on as many servers.
    replicas: u64,
    names: RefCell<Names>,
    /// Something of them has changed.
    changed: Notify,
    /// Calls that wait, and what ends their wait.
    waits: RefCell<HashMap<(Ino, u64), oneshot::Sender<()>>>,
    /// Calls that have left before they came, and since when.
    early: RefCell<HashMap<(Ino, u64), Instant>>,
    /// Inboxes in which nothing is awaited.
    inboxes: RefCell<Vec<Inbox>>,
    /// Messages in hand.
    deliveries: RefCell<BTreeMap<DeliveryId, Delivery>>,
    questions: RefCell<Questions>,
    /// Replies are listened for.
    replies: Once<()>,
    /// How much goes on for whose end the end of the mount waits: messages that are settled, or sent through files that are
    /// closed, and questions that are withdrawn.
    under_way: Cell<usize>,
    /// Unique in the world, and in this process.
    host: String,
    next: Cell<u64>,
    sink: OnceCell<Sink>,
}

impl Engine {
    /// Connects, and learns all names. `msgsize` is the longest message of a new mailbox.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn connect(config: &EngineConfig, msgsize: u32) -> Result<Engine, String> {
        let (inputs, received) = unbounded_channel();
        let (told, is_ready) = mpsc::channel();
        let config = config.clone();
        let thread = thread::Builder::new().name(String::from("engine")).spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
            match runtime {
                Ok(runtime) => {
                    let tasks = tokio::task::LocalSet::new();
                    tasks.block_on(&runtime, run(&config, msgsize, received, &told));
                    // A look-up of a host's name may hang.
                    runtime.shutdown_background();
                }
                Err(error) => drop(told.send(Err(format!("the engine cannot start: {error}")))),
            }
        });
        let thread = thread.map_err(|error: io::Error| format!("the engine cannot start: {error}"))?;
        is_ready.recv().unwrap_or_else(|_| Err(String::from("the engine has ended")))?;
        Ok(Engine { inputs, thread: Some(thread) })
    }

    /// What takes commands.
    pub fn teller(&self) -> Tell {
        let inputs = self.inputs.clone();
        // Fails only at the end of the mount.
        Box::new(move |command| drop(inputs.send(Input::Command(command))))
    }

    /// Events go to this sink from now on. Returns when it has all names that there are.
    pub fn serve(&self, make_sink: impl FnOnce() -> Sink + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        let _ = self.inputs.send(Input::Serve(Box::new(make_sink), done));
        let _ = is_done.recv();
    }

    /// Gives back what is in hand, and waits until all is told that is decided.
    pub fn end(&mut self) {
        let _ = self.inputs.send(Input::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(
    config: &EngineConfig,
    msgsize: u32,
    mut inputs: UnboundedReceiver<Input>,
    told: &mpsc::Sender<Result<(), String>>,
) {
    let Connected { client, names: store, link, replicas } = match connect::connect(config, msgsize).await {
        Ok(connected) => connected,
        Err(why) => return drop(told.send(Err(why))),
    };
    let hosts = Rc::new(Hosts {
        client,
        store,
        link,
        space: config.space.clone(),
        replicas,
        names: RefCell::default(),
        changed: Notify::new(),
        waits: RefCell::default(),
        early: RefCell::default(),
        inboxes: RefCell::default(),
        deliveries: RefCell::default(),
        questions: RefCell::default(),
        replies: Once::new(),
        under_way: Cell::new(0),
        host: random(),
        next: Cell::new(0),
        sink: OnceCell::new(),
    });
    let listener = Rc::clone(&hosts);
    let (all, are_all) = oneshot::channel();
    tokio::task::spawn_local(async move { listener.listen(move || all.send(()).unwrap_or_default()).await });
    let _ = are_all.await;
    info!("the space '{}' has {} names", config.space, hosts.names.borrow().len());
    if told.send(Ok(())).is_err() {
        return;
    }
    hosts.serve(&mut inputs).await;
    hosts.finish().await;
}

impl Hosts {
    async fn serve(self: &Rc<Self>, inputs: &mut UnboundedReceiver<Input>) {
        let mut link = self.link.clone();
        let mut tidy = interval(TIDY);
        loop {
            tokio::select! {
                // What the tree wants comes first, in order.
                biased;
                input = inputs.recv() => match input {
                    Some(Input::Command(command)) => self.perform(command),
                    Some(Input::Serve(make_sink, done)) => {
                        let _ = self.sink.set(make_sink());
                        self.emit(Event::Connected(self.link.borrow().up));
                        self.all_present().into_iter().for_each(|event| self.emit(event));
                        let _ = done.send(());
                    }
                    Some(Input::End) | None => return,
                },
                changed = link.changed() => {
                    let Link { up, .. } = *link.borrow_and_update();
                    if changed.is_err() {
                        return;
                    }
                    if up {
                        info!("connected to NATS");
                    } else {
                        warn!("the connection to NATS is lost");
                    }
                    self.emit(Event::Connected(up));
                }
                _ = tidy.tick() => {
                    self.forget_early();
                    self.forget_absent();
                }
            }
        }
    }

    fn perform(self: &Rc<Self>, command: Command) {
        let hosts = Rc::clone(self);
        match command {
            Command::Describe(path, told) => self.describe(path, told),
            Command::Remove(path, told) => self.remove(path, told),
            Command::Publish(publish) => {
                let left = self.wait(publish.mailbox, publish.wait);
                if publish.asks {
                    drop(tokio::task::spawn_local(hosts.ask(publish, left)));
                } else {
                    drop(tokio::task::spawn_local(hosts.publish(publish, left)));
                }
            }
            Command::Pull { mailbox, path, pull, wanted, wait } => {
                let left = self.wait(mailbox, pull);
                drop(tokio::task::spawn_local(hosts.pull((mailbox, path), pull, wanted, wait, left)));
            }
            Command::Reply { delivery, body, mailbox, wait, once } => {
                self.reply(delivery, body, (mailbox, wait), once);
            }
            Command::Heard(number, result) => self.reply_heard(number, result),
            Command::Forget(mailbox, question) => self.forget(mailbox, question),
            Command::Withdraw(mailbox, wait) | Command::EndPull(mailbox, wait) => self.leave(mailbox, wait),
            Command::Keep(delivery) => self.keep(delivery),
            Command::Settle(delivery, how, waiter) => self.settle(delivery, how, waiter),
            Command::Ask(ask) => {
                let waits = matches!(ask.what, Asked::Next { .. });
                let left = waits.then(|| self.wait(ask.mailbox, ask.wait));
                drop(tokio::task::spawn_local(hosts.answer(ask, left)));
            }
        }
    }

    /// The mount has ended. Messages that were not settled go to other readers at once.
    async fn finish(self: &Rc<Self>) {
        let in_hand: Vec<DeliveryId> = self.deliveries.borrow().keys().copied().collect();
        for delivery in in_hand {
            self.settle(delivery, Settle::Nack, None);
        }
        self.forget_all();
        let end = Instant::now() + LAST_WORDS;
        while self.under_way.get() > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = timeout(LAST_WORDS, self.client.flush()).await;
    }

    fn emit(&self, event: Event) {
        if let Some(sink) = self.sink.get() {
            sink(event);
        }
    }

    /// Waits for a connection.
    async fn connected(&self) {
        // Fails only at the end.
        let _ = self.link.clone().wait_for(|link| link.up).await;
    }

    fn fresh(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// A name that nothing else has, on any host.
    fn fresh_id(&self) -> String {
        format!("{}{:x}", self.host, self.fresh())
    }

    fn stream(&self, id: &str) -> String {
        format!("ipcfs-{}-{id}", self.space)
    }

    fn subject(&self, id: &str) -> String {
        format!("ipcfs.{}.{id}", self.space)
    }
}

/// 128 random bits.
fn random() -> String {
    let mut bytes = [0; 16];
    // Never fails for so few bytes.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{:032x}-", u128::from_ne_bytes(bytes))
}
