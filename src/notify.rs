//! Messages to a service manager (`sd_notify(3)`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Whether a service manager started this process.
pub(crate) fn has_manager() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells the service manager, if there is one, that the tree answers.
pub(crate) fn ready() {
    tell("READY=1\n");
}

/// Tells the service manager, if there is one, that another process is the daemon now.
pub(crate) fn main_process(pid: u32) {
    tell(&format!("MAINPID={pid}\nREADY=1\n"));
}

fn tell(message: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, message.as_bytes())
    {
        log::warn!("cannot tell the service manager {}: {error}", message.trim_end());
    }
}

/// Sends to a socket that is a file, or abstract if its name begins with `@`.
fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(|_| ())
}
