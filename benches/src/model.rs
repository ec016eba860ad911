//! A run: what was measured where and how, as it stands in the JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::stats::{Figure, ratios};

/// Of the JSON. Another one is not read.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub format: u32,
    /// Whether all cases and rounds are in it.
    pub complete: bool,
    pub machine: Machine,
    /// Of what was measured, by name.
    pub versions: BTreeMap<String, String>,
    pub settings: Settings,
    /// How the daemons ran; unknown in runs that did not record it.
    #[serde(default)]
    pub setup: Option<Setup>,
    /// Rounds that were measured, by case.
    pub rounds: BTreeMap<String, usize>,
    /// What is missing, and why.
    pub left_out: Vec<LeftOut>,
    pub series: Vec<Series>,
}

/// How it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub quick: bool,
    /// Rounds of cases that compare peers, and of those that grow.
    pub rounds: usize,
    pub growth_rounds: usize,
    /// How long each peer does each thing in a round: before measuring, and measured.
    pub warm_ms: u64,
    pub measure_ms: u64,
    /// How far it grows: messages waiting, mailboxes, readers waiting.
    pub most_messages: usize,
    pub most_mailboxes: usize,
    pub most_readers: usize,
}

impl Settings {
    pub fn full() -> Settings {
        Settings {
            quick: false,
            rounds: 9,
            growth_rounds: 3,
            warm_ms: 50,
            measure_ms: 200,
            most_messages: 1_000_000,
            most_mailboxes: 100_000,
            most_readers: 10_000,
        }
    }

    pub fn quick() -> Settings {
        Settings {
            quick: true,
            rounds: 3,
            growth_rounds: 3,
            warm_ms: 10,
            measure_ms: 40,
            most_messages: 10_000,
            most_mailboxes: 10_000,
            most_readers: 1_000,
        }
    }
}

/// How a daemon ran, compared with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // each is a fact by itself
pub struct Setup {
    /// Started by a command that returned when the daemon was ready.
    pub background: bool,
    /// In another session than the clients.
    pub own_session: bool,
    /// `kernel.sched_autogroup_enabled`: the scheduler treats each session as a group.
    pub autogroup: bool,
    /// In another cgroup (v2) than the clients.
    pub own_cgroup: bool,
    /// The cpu controller works in that cgroup: the scheduler treats it as a group.
    pub cpu_controller: bool,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.background { "in the background" } else { "in the foreground" };
        let session = if self.own_session { "a session of its own" } else { "the session of the clients" };
        let autogroup = if self.autogroup { "on" } else { "off" };
        write!(f, "{place}, in {session} (autogroup {autogroup}), ")?;
        match (self.own_cgroup, self.cpu_controller) {
            (false, _) => write!(f, "in the cgroup of the clients"),
            (true, true) => write!(f, "in a cgroup of its own with the cpu controller"),
            (true, false) => write!(f, "in a cgroup of its own without the cpu controller"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub peer: String,
    /// Where; everywhere if empty.
    pub case: String,
    pub why: String,
}

/// The rounds of one thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    #[serde(flatten)]
    pub key: Key,
    pub rounds: Vec<f64>,
}

/// What it is that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub case: String,
    /// What was varied, as people call it.
    pub point: String,
    /// The same as a number: bytes, callers, messages.
    pub x: f64,
    pub peer: String,
    /// `time`, `p50`, `p99`, `p99.9`, `max`, `cpu_clients`, `cpu_server` in microseconds for each message or operation;
    /// `peak` in bytes, `requests` in requests to the daemon; others are named by their case.
    pub metric: String,
}

impl Key {
    fn is(&self, case: &str, point: &str, peer: &str, metric: &str) -> bool {
        self.case == case && self.point == point && self.peer == peer && self.metric == metric
    }
}

/// What one round of one case measured.
#[derive(Debug, Default)]
pub struct Samples {
    pub values: Vec<(Key, f64)>,
    pub left_out: Vec<LeftOut>,
}

impl Samples {
    pub fn add(&mut self, case: &str, (point, x): (&str, f64), peer: &str, metric: &str, value: f64) {
        let key = Key {
            case: case.to_owned(),
            point: point.to_owned(),
            x,
            peer: peer.to_owned(),
            metric: metric.to_owned(),
        };
        self.values.push((key, value));
    }

    pub fn leave_out(&mut self, case: &str, peer: &str, why: impl AsRef<str>) {
        self.left_out.push(LeftOut {
            peer: peer.to_owned(),
            case: case.to_owned(),
            why: why.as_ref().to_owned(),
        });
    }
}

impl Run {
    pub fn new(machine: Machine, versions: BTreeMap<String, String>, settings: Settings) -> Run {
        Run {
            format: FORMAT,
            complete: false,
            machine,
            versions,
            settings,
            setup: None,
            rounds: BTreeMap::new(),
            left_out: Vec::new(),
            series: Vec::new(),
        }
    }

