//! Requests over `io_uring`: what can go wrong there alone. That all else holds on it too, the other suites show.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use common::{Mount, reap, wait_for};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// `None`, after saying so, where the kernel does not offer it, or somebody asked for the other transport.
fn mount(options: &[&str]) -> Option<Mount> {
    if common::transport() != "uring" {
        eprintln!("SKIP: FUSE over io_uring is not offered, or not wanted");
        return None;
    }
    let mount = common::mount_with(&[&["--transport=uring"], options].concat())?;
    assert!(fs::read_to_string(mount.path("control/status")).unwrap().contains("\ntransport uring\n"));
    Some(mount)
}

/// The first CPU that this process may run on.
fn a_cpu() -> usize {
    let all = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap()
}

/// Keeps the calling thread on one CPU, so that all its requests come to one queue.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).unwrap();
}

/// Threads on one CPU, each of which opens the mailbox and reads a message, all at once.
fn readers(path: &Path, count: usize, cpu: usize) -> Vec<JoinHandle<Vec<u8>>> {
    let start = Arc::new(Barrier::new(count));
    let reader = || {
        let (path, start) = (path.to_owned(), Arc::clone(&start));
        let read = move || {
            stay_on(cpu);
            let mut file = File::open(path).unwrap();
            start.wait();
            let mut message = Vec::new();
            file.read_to_end(&mut message).unwrap();
            message
        };
        std::thread::Builder::new().stack_size(128 << 10).spawn(read).unwrap()
    };
    (0..count).map(|_| reader()).collect()
}

/// What the daemon warns of.
fn log() -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let option = format!("--log={}", file.path().display());
    (file, option)
}

/// Far more callers than there are free entries at any time come at the same moment, and all of them wait. Nobody is left
/// in the kernel, and each gets one message.
#[test]
fn callers_who_come_at_once_are_all_taken_in() {
    const ROUNDS: u32 = 5;
    const COUNT: u32 = 400;
    let (log, option) = log();
    let Some(mount) = mount(&[&option]) else { return };
    let path = mount.make_mailbox("box", &[]);
    let cpu = a_cpu();
    for round in 0..ROUNDS {
        let readers = readers(&path, COUNT as usize, cpu);
        mount.wait_for_figure("box", "waiting_readers", u64::from(COUNT));
        let sender = std::thread::spawn({
            let path = path.clone();
            move || {
                stay_on(cpu);
                let mut file = OpenOptions::new().write(true).open(path).unwrap();
                (0..COUNT).for_each(|n| file.write_all(&n.to_ne_bytes()).unwrap());
            }
        });
        wait_for("each reader to have its message", || readers.iter().all(JoinHandle::is_finished));
        sender.join().unwrap();
        let got: BTreeSet<Vec<u8>> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert_eq!(got.len(), COUNT as usize, "round {round}");
    }
    assert_eq!(mount.figure("status", "messages"), 0);
    assert_eq!(fs::read_to_string(log.path()).unwrap(), "");
}

/// A queue gets its entries as callers begin to wait. Whoever asks for something else meanwhile is never left lying beside
/// free ones.
#[test]
fn who_asks_while_hundreds_begin_to_wait_is_answered() {
    const COUNT: u64 = 400;
    let cpu = a_cpu();
    for _ in 0..10 {
        // A queue keeps the entries that it got: each round wants its own.
        let Some(mount) = mount(&[]) else { return };
        let path = mount.make_mailbox("box", &[]);
        let asks = {
            let status = mount.path("control/mailboxes/box/status");
            let all = format!("waiting_readers {COUNT}\n");
            let ask = move || {
                stay_on(cpu);
                while !fs::read_to_string(&status).unwrap().contains(&all) {}
            };
            std::thread::spawn(ask)
        };
        let waiting = readers(&path, COUNT as usize, cpu);
        wait_for("all to wait, and the one who asks to see it", || asks.is_finished());
        asks.join().unwrap();
        let mut sender = OpenOptions::new().write(true).open(path).unwrap();
        (0..COUNT).for_each(|n| sender.write_all(&n.to_ne_bytes()).unwrap());
        wait_for("each reader to have its message", || waiting.iter().all(JoinHandle::is_finished));
        for reader in waiting {
            assert_eq!(reader.join().unwrap().len(), 8);
        }
    }
}

