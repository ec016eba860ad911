//! `kill -9` of the daemon of a mount in use: it is started again, and nobody notices.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;
#[path = "restart/load.rs"]
mod load;
#[path = "cli/place.rs"]
mod place;
#[path = "restart/stays.rs"]
mod stays;

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use common::peer::Peer;
use common::wait_for;
use place::Place;
use rustix::process::Signal;

/// Over `io_uring`, the kernel cancels a call that it is about to hand to the daemon when that dies: with ECANCELED, or with EINTR if it
/// was copying it.
const MAY_CANCEL: bool = true;

/// A mount in the background whose daemon can be killed as often as one likes.
fn mount(options: &[&str]) -> Option<Place> {
    let place = Place::new()?;
    place.mount(&[&["--restart", "--always-restart"], options].concat());
    Some(place)
}

/// Kills its daemon; another one has the mount then.
fn upgrade(place: &Place) {
    let before = place.daemon();
    place::signal(before, Signal::KILL);
    let before = format!("pid {before}\n");
    // The call that meets the death may fail, once.
    let status = || fs::read_to_string(place.path("control/status"));
    wait_for("another daemon", || status().is_ok_and(|status| !status.contains(&before)));
}

fn make(place: &Place, name: &str) -> PathBuf {
    let path = place.path("mailboxes").join(name);
    drop(File::create(&path).unwrap());
    path
}

/// A number in a `status` file below `control/`.
fn figure(place: &Place, status: &str, key: &str) -> u64 {
    let text = fs::read_to_string(place.path("control").join(status)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {text}"))
}

fn waits(place: &Place, mailbox: &str, key: &str, count: u64) {
    let status = format!("mailboxes/{mailbox}/status");
    wait_for(&format!("{key} of {mailbox}"), || figure(place, &status, key) == count);
}

/// Whether the mount goes on after a death.
fn restart(place: &Place) -> String {
    let status = fs::read_to_string(place.path("control/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("restart ")).unwrap().to_owned()
}

#[test]
fn a_mount_without_restart_ends_with_its_daemon() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    assert_eq!(restart(&place), "off");
    place.kill_daemon();
}

#[test]
fn without_memory_for_a_history_the_status_says_so() {
    let Some(place) = Place::new() else { return };
    // The history takes more address space than that.
    place.sh("ulimit -v 3000000; $IPCFS mount --restart --transport dev $DIR");
    assert_eq!(restart(&place), "off: no memory for its history");
    place.sh("echo hello > $DIR/mailboxes/q; cat $DIR/mailboxes/q; $IPCFS umount $DIR");
}

/// The process that starts the daemon again.
fn supervisor(place: &Place) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", place.daemon())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}

#[test]
fn without_its_supervisor_a_daemon_goes_on() {
    let Some(place) = mount(&[]) else { return };
    place.sh("truncate -s 4096 $DIR/segments/before");
    place::signal(supervisor(&place), Signal::KILL);
    wait_for("the end of the supervisor", || restart(&place) == "off: its supervisor is gone");
    place.sh("truncate -s 4096 $DIR/segments/after; rm $DIR/segments/before; echo hello > $DIR/mailboxes/q");
    place.sh("$IPCFS upgrade $DIR");
    assert!(restart(&place).starts_with("off: "), "{}", restart(&place));
    assert_eq!(place.sh("cat $DIR/mailboxes/q; ls $DIR/segments; $IPCFS umount $DIR"), "hello\nafter\n");
    place.assert_nothing_left();
}

#[test]
fn a_supervisor_that_is_stopped_stops_nobody() {
    let Some(place) = mount(&[]) else { return };
    let supervisor = supervisor(&place);
    place::signal(supervisor, Signal::STOP);
    // More than it could be told without reading.
    place.sh("for n in $(seq 600); do : > $DIR/segments/$n; done; truncate -s 4096 $DIR/segments/*");
    assert_eq!(restart(&place), "off: its history cannot be kept");
    place::signal(supervisor, Signal::CONT);
    place.sh("rm $DIR/segments/*; $IPCFS umount $DIR");
    place.assert_nothing_left();
}

#[test]
fn the_third_death_within_ten_seconds_ends_the_mount() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--restart"]);
    for _ in 0..2 {
        assert_eq!(restart(&place), "on");
        upgrade(&place);
    }
    assert_eq!(restart(&place), "on");
    place.sh("$IPCFS upgrade $DIR");
    assert_eq!(restart(&place), "on");
    place.kill_daemon();
    place.sh("$IPCFS umount $DIR");
    place.assert_nothing_left();
}

/// The kernel says once only that it has forgotten a node, and a daemon may be killed when it has just heard it.
#[test]
fn what_the_kernel_has_forgotten_is_forgotten_whoever_dies() {
    const FILES: u64 = 300;
    let drop_caches = || fs::write("/proc/sys/vm/drop_caches", "2").is_ok();
    let Some(place) = mount(&[]) else { return };
    if !drop_caches() {
        return eprintln!("SKIPPED: not root");
    }
    let supervisor = supervisor(&place);
    place.sh(&format!("cd $DIR/mailboxes && seq {FILES} | xargs touch"));
    for round in 0..12 {
        place.sh("ls -l $DIR/mailboxes > /dev/null");
        let first = place.daemon();
        // It hears of all of them only after its death.
        place::signal(first, Signal::STOP);
        drop_caches();
        place::signal(first, Signal::KILL);
        let second = || child_of(supervisor).filter(|daemon| *daemon != first);
        wait_for("the next daemon", || second().is_some());
        thread::sleep(Duration::from_millis(4 * round));
        place::signal(second().unwrap(), Signal::KILL);
        wait_for("the third daemon", || File::open(place.path("control/status")).is_ok());
    }
    let nodes =
        || fs::read_to_string(place.path("control/status")).map(|_| figure(&place, "status", "nodes"));
    wait_for("all to be forgotten", || drop_caches() && nodes().is_ok_and(|nodes| nodes < FILES / 2));
}

/// The process that another has started last, if it runs.
fn child_of(parent: u32) -> Option<u32> {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        stat(*pid).is_some_and(|stat| {
            let fields = stat.rsplit(") ").next().unwrap_or_default();
            !fields.starts_with('Z') && fields.split(' ').nth(1) == Some(&parent.to_string())
        })
    };
    pids.filter(is_child).max()
}

#[test]
fn calls_wait_on_through_deaths_and_upgrades_in_turn() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    let mut readers = Vec::new();
    for count in 1..=3 {
        let Some(mut reader) = Peer::start() else { return };
        reader.open("fd", &path, "O_RDONLY");
        reader.tell("os.read(fd, 100)");
        waits(&place, "q", "waiting_readers", count);
        readers.push(reader);
        upgrade(&place);
        place.sh("$IPCFS upgrade $DIR");
    }
    readers[1].signal(Signal::USR1);
    assert_eq!(readers[1].answer(), "Signalled()");
    for (number, reader) in [0, 2].into_iter().enumerate() {
        fs::write(&path, number.to_string()).unwrap();
        assert_eq!(readers[reader].answer(), format!("b'{number}'"));
    }
}
