//! Who looked a file up and has not opened it: he may be about to open, to change or to remove it.

use crate::op::Timestamp;

/// How long a look-up counts, in nanoseconds. Far longer than unlink(2) needs from its look-up to its lock.
pub(super) const GLANCE: u64 = 50_000_000;

/// Threads at once that make a crowd.
const CROWD: usize = 16;

fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    now.0 < at.0.saturating_add(GLANCE)
}

/// The last two threads that looked a file up and have not opened it, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Glances {
    threads: [Option<(u32, Timestamp)>; 2],
    /// When the last of those did who are not among the two any more.
    earlier: Option<Timestamp>,
}

impl Glances {
    pub(super) fn note(&mut self, pid: u32, now: Timestamp) {
        let [last, before] = &mut self.threads;
        if last.is_some_and(|(other, _)| other != pid) {
            if let Some((_, at)) = before.filter(|(other, _)| *other != pid) {
                self.earlier = Some(at);
            }
            *before = *last;
        }
        *last = Some((pid, now));
    }

    /// `pid` has opened it, or is done with it.
    pub(super) fn clear(&mut self, pid: u32) {
        for glance in &mut self.threads {
            glance.take_if(|(other, _)| *other == pid);
        }
    }

    /// Two have looked it up just now. When it is removed, one of them does that, and the other may be about to open it.
    pub(super) fn meet(&self, now: Timestamp) -> bool {
        self.threads.iter().all(|glance| glance.is_some_and(|(_, at)| is_fresh(at, now)))
    }

    /// Another than `pid` has looked it up just now.
    pub(super) fn are_by_another(&self, pid: u32, now: Timestamp) -> bool {
        let another = |glance: &Option<(u32, Timestamp)>| {
            glance.is_some_and(|(other, at)| other != pid && is_fresh(at, now))
        };
        self.threads.iter().any(another) || self.earlier.is_some_and(|at| is_fresh(at, now))
    }
}

/// Whether many threads are about to open a mailbox at the same time.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    threads: Vec<(u32, Timestamp)>,
    until: Timestamp,
}

impl Crowd {
    /// Thread `pid` looks it up. True if that makes a crowd, or there was one just now.
    pub(super) fn joined_by(&mut self, pid: u32, now: Timestamp) -> bool {
        if let Some((_, at)) = self.threads.iter_mut().find(|(other, _)| *other == pid) {
            *at = now;
            return now < self.until;
        }
        if self.threads.len() == CROWD {
            self.threads.retain(|(_, at)| is_fresh(*at, now));
        }
        if self.threads.len() < CROWD {
            self.threads.push((pid, now));
        } else {
            self.until = Timestamp(now.0.saturating_add(GLANCE));
        }
        now < self.until
    }

    /// Thread `pid` has opened it.
    pub(super) fn left_by(&mut self, pid: u32) {
        self.threads.retain(|(other, _)| *other != pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000 * GLANCE);
    const LATER: Timestamp = Timestamp(START.0 + GLANCE);

    #[test]
    fn nobody_is_another_to_himself() {
        let mut glances = Glances::default();
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
        let mut glances = Glances::default();
        for pid in 1..=3 {
            glances.note(pid, START);
        }
        glances.clear(2);
        glances.clear(3);
        assert!(glances.are_by_another(2, START));
        assert!(!glances.are_by_another(2, LATER));
    }

    #[test]
    fn two_who_take_turns_are_two() {
        let mut glances = Glances::default();
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
