//! A text handed from one thread to another, which says that it has it: through a mailbox, and through a segment with
//! either way of waking.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, anyhow};
use memmap2::MmapMut;
use rustix::thread::futex;

use super::PAGE;
use crate::memory::{map, word};
use crate::model::Samples;
use crate::servers::Mount;
use crate::work::{Context, grouped, timed};

const SIZES: [(&str, usize); 4] =
    [("64 B", 64), ("4 KiB", PAGE), ("64 KiB", 16 * PAGE), ("1 MB", 255 * PAGE)];

pub(in crate::work) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let mount = Mount::start(&context.program, &context.temp, "ipcfs", &[])?;
    let times = if context.settings.quick { 200 } else { 1_000 };
    for (name, size) in SIZES {
        context.go_on(&format!("handover, {} bytes", grouped(size)))?;
        let mut add = |peer: &str, time: f64| {
            samples.add("handover", (name, size as f64), peer, "time", time);
        };
        add("ipcfs-mailbox", by_mailbox(&mount, size, times)?);
        let path = mount.dir.join("segments/handover");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len((PAGE + size) as u64)?;
        let maps = || -> Result<[MmapMut; 2]> { Ok([map(&file, PAGE + size)?, map(&file, PAGE + size)?]) };
        let control = mount.control("segments/handover");
        let bells = [Doorbell::new(&control)?, Doorbell::new(&control)?];
        add("ipcfs-doorbell", by_segment(maps()?, size, times, bells)?);
        let [mut near, far] = maps()?;
        word(&mut near).store(0, Ordering::SeqCst);
        add("ipcfs-futex", by_segment([near, far], size, times, [Futex, Futex])?);
        std::fs::remove_file(&path)?;
    }
    mount.end()
}

/// Two mailboxes, there and back.
fn by_mailbox(mount: &Mount, size: usize, times: u32) -> Result<f64> {
    let open = |name: &str| -> Result<(File, File)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let path = mount.mailbox(name);
        Ok((options.open(&path)?, options.open(&path)?))
    };
    let ((mut there, mut far_there), (mut back, mut far_back)) = (open("there")?, open("back")?);
    let text = vec![7; size];
    let far = move || -> Result<()> {
        let mut buffer = vec![0; size];
        for _ in 0..times {
            far_there.read_exact(&mut buffer)?;
            far_back.write_all(b"x")?;
        }
        Ok(())
    };
    two(far, || {
        timed(times as usize, || {
            for _ in 0..times {
                there.write_all(&text)?;
                back.read_exact(&mut [0])?;
            }
            Ok(())
        })
    })
}

/// What wakes whoever waits until the word at the segment's beginning has a value.
trait Bell: Send {
    fn ring(&mut self, word: &AtomicU32) -> Result<()>;
    fn wait(&mut self, word: &AtomicU32, seen: u32) -> Result<()>;
}

struct Futex;

impl Bell for Futex {
    fn ring(&mut self, word: &AtomicU32) -> Result<()> {
        futex::wake(word, futex::Flags::empty(), 1)?;
        Ok(())
    }

    fn wait(&mut self, word: &AtomicU32, seen: u32) -> Result<()> {
        // Whatever it says, the caller looks again.
        let _ = futex::wait(word, futex::Flags::empty(), seen, None);
        Ok(())
    }
}

/// `control/segments/<name>/notify` and `wait`.
struct Doorbell(File, File);

impl Doorbell {
    fn new(control: &Path) -> Result<Doorbell> {
        let notify = OpenOptions::new().write(true).open(control.join("notify")).context("opening notify")?;
        Ok(Doorbell(notify, File::open(control.join("wait")).context("opening wait")?))
    }
}

impl Bell for Doorbell {
    fn ring(&mut self, _: &AtomicU32) -> Result<()> {
        Ok(self.0.write_all(b"\n")?)
    }

    fn wait(&mut self, _: &AtomicU32, _: u32) -> Result<()> {
        let _ = self.1.read(&mut [0; 32])?;
        Ok(())
    }
}

/// A word, and behind it the text.
fn by_segment<B: Bell>(
    [mut near, mut far]: [MmapMut; 2],
    size: usize,
    times: u32,
    bells: [B; 2],
) -> Result<f64> {
    let [mut bell, mut far_bell] = bells;
    let text = vec![7; size];
    let other = move || -> Result<()> {
        let mut buffer = vec![0; size];
        for time in 0..times {
            until(&mut far, 2 * time + 1, &mut far_bell)?;
            buffer.copy_from_slice(&far[PAGE..PAGE + size]);
            let word = word(&mut far);
            word.store(2 * time + 2, Ordering::Release);
            far_bell.ring(word)?;
        }
        Ok(())
    };
    two(other, || {
        timed(times as usize, || {
            for time in 0..times {
                near[PAGE..PAGE + size].copy_from_slice(&text);
                let word = word(&mut near);
                word.store(2 * time + 1, Ordering::Release);
                bell.ring(word)?;
                until(&mut near, 2 * time + 2, &mut bell)?;
            }
            Ok(())
        })
    })
}

fn until(map: &mut MmapMut, wanted: u32, bell: &mut impl Bell) -> Result<()> {
    let word = word(map);
    loop {
        let seen = word.load(Ordering::Acquire);
        if seen == wanted {
            return Ok(());
        }
        bell.wait(word, seen)?;
    }
}

/// Two threads, one of which is timed.
fn two(far: impl FnOnce() -> Result<()> + Send, near: impl FnOnce() -> Result<f64>) -> Result<f64> {
    std::thread::scope(|scope| {
        let far = scope.spawn(far);
        let time = near()?;
        far.join().map_err(|_| anyhow!("the other thread failed"))??;
        Ok(time)
    })
}
