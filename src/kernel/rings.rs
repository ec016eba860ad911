//! The rings of a mount: whether they are possible, how they are set up, and how their threads start.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use log::debug;
use rustix::process::Pid;

use super::cpus;
use super::left::LeftRequest;
use super::reply_path::MAX_RINGS;
use super::reply_queue::ReplyQueue;
use super::run_policy::{RingPolicy, RunPolicy};
pub use super::saved_ring::{KeptRing, SavedRing};
use super::transport::Transport;
use super::uring::{ENTRIES_OFFLINE, RingServer};
use crate::config::{MAX_WRITE, PAGE};
use crate::sys::child;
use crate::sys::fuse_ring::{Event, FuseRing, Slot};

/// Module parameter that makes the kernel offer FUSE over `io_uring`.
pub const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// Initial number of entries of an online CPU's queue.
const ENTRIES: u32 = 32;

/// Why requests cannot come by `io_uring`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The kernel is too old.
    #[error("this kernel has no FUSE over io_uring (it takes Linux 6.14)")]
    Kernel,
    /// The kernel's support is switched off.
    #[error("FUSE over io_uring is off")]
    Off,
    /// The daemon is not in the initial PID namespace, so callers outside its namespace have no process id here.
    #[error(
        "processes of other PID namespaces are not visible (in a container, --pid=host makes them visible)"
    )]
    Namespace,
    /// /proc hides other users' processes.
    #[error("/proc hides other users' processes")]
    Hidden,
    /// The daemon's CPU affinity excludes some CPUs.
    #[error("this process may not run on all CPUs")]
    Affinity,
    /// The list of CPUs cannot be read.
    #[error("the machine's CPUs cannot be listed")]
    Cpus,
    /// Rings count as locked memory, except for root (`io_uring_setup(2)`): the error, and the limit in KiB.
    #[error(
        "io_uring cannot be set up: {0} (its rings are locked memory, which is limited to {1} KiB for this user)"
    )]
    LockedMemory(String, u64),
    /// The kernel refused to create a ring.
    #[error("io_uring cannot be set up: {0}")]
    Refused(String),
}

impl Obstacle {
    fn from_setup_error(error: &io::Error) -> Obstacle {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let is_limited = error.kind() == io::ErrorKind::OutOfMemory && !rustix::process::geteuid().is_root();
        match limit.filter(|_| is_limited) {
            Some(bytes) => Obstacle::LockedMemory(error.to_string(), bytes / 1024),
            None => Obstacle::Refused(error.to_string()),
        }
    }
}

/// What prevents this process from using rings, as far as it is known before any is created.
pub fn obstacle() -> Option<Obstacle> {
    // PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h.
    let initial = "pid:[4026531836]";
    match std::fs::read_to_string(PARAMETER) {
        Err(_) => return Some(Obstacle::Kernel),
        Ok(value) if value.trim() != "Y" => return Some(Obstacle::Off),
        Ok(_) => {}
    }
    if std::fs::read_link("/proc/self/ns/pid").is_ok_and(|ns| ns.as_os_str() != initial) {
        return Some(Obstacle::Namespace);
    }
    // Process 1 always exists, and belongs to root.
    if std::fs::read("/proc/1/stat").is_err() {
        return Some(Obstacle::Hidden);
    }
    match cpus::online() {
        None => Some(Obstacle::Cpus),
        Some(online) => (!cpus::may_run_on(&online)).then_some(Obstacle::Affinity),
    }
}

/// Rings that are set up but not yet registered with a mount.
#[derive(Debug)]
pub struct Rings(Vec<NewRing>);

#[derive(Debug)]
struct NewRing {
    cpu: usize,
    ring: FuseRing,
    entries: Entries,
}

/// With what a ring begins.
#[derive(Debug)]
enum Entries {
    /// The queues that it serves, with their initial entries.
    New(Vec<(u16, Range<Slot>)>),
    /// What another process had at a standstill.
    TakenOver(SavedRing),
    /// What another process had when it was killed.
    Left(SavedRing),
}

/// Rings that are registered with a mount, and the threads that will serve them.
#[derive(Debug)]
pub struct Started {
    reply_queues: Vec<Arc<ReplyQueue>>,
    policy: Arc<RunPolicy>,
    threads: Vec<Sender<Start>>,
    left: Vec<LeftRequest>,
    kept: Vec<KeptRing>,
}

