//! The life of a mount: mount, serve, unmount.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{info, warn};
use rustix::process::{getgid, getpid, getuid};

use crate::config::{Config, MAX_WRITE, MSGSIZE_CEILING, TransportKind};
use crate::journal::{JOURNAL_THREAD, Journal, OpenError, Recovered};
use crate::kernel::dev;
use crate::kernel::rings::{self, Rings, Started};
use crate::kernel::run_policy::{RunPolicy, keeps_callers};
use crate::kernel::session::{self, MountError, Mounted};
use crate::kernel::transport::{Alarm, Transport, now};
use crate::limits;
use crate::op::Timestamp;
use crate::sys::heap;
use crate::sys::memfd::Memfd;
use crate::sys::write_back;
use crate::tree::{Scheduling, Setup, Tree};

/// Threads that start after mounting and serve no requests: the timer, the worker, that of the kernel's time limit for requests, and
/// the journal's two.
const OTHER_THREADS: usize = 5;

/// Bytes of memory that rings must leave: for the handshake's buffer of 16 MiB, and for the other threads.
const ROOM_BESIDE_RINGS: usize = 32 << 20;

/// Bytes of memory for the ring of one CPU: its entries, and the stack of its thread.
const ROOM_OF_RING: usize = 40 << 20;

/// Most bytes for messages that are looked for: a request for all memory of the machine could fail without need.
const MOST_ROOM_FOR_MESSAGES: u64 = 512 << 20;

/// Why mounting or serving failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Mounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The store cannot be used.
    #[error("cannot use the store: {0}")]
    Store(OpenError),
    /// A thread or a signal handler could not be set up.
    #[error("cannot start the daemon's threads: {0}")]
    Start(io::Error),
    /// Requests could not be read.
    #[error("the request loop failed: {0}")]
    Serve(io::Error),
}

/// What ends a mount.
enum End {
    /// A signal that unmounts.
    Signal(i32),
    /// The kernel sends no more requests: somebody else unmounted or aborted it.
    Unmounted,
    /// Reading requests failed.
    Failed(io::Error),
}

/// Mounts and serves until the mount ends. `ready` is called once, when the tree answers.
pub fn run(config: &Config, ready: impl FnOnce()) -> Result<(), Error> {
    limits::set();
    heap::fill_reserves();
    // Before mounting: a store that is in use or cannot be read must not end a mount.
    let (journal, recovered) = open_store(config)?;
    let (ends, end) = mpsc::channel();
    // Before mounting, so that every signal from then on unmounts.
    watch_signals(ends.clone()).map_err(Error::Start)?;
    // Before the handshake, which tells the kernel that there are rings.
    let (rings, unused) = make_rings(config)?;
    let serving = if rings.is_some() { cpus() + 1 } else { config.threads };
    limits::check_threads(serving + OTHER_THREADS).map_err(Error::Start)?;
    let mounted = session::mount(config, rings.is_some())?;
    let rings = start_rings(config.transport, &mounted, rings)?;
    // INTERRUPT and FORGET always come over the device.
    let readers = if rings.is_some() { 1 } else { config.threads };
    let policy = rings.as_ref().map(Started::policy).cloned();
    let setup = Setup {
        limits: config.limits,
        ceiling: message_ceiling(),
        uid: getuid().as_raw(),
        gid: getgid().as_raw(),
        shared: config.allow_other,
        backing: mounted.backing(),
        transport: if rings.is_some() { "uring" } else { "dev" },
        scheduling: policy.clone().or(unused).map(|policy| policy as Arc<dyn Scheduling>),
        threads: rings.as_ref().map_or(0, Started::count) + readers,
        descriptors: limits::descriptors_for_segments(),
        pid: getpid().as_raw_nonzero().get() as u32,
        journal: journal.clone(),
        engine: false,
    };
    let make_memory = || Memfd::new().map(|memory| Arc::new(memory) as Arc<dyn crate::segment::Memory>);
    let tree = Tree::new(setup, Box::new(make_memory), now());
    tree.restore(recovered, now());
    let (clock, alarms) = mpsc::channel();
    let devices = dev::descriptors(mounted.device(), readers.min(limits::spare_open_files()));
    let reply_queues = rings.as_ref().map_or_else(Vec::new, Started::reply_queues);
    let transport = Arc::new(Transport::new(devices, reply_queues, tree, journal.clone(), None, clock));
    let served = start_readers(&transport, readers, &ends)
        .and_then(|()| start_clock(&transport, alarms, policy.clone()));
    let recorder = start_journal(&transport, journal.as_ref()).map_err(Error::Start)?;
    if let Some(rings) = rings {
        let ends = ends.clone();
        rings.serve(&transport, move |end| report_end(&ends, end));
    }
    if served.is_ok() {
        keep_within_timeout(&transport);
        // A request through the kernel: the tree answers from now on.
        match rustix::fs::stat(config.dir.join("control/status")) {
            Ok(stat) => {
                if mounted.backing().is_none()
                    && let Err(error) = write_back::raise_limit(stat.st_dev)
                {
                    info!("many stores through mappings will be slow: {error}");
                }
            }
            Err(error) => warn!("{} does not respond: {error}", config.dir.display()),
        }
        info!("mounted on {}", config.dir.display());
        ready();
        // Only now has the daemon the session that it will keep.
        if let Some(policy) = policy {
            policy.start();
        }
    }
    if let Err(error) = served {
        mounted.unmount();
        return Err(Error::Start(error));
    }
    let ended = end.recv().unwrap_or(End::Unmounted);
    let result = finish(ended, &transport, &mounted);
    if let Some(journal) = &journal {
        transport.finish_work();
        journal.end();
    }
    if let Some(recorder) = recorder {
        // Everything is synchronized when it ends.
        let _ = recorder.join();
    }
    result
}

