//! One of the kernel's request queues, as the thread that serves its ring sees it: how many entries it has, and whether
//! requests may be stalled in it.
//!
//! The kernel puts a request into a free entry. If no entry is free, the request stays pending, and the kernel looks at
//! pending requests only when an answer is committed: that entry then carries the first pending request. Therefore:
//!
//! - As long as no entries are added, no entry is free while a request is pending.
//! - Entries that are *added* are free while requests that came before them are still pending. A *kick* resolves this:
//!   a request that the daemon causes itself (`NOTIFY_RETRIEVE`, which the kernel answers with a `NOTIFY_REPLY` request).
//!   Answering it makes the kernel look at its pending requests. Any other answer does the same.
//! - Each answer moves one pending request into an entry. That request is answered too, or it waits and causes the next
//!   kick. The last answer finds no pending request.

use std::time::{Duration, Instant};

use crate::op::NodeId;

/// Free entries below which more are added.
const MIN_FREE: u32 = 16;
/// Entries kept free when no more can be added: a call that would wait in one of them fails with ENOMEM.
const RESERVED_FREE: u32 = 2;
/// Most entries that are added at a time.
const MAX_ADDED: u32 = 256;
/// Most entries of a queue, and so most callers that can wait on one CPU. Each entry takes up to a page of memory, and
/// 1 MiB of address space.
const MAX_ENTRIES: u32 = 65_536;

/// Time after which a kick that has not arrived is sent again. It is lost if its queue's CPU goes offline meanwhile.
const KICK_TIMEOUT: Duration = Duration::from_millis(100);
/// Bit that marks the request number of a kick. The kernel counts its own requests from 0 and never reaches it.
const KICK: u64 = 1 << 62;

/// Counts of one queue.
#[derive(Debug)]
pub(super) struct Queue {
    id: u16,
    entries: u32,
    /// Entries whose request is not answered yet.
    in_use: u32,
    /// Answers committed in this epoch whose entry has not come back with another request: they found none pending.
    answered: u32,
    epoch: Epoch,
    /// Requests may be pending although entries are free.
    stalled: bool,
    /// Node of the request that began to wait last. The kernel knows that node at least until the request is answered.
    known: Option<NodeId>,
    /// When to send the next kick.
    kick_due: Instant,
    /// Kicks sent so far.
    kicks: u64,
}

/// A period in a queue's life. It ends with each turn of the ring's thread, and when entries are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Epoch(u64);

impl Queue {
    /// A queue without entries. It may be stalled from the start: requests may come while its first entries are added.
    pub(super) fn new(id: u16, now: Instant) -> Queue {
        Queue {
            id,
            entries: 0,
            in_use: 0,
            answered: 0,
            // The default epoch, 0, is that of entries that never carried an answer.
            epoch: Epoch(1),
            stalled: true,
            known: None,
            kick_due: now,
            kicks: 0,
        }
    }

    /// Number of the CPU whose requests this queue carries.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Number of entries.
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// Records that `count` entries were added.
    pub(super) fn entries_added(&mut self, count: u32, now: Instant) {
        self.entries += count;
        // Answers committed before may have found no pending request, and requests may have come since.
        self.end_epoch();
        self.stalled = true;
        // A kick that was sent before may be one of the pending requests.
        self.kick_due = now;
    }

    /// Records that the kernel returned an entry without a request, for good. Its last answer was committed in `epoch`.
    /// False if it was the last entry: then the queue serves nobody.
    pub(super) fn entry_lost(&mut self, epoch: Epoch) -> bool {
        self.entries = self.entries.saturating_sub(1);
        self.uncount(epoch);
        self.entries > 0
    }

    /// Records that an entry came with a request. Its last answer was committed in `epoch`.
    pub(super) fn request_arrived(&mut self, epoch: Epoch) {
        self.in_use += 1;
        self.uncount(epoch);
    }