/// What a thread waits for before it serves: the transport, and what to call when it ends.
type Start = (Arc<Transport>, Box<dyn FnOnce(io::Result<()>) + Send>);

impl Rings {
    /// Creates a ring for each online CPU, and maps the memory of its entries.
    ///
    /// # Errors
    /// What prevents rings on this machine, or for this user.
    pub fn make() -> Result<Rings, Obstacle> {
        if let Some(obstacle) = obstacle() {
            return Err(obstacle);
        }
        let (Some(online), Some(possible)) = (cpus::online(), cpus::possible()) else {
            return Err(Obstacle::Cpus);
        };
        // The longest request, in whole pages.
        let payload = (MAX_WRITE as usize).next_multiple_of(PAGE as usize);
        let make = || {
            let mut rings = Vec::new();
            for (index, cpu) in online.iter().take(MAX_RINGS).enumerate() {
                let ring = FuseRing::new(index as u32, payload)?;
                rings.push((*cpu, ring, Vec::new()));
            }
            for queue in 0..possible {
                let own = rings.iter().position(|(cpu, ..)| *cpu == queue);
                let count = if online.contains(&queue) { ENTRIES } else { ENTRIES_OFFLINE };
                let index = own.unwrap_or(queue % rings.len().max(1));
                if let Some((_, ring, entries)) = rings.get_mut(index) {
                    entries.push((queue as u16, ring.add(queue as u16, count)?));
                }
            }
            let made = |(cpu, ring, entries)| NewRing { cpu, ring, entries: Entries::New(entries) };
            io::Result::Ok(rings.into_iter().map(made).collect())
        };
        make().map(Rings).map_err(|error| Obstacle::from_setup_error(&error))
    }

    /// Registers all entries with the kernel, from the threads that will serve them. Once the last queue has an entry,
    /// requests come by the rings. If registering fails, the kernel is made to send requests by the device instead.
    ///
    /// # Errors
    /// Why requests do not come by the rings.
    pub fn start(self, device: &Arc<OwnedFd>) -> Result<Started, String> {
        self.start_threads(device).map_err(|error| match fall_back_to_device(device) {
            Ok(()) => format!("the kernel refuses the rings: {error}"),
            Err(worse) => format!("the kernel refuses the rings ({error}) and also /dev/fuse ({worse})"),
        })
    }

    /// Starts the threads for rings of another process.
    ///
    /// # Errors
    /// Why they cannot be served. Nothing has changed for the other process.
    pub fn take_over(saved: Vec<SavedRing>, device: &Arc<OwnedFd>) -> io::Result<Started> {
        Rings::of_others(saved, Entries::TakenOver)?.start_threads(device)
    }

    /// Starts the threads for rings of a process that was killed: no entry of `lost` waits or has arrived, because nobody knows.
    ///
    /// # Errors
    /// Why they cannot be served.
    pub fn adopt(lost: Vec<SavedRing>, device: &Arc<OwnedFd>) -> io::Result<Started> {
        Rings::of_others(lost, Entries::Left)?.start_threads(device)
    }

    fn of_others(saved: Vec<SavedRing>, entries: impl Fn(SavedRing) -> Entries) -> io::Result<Rings> {
        let make = |saved: SavedRing| {
            let memory = saved.memory.try_clone()?;
            let ring = FuseRing::take_over(memory, saved.payload, &saved.extents)?;
            io::Result::Ok(NewRing { cpu: saved.cpu, ring, entries: entries(saved) })
        };
        Ok(Rings(saved.into_iter().map(make).collect::<io::Result<_>>()?))
    }

