//! The text of `control/metrics`: the figures of the mount and of its largest mailboxes, as `OpenMetrics`.
//!
//! Counters have no `TYPE` line: `OpenMetrics` wants the name without `_total` in it, and the older text format of
//! Prometheus wants it with `_total`. Without the line, parsers of both take the text.

use std::fmt::{Display, Write as _};

use super::MountView;
use crate::mailbox::{Counts, Waited};

/// Most bytes of the text, for programs that believe a file's size.
pub const METRICS_SIZE: u64 = 1 << 20;

/// Most bytes of the lines for single mailboxes: what is left has room for all the others.
const LINES: usize = METRICS_SIZE as usize - (64 << 10);

/// A line beside its label, at most.
const LINE: usize = 96;

/// A figure of a mailbox: its name, what it is, and where it stands in the counts.
type Figure = (&'static str, &'static str, fn(&Counts) -> u64);

/// Figures that rise and fall.
const GAUGES: [Figure; 8] = [
    ("depth", "Messages that wait.", |counts| counts.depth),
    ("bytes", "Bytes of messages and requests that wait.", |counts| counts.bytes),
    ("waiting_readers", "Calls that wait for a message.", |counts| counts.waiting_readers),
    ("waiting_writers", "Calls that wait for room.", |counts| counts.waiting_writers),
    ("leased", "Messages that are leased.", |counts| counts.leased),
    ("delayed", "Messages that cannot be received yet.", |counts| counts.delayed),
    ("requests", "Requests that wait for a server.", |counts| counts.requests),
    ("serving", "Requests that a server has taken.", |counts| counts.serving),
];

/// Figures that only rise.
const COUNTERS: [Figure; 9] = [
    ("sent_total", "Messages sent.", |counts| counts.sent),
    ("received_total", "Messages received.", |counts| counts.received),
    ("redelivered_total", "Messages and requests that came back without ack or reply.", |counts| {
        counts.redelivered
    }),
    ("expired_total", "Messages that expired.", |counts| counts.expired),
    ("dropped_total", "Messages dropped for want of room or of a dead-letter mailbox.", |counts| {
        counts.dropped
    }),
    ("dead_lettered_total", "Messages sent to the dead-letter mailbox.", |counts| counts.dead_lettered),
    ("removed_total", "Messages removed through messages/ or purge.", |counts| counts.removed),
    ("replied_total", "Requests that were replied to.", |counts| counts.replied),
    ("duplicates_total", "Sends with a key that was known, which sent nothing.", |counts| counts.duplicates),
];

/// What `control/metrics` shows to one reader.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct MetricsView {
    pub mount: MountView,
    /// The largest mailboxes, the largest first.
    pub mailboxes: Vec<MailboxFigures>,
    /// The others that the reader may see: how many, and their figures together.
    pub others: u64,
    pub others_counts: Counts,
}

/// One mailbox of [`MetricsView`].
#[derive(Debug)]
#[allow(missing_docs)]
pub struct MailboxFigures {
    /// Its path below `mailboxes/`.
    pub path: Vec<u8>,
    pub counts: Counts,
    /// How long its oldest message has waited, in nanoseconds.
    pub oldest_ns: Option<u64>,
    /// How long messages waited, if any was received.
    pub waited: Option<Waited>,
}

/// `control/metrics`
pub fn metrics(view: &MetricsView) -> String {
    let mut text = String::new();
    mount(&mut text, &view.mount);
    let mut room = LINES;
    let shown: Vec<(String, &MailboxFigures)> = view
        .mailboxes
        .iter()
        .map(|mailbox| (label(&mailbox.path), mailbox))
        .take_while(|(label, mailbox)| {
            let steps = mailbox.waited.as_ref().map_or(0, |waited| waited.steps().count() + 3);
            let lines = (GAUGES.len() + COUNTERS.len() + 1 + steps) * (label.len() + LINE);
            room.checked_sub(lines).map(|left| room = left).is_some()
        })
        .collect();
    for (name, help, figure) in GAUGES {
        let name = format!("ipcfs_mailbox_{name}");
        gauge(&mut text, &name, help);
        for (label, mailbox) in &shown {
            labelled(&mut text, &name, label, figure(&mailbox.counts));
        }
    }
    gauge(&mut text, "ipcfs_mailbox_oldest_age_seconds", "How long the oldest message has waited.");
    for (label, mailbox) in &shown {
        if let Some(age) = mailbox.oldest_ns {
            labelled(&mut text, "ipcfs_mailbox_oldest_age_seconds", label, seconds(age));
        }
    }
    for (name, help, figure) in COUNTERS {
        let name = format!("ipcfs_mailbox_{name}");
        help_line(&mut text, &name, help);
        for (label, mailbox) in &shown {
            labelled(&mut text, &name, label, figure(&mailbox.counts));
        }
    }
    waiting_times(&mut text, &shown);
    let mut others = view.others_counts;
    view.mailboxes[shown.len()..].iter().for_each(|mailbox| others.add(&mailbox.counts));
    let count = view.others + (view.mailboxes.len() - shown.len()) as u64;
    let name = "ipcfs_other_mailboxes";
    one(&mut text, name, "Mailboxes without lines of their own: smaller ones.", count);
    for (kind, help, figure) in GAUGES {
        one(&mut text, &format!("{name}_{kind}"), help, figure(&others));
    }
    text.push_str("# EOF\n");
    text
}

