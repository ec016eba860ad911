//! Locks through a mount: flock, POSIX and open file description locks, between processes, and what ends them.
//!
//! Every test is run on a mailbox and on a segment: the locks are the daemon's own, and a mailbox has a kernel node for
//! each writer.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;

use std::path::{Path, PathBuf};

use common::peer::Peer;
use common::{Mount, wait_for};
use rustix::process::Signal;

/// A mailbox and a segment, each on a mount of its own.
fn files() -> Vec<(Mount, PathBuf)> {
    make(&[("mailboxes", "auto"), ("segments", "auto")])
}

/// As [`files`], with segments in both data paths.
fn files_of_all_paths() -> Vec<(Mount, PathBuf)> {
    make(&[("mailboxes", "auto"), ("segments", "cached"), ("segments", "passthrough")])
}

fn make(kinds: &[(&str, &str)]) -> Vec<(Mount, PathBuf)> {
    let made = kinds.iter().map(|(kind, path)| {
        let mount = common::mount_with(&[&format!("--segments={path}")])?;
        let file = mount.path(&format!("{kind}/file"));
        std::fs::File::create(&file).unwrap();
        Some((mount, file))
    });
    made.flatten().collect()
}

/// As many processes that have the file open as `fd`.
fn peers<const N: usize>(file: &Path) -> Option<[Peer; N]> {
    let peers: Option<Vec<Peer>> = (0..N).map(|_| Peer::start()).collect();
    let mut peers: [Peer; N] = peers?.try_into().unwrap();
    for peer in &mut peers {
        peer.open("fd", file, "O_RDWR");
    }
    Some(peers)
}

fn wait_for_waiting(mount: &Mount, count: u64) {
    wait_for(&format!("{count} calls to wait"), || mount.figure("status", "waiting_locks") == count);
}

fn wait_for_held(mount: &Mount, count: u64) {
    wait_for(&format!("{count} locks to be held"), || mount.figure("status", "locks") == count);
}

const EXCLUSIVE_NOW: [(&str, &str); 3] = [
    ("flock", "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)"),
    ("posix", "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)"),
    ("ofd", "ofd(OFD_SETLK, fd, fcntl.F_WRLCK)[0]"),
];
const EXCLUSIVE_WAITING: [(&str, &str); 3] = [
    ("flock", "fcntl.flock(fd, fcntl.LOCK_EX)"),
    ("posix", "fcntl.lockf(fd, fcntl.LOCK_EX)"),
    ("ofd", "ofd(OFD_SETLKW, fd, fcntl.F_WRLCK)[0]"),
];
const SHARED_NOW: [(&str, &str); 3] = [
    ("flock", "fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)"),
    ("posix", "fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)"),
    ("ofd", "ofd(OFD_SETLK, fd, fcntl.F_RDLCK)[0]"),
];
const UNLOCK: [(&str, &str); 3] = [
    ("flock", "fcntl.flock(fd, fcntl.LOCK_UN)"),
    ("posix", "fcntl.lockf(fd, fcntl.LOCK_UN)"),
    ("ofd", "ofd(OFD_SETLK, fd, fcntl.F_UNLCK)[0]"),
];

/// Granted: what the calls above answer with.
fn granted(answer: &str) -> bool {
    ["None", "0", "1", "2"].contains(&answer)
}

fn take(peer: &mut Peer, call: &str) {
    let answer = peer.ask(call);
    assert!(granted(&answer), "{call}: {answer}");
}

fn refused(peer: &mut Peer, call: &str) {
    assert_eq!(peer.ask(call), "EAGAIN", "{call}");
}

#[test]
fn exclusive_locks_exclude_and_shared_ones_share() {
    for (mount, file) in files_of_all_paths() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        for kind in 0..3 {
            let (exclusive, shared, unlock) = (EXCLUSIVE_NOW[kind].1, SHARED_NOW[kind].1, UNLOCK[kind].1);
            take(&mut one, exclusive);
            refused(&mut two, exclusive);
            refused(&mut two, shared);
            take(&mut one, shared);
            take(&mut two, shared);
            refused(&mut one, exclusive);
            // flock(2): a conversion that fails has given up what was held; a byte range is kept.
            take(&mut one, if kind == 0 { unlock } else { shared });
            take(&mut two, unlock);
            take(&mut one, exclusive);
            take(&mut one, unlock);
        }
        wait_for_held(&mount, 0);
    }
}

