//! Names, owners, modes and limits, which all hosts share: a bucket of keys and values, with one key for each path.
//!
//! The value has the mailbox's identity beside its description: a mailbox that is made again under an old name is another one.
//! A change is accepted only if nobody else has made one since that this host does not know (`Nats-Expected-Last-Subject-Sequence`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::kv::{Entry, Operation};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use log::warn;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{self, Refused, code};
use super::lane::{Lane, MOST};
use super::{Hosts, connect};
use crate::config::{MailboxLimits, NO_LIMIT};
use crate::engine::{DeadLetter, Described, Event, Path};
use crate::mailbox::WhenFull;
use crate::op::Error;

/// How long it is known that a name is gone. A host that was away for longer compares all names.
const GONE_FOR: &str = "1h";

/// How long the servers know of a message that they have, in case it is sent once more.
const DUPLICATES: Duration = Duration::from_secs(120);

/// Before an attempt that has failed is repeated.
const PAUSE: Duration = Duration::from_millis(300);

/// A mailbox or folder, as the bucket has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: String,
    folder: bool,
    uid: u32,
    gid: u32,
    mode: u32,
    msgsize: u32,
    maxmsg: u64,
    maxbytes: u64,
    full: u8,
    ttl: u64,
    lease_time: u64,
    max_deliver: u64,
    /// Path, as a key, and uid and gid of who has set it.
    dead_letter: Option<(String, u32, u32)>,
    /// Of which it has had messages, 0 aside, highest first. Grows only.
    priorities: Vec<u16>,
}

impl Record {
    fn new(id: &str, told: &Described) -> Record {
        let MailboxLimits { msgsize, maxmsg, maxbytes } = told.limits;
        let full = match told.full {
            WhenFull::Wait => 0,
            WhenFull::Fail => 1,
            WhenFull::DropOldest => 2,
        };
        let Described { folder, uid, gid, mode, ttl, lease_time, max_deliver, .. } = *told;
        let dead_letter = told.dead_letter.as_ref();
        Record {
            id: id.to_owned(),
            folder,
            uid,
            gid,
            mode,
            msgsize,
            maxmsg,
            maxbytes,
            full,
            ttl,
            lease_time,
            max_deliver,
            dead_letter: dead_letter.map(|to| (key(&to.path), to.setter.0, to.setter.1)),
            priorities: Vec::new(),
        }
    }

    fn described(&self) -> Described {
        let Record { folder, uid, gid, mode, msgsize, maxmsg, maxbytes, full, ttl, .. } = *self;
        let full = match full {
            1 => WhenFull::Fail,
            2 => WhenFull::DropOldest,
            _ => WhenFull::Wait,
        };
        let limits = MailboxLimits { msgsize, maxmsg, maxbytes };
        let dead_letter = self.dead_letter.as_ref();
        let dead_letter =
            dead_letter.and_then(|(to, uid, gid)| Some(DeadLetter { path: path(to)?, setter: (*uid, *gid) }));
        let mode = mode & 0o7777;
        let Record { lease_time, max_deliver, .. } = *self;
        Described { folder, uid, gid, mode, limits, full, ttl, lease_time, max_deliver, dead_letter }
    }

    fn add_priorities(&mut self, more: &[u16]) {
        self.priorities.extend(more);
        self.priorities.sort_unstable_by(|one, other| other.cmp(one));
        self.priorities.dedup();
    }

    /// A user may send to it.
    fn lets_send(&self, (uid, gid): (u32, u32)) -> bool {
        let shift = match () {
            () if uid == self.uid => 6,
            () if gid == self.gid => 3,
            () => 0,
        };
        uid == 0 || (self.mode >> shift) & 2 != 0
    }
}

/// What a host wants to change.
#[derive(Debug)]
enum Change {
    Describe(Described),
    Remove(Described),
}

