//! The records of the journal, and their bytes. A record is a decision: what has happened, not what was asked for. So it means
//! the same to every later version of the program.
//!
//! Each record can be repeated, and can come late: a message is gone once and for all, and what is said of a message that is
//! not there says nothing. Numbers are little-endian. Strings of bytes have their length before them.

use std::sync::Arc;

use crate::codec::{Reader, Writer};
use crate::op::{Caller, FileTime, Ino, Slice, Timestamp};

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A mailbox or a folder of mailboxes is kept, and this is all that is known of it but its messages and counters.
    Object(Arc<Object>),
    /// The mailbox or folder is gone, or is no longer kept, and so are its messages.
    Removed(Ino),
    /// One message or several are in a mailbox.
    Message(Arc<Message>),
    /// Messages with consecutive ids are no longer in a mailbox.
    #[allow(missing_docs)]
    Gone { mailbox: Ino, first: u64, count: u64, why: Why },
    /// A message is leased.
    #[allow(missing_docs)]
    Leased { mailbox: Ino, id: u64 },
    /// A leased or delayed message is in the queue, with this number of deliveries.
    #[allow(missing_docs)]
    Returned { mailbox: Ino, id: u64, position: u64, deliveries: u32 },
    /// A leased message is given back with this number of deliveries, but cannot be received before it is due. [`Record::Returned`]
    /// says when it is queued.
    #[allow(missing_docs)]
    Delayed { mailbox: Ino, id: u64, due: Timestamp, deliveries: u32 },
    /// A message with this id and key was accepted at this time, of this user.
    #[allow(missing_docs)]
    Key { mailbox: Ino, id: u64, key: Arc<[u8]>, at: Timestamp, uid: u32 },
    /// Keys with which messages with ids up to this one were accepted are forgotten.
    #[allow(missing_docs)]
    Forgotten { mailbox: Ino, until: u64 },
    /// The counters of a mailbox.
    Counters(Ino, Counters),
    /// A file begins.
    Begin,
    /// Everything before this position was synchronized when this record was written.
    Synced(u64),
    /// A power cut has taken the records with these positions, from the first to before the last.
    #[allow(missing_docs)]
    Torn { from: u64, to: u64 },
}

/// A mailbox or a folder of mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Object {
    pub ino: Ino,
    pub parent: Ino,
    pub name: Arc<[u8]>,
    pub folder: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: FileTime,
    pub mtime: FileTime,
    pub ctime: FileTime,
    /// The files of `config/`: a line `name value` each.
    pub settings: String,
    /// The dead-letter mailbox, and who has set it.
    pub dead_letter: Option<(Ino, Caller)>,
    pub xattrs: Vec<Xattr>,
}

/// Name and value of an extended attribute.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// A message; or several, lines of one write, with consecutive ids.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Message {
    pub mailbox: Ino,
    /// Of the first.
    pub id: u64,
    /// Of the first, in the order of the mailbox.
    pub position: u64,
    pub how: How,
    pub sent: Timestamp,
    pub sender: Caller,
    pub priority: u16,
    pub tag: Option<Arc<[u8]>>,
    pub expires: Option<Timestamp>,
    /// The key with which it was sent, and which is remembered from then on.
    pub key: Option<Arc<[u8]>>,
    /// It cannot be received before.
    pub due: Option<Timestamp>,
    /// Since when it can be received, if it was delayed.
    pub since: Option<Timestamp>,
    /// Of a dead letter.
    pub reason: Option<Reason>,
    pub rounds: Rounds,
    pub deliveries: u32,
    /// Number of lines, each of which is a message; 0 if the body is one message.
    pub lines: u64,
    pub body: Slice,
}

/// How a message came into its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was sent.
    Sent,
    /// It came from another mailbox.
    Moved,
    /// It came from another durable mailbox, in which it is no longer, and why. One record says both, so that whatever is cut off
    /// behind it, the message is in one place.
    MovedFrom(Ino, Why),
    /// It was there already: the record replaces an earlier one.
    Kept,
}

