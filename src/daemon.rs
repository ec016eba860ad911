//! A mount's life: mount, serve, end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use log::{info, warn};
use rustix::process::{Resource, getgid, getpid, getuid};
use signal_hook::consts::{SIGINT, SIGIO, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{Config, MAX_WRITE, MSGSIZE_CEILING, TransportKind};
use crate::kernel::dev;
use crate::kernel::rings::{self, Rings, Started};
use crate::kernel::run_policy::{RunPolicy, keeps_callers};
use crate::kernel::session::{self, MountError, Mounted};
use crate::kernel::transport::{Transport, now};
use crate::op::Timestamp;
use crate::sys::heap;
use crate::sys::memfd::Memfd;
use crate::sys::write_back;
use crate::tree::{Scheduling, Setup, Tree};

/// Descriptors that the daemon keeps for itself, or a quarter of all if that is less: each thread may look at `/proc` or at a
/// segment's use.
const RESERVED_DESCRIPTORS: u64 = 80;

/// Why a mount could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be made.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Requests could not be read, or threads not started.
    #[error("the request loop failed: {0}")]
    Serve(#[from] io::Error),
}

/// What ends a mount.
enum End {
    /// SIGTERM or SIGINT.
    Signal(i32),
    /// The kernel has no more requests: unmounted by somebody else.
    Unmounted,
    /// A thread failed.
    Failed(io::Error),
}

/// Mounts and serves until the mount ends. `ready` is called once, when the tree answers.
pub fn run(config: &Config, ready: impl FnOnce()) -> Result<(), Error> {
    heap::use_one_arena();
    let (ends, end) = mpsc::channel();
    // Before the mount, so that no signal comes between the two.
    watch_signals(ends.clone())?;
    raise_descriptor_limit();
    // Before the handshake, which promises the kernel that there are some.
    let (rings, unused) = make_rings(config)?;
    let mounted = session::mount(config, rings.is_some())?;
    let rings = start_rings(config.transport, &mounted, rings)?;
    // INTERRUPT and FORGET come by the device in any case.
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
        descriptors: spare_descriptors(),
        pid: getpid().as_raw_nonzero().get() as u32,
    };
    let make_memory = || Memfd::new().map(|memory| Arc::new(memory) as Arc<dyn crate::segment::Memory>);
    let tree = Tree::new(setup, Box::new(make_memory), now());
    let (clock, wishes) = mpsc::channel();
    let devices = dev::descriptors(mounted.device(), readers);
    let reply_queues = rings.as_ref().map_or_else(Vec::new, Started::reply_queues);
    let transport = Arc::new(Transport::new(devices, reply_queues, tree, clock));
    let mut device_number = None;
    let served = start_readers(&transport, readers, &ends).and_then(|()| start_clock(&transport, wishes));
    if let Some(rings) = rings {
        let ends = ends.clone();
        rings.serve(&transport, move |end| tell_end(&ends, end));
    }
    if served.is_ok() {
        keep_within_timeout(&transport);
        // Through the kernel and back: only now does the tree answer.
        match rustix::fs::stat(config.dir.join("control/status")) {
            Ok(stat) => {
                device_number = Some(stat.st_dev);
                if mounted.backing().is_none()
                    && let Err(error) = write_back::raise_limit(stat.st_dev)
                {
                    info!("storing much through mappings will be slow: {error}");
                }
            }
            Err(error) => warn!("{} does not answer: {error}", config.dir.display()),
        }
        info!("mounted on {}", config.dir.display());
        ready();
        // Only now has the daemon the session that it will keep.
        if let Some(policy) = policy {
            policy.start();
        }
    }
    let ended = match served {
        Ok(()) => end.recv().unwrap_or(End::Unmounted),
        Err(error) => End::Failed(error),
    };
    match ended {
        End::Unmounted => {
            info!("unmounted");
            if let Some(number) = device_number {
                mounted.clear_away(number);
            }
        }
        End::Signal(signal) => {
            info!("signal {signal}: unmounting");
            transport.end();
            mounted.unmount();
        }
        End::Failed(error) => {
            transport.end();
            mounted.unmount();
            return Err(error.into());
        }
    }
    Ok(())
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
    match Rings::make() {
        Ok(rings) => Ok((Some(rings), None)),
        Err(why) if wanted == TransportKind::Uring => Err(MountError::NoRings(why.to_string())),
        Err(why) => {
            info!("requests come over /dev/fuse: {why}");
            Ok((None, None))
        }
    }
}

/// Lets requests come by the rings, if the kernel has agreed to.
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
            .spawn(move || tell_end(&ends, dev::serve(&transport, index)))?;
    }
    Ok(())
}

/// A thread that served is at its end.
fn tell_end(ends: &Sender<End>, end: io::Result<()>) {
    // Fails only when the first to end has been heard already.
    let _ = ends.send(end.map_or_else(End::Failed, |()| End::Unmounted));
}

fn start_clock(transport: &Arc<Transport>, wishes: Receiver<Timestamp>) -> io::Result<()> {
    let transport = Arc::clone(transport);
    thread::Builder::new().name(String::from("clock")).spawn(move || transport.run_timer(&wishes))?;
    Ok(())
}

fn watch_signals(ends: Sender<End>) -> io::Result<()> {
    // Somebody opening a memory file past the mount, just when it is asked about, would end the daemon otherwise.
    signal_hook::flag::register(SIGIO, Arc::default())?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name(String::from("signals")).spawn(move || {
        for signal in signals.forever() {
            let _ = ends.send(End::Signal(signal));
        }
    })?;
    Ok(())
}

/// Each segment has a memory file, and each of those a descriptor.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
        warn!("the limit of open files stays as it is: {error}");
    }
}

/// Descriptors that segments may have: all but those that are open already and some that the daemon needs now and then.
fn spare_descriptors() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
    limit.saturating_sub(open).saturating_sub(RESERVED_DESCRIPTORS.min(limit / 4))
}

/// The longest message that the kernel hands over in one piece, wherever in a page it begins.
fn message_ceiling() -> u32 {
    let page = rustix::param::page_size() as u64;
    let pages = u64::from(MAX_WRITE).div_ceil(page);
    let pages = pages.min(sysctl("max_pages_limit").unwrap_or(256));
    let ceiling = pages.saturating_sub(1).saturating_mul(page).min(u64::from(MSGSIZE_CEILING)) as u32;
    if ceiling < MSGSIZE_CEILING {
        warn!(
            "messages are bounded by {ceiling} bytes: fs.fuse.max_pages_limit or the page size allow no more"
        );
    }
    ceiling
}

/// Where the kernel ends a mount whose requests wait too long, waits end before, as if by a signal.
fn keep_within_timeout(transport: &Arc<Transport>) {
    let limits = [sysctl("default_request_timeout"), sysctl("max_request_timeout")];
    let Some(seconds) = limits.into_iter().flatten().filter(|seconds| *seconds > 0).min() else { return };
    warn!("the kernel bounds requests by {seconds} s: waiting calls end with EINTR after half of that");
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
