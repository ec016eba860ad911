//! Two runs beside each other: what got slower, or takes more memory, by more than the noise.
//!
//! A figure has changed when the intervals of both runs do not touch. Where a FIFO did the same work, what is compared
//! is how many times as long as the FIFO it took, so that a slower machine is no slower ipcfs; and then the figure
//! itself must have changed as well.

use std::fmt::Write as _;

use crate::model::{Key, Run};
use crate::peers::name;
use crate::report::us;
use crate::stats::Figure;

/// Changes smaller than this are none, however little the rounds differ: a program that is built anew lies differently
/// in memory.
const LEAST: f64 = 0.05;

const YARDSTICK: &str = "fifo";

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
        let of = |run: &Run| run.figure(&key.case, &key.point, &key.peer, &key.metric);
        let ratio = |run: &Run| run.ratio(&key.case, &key.point, &key.metric, &key.peer, YARDSTICK);
        let (Some(before), Some(after)) = (of(old), of(new)) else { continue };
        let mut change = direction(before, after);
        if let (Some(before), Some(after)) = (ratio(old), ratio(new))
            && direction(before, after) != change
        {
            change = 0;
        }
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

/// 1 if it grew by more than the noise, -1 if it shrank.
fn direction(before: Figure, after: Figure) -> i8 {
    if after.low > before.high && after.median > before.median * (1.0 + LEAST) {
        1
    } else if after.high < before.low && after.median < before.median / (1.0 + LEAST) {
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
    let fewest = old.rounds.values().chain(new.rounds.values()).min().copied().unwrap_or(0);
    if fewest < 6 {
        let _ = writeln!(
            text,
            "Some cases have {fewest} rounds: with less than six, chance alone makes more than one in twenty seem changed."
        );
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
    use crate::model::{Samples, Settings};

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
    fn a_slower_machine_is_no_slower_program() {
        let (worse, better) = changes(&run(10.0, 1.0), &run(13.0, 1.3));
        assert_eq!((worse, better), (vec![], vec![]));
    }
}
