//! Processes that share channels: started, told when to begin, and asked what they did.

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::clock::now;
use crate::model::Settings;
use crate::peers::{Address, Channel, Peer, Shape};
use crate::process::{cpu, memory, reset_peak};
use crate::worker::{Job, Latency, Outcome, STOP, Task};

/// How long starting a process may take: senders wait so long, to begin together.
const START_NS: u64 = 15_000_000;

/// A process at work. Killed if it is dropped before it ended.
pub struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it, with that end of a socket where the channel is one.
    pub fn start(job: &Job, end: Option<OwnedFd>) -> Result<Worker> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["worker", &serde_json::to_string(job)?])
            .stdin(end.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting a process")?;
        let output = BufReader::new(child.stdout.take().context("a process without output")?);
        Ok(Worker { child, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            let mut said = String::new();
            if let Some(mut errors) = self.child.stderr.take() {
                std::io::Read::read_to_string(&mut errors, &mut said)?;
            }
            let status = self.child.wait()?;
            let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).take(2).collect();
            bail!("{}", if said.is_empty() { format!("ended: {status}") } else { said.join(" ") });
        }
        Ok(line)
    }

    /// Waits until its ends are open.
    pub fn ready(&mut self) -> Result<()> {
        let line = self.line()?;
        anyhow::ensure!(line == "ready\n", "a process says {line:?}");
        Ok(())
    }

    pub fn outcome(mut self) -> Result<Outcome> {
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a message cost, in microseconds and bytes.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub time: f64,
    pub latency: Option<Latency>,
    pub cpu_clients: f64,
    /// CPU time of the server and the most memory it took, if there is one.
    pub server: Option<(f64, f64)>,
}

/// A server's CPU time from here on.
struct Meter(Option<(u32, f64)>);

impl Meter {
    fn start(peer: &Peer) -> Meter {
        Meter(peer.server.map(|pid| {
            reset_peak(pid);
            (pid, cpu(pid).as_secs_f64())
        }))
    }

    /// For each of so many messages.
    fn end(&self, messages: u64) -> Option<(f64, f64)> {
        let (pid, before) = self.0?;
        let time = (cpu(pid).as_secs_f64() - before) * 1e6 / messages as f64;
        Some((time, memory(pid, "VmHWM")?))
    }
}

fn job(task: Task, size: usize, settings: &Settings, to: Option<&Address>, from: Option<&Address>) -> Job {
    Job {
        task,
        to: to.cloned(),
        from: from.cloned(),
        size,
        warm_ms: settings.warm_ms,
        measure_ms: settings.measure_ms,
        start: now() + START_NS,
        cpu: None,
    }
}

fn sending_end(channel: &Channel) -> Result<Option<OwnedFd>> {
    Ok(channel.ends.as_ref().map(|ends| ends.0.try_clone()).transpose()?)
}

fn receiving_end(channel: &Channel) -> Result<Option<OwnedFd>> {
    Ok(channel.ends.as_ref().map(|ends| ends.1.try_clone()).transpose()?)
}

fn us(ns: u64, count: u64) -> f64 {
    ns as f64 / 1e3 / count as f64
}

/// So many processes send to so many others, as fast as they can.
pub fn exchange(
    peer: &Peer,
    settings: &Settings,
    size: usize,
    senders: usize,
    receivers: usize,
) -> Result<Cost> {
    let shape = Shape { shared: senders > 1 || receivers > 1, ..Shape::two(size) };
    let channel = peer.make("way", shape)?;
    let address = Some(&channel.address);
    let mut receiving = Vec::new();
    for _ in 0..receivers {
        receiving.push(Worker::start(
            &job(Task::Receive, size, settings, None, address),
            receiving_end(&channel)?,
        )?);
    }
    receiving.iter_mut().try_for_each(Worker::ready)?;
    let meter = Meter::start(peer);
    let mut send = job(Task::Send, size, settings, address, None);
    send.start += START_NS * senders as u64 / 4;
    let mut sending = Vec::new();
    for _ in 0..senders {
        sending.push(Worker::start(&send, sending_end(&channel)?)?);
    }
    sending.iter_mut().try_for_each(Worker::ready)?;
    let sent: Vec<Outcome> = sending.into_iter().map(Worker::outcome).collect::<Result<_>>()?;
    let mut stop = channel.sender()?;
    for _ in 0..receivers {
        stop.send(&vec![STOP; size])?;
    }
    let received: Vec<Outcome> = receiving.into_iter().map(Worker::outcome).collect::<Result<_>>()?;

    let sum = |outcomes: &[Outcome], of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let measured = sum(&received, |outcome| outcome.measured);
    let expected = sum(&sent, |outcome| outcome.measured);
    anyhow::ensure!(measured == expected, "{expected} messages were sent and {measured} received");
    let first = sent.iter().map(|outcome| outcome.first).min().unwrap_or(0);
    let last = received.iter().map(|outcome| outcome.last).max().unwrap_or(0);
    Ok(Cost {
        time: us(last - first, measured),
        latency: None,
        cpu_clients: us(sum(&sent, |o| o.cpu) + sum(&received, |o| o.cpu), measured),
        server: meter.end(sum(&received, |outcome| outcome.all)),
    })
}

