//! The text of the `status` files: `key value` lines, then a line for each caller or open file.

use std::fmt::Write as _;

use super::{MailboxView, MountView, RemoteView, SegmentView, TopicView, UserView};
use crate::accounts::Usage;
use crate::config::NO_LIMIT;
use crate::mailbox::Waiter;
use crate::op::{Caller, Now, Timestamp};

/// `control/status`
pub fn mount_status(view: &MountView) -> String {
    let uptime = format!("{}.{:03}", view.uptime_ns / 1_000_000_000, view.uptime_ns / 1_000_000 % 1000);
    let counts = view.counts;
    let pairs: [(&str, &dyn std::fmt::Display); 33] = [
        ("version", &env!("CARGO_PKG_VERSION")),
        ("pid", &view.pid),
        ("transport", &view.transport),
        ("scheduling", &view.scheduling),
        ("restart", &view.restart),
        ("segment_path", &view.segment_path),
        ("threads", &view.threads),
        ("uptime", &uptime),
        ("folders", &view.folders),
        ("symlinks", &view.symlinks),
        ("mailboxes", &view.mailboxes),
        ("segments", &view.segments),
        ("topics", &view.topics),
        ("topic_readers", &view.topic_readers),
        ("topic_backlog", &view.topic_backlog),
        ("messages", &counts.depth),
        ("bytes", &counts.bytes),
        ("waiting_readers", &counts.waiting_readers),
        ("waiting_writers", &counts.waiting_writers),
        ("sent", &counts.sent),
        ("received", &counts.received),
        ("dropped", &counts.dropped),
        ("leased", &counts.leased),
        ("delayed", &counts.delayed),
        ("redelivered", &counts.redelivered),
        ("expired", &counts.expired),
        ("requests", &counts.requests),
        ("serving", &counts.serving),
        ("discarded", &view.discarded),
        ("memory_used", &view.memory_used),
        ("memory_max", &view.memory_max),
        ("segment_used", &view.segment_used),
        ("segment_max", &view.segment_max),
    ];
    let mut text = lines(&pairs);
    text += &lines(&[("locks", &view.locks), ("waiting_locks", &view.waiting_locks), ("nodes", &view.nodes)]);
    if let Some(connected) = view.engine {
        text += &lines(&[("engine", &connection(connected))]);
    }
    if let Some(store) = &view.store {
        let state = match (&store.broken, store.full) {
            (Some(why), _) => format!("broken: {why}"),
            (None, true) => String::from("full"),
            (None, false) => String::from("ok"),
        };
        text += &lines(&[
            ("store", &state),
            ("store_size", &store.size),
            ("store_live", &store.live),
            ("store_lost", &store.lost),
            ("store_syncs", &store.syncs),
        ]);
    }
    text
}

pub(super) fn mailbox(view: &MailboxView) -> String {
    let counts = view.counts;
    let mut text = lines(&[
        ("depth", &counts.depth),
        ("bytes", &counts.bytes),
        ("waiting_readers", &counts.waiting_readers),
        ("waiting_writers", &counts.waiting_writers),
        ("sent", &counts.sent),
        ("received", &counts.received),
        ("dropped", &counts.dropped),
        ("leased", &counts.leased),
        ("delayed", &counts.delayed),
        ("redelivered", &counts.redelivered),
        ("expired", &counts.expired),
        ("dead_lettered", &counts.dead_lettered),
        ("removed", &counts.removed),
        ("moved_in", &counts.moved_in),
        ("moved_out", &counts.moved_out),
        ("requests", &counts.requests),
        ("serving", &counts.serving),
        ("replied", &counts.replied),
        ("duplicates", &counts.duplicates),
    ]);
    let waited = |percent| span(view.waited.percentile(percent));
    text += &lines(&[
        ("oldest_age", &span(view.oldest_ns)),
        ("waited_p50", &waited(50)),
        ("waited_p99", &waited(99)),
    ]);
    add_waiters(&mut text, &view.waiters, view.now);
    text
}

