//! All operations at once, from many processes that are killed at random: is anything lost, doubled or leaked?
//!
//! A cycle takes a minute. Actors ([`actor`]) work for most of it; one after another is killed and replaced. Then all are
//! killed, waiting messages are drained, everything is removed, the [`ledger`] is checked, and the daemon must hold as much
//! as it did at the start.

pub mod actor;
mod event;
mod fleet;
mod ledger;
mod names;
mod role;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::OFlags;

use crate::process::own_memory;
use crate::servers::Mount;
use fleet::Fleet;
use ledger::Ledger;
use names::{DEAD_LETTER, KEPT, LEASED, MAILBOXES, PLAIN};
use role::Role;

/// How long actors work in each minute. The rest is for the checks.
const WORK: Duration = Duration::from_secs(58);

/// Between two kills.
const KILL_EVERY: Duration = Duration::from_millis(20);

/// Between two upgrades or deaths of the daemon, if there are any.
const RESTART_EVERY: Duration = Duration::from_millis(500);

/// For so long after a death, the daemon looks for open files whose close the kernel has cancelled. They have leases, and texts that
/// are sent when they are closed.
const UNCLOSED: Duration = Duration::from_secs(11);

/// Drops the kernel's caches of names and inodes; only root may write it. Cached inodes keep nodes of the daemon alive.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const NAMES_AND_INODES: &str = "2";

/// Nodes that remain after the caches were dropped: the root, and the folders and files of `control/` that are read here.
const NODES: u64 = 8;

/// How much the memory of the daemon may grow after the first minute, in bytes.
const SLACK: f64 = 8.0 * MIB;

/// How much more if it writes its history down: memory of files that is kept for later.
const HISTORY: f64 = 32.0 * MIB;

const MIB: f64 = 1_048_576.0;

/// Why another process takes the mount over, all the while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarts {
    Upgrades,
    Deaths,
}

/// Runs the soak for so many minutes. The error says what was found.
pub fn run(
    program: &Path,
    transport: &str,
    minutes: usize,
    work: Option<Duration>,
    restarts: Option<Restarts>,
) -> Result<()> {
    // Caught, so that the mount is unmounted. Ctrl-C ends the actors too.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let temp = tempfile::tempdir()?;
    let transport_option = format!("--transport={transport}");
    let mut options = vec![transport_option.as_str()];
    if restarts == Some(Restarts::Deaths) {
        options.extend(["--restart", "--always-restart"]);
    }
    let mut mount = Mount::start(program, temp.path(), "soak", &options)?;
    let start = State::of(&mount)?;
    println!("over {transport}: {start}; {}", mount.setup());
    let mut first = None;
    let begin = Instant::now();
    let mut totals = Ledger::default();
    for minute in 1..=minutes {
        let restarts = restarts.map(|restarts| (restarts, program));
        let ledger = cycle(&mut mount, minute as u64, work.unwrap_or(WORK), &stop, restarts)
            .with_context(|| format!("minute {minute}"))?;
        // If a caller is killed in the instant in which another daemon begins, the kernel may not know the node that it has looked up. Such
        // a node stays, and perhaps the memory of a segment with it.
        let deaths = restarts.is_some_and(|(restarts, _)| restarts == Restarts::Deaths);
        let unknown = if deaths { totals.kills + ledger.kills } else { 0 };
        let state = wait_until_idle(&mount, &start, unknown).with_context(|| format!("minute {minute}"))?;
        println!("minute {minute}: {ledger}; {state}");
        ledger.balance().with_context(|| format!("minute {minute}"))?;
        totals.add(&ledger);
        let first = *first.get_or_insert(state.memory);
        let slack = if deaths { SLACK + HISTORY } else { SLACK };
        ensure!(
            state.memory <= first + slack,
            "the daemon has {:.1} MiB after minute {minute}, and had {:.1} after the first: it leaks",
            state.memory / MIB,
            first / MIB
        );
    }
    println!(
        "{minutes} minutes over {transport} in {} s, no fault found: {totals}",
        begin.elapsed().as_secs()
    );
    mount.end()
}

/// What the daemon holds while nobody uses the mount.
#[derive(Debug, Clone)]
struct State {
    memory: f64,
    descriptors: usize,
    threads: usize,
    /// Inodes that the kernel has cached.
    nodes: u64,
    /// Lines of `control/status` that must not change.
    status: Vec<String>,
}

/// Figures that are zero in an empty mount.
const IDLE: [&str; 17] = [
    "folders",
    "symlinks",
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
    "delayed",
    "requests",
    "serving",
    "memory_used",
    "segment_used",
];
const IDLE_LOCKS: [&str; 2] = ["locks", "waiting_locks"];

impl State {
    fn of(mount: &Mount) -> Result<State> {
        let text = fs::read_to_string(mount.control("status"))?;
        let idle = |line: &&str| {
            line.split_once(' ').is_some_and(|(key, _)| IDLE.contains(&key) || IDLE_LOCKS.contains(&key))
        };
        let entries =
            |of: &str| Ok::<_, std::io::Error>(fs::read_dir(format!("/proc/{}/{of}", mount.pid()))?.count());
        Ok(State {
            memory: own_memory(mount.pid()).context("the daemon's memory")?,
            descriptors: entries("fd")?,
            threads: entries("task")?,
            nodes: mount.figure("status", "nodes")?,
            status: text.lines().filter(idle).map(String::from).collect(),
        })
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory = self.memory / MIB;
        write!(
            f,
            "daemon: {memory:.1} MiB, {} descriptors, {} threads, {} nodes",
            self.descriptors, self.threads, self.nodes
        )
    }
}