/// One process sends a message to another, which sends it back.
pub fn round_trip(peer: &Peer, settings: &Settings, size: usize) -> Result<Cost> {
    let there = peer.make("there", Shape::two(size))?;
    // A socket goes both ways.
    let back = if there.ends.is_some() { None } else { Some(peer.make("back", Shape::two(size))?) };
    let back_address = back.as_ref().map_or(&there.address, |back| &back.address);
    let mut echo = Worker::start(
        &job(Task::Echo, size, settings, Some(back_address), Some(&there.address)),
        receiving_end(&there)?,
    )?;
    echo.ready()?;
    let meter = Meter::start(peer);
    let ask = Worker::start(
        &job(Task::Ask, size, settings, Some(&there.address), Some(back_address)),
        sending_end(&there)?,
    );
    let mut ask = ask?;
    ask.ready()?;
    let (asked, echoed) = (ask.outcome()?, echo.outcome()?);
    Ok(Cost { cpu_clients: us(asked.cpu + echoed.cpu, asked.measured), ..cost(&asked, meter.end(asked.all)) })
}

/// One process sends and receives, with its ends open, or opening them each time.
pub fn alone(peer: &Peer, settings: &Settings, size: usize, task: Task) -> Result<Cost> {
    let channel = peer.make("alone", Shape { alone: true, ..Shape::two(size) })?;
    alone_in(peer, settings, &channel.address, size, task)
}

/// As `alone`, in a channel that is there.
pub fn alone_in(
    peer: &Peer,
    settings: &Settings,
    address: &Address,
    size: usize,
    task: Task,
) -> Result<Cost> {
    let meter = Meter::start(peer);
    let mut worker = Worker::start(&job(task, size, settings, Some(address), None), None)?;
    worker.ready()?;
    let outcome = worker.outcome()?;
    Ok(cost(&outcome, meter.end(outcome.all)))
}

fn cost(outcome: &Outcome, server: Option<(f64, f64)>) -> Cost {
    Cost {
        time: us(outcome.last - outcome.first, outcome.measured),
        latency: outcome.latency,
        cpu_clients: us(outcome.cpu, outcome.measured),
        server,
    }
}

/// A process on each of these CPUs sends and receives in a channel of its own: microseconds a message of them all.
pub fn side_by_side(peer: &Peer, settings: &Settings, size: usize, cpus: &[usize]) -> Result<f64> {
    let mut channels = Vec::new();
    for cpu in cpus {
        let shape = Shape { alone: true, ..Shape::two(size) };
        channels.push((peer.make(&format!("cpu{cpu}"), shape)?, *cpu));
    }
    let mut workers = Vec::new();
    for (channel, cpu) in &channels {
        let pair = job(Task::Pair, size, settings, Some(&channel.address), None);
        let start = pair.start + START_NS * cpus.len() as u64 / 4;
        workers.push(Worker::start(&Job { cpu: Some(*cpu), start, ..pair }, None)?);
    }
    workers.iter_mut().try_for_each(Worker::ready)?;
    let outcomes: Vec<Outcome> = workers.into_iter().map(Worker::outcome).collect::<Result<_>>()?;
    let rate: f64 =
        outcomes.iter().map(|outcome| 1.0 / us(outcome.last - outcome.first, outcome.measured)).sum();
    Ok(1.0 / rate)
}

/// So many threads of one process wait for messages, until this is dropped.
pub fn block(settings: &Settings, address: &Address, size: usize, threads: usize) -> Result<Worker> {
    let mut worker = Worker::start(&job(Task::Block(threads), size, settings, None, Some(address)), None)?;
    worker.ready()?;
    Ok(worker)
}
