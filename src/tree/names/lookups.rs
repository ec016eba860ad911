//! Who looked a file up and has not opened it: he may be about to open, to change or to remove it.

use crate::op::Timestamp;

/// How long a look-up counts, in nanoseconds. Far longer than unlink(2) needs from its look-up to its lock.
pub(crate) const LOOKUP_WINDOW: u64 = 50_000_000;

/// Threads at once that make a crowd.
const CROWD: usize = 16;

/// A thread's look-up.
#[derive(Debug, Clone, Copy, Default)]
struct RecentLookup {
    pid: u32,
    /// 1970 for none.
    at: Timestamp,
}

impl RecentLookup {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.at.0 > 0 && now.0 < self.at.0.saturating_add(LOOKUP_WINDOW)
    }
}

/// The last two threads that looked a file up and have not opened it, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RecentLookups {
    last: RecentLookup,
    before: RecentLookup,
    /// When the last of those did who are not among the two any more.
    earlier: Timestamp,
}

impl RecentLookups {
    pub(crate) fn note(&mut self, pid: u32, now: Timestamp) {
        if self.before.pid == pid {
            self.before = RecentLookup::default();
        }
        if self.last.pid != pid && self.last.at.0 > 0 {
            self.earlier = self.earlier.max(self.before.at);
            self.before = self.last;
        }
        self.last = RecentLookup { pid, at: now };
    }

    /// `pid` has opened it, or is done with it.
    pub(crate) fn clear(&mut self, pid: u32) {
        for glance in [&mut self.last, &mut self.before] {
            if glance.pid == pid {
                *glance = RecentLookup::default();
            }
        }
    }

    /// Two have looked it up just now. When it is removed, one of them does that, and the other may be about to open it.
    pub(crate) fn meet(&self, now: Timestamp) -> bool {
        self.last.is_fresh(now) && self.before.is_fresh(now)
    }

    /// Another than `pid` has looked it up just now.
    pub(crate) fn are_by_another(&self, pid: u32, now: Timestamp) -> bool {
        [self.last, self.before].iter().any(|glance| glance.pid != pid && glance.is_fresh(now))
            || RecentLookup { pid: 0, at: self.earlier }.is_fresh(now)
    }
}

/// Whether many threads are about to open a mailbox at the same time.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    threads: Vec<RecentLookup>,
    until: Timestamp,
}

impl Crowd {
    /// Thread `pid` looks it up. True if that makes a crowd, or there was one just now.
    pub(crate) fn joined_by(&mut self, pid: u32, now: Timestamp) -> bool {
        if let Some(known) = self.threads.iter_mut().find(|glance| glance.pid == pid) {
            known.at = now;
            return now < self.until;
        }
        if self.threads.len() == CROWD {
            self.threads.retain(|glance| glance.is_fresh(now));
        }
        if self.threads.len() < CROWD {
            self.threads.push(RecentLookup { pid, at: now });
        } else {
            self.until = Timestamp(now.0.saturating_add(LOOKUP_WINDOW));
        }
        now < self.until
    }

    /// Thread `pid` has opened it.
    pub(crate) fn left_by(&mut self, pid: u32) {
        self.threads.retain(|glance| glance.pid != pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000 * LOOKUP_WINDOW);
    const LATER: Timestamp = Timestamp(START.0 + LOOKUP_WINDOW);

    #[test]
    fn nobody_is_another_to_himself() {
        let mut glances = RecentLookups::default();
        assert!(!glances.are_by_another(1, START));
        glances.note(1, START);
        glances.note(1, START);
        assert!(!glances.are_by_another(1, START) && glances.are_by_another(2, START));
        assert!(!glances.are_by_another(2, LATER));
        glances.clear(1);
        assert!(!glances.are_by_another(2, START));
    }

    #[test]
    fn a_third_is_not_forgotten_when_the_other_two_have_opened() {
        let mut glances = RecentLookups::default();
        for pid in 1..=3 {
            glances.note(pid, START);
        }
        glances.clear(2);
        glances.clear(3);
        assert!(glances.are_by_another(2, START));
        assert!(!glances.are_by_another(2, LATER));
    }

    #[test]
    fn who_opens_it_takes_nobody_elses_place() {
        let mut glances = RecentLookups::default();
        glances.note(1, START);
        glances.note(2, START);
        glances.clear(2);
        glances.note(3, START);
        assert!(glances.meet(START) && glances.are_by_another(3, START));
        glances.clear(3);
        glances.note(1, START);
        assert!(!glances.meet(START) && !glances.are_by_another(1, START));
    }

    #[test]
    fn two_who_take_turns_are_two() {
        let mut glances = RecentLookups::default();
        for pid in [1, 2, 1, 2, 1] {
            glances.note(pid, START);
        }
        assert!(glances.meet(START) && !glances.meet(LATER));
        glances.clear(1);
        assert!(!glances.are_by_another(2, START) && !glances.meet(START));
    }

    #[test]
    fn it_takes_many_at_once_to_make_a_crowd() {
        let mut crowd = Crowd::default();
        for _ in 0..3 {
            assert!(
                (0..CROWD as u32).all(|pid| !crowd.joined_by(pid, START)),
                "as many as there are allowed"
            );
        }
        crowd.left_by(3);
        assert!(!crowd.joined_by(100, START), "one has gone");
        assert!(crowd.joined_by(101, START));
        crowd.left_by(4);
        assert!(crowd.joined_by(102, START), "a crowd is one for a while");
        assert!(!crowd.joined_by(103, LATER));
        assert!(crowd.threads.len() <= CROWD);
    }
}
