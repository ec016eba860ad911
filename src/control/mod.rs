//! The files of `control/`: one table for each kind of object, one entry for each file.
//!
//! The tree finds the object, locks it, and passes a snapshot; nothing here knows the tree. A file holds one value
//! and a newline; `status` has lines of `key value`.

mod doors;
mod metrics;
mod purge;
mod status;
mod value;

use crate::accounts::{COUNT, Usage};
use crate::config::{MSGSIZE_CEILING, MailboxLimits, NO_LIMIT, ONCE_WINDOW, WHOLESIZE_MAX};
use crate::engine::{self, Carrier};
use crate::journal::{Durable, Figures};
use crate::mailbox::{Counts, DeadLetter, Order, Removal, Rules, Waited, Waiter, WhenFull};
use crate::op::{Caller, Error, Now};
use crate::remote;
use crate::segment::{Lifetime, Seals};
use crate::topic;

pub use doors::{DOORBELL, DOORS, DoorFile, DoorKind};
pub use metrics::{METRICS_SIZE, MailboxFigures, MetricsView, metrics};
pub use purge::purge;
pub use status::{mount_status, user_status};

/// Why a value was refused: the error of the write, and a sentence for the file `error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `Invalid` for a value that cannot be parsed, `Range` for one out of range.
    pub error: Error,
    /// Names the value, its range and its unit.
    pub why: String,
}

/// A file in an object's folder in `control/`.
#[derive(Debug)]
pub struct File<View, Settings> {
    /// Its name.
    pub name: &'static str,
    /// It is in `config/`.
    pub config: bool,
    /// One line of help.
    pub help: &'static str,
    /// Formats the text that a read returns.
    pub show: fn(&View) -> String,
    /// Parses a write and changes the settings. `None`: read-only.
    pub store: Option<Store<Settings>>,
}

impl<View, Settings> File<View, Settings> {
    /// Its value is the path of a mailbox: the tree resolves it, and shows it.
    pub fn names_mailbox(&self) -> bool {
        self.config && self.name == "dead_letter"
    }
}

/// Parses a value into the settings, or refuses it.
pub type Store<Settings> = fn(&str, &mut Settings) -> Result<(), Refusal>;

/// What one user holds, for `control/users/<uid>`.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct UserView {
    pub usage: [Usage; COUNT],
}

/// Figures of the whole mount, for `control/status`. Memory is in bytes.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct MountView {
    pub pid: u32,
    pub transport: &'static str,
    /// The policy of the threads that serve, and why.
    pub scheduling: &'static str,
    /// Whether the mount goes on if its daemon is killed.
    pub restart: &'static str,
    pub segment_path: &'static str,
    pub uptime_ns: u64,
    pub threads: usize,
    pub folders: u64,
    pub symlinks: u64,
    pub mailboxes: u64,
    pub segments: u64,
    pub topics: u64,
    pub topic_readers: u64,
    /// Messages queued for readers of topics.
    pub topic_backlog: u64,
    pub counts: Counts,
    /// The counters with those of removed mailboxes.
    pub since_start: Counts,
    /// Messages that were lost when their mailbox was removed.
    pub discarded: u64,
    pub memory_used: u64,
    pub memory_max: u64,
    pub segment_used: u64,
    pub segment_max: u64,
    pub locks: u64,
    pub waiting_locks: u64,
    /// Nodes that the kernel has in its cache. A mailbox may have several.
    pub nodes: u64,
    /// Whether the engine has a connection, if the mount has one.
    pub engine: Option<bool>,
    /// Of the store, if the mount has one.
    pub store: Option<Figures>,
}

/// The settings of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MailboxSettings {
    pub limits: MailboxLimits,
    pub rules: Rules,
    /// The longest message that the mount's kernel transfers in one request, in bytes.
    pub ceiling: u32,
    /// The mount has a store.
    pub has_store: bool,
    /// Where the messages are.
    pub carrier: CarrierSetting,
    /// The mailbox that a written path names, as the tree resolved it; `None` for an empty path.
    pub named: Result<Option<DeadLetter>, Refusal>,
}

/// Where the messages of a mailbox are, and whether another choice is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct CarrierSetting {
    pub chosen: Carrier,
    /// The mount has an engine.
    pub has_engine: bool,
    /// It is a folder in which nothing is yet.
    pub may_change: bool,
}

