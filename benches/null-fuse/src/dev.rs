//! The classic loop: a request read from the device, its answer written to it.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;

use crate::protocol::{BUFFER, IN_HEADER, Request, Server, out_header};

/// A descriptor of the same mount with its own queue of requests being served.
pub fn cloned(device: &File) -> io::Result<File> {
    /// `_IOR(229, 0, uint32_t)`
    const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500;
    let clone = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let original = device.as_raw_fd();
    // SAFETY: the kernel reads one number, which lives for the call.
    crate::check(unsafe { libc::ioctl(clone.as_raw_fd(), FUSE_DEV_IOC_CLONE, &original) })?;
    Ok(clone)
}

/// Serves until the mount ends.
pub fn serve(server: &Server, mut device: &File) -> io::Result<()> {
    // Behind the longest header and argument there is room for the longest answer.
    let mut buffer = vec![0; BUFFER];
    loop {
        match device.read(&mut buffer) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::ENOENT) => continue,
                Some(libc::ENODEV | libc::ECONNABORTED) => return Ok(()),
                _ => return Err(error),
            },
        }
        let (header, body) = buffer.split_at_mut(IN_HEADER);
        let request = Request::of(header);
        if request.is_silent() {
            continue;
        }
        let (fixed, payload) = body.split_at_mut(request.fixed());
        let answer = server.answer(request, fixed, payload);
        let header = out_header(request.unique, answer);
        let payload = &payload[..answer.unwrap_or(0)];
        match device.write_vectored(&[IoSlice::new(&header), IoSlice::new(payload)]) {
            Ok(_) => {}
            // Its caller is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
}