fn waiting_times(text: &mut String, shown: &[(String, &MailboxFigures)]) {
    let name = "ipcfs_mailbox_waited_seconds";
    let _ = writeln!(text, "# TYPE {name} histogram");
    help_line(text, name, "How long messages waited until they were first received or leased.");
    for (label, mailbox) in shown {
        let Some(waited) = &mailbox.waited else { continue };
        for (bound, count) in waited.steps() {
            let _ = writeln!(text, "{name}_bucket{{mailbox=\"{label}\",le=\"{}\"}} {count}", decimal(bound));
        }
        let count = waited.count();
        let sum = format!("{}.{:09}", waited.sum() / 1_000_000_000, waited.sum() % 1_000_000_000);
        let _ = writeln!(text, "{name}_bucket{{mailbox=\"{label}\",le=\"+Inf\"}} {count}");
        labelled(text, &format!("{name}_sum"), label, sum);
        labelled(text, &format!("{name}_count"), label, count);
    }
}

fn mount(text: &mut String, view: &MountView) {
    gauge(text, "ipcfs_mount_info", "The version, and how requests and segments are served.");
    let (version, transport, path) = (env!("CARGO_PKG_VERSION"), view.transport, view.segment_path);
    let _ = writeln!(
        text,
        "ipcfs_mount_info{{version=\"{version}\",transport=\"{transport}\",segment_path=\"{path}\"}} 1"
    );
    let gauges: [(&str, &str, &dyn Display); 13] = [
        ("uptime_seconds", "Since the mount was made.", &seconds(view.uptime_ns)),
        ("folders", "Folders.", &view.folders),
        ("mailboxes", "Mailboxes, also those that the reader may not see.", &view.mailboxes),
        ("topics", "Topics.", &view.topics),
        ("segments", "Segments.", &view.segments),
        ("topic_readers", "Descriptors that read topics.", &view.topic_readers),
        ("topic_backlog", "Messages queued for readers of topics.", &view.topic_backlog),
        ("memory_used_bytes", "Memory of messages.", &view.memory_used),
        ("memory_limit_bytes", "The limit of it.", &view.memory_max),
        ("segment_used_bytes", "Memory reserved for segments.", &view.segment_used),
        ("segment_limit_bytes", "The limit of it.", &view.segment_max),
        ("locks", "Locks held.", &view.locks),
        ("waiting_locks", "Locks waited for.", &view.waiting_locks),
    ];
    for (name, help, value) in gauges {
        one(text, &format!("ipcfs_mount_{name}"), help, value);
    }
    for (name, help, figure) in GAUGES {
        one(text, &format!("ipcfs_mount_{name}"), help, figure(&view.counts));
    }
    for (name, help, figure) in COUNTERS {
        let name = format!("ipcfs_mount_{name}");
        help_line(text, &name, help);
        let _ = writeln!(text, "{name} {}", figure(&view.since_start));
    }
    let name = "ipcfs_mount_discarded_total";
    help_line(text, name, "Messages that were lost when their mailbox was removed.");
    let _ = writeln!(text, "{name} {}", view.discarded);
}

fn one(text: &mut String, name: &str, help: &str, value: impl Display) {
    gauge(text, name, help);
    let _ = writeln!(text, "{name} {value}");
}

fn gauge(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} gauge");
    help_line(text, name, help);
}

fn help_line(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}");
}

fn labelled(text: &mut String, name: &str, label: &str, value: impl Display) {
    let _ = writeln!(text, "{name}{{mailbox=\"{label}\"}} {value}");
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1_000_000_000, nanos / 1_000_000 % 1000)
}

/// Nanoseconds in seconds, as `OpenMetrics` writes bounds of buckets: with a point, and no more digits than needed.
fn decimal(nanos: u64) -> String {
    let text = format!("{}.{:04}", nanos / 1_000_000_000, nanos / 100_000 % 10_000);
    let digits = text.trim_end_matches('0');
    format!("{digits}{}", if digits.ends_with('.') { "0" } else { "" })
}

/// A path as the value of a label. Two paths have two labels: what is not UTF-8 or controls a terminal is shown as `\xff`,
/// and a backslash is doubled, before the format's own escapes.
fn label(path: &[u8]) -> String {
    let mut label = String::with_capacity(path.len());
    let escape = |label: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(label, "\\\\x{byte:02x}");
        }
    };
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => label.push_str("\\\\\\\\"),
                '"' => label.push_str("\\\""),
                c if c.is_control() => escape(&mut label, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => label.push(c),
            }
        }
        escape(&mut label, chunk.invalid());
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_plain_numbers() {
        let shown = [100_000, 50_000_000, 1_000_000_000, 10_000_000_000_000].map(decimal);
        assert_eq!(shown, ["0.0001", "0.05", "1.0", "10000.0"]);
    }

    #[test]
    fn labels_are_distinct_and_escaped() {
        assert_eq!(label(b"team/jobs \xc3\xa9"), "team/jobs é");
        assert_eq!(label(b"a\"b\\c\n\xff"), "a\\\"b\\\\\\\\c\\\\x0a\\\\xff");
        assert_ne!(label(b"\\xff"), label(b"\xff"));
    }
}
