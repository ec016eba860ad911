//! ioctls of `/dev/fuse` that no safe crate offers.

#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::ioctl::{Setter, ioctl, opcode};

/// `FUSE_DEV_IOC_MAGIC`
const MAGIC: u8 = 229;
/// `FUSE_DEV_IOC_CLONE`: `_IOR(229, 0, uint32_t)`. Its number says "read", but the kernel reads the value.
const CLONE: rustix::ioctl::Opcode = opcode::read::<u32>(MAGIC, 0);
/// `FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, uint32_t)`
const BACKING_CLOSE: rustix::ioctl::Opcode = opcode::write::<u32>(MAGIC, 2);

/// Opens another descriptor of the same mount, with its own queue of requests being processed.
///
/// # Errors
/// Those of opening `/dev/fuse`, which an ordinary user may not be allowed to do.
pub fn clone_device(device: impl AsFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let clone = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let source = device.as_fd().as_raw_fd() as u32;
    // SAFETY: FUSE_DEV_IOC_CLONE takes a pointer to a u32, the number of an open descriptor of /dev/fuse, and only reads
    // it. `Setter` passes a pointer to its own copy of `source`, which lives as long as the call; `device` is borrowed
    // until then, so the number stays valid. Any other number is refused by the kernel.
    unsafe { ioctl(&clone, Setter::<CLONE, u32>::new(source)) }?;
    Ok(OwnedFd::from(clone))
}

/// Closes a backing file.
///
/// # Errors
/// Those of the ioctl: ENOENT for an unknown number.
pub fn close_backing(device: impl AsFd, id: u32) -> io::Result<()> {
    // SAFETY: FUSE_DEV_IOC_BACKING_CLOSE takes a pointer to a u32, the number of a backing file, and only reads it.
    // `Setter` passes a pointer to its own copy. The kernel refuses a number it does not know, and keeps the file
    // itself as long as anything uses it.
    unsafe { ioctl(device, Setter::<BACKING_CLOSE, u32>::new(id)) }?;
    Ok(())
}
