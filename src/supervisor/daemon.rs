//! The daemon's side.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};

use super::wire::{self, ToDaemon, ToSupervisor};

/// How long a supervisor may take to read what it is told; one that is stopped (`SIGSTOP`) takes longer. Nobody may wait for that.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process that has a supervisor.
#[derive(Debug)]
pub struct Supervised {
    socket: OwnedFd,
}

/// What the supervisor has kept.
#[derive(Debug)]
pub struct Kept {
    /// By number.
    pub descriptors: Vec<(u64, OwnedFd)>,
    /// How often a daemon of this mount was killed.
    pub deaths: u64,
}

impl Supervised {
    /// By the socket that this process was started with.
    pub fn new(socket: OwnedFd) -> Supervised {
        // Fails only if it is no socket, which shows when it is used.
        let _ = sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE));
        Supervised { socket }
    }

    /// Whether there is a supervisor.
    pub fn is_there(&self) -> bool {
        let mut looked = [PollFd::new(&self.socket, PollFlags::empty())];
        retry_on_intr(|| poll(&mut looked, Some(&Timespec::default()))).is_ok()
            && looked.iter().all(|socket| socket.revents().is_empty())
    }

    /// The socket, for a process that will serve instead of this one.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// All that an earlier process had kept. To be called before anything else.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn kept(&self) -> io::Result<Kept> {
        self.tell(ToSupervisor::Give, None)?;
        let mut descriptors = Vec::new();
        loop {
            match wire::receive(&self.socket)? {
                Some((ToDaemon::Kept(number), Some(descriptor))) => descriptors.push((number, descriptor)),
                Some((ToDaemon::All(deaths), _)) => return Ok(Kept { descriptors, deaths }),
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Has a descriptor kept under a number, instead of what is kept there. Once this returns, it survives this process.
    ///
    /// # Errors
    /// If the supervisor is gone, or does not respond.
    pub fn keep(&self, number: u64, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.tell(ToSupervisor::Keep(number), Some(descriptor))
    }

    /// Has it kept no longer.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn let_go(&self, number: u64) -> io::Result<()> {
        self.tell(ToSupervisor::LetGo(number), None)
    }

    /// Signals can be taken from now on.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn ready(&self) -> io::Result<()> {
        self.tell(ToSupervisor::Ready, None)
    }

    /// This program is to be started after a death.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn set_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.tell(ToSupervisor::Program, Some(program))
    }

    /// Another process, which this one has started, serves from now on. It uses the same [socket](Supervised::socket).
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn set_daemon(&self, pid: u32) -> io::Result<()> {
        self.tell(ToSupervisor::Serves(u64::from(pid)), None)
    }

    fn tell(&self, word: ToSupervisor, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        wire::send(&self.socket, word, descriptor).map_err(|error| match error {
            Errno::AGAIN => io::Error::new(io::ErrorKind::TimedOut, "the supervisor does not respond"),
            Errno::PIPE | Errno::CONNRESET => io::Error::new(error.kind(), "the supervisor is gone"),
            error => error.into(),
        })
    }
}