/// A path.
#[derive(Debug, Default)]
pub(super) struct Name {
    /// What the bucket has, and its number there.
    known: Option<(u64, Record)>,
    /// What this host has changed, oldest first. Each is told before the next.
    changes: VecDeque<Change>,
    /// One of them is being told.
    busy: bool,
    /// It cannot be made.
    failed: Option<Error>,
    /// Another host's change that came meanwhile, and its number.
    missed: Option<(u64, Option<Record>)>,
}

/// All names of the space.
pub(super) type Names = BTreeMap<Path, Name>;

impl Name {
    fn is_settled(&self) -> bool {
        !self.busy && self.changes.is_empty()
    }
}

fn key(path: &[u8]) -> String {
    format!("p.{}", digits(path))
}

fn path(key: &str) -> Option<Path> {
    of_digits(key.strip_prefix("p.")?).map(Path::from)
}

/// Any bytes, as hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What was written as hexadecimal digits.
pub(super) fn of_digits(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

impl Hosts {
    /// What is known of the mailbox that has this path.
    pub(super) fn described(&self, path: &[u8]) -> Option<Described> {
        Some(self.names.borrow().get(path)?.known.as_ref()?.1.described())
    }

    /// The mailbox for dead letters of another, and its identity, if whoever set it may send there now.
    pub(super) fn dead_letter(&self, path: &[u8]) -> Option<(Path, String)> {
        let to = self.described(path)?.dead_letter?;
        let names = self.names.borrow();
        let (_, record) = names.get(&to.path)?.known.as_ref()?;
        (!record.folder && record.lets_send(to.setter)).then(|| (to.path.clone(), record.id.clone()))
    }

    /// The identities of all mailboxes.
    pub(super) fn ids(&self) -> BTreeSet<String> {
        let names = self.names.borrow();
        names.values().filter_map(|name| Some(name.known.as_ref()?.1.id.clone())).collect()
    }

    /// The priorities that the mailbox is known to have had, 0 aside, highest first.
    pub(super) fn priorities(&self, path: &Path) -> Vec<u16> {
        let names = self.names.borrow();
        let known = names.get(path).and_then(|name| name.known.as_ref());
        known.map(|(_, record)| record.priorities.clone()).unwrap_or_default()
    }

    /// All hosts are told that the mailbox has messages of this priority, once there is what hands them over.
    pub(super) async fn add_priority(&self, path: &Path, id: &str, priority: u16) -> Result<(), Error> {
        loop {
            self.connected().await;
            let Ok((revision, record)) = self.last(path).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let mut record = record.filter(|record| record.id == id).ok_or(Error::Removed)?;
            let is_known = record.priorities.contains(&priority);
            if !is_known && record.priorities.len() >= MOST {
                return Err(Error::Range);
            }
            record.add_priorities(&[priority]);
            let told = if is_known {
                Ok(revision)
            } else {
                match self.make_lane(id, &self.lane(id, priority), &record.described()).await {
                    Ok(()) => self.put(path, Some(&record), revision).await,
                    Err(why) => Err(why),
                }
            };
            match told {
                Ok(revision) => {
                    // What this host is changing meanwhile is told with it.
                    self.know(path, Some((revision, record)));
                    self.changed.notify_waiters();
                    return Ok(());
                }
                Err(Refused::Server(code::NOT_LAST, _)) => {}
                Err(Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _)) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(why) => {
                    warn!("'{}' takes no priority {priority}: {why}", path.escape_ascii());
                    return Err(error_of(&why));
                }
            }
        }
    }

    /// What hands over messages.
    pub(super) async fn make_lane(&self, id: &str, lane: &Lane, told: &Described) -> Result<(), Refused> {
        api::make_consumer(&self.client, &self.stream(id), &consumer(lane, told)).await
    }

    /// What hands over questions is changed, if it is there. (A host that serves makes it as it has to be, too.)
    async fn change_servers(&self, id: &str, told: &Described) {
        let (lane, stream) = (self.question_lane(id), self.stream(id));
        let what = format!("CONSUMER.CREATE.{stream}.{}", lane.consumer);
        let change = json!({ "stream_name": stream, "config": consumer(&lane, told), "action": "update" });
        let _ = api::call(&self.client, &what, &change).await;
    }

    /// The identity of the mailbox that has this path. Waits while this host makes or removes it.
    pub(super) async fn id(&self, path: &[u8]) -> Result<String, Error> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let names = self.names.borrow();
                let name = names.get(path).ok_or(Error::Removed)?;
                if let Some(error) = name.failed {
                    return Err(error);
                }
                let removing = name.changes.iter().any(|change| matches!(change, Change::Remove(_)));
                if let Some((_, record)) = name.known.as_ref().filter(|_| !removing) {
                    return Ok(record.id.clone());
                }
                if name.is_settled() {
                    return Err(Error::Removed);
                }
            }
            changed.await;
        }
    }

    pub(super) fn describe(self: &Rc<Self>, path: Path, told: Described) {
        self.change(path, Change::Describe(told));
    }

    pub(super) fn remove(self: &Rc<Self>, path: Path, told: Described) {
        self.change(path, Change::Remove(told));
    }

    fn change(self: &Rc<Self>, path: Path, change: Change) {
        let mut names = self.names.borrow_mut();
        let name = names.entry(Path::clone(&path)).or_default();
        name.changes.push_back(change);
        if !std::mem::replace(&mut name.busy, true) {
            let hosts = Rc::clone(self);
            tokio::task::spawn_local(async move { hosts.tell_changes(path).await });
        }
    }

    /// Tells the changes of one path, until there are no more.
    async fn tell_changes(&self, path: Path) {
        loop {
            let change = {
                let mut names = self.names.borrow_mut();
                let Some(name) = names.get_mut(&path) else { return };
                let change = name.changes.pop_front();
                if change.is_none() {
                    name.busy = false;
                }
                change
            };
            let Some(change) = change else { break };
            let (Change::Describe(Described { uid, .. }) | Change::Remove(Described { uid, .. })) = change;
            let result = match change {
                Change::Describe(told) => self.tell(&path, &told).await,
                Change::Remove(told) => self.tell_removed(&path, told.folder).await,
            };
            if let Err(why) = &result {
                warn!("'{}' cannot be told to other hosts: {why}", path.escape_ascii());
            }
            if let Some(name) = self.names.borrow_mut().get_mut(&path) {
                name.failed = result.err().map(|why| error_of(&why));
            }
            self.changed.notify_waiters();
            self.emit(Event::Told(uid));
        }
        let missed = {
            let mut names = self.names.borrow_mut();
            let missed = names.get_mut(&path).and_then(|name| name.missed.take());
            if names.get(&path).is_some_and(|name| name.known.is_none() && name.failed.is_none()) {
                names.remove(&path);
            }
            missed
        };
        self.changed.notify_waiters();
        if let Some((revision, record)) = missed {
            self.heard(&path, revision, record);
        }
    }

    async fn tell(&self, path: &Path, told: &Described) -> Result<(), Refused> {
        let known = self.known(path);
        let is_new = known.is_none();
        let (mut expected, id, priorities) = known.map_or_else(
            || (0, self.fresh_id(), Vec::new()),
            |(revision, record)| (revision, record.id, record.priorities),
        );
        let mut record = Record { priorities, ..Record::new(&id, told) };
        if !told.folder && self.described(path).is_none_or(|was| was.rules() != told.rules()) {
            self.make_mailbox(&record, told, is_new).await?;
        }
        loop {
            self.connected().await;
            match self.put(path, Some(&record), expected).await {
                Ok(revision) => {
                    self.know(path, Some((revision, record)));
                    return Ok(());
                }
                Err(Refused::Server(code::NOT_LAST, _)) => {}
                Err(Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _)) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(why) => return Err(why),
            }
            match self.last(path).await {
                // An attempt that got no answer was accepted.
                Ok((revision, Some(found))) if found == record => {
                    self.know(path, Some((revision, found)));
                    return Ok(());
                }
                // Another host has changed the same: the last change holds.
                Ok((revision, Some(found))) if found.id == id => {
                    record.add_priorities(&found.priorities);
                    expected = revision;
                }
                // Another host has made it at the same time, or again.
                Ok((revision, Some(found))) => {
                    if is_new && !told.folder {
                        let _ = api::remove_stream(&self.client, &self.stream(&id)).await;
                    }
                    let theirs = found.described();
                    self.know(path, Some((revision, found)));
                    self.emit(Event::Present(Path::clone(path), theirs));
                    return Ok(());
                }
                Ok((revision, None)) if is_new => expected = revision,
                // Another host has removed it, which this one is about to hear.
                Ok((_, None)) => return Ok(()),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn tell_removed(&self, path: &Path, folder: bool) -> Result<(), Refused> {
        let Some((mut expected, record)) = self.known(path) else { return Ok(()) };
        loop {
            self.connected().await;
            match self.put(path, None, expected).await {
                Ok(_) => break,
                Err(Refused::Server(code::NOT_LAST, _)) => {}
                Err(Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _)) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(why) => return Err(why),
            }
            match self.last(path).await {
                Ok((_, None)) => break,
                Ok((revision, Some(found))) if found.id == record.id => expected = revision,
                // Another host has removed it before, and made another.
                Ok((revision, Some(found))) => {
                    let theirs = found.described();
                    self.know(path, Some((revision, found)));
                    self.emit(Event::Present(Path::clone(path), theirs));
                    return Ok(());
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        self.know(path, None);
        while !folder
            && api::remove_stream(&self.client, &self.stream(&record.id)).await == Err(Refused::Silent)
        {
            self.connected().await;
        }
        Ok(())
    }

    fn known(&self, path: &Path) -> Option<(u64, Record)> {
        self.names.borrow().get(path).and_then(|name| name.known.clone())
    }

    fn know(&self, path: &Path, known: Option<(u64, Record)>) {
        if let Some(name) = self.names.borrow_mut().get_mut(path) {
            name.known = known;
        }
    }

    /// The stream of a mailbox and its consumer are made, or changed.
    async fn make_mailbox(&self, record: &Record, told: &Described, is_new: bool) -> Result<(), Refused> {
        let limit = |limit: u64| i64::try_from(limit).unwrap_or(-1);
        let (stream, subject) = (self.stream(&record.id), self.subject(&record.id));
        // The server takes no shorter time than this, and knows of a message that was sent twice for no longer than it is kept.
        let ttl = Duration::from_nanos(record.ttl).max(Duration::from_millis(100));
        let (max_age, known_for) = match record.ttl {
            NO_LIMIT => (0, DUPLICATES.as_nanos() as u64),
            _ => (ttl.as_nanos() as u64, ttl.min(DUPLICATES).as_nanos() as u64),
        };
        let config = json!({
            "name": stream, "subjects": [subject, format!("{subject}.>")], "description": "mailbox of ipcfs",
            "retention": "workqueue", "storage": "file", "num_replicas": self.replicas, "max_consumers": -1,
            "max_msgs": limit(record.maxmsg), "max_bytes": limit(record.maxbytes),
            "discard": if record.full == 2 { "old" } else { "new" }, "allow_direct": true,
            "max_age": max_age, "duplicate_window": known_for, "allow_msg_ttl": true,
        });
        loop {
            self.connected().await;
            let made = if is_new {
                api::make_stream(&self.client, &config).await
            } else {
                api::call(&self.client, &format!("STREAM.UPDATE.{stream}"), &config).await.map(drop)
            };
            let mut made = made;
            for priority in record.priorities.iter().copied().chain([0]) {
                if made.is_ok() {
                    let lane = self.lane(&record.id, priority);
                    made = self.make_lane(&record.id, &lane, told).await;
                }
            }
            match made {
                Err(Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _)) => {
                    tokio::time::sleep(PAUSE).await;
                }
                other => {
                    if !is_new {
                        self.change_servers(&record.id, told).await;
                    }
                    return other;
                }
            }
        }
    }

    /// Writes a value, or that there is none any more. Returns its number.
    async fn put(&self, path: &[u8], record: Option<&Record>, expected: u64) -> Result<u64, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        if record.is_none() {
            headers.insert("KV-Operation", "PURGE");
            headers.insert("Nats-Rollup", "sub");
            headers.insert("Nats-TTL", GONE_FOR);
        }
        let value = record.map(|record| serde_json::to_vec(record).unwrap_or_default()).unwrap_or_default();
        let subject = self.key_subject(path);
        let answer = api::ask(&self.client, subject, Some(headers), Bytes::from(value)).await?;
        answer["seq"].as_u64().ok_or(Refused::Silent)
    }

    /// The last value that was written, and its number. `None`: there is none any more.
    async fn last(&self, path: &[u8]) -> Result<(u64, Option<Record>), Refused> {
        let stream = format!("KV_{}", connect::bucket(&self.space));
        let argument = json!({ "last_by_subj": self.key_subject(path) });
        let answer = match api::call(&self.client, &format!("STREAM.MSG.GET.{stream}"), &argument).await {
            Err(Refused::Server(code::NO_MESSAGE, _)) => return Ok((0, None)),
            other => other?,
        };
        let message = &answer["message"];
        let decoded =
            |field: &str| STANDARD.decode(message[field].as_str().unwrap_or_default()).unwrap_or_default();
        Ok((message["seq"].as_u64().unwrap_or_default(), serde_json::from_slice(&decoded("data")).ok()))
    }

    fn key_subject(&self, path: &[u8]) -> String {
        format!("$KV.{}.{}", connect::bucket(&self.space), key(path))
    }

    /// Listens to what other hosts change, for ever. `first` is called once, when all names are known.
    pub(super) async fn listen(&self, first: impl FnOnce()) {
        let mut first = Some(first);
        loop {
            self.connected().await;
            let mut link = self.link.clone();
            link.mark_unchanged();
            let Ok(mut entries) = self.store.watch_with_history(">").await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // While the names that are there come: those that have come.
            let mut seen = Some(BTreeSet::new());
            loop {
                let entry = tokio::select! {
                    entry = entries.next() => entry,
                    // A new connection may be to a server that knows nothing of this consumer.
                    _ = link.changed() => None,
                };
                let Some(Ok(entry)) = entry else { break };
                if let Some(path) = path(&entry.key) {
                    if let Some(seen) = &mut seen {
                        seen.insert(Path::clone(&path));
                    }
                    let (revision, record) = (entry.revision, record_of(&entry));
                    if let Ok(record) = record {
                        self.heard(&path, revision, record);
                    } else {
                        warn!("'{}' is of another version of ipcfs", path.escape_ascii());
                    }
                }
                if entry.delta == 0
                    && let Some(seen) = seen.take()
                {
                    self.forget_all_but(&seen).await;
                    if let Some(first) = first.take() {
                        first();
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A host has written this.
    fn heard(&self, path: &Path, revision: u64, record: Option<Record>) {
        let events = {
            let mut names = self.names.borrow_mut();
            let name = names.entry(Path::clone(path)).or_default();
            let known = name.known.as_ref().map(|(known, record)| (*known, record.id.clone()));
            if known.as_ref().is_some_and(|(known, _)| *known >= revision) {
                return;
            }
            if !name.is_settled() {
                name.missed = Some((revision, record));
                return;
            }
            let was = known.map(|(_, id)| id);
            let replaced = was.is_some() && record.as_ref().map(|record| &record.id) != was.as_ref();
            let gone = replaced.then(|| Event::Gone(Path::clone(path)));
            let present = record.as_ref().map(|record| Event::Present(Path::clone(path), record.described()));
            match record {
                Some(record) => (name.known, name.failed) = (Some((revision, record)), None),
                None => drop(names.remove(path)),
            }
            [gone, present]
        };
        self.changed.notify_waiters();
        events.into_iter().flatten().for_each(|event| self.emit(event));
    }

    /// Names that are not among all that there are may be gone. The server that has told them may not have caught up with the others
    /// yet, so the one that leads is asked.
    async fn forget_all_but(&self, seen: &BTreeSet<Path>) {
        let missing: Vec<Path> = {
            let names = self.names.borrow();
            let missing = names.iter().filter(|(path, name)| name.is_settled() && !seen.contains(*path));
            // What is in a folder goes before the folder.
            missing.map(|(path, _)| Path::clone(path)).rev().collect()
        };
        for path in missing {
            let last = loop {
                self.connected().await;
                match self.last(&path).await {
                    Ok(last) => break last,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            };
            if let (revision, Some(record)) = last {
                self.heard(&path, revision, Some(record));
            } else if self.names.borrow().get(&path).is_some_and(Name::is_settled) {
                self.names.borrow_mut().remove(&path);
                self.emit(Event::Gone(path));
            }
        }
    }

    /// All names, as events. Folders come before what is in them.
    pub(super) fn all_present(&self) -> Vec<Event> {
        let names = self.names.borrow();
        let known = names.iter().filter_map(|(path, name)| Some((path, name.known.as_ref()?)));
        known.map(|(path, (_, record))| Event::Present(Path::clone(path), record.described())).collect()
    }
}

/// The configuration of what hands over messages.
fn consumer(Lane { consumer, subject }: &Lane, told: &Described) -> serde_json::Value {
    json!({
        "durable_name": consumer, "filter_subject": subject, "ack_policy": "explicit", "deliver_policy": "all",
        "replay_policy": "instant", "ack_wait": told.silence().as_nanos() as u64, "max_deliver": -1,
        "max_ack_pending": -1, "max_waiting": 65_536,
    })
}

/// `Err`: this program cannot read it.
fn record_of(entry: &Entry) -> Result<Option<Record>, ()> {
    match entry.operation {
        Operation::Put => serde_json::from_slice(&entry.value).map(Some).map_err(drop),
        Operation::Delete | Operation::Purge => Ok(None),
    }
}

fn error_of(why: &Refused) -> Error {
    match why {
        Refused::Server(code, _) if code::RESOURCES.contains(code) => Error::NoSpace,
        _ => Error::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_key_and_come_back() {
        for name in [&b"jobs/new"[..], b"a b.*>\t\xff", "Käse".as_bytes()] {
            let key = key(name);
            assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'), "{key}");
            assert_eq!(path(&key).as_deref(), Some(name));
        }
        assert_eq!(path("version"), None);
        assert_eq!(path("p.0g"), None);
    }

    #[test]
    fn a_record_says_what_was_described() {
        let told = Described {
            folder: false,
            uid: 1,
            gid: 2,
            mode: 0o622,
            limits: MailboxLimits { msgsize: 5, maxmsg: u64::MAX, maxbytes: 7 },
            full: WhenFull::DropOldest,
            ttl: NO_LIMIT,
            lease_time: 1,
            max_deliver: 3,
            dead_letter: Some(DeadLetter { path: Path::from(&b"a b"[..]), setter: (4, 5) }),
        };
        let text = serde_json::to_vec(&Record::new("x", &told)).unwrap();
        let record: Record = serde_json::from_slice(&text).unwrap();
        assert_eq!((record.described(), &record.id[..]), (told, "x"));
    }
}