#[test]
fn a_lock_that_is_awaited_is_granted_when_it_is_given_up() {
    for (mount, file) in files() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        for kind in 0..3 {
            take(&mut one, EXCLUSIVE_NOW[kind].1);
            two.tell(EXCLUSIVE_WAITING[kind].1);
            wait_for_waiting(&mount, 1);
            take(&mut one, UNLOCK[kind].1);
            assert!(granted(&two.answer()));
            refused(&mut one, SHARED_NOW[kind].1);
            take(&mut two, UNLOCK[kind].1);
            wait_for_waiting(&mount, 0);
        }
    }
}

#[test]
fn close_exit_and_kill_give_up_every_kind_of_lock() {
    for (mount, file) in files() {
        for kind in 0..3 {
            let Some([mut waiter, mut closes, mut exits, mut killed]) = peers(&file) else { return };
            take(&mut closes, EXCLUSIVE_NOW[kind].1);
            waiter.tell(EXCLUSIVE_WAITING[kind].1);
            wait_for_waiting(&mount, 1);
            closes.run("os.close(fd)");
            assert!(granted(&waiter.answer()), "closed");
            take(&mut waiter, UNLOCK[kind].1);

            take(&mut exits, EXCLUSIVE_NOW[kind].1);
            waiter.tell(EXCLUSIVE_WAITING[kind].1);
            wait_for_waiting(&mount, 1);
            exits.exit();
            assert!(granted(&waiter.answer()), "exited");
            take(&mut waiter, UNLOCK[kind].1);

            take(&mut killed, EXCLUSIVE_NOW[kind].1);
            waiter.tell(EXCLUSIVE_WAITING[kind].1);
            wait_for_waiting(&mount, 1);
            killed.kill();
            assert!(granted(&waiter.answer()), "killed");
            drop(waiter);
            wait_for_held(&mount, 0);
        }
    }
}

/// Takes a lock through a descriptor of its own and closes that, as often as it is told; then another process, which has the
/// file open already, and the next descriptor of the same process must get the lock, and see none.
const CLOSE_AND_ASK: &str = r"
import fcntl, os, struct, sys
path, rounds = sys.argv[1], int(sys.argv[2])
def ask(kind): return struct.pack('hhqqixxxx', kind, 0, 0, 0, 0)
def flock(fd): fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
def ofd(fd): fcntl.fcntl(fd, 37, ask(fcntl.F_WRLCK))
def posix(fd): fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
def unflock(fd): fcntl.flock(fd, fcntl.LOCK_UN)
def unlock(fd): fcntl.fcntl(fd, 37, ask(fcntl.F_UNLCK))
def unposix(fd): fcntl.lockf(fd, fcntl.LOCK_UN)
def looks(command):
    def look(fd):
        if struct.unpack('hhqqixxxx', fcntl.fcntl(fd, command, ask(fcntl.F_WRLCK)))[0] != fcntl.F_UNLCK: raise OSError('locked')
    return look
ways = (('flock', flock, flock, unflock), ('OFD', ofd, ofd, unlock), ('POSIX', posix, posix, unposix),
    ('F_GETLK', posix, looks(5), unposix), ('F_OFD_GETLK', ofd, looks(36), unlock))
for name, take, probe, untake in ways:
    asked, said = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        os.close(asked[1])
        fd = os.open(path, os.O_RDWR)
        while os.read(asked[0], 1):
            try:
                probe(fd)
                untake(fd)
                answer = b'+'
            except OSError: answer = b'-'
            os.write(said[1], answer)
        os._exit(0)
    os.close(asked[0])
    others = own = 0
    for _ in range(rounds):
        fd = os.open(path, os.O_RDWR)
        try: take(fd)
        except OSError: own += 1
        os.close(fd)
        os.write(asked[1], b'?')
        others += os.read(said[0], 1) == b'-'
    os.close(asked[1])
    os.waitpid(pid, 0)
    if own or others: print(f'{name}: of {rounds} calls after a close, {others} of another process and {own} of the same were refused')
