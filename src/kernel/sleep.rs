//! Whether a thread sleeps, and how, and whether it is being killed, read from /proc.

/// How a thread sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SleepState {
    /// Any signal wakes it.
    Interruptible,
    /// No signal wakes it, or only a fatal one.
    Uninterruptible,
    /// It is runnable, stopped or dead.
    NotSleeping,
}

/// How the thread `tid` sleeps. `None` if there is no such thread, or /proc does not show it.
pub(super) fn sleep_state(tid: u32) -> Option<SleepState> {
    // The thread's own file, not its process's: for that one the kernel would add up the times of all threads.
    let stat = std::fs::read(format!("/proc/{tid}/task/{tid}/stat")).ok()?;
    parse(&stat)
}

/// Parses `proc_pid_stat(5)`: the state stands behind the program's name, which is in brackets and may contain brackets.
fn parse(stat: &[u8]) -> Option<SleepState> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(match stat.get(end + 2)? {
        b'S' => SleepState::Interruptible,
        b'D' => SleepState::Uninterruptible,
        _ => SleepState::NotSleeping,
    })
}

/// Whether a fatal signal waits for the thread `tid`, or it is gone, or /proc does not show it. The kernel turns every signal
/// whose effect is to end the process into SIGKILL for each of its threads, except those that leave a core.
pub(super) fn is_being_killed(tid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{tid}/task/{tid}/status"));
    status.map_or(true, |status| has_fatal_signal(&status))
}

/// Parses `proc_pid_status(5)`.
fn has_fatal_signal(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (9 - 1);
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & SIGKILL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_name() {
        assert_eq!(parse(b"7 (cat) S 1 2"), Some(SleepState::Interruptible));
        assert_eq!(parse(b"7 (x) R (y)) D 1 2"), Some(SleepState::Uninterruptible));
        assert_eq!(parse(b"7 (cat) R 1 2"), Some(SleepState::NotSleeping));
        for broken in [&b""[..], b"7 cat", b"7 (cat)", b"7 (cat) "] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn a_fatal_signal_is_sigkill_of_the_thread() {
        assert!(has_fatal_signal("Name:\tcat\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(!has_fatal_signal("Name:\tcat\nSigPnd:\t0000000000002400\nShdPnd:\t0000000000000100\n"));
        assert!(has_fatal_signal("Name:\tcat\n"));
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert!(!is_being_killed(tid) && is_being_killed(0));
    }

    #[test]
    fn the_running_thread_does_not_sleep_and_thread_0_does_not_exist() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert_eq!(sleep_state(tid), Some(SleepState::NotSleeping));
        assert_eq!(sleep_state(0), None);
    }
}
