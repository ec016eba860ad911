//! Two runs beside each other: what got slower, or takes more memory, by more than the noise.
//!
//! A figure has changed when the intervals of both runs do not touch, and the medians are further apart than rounds of
//! that kind of work lie from each other, by so much that chance would do it once in many hundred figures. Where a FIFO
//! or a file in /dev/shm did the same work, what is compared is how many times as long as that it took, so that a slower
//! machine is no slower ipcfs; and then the figure itself must have changed as well.

use std::fmt::Write as _;

use crate::model::{Key, Run};
use crate::peers::{name, yardstick};
use crate::report::us;
use crate::stats::{self, Figure, ratios};

/// Changes smaller than this are none, however little the rounds differ: a program that is built anew lies differently
/// in memory.
const LEAST: f64 = 0.05;

/// Standard errors that medians must be apart.
const ERRORS: f64 = 3.0;

/// The standard error of a median, in those of a mean.
const OF_MEDIAN: f64 = 1.25;

/// With fewer rounds nothing is known of how they differ.
const ROUNDS: usize = 3;

/// What is compared: of ipcfs, and large when it is bad.
fn compared(key: &Key) -> bool {
    key.peer.starts_with("ipcfs") && !matches!(key.metric.as_str(), "max" | "p99.9" | "peak")
}

#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub key: Key,
    pub before: Figure,
    pub after: Figure,
}

impl Change {
    pub fn factor(&self) -> f64 {
        self.after.median / self.before.median
    }
}

/// What got worse, and what got better, the greatest changes first.
pub fn changes(old: &Run, new: &Run) -> (Vec<Change>, Vec<Change>) {
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for series in new.series.iter().filter(|series| compared(&series.key)) {
        let key = &series.key;
        let Some(before) = old.rounds(&key.case, &key.point, &key.peer, &key.metric) else { continue };
        let error = |rounds: &[f64]| -> f64 {
            OF_MEDIAN * (spread(old, key).max(spread(new, key))) / (rounds.len() as f64).sqrt()
        };
        let error = error(before).hypot(error(&series.rounds));
        let mut change = direction(before, &series.rounds, error);
        let ratio = |run: &Run| {
            let fifo = run.rounds(&key.case, &key.point, yardstick(&key.case), &key.metric)?;
            Some(ratios(run.rounds(&key.case, &key.point, &key.peer, &key.metric)?, fifo))
        };
        if let (Some(before), Some(after)) = (ratio(old), ratio(new))
            && direction(&before, &after, 0.0) != change
        {
            change = 0;
        }
        let (Some(before), Some(after)) = (Figure::of(before), Figure::of(&series.rounds)) else { continue };
        let found = Change { key: key.clone(), before, after };
        match change {
            1 => worse.push(found),
            -1 => better.push(found),
            _ => {}
        }
    }
    worse.sort_by(|a, b| b.factor().total_cmp(&a.factor()));
    better.sort_by(|a, b| a.factor().total_cmp(&b.factor()));
    (worse, better)
}

/// How far rounds of one kind of work by one peer lie from each other, whatever its point: few rounds of a single one
/// may be alike by chance.
fn spread(run: &Run, key: &Key) -> f64 {
    let alike = run.series.iter().filter(|series| {
        series.key.case == key.case && series.key.peer == key.peer && series.key.metric == key.metric
    });
    stats::spread(alike.map(|series| &series.rounds[..]))
}

/// 1 if it grew by more than the noise, -1 if it shrank. `error` is the standard error of the medians' quotient.
fn direction(before: &[f64], after: &[f64], error: f64) -> i8 {
    if before.len().min(after.len()) < ROUNDS {
        return 0;
    }
    let (Some(before), Some(after)) = (Figure::of(before), Figure::of(after)) else { return 0 };
    let least = (ERRORS * error).max(LEAST.ln_1p());
    let shift = (after.median / before.median).ln();
    if after.low > before.high && shift > least {
        1
    } else if after.high < before.low && -shift > least {
        -1
    } else {
        0
    }
}

/// For people; and whether anything got worse.
pub fn report(old: &Run, new: &Run) -> (String, bool) {
    let (worse, better) = changes(old, new);
    let mut text = String::new();
    if old.machine.cpu != new.machine.cpu || old.machine.kernel != new.machine.kernel {
        text.push_str("The runs are of different machines or kernels.\n");
    }
    if old.settings != new.settings {
        text.push_str("The runs have different settings.\n");
    }
    if old.setup != new.setup {
        text.push_str("The daemons of the runs ran in different ways:\n");
        for run in [old, new] {
            let setup = run.setup.map_or("unknown".into(), |setup| setup.to_string());
            let _ = writeln!(text, "  {setup}");
        }
    }
    let few = |run: &Run| run.rounds.values().any(|rounds| *rounds < ROUNDS);
    if few(old) || few(new) {
        let _ = writeln!(text, "Cases with less than {ROUNDS} rounds in one of the runs are not compared.");
    }
    for (title, changes) in
        [("Slower, or larger, by more than the noise", &worse), ("Quicker, or smaller", &better)]
    {
        let _ = writeln!(text, "{title}: {}", if changes.is_empty() { "nothing" } else { "" });
        for change in changes {
            let Change { key, before, after } = change;
            let _ = writeln!(
                text,
                "  {:<10} {:<22} {:<18} {:<12} {:>9} ±{:.0}% → {:>9} ±{:.0}%   × {:.2}",
                key.case,
                key.point,
                name(&key.peer),
                key.metric,
                us(before.median),
                before.noise() * 100.0,
                us(after.median),
                after.noise() * 100.0,
                change.factor()
            );
        }
    }
    (text, !worse.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::machine::Machine;
    use crate::model::{Samples, Series, Settings};

    /// Eight rounds in which ipcfs and a FIFO take so long, more or less.
    fn run(ours: f64, fifo: f64) -> Run {
        let mut run = Run::new(Machine::default(), BTreeMap::new(), Settings::quick());
        for round in 0..8 {
            let drift = 1.0 + f64::from(round % 4) / 100.0;
            let mut samples = Samples::default();
            samples.add("pair", ("64 B", 64.0), "ipcfs-dev", "time", ours * drift);
            samples.add("pair", ("64 B", 64.0), "fifo", "time", fifo * drift);
            run.add("pair", samples);
        }
        run
    }

    #[test]
    fn what_got_slower_is_named() {
        let (worse, better) = changes(&run(10.0, 1.0), &run(13.0, 1.0));
        assert_eq!((worse.len(), better.len()), (1, 0));
        assert!((worse[0].factor() - 1.3).abs() < 0.01);
        let (worse, better) = changes(&run(13.0, 1.0), &run(10.0, 1.0));
        assert_eq!((worse.len(), better.len()), (0, 1));
    }

    #[test]
    fn noise_is_no_change() {
        let (worse, better) = changes(&run(10.0, 1.0), &run(10.2, 1.0));
        assert_eq!((worse, better), (vec![], vec![]));
    }

    #[test]
    fn one_round_tells_nothing() {
        let short = |run: Run| {
            let series = run.series.iter().map(|s| Series { rounds: s.rounds[..1].to_vec(), ..s.clone() });
            Run { series: series.collect(), ..run }
        };
        let (worse, better) = changes(&short(run(10.0, 1.0)), &short(run(20.0, 1.0)));
        assert_eq!((worse, better), (vec![], vec![]));
    }

    #[test]
    fn a_slower_machine_is_no_slower_program() {
        let (worse, better) = changes(&run(10.0, 1.0), &run(13.0, 1.3));
        assert_eq!((worse, better), (vec![], vec![]));
    }
}