    /// Records that an answer is committed, and returns the epoch to remember for its entry.
    pub(super) fn answer_committed(&mut self) -> Epoch {
        self.in_use = self.in_use.saturating_sub(1);
        self.answered += 1;
        self.epoch
    }

    /// Records that a request for `node`, a plain file, waits.
    pub(super) fn request_waits(&mut self, node: NodeId) {
        self.known = Some(node);
    }

    /// Number of entries to add now that one more request waits.
    pub(super) fn entries_to_add(&self) -> u32 {
        if self.entries.saturating_sub(self.in_use) >= MIN_FREE {
            return 0;
        }
        self.entries.min(MAX_ADDED).min(MAX_ENTRIES.saturating_sub(self.entries))
    }

    /// Whether one more request may wait if no entries can be added.
    pub(super) fn has_room(&self) -> bool {
        self.in_use + RESERVED_FREE < self.entries
    }

    /// Records the end of a turn: all completions have been seen. `submitted` says whether the kernel also has all
    /// answers.
    pub(super) fn turn_ended(&mut self, submitted: bool) {
        if submitted && self.answered > 0 {
            self.stalled = false;
        }
        self.end_epoch();
    }

    /// When to send a kick; `None` if nothing may be stalled, or something else will move it.
    pub(super) fn kick_due(&self) -> Option<Instant> {
        let needed = self.stalled && self.known.is_some() && self.answered == 0 && self.in_use < self.entries;
        needed.then_some(self.kick_due)
    }

    /// The kick to send now, if one is due: its request number, and a node that the kernel knows.
    pub(super) fn take_kick(&mut self, now: Instant) -> Option<(u64, NodeId)> {
        let known = self.known.filter(|_| self.kick_due().is_some_and(|due| due <= now))?;
        self.kick_due = now + KICK_TIMEOUT;
        Some((self.next_kick(), known))
    }

    /// The number of a kick that is to fill an entry.
    pub(super) fn next_kick(&mut self) -> u64 {
        self.kicks += 1;
        // The kernel finds requests by their numbers, which are even.
        KICK | u64::from(self.id) << 40 | (self.kicks << 1) & ((1 << 40) - 1)
    }

    /// Entries that the kernel has.
    pub(super) fn idle(&self) -> u32 {
        self.entries.saturating_sub(self.in_use)
    }

    /// Number of kicks sent so far.
    pub(super) fn kicks(&self) -> u64 {
        self.kicks
    }

    /// The same queue in another process, before its entries are added. `kicks` were sent so far, and some may be pending.
    pub(super) fn take_over(id: u16, kicks: u64, now: Instant) -> Queue {
        Queue { kicks, ..Queue::new(id, now) }
    }

    /// Whether a request is a kick, by its number.
    pub(super) fn is_kick(unique: u64) -> bool {
        unique & KICK != 0
    }

    /// Records that a kick arrived.
    pub(super) fn kick_arrived(&mut self, now: Instant) {
        self.kick_due = now;
    }

    /// Records that the kernel does not know the node of a kick. Then the request that waited last has been answered
    /// since entries were added, and that answer moved a pending request, if there was one.
    pub(super) fn kick_refused(&mut self) {
        self.stalled = false;
    }

    fn uncount(&mut self, epoch: Epoch) {
        if epoch == self.epoch {
            self.answered = self.answered.saturating_sub(1);
        }
    }

