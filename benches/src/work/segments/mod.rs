//! What a segment costs in each data path, beside a file in `/dev/shm` doing the same work.

mod handover;

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::{Context, timed};
use crate::memory::map;
use crate::model::Samples;
use crate::servers::Mount;

pub(super) use handover::run as hand_over;

const PAGE: usize = 4096;
const LINE: usize = 64;
const SMALL: usize = 16 << 20;
/// More than the kernel lets a file system of its kind have unwritten, on a machine of ordinary size.
const LARGE: usize = 256 << 20;
const LONG: usize = 1 << 20;
const FILES: usize = 300;
/// How often pages are written back while stores are timed. The kernel itself does so every 5 seconds.
const WRITE_BACK: Duration = Duration::from_millis(50);

/// Where files of memory are made, and where their seals are, if there are any.
struct Place {
    id: &'static str,
    files: PathBuf,
    control: Option<PathBuf>,
    /// Ends with it.
    _mount: Option<Mount>,
}

/// Where a figure is put: what was done, and microseconds.
type Put<'a> = &'a mut dyn FnMut(&str, f64);

type Work = fn(&Place, Amount, Put<'_>) -> Result<()>;

impl Place {
    fn shm() -> Place {
        Place { id: "shm", files: "/dev/shm".into(), control: None, _mount: None }
    }

    fn mount(context: &Context<'_>, id: &'static str, path: &str) -> Result<Place> {
        let mount = Mount::start(&context.program, &context.temp, id, &[&format!("--segments={path}")])?;
        let (files, control) = (mount.dir.join("segments"), Some(mount.control("segments")));
        Ok(Place { id, files, control, _mount: Some(mount) })
    }

    fn name(&self) -> PathBuf {
        self.files.join(format!("ipcfs-bench-{}", std::process::id()))
    }

    /// A new file of this length, removed again when dropped.
    fn file(&self, length: usize) -> Result<(File, Removed)> {
        let path = self.name();
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let removed = Removed(path);
        file.set_len(length as u64)?;
        Ok((file, removed))
    }

    /// Its length is made to stay, where that can be said.
    fn seal(&self) -> Result<()> {
        if let (Some(control), Some(name)) = (&self.control, self.name().file_name()) {
            fs::write(control.join(name).join("seal"), "grow").context("sealing")?;
        }
        Ok(())
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// How much is done.
#[derive(Clone, Copy)]
struct Amount {
    large: usize,
    passes: u8,
    calls: usize,
    files: usize,
    watched: Duration,
}

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let amount = if context.settings.quick {
        Amount {
            large: 2 * SMALL,
            passes: 3,
            calls: 500,
            files: FILES / 10,
            watched: Duration::from_millis(60),
        }
    } else {
        Amount { large: LARGE, passes: 12, calls: 4_000, files: FILES, watched: Duration::from_millis(500) }
    };
    let mut places = Vec::new();
    for (id, path) in [("ipcfs-passthrough", "passthrough"), ("ipcfs-cached", "cached")] {
        match Place::mount(context, id, path) {
            Ok(place) => places.push(place),
            Err(error) => samples.leave_out("segments", id, format!("{error:#}")),
        }
    }
    places.push(Place::shm());
    let works: [Work; 5] = [loads_and_stores, touches, calls, lives, written_back];
    for work in works {
        let first = context.round % places.len();
        for place in places[first..].iter().chain(&places[..first]) {
            context.go_on(&format!("segments: {}", crate::peers::name(place.id)))?;
            let mut put =
                |what: &str, time: f64| samples.add("segments", (what, 0.0), place.id, "time", time);
            work(place, amount, &mut put)?;
        }
    }
    Ok(())
}

/// A store into each page.
fn touch(map: &mut [u8]) -> Result<f64> {
    timed(map.len() / PAGE, || {
        for page in map.chunks_exact_mut(PAGE) {
            page[0] = 1;
        }
        Ok(())
    })
}

fn loads_and_stores(place: &Place, amount: Amount, put: Put<'_>) -> Result<()> {
    let (file, _removed) = place.file(SMALL)?;
    let mut map = map(&file, SMALL)?;
    touch(&mut map)?;
    let count = usize::from(amount.passes) * SMALL / LINE;
    let stores = timed(count, || {
        for pass in 0..amount.passes {
            for line in black_box(&mut map).chunks_exact_mut(LINE) {
                line[0] = pass;
            }
        }
        Ok(())
    })?;
    let loads = timed(count, || {
        for _ in 0..amount.passes {
            let sum = black_box(&map).chunks_exact(LINE).fold(0_u8, |sum, line| sum.wrapping_add(line[0]));
            black_box(sum);
        }
        Ok(())
    })?;
    put("store", stores);
    put("load", loads);
    Ok(())
}

fn touches(place: &Place, amount: Amount, put: Put<'_>) -> Result<()> {
    for (what, length) in [("first touch", SMALL), ("first touch of much", amount.large)] {
        let (file, _removed) = place.file(length)?;
        put(what, touch(&mut map(&file, length)?)?);
    }
    Ok(())
}

/// `pread` and `pwrite` of so many bytes each, on pages that are there and, as far as they fit, in the CPU's caches: what
/// was measured before would show otherwise.
fn reads(file: &File, length: usize, count: usize) -> Result<f64> {
    let mut buffer = vec![0; length];
    let mut all = || -> Result<()> {
        for call in 0..count {
            file.read_exact_at(&mut buffer, (call * length % SMALL) as u64)?;
        }
        Ok(())
    };
    all()?;
    timed(count, all)
}

fn writes(file: &File, length: usize, count: usize) -> Result<f64> {
    let text = vec![7; length];
    let all = || -> Result<()> {
        for call in 0..count {
            file.write_all_at(&text, (call * length % SMALL) as u64)?;
        }
        Ok(())
    };
    all()?;
    timed(count, all)
}

fn calls(place: &Place, amount: Amount, put: Put<'_>) -> Result<()> {
    let (file, removed) = place.file(SMALL)?;
    touch(&mut map(&file, SMALL)?)?;
    let open = |write: bool| OpenOptions::new().read(true).write(write).open(&removed.0);
    let (few, many) = (amount.calls / 50, amount.calls);
    put("pread 4 KiB, read-only", reads(&open(false)?, PAGE, many)?);
    put("pread 4 KiB", reads(&open(true)?, PAGE, many)?);
    put("pwrite 4 KiB", writes(&open(true)?, PAGE, many)?);
    put("pread 1 MiB, read-only", reads(&open(false)?, LONG, few)?);
    put("pread 1 MiB", reads(&open(true)?, LONG, few)?);
    put("pwrite 1 MiB", writes(&open(true)?, LONG, few)?);
    place.seal()?;
    put("pread 4 KiB, sealed", reads(&open(true)?, PAGE, many)?);
    put("pwrite 4 KiB, sealed", writes(&open(true)?, PAGE, many)?);
    put("pread 1 MiB, sealed", reads(&open(true)?, LONG, few)?);
    put("pwrite 1 MiB, sealed", writes(&open(true)?, LONG, few)?);
    Ok(())
}

/// A file's whole life.
fn lives(place: &Place, amount: Amount, put: Put<'_>) -> Result<()> {
    let time = timed(amount.files, || {
        for _ in 0..amount.files {
            let (file, removed) = place.file(PAGE)?;
            let mut map = map(&file, PAGE)?;
            drop(file);
            map[0] = 1;
            drop(removed);
        }
        Ok(())
    })?;
    put("create to unlink", time);
    Ok(())
}

/// Stores at random places while the pages are written back.
fn written_back(place: &Place, amount: Amount, put: Put<'_>) -> Result<()> {
    let times = watched(place, SMALL, amount.watched)?;
    let [.., slowest] = times[..] else { return Err(anyhow!("no store was timed")) };
    put("store while written back, p99.9", f64::from(times[times.len() - 1 - times.len() / 1000]) / 1e3);
    put("store while written back, slowest", f64::from(slowest) / 1e3);
    let times = watched(place, amount.large, amount.watched)?;
    let mean = times.iter().map(|time| f64::from(*time)).sum::<f64>() / times.len() as f64;
    put("store in much while written back", mean / 1e3);
    Ok(())
}

/// How long each of many stores takes: nanoseconds, sorted.
fn watched(place: &Place, length: usize, time: Duration) -> Result<Vec<u32>> {
    let (file, _removed) = place.file(length)?;
    let mut map = map(&file, length)?;
    touch(&mut map)?;
    let (done, mut random) = (AtomicBool::new(false), 1_u32);
    let mut times = Vec::with_capacity(20_000_000);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(WRITE_BACK);
                file.sync_data()?;
            }
            Ok(())
        });
        let start = Instant::now();
        let mut last = start;
        while last.duration_since(start) < time && times.len() < times.capacity() {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            black_box(&mut map)[random as usize / LINE * LINE % length] = random as u8;
            let now = Instant::now();
            times.push(u32::try_from(now.duration_since(last).as_nanos()).unwrap_or(u32::MAX));
            last = now;
        }
        done.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| anyhow!("the thread that writes back failed"))?
    })?;
    times.sort_unstable();
    Ok(times)
}
