//! The rings of a mount: whether there can be some, making them, and starting their threads.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use log::debug;

use super::cpus;
use super::reply_path::MAX_RINGS;
use super::transport::Transport;
use super::uring::{ReplyQueue, Serving};
use crate::config::{MAX_WRITE, PAGE};
use crate::sys::fuse_ring::{Event, FuseRing, Slot};

/// Where the kernel is told to offer FUSE over `io_uring`.
pub const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// Entries of a CPU's queue at the start.
const ENTRIES: u32 = 32;
/// Entries of the queue of a CPU that is not there: the kernel wants each to have one.
const ENTRIES_OFFLINE: u32 = 2;

/// Why requests cannot come by `io_uring`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It is too old.
    #[error("this kernel has no FUSE over io_uring (it takes Linux 6.14)")]
    Kernel,
    /// It is switched off.
    #[error("FUSE over io_uring is off")]
    Off,
    /// A caller outside the daemon's process namespace has no number here.
    #[error(
        "callers of other process namespaces could not be looked at (in a container, --pid=host lets them)"
    )]
    Namespace,
    /// /proc hides other users' processes.
    #[error("/proc hides other users' processes")]
    Hidden,
    /// The daemon is kept from some CPUs.
    #[error("this process may not run on all CPUs")]
    Affinity,
    /// Which those are cannot be found out.
    #[error("the machine's CPUs cannot be listed")]
    Cpus,
    /// Rings count as locked memory, except for root (`io_uring_setup(2)`).
    #[error(
        "io_uring cannot be set up: {0} (its rings are locked memory, of which this user may have {1} KiB)"
    )]
    LockedMemory(String, u64),
    /// The kernel refused to make one.
    #[error("io_uring cannot be set up: {0}")]
    Refused(String),
}

impl Obstacle {
    fn in_setting_up(error: &io::Error) -> Obstacle {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let is_counted = error.kind() == io::ErrorKind::OutOfMemory && !rustix::process::geteuid().is_root();
        match limit.filter(|_| is_counted) {
            Some(bytes) => Obstacle::LockedMemory(error.to_string(), bytes / 1024),
            None => Obstacle::Refused(error.to_string()),
        }
    }
}

/// What keeps this process from asking for `io_uring`, if anything does.
fn obstacle() -> Option<Obstacle> {
    let initial = "pid:[4026531836]";
    match std::fs::read_to_string(PARAMETER) {
        Err(_) => return Some(Obstacle::Kernel),
        Ok(value) if value.trim() != "Y" => return Some(Obstacle::Off),
        Ok(_) => {}
    }
    if std::fs::read_link("/proc/self/ns/pid").is_ok_and(|ns| ns.as_os_str() != initial) {
        return Some(Obstacle::Namespace);
    }
    // Process 1 is somebody else's, and always there.
    if std::fs::read("/proc/1/stat").is_err() {
        return Some(Obstacle::Hidden);
    }
    match cpus::online() {
        None => Some(Obstacle::Cpus),
        Some(online) => (!cpus::may_run_on(&online)).then_some(Obstacle::Affinity),
    }
}

/// Rings that are made, and do nothing yet.
#[derive(Debug)]
pub struct Rings(Vec<Made>);

#[derive(Debug)]
struct Made {
    cpu: usize,
    ring: FuseRing,
    /// Its queues, and their first entries.
    entries: Vec<(u16, Range<Slot>)>,
}

/// Rings whose entries the kernel has, and the threads that will serve them.
#[derive(Debug)]
pub struct Started {
    reply_queues: Vec<Arc<ReplyQueue>>,
    threads: Vec<Sender<Go>>,
}

/// What a thread waits for: the way to the tree, and whom to tell of its end.
type Go = (Arc<Transport>, Box<dyn FnOnce(io::Result<()>) + Send>);

