//! The life of a mount: mount or take over, serve, unmount or hand over.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{info, warn};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, getgid, getpid, getuid};

use crate::config::{Config, Limits, MAX_WRITE, MSGSIZE_CEILING, TransportKind};
use crate::engine::Engine;
use crate::handover::request::{self, Asked};
use crate::handover::successor::{Predecessor, Successor};
use crate::handover::{Parts, Received};
use crate::journal::{Held, JOURNAL_THREAD, Journal, OpenError, Recovered};
use crate::kernel::dev;
use crate::kernel::rings::{self, Rings, SavedRing, Started};
use crate::kernel::run_policy::{RunPolicy, keeps_callers};
use crate::kernel::session::{self, MountError, Mounted};
use crate::kernel::transport::{Alarm, Transport, now};
use crate::limits;
use crate::notify;
use crate::op::NodeId;
use crate::sys::heap;
use crate::sys::memfd::Memfd;
use crate::sys::signals;
use crate::sys::write_back;
use crate::tree::{Scheduling, Setup, Tree};

/// Threads that start after mounting and serve no requests: the timer, the worker, that of the kernel's time limit for requests, the
/// one that listens for upgrades, the journal's two, and the engine's two.
const OTHER_THREADS: usize = 8;

/// Bytes of memory that rings must leave: for the handshake's buffer of 16 MiB, and for the other threads.
const ROOM_BESIDE_RINGS: usize = 32 << 20;

/// Bytes of memory for the ring of one CPU: its entries, and the stack of its thread.
const ROOM_OF_RING: usize = 40 << 20;

/// How long the journal may take to finish a write, at a standstill.
const HOLD: Duration = Duration::from_secs(1);

/// Most bytes for messages that are looked for: a request for all memory of the machine could fail without need.
const MOST_ROOM_FOR_MESSAGES: u64 = 512 << 20;

/// Why mounting or serving failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Mounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The engine cannot be used. Says what to do.
    #[error("{0}")]
    Engine(String),
    /// The store cannot be used.
    #[error("cannot use the store: {0}")]
    Store(OpenError),
    /// A thread or a signal handler could not be set up.
    #[error("cannot start the daemon's threads: {0}")]
    Start(io::Error),
    /// Requests could not be read.
    #[error("the request loop failed: {0}")]
    Serve(io::Error),
    /// What shall be in the mount when it is ready could not be made.
    #[error("{0}")]
    Prepare(String),
    /// A mount could not be taken over. It stays with the process that has it.
    #[error("cannot take the mount over: {0}")]
    TakeOver(io::Error),
}

/// What ends a mount.
enum End {
    /// A signal that unmounts.
    Signal(i32),
    /// The kernel sends no more requests: somebody else unmounted or aborted it.
    Unmounted,
    /// Reading requests failed.
    Failed(io::Error),
    /// The mount could not be made ready.
    Unready(String),
    /// It is to be handed over. The next request comes when the sender is dropped.
    Asked(Asked, Sender<()>),
}

/// A mount that is served.
struct Daemon {
    dir: PathBuf,
    own_session: bool,
    /// Where the log goes, if it is not standard error.
    log: Option<File>,
    mounted: Mounted,
    /// Number of threads that read the device, and of all that serve.
    readers: usize,
    threads: usize,
    transport: Arc<Transport>,
    journal: Option<Arc<Journal>>,
    recorder: Option<JoinHandle<()>>,
    engine: Option<Engine>,
    /// Where requests to hand the mount over come in. `None`: it cannot be handed over.
    listener: Option<Arc<UnixListener>>,
    ends: Sender<End>,
    end: Receiver<End>,
}

/// What begins to serve once nothing can fail any more.
struct Start {
    rings: Option<Started>,
    alarms: Receiver<Alarm>,
    policy: Option<Arc<RunPolicy>>,
}

