//! Mounting in the background without fork: the program starts itself again as a foreground mount, and waits until that
//! process reports that the mount is ready.
//!
//! ```text
//! ipcfs mount DIR ──spawn──► ipcfs mount --ready-stdout -f DIR      same terminal, same standard error
//!        │                          │ checks, mounts, serves
//!        │ ◄────── "ready\n" ───────┤ leaves the session and the terminal
//!      exit 0                       │ serves until the mount ends
//! ```

use std::env;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::Signal;

use super::explain::limit_advice;
use super::supervise::SUPERVISOR_FLAG;
use super::text::{quoted, reason};
use crate::sys::descriptors;

/// This program, even if its file was replaced or removed since it was started.
const ITSELF: &str = "/proc/self/exe";

const READY: &str = "ready\n";

/// Starts the command line `words` again with `--foreground`, and waits until the mount is ready or the process has exited. The
/// process itself prints why it failed. With `restarts`, it starts the daemon, and starts it again if it is killed.
pub(super) fn start(dir: &Path, words: &[OsString], restarts: bool) -> Result<ExitCode, String> {
    let shown = quoted(dir);
    let message =
        |what: &str, advice: &str| format!("cannot mount on {shown} in the background: {what}\n  {advice}");
    let foreground = format!("mount in the foreground to see more: ipcfs mount -f {shown}");
    let failed =
        |what: &str, error: &io::Error| message(&format!("{what}: {}", reason(error)), limit_advice(error));
    // The subcommand comes first: no option stands before it.
    let [itself, subcommand, args @ ..] = words else {
        return Err(message("the command line is empty", &foreground));
    };
    descriptors::keep_from_children();
    let mut child = Command::new(ITSELF)
        .arg0(itself)
        .arg(subcommand)
        .args(restarts.then_some(SUPERVISOR_FLAG))
        .args(["--ready-stdout", "--foreground"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("cannot start the daemon", &error))?;

    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|error| failed("cannot read from the daemon", &error))?;
    }
    if line == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(|error| failed("cannot wait for the daemon", &error))?;
    match (status.code(), status.signal()) {
        // It was asked to unmount before the mount was ready.
        (Some(0), _) => Err(message("the daemon was terminated before the mount was ready", &foreground)),
        (Some(code), _) => Ok(ExitCode::from(code as u8)),
        (None, signal) => {
            let what = format!("the daemon was killed by signal {}", signal.unwrap_or_default());
            Err(message(&what, &foreground))
        }
    }
}

/// Names this process `ipcfs` in `ps` and `top`. Started through [`ITSELF`] its name would be `exe`.
pub(super) fn set_process_name() {
    // The main thread's name is the process's; this may be another thread.
    if let Err(error) = std::fs::write("/proc/self/comm", "ipcfs") {
        log::debug!("cannot set the process name: {error}");
    }
}

/// Detaches from the terminal, then reports `ready`. Until then the daemon is in the session of the process that started
/// it, so that Ctrl-C ends both.
///
/// If that process is gone, nobody knows of this mount, and it is unmounted.
pub(super) fn detach(log: Option<&File>) {
    if let Err(error) = try_detach(log) {
        log::error!("unmounting: the process that started this mount is gone: {error}");
        if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM) {
            log::error!("cannot unmount: {error}");
        }
    }
}

fn try_detach(log: Option<&File>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // Fails if the process leads a process group already: then it is not in the session of its parent.
    if let Err(error) = rustix::process::setsid() {
        log::debug!("cannot create a session: {error}");
    }
    env::set_current_dir("/")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(log.unwrap_or(&null))?;
    let mut stdout = io::stdout();
    stdout.write_all(READY.as_bytes()).and_then(|()| stdout.flush())?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
