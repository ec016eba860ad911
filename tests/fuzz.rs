//! Two ordinary users make random system calls on the whole tree, and many of their processes are killed at random
//! moments. In some rounds there is a store, and in some, other processes take the mount over meanwhile. Afterwards every
//! process has ended, the mount answers, root can remove all that they made, and the daemon holds for them as much as
//! before: nothing.
//!
//! `FUZZ_SEED` begins with another seed, and `FUZZ_MINUTES` goes on with the next ones for that long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // helpers of tests

mod common;

#[path = "fuzz/chance.rs"]
mod chance;
#[path = "fuzz/held.rs"]
mod held;
#[path = "cli/place.rs"]
mod place;
#[path = "fuzz/stranger.rs"]
mod stranger;
#[path = "mount/tools.rs"]
mod tools;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, waitpgid,
};

use chance::Chance;
use common::{OTHER, USER, wait_for};
use held::{Held, drop_caches};
use place::{Place, processes_with};
use stranger::{INTERRUPT, Stranger};
use tools::{again, role};

/// Lives in a round, and how many at once.
const LIVES: u64 = 60;
const AT_ONCE: usize = 4;
/// System calls that a life makes, unless it is killed before.
const CALLS: u64 = 4_000;
/// When a life is killed, at the latest: most have not made all of their calls by then.
const LONGEST: u64 = 600;
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
    fn start(place: &Place, seed: u64, chance: &mut Chance) -> Life {
        let user = if seed.is_multiple_of(2) { USER } else { OTHER };
        let mut command = again(TEST, &seed.to_string());
        let child = command.uid(user).gid(user).process_group(0).current_dir(place.dir()).spawn().unwrap();
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

    /// Ends the call in which the stranger waits, once it survives that.
    fn interrupt(&self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.group.as_raw_nonzero()));
        let caught = status.as_ref().ok().and_then(|status| status.split_once("\nSigCgt:\t")?.1.get(..16));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
        if caught & 1 << (INTERRUPT.as_raw() - 1) != 0 {
            let _ = kill_process(self.group, INTERRUPT);
        }
    }

    fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        wait_for(&format!("the processes of group {:?} to end", self.group), || self.has_ended());
    }
}

/// Kills the daemon of a round that does not end: a call into one that does not answer would last for ever. What is returned
/// is dropped at the end.
fn watch(place: &Place) -> Sender<()> {
    let (alive, ended) = mpsc::channel();
    let lifetime = Duration::from_secs(common::lifetime());
    let dir = place.name().to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(lifetime) == Err(RecvTimeoutError::Timeout) {
            common::say(&format!("{dir} does not come to its end: killed"));
            for pid in processes_with(&dir) {
                let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
            }
        }
    });
    alive
}

/// A number that an environment variable has.
fn number(variable: &str) -> u64 {
    std::env::var(variable).map_or(0, |number| number.parse().expect(variable))
}

fn remove_all(place: &Place) {
    for kind in ["mailboxes", "topics", "segments"] {
        for entry in fs::read_dir(place.path(kind)).unwrap() {
            let (path, is_dir) =
                entry.map(|entry| (entry.path(), entry.file_type().unwrap().is_dir())).unwrap();
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            // A segment whose lifetime is last-close may go by itself meanwhile.
            let gone = removed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
            assert!(removed.is_ok() || gone, "{}: {removed:?}", path.display());
        }
    }
}

/// What a round is like, beside its random numbers.
#[derive(Debug)]
struct Round {
    seed: u64,
    segments: &'static str,
    store: bool,
    upgrades: bool,
}

/// The rounds of a seed. Four seeds have all that there are.
fn rounds(seed: u64) -> [Round; 2] {
    let round = |number: u64, segments| Round {
        seed,
        segments,
        store: (seed + number).is_multiple_of(2),
        upgrades: !(seed / 2 + number).is_multiple_of(2),
    };
    [round(0, "--segments=passthrough"), round(1, "--segments=cached")]
}

/// Another process takes the mount over. Where that takes it too long, on a busy machine, the daemon that runs goes on.
fn upgrade(place: &Place) {
    let daemon = place.daemon();
    let outcome = place.ipcfs(&["upgrade"]);
    if outcome.code != Some(0) {
        assert_eq!((outcome.code, place.daemon()), (Some(1), daemon), "{outcome:?}");
        common::say(&outcome.stderr);
    }
}

fn play(round: &Round) -> Option<()> {
    common::say(&format!("random calls: {round:?}"));
    let place = Place::new()?;
    let store = format!("--store={}", place.beside("store").display());
    let mut options = vec!["--memory=16M", "--segment-memory=64M", "--max-files=500", "--allow-other"];
    options.push(round.segments);
    options.extend(round.store.then_some(store.as_str()));
    place.mount(&options);
    let _ended = watch(&place);
    let before = Held::of(&place);

    let mut chance = Chance::new(round.seed);
    let mut seeds = (0..LIVES).map(|life| round.seed.wrapping_mul(LIVES).wrapping_add(life));
    let mut lives: Vec<Life> = Vec::new();
    loop {
        let wanted = AT_ONCE - lives.len();
        lives.extend(seeds.by_ref().take(wanted).map(|seed| Life::start(&place, seed, &mut chance)));
        if lives.is_empty() {
            break;
        }
        lives.retain(|life| {
            if life.until <= Instant::now() {
                life.kill();
            } else if chance.one_in(5) {
                life.interrupt();
            } else if chance.one_in(50) {
                // A stopped process leaves its call, as by a signal, and comes back.
                let _ = kill_process_group(life.group, Signal::STOP);
                let _ = kill_process_group(life.group, Signal::CONT);
            }
            !life.has_ended()
        });
        if round.upgrades && chance.one_in(200) {
            upgrade(&place);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let status = fs::read_to_string(place.path("control/status")).unwrap();
    let idle = ["\nsent 0\n", "\nreceived 0\n"];
    assert!(!idle.iter().any(|line| status.contains(line)), "nothing was done: {status}");

    remove_all(&place);
    fs::write(place.path("mailboxes/box"), "message").unwrap();
    assert_eq!(fs::read(place.path("mailboxes/box")).unwrap(), b"message");
    fs::remove_file(place.path("mailboxes/box")).unwrap();
    before.wait_for(&place);
    let outcome = place.ipcfs(&["umount"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    place.assert_nothing_left();
    Some(())
}

#[test]
fn two_users_who_call_at_random_leave_nothing_behind() {
    if !drop_caches() {
        common::skip("the kernel's caches cannot be dropped here");
        return;
    }
    set_child_subreaper(Some(getpid())).unwrap();
    let (start, minutes) = (Instant::now(), number("FUZZ_MINUTES"));
    for seed in number("FUZZ_SEED").. {
        for round in rounds(seed) {
            if play(&round).is_none() {
                return;
            }
        }
        if start.elapsed() >= Duration::from_secs(60 * minutes) {
            return;
        }
    }
}
