//! A small process that keeps a mount's descriptors, so that the mount does not end with its daemon.
//!
//! ```text
//!  supervisor ──starts──▶ daemon          descriptors: the device, its clones, memory of rings, of the state, of segments
//!      │  ◀── keep, let go, ready ── │
//!      │                             ✖ killed
//!      └────starts again───▶ daemon
//!         ── what was kept ──▶ │
//! ```
//!
//! It knows nothing of what it keeps but numbers, which the daemon chooses. It takes no memory once it has begun, it has no threads,
//! and it never waits for the daemon. If the daemon *exits*, so does the supervisor, with the same status; if a signal *kills* it, it
//! is started again. After three deaths within ten seconds it is not: the supervisor exits, and the mount ends with what it has kept.
//!
//! An upgrade is the daemon's affair (`handover`): it tells the supervisor which process serves, and which program to start from then
//! on.

mod daemon;
mod deaths;
#[cfg(test)]
mod tests;
mod wire;

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getrlimit, kill_process, setrlimit, wait,
};
use rustix::time::{ClockId, clock_gettime};

use crate::sys::child::{self, Arguments};
pub use daemon::{Kept, Supervised};
use deaths::Deaths;
use wire::{ToDaemon, ToSupervisor};

/// Signals that are the daemon's.
const PASSED_ON: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM];

/// All that the supervisor looks at.
const SIGNALS: [i32; 8] = {
    let [a, b, c, d, e, f, g] = PASSED_ON;
    [a, b, c, d, e, f, g, libc::SIGCHLD]
};

/// The exit status after the last death.
const GIVEN_UP: u8 = 1;
/// How long to wait before a program is tried again that could not be started.
const AGAIN: Duration = Duration::from_millis(50);

/// What a supervisor is made with.
#[derive(Debug)]
pub struct Setup {
    /// The program, and its arguments as a daemon.
    pub program: OwnedFd,
    /// With which it begins, the first time and after each death. It asks what was kept.
    pub arguments: Arguments,
    /// The highest number under which something can be kept, and 1.
    pub most_kept: usize,
    /// It is started again however often it is killed.
    pub never_gives_up: bool,
    /// When the daemon is ready, this process leaves its terminal: standard input and output become the first, standard error the
    /// second, if there is one.
    pub output: Option<(OwnedFd, Option<OwnedFd>)>,
}

struct Supervisor {
    setup: Setup,
    signals: OwnedFd,
    /// Never grows beyond what it was made for.
    kept: Vec<Option<OwnedFd>>,
    deaths: Deaths,
    /// The process that serves.
    daemon: Option<Pid>,
    socket: Option<OwnedFd>,
    /// The number of what it gets next.
    giving: Option<usize>,
    /// The signal that came last for a daemon that may not have been able to take it.
    unheard: Option<Signal>,
    ready: bool,
}

/// Starts the daemon, and whenever it is killed starts it again. Returns the status to exit with. The caller has no other threads.
///
/// # Errors
/// If the first daemon cannot be started.
pub fn run(setup: Setup) -> io::Result<u8> {
    let signals = child::signals(&SIGNALS)?;
    child::adopt_orphans();
    let kept = Vec::with_capacity(setup.most_kept);
    let mut supervisor = Supervisor {
        setup,
        signals,
        kept,
        deaths: Deaths::default(),
        daemon: None,
        socket: None,
        giving: None,
        unheard: None,
        ready: false,
    };
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    // Only now, because a child has what the process had before. It takes root.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    supervisor.start()?;
    loop {
        supervisor.wait();
        supervisor.receive();
        supervisor.pass_signals_on();
        supervisor.give();
        if let Some(status) = supervisor.see_to_deaths() {
            return Ok(status);
        }
    }
}

impl Supervisor {
    fn start(&mut self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC;
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::io::ioctl_fionbio(&own, true)?;
        self.daemon = Some(self.setup.arguments.start(self.setup.program.as_fd(), Some(other.as_fd()))?);
        (self.socket, self.giving, self.ready) = (Some(own), None, false);
        Ok(())
    }

    /// Returns when there is something to do.
    fn wait(&self) {
        let signals = PollFd::new(&self.signals, PollFlags::IN);
        let answers = if self.giving.is_some() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        // Whatever it is, everything is looked at.
        let _ = match &self.socket {
            Some(socket) => poll(&mut [signals, PollFd::new(socket, answers)], None),
            None => poll(&mut [signals], None),
        };
    }

