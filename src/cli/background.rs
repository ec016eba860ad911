//! Mounting in the background without fork: the program starts itself again in the foreground form, and waits for its
//! word that the mount is ready.
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

use super::text::{reason, word};
use crate::sys::descriptors;

/// This program, even if its file was replaced or removed since it was started.
const ITSELF: &str = "/proc/self/exe";

const READY: &str = "ready\n";

/// Starts the foreground form of this very command line and waits until it is ready or has ended; it says itself why
/// it fails.
pub(super) fn start(dir: &Path) -> Result<ExitCode, String> {
    let trouble = |what: &str| {
        let dir = word(dir);
        format!(
            "cannot mount on {dir} in the background: {what}\n  \
             stay in the foreground to see more: ipcfs mount -f {dir}"
        )
    };
    let failed = |what: &str, error: &io::Error| trouble(&format!("{what}: {}", reason(error)));
    let mut args = env::args_os();
    let itself = args.next().unwrap_or_else(|| OsString::from("ipcfs"));
    // The subcommand comes first: no option stands before it.
    let subcommand = args.next().unwrap_or_else(|| OsString::from("mount"));
    descriptors::keep_from_children();
    let mut child = Command::new(ITSELF)
        .arg0(itself)
        .arg(subcommand)
        .args(["--ready-stdout", "--foreground"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("cannot start the daemon", &error))?;

    let mut word = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut word)
            .map_err(|error| failed("no word from the daemon", &error))?;
    }
    if word == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(|error| failed("cannot wait for the daemon", &error))?;
    match (status.code(), status.signal()) {
        // It was told to end before it was ready, and did so in good order: no mount all the same.
        (Some(0), _) => Err(trouble("the daemon was ended before it was ready")),
        (Some(code), _) => Ok(ExitCode::from(code as u8)),
        (None, signal) => {
            Err(trouble(&format!("the daemon was killed by signal {}", signal.unwrap_or_default())))
        }
    }
}

/// Calls this process `ipcfs` in `ps` and `top`: started by [`ITSELF`] it would be called `exe`.
pub(super) fn take_name() {
    if let Err(error) = rustix::thread::set_name(c"ipcfs") {
        log::debug!("this process keeps its name: {error}");
    }
}

/// Leaves the terminal, then says `ready`. Until then the daemon is in its starter's session, so that Ctrl-C ends both.
///
/// If nobody hears it, nobody knows of this mount: it is ended.
pub(super) fn leave(log: Option<&File>) {
    if let Err(error) = try_leave(log) {
        log::error!("ending: nobody waits for the mount any more: {error}");
        if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM) {
            log::error!("cannot end: {error}");
        }
    }
}

fn try_leave(log: Option<&File>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // Fails where the process leads a group already; then it has left its starter's session by other means.
    if let Err(error) = rustix::process::setsid() {
        log::debug!("no session of its own: {error}");
    }
    env::set_current_dir("/")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(log.unwrap_or(&null))?;
    let mut stdout = io::stdout();
    stdout.write_all(READY.as_bytes()).and_then(|()| stdout.flush())?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
