//! What ipcfs costs, beside a FIFO doing the same work in the same run. Started by `scripts/bench`.
//!
//! Each round measures every case once, so that a machine that drifts drifts for all; a figure is the median of the
//! rounds, a ratio the median of the rounds' ratios.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const PAIRS: u32 = 4_000;
const OPENS: u32 = 1_000;
const LINES: u32 = 1_000_000;

/// A mount of the program under test, ended by dropping it.
struct Mount {
    daemon: Child,
    dir: PathBuf,
}

impl Mount {
    fn start(dir: &Path) -> (Mount, Duration) {
        let start = Instant::now();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_ipcfs"))
            .args(["mount", "-f", "--ready-stdout"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ipcfs starts");
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "ipcfs mounts");
        (Mount { daemon, dir: dir.to_owned() }, start.elapsed())
    }

    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
        let _ = &self.dir;
    }
}

fn both(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// One process sends and receives through descriptors it keeps: microseconds a pair.
fn pairs(path: &Path, size: usize) -> f64 {
    let (mut writer, mut reader) =
        (OpenOptions::new().read(true).write(true).open(path).unwrap(), both(path));
    let (message, mut buffer) = (vec![7; size], vec![0; size]);
    let start = Instant::now();
    for _ in 0..PAIRS {
        writer.write_all(&message).unwrap();
        reader.read_exact(&mut buffer).unwrap();
    }
    per(start.elapsed(), PAIRS)
}

/// As the shell does it: open, write, close; open, read, close.
fn opens(path: &Path) -> f64 {
    // Keeps a FIFO's bytes and its opens from waiting.
    let _keep = both(path);
    let mut buffer = [0; 64];
    let start = Instant::now();
    for _ in 0..OPENS {
        OpenOptions::new().write(true).open(path).unwrap().write_all(&[7; 64]).unwrap();
        File::open(path).unwrap().read_exact(&mut buffer).unwrap();
    }
    per(start.elapsed(), OPENS)
}

/// Two threads hand one message to and fro: microseconds a round trip.
fn round_trips(there: &Path, back: &Path) -> f64 {
    let (mut a, mut b) = (both(there), both(back));
    let (mut far_a, mut far_b) = (both(there), both(back));
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        for _ in 0..PAIRS {
            far_a.read_exact(&mut buffer).unwrap();
            far_b.write_all(&buffer).unwrap();
        }
    });
    let mut buffer = [0; 64];
    let start = Instant::now();
    for _ in 0..PAIRS {
        a.write_all(&[7; 64]).unwrap();
        b.read_exact(&mut buffer).unwrap();
    }
    let time = per(start.elapsed(), PAIRS);
    echo.join().unwrap();
    time
}

/// `seq` writes lines, which are read by as many as a buffer of cat's size holds: microseconds a thousand lines.
fn lines(there: &Path, back: &Path) -> f64 {
    // Keeps a FIFO open.
    let mut reader = both(back);
    let start = Instant::now();
    let output = OpenOptions::new().write(true).open(there).unwrap();
    let mut seq = Command::new("seq").arg(LINES.to_string()).stdout(output).spawn().expect("seq starts");
    let mut buffer = vec![0; 131_072];
    let mut left = LINES;
    while left > 0 {
        let length = reader.read(&mut buffer).unwrap();
        left -= memchr::memchr_iter(b'\n', &buffer[..length]).count() as u32;
    }
    let time = per(start.elapsed(), LINES / 1000);
    assert!(seq.wait().unwrap().success());
    time
}

fn per(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(count)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is done, by a mailbox and by a FIFO.
type Case<'a> = (&'static str, Box<dyn Fn() -> f64 + 'a>, Box<dyn Fn() -> f64 + 'a>);

fn main() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, fifos) = (temp.path().join("mnt"), temp.path().join("fifos"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir(&fifos).unwrap();
    let fifo = |name: &str| {
        let path = fifos.join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };

    let starts = (0..ROUNDS).map(|_| Mount::start(&dir).1.as_secs_f64() * 1e3).collect();
    println!("start to ready                       {:8.1} ms", median(starts));

    let (mount, _) = Mount::start(&dir);
    let mailbox = |name: &str| {
        let path = dir.join("mailboxes").join(name);
        File::create(&path).unwrap();
        path
    };
    let (fifo_a, fifo_b) = (fifo("a"), fifo("b"));
    let (box_a, box_b) = (mailbox("a"), mailbox("b"));
    let stream = dir.join("control/mailboxes/a/stream");
    let cases: [Case<'_>; 6] = [
        ("send + receive, 64 B", Box::new(|| pairs(&box_a, 64)), Box::new(|| pairs(&fifo_a, 64))),
        ("send + receive, 4 KiB", Box::new(|| pairs(&box_a, 4096)), Box::new(|| pairs(&fifo_a, 4096))),
        ("send + receive, 64 KiB", Box::new(|| pairs(&box_a, 65536)), Box::new(|| pairs(&fifo_a, 65536))),
        ("open, send, close; open, receive, close", Box::new(|| opens(&box_a)), Box::new(|| opens(&fifo_a))),
        (
            "round trip of two threads, 64 B",
            Box::new(|| round_trips(&box_a, &box_b)),
            Box::new(|| round_trips(&fifo_a, &fifo_b)),
        ),
        (
            "1,000 lines of seq, through stream",
            Box::new(|| lines(&stream, &stream)),
            Box::new(|| lines(&fifo_a, &fifo_a)),
        ),
    ];
    println!("\n{:40} {:>10} {:>10} {:>8}", "median of rounds", "ipcfs µs", "FIFO µs", "ratio");
    for (name, ours, theirs) in &cases {
        let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (ours(), theirs())).collect();
        let ratio = median(rounds.iter().map(|(ours, theirs)| ours / theirs).collect());
        let (ours, theirs) = rounds.into_iter().unzip();
        println!("{name:40} {:10.2} {:10.2} {ratio:8.1}", median(ours), median(theirs));
    }
    let before = mount.cpu();
    let time = pairs(&box_a, 64);
    let cpu = mount.cpu().saturating_sub(before).as_secs_f64() * 1e6 / f64::from(PAIRS);
    println!("\ndaemon CPU time for one send + receive: {cpu:.1} µs of {time:.1} µs");
}
