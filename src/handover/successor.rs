//! The process that takes a mount over: how it is started, and what the two say to each other.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Parts, Received, VERSION, wire};
use crate::sys::child;

/// The hidden subcommand of the successor.
pub(crate) const TAKE_OVER: &str = "take-over";

/// How long the program may take to start, and then to read the state.
const START: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(30);

/// The variable that tells a successor that it has the socket of a supervisor.
const SUPERVISED: &str = "IPCFS_SUPERVISED";

const READY: &[u8] = b"ready";
const GO: &[u8] = b"go";

/// Whether this process, a successor, was started with the socket of a supervisor.
pub(crate) fn has_supervisor() -> bool {
    std::env::var_os(SUPERVISED).is_some()
}

/// A successor, as the daemon sees it. It is killed when dropped, unless it serves.
#[derive(Debug)]
pub(crate) struct Successor {
    process: Child,
    socket: UnixStream,
    serves: bool,
}

impl Successor {
    /// Starts `program`, with `log` as its standard error if there is one, and the socket of the daemon's supervisor if there is one. Returns when it is known that it can take mounts over.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn start(
        program: &Path,
        dir: &Path,
        log: Option<&File>,
        supervisor: Option<&OwnedFd>,
    ) -> Result<Successor, String> {
        let failed = |error: io::Error| format!("it cannot be started: {error}");
        let (socket, other) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg(TAKE_OVER).arg("--").arg(dir).stdin(OwnedFd::from(other)).stdout(Stdio::null());
        if let Some(log) = log {
            command.stderr(log.try_clone().map_err(failed)?);
        }
        match supervisor {
            Some(supervisor) => {
                child::start_with_socket(&mut command, supervisor.as_fd());
                command.env(SUPERVISED, "1");
            }
            None => {
                command.env_remove(SUPERVISED);
            }
        }
        let process = command.spawn().map_err(failed)?;
        // It has the only copy of its end: if it exits, that is noticed.
        drop(command);
        let successor = Successor { process, socket, serves: false };
        successor.socket.set_read_timeout(Some(START)).map_err(failed)?;
        let version = wire::receive(&successor.socket).ok().and_then(|version| version.try_into().ok());
        match version.map(u64::from_le_bytes) {
            Some(version) if takes_over(version) => Ok(successor),
            Some(_) => {
                Err(String::from("it takes over from another version of ipcfs than the one that runs"))
            }
            None => Err(String::from("it is no version of ipcfs that can take over a mount")),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Gives it all that the daemon has, and calls `before` when nothing can fail any more but to tell it so. When this returns without an error, it serves, and the daemon must not.
    ///
    /// # Errors
    /// Why it cannot serve.
    pub(crate) fn give(mut self, parts: &Parts<'_>, before: impl FnOnce()) -> Result<(), String> {
        let failed = |error: io::Error| format!("it cannot be given the state: {error}");
        self.socket.set_read_timeout(Some(READ)).map_err(failed)?;
        // Callers wait: one that does not read must not keep them for ever.
        self.socket.set_write_timeout(Some(READ)).map_err(failed)?;
        parts.send(&self.socket).map_err(failed)?;
        match wire::receive(&self.socket) {
            Ok(said) if said == READY => {}
            Ok(said) => return Err(String::from_utf8_lossy(&said).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(String::from("it ended before it could serve"));
            }
            Err(error) => return Err(format!("it does not answer: {error}")),
        }
        before();
        wire::send(&self.socket, GO).map_err(failed)?;
        self.serves = true;
        Ok(())
    }
}

/// True if a program of this version takes over from this one: it must read what this program writes.
fn takes_over(version: u64) -> bool {
    version >> 32 == VERSION >> 32 && version >= VERSION
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.serves {
            // It must be gone before the daemon goes on.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// The daemon, as its successor sees it.
#[derive(Debug)]
pub(crate) struct Predecessor(UnixStream);

impl Predecessor {
    /// The daemon that has this end of the socket's other end.
    pub(crate) fn new(socket: UnixStream) -> Predecessor {
        Predecessor(socket)
    }

    /// Says what this program can read, and waits for the state.
    ///
    /// # Errors
    /// Those of the socket, and of what is sent.
    pub(crate) fn receive(&self) -> io::Result<Received> {
        wire::send(&self.0, &VERSION.to_le_bytes())?;
        Received::receive(&self.0)
    }

    /// Says why this process cannot serve.
    pub(crate) fn give_up(&self, why: &str) {
        // Fails if the daemon is gone: nobody is left to tell.
        let _ = wire::send(&self.0, why.as_bytes());
    }

    /// Says that this process can serve, and waits until it may.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn wait_for_go(&self) -> io::Result<()> {
        wire::send(&self.0, READY)?;
        let said = wire::receive(&self.0)?;
        if said == GO { Ok(()) } else { Err(io::Error::other("the daemon serves on")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_takes_over_from_its_own_version_and_from_older_ones() {
        assert!(takes_over(VERSION) && takes_over(VERSION + 1));
        assert!(!takes_over(VERSION - 1), "it could not read the state");
        assert!(!takes_over(VERSION + (1 << 32)) && !takes_over(VERSION - (1 << 32)));
    }
}
