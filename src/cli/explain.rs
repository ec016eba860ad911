//! Error messages for a mount that failed: why it failed, and what to do.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::text::{quoted, reason, without_number};
use crate::daemon;
use crate::journal::OpenError;
use crate::kernel::rings::Obstacle;
use crate::kernel::session::MountError;

/// The complete message: what was tried, on what, why it failed, and what to do.
pub(super) fn explain(dir: &Path, error: &daemon::Error) -> String {
    let dir = quoted(dir);
    match error {
        daemon::Error::Mount(error) => {
            let (why, advice) = mount(error);
            format!("cannot mount on {dir}: {why}\n  {advice}")
        }
        daemon::Error::Store(error) => {
            let (why, advice) = store(error);
            format!("cannot mount on {dir}: the store cannot be used: {why}\n  {advice}")
        }
        daemon::Error::Start(error) => format!(
            "cannot mount on {dir}: cannot start the daemon's threads: {}\n  {}",
            reason(error),
            limit_advice(error)
        ),
        daemon::Error::Prepare(why) | daemon::Error::Engine(why) => format!("cannot mount on {dir}: {why}"),
        daemon::Error::TakeOver(error) => format!(
            "cannot take over the mount on {dir}: {}\n  it stays with the process that has it",
            reason(error)
        ),
        daemon::Error::Serve(error) => format!(
            "the mount on {dir} has ended: the daemon failed: {}\n  \
             mount again: ipcfs mount {dir} (for details: RUST_LOG=debug ipcfs mount -f {dir})",
            reason(error)
        ),
    }
}

/// Why a store cannot be used, and what to do.
pub(super) fn store(error: &OpenError) -> (String, &'static str) {
    match error {
        OpenError::Io(error) => {
            let advice = match error.kind() {
                io::ErrorKind::ResourceBusy => {
                    "choose another folder, or unmount the mount that uses it: ipcfs status"
                }
                io::ErrorKind::PermissionDenied => "choose a folder of your own, with mode 0700",
                io::ErrorKind::NotFound => "make the folders above it: mkdir -p",
                io::ErrorKind::StorageFull => "make room: it needs 32 MiB at least",
                _ => "choose a folder on a local disk: ipcfs mount --store FOLDER DIR",
            };
            (reason(error), advice)
        }
        OpenError::Version(_) => {
            (error.to_string(), "use the version of ipcfs that wrote it, or another folder")
        }
    }
}

/// Why it failed, and what to do.
fn mount(error: &MountError) -> (String, String) {
    match error {
        MountError::NoDevice => (
            "/dev/fuse does not exist".to_owned(),
            "load the module: modprobe fuse (in a container: start it with --device /dev/fuse)".to_owned(),
        ),
        MountError::DeviceRefused(error) => {
            (format!("/dev/fuse cannot be opened: {}", reason(error)), device_advice(error).to_owned())
        }
        MountError::NoFusermount => (
            "users other than root need fusermount3 to mount, and it is not installed".to_owned(),
            "install it: apt-get install fuse3 (or mount as root)".to_owned(),
        ),
        MountError::OtherRefused => (
            "/etc/fuse.conf does not permit --allow-other to users other than root".to_owned(),
            "omit it, or as root permit it: echo user_allow_other >> /etc/fuse.conf".to_owned(),
        ),
        MountError::NoPassthrough(why) => (
            format!("--segments=passthrough is unavailable: {}", without_number(why)),
            "use --segments=auto, which falls back to the kernel's page cache".to_owned(),
        ),
        MountError::NoRings(why) => (
            format!("--transport=uring is unavailable: {}", without_number(why)),
            if *why == Obstacle::Off.to_string() || why.contains("locked memory") {
                "ipcfs doctor shows how to enable it; or use --transport=auto, which falls back to /dev/fuse"
            } else {
                "use --transport=auto, which falls back to /dev/fuse"
            }
            .to_owned(),
        ),
        MountError::AlreadyMounted => (
            "another ipcfs mount was made there at the same time".to_owned(),
            "see the result: ipcfs status".to_owned(),
        ),
        MountError::Other(why) if why.contains("could not determine username") => (
            "this user has no entry in /etc/passwd, which fusermount3 requires".to_owned(),
            "add the entry to /etc/passwd, or mount as root".to_owned(),
        ),
        MountError::Other(why) => {
            (without_number(why.trim()), "see what is missing: ipcfs doctor".to_owned())
        }
    }
}

/// What to do where a process, thread or descriptor was refused.
pub(super) fn limit_advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => "raise the limit of processes (ulimit -u, or pids.max of the cgroup)",
        Some(Errno::MFILE) => "raise the limit of open files: ulimit -n 1024",
        Some(Errno::NOMEM) => "raise the limit of memory (ulimit -v, ulimit -d, or the cgroup's)",
        _ => "see what is missing: ipcfs doctor",
    }
}

fn device_advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => "allow users to open it: chmod 0666 /dev/fuse (as root), or mount as root",
        Some(Errno::PERM) => {
            "the container does not allow it: start it with --device /dev/fuse --cap-add SYS_ADMIN"
        }
        Some(Errno::NODEV | Errno::NXIO) => "load the module: modprobe fuse",
        _ => "see what is missing: ipcfs doctor",
    }
}