/// Mounts and serves until the mount ends, or another process serves it. `log` is where the log goes, if it is not standard
/// error. `ready` is called once, when the tree answers; if it fails, the mount ends.
pub fn run(
    config: &Config,
    log: Option<File>,
    ready: impl FnOnce() -> Result<(), String>,
) -> Result<(), Error> {
    limits::set();
    heap::fill_reserves();
    // Before mounting: a store that is in use or cannot be read must not end a mount.
    let (journal, recovered) = open_store(config)?;
    let msgsize = config.limits.mailbox.msgsize;
    let engine = config.engine.as_ref().map(|engine| Engine::connect(engine, msgsize));
    let engine = engine.transpose().map_err(Error::Engine)?;
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
        scheduling: policy.clone().or(unused).map(|policy| policy as Arc<dyn Scheduling>),
        journal: journal.clone(),
        engine: engine.is_some(),
        ..setup(&mounted, rings.as_ref(), readers)
    };
    let tree = Tree::new(setup, Box::new(make_memory), now());
    tree.restore(recovered, now());
    let (clock, alarms) = mpsc::channel();
    let devices = dev::descriptors(mounted.device(), readers.min(limits::spare_open_files()));
    let reply_queues = rings.as_ref().map_or_else(Vec::new, Started::reply_queues);
    let teller = engine.as_ref().map(Engine::teller);
    let transport = Arc::new(Transport::new(devices, reply_queues, tree, journal.clone(), teller, clock));
    if let Some(engine) = &engine {
        let transport = Arc::clone(&transport);
        engine.serve(|| Box::new(move |event| transport.engine(event)));
    }
    let recorder = start_journal(&transport, journal.as_ref()).map_err(Error::Start)?;
    let daemon = Daemon {
        dir: config.dir.clone(),
        own_session: config.own_session,
        log,
        readers,
        threads: setup_threads(rings.as_ref(), readers),
        listener: listen(&mounted),
        mounted,
        transport,
        journal,
        recorder,
        engine,
        ends,
        end,
    };
    let served = daemon.start(Start { rings, alarms, policy: policy.clone() });
    if served.is_ok() {
        keep_within_timeout(&daemon.transport);
        // A request through the kernel: the tree answers from now on.
        match rustix::fs::stat(config.dir.join("control/status")) {
            Ok(stat) => {
                if daemon.mounted.backing().is_none()
                    && let Err(error) = write_back::raise_limit(stat.st_dev)
                {
                    info!("many stores through mappings will be slow: {error}");
                }
            }
            Err(error) => warn!("{} does not respond: {error}", config.dir.display()),
        }
        info!("mounted on {}", config.dir.display());
        if let Err(why) = ready() {
            let _ = daemon.ends.send(End::Unready(why));
        }
        // Only now has the daemon the session that it will keep.
        if let Some(policy) = policy {
            policy.start(false);
        }
    }
    if let Err(error) = served {
        daemon.mounted.unmount();
        return Err(Error::Start(error));
    }
    daemon.serve()
}

/// Takes a mount over from the daemon at the other end of `socket`, and serves until the mount ends, or another process serves it.
pub fn take_over(socket: UnixStream) -> Result<(), Error> {
    limits::set();
    heap::fill_reserves();
    let descriptors = limits::descriptors_for_segments();
    let (ends, end) = mpsc::channel();
    watch_signals(ends.clone()).map_err(Error::Start)?;
    let predecessor = Predecessor::new(socket);
    let received = predecessor.receive().map_err(Error::TakeOver);
    let prepared = received.and_then(|received| prepare(received, descriptors, ends, end));
    let (mut daemon, start) = prepared.inspect_err(|why| predecessor.give_up(&why.to_string()))?;
    predecessor.wait_for_go().map_err(Error::TakeOver)?;
    drop(predecessor);
    info!("serving the mount on {}", daemon.dir.display());
    if daemon.own_session
        && let Err(error) = rustix::process::setsid()
    {
        info!("cannot create a session: {error}");
    }
    daemon.transport.tick();
    let policy = start.policy.clone();
    let started = start_journal(&daemon.transport, daemon.journal.as_ref()).and_then(|recorder| {
        daemon.recorder = recorder;
        daemon.start(start)
    });
    if let Err(error) = started {
        daemon.mounted.unmount();
        return Err(Error::Start(error));
    }
    if let Some(policy) = policy {
        policy.start(true);
    }
    daemon.serve()
}

/// Makes all that the predecessor had, without a change to it.
fn prepare(
    received: Received,
    descriptors: u64,
    ends: Sender<End>,
    end: Receiver<End>,
) -> Result<(Daemon, Start), Error> {
    let Received { dir, own_session, readers, mounted, devices, listener, rings, store, state, memories } =
        received;
    let journal = store.map(|[folder, lock]| Journal::take_over(folder, lock)).transpose();
    let journal = journal.map_err(Error::Store)?.map(Arc::new);
    let rings = (!rings.is_empty()).then(|| Rings::take_over(rings, mounted.device())).transpose();
    let rings = rings.map_err(Error::TakeOver)?;
    let policy = rings.as_ref().map(Started::policy).cloned();
    let threads = setup_threads(rings.as_ref(), readers);
    limits::check_threads(threads + OTHER_THREADS).map_err(Error::Start)?;
    let scheduling = policy.clone().map(|policy| policy as Arc<dyn Scheduling>);
    let journal_of_tree = journal.clone();
    let setup = Setup {
        scheduling,
        descriptors,
        journal: journal_of_tree,
        ..setup(&mounted, rings.as_ref(), readers)
    };
    let tree = Tree::take_over(setup, Box::new(make_memory), &state, memories, now());
    let tree = tree.map_err(|error| Error::TakeOver(io::Error::other(error)))?;
    let (clock, alarms) = mpsc::channel();
    let reply_queues = rings.as_ref().map_or_else(Vec::new, Started::reply_queues);
    let transport = Arc::new(Transport::new(devices, reply_queues, tree, journal.clone(), None, clock));
    let daemon = Daemon {
        dir,
        own_session,
        log: None,
        mounted,
        readers,
        threads,
        transport,
        journal,
        recorder: None,
        engine: None,
        listener: Some(Arc::new(listener)),
        ends,
        end,
    };
    Ok((daemon, Start { rings, alarms, policy }))
}

