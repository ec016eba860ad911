//! The limit of dirty pages that a mount may have before processes that write through mappings are slowed down.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Gives the mount with the device number `major`:`minor` the same share of dirty pages as other file systems.
///
/// The kernel expects a FUSE daemon to be slow: it gives a mount one percent of all dirty pages, and slows processes that
/// write more down to the daemon's speed. This daemon is as fast as memory. The settings are described in
/// `Documentation/ABI/testing/sysfs-class-bdi`.
///
/// # Errors
/// EACCES unless the daemon runs as root; ENOENT before Linux 6.2 or if sysfs is not mounted.
pub fn raise_limit((major, minor): (u32, u32)) -> io::Result<()> {
    let folder = PathBuf::from(format!("/sys/class/bdi/{major}:{minor}"));
    fs::write(folder.join("max_ratio"), "100")?;
    fs::write(folder.join("strict_limit"), "0")
}
