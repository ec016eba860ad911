//! Two ordinary users make random system calls on the whole tree, and many of their processes are killed at random
//! moments. Afterwards every process has ended, the mount answers, root can remove all that they made, and the daemon
//! holds for them as much as before: nothing.
//!
//! `FUZZ_SEED` begins with another seed, and `FUZZ_MINUTES` goes on with the next ones for that long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // helpers of tests

mod common;

#[path = "fuzz/chance.rs"]
mod chance;
#[path = "fuzz/stranger.rs"]
mod stranger;
#[path = "mount/tools.rs"]
mod tools;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, waitpgid,
};

use chance::Chance;
use common::{Mount, OTHER, PATIENCE, USER, wait_for};
use stranger::Stranger;
use tools::{again, role};

/// Lives in a round, and how many at once.
const LIVES: u64 = 60;
const AT_ONCE: usize = 4;
/// System calls that a life makes, unless it is killed before.
const CALLS: u64 = 4_000;
/// When a life is killed, at the latest: most have not made all of their calls by then.
const LONGEST: u64 = 600;
/// Nodes that remain: the root, and the folders and files of `control/` that are read here.
const NODES: u64 = 9;

const TEST: &str = "plays_a_stranger";

#[test]
fn plays_a_stranger() {
    let Some(seed) = role() else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    Stranger::new(seed.parse().unwrap()).live(CALLS);
}

/// A stranger with all the processes that it starts: a process group.
struct Life {
    group: Pid,
    until: Instant,
}

impl Life {
    #[allow(clippy::zombie_processes)] // its whole group is waited for
    fn start(mount: &Mount, seed: u64, chance: &mut Chance) -> Life {
        let user = if seed.is_multiple_of(2) { USER } else { OTHER };
        let mut command = again(TEST, &seed.to_string());
        let child = command.uid(user).gid(user).process_group(0).current_dir(mount.dir()).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(1 + chance.below(LONGEST));
        Life { group: Pid::from_child(&child), until }
    }

    /// Reaps what has ended. This process inherits orphans, so that none of the group is left if it has no child in it.
    fn has_ended(&self) -> bool {
        loop {
            match waitpgid(self.group, WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(error) => return error == Errno::CHILD,
            }
        }
    }

    fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        wait_for(&format!("the processes of group {:?} to end", self.group), || self.has_ended());
    }
}

/// A number that an environment variable has.
fn number(variable: &str) -> u64 {
    std::env::var(variable).map_or(0, |number| number.parse().expect(variable))
}

/// What the daemon holds, of all kinds.
fn held(mount: &Mount) -> Vec<(&'static str, u64)> {
    let keys = [
        "folders",
        "mailboxes",
        "segments",
        "topics",
        "topic_readers",
        "topic_backlog",
        "messages",
        "bytes",
        "waiting_readers",
        "waiting_writers",
        "leased",
        "requests",
        "serving",
        "memory_used",
        "segment_used",
        "locks",
        "waiting_locks",
    ];
    keys.map(|key| (key, mount.figure("status", key))).into_iter().filter(|(_, held)| *held > 0).collect()
}

/// Lines of `control/users/<uid>` that say that something is held for that user.
fn charged(mount: &Mount, user: u32) -> Vec<String> {
    let text = fs::read_to_string(mount.path(&format!("control/users/{user}"))).unwrap_or_default();
    let holds = |line: &&str| line.split_once("_used ").is_some_and(|(_, held)| held != "0");
    text.lines().filter(holds).map(String::from).collect()
}

/// What the daemon has open, files of its threads in /proc aside, which it opens when it first needs them.
fn descriptors(mount: &Mount) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap();
    let targets = all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| !target.starts_with("/proc")).collect()
}

/// Has the kernel forget names and inodes that nobody uses: cached ones keep nodes of the daemon alive, with their memory.
fn drop_caches() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "2").is_ok()
}

/// Waits until nothing is held for anybody: files of a killed process are closed a little later.
fn settle(mount: &Mount, before: &[PathBuf]) {
    let start = Instant::now();
    loop {
        drop_caches();
        let held = held(mount);
        let charged = [USER, OTHER].map(|user| charged(mount, user));
        let (descriptors, nodes) = (descriptors(mount), mount.figure("status", "nodes"));
        let idle = held.is_empty() && charged.iter().all(Vec::is_empty);
        if idle && descriptors.len() <= before.len() && nodes <= NODES {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "held: {held:?}; charged: {charged:?}; {nodes} nodes; descriptors: {descriptors:?}, before: {before:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn remove_all(mount: &Mount) {
    for kind in ["mailboxes", "topics", "segments"] {
        for entry in fs::read_dir(mount.path(kind)).unwrap() {
            let (path, is_dir) =
                entry.map(|entry| (entry.path(), entry.file_type().unwrap().is_dir())).unwrap();
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            // A segment whose lifetime is last-close may go by itself meanwhile.
            let gone = removed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
            assert!(removed.is_ok() || gone, "{}: {removed:?}", path.display());
        }
    }
}

fn round(seed: u64, segments: &str) -> Option<()> {
    eprintln!("seed {seed}, segments {segments}");
    let options = ["--memory=16M", "--segment-memory=64M", "--max-files=500", "--allow-other"];
    let mount = common::mount_with(&[options.as_slice(), &[segments]].concat())?;
    fs::set_permissions(mount.dir().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(held(&mount), []);
    let before = descriptors(&mount);

    let mut chance = Chance::new(seed);
    let mut seeds = (0..LIVES).map(|life| seed.wrapping_mul(LIVES).wrapping_add(life));
    let mut lives: Vec<Life> = Vec::new();
    loop {
        let wanted = AT_ONCE - lives.len();
        lives.extend(seeds.by_ref().take(wanted).map(|seed| Life::start(&mount, seed, &mut chance)));
        if lives.is_empty() {
            break;
        }
        lives.retain(|life| {
            if life.until <= Instant::now() {
                life.kill();
            } else if chance.one_in(50) {
                // A stopped process leaves its call, as by a signal, and comes back.
                let _ = kill_process_group(life.group, Signal::STOP);
                let _ = kill_process_group(life.group, Signal::CONT);
            }
            !life.has_ended()
        });
        std::thread::sleep(Duration::from_millis(2));
    }
    let done = ["sent", "received"].map(|key| mount.figure("status", key));
    assert!(done.iter().all(|count| *count > 0), "nothing was done: {done:?}");

    remove_all(&mount);
    fs::write(mount.mailbox("box"), "message").unwrap();
    assert_eq!(fs::read(mount.mailbox("box")).unwrap(), b"message");
    fs::remove_file(mount.mailbox("box")).unwrap();
    settle(&mount, &before);
    Some(())
}

#[test]
fn two_users_who_call_at_random_leave_nothing_behind() {
    if !drop_caches() {
        eprintln!("SKIP: the kernel's caches cannot be dropped here");
        return;
    }
    set_child_subreaper(Some(getpid())).unwrap();
    let (start, minutes) = (Instant::now(), number("FUZZ_MINUTES"));
    for seed in number("FUZZ_SEED").. {
        for segments in ["--segments=passthrough", "--segments=cached"] {
            if round(seed, segments).is_none() {
                return;
            }
        }
        if start.elapsed() >= Duration::from_secs(60 * minutes) {
            return;
        }
    }
}
