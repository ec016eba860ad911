//! Who looked a file up and has not opened it yet: that thread may be about to open, to change or to remove it.

use crate::op::Moment;
use crate::state::saved;

/// How long a look-up counts, in nanoseconds. Far longer than unlink(2) needs from its look-up to its lock.
pub(crate) const LOOKUP_WINDOW: u64 = 50_000_000;

/// How long after its look-up an open(2) is believed to have looked the name up, in nanoseconds. Who opens later may have mounted
/// the file elsewhere in between.
const OPEN_WINDOW: u64 = 2_000_000;

/// Threads that may be about to open a mailbox at the same time before that is contention.
const MAX_CONTENDERS: usize = 16;

/// A thread's look-up.
#[derive(Debug, Clone, Copy, Default)]
struct Lookup {
    pid: u32,
    /// 0 for none.
    at: Moment,
}

saved!(struct Lookup { pid, at });

impl Lookup {
    fn is_recent(&self, now: Moment) -> bool {
        self.at.0 > 0 && now < self.at.after(LOOKUP_WINDOW)
    }
}

/// The last two threads that looked a file up and have not opened it, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RecentLookups {
    last: Lookup,
    before: Lookup,
    /// When the last look-up was by a thread that is no longer among the two.
    earlier: Moment,
    /// A thread looked it up that was refused before, and must not be refused again.
    by_refused: bool,
}

saved!(struct RecentLookups { last, before, earlier, by_refused });

impl RecentLookups {
    /// Thread `pid` looks it up.
    pub(crate) fn note(&mut self, pid: u32, now: Moment) {
        if self.before.pid == pid {
            self.before = Lookup::default();
        }
        if self.last.pid != pid && self.last.at.0 > 0 {
            self.earlier = self.earlier.max(self.before.at);
            self.before = self.last;
        }
        self.last = Lookup { pid, at: now };
    }

    /// A thread that was refused before has looked it up.
    pub(crate) fn note_refused(&mut self) {
        self.by_refused = true;
    }

    /// Thread `pid` is one of the two, and no longer ago than an open(2) takes.
    pub(crate) fn are_by(&self, pid: u32, now: Moment) -> bool {
        let is_recent = |lookup: &Lookup| now < lookup.at.after(OPEN_WINDOW);
        [self.last, self.before]
            .iter()
            .any(|lookup| lookup.pid == pid && lookup.at.0 > 0 && is_recent(lookup))
    }

    /// Thread `pid` opens it. True if it has looked it up just now.
    pub(crate) fn end(&mut self, pid: u32, now: Moment) -> bool {
        let is_by = self.are_by(pid, now);
        self.clear(pid);
        is_by
    }

    /// Thread `pid` has opened it, or is done with it.
    pub(crate) fn clear(&mut self, pid: u32) {
        for lookup in [&mut self.last, &mut self.before] {
            if lookup.pid == pid {
                *lookup = Lookup::default();
            }
        }
    }

    /// When it is removed now, one thread does that, and another may be about to open it: two have looked it up recently.
    /// However long ago, if that other was refused before.
    pub(crate) fn meet(&self, now: Moment) -> bool {
        self.by_refused || (self.last.is_recent(now) && self.before.is_recent(now))
    }

    /// Another thread than `pid` has looked it up recently.
    pub(crate) fn are_by_another(&self, pid: u32, now: Moment) -> bool {
        [self.last, self.before].iter().any(|lookup| lookup.pid != pid && lookup.is_recent(now))
            || Lookup { pid: 0, at: self.earlier }.is_recent(now)
    }
}

/// The threads that are about to open a mailbox, to tell whether they are many.
#[derive(Debug, Default)]
pub(crate) struct Contenders {
    threads: Vec<Lookup>,
    until: Moment,
}

saved!(struct Contenders { threads, until });

impl Contenders {
    /// Thread `pid` looks it up. True if that makes contention, or there was contention recently.
    pub(crate) fn joined_by(&mut self, pid: u32, now: Moment) -> bool {
        if let Some(known) = self.threads.iter_mut().find(|lookup| lookup.pid == pid) {
            known.at = now;
            return now < self.until;
        }
        if self.threads.len() == MAX_CONTENDERS {
            self.threads.retain(|lookup| lookup.is_recent(now));
        }
        if self.threads.len() < MAX_CONTENDERS {
            self.threads.push(Lookup { pid, at: now });
        } else {
            self.until = now.after(LOOKUP_WINDOW);
        }
        now < self.until
    }

    /// Thread `pid` has opened it.
    pub(crate) fn left_by(&mut self, pid: u32) {
        self.threads.retain(|lookup| lookup.pid != pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment(1_000 * LOOKUP_WINDOW as i64);
    const LATER: Moment = Moment(START.0 + LOOKUP_WINDOW as i64);

    #[test]
    fn no_thread_is_another_to_itself() {
        let mut lookups = RecentLookups::default();
        assert!(!lookups.are_by_another(1, START));
        lookups.note(1, START);
        lookups.note(1, START);
        assert!(!lookups.are_by_another(1, START) && lookups.are_by_another(2, START));
        assert!(!lookups.are_by_another(2, LATER));
        lookups.clear(1);
        assert!(!lookups.are_by_another(2, START));
    }

    #[test]
    fn a_third_is_not_forgotten_when_the_other_two_have_opened() {
        let mut lookups = RecentLookups::default();
        for pid in 1..=3 {
            lookups.note(pid, START);
        }
        lookups.clear(2);
        lookups.clear(3);
        assert!(lookups.are_by_another(2, START));
        assert!(!lookups.are_by_another(2, LATER));
    }

    #[test]
    fn a_thread_that_opens_it_displaces_no_other() {
        let mut lookups = RecentLookups::default();
        lookups.note(1, START);
        lookups.note(2, START);
        lookups.clear(2);
        lookups.note(3, START);
        assert!(lookups.meet(START) && lookups.are_by_another(3, START));
        lookups.clear(3);
        lookups.note(1, START);
        assert!(!lookups.meet(START) && !lookups.are_by_another(1, START));
    }

    #[test]
    fn two_that_take_turns_are_two() {
        let mut lookups = RecentLookups::default();
        for pid in [1, 2, 1, 2, 1] {
            lookups.note(pid, START);
        }
        assert!(lookups.meet(START) && !lookups.meet(LATER));
        lookups.clear(1);
        assert!(!lookups.are_by_another(2, START) && !lookups.meet(START));
    }

    #[test]
    fn a_thread_that_was_refused_before_counts_however_late_it_is() {
        let mut lookups = RecentLookups::default();
        lookups.note(1, START);
        lookups.note_refused();
        lookups.note(2, LATER);
        assert!(lookups.meet(LATER) && !lookups.are_by_another(2, LATER));
    }

    #[test]
    fn it_takes_many_at_once_to_make_contention() {
        let mut contenders = Contenders::default();
        for _ in 0..3 {
            assert!(
                (0..MAX_CONTENDERS as u32).all(|pid| !contenders.joined_by(pid, START)),
                "as many as there are allowed"
            );
        }
        contenders.left_by(3);
        assert!(!contenders.joined_by(100, START), "one has gone");
        assert!(contenders.joined_by(101, START));
        contenders.left_by(4);
        assert!(contenders.joined_by(102, START), "contention lasts for a while");
        assert!(!contenders.joined_by(103, LATER));
        assert!(contenders.threads.len() <= MAX_CONTENDERS);
    }
}
