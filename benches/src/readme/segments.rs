//! What segments cost, beside mailboxes and `/dev/shm`.

use super::tables::{about, table};
use crate::model::Run;
use crate::report::times;

/// An operation on a segment: its name in the case, and its row in the table.
const WORK: [(&str, &str); 17] = [
    ("store", "a store through a mapping"),
    ("load", "a load"),
    ("first touch", "first touch of a page"),
    ("pread 4 KiB, read-only", "`pread` of 4 KiB, opened for reading"),
    ("pread 4 KiB", "`pread` of 4 KiB, opened for reading and writing"),
    ("pwrite 4 KiB", "`pwrite` of 4 KiB"),
    ("pread 4 KiB, sealed", "`pread` of 4 KiB, opened after `echo grow > .../seal`"),
    ("pwrite 4 KiB, sealed", "`pwrite` of 4 KiB, opened after `echo grow > .../seal`"),
    ("create to unlink", "create, ftruncate, mmap, close, store, unlink, munmap"),
    ("store while written back, slowest", "the slowest store while pages are written back"),
    ("first touch of much", "first touch of a page in 256 MiB"),
    ("pread 1 MiB, read-only", "`pread` of 1 MiB, opened for reading"),
    ("pread 1 MiB", "`pread` of 1 MiB, opened for reading and writing"),
    ("pwrite 1 MiB", "`pwrite` of 1 MiB"),
    ("pread 1 MiB, sealed", "`pread` of 1 MiB, opened after `echo grow > .../seal`"),
    ("pwrite 1 MiB, sealed", "`pwrite` of 1 MiB, opened after `echo grow > .../seal`"),
    ("store while written back, p99.9", "a store while pages are written back, p99.9"),
];

const PLACES: [(&str, &str); 3] =
    [("ipcfs-passthrough", "passthrough"), ("ipcfs-cached", "cached"), ("shm", "`/dev/shm`")];

/// A time in ns, µs or ms, whichever gives a short number.
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

/// A text handed over, then each operation on a segment.
pub(super) fn segments(run: &Run) -> String {
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
    let mut head = vec!["size"];
    head.extend(ways.map(|(_, name)| name));
    format!(
        "One thread hands a text over to another, which acknowledges it. With a segment, both copy the text: into the \
         segment, and out of it.\n\n{}The next table compares a segment with a file in `/dev/shm`. In parentheses: the \
         ratio to `/dev/shm`. A mapping costs the same. Operations that go through the daemon are slower: creating and \
         removing a segment, and `pread` and `pwrite` while the segment may still grow. In `cached`, the kernel sometimes \
         writes stored pages back to the daemon, and a store to such a page waits. Mount as root to get `passthrough`, \
         which has no such waits.\n\n{}",
        table(&head, &rows),
        operations(run)
    )
}

fn operations(run: &Run) -> String {
    let rows: Vec<Vec<String>> = WORK
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
    let mut head = vec!["operation"];
    head.extend(PLACES.map(|(_, name)| name));
    format!("{}{}", table(&head, &rows), about(&["segments"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_fitting_unit() {
        let said = [0.0021, 0.74, 9.96, 18.4, 1_216.0, 18_000.0].map(time);
        assert_eq!(said, ["2.1 ns", "0.7 µs", "10.0 µs", "18 µs", "1216 µs", "18 ms"]);
    }
}
