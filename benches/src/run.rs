//! A run: rounds of cases, kept after each, so that one that is interrupted can be gone on with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::machine::{Machine, version};
use crate::model::{LeftOut, Run, Samples, Settings};
use crate::peers::{Kind, Peer};
use crate::servers::{self, Listening, Mount, Null};
use crate::work::{CASES, Case, Context};

/// Switches `io_uring` for FUSE on and off; root's.
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";

/// What to measure, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program under test.
    pub program: PathBuf,
    /// Of which commit it is, if that is known.
    pub commit: Option<String>,
    /// A null FUSE server, if there is one.
    pub null: Option<PathBuf>,
    /// Where results are kept.
    pub json: PathBuf,
    pub settings: Settings,
    /// Cases whose names contain one of these; all if there is none.
    pub only: Vec<String>,
    /// Go on with what `json` has.
    pub resume: bool,
}

impl Plan {
    fn cases(&self) -> Vec<&'static Case> {
        let wanted =
            |case: &&Case| self.only.is_empty() || self.only.iter().any(|only| case.id.contains(only));
        CASES.iter().filter(wanted).collect()
    }
}

/// How it went.
pub struct Outcome {
    pub run: Run,
    /// Whether it was ended early.
    pub interrupted: bool,
    /// Whether all of `run` stands in the file.
    pub kept: bool,
}

/// Measures, until all is measured or somebody interrupts; the results are kept either way, as far as they can be.
pub fn run(plan: &Plan) -> Result<Outcome> {
    let cases = plan.cases();
    ensure!(!cases.is_empty(), "--only: no such case; there are {}", names(CASES.iter()));
    let mut run = if plan.resume {
        Run::load(&plan.json)?
    } else {
        Run::new(Machine::here(), versions(plan)?, plan.settings.clone())
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let _settings = Setting::change();
    let settings = run.settings.clone();
    let left = |run: &Run| -> usize {
        let left = |case: &&Case| case.rounds(&settings).saturating_sub(done(run, case));
        cases.iter().map(left).sum()
    };
    let bar = bar(left(&run) as u64);
    'rounds: for round in 0.. {
        if left(&run) == 0 {
            break;
        }
        let due: Vec<&&Case> =
            cases.iter().filter(|case| round < case.rounds(&settings) && done(&run, case) <= round).collect();
        if due.is_empty() {
            continue;
        }
        let mut round = Round::start(plan, &settings, round, &stop, &bar)?;
        run.leave_out(std::mem::take(&mut round.left_out));
        run.setup = round.context.mounts.first().map(Mount::setup).or(run.setup);
        for case in due {
            let mut samples = Samples::default();
            let result = (case.run)(&round.context, &mut samples);
            if stop.load(Ordering::Relaxed) {
                break 'rounds;
            }
            if let Err(error) = result {
                samples.leave_out(case.id, "all", format!("{error:#}"));
            }
            run.add(case.id, samples);
            bar.inc(1);
            // Should it fail, it may succeed later, and the last word is the one below.
            let _ = run.save(&plan.json);
        }
    }
    bar.finish_and_clear();
    run.complete = left(&run) == 0 && plan.only.is_empty();
    let interrupted = stop.load(Ordering::Relaxed);
    if interrupted {
        eprintln!("scripts/bench: interrupted; what was measured is kept, and --resume goes on with it");
    }
    let kept = run.save(&plan.json);
    if let Err(error) = &kept {
        eprintln!("scripts/bench: {error:#}");
    }
    Ok(Outcome { run, interrupted, kept: kept.is_ok() })
}

fn done(run: &Run, case: &Case) -> usize {
    run.rounds.get(case.id).copied().unwrap_or(0)
}

fn names<'a>(cases: impl Iterator<Item = &'a Case>) -> String {
    cases.map(|case| case.id).collect::<Vec<_>>().join(", ")
}

/// On a terminal; nothing elsewhere.
fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {percent:>3} % {elapsed}, {eta} left  {wide_msg}")
    {
        bar.set_style(style);
    }
    bar
}

fn versions(plan: &Plan) -> Result<BTreeMap<String, String>> {
    let program = &plan.program;
    let ipcfs = version(&program.to_string_lossy(), "--version");
    let mut versions = BTreeMap::new();
    if let Some(commit) = &plan.commit {
        versions.insert("commit".to_owned(), commit.clone());
    }
    versions
        .insert("ipcfs".to_owned(), ipcfs.with_context(|| format!("{} does not run", program.display()))?);
    for (name, argument) in
        [("redis-server", "--version"), ("nats-server", "--version"), ("beanstalkd", "-v")]
    {
        if let Some(version) = version(name, argument) {
            versions.insert(name.to_owned(), version);
        }
    }
    Ok(versions)
}

