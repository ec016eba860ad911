//! The files of `control/`: one table for each kind of object, each file with its reader and writer.
//!
//! The tree finds the object, takes its lock, and hands a snapshot in; nothing here knows the tree. One value a file,
//! newline-ended; `key value` lines in `status`.

mod doors;
mod status;
mod value;

use crate::config::{MSGSIZE_CEILING, MailboxLimits, NO_LIMIT, WHOLESIZE_MAX};
use crate::mailbox::{Counts, Order, Rules, Waiter, WhenFull};
use crate::op::{Caller, Error, Ino};
use crate::segment::{Lifetime, Seals};
use crate::topic;

pub use doors::{DOORBELL, DOORS, DoorFile, DoorKind};
pub use status::mount_status;

/// Why a value was refused: the error the write fails with, and a sentence for `error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `Invalid` for what is no value, `Range` for one out of bounds.
    pub error: Error,
    /// Names the value, the bounds and the unit.
    pub why: String,
}

/// One file of an object's folder in `control/`.
#[derive(Debug)]
pub struct File<View, Settings> {
    /// Its name.
    pub name: &'static str,
    /// It stands in `config/` rather than beside it.
    pub config: bool,
    /// One line for people.
    pub help: &'static str,
    /// What reading gives.
    pub show: fn(&View) -> String,
    /// What writing does: changes the settings or refuses. `None`: read-only.
    pub store: Option<Store<Settings>>,
}

impl<View, Settings> File<View, Settings> {
    /// Its value names a mailbox, which the tree has to find.
    pub fn names_mailbox(&self) -> bool {
        self.config && self.name == "dead_letter"
    }
}

/// Takes a value into the settings, or refuses it.
pub type Store<Settings> = fn(&str, &mut Settings) -> Result<(), Refusal>;

/// Figures of the whole mount.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct MountView {
    pub pid: u32,
    pub transport: &'static str,
    /// The policy of the threads that serve, and why.
    pub scheduling: &'static str,
    pub segment_path: &'static str,
    pub uptime_ns: u64,
    pub threads: usize,
    pub folders: u64,
    pub mailboxes: u64,
    pub segments: u64,
    pub topics: u64,
    pub topic_readers: u64,
    /// Copies that wait for readers of topics.
    pub topic_backlog: u64,
    pub counts: Counts,
    /// Messages that went with their mailbox.
    pub discarded: u64,
    pub memory_used: u64,
    pub memory_max: u64,
    pub segment_used: u64,
    pub segment_max: u64,
    pub locks: u64,
    pub waiting_locks: u64,
    /// Files and folders that the kernel remembers, of which a mailbox may have several.
    pub nodes: u64,
}

/// What can be set on a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MailboxSettings {
    pub limits: MailboxLimits,
    pub rules: Rules,
    /// The longest message that this mount's kernel hands over in one piece.
    pub ceiling: u32,
    /// The mailbox that a written value names, as the tree found it; `None` for an empty value.
    pub named: Result<Option<Ino>, Refusal>,
}

/// A mailbox as its files show it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct MailboxView {
    pub settings: MailboxSettings,
    pub counts: Counts,
    pub waiters: Vec<Waiter>,
    /// Path of the mailbox for the dead, below `mailboxes/`; empty if there is none.
    pub dead_letter: String,
    /// Why the last value was refused; empty if it was not.
    pub refusal: String,
}

/// What can be set on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TopicSettings {
    pub limits: topic::Limits,
    /// The longest message that this mount's kernel hands over in one piece.
    pub ceiling: u32,
}

/// A topic as its files show it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct TopicView {
    pub settings: TopicSettings,
    pub counts: topic::Counts,
    pub readers: Vec<topic::Reader>,
    pub waiters: Vec<Waiter>,
    /// Why the last value was refused; empty if it was not.
    pub refusal: String,
}

/// What can be set on a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SegmentSettings {
    pub size_max: u64,
    pub lifetime: Lifetime,
    pub seals: Seals,
    /// Somebody has it open, or mapped, for writing.
    pub written: bool,
}

/// A segment as its files show it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct SegmentView {
    pub settings: SegmentSettings,
    pub size: u64,
    pub promised: u64,
    /// Bytes.
    pub resident: u64,
    /// Somebody has it open or mapped: yes, no, or unknown.
    pub in_use: &'static str,
    /// Who has it open, for reading, for writing.
    pub openers: Vec<(Caller, bool, bool)>,
    pub path: &'static str,
    /// Why the last value was refused; empty if it was not.
    pub refusal: String,
}

