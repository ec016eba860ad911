//! Queries to a mount whose daemon may never respond.
//!
//! A stopped daemon keeps its callers waiting, and not even `SIGKILL` ends the wait of a caller whose request it has
//! taken. If a thread of this process asked, this process could not exit. So a child process asks. If it gets no answer,
//! it is left behind; it exits when the daemon continues or exits.

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

/// How long a running daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Most bytes of `control/status` that are read: far more than ipcfs writes, in case the mount is something else.
const STATUS_MAX: u64 = 64 * 1024;

/// The hidden subcommand of the child process.
pub(super) const ASK: &str = "ask";

/// A query.
#[derive(Debug, Subcommand)]
pub(super) enum Question {
    /// Print a mount's `control/status`
    Status { point: PathBuf },
    /// Print the canonical path of a directory
    Place { dir: PathBuf },
}

/// The `control/status` of a mount, or `None` if its daemon does not respond.
pub(super) fn status(point: &Path) -> Option<io::Result<String>> {
    let answer = ask("status", point)?;
    Some(answer.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The canonical path of a directory, even if a dead mount is on it. `None` if it cannot be determined.
pub(super) fn place(dir: &Path) -> Option<PathBuf> {
    let answer = ask("place", &std::path::absolute(dir).ok()?)?.ok()?;
    Some(OsString::from_vec(answer).into())
}

/// Runs in the child process: prints the answer, or exits with the errno.
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
        // A dead mount point cannot be resolved, but its parent directory can.
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
    let reading = thread::Builder::new().name("query".to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        let _ = sender.send(stdout.read_to_end(&mut bytes).map(|_| bytes));
    });
    if let Err(error) = reading {
        return Some(Err(error));
    }
    let Ok(bytes) = receiver.recv_timeout(TIMEOUT) else {
        // Has no effect while the kernel waits for the daemon's answer.
        let _ = child.kill();
        return None;
    };
    // It has closed its output, so it is about to exit.
    Some(child.wait().and_then(|status| match status.code() {
        Some(0) => bytes,
        Some(number) => Err(io::Error::from_raw_os_error(number)),
        None => Err(Errno::IO.into()),
    }))
}