/// Ends a mount for that reason.
fn finish(ended: End, transport: &Transport, mounted: &Mounted) -> Result<(), Error> {
    match ended {
        End::Unmounted => {
            mounted.unmount();
            info!("unmounted");
        }
        End::Signal(signal) => {
            info!("signal {signal}: unmounting");
            transport.end();
            mounted.unmount();
        }
        End::Failed(error) => {
            transport.end();
            mounted.unmount();
            return Err(Error::Serve(error));
        }
    }
    Ok(())
}

/// Opens the store, if one is wanted, and reads what it has.
fn open_store(config: &Config) -> Result<(Option<Arc<Journal>>, Vec<Recovered>), Error> {
    let Some(store) = &config.store else { return Ok((None, Vec::new())) };
    let (journal, recovered) = Journal::open(store).map_err(Error::Store)?;
    Ok((Some(Arc::new(journal)), recovered))
}

fn start_journal(
    transport: &Arc<Transport>,
    journal: Option<&Arc<Journal>>,
) -> io::Result<Option<JoinHandle<()>>> {
    let Some(_) = journal else { return Ok(None) };
    let thread = || thread::Builder::new().name(String::from(JOURNAL_THREAD));
    let writer = Arc::clone(transport);
    thread().spawn(move || writer.run_journal_writer())?;
    let transport = Arc::clone(transport);
    thread().spawn(move || transport.run_journal()).map(Some)
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Rings, if they are wanted and possible; otherwise, for `control/status`, why they are not used although possible.
fn make_rings(config: &Config) -> Result<(Option<Rings>, Option<Arc<RunPolicy>>), MountError> {
    let wanted = config.transport;
    if wanted == TransportKind::Dev {
        return Ok((None, None));
    }
    if wanted == TransportKind::Auto
        && rings::obstacle().is_none()
        && let Err(why) = keeps_callers(config.own_session)
    {
        info!("requests come over /dev/fuse, which is quicker here: {why}");
        return Ok((None, Some(Arc::new(RunPolicy::not_used(why)))));
    }
    // Checked first, because the memory of rings is never unmapped.
    let messages = config.limits.memory.min(MOST_ROOM_FOR_MESSAGES) as usize;
    let room = ROOM_BESIDE_RINGS + ROOM_OF_RING * cpus() + 2 * messages;
    let made = if heap::has_room(room) {
        Rings::make().map_err(|why| why.to_string())
    } else {
        Err(String::from(
            "io_uring cannot be set up: the limits of this process leave too little memory for it",
        ))
    };
    match made {
        Ok(rings) => Ok((Some(rings), None)),
        Err(why) if wanted == TransportKind::Uring => Err(MountError::NoRings(why)),
        Err(why) => {
            info!("requests come over /dev/fuse: {why}");
            Ok((None, None))
        }
    }
}

/// Starts the rings, if the kernel has agreed to use them.
fn start_rings(
    wanted: TransportKind,
    mounted: &Mounted,
    rings: Option<Rings>,
) -> Result<Option<Started>, MountError> {
    let Some(rings) = rings else { return Ok(None) };
    let started = if mounted.takes_rings() {
        rings.start(mounted.device())
    } else {
        Err(String::from("the kernel does not offer it to this mount"))
    };
    match started {
        Ok(started) => Ok(Some(started)),
        Err(why) if wanted == TransportKind::Uring => {
            mounted.unmount();
            Err(MountError::NoRings(why))
        }
        Err(why) => {
            warn!("requests come over /dev/fuse: {why}");
            Ok(None)
        }
    }
}

fn start_readers(transport: &Arc<Transport>, count: usize, ends: &Sender<End>) -> io::Result<()> {
    for index in 0..count {
        let (transport, ends) = (Arc::clone(transport), ends.clone());
        thread::Builder::new()
            .name(format!("serve-{index}"))
            .spawn(move || report_end(&ends, dev::serve(&transport, index)))?;
    }
    Ok(())
}

/// Reports that a serving thread has ended.
fn report_end(ends: &Sender<End>, end: io::Result<()>) {
    // Fails only if the mount is ending already.
    let _ = ends.send(end.map_or_else(End::Failed, |()| End::Unmounted));
}

fn start_clock(
    transport: &Arc<Transport>,
    alarms: Receiver<Alarm>,
    policy: Option<Arc<RunPolicy>>,
) -> io::Result<()> {
    let worker = Arc::clone(transport);
    thread::Builder::new().name(String::from("work")).spawn(move || {
        worker.run_work(policy.as_deref());
    })?;
    let transport = Arc::clone(transport);
    thread::Builder::new().name(String::from("clock")).spawn(move || transport.run_timer(&alarms))?;
    Ok(())
}

fn watch_signals(ends: Sender<End>) -> io::Result<()> {
    let mut signals = limits::handle_signals()?;
    thread::Builder::new().name(String::from("signals")).spawn(move || {
        for signal in signals.forever() {
            let _ = ends.send(End::Signal(signal));
        }
    })?;
    Ok(())
}

/// The longest message that the kernel sends in one request, wherever in a page it begins.
fn message_ceiling() -> u32 {
    let page = rustix::param::page_size() as u64;
    let pages = u64::from(MAX_WRITE).div_ceil(page);
    let pages = pages.min(sysctl("max_pages_limit").unwrap_or(256));
    let ceiling = pages.saturating_sub(1).saturating_mul(page).min(u64::from(MSGSIZE_CEILING)) as u32;
    if ceiling < MSGSIZE_CEILING {
        warn!("messages are limited to {ceiling} bytes by fs.fuse.max_pages_limit or the page size");
    }
    ceiling
}

/// If the kernel aborts mounts whose requests wait too long, ends the waits before that with `EINTR`.
fn keep_within_timeout(transport: &Arc<Transport>) {
    let limits = [sysctl("default_request_timeout"), sysctl("max_request_timeout")];
    let Some(seconds) = limits.into_iter().flatten().filter(|seconds| *seconds > 0).min() else { return };
    warn!("the kernel limits requests to {seconds} s: waiting calls fail with EINTR after half of that");
    let (wait, transport) = (Duration::from_secs(seconds) / 2, Arc::clone(transport));
    let spawned = thread::Builder::new().name(String::from("timeout")).spawn(move || {
        loop {
            thread::sleep(wait / 4);
            transport.expire(Timestamp(now().0.saturating_sub(wait.as_nanos() as u64)));
        }
    });
    if let Err(error) = spawned {
        warn!("waiting calls cannot be ended in time: {error}");
    }
}

fn sysctl(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/fs/fuse").join(name)).ok()?;
    text.trim().parse().ok()
}
