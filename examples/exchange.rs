//! Asks or answers questions through a segment. The other side may be in any language. See examples/README.md.
//!
//! `cargo run --example exchange -- ask|answer MOUNTPOINT NAME WORD...`

use std::fs::{File, OpenOptions};
use std::io::{Error, Read as _, Result, Write as _};
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use memmap2::MmapMut;

/// Offsets of the texts, each followed by a zero byte.
const QUESTION: usize = 64;
const ANSWER: usize = 2048;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [role, mountpoint, name, words @ ..] = &words[..] else {
        return Err(Error::other("usage: exchange ask|answer MOUNTPOINT NAME WORD..."));
    };
    let segment = Path::new(mountpoint).join("segments").join(name);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(segment)?;
    file.set_len(4096)?;
    #[allow(unsafe_code)]
    // SAFETY: no process shortens the segment, and a text is read only after its writer has finished it.
    let mut map = unsafe { MmapMut::map_mut(&file)? };
    #[allow(clippy::cast_ptr_alignment)] // a mapping begins at a page boundary
    let numbers = map.as_mut_ptr().cast::<u32>();
    #[allow(unsafe_code)]
    // SAFETY: the page stays mapped while this function runs, and these words are used only as atomics.
    let (asked, answered) = unsafe { (AtomicU32::from_ptr(numbers), AtomicU32::from_ptr(numbers.add(1))) };

    let control = Path::new(mountpoint).join("control/segments").join(name);
    let mut notify = OpenOptions::new().write(true).open(control.join("notify"))?;
    let mut wait = File::open(control.join("wait"))?;
    for word in words {
        if role == "ask" {
            put(&mut map[QUESTION..ANSWER], word)?;
            let number = asked.fetch_add(1, SeqCst).wrapping_add(1);
            notify.write_all(b"\n")?;
            while answered.load(SeqCst) != number {
                let _ = wait.read(&mut [0; 32])?;
            }
            println!("{}", text(&map[ANSWER..]));
        } else {
            while asked.load(SeqCst) == answered.load(SeqCst) {
                let _ = wait.read(&mut [0; 32])?;
            }
            let answer = format!("{} {word}", text(&map[QUESTION..ANSWER]));
            put(&mut map[ANSWER..], &answer)?;
            answered.store(asked.load(SeqCst), SeqCst);
            notify.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn put(mut place: &mut [u8], text: &str) -> Result<()> {
    place.write_all(text.as_bytes()).and_then(|()| place.write_all(&[0]))
}

fn text(place: &[u8]) -> String {
    String::from_utf8_lossy(place.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
