//! The client: what a message costs through a file, beside the same through another file, in one run.
//!
//! ```text
//! pair --a PATH [--b PATH] [--rounds N] [--cpu N] [--only write|open]
//!      [--daemon-a PID] [--daemon-b PID]
//! pair --a PATH --two PATH        one thread on one CPU by one file, then two on two CPUs by one file each
//! pair --a PATH --waiting PATH    while 2,000 readers wait for something in the other file, and while none does
//! ```
//!
//! Each round measures every case once, so that a machine that drifts drifts for all. A figure is the median of the
//! rounds, a ratio the median of the rounds' ratios.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

const PAIRS: u32 = 4_000;
const OPENS: u32 = 1_000;
const SIZE: usize = 64;
const WAITING: usize = 2_000;

#[derive(Default)]
struct Arguments {
    a: PathBuf,
    b: Option<PathBuf>,
    two: Option<PathBuf>,
    waiting: Option<PathBuf>,
    park: Option<PathBuf>,
    rounds: usize,
    cpu: Option<usize>,
    only: String,
    daemons: [Option<u32>; 2],
}

fn main() {
    let mut given = Arguments { rounds: 15, ..Arguments::default() };
    let mut words = std::env::args().skip(1);
    while let Some(option) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{option} wants a value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{option} wants a number"));
        match option.as_str() {
            "--a" => given.a = value.into(),
            "--b" => given.b = Some(value.into()),
            "--two" => given.two = Some(value.into()),
            "--waiting" => given.waiting = Some(value.into()),
            "--park" => given.park = Some(value.into()),
            "--rounds" => given.rounds = number(),
            "--cpu" => given.cpu = Some(number()),
            "--only" => given.only = value,
            "--daemon-a" => given.daemons[0] = Some(number() as u32),
            "--daemon-b" => given.daemons[1] = Some(number() as u32),
            _ => panic!("{option}: no such option"),
        }
    }
    if let Some(cpu) = given.cpu {
        stay_on(cpu);
    }
    match &given {
        Arguments { park: Some(path), .. } => park(path),
        Arguments { two: Some(other), .. } => two_cpus(&given, other),
        Arguments { waiting: Some(path), .. } => beside_waiting(&given, path),
        _ => compare(&given),
    }
}

/// One process sends and receives through descriptors it keeps: microseconds a pair.
fn pairs(path: &Path) -> f64 {
    let (mut writer, mut reader) = (both(path), both(path));
    let (message, mut buffer) = ([7; SIZE], [0; SIZE]);
    let start = Instant::now();
    for _ in 0..PAIRS {
        writer.write_all(&message).unwrap();
        reader.read_exact(&mut buffer).unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PAIRS)
}

/// As the shell does it: open, write, close; open, read, close: microseconds for both.
fn opens(path: &Path) -> f64 {
    let mut buffer = [0; SIZE];
    let start = Instant::now();
    for _ in 0..OPENS {
        OpenOptions::new().write(true).open(path).unwrap().write_all(&[7; SIZE]).unwrap();
        File::open(path).unwrap().read_exact(&mut buffer).unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(OPENS)
}

/// Its name, and what measures a file.
type Case = (&'static str, fn(&Path) -> f64);

fn compare(given: &Arguments) {
    let paths: Vec<&Path> = [Some(given.a.as_path()), given.b.as_deref()].into_iter().flatten().collect();
    let cases: [Case; 2] = [("write + read, 64 B", pairs), ("open, write, close; open, read, close", opens)];
    println!("{:40} {:>8} {:>8} {:>7}   {:>20}", "microseconds", "a", "b", "a / b", "server's CPU, a and b");
    for (name, case) in cases.into_iter().filter(|case| case.0.starts_with(&given.only)) {
        let mut times = [Vec::new(), Vec::new()];
        let mut used = [0, 0];
        for _ in 0..given.rounds {
            for (index, path) in paths.iter().enumerate() {
                let before = cpu_time(given.daemons[index]);
                times[index].push(case(path));
                used[index] += cpu_time(given.daemons[index]) - before;
            }
        }
        let ratios = times[0].iter().zip(&times[1]).map(|(a, b)| a / b).collect();
        let count = f64::from(if name.starts_with("open") { OPENS } else { PAIRS }) * given.rounds as f64;
        let [a, b] = used.map(|nanos| nanos as f64 / 1e3 / count);
        let ratio = median(ratios);
        let [first, second] = times.map(median);
        println!("{name:40} {first:8.2} {second:8.2} {ratio:7.3}   {a:9.2} {b:9.2}");
    }
}

fn two_cpus(given: &Arguments, other: &Path) {
    let mut ratios = Vec::new();
    for _ in 0..given.rounds {
        let run = |paths: &[&Path]| {
            let start = Barrier::new(paths.len());
            thread::scope(|scope| {
                let work = |(cpu, path)| {
                    let start = &start;
                    scope.spawn(move || {
                        stay_on(cpu);
                        start.wait();
                        1.0 / pairs(path)
                    })
                };
                let threads: Vec<_> = paths.iter().copied().enumerate().map(work).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum::<f64>()
            })
        };
        let one = run(&[&given.a]);
        ratios.push(run(&[&given.a, other]) / one);
    }
    println!("two files on two CPUs: {:.3} times the throughput of one", median(ratios));
}

fn beside_waiting(given: &Arguments, path: &Path) {
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // Once for nothing: what came before, threads that begin or end, has its effect on caches and the scheduler.
    let settled = || {
        pairs(&given.a);
        pairs(&given.a)
    };
    for _ in 0..given.rounds.min(9) {
        without.push(settled());
        let mut readers = waiting_readers(path);
        with.push(settled());
        ratios.push(with.last().unwrap() / without.last().unwrap());
        readers.kill().unwrap();
        readers.wait().unwrap();
    }
    let (with, without, ratio) = (median(with), median(without), median(ratios));
    println!("beside {WAITING} waiting readers: {with:.2} µs, alone: {without:.2} µs, ratio {ratio:.3}");
}

/// A process whose many threads read a file that has nothing for them; returns when they all sleep.
fn waiting_readers(path: &Path) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut child =
        Command::new(this).arg("--park").arg(path).stdout(Stdio::piped()).spawn().expect("itself starts");
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let asleep = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let states =
            tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        states.filter(|stat| stat.contains(") S ")).count()
    };
    while asleep() <= WAITING {
        thread::yield_now();
    }
    child
}

fn park(path: &Path) {
    let file = both(path);
    thread::scope(|scope| {
        for _ in 0..WAITING {
            let reader = || (&file).read(&mut [0; SIZE]).map(drop);
            thread::Builder::new().stack_size(16 << 10).spawn_scoped(scope, reader).unwrap();
        }
        println!();
    });
}

fn both(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// What all threads of a process have had of the CPUs, in nanoseconds.
fn cpu_time(pid: Option<u32>) -> u64 {
    let Some(pid) = pid else { return 0 };
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let times = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    times.map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn stay_on(cpu: usize) {
    // SAFETY: all zeroes is an empty set; the pointer is to a local.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0, "no CPU {cpu}");
    }
}
