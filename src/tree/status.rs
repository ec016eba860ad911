//! `control/status`: the figures of the whole mount.

use std::sync::atomic::Ordering;

use super::Tree;
use super::names::Namespace;
use crate::accounts::Resource;
use crate::control::{MountView, mount_status};
use crate::op::Now;

impl Tree {
    /// The text of `control/status`.
    pub(crate) fn status(&self, now: Now) -> String {
        mount_status(&self.mount_view(now))
    }

    /// Which of the two data paths segments take.
    pub(crate) fn segment_path(&self) -> &'static str {
        if self.setup.backing.is_some() { "passthrough" } else { "cached" }
    }

    pub(super) fn mount_view(&self, now: Now) -> MountView {
        let (count, nodes) = {
            let names = self.names.lock();
            (names.counted(), names.nodes.len() as u64)
        };
        let (topic_readers, topic_backlog) = self.topic_totals.read();
        let (locks, waiting_locks) = {
            let locks = self.locks.lock();
            (locks.held() as u64, locks.waiting() as u64)
        };
        let (counts, since_start) = self.totals.read_all(|file, settled| file.settle(settled));
        MountView {
            pid: self.setup.pid,
            transport: self.setup.transport,
            scheduling: self
                .setup
                .scheduling
                .as_ref()
                .map_or("normal: requests come over /dev/fuse", |s| s.describe()),
            restart: self.setup.restart.as_ref().map_or("off", |restart| restart.describe()),
            segment_path: self.segment_path(),
            uptime_ns: now.moment.since(self.started),
            threads: self.setup.threads,
            folders: count.folders,
            symlinks: count.symlinks,
            mailboxes: count.files_in(Namespace::Mailboxes),
            segments: count.files_in(Namespace::Segments),
            topics: count.files_in(Namespace::Topics),
            topic_readers,
            topic_backlog,
            counts,
            since_start,
            discarded: self.discarded.load(Ordering::Relaxed),
            memory_used: self.memory.used(),
            memory_max: self.memory.limit(),
            segment_used: self.accounts.used(Resource::Segments),
            segment_max: self.accounts.limit(Resource::Segments),
            locks,
            waiting_locks,
            nodes,
            engine: self.setup.engine.then(|| self.remotes.is_connected()),
            store: self.setup.journal.as_ref().map(|journal| journal.figures()),
        }
    }
}
