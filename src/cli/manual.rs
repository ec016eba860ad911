//! `ipcfs manual DIR`: writes the manual pages and the completions for shells, for whoever makes a package. They say what
//! the program itself says: clap's help, and the reference of `control/`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::mount_helper::{self, Helper};
use super::text::{quoted, reason};
use crate::control;

const TREE: [(&str, &str); 9] = [
    (
        "mailboxes/NAME",
        "A message queue: write(2) sends one message, read(2) receives one, and waits for one.",
    ),
    ("topics/NAME", "write(2) sends one message, and every open reader receives a copy."),
    ("segments/NAME", "Shared memory: ftruncate(2) it, mmap(2) it."),
    ("control/", "The same objects, for configuration and inspection; see FILES."),
    ("door", "A file in control/mailboxes/NAME/ that is another way into the same queue."),
    (
        "lease",
        "A message that was read through the door lease. It comes back unless it is settled with ack or reject.",
    ),
    (
        "dead letter",
        "A message that expired, was rejected or failed too often, in the mailbox of config/dead_letter.",
    ),
    (
        "tag, priority",
        "What a sender adds to a message, by the door that it writes to; readers choose or are served by it.",
    ),
    (
        "waiting",
        "A read without a message, or a write without room. Any signal ends it; O_NONBLOCK gives EAGAIN.",
    ),
];

const ERRORS: [(&str, &str); 9] = [
    ("EAGAIN", "With O_NONBLOCK: nothing to read, or no room to write."),
    ("EIDRM", "The mailbox, topic or segment was removed."),
    ("EMSGSIZE", "The message is longer than msgsize or maxbytes, or was written in pieces."),
    ("ENOMEM", "Writers that wait hold all the memory that they may."),
    ("ENOMSG", "ack without a message, or a reply without a request."),
    ("ENOSPC", "The mailbox is full and its config/full is fail; or a limit of the mount is reached."),
    ("EINVAL, ERANGE", "From config/: the value is not valid; the file error beside it says why."),
    ("ENOTCONN, ECONNABORTED", "The mount has ended."),
    ("EXDEV", "rename(2) from one kind of object to another."),
];

const HELPER: [&str; 3] = [
    "mount(8) runs this program for file systems of type ipcfs and fuse.ipcfs. It returns when the tree answers.",
    "Options of mount(8) for all file systems are taken; of these, only noexec has an effect. ro and remount are refused, \
     and so is any unknown option. Of an option that is given twice, the last counts.",
    "A line of fstab(5) mounts at boot, or with the first access: ipcfs /run/ipcfs ipcfs \
     allow_other,memory=1G,nofail,x-systemd.automount 0 0",
];

const SOURCE: &str = concat!("ipcfs ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "Inter-process communication";
const SYNOPSIS_OF_HELPER: &str = "mount.ipcfs SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE]";
const EXIT: &str = "0 for success, 1 for failure, 2 for wrong usage.";
const EXIT_OF_HELPER: &str = "0 for success, 1 for wrong usage, 32 if the mount failed.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory to write to; it gets the folders man1, man5, man8 and completions
    dir: PathBuf,
}

/// Writes all files. `program` is the parser of the whole command line.
pub(super) fn run(args: &Args, program: &Command) -> Result<ExitCode, String> {
    write(&args.dir, &visible(program)).map(|()| ExitCode::SUCCESS).map_err(|error| {
        format!(
            "cannot write to {}: {}\n  choose a directory that you may write",
            quoted(&args.dir),
            reason(&error)
        )
    })
}

