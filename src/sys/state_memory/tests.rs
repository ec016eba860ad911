#![allow(clippy::panic)]

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::{FromRawFd as _, IntoRawFd as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::io::{FdFlags, dup, fcntl_setfd};

use super::*;

const MIB: u64 = 1 << 20;

/// Another process's view of a memory, while this process has it: the file is copied, as the lock does not let two have it.
fn recovered(memory: &StateMemory) -> Vec<Slot> {
    let copy = Map::new(memory.map.length()).unwrap();
    let mut at = 0;
    while at < memory.map.length() {
        // Holes stay holes.
        let mut bytes = vec![0; 4096];
        rustix::io::pread(memory.file(), &mut bytes, at).unwrap();
        if bytes.iter().any(|byte| *byte != 0) {
            // SAFETY: nobody knows of the copy yet.
            unsafe { copy.write(at, &bytes) };
        }
        at += 4096;
    }
    let file = dup(copy.file()).unwrap();
    copy.unlock();
    StateMemory::take_over(file).unwrap().1
}

fn contents(slots: &[Slot]) -> BTreeMap<(u8, Vec<u64>, Vec<u8>), usize> {
    let mut contents = BTreeMap::new();
    for slot in slots {
        *contents.entry((slot.kind(), slot.words().collect(), slot.bytes().to_vec())).or_default() += 1;
    }
    contents
}

#[test]
fn records_are_found_as_they_were_made_and_changed() {
    let memory = StateMemory::new(8 * MIB).unwrap();
    let small = memory.record(1, &[5, 6], &[b"hello ", b"world"]).unwrap();
    let empty = memory.record(2, &[], &[]).unwrap();
    let long = memory.record(3, &[7], &[&vec![9; 300_000]]).unwrap();
    drop(memory.record(4, &[1], &[b"gone"]).unwrap());
    small.set_word(1, 8);
    assert_eq!((small.kind(), small.word(0), small.word(1), small.word(2)), (1, 5, 8, 0));
    assert_eq!(small.bytes(), b"hello world");
    let slots = recovered(memory);
    assert_eq!(contents(&slots), contents(&[small, empty, long]));
}

#[test]
fn nothing_of_a_section_is_there_before_its_end_and_then_all_of_it() {
    let memory = StateMemory::new(8 * MIB).unwrap();
    let old = memory.record(1, &[1], &[b"old"]).unwrap();
    let changed = memory.record(1, &[1], &[b"changed"]).unwrap();
    let before = contents(&recovered(memory));
    let section = memory.section();
    let inner = memory.section();
    let new = memory.record(1, &[2], &[b"new"]).unwrap();
    changed.set_word(0, 3);
    drop(old);
    drop(memory.record(1, &[2], &[b"short-lived"]).unwrap());
    drop(inner);
    assert_eq!(contents(&recovered(memory)), before);
    section.decide();
    assert_eq!(contents(&recovered(memory)), contents(&[new, changed]));
    drop(section);
}

#[test]
fn sections_may_be_longer_than_a_thread_s_list() {
    let memory = StateMemory::new(8 * MIB).unwrap();
    let make = || (0..500).map(|n| memory.record(1, &[n], &[b"x"]).unwrap()).collect::<Vec<_>>();
    let section = memory.section();
    let old = make();
    drop(section);
    let section = memory.section();
    drop(old);
    let new = make();
    assert_eq!(recovered(memory).len(), 500);
    drop(section);
    assert_eq!(contents(&recovered(memory)), contents(&new));
}

#[test]
fn memory_is_taken_as_it_is_needed_and_given_back() {
    let pages = |memory: &StateMemory| rustix::fs::fstat(memory.file()).unwrap().st_blocks as u64 * 512;
    let memory = StateMemory::new(256 * MIB).unwrap();
    let begin = pages(memory);
    assert!(begin < MIB, "{begin}");
    let many: Vec<Slot> = (0..100_000).map(|n| memory.record(1, &[n], &[&[1; 100]]).unwrap()).collect();
    let most = pages(memory);
    assert!((100_000 * 128..100_000 * 140 + MIB).contains(&most), "{most}");
    let long = memory.record(1, &[], &[&vec![1; 5 << 20]]).unwrap();
    assert!((5 * MIB..5 * MIB + 64 * 1024).contains(&(pages(memory) - most)));
    drop((many, long));
    assert!(pages(memory) < begin + 2 * SLAB, "{}", pages(memory));
    assert!(memory.used() < 4 * SLAB, "{}", memory.used());
}

#[test]
fn full_memory_refuses_and_has_room_again_when_records_end() {
    let memory = StateMemory::new(2 * MIB).unwrap();
    let mut slots = Vec::new();
    while let Ok(slot) = memory.record(1, &[0], &[&[1; 1000]]) {
        slots.push(slot);
    }
    assert!((1800..2700).contains(&slots.len()), "{}", slots.len());
    assert!(memory.record(1, &[], &[&vec![1; 1 << 20]]).is_err());
    slots.truncate(slots.len() / 4);
    slots.extend(memory.record(1, &[], &[&vec![1; 1 << 20]]));
    assert_eq!(contents(&recovered(memory)), contents(&slots));
    drop(slots);
    assert!(recovered(memory).is_empty());
}

#[test]
fn memory_in_which_something_is_missing_is_not_taken_over() {
    let memory = StateMemory::new(2 * MIB).unwrap();
    let kept: Vec<Option<Slot>> =
        (0..3).map(|_| memory.record_or_give_up(1, &[], &[&vec![1; 1_000_000]])).collect();
    assert_eq!(kept.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    assert!(!memory.is_complete());
    memory.map.unlock();
    let refused = StateMemory::take_over(dup(memory.file()).unwrap()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Other);
}

#[test]
fn two_processes_cannot_have_it_at_once() {
    let memory = StateMemory::new(MIB).unwrap();
    let file = || dup(memory.file()).unwrap();
    assert_eq!(StateMemory::take_over(file()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let script = "exec flock --nonblock --exclusive /proc/self/fd/0 true";
    let status = Command::new("sh").args(["-c", script]).stdin(file()).status().unwrap();
    assert!(!status.success());
}

#[test]
fn what_is_not_such_a_file_is_refused() {
    let refused = |change: &dyn Fn(&Map)| {
        let map = Map::new(4 * SLAB).unwrap();
        map.word(LENGTH_AT).store(4 * SLAB, Ordering::Relaxed);
        map.word(LAYOUT_AT).store(LAYOUT, Ordering::Relaxed);
        map.word(MAGIC_AT).store(MAGIC, Ordering::Relaxed);
        change(&map);
        let file = dup(map.file()).unwrap();
        map.unlock();
        StateMemory::take_over(file).map(|(_, slots)| slots.len()).map_err(|error| error.kind())
    };
    let set = |at, value| move |map: &Map| map.word(at).store(value, Ordering::Relaxed);
    assert_eq!(refused(&|_| {}), Ok(0));
    for (at, value) in [(MAGIC_AT, 0), (LAYOUT_AT, LAYOUT + 1), (LENGTH_AT, SLAB), (24, 9), (24, u64::MAX)] {
        assert_eq!(refused(&set(at, value)), Err(io::ErrorKind::InvalidData), "{at}");
    }
}

#[derive(Debug, Clone)]
enum Do {
    Make(u64, usize),
    Change(usize, u64),
    End(usize),
    Section,
    Decide,
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let size = prop_oneof![8 => 0..200_usize, 3 => 200..40_000_usize, 1 => 40_000..300_000_usize];
    let step = prop_oneof![
        4 => (any::<u64>(), size).prop_map(|(word, size)| Do::Make(word, size)),
        2 => (any::<usize>(), any::<u64>()).prop_map(|(which, word)| Do::Change(which, word)),
        3 => any::<usize>().prop_map(Do::End),
        1 => Just(Do::Section),
        2 => Just(Do::Decide),
    ];
    prop::collection::vec(step, 1..60)
}

/// After any steps there is what was decided, and nothing else; and it can be worked with as before.
#[test]
fn any_history_is_found_as_it_was_decided() {
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let run = |(first, second): (Vec<Do>, Vec<Do>)| {
        let memory = StateMemory::new(32 * MIB).unwrap();
        let mut slots = Vec::new();
        let decided = play(memory, &first, &mut slots);
        let mut again = recovered(memory);
        prop_assert_eq!(&contents(&again), &decided);
        if let Some(memory) = again.first().map(|slot| slot.memory) {
            let decided = play(memory, &second, &mut again);
            prop_assert_eq!(contents(&recovered(memory)), decided);
        }
        Ok(())
    };
    TestRunner::new(config).run(&(steps(), steps()), run).unwrap_or_else(|error| panic!("{error}"));
}

/// Returns what is decided at the end.
fn play(
    memory: &'static StateMemory,
    steps: &[Do],
    slots: &mut Vec<Slot>,
) -> BTreeMap<(u8, Vec<u64>, Vec<u8>), usize> {
    let mut decided = contents(slots);
    let mut section = None;
    for step in steps {
        match step {
            Do::Make(word, size) => {
                let bytes = vec![*word as u8; *size];
                slots.push(memory.record(1 + (word % 7) as u8, &[*word, 0], &[&bytes]).unwrap());
            }
            Do::Change(which, word) if !slots.is_empty() => slots[which % slots.len()].set_word(1, *word),
            Do::End(which) if !slots.is_empty() => drop(slots.swap_remove(which % slots.len())),
            Do::Change(..) | Do::End(_) => {}
            Do::Section => section = section.or_else(|| Some(memory.section())),
            Do::Decide => section = None,
        }
        if section.is_none() {
            decided = contents(slots);
        }
    }
    if section.is_some() {
        // The process ends in the middle of it: what it has staged is forgotten with it.
        section::forget();
        std::mem::take(slots).into_iter().for_each(std::mem::forget);
        std::mem::forget(section);
    }
    decided
}

/// The writer that is killed: records stand for coins that several threads move from one purse to another. Each coin is one record,
/// and a record of each purse says how many it has.
const PURSES: usize = 8;
const COINS: u64 = 400;

#[test]
#[ignore = "a process that another test starts and kills"]
fn writer() {
    let Some(number) = env::var("STATE_MEMORY").ok().and_then(|number| number.parse().ok()) else { return };
    // SAFETY: the test that starts this process gives it this descriptor, and nothing else here uses it.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    let (memory, slots) = StateMemory::take_over(file).unwrap();
    section::PAUSES.store(true, Ordering::Relaxed);
    println!("begun");
    let (purses, coins): (Vec<Slot>, Vec<Slot>) = slots.into_iter().partition(|slot| slot.kind() == 1);
    let mut shared: Vec<Mutex<(Slot, Vec<Slot>)>> =
        purses.into_iter().map(|purse| Mutex::new((purse, Vec::new()))).collect();
    shared.sort_by_key(|purse| purse.lock().0.word(0));
    for coin in coins {
        shared[coin.word(0) as usize].lock().1.push(coin);
    }
    let shared = &shared;
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            scope.spawn(move || {
                let mut random = thread + 1;
                loop {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let (one, two) = ((random >> 33) as usize % PURSES, (random >> 40) as usize % PURSES);
                    if one != two {
                        move_coins(memory, shared, (one, two), random);
                    }
                }
            });
        }
    });
}

fn move_coins(
    memory: &'static StateMemory,
    purses: &[Mutex<(Slot, Vec<Slot>)>],
    (one, two): (usize, usize),
    random: u64,
) {
    let (low, high) = (one.min(two), one.max(two));
    let (mut low, mut high) = (purses[low].lock(), purses[high].lock());
    let (from, to) = if one < two { (&mut low, &mut high) } else { (&mut high, &mut low) };
    // Until the locks are released.
    let section = memory.section();
    for _ in 0..=(random >> 50) % 4 {
        let Some(coin) = from.1.pop() else { break };
        if random >> 55 & 1 == 0 {
            coin.set_word(0, two as u64);
            to.1.push(coin);
        } else {
            // Of any length: places are taken and given back.
            let bytes = vec![coin.word(1) as u8; 1 << (1 + (random >> 57) % 17)];
            to.1.push(memory.record(2, &[two as u64, coin.word(1)], &[&bytes]).unwrap());
        }
    }
    for purse in [&from, &to] {
        purse.0.set_word(1, purse.1.len() as u64);
    }
    drop(section);
}

/// Whenever the process is killed: no coin is lost, none is there twice, and each purse knows how many it has.
#[test]
fn a_process_that_is_killed_has_done_all_of_a_section_or_nothing() {
    let memory = StateMemory::new(64 * MIB).unwrap();
    let mut slots: Vec<Slot> =
        (0..PURSES as u64).map(|purse| memory.record(1, &[purse, COINS], &[]).unwrap()).collect();
    for coin in 0..PURSES as u64 * COINS {
        slots.push(memory.record(2, &[coin / COINS, coin], &[&[coin as u8; 2]]).unwrap());
    }
    std::mem::forget(slots);
    let file = dup(memory.file()).unwrap();
    memory.map.unlock();
    let kills = env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40);
    let mut redone = 0;
    for kill in 0..kills {
        let given = dup(&file).unwrap();
        fcntl_setfd(&given, FdFlags::empty()).unwrap();
        let given = given.into_raw_fd();
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "sys::state_memory::tests::writer", "--ignored", "--nocapture"])
            .env("STATE_MEMORY", given.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // SAFETY: the number was this function's.
        drop(unsafe { OwnedFd::from_raw_fd(given) });
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("begun") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the writer ended");
        }
        std::thread::sleep(Duration::from_micros(500 + 997 * kill % 7000));
        process.kill().unwrap();
        process.wait().unwrap();
        let _ = output.read_to_string(&mut line);
        redone += check_coins(&file);
    }
    eprintln!("of {kills} kills, {redone} were in the middle of a decision");
}

