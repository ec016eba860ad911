//! Questions and their replies: `rpc` and `serve`.
//!
//! ```text
//! question  ipcfs.SPACE.ID.rpc         a message of the mailbox, with the host that asks. Consumer `servers`
//! reply     ipcfs.SPACE.replies.HOST   of plain NATS; the host that asks says what becomes of it
//! ```
//!
//! A question is acknowledged once its reply is in the hands of the host that asks. Until then it is in the mailbox, and comes to
//! another server if this one dies. If it is gone and there is no reply, the host that asks sends it again: it looks after each loss
//! of the connection, and from time to time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, Message, Request, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use log::warn;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::api::{self, Refused, code};
use super::asker::{ASKER, Asker};
use super::messages::{GRACE, PAUSES, Stored, headers_of};
use super::{Delivery, Hosts, SETTLE};
use crate::engine::{DeliveryId, Event, Path, Publish, Sent};
use crate::op::{Error, Ino, Slice};

/// To which question a reply belongs.
const QUESTION: &str = "Ipcfs-Question";

/// Identifies a reply, however often it is sent.
const REPLY: &str = "Ipcfs-Reply";

/// How often it is looked whether a question without a reply is still there.
const LOOK: Duration = Duration::from_secs(60);

/// Replies that are known of after they were taken: one whose confirmation was lost comes again.
const KNOWN: usize = 1024;

/// What the host that asks says of a reply.
const TAKEN: &[u8] = b"taken";
const NO_MEMORY: &[u8] = b"no memory";
const GONE: &[u8] = b"gone";

/// What a host knows of questions.
#[derive(Default)]
pub(super) struct Questions {
    /// Those that were asked here, by their ids. One that was lost has several.
    asked: HashMap<String, (Ino, u64)>,
    /// What ends their tasks: true if there is a reply.
    ends: HashMap<(Ino, u64), oneshot::Sender<bool>>,
    /// Replies of which the tree has not said yet what becomes of them.
    coming: HashMap<u64, Coming>,
    /// Questions and replies that were taken, the last ones.
    taken: VecDeque<(String, String)>,
    /// Mailboxes whose questions are handed over, and how long a server may say nothing.
    lanes: HashMap<String, Duration>,
    /// Hosts that do not answer, since when, and in which connection.
    absent: HashMap<String, (Instant, u64)>,
}

struct Coming {
    asked: (Ino, u64),
    question: String,
    reply: String,
    confirm: Subject,
}

impl Hosts {
    /// Asks a question, and watches over it until there is a reply or nobody waits for one.
    pub(super) async fn ask(self: Rc<Self>, publish: Publish, mut left: oneshot::Receiver<()>) {
        let key = (publish.mailbox, publish.wait);
        let (end, mut ended) = oneshot::channel();
        self.questions.borrow_mut().ends.insert(key, end);
        let mut ids = Vec::new();
        let sent = async {
            tokio::select! {
                listens = self.listens() => listens?,
                _ = &mut left => return Err(Error::Interrupted),
            }
            self.send_question(&publish, &mut ids, &mut left).await
        };
        let sent = sent.await;
        self.waits.borrow_mut().remove(&key);
        let accepted = Sent { accepted: usize::from(sent.is_ok()), known: 0 };
        let result = sent.as_ref().map(drop).map_err(|error| *error);
        self.emit(Event::Published(publish.mailbox, publish.wait, accepted, result));
        let (is_answered, stored) = if let Ok(stored) = sent {
            self.watch(&publish, stored, &mut ids, &mut ended).await
        } else {
            drop(self.questions.borrow_mut().ends.remove(&key));
            (ended.try_recv() != Ok(false), None)
        };
        {
            let mut questions = self.questions.borrow_mut();
            for id in &ids {
                questions.asked.remove(id);
            }
        }
        if is_answered {
            return;
        }
        if let Some(stored) = stored {
            self.withdraw(&stored).await;
        }
        self.under_way.set(self.under_way.get() - 1);
    }

    async fn send_question(
        &self,
        publish: &Publish,
        ids: &mut Vec<String>,
        left: &mut oneshot::Receiver<()>,
    ) -> Result<Stored, Error> {
        let body = publish.bodies.first().ok_or(Error::Invalid)?;
        let id = self.fresh_id();
        ids.push(id.clone());
        let mut headers = headers_of(publish, id.clone());
        headers.insert(ASKER, &self.host[..]);
        self.questions.borrow_mut().asked.insert(id, (publish.mailbox, publish.wait));
        self.send(publish, headers, body, left).await
    }

    /// Until there is a reply; or, false, nobody waits for one any more, and the question may still be there.
    async fn watch(
        &self,
        publish: &Publish,
        mut stored: Stored,
        ids: &mut Vec<String>,
        ended: &mut oneshot::Receiver<bool>,
    ) -> (bool, Option<Stored>) {
        loop {
            let mut link = self.link.clone();
            link.mark_unchanged();
            tokio::select! {
                biased;
                end = &mut *ended => return (end != Ok(false), Some(stored)),
                _ = link.changed() => {}
                () = sleep(LOOK) => {}
            }
            tokio::select! {
                biased;
                end = &mut *ended => return (end != Ok(false), Some(stored)),
                again = self.ask_again_if_lost(publish, &stored, ids) => {
                    stored = again.unwrap_or(stored);
                }
            }
        }
    }

