//! Properties of the machine and of this process: kernel, privileges, programs. `mount` and `doctor` use them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;
use rustix::thread::CapabilitySet;

use super::text::reason;
use crate::kernel::session;

/// Where control groups (version 2) are mounted everywhere but on old machines.
const CGROUP: &str = "/sys/fs/cgroup";

/// Why unmounting failed.
#[derive(Debug)]
pub(super) enum UnmountError {
    /// The mount is in use.
    Busy,
    /// Any other reason, as text.
    Other(String),
}

/// Bytes of memory this process may use: the machine's, or its control group's where that is less.
pub(super) fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    match group.lines().find_map(|line| line.strip_prefix("0::/")) {
        Some(group) => machine.min(group_limit(Path::new(CGROUP), Path::new(group))),
        None => machine,
    }
}

/// The kernel's version, major and minor.
pub(super) fn kernel() -> Option<(u32, u32)> {
    version(&rustix::system::uname().release().to_string_lossy())
}

/// Whether this process may mount without fusermount3.
pub(super) fn is_privileged() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Whether this is the initial user namespace, which passthrough requires.
pub(super) fn is_in_first_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether a program is set-user-ID root.
pub(super) fn is_setuid_root(program: &Path) -> bool {
    program.metadata().is_ok_and(|m| m.uid() == 0 && m.permissions().mode() & 0o4000 != 0)
}

/// Unmounts, with umount(2) if this process may, otherwise with fusermount3. `lazy` removes the mount from the table at
/// once; it lives on until no process uses it.
pub(super) fn unmount(point: &Path, lazy: bool) -> Result<(), UnmountError> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(point, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(UnmountError::Busy),
        Err(rustix::io::Errno::PERM) => fusermount(point, lazy),
        Err(error) => Err(UnmountError::Other(reason(&error.into()))),
    }
}

fn fusermount(point: &Path, lazy: bool) -> Result<(), UnmountError> {
    let mut command = Command::new(session::fusermount());
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(point);
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(|error| {
        UnmountError::Other(match error.kind() {
            io::ErrorKind::NotFound => {
                "users other than root need fusermount3 to unmount, and it is not installed".to_owned()
            }
            _ => format!("cannot run fusermount3: {}", reason(&error)),
        })
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("busy") {
        return Err(UnmountError::Busy);
    }
    Err(UnmountError::Other(said.trim().to_owned()))
}

/// The least `memory.max` of a group and those above it; no limit where there is none, or it cannot be read.
fn group_limit(root: &Path, group: &Path) -> u64 {
    let limit = |group: &Path| {
        let text = fs::read_to_string(root.join(group).join("memory.max")).ok()?;
        text.trim().parse().ok()
    };
    group.ancestors().filter_map(limit).min().unwrap_or(u64::MAX)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version("6.1-rc3"), Some((6, 1)));
        assert_eq!(version("weird"), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        assert_eq!(group_limit(root.path(), Path::new("a/b")), u64::MAX);
        fs::write(leaf.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "1048576\n").unwrap();
        assert_eq!(group_limit(root.path(), Path::new("a/b")), 1_048_576);
        fs::write(leaf.join("memory.max"), "4096\n").unwrap();
        assert_eq!(group_limit(root.path(), Path::new("a/b")), 4096);
    }
}