/// `control/mailboxes/<name>/`
pub static MAILBOX: [File<MailboxView, MailboxSettings>; 12] = [
    File {
        name: "status",
        config: false,
        help: "depth, bytes, who waits, and counts since creation",
        show: status::mailbox,
        store: None,
    },
    File {
        name: "error",
        config: false,
        help: "why the last value written to config/ was refused",
        show: |view| line(&view.refusal),
        store: None,
    },
    File {
        name: "msgsize",
        config: true,
        help: "longest message, in bytes",
        show: |view| line(&value::show(u64::from(view.settings.limits.msgsize))),
        store: Some(|text, settings| {
            settings.limits.msgsize = msgsize(text, settings.ceiling)?;
            Ok(())
        }),
    },
    File {
        name: "maxmsg",
        config: true,
        help: "messages that may wait, or max",
        show: |view| line(&value::show(view.settings.limits.maxmsg)),
        store: Some(|text, settings| {
            settings.limits.maxmsg = value::number("maxmsg", "messages", text, 1, NO_LIMIT - 1, true)?;
            Ok(())
        }),
    },
    File {
        name: "maxbytes",
        config: true,
        help: "bytes that may wait, or max",
        show: |view| line(&value::show(view.settings.limits.maxbytes)),
        store: Some(|text, settings| {
            settings.limits.maxbytes = value::number("maxbytes", "bytes", text, 1, NO_LIMIT - 1, true)?;
            Ok(())
        }),
    },
    File {
        name: "wholesize",
        config: true,
        help: "longest message of the whole door, in bytes",
        show: |view| line(&value::show(view.settings.rules.wholesize)),
        store: Some(|text, settings| {
            settings.rules.wholesize = value::number("wholesize", "bytes", text, 1, WHOLESIZE_MAX, false)?;
            Ok(())
        }),
    },
    File {
        name: "full",
        config: true,
        help: "what a send does when there is no room: wait, fail or drop-oldest",
        show: |view| line(value::name_of(&WHEN_FULL, view.settings.rules.full)),
        store: Some(|text, settings| {
            settings.rules.full = value::one_of("full", &WHEN_FULL, text)?;
            Ok(())
        }),
    },
    File {
        name: "order",
        config: true,
        help: "priority: higher ones first; fifo: as they were sent",
        show: |view| line(value::name_of(&ORDER, view.settings.rules.order)),
        store: Some(|text, settings| {
            settings.rules.order = value::one_of("order", &ORDER, text)?;
            Ok(())
        }),
    },
    File {
        name: "ttl",
        config: true,
        help: "how long a message waits before it expires, or max",
        show: |view| line(&value::show_time(view.settings.rules.ttl)),
        store: Some(|text, settings| {
            settings.rules.ttl = value::time("ttl", text)?;
            Ok(())
        }),
    },
    File {
        name: "lease_time",
        config: true,
        help: "how long a lease lasts at most, or max",
        show: |view| line(&value::show_time(view.settings.rules.lease_time)),
        store: Some(|text, settings| {
            settings.rules.lease_time = value::time("lease_time", text)?;
            Ok(())
        }),
    },
    File {
        name: "max_deliver",
        config: true,
        help: "how often a message is leased before it is given up, or max",
        show: |view| line(&value::show(view.settings.rules.max_deliver)),
        store: Some(|text, settings| {
            settings.rules.max_deliver =
                value::number("max_deliver", "deliveries", text, 1, u64::from(u32::MAX), true)?;
            Ok(())
        }),
    },
    File {
        name: "dead_letter",
        config: true,
        help: "mailbox for what expired or was given up, below mailboxes/; empty: dropped",
        show: |view| line(&view.dead_letter),
        store: Some(|_, settings| {
            settings.rules.dead_letter = settings.named.clone()?;
            Ok(())
        }),
    },
];

/// `control/segments/<name>/`
pub static SEGMENT: [File<SegmentView, SegmentSettings>; 5] = [
    File {
        name: "status",
        config: false,
        help: "size, memory and open files",
        show: status::segment,
        store: None,
    },
    File {
        name: "error",
        config: false,
        help: "why the last value written to config/ was refused",
        show: |view| line(&view.refusal),
        store: None,
    },
    File {
        name: "seal",
        config: false,
        help: "changes forbidden for good: grow, shrink, write; write: forbid more",
        show: |view| line(&view.settings.seals.to_string()),
        store: Some(seal),
    },
    File {
        name: "size_max",
        config: true,
        help: "bytes it may grow to, or max",
        show: |view| line(&value::show(view.settings.size_max)),
        store: Some(|text, settings| {
            settings.size_max = value::number("size_max", "bytes", text, 0, i64::MAX as u64, true)?;
            Ok(())
        }),
    },
    File {
        name: "lifetime",
        config: true,
        help: "keep: until rm; last-close: until the last descriptor and mapping go",
        show: |view| line(value::name_of(&LIFETIME, view.settings.lifetime)),
        store: Some(|text, settings| {
            settings.lifetime = value::one_of("lifetime", &LIFETIME, text)?;
            Ok(())
        }),
    },
];