/// While thousands wait on a CPU, it serves everybody else: whatever is asked there is answered, and those who wait can
/// still be interrupted.
#[test]
fn thousands_who_wait_on_a_cpu_do_not_stop_it() {
    const COUNT: usize = 3_000;
    let (log, option) = log();
    let Some(mount) = mount(&[&option]) else { return };
    let path = mount.make_mailbox("box", &[]);
    let other = mount.make_mailbox("other", &[]);
    let cpu = a_cpu();
    let waiting = readers(&path, COUNT, cpu);
    mount.wait_for_figure("box", "waiting_readers", COUNT as u64);
    let mut killed = cat_on(cpu, &path);
    mount.wait_for_figure("box", "waiting_readers", COUNT as u64 + 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(cpu);
            for _ in 0..1_000 {
                fs::write(&other, "alive").unwrap();
                assert_eq!(fs::read(&other).unwrap(), b"alive");
                assert!(fs::metadata(&path).unwrap().is_file());
            }
        });
    });
    kill_process(Pid::from_child(&killed), Signal::KILL).unwrap();
    reap(&mut killed);
    mount.wait_for_figure("box", "waiting_readers", COUNT as u64);
    fs::remove_file(&path).unwrap();
    wait_for("all to be told that it is gone", || waiting.iter().all(JoinHandle::is_finished));
    assert!(waiting.into_iter().all(|reader| reader.join().is_err()), "EIDRM, upon which they panic");
    assert_eq!(fs::read_to_string(log.path()).unwrap(), "");
}

fn cat_on(cpu: usize, path: &Path) -> Child {
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string(), "cat"]).arg(path).stdout(Stdio::null()).spawn().unwrap()
}

/// The signal that the kernel does not tell of: it comes while the request is on its way to the daemon.
#[test]
fn readers_killed_as_they_begin_to_wait_are_gone_at_once() {
    const COUNT: u64 = 1_500;
    let Some(mount) = mount(&[]) else { return };
    let path = mount.make_mailbox("box", &[]);
    for n in 0..COUNT {
        let mut reader = Command::new("cat").arg(&path).stdout(Stdio::null()).spawn().unwrap();
        // From before it has opened the mailbox until it has waited for a while.
        std::thread::sleep(std::time::Duration::from_micros(n * 977 % 1_500));
        kill_process(Pid::from_child(&reader), Signal::KILL).unwrap();
        reap(&mut reader);
    }
    mount.wait_for_figure("box", "waiting_readers", 0);
    fs::write(&path, "for nobody of them").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"for nobody of them");
}

/// Where the daemon may have no more address space, calls that would wait fail, as many as have no entry to wait in. Nothing
/// else does: two entries always stay free.
#[test]
fn without_room_for_entries_a_call_that_would_wait_fails() {
    const COUNT: usize = 100;
    const MARGIN: u64 = 24 << 20;
    let (log, option) = log();
    let Some(mount) = mount(&[&option]) else { return };
    let path = mount.make_mailbox("box", &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size = size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    let limit = Rlimit { current: Some(size + MARGIN), maximum: Some(size + MARGIN) };
    prlimit(Pid::from_raw(mount.pid() as i32), Resource::As, limit).unwrap();
    let cpu = a_cpu();
    let calls: Vec<_> = (0..COUNT)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || {
                stay_on(cpu);
                fs::read(path).map_err(|error| error.kind())
            })
        })
        .collect();
    let failed = || calls.iter().filter(|call| call.is_finished()).count();
    wait_for("each to wait or to fail", || {
        mount.figure("mailboxes/box/status", "waiting_readers") as usize + failed() == COUNT
    });
    let waiting = COUNT - failed();
    assert!((16..=32).contains(&waiting), "{waiting} wait");
    assert!(
        fs::read_to_string(log.path()).unwrap().contains(&format!("at most 32 calls can wait on CPU {cpu}"))
    );
    for _ in 0..waiting {
        fs::write(&path, "for you").unwrap();
    }
    wait_for("all to end", || failed() == COUNT);
    let ends: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert_eq!(ends.iter().filter(|end| end.as_deref() == Ok(b"for you")).count(), waiting);
    assert!(ends.iter().all(|end| matches!(end, Ok(_) | Err(ErrorKind::OutOfMemory))), "{ends:?}");
}