";

/// Without the wait for earlier requests, some in a thousand fail on a busy machine.
#[test]
fn a_lock_is_free_when_close_has_returned() {
    if !common::have("python3") {
        return;
    }
    for (mount, file) in files_of_all_paths() {
        let busy = "while :; do :; done";
        let mut busy: Vec<_> =
            (0..4).map(|_| std::process::Command::new("sh").args(["-c", busy]).spawn().unwrap()).collect();
        let said = std::process::Command::new("python3")
            .args(["-I", "-c", CLOSE_AND_ASK])
            .arg(&file)
            .arg("2000")
            .output()
            .unwrap();
        for child in &mut busy {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(said.status.success(), "{said:?}");
        assert_eq!(String::from_utf8_lossy(&said.stdout), "", "{file:?}");
        wait_for_held(&mount, 0);
    }
}

/// What is refused for certain is refused as long as the lock is held, whatever else is under way.
#[test]
fn a_lock_that_is_held_is_refused_beside_others_who_open_and_close() {
    if !common::have("python3") {
        return;
    }
    for (mount, file) in files() {
        let Some([mut holder, mut other]) = peers(&file) else { return };
        let more = std::fs::File::create(file.with_file_name("more")).is_ok();
        assert!(more);
        let crowd = "while :; do : < \"$1\"; done";
        let mut crowd: Vec<_> = (0..4)
            .map(|_| {
                std::process::Command::new("sh")
                    .args(["-c", crowd, "sh"])
                    .arg(file.with_file_name("more"))
                    .spawn()
                    .unwrap()
            })
            .collect();
        for kind in 0..3 {
            take(&mut holder, EXCLUSIVE_NOW[kind].1);
            for _ in 0..200 {
                refused(&mut other, EXCLUSIVE_NOW[kind].1);
            }
            take(&mut holder, UNLOCK[kind].1);
            take(&mut other, EXCLUSIVE_NOW[kind].1);
            take(&mut other, UNLOCK[kind].1);
        }
        for child in &mut crowd {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        wait_for_held(&mount, 0);
    }
}

#[test]
fn a_signal_ends_the_wait_and_leaves_the_lock_to_its_holder() {
    for (mount, file) in files() {
        let Some([mut holder, mut waiter]) = peers(&file) else { return };
        for kind in 0..3 {
            take(&mut holder, EXCLUSIVE_NOW[kind].1);
            waiter.tell(EXCLUSIVE_WAITING[kind].1);
            wait_for_waiting(&mount, 1);
            waiter.signal(Signal::USR1);
            assert_eq!(waiter.answer(), "Signalled()");
            wait_for_waiting(&mount, 0);
            refused(&mut waiter, EXCLUSIVE_NOW[kind].1);
            take(&mut holder, UNLOCK[kind].1);
            take(&mut waiter, EXCLUSIVE_NOW[kind].1);
            take(&mut waiter, UNLOCK[kind].1);
        }
    }
}

#[test]
fn a_process_killed_while_it_waits_holds_nothing_up() {
    for (mount, file) in files() {
        for kind in 0..3 {
            let Some([mut holder, mut killed, mut next]) = peers(&file) else { return };
            take(&mut holder, EXCLUSIVE_NOW[kind].1);
            killed.tell(EXCLUSIVE_WAITING[kind].1);
            wait_for_waiting(&mount, 1);
            next.tell(EXCLUSIVE_WAITING[kind].1);
            wait_for_waiting(&mount, 2);
            killed.kill();
            wait_for_waiting(&mount, 1);
            take(&mut holder, UNLOCK[kind].1);
            assert!(granted(&next.answer()));
        }
    }
}

#[test]
fn a_waiting_lock_ends_neither_other_use_of_the_file_nor_its_removal() {
    for (mount, file) in files() {
        let Some([mut holder, mut waiter, mut other]) = peers(&file) else { return };
        take(&mut holder, "fcntl.flock(fd, fcntl.LOCK_EX)");
        waiter.tell("fcntl.flock(fd, fcntl.LOCK_EX)");
        wait_for_waiting(&mount, 1);
        assert_eq!(other.ask("os.write(fd, b'x')"), "1");
        other.run(&format!("os.chmod({file:?}, 0o600)"));
        other.run(&format!("os.unlink({file:?})"));
        take(&mut holder, "fcntl.flock(fd, fcntl.LOCK_UN)");
        assert!(granted(&waiter.answer()), "locks outlive the name");
    }
}

#[test]
fn the_three_kinds_meet_as_on_other_file_systems() {
    for (_mount, file) in files() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        take(&mut one, EXCLUSIVE_NOW[0].1);
        take(&mut two, EXCLUSIVE_NOW[1].1);
        refused(&mut one, EXCLUSIVE_NOW[2].1);
        refused(&mut one, EXCLUSIVE_NOW[1].1);
        // A process's own POSIX lock and its own open file's conflict too.
        refused(&mut two, EXCLUSIVE_NOW[2].1);
    }
}

#[test]
fn flock_belongs_to_the_open_file_and_goes_with_its_last_descriptor() {
    for (mount, file) in files() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        take(&mut one, "fcntl.flock(fd, fcntl.LOCK_EX)");
        one.run("copy = os.dup(fd)");
        one.run("os.close(fd)");
        refused(&mut two, EXCLUSIVE_NOW[0].1);
        one.open("fd", &file, "O_RDWR");
        refused(&mut one, EXCLUSIVE_NOW[0].1);
        one.run("os.close(copy)");
        wait_for_held(&mount, 0);
        take(&mut two, EXCLUSIVE_NOW[0].1);
    }
}

