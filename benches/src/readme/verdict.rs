//! When to take something else: who is quicker at what, and why.

use std::fmt::Write as _;

use crate::model::Run;
use crate::peers::name;
use crate::report::times;
use crate::work::case;

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
    what: String,
    /// How many times as long we take.
    ratio: f64,
    /// Whether the rounds leave a doubt.
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
        "When something else is quicker (ipcfs: whichever of its transports is quicker there; in brackets, how many times \
         as long ipcfs takes):\n\n| | quicker than ipcfs at | slower at | because |\n|---|---|---|---|\n",
    );
    for peer in peers {
        let matches = matches(run, &peer);
        let list = |wanted: &dyn Fn(&Match) -> bool| {
            let mut found: Vec<&Match> = matches.iter().filter(|one| one.certain && wanted(one)).collect();
            found.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
            match found.len() {
                0 => "nothing".to_owned(),
                count if count == matches.len() => {
                    let (most, least) = (found[0], found[count - 1]);
                    format!(
                        "everything: from {} ({}) to {} ({})",
                        most.what,
                        times(most.ratio),
                        least.what,
                        times(least.ratio)
                    )
                }
                _ => found
                    .iter()
                    .map(|one| format!("{} ({})", one.what, times(one.ratio)))
                    .collect::<Vec<_>>()
                    .join(", "),
            }
        };
        let (quicker, slower) = (list(&|one| one.ratio > 1.0), list(&|one| one.ratio < 1.0));
        let _ = writeln!(text, "| {} | {quicker} | {slower} | {} |", name(&peer), why(&peer));
    }
    text.push('\n');
    text
}

fn matches(run: &Run, peer: &str) -> Vec<Match> {
    let mut found = Vec::new();
    for (id, metric) in WORK {
        let points = run.points(id);
        for (point, _) in &points {
            let ours = ["ipcfs-uring", "ipcfs-dev"]
                .iter()
                .filter_map(|ours| run.ratio(id, point, metric, ours, peer))
                .min_by(|a, b| a.median.total_cmp(&b.median));
            let Some(ratio) = ours else { continue };
            let title = case(id).map_or(id, |case| short(case.id));
            found.push(Match {
                what: if points.len() > 1 { format!("{title} {point}") } else { title.to_owned() },
                ratio: ratio.median,
                certain: ratio.low > 1.0 || ratio.high < 1.0,
            });
        }
    }
    found
}

/// A case in few words.
fn short(id: &str) -> &str {
    match id {
        "oneway" => "one way",
        "roundtrip" => "round trip",
        "pair" => "one process",
        "open" => "opening each time",
        "shell" => "from the shell",
        "many" => "many,",
        other => other,
    }
}
