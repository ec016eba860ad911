//! The life of a mount: mount or take over, serve, unmount or hand over.

mod end;
mod keeping;
mod kernel_limits;
mod starting;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{info, warn};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};
use rustix::process::{Pid, Signal, getgid, getpid, getuid};

use crate::config::{Config, Limits, MSGSIZE_CEILING};
use crate::engine::Engine;
use crate::handover::request;
use crate::handover::successor::{Predecessor, Successor};
use crate::handover::{Parts, Received};
use crate::history::{self, Memories, Recorded};
use crate::journal::{Held, Journal, Recovered};
use crate::kernel::dev;
use crate::kernel::left;
use crate::kernel::read_buffer::ReadBuffer;
use crate::kernel::rings::{self, KeptRing, Rings, SavedRing, Started};
use crate::kernel::run_policy::RunPolicy;
use crate::kernel::session::{self, Mounted};
use crate::kernel::transport::{Alarm, Transport, now};
use crate::limits;
use crate::notify;
use crate::op::NodeId;
use crate::supervisor::{Kept, Supervised};
use crate::sys::child;
use crate::sys::heap;
use crate::sys::memfd::Memfd;
use crate::sys::signals;
use crate::sys::write_back;
use crate::tree::{Scheduling, Setup, Tree};
pub use end::Error;
use end::{End, finish};
pub use keeping::MOST_KEPT;
use keeping::{Fixed, Keeper, Left, Means};
use kernel_limits::{keep_within_timeout, message_ceiling, request_timeout};
use starting::{cpus, make_rings, report_end, start_clock, start_journal, start_readers, start_rings};

/// Threads that start after mounting and serve no requests: the timer, the worker, that of the kernel's time limit for requests, the
/// one that listens for upgrades, the journal's two, and the engine's two.
const OTHER_THREADS: usize = 8;

/// How long the journal may take to finish a write, at a standstill.
const HOLD: Duration = Duration::from_secs(1);

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
    /// Who starts another daemon if this one is killed.
    supervised: Option<Arc<Supervised>>,
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
    buffers: Vec<ReadBuffer>,
}