/// What a tree is made with, as far as it depends on this process. The rest is that of a mount without anything.
fn setup(mounted: &Mounted, rings: Option<&Started>, readers: usize) -> Setup {
    Setup {
        limits: Limits::for_machine(0),
        ceiling: MSGSIZE_CEILING,
        uid: 0,
        gid: 0,
        shared: false,
        backing: mounted.backing(),
        transport: if rings.is_some() { "uring" } else { "dev" },
        scheduling: None,
        threads: setup_threads(rings, readers),
        descriptors: limits::descriptors_for_segments(),
        pid: getpid().as_raw_nonzero().get() as u32,
        journal: None,
        engine: false,
    }
}

fn setup_threads(rings: Option<&Started>, readers: usize) -> usize {
    rings.map_or(0, Started::count) + readers
}

fn make_memory() -> Result<Arc<dyn crate::segment::Memory>, crate::op::Error> {
    Memfd::new().map(|memory| Arc::new(memory) as Arc<dyn crate::segment::Memory>)
}

/// Where requests come in to hand the mount over.
fn listen(mounted: &Mounted) -> Option<Arc<UnixListener>> {
    match request::listen(mounted.number()?) {
        Ok(listener) => Some(Arc::new(listener)),
        Err(error) => {
            warn!("the mount cannot be upgraded: {error}");
            None
        }
    }
}

impl Daemon {
    /// Starts the threads that serve.
    fn start(&self, start: Start) -> io::Result<()> {
        let Start { rings, alarms, policy } = start;
        signals::allow_interrupting();
        start_readers(&self.transport, self.readers, &self.ends)?;
        start_clock(&self.transport, alarms, policy)?;
        if let Some(rings) = rings {
            let ends = self.ends.clone();
            rings.serve(&self.transport, move |end| report_end(&ends, end));
        }
        if let Some(listener) = &self.listener {
            let (listener, ends) = (Arc::clone(listener), self.ends.clone());
            thread::Builder::new().name(String::from("upgrade")).spawn(move || {
                loop {
                    let asked = request::next(&listener);
                    let (in_hand, done) = mpsc::channel();
                    let _ = ends.send(End::Asked(asked, in_hand));
                    // The next request is the successor's, if there is one.
                    let _ = done.recv();
                }
            })?;
        }
        Ok(())
    }

    /// Waits until the mount ends, or another process serves it.
    fn serve(mut self) -> Result<(), Error> {
        let ended = loop {
            match self.end.recv() {
                Ok(End::Asked(asked, in_hand)) => match self.hand_over(&asked.program) {
                    Ok(successor) => {
                        self.leave(successor);
                        asked.answer(Ok(()));
                        std::mem::forget(in_hand);
                        return Ok(());
                    }
                    Err(why) => {
                        info!("the mount stays with this process: {why}");
                        asked.answer(Err(&why));
                    }
                },
                Ok(end) => break end,
                Err(_) => break End::Unmounted,
            }
        };
        let result = finish(ended, &self.transport, &self.mounted);
        if let Some(engine) = &mut self.engine {
            engine.end();
        }
        if let Some(journal) = &self.journal {
            self.transport.finish_work();
            journal.end();
        }
        if let Some(recorder) = self.recorder {
            // Everything is synchronized when it ends.
            let _ = recorder.join();
        }
        result
    }

