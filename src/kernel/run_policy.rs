//! Carries out what `scheduling` decides: reads run delays, and sets the policy of the daemon's threads.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info};

use super::cpus;
use super::sched_group;
use super::scheduling::{Conditions, Controller, Group, Mode, Reason, Sample};
use crate::journal::JOURNAL_THREAD;
use crate::sys::process;
use crate::sys::scheduler::{self, Policy};
use crate::tree::Scheduling;

/// Number of turns of a request loop after which it looks at the time.
const TURNS: u32 = 4;
/// Time between two looks at a thread's run delay.
const INTERVAL: Duration = Duration::from_millis(10);

/// How this process could use `SCHED_IDLE`. `will_lead_session`: it will start a session of its own.
fn conditions(will_lead_session: bool) -> Conditions {
    let leads_session = will_lead_session || process::leads_session();
    Conditions {
        group: sched_group::find(leads_session),
        policy: scheduler::policy().ok(),
        reversible: is_reversible(),
        measurable: Delays::of_this_thread().is_some_and(|delays| delays.slices > 0),
    }
}

/// Whether callers stay on their CPU over `io_uring`, as far as it is known before the mount. Where they do not, `/dev/fuse` is
/// quicker. `will_lead_session`: the daemon will start a session of its own.
///
/// # Errors
/// Why callers are moved to other CPUs.
pub fn keeps_callers(will_lead_session: bool) -> Result<(), Reason> {
    match conditions(will_lead_session).mode() {
        Mode::Never(reason) if cpus::online().is_none_or(|online| online.len() > 1) => Err(reason),
        _ => Ok(()),
    }
}

/// Whether a thread can leave `SCHED_IDLE`. Tried out on a thread made for it: permission depends on capabilities, limits,
/// namespaces and security modules.
fn is_reversible() -> bool {
    let attempt = || scheduler::set_idle(0, true).and_then(|()| scheduler::set_idle(0, false)).is_ok();
    thread::Builder::new().spawn(attempt).is_ok_and(|thread| thread.join().unwrap_or(false))
}

/// The policy of all threads that serve rings.
#[derive(Debug, Default)]
pub struct RunPolicy {
    /// Known once the daemon has the session that it will keep.
    plan: OnceLock<Plan>,
    rings: AtomicUsize,
    /// Rings whose threads have left `SCHED_IDLE`.
    left: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    mode: Mode,
    /// The policy can be changed back, and the need for it be seen.
    is_adaptive: bool,
}

impl RunPolicy {
    /// The calling thread serves no requests and runs for long: where threads that serve have `SCHED_IDLE` and it has not, it
    /// takes that policy, too, or leaves it.
    pub(super) fn stand_back(&self, back: bool) {
        if self.plan.get().is_some_and(|plan| plan.mode == Mode::WhenQuiet) {
            // Fails only if a limit was lowered meanwhile.
            let _ = scheduler::set_idle(0, back);
        }
    }

    /// Begins to use `SCHED_IDLE`, if the conditions allow it. To be called when the daemon has the session that it will keep.
    /// `inherits`: another daemon started this one, and may have passed `SCHED_IDLE` on.
    pub fn start(&self, inherits: bool) {
        let mut conditions = conditions(false);
        if inherits && conditions.policy == Some(Policy::Idle) {
            conditions.policy = Some(Policy::Other);
        }
        let mode = conditions.mode();
        info!("scheduling: {mode:?}, {conditions:?}");
        if let Mode::OwnGroup(_) = mode {
            set_all(true);
        }
        let is_adaptive = conditions.reversible && conditions.measurable;
        let _ = self.plan.set(Plan { mode, is_adaptive });
    }

    /// The policy of a mount that does not use rings for `reason`.
    pub fn not_used(reason: Reason) -> RunPolicy {
        let plan = Plan { mode: Mode::Never(reason), is_adaptive: false };
        RunPolicy { plan: OnceLock::from(plan), ..RunPolicy::default() }
    }
}

