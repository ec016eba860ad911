//! The command `ipcfs`: one file per subcommand. The arguments are validated once, into a [`Config`](crate::config::Config).
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage. An error message on standard error says what was tried, on what, why
//! it failed, and what to do.

mod ask;
mod background;
mod claim;
mod doctor;
mod explain;
mod holders;
mod listing;
mod machine;
mod memory;
mod mount;
mod mountpoint;
mod mounts;
mod size;
mod status;
mod store;
mod text;
mod umount;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::thread;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::control;
use crate::sys::{heap, signals};

/// Bytes of stack for everything that the main thread would do: its own stack may be as small as `ulimit -s` says.
const STACK: usize = 2 << 20;

/// Inter-process communication as files: mailboxes to write and read, topics, segments to mmap.
#[derive(Debug, Parser)]
#[command(name = "ipcfs", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount on a directory; returns when the mount is ready
    Mount(mount::Args),
    /// Unmount; if the mount is busy, list the processes that use it
    Umount(umount::Args),
    /// Show all mounts, or the mailboxes, topics and segments of one
    Status(status::Args),
    /// Look into the store of durable mailboxes
    Store(store::Args),
    /// Check this machine, and show the commands that add what is missing
    Doctor,
    #[command(name = ask::ASK, hide = true, subcommand)]
    Ask(ask::Question),
}

/// Runs the subcommand that the process's arguments name. Does not return for `--help` and wrong usage.
pub fn run() -> ExitCode {
    heap::use_one_arena();
    signals::reset();
    match thread::Builder::new().name("ipcfs".to_owned()).stack_size(STACK).spawn(dispatch) {
        Ok(thread) => thread.join().unwrap_or(ExitCode::FAILURE),
        // Without another thread, on this one.
        Err(_) => dispatch(),
    }
}

fn dispatch() -> ExitCode {
    let arguments = command().get_matches();
    let cli = Cli::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Ask(question) => return ask::answer(&question),
        Command::Mount(args) => mount::run(&args),
        Command::Umount(args) => umount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Doctor => Ok(doctor::run()),
    };
    result.unwrap_or_else(|message| {
        text::report(&message);
        ExitCode::FAILURE
    })
}

/// The command line parser, with the reference of `control/` in the help of `status`.
fn command() -> clap::Command {
    let files = control::reference();
    let width = files.iter().map(|file| file.path.len()).max().unwrap_or(0);
    let mut reference = String::from(status::AFTER_HELP);
    let mut folder = None;
    for file in &files {
        if folder.replace(file.folder) != Some(file.folder) {
            let _ = write!(reference, "\n\ncontrol/{}", file.folder);
        }
        let _ = write!(reference, "\n  {:width$}  {}", file.path, file.help);
    }
    Cli::command().mut_subcommand("status", |status| status.after_long_help(reference))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_make_sense() {
        super::command().debug_assert();
    }
}
