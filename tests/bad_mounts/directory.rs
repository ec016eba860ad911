//! The directory is unsuitable, or something is mounted there already.

use std::fs;

use rustix::process::Signal;

use crate::common::{self, wait_for};
use crate::place::{Background, Place, has_ended, ipcfs, signal};
use crate::sandbox::Sandbox;

#[test]
fn a_missing_directory_must_be_created_first() {
    let Some(place) = Place::new() else { return };
    fs::remove_dir(place.dir()).unwrap();
    let what = format!("cannot mount on {}: no such directory", place.name());
    place.try_mount(&[]).failed(&what, &[&format!("create it: mkdir -p {}\n", place.name())]);
    place.assert_nothing_left();
    assert!(!place.dir().exists(), "it is not made");
    // The advice works.
    place.sh(&format!("mkdir -p {}", place.name()));
    place.mount(&[]);
}

#[test]
fn a_link_to_nothing_gets_advice_that_works() {
    let Some(place) = Place::new() else { return };
    fs::remove_dir(place.dir()).unwrap();
    std::os::unix::fs::symlink("behind/the link", place.dir()).unwrap();
    let target = place.beside("behind/the link");
    let what =
        format!("cannot mount on {}: it is a symbolic link to '{}', which", place.name(), target.display());
    let outcome = place.try_mount(&[]);
    outcome.failed(&what, &[&format!("create it: mkdir -p '{}'\n", target.display())]);
    place.sh(outcome.stderr.rsplit_once("create it: ").unwrap().1);
    place.mount(&[]);
    assert!(target.join("control/status").exists());
    assert_eq!(place.ipcfs(&["umount"]).code, Some(0));
}

#[test]
fn a_file_is_no_directory() {
    let Some(place) = Place::new() else { return };
    let file = place.beside("file");
    fs::write(&file, "as it was").unwrap();
    let name = file.to_str().unwrap();
    ipcfs(["mount", name]).failed(&format!("cannot mount on {name}: it is not a directory"), &["mkdir"]);
    let below = format!("{name}/below");
    ipcfs(["mount", &below]).failed(&format!("cannot mount on {below}: Not a directory"), &["choose"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "as it was");
}

#[test]
fn a_directory_with_something_in_it_is_not_hidden() {
    let Some(place) = Place::new() else { return };
    for hidden in ["file", ".dotfile"] {
        fs::write(place.path(hidden), "as it was").unwrap();
        let what =
            format!("cannot mount on {}: it is not empty, and a mount would hide its contents", place.name());
        place.try_mount(&[]).failed(&what, &["mkdir"]);
        place.assert_nothing_left();
        assert_eq!(fs::read_to_string(place.path(hidden)).unwrap(), "as it was");
        fs::remove_file(place.path(hidden)).unwrap();
    }
    place.mount(&[]);
}

#[test]
fn what_is_mounted_already_stays_as_it_is() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("echo kept > $DIR/mailboxes/a");
    let daemon = place.daemon();
    let what = format!("cannot mount on {}: an ipcfs mount is already there", place.name());
    place.try_mount(&[]).failed(&what, &[&format!("unmount it first: ipcfs umount {}\n", place.name())]);
    assert_eq!((place.mounts(), place.daemon()), (1, daemon));
    assert_eq!(place.sh("cat $DIR/mailboxes/a"), "kept\n");
}

#[test]
fn a_stopped_daemon_does_not_hang_the_next_mount() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let daemon = place.daemon();
    signal(daemon, Signal::STOP);
    wait_for("the daemon to stop", || common::state_of(daemon) == Some('T'));
    let what = format!(
        "cannot mount on {}: an ipcfs mount is already there (its daemon does not respond)",
        place.name()
    );
    place.try_mount(&[]).failed(&what, &["ipcfs umount --lazy"]);
    signal(daemon, Signal::CONT);
    assert_eq!(place.daemon(), daemon);
}

#[test]
fn a_dead_mount_is_removed_and_the_directory_mounted_again() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("echo gone > $DIR/mailboxes/a");
    let before = place.daemon();
    place.kill_daemon();
    let outcome = place.try_mount(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""));
    let told = format!("ipcfs: removed a dead ipcfs mount from {}: its daemon had exited\n", place.name());
    assert_eq!(outcome.stderr, told);
    assert_eq!(place.mounts(), 1);
    assert_ne!(place.daemon(), before);
    assert_eq!(place.sh("ls $DIR/mailboxes; echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a"), "hi\n");
    place.sh("$IPCFS umount $DIR");
    place.assert_nothing_left();
}

