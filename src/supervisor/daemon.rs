//! The daemon's side.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::wire::{self, ToDaemon, ToSupervisor};

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
        Supervised { socket }
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
        wire::send(&self.socket, ToSupervisor::Give, None)?;
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
    /// If the supervisor is gone.
    pub fn keep(&self, number: u64, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(wire::send(&self.socket, ToSupervisor::Keep(number), Some(descriptor))?)
    }

    /// Has it kept no longer.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn let_go(&self, number: u64) -> io::Result<()> {
        Ok(wire::send(&self.socket, ToSupervisor::LetGo(number), None)?)
    }

    /// Signals can be taken from now on.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn ready(&self) -> io::Result<()> {
        Ok(wire::send(&self.socket, ToSupervisor::Ready, None)?)
    }

    /// This program is to be started after a death.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn set_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        Ok(wire::send(&self.socket, ToSupervisor::Program, Some(program))?)
    }

    /// Another process, which this one has started, serves from now on. It uses the same [socket](Supervised::socket).
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub fn set_daemon(&self, pid: u32) -> io::Result<()> {
        Ok(wire::send(&self.socket, ToSupervisor::Serves(u64::from(pid)), None)?)
    }
}
