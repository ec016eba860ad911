//! The process that starts the daemon of a mount in the background, and starts it again if it is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};

use crate::daemon::MOST_KEPT;
use crate::supervisor::{self, Setup, Supervised};
use crate::sys::child::{self, Arguments};

/// Flags of `ipcfs mount`, without the dashes.
pub(super) const SUPERVISOR: &str = "supervisor";
pub(super) const SUPERVISED: &str = "supervised";
/// The first word after the subcommand.
pub(super) const SUPERVISOR_FLAG: &str = "--supervisor";
const SUPERVISED_FLAG: &str = "--supervised";

/// Whether this process supervises: then no thread of it may take signals.
pub(super) fn is_asked(words: &[OsString]) -> bool {
    words.get(2).is_some_and(|word| word == SUPERVISOR_FLAG)
}

/// Starts the daemon that `words` describe, for as long as the mount lives. `log` is where the log goes, if it is not standard error.
pub(super) fn run(words: &[OsString], never_gives_up: bool, log: Option<File>) -> io::Result<ExitCode> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let program = rustix::fs::open("/proc/self/exe", flags, Mode::empty())?;
    let mut arguments = words.to_vec();
    if let Some(flag) = arguments.get_mut(2) {
        *flag = SUPERVISED_FLAG.into();
    }
    // The name in `ps` and `top`.
    let _ = std::fs::write("/proc/self/comm", "ipcfs-keeper");
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let status = supervisor::run(Setup {
        program,
        arguments: Arguments::new(arguments)?,
        most_kept: MOST_KEPT as usize,
        never_gives_up,
        output: Some((null.into(), log.map(OwnedFd::from))),
    })?;
    Ok(ExitCode::from(status))
}

/// The process that supervises this one.
pub(super) fn supervisor() -> Option<Supervised> {
    child::inherited_socket().map(Supervised::new)
}
