//! When the threads that serve rings use `SCHED_IDLE`: the decision, without any I/O.
//!
//! A ring's thread answers on its caller's CPU. The scheduler wakes the caller on another CPU if one is idle, because the
//! current one is busy with the thread itself. Moving costs several times as much as the request. If that thread has the
//! policy `SCHED_IDLE`, and nothing else runs on the CPU, the scheduler takes the CPU for idle, and the caller stays there.
//!
//! A thread with `SCHED_IDLE` starves where it competes with other threads *of the same scheduling group* (autogroup or
//! cgroup, `sched(7)`, `cgroups(7)`). Between groups only the groups' weights count. Therefore:
//!
//! - If the daemon has a group of its own, all its threads use `SCHED_IDLE`. Should they starve nevertheless, they leave it.
//! - Otherwise a thread uses it only as long as nothing competes, and only if it is allowed to leave it again.
//!
//! Competition shows as run delay: the time that a thread was runnable but did not run (`/proc/PID/schedstat`).

use std::time::{Duration, Instant};

use crate::sys::scheduler::Policy;

/// The scheduling group that the daemon belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The autogroup of a session that the daemon leads.
    OwnSession,
    /// A cgroup with the CPU controller in which there is no other process.
    OwnCgroup,
    /// A group that others may belong to.
    Shared,
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// The daemon's group.
    pub group: Group,
    /// The policy that the daemon was started with; `None` if it cannot be read.
    pub policy: Option<Policy>,
    /// Whether a thread may leave `SCHED_IDLE` again.
    pub reversible: bool,
    /// Whether the kernel counts run delay.
    pub measurable: bool,
}

/// How the threads that serve rings use `SCHED_IDLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Always, because the daemon has a group of its own.
    OwnGroup(Group),
    /// As long as nothing competes.
    WhenQuiet,
    /// Never.
    Never(Reason),
}

/// Why the threads never use `SCHED_IDLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The policy cannot be read or changed.
    #[error("the scheduling policy cannot be changed")]
    Refused,
    /// Somebody chose a policy, with `chrt(1)` for example.
    #[error("the daemon was started with another policy")]
    Chosen,
    /// There is no way back, and others could starve the daemon.
    #[error("the scheduling group is shared and the policy cannot be changed back")]
    Irreversible,
    /// Competition cannot be seen.
    #[error("the scheduling group is shared and the kernel does not count run delay")]
    Unmeasured,
}

impl Conditions {
    /// How `SCHED_IDLE` is used under these conditions.
    pub fn mode(&self) -> Mode {
        match (self.policy, self.group) {
            (None, _) => Mode::Never(Reason::Refused),
            (Some(Policy::Special | Policy::Idle), _) => Mode::Never(Reason::Chosen),
            (Some(Policy::Other), Group::OwnSession | Group::OwnCgroup) => Mode::OwnGroup(self.group),
            (Some(Policy::Other), Group::Shared) if !self.reversible => Mode::Never(Reason::Irreversible),
            (Some(Policy::Other), Group::Shared) if !self.measurable => Mode::Never(Reason::Unmeasured),
            (Some(Policy::Other), Group::Shared) => Mode::WhenQuiet,
        }
    }
}

/// What happened to a thread over some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// How long it was.
    pub(super) elapsed: Duration,
    /// How long the thread was runnable but did not run.
    pub(super) run_delay: Duration,
    /// How many times it ran.
    pub(super) slices: u64,
}

/// Run delay that is taken for competition.
#[derive(Debug, Clone, Copy)]
struct Threshold {
    /// The time that is looked at, at least.
    window: Duration,
    /// Run delay that is expected each time the thread runs.
    each: Duration,
    /// Run delay that is accepted beyond that, for the whole window.
    allowance: Duration,
}

/// Any competition: a thread that waits behind its own caller waits some microseconds, one that waits behind a program that
/// computes waits a scheduler slice, some milliseconds.
const COMPETITION: Threshold = Threshold {
    window: Duration::from_millis(10),
    each: Duration::from_micros(10),
    allowance: Duration::from_millis(1),
};

/// Starvation: in a group of its own a thread waits behind other groups, which is the same under any policy. It starves if
/// it does so nearly each time it runs.
const STARVATION: Threshold = Threshold {
    window: Duration::from_millis(100),
    each: Duration::from_millis(2),
    allowance: Duration::from_millis(20),
};

