//! What ends a mount, and what does not; and that a daemon takes away its own mount only.

use std::fs::{self, File};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use crate::common::wait_for;
use crate::place::{Place, has_ended, run, signal};

/// Sends a signal, and waits until the daemon has exited.
fn end(daemon: u32, with: Signal) {
    signal(daemon, with);
    wait_for("the daemon to end", || has_ended(daemon));
}

#[test]
fn signals_that_ask_to_end_unmount() {
    let Some(place) = Place::new() else { return };
    for which in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        place.mount(&[]);
        end(place.daemon(), which);
        place.assert_nothing_left();
    }
}

#[test]
fn other_signals_are_without_effect() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let daemon = place.daemon();
    place.sh("echo precious > $DIR/mailboxes/a");
    for which in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XFSZ,
        Signal::PIPE,
        Signal::IO,
    ] {
        signal(daemon, which);
        // A request that is answered after the signal.
        assert_eq!(place.daemon(), daemon, "{which:?}");
    }
    assert_eq!(place.sh("cat $DIR/mailboxes/a"), "precious\n");
}

#[test]
fn signals_that_were_blocked_or_ignored_by_the_starter_unmount_all_the_same() {
    let Some(place) = Place::new() else { return };
    for how in ["--block-signal", "--ignore-signal"] {
        if run(Command::new("env").args([how, "true"])).code != Some(0) {
            eprintln!("SKIP: env(1) has no {how}");
            return;
        }
        for which in [Signal::TERM, Signal::HUP] {
            place.sh(&format!("exec env {how} $IPCFS mount $DIR"));
            end(place.daemon(), which);
            place.assert_nothing_left();
        }
    }
}

#[test]
fn the_daemon_of_a_detached_mount_leaves_its_successor_alone() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let old = place.daemon();
    let _open = File::create(place.path("mailboxes/q")).unwrap();
    place.sh("$IPCFS umount --lazy $DIR");
    place.mount(&[]);
    let new = place.daemon();
    place.sh("echo precious > $DIR/mailboxes/jobs");
    end(old, Signal::TERM);
    assert_eq!((place.daemon(), place.mounts()), (new, 1));
    assert_eq!(place.sh("cat $DIR/mailboxes/jobs"), "precious\n");
}

#[test]
fn what_is_mounted_over_it_stays() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let daemon = place.daemon();
    place.sh("mount -t tmpfs none $DIR && echo precious > $DIR/file");
    end(daemon, Signal::TERM);
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "precious\n");
    unmount(place.dir(), UnmountFlags::DETACH).unwrap();
    // What was beneath it is dead now, and the next mount removes it.
    let outcome = place.try_mount(&[]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("removed a dead ipcfs mount"), "{outcome:?}");
    assert_eq!(place.mounts(), 1);
}

#[test]
fn a_mount_whose_path_was_renamed_is_found() {
    let Some(place) = Place::new() else { return };
    place.sh("mkdir -p $T/c/m && $IPCFS mount $T/c/m");
    let status = fs::read_to_string(place.beside("c/m/control/status")).unwrap();
    let daemon = status.lines().find_map(|line| line.strip_prefix("pid ")).unwrap().parse().unwrap();
    // Something else is at the old path by then.
    place.sh("mv $T/c $T/d && mkdir -p $T/c/m && mount -t tmpfs none $T/c/m && echo precious > $T/c/m/file");
    end(daemon, Signal::TERM);
    let table = String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned();
    let found = |path: &str| table.contains(&format!(" {} ", place.beside(path).display()));
    assert_eq!((found("d/m"), found("c/m")), (false, true));
    assert_eq!(fs::read_to_string(place.beside("c/m/file")).unwrap(), "precious\n");
    place.sh("umount $T/c/m && rmdir $T/c/m $T/d/m");
}

#[test]
fn a_bind_mount_of_it_stays_for_its_maker_to_remove() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("mkdir $T/bound && mount --bind $DIR/mailboxes $T/bound");
    end(place.daemon(), Signal::TERM);
    place.assert_nothing_left();
    place.sh("umount -l $T/bound && rmdir $T/bound");
}
