//! One of the kernel's queues, as its ring's thread knows it: entries that carry a request, and whether other requests may
//! be left lying.
//!
//! The kernel puts a request into a free entry. Where there is none it leaves the request lying, and looks at what lies there
//! only when an entry goes back with an answer: that one takes the first of them along. So
//!
//! - as long as no entries are added, none is free while a request lies;
//! - entries that are *added* are free beside whatever lies there by then. Then a *pump* is sent: a request of our own
//!   making (`NOTIFY_RETRIEVE`, whose `NOTIFY_REPLY` is one), whose answer makes the kernel look. So does any other answer;
//! - each answer takes one request along, and that is answered too, or waits and has the next pump sent. The last one
//!   finds nothing.

use std::time::{Duration, Instant};

use crate::op::NodeId;

/// Entries that are free at least, as far as their thread can see to it.
const FREE: u32 = 16;
/// Entries that stay free when no more can be added: a call that would wait in one of them fails with ENOMEM.
const LAST_FREE: u32 = 2;
/// Most entries that are added at a time.
const MOST_ADDED: u32 = 256;
/// Most entries, thus callers that can wait on one CPU. Each takes up to a page of memory, and a mebibyte of address space.
const MAX_WAITING: u32 = 65_536;

/// How long a pump may be on its way. It is lost where its queue's CPU goes offline just then.
const PUMP_AGAIN: Duration = Duration::from_millis(100);
/// Pumps have this bit in their number. The kernel's own requests never do: it counts them.
const PUMP: u64 = 1 << 62;

/// A queue's counts.
#[derive(Debug)]
pub(super) struct Queue {
    id: u16,
    entries: u32,
    /// Entries whose request is not answered.
    held: u32,
    /// Answers of this round whose entry did not come back with another request: it found none.
    given: u32,
    /// Rounds end with each turn of the ring, and whenever entries are added.
    round: u64,
    /// Requests may lie beside free entries.
    stuck: bool,
    /// Node of the request that was made to wait last: the kernel knows it at least for as long as that waits.
    known: Option<NodeId>,
    /// When to send the next pump.
    due: Instant,
    /// Pumps so far.
    pumps: u64,
}

/// When an entry went back: in which of its queue's rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Round(u64);

impl Queue {
    /// Without entries. Those that it starts with are added as requests may already come.
    pub(super) fn new(id: u16, now: Instant) -> Queue {
        let (entries, held, given, round, pumps) = (0, 0, 0, 1, 0);
        Queue { id, entries, held, given, round, stuck: true, known: None, due: now, pumps }
    }

    /// The CPU whose requests it has.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// Entries were added.
    pub(super) fn grew(&mut self, count: u32, now: Instant) {
        self.entries += count;
        // What went back before may have found nothing and become free, and requests may have come since.
        self.end_round();
        self.stuck = true;
        // A pump on its way may be one of those that lie there.
        self.due = now;
    }

    /// An entry is the kernel's no more, and has no request. False if it was the last: there is nobody to serve.
    pub(super) fn lost(&mut self, went: Round) -> bool {
        self.entries = self.entries.saturating_sub(1);
        self.take_back(went);
        self.entries > 0
    }

    /// An entry came with a request, that last `went` back.
    pub(super) fn came(&mut self, went: Round) {
        self.held += 1;
        self.take_back(went);
    }

    /// An entry goes back with an answer.
    pub(super) fn went(&mut self) -> Round {
        self.held = self.held.saturating_sub(1);
        self.given += 1;
        Round(self.round)
    }

    /// A request waits, of a plain file.
    pub(super) fn waits(&mut self, node: NodeId) {
        self.known = Some(node);
    }

    /// How many entries to add now that one more request waits.
    pub(super) fn wanted(&self) -> u32 {
        if self.entries.saturating_sub(self.held) >= FREE {
            return 0;
        }
        self.entries.min(MOST_ADDED).min(MAX_WAITING.saturating_sub(self.entries))
    }