/// Number of times that a thread must have run without competition before it uses `SCHED_IDLE` again.
const QUIET_SLICES: u64 = 64;
/// Time after which a thread may use `SCHED_IDLE` again. It doubles with each attempt that fails soon.
const FIRST_HOLD: Duration = Duration::from_secs(1);
/// Longest such time; also the time for which an attempt must last to count as a success.
const MAX_HOLD: Duration = Duration::from_secs(64);

/// Decides for one thread.
#[derive(Debug)]
pub(super) struct Controller {
    threshold: Threshold,
    idle: bool,
    /// When the policy was last set to `SCHED_IDLE`.
    entered: Instant,
    /// Not before this time again.
    retry: Instant,
    hold: Duration,
    quiet_slices: u64,
    window: Sample,
}

impl Controller {
    /// For a thread whose policy is `SCHED_IDLE` since `now`.
    pub(super) fn new(mode: Mode, now: Instant) -> Controller {
        let threshold = if mode == Mode::WhenQuiet { COMPETITION } else { STARVATION };
        Controller {
            threshold,
            idle: true,
            entered: now,
            retry: now,
            hold: FIRST_HOLD,
            quiet_slices: 0,
            window: Sample::default(),
        }
    }

    /// What the thread's policy must be set to, if it has to change: true for `SCHED_IDLE`. `is_idle` is its policy now.
    pub(super) fn decide(&mut self, sample: Sample, is_idle: bool, now: Instant) -> Option<bool> {
        if is_idle != self.idle {
            // Another thread changed it, or setting it failed.
            self.set(is_idle, now);
            return None;
        }
        self.window.elapsed += sample.elapsed;
        self.window.run_delay += sample.run_delay;
        self.window.slices += sample.slices;
        let threshold = if self.idle { self.threshold } else { COMPETITION };
        if self.window.elapsed < threshold.window {
            return None;
        }
        let window = std::mem::take(&mut self.window);
        let each = threshold.each.saturating_mul(u32::try_from(window.slices).unwrap_or(u32::MAX));
        let has_competition = window.run_delay > threshold.allowance.saturating_add(each);
        if self.idle {
            if !has_competition {
                return None;
            }
            self.set(false, now);
            return Some(false);
        }
        self.quiet_slices = if has_competition { 0 } else { self.quiet_slices + window.slices };
        if self.quiet_slices < QUIET_SLICES || now < self.retry {
            return None;
        }
        self.set(true, now);
        Some(true)
    }

