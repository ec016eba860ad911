//! The claim on a directory: one `ipcfs mount` of a user at a time checks it and mounts there.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::ask;
use super::text::quoted;
use crate::sys::process;

/// How often a socket is looked at on which nobody listens: it may be a claim that is being made, or has just ended.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A claim, to be kept until the mount is made. Two processes that find the same empty directory, or the same dead mount,
/// would otherwise mount over one another.
///
/// It is an abstract socket, which needs no file and disappears with its process. Anybody may bind any such name; so a
/// claim counts only if its socket belongs to this user. Without a claim the mount table decides: a mount that lies over
/// another ipcfs mount is given up (`kernel::mount_table`).
#[derive(Debug)]
pub(super) struct Claim {
    /// `None` if there is no claim.
    _socket: Option<UnixListener>,
}

impl Claim {
    /// Claims a directory, or says why not: another process of this user mounts there.
    pub(super) fn take(dir: &Path) -> Result<Claim, String> {
        Claim::bind(&name(dir), dir)
    }

    fn bind(name: &str, dir: &Path) -> Result<Claim, String> {
        for attempt in 1.. {
            match SocketAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name)) {
                Ok(socket) => return Ok(Claim { _socket: Some(socket) }),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    log::debug!("mounting without a claim: {error}");
                    break;
                }
                Err(_) => match holder(name) {
                    Some(uid) if uid == rustix::process::geteuid().as_raw() => {
                        return Err(format!(
                            "cannot mount on {}: another ipcfs mount is in progress there\n  \
                             see the result: ipcfs status",
                            quoted(dir)
                        ));
                    }
                    // Perhaps it does not listen yet, or has just gone.
                    None if attempt < ATTEMPTS => thread::sleep(PAUSE),
                    holder => {
                        let holder =
                            holder.map_or_else(|| "somebody".to_owned(), |uid| format!("user {uid}"));
                        log::warn!("{holder} holds the claim on {} and does not mount: ignored", quoted(dir));
                        break;
                    }
                },
            }
        }
        Ok(Claim { _socket: None })
    }
}

/// The name of the socket: by user, mount namespace and directory.
fn name(dir: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    // The same path is another directory in another namespace.
    fs::read_link("/proc/self/ns/mnt").unwrap_or_default().hash(&mut hasher);
    ask::place(dir).unwrap_or_else(|| dir.to_owned()).hash(&mut hasher);
    format!("ipcfs-mount-{}-{:016x}", rustix::process::geteuid().as_raw(), hasher.finish())
}

/// The user who listens on an abstract socket, as the kernel recorded when listening began. `None` if nobody listens, or
/// the queue of connections is full: then it is not a claim of ours.
fn holder(name: &str) -> Option<u32> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes()).ok()?).ok()?;
    process::peer_uid(&socket)
}

#[cfg(test)]
#[allow(clippy::used_underscore_binding)] // outside of tests, the socket is kept only to be dropped
mod tests {
    use super::*;

    fn claim(name: &str) -> Result<Claim, String> {
        Claim::bind(&format!("ipcfs-test-{}-{name}", std::process::id()), Path::new("/mnt"))
    }

    #[test]
    fn a_claim_keeps_out_its_own_user_until_it_is_dropped() {
        let first = claim("first").unwrap();
        let refused = claim("first").unwrap_err();
        assert!(refused.contains("in progress there\n  see the result: ipcfs status"), "{refused}");
        assert!(claim("second").unwrap()._socket.is_some());
        drop(first);
        assert!(claim("first").unwrap()._socket.is_some());
    }

    #[test]
    fn a_name_that_nobody_listens_on_is_no_claim() {
        let name = format!("ipcfs-test-{}-bound", std::process::id());
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
        assert!(claim("bound").unwrap()._socket.is_none());
    }
}
