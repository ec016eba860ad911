//! README.md's transcripts, run: the commands of its `console` blocks, in one shell, print what it says they print.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::format_push_string)] // a test's failure is its report

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// A command of the transcript and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: String,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            steps.push(Step { command: command.to_owned(), output: String::new() });
        } else if let (true, Some(more), Some(step)) = (inside, line.strip_prefix("> "), steps.last_mut()) {
            step.command += &format!("\n{more}");
        } else if let (true, Some(step)) = (inside, steps.last_mut()) {
            step.output += &format!("{line}\n");
        }
    }
    steps
}

/// The processes of the transcript, none of which outlives it.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Runs the commands in one shell, and returns what each of them printed.
fn run(steps: &[Step], home: &Path) -> Vec<Step> {
    let mut script = String::from("exec 2>&1\n");
    for (number, step) in steps.iter().enumerate() {
        // The number marks where the output of each command begins.
        script += &format!("echo '<{number}>'\n{}\n", step.command);
    }
    let program = Path::new(env!("CARGO_BIN_EXE_ipcfs")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut bash = Command::new("bash")
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("PATH", format!("{}:{path}", program.display()))
        .env("LC_ALL", "C")
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let _group = Group(Pid::from_child(&bash));
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    // Each section is a test's work.
    common::wait_long_for("the transcript to end", 5, || bash.try_wait().unwrap().is_some());
    let printed = String::from_utf8(common::output(bash).stdout).unwrap();
    let mut results = Vec::new();
    for line in printed.lines() {
        if let Some(step) = steps.get(results.len()).filter(|_| line == format!("<{}>", results.len())) {
            results.push(Step { command: step.command.clone(), output: String::new() });
        } else if let Some(result) = results.last_mut() {
            // An interactive shell does not print the line number.
            let line = line
                .strip_prefix("bash: line ")
                .and_then(|rest| rest.split_once(": "))
                .map_or_else(|| line.to_owned(), |(_, message)| format!("bash: {message}"));
            result.output += &format!("{line}\n");
        }
    }
    results
}

#[test]
fn the_transcript_is_what_happens() {
    if !common::fuse_is_here() {
        return;
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut expected = steps(&readme);
    assert!(expected.len() > 10, "the transcript was not found");
    if !common::have("nats-server") {
        let begins = |word: &str| expected.iter().position(|step| step.command.contains(word)).unwrap();
        expected.drain(begins("nats-server")..=begins("kill %nats-server"));
    }
    let home = tempfile::tempdir().unwrap();
    let results = run(&expected, home.path());
    // Still mounted only if the transcript failed.
    for mount in ["ipc", "here", "there"] {
        let _ = rustix::mount::unmount(home.path().join(mount), rustix::mount::UnmountFlags::DETACH);
    }
    for (result, expected) in results.iter().zip(&expected) {
        assert_eq!(result, expected);
    }
    assert_eq!(results.len(), expected.len());
}

#[test]
fn blocks_are_read_as_commands_and_what_they_print() {
    let text = "text\n```console\n$ one\n1\n2\n$ two\n> goes on\n```\n```text\n$ three\n```\n";
    let step = |command: &str, output: &str| Step { command: command.into(), output: output.into() };
    assert_eq!(steps(text), [step("one", "1\n2\n"), step("two\ngoes on", "")]);
}
