//! `ipcfs upgrade`: replaces the daemon of a mount while it is in use.

use std::env;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Access, makedev};

use super::background;
use super::explain::explain;
use super::logging;
use super::mounts::{self, Mount};
use super::text::{escaped, quoted, reason};
use super::umount;
use crate::daemon;
use crate::handover::request::{self, Refused};
use crate::handover::successor::has_supervisor;
use crate::supervisor::Supervised;
use crate::sys::child;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Waiting calls go on waiting. Open files, messages, leases, locks, pollers and mapped segments stay.\n\
    If the program cannot take the mount over, the daemon that runs goes on, and the exit code is 1."
)]
pub(super) struct Args {
    /// Mount point
    dir: PathBuf,

    /// Program that serves the mount from now on [default: the one that this command is]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct TakeOver {
    /// Mount point, for people who list processes
    dir: PathBuf,
}

/// Asks the daemon of a mount to hand it over.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let all = mounts::all()?;
    let mount = umount::find(&all, &args.dir)?;
    let point = quoted(&mount.point);
    let program = program(args).map_err(|why| format!("cannot upgrade {point}: {why}"))?;
    match request::ask(mount.device, owner(mount), &program) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(refused) => Err(format!("cannot upgrade {point}: {}", why(refused, &program))),
    }
}

/// The absolute path of the program.
fn program(args: &Args) -> Result<PathBuf, String> {
    let Some(binary) = &args.binary else {
        return env::current_exe().map_err(|error| format!("cannot find this program: {}", reason(&error)));
    };
    let shown = quoted(binary);
    let unusable = |why: &str| {
        format!("cannot run {shown}: {why}\n  give an ipcfs program: ipcfs upgrade --binary FILE DIR")
    };
    let path = binary.canonicalize().map_err(|error| unusable(&reason(&error)))?;
    match rustix::fs::access(&path, Access::EXEC_OK) {
        Ok(()) if path.is_file() => Ok(path),
        Ok(()) => Err(unusable("it is not a file")),
        Err(error) => Err(unusable(&reason(&error.into()))),
    }
}

/// The user who mounted it.
fn owner(mount: &Mount) -> u32 {
    let owner = mount.options.split(',').find_map(|option| option.strip_prefix("user_id="));
    owner.and_then(|uid| uid.parse().ok()).unwrap_or(0)
}

fn why(refused: Refused, program: &Path) -> String {
    match refused {
        Refused::Said(why) => {
            format!("{}\n  the daemon that runs goes on; the program was {}", escaped(&why), quoted(program))
        }
        Refused::Stranger => String::from(
            "another user answers in place of its daemon\n  mount again: ipcfs umount DIR, ipcfs mount DIR",
        ),
        Refused::Unreachable(error) => format!(
            "its daemon cannot be asked: {}\n  \
             only root and who mounted it may upgrade it, in the mount and network namespaces of the daemon",
            reason(&error)
        ),
    }
}

/// Serves a mount in place of the daemon that started this process, until it ends. Standard input is the daemon's socket.
pub(super) fn take_over(args: &TakeOver) -> Result<ExitCode, String> {
    // Before anything else takes its number.
    let supervised = has_supervisor().then(child::inherited_socket).flatten().map(Supervised::new);
    logging::start(None)?;
    // `/dev/null`: the daemon in the background has no file for its log.
    if rustix::fs::fstat(std::io::stderr()).is_ok_and(|stderr| stderr.st_rdev == makedev(1, 3)) {
        logging::move_to_system(&args.dir);
    }
    background::set_process_name();
    let failed =
        |error: &std::io::Error| format!("cannot take over {}: {}", quoted(&args.dir), reason(error));
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| failed(&error))?;
    // What else uses standard input must not reach the daemon.
    let null = std::fs::File::open("/dev/null").map_err(|error| failed(&error))?;
    rustix::stdio::dup2_stdin(&null).map_err(|error| failed(&error.into()))?;
    drop(null);
    daemon::take_over(UnixStream::from(socket), supervised).map_err(|error| explain(&args.dir, &error))?;
    Ok(ExitCode::SUCCESS)
}
