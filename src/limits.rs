//! The limits and signals of the daemon's process, whatever it inherited.

use std::io;
use std::sync::Arc;
use std::thread;

use log::{info, warn};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;

/// Fewest open files that a daemon starts with: it needs about a dozen itself, and each segment needs one.
pub const MIN_OPEN_FILES: u64 = 32;

/// Descriptors that the daemon keeps for itself, or a quarter of all if that is less: each thread may look at `/proc` or at a
/// segment's use.
const RESERVED_DESCRIPTORS: u64 = 80;

/// Processes and threads that must be possible beside those of the mount: fusermount3, and some that have just ended and still
/// count.
const SPARE_PROCESSES: usize = 4;

/// Signals that unmount. SIGXCPU comes a little before the kernel kills a process that has used up its CPU time.
const UNMOUNTING: [i32; 5] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGXCPU];

/// Signals that would kill the daemon and mean nothing to it. A handler that does nothing, rather than ignoring them, is
/// not inherited by programs that the daemon starts.
///
/// SIGIO comes if somebody opens a segment's memory file through `/proc` while the daemon holds a lease on it; SIGXFSZ if a
/// memory file would exceed `RLIMIT_FSIZE`: then the call fails with `EFBIG`.
const IGNORED: [i32; 8] = [SIGIO, SIGXFSZ, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, libc::SIGPWR];

/// The most files this process may have open. `None`: no limit.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// How many descriptors of `/dev/fuse` there may be, so that segments have most of those that are left.
pub fn spare_open_files() -> usize {
    open_files().map_or(usize::MAX, |limit| (limit / 4) as usize).max(1)
}

/// How many descriptors segments may have: all but those that are open already and some that the daemon needs now and then.
pub fn descriptors_for_segments() -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
    limit.saturating_sub(open).saturating_sub(RESERVED_DESCRIPTORS.min(limit / 4))
}

/// Sets the limits that a daemon needs.
///
/// - Open files: as many as the hard limit allows, since each segment needs one.
/// - File size and CPU time: unlimited if this process may, otherwise the hard limit. They are meant for programs that
///   write files and end; a memory file has a size too.
/// - Core dumps: none, because they would contain the messages of all users.
pub fn set() {
    let open_files = getrlimit(Resource::Nofile);
    change(Resource::Nofile, Rlimit { current: open_files.maximum, ..open_files });
    for resource in [Resource::Fsize, Resource::Cpu] {
        let limit = getrlimit(resource);
        if limit.current.is_some() && setrlimit(resource, Rlimit { current: None, maximum: None }).is_err() {
            change(resource, Rlimit { current: limit.maximum, ..limit });
            info!("{resource:?} is limited to {:?}, and raising that takes CAP_SYS_RESOURCE", limit.maximum);
        }
    }
    let core = getrlimit(Resource::Core);
    change(Resource::Core, Rlimit { current: Some(0), ..core });
}

/// Starts as many threads as a mount will need, and ends them. A limit of processes must show before there is a mount, because
/// an ordinary user's daemon needs another process to unmount.
pub fn check_threads(count: usize) -> io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let start = |_| {
        let gate = Arc::clone(&gate);
        thread::Builder::new().spawn(move || drop(gate.lock()))
    };
    let started: Vec<_> = (0..count + SPARE_PROCESSES).map(start).collect();
    drop(closed);
    let mut result = Ok(());
    for thread in started {
        match thread {
            // It does nothing that could fail.
            Ok(thread) => drop(thread.join()),
            Err(error) => result = Err(error),
        }
    }
    result
}

fn change(resource: Resource, limit: Rlimit) {
    if let Err(error) = setrlimit(resource, limit) {
        warn!("cannot change the limit {resource:?}: {error}");
    }
}

/// Installs handlers for the signals that would kill the daemon; returns those that are to unmount as they arrive.
pub fn handle_signals() -> io::Result<Signals> {
    for signal in IGNORED {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Signals::new(UNMOUNTING)
}
