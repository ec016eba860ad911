//! What the daemon takes in memory and threads, for each thing it keeps.
//!
//! Measured on so many of each that pages and allocators' hoards vanish in the average. The figures are printed
//! (`cargo test --test footprint -- --nocapture`). The tests take turns: they share one machine's memory and time.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::Mount;
use common::peer::Peer;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mknodat, openat, unlinkat};
use rustix::process::Signal;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number of the daemon's `/proc/PID/status`.
fn of_daemon(mount: &Mount, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What every thread touches once is no part of what things cost. Small things only: a heap that was large once has
/// room that would hide their cost.
fn warm_up(mount: &Mount) {
    let path = mount.make_mailbox("warm", &[]);
    for _ in 0..200 {
        fs::write(&path, "warm").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"warm");
    }
    fs::remove_file(&path).unwrap();
}

/// What was taken up to `full` and is free again serves for the same once more.
fn serves_again(mount: &Mount, before: u64, full: u64, again: impl FnOnce()) {
    println!("afterwards: {} of {} bytes are kept", mount.memory().saturating_sub(before), full - before);
    again();
    let more = mount.memory().saturating_sub(full);
    println!("the same again: {more} bytes more");
    assert!(more < (full - before) / 10 + (1 << 18));
}

fn each(what: &str, before: u64, after: u64, count: u64) -> u64 {
    let each = after.saturating_sub(before) / count;
    println!("{what}: {each} bytes each ({count}: {before} -> {after})");
    each
}

/// As many files as `numbers` in a folder, made without being opened.
fn make(dir: &Path, numbers: std::ops::Range<u32>) {
    let dir = rustix::fs::open(dir, OFlags::PATH, Mode::empty()).unwrap();
    for n in numbers {
        mknodat(&dir, format!("name{n:05}"), FileType::RegularFile, Mode::from(0o600), 0).unwrap();
    }
}

fn remove(dir: &Path, numbers: std::ops::Range<u32>) {
    let dir = rustix::fs::open(dir, OFlags::PATH, Mode::empty()).unwrap();
    for n in numbers {
        unlinkat(&dir, format!("name{n:05}"), AtFlags::empty()).unwrap();
    }
}

#[test]
fn an_idle_mailbox_takes_less_than_2_kib() {
    const COUNT: u32 = 20_000;
    let _turn = turn();
    let Some(mount) = common::mount() else { return };
    warm_up(&mount);
    let before = mount.memory();
    make(&mount.path("mailboxes"), 0..COUNT);
    let made = mount.memory();
    assert!(each("idle mailbox", before, made, u64::from(COUNT)) <= 2048);
    // One that was used has its histogram of waiting times, too.
    let dir = rustix::fs::open(mount.path("mailboxes"), OFlags::PATH, Mode::empty()).unwrap();
    for n in 0..COUNT {
        let file = openat(&dir, format!("name{n:05}"), OFlags::RDWR, Mode::empty()).unwrap();
        assert_eq!(rustix::io::write(&file, b"message"), Ok(7));
        assert_eq!(rustix::io::read(&file, &mut [0; 16][..]), Ok(7));
    }
    let used = mount.memory();
    assert!(each("used mailbox", before, used, u64::from(COUNT)) <= 2048);
    remove(&mount.path("mailboxes"), 0..COUNT);
    // The kernel tells later that it has forgotten them.
    common::wait_for("the kernel to forget the mailboxes", || mount.figure("status", "nodes") < 1000);
    serves_again(&mount, before, used, || make(&mount.path("mailboxes"), 0..COUNT));
}

#[test]
fn an_idle_segment_takes_less_than_2_kib_of_the_daemon() {
    const COUNT: u32 = 5_000;
    let _turn = turn();
    let Some(mount) = common::mount() else { return };
    warm_up(&mount);
    let before = mount.memory();
    make(&mount.path("segments"), 0..COUNT);
    assert!(each("idle segment", before, mount.memory(), u64::from(COUNT)) <= 2048);
    assert_eq!(mount.figure("status", "segment_used"), 0);
}