/// A setting of the system's, changed where it has to be and may be, and put back at the end.
struct Setting {
    path: &'static str,
    was: String,
}

impl Setting {
    /// FUSE over `io_uring` on, message queues as long and wide as is measured.
    fn change() -> Vec<Setting> {
        let wanted = [
            (ENABLE_URING, "Y"),
            ("/proc/sys/fs/mqueue/msg_max", "1024"),
            ("/proc/sys/fs/mqueue/msgsize_max", "1048576"),
        ];
        let mut changed = Vec::new();
        for (path, wanted) in wanted {
            let Ok(was) = fs::read_to_string(path).map(|text| text.trim().to_owned()) else { continue };
            let enough =
                was == wanted || was.parse().is_ok_and(|was: u64| wanted.parse().is_ok_and(|w| was >= w));
            if !enough && fs::write(path, wanted).is_ok() {
                changed.push(Setting { path, was });
            }
        }
        changed
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.was) {
            eprintln!("scripts/bench: {} was {} and cannot be put back: {error}", self.path, self.was);
        }
    }
}

/// The servers of a round, each started anew, so that what differs from start to start is part of what differs between
/// rounds. They end with it.
struct Round<'a> {
    context: Context<'a>,
    left_out: Vec<LeftOut>,
    _servers: Vec<Listening>,
    _null: Vec<Null>,
    /// The last to go: all mounts below it have ended then.
    _temp: tempfile::TempDir,
}

impl<'a> Round<'a> {
    fn start(
        plan: &Plan,
        settings: &'a Settings,
        round: usize,
        stop: &Arc<AtomicBool>,
        bar: &ProgressBar,
    ) -> Result<Round<'a>> {
        let memory = Path::new("/dev/shm");
        let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
        let dir = |name: &str| -> Result<PathBuf> {
            let dir = temp.path().join(name);
            fs::create_dir(&dir)?;
            Ok(dir)
        };
        let mut peers = vec![
            Peer { id: "fifo", kind: Kind::Fifo(dir("fifos")?), server: None },
            Peer { id: "mq", kind: Kind::Mq, server: None },
            Peer { id: "socket", kind: Kind::Socket, server: None },
            Peer { id: "folder", kind: Kind::Folder(dir("folders")?), server: None },
        ];
        let mut left_out = Vec::new();
        let mut leave_out = |peer: &str, why: &anyhow::Error| {
            let (peer, why) = (peer.to_owned(), format!("{why:#}"));
            left_out.push(LeftOut { peer, case: String::new(), why });
        };
        let mut mounts = Vec::new();
        let mut transports = Vec::new();
        for (id, option) in [("ipcfs-dev", "--transport=dev"), ("ipcfs-uring", "--transport=uring")] {
            match Mount::start(&plan.program, temp.path(), id, &[option]) {
                Ok(mount) => {
                    let kind = Kind::Mailbox(mount.dir.join("mailboxes"));
                    peers.push(Peer { id, kind, server: Some(mount.pid()) });
                    mounts.push(mount);
                    transports.push((id, option));
                }
                Err(error) => leave_out(id, &error),
            }
        }
        let mut listening = Vec::new();
        match servers::redis(temp.path()) {
            Ok(server) => {
                let (port, pid) = (server.port, Some(server.pid()));
                peers.push(Peer { id: "redis-list", kind: Kind::RedisList(port), server: pid });
                peers.push(Peer { id: "redis-stream", kind: Kind::RedisStream(port), server: pid });
                listening.push(server);
            }
            Err(error) => leave_out("redis-list, redis-stream", &error),
        }
        match servers::nats(temp.path()) {
            Ok(server) => {
                peers.push(Peer { id: "nats", kind: Kind::Nats(server.port), server: Some(server.pid()) });
                listening.push(server);
            }
            Err(error) => leave_out("nats", &error),
        }
        let mut nulls = Vec::new();
        for (id, transport) in [("null-dev", "dev"), ("null-uring", "uring")] {
            let Some(program) = &plan.null else { break };
            match Null::start(program, temp.path(), transport) {
                Ok(null) => {
                    peers.push(Peer { id, kind: Kind::Null(null.file.clone()), server: Some(null.pid()) });
                    nulls.push(null);
                }
                Err(error) => leave_out(id, &error),
            }
        }
        let context = Context {
            program: plan.program.clone(),
            temp: temp.path().to_owned(),
            settings,
            peers,
            mounts,
            transports,
            round,
            stop: Arc::clone(stop),
            bar: bar.clone(),
        };
        Ok(Round { context, left_out, _servers: listening, _null: nulls, _temp: temp })
    }
}
