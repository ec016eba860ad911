//! `ipcfs mount`: in the background it leaves its starter alone, and in the foreground it serves until it is ended.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::common::{self, PATIENCE, wait_for};
use crate::place::{Outcome, Place, has_ended, signal};

/// What is on standard output once nobody holds it open any more; a failure if somebody keeps holding it.
fn read_to_the_end(child: &mut Child) -> String {
    let mut stdout = child.stdout.take().unwrap();
    let mut text = Vec::new();
    loop {
        let mut wanted = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        let patience = Timespec::try_from(PATIENCE).unwrap();
        assert!(poll(&mut wanted, Some(&patience)).unwrap() > 0, "somebody keeps the pipe open");
        let mut chunk = [0; 4096];
        match stdout.read(&mut chunk).unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            read => text.extend_from_slice(&chunk[..read]),
        }
    }
}

/// The field of `/proc/PID/stat` of that number, counted from 1 as in proc(5); of those after the name.
fn stat_field(pid: u32, number: usize) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(number - 3).unwrap().to_owned()
}

fn opened(pid: u32, fd: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap()
}

#[test]
fn the_tree_answers_as_soon_as_mount_returns() {
    let Some(place) = Place::new() else { return };
    for round in 0..10 {
        let script = "$IPCFS mount $DIR && ls $DIR && echo hi > $DIR/mailboxes/a && cat $DIR/mailboxes/a &&
            echo shared > $DIR/segments/s && cat $DIR/segments/s && $IPCFS umount $DIR";
        assert_eq!(place.sh(script), "control\nmailboxes\nsegments\ntopics\nhi\nshared\n", "round {round}");
        place.assert_nothing_left();
    }
}

#[test]
fn a_mount_in_the_background_keeps_nothing_that_its_starter_had_open() {
    let Some(place) = Place::new() else { return };
    // The pipe is standard output and error of `mount`, and descriptors 7 and 9 as well.
    let mut child = place.script("$IPCFS mount $DIR 2>&1 7>&1 9>&1").stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(read_to_the_end(&mut child), "");
    assert!(common::reap(&mut child).success());
    place.sh("echo it lives > $DIR/mailboxes/a");

    let daemon = place.daemon();
    for fd in [0, 1, 2] {
        assert_eq!(opened(daemon, fd), PathBuf::from("/dev/null"));
    }
    for entry in fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap();
        assert!(!target.starts_with("pipe:"), "{entry:?} is {target:?}");
    }
}

#[test]
fn a_shell_gets_the_output_of_mount_at_once() {
    let Some(place) = Place::new() else { return };
    let mut child = place
        .script("out=$($IPCFS mount $DIR 2>&1) && echo \"[$out]\" && ls $DIR | wc -l")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(read_to_the_end(&mut child), "[]\n4\n");
    assert!(common::reap(&mut child).success());
}

#[test]
fn a_mount_in_the_background_has_a_session_and_a_name_of_its_own_and_no_directory() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let daemon = place.daemon();
    assert_eq!(stat_field(daemon, 6), daemon.to_string(), "its session");
    assert_eq!(stat_field(daemon, 5), daemon.to_string(), "its process group");
    assert_eq!(stat_field(daemon, 7), "0", "its terminal");
    assert_eq!(fs::read_link(format!("/proc/{daemon}/cwd")).unwrap(), PathBuf::from("/"));
    assert_eq!(fs::read_to_string(format!("/proc/{daemon}/comm")).unwrap(), "ipcfs\n");
}

#[test]
fn directories_and_log_files_may_be_named_relative_to_where_mount_is_started() {
    let Some(place) = Place::new() else { return };
    place.sh("cd $T && $IPCFS mount mnt --log here.log && ls mnt/mailboxes && $IPCFS status mnt && $IPCFS umount mnt/");
    assert!(place.beside("here.log").is_file());
    place.sh("cd $DIR && $IPCFS mount . && $IPCFS umount $DIR && ln -s mnt $T/link && $IPCFS mount $T/link");
    place.sh("test -d $DIR/mailboxes && $IPCFS status $T/link && $IPCFS umount $T/link");
    place.assert_nothing_left();
}