fn write(dir: &Path, program: &Command) -> io::Result<()> {
    let [man1, man5, man8, completions] = ["man1", "man5", "man8", "completions"].map(|name| dir.join(name));
    for folder in [&man1, &man5, &man8, &completions] {
        fs::create_dir_all(folder)?;
    }
    let mut built = program.clone();
    built.build();
    let page = |name: String, command: Command, see_also: &str| {
        let mut page = File::create(man1.join(format!("{name}.1")))?;
        let title = name.to_uppercase();
        Man::new(command.display_name(name)).title(title).source(SOURCE).manual(MANUAL).render(&mut page)?;
        end(&mut page, EXIT, see_also)
    };
    for command in built.get_subcommands().cloned() {
        page(format!("ipcfs-{}", command.get_name()), command, "ipcfs(1), ipcfs(5)")?;
    }
    page(String::from("ipcfs"), built, "ipcfs(5), mount.ipcfs(8), fusermount3(1), mq_overview(7)")?;
    tree(&mut File::create(man5.join("ipcfs.5"))?)?;
    if let Some(mount) = program.find_subcommand("mount") {
        helper(&mut File::create(man8.join("mount.ipcfs.8"))?, mount)?;
        fs::write(man8.join("mount.fuse.ipcfs.8"), ".so man8/mount.ipcfs.8\n")?;
    }
    for (shell, name) in [(Shell::Bash, "ipcfs"), (Shell::Zsh, "_ipcfs"), (Shell::Fish, "ipcfs.fish")] {
        clap_complete::generate(
            shell,
            &mut program.clone(),
            "ipcfs",
            &mut File::create(completions.join(name))?,
        );
    }
    Ok(())
}

/// A parser without what is hidden: completions would show that.
fn visible(command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).map(visible);
    let mut shown = Command::new(command.get_name().to_owned())
        .disable_help_subcommand(true)
        .disable_version_flag(command.get_version().is_none())
        .version(env!("CARGO_PKG_VERSION"))
        .args(arguments)
        .subcommands(subcommands);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(after) = command.get_after_help() {
        shown = shown.after_help(after.clone());
    }
    shown
}

/// ipcfs(5)
fn tree(page: &mut File) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("TH", ["IPCFS", "5", "", SOURCE, MANUAL]);
    roff.control("SH", ["NAME"]).text([roman("ipcfs - a file system for inter-process communication")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman("A mount has four folders. Folders can be made in the first three; owners, modes and umask work as on tmpfs.")]);
    for (word, meaning) in TREE {
        term(&mut roff, word, meaning);
    }
    roff.control("SH", ["FILES"]);
    roff.text([
        roman("Each file below "),
        italic("control/"),
        roman(" holds one value and a newline. Sizes take the suffixes K, M, G and T, times ms, s, m, h and days; max is no limit."),
    ]);
    for file in control::reference() {
        term(&mut roff, &format!("{}{}", file.folder, file.path), file.help);
    }
    roff.control("SH", ["ERRORS"]);
    for (error, meaning) in ERRORS {
        term(&mut roff, error, meaning);
    }
    roff.control("SH", ["SEE ALSO"])
        .text([roman("ipcfs(1), mount.ipcfs(8), mq_overview(7), shm_overview(7), fuse(4)")]);
    roff.to_writer(page)
}

/// mount.ipcfs(8)
fn helper(page: &mut File, mount: &Command) -> io::Result<()> {
    let man = Man::new(Helper::command()).title("MOUNT.IPCFS").section("8").source(SOURCE).manual(MANUAL);
    man.render_title(page)?;
    man.render_name_section(page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text([roman(SYNOPSIS_OF_HELPER)]);
    roff.to_writer(page)?;
    man.render_options_section(page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["MOUNT OPTIONS"]);
    for (name, arg) in mount_helper::known(mount) {
        let values: Vec<&str> =
            arg.get_value_names().into_iter().flatten().map(clap::builder::Str::as_str).collect();
        let value =
            if arg.get_action().takes_values() { format!("={}", values.join(" ")) } else { String::new() };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        term(&mut roff, &format!("{name}{value}"), &help);
    }
    roff.control("SH", ["NOTES"]);
    for text in HELPER {
        roff.control("PP", []).text([roman(text)]);
    }
    roff.to_writer(page)?;
    end(page, EXIT_OF_HELPER, "ipcfs(1), ipcfs(5), mount(8), fstab(5)")
}

fn end(page: &mut File, exit: &str, see_also: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]).text([roman(exit)]);
    roff.control("SH", ["SEE ALSO"]).text([roman(see_also)]);
    roff.to_writer(page)?;
    page.flush()
}

fn term(roff: &mut Roff, word: &str, meaning: &str) {
    roff.control("TP", []).text([bold(word)]).text([roman(meaning)]);
}