/// The settings of a mailbox that several hosts share.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct RemoteSettings {
    pub described: engine::Described,
    /// The mailbox that a written path names, as the tree resolved it; `None` for an empty path.
    pub named: Result<Option<engine::DeadLetter>, Refusal>,
}

/// A snapshot of a mailbox that several hosts share.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct RemoteView {
    pub described: engine::Described,
    pub counts: remote::Counts,
    pub waiters: Vec<Waiter>,
    pub connected: bool,
    /// When it is shown.
    pub now: Now,
    /// Why the last value was refused; empty if it was accepted.
    pub refusal: String,
}

/// A snapshot of a mailbox.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct MailboxView {
    pub settings: MailboxSettings,
    pub counts: Counts,
    /// How long its oldest message has waited, in nanoseconds; 0 if none waits.
    pub oldest_ns: u64,
    pub waited: Waited,
    pub waiters: Vec<Waiter>,
    /// When it is shown.
    pub now: Now,
    /// Why the last value was refused; empty if it was accepted.
    pub refusal: String,
}

impl MailboxView {
    /// Of settings alone.
    pub fn of_settings(settings: MailboxSettings) -> MailboxView {
        MailboxView {
            settings,
            counts: Counts::default(),
            oldest_ns: 0,
            waited: Waited::default(),
            waiters: Vec::new(),
            now: Now::default(),
            refusal: String::new(),
        }
    }
}

/// The settings of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TopicSettings {
    pub limits: topic::Limits,
    /// The longest message that the mount's kernel transfers in one request, in bytes.
    pub ceiling: u32,
}

/// A snapshot of a topic.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct TopicView {
    pub settings: TopicSettings,
    pub counts: topic::Counts,
    pub readers: Vec<topic::Reader>,
    pub waiters: Vec<Waiter>,
    /// When it is shown.
    pub now: Now,
    /// Why the last value was refused; empty if it was accepted.
    pub refusal: String,
}

/// The settings of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SegmentSettings {
    pub size_max: u64,
    pub lifetime: Lifetime,
    pub seals: Seals,
    /// A process has it open or mapped for writing.
    pub written: bool,
}

/// A snapshot of a segment. Sizes are in bytes.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct SegmentView {
    pub settings: SegmentSettings,
    pub size: u64,
    pub promised: u64,
    /// Bytes of memory in use.
    pub resident: u64,
    /// Whether a process has it open or mapped: yes, no, or unknown.
    pub in_use: &'static str,
    /// The processes that have it open, and whether for reading and for writing.
    pub openers: Vec<(Caller, bool, bool)>,
    pub path: &'static str,
    /// Why the last value was refused; empty if it was accepted.
    pub refusal: String,
}

