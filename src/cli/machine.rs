//! Properties of the machine and of this process: kernel, privileges, programs. `mount` and `doctor` use them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;
use rustix::thread::CapabilitySet;

use super::text::{reason, without_number};
use crate::kernel::mount_table::{self, Detached, Mount};

/// What fusermount3 reads when it unmounts, and the command that makes it.
pub(super) const MTAB: &str = "/etc/mtab";
pub(super) const MAKE_MTAB: &str = "ln -s /proc/self/mounts /etc/mtab";

/// Why unmounting failed.
#[derive(Debug)]
pub(super) enum UnmountError {
    /// The mount is in use.
    Busy,
    /// Any other reason, as text.
    Other(String),
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

/// Unmounts, with umount(2) if this process may, otherwise with fusermount3.
pub(super) fn unmount(point: &Path) -> Result<(), UnmountError> {
    match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(UnmountError::Busy),
        Err(rustix::io::Errno::PERM) => fusermount(point),
        Err(error) => Err(UnmountError::Other(reason(&error.into()))),
    }
}

/// Detaches a mount even if it is in use, and no other that may be mounted there by now. It lives on until no process
/// uses it.
pub(super) fn detach(mount: &Mount) -> Result<(), UnmountError> {
    match mount_table::detach(mount) {
        Detached::Failed(_, why) => Err(UnmountError::Other(without_number(&why))),
        Detached::Done | Detached::Absent | Detached::Covered(_) => Ok(()),
    }
}

/// Ends the connection between the kernel and the daemon, whether or not the daemon responds: every call to the mount
/// fails. If this process may not, nothing changes.
pub(super) fn abort(mount: &Mount) {
    let file = format!("/sys/fs/fuse/connections/{}/abort", mount_table::device_number(mount.device));
    if fs::write(file, "1").is_err() {
        // Ends it as well, and leaves the mount if it is in use.
        let _ = rustix::mount::unmount(&mount.point, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW);
    }
}

fn fusermount(point: &Path) -> Result<(), UnmountError> {
    let mut command = Command::new(mount_table::fusermount());
    command.arg("-u").arg("--").arg(point);
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
}
