//! All operations at once, from many processes that are killed at random: is anything lost, doubled or leaked?
//!
//! A minute is a cycle. Actors ([`actor`]) work for most of it; one after another is killed and replaced. Then all are
//! killed, what still waits is drained, everything is removed, the [`ledger`] is balanced, and the daemon must be as it
//! was at the beginning.

pub mod actor;
mod crew;
mod ledger;
mod report;
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

use crate::servers::{Mount, own_memory};
use actor::{DEAD, KEPT, LEASED, MAILBOXES, PLAIN};
use crew::Crew;
use ledger::Ledger;
use role::Role;

/// Of a minute, how long actors work. The rest is for looking after them.
const WORK: Duration = Duration::from_secs(58);

/// Between two kills.
const KILL_EVERY: Duration = Duration::from_millis(20);

/// What the kernel's caches of names and inodes are emptied by; root's. Until then it remembers nodes that are gone.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const NAMES_AND_INODES: &str = "2";

/// Nodes that the kernel may have when it was told to forget: the root, and the folders and files of `control/` through
/// which the state is read.
const NODES: u64 = 8;

/// Memory that the daemon may have more than after the first minute: what one minute's luck makes of it.
const SLACK: f64 = 8.0 * MIB;

const MIB: f64 = 1_048_576.0;

/// Does it for so many minutes; an error is what was found.
pub fn run(program: &Path, transport: &str, minutes: usize, work: Option<Duration>) -> Result<()> {
    // Caught, so that the mount ends in order. Actors die of Ctrl-C by themselves.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let temp = tempfile::tempdir()?;
    let mount = Mount::start(program, temp.path(), "soak", &[&format!("--transport={transport}")])?;
    let start = State::of(&mount)?;
    println!("over {transport}: {start}");
    let mut first = None;
    let begin = Instant::now();
    let mut totals = Ledger::default();
    for minute in 1..=minutes {
        let ledger = cycle(&mount, minute as u64, work.unwrap_or(WORK), &stop)
            .with_context(|| format!("minute {minute}"))?;
        let state = settled(&mount, &start).with_context(|| format!("minute {minute}"))?;
        println!("minute {minute}: {ledger}; {state}");
        ledger.balance().with_context(|| format!("minute {minute}"))?;
        totals.add(&ledger);
        let first = *first.get_or_insert(state.memory);
        ensure!(
            state.memory <= first + SLACK,
            "the daemon has {:.1} MiB after minute {minute}, and had {:.1} after the first: it leaks",
            state.memory / MIB,
            first / MIB
        );
    }
    println!("{minutes} minutes over {transport} in {} s, all well: {totals}", begin.elapsed().as_secs());
    mount.end()
}

/// What the daemon holds when nobody uses it.
#[derive(Debug, Clone)]
struct State {
    memory: f64,
    descriptors: usize,
    threads: usize,
    /// Those of the kernel: it remembers for a while what is gone.
    nodes: u64,
    /// Lines of `control/status` that must be as they were.
    status: Vec<String>,
}

/// Figures that are zero when nothing is there.
const RESTING: [&str; 15] = [
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
];
const RESTING_LOCKS: [&str; 2] = ["locks", "waiting_locks"];

impl State {
    fn of(mount: &Mount) -> Result<State> {
        let text = fs::read_to_string(mount.control("status"))?;
        let resting = |line: &&str| {
            line.split_once(' ')
                .is_some_and(|(key, _)| RESTING.contains(&key) || RESTING_LOCKS.contains(&key))
        };
        let entries =
            |of: &str| Ok::<_, std::io::Error>(fs::read_dir(format!("/proc/{}/{of}", mount.pid()))?.count());
        Ok(State {
            memory: own_memory(mount.pid()).context("the daemon's memory")?,
            descriptors: entries("fd")?,
            threads: entries("task")?,
            nodes: mount.figure("status", "nodes")?,
            status: text.lines().filter(resting).map(String::from).collect(),
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

/// Waits until all is as it was, but for memory: what is closed by a death is closed soon after it.
fn settled(mount: &Mount, start: &State) -> Result<State> {
    let begin = Instant::now();
    loop {
        // Where it may not be told, the kernel keeps nodes for as long as it likes.
        let told = fs::write(DROP_CACHES, NAMES_AND_INODES).is_ok();
        let state = State::of(mount)?;
        // Fewer descriptors are no leak: what it needs to start with may still have been open.
        if state.status == start.status
            && state.descriptors <= start.descriptors
            && state.threads <= start.threads
            && (!told || state.nodes <= NODES)
        {
            return Ok(state);
        }
        if begin.elapsed() > Duration::from_secs(10) {
            let left: Vec<&String> =
                state.status.iter().filter(|line| !start.status.contains(line)).collect();
            bail!("not as at the start, {start}: {state}; status has {left:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn cycle(mount: &Mount, seed: u64, work: Duration, stop: &AtomicBool) -> Result<Ledger> {
    for name in MAILBOXES {
        fs::File::create(mount.mailbox(name))?;
    }
    fs::write(mount.control(&format!("mailboxes/{LEASED}/config/dead_letter")), format!("{DEAD}\n"))?;
    fs::write(mount.control(&format!("mailboxes/{LEASED}/config/max_deliver")), "20\n")?;
    fs::File::create(mount.dir.join("topics/news"))?;
    fs::write(mount.dir.join("segments/counter"), [0; 8])?;

    let mut crew = Crew::start(&mount.dir, seed)?;
    let begin = Instant::now();
    while begin.elapsed() < work {
        std::thread::sleep(KILL_EVERY);
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        crew.replace_one()?;
    }
    // Those who send and those who are killed while they receive, first; then what they left is received by those who
    // were never killed, and they wait when they are.
    crew.end(|role| !role.is_spared())?;
    mount.wait_until_kept(crew.count(Role::is_spared))?;
    let mut ledger = crew.end(|_| true)?;
    for name in [PLAIN[0], PLAIN[1], LEASED, DEAD] {
        drain(&mount.mailbox(name), |message| ledger.drained(name, message))?;
    }
    let counter = fs::read(mount.dir.join("segments/counter"))?;
    ledger.counter = u64::from_le_bytes(counter.try_into().ok().context("the counter is no 8 bytes")?);
    tidy(&mount.dir.join("mailboxes"))?;
    tidy(&mount.dir.join("topics"))?;
    tidy(&mount.dir.join("segments"))?;
    Ok(ledger)
}

/// Takes what waits.
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

/// Removes all that is in a folder.
fn tidy(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

impl Mount {
    /// Waits until no message waits where nothing may be lost, and all who receive there have said what they received:
    /// they wait again.
    fn wait_until_kept(&self, receivers: usize) -> Result<()> {
        let begin = Instant::now();
        let status = format!("mailboxes/{KEPT}/status");
        while self.figure(&status, "depth")? > 0
            || self.figure(&status, "waiting_readers")? < receivers as u64
        {
            ensure!(begin.elapsed() < Duration::from_secs(30), "{KEPT} is not emptied by those who read it");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
