//! A store whose disk fails, or is read-only, or whose files go; and a bit of it that flips.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::disk::Health;
use crate::hung::disk_for_store;
use crate::{Stored, receive};

fn errno(result: std::io::Result<()>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

const EIO: Option<i32> = Some(5);

/// The file system under the store becomes read-only by that, as ext4 does when its journal cannot be written.
#[test]
fn on_a_failing_disk_sends_fail_receiving_goes_on_and_what_was_promised_is_there_later() {
    let Some((mut disk, stored)) = disk_for_store() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    let other = stored.place.path("mailboxes/other");
    for n in 0..3 {
        fs::write(&path, format!("promised {n}")).unwrap();
    }
    disk.set_health(Health::Failing);
    assert_eq!(errno(fs::write(&path, "not promised")), EIO);
    assert_eq!(errno(fs::write(&path, "refused")), EIO);
    let status = fs::read_to_string(stored.place.path("control/status")).unwrap();
    assert!(status.contains("\nstore broken: "), "{status}");
    assert_eq!(receive(&path), b"promised 0");
    fs::write(&other, "not durable").unwrap();
    assert_eq!(receive(&other), b"not durable");
    // A disk that works again proves nothing about what it was told meanwhile.
    disk.set_health(Health::Well);
    assert_eq!(errno(fs::write(&path, "refused")), EIO);
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
    disk.remount("ext4").unwrap();
    stored.mount();
    assert_eq!(stored.figure("", "store_lost"), 0);
    let mut left = BTreeSet::new();
    for _ in 0..stored.figure("jobs", "depth") {
        left.insert(String::from_utf8(receive(&path)).unwrap());
    }
    // What was received may come once more, and what ended with EIO may be there.
    assert!(left.contains("promised 1") && left.contains("promised 2"), "{left:?}");
    assert!(!left.contains("refused"), "{left:?}");
    fs::write(&path, "again").unwrap();
    assert_eq!(receive(&path), b"again");
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
}

#[test]
fn a_read_only_store_can_be_read_and_not_mounted() {
    let Some(stored) = Stored::new() else { return };
    fs::create_dir(&stored.store).unwrap();
    mount("none", &stored.store, "tmpfs", MountFlags::empty(), Some(c"size=80m,mode=700")).unwrap();
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    fs::write(&path, "kept").unwrap();
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
    mount_remount(&stored.store, MountFlags::RDONLY, "").unwrap();
    let outcome = stored.try_mount(&[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("ead-only file system"), "{outcome:?}");
    stored.place.assert_nothing_left();
    assert_eq!(stored.command(&["verify"]).stdout, "1 mailboxes, 1 messages, 0 records lost\n");
    assert!(stored.command(&["dump"]).stdout.contains("\"body\":\"kept\""));
    mount_remount(&stored.store, MountFlags::empty(), "").unwrap();
    stored.mount();
    assert_eq!(receive(&path), b"kept");
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
    unmount(&stored.store, UnmountFlags::DETACH).unwrap();
}

/// A promise about a file that has no name any more would be none.
#[test]
fn if_the_files_are_removed_under_the_daemon_sends_fail() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    fs::write(&path, "accepted").unwrap();
    fs::remove_dir_all(&stored.store).unwrap();
    assert_eq!(errno(fs::write(&path, "not promised")), EIO);
    let status = fs::read_to_string(stored.place.path("control/status")).unwrap();
    assert!(status.contains("\nstore broken: fdatasync: a file of the store was removed\n"), "{status}");
    assert_eq!(receive(&path), b"accepted");
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
}

/// The daemon writes where it began to, and not into whatever is at that path now.
#[test]
fn if_the_store_is_unmounted_under_the_daemon_it_goes_on_there() {
    let Some((mut disk, stored)) = disk_for_store() else { return };
    stored.mount();
    let path = stored.durable("jobs", "daemon");
    stored.set("jobs", "maxbytes", "max");
    unmount(disk.path(), UnmountFlags::DETACH).unwrap();
    // More than one file.
    let body = vec![b'x'; 1_000_000];
    for _ in 0..40 {
        fs::write(&path, &body).unwrap();
    }
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    stored.place.kill_daemon();
    stored.wait_for_end();
    disk.remount("ext4").unwrap();
    stored.mount();
    assert_eq!((stored.figure("jobs", "depth"), stored.figure("", "store_lost")), (40, 0));
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
}

#[test]
fn whichever_bit_flips_it_is_told_and_everything_else_is_kept() {
    const MESSAGES: usize = 50;
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    for n in 0..MESSAGES {
        fs::write(&path, format!("message {n:02} {}\n", "x".repeat(n * 13 % 200))).unwrap();
    }
    // It says that all the others were synchronized.
    stored.set("jobs", "maxmsg", "99");
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
    let logs = fs::read_dir(&stored.store).unwrap().map(|entry| entry.unwrap().path());
    let used = |path: &PathBuf| {
        let bytes = fs::read(path).ok()?;
        let end = bytes.iter().skip(64).rposition(|byte| *byte != 0)?;
        path.extension().is_some_and(|end| end == "log").then_some(end + 65)
    };
    let logs: Vec<(PathBuf, usize)> = logs.filter_map(|path| Some((path.clone(), used(&path)?))).collect();
    assert!(!logs.is_empty());
    let bodies = || {
        let dump = stored.command(&["dump"]).stdout;
        let lines = dump.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["body"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let whole = bodies();
    assert_eq!(whole.len(), MESSAGES);
    let mut told = 0;
    for step in 0..120_usize {
        let (path, end) = &logs[step % logs.len()];
        let (at, bit) = ((step * 7919 % end) as u64, step % 8);
        let file: File = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
        let verify = stored.command(&["verify"]);
        let left = bodies();
        assert!(left.is_subset(&whole) && left.len() + 1 >= MESSAGES, "bit {bit} of byte {at}: {verify:?}");
        assert!(left.len() == MESSAGES || verify.code == Some(1), "bit {bit} of byte {at}: {verify:?}");
        told += usize::from(verify.code == Some(1));
        file.write_all_at(&byte, at).unwrap();
    }
    // The others hit padding, or what says what was synchronized.
    assert!(told > 90, "{told}");
    assert_eq!(stored.command(&["verify"]).code, Some(0));
}
