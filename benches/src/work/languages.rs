//! A message to and from the plain file functions of programming languages: what users of each get, its own cost included.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, timed};
use crate::model::Samples;
use crate::peers::{Address, Shape};

/// Bytes of a message.
const SIZE: usize = 64;

/// A language, with how its program is started.
struct Language {
    /// With the functions that are called.
    name: &'static str,
    run: Run,
}

enum Run {
    /// This program.
    Here,
    /// A shell: `echo` and `cat` in a loop.
    Shell(&'static str),
    /// An interpreter, with the program's file and text.
    Text(&'static str, &'static str, &'static str),
    /// A compiler, with its arguments before the file, and the command that its result is run by.
    Compiled(&'static str, &'static [&'static str], &'static str, &'static str, &'static [&'static str]),
}

const LANGUAGES: &[Language] = &[
    Language { name: "Rust: `fs::write`, `fs::read`", run: Run::Here },
    Language {
        name: "Go: `os.WriteFile`, `os.ReadFile`",
        run: Run::Compiled(
            "go",
            &["build", "-o", "message"],
            "message.go",
            include_str!("../languages/message.go"),
            &["./message"],
        ),
    },
    Language {
        name: "Python: `write`, `open(…).read()`",
        run: Run::Text("python3", "message.py", include_str!("../languages/message.py")),
    },
    Language {
        name: "Node: `writeFileSync`, `readFileSync`",
        run: Run::Text("node", "message.js", include_str!("../languages/message.js")),
    },
    Language {
        name: "Java: `Files.write`, `Files.readAllBytes`",
        run: Run::Compiled(
            "javac",
            &[],
            "Message.java",
            include_str!("../languages/Message.java"),
            &["java", "-cp", ".", "Message"],
        ),
    },
    Language { name: "dash: `echo`, `cat`", run: Run::Shell("dash") },
    Language { name: "bash: `echo`, `cat`", run: Run::Shell("bash") },
];

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let dir = context.temp.join("languages");
    fs::create_dir_all(&dir)?;
    for (place, language) in LANGUAGES.iter().enumerate() {
        context.go_on(&format!("languages: {}", language.name))?;
        let command = match prepare(&language.run, &dir) {
            Ok(command) => command,
            Err(error) => {
                samples.leave_out("languages", language.name, format!("{error:#}"));
                continue;
            }
        };
        for peer in context.in_turn() {
            context.go_on(&format!("languages, {}: {}", language.name, crate::peers::name(peer.id)))?;
            let of_files = matches!(peer.kind, crate::peers::Kind::Fifo(_)) || peer.is_ours();
            let here = matches!(language.run, Run::Here) && matches!(peer.kind, crate::peers::Kind::Mq);
            if !of_files && !here {
                continue;
            }
            let count = match (&language.run, context.settings.quick) {
                (Run::Shell(_), true) => 20,
                (Run::Shell(_), false) => 100,
                (_, true) => 500,
                (_, false) => 5000,
            };
            let channel =
                peer.make("languages", Shape { alone: true, opened_each: true, ..Shape::two(SIZE) })?;
            let time = match &command {
                None => here_many(&channel.address, count),
                Some(command) => measure(command, &language.run, &channel.address, count, &dir),
            };
            match time {
                Ok(time) => samples.add("languages", (language.name, place as f64), peer.id, "time", time),
                Err(error) => {
                    let what = format!("languages, {}", language.name);
                    samples.leave_out(&what, peer.id, format!("{error:#}"));
                }
            }
        }
    }
    Ok(())
}

/// The command that runs a program, which is built first. `None`: it is this program's own.
fn prepare(run: &Run, dir: &Path) -> Result<Option<Vec<String>>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Ok(match run {
        Run::Here => None,
        Run::Shell(shell) => {
            installed(shell)?;
            Some(words(&[shell]))
        }
        Run::Text(interpreter, file, text) => {
            installed(interpreter)?;
            fs::write(dir.join(file), text)?;
            Some(words(&[interpreter, file]))
        }
        Run::Compiled(compiler, arguments, file, text, command) => {
            installed(compiler)?;
            fs::write(dir.join(file), text)?;
            let built = Command::new(compiler).args(*arguments).arg(file).current_dir(dir).output()?;
            ensure!(built.status.success(), "{compiler}: {}", String::from_utf8_lossy(&built.stderr));
            Some(words(command))
        }
    })
}

fn installed(program: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    ensure!(found, "{program} is not installed");
    Ok(())
}

/// Whether it is a FIFO, and where it is.
fn file(address: &Address) -> Result<(bool, &PathBuf)> {
    match address {
        Address::Fifo(path) => Ok((true, path)),
        Address::Mailbox(path) => Ok((false, path)),
        _ => bail!("is no file"),
    }
}

/// Microseconds for one of `count` messages: the program's own figure, or that of a whole script.
fn measure(command: &[String], run: &Run, address: &Address, count: usize, dir: &Path) -> Result<f64> {
    let (fifo, path) = file(address)?;
    let (program, arguments) = command.split_first().context("no command")?;
    if let Run::Shell(_) = run {
        // Opening a FIFO waits for the other side, so one of the two must be in the background.
        let one = if fifo { "echo message > $1 & cat $1; wait" } else { "echo message > $1; cat $1" };
        let script = format!("i=0; while [ $i -lt $2 ]; do {one}; i=$((i + 1)); done");
        let work = |count: usize| {
            timed(count, || {
                let mut shell = Command::new(program);
                shell.args(["-euc", &script, "sh"]).arg(path).arg(count.to_string());
                let status = shell.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
                ensure!(status.success(), "{program}: {status}");
                Ok(())
            })
        };
        return work(count / 10).and_then(|_| work(count));
    }
    let mut child = Command::new(program);
    child.args(arguments).arg(if fifo { "fifo" } else { "file" }).arg(path);
    child.arg(count.to_string()).arg(SIZE.to_string()).current_dir(dir).stdin(Stdio::null());
    let output = child.output().with_context(|| format!("starting {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}: {}", output.status, errors.trim());
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("{program} printed {text:?}"))
}

/// The same in Rust.
fn here_many(address: &Address, count: usize) -> Result<f64> {
    let message = [b'm'; SIZE];
    let mut buffer = [0; SIZE];
    // A FIFO is lost when nobody has it open, and has no end while somebody has.
    let held = match address {
        Address::Fifo(path) => Some(OpenOptions::new().read(true).write(true).open(path)?),
        _ => None,
    };
    let mut one = || -> Result<()> {
        match address {
            Address::Mq(_) => {
                address.sender()?.send(&message)?;
                ensure!(address.receiver(SIZE)?.receive()? == message, "another message");
            }
            _ if held.is_some() => {
                let (_, path) = file(address)?;
                fs::write(path, message)?;
                File::open(path)?.read_exact(&mut buffer)?;
                ensure!(buffer == message, "another message");
            }
            _ => {
                let (_, path) = file(address)?;
                fs::write(path, message)?;
                ensure!(fs::read(path)? == message, "another message");
            }
        }
        Ok(())
    };
    let mut many = |count: usize| timed(count, || (0..count).try_for_each(|_| one()));
    many(count / 10 + 1).and_then(|_| many(count))
}
