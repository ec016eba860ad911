//! Sending, receiving and settling messages. Each call that waits is a task, which ends with one event.
//!
//! A message carries an id of its own (`Nats-Msg-Id`), so that the server keeps it once, however often it is sent because an answer
//! was lost. A pull asks for one message. If its reader leaves, the server is told; a message that is under way by then still
//! comes, and the tree gives it to another reader or back.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use log::warn;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::api::{self, Refused, code};
use super::ask::{ID, SENDER, TAG, about};
use super::asker::Asker;
use super::dead::place;
use super::lane::{is_question, of_subject};
use super::names::digits;
use super::{CONSUMER, Delivery, Hosts, SETTLE};
use crate::config::NO_LIMIT;
use crate::engine::{self, DeliveryId, Event, Path, Publish, Sent, Settle, Wanted};
use crate::op::{Error, Ino, Slice, Timestamp};

/// A writer that gets a signal while its message is under way waits for the answer so long: the answer tells whether the message was
/// sent.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// For how long one that has left may still come.
const EARLY: Duration = Duration::from_secs(5);

/// First and longest time between two attempts to send to a mailbox that is full.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// How often a call that must not wait asks a server that does not answer.
const ATTEMPTS: u32 = 2;

/// How long one request for a message holds.
const EXPIRES: Duration = Duration::from_secs(60);

/// How often the server says that a request for a message holds. It has lost it if it does not say so twice.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long a server may take to say that there is no message.
const LOOK: Duration = Duration::from_secs(3);

/// How long a message may be under way to a reader that has left.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// After how many seconds a message expires: the servers count no shorter times.
const TTL: &str = "Nats-TTL";

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Inboxes that are kept for the next request.
const IDLE_INBOXES: usize = 64;

/// A subject at which requests are answered, one after the other.
pub(super) struct Inbox {
    subject: Subject,
    pub(super) messages: Subscriber,
}

/// A message that the servers have: its mailbox, and its number there.
pub(super) struct Stored {
    pub(super) mailbox: String,
    pub(super) number: u64,
    /// Its key was known before, so that nothing was sent.
    known: bool,
}

/// What came of one request for a message.
pub(super) enum Pulled {
    Message(Message),
    /// There is none.
    None,
    /// The server holds the request no longer, or never will.
    Again,
    /// It may still hold it.
    Lost,
    /// Nobody waits any more.
    Left,
}

impl Hosts {
    /// A call waits, until [`Hosts::leave`]. To be called before the next command, which may be that.
    pub(super) fn wait(&self, mailbox: Ino, wait: u64) -> oneshot::Receiver<()> {
        let (leave, left) = oneshot::channel();
        if self.early.borrow_mut().remove(&(mailbox, wait)).is_some() {
            let _ = leave.send(());
        } else {
            self.waits.borrow_mut().insert((mailbox, wait), leave);
        }
        left
    }

    /// A call does not want to wait any more.
    pub(super) fn leave(&self, mailbox: Ino, wait: u64) {
        if let Some(leave) = self.waits.borrow_mut().remove(&(mailbox, wait)) {
            let _ = leave.send(());
        } else {
            // Its wait has ended, or two threads overtook each other on the way here, and it begins in a moment.
            self.early.borrow_mut().insert((mailbox, wait), Instant::now());
        }
    }

    /// Forgets calls whose wait had ended before they left.
    pub(super) fn forget_early(&self) {
        self.early.borrow_mut().retain(|_, since| since.elapsed() < EARLY);
    }

