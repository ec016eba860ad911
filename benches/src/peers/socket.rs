//! A pair of Unix SEQPACKET sockets, made by the process that starts the others, and shared by all senders on the one
//! side and all receivers on the other.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};

use super::{Receiver, Sender};

/// What a socket takes beside a message's bytes; twice the most that was seen.
const OVERHEAD: usize = 8192;

/// Two ends that can hold at least one message of `size` bytes.
pub fn pair(size: usize) -> Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("making a pair of sockets")?;
    for end in [&a, &b] {
        let have = sockopt::socket_send_buffer_size(end)?;
        if have < 2 * size + OVERHEAD {
            sockopt::set_socket_send_buffer_size_force(end, 2 * size + OVERHEAD)
                .or_else(|_| sockopt::set_socket_send_buffer_size(end, 2 * size + OVERHEAD))
                .context("making a socket's buffer larger")?;
            ensure!(sockopt::socket_send_buffer_size(end)? > size, "a socket's buffer cannot be that large");
        }
    }
    Ok((a, b))
}

pub(super) struct End {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl End {
    pub(super) fn of(socket: OwnedFd) -> End {
        End { socket, buffer: vec![0; 1 << 20] }
    }

    /// The one on standard input.
    pub(super) fn inherited() -> Result<End> {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input is no socket")?;
        Ok(End::of(socket))
    }
}

impl Sender for End {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let sent = send(&self.socket, message, SendFlags::empty()).context("sending to a socket")?;
        ensure!(sent == message.len(), "a socket took {sent} bytes of {}", message.len());
        Ok(())
    }
}

impl Receiver for End {
    fn receive(&mut self) -> Result<&[u8]> {
        let (length, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())
            .context("receiving from a socket")?;
        Ok(&self.buffer[..length])
    }
}