/// `control/mailboxes/<name>/`
pub static MAILBOX: [File<MailboxView, MailboxSettings>; 17] = [
    read_only("status", "depth, bytes, waiting callers, and counters since creation", status::mailbox),
    read_only("error", ERROR_HELP, |view| line(&view.refusal)),
    setting(
        "msgsize",
        "longest message, in bytes",
        |view| line(&value::show(u64::from(view.settings.limits.msgsize))),
        |text, settings| msgsize(text, settings.ceiling).map(|bytes| settings.limits.msgsize = bytes),
    ),
    setting(
        "maxmsg",
        "limit on queued messages, or max",
        |view| line(&value::show(view.settings.limits.maxmsg)),
        |text, settings| {
            let number = value::number("maxmsg", "messages", text, 1, NO_LIMIT - 1, true);
            number.map(|number| settings.limits.maxmsg = number)
        },
    ),
    setting(
        "maxbytes",
        "limit on queued bytes, or max",
        |view| line(&value::show(view.settings.limits.maxbytes)),
        |text, settings| {
            let bytes = value::number("maxbytes", "bytes", text, 1, NO_LIMIT - 1, true);
            bytes.map(|bytes| settings.limits.maxbytes = bytes)
        },
    ),
    setting(
        "wholesize",
        "longest message of the whole door, in bytes",
        |view| line(&value::show(view.settings.rules.wholesize)),
        |text, settings| {
            let bytes = value::number("wholesize", "bytes", text, 1, WHOLESIZE_MAX, false);
            bytes.map(|bytes| settings.rules.wholesize = bytes)
        },
    ),
    setting(
        "full",
        "what a send does when there is no room: wait, fail or drop-oldest",
        |view| line(value::name_of(&WHEN_FULL, view.settings.rules.full)),
        |text, settings| value::one_of("full", &WHEN_FULL, text).map(|full| settings.rules.full = full),
    ),
    setting(
        "order",
        "priority: higher priorities first; fifo: in the order sent",
        |view| line(value::name_of(&ORDER, view.settings.rules.order)),
        |text, settings| value::one_of("order", &ORDER, text).map(|order| settings.rules.order = order),
    ),
    setting(
        "ttl",
        "how long a message is kept before it expires, or max",
        |view| line(&value::show_time(view.settings.rules.ttl)),
        |text, settings| value::time("ttl", text).map(|nanos| settings.rules.ttl = nanos),
    ),
    setting(
        "lease_time",
        "how long a lease lasts at most, or max",
        |view| line(&value::show_time(view.settings.rules.lease_time)),
        |text, settings| value::time("lease_time", text).map(|nanos| settings.rules.lease_time = nanos),
    ),
    setting(
        "max_deliver",
        "how often a message is leased before it becomes a dead letter, or max",
        |view| line(&value::show(view.settings.rules.max_deliver)),
        |text, settings| max_deliver(text).map(|number| settings.rules.max_deliver = number),
    ),
    setting(
        "durable",
        "what messages survive: off: nothing; daemon: the daemon's death; fsync: a power cut",
        |view| line(value::name_of(&DURABLE, view.settings.rules.durable)),
        durable,
    ),
    setting(
        "dead_letter",
        "mailbox for expired and rejected messages, as a path below mailboxes/; empty: drop them",
        // A path may be any bytes, so that the tree shows it.
        |_| String::new(),
        |_, settings| settings.named.clone().map(|mailbox| settings.rules.dead_letter = mailbox),
    ),
    setting(
        "max_rounds",
        "how often a message becomes a dead letter before it stays one, or max",
        |view| line(&value::show(view.settings.rules.max_rounds.map_or(NO_LIMIT, u64::from))),
        |text, settings| {
            let number = value::number("max_rounds", "rounds", text, 1, u64::from(u32::MAX), true)?;
            settings.rules.max_rounds = u32::try_from(number).ok();
            Ok(())
        },
    ),
    setting(
        "once_window",
        "how long a key of once/<key> is remembered",
        |view| line(&value::show_time(view.settings.rules.once_window.unwrap_or(ONCE_WINDOW))),
        |text, settings| {
            let nanos = value::limited_time("once_window", text)?;
            settings.rules.once_window = Some(nanos).filter(|nanos| *nanos != ONCE_WINDOW);
            Ok(())
        },
    ),
    setting(
        "remove",
        "who may remove it while messages wait: guarded: not who has just received from it; empty: nobody; any",
        |view| line(value::name_of(&REMOVAL, view.settings.rules.removal)),
        |text, settings| {
            value::one_of("remove", &REMOVAL, text).map(|removal| settings.rules.removal = removal)
        },
    ),
    setting(
        "engine",
        "where messages are: local, or nats for all hosts; chosen in an empty folder, for what is made in it",
        |view| line(value::name_of(&CARRIER, view.settings.carrier.chosen)),
        carrier,
    ),
];

/// Those of [`MAILBOX`] that are in `config/` of a folder as well. A mailbox or folder made in it begins with their values.
pub const FOLDER_SETTINGS: [&str; 15] = [
    "error",
    "msgsize",
    "maxmsg",
    "maxbytes",
    "wholesize",
    "full",
    "order",
    "ttl",
    "lease_time",
    "max_deliver",
    "durable",
    "max_rounds",
    "once_window",
    "remove",
    "engine",
];

