//! The tables, each with the meaning of its figures.

use std::fmt::Write as _;

use crate::model::Run;
use crate::peers::{name, yardstick};
use crate::report::{times, us};
use crate::scale;
use crate::stats::Figure;
use crate::work::{case, grouped};

/// A table of Markdown.
pub(super) fn table<R: AsRef<[String]>>(head: &[&str], rows: &[R]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.as_ref().join(" | "));
    }
    text.push('\n');
    text
}

/// The name in a table; those of ipcfs are bold.
pub(super) fn row_name(peer: &str) -> String {
    if peer.starts_with("ipcfs") { format!("**{}**", name(peer)) } else { name(peer).to_owned() }
}

/// A date, from seconds since 1970.
fn date(seconds: u64) -> String {
    // Days since 1 March of the year 0, in eras of 400 years: Howard Hinnant's `civil_from_days`.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

/// How accurate the medians of a case are: half of them are at least this accurate.
fn usual_noise(run: &Run, case: &str) -> f64 {
    let noise: Vec<f64> = run
        .series
        .iter()
        .filter(|series| series.key.case == case && series.key.metric == "time")
        .filter_map(|series| Some(Figure::of(&series.rounds)?.noise()))
        .collect();
    Figure::of(&noise).map_or(0.0, |figure| figure.median)
}

/// For README: machine, date and versions, and how to read the table.
pub(super) fn conditions(run: &Run) -> String {
    let machine = &run.machine;
    // The commit is left out: it changes when history is rebased.
    let versions = run.versions.iter().filter(|(name, _)| *name != "commit").map(|(_, version)| version);
    let versions: Vec<String> = versions
        .map(|version| {
            let words: Vec<&str> =
                version.split(' ').filter(|word| !word.contains('=') || word.starts_with("v=")).collect();
            words.join(" ").replace("v=", "").replace("server: v", "server ")
        })
        .collect();
    format!(
        "`scripts/bench` measured all figures in one run, on {} with {} CPUs and {} GB, {}, {}: {}. Each figure is the \
         median of {} rounds; half of them are accurate to ± {:.0} %. In parentheses: the ratio to the FIFO of the same \
         round. On another machine, the ratios change less than the times do.\n\n",
        machine.cpu,
        machine.cpus,
        (machine.memory_mb + 512) / 1024,
        machine.kernel,
        date(machine.started),
        versions.join(", "),
        run.settings.rounds,
        usual_noise(run, "oneway") * 100.0,
    )
}

/// For the details: how it was measured, and how to read the tables.
pub(super) fn method(run: &Run) -> String {
    let settings = &run.settings;
    format!(
        "`scripts/figures` makes this file from the run in `figures/bench.json`; do not edit it. \
         [README](../README.md#figures) names the machine and the versions, and has the times from one process to \
         another.\n\n\
         Each figure is the median of {} rounds ({} rounds where growth is measured). In each round, all candidates do the \
         same work in turn, for {} ms each. In parentheses: the ratio to the FIFO of the same round. Half of the medians \
         of the round trips are accurate to ± {:.0} %.\n\n",
        settings.rounds,
        settings.growth_rounds,
        settings.measure_ms,
        usual_noise(run, "roundtrip") * 100.0,
    )
}

/// The peers of a case, ordered by their time at its first point.
pub(super) fn quickest_first(run: &Run, case: &str, metric: &str) -> Vec<String> {
    let Some((first, _)) = run.points(case).into_iter().next() else { return Vec::new() };
    let mut peers = run.peers(case);
    let time =
        |peer: &String| run.figure(case, &first, peer, metric).map_or(f64::INFINITY, |figure| figure.median);
    peers.sort_by(|a, b| time(a).total_cmp(&time(b)));
    peers
}

/// A time, and its ratio to that of the case's yardstick.
pub(super) fn cell(run: &Run, case: &str, point: &str, peer: &str, metric: &str) -> String {
    let Some(figure) = run.figure(case, point, peer, metric) else { return "–".into() };
    let yardstick = yardstick(case);
    match run.ratio(case, point, metric, peer, yardstick) {
        Some(ratio) if peer != yardstick => format!("{} ({})", us(figure.median), times(ratio.median)),
        _ => us(figure.median),
    }
}

pub(super) fn one_way(run: &Run) -> String {
    let points = run.points("oneway");
    let rows: Vec<Vec<String>> = quickest_first(run, "oneway", "time")
        .iter()
        .map(|peer| {
            let cells = points.iter().map(|(point, _)| cell(run, "oneway", point, peer, "time"));
            let cpu = |metric: &str| {
                run.figure("oneway", "64 B", peer, metric).map_or("–".into(), |figure| us(figure.median))
            };
            let mut row = vec![row_name(peer)];
            row.extend(cells);
            let peak = run.figure("oneway", "1 MB", peer, "peak");
            let peak = peak.map_or("–".into(), |bytes| format!("{:.0} MiB", bytes.median / 1_048_576.0));
            row.extend([cpu("cpu_clients"), cpu("cpu_server"), peak]);
            row
        })
        .collect();
    let mut head = vec!["µs per message, one way"];
    head.extend(points.iter().map(|(point, _)| point.as_str()));
    head.extend(["CPU of both clients, 64 B", "CPU of the server, 64 B", "memory of the server, 1 MB"]);
    let meaning = "CPU: processor time per message. Memory: the peak (VmHWM).";
    format!("{}{} {meaning}\n\n", table(&head, &rows), about(&["oneway"]).trim_end())
}

/// The meaning of the figures of cases.
pub(super) fn about(cases: &[&str]) -> String {
    let mut text = String::new();
    for case in cases.iter().filter_map(|id| case(id)) {
        let _ = write!(text, "*{}*: {} ", case.title, case.about);
    }
    format!("{}\n\n", text.trim_end())
}

pub(super) fn round_trip(run: &Run) -> String {
    let rows: Vec<Vec<String>> = quickest_first(run, "roundtrip", "p50")
        .iter()
        .map(|peer| {
            let of = |point: &str, metric: &str| cell(run, "roundtrip", point, peer, metric);
            let plain = |metric: &str| {
                run.figure("roundtrip", "64 B", peer, metric).map_or("–".into(), |figure| us(figure.median))
            };
            vec![
                row_name(peer),
                of("64 B", "p50"),
                plain("p99"),
                plain("p99.9"),
                plain("max"),
                of("4 KiB", "p50"),
                of("64 KiB", "p50"),
                of("1 MB", "p50"),
            ]
        })
        .collect();
    let head =
        ["µs per round trip", "64 B: p50", "p99", "p99.9", "max", "4 KiB: p50", "64 KiB: p50", "1 MB: p50"];
    let meaning = "p50: half of the round trips take this time or less; p99: 99 of 100; p99.9: 999 of 1,000; max: the \
                   longest of a round.";
    format!("{}{} {meaning}\n\n", table(&head, &rows), about(&["roundtrip"]).trim_end())
}

/// Case and point of a column, and its head.
const OTHER: [(&str, &str, &str); 7] = [
    ("pair", "64 B", "one process sends and receives"),
    ("open", "64 B", "opening each time"),
    ("shell", "8 B", "from the shell"),
    ("lines", "1,000 lines", "1,000 lines"),
    ("many", "8 to 1", "8 senders, 1 receiver"),
    ("many", "1 to 8", "1 sender, 8 receivers"),
    ("many", "8 to 8", "8 and 8"),
];

pub(super) fn other_work(run: &Run) -> String {
    let rows: Vec<Vec<String>> = quickest_first(run, "pair", "time")
        .iter()
        .map(|peer| {
            let cells = OTHER.iter().map(|(case, point, _)| cell(run, case, point, peer, "time"));
            std::iter::once(row_name(peer)).chain(cells).collect()
        })
        .collect();
    let mut head = vec!["µs per message, 64 B"];
    head.extend(OTHER.map(|(_, _, head)| head));
    let mut text = table(&head, &rows);
    text.push_str(&about(&["pair", "open", "shell", "lines", "many"]));
    for (ours, null) in [("ipcfs-dev", "null-dev"), ("ipcfs-uring", "null-uring")] {
        let of =
            |case: &str, peer: &str| run.figure(case, "64 B", peer, "time").map(|figure| us(figure.median));
        if let (Some(pair), Some(null_pair), Some(open), Some(null_open)) =
            (of("pair", ours), of("pair", null), of("open", ours), of("open", null))
        {
            let _ = writeln!(
                text,
                "{}: {pair} µs for a send and a receive, {open} µs with opening. A FUSE server that does nothing, and \
                 leaves its threads to the scheduler: {null_pair} and {null_open} µs.\n",
                name(ours)
            );
        }
    }
    text.push('\n');
    text
}

/// Empty for a run that did not measure it.
pub(super) fn languages(run: &Run) -> String {
    const PEERS: [&str; 4] = ["fifo", "mq", "ipcfs-dev", "ipcfs-uring"];
    let points = run.points("languages");
    if points.is_empty() {
        return String::new();
    }
    let row = |point: &str| {
        let cells = PEERS.iter().map(|peer| cell(run, "languages", point, peer, "time"));
        std::iter::once(point.to_owned()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = points.iter().map(|(point, _)| row(point)).collect();
    let mut head = vec!["µs per message, 64 B"];
    head.extend(PEERS.map(name));
    format!("## Languages\n\n{}{}", table(&head, &rows), about(&["languages"]))
}

pub(super) fn growth(run: &Run) -> String {
    let checks = scale::checks(run);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (_, _, what, growth) in scale::PROMISES {
        let of = |peer: &str| {
            let check = checks.iter().find(|check| check.what == *what && check.peer == peer);
            check.map_or("–".into(), |check| {
                let (from, to) = (grouped(check.from.0 as usize), grouped(check.to.0 as usize));
                let verdict = if check.holds() { "" } else { ": **more than promised**" };
                format!("{} at {from}, {} at {to}{verdict}", us(check.from.1), us(check.to.1))
            })
        };
        rows.push(vec![(*what).to_owned(), growth.name().to_owned(), of("ipcfs-dev"), of("ipcfs-uring")]);
    }
    let head = ["µs for", "promised", name("ipcfs-dev"), name("ipcfs-uring")];
    let mut text = table(&head, &rows);
    let meaning = "The check covers the last tenfold increase; for O(n), the last two. The mount's status examines only the \
                   mailboxes that were used since it was last read, so mailboxes need no common counters.";
    let _ = writeln!(text, "{}\n\n{meaning}\n", about(&["depth", "blocked", "mailboxes"]).trim_end());
    text
}

/// The daemon's memory for each message, reader and mailbox.
pub(super) fn memory(run: &Run) -> String {
    let of = |case: &str, what: &str| {
        let last = run.growth(case, "ipcfs-dev", "memory").pop();
        last.map(|(x, bytes)| {
            format!("{} bytes for {what} (of {})", grouped(bytes as usize), grouped(x as usize))
        })
    };
    let memory: Vec<String> = [
        of("depth", "a waiting message of 64 bytes"),
        of("blocked", "a waiting reader"),
        of("mailboxes", "an empty mailbox"),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!(
        "Memory of the daemon, over /dev/fuse: {}. `tests/footprint.rs` checks a limit for each.\n\n",
        memory.join(", ")
    )
}

pub(super) fn requests(run: &Run) -> String {
    let mut rows = Vec::new();
    for (point, _) in run.points("requests") {
        let mut counts: Vec<(String, f64)> = run
            .metrics("requests")
            .into_iter()
            .filter_map(|request| {
                let figure = run.figure("requests", &point, "ipcfs", &request)?;
                // The kernel sends some requests only once per mount; these are left out.
                (figure.median > 0.2).then_some((request, figure.median))
            })
            .collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let sum: f64 = counts.iter().map(|(_, count)| count).sum();
        let each: Vec<String> = counts
            .iter()
            .map(|(request, count)| match count {
                count if (count - 1.0).abs() < 0.05 => request.to_uppercase(),
                count => format!("{} {}", rounded(*count), request.to_uppercase()),
            })
            .collect();
        rows.push(vec![point, rounded(sum), each.join(", ")]);
    }
    table(&["operation", "requests to the daemon", "which"], &rows)
}

/// A count, with a decimal only if it is not zero.
fn rounded(count: f64) -> String {
    if (count - count.round()).abs() < 0.05 { format!("{count:.0}") } else { format!("{count:.1}") }
}

/// How long servers take to start and end.
pub(super) fn servers(run: &Run) -> String {
    let of = |peer: &str, metric: &str| run.figure("daemon", "", peer, metric).map(|figure| figure.median);
    let mut rows = Vec::new();
    for (peer, what) in [
        ("ipcfs-dev", "**ipcfs, /dev/fuse**"),
        ("ipcfs-uring", "**ipcfs, io_uring**"),
        ("redis-list", "Redis"),
        ("nats", "NATS"),
    ] {
        if let (Some(start), Some(stop), Some(memory)) =
            (of(peer, "start"), of(peer, "stop"), of(peer, "memory"))
        {
            rows.push(vec![
                what.to_owned(),
                format!("{:.1} ms", start / 1e3),
                format!("{:.1} ms", stop / 1e3),
                format!("{} KiB", grouped((memory / 1024.0) as usize)),
            ]);
        }
    }
    let head = ["server", "start to ready", "SIGTERM to exit", "own memory when idle"];
    table(&head, &rows)
}

/// The gain from a second CPU.
pub(super) fn cpus(run: &Run) -> String {
    let points = run.points("cpus");
    let [(one, _), .., (all, _)] = &points[..] else { return String::new() };
    let mut rows = Vec::new();
    for peer in quickest_first(run, "cpus", "time") {
        let rounds = |point: &str| run.rounds("cpus", point, &peer, "time");
        let (Some(first), Some(last)) = (rounds(one), rounds(all)) else { continue };
        let Some(gain) = Figure::of(&crate::stats::ratios(first, last)) else { continue };
        let of = |point: &str| cell(run, "cpus", point, &peer, "time");
        rows.push(vec![row_name(&peer), of(one), of(all), times(gain.median)]);
    }
    let head = ["µs per message, 64 B", one.as_str(), all.as_str(), "speed-up"];
    format!("{}{}", table(&head, &rows), about(&["cpus"]))
}

/// What was not measured, and why.
pub(super) fn left_out(run: &Run) -> String {
    let mut text = String::new();
    let mut left_out: Vec<(String, Vec<&str>)> = Vec::new();
    for one in &run.left_out {
        let says = format!("{} ({})", name(&one.peer), one.why);
        match left_out.iter_mut().find(|(said, _)| *said == says) {
            Some((_, cases)) => cases.push(&one.case),
            None => left_out.push((says, vec![&one.case])),
        }
    }
    for (says, cases) in left_out {
        let place = if cases == [""] { "everything".into() } else { cases.join(", ") };
        let _ = writeln!(text, "- {place}: {says}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_days() {
        let dates = [0, 951_782_400, 1_767_225_599, 1_767_225_600].map(date);
        assert_eq!(dates, ["1970-01-01", "2000-02-29", "2025-12-31", "2026-01-01"]);
    }
}
