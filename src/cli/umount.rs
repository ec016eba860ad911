//! `ipcfs umount`: ends a mount, waits for its daemon to end, and says who is in the way.

use std::env;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use super::holders::{self, Search};
use super::machine::{self, UnmountError};
use super::mounts::{self, Mount, State};
use super::text::{complain, name, reason, word};

/// How long the daemon may take to end after its mount has.
const ENDING: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How long a mount may be busy before somebody is said to keep it so.
const PASSING: Duration = Duration::from_millis(500);

/// Lines of the list of those who keep a mount busy.
const MOST_LINES: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the mount is
    dir: PathBuf,

    /// Hide the mount at once; it ends when the last process that uses it lets go
    #[arg(long)]
    lazy: bool,
}

/// Ends a mount.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let all = mounts::all()?;
    let mount = find(&all, &args.dir)?;
    let state = mount.state();
    let lazy = args.lazy || state == State::Dead;
    if state == State::Silent && !lazy {
        return Err(silent(mount));
    }
    // Held before the unmount, so that the number cannot have passed to another process by then.
    let daemon = daemon_of(&state);

    // Run from within the mount, this process would keep it busy itself.
    env::set_current_dir("/").map_err(|error| format!("cannot change to /: {}", reason(&error)))?;
    match unmount(&mount.point, lazy) {
        Ok(()) => {}
        Err(UnmountError::Busy) => return Err(busy(&all, mount)),
        Err(UnmountError::Other(why)) => {
            let point = word(&mount.point);
            return Err(format!(
                "cannot unmount {point}: {why}\n  only root and the user who mounted it may: sudo ipcfs umount {point}"
            ));
        }
    }
    if let Some((pid, daemon)) = daemon.filter(|_| !lazy)
        && !ends(&daemon)
    {
        complain(&format!(
            "{} is unmounted, but its daemon still runs after {} s\n  end it: kill {}",
            word(&mount.point),
            ENDING.tv_sec,
            pid.as_raw_nonzero()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Unmounts, if need be once those have gone who are there for a moment only: `ipcfs status` looks into every mount, a
/// program that has just been killed lets go of its files a little later.
fn unmount(point: &Path, lazy: bool) -> Result<(), UnmountError> {
    let start = Instant::now();
    loop {
        match machine::unmount(point, lazy) {
            Err(UnmountError::Busy) if start.elapsed() < PASSING => thread::sleep(PASSING / 50),
            result => return result,
        }
    }
}

/// The ipcfs mount at `dir`, or why there is none.
pub(super) fn find<'a>(all: &'a [Mount], dir: &Path) -> Result<&'a Mount, String> {
    let shown = word(dir);
    if let Some(mount) = mounts::at(all, dir) {
        if mount.is_ipcfs() {
            return Ok(mount);
        }
        let what = name(&mount.fstype);
        return Err(format!(
            "{shown} is not an ipcfs mount but one of type {what}\n  list the mounts: ipcfs status"
        ));
    }
    if let Some(mount) = mounts::around(all, dir).filter(|mount| mount.is_ipcfs()) {
        let point = word(&mount.point);
        return Err(format!(
            "{shown} is not an ipcfs mount, but lies in one\n  name the mount itself: {point}"
        ));
    }
    let why = match dir.symlink_metadata() {
        Ok(_) => "nothing is mounted there".to_owned(),
        Err(error) => reason(&error),
    };
    Err(format!("{shown} is not an ipcfs mount: {why}\n  list the mounts: ipcfs status"))
}

fn daemon_of(state: &State) -> Option<(Pid, OwnedFd)> {
    let State::Live(status) = state else {
        return None;
    };
    let pid = Pid::from_raw(status.get("pid")?.parse().ok()?)?;
    // Linux 5.3. Without it nobody waits.
    let daemon = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    Some((pid, daemon))
}

fn ends(daemon: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(daemon, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut fds, Some(&ENDING)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return true,
        }
    }
}

/// The question that its daemon has not answered may keep the mount busy, and who else does cannot be told from it.
fn silent(mount: &Mount) -> String {
    let point = word(&mount.point);
    format!(
        "cannot unmount {point}: its daemon does not answer\n  \
         if it was stopped, kill -CONT it; otherwise hide the mount: ipcfs umount --lazy {point}"
    )
}

fn busy(all: &[Mount], mount: &Mount) -> String {
    let point = word(&mount.point);
    let Search { holders, hidden } = holders::search(mount);
    let mut lines: Vec<String> = Vec::new();
    for inner in all.iter().filter(|inner| inner.parent == mount.id) {
        lines.push(format!("  mounted in it: {}", name(&inner.point)));
    }
    let width = holders.iter().map(|holder| holder.command.chars().count()).max().unwrap_or_default();
    for holder in &holders {
        for path in &holder.paths {
            lines.push(format!("  {:>7} {:<width$}  {}", holder.pid, holder.command, name(path)));
        }
    }
    let mut message = format!("cannot unmount {point}: it is in use");
    if !lines.is_empty() {
        message.push_str(" by");
    }
    for line in lines.iter().take(MOST_LINES) {
        let _ = write!(message, "\n{line}");
    }
    if lines.len() > MOST_LINES {
        let _ = write!(message, "\n  and {} more", lines.len() - MOST_LINES);
    }
    if lines.is_empty() && hidden > 0 {
        let _ = write!(message, " by processes of other users\n  to see them: sudo ipcfs umount {point}");
    }
    let _ =
        write!(message, "\n  end them, or hide the mount until they have ended: ipcfs umount --lazy {point}");
    message
}
