//! What `/proc` says of a process.

use std::fs;
use std::time::Duration;

/// CPU time of all threads of a process, in user mode and in the kernel.
pub fn cpu(pid: u32) -> Duration {
    let mut time = 0;
    if let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) {
        for task in tasks.flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            time += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(time)
}

/// The value of `key` in a process's `status`, in bytes.
pub fn memory(pid: u32, key: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb * 1024.0)
}

/// Memory of a process, in bytes, without the pages of its program file. Rings are in memory that another process can take over.
pub fn own_memory(pid: u32) -> Option<f64> {
    Some(memory(pid, "RssAnon")? + memory(pid, "RssShmem")?)
}

/// Resets the peak `VmHWM` of a process to its present size.
pub fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The session of a process: field 6 of `/proc/PID/stat`.
pub fn session(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(3)?.parse().ok()
}

/// Makes a call that the kernel may end if a daemon is killed in that instant (over `io_uring`, with ECANCELED or EINTR). It has done
/// nothing then, and is made again.
pub fn sure<T, E: Into<std::io::Error>>(mut call: impl FnMut() -> Result<T, E>) -> std::io::Result<T> {
    loop {
        match call().map_err(Into::into) {
            Err(error)
                if error.kind() == std::io::ErrorKind::Interrupted
                    || error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error()) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::thread;

    #[test]
    fn a_process_has_a_session_and_memory() {
        let mut leader = Command::new("setsid").arg("cat").stdin(Stdio::piped()).spawn().unwrap();
        while session(leader.id()) != Some(leader.id()) {
            assert!(leader.try_wait().unwrap().is_none());
            thread::yield_now();
        }
        drop(leader.stdin.take());
        leader.wait().unwrap();
        assert!(own_memory(std::process::id()).unwrap() > 0.0);
    }
}