    fn start_threads(self, device: &Arc<OwnedFd>) -> io::Result<Started> {
        let (result_sender, results) = mpsc::channel();
        let (mut reply_queues, mut threads) = (Vec::new(), Vec::new());
        let policy = Arc::new(RunPolicy::default());
        let count = self.0.len();
        let (mut left, mut failed, mut kept) = (Vec::new(), None, Vec::new());
        for (index, new) in self.0.into_iter().enumerate() {
            let queues = match &new.entries {
                Entries::New(entries) => entries.iter().map(|(queue, _)| *queue).collect(),
                Entries::TakenOver(saved) | Entries::Left(saved) => {
                    saved.queues.iter().map(|(queue, _)| *queue).collect()
                }
            };
            kept.push(SavedRing::of_ring(index as u32, new.cpu, queues, &new.ring)?);
            let reply_queue = Arc::new(ReplyQueue::new(new.ring.waker()));
            let (start_sender, start) = mpsc::channel();
            reply_queues.push(Arc::clone(&reply_queue));
            threads.push(start_sender);
            let (result, device) = (result_sender.clone(), Arc::clone(device));
            let own_policy = RingPolicy::new(Arc::clone(&policy));
            let spawned = thread::Builder::new()
                .name(format!("ring-{}", new.cpu))
                .spawn(move || run(index as u32, new, &device, (reply_queue, own_policy), &result, &start));
            failed = failed.or(spawned.err());
        }
        for _ in 0..count {
            if failed.is_none() {
                match results.recv().unwrap_or_else(|_| Err(io::Error::other("a thread ended"))) {
                    Ok(requests) => left.extend(requests),
                    Err(error) => failed = Some(error),
                }
            }
        }
        match failed {
            None => Ok(Started { reply_queues, policy, threads, left, kept }),
            Some(error) => Err(error),
        }
    }
}

impl Started {
    /// For each ring, where other threads leave answers.
    pub fn reply_queues(&self) -> Vec<Arc<ReplyQueue>> {
        self.reply_queues.clone()
    }

    /// The scheduling policy of the threads that serve.
    pub fn policy(&self) -> &Arc<RunPolicy> {
        &self.policy
    }

    /// Takes what a process that was killed has left unanswered, for [`Transport::handle_left`].
    pub fn take_left(&mut self) -> Vec<LeftRequest> {
        std::mem::take(&mut self.left)
    }

    /// Takes what another process has to keep of each ring, so that it can be [adopted](Rings::adopt) if this one is killed.
    pub fn take_kept(&mut self) -> Vec<KeptRing> {
        std::mem::take(&mut self.kept)
    }

    /// Number of threads that serve.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Lets the threads serve until the mount ends. Each calls `ended` when it ends.
    pub fn serve(self, transport: &Arc<Transport>, ended: impl Fn(io::Result<()>) + Clone + Send + 'static) {
        for thread in self.threads {
            // A thread that has reported its registration waits for this.
            let _ = thread.send((Arc::clone(transport), Box::new(ended.clone())));
        }
    }
}

/// Makes a request for `path`, which is in the mount, on each CPU, in another process: [`child::result_of`] tells whether all are
/// answered. What came while nobody served is pending, though entries are free: the kernel looks at it when something on that CPU is
/// answered.
///
/// # Errors
/// Those of `fork(2)`.
pub fn push(path: &Path) -> io::Result<Pid> {
    child::call_on_cpus(&cpus::online().unwrap_or_default(), path)
}

/// Runs a ring's thread.
fn run(
    index: u32,
    new: NewRing,
    device: &Arc<OwnedFd>,
    (reply_queue, policy): (Arc<ReplyQueue>, RingPolicy),
    result: &Sender<io::Result<Vec<LeftRequest>>>,
    start: &Receiver<Start>,
) {
    cpus::pin_to(new.cpu);
    let alone = |server| (server, Vec::new());
    let server = match new.entries {
        Entries::New(entries) => {
            RingServer::start(index, new.cpu, new.ring, entries, device, reply_queue, policy).map(alone)
        }
        Entries::TakenOver(saved) => {
            RingServer::take_over(new.ring, &saved, device, reply_queue, policy).map(alone)
        }
        Entries::Left(lost) => RingServer::adopt(new.ring, lost, device, reply_queue, policy),
    };
    match server {
        Err(error) => drop(result.send(Err(error))),
        Ok((server, left)) => {
            let _ = result.send(Ok(left));
            if let Ok((transport, ended)) = start.recv() {
                ended(server.serve(&transport));
            }
        }
    }
}

/// Makes the kernel send requests by the device. It does so once it has refused an entry.
fn fall_back_to_device(device: &Arc<OwnedFd>) -> io::Result<()> {
    const NO_QUEUE: u16 = u16::MAX;
    let mut ring = FuseRing::new(MAX_RINGS as u32, PAGE as usize)?;
    let entries = ring.add(NO_QUEUE, 1)?;
    ring.enable(device)?;
    for slot in entries {
        ring.register(slot)?;
    }
    match ring.next_event() {
        Some(Event::Entry(_, Err(error))) => {
            debug!("requests come by the device: {error}");
            Ok(())
        }
        _ => Err(io::Error::other("the kernel accepts an entry for a queue that does not exist")),
    }
}