    pub fn load(path: &Path) -> Result<Run> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let run: Run = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON that scripts/bench wrote", path.display()))?;
        ensure!(run.format == FORMAT, "{} has format {}, not {FORMAT}", path.display(), run.format);
        Ok(run)
    }

    /// In one step: where the disk is full, what was there before stays.
    pub fn save(&self, path: &Path) -> Result<()> {
        let draft = path.with_extension("json.new");
        let written = serde_json::to_string_pretty(self)
            .context("making JSON")
            .and_then(|text| fs::write(&draft, compact(&text)).context("writing"))
            .and_then(|()| fs::rename(&draft, path).context("renaming"));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.with_context(|| format!("the results cannot be kept in {}", path.display()))
    }

    pub fn add(&mut self, case: &str, samples: Samples) {
        for (key, value) in samples.values {
            match self.series.iter_mut().find(|series| series.key == key) {
                Some(series) => series.rounds.push(value),
                None => self.series.push(Series { key, rounds: vec![value] }),
            }
        }
        self.leave_out(samples.left_out);
        *self.rounds.entry(case.to_owned()).or_default() += 1;
    }

    /// Says so once.
    pub fn leave_out(&mut self, left_out: Vec<LeftOut>) {
        for one in left_out {
            if !self.left_out.contains(&one) {
                self.left_out.push(one);
            }
        }
    }

    pub fn rounds(&self, case: &str, point: &str, peer: &str, metric: &str) -> Option<&[f64]> {
        let series = self.series.iter().find(|series| series.key.is(case, point, peer, metric))?;
        Some(&series.rounds)
    }

    pub fn figure(&self, case: &str, point: &str, peer: &str, metric: &str) -> Option<Figure> {
        Figure::of(self.rounds(case, point, peer, metric)?)
    }

    /// How many times as much one peer takes as another: of the quotients of each round.
    pub fn ratio(&self, case: &str, point: &str, metric: &str, peer: &str, to: &str) -> Option<Figure> {
        let (of, to) = (self.rounds(case, point, peer, metric)?, self.rounds(case, point, to, metric)?);
        Figure::of(&ratios(of, to))
    }

    /// What was varied in a case, in order.
    pub fn points(&self, case: &str) -> Vec<(String, f64)> {
        let mut points: Vec<(String, f64)> = Vec::new();
        for Series { key, .. } in self.series.iter().filter(|series| series.key.case == case) {
            if !points.iter().any(|(point, _)| *point == key.point) {
                points.push((key.point.clone(), key.x));
            }
        }
        points
    }

    /// Who did a case, in order.
    pub fn peers(&self, case: &str) -> Vec<String> {
        self.distinct(case, |key| &key.peer)
    }

    pub fn metrics(&self, case: &str) -> Vec<String> {
        self.distinct(case, |key| &key.metric)
    }

    fn distinct(&self, case: &str, of: impl Fn(&Key) -> &String) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for series in self.series.iter().filter(|series| series.key.case == case) {
            if !found.contains(of(&series.key)) {
                found.push(of(&series.key).clone());
            }
        }
        found
    }

    /// A figure's growth: its values by `x`.
    pub fn growth(&self, case: &str, peer: &str, metric: &str) -> Vec<(f64, f64)> {
        let mut values: Vec<(f64, f64)> = self
            .points(case)
            .iter()
            .filter_map(|(point, x)| Some((*x, self.figure(case, point, peer, metric)?.median)))
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        values
    }
}

/// Lists of numbers in one line, so that a change of a run can be read.
fn compact(pretty: &str) -> String {
    let mut text = String::with_capacity(pretty.len());
    let mut list = false;
    for line in pretty.lines() {
        let trimmed = line.trim_start();
        if list {
            text.push_str(trimmed);
            if trimmed.starts_with(']') {
                list = false;
                text.push('\n');
            } else if trimmed.ends_with(',') {
                text.push(' ');
            }
        } else {
            text.push_str(line);
            list = trimmed == "\"rounds\": [";
            if !list {
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)] // of figures that are exact

    use super::*;

    fn run() -> Run {
        let mut run = Run::new(Machine::default(), BTreeMap::new(), Settings::quick());
        for round in [2.0, 4.0, 3.0] {
            let mut samples = Samples::default();
            samples.add("pair", ("64 B", 64.0), "fifo", "time", round);
            samples.add("pair", ("64 B", 64.0), "ipcfs-dev", "time", round * 10.0);
            samples.leave_out("pair", "nats", "not there");
            run.add("pair", samples);
        }
        run
    }

    #[test]
    fn rounds_are_gathered_by_what_was_measured() {
        let run = run();
        assert_eq!(run.rounds["pair"], 3);
        assert_eq!(run.left_out.len(), 1);
        assert_eq!(run.figure("pair", "64 B", "fifo", "time").unwrap().median, 3.0);
        assert_eq!(run.ratio("pair", "64 B", "time", "ipcfs-dev", "fifo").unwrap().median, 10.0);
        assert_eq!(run.figure("pair", "64 B", "mq", "time"), None);
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        run().save(&path).unwrap();
        assert_eq!(Run::load(&path).unwrap(), run());
        assert!(fs::read_to_string(&path).unwrap().contains("\"rounds\": [2.0, 4.0, 3.0]"));
        fs::write(&path, "{}").unwrap();
        assert!(Run::load(&path).unwrap_err().to_string().contains("no JSON that scripts/bench wrote"));
    }

    #[test]
    fn where_nothing_can_be_written_what_was_kept_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        run().save(&path).unwrap();
        // The draft's place is taken: as a full disk, it cannot be written.
        fs::create_dir(dir.path().join("run.json.new")).unwrap();
        assert!(run().save(&path).is_err());
        assert_eq!(Run::load(&path).unwrap(), run());
    }
}
