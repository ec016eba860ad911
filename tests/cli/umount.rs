//! `ipcfs umount`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{state_of, wait_for};
use crate::place::{Background, Place, has_ended, ipcfs, signal};

fn is_open(pid: u32, path: &Path) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
}

#[test]
fn a_mount_is_ended_and_its_daemon_with_it() {
    let Some(place) = Place::new() else { return };
    for _ in 0..10 {
        place.mount(&[]);
        place.sh("touch $DIR/mailboxes/a; echo lost >> $DIR/segments/s");
        let daemon = place.daemon();
        let outcome = place.ipcfs(&["umount"]);
        let state = state_of(daemon);
        assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
        assert!(matches!(state, None | Some('Z' | 'X')), "the daemon still runs: {state:?}");
        place.assert_nothing_left();
    }
}

#[test]
fn messages_that_go_with_the_mount_are_counted_or_keep_it() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("cd $DIR/mailboxes; mkdir sub; touch none; echo 1 > a; echo 2 > a; echo 3 > sub/b");
    let refused = place.ipcfs(&["umount", "--if-empty"]);
    let what = format!("cannot unmount {}: it has 2 mailboxes with 3 waiting messages", place.name());
    refused.failed(&what, &["receive them", "without --if-empty"]);
    assert_eq!(place.sh("cat $DIR/mailboxes/a"), "1\n", "it is still there");

    let outcome = place.ipcfs(&["umount"]);
    let said =
        format!("ipcfs: {} is unmounted: 2 mailboxes with 2 waiting messages are dropped\n", place.name());
    assert_eq!((outcome.code, outcome.stderr), (Some(0), said));
    place.assert_nothing_left();

    place.mount(&[]);
    place.sh("echo 1 > $DIR/mailboxes/a; cat $DIR/mailboxes/a");
    let outcome = place.ipcfs(&["umount", "--if-empty"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    place.assert_nothing_left();

    place.mount(&[]);
    place.sh("cd $DIR && touch mailboxes/a && echo 1 > control/mailboxes/a/delay/1h");
    let what = format!("cannot unmount {}: it has 1 mailbox with 1 waiting message", place.name());
    place.ipcfs(&["umount", "--if-empty"]).failed(&what, &["without --if-empty"]);
    assert_eq!(place.ipcfs(&["umount"]).code, Some(0));
    place.assert_nothing_left();
}

#[test]
fn durable_messages_are_kept_and_not_counted() {
    let Some(place) = Place::new() else { return };
    let store = place.beside("store").display().to_string();
    place.mount(&["--store", &store]);
    place.sh("cd $DIR/mailboxes && touch kept && echo fsync > $DIR/control/mailboxes/kept/config/durable && echo 1 > kept");
    let outcome = place.ipcfs(&["umount", "--if-empty"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    place.mount(&["-o", &format!("store={store}")]);
    place.sh("echo 2 > $DIR/mailboxes/lost");
    assert_eq!(place.ipcfs(&["umount", "--if-empty"]).code, Some(1));
    let outcome = place.ipcfs(&["umount"]);
    let said = format!("ipcfs: {} is unmounted: 1 mailbox with 1 waiting message is dropped\n", place.name());
    assert_eq!((outcome.code, outcome.stderr), (Some(0), said));
    place.mount(&["--store", &store]);
    assert_eq!(place.sh("cat $DIR/mailboxes/kept; ls $DIR/mailboxes"), "1\nkept\n");
    assert_eq!(place.ipcfs(&["umount"]).stderr, "");
}

#[test]
fn by_force_it_ends_for_those_who_wait_too_and_with_a_stopped_daemon() {
    let Some(place) = Place::new() else { return };
    for stopped in [false, true] {
        place.mount(&[]);
        place.sh("touch $DIR/mailboxes/a");
        let daemon = place.daemon();
        let reader = Background::start(Command::new("cat").arg(place.path("mailboxes/a")));
        wait_for("the reader to wait", || {
            let status = fs::read_to_string(place.path("control/mailboxes/a/status")).unwrap();
            status.contains("waiting_readers 1\n")
        });
        if stopped {
            signal(daemon, Signal::STOP);
            wait_for("the daemon to stop", || state_of(daemon) == Some('T'));
            let unseen = place.ipcfs(&["umount", "-f", "--if-empty"]);
            let what = format!("cannot unmount {}: it cannot be seen whether messages wait", place.name());
            unseen.failed(&what, &["(it is silent)"]);
        }
        let outcome = place.ipcfs(&["umount", "-f"]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        assert_eq!(place.mounts(), 0);
        let reader = reader.finish();
        assert_eq!(reader.code, Some(1), "{reader:?}");
        let _ = kill_process(Pid::from_raw(daemon as i32).unwrap(), Signal::CONT);
        wait_for("the daemon to end", || has_ended(daemon));
        place.assert_nothing_left();
    }
}

#[test]
fn whoever_has_a_copy_of_the_mount_in_another_namespace_is_named() {
    let Some(place) = Place::alone() else { return };
    place.mount(&[]);
    let daemon = place.daemon();
    // `unshare` makes the copies private, so that they do not go with the mount.
    let copy = Background::start(Command::new("unshare").args(["-m", "sleep", "1000"]));
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    wait_for("another namespace", || {
        namespace(copy.id()) != namespace(std::process::id())
            && fs::read_to_string(format!("/proc/{}/comm", copy.id())).unwrap() == "sleep\n"
    });
    let outcome = place.ipcfs(&["umount"]);
    assert_eq!(outcome.code, Some(0));
    let named =
        format!("with\n  {:>7} sleep\n  it ends with them, or terminate it: kill {daemon}\n", copy.id());
    assert!(outcome.stderr.contains("other mount namespaces have the mount"), "{outcome:?}");
    assert!(outcome.stderr.ends_with(&named), "{outcome:?}");
    drop(copy);
    wait_for("the daemon to end", || has_ended(daemon));
}

#[test]
fn what_is_no_mount_is_said_to_be_none() {
    let Some(place) = Place::new() else { return };
    let name = place.name();
    place
        .ipcfs(&["umount"])
        .failed(&format!("{name} is not an ipcfs mount: nothing is mounted there"), &["ipcfs status"]);
    let missing = format!("{name}/missing");
    let why = format!("{missing} is not an ipcfs mount: No such file or directory");
    ipcfs(["umount", &missing]).failed(&why, &["ipcfs status"]);
    ipcfs(["umount", "/proc"]).failed("/proc is not an ipcfs mount but one of type proc", &["ipcfs status"]);
    assert!(fs::exists("/proc/self").unwrap());
}

#[test]
fn a_path_within_a_mount_is_answered_with_the_mounts_own() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let within = place.path("mailboxes");
    let why = format!("{} is not an ipcfs mount, but lies inside one", within.display());
    ipcfs(["umount".as_ref(), within.as_os_str()])
        .failed(&why, &[&format!("give the mount point: {}\n", place.name())]);
    assert_eq!(place.mounts(), 1);
}

#[test]
fn those_who_keep_it_busy_are_named() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("truncate -s 4096 $DIR/segments/frame; : > $DIR/mailboxes/jobs");
    let daemon = place.daemon();

    let reader = Background::start(Command::new("cat").arg(place.path("mailboxes/jobs")));
    wait_for("the reader to wait", || {
        let status = fs::read_to_string(place.path("control/mailboxes/jobs/status")).unwrap();
        status.contains("waiting_readers 1\n")
    });
    let sleeper = Background::start(Command::new("sleep").arg("1000").current_dir(place.path("segments")));
    let holder = Background::start(&mut place.script("exec tail -f /dev/null 3< $DIR/segments/frame"));
    wait_for("the file to be open", || is_open(holder.id(), &place.path("segments/frame")));

    let outcome = place.ipcfs(&["umount"]);
    let what = format!("cannot unmount {}: it is in use by", place.name());
    outcome.failed(&what, &[&format!("ipcfs umount --lazy {}", place.name())]);
    for (child, command, path) in [
        (&reader, "cat", "mailboxes/jobs"),
        (&sleeper, "sleep", "segments"),
        (&holder, "tail", "segments/frame"),
    ] {
        let pid = child.id().to_string();
        let path = place.path(path).display().to_string();
        let words = [pid.as_str(), command, path.as_str()];
        let named = outcome.stderr.lines().any(|line| line.split_whitespace().eq(words));
        assert!(named, "{words:?} is missing in {}", outcome.stderr);
    }
    // Named were those three, and it is still there.
    let indented =
        outcome.stderr.lines().filter(|line| line.starts_with("  ") && !line.contains("end them")).count();
    assert_eq!(indented, 3, "{}", outcome.stderr);
    assert_eq!(place.daemon(), daemon);

    drop((reader, sleeper, holder));
    let outcome = place.ipcfs(&["umount"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    place.assert_nothing_left();
}

#[test]
fn lazily_it_goes_at_once_and_ends_with_the_last_who_uses_it() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("echo kept > $DIR/segments/frame");
    let daemon = place.daemon();
    let frame = File::open(place.path("segments/frame")).unwrap();

    assert_eq!(place.ipcfs(&["umount"]).code, Some(1));
    let outcome = place.ipcfs(&["umount", "--lazy"]);
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(place.mounts(), 0);
    assert!(!place.path("segments").exists());
    assert_eq!(std::io::read_to_string(&frame).unwrap(), "kept\n", "it goes on for those who have it open");
    assert!(!has_ended(daemon));
    // The directory is free meanwhile.
    place.mount(&[]);
    assert_ne!(place.daemon(), daemon);
    drop(frame);
    wait_for("the first daemon to end", || has_ended(daemon));
    assert!(place.path("segments").exists(), "the second has nothing to do with it");
}

#[test]
fn a_dead_mount_is_cleared_also_where_somebody_uses_it() {
    let Some(place) = Place::new() else { return };
    for used in [false, true] {
        place.mount(&[]);
        let file = used.then(|| File::create(place.path("segments/s")).unwrap());
        place.kill_daemon();
        let outcome = place.ipcfs(&["umount"]);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()),
            (Some(0), "", ""),
            "used: {used}"
        );
        drop(file);
        place.assert_nothing_left();
        assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 0, "the directory is as it was");
    }
}

