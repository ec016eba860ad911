//! How cost grows: what is promised of each operation, beside what was measured.

use std::fmt::Write as _;

use crate::model::Run;
use crate::peers::name;
use crate::report::us;
use crate::stats::{Figure, exponent};

/// How an operation may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// As the logarithm, or not at all.
    Flat,
    /// In proportion.
    Linear,
}

impl Growth {
    /// The most that the exponent may be at the end of a series. A logarithm grows there with 0.1 or less, what is linear
    /// with 1, what is quadratic with 2; the rest is room for noise, and for what leaves the processor's cache.
    fn bound(self) -> f64 {
        match self {
            Growth::Flat => 0.25,
            Growth::Linear => 1.25,
        }
    }

    /// How many steps, each to ten times as many, the end of a series is. What is flat must be so in the last; what is
    /// linear is given two, because a single one may be that out of a cache.
    fn steps(self) -> usize {
        match self {
            Growth::Flat => 1,
            Growth::Linear => 2,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Growth::Flat => "O(1) or O(log n)",
            Growth::Linear => "O(n)",
        }
    }
}

/// Case, metric, what that is for people, and how it may grow.
pub const PROMISES: &[(&str, &str, &str, Growth)] = &[
    ("depth", "time", "send and receive, in waiting messages", Growth::Flat),
    ("depth", "status", "a mailbox's status, in waiting messages", Growth::Flat),
    ("depth", "peek", "peek, in waiting messages", Growth::Flat),
    ("depth", "remove", "removing one message, in waiting messages", Growth::Flat),
    ("depth", "list", "listing messages, in waiting messages", Growth::Linear),
    ("blocked", "time", "send and receive, in readers that wait elsewhere", Growth::Flat),
    ("blocked", "wake", "sending to one who waits, in readers that wait", Growth::Flat),
    ("blocked", "kill", "killing a reader, in readers that wait", Growth::Flat),
    ("blocked", "status", "the mount's status, in readers that wait", Growth::Flat),
    ("mailboxes", "time", "open, send, receive, close, in mailboxes", Growth::Flat),
    ("mailboxes", "create", "creating a mailbox, in mailboxes", Growth::Flat),
    ("mailboxes", "remove", "removing a mailbox, in mailboxes", Growth::Flat),
    ("mailboxes", "find", "finding a mailbox, in mailboxes", Growth::Flat),
    // Its first reading looks at all that were used since the one before.
    ("mailboxes", "status", "the mount's status, in mailboxes", Growth::Flat),
    ("mailboxes", "list", "listing mailboxes, in mailboxes", Growth::Linear),
];

/// A promise, checked for one peer.
#[derive(Debug, Clone)]
pub struct Check {
    pub what: &'static str,
    pub growth: Growth,
    pub peer: String,
    /// The ends of what was measured: how many, and microseconds.
    pub from: (f64, f64),
    pub to: (f64, f64),
    /// With which it grows at the end.
    pub exponent: f64,
    /// The same, from the highest that it may have been before to the lowest that it may be now.
    certain: f64,
}

impl Check {
    /// Unless it certainly does not.
    pub fn holds(&self) -> bool {
        self.certain <= self.growth.bound()
    }
}

/// Of all peers that are ipcfs. From ten on: the first is measured before anything is warm.
pub fn checks(run: &Run) -> Vec<Check> {
    let mut checks = Vec::new();
    for (case, metric, what, growth) in PROMISES {
        for peer in run.peers(case).into_iter().filter(|peer| peer.starts_with("ipcfs")) {
            let mut series: Vec<(f64, Figure)> = run
                .points(case)
                .iter()
                .filter(|(_, x)| *x >= 10.0)
                .filter_map(|(point, x)| Some((*x, run.figure(case, point, &peer, metric)?)))
                .collect();
            series.sort_by(|a, b| a.0.total_cmp(&b.0));
            let end = series.len().saturating_sub(1 + growth.steps());
            let (Some(first), Some(before), Some(last)) = (series.first(), series.get(end), series.last())
            else {
                continue;
            };
            let by = |from: f64, to: f64| exponent(&[(before.0, from), (last.0, to)]);
            let (Some(exponent), Some(certain)) =
                (by(before.1.median, last.1.median), by(before.1.high, last.1.low))
            else {
                continue;
            };
            let (from, to) = ((first.0, first.1.median), (last.0, last.1.median));
            checks.push(Check { what, growth: *growth, peer, from, to, exponent, certain });
        }
    }
    checks
}

/// For people; and whether all promises hold.
pub fn report(run: &Run) -> (String, bool) {
    let checks = checks(run);
    let mut text = String::new();
    for check in &checks {
        let _ = writeln!(
            text,
            "  {:<48} {:<17} {:<16} {:>9} µs at {:>9} to {:>9} µs at {:>9}: n^{:.2} {}",
            check.what,
            name(&check.peer),
            check.growth.name(),
            us(check.from.1),
            crate::work::grouped(check.from.0 as usize),
            us(check.to.1),
            crate::work::grouped(check.to.0 as usize),
            check.exponent,
            if check.holds() { "holds" } else { "DOES NOT HOLD" }
        );
    }
    if !text.is_empty() {
        text.insert_str(0, "Growth: what is promised, and what was measured\n");
    }
    (text, checks.iter().all(Check::holds))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::machine::Machine;
    use crate::model::{Samples, Settings};

    fn run(metric: &str, cost: fn(f64) -> f64) -> Run {
        let mut run = Run::new(Machine::default(), BTreeMap::new(), Settings::quick());
        let mut samples = Samples::default();
        for x in [1.0, 10.0, 100.0, 1000.0, 10_000.0] {
            samples.add("depth", (&format!("{x}"), x), "ipcfs-dev", metric, cost(x));
        }
        run.add("depth", samples);
        run
    }

    #[test]
    fn a_promise_holds_or_does_not() {
        let holds = |run: &Run| checks(run).iter().map(Check::holds).collect::<Vec<_>>();
        assert_eq!(holds(&run("time", |_| 50.0)), [true]);
        assert_eq!(holds(&run("time", |x| 5.0 + x.ln())), [true]);
        assert_eq!(holds(&run("time", |x| 50.0 + x)), [false]);
        assert_eq!(holds(&run("list", |x| 50.0 + x)), [true]);
        assert_eq!(holds(&run("list", |x| x * x)), [false]);
    }

    #[test]
    fn promises_are_of_cases_that_are_measured() {
        for (case, ..) in PROMISES {
            assert!(crate::work::case(case).is_some_and(|case| case.growth), "{case}");
        }
    }
}