#[test]
fn an_open_files_ranges_are_its_own_even_within_one_process() {
    for (mount, file) in files() {
        let Some([mut one]) = peers(&file) else { return };
        one.open("other", &file, "O_RDWR");
        take(&mut one, "ofd(OFD_SETLK, fd, fcntl.F_WRLCK, 0, 10)[0]");
        refused(&mut one, "ofd(OFD_SETLK, other, fcntl.F_WRLCK, 9, 1)[0]");
        take(&mut one, "ofd(OFD_SETLK, other, fcntl.F_WRLCK, 10, 1)[0]");
        assert_eq!(one.ask("ofd(OFD_GETLK, other, fcntl.F_RDLCK, 0, 0)"), "(1, 0, 0, 10, -1)");
        one.run("copy = os.dup(fd)");
        one.run("os.close(fd)");
        refused(&mut one, "ofd(OFD_SETLK, other, fcntl.F_WRLCK, 0, 1)[0]");
        one.run("os.close(copy)");
        wait_for_held(&mount, 1);
        take(&mut one, "ofd(OFD_SETLK, other, fcntl.F_WRLCK, 0, 0)[0]");
    }
}

#[test]
fn ranges_are_split_and_merged_and_getlk_shows_them_with_their_holder() {
    for (mount, file) in files() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        let pid = one.pid();
        one.run("fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)");
        one.run("fcntl.lockf(fd, fcntl.LOCK_UN, 2, 4)");
        wait_for_held(&mount, 2);
        assert_eq!(two.ask("getlk(fd, fcntl.F_WRLCK)"), format!("(1, 0, 4, {pid})"));
        assert_eq!(two.ask("getlk(fd, fcntl.F_WRLCK, 4)"), format!("(1, 6, 4, {pid})"));
        assert_eq!(two.ask("getlk(fd, fcntl.F_WRLCK, 4, 2)[0] == fcntl.F_UNLCK"), "True");
        take(&mut two, "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 2, 4)");
        refused(&mut two, "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 6)");
        take(&mut two, "fcntl.lockf(fd, fcntl.LOCK_UN)");
        one.run("fcntl.lockf(fd, fcntl.LOCK_EX, 2, 4)");
        wait_for_held(&mount, 1);
        assert_eq!(two.ask("getlk(fd, fcntl.F_WRLCK)"), format!("(1, 0, 10, {pid})"));
        // Weakened in the middle.
        one.run("fcntl.lockf(fd, fcntl.LOCK_SH, 2, 4)");
        wait_for_held(&mount, 3);
        take(&mut two, "fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 2, 4)");
        assert_eq!(two.ask("getlk(fd, fcntl.F_WRLCK, 4, 2)"), format!("(0, 4, 2, {pid})"));
        assert_eq!(one.ask("getlk(fd, fcntl.F_WRLCK, 4, 2)"), format!("(0, 4, 2, {})", two.pid()));
        // To the end of the file, however long it becomes.
        one.run("fcntl.lockf(fd, fcntl.LOCK_UN)");
        one.run("fcntl.lockf(fd, fcntl.LOCK_EX, 0, 100)");
        assert_eq!(two.ask("getlk(fd, fcntl.F_RDLCK, 1 << 40, 1)"), format!("(1, 100, 0, {pid})"));
    }
}