#[test]
fn a_stopped_daemon_does_not_hang_umount() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let daemon = place.daemon();
    signal(daemon, Signal::STOP);
    wait_for("the daemon to stop", || state_of(daemon) == Some('T'));
    let what = format!("cannot unmount {}: its daemon does not respond", place.name());
    place.ipcfs(&["umount"]).failed(&what, &["kill -CONT", "--lazy"]);
    let outcome = place.ipcfs(&["umount", "-l"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    assert_eq!(place.mounts(), 0);
    signal(daemon, Signal::CONT);
    wait_for("the daemon to end", || has_ended(daemon));
}

#[test]
fn umount_run_from_within_the_mount_does_not_stand_in_its_own_way() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    // `exec`: the shell would hold the directory, and rightly be named.
    place.sh("cd $DIR/mailboxes && exec $IPCFS umount $DIR");
    place.assert_nothing_left();
    place.mount(&[]);
    let mut inside = place.script("cd $DIR && exec $IPCFS umount .");
    let outcome = crate::place::run(&mut inside);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    place.assert_nothing_left();
}

#[test]
fn of_two_mounts_on_one_another_the_upper_goes_first() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    // Another file system on a folder of ours keeps it busy, and is named.
    place.sh("mkdir $DIR/mailboxes/inner && mount -t tmpfs tmpfs $DIR/mailboxes/inner");
    let outcome = place.ipcfs(&["umount"]);
    let inner = place.path("mailboxes/inner").display().to_string();
    place.sh("umount $DIR/mailboxes/inner");
    let what = format!("cannot unmount {}: it is in use by", place.name());
    outcome.failed(&what, &[&format!("mounted inside it: {inner}")]);
    assert_eq!(place.ipcfs(&["umount"]).code, Some(0));
}
