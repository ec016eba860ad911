//! A text handed from one thread to another, which says that it has it: through a mailbox, and through a segment with
//! either way of waking.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use memmap2::MmapMut;
use rustix::thread::futex;

use super::{PAGE, per};

const TIMES: u32 = 1_000;

/// Two mailboxes, there and back: microseconds each time.
pub fn by_mailbox(mount: &Path, size: usize) -> f64 {
    let open = |name: &str| {
        let path = mount.join("mailboxes").join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        (options.open(&path).unwrap(), options.open(&path).unwrap())
    };
    let ((mut there, mut far_there), (mut back, mut far_back)) = (open("there"), open("back"));
    let text = vec![7; size];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = vec![0; size];
            for _ in 0..TIMES {
                far_there.read_exact(&mut buffer).unwrap();
                far_back.write_all(b"x").unwrap();
            }
        });
        let start = Instant::now();
        for _ in 0..TIMES {
            there.write_all(&text).unwrap();
            back.read_exact(&mut [0]).unwrap();
        }
        per(start.elapsed(), TIMES as usize)
    })
}

/// What wakes whoever waits until the word at the segment's beginning has a value.
pub trait Bell: Send {
    fn ring(&mut self, word: &AtomicU32);
    fn wait(&mut self, word: &AtomicU32, seen: u32);
}

pub struct Futex;

impl Bell for Futex {
    fn ring(&mut self, word: &AtomicU32) {
        futex::wake(word, futex::Flags::empty(), 1).unwrap();
    }

    fn wait(&mut self, word: &AtomicU32, seen: u32) {
        // Whatever it says, the caller looks again.
        let _ = futex::wait(word, futex::Flags::empty(), seen, None);
    }
}

/// `control/segments/<name>/notify` and `wait`.
pub struct Doorbell(File, File);

impl Doorbell {
    pub fn new(control: &Path) -> Doorbell {
        let notify = OpenOptions::new().write(true).open(control.join("notify")).unwrap();
        Doorbell(notify, File::open(control.join("wait")).unwrap())
    }
}

impl Bell for Doorbell {
    fn ring(&mut self, _: &AtomicU32) {
        self.0.write_all(b"\n").unwrap();
    }

    fn wait(&mut self, _: &AtomicU32, _: u32) {
        let _ = self.1.read(&mut [0; 32]).unwrap();
    }
}

/// A word, and behind it the text: microseconds each time.
pub fn by_segment<B: Bell>(near: MmapMut, far: MmapMut, size: usize, bells: [B; 2]) -> f64 {
    let [mut bell, mut far_bell] = bells;
    let (mut near, mut far) = (near, far);
    let text = vec![7; size];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = vec![0; size];
            for time in 0..TIMES {
                until(&mut far, 2 * time + 1, &mut far_bell);
                buffer.copy_from_slice(&far[PAGE..PAGE + size]);
                let word = word(&mut far);
                word.store(2 * time + 2, Ordering::Release);
                far_bell.ring(word);
            }
        });
        let start = Instant::now();
        for time in 0..TIMES {
            near[PAGE..PAGE + size].copy_from_slice(&text);
            let word = word(&mut near);
            word.store(2 * time + 1, Ordering::Release);
            bell.ring(word);
            until(&mut near, 2 * time + 2, &mut bell);
        }
        per(start.elapsed(), TIMES as usize)
    })
}

fn until(map: &mut MmapMut, wanted: u32, bell: &mut impl Bell) {
    let word = word(map);
    loop {
        let seen = word.load(Ordering::Acquire);
        if seen == wanted {
            return;
        }
        bell.wait(word, seen);
    }
}

fn word(map: &mut MmapMut) -> &AtomicU32 {
    #[allow(unsafe_code)]
    // SAFETY: the page is mapped as long as the reference lives, aligned, and this word is only used as an atomic.
    unsafe {
        AtomicU32::from_ptr(map.as_mut_ptr().cast())
    }
}
