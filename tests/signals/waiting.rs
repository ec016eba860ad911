//! One signal at a time.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::common::{self, reap, state_of, wait_for};
use crate::target::{Fixture, Kind, Target};
use crate::tools::{shell, try_receive};

#[test]
fn a_handled_signal_ends_each_kind_of_wait_with_eintr() {
    let Some(fixture) = Fixture::new() else { return };
    let files = tempfile::tempdir().unwrap();
    for kind in Kind::waiting() {
        let mut target = Target::start(&fixture, kind, files.path().join("told"));
        for round in 1..=20 {
            wait_for(&format!("{kind:?} to wait"), || fixture.figure(kind) == 1);
            target.signal(Signal::USR1);
            wait_for(&format!("EINTR from {kind:?}"), || target.interrupted() >= round);
        }
        assert_eq!(target.interrupted(), 20, "{kind:?}: one for each signal");
        target.signal(Signal::KILL);
        assert_eq!(reap(&mut target.child).signal(), Some(libc::SIGKILL));
        fixture.wait_until_nobody_waits();
    }
}

#[test]
fn each_deadly_signal_ends_each_kind_of_wait() {
    let Some(fixture) = Fixture::new() else { return };
    let files = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::KILL, Signal::ALARM, Signal::INT, Signal::QUIT] {
        for kind in Kind::waiting() {
            let mut target = Target::start(&fixture, kind, files.path().join("told"));
            wait_for(&format!("{kind:?} to wait"), || fixture.figure(kind) == 1);
            target.signal(signal);
            assert_eq!(reap(&mut target.child).signal(), Some(signal.as_raw()), "{kind:?}");
            fixture.wait_until_nobody_waits();
        }
    }
}

#[test]
fn a_stopped_process_waits_on_and_can_be_killed() {
    let Some(fixture) = Fixture::new() else { return };
    let files = tempfile::tempdir().unwrap();
    for kind in [Kind::Read, Kind::Write, Kind::Flock] {
        let mut target = Target::start(&fixture, kind, files.path().join("told"));
        wait_for(&format!("{kind:?} to wait"), || fixture.figure(kind) == 1);
        target.signal(Signal::STOP);
        wait_for("it to stop", || state_of(target.child.id()) == Some('T'));
        target.signal(Signal::CONT);
        wait_for(&format!("{kind:?} to wait again"), || {
            fixture.figure(kind) == 1 && state_of(target.child.id()) == Some('S')
        });
        target.signal(Signal::STOP);
        wait_for("it to stop", || state_of(target.child.id()) == Some('T'));
        target.signal(Signal::KILL);
        reap(&mut target.child);
        fixture.wait_until_nobody_waits();
    }
}

#[test]
fn timeout_ends_a_reader_and_a_writer() {
    let Some(fixture) = Fixture::new() else { return };
    if !common::have("timeout") {
        return;
    }
    for script in ["timeout 0.2 cat \"$1/empty\"", "timeout 0.2 sh -c 'echo x > \"$1/full\"' sh \"$1\""] {
        assert_eq!(common::output(shell(script, fixture.mailboxes())).status.code(), Some(124), "{script}");
        fixture.wait_until_nobody_waits();
    }
    let full = fixture.mailboxes().join("full");
    let received = (try_receive(&full), try_receive(&full));
    assert_eq!(received, (Ok(b"full".to_vec()), Err(Errno::AGAIN)), "what was not sent never comes");
}

#[test]
fn ctrl_c_ends_a_foreground_job() {
    let Some(fixture) = Fixture::new() else { return };
    for (script, kind) in [
        ("cat \"$1/empty\"; :", Kind::Read),
        ("cat \"$1/empty\" | cat | cat", Kind::Read),
        ("echo x > \"$1/full\"; :", Kind::Write),
        ("flock \"$1/locked\" true; :", Kind::Flock),
    ] {
        let mut command = Command::new("perl");
        // Where the test itself runs in the background, SIGINT may be ignored, which no shell can undo.
        command.arg("-e").arg("$SIG{INT} = 'DEFAULT'; exec @ARGV").args(["sh", "-c", script, "sh"]);
        command.arg(fixture.mailboxes()).process_group(0);
        let mut job =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the job to wait", || fixture.figure(kind) == 1);
        kill_process_group(Pid::from_raw(job.id() as i32).unwrap(), Signal::INT).unwrap();
        assert_eq!(reap(&mut job).signal(), Some(libc::SIGINT), "{script}");
        fixture.wait_until_nobody_waits();
    }
}
