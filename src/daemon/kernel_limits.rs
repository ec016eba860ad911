//! What the kernel is set to allow.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::warn;

use crate::config::{MAX_WRITE, MSGSIZE_CEILING};
use crate::kernel::transport::Transport;

/// The longest message that the kernel sends in one request, wherever in a page it begins.
pub(super) fn message_ceiling() -> u32 {
    let page = rustix::param::page_size() as u64;
    let pages = u64::from(MAX_WRITE).div_ceil(page);
    let pages = pages.min(sysctl("max_pages_limit").unwrap_or(256));
    let ceiling = pages.saturating_sub(1).saturating_mul(page).min(u64::from(MSGSIZE_CEILING)) as u32;
    if ceiling < MSGSIZE_CEILING {
        warn!("messages are limited to {ceiling} bytes by fs.fuse.max_pages_limit or the page size");
    }
    ceiling
}

/// After how many seconds the kernel aborts a mount whose request waits.
pub(super) fn request_timeout() -> Option<u64> {
    let limits = [sysctl("default_request_timeout"), sysctl("max_request_timeout")];
    limits.into_iter().flatten().filter(|seconds| *seconds > 0).min()
}

fn sysctl(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/fs/fuse").join(name)).ok()?;
    text.trim().parse().ok()
}

/// If the kernel aborts mounts whose requests wait too long, ends the waits before that with `EINTR`.
pub(super) fn keep_within_timeout(transport: &Arc<Transport>) {
    let Some(seconds) = request_timeout() else { return };
    warn!("the kernel limits requests to {seconds} s: waiting calls fail with EINTR after half of that");
    let (wait, transport) = (Duration::from_secs(seconds) / 2, Arc::clone(transport));
    let spawned = thread::Builder::new().name(String::from("timeout")).spawn(move || {
        loop {
            thread::sleep(wait / 4);
            transport.expire(wait);
        }
    });
    if let Err(error) = spawned {
        warn!("waiting calls cannot be ended in time: {error}");
    }
}

/// Why the daemon cannot be started again if it is killed, as `control/status` says it; `None` if it can.
pub(super) fn restart_obstacle(uses_rings: bool) -> Option<&'static str> {
    let release = rustix::system::uname();
    let obstacle = obstacle_of(&release.release().to_string_lossy(), uses_rings);
    obstacle.or_else(|| {
        let why = "off: the kernel limits how long requests may take (fs.fuse.*_request_timeout)";
        (uses_rings && request_timeout().is_some()).then_some(why)
    })
}

/// That of a kernel. Before June 2026, a call that was about to be handed to a daemon over a ring stayed in the kernel for ever when
/// that was killed, and its caller with it (`fuse_uring_send_in_task`).
fn obstacle_of(release: &str, uses_rings: bool) -> Option<&'static str> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let version: (u32, u32, u32) = (number(), number(), number());
    if version < (6, 9, 0) {
        return Some("off: that takes Linux 6.9");
    }
    let is_mended = version >= (7, 2, 0) || ((6, 18, 44)..(6, 19, 0)).contains(&version);
    (uses_rings && !is_mended)
        .then_some("off: over io_uring that takes Linux 7.2, or 6.18.44; use --transport dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_on_which_callers_would_hang_is_no_kernel_for_restarts() {
        for (release, device, rings) in [
            ("6.1.0-37-amd64", false, false),
            ("6.8.12", false, false),
            ("6.9.0", true, false),
            ("6.18.43-cloud", true, false),
            ("6.18.44-fc-v669", true, true),
            ("6.19.1", true, false),
            ("7.1.9", true, false),
            ("7.2.0-rc4", true, true),
            ("10.0", true, true),
            ("strange", false, false),
        ] {
            let can = [false, true].map(|uses_rings| obstacle_of(release, uses_rings).is_none());
            assert_eq!(can, [device, rings], "{release}");
        }
    }
}