impl Scheduling for RunPolicy {
    fn describe(&self) -> &'static str {
        let Some(plan) = self.plan.get() else { return "normal: the mount is starting" };
        let (left, rings) = (self.left.load(Ordering::Relaxed), self.rings.load(Ordering::Relaxed));
        match plan.mode {
            Mode::Never(reason) => match reason {
                Reason::Refused => "normal: the policy cannot be changed",
                Reason::Chosen => "normal: the daemon was started with another policy",
                Reason::Irreversible => "normal: shared group, no permission to change the policy back",
                Reason::Unmeasured => "normal: shared group, run delay is not counted",
            },
            _ if left > 0 && left >= rings => "normal: other programs compete",
            _ if left > 0 => "mixed: other programs compete on some CPUs",
            Mode::OwnGroup(Group::OwnCgroup) => "idle: own cgroup",
            Mode::OwnGroup(_) => "idle: own session",
            Mode::WhenQuiet => "idle: no other program competes",
        }
    }
}

/// The policy of one thread that serves a ring.
#[derive(Debug)]
pub(super) struct RingPolicy {
    shared: Arc<RunPolicy>,
    turns: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The plan is not known yet.
    New,
    Adaptive(Adaptive),
    /// Nothing is left to decide.
    Fixed,
}

#[derive(Debug)]
struct Adaptive {
    mode: Mode,
    controller: Controller,
    file: File,
    /// What was read last, and when.
    delays: Delays,
    read: Instant,
    has_left: bool,
}

impl RingPolicy {
    pub(super) fn new(shared: Arc<RunPolicy>) -> RingPolicy {
        shared.rings.fetch_add(1, Ordering::Relaxed);
        RingPolicy { shared, turns: 0, state: State::New }
    }

    /// The thread has `SCHED_IDLE` now.
    pub(super) fn is_idle(&self) -> bool {
        match &self.state {
            State::New => false,
            State::Adaptive(adaptive) => !adaptive.has_left,
            State::Fixed => self.shared.plan.get().is_some_and(|plan| matches!(plan.mode, Mode::OwnGroup(_))),
        }
    }

    /// To be called by the thread in each turn.
    pub(super) fn turn(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        if !self.turns.is_multiple_of(TURNS) {
            return;
        }
        match &mut self.state {
            State::Fixed => {}
            State::New => {
                if let Some(plan) = self.shared.plan.get() {
                    self.state = begin(*plan);
                }
            }
            State::Adaptive(adaptive) => {
                let now = Instant::now();
                if now.saturating_duration_since(adaptive.read) < INTERVAL {
                    return;
                }
                if adaptive.check(now, &self.shared.left).is_none() {
                    self.state = State::Fixed;
                }
            }
        }
    }
}

/// Carries out a plan on the calling thread.
fn begin(plan: Plan) -> State {
    if plan.mode == Mode::WhenQuiet && scheduler::set_idle(0, true).is_err()
        || matches!(plan.mode, Mode::Never(_))
        || !plan.is_adaptive
    {
        return State::Fixed;
    }
    if let Ok(file) = File::open(Delays::PATH)
        && let Some(delays) = Delays::read(&file)
    {
        let read = Instant::now();
        let controller = Controller::new(plan.mode, read);
        return State::Adaptive(Adaptive {
            mode: plan.mode,
            controller,
            file,
            delays,
            read,
            has_left: false,
        });
    }
    let _ = scheduler::set_idle(0, false);
    State::Fixed
}

