//! When to use a segment and when a mailbox, with what either costs.

use super::tables::table;
use crate::model::Run;
use crate::report::times;

/// What is done to a segment, as the case names it and as people do; the shorter table of README has the first of it.
const WORK: [(&str, &str); 17] = [
    ("store", "a store through a mapping"),
    ("load", "a load"),
    ("first touch", "first touch of a page"),
    ("pread 4 KiB, read-only", "`pread` of 4 KiB, opened for reading"),
    ("pread 4 KiB", "the same, opened for writing too"),
    ("pwrite 4 KiB", "`pwrite` of 4 KiB"),
    ("pread 4 KiB, sealed", "`pread` of 4 KiB, opened after `echo grow > .../seal`"),
    ("pwrite 4 KiB, sealed", "`pwrite` of 4 KiB, so opened"),
    ("create to unlink", "create, ftruncate, mmap, close, store, unlink, munmap"),
    ("store while written back, slowest", "the slowest store while pages are written back"),
    ("first touch of much", "first touch of a page of 256 MiB"),
    ("pread 1 MiB, read-only", "`pread` of 1 MiB, opened for reading"),
    ("pread 1 MiB", "the same, opened for writing too"),
    ("pwrite 1 MiB", "`pwrite` of 1 MiB"),
    ("pread 1 MiB, sealed", "`pread` of 1 MiB, growing sealed"),
    ("pwrite 1 MiB, sealed", "`pwrite` of 1 MiB, growing sealed"),
    ("store while written back, p99.9", "a store while pages are written back, p99.9"),
];
const SHORT: usize = 10;

const PLACES: [(&str, &str); 3] =
    [("ipcfs-passthrough", "passthrough"), ("ipcfs-cached", "cached"), ("shm", "`/dev/shm`")];

/// A time, in the unit that people would say it in.
fn time(us: f64) -> String {
    let (value, unit) = match us {
        _ if us < 0.1 => (us * 1e3, "ns"),
        _ if us < 10_000.0 => (us, "µs"),
        _ => (us / 1e3, "ms"),
    };
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

fn handed(run: &Run, size: &str, way: &str) -> String {
    run.figure("handover", size, way, "time").map_or("–".into(), |figure| time(figure.median))
}

/// README's section.
pub(super) fn section(run: &Run) -> String {
    let load = run.figure("segments", "load", "ipcfs-passthrough", "time");
    let load = load.map_or("–".into(), |figure| time(figure.median));
    let (bell, mailbox) = (handed(run, "64 B", "ipcfs-doorbell"), handed(run, "64 B", "ipcfs-mailbox"));
    let rows = [
        [
            "jobs, commands, events, one receiver each",
            "a mailbox",
            "whole messages in order, waiting, bounds, leases, nothing lost with who dies",
        ]
        .map(String::from),
        [
            "to work from a shell, or with whom you do not know",
            "a mailbox",
            "each side needs `read` and `write` and no agreement on memory",
        ]
        .map(String::from),
        [
            "a state that many look at and few change".into(),
            "a segment".into(),
            format!("a look is a load: {load}, no call, whoever else looks"),
        ],
        [
            "long texts, or hundreds of thousands a second",
            "a segment",
            "nothing is copied that you do not copy",
        ]
        .map(String::from),
        [
            "to wake the other side, too".into(),
            "a segment and its doorbell, or a futex in it".into(),
            format!("{bell} there and back, where a mailbox takes {mailbox}"),
        ],
    ];
    let decide = table(&["you want", "take", "because"], &rows);
    let ways = [
        ("ipcfs-mailbox", "mailbox"),
        ("ipcfs-doorbell", "segment, doorbell"),
        ("ipcfs-futex", "segment, futex"),
    ];
    let rows: Vec<Vec<String>> = run
        .points("handover")
        .iter()
        .map(|(size, _)| {
            std::iter::once(size.clone()).chain(ways.map(|(way, _)| handed(run, size, way))).collect()
        })
        .collect();
    let mut head = vec!["text"];
    head.extend(ways.map(|(_, name)| name));
    let over = table(&head, &rows);
    format!(
        "{decide}A text handed over and acknowledged, between two threads; the segment is copied into and out of. Machine and \
         run are those of [Figures](#figures):\n\n{over}And a segment beside a file in `/dev/shm` (in brackets: how many times \
         as long). In passthrough a mapping is the same memory. What goes through the daemon is slower: making and removing a \
         segment, and `pread` and `pwrite` where the file may grow:\n\n{}",
        places(run, &WORK[..SHORT])
    )
}

/// All of it, for the document with the details.
pub(super) fn all(run: &Run) -> String {
    places(run, &WORK)
}

fn places(run: &Run, work: &[(&str, &str)]) -> String {
    let rows: Vec<Vec<String>> = work
        .iter()
        .map(|(point, says)| {
            let cell = |(place, _): (&str, &str)| {
                let Some(figure) = run.figure("segments", point, place, "time") else { return "–".into() };
                match run.ratio("segments", point, "time", place, "shm") {
                    Some(ratio) if place != "shm" => {
                        format!("{} ({})", time(figure.median), times(ratio.median))
                    }
                    _ => time(figure.median),
                }
            };
            std::iter::once((*says).to_owned()).chain(PLACES.map(cell)).collect()
        })
        .collect();
    let mut head = vec![""];
    head.extend(PLACES.map(|(_, name)| name));
    table(&head, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_their_unit() {
        let said = [0.0021, 0.74, 9.96, 18.4, 1_216.0, 18_000.0].map(time);
        assert_eq!(said, ["2.1 ns", "0.7 µs", "10.0 µs", "18 µs", "1216 µs", "18 ms"]);
    }
}
