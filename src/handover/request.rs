//! How somebody asks a daemon to hand its mount over: a socket, and who may use it.
//!
//! The socket is abstract, so it needs no file and goes with its process; its name is the device number of the mount. Whoever
//! asks makes the daemon run a program. So that must be the daemon's user or root, *in the daemon's mount namespace*: who can
//! write the files of that user there can do as much anyway. A container that shares the network namespace of the host, and whose
//! root is the host's, has another one. A descriptor of the namespace proves it, which nobody else can open.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{fstat, stat};

use super::wire;
use crate::sys::process;

/// How long the request itself may take.
const REQUEST: Duration = Duration::from_secs(2);
/// How long after a failure the next request is waited for.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the daemon of a mount that is gone may listen on.
const ENDING: Duration = Duration::from_secs(2);
/// How long the answer may take: the state of a mount may be large.
const ANSWER: Duration = Duration::from_secs(120);

const NAMESPACE: &str = "/proc/self/ns/mnt";

/// A request to hand the mount over to a program.
#[derive(Debug)]
pub(crate) struct Asked {
    socket: UnixStream,
    /// The program.
    pub(crate) program: PathBuf,
}

/// Listens for requests that concern the mount with this device number.
pub(crate) fn listen(number: (u32, u32)) -> io::Result<UnixListener> {
    let address = address(number)?;
    let begin = Instant::now();
    loop {
        match UnixListener::bind_addr(&address) {
            // The number is free as soon as a mount is gone, and its daemon ends a moment later.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begin.elapsed() < ENDING => {
                thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Waits for the next request of somebody who may make one.
pub(crate) fn next(listener: &UnixListener) -> Asked {
    loop {
        // Without a free descriptor, for example: then later.
        let received =
            listener.accept().inspect_err(|_| thread::sleep(AGAIN)).and_then(|(socket, _)| receive(socket));
        match received {
            Ok(asked) => return asked,
            Err(error) => log::warn!("a request for an upgrade is refused: {error}"),
        }
    }
}

fn receive(socket: UnixStream) -> io::Result<Asked> {
    let uid = process::peer_uid(&socket);
    if uid != Some(0) && uid != Some(rustix::process::geteuid().as_raw()) {
        return Err(io::Error::other("it is another user's"));
    }
    socket.set_read_timeout(Some(REQUEST))?;
    let given = wire::receive_descriptors(&socket)?;
    let (own, given) = (stat(NAMESPACE)?, given.first().map(fstat).transpose()?);
    if given.is_none_or(|given| (given.st_dev, given.st_ino) != (own.st_dev, own.st_ino)) {
        return Err(io::Error::other("it comes from another mount namespace"));
    }
    let program = PathBuf::from(OsString::from_vec(wire::receive(&socket)?));
    Ok(Asked { socket, program })
}

impl Asked {
    /// Answers it: done, or why not.
    pub(crate) fn answer(self, result: Result<(), &str>) {
        let text = result.err().unwrap_or_default();
        if let Err(error) = wire::send(&self.socket, text.as_bytes()) {
            log::debug!("who asked for an upgrade is gone: {error}");
        }
    }
}

/// Why a request was not fulfilled.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Nobody can be asked.
    Unreachable(io::Error),
    /// Another user than the daemon's, or root, listens.
    Stranger,
    /// The daemon says why.
    Said(String),
}

/// Asks the daemon of the mount with this device number, which belongs to `owner`, to hand over to `program`. Returns when it has
/// done so.
pub(crate) fn ask(number: (u32, u32), owner: u32, program: &Path) -> Result<(), Refused> {
    let said = || -> io::Result<Option<Vec<u8>>> {
        let socket = UnixStream::connect_addr(&address(number)?)?;
        if !process::peer_uid(&socket).is_some_and(|uid| uid == 0 || uid == owner) {
            return Ok(None);
        }
        socket.set_read_timeout(Some(ANSWER))?;
        wire::send_descriptors(&socket, &[File::open(NAMESPACE)?.as_fd()])?;
        wire::send(&socket, program.as_os_str().as_bytes())?;
        wire::receive(&socket).map(Some)
    };
    match said() {
        Err(error) => Err(Refused::Unreachable(error)),
        Ok(None) => Err(Refused::Stranger),
        Ok(Some(text)) if text.is_empty() => Ok(()),
        Ok(Some(text)) => Err(Refused::Said(String::from_utf8_lossy(&text).into_owned())),
    }
}

fn address((major, minor): (u32, u32)) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("ipcfs-upgrade-{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn number() -> (u32, u32) {
        // No device has it.
        (1 << 30, std::process::id())
    }

    #[test]
    fn a_daemon_that_ends_is_waited_for() {
        let number = (1 << 31, std::process::id());
        let before = listen(number).unwrap();
        let after = thread::spawn(move || listen(number));
        thread::sleep(Duration::from_millis(20));
        drop(before);
        after.join().unwrap().unwrap();
    }

    #[test]
    fn the_answer_reaches_who_asks_and_strangers_are_left_out() {
        let listener = listen(number()).unwrap();
        let daemon = thread::spawn(move || {
            for result in [Ok(()), Err("no reason")] {
                let asked = next(&listener);
                assert_eq!(asked.program, Path::new("/bin/program"));
                asked.answer(result);
            }
        });
        let own = rustix::process::geteuid().as_raw();
        // Who proves nothing is not heard.
        let mut silent = UnixStream::connect_addr(&address(number()).unwrap()).unwrap();
        silent.write_all(&[0; 64]).unwrap();
        let _ = silent.read(&mut [0]);
        assert!(ask(number(), own, Path::new("/bin/program")).is_ok());
        let refused = ask(number(), own, Path::new("/bin/program"));
        assert!(matches!(refused, Err(Refused::Said(why)) if why == "no reason"));
        daemon.join().unwrap();
        let refused = ask(number(), own, Path::new("/bin/program"));
        assert!(matches!(refused, Err(Refused::Unreachable(_))));
    }
}