/// Why a message is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Why {
    Received,
    Expired,
    Dropped,
    Removed,
    Moved,
    DeadLetter,
}

/// Why a message became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its time was over.
    Expired,
    /// It was leased too often.
    Deliveries,
    /// Whoever had leased it said so.
    Rejected,
    /// It became one too often, whatever it was the last time.
    Rounds,
}

/// How often a message became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rounds {
    /// Only when somebody had sent it, moved it or had it in hand since the last time.
    pub count: u32,
    /// Nobody has since.
    pub idle: bool,
    /// The first mailbox for which that was too often.
    pub stopped_in: Option<Ino>,
}

impl Reason {
    /// As users read it.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Expired => "expired",
            Reason::Deliveries => "deliveries",
            Reason::Rejected => "rejected",
            Reason::Rounds => "rounds",
        }
    }
}

/// Counters of a mailbox since its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub sent: u64,
    pub moved_in: u64,
    pub received: u64,
    pub expired: u64,
    pub dropped: u64,
    pub removed: u64,
    pub moved_out: u64,
    pub dead_lettered: u64,
    pub redelivered: u64,
}

impl Counters {
    /// Counts messages that have come.
    pub(super) fn count_in(&mut self, how: How, count: u64) {
        let counter = match how {
            How::Sent => &mut self.sent,
            How::Moved | How::MovedFrom(..) => &mut self.moved_in,
            How::Kept => return,
        };
        *counter = counter.saturating_add(count);
    }

    /// Counts messages that have gone.
    pub(super) fn count_out(&mut self, why: Why, count: u64) {
        let counter = match why {
            Why::Received => &mut self.received,
            Why::Expired => &mut self.expired,
            Why::Dropped => &mut self.dropped,
            Why::Removed => &mut self.removed,
            Why::Moved => &mut self.moved_out,
            Why::DeadLetter => &mut self.dead_lettered,
        };
        *counter = counter.saturating_add(count);
    }

    fn list(self) -> [u64; 9] {
        [
            self.sent,
            self.moved_in,
            self.received,
            self.expired,
            self.dropped,
            self.removed,
            self.moved_out,
            self.dead_lettered,
            self.redelivered,
        ]
    }
}

impl Message {
    /// Number of messages.
    pub fn count(&self) -> u64 {
        self.lines.max(1)
    }

    /// The messages from number `skip` on, `count` of them. `None` if there are fewer.
    pub fn part(&self, skip: u64, count: u64) -> Option<Message> {
        let last = skip.checked_add(count)?;
        if count == 0 || last > self.count() {
            return None;
        }
        let mut part = Message { id: self.id + skip, position: self.position + skip, ..self.clone() };
        if self.lines > 0 {
            let (from, to) = (self.start_of(skip)?, self.start_of(last)?);
            part.body = Slice { from, to, ..self.body.clone() };
            part.lines = if count > 1 { count } else { 0 };
        }
        Some(part)
    }

    /// Where a line begins in the bytes of the body.
    fn start_of(&self, line: u64) -> Option<usize> {
        let bytes = self.body.as_bytes();
        match line.checked_sub(1) {
            None => Some(self.body.from),
            Some(_) if line == self.lines => Some(self.body.to),
            Some(before) => {
                let end = memchr::memchr_iter(b'\n', bytes).nth(usize::try_from(before).ok()?)?;
                Some(self.body.from + end + 1)
            }
        }
    }
}

/// How far most positions are beyond the id.
const USUAL_DISTANCE: u64 = 1 << 32;

