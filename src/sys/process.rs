//! Of other processes, and process ids that may be 0, which the types of safe crates exclude: the kernel gives 0 for a process outside the caller's PID
//! namespace (`pid_namespaces(7)`).

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd as _};

/// Whether the calling process leads its session.
pub fn leads_session() -> bool {
    // SAFETY: getsid(2) and getpid(2) take and return numbers, and access no memory.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// The effective user id of the process at the other end of a Unix socket, when it connected or listened.
pub fn peer_uid(socket: impl AsFd) -> Option<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let size = size_of::<libc::ucred>() as libc::socklen_t;
    let mut length = size;
    // SAFETY: getsockopt(2) with SO_PEERCRED writes at most `length` bytes, which is the size of `credentials`, for which any
    // bytes are a value. The descriptor is open: it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut credentials).cast(),
            &raw mut length,
        )
    };
    (result == 0 && length == size).then_some(credentials.uid)
}

/// Whether the process of a thread may have a limit of file sizes (`ulimit -f`). True if that cannot be known.
pub fn may_limit_files(thread: u32) -> bool {
    let Some(thread) = libc::pid_t::try_from(thread).ok().filter(|thread| *thread > 0) else { return true };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prlimit(2) sets nothing where the new limit is null, and writes the old one into `limit`.
    let result = unsafe {
        libc::prlimit(thread, libc::RLIMIT_FSIZE, std::ptr::null(), std::ptr::from_mut(&mut limit))
    };
    result != 0 || limit.rlim_cur != libc::RLIM_INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    #[test]
    fn a_limit_of_file_sizes_is_seen_in_another_process() {
        for (script, limited) in
            [("ulimit -f 8; echo; read x", true), ("echo; read x", may_limit_files(std::process::id()))]
        {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut shell = shell.spawn().unwrap();
            shell.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            assert_eq!(may_limit_files(shell.id()), limited, "{script}");
            drop(shell.stdin.take());
            shell.wait().unwrap();
        }
        assert!(may_limit_files(0) && may_limit_files(u32::MAX), "nobody's");
    }

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(peer_uid(&one), Some(rustix::process::geteuid().as_raw()));
        assert_eq!(peer_uid(std::fs::File::open("/dev/null").unwrap()), None, "no socket");
    }
}
