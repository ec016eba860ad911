//! The files of `control/`: one table for each kind of object, each file with its reader and writer.
//!
//! The tree finds the object, takes its lock, and hands a snapshot in; nothing here knows the tree. One value a file,
//! newline-ended; `key value` lines in `status`.

mod value;

use std::fmt::Write as _;

use crate::config::{MSGSIZE_CEILING, MailboxLimits, NO_LIMIT};
use crate::mailbox::{Counts, Waiter, WhenFull};
use crate::op::{Caller, Error, Timestamp};
use crate::segment::Lifetime;

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

/// Takes a value into the settings, or refuses it.
pub type Store<Settings> = fn(&str, &mut Settings) -> Result<(), Refusal>;

/// Figures of the whole mount.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct MountView {
    pub pid: u32,
    pub transport: &'static str,
    pub segment_path: &'static str,
    pub uptime_ns: u64,
    pub threads: usize,
    pub folders: u64,
    pub mailboxes: u64,
    pub segments: u64,
    pub counts: Counts,
    /// Messages that went with their mailbox.
    pub discarded: u64,
    pub memory_used: u64,
    pub memory_max: u64,
    pub segment_used: u64,
    pub segment_max: u64,
    pub locks: u64,
    pub waiting_locks: u64,
}

/// What can be set on a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MailboxSettings {
    pub limits: MailboxLimits,
    pub full: WhenFull,
    /// The longest message that this mount's kernel hands over in one piece.
    pub ceiling: u32,
}

/// A mailbox as its files show it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct MailboxView {
    pub settings: MailboxSettings,
    pub counts: Counts,
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
    pub opens: u32,
    pub path: &'static str,
    /// Why the last value was refused; empty if it was not.
    pub refusal: String,
}

/// `control/mailboxes/<name>/`
pub static MAILBOX: [File<MailboxView, MailboxSettings>; 6] = [
    File {
        name: "status",
        config: false,
        help: "depth, bytes, who waits, and counts since creation",
        show: mailbox_status,
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
            let ceiling = u64::from(settings.ceiling.min(MSGSIZE_CEILING));
            settings.limits.msgsize = value::number("msgsize", "bytes", text, 1, ceiling, false)? as u32;
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
        name: "full",
        config: true,
        help: "what a send does when the mailbox is full: wait, fail or drop-oldest",
        show: |view| line(value::name_of(&WHEN_FULL, view.settings.full)),
        store: Some(|text, settings| {
            settings.full = value::one_of("full", &WHEN_FULL, text)?;
            Ok(())
        }),
    },
];

/// `control/segments/<name>/`
pub static SEGMENT: [File<SegmentView, SegmentSettings>; 4] = [
    File {
        name: "status",
        config: false,
        help: "size, memory and open files",
        show: segment_status,
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
        help: "keep: until rm; last-close: gone with its last descriptor and mapping",
        show: |view| line(value::name_of(&LIFETIME, view.settings.lifetime)),
        store: Some(|text, settings| {
            settings.lifetime = value::one_of("lifetime", &LIFETIME, text)?;
            Ok(())
        }),
    },
];

const WHEN_FULL: [(&str, WhenFull); 3] =
    [("wait", WhenFull::Wait), ("fail", WhenFull::Fail), ("drop-oldest", WhenFull::DropOldest)];

const LIFETIME: [(&str, Lifetime); 2] = [("keep", Lifetime::Keep), ("last-close", Lifetime::LastClose)];

/// `control/status`
pub fn mount_status(view: &MountView) -> String {
    let uptime = format!("{}.{:03}", view.uptime_ns / 1_000_000_000, view.uptime_ns / 1_000_000 % 1000);
    let counts = view.counts;
    let pairs: [(&str, &dyn std::fmt::Display); 21] = [
        ("version", &env!("CARGO_PKG_VERSION")),
        ("pid", &view.pid),
        ("transport", &view.transport),
        ("segment_path", &view.segment_path),
        ("threads", &view.threads),
        ("uptime", &uptime),
        ("folders", &view.folders),
        ("mailboxes", &view.mailboxes),
        ("segments", &view.segments),
        ("messages", &counts.depth),
        ("bytes", &counts.bytes),
        ("waiting_readers", &counts.waiting_readers),
        ("waiting_writers", &counts.waiting_writers),
        ("sent", &counts.sent),
        ("received", &counts.received),
        ("dropped", &counts.dropped),
        ("discarded", &view.discarded),
        ("memory_used", &view.memory_used),
        ("memory_max", &view.memory_max),
        ("segment_used", &view.segment_used),
        ("segment_max", &view.segment_max),
    ];
    let mut text = lines(&pairs);
    text += &lines(&[("locks", &view.locks), ("waiting_locks", &view.waiting_locks)]);
    text
}

fn mailbox_status(view: &MailboxView) -> String {
    let counts = view.counts;
    let mut text = lines(&[
        ("depth", &counts.depth),
        ("bytes", &counts.bytes),
        ("waiting_readers", &counts.waiting_readers),
        ("waiting_writers", &counts.waiting_writers),
        ("sent", &counts.sent),
        ("received", &counts.received),
        ("dropped", &counts.dropped),
    ]);
    for waiter in &view.waiters {
        let role = if waiter.writes { "writer" } else { "reader" };
        let Caller { pid, uid, .. } = waiter.caller;
        let _ = writeln!(text, "waiting {role} pid {pid} uid {uid} since {}", seconds(waiter.since));
    }
    text
}

fn segment_status(view: &SegmentView) -> String {
    lines(&[
        ("size", &view.size),
        ("promised", &view.promised),
        ("resident", &view.resident),
        ("openers", &view.opens),
        ("path", &view.path),
    ])
}

fn line(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

fn lines(pairs: &[(&str, &dyn std::fmt::Display)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        let _ = writeln!(text, "{key} {value}");
    }
    text
}

/// Seconds since 1970, as `date +%s.%3N` prints them.
fn seconds(time: Timestamp) -> String {
    let (seconds, nanos) = time.split();
    format!("{seconds}.{:03}", nanos / 1_000_000)
}
