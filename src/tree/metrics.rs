//! `control/metrics`: which mailboxes it shows to whom.
//!
//! Reading it looks at each mailbox for a moment, like a listing, and waits for no queue.

use std::sync::Arc;

use super::Tree;
use super::kinds::{Inode, MailboxFile};
use super::names::{MAILBOXES, Named as _};
use crate::control::{MailboxFigures, MetricsView, metrics};
use crate::mailbox::Counts;
use crate::op::{Caller, Ino, Now};

/// Most mailboxes with lines of their own: a monitoring system keeps a series for each line that it has ever seen.
const SHOWN: usize = 100;

/// Most names that one reading looks at, so that it keeps its thread for some hundredths of a second at most.
const LOOKED_AT: usize = 100_000;

/// Names that are looked at under one lock.
const PAGE: usize = 256;

/// A longer path cannot be opened; nor can one through more folders than this.
const LONGEST_PATH: usize = 4096;
const DEEPEST: usize = LONGEST_PATH / 2;

/// The mailboxes that a reader may see.
#[derive(Default)]
struct Visible {
    /// At least the [`SHOWN`] largest.
    largest: Vec<(Arc<MailboxFile>, Counts)>,
    count: u64,
    sum: Counts,
}

impl Tree {
    /// The text of `control/metrics` for `reader`.
    pub(crate) fn metrics(&self, reader: Caller, now: Now) -> String {
        let Visible { largest, count, sum } = self.visible_mailboxes(reader);
        let (mut mailboxes, mut others_counts) = (Vec::new(), sum);
        let paths: Vec<Vec<u8>> = {
            // At one moment, so that no two have one path.
            let names = self.names.lock();
            let path =
                |file: &MailboxFile| names.may_reach(file.ino, reader).then(|| names.path_of(file.ino));
            largest.iter().map(|(file, _)| path(file).unwrap_or_default()).collect()
        };
        for ((file, counts), path) in largest.into_iter().zip(paths) {
            // One that was removed meanwhile has none.
            if path.is_empty() || path.len() > LONGEST_PATH {
                continue;
            }
            let (oldest, waited) = {
                let queue = &file.state.lock().queue;
                (queue.oldest(), queue.waited().cloned())
            };
            let oldest_ns = oldest.map(|since| now.moment.since(since));
            others_counts.subtract(&counts);
            mailboxes.push(MailboxFigures { path, counts, oldest_ns, waited });
        }
        let others = count - mailboxes.len() as u64;
        metrics(&MetricsView { mount: self.mount_view(now), mailboxes, others, others_counts })
    }

    /// As the modes of `control/` say: in folders that the reader may read and search, those that are the reader's own, or that
    /// the reader may read or write.
    fn visible_mailboxes(&self, reader: Caller) -> Visible {
        let mut visible = Visible::default();
        let mut folders = vec![(MAILBOXES, 1)];
        let mut left = LOOKED_AT;
        while let Some((folder, depth)) = folders.pop() {
            let mut after = 0;
            loop {
                let page = self.page(folder, after, left.min(PAGE), reader);
                let Some((last, _)) = page.last() else { break };
                after = *last;
                left -= page.len();
                for (_, inode) in page {
                    match inode {
                        Inode::Mailbox(file) => visible.add(file, reader),
                        inode if depth < DEEPEST => {
                            folders.extend(inode.folder().map(|folder| (folder, depth + 1)));
                        }
                        _ => {}
                    }
                }
            }
        }
        visible.keep_largest();
        visible
    }

    fn page(&self, folder: Ino, after: u64, most: usize, reader: Caller) -> Vec<(u64, Inode)> {
        let names = self.names.lock();
        let folder = names.folder(folder).filter(|folder| folder.meta.permits(reader, 5));
        let entries = folder.into_iter().flat_map(|folder| folder.list(after));
        entries.take(most).map(|(cookie, _, inode)| (cookie, inode.clone())).collect()
    }
}

impl Visible {
    fn add(&mut self, file: Arc<MailboxFile>, reader: Caller) {
        let counts = {
            let state = file.state.lock();
            let meta = &state.meta;
            if reader.uid != meta.uid && !meta.permits(reader, 4) && !meta.permits(reader, 2) {
                return;
            }
            state.queue.counts()
        };
        self.count += 1;
        self.sum.add(&counts);
        self.largest.push((file, counts));
        if self.largest.len() > 2 * SHOWN {
            self.keep_largest();
        }
    }

    /// Those with most messages; of those with as many, the busiest.
    fn keep_largest(&mut self) {
        self.largest.sort_unstable_by_key(|(file, counts)| {
            let waiting = counts.waiting_readers + counts.waiting_writers;
            std::cmp::Reverse((counts.depth, counts.bytes, waiting, counts.sent, file.ino.0))
        });
        self.largest.truncate(SHOWN);
    }
}
