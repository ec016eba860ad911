//! `ipcfs upgrade`: another process takes a mount over while it is in use, and nobody notices.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;
#[path = "restart/load.rs"]
mod load;
#[path = "cli/place.rs"]
mod place;
#[path = "restart/refused.rs"]
mod refused;
#[path = "restart/stays.rs"]
mod stays;
#[path = "restart/users.rs"]
mod users;

use std::fs::{self, File};
use std::path::PathBuf;

use common::wait_for;
use place::{Place, has_ended};
use rustix::process::Signal;

/// A call may fail with ECANCELED, having done nothing.
const MAY_CANCEL: bool = false;

/// A mount in the background.
fn mount(options: &[&str]) -> Option<Place> {
    let place = Place::new()?;
    place.mount(options);
    Some(place)
}

/// Upgrades it; the daemon that there was ends, and another one has the mount.
fn upgrade(place: &Place) {
    let before = place.daemon();
    let outcome = place.ipcfs(&["upgrade"]);
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
    assert_ne!(place.daemon(), before);
    wait_for("the old daemon to end", || has_ended(before));
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

#[test]
fn durable_messages_outlive_the_new_daemon_too() {
    let Some(place) = Place::new() else { return };
    let store = place.beside("store");
    let options = ["--store", store.to_str().unwrap()];
    place.mount(&options);
    let path = make(&place, "q");
    fs::write(place.path("control/mailboxes/q/config/durable"), "fsync").unwrap();
    for text in ["taken before", "taken after", "kept"] {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), b"taken before");
    for _ in 0..3 {
        upgrade(&place);
    }
    assert_eq!(fs::read(&path).unwrap(), b"taken after");
    fs::write(&path, "sent after").unwrap();
    fs::write(place.path("control/mailboxes/q/config/maxmsg"), "7").unwrap();
    let daemon = place.daemon();
    place::signal(daemon, Signal::KILL);
    wait_for("the daemon to end", || has_ended(daemon));
    assert_eq!(place.try_mount(&options).code, Some(0));
    assert_eq!(fs::read_to_string(place.path("control/mailboxes/q/config/maxmsg")).unwrap(), "7\n");
    assert_eq!(fs::read(&path).unwrap(), b"kept");
    assert_eq!(fs::read(&path).unwrap(), b"sent after");
    assert_eq!(place.ipcfs(&["status", "--json"]).code, Some(0));
    place.sh("$IPCFS umount $DIR");
    place.assert_nothing_left();
}

#[test]
fn signals_unmount_the_new_daemon() {
    let Some(place) = mount(&[]) else { return };
    upgrade(&place);
    place::signal(place.daemon(), Signal::TERM);
    wait_for("the mount to end", || place.mounts() == 0);
    place.assert_nothing_left();
}

#[test]
fn no_durable_message_is_lost_doubled_or_reordered_under_load() {
    for durable in ["daemon", "fsync"] {
        let Some(place) = Place::new() else { return };
        let store = place.beside("store");
        place.mount(&["--store", store.to_str().unwrap()]);
        load::under_load(&place, Some(durable));
        place.sh("$IPCFS umount $DIR");
    }
}