#[test]
fn a_short_message_takes_less_than_160_bytes_beside_its_own() {
    const COUNT: u64 = 200_000;
    let _turn = turn();
    let Some(mount) = common::mount_with(&["--maxmsg=max", "--maxbytes=max", "--memory=1G"]) else { return };
    warm_up(&mount);
    let path = mount.make_mailbox("box", &[]);
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let before = mount.memory();
    let fill = |file: &mut File| (0..COUNT).for_each(|n| file.write_all(&n.to_ne_bytes()).unwrap());
    fill(&mut file);
    let full = mount.memory();
    assert!(each("waiting message of 8 bytes", before, full, COUNT) <= 160);
    let charged = mount.figure("status", "memory_used");
    println!("charged to the mount's memory: {} bytes each", charged / COUNT);
    assert!(charged >= full.saturating_sub(before), "no less is charged than is taken: {charged}");
    for n in 0..COUNT {
        let mut body = [0; 8];
        assert_eq!(std::io::Read::read(&mut file, &mut body).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(body), n);
    }
    mount.wait_for_free_memory();
    serves_again(&mount, before, full, || fill(&mut file));
}

#[test]
fn a_delayed_message_takes_no_more_than_it_is_charged() {
    const COUNT: u64 = 100_000;
    let _turn = turn();
    let Some(mount) = common::mount_with(&["--maxmsg=max", "--maxbytes=max", "--memory=1G"]) else { return };
    warm_up(&mount);
    mount.make_mailbox("box", &[("ttl", "2h")]);
    let door = mount.path("control/mailboxes/box/delay/1h");
    let mut file = OpenOptions::new().write(true).open(door).unwrap();
    let before = mount.memory();
    (0..COUNT).for_each(|n| file.write_all(&n.to_ne_bytes()).unwrap());
    let full = mount.memory();
    let charged = mount.figure("status", "memory_used") / COUNT;
    println!("charged to the mount's memory: {charged} bytes each");
    assert!(each("delayed message of 8 bytes", before, full, COUNT) <= charged);
}

#[test]
fn a_drained_mailbox_gives_its_memory_back_to_the_system() {
    const MIB: u64 = 1 << 20;
    let _turn = turn();
    let Some(mount) = common::mount_with(&["--maxmsg=max", "--maxbytes=max", "--memory=1G"]) else { return };
    warm_up(&mount);
    let path = mount.make_mailbox("box", &[]);
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let before = mount.memory();
    for size in [1000, 64 << 10, 1_000_000] {
        let count = 48 * MIB / size as u64;
        (0..count).for_each(|_| file.write_all(&vec![1; size]).unwrap());
        let full = mount.memory().saturating_sub(before);
        assert!(full >= 45 * MIB, "{full}");
        let mut buffer = vec![0; size];
        (0..count).for_each(|_| assert_eq!(std::io::Read::read(&mut file, &mut buffer).unwrap(), size));
        let kept = mount.memory().saturating_sub(before);
        println!("{count} messages of {size} bytes: {full} bytes, {kept} afterwards");
        assert!(kept <= 24 * MIB, "{kept} of {full} bytes are kept");
    }
}

#[test]
fn a_blocked_reader_takes_less_than_4_kib_and_no_thread() {
    const COUNT: u64 = 1_000;
    let _turn = turn();
    let Some(mount) = common::mount() else { return };
    let Some(mut peer) = Peer::start() else { return };
    warm_up(&mount);
    let path = mount.make_mailbox("box", &[]);
    let (threads, before) = (of_daemon(&mount, "Threads"), mount.memory());
    peer.run("import threading; threading.stack_size(65536)");
    let block = format!("def block():\n  fd = os.open({path:?}, os.O_RDONLY)\n  os.read(fd, 10)");
    peer.run(&format!("exec({block:?})"));
    peer.run(&format!("all = [threading.Thread(target=block, daemon=True) for n in range({COUNT})]"));
    peer.run("[thread.start() for thread in all] and None");
    mount.wait_for_figure("box", "waiting_readers", COUNT);
    // What a request brought with it goes when it has waited for a while.
    common::wait_for("little memory", || (mount.memory() - before) / COUNT <= 4096);
    each("blocked reader", before, mount.memory(), COUNT);
    assert_eq!(of_daemon(&mount, "Threads"), threads);
    // The mount is as alive as ever, and they all go at once.
    let other = mount.make_mailbox("other", &[]);
    fs::write(&other, "alive").unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"alive");
    peer.signal(Signal::KILL);
    peer.wait();
    mount.wait_for_figure("box", "waiting_readers", 0);
}

