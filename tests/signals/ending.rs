//! The mount ends while callers wait.

use std::collections::BTreeMap;
use std::process::Child;
use std::thread::JoinHandle;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::common::{self, reap, wait_for};
use crate::target::{Fixture, Kind, Target};
use crate::tools::{BOTH, aside, finish, open, read, run, shell};

/// Callers of each kind that waits.
const THREADS: usize = 60;
/// POSIX locks are a process's, so that those who wait for one are processes.
const PROCESSES: usize = 10;

/// Hundreds of callers that wait.
struct Waiters {
    threads: Vec<(Kind, JoinHandle<Result<(), Errno>>)>,
    processes: Vec<Child>,
    _files: tempfile::TempDir,
}

impl Waiters {
    fn gather(fixture: &Fixture) -> Waiters {
        let files = tempfile::tempdir().unwrap();
        let mut threads: Vec<(Kind, JoinHandle<Result<(), Errno>>)> = Vec::new();
        for kind in Kind::waiting().filter(|kind| *kind != Kind::Posix) {
            threads.extend((0..THREADS).map(|_| {
                let mailboxes = fixture.mailboxes();
                (kind, aside(move || kind.wait(&mailboxes)))
            }));
        }
        let processes = (0..PROCESSES)
            .map(|place| Target::start(fixture, Kind::Posix, files.path().join(place.to_string())).child)
            .collect();
        for (kind, expected) in
            [(Kind::Read, 2 * THREADS), (Kind::Write, 2 * THREADS), (Kind::Flock, 2 * THREADS + PROCESSES)]
        {
            wait_for(&format!("{kind:?} and the like to wait"), || {
                if let Some(at) = threads.iter().position(|(_, thread)| thread.is_finished()) {
                    let (kind, thread) = threads.swap_remove(at);
                    panic!("{kind:?} did not wait: {:?}", thread.join());
                }
                fixture.figure(kind) == expected as u64
            });
        }
        Waiters { threads, processes, _files: files }
    }

    /// Waits until everyone is back, with one of `errors`. Says how often each kind got which.
    fn check(self, errors: &[Errno]) {
        let mut seen = BTreeMap::<String, usize>::new();
        let mut check = |kind: Kind, error: Errno| {
            assert!(errors.contains(&error), "{kind:?}: {error:?}");
            *seen.entry(format!("{kind:?} {}", error.raw_os_error())).or_default() += 1;
        };
        for (kind, thread) in self.threads {
            check(kind, finish("a caller", thread).expect_err("there was nothing to come"));
        }
        for mut process in self.processes {
            let status = reap(&mut process);
            check(Kind::Posix, Errno::from_raw_os_error(status.code().expect("an exit code")));
        }
        eprintln!("{seen:#?}");
    }
}

/// The errors of a call whose mount has ended: from the daemon that unmounts, or from the kernel, which aborts the request
/// or has no daemon to ask.
const GONE: [Errno; 2] = [Errno::NOTCONN, Errno::CONNABORTED];

#[test]
fn a_killed_daemon_leaves_nobody_waiting() {
    let Some(mut fixture) = Fixture::new() else { return };
    let waiters = Waiters::gather(&fixture);
    let path = fixture.mailboxes().join("empty");
    fixture.mount.signal(Signal::KILL);
    assert_eq!(fixture.mount.wait(), None);
    waiters.check(&GONE);
    for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        let result = rustix::fs::open(&path, flags, rustix::fs::Mode::empty());
        assert_eq!(result.unwrap_err(), Errno::NOTCONN, "whoever comes later is told at once");
    }
    assert!(fixture.mount.in_table(), "as the kernel keeps it; mounting there again clears it");
}

#[test]
fn sigterm_and_sigint_end_the_mount_under_those_who_wait() {
    for signal in [Signal::TERM, Signal::INT] {
        let Some(mut fixture) = Fixture::new() else { return };
        let waiters = Waiters::gather(&fixture);
        fixture.mount.signal(signal);
        assert_eq!(fixture.mount.wait(), Some(0));
        assert!(!fixture.mount.in_table());
        waiters.check(&GONE);
        assert!(!fixture.mount.path("mailboxes").exists());
    }
}

#[test]
fn an_idle_mount_can_be_unmounted_from_outside() {
    for script in ["umount \"$1\"", "umount -l \"$1\"", "umount -f \"$1\"", "fusermount3 -u \"$1\""] {
        let Some(mut mount) = common::mount() else { return };
        mount.make_mailbox("box", &[]);
        run(script, mount.dir());
        assert_eq!(mount.wait(), Some(0), "{script}");
        assert!(!mount.in_table(), "{script}");
    }
}

/// Those who wait have files open when umount(8) comes, so that it says "busy" although it has ended their waits. What
/// is left of the mount the daemon clears away.
#[test]
fn umount_force_ends_the_waits_and_leaves_nothing() {
    let Some(mut fixture) = Fixture::new() else { return };
    let waiters = Waiters::gather(&fixture);
    common::output(shell("umount -f \"$1\"", fixture.mount.dir()));
    waiters.check(&GONE);
    assert_eq!(fixture.mount.wait(), Some(0));
    assert!(!fixture.mount.in_table());
}

/// A lazy unmount takes the name away, and leaves those who have files open in peace: that is the kernel's doing, for
/// every file system. What matters is that they can still be served, interrupted and killed, and that the daemon ends
/// with the last of them.
#[test]
fn a_lazily_unmounted_tree_serves_those_who_are_in_it_and_ends_with_them() {
    let Some(mut mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let stream = open(&path, BOTH);
    let reader = shell("cat \"$1\"; :", &path);
    mount.wait_for_figure("box", "waiting_readers", 1);
    run("umount -l \"$1\"", mount.dir());
    assert!(!mount.in_table() && !path.exists());
    assert_eq!(rustix::io::write(&stream, b"still here"), Ok(10));
    assert_eq!(common::output(reader).stdout, b"still here");
    let waiting = aside({
        let stream = stream.try_clone().unwrap();
        move || read(&stream, 99)
    });
    assert_eq!(rustix::io::write(&stream, b"through"), Ok(7));
    assert_eq!(finish("the reader", waiting), Ok(b"through".to_vec()));
    drop(stream);
    assert_eq!(mount.wait(), Some(0));
}

#[test]
fn ending_a_lazily_unmounted_tree_ends_the_waits_in_it() {
    let Some(mut fixture) = Fixture::new() else { return };
    let waiters = Waiters::gather(&fixture);
    run("umount -l \"$1\"", fixture.mount.dir());
    fixture.mount.signal(Signal::TERM);
    waiters.check(&GONE);
    assert_eq!(fixture.mount.wait(), Some(0));
    assert!(!fixture.mount.in_table());
}
