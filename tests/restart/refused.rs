//! Upgrades that fail: the daemon that there was goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::common::peer::Peer;
use crate::common::{self, wait_for};
use crate::place::{Background, Outcome, Place, ipcfs, run, signal};
use crate::{make, mount, upgrade, waits};

/// A program beside the mount.
fn program(place: &Place, script: &str) -> PathBuf {
    let path = place.beside("program");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn try_upgrade(place: &Place, program: &Path) -> Outcome {
    place.ipcfs(&["upgrade", "--binary", program.to_str().unwrap()])
}

#[test]
fn a_program_that_cannot_take_over_leaves_the_mount_as_it_was() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    for number in 0..40 {
        fs::write(place.path(format!("segments/s{number}")), "text").unwrap();
    }
    let Some(mut reader) = Peer::start() else { return };
    reader.open("fd", &path, "O_RDONLY");
    reader.tell("os.read(fd, 100)");
    waits(&place, "q", "waiting_readers", 1);
    let daemon = place.daemon();
    let itself = common::ipcfs().get_program().to_str().unwrap().to_owned();
    let cases = [
        (PathBuf::from("/bin/false"), "no version of ipcfs that can take over a mount"),
        (PathBuf::from("/bin/cat"), "no version of ipcfs that can take over a mount"),
        (program(&place, "exec /bin/true"), "no version of ipcfs that can take over a mount"),
    ];
    for (program, why) in cases {
        try_upgrade(&place, &program).failed("cannot upgrade ", &[why, "goes on"]);
    }
    // What a program says first is eight bytes, its version.
    let old = program(&place, r"printf '\010\0\0\0\1\0\0\0\0\0\0\0' >&0; exec sleep 60");
    try_upgrade(&place, &old).failed("cannot upgrade ", &["another version of ipcfs", "goes on"]);
    // It learns when it has the state that it cannot serve.
    let poor = program(&place, &format!("ulimit -n 40; exec {itself} \"$@\""));
    try_upgrade(&place, &poor).failed("cannot upgrade ", &["open files", "goes on"]);
    assert_eq!(place.daemon(), daemon);
    fs::write(&path, "still here").unwrap();
    assert_eq!(reader.answer(), "b'still here'");
    upgrade(&place);
    assert_eq!(fs::read(place.path("segments/s39")).unwrap(), b"text");
}

#[test]
fn what_is_no_program_or_no_mount_is_named() {
    let Some(place) = mount(&[]) else { return };
    let text = place.beside("text");
    fs::write(&text, "text").unwrap();
    for (binary, why) in [
        (text, "Permission denied"),
        (place.beside("nothing"), "No such file or directory"),
        (PathBuf::from("/usr"), "not a file"),
    ] {
        try_upgrade(&place, &binary).failed("cannot upgrade ", &["cannot run", why]);
    }
    place.sh("$IPCFS umount $DIR");
    place.ipcfs(&["upgrade"]).failed("", &["is not an ipcfs mount"]);
}

#[test]
fn a_mount_in_the_foreground_says_why_not() {
    let Some(place) = Place::new() else { return };
    let foreground = Background::start(common::ipcfs().args(["mount", "-f"]).arg(place.dir()));
    wait_for("the mount", || place.path("control/status").exists());
    place.ipcfs(&["upgrade"]).failed("cannot upgrade ", &["foreground"]);
    signal(foreground.id(), Signal::TERM);
    assert_eq!(foreground.finish().code, Some(0));
}

#[test]
fn nobody_takes_over_without_being_started_by_a_daemon() {
    let outcome = run(Command::new(common::ipcfs().get_program()).args(["take-over", "/mnt"]));
    outcome.failed("cannot take over", &[]);
    assert_eq!(ipcfs(["upgrade"]).code, Some(2));
}