    pub(super) async fn publish(self: Rc<Self>, publish: Publish, mut left: oneshot::Receiver<()>) {
        let closing = usize::from(publish.closed);
        self.under_way.set(self.under_way.get() + closing);
        let (mut sent, mut result) = (Sent::default(), Ok(()));
        for body in &publish.bodies {
            let id = match &publish.properties.key {
                Some(key) => format!("once.{}", digits(key)),
                None => self.fresh_id(),
            };
            match self.send(&publish, headers_of(&publish, id), body, &mut left).await {
                Ok(Stored { known, .. }) => {
                    sent = Sent { accepted: sent.accepted + 1, known: sent.known + usize::from(known) }
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.waits.borrow_mut().remove(&(publish.mailbox, publish.wait));
        self.emit(Event::Published(publish.mailbox, publish.wait, sent, result));
        self.under_way.set(self.under_way.get() - closing);
    }

    /// Sends one message.
    pub(super) async fn send(
        &self,
        publish: &Publish,
        headers: HeaderMap,
        body: &Slice,
        left: &mut oneshot::Receiver<()>,
    ) -> Result<Stored, Error> {
        let Publish { path, once, properties, .. } = publish;
        let body = Bytes::from_owner(body.clone());
        let (mut pause, mut attempts) = (PAUSES.0, 0);
        loop {
            let ready = async {
                self.connected().await;
                self.id(path).await
            };
            let id = tokio::select! {
                id = ready => id?,
                _ = &mut *left => return Err(Error::Interrupted),
            };
            let subject = match properties.priority {
                0 if publish.asks => self.question_lane(&id).subject,
                0 => self.subject(&id),
                priority => tokio::select! {
                    subject = self.subject_of(path, &id, priority) => subject?,
                    _ = &mut *left => return Err(Error::Interrupted),
                },
            };
            let sent = api::ask(&self.client, subject, Some(headers.clone()), body.clone());
            tokio::pin!(sent);
            let (answer, has_left) = tokio::select! {
                answer = &mut sent => (answer, false),
                _ = &mut *left => (timeout(GRACE, sent).await.unwrap_or(Err(Refused::Silent)), true),
            };
            attempts += 1;
            match answer {
                // An attempt that got no answer may have been accepted.
                Ok(answer) => {
                    let known = answer["duplicate"].as_bool() == Some(true);
                    let known = known && attempts == 1 && properties.key.is_some();
                    let number = answer["seq"].as_u64().unwrap_or_default();
                    return Ok(Stored { mailbox: id, number, known });
                }
                Err(_) if has_left => return Err(Error::Interrupted),
                Err(Refused::Server(code::TOO_LONG, _)) => return Err(Error::TooLong),
                Err(Refused::Server(code::STORE_FAILED, why)) if *once => {
                    log::debug!("'{}': {why}", path.escape_ascii());
                    return Err(Error::NoSpace);
                }
                Err(Refused::Server(code, why)) if code::RESOURCES.contains(&code) => {
                    warn!("'{}' takes no message: {why}", path.escape_ascii());
                    if *once {
                        return Err(Error::NoSpace);
                    }
                }
                Err(Refused::Server(code::STORE_FAILED | code::NOT_AVAILABLE, _)) => {}
                Err(Refused::Server(code, why)) => {
                    warn!("'{}' takes no message: {why} (error {code} of the server)", path.escape_ascii());
                    return Err(Error::Io);
                }
                Err(Refused::Silent) if *once && attempts >= ATTEMPTS => return Err(Error::WouldWait),
                Err(Refused::Silent) => {}
                Err(Refused::Nobody) => {
                    if api::has_stream(&self.client, &self.stream(&id)).await == Ok(false) {
                        return Err(Error::Removed);
                    }
                    if *once && attempts >= ATTEMPTS {
                        return Err(Error::WouldWait);
                    }
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = &mut *left => return Err(Error::Interrupted),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    pub(super) async fn pull(
        self: Rc<Self>,
        (mailbox, path): (Ino, Path),
        pull: u64,
        wanted: Wanted,
        waits: bool,
        mut left: oneshot::Receiver<()>,
    ) {
        let message = self.receive((mailbox, &path, pull), wanted, waits, &mut left).await;
        self.waits.borrow_mut().remove(&(mailbox, pull));
        match message {
            Some(message) => self.hand_over((mailbox, path), pull, message),
            None => self.emit(Event::Nothing(mailbox, pull)),
        }
    }

    /// One message. `None`: there is none, or nobody waits any more.
    async fn receive(
        self: &Rc<Self>,
        (mailbox, path, pull): (Ino, &Path, u64),
        wanted: Wanted,
        waits: bool,
        left: &mut oneshot::Receiver<()>,
    ) -> Option<Message> {
        let mut pause = Duration::ZERO;
        loop {
            let ready = async {
                // To sleep for no time takes up to a millisecond.
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                self.connected().await;
                self.id(path).await
            };
            let id = tokio::select! {
                id = ready => id,
                _ = &mut *left => return None,
            };
            let Ok(id) = id else {
                // The tree is told, or has told, that it is gone.
                if waits {
                    let _ = left.await;
                }
                return None;
            };
            let priorities = self.priorities(path);
            let whose = (mailbox, path, pull);
            let pulled = if wanted == Wanted::Question {
                let servers = self.question_lane(&id).consumer;
                match self.has_servers(path, &id).await {
                    Ok(()) => self.pull_from(whose, (&id, &servers), waits, left).await,
                    Err(_) if !waits => Pulled::None,
                    Err(_) => Pulled::Again,
                }
            } else if priorities.is_empty() {
                self.pull_from(whose, (&id, CONSUMER), waits, left).await
            } else {
                self.pull_by_priority(whose, (&id, &priorities), waits, left).await
            };
            pause = match &pulled {
                Pulled::Again => (pause * 2).clamp(PAUSES.0, PAUSES.1),
                _ => Duration::ZERO,
            };
            match pulled {
                Pulled::Message(message) => match &message.reply {
                    Some(ack) if wanted == Wanted::Question => {
                        if !self.is_nobodys(&message, path).await {
                            return Some(message);
                        }
                        let _ = self.tell_settled(ack, "+ACK").await;
                    }
                    // Its readers died too often, or their hosts.
                    Some(ack) if self.is_worn_out(path, ack, 1) => {
                        // If it fails, the message comes again.
                        let _ = self.bury((mailbox, path), ack, "deliveries").await;
                    }
                    _ => return Some(message),
                },
                Pulled::None | Pulled::Left => return None,
                Pulled::Lost if !waits => return None,
                Pulled::Again | Pulled::Lost => {}
            }
        }
    }

    /// Asks a consumer for one message.
    pub(super) async fn pull_from(
        self: &Rc<Self>,
        whose: (Ino, &Path, u64),
        of: (&str, &str),
        waits: bool,
        left: &mut oneshot::Receiver<()>,
    ) -> Pulled {
        let Some(mut inbox) = self.inbox().await else { return Pulled::Left };
        let mut link = self.link.clone();
        link.mark_unchanged();
        let pulled = match self.request(of, waits, &inbox).await {
            Ok(()) => {
                tokio::select! {
                    pulled = next(&mut inbox.messages, waits) => pulled,
                    // A new connection may be to a server that knows nothing of the request.
                    _ = link.changed() => Pulled::Lost,
                    () = self.priorities_change(whose.1, &[]), if waits && of.1 == CONSUMER => Pulled::Lost,
                    _ = &mut *left => Pulled::Left,
                }
            }
            Err(_) => Pulled::Again,
        };
        match pulled {
            Pulled::Message(_) | Pulled::None => self.put_back(inbox),
            Pulled::Lost | Pulled::Left => self.drop_inbox(whose, inbox),
            Pulled::Again => {}
        }
        pulled
    }

    /// Sends the request for a message.
    pub(super) async fn request(
        &self,
        (id, consumer): (&str, &str),
        waits: bool,
        inbox: &Inbox,
    ) -> Result<(), async_nats::PublishError> {
        let request = if waits {
            json!({ "batch": 1, "expires": EXPIRES.as_nanos() as u64, "idle_heartbeat": HEARTBEAT.as_nanos() as u64 })
        } else {
            json!({ "batch": 1, "no_wait": true })
        };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", self.stream(id));
        let request = Bytes::from(request.to_string());
        self.client.publish_with_reply(subject, inbox.subject.clone(), request).await
    }

    /// Nobody waits there any more.
    pub(super) fn drop_inbox(self: &Rc<Self>, (mailbox, path, pull): (Ino, &Path, u64), inbox: Inbox) {
        let whose = (mailbox, Path::clone(path));
        tokio::task::spawn_local(Rc::clone(self).take_late(whose, pull, inbox.messages));
    }

    /// Where a request is answered. `None`: at the end.
    pub(super) async fn inbox(&self) -> Option<Inbox> {
        if let Some(idle) = self.inboxes.borrow_mut().pop() {
            return Some(idle);
        }
        let subject = Subject::from(self.client.new_inbox());
        let messages = self.client.subscribe(subject.clone()).await.ok()?;
        Some(Inbox { subject, messages })
    }

    /// Nothing more comes there: the request was answered. The next one spares the server the news of another inbox.
    fn put_back(&self, inbox: Inbox) {
        let mut idle = self.inboxes.borrow_mut();
        if idle.len() < IDLE_INBOXES {
            idle.push(inbox);
        }
    }

    /// Tells the server that nobody waits, and passes on what is under way.
    async fn take_late(self: Rc<Self>, whose: (Ino, Path), pull: u64, mut messages: Subscriber) {
        let _ = messages.drain().await;
        while let Ok(Some(message)) = timeout(UNDER_WAY, messages.next()).await {
            if message.status.is_none() {
                self.hand_over(whose.clone(), pull, message);
            }
        }
    }

    fn hand_over(&self, (mailbox, path): (Ino, Path), pull: u64, message: Message) {
        let Some(ack) = message.reply else { return self.emit(Event::Nothing(mailbox, pull)) };
        let delivery = DeliveryId(self.fresh());
        let place = place(&ack).unwrap_or_default();
        let header = |name: &str| message.headers.as_ref()?.get(name).map(HeaderValue::as_str);
        let about = about(place.sequence, of_subject(&message.subject), Timestamp(place.sent), header);
        let deliveries = u32::try_from(place.delivered.saturating_sub(1)).unwrap_or(u32::MAX);
        let (wanted, asker) = if is_question(&message.subject) {
            (Wanted::Question, Asker::of(message.headers.as_ref()))
        } else {
            (Wanted::Message, None)
        };
        self.deliveries.borrow_mut().insert(delivery, Delivery { ack, mailbox, path, leased: false, asker });
        let (body, waiting) = (Arc::from(&message.payload[..]), place.behind);
        let message = engine::Message { wanted, delivery, about, deliveries, body, waiting };
        self.emit(Event::Message(mailbox, pull, message));
    }

    /// A message is leased: it is kept from other hosts.
    pub(super) fn keep(self: &Rc<Self>, delivery: DeliveryId) {
        let kept = {
            let mut deliveries = self.deliveries.borrow_mut();
            let Some(kept) = deliveries.get_mut(&delivery) else { return };
            kept.leased = true;
            kept.clone()
        };
        let hosts = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                let Some(told) = hosts.described(&kept.path) else { return };
                sleep(told.silence() / 3).await;
                if !hosts.deliveries.borrow().contains_key(&delivery) {
                    return;
                }
                let _ = hosts.client.publish(kept.ack.clone(), Bytes::from_static(b"+WPI")).await;
            }
        });
    }

    /// Settles a message, and reports it if somebody waits.
    pub(super) fn settle(self: &Rc<Self>, delivery: DeliveryId, how: Settle, waiter: Option<(Ino, u64)>) {
        let settled = self.deliveries.borrow_mut().remove(&delivery);
        let Some(Delivery { ack, mailbox: of, path, leased, asker }) = settled else {
            if let Some((mailbox, wait)) = waiter {
                self.emit(Event::Settled(mailbox, wait, Err(Error::NoMessage)));
            }
            return;
        };
        self.under_way.set(self.under_way.get() + 1);
        let hosts = Rc::clone(self);
        let mut left = waiter.map(|(mailbox, wait)| hosts.wait(mailbox, wait));
        tokio::task::spawn_local(async move {
            let settled = async {
                match how {
                    Settle::Reject => hosts.bury((of, &path), &ack, "rejected").await,
                    Settle::Nack | Settle::NackFor(_)
                        if leased && asker.is_none() && hosts.is_worn_out(&path, &ack, 0) =>
                    {
                        hosts.bury((of, &path), &ack, "deliveries").await
                    }
                    Settle::Nack => hosts.tell_settled(&ack, "-NAK").await,
                    Settle::NackFor(nanos) => {
                        hosts.tell_settled(&ack, &format!("-NAK {{\"delay\": {nanos}}}")).await
                    }
                    Settle::Ack => hosts.tell_settled(&ack, "+ACK").await,
                }
            };
            tokio::pin!(settled);
            let result = match &mut left {
                Some(left) => tokio::select! {
                    result = &mut settled => Some(result),
                    _ = left => None,
                },
                None => None,
            };
            if let Some((mailbox, wait)) = waiter {
                hosts.waits.borrow_mut().remove(&(mailbox, wait));
                hosts.emit(Event::Settled(mailbox, wait, result.unwrap_or(Err(Error::Interrupted))));
            }
            if result.is_none() {
                let _ = settled.await;
            }
            hosts.under_way.set(hosts.under_way.get() - 1);
        });
    }

    /// Repeats it until the server has confirmed it, or has given the message to another reader by then.
    pub(super) async fn tell_settled(&self, ack: &str, how: &str) -> Result<(), Error> {
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            if timeout(SETTLE / 2, self.connected()).await.is_err() {
                continue;
            }
            match api::ask_plainly(&self.client, ack, how).await {
                Err(Refused::Silent) => {}
                // Its mailbox is gone.
                Err(Refused::Nobody) => return Err(Error::Removed),
                _ => return Ok(()),
            }
        }
        Err(Error::NoMessage)
    }
}

/// The headers of a message that is known by `id`.
pub(super) fn headers_of(publish: &Publish, id: String) -> HeaderMap {
    let Publish { sender, properties, .. } = publish;
    let mut headers = HeaderMap::new();
    headers.insert(ID, id);
    if let Some(tag) = &properties.tag {
        headers.insert(TAG, digits(tag));
    }
    if publish.asks {
        // Whatever `config/ttl` says.
        headers.insert(TTL, "never");
    } else if properties.ttl != NO_LIMIT {
        headers.insert(TTL, format!("{}s", properties.ttl.div_ceil(SECOND)));
    }
    headers.insert(SENDER, format!("{} {} {}", sender.uid, sender.gid, sender.pid));
    headers
}

/// What comes of a request for one message.
pub(super) async fn next(messages: &mut Subscriber, waits: bool) -> Pulled {
    let patience = if waits { 2 * HEARTBEAT + Duration::from_secs(1) } else { LOOK };
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = sleep_until(Instant::now() + patience) => return Pulled::Lost,
        };
        let Some(message) = message else { return Pulled::Again };
        match message.status.map(|status| status.as_u16()) {
            None => return Pulled::Message(message),
            // It says that it holds the request.
            Some(100) => {}
            Some(404 | 408) if !waits => return Pulled::None,
            // The request has expired; the consumer has moved to another server, or is gone.
            Some(_) => return Pulled::Again,
        }
    }
}