#[test]
fn those_who_would_wait_for_each_other_are_told() {
    for (mount, file) in files() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        one.run("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)");
        two.run("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)");
        one.tell("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)");
        wait_for_waiting(&mount, 1);
        assert_eq!(two.ask("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)"), "EDEADLK");
        two.run("fcntl.lockf(fd, fcntl.LOCK_UN, 1, 1)");
        assert_eq!(one.answer(), "None");
    }
}

#[test]
fn a_descriptor_that_is_closed_locks_nothing() {
    for (mount, file) in files_of_all_paths() {
        let Some([mut holder, mut closes]) = peers(&file) else { return };
        closes.run("import threading");
        for kind in 0..3 {
            take(&mut holder, EXCLUSIVE_NOW[kind].1);
            // A thread waits; another closes the descriptor under it.
            let wait = EXCLUSIVE_WAITING[kind].1;
            closes.run(&format!("thread = threading.Thread(target=lambda: {wait})"));
            closes.run("thread.start()");
            wait_for_waiting(&mount, 1);
            closes.run("os.close(fd)");
            take(&mut holder, UNLOCK[kind].1);
            closes.run("thread.join()");
            wait_for_waiting(&mount, 0);
            wait_for_held(&mount, 0);
            assert_eq!(closes.ask(EXCLUSIVE_NOW[kind].1), "EBADF");
            assert_eq!(closes.ask(UNLOCK[kind].1), "EBADF");
            take(&mut holder, EXCLUSIVE_NOW[kind].1);
            take(&mut holder, UNLOCK[kind].1);
            closes.open("fd", &file, "O_RDWR");
        }
    }
}

#[test]
fn a_segments_posix_locks_go_when_their_process_closes_any_descriptor_of_it() {
    for (mount, file) in files_of_all_paths() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        one.run("fcntl.lockf(fd, fcntl.LOCK_EX)");
        one.run(&format!("os.close(os.open({file:?}, os.O_RDONLY))"));
        let posix = "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)";
        if file.parent().unwrap().ends_with("segments") {
            take(&mut two, posix);
            continue;
        }
        // Closing a mailbox costs no request of its own: there they go with the descriptor they were taken through.
        refused(&mut two, posix);
        one.run("os.close(fd)");
        wait_for_held(&mount, 0);
        take(&mut two, posix);
    }
}