    /// Whether there is room for one more request that waits, if none can be added.
    pub(super) fn has_room(&self) -> bool {
        self.held + LAST_FREE < self.entries
    }

    /// All that the kernel did in a turn has been told. `settled` if it was also handed all answers.
    pub(super) fn turned(&mut self, settled: bool) {
        if settled && self.given > 0 {
            self.stuck = false;
        }
        self.end_round();
    }

    /// When a pump is to be sent, if something lies there that nothing else will move.
    pub(super) fn due(&self) -> Option<Instant> {
        let needed = self.stuck && self.known.is_some() && self.given == 0 && self.held < self.entries;
        needed.then_some(self.due)
    }

    /// A pump to be sent now: its number, and a node that the kernel knows.
    pub(super) fn pump(&mut self, now: Instant) -> Option<(u64, NodeId)> {
        let known = self.known.filter(|_| self.due().is_some_and(|due| due <= now))?;
        self.due = now + PUMP_AGAIN;
        self.pumps += 1;
        // The kernel finds requests by their numbers, which are even.
        Some((PUMP | u64::from(self.id) << 40 | (self.pumps << 1) & ((1 << 40) - 1), known))
    }

    /// Whether a request is a pump, by its number.
    pub(super) fn is_pump(unique: u64) -> bool {
        unique & PUMP != 0
    }

    /// A pump came.
    pub(super) fn pumped(&mut self, now: Instant) {
        self.due = now;
    }

    /// The kernel does not know the node of a pump: the request that waited last has been answered, since entries were
    /// added. That took one request along, if there was any.
    pub(super) fn is_answered(&mut self) {
        self.stuck = false;
    }

    fn take_back(&mut self, went: Round) {
        if went == Round(self.round) {
            self.given = self.given.saturating_sub(1);
        }
    }

    fn end_round(&mut self) {
        self.given = 0;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use super::*;

    const NODE: NodeId = NodeId(7);

    /// What a request is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Quick,
        Waits,
        Pump,
    }

    /// The kernel's side of a queue, its ring's thread, and callers who come at any moment: also while the thread is in the
    /// middle of something.
    struct Machine {
        queue: Queue,
        now: Instant,
        /// Where decisions come from, and how many are left: then it is always the first choice.
        random: u64,
        decisions: u32,
        /// One moment in so many has callers come, one of so many is answered at once, one turn in so many ends waits.
        rare: [u64; 3],
        /// Entries that are free, as a stack, and those that were given back and not handed over.
        free: Vec<u32>,
        given: VecDeque<u32>,
        /// Requests without an entry.
        lying: VecDeque<Kind>,
        /// In an entry, on their way to the thread; and there.
        dispatched: VecDeque<(u32, Kind)>,
        told: VecDeque<(u32, Kind)>,
        /// Of each entry.
        went: HashMap<u32, Round>,
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
                given: VecDeque::new(),
                lying: VecDeque::new(),
                dispatched: VecDeque::new(),
                told: VecDeque::new(),
                went: HashMap::new(),
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

        /// A caller's request, or a pump.
        fn send(&mut self, kind: Kind) {
            match self.free.pop() {
                Some(entry) => self.dispatched.push_back((entry, kind)),
                None => self.lying.push_back(kind),
            }
        }

