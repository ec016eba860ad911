//! Writers whom no name led to the mailbox: they share one of the kernel's inodes, and no name can lead them to another.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::common::{self, reap, wait_for};
use crate::tools::{self, APPEND, NOWAIT, TRUNC, WRITE, shell};

/// A mailbox, or a door, mounted on a file of its own.
struct Bound {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Bound {
    fn new(what: &Path) -> Bound {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("jobs");
        File::create(&at).unwrap();
        // By another process than those that will open it.
        let mounted = Command::new("mount").arg("--bind").arg(what).arg(&at).status();
        assert!(mounted.unwrap().success());
        Bound { at, _dir: dir }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

#[test]
fn a_mailbox_that_is_mounted_on_a_file_takes_messages_and_nobody_waits_there() {
    if !geteuid().is_root() {
        return;
    }
    let Some(mount) = common::mount() else { return };
    let path = mount.dir().join("mailboxes/box");
    File::create(&path).unwrap();
    let control = mount.dir().join("control/mailboxes/box");
    fs::write(control.join("config/maxmsg"), "1\n").unwrap();
    let (door, status) = (control.join("stream"), control.join("status"));
    for (bound, is_door) in [(Bound::new(&path), false), (Bound::new(&door), true)] {
        for flags in [WRITE | TRUNC, WRITE | APPEND, WRITE] {
            let file = tools::open(&bound.at, flags);
            assert_eq!(rustix::io::write(&file, b"one\n"), Ok(4));
            assert_eq!(rustix::io::write(&file, b"two\n"), Err(Errno::AGAIN), "full, and it may not wait");
            assert_eq!(tools::receive(&path), b"one\n");
        }
        // While one waits by the name, nobody who comes here is held up.
        tools::send(&path, b"full");
        let mut waiting = shell("echo waits > \"$1\"", &path);
        wait_for("it to wait", || fs::read_to_string(&status).unwrap().contains("waiting_writers 1\n"));
        for script in ["echo x > \"$1\"", "echo x >> \"$1\"", "touch \"$1\"", "chmod 600 \"$1\""] {
            let outcome = common::output(shell(script, &bound.at));
            // A door has no permissions of its own.
            let fails = script.starts_with("echo") || is_door && script.starts_with("chmod");
            assert_eq!(outcome.status.success(), !fails, "{script}: {outcome:?}");
        }
        kill_process(Pid::from_child(&waiting), Signal::KILL).unwrap();
        reap(&mut waiting);
        assert_eq!(tools::receive(&path), b"full");
        assert_eq!(tools::try_receive(&path), Err(Errno::AGAIN), "what was refused was not sent");
    }
}

#[test]
fn a_descriptor_that_is_opened_again_takes_messages() {
    let Some(mount) = common::mount() else { return };
    let path = mount.dir().join("mailboxes/box");
    File::create(&path).unwrap();
    let file = tools::open(&path, WRITE);
    for flags in [WRITE | TRUNC, WRITE | APPEND, WRITE | NOWAIT] {
        let again = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        tools::send(&path, b"by name");
        let again = tools::open(&again, flags);
        assert_eq!(rustix::io::write(&again, b"again"), Ok(5));
        assert_eq!([tools::receive(&path), tools::receive(&path)], [b"by name".to_vec(), b"again".to_vec()]);
    }
    assert_eq!(rustix::io::write(&file, b"still"), Ok(5));
    assert_eq!(tools::receive(&path), b"still");
}