    /// Hands the mount over to a program, and returns the process id of its process. After that nothing of the mount may be
    /// touched.
    ///
    /// # Errors
    /// Why not. Then everything goes on.
    fn hand_over(&self, program: &Path) -> Result<u32, String> {
        if request_timeout().is_some() {
            return Err(String::from(
                "the kernel limits how long requests may take (fs.fuse.*_request_timeout)",
            ));
        }
        if !self.own_session && !notify::has_manager() {
            return Err(String::from(
                "it runs in the foreground, and who started it would take the end of this process for the end of the mount",
            ));
        }
        if rustix::process::getrlimit(rustix::process::Resource::Fsize).current.is_some() {
            return Err(String::from("its memory files have a limit of size (ulimit -f)"));
        }
        if self.engine.is_some() {
            return Err(String::from(
                "other hosts share its mailboxes (--engine), and what it has in hand of them cannot be handed over; unmount and mount \
                 it: what is acknowledged stays with the engine",
            ));
        }
        if self.journal.as_ref().is_some_and(|journal| journal.figures().broken.is_some()) {
            return Err(String::from("its store is broken"));
        }
        let listener = self.listener.as_ref().ok_or("it has no socket")?;
        let successor = Successor::start(program, &self.dir, self.log.as_ref())?;
        let pid = successor.pid();
        // Open, so that the kernel knows it until the threads stand still.
        let status = self.open_status()?;
        let known = rustix::fs::fstat(&status).map_err(|error| error.to_string())?.st_ino;
        // The threads that serve, the worker and the clock.
        let rings = self.transport.stand_still(self.threads + 2, NodeId(known));
        let (given, held) = match rings {
            Ok(rings) => self.give(successor, &rings, listener),
            Err(who) => {
                drop(successor);
                warn!("not all threads stop: {who}");
                let or_disk =
                    if self.journal.is_some() { ", or the disk of its store does not respond" } else { "" };
                (Err(format!("its threads do not stop{or_disk}")), None)
            }
        };
        if given.is_ok() {
            // Nothing is written until this process has ended.
            std::mem::forget(held);
        } else {
            drop(held);
            self.transport.go_on();
        }
        given.map(|()| pid)
    }

    /// Gives a successor all that there is at a standstill. Also returns the journal, which must not write before this process goes
    /// on.
    fn give(
        &self,
        successor: Successor,
        rings: &[SavedRing],
        listener: &UnixListener,
    ) -> (Result<(), String>, Option<Held<'_>>) {
        let held = self.journal.as_ref().map(|journal| journal.hold(HOLD));
        let journal = match held {
            Some(None) => return (Err(String::from("the disk of its store does not respond")), None),
            Some(held) => held,
            None => None,
        };
        let given = successor.give(&Parts {
            dir: &self.dir,
            own_session: self.own_session,
            readers: self.readers,
            mounted: &self.mounted,
            devices: self.transport.devices(),
            listener,
            rings,
            journal: journal.as_ref(),
            tree: self.transport.tree(),
        });
        (given, journal)
    }

    /// `control/status` of this mount, as a place only.
    fn open_status(&self) -> Result<OwnedFd, String> {
        let path = self.dir.join("control/status");
        let unreachable = || format!("{} is not its file", path.display());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let status = rustix::fs::open(&path, flags, Mode::empty()).map_err(|_| unreachable())?;
        let device = rustix::fs::fstat(&status).map_err(|_| unreachable())?.st_dev;
        let number = (rustix::fs::major(device), rustix::fs::minor(device));
        if Some(number) == self.mounted.number() { Ok(status) } else { Err(unreachable()) }
    }

    /// Another process serves the mount: passes on what this one was told meanwhile.
    fn leave(&self, successor: u32) {
        notify::main_process(successor);
        let successor = i32::try_from(successor).ok().and_then(Pid::from_raw);
        for end in self.end.try_iter() {
            match end {
                End::Signal(signal) => {
                    let signal = Signal::from_named_raw(signal);
                    if let Some((pid, signal)) = successor.zip(signal) {
                        let _ = rustix::process::kill_process(pid, signal);
                    }
                }
                // Requests come one after the other.
                End::Asked(..) | End::Unmounted | End::Failed(_) | End::Unready(_) => {}
            }
        }
    }
}

/// Ends a mount for that reason.
fn finish(ended: End, transport: &Transport, mounted: &Mounted) -> Result<(), Error> {
    match ended {
        End::Unmounted | End::Asked(..) => {
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
        End::Unready(why) => {
            transport.end();
            mounted.unmount();
            return Err(Error::Prepare(why));
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
    let Some(seconds) = request_timeout() else { return };
    warn!("the kernel limits requests to {seconds} s: waiting calls fail with EINTR after half of that");
    let (wait, transport) = (Duration::from_secs(seconds) / 2, Arc::clone(transport));
    let spawned = thread::Builder::new().name(String::from("timeout")).spawn(move || {
        loop {
            thread::sleep(wait / 4);
            transport.expire(wait);
        }
    });
    if let Err(error) = spawned {
        warn!("waiting calls cannot be ended in time: {error}");
    }
}

/// After how many seconds the kernel aborts a mount whose request waits.
fn request_timeout() -> Option<u64> {
    let limits = [sysctl("default_request_timeout"), sysctl("max_request_timeout")];
    limits.into_iter().flatten().filter(|seconds| *seconds > 0).min()
}

fn sysctl(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/fs/fuse").join(name)).ok()?;
    text.trim().parse().ok()
}