/// `control/mailboxes/<name>/` of a mailbox that several hosts share.
pub static REMOTE: [File<RemoteView, RemoteSettings>; 11] = [
    read_only("status", "connection, waiting callers, and counters of this mount", status::remote),
    read_only("error", ERROR_HELP, |view| line(&view.refusal)),
    fixed("engine", |_| line("nats")),
    fixed("msgsize", |view| line(&value::show(u64::from(view.described.limits.msgsize)))),
    fixed("maxmsg", |view| line(&value::show(view.described.limits.maxmsg))),
    fixed("maxbytes", |view| line(&value::show(view.described.limits.maxbytes))),
    fixed("full", |view| line(value::name_of(&WHEN_FULL, view.described.full))),
    setting(
        "ttl",
        "",
        |view| line(&value::show_time(view.described.ttl)),
        |text, settings| value::time("ttl", text).map(|nanos| settings.described.ttl = nanos),
    ),
    setting(
        "lease_time",
        "",
        |view| line(&value::show_time(view.described.lease_time)),
        |text, settings| value::time("lease_time", text).map(|nanos| settings.described.lease_time = nanos),
    ),
    setting(
        "max_deliver",
        "",
        |view| line(&value::show(view.described.max_deliver)),
        |text, settings| max_deliver(text).map(|number| settings.described.max_deliver = number),
    ),
    setting(
        "dead_letter",
        "",
        |_| String::new(),
        |_, settings| settings.named.clone().map(|named| settings.described.dead_letter = named),
    ),
];

/// `control/segments/<name>/`
pub static SEGMENT: [File<SegmentView, SegmentSettings>; 5] = [
    read_only("status", "size, memory and open files", status::segment),
    read_only("error", ERROR_HELP, |view| line(&view.refusal)),
    File {
        name: "seal",
        config: false,
        help: "read: forbidden changes (grow, shrink, write); write: forbid more, for ever",
        show: |view| line(&view.settings.seals.to_string()),
        store: Some(seal),
    },
    setting(
        "size_max",
        "limit on its size in bytes, or max",
        |view| line(&value::show(view.settings.size_max)),
        |text, settings| {
            let bytes = value::number("size_max", "bytes", text, 0, i64::MAX as u64, true);
            bytes.map(|bytes| settings.size_max = bytes)
        },
    ),
    setting(
        "lifetime",
        "keep: until rm; last-close: until the last descriptor and mapping are closed",
        |view| line(value::name_of(&LIFETIME, view.settings.lifetime)),
        |text, settings| {
            value::one_of("lifetime", &LIFETIME, text).map(|lifetime| settings.lifetime = lifetime)
        },
    ),
];

/// `control/topics/<name>/`
pub static TOPIC: [File<TopicView, TopicSettings>; 4] = [
    read_only("status", "counters, and the backlog and dropped messages of each reader", status::topic),
    read_only("error", ERROR_HELP, |view| line(&view.refusal)),
    setting(
        "msgsize",
        "longest message, in bytes",
        |view| line(&value::show(u64::from(view.settings.limits.msgsize))),
        |text, settings| msgsize(text, settings.ceiling).map(|bytes| settings.limits.msgsize = bytes),
    ),
    setting(
        "backlog",
        "limit on messages queued for one reader, or max; beyond it the oldest are dropped",
        |view| line(&value::show(view.settings.limits.backlog)),
        |text, settings| {
            let number = value::number("backlog", "messages", text, 1, NO_LIMIT - 1, true);
            number.map(|number| settings.limits.backlog = number)
        },
    ),
];

const ERROR_HELP: &str = "why the last value written to config/ was refused";

/// A file that can only be read.
const fn read_only<V, S>(name: &'static str, help: &'static str, show: fn(&V) -> String) -> File<V, S> {
    File { name, config: false, help, show, store: None }
}

/// A file in `config/` that can only be read.
const fn fixed(name: &'static str, show: fn(&RemoteView) -> String) -> File<RemoteView, RemoteSettings> {
    File { name, config: true, help: "", show, store: None }
}

/// A file in `config/`.
const fn setting<V, S>(
    name: &'static str,
    help: &'static str,
    show: fn(&V) -> String,
    store: Store<S>,
) -> File<V, S> {
    File { name, config: true, help, show, store: Some(store) }
}

fn msgsize(text: &str, ceiling: u32) -> Result<u32, Refusal> {
    let ceiling = u64::from(ceiling.min(MSGSIZE_CEILING));
    Ok(value::number("msgsize", "bytes", text, 1, ceiling, false)? as u32)
}