    fn set(&mut self, idle: bool, now: Instant) {
        self.idle = idle;
        self.window = Sample::default();
        self.quiet_slices = 0;
        if idle {
            self.entered = now;
            return;
        }
        let lasted = now.saturating_duration_since(self.entered) >= MAX_HOLD;
        let hold = if lasted { FIRST_HOLD } else { self.hold };
        self.retry = now + hold;
        self.hold = (hold * 2).min(MAX_HOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn conditions(group: Group) -> Conditions {
        Conditions { group, policy: Some(Policy::Other), reversible: true, measurable: true }
    }

    /// A thread with its controller, and the time.
    struct Thread {
        controller: Controller,
        idle: bool,
        now: Instant,
    }

    impl Thread {
        fn new(mode: Mode) -> Thread {
            let now = Instant::now();
            Thread { controller: Controller::new(mode, now), idle: true, now }
        }

        /// Lets `count` periods of 10 ms pass, in each of which the thread runs `slices` times and is delayed by `run_delay`
        /// altogether.
        fn run(&mut self, count: u32, slices: u64, run_delay: Duration) {
            for _ in 0..count {
                let elapsed = 10 * MILLISECOND;
                self.now += elapsed;
                let sample = Sample { elapsed, run_delay, slices };
                if let Some(idle) = self.controller.decide(sample, self.idle, self.now) {
                    assert_ne!(idle, self.idle);
                    self.idle = idle;
                }
            }
        }

        fn quiet(&mut self, time: Duration) {
            self.run((time.as_millis() / 10) as u32, 500, 2 * MILLISECOND);
        }

        /// Beside a program that computes, the thread gets its turn every few milliseconds.
        fn starved(&mut self, time: Duration) {
            self.run((time.as_millis() / 10) as u32, 3, 9 * MILLISECOND);
        }

        /// Beside programs of other groups it waits now and then.
        fn delayed(&mut self, time: Duration) {
            self.run((time.as_millis() / 10) as u32, 200, 7 * MILLISECOND);
        }
    }

    #[test]
    fn a_group_of_its_own_suffices() {
        for group in [Group::OwnSession, Group::OwnCgroup] {
            let poor = Conditions { reversible: false, measurable: false, ..conditions(group) };
            assert_eq!(conditions(group).mode(), Mode::OwnGroup(group));
            assert_eq!(poor.mode(), Mode::OwnGroup(group));
        }
    }

    #[test]
    fn in_a_shared_group_there_must_be_a_way_back_and_a_reason_to_take_it() {
        let shared = conditions(Group::Shared);
        assert_eq!(shared.mode(), Mode::WhenQuiet);
        assert_eq!(Conditions { reversible: false, ..shared }.mode(), Mode::Never(Reason::Irreversible));
        assert_eq!(Conditions { measurable: false, ..shared }.mode(), Mode::Never(Reason::Unmeasured));
    }

    #[test]
    fn a_policy_that_somebody_chose_is_kept() {
        for group in [Group::OwnSession, Group::OwnCgroup, Group::Shared] {
            for policy in [Policy::Special, Policy::Idle] {
                let chosen = Conditions { policy: Some(policy), ..conditions(group) };
                assert_eq!(chosen.mode(), Mode::Never(Reason::Chosen));
            }
            let unknown = Conditions { policy: None, ..conditions(group) };
            assert_eq!(unknown.mode(), Mode::Never(Reason::Refused));
        }
    }

    #[test]
    fn a_busy_but_quiet_thread_stays_idle() {
        for mode in [Mode::WhenQuiet, Mode::OwnGroup(Group::OwnSession)] {
            let mut thread = Thread::new(mode);
            thread.quiet(Duration::from_secs(10));
            assert!(thread.idle);
        }
    }

    #[test]
    fn competition_in_a_shared_group_ends_it_at_once() {
        for busy in [Thread::starved, Thread::delayed] {
            let mut thread = Thread::new(Mode::WhenQuiet);
            thread.quiet(Duration::from_secs(1));
            busy(&mut thread, 10 * MILLISECOND);
            assert!(!thread.idle);
            busy(&mut thread, Duration::from_secs(1000));
            assert!(!thread.idle, "as long as there is competition");
            thread.quiet(Duration::from_secs(1));
            assert!(thread.idle);
        }
    }

    #[test]
    fn in_a_group_of_its_own_only_starvation_ends_it() {
        let mut thread = Thread::new(Mode::OwnGroup(Group::OwnCgroup));
        thread.delayed(Duration::from_secs(10));
        assert!(thread.idle);
        thread.starved(Duration::from_secs(1));
        assert!(!thread.idle);
    }

    /// Competition that comes back whenever the thread is idle makes it try less and less often.
    #[test]
    fn attempts_that_fail_become_rare() {
        let mut thread = Thread::new(Mode::WhenQuiet);
        let mut attempts = 0;
        for _ in 0..100_000 {
            let was = thread.idle;
            if thread.idle {
                thread.starved(10 * MILLISECOND);
            } else {
                thread.quiet(10 * MILLISECOND);
            }
            attempts += u32::from(!was && thread.idle);
        }
        // In 1000 seconds: after 1, 2, 4, … 64, 64 … seconds.
        assert!((15..=25).contains(&attempts), "{attempts}");
    }

    #[test]
    fn a_thread_that_hardly_runs_decides_nothing() {
        let mut thread = Thread::new(Mode::WhenQuiet);
        thread.starved(10 * MILLISECOND);
        thread.run(1000, 0, Duration::ZERO);
        assert!(!thread.idle);
    }

    #[test]
    fn a_change_by_another_thread_is_adopted() {
        let mut thread = Thread::new(Mode::OwnGroup(Group::OwnSession));
        thread.idle = false;
        thread.quiet(500 * MILLISECOND);
        assert!(!thread.idle);
        thread.quiet(Duration::from_secs(1));
        assert!(thread.idle);
    }
}
