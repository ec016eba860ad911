//! Transport over `/dev/fuse`: requests are read from it, and answers are written to it.
//!
//! Each thread has its own descriptor, with its own queue of requests being processed, so that threads do not contend for
//! one. The kernel accepts an answer only on the descriptor that its request was read from, from any thread. If
//! descriptors cannot be cloned (an ordinary user may not be able to open `/dev/fuse`), all threads share one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use log::debug;
use rustix::io::Errno;

use super::read_buffer::ReadBuffer;
use super::reply_path::ReplyPath;
use super::request;
use super::transport::{NoResponder, Transport};
use crate::op::Effects;
use crate::sys::fuse_device;

/// A descriptor for each of `threads`, or the one that there is if it cannot be cloned.
pub fn descriptors(device: &Arc<OwnedFd>, threads: usize) -> Vec<Arc<OwnedFd>> {
    let mut descriptors = vec![Arc::clone(device)];
    for _ in 1..threads {
        match fuse_device::clone_device(device.as_fd()) {
            Ok(descriptor) => descriptors.push(Arc::new(descriptor)),
            Err(error) => {
                debug!("threads share one descriptor of /dev/fuse: {error}");
                break;
            }
        }
    }
    descriptors
}

/// Serves the requests of one descriptor until the mount ends. `buffer` is memory for them that outlives the process.
///
/// # Errors
/// Those of reading the device, except for those that say that the mount has ended.
pub fn serve(transport: &Transport, thread: usize, buffer: Option<ReadBuffer>) -> io::Result<()> {
    let index = thread % transport.devices.len().max(1);
    let Some(device) = transport.devices.get(index) else { return Ok(()) };
    let reply_path = ReplyPath::Device(index as u32).into();
    let mut buffer = buffer.unwrap_or_else(ReadBuffer::new);
    let mut fx = Effects::new();
    transport.standstill.add_reader();
    loop {
        if transport.standstill.is_asked() {
            transport.standstill.stand();
        }
        let length = match buffer.read(device) {
            Ok(length) => length,
            // ENOENT: the caller gave up before its request was read.
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
            // Unmounted; or aborted, by `umount --force` or through /sys/fs/fuse/connections.
            Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if buffer.forget().is_some() {
            let bytes = buffer.bytes(length).to_vec();
            let written = || buffer.written(request::unique(&bytes));
            transport.handle_and(request::decode(&bytes, reply_path), written, &mut fx);
        } else {
            transport.handle(request::decode(buffer.bytes(length), reply_path), &mut fx);
        }
        transport.perform(&mut fx, &mut NoResponder);
    }
}
