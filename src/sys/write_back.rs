//! How much of what is stored through mappings the kernel keeps to itself before it makes those who store wait.

use std::fs;
use std::io;
use std::path::PathBuf;

/// The kernel takes a daemon to be slow, and untrusted: of all memory that may hold what is not written back yet it gives
/// a mount a hundredth, and slows whoever stores more down to the daemon's pace. Ours is as fast as memory; so it gets what
/// other file systems have. Only root may ask for that.
pub fn unbind(device: u64) -> io::Result<()> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let folder = PathBuf::from(format!("/sys/class/bdi/{major}:{minor}"));
    fs::write(folder.join("max_ratio"), "100")?;
    fs::write(folder.join("strict_limit"), "0")
}