const OBJECT: u8 = 1;
const REMOVED: u8 = 2;
const MESSAGE: u8 = 3;
const GONE: u8 = 4;
const LEASED: u8 = 5;
const RETURNED: u8 = 6;
const COUNTERS: u8 = 7;
const SYNCED: u8 = 8;
const TORN: u8 = 9;
const BEGIN: u8 = 10;
const DELAYED: u8 = 11;
/// An object of which a time is not one that the wall clock can show.
const FAR_OBJECT: u8 = 12;
const KEY: u8 = 13;
const FORGOTTEN: u8 = 14;

const HOW: [How; 3] = [How::Sent, How::Moved, How::Kept];
/// Comes instead of one of those, before the mailbox and the reason.
const MOVED_FROM: u8 = HOW.len() as u8;
/// Comes before one of those, followed by the time before which the message cannot be received.
const DUE: u8 = MOVED_FROM + 1;
/// Comes before one of those, followed by the reason for which the message became a dead letter.
const REASON: u8 = DUE + 1;
/// Comes before one of those, followed by the time since when a message can be received that was delayed.
const SINCE: u8 = REASON + 1;
/// Comes before one of those, followed by [`Rounds`] that are not 0.
const ROUNDS: u8 = SINCE + 1;
/// Comes before one of those, followed by the key.
const WITH_KEY: u8 = ROUNDS + 1;
const WHY: [Why; 6] = [Why::Received, Why::Expired, Why::Dropped, Why::Removed, Why::Moved, Why::DeadLetter];
const REASONS: [Reason; 4] = [Reason::Expired, Reason::Deliveries, Reason::Rejected, Reason::Rounds];

impl Record {
    /// Appends its bytes.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let mut to = Writer(to);
        match self {
            Record::Object(object) => object.encode(&mut to),
            Record::Removed(ino) => to.u8(REMOVED).number(ino.0),
            Record::Message(message) => message.encode(&mut to),
            Record::Gone { mailbox, first, count, why } => {
                to.u8(GONE).number(mailbox.0).number(*first).number(*count).u8(place(&WHY, why))
            }
            Record::Leased { mailbox, id } => to.u8(LEASED).number(mailbox.0).number(*id),
            Record::Returned { mailbox, id, position, deliveries } => {
                to.u8(RETURNED).number(mailbox.0).number(*id).number(*position).number(*deliveries)
            }
            Record::Delayed { mailbox, id, due, deliveries } => {
                to.u8(DELAYED).number(mailbox.0).number(*id).time(*due).number(*deliveries)
            }
            Record::Key { mailbox, id, key, at, uid } => {
                to.u8(KEY).number(mailbox.0).number(*id).bytes(key).time(*at).number(*uid)
            }
            Record::Forgotten { mailbox, until } => to.u8(FORGOTTEN).number(mailbox.0).number(*until),
            Record::Counters(mailbox, counters) => {
                to.u8(COUNTERS).number(mailbox.0);
                counters.list().into_iter().fold(&mut to, Writer::number)
            }
            Record::Begin => to.u8(BEGIN),
            Record::Synced(position) => to.u8(SYNCED).number(*position),
            Record::Torn { from, to: end } => to.u8(TORN).number(*from).number(*end),
        };
    }

    /// The record that these bytes are. `None` if they are none.
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        let mut from = Reader(bytes);
        let record = match from.u8()? {
            kind @ (OBJECT | FAR_OBJECT) => {
                Record::Object(Arc::new(Object::decode(&mut from, kind == FAR_OBJECT)?))
            }
            REMOVED => Record::Removed(from.ino()?),
            MESSAGE => Record::Message(Arc::new(Message::decode(&mut from)?)),
            GONE => {
                let (mailbox, first, count) = (from.ino()?, from.number()?, from.number()?);
                u64::checked_add(first, count)?;
                Record::Gone { mailbox, first, count, why: *WHY.get(from.u8()? as usize)? }
            }
            LEASED => Record::Leased { mailbox: from.ino()?, id: from.number()? },
            RETURNED => {
                let (mailbox, id) = (from.ino()?, from.number()?);
                Record::Returned { mailbox, id, position: from.number()?, deliveries: from.number()? }
            }
            DELAYED => {
                let (mailbox, id) = (from.ino()?, from.number()?);
                Record::Delayed { mailbox, id, due: from.time()?, deliveries: from.number()? }
            }
            KEY => {
                let (mailbox, id, key) = (from.ino()?, from.number()?, Arc::from(from.bytes()?));
                Record::Key { mailbox, id, key, at: from.time()?, uid: from.number()? }
            }
            FORGOTTEN => Record::Forgotten { mailbox: from.ino()?, until: from.number()? },
            COUNTERS => {
                let mailbox = from.ino()?;
                let counters = Counters {
                    sent: from.number()?,
                    moved_in: from.number()?,
                    received: from.number()?,
                    expired: from.number()?,
                    dropped: from.number()?,
                    removed: from.number()?,
                    moved_out: from.number()?,
                    dead_lettered: from.number()?,
                    redelivered: from.number()?,
                };
                Record::Counters(mailbox, counters)
            }
            BEGIN => Record::Begin,
            SYNCED => Record::Synced(from.number()?),
            TORN => Record::Torn { from: from.number()?, to: from.number()? },
            _ => return None,
        };
        from.0.is_empty().then_some(record)
    }
}

