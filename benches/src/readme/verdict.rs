//! When something else is faster: at what, and why.

use std::fmt::Write as _;

use crate::model::Run;
use crate::peers::name;
use crate::report::times;

/// The cases that are compared, and the metric of each.
const WORK: [(&str, &str); 7] = [
    ("oneway", "time"),
    ("roundtrip", "p50"),
    ("pair", "time"),
    ("open", "time"),
    ("shell", "time"),
    ("lines", "time"),
    ("many", "time"),
];

/// Why a peer is fast or slow.
fn why(peer: &str) -> &'static str {
    match peer {
        "fifo" => {
            "A system call copies bytes into the kernel or out of it, and no daemon has to wake up. It keeps no messages \
             apart, holds 64 KiB, and does not show what waits in it."
        }
        "socket" => {
            "Like a FIFO, but it keeps messages apart. One process must create both ends and pass them on."
        }
        "mq" => {
            "Like a FIFO, but it keeps messages apart and has priorities. Messages are few and short unless root raises \
             limits. A shell cannot use it."
        }
        "redis-list" => {
            "A server behind TCP: each operation takes two system calls in the client and two in the server, and a \
             protocol is parsed. It can run on another machine and can store its data on disk."
        }
        "redis-stream" => "Like the list, but it also stores an id for each entry, and who has read it.",
        "nats" => {
            "Each message is sent, confirmed, delivered and acknowledged over TCP. The client has its own scheduler. It \
             can run on several machines and can store its data on disk."
        }
        "folder" => {
            "No daemon, but each message takes a listing and five or more operations on names. inotify wakes those who \
             wait."
        }
        _ => "",
    }
}

/// One comparison: the faster transport of ipcfs with a peer.
struct Match {
    case: &'static str,
    point: String,
    /// The time of ipcfs, divided by the peer's.
    ratio: f64,
    /// Whether the rounds agree on which is faster.
    certain: bool,
}

pub(super) fn verdict(run: &Run) -> String {
    let mut peers: Vec<String> = Vec::new();
    for (case, _) in WORK {
        for peer in run.peers(case) {
            if !peer.starts_with("ipcfs") && !peer.starts_with("null") && !peers.contains(&peer) {
                peers.push(peer);
            }
        }
    }
    let mut text = String::from(
        "In parentheses: the time of ipcfs, by the faster of its transports, divided by the time of the other.\n\n| | faster \
         than ipcfs at | slower than ipcfs at | reason |\n|---|---|---|---|\n",
    );
    for peer in peers {
        let matches = matches(run, &peer);
        let quicker = list(&matches, |one| one.certain && one.ratio > 1.0);
        let slower = list(&matches, |one| one.certain && one.ratio < 1.0);
        let _ = writeln!(text, "| {} | {quicker} | {slower} | {} |", name(&peer), why(&peer));
    }
    text.push_str(
        "\nWork that is in neither column is too close to call, or one of the two cannot do it.\n\n",
    );
    text
}

/// The matches for which `which` holds, by case, with the range of their ratios.
fn list(matches: &[Match], which: impl Fn(&Match) -> bool) -> String {
    let found: Vec<&Match> = matches.iter().filter(|one| which(one)).collect();
    if found.is_empty() {
        return "nothing".into();
    }
    if found.len() == matches.len() {
        return format!("all of it ({})", range(&found));
    }
    let mut text: Vec<String> = Vec::new();
    for (case, _) in WORK {
        let here: Vec<&Match> = found.iter().filter(|one| one.case == case).copied().collect();
        if here.is_empty() {
            continue;
        }
        let points: Vec<&str> = here.iter().map(|one| one.point.as_str()).collect();
        // Points are listed only if some of the case's are missing.
        let all = matches.iter().filter(|one| one.case == case).count() == here.len();
        let points = if all { String::new() } else { format!(" {}", points.join(", ")) };
        text.push(format!("{}{points} ({})", short(case), range(&here)));
    }
    text.join("; ")
}

fn range(matches: &[&Match]) -> String {
    let ratios = || matches.iter().map(|one| one.ratio);
    let (least, most) = (ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max));
    match (times(least), times(most)) {
        (least, most) if least == most => least,
        (least, most) => format!("{least} to {most}"),
    }
}

fn matches(run: &Run, peer: &str) -> Vec<Match> {
    let mut found = Vec::new();
    for (case, metric) in WORK {
        for (point, _) in run.points(case) {
            let ours = ["ipcfs-uring", "ipcfs-dev"]
                .iter()
                .filter_map(|ours| run.ratio(case, &point, metric, ours, peer))
                .min_by(|a, b| a.median.total_cmp(&b.median));
            let Some(ratio) = ours else { continue };
            let certain = ratio.low > 1.0 || ratio.high < 1.0;
            found.push(Match { case, point, ratio: ratio.median, certain });
        }
    }
    found
}

/// A short name of a case.
fn short(id: &str) -> &str {
    match id {
        "oneway" => "one way",
        "roundtrip" => "round trips",
        "pair" => "one process",
        "open" => "opening each time",
        "shell" => "the shell",
        "many" => "many senders or receivers",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(case: &'static str, point: &str, ratio: f64) -> Match {
        Match { case, point: point.into(), ratio, certain: true }
    }

    #[test]
    fn matches_are_listed_by_case() {
        let matches = [
            one("oneway", "64 B", 20.0),
            one("oneway", "1 MB", 0.5),
            one("pair", "64 B", 2.0),
            one("pair", "4 KiB", 3.0),
        ];
        assert_eq!(list(&matches, |one| one.ratio > 1.0), "one way 64 B (20); one process (2.00 to 3.00)");
        assert_eq!(list(&matches, |one| one.ratio < 0.1), "nothing");
        assert_eq!(list(&matches, |_| true), "all of it (0.50 to 20)");
    }
}
