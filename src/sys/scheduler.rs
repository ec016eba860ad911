//! Scheduling policies of threads (`sched(7)`), for which no safe crate has calls.

#![allow(unsafe_code)]

use rustix::io::Errno;

/// A thread's scheduling policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// `SCHED_OTHER`, the default.
    Other,
    /// `SCHED_IDLE`.
    Idle,
    /// Any other one, which somebody must have set on purpose.
    Special,
}

/// The policy of the calling thread.
///
/// # Errors
/// Those of `sched_getscheduler(2)`, for example where a seccomp filter forbids it.
pub fn policy() -> Result<Policy, Errno> {
    // SAFETY: sched_getscheduler(2) takes a thread id, here 0 for the calling thread, and accesses no memory.
    let result = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    // A flag that concerns children only.
    Ok(match i32::try_from(check(result)?).unwrap_or_default() & !libc::SCHED_RESET_ON_FORK {
        libc::SCHED_OTHER => Policy::Other,
        libc::SCHED_IDLE => Policy::Idle,
        _ => Policy::Special,
    })
}

/// Sets the policy of the thread `tid`, or of the calling thread if `tid` is 0, to `SCHED_IDLE` or back to `SCHED_OTHER`.
/// Its nice value stays the same.
///
/// # Errors
/// Those of `sched_setscheduler(2)`: EPERM for leaving `SCHED_IDLE` without `CAP_SYS_NICE` and with an `RLIMIT_NICE` too low;
/// ESRCH if there is no such thread.
pub fn set_idle(tid: u32, idle: bool) -> Result<(), Errno> {
    let policy = if idle { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    // The kernel's `struct sched_param`.
    let priority: libc::c_int = 0;
    let priority = std::ptr::from_ref(&priority);
    // SAFETY: sched_setscheduler(2) takes two numbers and a pointer to an int, which it only reads during the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, tid, policy, priority) };
    check(result).map(drop)
}

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_becomes_idle_and_no_other_does() {
        let policies = std::thread::spawn(|| {
            let before = policy();
            let set = set_idle(0, true);
            (before, set, policy())
        });
        let (before, set, after) = policies.join().unwrap();
        // The tests may themselves run with another policy.
        if before == Ok(Policy::Other) {
            assert_eq!((set, after), (Ok(()), Ok(Policy::Idle)));
            assert_eq!(policy(), Ok(Policy::Other));
        }
    }

    #[test]
    fn a_thread_that_does_not_exist_is_an_error() {
        assert_eq!(set_idle(i32::MAX as u32, true), Err(Errno::SRCH));
    }
}
