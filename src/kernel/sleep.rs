//! Whether a caller sleeps, as /proc tells.

/// How a thread sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    /// Any signal wakes it.
    Interruptible,
    /// No signal wakes it, or only one that kills.
    Uninterruptible,
    /// It runs, is about to, or is stopped.
    Awake,
}

/// How the thread `tid` sleeps; `None` if there is none, or /proc does not show it.
pub(super) fn sleep_of(tid: u32) -> Option<Sleep> {
    // The thread's own file rather than its process's, for which the kernel would add up all threads' times.
    let stat = std::fs::read(format!("/proc/{tid}/task/{tid}/stat")).ok()?;
    state(&stat)
}

/// `proc_pid_stat(5)`: the state stands behind the program's name, which is in brackets and may contain some.
fn state(stat: &[u8]) -> Option<Sleep> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(match stat.get(end + 2)? {
        b'S' => Sleep::Interruptible,
        b'D' => Sleep::Uninterruptible,
        _ => Sleep::Awake,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_name() {
        assert_eq!(state(b"7 (cat) S 1 2"), Some(Sleep::Interruptible));
        assert_eq!(state(b"7 (x) R (y)) D 1 2"), Some(Sleep::Uninterruptible));
        assert_eq!(state(b"7 (cat) R 1 2"), Some(Sleep::Awake));
        for broken in [&b""[..], b"7 cat", b"7 (cat)", b"7 (cat) "] {
            assert_eq!(state(broken), None);
        }
    }

    #[test]
    fn this_thread_is_awake_and_no_thread_is_nowhere() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert_eq!(sleep_of(tid), Some(Sleep::Awake));
        assert_eq!(sleep_of(0), None);
    }
}
