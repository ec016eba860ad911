//! Mounts of ordinary users, and who may upgrade whose.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::common;
use crate::place::{Outcome, Place, run};
use crate::upgrade;

/// It has a name, which fusermount3 wants.
const NOBODY: u32 = 65534;

/// Runs a copy of the program, because users may not reach the one in the checkout, and its path is what is upgraded to.
fn as_user(place: &Place, user: u32, words: &[&str]) -> Outcome {
    let program = place.beside("ipcfs");
    if !program.exists() {
        let copied = run(Command::new("cp").arg(common::ipcfs().get_program()).arg(&program));
        assert_eq!(copied.code, Some(0), "{copied:?}");
    }
    run(Command::new(program).args(words).arg(place.dir()).uid(user).gid(user).env("HOME", "/"))
}

#[test]
fn who_mounted_it_and_root_may_upgrade_a_mount_and_nobody_else() {
    if !common::have_fusermount() {
        return;
    }
    let Some(place) = Place::new() else { return };
    chown(place.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    let outcome = as_user(&place, NOBODY, &["mount"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let pid = || {
        let text = as_user(&place, NOBODY, &["status", "--json"]).stdout;
        let (_, rest) = text.split_once("\"pid\":").unwrap_or_else(|| panic!("{text}"));
        rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u32>().unwrap()
    };
    let before = pid();
    let outcome = as_user(&place, common::OTHER, &["upgrade"]);
    outcome.failed("", &[]);
    assert_eq!(pid(), before);
    for user in [NOBODY, 0] {
        let before = pid();
        let outcome = as_user(&place, user, &["upgrade"]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        assert_ne!(pid(), before);
    }
    assert_eq!(as_user(&place, NOBODY, &["umount"]).code, Some(0));
    place.assert_nothing_left();
}

#[test]
fn a_user_cannot_upgrade_roots_mount() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--allow-other"]);
    let daemon = place.daemon();
    as_user(&place, common::OTHER, &["upgrade"]).failed("cannot upgrade ", &["only root and who mounted it"]);
    assert_eq!(place.daemon(), daemon);
    upgrade(&place);
    assert!(fs::read_dir(place.path("mailboxes")).unwrap().next().is_none());
}
