//! What a segment costs in each data path, beside a file in `/dev/shm` doing the same work in the same run.
//!
//! `cargo bench --bench segments` prints a table; with `-- --json FILE` it also writes a line of JSON for each case.
//! Each round measures every case once in each place, so that a machine that drifts drifts for all; a figure is the median
//! of the rounds, a ratio the median of the rounds' ratios to `/dev/shm`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "segments/handing.rs"]
mod handing;

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use handing::{Doorbell, Futex};
use memmap2::{MmapMut, MmapOptions};

const ROUNDS: usize = 9;
const PAGE: usize = 4096;
const LINE: usize = 64;
const SMALL: usize = 16 << 20;
/// More than the kernel lets a file system of its kind have unwritten, on a machine of ordinary size.
const LARGE: usize = 256 << 20;
const CALLS: u32 = 4_000;
const FILES: u32 = 300;
/// How long stores are timed one by one.
const WATCHED: Duration = Duration::from_millis(500);
/// How often they are written back meanwhile. The kernel itself does so every 5 seconds.
const WRITE_BACK: Duration = Duration::from_millis(50);

/// Where files of memory are made, and where their seals are, if there are any.
struct Place {
    files: PathBuf,
    control: Option<PathBuf>,
    daemon: Option<Child>,
}

impl Place {
    fn shm() -> Place {
        Place { files: "/dev/shm".into(), control: None, daemon: None }
    }

    /// `None` where this data path is not to be had.
    fn mount(dir: &Path, path: &str) -> Option<Place> {
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_ipcfs"))
            .args(["mount", "-f", "--ready-stdout", &format!("--segments={path}")])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ipcfs starts");
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (files, control) = (dir.join("segments"), Some(dir.join("control/segments")));
        (line == "ready\n").then_some(Place { files, control, daemon: Some(daemon) })
    }

    fn name(&self) -> PathBuf {
        self.files.join(format!("ipcfs-bench-{}", std::process::id()))
    }

    /// A new file of this length, removed again when dropped.
    fn file(&self, length: usize) -> (File, Removed) {
        let path = self.name();
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(length as u64).unwrap();
        (file, Removed(path))
    }

    /// A text handed over and acknowledged: by mailbox, by doorbell, by futex.
    fn hand_over(&self, size: usize) -> [f64; 3] {
        let mount = self.files.parent().unwrap();
        let maps = |file: &File| [map(file, PAGE + size), map(file, PAGE + size)];
        let (file, removed) = self.file(PAGE + size);
        let control = mount.join("control/segments").join(removed.0.file_name().unwrap());
        let [near, far] = maps(&file);
        let doorbell =
            handing::by_segment(near, far, size, [Doorbell::new(&control), Doorbell::new(&control)]);
        file.write_all_at(&[0; 4], 0).unwrap();
        let [near, far] = maps(&file);
        let futex = handing::by_segment(near, far, size, [Futex, Futex]);
        [handing::by_mailbox(mount, size), doorbell, futex]
    }