    async fn ask_again_if_lost(
        &self,
        publish: &Publish,
        stored: &Stored,
        ids: &mut Vec<String>,
    ) -> Option<Stored> {
        loop {
            self.connected().await;
            match self.find(&stored.mailbox, stored.number).await {
                Err(Refused::Server(code::NO_MESSAGE, _)) => break,
                Err(Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _)) => {
                    sleep(PAUSES.1).await;
                }
                // It is there; or its mailbox is gone, which the tree is told.
                _ => return None,
            }
        }
        // Whatever happens, its client waits on.
        let (_stays, mut left) = oneshot::channel();
        let again = Publish { once: false, ..publish.clone() };
        self.send_question(&again, ids, &mut left).await.ok()
    }

    /// Removes a question of whose reply nobody wants to know.
    async fn withdraw(&self, stored: &Stored) {
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            self.connected().await;
            match self.discard(&stored.mailbox, stored.number).await {
                Err(Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _)) => {
                    sleep(PAUSES.1).await;
                }
                _ => return,
            }
        }
    }

    /// Nobody waits for the reply to a question any more.
    pub(super) fn forget(&self, mailbox: Ino, question: u64) {
        let end = self.questions.borrow_mut().ends.remove(&(mailbox, question));
        if let Some(end) = end {
            self.under_way.set(self.under_way.get() + 1);
            let _ = end.send(false);
        }
    }

    /// The mount has ended, and so have its clients.
    pub(super) fn forget_all(&self) {
        let all: Vec<_> = self.questions.borrow().ends.keys().copied().collect();
        for (mailbox, question) in all {
            self.forget(mailbox, question);
        }
    }

    fn replies_of(&self, host: &str) -> String {
        format!("ipcfs.{}.replies.{host}", self.space)
    }

    /// Listens for replies, from the first question on.
    async fn listens(self: &Rc<Self>) -> Result<(), Error> {
        let begin = async || {
            let subject = self.replies_of(&self.host);
            let mut silent_in = None;
            loop {
                self.connected().await;
                let count = self.link.borrow().count;
                let Ok(replies) = self.client.subscribe(subject.clone()).await else {
                    return Err(Error::Unreachable);
                };
                let hosts = Rc::clone(self);
                let listener = tokio::task::spawn_local(async move { hosts.take_replies(replies).await });
                // Whoever may not listen, or may not confirm, would wait for ever.
                let heard = api::ask_plainly(&self.client, &subject, "").await;
                if heard.is_ok() {
                    return Ok(());
                }
                listener.abort();
                if heard == Err(Refused::Nobody) || silent_in == Some(count) {
                    warn!(
                        "the NATS server does not let this account take replies at {subject}, see docs/HOSTS.md"
                    );
                    return Err(Error::AccessDenied);
                }
                silent_in = Some(count);
            }
        };
        self.replies.get_or_try_init(begin).await.copied()
    }

    async fn take_replies(&self, mut replies: Subscriber) {
        while let Some(message) = replies.next().await {
            self.reply_came(message).await;
        }
    }

    async fn reply_came(&self, message: Message) {
        let Some(confirm) = message.reply else { return };
        let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
        // Somebody asks whether this host is there.
        let Some(question) = header(QUESTION) else { return self.confirm(confirm, b"").await };
        let reply = header(REPLY).unwrap_or_default();
        let asked = self.questions.borrow().asked.get(&question).copied();
        let Some(asked) = asked else {
            let taken = (question, reply);
            let is_taken = self.questions.borrow().taken.contains(&taken);
            return self.confirm(confirm, if is_taken { TAKEN } else { GONE }).await;
        };
        let number = self.fresh();
        let coming = Coming { asked, question, reply, confirm };
        self.questions.borrow_mut().coming.insert(number, coming);
        let body = message.payload[..].into();
        self.emit(Event::Reply { mailbox: asked.0, question: asked.1, number, body });
    }

    /// The tree says what becomes of a reply.
    pub(super) fn reply_heard(self: &Rc<Self>, number: u64, result: Result<(), Error>) {
        let Some(Coming { asked, question, reply, confirm }) =
            self.questions.borrow_mut().coming.remove(&number)
        else {
            return;
        };
        let word = match result {
            Ok(()) => {
                let mut questions = self.questions.borrow_mut();
                questions.asked.remove(&question);
                if questions.taken.len() >= KNOWN {
                    questions.taken.pop_front();
                }
                questions.taken.push_back((question, reply));
                if let Some(end) = questions.ends.remove(&asked) {
                    let _ = end.send(true);
                }
                TAKEN
            }
            Err(Error::NoMemory) => NO_MEMORY,
            Err(_) => GONE,
        };
        let hosts = Rc::clone(self);
        drop(tokio::task::spawn_local(async move { hosts.confirm(confirm, word).await }));
    }

    /// If it is lost, the reply comes again.
    async fn confirm(&self, to: Subject, word: &'static [u8]) {
        let _ = self.client.publish(to, Bytes::from_static(word)).await;
    }

    /// Hands over the reply to a question in hand, and reports what came of it.
    pub(super) fn reply(
        self: &Rc<Self>,
        delivery: DeliveryId,
        body: Slice,
        (mailbox, wait): (Ino, u64),
        once: bool,
    ) {
        let served = self.deliveries.borrow().get(&delivery).cloned();
        let Some(served) = served else {
            return self.emit(Event::Replied(mailbox, wait, Err(Error::NoMessage)));
        };
        let left = self.wait(mailbox, wait);
        let hosts = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let reply = format!("{}{}", hosts.host, delivery.0);
            let handed = hosts.hand_back(&served, &reply, Bytes::from_owner(body), once);
            tokio::pin!(handed);
            let result = tokio::select! {
                result = &mut handed => result,
                _ = left => timeout(GRACE, handed).await.unwrap_or(Err(Error::Interrupted)),
            };
            hosts.waits.borrow_mut().remove(&(mailbox, wait));
            if matches!(result, Ok(()) | Err(Error::Cancelled)) {
                hosts.settle(delivery, super::Settle::Ack, None);
            }
            hosts.emit(Event::Replied(mailbox, wait, result));
        });
    }

    /// Gives a reply to the host that has asked. `Cancelled`: nobody waits for it there.
    async fn hand_back(&self, served: &Delivery, reply: &str, body: Bytes, once: bool) -> Result<(), Error> {
        let Some(asker) = &served.asker else { return Err(Error::Cancelled) };
        let mut headers = HeaderMap::new();
        headers.insert(QUESTION, &asker.question[..]);
        headers.insert(REPLY, reply);
        let mut pause = PAUSES.0;
        loop {
            if !once {
                self.connected().await;
            } else if !self.link.borrow().up {
                return Err(Error::WouldWait);
            }
            let request = Request::new().headers(headers.clone()).payload(body.clone());
            let request = request.timeout(Some(api::TIMEOUT));
            match self.client.send_request(self.replies_of(&asker.host), request).await {
                Ok(word) => {
                    self.questions.borrow_mut().absent.remove(&asker.host);
                    return match &word.payload[..] {
                        TAKEN => Ok(()),
                        NO_MEMORY => Err(Error::NoMemory),
                        _ => Err(Error::Cancelled),
                    };
                }
                Err(_) if once => return Err(Error::WouldWait),
                Err(_) if self.is_absent(&asker.host, &served.path) => return Err(Error::Cancelled),
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// A host does not answer, and has not for as long as one may say nothing. It asks again, if it comes back.
    fn is_absent(&self, host: &str, path: &Path) -> bool {
        let Some(told) = self.described(path) else { return true };
        let (now, count) = (Instant::now(), self.link.borrow().count);
        let mut questions = self.questions.borrow_mut();
        let since = questions.absent.entry(host.to_owned()).or_insert((now, count));
        // While this host had no connection itself, it could not know.
        if since.1 != count {
            *since = (now, count);
        }
        since.0.elapsed() >= told.silence()
    }

    /// A question that nobody need work on: its host has died.
    pub(super) async fn is_nobodys(&self, message: &Message, path: &Path) -> bool {
        let Some(asker) = Asker::of(message.headers.as_ref()) else { return false };
        if !self.questions.borrow().absent.contains_key(&asker.host) {
            return false;
        }
        let request = Request::new().timeout(Some(api::TIMEOUT));
        match self.client.send_request(self.replies_of(&asker.host), request).await {
            Ok(_) => {
                self.questions.borrow_mut().absent.remove(&asker.host);
                false
            }
            Err(error) if error.kind() == RequestErrorKind::NoResponders => self.is_absent(&asker.host, path),
            Err(_) => false,
        }
    }

    /// What hands over the questions of a mailbox is there, as the mailbox is described now.
    pub(super) async fn has_servers(&self, path: &Path, id: &str) -> Result<(), Refused> {
        let Some(told) = self.described(path) else { return Ok(()) };
        let silence = told.silence();
        if self.questions.borrow().lanes.get(id) == Some(&silence) {
            return Ok(());
        }
        self.make_lane(id, &self.question_lane(id), &told).await?;
        self.questions.borrow_mut().lanes.insert(id.to_owned(), silence);
        Ok(())
    }

    /// Forgets what is of no use any more.
    pub(super) fn forget_absent(&self) {
        let ids: BTreeSet<String> = self.ids();
        let mut questions = self.questions.borrow_mut();
        questions.lanes.retain(|id, _| ids.contains(id));
        questions.absent.retain(|_, (since, _)| since.elapsed() < 60 * SETTLE);
    }
}