impl Object {
    fn encode<'a, 'b>(&self, to: &'a mut Writer<'b>) -> &'a mut Writer<'b> {
        let times = [self.atime, self.mtime, self.ctime];
        let near: Option<Vec<Timestamp>> = times.into_iter().map(FileTime::to_timestamp).collect();
        to.u8(if near.is_some() { OBJECT } else { FAR_OBJECT });
        to.number(self.ino.0).number(self.parent.0).u8(u8::from(self.folder));
        to.number(self.mode).number(self.uid).number(self.gid);
        match near {
            Some(times) => times.into_iter().fold(&mut *to, |to, time| to.time(time)),
            None => times.into_iter().fold(&mut *to, |to, time| to.file_time(time)),
        };
        to.bytes(&self.name).bytes(self.settings.as_bytes());
        to.u8(u8::from(self.dead_letter.is_some()));
        if let Some((mailbox, setter)) = self.dead_letter {
            to.number(mailbox.0).caller(setter);
        }
        to.number(self.xattrs.len() as u64);
        self.xattrs.iter().fold(to, |to, (name, value)| to.bytes(name).bytes(value))
    }

    fn decode(from: &mut Reader<'_>, far: bool) -> Option<Object> {
        let (ino, parent, folder) = (from.ino()?, from.ino()?, from.u8()? != 0);
        let (mode, uid, gid) = (from.number()?, from.number()?, from.number()?);
        let mut time = || if far { from.file_time() } else { from.time().map(FileTime::from) };
        let (atime, mtime, ctime) = (time()?, time()?, time()?);
        let (name, settings) = (from.bytes()?.into(), String::from_utf8(from.bytes()?.to_vec()).ok()?);
        let dead_letter = if from.u8()? != 0 { Some((from.ino()?, from.caller()?)) } else { None };
        let mut xattrs = Vec::new();
        for _ in 0..from.number::<u64>()? {
            xattrs.push((from.bytes()?.into(), from.bytes()?.into()));
        }
        Some(Object {
            ino,
            parent,
            name,
            folder,
            mode,
            uid,
            gid,
            atime,
            mtime,
            ctime,
            settings,
            dead_letter,
            xattrs,
        })
    }
}