        /// Callers may come.
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
                self.hand_over();
                // Nothing comes this way before it has an entry.
                if self.entries > 0 {
                    self.moment();
                }
                self.free.push(self.entries);
                self.entries += 1;
            }
            self.queue.grew(count, self.now);
        }

        /// Answers reach the kernel, each of which looks at what lies there.
        fn hand_over(&mut self) {
            while let Some(entry) = self.given.pop_front() {
                match self.lying.pop_front() {
                    Some(kind) => self.told.push_back((entry, kind)),
                    None => self.free.push(entry),
                }
                self.moment();
            }
        }

        fn answer(&mut self, entry: u32) {
            let went = self.queue.went();
            self.went.insert(entry, went);
            self.given.push_back(entry);
        }

        /// One turn of the thread. False if there is nothing more to do, ever, unless somebody comes.
        fn turn(&mut self) -> bool {
            let settled = self.choose(8) != 1;
            if settled {
                self.hand_over();
            }
            self.moment();
            // It is told of a few at a time.
            let limit = 20 - self.choose(20) as usize;
            let told = limit.min(self.dispatched.len());
            self.told.extend(self.dispatched.drain(..told));
            self.moment();
            if self.told.is_empty() && self.dispatched.is_empty() && settled {
                let Some(due) = self.queue.due() else { return false };
                assert!(due <= self.now, "a pump lies there itself");
            }
            let arrived = std::mem::take(&mut self.told);
            for (entry, _) in &arrived {
                self.queue.came(self.went.remove(entry).unwrap_or_default());
            }
            self.queue.turned(settled);
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
            if let Some((unique, node)) = self.queue.pump(self.now) {
                assert!(Queue::is_pump(unique) && unique % 2 == 0 && node == NODE);
                self.send(Kind::Pump);
            }
            true
        }

        fn receive(&mut self, entry: u32, kind: Kind) {
            match kind {
                Kind::Quick => self.answer(entry),
                Kind::Pump => {
                    self.queue.pumped(self.now);
                    self.answer(entry);
                }
                Kind::Waits => {
                    self.waiting.push(entry);
                    self.queue.waits(NODE);
                    let wanted = self.queue.wanted();
                    if wanted > 0 {
                        self.grow(wanted);
                    }
                }
            }
        }
    }

    /// Whoever comes, and when: when all is quiet, nobody lies in the queue, and the counts are right.
    #[test]
    fn nobody_is_left_lying() {
        for n in 0..10_000u64 {
            let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut machine = Machine::new(seed);
            while machine.turn() {}
            assert_eq!(machine.lying.len(), 0, "seed {seed}");
            assert_eq!(machine.queue.held as usize, machine.waiting.len(), "seed {seed}");
            assert_eq!(machine.queue.entries, machine.entries, "seed {seed}");
            assert_eq!(machine.free.len() + machine.waiting.len(), machine.entries as usize, "seed {seed}");
        }
    }

    /// Its entry was free before they were there: that it does not come back with a request says nothing of those that lie
    /// there now.
    #[test]
    fn an_answer_given_before_entries_were_added_is_no_proof() {
        let now = Instant::now();
        let mut queue = Queue::new(0, now);
        queue.grew(4, now);
        queue.came(Round::default());
        queue.came(Round::default());
        queue.turned(true);
        queue.went();
        queue.waits(NODE);
        queue.grew(4, now);
        queue.turned(true);
        assert!(queue.due().is_some());
        queue.came(Round::default());
        queue.went();
        queue.turned(true);
        assert!(queue.due().is_none(), "this one found nothing");
    }

    #[test]
    fn a_queue_has_its_limits() {
        let now = Instant::now();
        let mut queue = Queue::new(3, now);
        queue.grew(MAX_WAITING, now);
        for _ in 0..MAX_WAITING - FREE {
            queue.came(Round::default());
        }
        assert_eq!((queue.wanted(), queue.has_room()), (0, true));
        for _ in 0..FREE - LAST_FREE {
            queue.came(Round::default());
        }
        assert_eq!((queue.wanted(), queue.has_room()), (0, false));
        for left in (0..MAX_WAITING).rev() {
            assert_eq!(queue.lost(Round::default()), left > 0);
        }
    }

    #[test]
    fn a_pump_that_is_lost_is_sent_again() {
        let mut now = Instant::now();
        let mut queue = Queue::new(3, now);
        queue.grew(2, now);
        assert_eq!(queue.due(), None, "nobody waits yet");
        queue.came(Round::default());
        queue.waits(NODE);
        queue.turned(true);
        let (first, _) = queue.pump(now).unwrap();
        assert!(queue.pump(now).is_none());
        now = queue.due().unwrap();
        let (second, _) = queue.pump(now).unwrap();
        assert_ne!(first, second, "both may be on their way");
        queue.is_answered();
        assert_eq!(queue.due(), None);
    }
}
