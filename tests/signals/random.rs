//! Thousands of signals at random moments.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::process::Signal;

use crate::common::{Mount, state_of, wait_for};
use crate::target::{Fixture, Kind, Target};
use crate::tools::{aside, finish, try_receive, try_send};

const ROUNDS: usize = 16;
/// Of each kind, in each round.
const TARGETS: usize = 4;
/// Bytes by which the daemon's memory may differ from one round to a later one: pages of its allocator's, no more.
const SLACK: u64 = 2 << 20;

/// Numbers in an order that the seed decides.
struct Random(u64);

impl Random {
    /// The seed is told, and taken from `IPCFS_TEST_SEED` to see a failure again.
    fn new() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("IPCFS_TEST_SEED").map_or(now, |seed| seed.parse().unwrap());
        eprintln!("IPCFS_TEST_SEED={seed}");
        Random(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Lets a moment pass, any, so that what follows comes at a random one.
    fn pause(&mut self, most: Duration) {
        std::thread::sleep(Duration::from_nanos(self.below(most.as_nanos() as u64)));
    }
}

/// The daemon's threads, and its memory in bytes.
fn footprint(mount: &Mount) -> (usize, u64) {
    let threads = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap().count();
    (threads, mount.memory())
}

/// Starts targets of each kind, sends each of them signals that it survives, and in the end one that it does not. Returns
/// the signals sent and the calls that failed with `EINTR`.
fn round(fixture: &Fixture, random: &mut Random, ready: bool) -> (usize, u64) {
    let files = tempfile::tempdir().unwrap();
    let (mut sent, mut interrupted) = (0, 0);
    let mut targets: Vec<_> = (0..TARGETS * Kind::ALL.len())
        .map(|place| {
            Target::start(fixture, Kind::ALL[place % Kind::ALL.len()], files.path().join(place.to_string()))
        })
        .collect();
    if ready {
        for kind in [Kind::Read, Kind::Write, Kind::Flock] {
            let expected = Kind::waiting().filter(|other| other.figure() == kind.figure()).count() * TARGETS;
            wait_for("the targets to wait", || fixture.figure(kind) == expected as u64);
        }
        // Until each of them has come out of its call; some signals come between two calls, and count for nothing.
        let mut left: HashSet<usize> =
            (0..targets.len()).filter(|at| targets[*at].kind != Kind::Open).collect();
        wait_for("EINTR from every target", || {
            left.retain(|at| targets[*at].interrupted() < 3);
            for at in &left {
                targets[*at].signal(Signal::USR1);
                sent += 1;
                random.pause(Duration::from_micros(50));
            }
            left.is_empty()
        });
        for target in &targets {
            wait_for("the target to leave state D", || state_of(target.child.id()) != Some('D'));
        }
    }
    while !targets.is_empty() {
        let at = random.below(targets.len() as u64) as usize;
        let target = &mut targets[at];
        let signals = [Signal::USR1, Signal::USR1, Signal::TERM, Signal::KILL, Signal::ALARM];
        let signal = signals[random.below(signals.len() as u64) as usize];
        random.pause(Duration::from_micros(300));
        if !target.has_ended() {
            target.signal(signal);
            sent += 1;
        }
        if signal != Signal::USR1 {
            let mut target = targets.swap_remove(at);
            wait_for(&format!("{:?} to die of {signal:?}", target.kind), || target.has_ended());
            interrupted += target.interrupted();
        }
    }
    fixture.wait_until_nobody_waits();
    (sent, interrupted)
}

fn rounds(fixture: &Fixture) {
    let mut random = Random::new();
    let mut early = None;
    let (mut sent, mut interrupted) = (0, 0);
    for number in 0..ROUNDS {
        // In every second round the first signals come while the processes begin.
        let counts = round(fixture, &mut random, number % 2 == 0);
        sent += counts.0;
        interrupted += counts.1;
        if number == ROUNDS / 4 {
            early = Some(footprint(&fixture.mount));
        }
    }
    eprintln!("{sent} signals, {interrupted} calls interrupted");
    assert!(sent > 1_000 && interrupted > 500, "{sent} signals, {interrupted} calls interrupted");
    let (early, late) = (early.unwrap(), footprint(&fixture.mount));
    assert_eq!(early.0, late.0, "the daemon's threads");
    assert!(late.1 < early.1 + SLACK, "the daemon's memory grew from {} to {} bytes", early.1, late.1);
}

#[test]
fn signals_at_random_moments_leave_nobody_who_cannot_be_killed() {
    let Some(fixture) = Fixture::new() else { return };
    rounds(&fixture);
    let full = fixture.mailboxes().join("full");
    let received = (try_receive(&full), try_receive(&full));
    assert_eq!(received, (Ok(b"full".to_vec()), Err(Errno::AGAIN)), "and nothing was sent or taken");
}

/// So many signals so fast that some come while the daemon has the request in hand and has not yet made it wait.
#[test]
fn a_hail_of_signals_leaves_each_kind_of_wait_interruptible() {
    const SIGNALS: usize = 3_000;
    let Some(fixture) = Fixture::new() else { return };
    let files = tempfile::tempdir().unwrap();
    let mut random = Random::new();
    for kind in Kind::waiting() {
        let mut target = Target::start(&fixture, kind, files.path().join("told"));
        wait_for("the target to wait", || fixture.figure(kind) == 1);
        for _ in 0..SIGNALS {
            target.signal(Signal::USR1);
            for _ in 0..random.below(3_000) {
                std::hint::spin_loop();
            }
        }
        wait_for("the target to wait once more", || {
            fixture.figure(kind) == 1 && state_of(target.child.id()) == Some('S')
        });
        let before = target.interrupted();
        target.signal(Signal::USR1);
        wait_for(&format!("EINTR from {kind:?}"), || target.interrupted() > before);
        target.signal(Signal::KILL);
        wait_for("the target to die", || target.has_ended());
        fixture.wait_until_nobody_waits();
    }
}

/// As above, while messages come and go: what ends a wait and what interrupts it meet.
#[test]
fn signals_that_meet_deliveries_leave_nobody_who_cannot_be_killed() {
    let Some(fixture) = Fixture::new() else { return };
    let (mailboxes, done) = (fixture.mailboxes(), Arc::new(AtomicBool::new(false)));
    let traffic = aside({
        let done = Arc::clone(&done);
        move || {
            let mut random = Random::new();
            while !done.load(Ordering::Relaxed) {
                random.pause(Duration::from_millis(1));
                let _ = try_send(&mailboxes.join("empty"), b"message");
                let _ = try_receive(&mailboxes.join("full"));
                let _ = try_receive(&mailboxes.join("empty"));
                let _ = try_send(&mailboxes.join("full"), b"full");
            }
        }
    });
    rounds(&fixture);
    done.store(true, Ordering::Relaxed);
    finish("the traffic", traffic);
    while try_receive(&fixture.mailboxes().join("empty")).is_ok() {}
    assert_eq!(fixture.mount.figure("mailboxes/empty/status", "depth"), 0);
}