#[test]
fn a_dead_mount_is_removed_by_its_owner_and_by_no_other_user() {
    let Some(sandbox) = Sandbox::new() else { return };
    let die = "as_ann $IPCFS mount $DIR || exit 9
        kill -9 $(as_ann sed -n 's/^pid //p' $DIR/control/status)
        while as_ann ls $DIR >/dev/null 2>&1; do :; done";
    let outcome = sandbox.run(&format!(
        "{die}\nas_ann $IPCFS mount $DIR && as_ann ls $DIR && grep -c \" $DIR \" /proc/self/mountinfo"
    ));
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (Some(0), "control\nmailboxes\nsegments\ntopics\n1\n"),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains("removed a dead ipcfs mount") && outcome.stderr.lines().count() == 1,
        "{outcome:?}"
    );

    let outcome = sandbox.run(&format!("{die}\nas_bob $IPCFS mount $DIR"));
    let what = format!(
        "cannot mount on {}: an ipcfs mount is already there (it belongs to another user)",
        sandbox.place.name()
    );
    outcome.failed(&what, &["ask that user or root to unmount it"]);
    // To root it is private for as long as its user lives, but root may end it.
    let outcome = sandbox.run(&format!("{die}\n$IPCFS umount $DIR; grep \" $DIR \" /proc/self/mountinfo"));
    assert_eq!(
        (outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()),
        (Some(1), "", ""),
        "{outcome:?}"
    );
}

#[test]
fn the_mount_of_another_user_is_private_to_root_too() {
    let Some(sandbox) = Sandbox::new() else { return };
    let outcome = sandbox.run("as_ann $IPCFS mount $DIR || exit 9; $IPCFS status $DIR");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains(&format!("{}  private", sandbox.place.name())), "{outcome:?}");
    outcome.said(
        &format!("cannot access {}: only the user who mounted it may", sandbox.place.name()),
        &["--allow-other"],
    );
    sandbox.works("as_ann $IPCFS mount $DIR; as_ann $IPCFS status $DIR; as_ann $IPCFS umount $DIR");
    let outcome = sandbox.run("as_ann $IPCFS mount $DIR || exit 9; as_bob $IPCFS umount $DIR");
    outcome.failed(
        &format!("cannot unmount {}: ", sandbox.place.name()),
        &["only root and the user who mounted it may unmount it"],
    );
}

#[test]
fn of_concurrent_mounts_exactly_one_succeeds() {
    let Some(place) = Place::new() else { return };
    for round in 0..12 {
        // Half of them find a dead mount to be cleared, half of them an empty directory.
        if round % 2 == 1 {
            place.mount(&[]);
            place.kill_daemon();
        }
        // Spelt in different ways, and from different directories.
        let there = place.dir().parent().unwrap();
        let spellings = [place.name().to_owned(), format!("{}/./", place.name()), "mnt".to_owned()];
        let starters: Vec<Background> = spellings
            .iter()
            .map(|dir| Background::start(common::ipcfs().arg("mount").arg(dir).current_dir(there)))
            .collect();
        let all: Vec<_> = starters.into_iter().map(Background::finish).collect();
        let losers: Vec<_> = all.iter().filter(|outcome| outcome.code != Some(0)).collect();
        assert_eq!(losers.len(), 2, "round {round}: {all:?}");
        for loser in losers {
            loser.failed("cannot mount on ", &[]);
            let known = ["another ipcfs mount is in progress there", "an ipcfs mount is already there"];
            assert!(known.iter().any(|why| loser.stderr.contains(why)), "{loser:?}");
        }
        assert_eq!(place.mounts(), 1, "round {round}");
        let daemon = place.daemon();
        place.sh("echo hi > $DIR/mailboxes/a && cat $DIR/mailboxes/a && $IPCFS umount $DIR");
        assert!(has_ended(daemon));
        place.assert_nothing_left();
    }
}

#[test]
fn an_ordinary_user_needs_a_directory_of_their_own() {
    let Some(sandbox) = Sandbox::new() else { return };
    let choose = ["choose a directory that you own"];
    sandbox.refused(
        "chown 0:0 $DIR; as_ann $IPCFS mount $DIR",
        "user 4711 has no write permission there",
        &choose,
    );
    let why = "cannot check that it is empty: Permission denied";
    sandbox.refused(
        "chown 0:0 $DIR; chmod 0700 $DIR; as_ann $IPCFS mount $DIR",
        why,
        &["choose a directory that you may read"],
    );
    let why = "it has the sticky bit and is not owned by user 4711";
    sandbox.refused("chown 0:0 $DIR; chmod 1777 $DIR; as_ann $IPCFS mount $DIR", why, &choose);
    sandbox.refused(
        "chmod 0755 $DIR; chmod 0700 $T; cd /; as_ann $IPCFS mount $DIR",
        "Permission denied",
        &["choose"],
    );
}