#[test]
fn making_and_removing_for_ever_takes_no_more_memory() {
    const STEPS: u32 = 20_000;
    let _turn = turn();
    let Some(mount) = common::mount() else { return };
    warm_up(&mount);
    for kind in ["mailboxes", "segments"] {
        let dir = rustix::fs::open(mount.path(kind), OFlags::PATH, Mode::empty()).unwrap();
        let go = |steps: u32| {
            for n in 0..steps {
                let name = format!("name{}", n % 7);
                mknodat(&dir, &name, FileType::RegularFile, Mode::from(0o600), 0).unwrap();
                unlinkat(&dir, &name, AtFlags::empty()).unwrap();
            }
        };
        go(STEPS / 10);
        let before = mount.memory();
        go(STEPS);
        let grown = mount.memory().saturating_sub(before);
        println!("{STEPS} times made and removed in {kind}: {grown} bytes more");
        // Two bytes a step would be a leak; what is here is the allocator's.
        assert!(grown < u64::from(STEPS) * 2 + (1 << 18), "{kind}: {grown}");
    }
}

#[test]
fn opening_and_closing_for_ever_takes_no_more_memory() {
    const STEPS: u32 = 20_000;
    let _turn = turn();
    let Some(mount) = common::mount() else { return };
    warm_up(&mount);
    for path in [mount.make_mailbox("box", &[]), mount.segment("segment")] {
        drop(File::create(&path).unwrap());
        let go = |steps: u32| {
            for _ in 0..steps {
                let file = rustix::fs::open(&path, OFlags::RDWR, Mode::empty()).unwrap();
                rustix::io::write(&file, b"x").unwrap();
                rustix::io::read(&file, &mut [0; 4][..]).unwrap();
            }
        };
        go(STEPS / 10);
        let before = mount.memory();
        go(STEPS);
        let grown = mount.memory().saturating_sub(before);
        println!("{STEPS} times opened and closed, {}: {grown} bytes more", path.display());
        assert!(grown < u64::from(STEPS) * 2 + (1 << 18), "{grown}");
    }
}

#[test]
fn waits_and_locks_that_ended_leave_nothing_behind() {
    const STEPS: u32 = 10_000;
    let _turn = turn();
    let Some(mount) = common::mount() else { return };
    let Some(mut peer) = Peer::start() else { return };
    warm_up(&mount);
    let path = mount.make_mailbox("box", &[]);
    peer.open("fd", &path, "O_RDWR");
    // Waits ended by a timer, as a program does that waits with a limit, again and again in case it fires before the
    // read has begun; and locks taken and given back.
    peer.ask("signal.signal(signal.SIGALRM, signalled)");
    let wait = "def wait(steps):\n  for n in range(steps):\n    try: signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.02); os.read(fd, 10)\n    except Signalled: pass\n  signal.setitimer(signal.ITIMER_REAL, 0)";
    peer.run(&format!("exec({wait:?})"));
    let lock = "def lock(steps):\n  for n in range(steps):\n    fcntl.lockf(fd, fcntl.LOCK_EX, 1, n % 100); fcntl.lockf(fd, fcntl.LOCK_UN, 1, n % 100); fcntl.flock(fd, fcntl.LOCK_EX); fcntl.flock(fd, fcntl.LOCK_UN)";
    peer.run(&format!("exec({lock:?})"));
    for (what, steps) in [("wait", STEPS / 10), ("lock", STEPS)] {
        peer.run(&format!("{what}({})", steps / 10));
        let before = mount.memory();
        peer.run(&format!("{what}({steps})"));
        let grown = mount.memory().saturating_sub(before);
        println!("{steps} times {what}: {grown} bytes more");
        assert!(grown < u64::from(steps) * 2 + (1 << 18), "{what}: {grown}");
    }
    assert_eq!(mount.figure("mailboxes/box/status", "waiting_readers"), 0);
    assert_eq!(mount.figure("status", "locks"), 0);
}
