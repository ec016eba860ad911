//! `ipcfs umount`: unmounts, waits until the daemon has exited, and lists the processes that keep a mount busy.

use std::env;
use std::fmt::{self, Write as _};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use super::holders::{self, Holder, Search};
use super::listing;
use super::machine::{self, UnmountError};
use super::mounts::{self, Mount, State};
use super::text::{escaped, quoted, reason, report};

/// How long the daemon may take to exit after unmounting.
const EXIT_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How long unmounting is retried while the mount is busy.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// Most mailboxes that are looked into to count those with messages.
const MAX_COUNTED: u64 = 10_000;

/// Most lines in the list of processes that keep a mount busy.
const MAX_LINES: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mount point
    dir: PathBuf,

    /// Detach the mount at once; it ends when no process uses it any more
    #[arg(short, long)]
    lazy: bool,

    /// End the mount at once, even if its daemon does not respond: every call to it fails
    #[arg(short, long)]
    force: bool,

    /// Only unmount if no message waits in it, except in durable mailboxes
    #[arg(long)]
    if_empty: bool,
}

/// Unmounts.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let all = mounts::all()?;
    let mount = find(&all, &args.dir)?;
    let state = mount.state();
    let lazy = args.lazy || args.force || state == State::Dead;
    if state == State::Silent && !lazy {
        return Err(silent(mount));
    }
    let waiting = Waiting::of(mount, &state);
    let has_store = matches!(&state, State::Live(status) if status.get("store").is_some());
    if args.if_empty {
        check_empty(mount, &state, waiting.as_ref())?;
    }
    // Opened before unmounting, so that the process ID cannot have been reused.
    let daemon = daemon_of(&state);

    // If this process runs inside the mount, it would keep the mount busy itself.
    env::set_current_dir("/").map_err(|error| format!("cannot change to /: {}", reason(&error)))?;
    if args.force {
        machine::abort(mount);
    }
    let result = if lazy { machine::detach(mount) } else { unmount(&mount.point) };
    match result {
        Ok(()) => {}
        // A daemon that ends takes its mount away by itself, at any moment.
        Err(_) if !mounts::all()?.iter().any(|other| other.id == mount.id) => {}
        Err(UnmountError::Busy) => return Err(busy(&all, mount)),
        Err(UnmountError::Other(why)) => {
            let point = quoted(&mount.point);
            let advice = if why.contains(machine::MTAB) && !Path::new(machine::MTAB).exists() {
                format!("make it, as root: {}", machine::MAKE_MTAB)
            } else {
                format!("only root and the user who mounted it may unmount it: sudo ipcfs umount {point}")
            };
            return Err(format!("cannot unmount {point}: {why}\n  {advice}"));
        }
    }
    if let Some(waiting) = waiting {
        let verb = if waiting.is_one() { "is" } else { "are" };
        let unless = if waiting.mailboxes.is_none() && has_store { " unless they are durable" } else { "" };
        report(&format!("{} is unmounted: {waiting} {verb} dropped{unless}", quoted(&args.dir)));
    }
    if let Some((pid, daemon)) = daemon.filter(|_| !lazy) {
        let copies = holders::copies(mount);
        if !copies.is_empty() {
            report(&copied(mount, pid, &copies));
        } else if !has_exited(&daemon) {
            report(&format!(
                "{} is unmounted, but its daemon still runs after {} s\n  terminate it: kill {}",
                quoted(&mount.point),
                EXIT_TIMEOUT.tv_sec,
                pid.as_raw_nonzero()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What goes with a mount: messages that wait in mailboxes that are not durable.
struct Waiting {
    messages: u64,
    /// The mailboxes that have them; `None` if this user may not look into all, or there are too many to look. Then durable
    /// messages are among them, if the mount has a store.
    mailboxes: Option<usize>,
}

impl Waiting {
    fn of(mount: &Mount, state: &State) -> Option<Waiting> {
        let State::Live(status) = state else { return None };
        let delayed = status.number("delayed").unwrap_or(0);
        let messages = Some(status.number("messages")? + delayed).filter(|messages| *messages > 0)?;
        let few = status.number("mailboxes").is_some_and(|mailboxes| mailboxes <= MAX_COUNTED);
        let listing = few.then(|| listing::read(&mount.point).ok()).flatten();
        let Some(listing) = listing.filter(|listing| listing.unreadable == 0) else {
            return Some(Waiting { messages, mailboxes: None });
        };
        let durable = |name: &Path| {
            let setting = mount.point.join("control/mailboxes").join(name).join("config/durable");
            fs::read_to_string(setting).is_ok_and(|durable| durable.trim() != "off")
        };
        let depths = listing.mailboxes.iter().filter_map(|mailbox| {
            let depth = mailbox.status.number("depth")? + mailbox.status.number("delayed").unwrap_or(0);
            (depth > 0 && !durable(mailbox.name.as_ref())).then_some(depth)
        });
        let depths: Vec<u64> = depths.collect();
        let messages = depths.iter().sum();
        (messages > 0).then_some(Waiting { messages, mailboxes: Some(depths.len()) })
    }

    fn is_one(&self) -> bool {
        self.mailboxes.map_or(self.messages, |mailboxes| mailboxes as u64) == 1
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: u64, what: &str, more: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}{more}"),
        };
        if let Some(mailboxes) = self.mailboxes {
            write!(f, "{} with ", number(mailboxes as u64, "mailbox", "es"))?;
        }
        f.write_str(&number(self.messages, "waiting message", "s"))
    }
}

/// Refuses a mount in which messages wait, or may wait.
fn check_empty(mount: &Mount, state: &State, waiting: Option<&Waiting>) -> Result<(), String> {
    let point = quoted(&mount.point);
    let why = match (state, waiting) {
        (State::Live(_), None) | (State::Dead, _) => return Ok(()),
        (_, Some(waiting)) => format!("it has {waiting}"),
        (_, None) => format!("it cannot be seen whether messages wait in it (it is {})", state.word()),
    };
    Err(format!("cannot unmount {point}: {why}\n  receive them first, or unmount it without --if-empty"))
}

/// Unmounts, and retries for a moment while the mount is busy: `ipcfs status` accesses every mount, and the kernel closes
/// the files of a killed process a little later.
fn unmount(point: &Path) -> Result<(), UnmountError> {
    let start = Instant::now();
    loop {
        match machine::unmount(point) {
            Err(UnmountError::Busy) if start.elapsed() < BUSY_TIMEOUT => thread::sleep(BUSY_TIMEOUT / 50),
            result => return result,
        }
    }
}

/// The ipcfs mount at `dir`, or why there is none.
pub(super) fn find<'a>(all: &'a [Mount], dir: &Path) -> Result<&'a Mount, String> {
    let shown = quoted(dir);
    if let Some(mount) = mounts::at(all, dir) {
        if mount.is_ipcfs() {
            return Ok(mount);
        }
        let what = escaped(&mount.fstype);
        return Err(format!(
            "{shown} is not an ipcfs mount but one of type {what}\n  list the mounts: ipcfs status"
        ));
    }
    if let Some(mount) = mounts::around(all, dir).filter(|mount| mount.is_ipcfs()) {
        let point = quoted(&mount.point);
        return Err(format!(
            "{shown} is not an ipcfs mount, but lies inside one\n  give the mount point: {point}"
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
    // Needs Linux 5.3. Without it the command does not wait.
    let daemon = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    Some((pid, daemon))
}

fn has_exited(daemon: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(daemon, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut fds, Some(&EXIT_TIMEOUT)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return true,
        }
    }
}

/// The query that the daemon has not answered may keep the mount busy itself, so no processes are listed.
fn silent(mount: &Mount) -> String {
    let point = quoted(&mount.point);
    format!(
        "cannot unmount {point}: its daemon does not respond\n  \
         if it is stopped, continue it with kill -CONT; otherwise detach the mount: ipcfs umount --lazy {point}"
    )
}

fn copied(mount: &Mount, daemon: Pid, copies: &[Holder]) -> String {
    let mut message = format!(
        "{} is unmounted here, but its daemon still runs: other mount namespaces have the mount, too, with",
        quoted(&mount.point)
    );
    for Holder { pid, command, .. } in copies.iter().take(MAX_LINES) {
        let _ = write!(message, "\n  {pid:>7} {command}");
    }
    let _ = write!(message, "\n  it ends with them, or terminate it: kill {}", daemon.as_raw_nonzero());
    message
}

fn busy(all: &[Mount], mount: &Mount) -> String {
    let point = quoted(&mount.point);
    let Search { holders, hidden } = holders::search(mount);
    let mut lines: Vec<String> = Vec::new();
    for inner in all.iter().filter(|inner| inner.parent == mount.id) {
        lines.push(format!("  mounted inside it: {}", escaped(&inner.point)));
    }
    let width = holders.iter().map(|holder| holder.command.chars().count()).max().unwrap_or_default();
    for holder in &holders {
        for path in &holder.paths {
            lines.push(format!("  {:>7} {:<width$}  {}", holder.pid, holder.command, escaped(path)));
        }
    }
    let mut message = format!("cannot unmount {point}: it is in use");
    if !lines.is_empty() {
        message.push_str(" by");
    }
    for line in lines.iter().take(MAX_LINES) {
        let _ = write!(message, "\n{line}");
    }
    if lines.len() > MAX_LINES {
        let _ = write!(message, "\n  and {} more", lines.len() - MAX_LINES);
    }
    if lines.is_empty() && hidden > 0 {
        let _ = write!(message, " by processes of other users\n  to list them: sudo ipcfs umount {point}");
    }
    let _ = write!(message, "\n  end them, or detach the mount at once: ipcfs umount --lazy {point}");
    message
}
