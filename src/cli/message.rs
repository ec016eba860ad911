//! `ipcfs send` and `ipcfs recv`, for scripts: as `echo >` and `cat`, with a time limit and exit codes.
//!
//! A call that waits in the daemon could be ended by a signal only, so with a time limit nothing waits there: poll(2) waits,
//! and a message that another receiver was faster to take is waited for again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::mounts;
use super::size;
use super::text::{quoted, reason};
use crate::config::{MSGSIZE_CEILING, NO_LIMIT};

/// The exit code if the time limit was over.
const TIMED_OUT: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all sent, 1 failure, 2 wrong usage, 3 no room within the time limit. Messages before one \
    that is not sent have been sent."
)]
pub(super) struct SendArgs {
    /// Mailbox or topic, as a path in a mount
    path: PathBuf,

    /// Texts; each is a message, without a newline. Without any, standard input to its end is one message
    texts: Vec<std::ffi::OsString>,

    /// How long to wait for room, for each message: 500ms, 3s, 2m; 0 does not wait [default: without limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    /// Send with this priority, 0 to 32767; higher ones are received first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=32_767))]
    priority: Option<u16>,

    /// Send with this tag
    #[arg(long, value_name = "TEXT", conflicts_with = "priority")]
    tag: Option<std::ffi::OsString>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all received, 1 failure, 2 wrong usage, 3 no message within the time limit."
)]
pub(super) struct RecvArgs {
    /// Mailbox or topic, as a path in a mount
    path: PathBuf,

    /// How long to wait for each message: 500ms, 3s, 2m; 0 does not wait [default: without limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    /// Receive so many messages, 1 or more, or max for all that come
    #[arg(long, value_name = "N", value_parser = count, default_value_t = 1)]
    count: u64,

    /// Receive only messages with this tag
    #[arg(long, value_name = "TEXT")]
    tag: Option<std::ffi::OsString>,

    /// Print each message as a JSON object in a line, with sender, time, priority and tag
    #[arg(long, conflicts_with = "tag")]
    json: bool,
}

/// An open mailbox, topic or door.
struct Door {
    file: File,
    /// `None`: without limit.
    timeout: Option<Duration>,
}

