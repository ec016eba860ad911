//! The command `ipcfs`: one file a subcommand. Raw arguments become a validated [`Config`](crate::config::Config) once.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. What failed is said on standard error: what was tried, on what, why it
//! failed, and what to do about it.

mod background;
mod doctor;
mod explain;
mod holders;
mod listing;
mod machine;
mod mount;
mod mountpoint;
mod mounts;
mod size;
mod status;
mod text;
mod umount;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Inter-process communication as files: mailboxes to write and read, segments to mmap.
#[derive(Debug, Parser)]
#[command(name = "ipcfs", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount on a directory; returns when the tree answers
    Mount(mount::Args),
    /// End a mount; names those who keep it busy
    Umount(umount::Args),
    /// Show the mounts, or one mount's mailboxes and segments
    Status(status::Args),
    /// Show what this machine offers, and the command that adds what is missing
    Doctor,
}

/// Does what the process's arguments say. Does not return for `--help` and wrong usage.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Mount(args) => mount::run(&args),
        Command::Umount(args) => umount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Doctor => Ok(doctor::run()),
    };
    result.unwrap_or_else(|message| {
        text::complain(&message);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_make_sense() {
        super::Cli::command().debug_assert();
    }
}