    fn end_epoch(&mut self) {
        self.answered = 0;
        self.epoch = Epoch(self.epoch.0 + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use super::*;

    const NODE: NodeId = NodeId(7);

    /// What becomes of a request.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Quick,
        Waits,
        Kick,
    }

    /// A model of the kernel's side of a queue, of the thread that serves its ring, and of callers, who may come at any
    /// moment, also while the thread is in the middle of something.
    struct Machine {
        queue: Queue,
        now: Instant,
        /// State of the random number generator, and how many random choices are left. After that the first choice is
        /// always taken, so that the run ends.
        random: u64,
        decisions: u32,
        /// One in how many moments has callers come, one in how many requests is answered at once, and one in how many
        /// turns ends waits.
        rare: [u64; 3],
        /// Free entries, as a stack.
        free: Vec<u32>,
        /// Entries whose answer is committed but not yet submitted.
        committed: VecDeque<u32>,
        /// Requests without an entry.
        pending: VecDeque<Kind>,
        /// Requests in an entry whose completion the thread has not seen yet, and those that it has.
        dispatched: VecDeque<(u32, Kind)>,
        completed: VecDeque<(u32, Kind)>,
        /// Epoch of each entry's last answer.
        epochs: HashMap<u32, Epoch>,
        waiting: Vec<u32>,
        entries: u32,
    }

    impl Machine {
        fn new(seed: u64) -> Machine {
            let now = Instant::now();
            let mut machine = Machine {
                queue: Queue::new(0, now),
                now,
                random: seed | 1,
                decisions: (seed % 4_000) as u32,
                rare: [3 + (seed >> 12) % 64, 2 + (seed >> 24) % 30, 1 + (seed >> 36) % 30],
                free: Vec::new(),
                committed: VecDeque::new(),
                pending: VecDeque::new(),
                dispatched: VecDeque::new(),
                completed: VecDeque::new(),
                epochs: HashMap::new(),
                waiting: Vec::new(),
                entries: 0,
            };
            machine.grow(2);
            machine
        }

        /// Less than `of`.
        fn choose(&mut self, of: u64) -> u64 {
            let Some(left) = self.decisions.checked_sub(1) else { return 0 };
            self.decisions = left;
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random % of
        }

        /// A request from a caller, or a kick.
        fn send(&mut self, kind: Kind) {
            match self.free.pop() {
                Some(entry) => self.dispatched.push_back((entry, kind)),
                None => self.pending.push_back(kind),
            }
        }

        /// A moment at which callers may come.
        fn moment(&mut self) {
            let count = match self.choose(self.rare[0]) {
                1 => self.choose(4),
                2 => self.choose(64),
                _ => 0,
            };
            for _ in 0..count {
                let kind = if self.choose(self.rare[1]) == 0 { Kind::Quick } else { Kind::Waits };
                self.send(kind);
            }
        }

        fn grow(&mut self, count: u32) {
            for _ in 0..count {
                self.submit();
                // The kernel sends no requests this way before there is an entry.
                if self.entries > 0 {
                    self.moment();
                }
                self.free.push(self.entries);
                self.entries += 1;
            }
            self.queue.entries_added(count, self.now);
        }

        /// Submits all answers. With each, the kernel looks at its pending requests.
        fn submit(&mut self) {
            while let Some(entry) = self.committed.pop_front() {
                match self.pending.pop_front() {
                    Some(kind) => self.completed.push_back((entry, kind)),
                    None => self.free.push(entry),
                }
                self.moment();
            }
        }

        fn answer(&mut self, entry: u32) {
            let epoch = self.queue.answer_committed();
            self.epochs.insert(entry, epoch);
            self.committed.push_back(entry);
        }

        /// One turn of the thread. False if nothing more will happen unless another caller comes.
        fn turn(&mut self) -> bool {
            let submitted = self.choose(8) != 1;
            if submitted {
                self.submit();
            }
            self.moment();
            // It sees a few completions at a time.
            let limit = 20 - self.choose(20) as usize;
            let seen = limit.min(self.dispatched.len());
            self.completed.extend(self.dispatched.drain(..seen));
            self.moment();
            if self.completed.is_empty() && self.dispatched.is_empty() && submitted {
                let Some(due) = self.queue.kick_due() else { return false };
                assert!(due <= self.now, "the kick itself is stalled");
            }
            let arrived = std::mem::take(&mut self.completed);
            for (entry, _) in &arrived {
                self.queue.request_arrived(self.epochs.remove(entry).unwrap_or_default());
            }
            self.queue.turn_ended(submitted);
            for (entry, kind) in arrived {
                self.receive(entry, kind);
                self.moment();
            }
            if self.choose(self.rare[2]) == 1 {
                for _ in 0..self.choose(3).min(self.waiting.len() as u64) {
                    let index = self.choose(self.waiting.len() as u64) as usize;
                    let entry = self.waiting.swap_remove(index);
                    self.answer(entry);
                }
            }
            if let Some((unique, node)) = self.queue.take_kick(self.now) {
                assert!(Queue::is_kick(unique) && unique % 2 == 0 && node == NODE);
                self.send(Kind::Kick);
            }
            true
        }

        fn receive(&mut self, entry: u32, kind: Kind) {
            match kind {
                Kind::Quick => self.answer(entry),
                Kind::Kick => {
                    self.queue.kick_arrived(self.now);
                    self.answer(entry);
                }
                Kind::Waits => {
                    self.waiting.push(entry);
                    self.queue.request_waits(NODE);
                    let wanted = self.queue.entries_to_add();
                    if wanted > 0 {
                        self.grow(wanted);
                    }
                }
            }
        }
    }

    /// Whatever the order of events: once nothing happens any more, no request is pending, and the counts are right.
    #[test]
    fn no_request_stays_pending() {
        for n in 0..10_000u64 {
            let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut machine = Machine::new(seed);
            while machine.turn() {}
            assert_eq!(machine.pending.len(), 0, "seed {seed}");
            assert_eq!(machine.queue.in_use as usize, machine.waiting.len(), "seed {seed}");
            assert_eq!(machine.queue.entries, machine.entries, "seed {seed}");
            assert_eq!(machine.free.len() + machine.waiting.len(), machine.entries as usize, "seed {seed}");
        }
    }

    /// An answer committed before entries were added proves nothing: if its entry comes back without a request, requests
    /// may have become pending since.
    #[test]
    fn an_answer_committed_before_entries_were_added_is_no_proof() {
        let now = Instant::now();
        let mut queue = Queue::new(0, now);
        queue.entries_added(4, now);
        queue.request_arrived(Epoch::default());
        queue.request_arrived(Epoch::default());
        queue.turn_ended(true);
        queue.answer_committed();
        queue.request_waits(NODE);
        queue.entries_added(4, now);
        queue.turn_ended(true);
        assert!(queue.kick_due().is_some());
        queue.request_arrived(Epoch::default());
        queue.answer_committed();
        queue.turn_ended(true);
        assert!(queue.kick_due().is_none(), "this answer found no pending request");
    }

    #[test]
    fn a_queue_is_bounded() {
        let now = Instant::now();
        let mut queue = Queue::new(3, now);
        queue.entries_added(MAX_ENTRIES, now);
        for _ in 0..MAX_ENTRIES - MIN_FREE {
            queue.request_arrived(Epoch::default());
        }
        assert_eq!((queue.entries_to_add(), queue.has_room()), (0, true));
        for _ in 0..MIN_FREE - RESERVED_FREE {
            queue.request_arrived(Epoch::default());
        }
        assert_eq!((queue.entries_to_add(), queue.has_room()), (0, false));
        for left in (0..MAX_ENTRIES).rev() {
            assert_eq!(queue.entry_lost(Epoch::default()), left > 0);
        }
    }

    #[test]
    fn a_lost_kick_is_sent_again() {
        let mut now = Instant::now();
        let mut queue = Queue::new(3, now);
        queue.entries_added(2, now);
        assert_eq!(queue.kick_due(), None, "no request waits yet");
        queue.request_arrived(Epoch::default());
        queue.request_waits(NODE);
        queue.turn_ended(true);
        let (first, _) = queue.take_kick(now).unwrap();
        assert!(queue.take_kick(now).is_none());
        now = queue.kick_due().unwrap();
        let (second, _) = queue.take_kick(now).unwrap();
        assert_ne!(first, second, "both may be on their way");
        queue.kick_refused();
        assert_eq!(queue.kick_due(), None);
    }
}
