//! The processes of the actors: starts, kills and replaces them, and collects their events.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::event::{Event, Random};
use super::ledger::Ledger;
use super::role::{FLEET, Role};

/// How long a killed process may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

struct Process {
    role: Role,
    instance: u64,
    child: Child,
    /// Reads its events to the end.
    listener: JoinHandle<()>,
}

pub(super) struct Fleet {
    dir: PathBuf,
    processes: Vec<Process>,
    random: Random,
    /// Instances that were started.
    instances: u64,
    events: Receiver<(u64, Event)>,
    events_sender: Sender<(u64, Event)>,
    ledger: Ledger,
}

impl Fleet {
    pub(super) fn start(dir: &Path, seed: u64) -> Result<Fleet> {
        let (events_sender, events) = channel();
        let mut fleet = Fleet {
            dir: dir.to_owned(),
            processes: Vec::new(),
            random: Random::new(seed),
            instances: seed << 32,
            events,
            events_sender,
            ledger: Ledger::default(),
        };
        for role in FLEET {
            fleet.start_one(*role)?;
        }
        Ok(fleet)
    }

    fn start_one(&mut self, role: Role) -> Result<()> {
        self.instances += 1;
        let instance = self.instances;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("actor")
            .arg(role.name())
            .arg(instance.to_string())
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting an actor")?;
        let mut output = BufReader::new(child.stdout.take().context("an actor without output")?);
        let events_sender = self.events_sender.clone();
        let listener = std::thread::spawn(move || {
            let mut line = String::new();
            // A line that was cut off by a kill is not an event.
            while output.read_line(&mut line).is_ok_and(|length| length > 0) {
                if let Some(event) = Event::parse(&line) {
                    let _ = events_sender.send((instance, event));
                }
                line.clear();
            }
        });
        self.processes.push(Process { role, instance, child, listener });
        Ok(())
    }

    /// Kills one actor that may be killed at any time, and starts another in its place.
    pub(super) fn replace_one(&mut self) -> Result<()> {
        let index = self.random.below(self.processes.len() as u64) as usize;
        let role = self.processes[index].role;
        if !role.is_never_killed() {
            self.kill(index)?;
            self.start_one(role)?;
        }
        self.listen();
        Ok(())
    }

    fn kill(&mut self, index: usize) -> Result<()> {
        let mut process = self.processes.swap_remove(index);
        let ended = process.child.try_wait()?;
        if let Some(status) = ended {
            bail!("the {} ended without being killed: {status}", process.role.name());
        }
        process.child.kill()?;
        let begin = Instant::now();
        while process.child.try_wait()?.is_none() {
            if begin.elapsed() > KILL_TIMEOUT {
                let stack = std::fs::read_to_string(format!("/proc/{}/stack", process.child.id()));
                bail!(
                    "a {} does not end after SIGKILL; its kernel stack: {}",
                    process.role.name(),
                    stack.unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        if process.listener.join().is_err() {
            bail!("the listener of instance {} failed", process.instance);
        }
        self.ledger.kills += 1;
        self.ledger.consumers_killed += u64::from(process.role == Role::Consumer);
        self.ledger.incrementers_killed += u64::from(process.role == Role::Incrementer);
        Ok(())
    }

    pub(super) fn count(&self, of: impl Fn(Role) -> bool) -> usize {
        self.processes.iter().filter(|process| of(process.role)).count()
    }

    /// Records the events so far.
    fn listen(&mut self) {
        while let Ok((instance, event)) = self.events.try_recv() {
            self.ledger.record(instance, event);
        }
    }

    /// Kills the actors that `of` selects and does not replace them. Returns the ledger once no actor is left.
    pub(super) fn end(&mut self, of: impl Fn(Role) -> bool) -> Result<Ledger> {
        for index in (0..self.processes.len()).rev() {
            if of(self.processes[index].role) {
                self.kill(index)?;
            }
        }
        self.listen();
        Ok(if self.processes.is_empty() { std::mem::take(&mut self.ledger) } else { Ledger::default() })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}