/// Waits until everything but memory is as at the start: the files of a killed process are closed a little later.
fn wait_until_idle(mount: &Mount, start: &State, unknown: u64) -> Result<State> {
    let begin = Instant::now();
    loop {
        // Without this permission, the kernel keeps inodes for as long as it likes.
        let dropped = fs::write(DROP_CACHES, NAMES_AND_INODES).is_ok();
        let state = State::of(mount)?;
        // Fewer descriptors are not a leak: files that the start needs may still have been open.
        if state.status == start.status
            && state.descriptors as u64 <= start.descriptors as u64 + unknown
            && state.threads <= start.threads
            && (!dropped || state.nodes <= NODES + unknown)
        {
            return Ok(state);
        }
        if begin.elapsed() > Duration::from_secs(10) {
            let left: Vec<&String> =
                state.status.iter().filter(|line| !start.status.contains(line)).collect();
            let held = held(mount)?;
            bail!("not as at the start, {start}: {state}; status has {left:?}, users have {held:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the mount holds for users.
fn held(mount: &Mount) -> Result<Vec<String>> {
    let mut held = Vec::new();
    for user in fs::read_dir(mount.control("users"))? {
        let user = user?;
        let text = fs::read_to_string(user.path())?;
        let used = text.lines().filter(|line| line.contains("_used ") && !line.ends_with(" 0"));
        held.extend(used.map(|line| format!("{}: {line}", user.file_name().display())));
    }
    Ok(held)
}

fn cycle(
    mount: &mut Mount,
    seed: u64,
    work: Duration,
    stop: &AtomicBool,
    restarts: Option<(Restarts, &Path)>,
) -> Result<Ledger> {
    for name in MAILBOXES {
        fs::File::create(mount.mailbox(name))?;
    }
    fs::write(mount.control(&format!("mailboxes/{LEASED}/config/dead_letter")), format!("{DEAD_LETTER}\n"))?;
    fs::write(mount.control(&format!("mailboxes/{LEASED}/config/max_deliver")), "20\n")?;
    fs::File::create(mount.dir.join("topics/news"))?;
    fs::write(mount.dir.join("segments/counter"), [0; 8])?;

    let mut fleet = Fleet::start(&mount.dir, seed)?;
    let begin = Instant::now();
    let (mut count, mut longest) = (0, Duration::ZERO);
    while begin.elapsed() < work {
        std::thread::sleep(KILL_EVERY);
        if let Some((restarts, program)) = restarts
            && begin.elapsed() > (count + 1) * RESTART_EVERY
        {
            count += 1;
            longest = longest.max(match restarts {
                Restarts::Upgrades => mount.upgrade(program)?,
                Restarts::Deaths => mount.crash()?,
            });
        }
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        ensure!(mount.is_running(), "the daemon has ended");
        fleet.replace_one()?;
    }
    if count > 0 {
        println!("{count} times another daemon, the longest {} ms", longest.as_millis());
    }
    // The others first. The consumers that are never killed then receive what is left, and are killed while they wait.
    fleet.end(|role| !role.is_never_killed())?;
    mount.wait_until_kept(fleet.count(Role::is_never_killed))?;
    let mut ledger = fleet.end(|_| true)?;
    if restarts.is_some_and(|(restarts, _)| restarts == Restarts::Deaths) {
        std::thread::sleep(UNCLOSED);
    }
    for name in [PLAIN[0], PLAIN[1], KEPT, LEASED, DEAD_LETTER] {
        drain(&mount.mailbox(name), |message| ledger.drained(name, message))?;
    }
    let counter = fs::read(mount.dir.join("segments/counter"))?;
    ledger.counter = u64::from_le_bytes(counter.try_into().ok().context("the counter is not 8 bytes long")?);
    remove_all(&mount.dir.join("mailboxes"))?;
    remove_all(&mount.dir.join("topics"))?;
    remove_all(&mount.dir.join("segments"))?;
    Ok(ledger)
}

/// Receives all waiting messages.
fn drain(mailbox: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(mailbox)
        .context("opening a mailbox to drain it")?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(length) => each(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("draining a mailbox"),
        }
    }
}

/// Removes everything in a folder.
fn remove_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

impl Mount {
    /// Waits until the mailbox that may lose nothing is empty and its consumers wait again: they have then reported all
    /// messages.
    fn wait_until_kept(&self, receivers: usize) -> Result<()> {
        let begin = Instant::now();
        let status = format!("mailboxes/{KEPT}/status");
        while self.figure(&status, "depth")? > 0
            || self.figure(&status, "waiting_readers")? < receivers as u64
        {
            ensure!(begin.elapsed() < Duration::from_secs(30), "{KEPT} is not emptied by its consumers");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
