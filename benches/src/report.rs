//! The table that people read.

use std::fmt::Write as _;

use crate::model::Run;
use crate::peers::{name, yardstick};
use crate::work::{CASES, Case};

/// All that was measured, case by case.
pub fn report(run: &Run) -> String {
    let machine = &run.machine;
    let mut text = format!(
        "{}, {} CPUs, {} MB; {}; load {} when it began\n",
        machine.cpu, machine.cpus, machine.memory_mb, machine.kernel, machine.load
    );
    for (name, version) in &run.versions {
        let _ = writeln!(text, "{name}: {version}");
    }
    match run.setup {
        Some(setup) => {
            let _ = writeln!(text, "Daemon: {setup}");
        }
        None => text.push_str("Daemon: the run does not say how it ran\n"),
    }
    if !run.complete {
        text.push_str("INCOMPLETE: some cases or rounds are missing\n");
    }
    for case in CASES.iter().filter(|case| !run.points(case.id).is_empty()) {
        let _ = writeln!(text, "\n{} ({}; rounds: {})", case.title, case.id, run.rounds[case.id]);
        text.push_str(&match case.id {
            "requests" => requests(run),
            "durable" | "durable-stores" => peers(run, case) + &growth(run, case),
            _ if case.growth => growth(run, case),
            "daemon" => growth(run, case),
            _ => peers(run, case),
        });
    }
    if !run.left_out.is_empty() {
        text.push_str("\nLeft out\n");
        for one in &run.left_out {
            let place = if one.case.is_empty() { String::new() } else { format!(" in {}", one.case) };
            let _ = writeln!(text, "  {}{place}: {}", name(&one.peer), one.why);
        }
    }
    text
}

/// Microseconds, with as many digits as say something.
pub fn us(value: f64) -> String {
    match value {
        _ if value.is_nan() => "-".into(),
        _ if value < 0.1 => format!("{value:.4}"),
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => crate::work::grouped(value.round() as usize),
    }
}

/// A number of times.
pub fn times(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// One table a point; a row a peer, the quickest first.
fn peers(run: &Run, case: &Case) -> String {
    let mut text = String::new();
    for (point, _) in run.points(case.id) {
        let _ = writeln!(
            text,
            "  {point:<22} {:>9} {:>6} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>6}",
            "µs", "±", "×", "p50", "p99", "p99.9", "max", "clients", "server", "MiB"
        );
        let mut rows: Vec<_> = run
            .peers(case.id)
            .into_iter()
            .filter_map(|peer| Some((run.figure(case.id, &point, &peer, "time")?, peer)))
            .collect();
        rows.sort_by(|a, b| a.0.median.total_cmp(&b.0.median));
        for (time, peer) in rows {
            let of = |metric: &str| {
                run.figure(case.id, &point, &peer, metric).map_or("-".into(), |figure| us(figure.median))
            };
            let peak = run.figure(case.id, &point, &peer, "peak");
            let ratio = run.ratio(case.id, &point, "time", &peer, yardstick(case.id));
            let _ = writeln!(
                text,
                "    {:<20} {:>9} {:>5.0}% {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>6}",
                name(&peer),
                us(time.median),
                time.noise() * 100.0,
                ratio.map_or("-".into(), |ratio| times(ratio.median)),
                of("p50"),
                of("p99"),
                of("p99.9"),
                of("max"),
                of("cpu_clients"),
                of("cpu_server"),
                peak.map_or("-".into(), |bytes| format!("{:.0}", bytes.median / 1_048_576.0)),
            );
        }
    }
    text
}

/// A row for each peer and metric, a column for each point.
fn growth(run: &Run, case: &Case) -> String {
    let points = run.points(case.id);
    let mut text = format!("  {:<32}", "µs, or bytes of memory");
    for (point, _) in &points {
        let _ = write!(text, " {point:>10}");
    }
    text.push('\n');
    for peer in run.peers(case.id) {
        for metric in run.metrics(case.id) {
            let figures: Vec<_> =
                points.iter().map(|(point, _)| run.figure(case.id, point, &peer, &metric)).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(text, "  {:<32}", format!("{}: {metric}", name(&peer)));
            for figure in figures {
                let _ = write!(text, " {:>10}", figure.map_or("-".into(), |figure| us(figure.median)));
            }
            text.push('\n');
        }
    }
    text
}

/// What each thing that people do asks of the daemon.
fn requests(run: &Run) -> String {
    let mut text = String::new();
    for (point, _) in run.points("requests") {
        let counts: Vec<(String, f64)> = run
            .metrics("requests")
            .into_iter()
            .filter_map(|request| {
                let figure = run.figure("requests", &point, "ipcfs", &request)?;
                Some((request, figure.median))
            })
            .collect();
        let sum: f64 = counts.iter().map(|(_, count)| count).sum();
        let each: Vec<String> =
            counts.iter().map(|(request, count)| format!("{count:.1} {request}")).collect();
        let _ = writeln!(text, "  {point:<24} {sum:>5.1}  {}", each.join(", "));
    }
    text
}
