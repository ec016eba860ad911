//! Questions to a mount whose daemon may never answer.
//!
//! A daemon that is stopped keeps its callers waiting, and where requests come by `io_uring` not even `SIGKILL` ends their
//! wait: a thread that asked would keep this process from ending. So another process asks, and is left behind if it
//! gets no answer; it ends when the daemon does, or goes on.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Subcommand;
use rustix::io::Errno;

/// How long a living daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest `control/status` that is read: far more than there ever is, in case the mount is not what it says.
const STATUS_MAX: u64 = 64 * 1024;

/// The subcommand that answers, known to this program alone.
pub(super) const ASK: &str = "ask";

/// What is asked.
#[derive(Debug, Subcommand)]
pub(super) enum Question {
    /// What a mount says of itself.
    Status { point: PathBuf },
    /// The one name of a directory, however it is spelt.
    Place { dir: PathBuf },
}

/// The `control/status` of a mount. `None`: its daemon does not answer.
pub(super) fn status(point: &Path) -> Option<io::Result<String>> {
    let answer = ask("status", point)?;
    Some(answer.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// One name for a directory, whether or not something is mounted on it or dead. `None`: it cannot be had.
pub(super) fn place(dir: &Path) -> Option<PathBuf> {
    let answer = ask("place", &std::path::absolute(dir).ok()?)?.ok()?;
    Some(OsString::from_vec(answer).into())
}

/// The other side: prints the answer, or ends with the number of the error.
pub(super) fn answer(question: &Question) -> ExitCode {
    let answer = match question {
        Question::Status { point } => read_status(point),
        Question::Place { dir } => resolve(dir).map(|place| place.into_os_string().into_vec()),
    };
    match answer.and_then(|bytes| io::stdout().write_all(&bytes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let number = Errno::from_io_error(&error).unwrap_or(Errno::IO).raw_os_error();
            ExitCode::from(u8::try_from(number).unwrap_or(u8::MAX))
        }
    }
}

fn read_status(point: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(point.join("control/status"))?.take(STATUS_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn resolve(dir: &Path) -> io::Result<PathBuf> {
    match (dir.parent(), dir.file_name()) {
        // A dead mount cannot be resolved itself, but the directory that holds it can.
        (Some(parent), Some(name)) if fs::read_link(dir).is_err() => Ok(fs::canonicalize(parent)?.join(name)),
        _ => fs::canonicalize(dir),
    }
}

fn ask(question: &str, path: &Path) -> Option<io::Result<Vec<u8>>> {
    let spawned = Command::new("/proc/self/exe")
        .args([OsStr::new(ASK), OsStr::new(question), OsStr::new("--")])
        .arg(OsStr::from_bytes(path.as_os_str().as_bytes()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Some(Err(error)),
    };
    let Some(mut stdout) = child.stdout.take() else { return Some(Err(Errno::IO.into())) };
    let (sender, receiver) = mpsc::channel();
    let reading = thread::Builder::new().name("asking".to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        let _ = sender.send(stdout.read_to_end(&mut bytes).map(|_| bytes));
    });
    if let Err(error) = reading {
        return Some(Err(error));
    }
    let Ok(bytes) = receiver.recv_timeout(PATIENCE) else {
        // In vain where the kernel does not let it go.
        let _ = child.kill();
        return None;
    };
    // It has closed its output, and so has nothing left to do but to end.
    Some(child.wait().and_then(|status| match status.code() {
        Some(0) => bytes,
        Some(number) => Err(io::Error::from_raw_os_error(number)),
        None => Err(Errno::IO.into()),
    }))
}