impl Message {
    fn encode<'a, 'b>(&self, to: &'a mut Writer<'b>) -> &'a mut Writer<'b> {
        to.u8(MESSAGE).number(self.mailbox.0).number(self.id);
        to.number(self.position.wrapping_sub(self.id).wrapping_sub(USUAL_DISTANCE));
        if let Some(due) = self.due {
            to.u8(DUE).time(due);
        }
        if let Some(key) = &self.key {
            to.u8(WITH_KEY).bytes(key);
        }
        if let Some(reason) = self.reason {
            to.u8(REASON).u8(place(&REASONS, &reason));
        }
        if let Some(since) = self.since {
            to.u8(SINCE).time(since);
        }
        if self.rounds != Rounds::default() {
            let Rounds { count, idle, stopped_in } = self.rounds;
            to.u8(ROUNDS).number(count).u8(u8::from(idle)).number(stopped_in.map_or(0, |ino| ino.0));
        }
        match &self.how {
            How::MovedFrom(from, why) => to.u8(MOVED_FROM).number(from.0).u8(place(&WHY, why)),
            how => to.u8(place(&HOW, how)),
        };
        to.time(self.sent).caller(self.sender);
        to.number(self.priority).number(self.deliveries).number(self.lines);
        to.bytes(self.tag.as_deref().unwrap_or_default());
        to.number(self.expires.map_or(0, |expires| expires.0.max(1)));
        to.raw(self.body.as_bytes())
    }

    fn decode(from: &mut Reader<'_>) -> Option<Message> {
        let (mailbox, id): (_, u64) = (from.ino()?, from.number()?);
        let position = from.number::<u64>()?.wrapping_add(id).wrapping_add(USUAL_DISTANCE);
        let (mut key, mut due, mut since, mut reason, mut rounds) =
            (None, None, None, None, Rounds::default());
        let how = loop {
            match from.u8()? {
                DUE => due = Some(from.time()?),
                SINCE => since = Some(from.time()?),
                WITH_KEY => key = Some(Arc::from(from.bytes()?)),
                ROUNDS => {
                    let (count, idle) = (from.number()?, from.u8()? != 0);
                    rounds = Rounds { count, idle, stopped_in: Some(from.ino()?).filter(|ino| ino.0 > 0) };
                }
                REASON => reason = Some(*REASONS.get(from.u8()? as usize)?),
                MOVED_FROM => break How::MovedFrom(from.ino()?, *WHY.get(from.u8()? as usize)?),
                how => break *HOW.get(how as usize)?,
            }
        };
        let (sent, sender) = (from.time()?, from.caller()?);
        let (priority, deliveries, lines) = (from.number()?, from.number()?, from.number()?);
        let tag = Some(from.bytes()?).filter(|tag| !tag.is_empty()).map(Arc::from);
        let expires = Some(Timestamp(from.number()?)).filter(|expires| expires.0 > 0);
        let body = from.take(from.0.len())?;
        // Ids and positions of all lines must be numbers.
        u64::checked_add(position, lines)?;
        u64::checked_add(id, lines.max(1))?;
        if lines > 0 && (memchr::memchr_iter(b'\n', body).count() as u64) < lines {
            return None;
        }
        let body = Slice::whole(body);
        Some(Message {
            mailbox,
            id,
            position,
            how,
            sent,
            sender,
            priority,
            tag,
            expires,
            key,
            due,
            since,
            reason,
            rounds,
            deliveries,
            lines,
            body,
        })
    }
}