#[test]
fn a_mailboxs_posix_locks_last_as_long_as_a_child_has_the_descriptor() {
    for (mount, file) in files() {
        let Some([mut one, mut two]) = peers(&file) else { return };
        one.run("fcntl.lockf(fd, fcntl.LOCK_EX)");
        // A child that lives until its pipe is closed, which is when both its parent and it have let go.
        one.run("os.set_inheritable(fd, True); ends = os.pipe(); started = os.pipe()");
        let child = "import os, sys; os.write(int(sys.argv[1]), b'x'); os.read(int(sys.argv[2]), 1)";
        one.run(&format!(
            "import subprocess; child = subprocess.Popen([sys.executable, '-I', '-c', {child:?}, str(started[1]), \
             str(ends[0])], pass_fds=(fd, started[1], ends[0]), stdin=subprocess.DEVNULL, \
             stdout=subprocess.DEVNULL)"
        ));
        assert_eq!(one.ask("os.read(started[0], 1)"), "b'x'");
        let posix = "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)";
        if file.parent().unwrap().ends_with("segments") {
            one.run("os.close(fd)");
            take(&mut two, posix);
        } else {
            one.run("os.close(fd)");
            refused(&mut two, posix);
            one.run("os.close(ends[1])");
            assert_eq!(one.ask("child.wait()"), "0");
            wait_for_held(&mount, 0);
            take(&mut two, posix);
        }
    }
}

#[test]
fn a_mailboxs_writers_and_readers_lock_the_same_file() {
    let Some(mount) = common::mount() else { return };
    let file = mount.make_mailbox("box", &[]);
    let modes = ["O_WRONLY", "O_RDONLY", "O_RDWR", "O_WRONLY"];
    let mut all = Vec::new();
    for mode in modes {
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &file, mode);
        all.push(peer);
    }
    for holder in 0..all.len() {
        for (_, call) in [EXCLUSIVE_NOW[0], ("posix write", "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)")]
        {
            if modes[holder] == "O_RDONLY" && call.contains("lockf") {
                assert_eq!(
                    all[holder].ask(call),
                    "EBADF",
                    "a write lock takes a descriptor open for writing"
                );
                continue;
            }
            take(&mut all[holder], call);
            for other in (0..all.len()).filter(|other| *other != holder) {
                let call = if modes[other] == "O_RDONLY" {
                    call.replace("lockf(fd, fcntl.LOCK_EX", "lockf(fd, fcntl.LOCK_SH")
                } else {
                    call.into()
                };
                refused(&mut all[other], &call);
            }
            take(&mut all[holder], UNLOCK[0].1);
            take(&mut all[holder], UNLOCK[1].1);
        }
    }
}

#[test]
fn a_mount_has_room_for_65536_locks_and_says_when_there_is_none() {
    let Some(mount) = common::mount() else { return };
    let file = mount.make_mailbox("box", &[]);
    let Some([mut one]) = peers(&file) else { return };
    for n in 0..31 {
        let path = mount.make_mailbox(&format!("more.{n}"), &[]);
        one.run(&format!("more{n} = os.open({:?}, os.O_RDWR)", path.to_str().unwrap()));
        one.run(&format!("[fcntl.lockf(more{n}, fcntl.LOCK_EX, 1, 2 * n) for n in range(2048)] and None"));
    }
    one.run("[fcntl.lockf(fd, fcntl.LOCK_EX, 1, 2 * n) for n in range(2048)] and None");
    wait_for_held(&mount, 65_536);
    assert_eq!(one.ask("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1 << 20)"), "ENOLCK");
    assert_eq!(one.ask("fcntl.flock(fd, fcntl.LOCK_EX)"), "ENOLCK");
    one.run("fcntl.lockf(fd, fcntl.LOCK_UN, 1, 0)");
    take(&mut one, "fcntl.flock(fd, fcntl.LOCK_EX)");
    one.exit();
    wait_for_held(&mount, 0);
}

#[test]
fn a_process_has_room_for_3000_ranges_of_a_file() {
    let Some(mount) = common::mount() else { return };
    let Some([mut one, mut two]) = peers(&mount.make_mailbox("box", &[])) else { return };
    one.run("[fcntl.lockf(fd, fcntl.LOCK_SH, 1, 2 * n) for n in range(3000)] and None");
    assert_eq!(one.ask("fcntl.lockf(fd, fcntl.LOCK_SH, 1, 1 << 20)"), "ENOLCK");
    take(&mut two, "fcntl.lockf(fd, fcntl.LOCK_SH, 1, 1 << 20)");
    wait_for_held(&mount, 3001);
    one.run("fcntl.lockf(fd, fcntl.LOCK_SH)");
    wait_for_held(&mount, 2);
}
