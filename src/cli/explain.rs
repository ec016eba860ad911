//! Why a mount failed, in words a person can act on.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::text::{reason, without_number, word};
use crate::daemon;
use crate::kernel::session::MountError;

/// What was tried, on what, why it failed, and what to do.
pub(super) fn explain(dir: &Path, error: &daemon::Error) -> String {
    let dir = word(dir);
    match error {
        daemon::Error::Mount(error) => {
            let (why, advice) = mount(error);
            format!("cannot mount on {dir}: {why}\n  {advice}")
        }
        daemon::Error::Serve(error) => format!(
            "the mount on {dir} has ended: its daemon could not go on: {}\n  \
             mount again: ipcfs mount {dir} (RUST_LOG=debug and -f show what it does)",
            reason(error)
        ),
    }
}

/// Why, and what to do.
fn mount(error: &MountError) -> (String, String) {
    match error {
        MountError::NoDevice => (
            "/dev/fuse does not exist".to_owned(),
            "load the module: modprobe fuse (in a container: start it with --device /dev/fuse)".to_owned(),
        ),
        MountError::DeviceRefused(error) => (
            format!("/dev/fuse cannot be opened: {}", reason(error)),
            device_advice(error).to_owned(),
        ),
        MountError::NoFusermount => (
            "only root may mount by itself, and fusermount3, which does it for everyone else, is not installed"
                .to_owned(),
            "install it: apt-get install fuse3 (or mount as root)".to_owned(),
        ),
        MountError::OtherRefused => (
            "--allow-other is kept from ordinary users by /etc/fuse.conf".to_owned(),
            "leave it out, or let root permit it: echo user_allow_other >> /etc/fuse.conf".to_owned(),
        ),
        MountError::NoPassthrough(why) => (
            format!("--segments=passthrough is not to be had: {}", without_number(why)),
            "use --segments=auto, which takes the kernel's page cache where it must".to_owned(),
        ),
        MountError::NoRings(why) => (
            format!("--transport=uring is not to be had: {}", without_number(why)),
            "ipcfs doctor tells how to switch it on; or use --transport=auto, which takes /dev/fuse where it must"
                .to_owned(),
        ),
        MountError::Other(why) if why.contains("could not determine username") => (
            "this user has no name, and fusermount3 mounts only for those who have one".to_owned(),
            "give the user a line in /etc/passwd, or mount as root".to_owned(),
        ),
        MountError::Other(why) => {
            (without_number(why.trim()), "see what this machine lacks: ipcfs doctor".to_owned())
        }
    }
}

fn device_advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => "let users open it: chmod 0666 /dev/fuse (as root), or mount as root",
        Some(Errno::PERM) => {
            "the container does not allow it: start it with --device /dev/fuse --cap-add SYS_ADMIN"
        }
        Some(Errno::NODEV | Errno::NXIO) => "load the module: modprobe fuse",
        _ => "see what this machine lacks: ipcfs doctor",
    }
}