/// A long write that waits keeps no second copy of itself in its entry.
#[test]
fn a_long_message_that_waits_for_room_is_kept_once() {
    const COUNT: u64 = 32;
    const LENGTH: usize = 1_000_000;
    let Some(mount) = mount(&["--memory=1G", "--maxbytes=max"]) else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    fs::write(&path, "full").unwrap();
    let before = mount.memory();
    let writers: Vec<_> = (0..COUNT)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || fs::write(path, vec![7; LENGTH]).unwrap())
        })
        .collect();
    mount.wait_for_figure("box", "waiting_writers", COUNT);
    // The entries' memory goes when they have waited for a moment.
    wait_for("memory for one copy of each", || {
        mount.memory().saturating_sub(before) / COUNT < LENGTH as u64 * 3 / 2
    });
    assert_eq!(fs::read(&path).unwrap(), b"full");
    for _ in 0..COUNT {
        assert_eq!(fs::read(&path).unwrap(), vec![7; LENGTH]);
    }
    for writer in writers {
        writer.join().unwrap();
    }
}

/// As the kernel sees a machine whose CPUs come and go. Changes the machine for a moment, and so wants to be asked for.
#[test]
fn a_cpu_that_goes_and_comes_back_keeps_nobody_waiting() {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
    if std::env::var_os("IPCFS_TEST_HOTPLUG").is_none() || !Path::new(SWITCH).exists() {
        eprintln!("SKIP: IPCFS_TEST_HOTPLUG is not set, or the second CPU cannot be switched off");
        return;
    }
    let Some(mount) = mount(&[]) else { return };
    let (path, other) = (mount.make_mailbox("box", &[]), mount.make_mailbox("other", &[]));
    let waiting = readers(&path, 3, 1);
    mount.wait_for_figure("box", "waiting_readers", 3);
    for (online, message) in [("0", "one"), ("1", "two"), ("0", "three")] {
        fs::write(SWITCH, online).unwrap();
        for _ in 0..2_000 {
            fs::write(&other, "alive").unwrap();
            assert_eq!(fs::read(&other).unwrap(), b"alive");
        }
        fs::write(&path, message).unwrap();
    }
    wait_for("all readers to have a message", || waiting.iter().all(JoinHandle::is_finished));
    fs::write(SWITCH, "1").unwrap();
    let got: BTreeSet<Vec<u8>> = waiting.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(got.len(), 3);
}

/// The scheduling policies of a process's threads whose name begins with `name` (`proc_pid_stat(5)`; 5 is `SCHED_IDLE`).
fn policies(pid: u32, name: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let ours = stats.filter(|stat| stat.contains(&format!("({name}")));
    ours.map(|stat| stat.rsplit(") ").next().unwrap().split(' ').nth(38).unwrap().parse().unwrap()).collect()
}

#[test]
fn threads_of_rings_keep_callers_on_their_cpu_and_status_says_how() {
    let Some(mount) = mount(&[]) else { return };
    let path = mount.make_mailbox("box", &[]);
    // The threads decide as they serve.
    for _ in 0..100 {
        fs::write(&path, "x").unwrap();
        fs::read(&path).unwrap();
    }
    let status = fs::read_to_string(mount.path("control/status")).unwrap();
    let how = status.lines().find_map(|line| line.strip_prefix("scheduling ")).unwrap().to_owned();
    let all = policies(mount.pid(), "ring-");
    let idle = all.iter().filter(|policy| **policy == 5).count();
    match how.split_once(": ").unwrap() {
        ("idle", "own session" | "own cgroup") => assert_eq!(idle, all.len(), "{how}: {all:?}"),
        ("normal", why) => assert!(idle == 0 && !why.is_empty(), "{how}: {all:?}"),
        (begin, _) => assert!(matches!(begin, "idle" | "mixed"), "{how}: {all:?}"),
    }
}

/// A request that comes while the rings are still being registered is answered like any other.
#[test]
fn a_call_that_is_made_while_the_mount_starts_is_answered() {
    const MOUNTS: u32 = 40;
    if mount(&[]).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let status = dir.path().join("control/status");
    let cpus = sched_getaffinity(None).unwrap();
    for _ in 0..MOUNTS {
        let callers: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).collect();
        let callers = callers.into_iter().map(|cpu| {
            let status = status.clone();
            std::thread::spawn(move || {
                stay_on(cpu);
                while fs::metadata(&status).is_err() {}
            })
        });
        let callers: Vec<_> = callers.collect();
        let mut command = common::ipcfs();
        command.args(["mount", "--foreground", "--transport=uring"]).arg(dir.path());
        let mut daemon = command.stdout(Stdio::null()).spawn().unwrap();
        wait_for("all callers to have an answer", || callers.iter().all(JoinHandle::is_finished));
        kill_process(Pid::from_child(&daemon), Signal::INT).unwrap();
        assert_eq!(reap(&mut daemon).code(), Some(0));
    }
}
