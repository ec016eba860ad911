//! The programs in `examples/`: each language asks each other through a segment, in both data paths.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use common::Mount;
use tempfile::TempDir;

/// More than a few, so that a lost wake-up shows; the second is not ASCII.
const QUESTIONS: usize = 100;

/// A language, and the command that runs its program.
#[derive(Debug)]
struct Program {
    language: &'static str,
    command: Vec<OsString>,
}

impl Program {
    fn start(&self, role: &str, mount: &Mount, words: &[String]) -> Child {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg(role).arg(mount.dir()).arg("board").args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// All programs whose languages are installed, compiled once for all tests; and where.
static PROGRAMS: LazyLock<(Vec<Program>, TempDir)> = LazyLock::new(|| {
    let temp = tempfile::tempdir().unwrap();
    let programs = [c(temp.path()), Some(rust()), python(), node(), go(temp.path()), java(temp.path())];
    (programs.into_iter().flatten().collect(), temp)
});

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn compile(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
}

fn c(dir: &Path) -> Option<Program> {
    common::have("cc").then(|| {
        let program = dir.join("c");
        compile(
            Command::new("cc")
                .args(["-Wall", "-Werror", "-O2", "-o"])
                .arg(&program)
                .arg(source("exchange.c")),
        );
        Program { language: "C", command: vec![program.into()] }
    })
}

/// Cargo builds it with all tests, but not with this one alone.
fn rust() -> Program {
    let build = ["build", "--quiet", "--offline", "--example", "exchange"];
    compile(Command::new(env!("CARGO")).args(build).current_dir(env!("CARGO_MANIFEST_DIR")));
    let here = std::env::current_exe().unwrap();
    let program = here.ancestors().nth(2).unwrap().join("examples/exchange");
    Program { language: "Rust", command: vec![program.into()] }
}

fn python() -> Option<Program> {
    let command = vec!["python3".into(), source("exchange.py").into()];
    common::have("python3").then_some(Program { language: "Python", command })
}

fn node() -> Option<Program> {
    let command = vec!["node".into(), source("exchange.js").into()];
    common::have("node").then_some(Program { language: "Node", command })
}

fn go(dir: &Path) -> Option<Program> {
    common::have("go").then(|| {
        let program = dir.join("go");
        compile(Command::new("go").args(["build", "-o"]).arg(&program).arg(source("exchange.go")));
        Program { language: "Go", command: vec![program.into()] }
    })
}

fn java(dir: &Path) -> Option<Program> {
    (common::have("javac") && common::have("java")).then(|| {
        compile(Command::new("javac").arg("-d").arg(dir).arg(source("Exchange.java")));
        let command = ["java", "-XX:TieredStopAtLevel=1", "-cp"].map(OsString::from);
        let command = command.into_iter().chain([dir.into(), "Exchange".into()]).collect();
        Program { language: "Java", command }
    })
}

/// Whoever is started first, `answerer` answers each question of `asker`, once and with the last word on it.
fn exchange(mount: &Mount, asker: &Program, answerer: &Program) {
    let questions: Vec<String> =
        (0..QUESTIONS).map(|n| if n == 1 { "größer?".into() } else { format!("question {n}?") }).collect();
    let answers: Vec<String> = (0..QUESTIONS).map(|n| format!("{} says {n}", answerer.language)).collect();
    let answering = answerer.start("answer", mount, &answers);
    let asking = asker.start("ask", mount, &questions);
    let (asked, answered) = (common::output(asking), common::output(answering));
    let who = format!("{} asks {}", asker.language, answerer.language);
    for out in [&asked, &answered] {
        assert!(out.status.success(), "{who}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    let said = String::from_utf8(asked.stdout).unwrap();
    let wanted: Vec<String> =
        questions.iter().zip(&answers).map(|(question, answer)| format!("{question} {answer}")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted, "{who}");
}

fn each_asks_each(path: &str) {
    let (programs, _) = &*PROGRAMS;
    let Some(mount) = common::mount_with(&[&format!("--segments={path}")]) else { return };
    for asker in programs {
        for answerer in programs.iter().filter(|program| program.language != asker.language) {
            exchange(&mount, asker, answerer);
        }
    }
}

#[test]
fn each_language_asks_each_through_memory_the_kernel_maps_itself() {
    each_asks_each("passthrough");
}

#[test]
fn each_language_asks_each_through_the_page_cache() {
    each_asks_each("cached");
}