impl Rings {
    /// One for each CPU, with its memory.
    pub fn make() -> Result<Rings, Obstacle> {
        if let Some(obstacle) = obstacle() {
            return Err(obstacle);
        }
        let (Some(online), Some(possible)) = (cpus::online(), cpus::possible()) else {
            return Err(Obstacle::Cpus);
        };
        // As much as the longest request takes, in whole pages.
        let payload = (MAX_WRITE as usize).next_multiple_of(PAGE as usize);
        let make = || {
            let mut rings = Vec::new();
            for cpu in online.iter().take(MAX_RINGS) {
                rings.push(Made { cpu: *cpu, ring: FuseRing::new(payload)?, entries: Vec::new() });
            }
            for queue in 0..possible {
                let own = rings.iter().position(|made| made.cpu == queue);
                let count = if online.contains(&queue) { ENTRIES } else { ENTRIES_OFFLINE };
                let index = own.unwrap_or(queue % rings.len().max(1));
                if let Some(made) = rings.get_mut(index) {
                    made.entries.push((queue as u16, made.ring.add(queue as u16, count)?));
                }
            }
            io::Result::Ok(rings)
        };
        make().map(Rings).map_err(|error| Obstacle::in_setting_up(&error))
    }

    /// Gives their entries to the kernel, from the threads that will serve them. From the last entry on, requests come
    /// this way. Where that fails the kernel is told that they will not, and sends them by the device.
    pub fn start(self, device: &Arc<OwnedFd>) -> Result<Started, String> {
        let (told, telling) = mpsc::channel();
        let (mut reply_queues, mut threads) = (Vec::new(), Vec::new());
        let count = self.0.len();
        let mut failed = None;
        for (index, made) in self.0.into_iter().enumerate() {
            let reply_queue = Arc::new(ReplyQueue::new(made.ring.waker()));
            let (go, going) = mpsc::channel();
            reply_queues.push(Arc::clone(&reply_queue));
            threads.push(go);
            let (told, device) = (told.clone(), Arc::clone(device));
            let spawned = thread::Builder::new()
                .name(format!("ring-{}", made.cpu))
                .spawn(move || run(index as u32, made, &device, reply_queue, &told, &going));
            failed = failed.or(spawned.err());
        }
        for _ in 0..count {
            if failed.is_none() {
                failed = telling.recv().unwrap_or_else(|_| Err(io::Error::other("a thread ended"))).err();
            }
        }
        match failed {
            None => Ok(Started { reply_queues, threads }),
            Some(error) => {
                drop(threads);
                match refuse(device) {
                    Ok(()) => Err(format!("the kernel refuses the rings: {error}")),
                    Err(worse) => {
                        Err(format!("the kernel refuses the rings ({error}), and to do without ({worse})"))
                    }
                }
            }
        }
    }
}

impl Started {
    /// Where answers by other threads go.
    pub fn reply_queues(&self) -> Vec<Arc<ReplyQueue>> {
        self.reply_queues.clone()
    }

    /// Threads that serve.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Lets the threads serve until the mount ends; `ended` is called by each that does.
    pub fn serve(self, transport: &Arc<Transport>, ended: impl Fn(io::Result<()>) + Clone + Send + 'static) {
        for thread in self.threads {
            // A thread that has reported its start waits for this.
            let _ = thread.send((Arc::clone(transport), Box::new(ended.clone())));
        }
    }
}

/// A ring's thread.
fn run(
    index: u32,
    made: Made,
    device: &Arc<OwnedFd>,
    reply_queue: Arc<ReplyQueue>,
    told: &Sender<io::Result<()>>,
    going: &Receiver<Go>,
) {
    cpus::stay_on(made.cpu);
    match Serving::start(index, made.cpu, made.ring, made.entries, device, reply_queue) {
        Err(error) => drop(told.send(Err(error))),
        Ok(serving) => {
            let _ = told.send(Ok(()));
            if let Ok((transport, ended)) = going.recv() {
                ended(serving.serve(&transport));
            }
        }
    }
}

/// Makes the kernel send requests by the device after all, which it does once it has refused an entry.
fn refuse(device: &Arc<OwnedFd>) -> io::Result<()> {
    const NO_QUEUE: u16 = u16::MAX;
    let mut ring = FuseRing::new(PAGE as usize)?;
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
        _ => Err(io::Error::other("an entry of no queue is accepted")),
    }
}