/// Sends.
pub(super) fn send(args: &SendArgs) -> Result<ExitCode, String> {
    let failed = |error: &io::Error| format!("cannot send to {}: {}", quoted(&args.path), advised(error));
    let door = match (&args.priority, &args.tag) {
        (Some(priority), _) => beside(&args.path, Path::new("priority").join(priority.to_string()))?,
        (None, Some(tag)) => beside(&args.path, Path::new("tag").join(tag))?,
        (None, None) => checked(&args.path)?,
    };
    let door = Door::open(&door, false, args.timeout).map_err(|error| failed(&error))?;
    let mut input = Vec::new();
    if args.texts.is_empty() {
        // One byte more than any message can have is enough to see that it is too long.
        let most = u64::from(MSGSIZE_CEILING) + 1;
        io::stdin().take(most).read_to_end(&mut input).map_err(|error| failed(&error))?;
    }
    let texts = args.texts.iter().map(|text| text.as_bytes());
    let messages: Vec<&[u8]> = if args.texts.is_empty() { vec![&input] } else { texts.collect() };
    if messages.iter().any(|message| message.is_empty()) {
        return Err(format!(
            "cannot send to {}: the message is empty\n  a message has one byte or more",
            quoted(&args.path)
        ));
    }
    for message in messages {
        match door.attempt(PollFlags::OUT, || (&door.file).write(message)).map_err(|error| failed(&error))? {
            Some(_) => {}
            None => return Ok(ExitCode::from(TIMED_OUT)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Receives.
pub(super) fn recv(args: &RecvArgs) -> Result<ExitCode, String> {
    let failed =
        |error: &io::Error| format!("cannot receive from {}: {}", quoted(&args.path), advised(error));
    let door = match &args.tag {
        Some(tag) => beside(&args.path, Path::new("tag").join(tag))?,
        None if args.json => beside(&args.path, PathBuf::from("json"))?,
        None => checked(&args.path)?,
    };
    let door = Door::open(&door, true, args.timeout).map_err(|error| failed(&error))?;
    let mut buffer = vec![0; MSGSIZE_CEILING as usize];
    let mut received = 0;
    while args.count == NO_LIMIT || received < args.count {
        let message = if args.json { door.line(&mut buffer) } else { door.message(&mut buffer) };
        let Some(message) = message.map_err(|error| failed(&error))? else {
            return Ok(ExitCode::from(TIMED_OUT));
        };
        let mut out = io::stdout().lock();
        out.write_all(&message).and_then(|()| out.flush()).map_err(|error| {
            format!(
                "cannot write to standard output: {}\n  a message was received and is lost",
                reason(&error)
            )
        })?;
        received += 1;
    }
    Ok(ExitCode::SUCCESS)
}

impl Door {
    fn open(path: &Path, read: bool, timeout: Option<Duration>) -> io::Result<Door> {
        let flags = if timeout.is_some() { OFlags::NONBLOCK.bits() } else { 0 };
        let file = OpenOptions::new().read(read).write(!read).custom_flags(flags.cast_signed()).open(path)?;
        Ok(Door { file, timeout })
    }

    /// Does what may have to wait, again and again until the time is over: then `None`.
    fn attempt(
        &self,
        wanted: PollFlags,
        mut work: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        // Further away than the clock goes is without limit.
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match work() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return result.map(Some),
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.file, wanted)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One message: to the end of file that comes after it.
    fn message(&self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        self.take(buffer.len(), buffer, |_| false)
    }

    /// One message from the door `json`, which has no end of file. It gives as many lines as fit, so one that does not fit
    /// begins each: such a line comes alone.
    fn line(&self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        self.take(1, buffer, |message| message.ends_with(b"\n"))
    }

    /// Reads at most `first` bytes, then the rest: until `is_whole`, or the end of file.
    fn take(
        &self,
        first: usize,
        buffer: &mut [u8],
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Option<Vec<u8>>> {
        let (mut message, mut most) = (Vec::new(), first);
        loop {
            let read = self.attempt(PollFlags::IN, || {
                buffer.get_mut(..most).map_or(Ok(0), |place| (&self.file).read(place))
            })?;
            match read {
                None => return Ok(None),
                Some(0) => return Ok(Some(message)),
                Some(length) => message.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            }
            if is_whole(&message) {
                return Ok(Some(message));
            }
            most = buffer.len();
        }
    }
}

/// The path, if it is that of a mailbox or topic.
fn checked(path: &Path) -> Result<PathBuf, String> {
    place(path, &["mailboxes", "topics"]).map(|_| path.to_owned())
}

/// A door of the mailbox at a path.
fn beside(path: &Path, door: PathBuf) -> Result<PathBuf, String> {
    let (point, below) = place(path, &["mailboxes"])?;
    Ok(point.join("control").join(below).join(door))
}

/// The mount point above a path, and the path below it, which begins with one of `kinds`.
fn place(path: &Path, kinds: &[&str]) -> Result<(PathBuf, PathBuf), String> {
    let all = mounts::all()?;
    // A link may lead into the mount, and a path that is not there has a folder that is.
    let found = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let found = found.map_err(|error| format!("cannot use {}: {}", quoted(path), reason(&error)))?;
    let mount = mounts::around(&all, &found).filter(|mount| mount.is_ipcfs());
    let below = mount.and_then(|mount| Some((mount, found.strip_prefix(&mount.point).ok()?)));
    match below.filter(|(_, below)| kinds.iter().any(|kind| below.starts_with(kind))) {
        Some((mount, below)) => Ok((mount.point.clone(), below.to_owned())),
        None => Err(format!(
            "{} is not in the folder {}/ of an ipcfs mount\n  list the mounts: ipcfs status",
            quoted(path),
            kinds.join("/ or ")
        )),
    }
}

/// What failed, and what to do.
fn advised(error: &io::Error) -> String {
    let advice = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "create it first: touch PATH",
        Some(Errno::MSGSIZE) => "raise config/msgsize or config/maxbytes, or write it to the door whole",
        Some(Errno::ACCESS) => "whoever owns it may allow it: chmod (w is to send, r is to receive)",
        Some(Errno::NOSPC) => "config/full says fail: receive messages first, or raise a limit",
        Some(Errno::IDRM) => "it was removed meanwhile",
        _ => "see its state: ipcfs status DIR",
    };
    format!("{}\n  {advice}", reason(error))
}

/// A time with a unit, or in seconds.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.map_or_else(
        || humantime::parse_duration(text).map_err(|_| "write a time such as 500ms, 3s or 2m".to_owned()),
        Ok,
    )
}

fn count(text: &str) -> Result<u64, String> {
    size::count_or_max(text, 1..=NO_LIMIT - 1)
}
