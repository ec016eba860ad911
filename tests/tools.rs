//! The shell tools that people use on a mailbox: each case in `tests/shell/cases` is a script, run on a mount of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process_group};

/// Cases that run at a time. They mostly wait for each other's processes to start.
const WORKERS: usize = 4;

/// What a script ends with where a tool that it is about is not installed.
const SKIPPED: i32 = 77;

#[test]
fn every_shell_case_holds() {
    if !common::fuse_is_here() {
        return;
    }
    let cases = cases();
    assert!(!cases.is_empty(), "no cases found");
    let (count, queue, failures) = (cases.len(), Mutex::new(cases), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().unwrap().pop() } {
                    if let Err(failure) = run(&case) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {count} cases failed\n\n{}", failures.len(), failures.join("\n"));
}

/// The scripts, by name. `CASE=text` leaves those whose name contains the text.
fn cases() -> Vec<PathBuf> {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let entries = fs::read_dir(scripts().join("cases")).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| {
        path.extension().is_some_and(|ext| ext == "sh") && path.to_string_lossy().contains(&wanted)
    });
    cases.sort();
    cases
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell")
}

/// Runs a script; what went wrong, with all that it said.
fn run(case: &Path) -> Result<(), String> {
    let name = case.file_name().unwrap().to_string_lossy();
    let mount = common::mount().expect("FUSE was there a moment ago");
    let temp = tempfile::tempdir().unwrap();
    let (work, log) = (temp.path().join("work"), temp.path().join("log"));
    fs::create_dir(&work).unwrap();
    let said = File::create(&log).unwrap();
    let mut script = Command::new("sh")
        .arg("-eu")
        .arg(case)
        .current_dir(&work)
        .env("MNT", mount.dir())
        .env("LIB", scripts().join("lib.sh"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_child(&script);
    let start = Instant::now();
    let ended = loop {
        match script.try_wait().unwrap() {
            None if start.elapsed() > common::PATIENCE => break None,
            None => std::thread::sleep(std::time::Duration::from_millis(5)),
            ended => break ended,
        }
    };
    // Whatever it left running would hold the mount.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = common::reap(&mut script);
    let said = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    match ended.map(|status| status.code()) {
        Some(Some(0)) if said.is_empty() => Ok(()),
        Some(Some(SKIPPED)) if std::env::var_os("REQUIRE_TOOLS").is_none() => {
            eprintln!("SKIP: {name}: {}", said.trim());
            Ok(())
        }
        Some(Some(SKIPPED)) => Err(format!("{name}: REQUIRE_TOOLS is set, but {said}")),
        Some(Some(0)) => Err(format!("{name} succeeded, but said:\n{said}")),
        Some(code) => Err(format!("{name} ended with {code:?}:\n{said}")),
        None => Err(format!("{name} did not end:\n{said}")),
    }
}
