//! The command `ipcfs`: one file per subcommand. The arguments are validated once, into a [`Config`](crate::config::Config).
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage; as mount(8)'s helper, that program's. An error message on standard error says what was tried, on what, why
//! it failed, and what to do.

mod ask;
mod background;
mod claim;
mod config_dir;
mod config_file;
mod doctor;
mod explain;
mod holders;
mod listing;
mod logging;
mod machine;
mod manual;
mod memory;
mod message;
mod mount;
mod mount_helper;
mod mountpoint;
mod mounts;
mod settings;
mod size;
mod status;
mod store;
mod supervise;
mod text;
mod top;
mod umount;
mod upgrade;
mod users;

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::thread;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::control;
use crate::handover::successor::TAKE_OVER;
use crate::supervisor;
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
    Mount(Box<mount::Args>),
    /// Unmount; if the mount is busy, list the processes that use it
    Umount(umount::Args),
    /// Replace the daemon of a mount by another version, while the mount is in use
    Upgrade(upgrade::Args),
    /// Show all mounts, or the mailboxes, topics and segments of one
    Status(status::Args),
    /// Watch the mailboxes of a mount on a full screen
    Top(top::Args),
    /// Look into the store of durable mailboxes
    Store(store::Args),
    /// Send a message, for scripts: with a time limit and exit codes
    Send(message::SendArgs),
    /// Receive messages, for scripts: with a time limit and exit codes
    Recv(message::RecvArgs),
    /// Show or change the settings of a mailbox, topic, segment or folder of mailboxes
    Config(settings::Args),
    /// Check this machine, and show the commands that add what is missing
    Doctor(doctor::Args),
    /// Write manual pages and completions into a directory
    #[command(hide = true)]
    Manual(manual::Args),
    #[command(name = ask::ASK, hide = true, subcommand)]
    Ask(ask::Question),
    /// Take a mount over from the daemon that started this process
    #[command(name = TAKE_OVER, hide = true)]
    TakeOver(upgrade::TakeOver),
}

/// Runs the subcommand that the process's arguments name. Does not return for `--help` and wrong usage.
pub fn run() -> ExitCode {
    heap::use_one_arena();
    signals::reset();
    if supervise::is_asked(&env::args_os().collect::<Vec<_>>()) {
        supervisor::block_signals();
    }
    match thread::Builder::new().name("ipcfs".to_owned()).stack_size(STACK).spawn(dispatch) {
        Ok(thread) => thread.join().unwrap_or(ExitCode::FAILURE),
        // Without another thread, on this one.
        Err(_) => dispatch(),
    }
}

fn dispatch() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    let helper = mount_helper::is_asked(&words);
    match perform(words, helper) {
        Ok(code) if helper && code != ExitCode::SUCCESS => ExitCode::from(mount_helper::FAILED),
        Ok(code) => code,
        Err(error) if helper && error.use_stderr() => {
            let _ = error.print();
            ExitCode::from(mount_helper::USAGE)
        }
        Err(error) => error.exit(),
    }
}

/// Does what `words` say, the program's name first. An error is wrong usage, or the text of `--help`.
fn perform(mut words: Vec<OsString>, helper: bool) -> Result<ExitCode, clap::Error> {
    let mut parser = command();
    parser.build();
    if helper {
        let mount = parser.find_subcommand("mount").unwrap_or(&parser);
        let Some(translated) = mount_helper::translate(&words, mount)? else { return Ok(ExitCode::SUCCESS) };
        words = translated;
    }
    let result = match parse(parser, &words)? {
        Command::Ask(question) => return Ok(ask::answer(&question)),
        Command::Mount(args) => mount::run(&args, &words),
        Command::Umount(args) => umount::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::TakeOver(args) => upgrade::take_over(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Send(args) => message::send(&args),
        Command::Recv(args) => message::recv(&args),
        Command::Config(args) => settings::run(&args),
        Command::Doctor(args) => Ok(doctor::run(&args)),
        Command::Manual(args) => manual::run(&args, &Cli::command()),
    };
    Ok(result.unwrap_or_else(|message| {
        text::report(&message);
        ExitCode::FAILURE
    }))
}

/// Options in lists (`-o`) become flags, before those that are given as flags. Of those given twice, the last counts.
fn parse(mut parser: clap::Command, words: &[OsString]) -> Result<Command, clap::Error> {
    let parsed = Cli::from_arg_matches(&parser.try_get_matches_from_mut(words)?)?.command;
    let Command::Mount(args) = &parsed else { return Ok(parsed) };
    if args.options.is_empty() {
        return Ok(parsed);
    }
    let mount = parser.find_subcommand_mut("mount").map_or_else(command, |mount| mount.clone());
    let flags = mount_helper::flags(&args.options, &mount)
        .map_err(|why| mount.clone().error(ErrorKind::UnknownArgument, why))?;
    let mut words = words.to_vec();
    words.splice(2..2, flags);
    let last_counts = command().mut_subcommand("mount", |mount| mount.args_override_self(true));
    Ok(Cli::from_arg_matches(&last_counts.try_get_matches_from(words)?)?.command)
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
        use clap::CommandFactory as _;
        super::command().debug_assert();
        super::mount_helper::Helper::command().debug_assert();
    }
}