fn connection(connected: bool) -> &'static str {
    if connected { "connected" } else { "reconnecting" }
}

pub(super) fn remote(view: &RemoteView) -> String {
    let counts = view.counts;
    let writers = view.waiters.iter().filter(|waiter| waiter.writes).count();
    let mut text = lines(&[
        ("engine", &connection(view.connected)),
        ("waiting_readers", &(view.waiters.len() - writers)),
        ("waiting_writers", &writers),
        ("sent", &counts.sent),
        ("received", &counts.received),
        ("leased", &counts.leased),
        ("returned", &counts.returned),
        ("dead_lettered", &counts.dead_lettered),
        ("dropped", &counts.dropped),
        ("removed", &counts.removed),
        ("moved_in", &counts.moved_in),
        ("moved_out", &counts.moved_out),
        ("duplicates", &counts.duplicates),
        ("requests", &counts.requests),
        ("serving", &counts.serving),
        ("replied", &counts.replied),
    ]);
    add_waiters(&mut text, &view.waiters, view.now);
    text
}

/// The text of `control/users/<uid>`.
pub fn user_status(view: &UserView) -> String {
    let mut text = String::new();
    for Usage { resource, used, share, refused } in &view.usage {
        let name = resource.name();
        let share = if *share == NO_LIMIT { String::from("max") } else { share.to_string() };
        let _ = writeln!(text, "{name}_used {used}\n{name}_share {share}\n{name}_refused {refused}");
    }
    text
}

/// Since when they wait is told by the wall clock as it is set now, so that whoever compares it with the time sees how long.
fn add_waiters(text: &mut String, waiters: &[Waiter], now: Now) {
    for waiter in waiters {
        let role = if waiter.writes { "writer" } else { "reader" };
        let Caller { pid, uid, .. } = waiter.caller;
        let since = seconds(now.wall_at(waiter.since));
        let _ = writeln!(text, "waiting {role} pid {pid} uid {uid} since {since}");
    }
}

pub(super) fn topic(view: &TopicView) -> String {
    let counts = view.counts;
    let mut text = lines(&[
        ("readers", &counts.readers),
        ("waiting_readers", &view.waiters.len()),
        ("sent", &counts.sent),
        ("unheard", &counts.unheard),
        ("received", &counts.received),
        ("backlog", &counts.backlog),
        ("dropped", &counts.dropped),
    ]);
    for reader in &view.readers {
        let Caller { pid, uid, .. } = reader.caller;
        let _ = writeln!(
            text,
            "reader pid {pid} uid {uid} backlog {} dropped {}",
            reader.backlog, reader.dropped
        );
    }
    add_waiters(&mut text, &view.waiters, view.now);
    text
}

pub(super) fn segment(view: &SegmentView) -> String {
    let mut text = lines(&[
        ("size", &view.size),
        ("promised", &view.promised),
        ("resident", &view.resident),
        ("openers", &view.openers.len()),
        ("in_use", &view.in_use),
        ("path", &view.path),
    ]);
    for (Caller { pid, uid, .. }, read, write) in &view.openers {
        let mode = match (read, write) {
            (true, true) => "rw",
            (false, true) => "w",
            _ => "r",
        };
        let _ = writeln!(text, "opener pid {pid} uid {uid} mode {mode}");
    }
    text
}

fn lines(pairs: &[(&str, &dyn std::fmt::Display)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        let _ = writeln!(text, "{key} {value}");
    }
    text
}

/// A span of nanoseconds, in seconds.
fn span(nanos: u64) -> String {
    format!("{}.{:06}", nanos / 1_000_000_000, nanos / 1000 % 1_000_000)
}

/// Seconds since 1970, as `date +%s.%3N` prints them.
fn seconds(time: Timestamp) -> String {
    let (seconds, nanos) = time.split();
    format!("{seconds}.{:03}", nanos / 1_000_000)
}