/// Mounts and serves until the mount ends, or another process serves it. `log` is where the log goes, if it is not standard
/// error. `supervised`: another process starts a daemon again that is killed. `ready` is called once, when the tree answers; if it
/// fails, the mount ends.
pub fn run(
    config: &Config,
    log: Option<File>,
    supervised: Option<Supervised>,
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
    let mut rings = start_rings(config.transport, &mounted, rings)?;
    let mut kept = rings.as_mut().map_or_else(Vec::new, Started::take_kept);
    if supervised.is_none() {
        // Nobody keeps them, and their descriptors are for segments.
        kept.clear();
    }
    // INTERRUPT and FORGET always come over the device.
    let readers = if rings.is_some() { 1 } else { config.threads };
    let policy = rings.as_ref().map(Started::policy).cloned();
    let supervised = supervised.map(Arc::new);
    let kept_by = supervised.as_ref().filter(|_| journal.is_none() && engine.is_none());
    let (history, restart) =
        keeping::history(kept_by, rings.is_some(), keeping::history_length(&config.limits), readers);
    let setup = Setup {
        restart,
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
    let descriptors_of_segments = setup.descriptors;
    let mut buffers = Vec::new();
    let tree = if let Some(Means { files, keeper, buffers: to_keep }) = history {
        buffers = to_keep;
        let begun = Recorded::begin(setup, files, keeper, now());
        begun.inspect_err(|_| mounted.unmount()).map_err(Error::Start)?
    } else {
        let tree = Tree::new(setup, Arc::new(make_memory), now());
        tree.restore(recovered, now());
        Recorded::new(tree)
    };
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
        supervised,
        ends,
        end,
    };
    let files = keeping::files(&buffers);
    let served = daemon.start(Start { rings, alarms, policy: policy.clone(), buffers });
    if served.is_ok() {
        keep_within_timeout(&daemon.transport);
        // Requests through the kernel: the tree answers from now on.
        let answered = rings::push(&config.dir.join("control/status")).and_then(child::result_of);
        if let Err(error) = answered {
            warn!("{} does not respond: {error}", config.dir.display());
        }
        if let Some(number) = daemon.mounted.number()
            && daemon.mounted.backing().is_none()
            && let Err(error) = write_back::raise_limit(number)
        {
            info!("many stores through mappings will be slow: {error}");
        }
        info!("mounted on {}", config.dir.display());
        if let Err(why) = ready() {
            let _ = daemon.ends.send(End::Unready(why));
        }
        daemon.tell_supervisor(descriptors_of_segments, &kept, &files);
        drop((kept, files));
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

/// Goes on with the mount of a daemon that was killed, of which `kept` is left. `log` is as for [`run`].
pub fn go_on(supervised: Supervised, kept: Kept, log: Option<File>) -> Result<(), Error> {
    limits::set();
    heap::fill_reserves();
    let lost = |error: &dyn std::fmt::Display| Error::TakeOver(io::Error::other(error.to_string()));
    let supervised = Arc::new(supervised);
    let deaths = kept.deaths;
    let (ends, end) = mpsc::channel();
    watch_signals(ends.clone()).map_err(Error::Start)?;
    let left = Left::of(kept).map_err(Error::TakeOver)?;
    let Left { dir, readers, descriptors, mounted, devices, rings, mut buffers, history, memories } = left;
    let mut left = left::read_again(&devices, &mut buffers).map_err(|error| lost(&error))?;
    let mut rings = (!rings.is_empty()).then(|| Rings::adopt(rings, mounted.device())).transpose();
    let rings = rings.as_mut().map_err(|error| lost(error))?;
    left.extend(rings.iter_mut().flat_map(Started::take_left));
    let kept_rings = rings.as_mut().map_or_else(Vec::new, Started::take_kept);
    let rings = rings.take();
    if rings.is_some() {
        // Its calls wait until all is as it was.
        let pushed = rings::push(&dir).map_err(Error::Start)?;
        let reap = move || drop(child::result_of(pushed));
        thread::Builder::new().name(String::from("push")).spawn(reap).map_err(Error::Start)?;
    }
    let policy = rings.as_ref().map(Started::policy).cloned();
    let wanted: BTreeSet<u64> = left.iter().map(left::LeftRequest::place).collect();
    let setup = || {
        let scheduling = policy.clone().map(|policy| policy as Arc<dyn Scheduling>);
        Setup { scheduling, descriptors, ..setup(&mounted, rings.as_ref(), readers) }
    };
    let keeper = Box::new(Keeper(Arc::clone(&supervised)));
    let again = history::repeat::take_over(history, setup, memories, keeper, &wanted);
    let again = again.map_err(|error| lost(&error))?;
    warn!(
        "the daemon of {} was killed, and this one goes on ({deaths} deaths so far; {} calls made again, {} requests unanswered)",
        dir.display(),
        again.calls,
        left.len()
    );
    let (clock, alarms) = mpsc::channel();
    let reply_queues = rings.as_ref().map_or_else(Vec::new, Started::reply_queues);
    let transport = Transport::new(devices, reply_queues, again.recorded, None, None, clock);
    let transport = Arc::new(transport);
    transport.tick();
    left::leave_out(&mut left, &again.forgets, &mut buffers);
    transport.handle_left(left, again.answers, &again.stale, again.wakes, again.held, &mut buffers);
    if rings.is_some() {
        transport.look_for_unclosed();
    }
    let daemon = Daemon {
        dir,
        own_session: true,
        log,
        readers,
        threads: setup_threads(rings.as_ref(), readers),
        listener: listen(&mounted),
        mounted,
        transport,
        journal: None,
        recorder: None,
        engine: None,
        supervised: Some(supervised),
        ends,
        end,
    };
    // The lists of the rings' entries are other files now.
    daemon.tell_supervisor(descriptors, &kept_rings, &[]);
    drop(kept_rings);
    if let Err(error) = daemon.start(Start { rings, alarms, policy: policy.clone(), buffers }) {
        daemon.mounted.unmount();
        return Err(Error::Start(error));
    }
    keep_within_timeout(&daemon.transport);
    if let Some(policy) = policy {
        policy.start(true);
    }
    daemon.serve()
}

/// Takes a mount over from the daemon at the other end of `socket`, and serves until the mount ends, or another process serves it.
pub fn take_over(socket: UnixStream, supervised: Option<Supervised>) -> Result<(), Error> {
    limits::set();
    heap::fill_reserves();
    let descriptors = limits::descriptors_for_segments();
    let (ends, end) = mpsc::channel();
    watch_signals(ends.clone()).map_err(Error::Start)?;
    let predecessor = Predecessor::new(socket);
    let received = predecessor.receive().map_err(Error::TakeOver);
    let supervised = supervised.map(Arc::new);
    let prepared = received.and_then(|received| prepare(received, descriptors, supervised, (ends, end)));
    let (mut daemon, mut start, memories) =
        prepared.inspect_err(|why| predecessor.give_up(&why.to_string()))?;
    predecessor.wait_for_go().map_err(Error::TakeOver)?;
    drop(predecessor);
    info!("serving the mount on {}", daemon.dir.display());
    if daemon.own_session
        && let Err(error) = rustix::process::setsid()
    {
        info!("cannot create a session: {error}");
    }
    daemon.transport.tree().begin_history(&memories, now());
    let kept = start.rings.as_mut().map_or_else(Vec::new, Started::take_kept);
    daemon.tell_supervisor(descriptors, &kept, &keeping::files(&start.buffers));
    drop(kept);
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
    supervised: Option<Arc<Supervised>>,
    (ends, end): (Sender<End>, Receiver<End>),
) -> Result<(Daemon, Start, Memories), Error> {
    let Received {
        dir,
        own_session,
        readers,
        mounted,
        devices,
        resent,
        listener,
        rings,
        store,
        state,
        memories,
    } = received;
    let journal = store.map(|[folder, lock]| Journal::take_over(folder, lock)).transpose();
    let journal = journal.map_err(Error::Store)?.map(Arc::new);
    let rings = (!rings.is_empty()).then(|| Rings::take_over(rings, mounted.device())).transpose();
    let rings = rings.map_err(Error::TakeOver)?;
    let policy = rings.as_ref().map(Started::policy).cloned();
    let threads = setup_threads(rings.as_ref(), readers);
    limits::check_threads(threads + OTHER_THREADS).map_err(Error::Start)?;
    let scheduling = policy.clone().map(|policy| policy as Arc<dyn Scheduling>);
    let journal_of_tree = journal.clone();
    let kept_by = supervised.as_ref().filter(|_| journal.is_none());
    let (history, restart) = keeping::history(kept_by, rings.is_some(), keeping::MOST_HISTORY, readers);
    let setup = Setup {
        scheduling,
        restart,
        descriptors,
        journal: journal_of_tree,
        ..setup(&mounted, rings.as_ref(), readers)
    };
    let failed = |error: io::Error| Error::TakeOver(error);
    let mut buffers = Vec::new();
    let (tree, memories) = if let Some(Means { files, keeper, buffers: to_keep }) = history {
        buffers = to_keep;
        Recorded::take_over(setup, files, keeper, (&state, memories), now()).map_err(failed)?
    } else {
        let tree = Tree::take_over(setup, Arc::new(make_memory), &state, memories, now());
        let tree = tree.map_err(|error| failed(io::Error::other(error)))?;
        (Recorded::new(tree), Memories::default())
    };
    let (clock, alarms) = mpsc::channel();
    let reply_queues = rings.as_ref().map_or_else(Vec::new, Started::reply_queues);
    let transport = Arc::new(Transport::new(devices, reply_queues, tree, journal.clone(), None, clock));
    transport.note_all_resent(&resent);
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
        supervised,
        listener: Some(Arc::new(listener)),
        ends,
        end,
    };
    Ok((daemon, Start { rings, alarms, policy, buffers }, memories))
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
        restart: None,
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
    /// From now on the daemon can be killed, if its history is written, and signals can be taken.
    fn tell_supervisor(&self, descriptors: u64, rings: &[KeptRing], buffers: &[OwnedFd]) {
        let Some(supervised) = &self.supervised else { return };
        let fixed = Fixed {
            dir: &self.dir,
            readers: self.readers,
            descriptors,
            mounted: &self.mounted,
            devices: self.transport.devices(),
            rings,
            buffers,
        };
        if self.transport.tree().has_history()
            && let Err(error) = fixed.keep(supervised)
        {
            self.transport.tree().give_up_history(&error);
        }
        if let Err(error) = supervised.ready() {
            warn!("the supervisor is gone: {error}");
        }
    }

    /// Starts the threads that serve.
    fn start(&self, start: Start) -> io::Result<()> {
        let Start { rings, alarms, policy, buffers } = start;
        signals::allow_interrupting();
        start_readers(&self.transport, self.readers, buffers, &self.ends)?;
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
                        self.leave(successor, &asked.program);
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
        let supervisor = self.supervised.as_ref().map(|supervised| supervised.socket());
        let successor = Successor::start(program, &self.dir, self.log.as_ref(), supervisor)?;
        let pid = successor.pid();
        // Open, so that the kernel knows it until the threads stand still.
        let (_status, known) = self.open_status()?;
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
        let parts = Parts {
            dir: &self.dir,
            own_session: self.own_session,
            readers: self.readers,
            mounted: &self.mounted,
            devices: self.transport.devices(),
            resent: self.transport.resent(),
            listener,
            rings,
            journal: journal.as_ref(),
            tree: &self.transport.tree().tree(),
        };
        // Once the successor serves, what is kept for this process is of the past.
        let given = successor.give(&parts, || self.transport.tree().leave());
        (given, journal)
    }

    /// `control/status` of this mount, as a place only, and its node.
    fn open_status(&self) -> Result<(OwnedFd, u64), String> {
        let path = self.dir.join("control/status");
        let unreachable = || format!("{} is not its file", path.display());
        let status = child::open_place(&path).map_err(|_| unreachable())?;
        // What the kernel knows: a request could wait for this process.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let known = statx(&status, c"", flags, StatxFlags::INO).map_err(|_| unreachable())?;
        let number = (known.stx_dev_major, known.stx_dev_minor);
        if Some(number) == self.mounted.number() { Ok((status, known.stx_ino)) } else { Err(unreachable()) }
    }

    /// Another process serves the mount: passes on what this one was told meanwhile.
    fn leave(&self, successor: u32, program: &Path) {
        notify::main_process(successor);
        if let Some(supervised) = &self.supervised {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let program = rustix::fs::open(program, flags, Mode::empty()).map_err(io::Error::from);
            // Without its program, none is started again.
            let told = program.and_then(|program| supervised.set_program(program.as_fd()));
            if let Err(error) = told.and_then(|()| supervised.set_daemon(successor)) {
                warn!("the supervisor cannot be told of the new daemon: {error}");
            }
        }
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

/// Opens the store, if one is wanted, and reads what it has.
fn open_store(config: &Config) -> Result<(Option<Arc<Journal>>, Vec<Recovered>), Error> {
    let Some(store) = &config.store else { return Ok((None, Vec::new())) };
    let (journal, recovered) = Journal::open(store).map_err(Error::Store)?;
    Ok((Some(Arc::new(journal)), recovered))
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
