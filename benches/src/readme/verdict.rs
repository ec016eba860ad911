//! When to take something else: who is quicker at what, and why.

use std::fmt::Write as _;

use crate::model::Run;
use crate::peers::name;
use crate::report::times;

/// Work that all can be compared by, and the figure that it is compared by.
const WORK: [(&str, &str); 7] = [
    ("oneway", "time"),
    ("roundtrip", "p50"),
    ("pair", "time"),
    ("open", "time"),
    ("shell", "time"),
    ("lines", "time"),
    ("many", "time"),
];

/// What makes a peer quick or slow. These are reasons, not figures.
fn why(peer: &str) -> &'static str {
    match peer {
        "fifo" => {
            "A system call copies bytes into the kernel and out of it; there is no daemon to wake and no switch to it. It \
             keeps no messages apart, has no bound but 64 KiB, and shows nobody what waits."
        }
        "socket" => {
            "As a FIFO, with messages kept apart. Both ends must be handed out by one process, and end with it."
        }
        "mq" => {
            "As a FIFO, with messages kept apart, and priorities. Few and short unless root raises limits; from the shell \
             it cannot be used."
        }
        "redis-list" => {
            "A server too, reached by TCP: each operation is two system calls of the client and two of the server, and \
             its protocol is parsed. It can be elsewhere, and keep what it has."
        }
        "redis-stream" => "As the list, and each entry is kept with its number, and who has read it.",
        "nats" => {
            "Each message is sent, answered, delivered and acknowledged over TCP, by a client with a scheduler of its \
             own. It can be elsewhere, in several places, and keep what it has."
        }
        "folder" => {
            "No daemon, but five or more operations on names for each message, and a listing; whoever waits is woken by \
             inotify."
        }
        _ => "",
    }
}

/// One comparison: of our quicker transport with a peer.
struct Match {
    case: &'static str,
    point: String,
    /// How many times as long we take.
    ratio: f64,
    /// Whether the rounds leave no doubt who is quicker.
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
        "When something else is quicker. In brackets: how many times as long ipcfs takes, by whichever of its transports \
         is quicker there.\n\n| | quicker than ipcfs at | slower than ipcfs at | because |\n|---|---|---|---|\n",
    );
    for peer in peers {
        let matches = matches(run, &peer);
        let quicker = list(&matches, |one| one.certain && one.ratio > 1.0);
        let slower = list(&matches, |one| one.certain && one.ratio < 1.0);
        let _ = writeln!(text, "| {} | {quicker} | {slower} | {} |", name(&peer), why(&peer));
    }
    text.push_str("\nWhat is in neither column is too close to tell, or cannot be done by both.\n\n");
    text
}

/// Work at which it is so, by case, with the range of ratios.
fn list(matches: &[Match], so: impl Fn(&Match) -> bool) -> String {
    let found: Vec<&Match> = matches.iter().filter(|one| so(one)).collect();
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
        // All of a case needs no points.
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

/// A case in few words.
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
    fn what_is_so_is_listed_by_case() {
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