fn place<T: PartialEq>(list: &[T], value: &T) -> u8 {
    list.iter().position(|other| other == value).unwrap_or_default() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(lines: u64, body: &[u8]) -> Message {
        Message {
            mailbox: Ino(20),
            id: 7,
            position: 1000,
            how: How::Sent,
            sent: Timestamp(5),
            sender: Caller { uid: 1, gid: 2, pid: 3 },
            priority: 9,
            tag: Some(Arc::from(&b"t"[..])),
            expires: Some(Timestamp(6)),
            key: None,
            due: None,
            since: None,
            reason: None,
            rounds: Rounds::default(),
            deliveries: 2,
            lines,
            body: Slice::whole(body),
        }
    }

    fn object() -> Object {
        Object {
            ino: Ino(20),
            parent: Ino(2),
            name: Arc::from(&b"q\xff"[..]),
            folder: false,
            mode: 0o640,
            uid: 1,
            gid: 2,
            atime: FileTime::from(Timestamp(1)),
            mtime: FileTime::from(Timestamp(2)),
            ctime: FileTime::from(Timestamp(3)),
            settings: String::from("maxmsg 5\n"),
            dead_letter: Some((Ino(9), Caller { uid: 4, gid: 5, pid: 6 })),
            xattrs: vec![(Box::from(&b"user.a"[..]), Box::from(&b""[..]))],
        }
    }

    fn all() -> Vec<Record> {
        let counters = Counters { sent: 1, redelivered: 9, ..Counters::default() };
        vec![
            Record::Object(Arc::new(object())),
            Record::Object(Arc::new(Object {
                dead_letter: None,
                xattrs: Vec::new(),
                folder: true,
                ..object()
            })),
            Record::Removed(Ino(3)),
            Record::Message(Arc::new(message(0, b"body"))),
            Record::Message(Arc::new(Message { tag: None, expires: None, ..message(2, b"a\nb\n") })),
            Record::Gone { mailbox: Ino(1), first: 2, count: 3, why: Why::DeadLetter },
            Record::Leased { mailbox: Ino(1), id: 2 },
            Record::Returned { mailbox: Ino(1), id: 2, position: 3, deliveries: 4 },
            Record::Counters(Ino(9), counters),
            Record::Synced(77),
            Record::Torn { from: 5, to: 500 },
            Record::Begin,
        ]
    }

    /// What was not there at first.
    fn later() -> Vec<Record> {
        let due = Some(Timestamp(8));
        let how = How::MovedFrom(Ino(4), Why::Expired);
        vec![
            Record::Message(Arc::new(Message { due, ..message(0, b"body") })),
            Record::Message(Arc::new(Message { how, due, ..message(2, b"a\nb\n") })),
            Record::Message(Arc::new(Message { reason: Some(Reason::Rejected), how, ..message(0, b"x") })),
            Record::Message(Arc::new(Message { due, reason: Some(Reason::Expired), ..message(0, b"") })),
            Record::Message(Arc::new(Message {
                since: due,
                reason: Some(Reason::Expired),
                ..message(0, b"")
            })),
            Record::Message(Arc::new(Message { rounds: ROUNDS_OF_TWO, ..message(2, b"a\nb\n") })),
            Record::Delayed { mailbox: Ino(1), id: 2, due: Timestamp(3), deliveries: 4 },
            Record::Object(Arc::new(Object { mtime: FileTime::new(-1, 999_999_999), ..object() })),
            Record::Object(Arc::new(Object { atime: FileTime::new(i64::MAX, 5), ..object() })),
            Record::Message(Arc::new(Message { key: Some(Arc::from(&b"k"[..])), due, ..message(0, b"x") })),
            Record::Key { mailbox: Ino(1), id: 2, key: Arc::from(&b"k"[..]), at: Timestamp(3), uid: 4 },
            Record::Forgotten { mailbox: Ino(1), until: 3 },
        ]
    }

    fn bytes(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    #[test]
    fn each_record_reads_back_and_no_part_of_it_does() {
        for record in all().into_iter().chain(later()) {
            let bytes = bytes(&record);
            assert_eq!(Record::decode(&bytes).as_ref(), Some(&record));
            if let Record::Message(_) = record {
                // Its length is that of the frame.
                continue;
            }
            for length in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..length]), None, "{length} bytes of {record:?}");
            }
            assert_eq!(Record::decode(&[&bytes[..], b"x"].concat()), None);
        }
    }

    /// The bytes of the first version, so that a change of the format is noticed.
    #[test]
    fn the_bytes_are_those_of_version_1() {
        let gone = Record::Gone { mailbox: Ino(1), first: 2, count: 3, why: Why::Moved };
        assert_eq!(bytes(&gone), [4, 1, 2, 3, 4]);
        let sum = all().iter().fold(0, |sum, record| crc32c::crc32c_append(sum, &bytes(record)));
        assert_eq!(sum, SUM_OF_VERSION_1, "the format has changed: {sum:#x}");
    }

    /// Records that came later have bytes of their own.
    #[test]
    fn the_bytes_of_later_records_stay_too() {
        let delayed = Record::Delayed { mailbox: Ino(1), id: 2, due: Timestamp(3), deliveries: 4 };
        assert_eq!(bytes(&delayed), [11, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        let due = Message { due: Some(Timestamp(3)), ..message(0, b"body") };
        let plain = bytes(&Record::Message(Arc::new(message(0, b"body"))));
        let due = bytes(&Record::Message(Arc::new(due)));
        let at = due.iter().zip(&plain).position(|(due, plain)| due != plain).unwrap();
        assert_eq!((due[at], due[at + 9..].to_vec()), (4, plain[at..].to_vec()));
        let was_due =
            bytes(&Record::Message(Arc::new(Message { since: Some(Timestamp(3)), ..message(0, b"body") })));
        assert_eq!((was_due[at], was_due[at + 9..].to_vec()), (6, plain[at..].to_vec()));
        let stopped =
            bytes(&Record::Message(Arc::new(Message { rounds: ROUNDS_OF_TWO, ..message(0, b"body") })));
        assert_eq!(
            (stopped[at..at + 4].to_vec(), stopped[at + 4..].to_vec()),
            (vec![7, 2, 1, 9], plain[at..].to_vec())
        );
        let once = bytes(&Record::Message(Arc::new(Message {
            key: Some(Arc::from(&b"ke"[..])),
            ..message(0, b"body")
        })));
        assert_eq!(
            (once[at..at + 4].to_vec(), once[at + 4..].to_vec()),
            (vec![8, 2, b'k', b'e'], plain[at..].to_vec())
        );
        let key = Arc::from(&b"ke"[..]);
        let key = Record::Key { mailbox: Ino(1), id: 7, key, at: Timestamp(3), uid: 4 };
        assert_eq!(bytes(&key), [13, 1, 7, 2, b'k', b'e', 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        let forgotten = Record::Forgotten { mailbox: Ino(1), until: 3 };
        assert_eq!(bytes(&forgotten), [14, 1, 3]);
        let dead = Message { reason: Some(Reason::Deliveries), ..message(0, b"body") };
        let dead = bytes(&Record::Message(Arc::new(dead)));
        assert_eq!((dead[at..at + 2].to_vec(), dead[at + 2..].to_vec()), (vec![5, 1], plain[at..].to_vec()));
        let near = bytes(&Record::Object(Arc::new(object())));
        let far = bytes(&Record::Object(Arc::new(Object { atime: FileTime::new(-1, 3), ..object() })));
        let times = near.len() - (far.len() - 12);
        assert_eq!((near[0], far[0], times), (1, 12, 0), "each time takes four bytes more");
    }

    const ROUNDS_OF_TWO: Rounds = Rounds { count: 2, idle: true, stopped_in: Some(Ino(9)) };
    const SUM_OF_VERSION_1: u32 = 0xb56c_19bc;

    #[test]
    fn lines_are_parts() {
        let lines = message(4, b"a\nbb\n\ncc\n");
        let part = lines.part(1, 2).unwrap();
        assert_eq!((part.id, part.position, part.lines), (8, 1001, 2));
        assert_eq!(part.body.as_bytes(), b"bb\n\n");
        let last = part.part(1, 1).unwrap();
        assert_eq!((last.id, last.lines, last.body.as_bytes()), (9, 0, &b"\n"[..]));
        assert_eq!(lines.part(0, 4), Some(lines.clone()));
        assert_eq!(lines.part(3, 2), None);
        assert_eq!(message(0, b"x\ny").part(0, 1), Some(message(0, b"x\ny")));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
        }
    }
}