    /// Takes in what the daemon has said.
    fn receive(&mut self) {
        while let Some(socket) = &self.socket {
            match wire::receive(socket) {
                Ok(Some((said, descriptor))) => self.hear(said, descriptor),
                // It has closed its end, and is about to exit.
                Ok(None) => self.socket = None,
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    say(format_args!("the daemon cannot be heard: {error}"));
                    self.socket = None;
                }
            }
        }
    }

    fn hear(&mut self, said: ToSupervisor, descriptor: Option<OwnedFd>) {
        match said {
            ToSupervisor::Keep(number) if number < self.setup.most_kept as u64 => {
                let number = number as usize;
                while self.kept.len() <= number {
                    self.kept.push(None);
                }
                if descriptor.is_none() {
                    say(format_args!("too many open files to keep another one"));
                }
                if let Some(place) = self.kept.get_mut(number) {
                    *place = descriptor;
                }
            }
            ToSupervisor::Keep(number) => say(format_args!("there is no place {number} to keep something")),
            ToSupervisor::LetGo(number) => {
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                drop(self.kept.get_mut(number).and_then(Option::take));
            }
            ToSupervisor::Give => self.giving = Some(0),
            ToSupervisor::Ready => {
                self.ready = true;
                if let Some((null, log)) = self.setup.output.take() {
                    leave_terminal(&null, log.as_ref());
                }
                if let (Some(signal), Some(daemon)) = (self.unheard.take(), self.daemon) {
                    let _ = kill_process(daemon, signal);
                }
            }
            ToSupervisor::Program => {
                if let Some(program) = descriptor {
                    self.setup.program = program;
                }
            }
            ToSupervisor::Serves(pid) => {
                self.daemon = i32::try_from(pid).ok().and_then(Pid::from_raw).or(self.daemon);
            }
        }
    }

    fn pass_signals_on(&mut self) {
        while let Some(number) = child::next_signal(self.signals.as_fd()) {
            let signal = Signal::from_named_raw(number).filter(|_| PASSED_ON.contains(&number));
            let Some(signal) = signal else { continue };
            if !self.ready {
                self.unheard = Some(signal);
            } else if let Some(daemon) = self.daemon {
                let _ = kill_process(daemon, signal);
            }
        }
    }

    /// Gives the daemon some of what is kept, as much as it takes without a wait.
    fn give(&mut self) {
        while let (Some(number), Some(socket)) = (self.giving, &self.socket) {
            let next =
                self.kept.iter().skip(number).position(Option::is_some).map(|skipped| number + skipped);
            let kept = next.and_then(|next| Some((next, self.kept.get(next)?.as_ref()?)));
            let sent = match kept {
                Some((next, kept)) => wire::send(socket, ToDaemon::Kept(next as u64), Some(kept.as_fd())),
                None => wire::send(socket, ToDaemon::All(self.deaths.count()), None),
            };
            match sent {
                Ok(()) => self.giving = next.map(|next| next + 1),
                Err(Errno::AGAIN) => return,
                // It is dead.
                Err(_) => self.giving = None,
            }
        }
    }

    /// Starts the daemon again if it was killed. Returns the status to exit with if it will not be.
    fn see_to_deaths(&mut self) -> Option<u8> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            // What it said before comes first: it may have said that another one serves.
            self.receive();
            if self.daemon == Some(pid)
                && let Some(status) = self.died(status)
            {
                return Some(status);
            }
        }
        None
    }

    fn died(&mut self, status: WaitStatus) -> Option<u8> {
        self.daemon = None;
        if let Some(status) = status.exit_status() {
            return Some(status as u8);
        }
        let signal = status.terminating_signal().unwrap_or_default();
        // Without anything there is no mount yet.
        if self.kept.iter().all(Option::is_none) {
            say(format_args!("the daemon was killed by signal {signal} before it could mount"));
            return Some(GIVEN_UP);
        }
        loop {
            if self.deaths.is_last(seconds()) && !self.setup.never_gives_up {
                say(format_args!("the daemon was killed by signal {signal}, too often: the mount ends"));
                return Some(GIVEN_UP);
            }
            say(format_args!("the daemon was killed by signal {signal}, and is started again"));
            match self.start() {
                Ok(()) => return None,
                Err(error) => say(format_args!("the daemon cannot be started: {error}")),
            }
            std::thread::sleep(AGAIN);
        }
    }
}

/// No thread that is started from now on takes the signals that the supervisor looks at. To be called before there are others.
pub fn block_signals() {
    child::block(&SIGNALS);
}

fn leave_terminal(null: &OwnedFd, log: Option<&OwnedFd>) {
    // Each fails only if it is not needed.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let _ = rustix::stdio::dup2_stdin(null);
    let _ = rustix::stdio::dup2_stdout(null);
    let _ = rustix::stdio::dup2_stderr(log.unwrap_or(null));
}

fn seconds() -> i64 {
    clock_gettime(ClockId::Boottime).tv_sec
}

/// Says something on standard error, without taking memory.
fn say(text: std::fmt::Arguments<'_>) {
    let mut line = [0; 256];
    let mut rest = &mut line[..];
    // What is too long is cut off.
    let _ = writeln!(rest, "ipcfs: {text}");
    let left = rest.len();
    let length = line.len() - left;
    let _ = rustix::io::write(rustix::stdio::stderr(), line.get(..length).unwrap_or_default());
}