/// `control/topics/<name>/`
pub static TOPIC: [File<TopicView, TopicSettings>; 4] = [
    File {
        name: "status",
        config: false,
        help: "counts, and for each reader what waits for it and what it missed",
        show: status::topic,
        store: None,
    },
    File {
        name: "error",
        config: false,
        help: "why the last value written to config/ was refused",
        show: |view| line(&view.refusal),
        store: None,
    },
    File {
        name: "msgsize",
        config: true,
        help: "longest message, in bytes",
        show: |view| line(&value::show(u64::from(view.settings.limits.msgsize))),
        store: Some(|text, settings| {
            settings.limits.msgsize = msgsize(text, settings.ceiling)?;
            Ok(())
        }),
    },
    File {
        name: "backlog",
        config: true,
        help: "messages that wait for one reader; beyond, it misses the oldest",
        show: |view| line(&value::show(view.settings.limits.backlog)),
        store: Some(|text, settings| {
            settings.limits.backlog = value::number("backlog", "messages", text, 1, NO_LIMIT - 1, true)?;
            Ok(())
        }),
    },
];

fn msgsize(text: &str, ceiling: u32) -> Result<u32, Refusal> {
    let ceiling = u64::from(ceiling.min(MSGSIZE_CEILING));
    Ok(value::number("msgsize", "bytes", text, 1, ceiling, false)? as u32)
}

/// Forbids what `text` names, beside what is forbidden already.
fn seal(text: &str, settings: &mut SegmentSettings) -> Result<(), Refusal> {
    let mut seals = settings.seals;
    for word in text.split_whitespace() {
        let all = [("grow", &mut seals.grow), ("shrink", &mut seals.shrink), ("write", &mut seals.write)];
        match all.into_iter().find(|(name, _)| *name == word) {
            Some((_, seal)) => *seal = true,
            None => return value::one_of("seal", &[("grow", ()), ("shrink", ()), ("write", ())], word),
        }
    }
    if seals.write && !settings.seals.write && settings.written {
        let why = "seal: somebody has it open, or mapped, for writing, which has to end before 'write'";
        return Err(Refusal { error: Error::Busy, why: why.to_owned() });
    }
    settings.seals = seals;
    Ok(())
}

const WHEN_FULL: [(&str, WhenFull); 3] =
    [("wait", WhenFull::Wait), ("fail", WhenFull::Fail), ("drop-oldest", WhenFull::DropOldest)];

const ORDER: [(&str, Order); 2] = [("priority", Order::Priority), ("fifo", Order::Fifo)];

const LIFETIME: [(&str, Lifetime); 2] = [("keep", Lifetime::Keep), ("last-close", Lifetime::LastClose)];

/// A file of `control/`, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The folder it is in, or `""`.
    pub folder: &'static str,
    /// Its path from there.
    pub path: String,
    /// One line.
    pub help: &'static str,
}

/// Every file of `control/`, in the order of the tables.
pub fn reference() -> Vec<Described> {
    fn files<V, S>(folder: &'static str, table: &[File<V, S>]) -> Vec<Described> {
        let path = |file: &File<V, S>| format!("{}{}", if file.config { "config/" } else { "" }, file.name);
        table.iter().map(|file| Described { folder, path: path(file), help: file.help }).collect()
    }
    let one = |folder, path: String, help| Described { folder, path, help };
    let mut all =
        vec![one("", String::from("status"), "the whole mount: version, transport, counts, memory")];
    all.extend(files("mailboxes/<name>/", &MAILBOX));
    let message = "a waiting message: cat looks, rm removes, mv moves it elsewhere";
    all.push(one("mailboxes/<name>/", String::from("messages/<id>"), message));
    all.extend(DOORS.iter().map(|door| one("mailboxes/<name>/", door.path(), door.help)));
    all.extend(files("topics/<name>/", &TOPIC));
    all.extend(files("segments/<name>/", &SEGMENT));
    all.extend(DOORBELL.iter().map(|(name, help)| one("segments/<name>/", String::from(*name), help)));
    all
}

fn line(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}
