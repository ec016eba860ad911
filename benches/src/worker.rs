//! A process that uses a channel: it is told what to do, does it, and says what it took.
//!
//! Messages carry in their first byte what they are for. Those of the time to warm up are counted and not measured;
//! the last one ends a receiver.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use nix::unistd::alarm;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::clock::{cpu_time, now};
use crate::peers::{Address, Receiver, Sender};

pub const WARM: u8 = 0;
pub const MEASURED: u8 = 1;
pub const STOP: u8 = 2;

/// After this a process that waits for something that never comes ends itself.
const LIMIT_S: u32 = 120;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub task: Task,
    /// Where it sends, and where it receives.
    pub to: Option<Address>,
    pub from: Option<Address>,
    pub size: usize,
    pub warm_ms: u64,
    pub measure_ms: u64,
    /// When senders begin, on the clock of [`now`]; those of one channel at once.
    pub start: u64,
    /// The CPU it is kept on.
    pub cpu: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Sends, as fast as it can.
    Send,
    /// Receives, until it is told to stop.
    Receive,
    /// Sends, and waits for the message to come back.
    Ask,
    /// Sends back what it receives, until it is told to stop.
    Echo,
    /// Sends, and receives that message itself.
    Pair,
    /// As `Pair`, opening and closing both ends for each message.
    Open,
    /// Waits for messages, in so many threads, until it is killed.
    Block(usize),
}

/// What a process did and took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages measured, and all.
    pub measured: u64,
    pub all: u64,
    /// When measuring began and ended.
    pub first: u64,
    pub last: u64,
    /// CPU time while measuring, in nanoseconds.
    pub cpu: u64,
    /// Of each operation, in nanoseconds, where that was measured.
    pub latency: Option<Latency>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Does the job that `json` describes. Says `ready` when its ends are open, and the outcome at the end.
pub fn run(json: &str) -> Result<()> {
    let job: Job = serde_json::from_str(json).context("a worker's job")?;
    alarm::set(LIMIT_S);
    if let Some(cpu) = job.cpu {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus).context("keeping to one CPU")?;
    }
    let outcome = match job.task {
        Task::Send => send(&job)?,
        Task::Receive => receive(&job)?,
        Task::Ask => ask(&job)?,
        Task::Echo => echo(&job)?,
        Task::Pair => pair(&job)?,
        Task::Open => open(&job)?,
        Task::Block(threads) => block(&job, threads)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn ready() -> Result<()> {
    println!("ready");
    std::io::stdout().flush().context("saying ready")
}

impl Job {
    fn to(&self) -> Result<&Address> {
        self.to.as_ref().context("a job without an address to send to")
    }

    fn from(&self) -> Result<&Address> {
        self.from.as_ref().context("a job without an address to receive from")
    }

    fn sender(&self) -> Result<Box<dyn Sender>> {
        self.to()?.sender()
    }

    fn receiver(&self) -> Result<Box<dyn Receiver>> {
        self.from()?.receiver(self.size)
    }

    /// Does an operation for as long as it shall be, with the message to send, and measures it.
    fn repeat(&self, mut operation: impl FnMut(&[u8]) -> Result<()>) -> Result<Outcome> {
        let mut message = vec![WARM; self.size];
        // Something to look at: a page of zeros may be treated as none.
        message[1..].fill(b'm');
        std::thread::sleep(Duration::from_nanos(self.start.saturating_sub(now())));
        let warm_until = now() + self.warm_ms * 1_000_000;
        let mut outcome = Outcome::default();
        while now() < warm_until {
            operation(&message)?;
            outcome.all += 1;
        }
        message[0] = MEASURED;
        let mut latency = Histogram::<u64>::new_with_bounds(1, 120_000_000_000, 3)?;
        let cpu = cpu_time();
        outcome.first = now();
        outcome.last = outcome.first;
        let until = outcome.first + self.measure_ms * 1_000_000;
        while outcome.last < until {
            operation(&message)?;
            outcome.measured += 1;
            let end = now();
            latency.saturating_record(end - outcome.last);
            outcome.last = end;
        }
        outcome.cpu = cpu_time() - cpu;
        outcome.all += outcome.measured;
        outcome.latency = Some(Latency {
            p50: latency.value_at_quantile(0.5),
            p99: latency.value_at_quantile(0.99),
            p999: latency.value_at_quantile(0.999),
            max: latency.max(),
        });
        Ok(outcome)
    }
}

fn send(job: &Job) -> Result<Outcome> {
    let mut to = job.sender()?;
    ready()?;
    job.repeat(|message| to.send(message))
}

fn receive(job: &Job) -> Result<Outcome> {
    let mut from = job.receiver()?;
    ready()?;
    let mut outcome = Outcome::default();
    let mut cpu = cpu_time();
    loop {
        match from.receive()?.first() {
            Some(&WARM) => outcome.all += 1,
            Some(&MEASURED) => {
                if outcome.measured == 0 {
                    outcome.first = now();
                    cpu = cpu_time();
                }
                outcome.all += 1;
                outcome.measured += 1;
            }
            Some(&STOP) => break,
            other => bail!("received what nobody sent: {other:?}"),
        }
    }
    outcome.last = now();
    outcome.cpu = cpu_time() - cpu;
    Ok(outcome)
}

fn ask(job: &Job) -> Result<Outcome> {
    let (mut to, mut from) = (job.sender()?, job.receiver()?);
    ready()?;
    let outcome = job.repeat(|message| {
        to.send(message)?;
        from.receive().map(drop)
    })?;
    to.send(&vec![STOP; job.size])?;
    Ok(outcome)
}

fn echo(job: &Job) -> Result<Outcome> {
    let (mut to, mut from) = (job.sender()?, job.receiver()?);
    ready()?;
    let mut outcome = Outcome::default();
    let mut cpu = cpu_time();
    loop {
        let message = from.receive()?;
        match message.first() {
            Some(&STOP) => break,
            Some(&MEASURED) if outcome.measured == 0 => {
                cpu = cpu_time();
                outcome.measured = 1;
            }
            Some(&MEASURED) => outcome.measured += 1,
            _ => {}
        }
        to.send(message)?;
    }
    outcome.cpu = cpu_time() - cpu;
    Ok(outcome)
}

fn pair(job: &Job) -> Result<Outcome> {
    let (mut to, mut from) = job.to()?.ends(job.size)?;
    ready()?;
    job.repeat(|message| {
        to.send(message)?;
        from.receive().map(drop)
    })
}

fn open(job: &Job) -> Result<Outcome> {
    let to = job.to()?;
    // Of a FIFO nothing stays when nobody has it open.
    let _keep = to.ends(job.size)?;
    ready()?;
    job.repeat(|message| {
        to.sender()?.send(message)?;
        to.receiver(job.size)?.receive().map(drop)
    })
}

/// Each with an end of its own, and a small stack.
fn block(job: &Job, threads: usize) -> Result<Outcome> {
    alarm::cancel();
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })
        .context("raising the limit of open files")?;
    let mut waiting = Vec::new();
    for _ in 0..threads {
        let mut from = job.from()?.waiter(job.size)?;
        let thread = std::thread::Builder::new().stack_size(32_768).spawn(move || {
            // Until the channel is gone, or this process.
            while from.receive().is_ok() {}
        });
        waiting.push(thread.context("starting a thread that waits")?);
    }
    ready()?;
    for thread in waiting {
        let _ = thread.join();
    }
    Ok(Outcome::default())
}
