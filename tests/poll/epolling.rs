//! epoll(7), level-triggered, edge-triggered, and the way Go's runtime does it.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::common::{self, wait_for};
use crate::tools::{BOTH, NOWAIT, READ, WRITE, aside, finish, open, promptly, read, receive, send};

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// How Go's runtime registers whatever it opens.
const GO: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Epoll {
        Epoll(epoll::create(CreateFlags::CLOEXEC).unwrap())
    }

    fn add(&self, file: &OwnedFd, number: u64, flags: EventFlags) {
        epoll::add(&self.0, file, EventData::new_u64(number), flags).unwrap();
    }

    fn wait(&self, timeout: Option<&Timespec>) -> Vec<(u64, EventFlags)> {
        let mut events = Vec::<Event>::with_capacity(64);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
        events.iter().map(|event| (event.data.u64(), event.flags)).collect()
    }

    fn now(&self) -> Vec<(u64, EventFlags)> {
        self.wait(Some(&AT_ONCE))
    }
}

#[test]
fn level_triggered_it_says_so_until_the_message_is_read() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (epoll, reader) = (Epoll::new(), open(&path, READ | NOWAIT));
    epoll.add(&reader, 1, EventFlags::IN);
    assert_eq!(epoll.now(), []);
    for _ in 0..20 {
        let epoll = &epoll;
        send(&path, b"one");
        send(&path, b"two");
        wait_for("the event", || epoll.now() == [(1, EventFlags::IN)]);
        assert_eq!(epoll.now(), [(1, EventFlags::IN)], "again");
        for _ in 0..2 {
            assert_eq!(read(&reader, 9).map(|message| message.len()), Ok(3));
            assert_eq!(epoll.now(), [(1, EventFlags::IN)], "the end of file, or the next message");
            assert_eq!(read(&reader, 9), Ok(vec![]));
        }
        assert_eq!(epoll.now(), []);
    }
}

#[test]
fn edge_triggered_it_says_so_once_for_each_arrival() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (epoll, reader) = (Epoll::new(), open(&path, BOTH | NOWAIT));
    epoll.add(&reader, 1, EventFlags::IN | EventFlags::ET);
    assert_eq!(epoll.now(), []);
    for _ in 0..50 {
        send(&path, b"one");
        let epoll = &epoll;
        let mut events = 0;
        wait_for("an edge", || {
            events += epoll.now().len();
            events > 0
        });
        assert_eq!(epoll.now(), [], "nothing new, nothing said");
        assert_eq!(read(&reader, 9), Ok(b"one".to_vec()));
        assert_eq!(read(&reader, 9), Err(Errno::AGAIN));
    }
}

#[test]
fn edge_triggered_room_is_an_edge_too() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    let (epoll, writer) = (Epoll::new(), open(&path, WRITE | NOWAIT));
    epoll.add(&writer, 1, EventFlags::OUT | EventFlags::ET);
    assert_eq!(epoll.now(), [(1, EventFlags::OUT)]);
    for _ in 0..50 {
        assert_eq!(rustix::io::write(&writer, b"1"), Ok(1));
        assert_eq!(rustix::io::write(&writer, b"2"), Err(Errno::AGAIN));
        // What is left of earlier edges; it promises nothing.
        epoll.now();
        assert_eq!(epoll.now(), []);
        receive(&path);
        let epoll = &epoll;
        wait_for("the edge", || epoll.now().contains(&(1, EventFlags::OUT)));
    }
}

#[test]
fn a_sleeper_in_epoll_is_woken_by_messages_room_and_removal() {
    let Some(mount) = common::mount() else { return };
    for flags in [EventFlags::empty(), EventFlags::ET, EventFlags::ONESHOT] {
        let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
        let sleep = |file: &OwnedFd, wanted| {
            let epoll = Epoll::new();
            epoll.add(file, 7, wanted | flags);
            assert_eq!(epoll.now(), []);
            aside(move || epoll.wait(None))
        };
        let reader = open(&path, READ | NOWAIT);
        let sleeper = sleep(&reader, EventFlags::IN);
        send(&path, b"x");
        assert_eq!(finish("the reader", sleeper), [(7, EventFlags::IN)]);
        let writer = open(&path, WRITE | NOWAIT);
        let sleeper = sleep(&writer, EventFlags::OUT);
        receive(&path);
        assert_eq!(finish("the writer", sleeper), [(7, EventFlags::OUT)]);
        let sleepers = [sleep(&reader, EventFlags::IN), sleep(&reader, EventFlags::IN)];
        fs::remove_file(&path).unwrap();
        for sleeper in sleepers {
            let events = finish("a sleeper", sleeper);
            assert!(
                events.len() == 1 && events[0].1.contains(EventFlags::HUP | EventFlags::ERR),
                "{events:?}"
            );
        }
    }
}