/// Adds the seals that `text` names. `Busy` for `write` while a process has it open for writing.
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
        let why = "seal: cannot set 'write' while a process has the segment open or mapped for writing";
        return Err(Refusal { error: Error::Busy, why: why.to_owned() });
    }
    settings.seals = seals;
    Ok(())
}

fn max_deliver(text: &str) -> Result<u64, Refusal> {
    value::number("max_deliver", "deliveries", text, 1, u64::from(u32::MAX), true)
}

fn carrier(text: &str, settings: &mut MailboxSettings) -> Result<(), Refusal> {
    let chosen = value::one_of("engine", &CARRIER, text)?;
    let setting = &mut settings.carrier;
    let why = if chosen == setting.chosen {
        return Ok(());
    } else if !setting.may_change {
        "engine: it is chosen once, while a folder is empty; mailboxes have it from their folder"
    } else if !setting.has_engine {
        "engine: this mount has none (ipcfs mount --engine nats://HOST --space NAME DIR)"
    } else {
        setting.chosen = chosen;
        return Ok(());
    };
    Err(Refusal { error: Error::Invalid, why: why.to_owned() })
}

const CARRIER: [(&str, Carrier); 2] = [("local", Carrier::Local), ("nats", Carrier::Nats)];

fn durable(text: &str, settings: &mut MailboxSettings) -> Result<(), Refusal> {
    let durable = value::one_of("durable", &DURABLE, text)?;
    if durable != Durable::Off && !settings.has_store {
        let why = "durable: this mount has no store (ipcfs mount --store DIR)";
        return Err(Refusal { error: Error::Invalid, why: why.to_owned() });
    }
    settings.rules.durable = durable;
    Ok(())
}

const DURABLE: [(&str, Durable); 3] =
    [("off", Durable::Off), ("daemon", Durable::Daemon), ("fsync", Durable::Fsync)];

const REMOVAL: [(&str, Removal); 3] =
    [("guarded", Removal::Guarded), ("empty", Removal::Empty), ("any", Removal::Any)];

const WHEN_FULL: [(&str, WhenFull); 3] =
    [("wait", WhenFull::Wait), ("fail", WhenFull::Fail), ("drop-oldest", WhenFull::DropOldest)];

const ORDER: [(&str, Order); 2] = [("priority", Order::Priority), ("fifo", Order::Fifo)];

const LIFETIME: [(&str, Lifetime); 2] = [("keep", Lifetime::Keep), ("last-close", Lifetime::LastClose)];

/// The description of a file in `control/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The folder of the kind of object, or `""`.
    pub folder: &'static str,
    /// Its path in that folder.
    pub path: String,
    /// One line of help.
    pub help: &'static str,
}

/// Every file of `control/`, in the order of the tables.
pub fn reference() -> Vec<Described> {
    fn files<V, S>(folder: &'static str, table: &[File<V, S>]) -> Vec<Described> {
        let path = |file: &File<V, S>| format!("{}{}", if file.config { "config/" } else { "" }, file.name);
        table.iter().map(|file| Described { folder, path: path(file), help: file.help }).collect()
    }
    let one = |folder, path: String, help| Described { folder, path, help };
    let mut all = vec![
        one("", String::from("status"), "the whole mount: version, transport, counters, memory"),
        one(
            "",
            String::from("metrics"),
            "OpenMetrics: the mount, the 100 largest mailboxes that the reader may see, the others together",
        ),
        one(
            "",
            String::from("users/<uid>"),
            "what the mount holds for a user, and the user's share; only that user and root can read it",
        ),
    ];
    all.extend(files("mailboxes/<name>/", &MAILBOX));
    let message = "a queued message: cat shows it, rm removes it, mv moves it to another mailbox";
    all.push(one("mailboxes/<name>/", String::from("messages/<id>"), message));
    all.extend(DOORS.iter().map(|door| one("mailboxes/<name>/", door.path(), door.help)));
    let settings =
        "what mailboxes and folders made in it begin with: any of the above but dead_letter; error as well";
    all.push(one("mailboxes/<folder>/", String::from("config/<key>"), settings));
    all.extend(files("topics/<name>/", &TOPIC));
    all.extend(files("segments/<name>/", &SEGMENT));
    all.extend(DOORBELL.iter().map(|(name, help)| one("segments/<name>/", String::from(*name), help)));
    all
}

fn line(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}
