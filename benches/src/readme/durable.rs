//! Messages that are kept on a disk: the tables, and a sentence for README.

use super::tables::{about, cell, quickest_first, row_name, table};
use crate::model::Run;
use crate::peers::{name, yardstick};
use crate::report::us;

/// Each case: what its table compares, and what is counted for each message.
const CASES: [(&str, &str, &str, &str); 2] = [
    ("durable", "µs per message, sent only", "syncs", "calls of fdatasync(2)"),
    ("durable-stores", "µs per message, put and taken, the store alone", "bytes", "bytes written"),
];

pub(super) fn tables(run: &Run) -> String {
    CASES.map(|(case, what, metric, counted)| of_case(run, case, what, (metric, counted))).concat()
}

fn of_case(run: &Run, case: &str, what: &str, (metric, counted): (&str, &str)) -> String {
    let points = run.points(case);
    let peers = quickest_first(run, case, "time");
    let row = |head: String, cell: &dyn Fn(&str) -> String| -> Vec<String> {
        std::iter::once(head).chain(points.iter().map(|(point, _)| cell(point))).collect()
    };
    let count =
        |point: &str, peer: &str| run.figure(case, point, peer, metric).map(|figure| us(figure.median));
    let times = peers.iter().map(|peer| row(row_name(peer), &|point| cell(run, case, point, peer, "time")));
    let counts = peers
        .iter()
        .filter(|peer| points.iter().any(|(point, _)| count(point, peer).is_some()))
        .map(|peer| {
            row(format!("{counted}: {}", name(peer)), &|point| count(point, peer).unwrap_or("–".into()))
        });
    let rows: Vec<Vec<String>> = times.chain(counts).collect();
    let mut head = vec![what];
    head.extend(points.iter().map(|(point, _)| point.as_str()));
    let yardstick = format!("In parentheses: the ratio to {} in the same round.", name(yardstick(case)));
    format!("{}{} {yardstick}\n\n", table(&head, &rows), about(&[case]).trim_end())
}

/// For README: what many senders wait for.
pub(super) fn in_short(run: &Run) -> String {
    const POINT: &str = "64 B, 64 senders";
    let time = |peer: String| Some((run.figure("durable", POINT, &peer, "time")?.median, peer));
    let mut times: Vec<(f64, String)> = run.peers("durable").into_iter().filter_map(time).collect();
    if times.is_empty() {
        return String::new();
    }
    times.sort_by(|one, other| one.0.total_cmp(&other.0));
    let times: Vec<String> =
        times.iter().map(|(time, peer)| format!("{} {}", name(peer), us(*time))).collect();
    format!("µs per message that is kept on a disk, {POINT}: {}.\n\n", times.join("; "))
}