impl Adaptive {
    /// Looks at the thread's run delay, and changes its policy if that is necessary. `None` if somebody else has chosen a
    /// policy for the thread, which is kept.
    fn check(&mut self, now: Instant, left: &AtomicUsize) -> Option<()> {
        let is_idle = match scheduler::policy() {
            Ok(Policy::Idle) => true,
            Ok(Policy::Other) => false,
            Ok(Policy::Special) | Err(_) => return None,
        };
        let delays = Delays::read(&self.file)?;
        let sample = Sample {
            elapsed: now.saturating_duration_since(self.read),
            run_delay: delays.run_delay.saturating_sub(self.delays.run_delay),
            slices: delays.slices.saturating_sub(self.delays.slices),
        };
        (self.delays, self.read) = (delays, now);
        let change = self.controller.decide(sample, is_idle, now);
        if let Some(idle) = change {
            debug!("scheduling policy: {}, after {sample:?}", if idle { "idle" } else { "normal" });
            match self.mode {
                Mode::WhenQuiet => drop(scheduler::set_idle(0, idle)),
                // Within the group, threads of another policy would starve those that are idle.
                _ => set_all(idle),
            }
        }
        let has_left = !change.unwrap_or(is_idle);
        if has_left != self.has_left {
            self.has_left = has_left;
            if has_left {
                left.fetch_add(1, Ordering::Relaxed);
            } else {
                left.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Some(())
    }
}

/// Sets the policy of all threads of this process but the journal's, which nobody wakes on a CPU of its own: idle, it would wait
/// there until others sleep. It runs briefly. Threads that they start inherit it.
fn set_all(idle: bool) {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return };
    for thread in threads.flatten() {
        if fs::read(thread.path().join("comm"))
            .is_ok_and(|name| name.trim_ascii() == JOURNAL_THREAD.as_bytes())
        {
            continue;
        }
        let tid = thread.file_name().to_str().and_then(|tid| tid.parse().ok());
        // A thread may have ended meanwhile.
        if let Some(Err(error)) = tid.map(|tid| scheduler::set_idle(tid, idle)) {
            debug!("a thread keeps its scheduling policy: {error}");
        }
    }
}

/// A thread's `schedstat` (`Documentation/scheduler/sched-stats.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delays {
    /// How long the thread was runnable but did not run.
    run_delay: Duration,
    /// How many times it ran.
    slices: u64,
}

impl Delays {
    /// The calling thread's file. Once opened, it stays that thread's.
    const PATH: &'static str = "/proc/thread-self/schedstat";

    fn of_this_thread() -> Option<Delays> {
        Delays::read(&File::open(Delays::PATH).ok()?)
    }

    fn read(file: &File) -> Option<Delays> {
        let mut bytes = [0; 80];
        let length = file.read_at(&mut bytes, 0).ok()?;
        Delays::parse(bytes.get(..length)?)
    }

    /// Time on the CPU and run delay in nanoseconds, and number of slices.
    fn parse(bytes: &[u8]) -> Option<Delays> {
        let mut numbers = std::str::from_utf8(bytes).ok()?.split_whitespace().map(u64::from_str);
        let (_on_cpu, run_delay, slices) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Delays { run_delay: Duration::from_nanos(run_delay.ok()?), slices: slices.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_is_parsed() {
        let delays = Delays { run_delay: Duration::from_nanos(20), slices: 3 };
        assert_eq!(Delays::parse(b"10 20 3\n"), Some(delays));
        for broken in [&b""[..], b"1 2", b"1 x 3", b"\xff 2 3"] {
            assert_eq!(Delays::parse(broken), None);
        }
    }

    /// Whatever this machine allows, asking changes nothing.
    #[test]
    fn conditions_are_found_without_a_change() {
        let before = scheduler::policy();
        let conditions = conditions(false);
        assert_eq!(scheduler::policy(), before);
        assert_eq!(conditions.policy, before.ok());
    }

    #[test]
    fn a_policy_that_never_started_says_so() {
        assert_eq!(RunPolicy::default().describe(), "normal: the mount is starting");
    }

    /// A thread keeps its policy where the plan is to never change it.
    #[test]
    fn without_permission_nothing_changes() {
        let before = scheduler::policy();
        let plan = Plan { mode: Mode::Never(Reason::Irreversible), is_adaptive: false };
        assert!(matches!(begin(plan), State::Fixed));
        assert_eq!(scheduler::policy(), before);
    }
}