    /// Its length is made to stay, where that can be said.
    fn seal(&self) {
        if let Some(control) = &self.control {
            fs::write(control.join(self.name().file_name().unwrap()).join("seal"), "grow").unwrap();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let pid = rustix::process::Pid::from_child(daemon);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = daemon.wait();
        }
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn map(file: &File, length: usize) -> MmapMut {
    #[allow(unsafe_code)]
    // SAFETY: the file is this program's own, and keeps its length while it is mapped.
    unsafe {
        MmapOptions::new().len(length).map_mut(file).unwrap()
    }
}

/// A store into each page; nanoseconds each.
fn touch(map: &mut MmapMut) -> f64 {
    let start = Instant::now();
    for page in map.chunks_exact_mut(PAGE) {
        page[0] = 1;
    }
    per(start.elapsed(), map.len() / PAGE) * 1e3
}

fn stores(place: &Place) -> f64 {
    const PASSES: u8 = 12;
    let (file, _removed) = place.file(SMALL);
    let mut map = map(&file, SMALL);
    touch(&mut map);
    let start = Instant::now();
    for pass in 0..PASSES {
        for line in black_box(&mut map).chunks_exact_mut(LINE) {
            line[0] = pass;
        }
    }
    per(start.elapsed(), usize::from(PASSES) * SMALL / LINE) * 1e3
}

fn first_touch(place: &Place) -> f64 {
    let (file, _removed) = place.file(SMALL);
    touch(&mut map(&file, SMALL))
}

fn first_touch_of_much(place: &Place) -> f64 {
    let (file, _removed) = place.file(LARGE);
    touch(&mut map(&file, LARGE))
}

fn reads(file: &File) -> f64 {
    let mut buffer = [0; PAGE];
    let start = Instant::now();
    for call in 0..CALLS {
        file.read_exact_at(&mut buffer, u64::from(call % 1000) * PAGE as u64).unwrap();
    }
    per(start.elapsed(), CALLS as usize)
}

fn writes(file: &File) -> f64 {
    let start = Instant::now();
    for call in 0..CALLS {
        file.write_all_at(&[7; PAGE], u64::from(call % 1000) * PAGE as u64).unwrap();
    }
    per(start.elapsed(), CALLS as usize)
}

/// A call on a file whose pages are there, through a descriptor opened as it says.
fn calls(place: &Place, sealed: bool, write: bool, call: fn(&File) -> f64) -> f64 {
    let (file, removed) = place.file(SMALL);
    touch(&mut map(&file, SMALL));
    if sealed {
        place.seal();
    }
    call(&OpenOptions::new().read(true).write(write).open(&removed.0).unwrap())
}

/// A file's whole life: microseconds.
fn lives(place: &Place) -> f64 {
    let start = Instant::now();
    for _ in 0..FILES {
        let (file, removed) = place.file(PAGE);
        let mut map = map(&file, PAGE);
        drop(file);
        map[0] = 1;
        drop(removed);
    }
    per(start.elapsed(), FILES as usize)
}

/// How long each of many stores at random places takes while the pages are written back: nanoseconds, sorted.
fn watched(place: &Place, length: usize) -> Vec<u32> {
    let (file, _removed) = place.file(length);
    let mut map = map(&file, length);
    touch(&mut map);
    let (done, mut random) = (AtomicBool::new(false), 1_u32);
    let mut times = Vec::with_capacity(20_000_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(WRITE_BACK);
                file.sync_data().unwrap();
            }
        });
        let start = Instant::now();
        let mut last = start;
        while last.duration_since(start) < WATCHED && times.len() < times.capacity() {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            black_box(&mut map)[random as usize / LINE * LINE % length] = random as u8;
            let now = Instant::now();
            times.push(u32::try_from(now.duration_since(last).as_nanos()).unwrap_or(u32::MAX));
            last = now;
        }
        done.store(true, Ordering::Relaxed);
    });
    times.sort_unstable();
    times
}

fn slow_store(place: &Place) -> f64 {
    let times = watched(place, SMALL);
    f64::from(times[times.len() - 1 - times.len() / 1000])
}

fn slowest_store(place: &Place) -> f64 {
    f64::from(*watched(place, SMALL).last().unwrap()) / 1e3
}

fn stores_in_much(place: &Place) -> f64 {
    let times = watched(place, LARGE);
    times.iter().map(|time| f64::from(*time)).sum::<f64>() / times.len() as f64
}

fn per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is done, in which unit its figure is, and how it is measured.
type Case = (&'static str, &'static str, fn(&Place) -> f64);

