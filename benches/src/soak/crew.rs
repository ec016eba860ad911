//! The actors' processes: started, killed, replaced, and listened to.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::ledger::Ledger;
use super::report::{Random, Report};
use super::role::{CREW, Role};

/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(10);

struct Member {
    role: Role,
    life: u64,
    child: Child,
    /// Reads what it reports, to the end.
    listener: JoinHandle<()>,
}

pub(super) struct Crew {
    dir: PathBuf,
    members: Vec<Member>,
    random: Random,
    /// Lives that have begun.
    lives: u64,
    reports: Receiver<(u64, Report)>,
    reporter: Sender<(u64, Report)>,
    ledger: Ledger,
}

impl Crew {
    pub(super) fn start(dir: &Path, seed: u64) -> Result<Crew> {
        let (reporter, reports) = channel();
        let mut crew = Crew {
            dir: dir.to_owned(),
            members: Vec::new(),
            random: Random::new(seed),
            lives: seed << 32,
            reports,
            reporter,
            ledger: Ledger::default(),
        };
        for role in CREW {
            crew.recruit(*role)?;
        }
        Ok(crew)
    }

    fn recruit(&mut self, role: Role) -> Result<()> {
        self.lives += 1;
        let life = self.lives;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("actor")
            .arg(role.name())
            .arg(life.to_string())
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting an actor")?;
        let mut output = BufReader::new(child.stdout.take().context("an actor without output")?);
        let reporter = self.reporter.clone();
        let listener = std::thread::spawn(move || {
            let mut line = String::new();
            // A line that its writer's death cut short is no report.
            while output.read_line(&mut line).is_ok_and(|length| length > 0) {
                if let Some(report) = Report::parse(&line) {
                    let _ = reporter.send((life, report));
                }
                line.clear();
            }
        });
        self.members.push(Member { role, life, child, listener });
        Ok(())
    }

    /// Kills one of those who may be killed at any time, and starts another in its place.
    pub(super) fn replace_one(&mut self) -> Result<()> {
        let index = self.random.below(self.members.len() as u64) as usize;
        let role = self.members[index].role;
        if !role.is_spared() {
            self.kill(index)?;
            self.recruit(role)?;
        }
        self.listen();
        Ok(())
    }

    fn kill(&mut self, index: usize) -> Result<()> {
        let mut member = self.members.swap_remove(index);
        let ended = member.child.try_wait()?;
        if let Some(status) = ended {
            bail!("the {} ended by itself: {status}", member.role.name());
        }
        member.child.kill()?;
        let begin = Instant::now();
        while member.child.try_wait()?.is_none() {
            if begin.elapsed() > DEATH {
                let stack = std::fs::read_to_string(format!("/proc/{}/stack", member.child.id()));
                bail!("a {} cannot be killed: it is in {}", member.role.name(), stack.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        if member.listener.join().is_err() {
            bail!("nobody listened to life {}", member.life);
        }
        self.ledger.kills += 1;
        self.ledger.takers_killed += u64::from(member.role == Role::Taker);
        self.ledger.counters_killed += u64::from(member.role == Role::Counter);
        Ok(())
    }

    pub(super) fn count(&self, of: impl Fn(Role) -> bool) -> usize {
        self.members.iter().filter(|member| of(member.role)).count()
    }

    /// Enters what was reported so far.
    fn listen(&mut self) {
        while let Ok((life, report)) = self.reports.try_recv() {
            self.ledger.enter(life, report);
        }
    }

    /// Kills those of some roles for good; what the ledger says when they are gone.
    pub(super) fn end(&mut self, of: impl Fn(Role) -> bool) -> Result<Ledger> {
        for index in (0..self.members.len()).rev() {
            if of(self.members[index].role) {
                self.kill(index)?;
            }
        }
        self.listen();
        Ok(if self.members.is_empty() { std::mem::take(&mut self.ledger) } else { Ledger::default() })
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}