/// Looks at a copy, so that the next writer gets the file as it was left. Returns how many lists were decided and not carried out.
fn check_coins(file: &OwnedFd) -> usize {
    let map = Map::of_file(dup(file).unwrap()).unwrap();
    let mut lists = 0;
    Slabs::new(&map).look(&map, 0, |at| {
        lists += usize::from(kind(&map, at) == LIST && map.word(at + 8).load(Ordering::Relaxed) > 0);
    });
    map.unlock();
    let (memory, slots) = StateMemory::take_over(dup(file).unwrap()).unwrap();
    let mut held = vec![0; PURSES];
    let mut known = vec![0; PURSES];
    let mut coins = vec![0; PURSES * COINS as usize];
    for slot in &slots {
        let purse = slot.word(0) as usize;
        if slot.kind() == 1 {
            known[purse] = slot.word(1);
        } else {
            held[purse] += 1;
            coins[slot.word(1) as usize] += 1;
            assert!(slot.bytes().iter().all(|byte| *byte == slot.word(1) as u8), "torn");
        }
    }
    assert_eq!(known, held);
    assert!(coins.iter().all(|count| *count == 1));
    std::mem::forget(slots);
    memory.map.unlock();
    lists
}

/// `cargo test --release --lib -- --ignored --nocapture cost_of`
#[test]
#[ignore = "a measurement"]
fn cost_of_a_record() {
    let memory = StateMemory::new(1 << 30).unwrap();
    let time = |what: &str, count: u32, work: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..count).for_each(|_| work());
        println!("{what}: {:.0} ns", start.elapsed().as_nanos() as f64 / f64::from(count));
    };
    let words = [1; 12];
    let body = [7; 64];
    let kept = memory.record(1, &words, &[&body]).unwrap();
    let other = memory.record(1, &words, &[&body]).unwrap();
    time("one word changed", 1 << 22, &mut || kept.set_word(0, 2));
    time("a record made and ended", 1 << 22, &mut || drop(memory.record(1, &words, &[&body]).unwrap()));
    time("a section with two words changed", 1 << 22, &mut || {
        let _section = memory.section();
        kept.set_word(0, 3);
        other.set_word(0, 3);
    });
    time("a section with a record made and two words changed, and one with it ended", 1 << 21, &mut || {
        let section = memory.section();
        let record = memory.record(1, &words, &[&body]).unwrap();
        kept.set_word(0, 3);
        other.set_word(0, 3);
        drop(section);
        let _section = memory.section();
        drop(record);
        kept.set_word(0, 3);
        other.set_word(0, 3);
    });
    let mut many = Vec::new();
    time("one of a million records made", 1 << 20, &mut || {
        many.push(memory.record(1, &words, &[&body]).unwrap());
    });
    let file = dup(memory.file()).unwrap();
    memory.map.unlock();
    let start = Instant::now();
    let (_, slots) = StateMemory::take_over(file).unwrap();
    println!("{} records found in {:?}", slots.len(), start.elapsed());
    many.into_iter().for_each(std::mem::forget);
    let mut many = slots.into_iter();
    time("one of a million records ended", 1 << 20, &mut || drop(many.next()));
}
