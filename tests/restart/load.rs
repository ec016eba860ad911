//! Many upgrades in a row while everybody works.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::io::Errno;

use crate::common::wait_for;
use crate::place::{Place, has_ended};
use crate::{MAY_CANCEL, figure, make, mount, upgrade};

const WRITERS: usize = 4;
const READERS: usize = 3;
const THREADS_THAT_WAIT: usize = 200;
/// KiB that a history may take.
const HISTORY: u64 = 64 << 10;

/// How many upgrades there are.
fn upgrades() -> u32 {
    std::env::var("IPCFS_UPGRADES").ok().map_or(20, |count| count.parse().unwrap())
}

/// KiB of the daemon's memory that can be given to another process.
fn shared_memory(place: &Place) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", place.daemon())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Makes a call that must succeed. If a daemon is killed, a call that is in the kernel's hands may fail, having done nothing.
fn sure<T>(mut call: impl FnMut() -> std::io::Result<T>) -> T {
    loop {
        match call() {
            Err(error)
                if MAY_CANCEL
                    && matches!(Errno::from_io_error(&error), Some(Errno::CANCELED | Errno::INTR)) => {}
            done => return done.unwrap(),
        }
    }
}

/// Tells the writers to stop when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends numbered messages until told to stop, now and then through a new descriptor. Returns their number.
fn write(path: &Path, name: usize, stop: &AtomicBool) -> u32 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut file = sure(|| OpenOptions::new().write(true).open(path));
        for _ in 0..5 {
            assert!(sure(|| file.write(format!("{name} {count}").as_bytes())) > 2);
            count += 1;
        }
    }
    count
}

/// Receives until a message says that it is the last. Returns who sent what.
fn read(path: &Path) -> Vec<(usize, u32)> {
    let mut file = sure(|| OpenOptions::new().read(true).write(true).open(path));
    let (mut all, mut buffer) = (Vec::new(), [0; 100]);
    loop {
        let length = sure(|| file.read(&mut buffer));
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let Some((name, number)) = text.split_once(' ') else { return all };
        all.push((name.parse().unwrap(), number.parse().unwrap()));
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_under_load() {
    if let Some(place) = mount(&[]) {
        under_load(&place, None);
    }
}

pub(crate) fn under_load(place: &Place, durable: Option<&str>) {
    let path = make(place, "q");
    if let Some(durable) = durable {
        std::fs::write(place.path("control/mailboxes/q/config/durable"), durable).unwrap();
    }
    std::fs::write(place.path("control/mailboxes/q/config/maxmsg"), "50").unwrap();
    let stop = AtomicBool::new(false);
    let (sent, received): (Vec<u32>, Vec<Vec<(usize, u32)>>) = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read(&path))).collect();
        let (stop, path) = (&stop, &path);
        let writers: Vec<_> = (0..WRITERS).map(|name| scope.spawn(move || write(path, name, stop))).collect();
        // Whatever goes wrong here, the writers end.
        let _end = End(stop);
        upgrade(place);
        let before = shared_memory(place);
        for _ in 1..upgrades() {
            upgrade(place);
        }
        let after = shared_memory(place);
        assert!(after <= 2 * before + HISTORY, "rings had {before} KiB, and have {after} KiB");
        stop.store(true, Ordering::Relaxed);
        let sent = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        for _ in 0..READERS {
            sure(|| std::fs::write(path, "last"));
        }
        (sent, readers.into_iter().map(|reader| reader.join().unwrap()).collect())
    });
    let mut all: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for of_one in &received {
        let mut last: BTreeMap<usize, u32> = BTreeMap::new();
        for (name, number) in of_one {
            assert!(
                last.insert(*name, *number).is_none_or(|last| last < *number),
                "{name} {number} comes late"
            );
            all.entry(*name).or_default().push(*number);
        }
    }
    for (name, count) in sent.into_iter().enumerate() {
        let numbers = all.entry(name).or_default();
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..count), "of {count} messages of {name}: {numbers:?}");
    }
}

#[test]
fn many_callers_that_wait_are_taken_over() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    thread::scope(|scope| {
        let reader = || {
            let mut text = String::new();
            File::open(&path).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        let readers: Vec<_> = (0..THREADS_THAT_WAIT).map(|_| scope.spawn(reader)).collect();
        let waiting = || figure(&place, "mailboxes/q/status", "waiting_readers");
        wait_for("all to wait", || waiting() == THREADS_THAT_WAIT as u64);
        upgrade(&place);
        upgrade(&place);
        assert_eq!(waiting(), THREADS_THAT_WAIT as u64);
        for number in 0..THREADS_THAT_WAIT {
            std::fs::write(&path, number.to_string()).unwrap();
        }
        let mut numbers: Vec<usize> =
            readers.into_iter().map(|reader| reader.join().unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..THREADS_THAT_WAIT));
    });
    let daemon = place.daemon();
    place.sh("$IPCFS umount $DIR");
    wait_for("the daemon to end", || has_ended(daemon));
}