const CASES: [Case; 12] = [
    ("store through a mapping", "ns", stores),
    ("first touch of a page, 16 MiB", "ns", first_touch),
    ("first touch of a page, 256 MiB", "ns", first_touch_of_much),
    ("pread 4 KiB, opened for reading", "µs", |place| calls(place, false, false, reads)),
    ("pread 4 KiB, opened for writing too", "µs", |place| calls(place, false, true, reads)),
    ("pread 4 KiB, so opened, growing sealed", "µs", |place| calls(place, true, true, reads)),
    ("pwrite 4 KiB", "µs", |place| calls(place, false, true, writes)),
    ("pwrite 4 KiB, growing sealed", "µs", |place| calls(place, true, true, writes)),
    ("create, truncate, mmap, store, unlink, unmap", "µs", lives),
    ("random store while written back, p99.9", "ns", slow_store),
    ("random store while written back, slowest", "µs", slowest_store),
    ("random store in 256 MiB while written back", "ns", stores_in_much),
];

/// Of a mount's ways to hand a text over.
fn hand_over(place: &Place, json: &mut Option<File>) {
    println!(
        "\n{:46} {:>14} {:>14} {:>12}",
        "text handed over and acknowledged", "mailbox", "doorbell", "futex"
    );
    for (name, size) in [("64 B", 64), ("4 KiB", PAGE), ("64 KiB", 16 * PAGE), ("1,044,480 B", 255 * PAGE)] {
        let rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| place.hand_over(size)).collect();
        let [mailbox, doorbell, futex] =
            [0, 1, 2].map(|at| median(rounds.iter().map(|round| round[at]).collect()));
        println!("{name:46} {mailbox:>11.2} µs {doorbell:>11.2} µs {futex:>9.2} µs");
        if let Some(json) = json {
            let case = format!("hand over {name}");
            let line = serde_json::json!({
                "case": case, "mailbox": mailbox, "doorbell": doorbell, "futex": futex, "unit": "µs",
            });
            writeln!(json, "{line}").unwrap();
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().position(|argument| argument == "--json").map(|at| &arguments[at + 1]);
    let mut json = json.map(|path| File::create(path).expect("the file for --json"));
    let temp = tempfile::tempdir().unwrap();
    let places = ["passthrough", "cached"].map(|path| {
        let dir = temp.path().join(path);
        fs::create_dir(&dir).unwrap();
        Place::mount(&dir, path)
    });
    let [passthrough, cached] = places;
    let places = [passthrough, cached, Some(Place::shm())];
    println!(
        "{:46} {:>14} {:>14} {:>12} {:>16}",
        "median of rounds", "passthrough", "cached", "/dev/shm", "to /dev/shm"
    );
    for (name, unit, measure) in CASES {
        let rounds: Vec<[Option<f64>; 3]> =
            (0..ROUNDS).map(|_| places.each_ref().map(|place| place.as_ref().map(measure))).collect();
        let column = |at: usize, what: fn(f64, f64) -> f64| {
            let values = rounds.iter().filter_map(|round| Some(what(round[at]?, round[2]?)));
            let values: Vec<f64> = values.collect();
            (!values.is_empty()).then(|| median(values))
        };
        let [ours, cached, shm] = [0, 1, 2].map(|at| column(at, |value, _| value));
        let [ratio, cached_ratio] = [0, 1].map(|at| column(at, |value, shm| value / shm));
        let show = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}{unit}"))
        };
        let unit_behind = format!(" {unit}");
        println!(
            "{name:46} {:>14} {:>14} {:>12} {:>7} {:>8}",
            show(ours, &unit_behind),
            show(cached, &unit_behind),
            show(shm, &unit_behind),
            show(ratio, ""),
            show(cached_ratio, "")
        );
        if let Some(json) = &mut json {
            let line = serde_json::json!({
                "case": name, "ipcfs_passthrough": ours, "ipcfs_cached": cached, "shm": shm, "unit": unit,
            });
            writeln!(json, "{line}").unwrap();
        }
    }
    if let Some(place) = places.iter().flatten().find(|place| place.control.is_some()) {
        hand_over(place, &mut json);
    }
}