#[test]
fn a_directory_may_have_any_name() {
    let Some(place) = Place::new() else { return };
    for odd in
        ["two words", "it's", "new\\nline", "back\\\\slash", "tab\\t", "\\377", "-dash", "quo\"te", "$HOME"]
    {
        // printf's own escapes, with `-` and `$` as they are.
        let script = format!(
            "d=$T/$(printf -- '{}x') && d=${{d%x}} && mkdir \"$d\" && $IPCFS mount \"$d\" && cd \"$T\" &&
            echo hi > \"$d/mailboxes/a\" && $IPCFS status \"$d\" >/dev/null && $IPCFS umount \"$d\" && rmdir \"$d\"",
            odd.replace('\'', "'\\''")
        );
        place.sh(&script);
    }
}

#[test]
fn what_fails_in_the_background_is_said_once_by_the_starter_with_exit_code_1() {
    let Some(place) = Place::new() else { return };
    fs::write(place.path("in-the-way"), "").unwrap();
    let what = format!("cannot mount on {}: it is not empty", place.name());
    let background = place.try_mount(&[]);
    background.failed(&what, &["hide its contents", "mkdir"]);
    let foreground = place.try_mount(&["-f"]);
    foreground.failed(&what, &[]);
    assert_eq!(background.stderr, foreground.stderr);
    place.assert_nothing_left();
}

#[test]
fn in_the_foreground_ctrl_c_and_sigterm_unmount_with_exit_code_0() {
    let Some(place) = Place::new() else { return };
    for end in [Signal::INT, Signal::TERM] {
        let mut command = common::ipcfs();
        command.args(["mount", "--foreground"]).arg(place.dir());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the tree to answer", || place.path("control/status").exists());
        assert_eq!(place.daemon(), child.id(), "it is the daemon itself");
        assert!(child.try_wait().unwrap().is_none());
        signal(child.id(), end);
        let status = common::reap(&mut child);
        assert_eq!(status.code(), Some(0), "after {end:?}");
        let outcome = Outcome::from(child.wait_with_output().unwrap());
        let ready = format!("mounted on {}; Ctrl-C unmounts\n", place.name());
        assert_eq!((outcome.stdout, outcome.stderr.as_str()), (ready, ""), "after {end:?}");
        place.assert_nothing_left();
    }
}

#[test]
fn a_mount_in_the_background_ends_cleanly_on_sigterm() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let daemon = place.daemon();
    signal(daemon, Signal::TERM);
    wait_for("the daemon to end", || has_ended(daemon));
    place.assert_nothing_left();
}

#[test]
fn a_starter_that_is_killed_before_the_mount_is_ready_leaves_a_whole_mount_or_none() {
    let Some(place) = Place::new() else { return };
    for _ in 0..10 {
        let mut command = Command::new(common::ipcfs().get_program());
        let mut starter = command.arg("mount").arg(place.dir()).spawn().unwrap();
        wait_for("the starter to have started", || {
            place.processes().len() > 1 || starter.try_wait().unwrap().is_some()
        });
        starter.kill().unwrap();
        common::reap(&mut starter);
        // Nobody hears of the mount, so it ends by itself, unless it had been ready already.
        wait_for("the daemon to end or to serve", || {
            place.processes().is_empty() || place.path("control/status").exists()
        });
        if place.mounts() > 0 && place.path("control/status").exists() {
            let _ = place.ipcfs(&["umount"]);
        }
        wait_for("the end", || place.processes().is_empty() && place.mounts() == 0);
    }
}

#[test]
fn the_word_of_a_mount_that_is_ready_comes_when_it_is() {
    let Some(place) = Place::new() else { return };
    let mut command = common::ipcfs();
    command.args(["mount", "-f", "--ready-stdout"]).arg(place.dir());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut word = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut word).unwrap();
    assert_eq!(word, "ready\n");
    assert!(place.path("control/status").is_file());
    signal(child.id(), Signal::TERM);
    assert_eq!(common::reap(&mut child).code(), Some(0));
}