/// One thread that serves many descriptors as Go's runtime serves its goroutines': every file is non-blocking and
/// registered once for everything, edge-triggered; each one reads, or writes, until `EAGAIN`, and then sleeps until its
/// descriptor is named again. A wake-up that is missing shows as a test that never ends.
fn serve(path: &Path, readers: u64, writers: u64, messages: u64) -> Vec<Vec<u8>> {
    let epoll = Epoll::new();
    let mut files = HashMap::new();
    for number in 0..readers + writers {
        let flags = if number < readers { [READ, BOTH][number as usize % 2] } else { WRITE };
        let file = open(path, flags | NOWAIT);
        epoll.add(&file, number, GO);
        files.insert(number, file);
    }
    let mut sent = HashMap::<u64, u64>::new();
    let mut got = Vec::new();
    let mut runnable: Vec<u64> = files.keys().copied().collect();
    while (got.len() as u64) < writers * messages {
        for number in std::mem::take(&mut runnable) {
            let file = &files[&number];
            if number < readers {
                loop {
                    match read(file, 99) {
                        Ok(message) if message.is_empty() => {}
                        Ok(message) => got.push(message),
                        Err(error) => break assert_eq!(error, Errno::AGAIN),
                    }
                }
            } else {
                let next = sent.entry(number).or_default();
                while *next < messages {
                    match rustix::io::write(file, format!("{number} {next}").as_bytes()) {
                        Ok(_) => *next += 1,
                        Err(error) => {
                            assert_eq!(error, Errno::AGAIN);
                            break;
                        }
                    }
                }
            }
        }
        if (got.len() as u64) < writers * messages {
            runnable = epoll.wait(None).into_iter().map(|event| event.0).collect();
        }
    }
    got
}

#[test]
fn many_descriptors_registered_once_for_everything_lose_no_wake_up() {
    let Some(mount) = common::mount() else { return };
    for (round, maxmsg) in ["1", "3", "100"].into_iter().enumerate() {
        let path = mount.make_mailbox(&format!("box{round}"), &[("maxmsg", maxmsg)]);
        let got = promptly("the messages", move || serve(&path, 20, 20, 50));
        let expected =
            (20..40).flat_map(|writer| (0..50).map(move |number| format!("{writer} {number}").into_bytes()));
        let (mut got, mut expected): (Vec<_>, Vec<_>) = (got, expected.collect());
        got.sort();
        expected.sort();
        assert!(got == expected, "each message once");
    }
}

#[test]
fn two_such_threads_at_once_lose_no_wake_up() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "2")]);
    let (to, from) = (path.clone(), path);
    // One only sends, the other only receives: each sleeps until the other has done something.
    let sender = aside(move || {
        let (epoll, writer) = (Epoll::new(), open(&to, WRITE | NOWAIT));
        epoll.add(&writer, 0, GO);
        for number in 0..5_000 {
            while let Err(error) = rustix::io::write(&writer, number.to_string().as_bytes()) {
                assert_eq!(error, Errno::AGAIN);
                epoll.wait(None);
            }
        }
    });
    let receiver = aside(move || {
        let (epoll, reader) = (Epoll::new(), open(&from, BOTH | NOWAIT));
        epoll.add(&reader, 0, GO);
        let mut all = Vec::new();
        while all.len() < 5_000 {
            match read(&reader, 99) {
                Ok(message) => all.push(String::from_utf8(message).unwrap()),
                Err(error) => {
                    assert_eq!(error, Errno::AGAIN);
                    epoll.wait(None);
                }
            }
        }
        all
    });
    finish("the sender", sender);
    let expected: Vec<_> = (0..5_000).map(|number| number.to_string()).collect();
    assert!(finish("the receiver", receiver) == expected);
}

#[test]
fn an_end_of_file_between_messages_loses_no_edge() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let from = path.clone();
    // As io.ReadAll again and again on one file: read until the end, then sleep until there is more.
    let receiver = aside(move || {
        let (epoll, reader) = (Epoll::new(), open(&from, READ | NOWAIT));
        epoll.add(&reader, 0, GO);
        let (mut all, mut message) = (Vec::new(), Vec::new());
        while all.len() < 1_000 {
            match read(&reader, 3) {
                Ok(part) if part.is_empty() => {
                    all.push(String::from_utf8(std::mem::take(&mut message)).unwrap());
                }
                Ok(part) => message.extend(part),
                Err(error) => {
                    assert_eq!(error, Errno::AGAIN);
                    epoll.wait(None);
                }
            }
        }
        all
    });
    for number in 0..1_000 {
        send(&path, format!("message {number}").as_bytes());
    }
    let expected: Vec<_> = (0..1_000).map(|number| format!("message {number}")).collect();
    assert!(finish("the receiver", receiver) == expected);
}
