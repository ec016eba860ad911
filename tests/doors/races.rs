//! Several who do different things with the same messages at once: each message has one fate.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::common::{self, Mount};
use crate::tools::{BOTH, NOWAIT, READ, WRITE, aside, finish, noise, open, read, run, send, set};
use crate::ways::{lease, numbers, side};

fn figure(mount: &Mount, mailbox: &str, key: &str) -> u64 {
    mount.figure(&format!("mailboxes/{mailbox}/status"), key)
}

#[test]
fn messages_moved_to_and_fro_are_received_once() {
    const COUNT: u64 = 300;
    let Some(mount) = common::mount() else { return };
    for name in ["a", "b"] {
        mount.make_mailbox(name, &[("maxmsg", "max")]);
    }
    run(&format!("seq {COUNT} > \"$1\""), side(&mount, "a", "stream"));
    let received = Arc::new(AtomicU64::new(0));
    let movers: Vec<_> = [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")]
        .into_iter()
        .map(|(from, to)| {
            let [from, to] = [from, to].map(|name| side(&mount, name, "messages"));
            let received = Arc::clone(&received);
            aside(move || {
                let mut moved = 0;
                while received.load(Ordering::SeqCst) < COUNT {
                    for number in numbers(&from) {
                        let name = number.to_string();
                        match rustix::fs::rename(from.join(&name), to.join(&name)) {
                            Ok(()) => moved += 1,
                            // Somebody was faster.
                            Err(Errno::NOENT) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                moved
            })
        })
        .collect();
    let readers: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|name| {
            let file = open(&mount.mailbox(name), BOTH | NOWAIT);
            let received = Arc::clone(&received);
            aside(move || {
                let mut got = Vec::new();
                while received.load(Ordering::SeqCst) < COUNT {
                    match read(&file, 99) {
                        Ok(line) => {
                            got.push(String::from_utf8(line).unwrap());
                            received.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => assert_eq!(error, Errno::AGAIN),
                    }
                }
                got
            })
        })
        .collect();
    let got: Vec<String> = readers.into_iter().flat_map(|reader| finish("a reader", reader)).collect();
    let moved: u64 = movers.into_iter().map(|mover| finish("a mover", mover)).sum();
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len() as u64, COUNT);
    assert_eq!(got.len() as u64, COUNT);
    assert_eq!(figure(&mount, "a", "moved_out") + figure(&mount, "b", "moved_out"), moved);
    assert_eq!(figure(&mount, "a", "moved_in") + figure(&mount, "b", "moved_in"), moved);
    mount.wait_for_free_memory();
}

#[test]
fn a_short_lived_message_is_received_or_expires() {
    const COUNT: u64 = 2000;
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("ttl", "1ms")]);
    let readers: Vec<_> = ["stream", "lease", "from/0"]
        .into_iter()
        .map(|door| {
            let file = open(&side(&mount, "box", door), if door == "lease" { BOTH } else { READ });
            aside(move || {
                loop {
                    match read(&file, 4096) {
                        Ok(text) if door == "lease" && !text.is_empty() => {
                            assert_eq!(rustix::io::write(&file, b"ack"), Ok(3));
                        }
                        Ok(_) => {}
                        Err(error) => return error,
                    }
                }
            })
        })
        .collect();
    for n in 0..COUNT {
        send(&path, format!("{n}\n").as_bytes());
    }
    common::wait_for("each to be received or to expire", || {
        figure(&mount, "box", "received") + figure(&mount, "box", "expired") == COUNT
    });
    assert_eq!((figure(&mount, "box", "sent"), figure(&mount, "box", "depth")), (COUNT, 0));
    mount.wait_for_free_memory();
    fs::remove_file(path).unwrap();
    for reader in readers {
        assert_eq!(finish("a reader", reader), Errno::IDRM);
    }
}

#[test]
fn a_lease_that_ends_by_itself_and_its_holders_word_meet() {
    const COUNT: u64 = 300;
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[("lease_time", "1ms")]);
    run(&format!("seq {COUNT} > \"$1\""), side(&mount, "box", "stream"));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let file = open(&side(&mount, "box", "lease"), BOTH | NOWAIT);
            let status = mount.path("control/mailboxes/box/status");
            aside(move || {
                let mut acked = Vec::new();
                loop {
                    match read(&file, 99) {
                        Ok(line) => match rustix::io::write(&file, b"ack") {
                            Ok(_) => acked.push(line),
                            // It was too slow.
                            Err(error) => assert_eq!(error, Errno::NOMSG),
                        },
                        Err(error) => {
                            assert_eq!(error, Errno::AGAIN);
                            let text = fs::read_to_string(&status).unwrap();
                            if text.contains(&format!("\nreceived {COUNT}\n")) {
                                return acked;
                            }
                        }
                    }
                }
            })
        })
        .collect();
    let acked: Vec<_> = workers.into_iter().flat_map(|worker| finish("a worker", worker)).collect();
    assert!(acked.iter().all(|line| !line.is_empty()), "an end of file is not to be acknowledged");
    assert_eq!(acked.iter().collect::<BTreeSet<_>>().len() as u64, COUNT);
    assert_eq!(acked.len() as u64, COUNT);
    assert_eq!(figure(&mount, "box", "leased"), 0);
    mount.wait_for_free_memory();
}

#[test]
fn leases_outlive_the_removal_of_their_mailbox() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("lease_time", "1h")]);
    (0..4).for_each(|_| send(&path, b"job"));
    let held: Vec<_> = ["ack", "nack", "reject", ""].map(|word| (lease(&mount, "box").0, word)).into();
    assert_eq!(figure(&mount, "box", "leased"), 4);
    fs::remove_file(path).unwrap();
    for (worker, word) in held {
        assert!(word.is_empty() || rustix::io::write(&worker, word.as_bytes()) == Ok(word.len()), "{word}");
        assert!(!matches!(read(&worker, 9), Ok(text) if !text.is_empty()), "{word}: there is no next one");
    }
    mount.wait_for_free_memory();
}

#[test]
fn texts_that_the_kernel_hands_over_in_pieces_are_whole() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "max")]);
    // Lines of odd lengths, so that the kernel's cuts are within some.
    let lines: Vec<String> = (0..40_000).map(|n| format!("{n} {}\n", "x".repeat(n % 131))).collect();
    let text = lines.concat();
    assert!(text.len() > 2 << 20);
    let file = open(&side(&mount, "box", "stream"), WRITE);
    assert_eq!(rustix::io::write(&file, text.as_bytes()), Ok(text.len()));
    drop(file);
    mount.wait_for_figure("box", "depth", lines.len() as u64);
    let stream = open(&side(&mount, "box", "stream"), READ | NOWAIT);
    let mut all = Vec::new();
    while let Ok(part) = read(&stream, 50_000) {
        assert_eq!(part.last(), Some(&b'\n'), "whole lines");
        all.extend(part);
    }
    assert!(all == text.as_bytes());
    set(&mount, "box", "wholesize", "4M");
    let long = noise(3 << 20, 9);
    let whole = open(&side(&mount, "box", "whole"), WRITE);
    assert_eq!(rustix::io::write(&whole, &long), Ok(long.len()));
    drop(whole);
    mount.wait_for_figure("box", "depth", 1);
    assert!(fs::read(&path).unwrap() == long);
}

/// Does whatever comes to its mind at the doors of the mailbox in `argv[1]`, whose folder in `control/` is `argv[2]`.
const ANYBODY: &str = r"
import os, random, sys
plain, side = sys.argv[1], sys.argv[2]
readers, writers = ['peek', 'json', 'from/0'], ['whole', 'priority/3']
both = ['stream', 'lease', 'rpc', 'serve', 'tag/a', 'tag/b']
while True:
    door = random.choice(readers + writers + both + ['', 'messages'])
    try:
        if door == 'messages':
            os.unlink(side + '/messages/' + random.choice(os.listdir(side + '/messages') or ['none']))
            continue
        flags = os.O_RDONLY if door in readers else os.O_WRONLY if door in writers else os.O_RDWR
        fd = os.open(side + '/' + door if door else plain, flags)
    except OSError:
        continue
    try:
        for _ in range(3):
            if random.random() < 0.5: os.write(fd, random.choice([b'ack', b'nack', b'line\nline\nhalf', b'x' * 1000]))
            else: os.read(fd, random.choice([1, 100, 5000]))
    except OSError: pass
    os.close(fd)
";

#[test]
fn whoever_is_killed_at_whatever_door_leaves_nothing_behind() {
    let Some(mount) = common::mount() else { return };
    if !common::have("python3") {
        return;
    }
    let path = mount.make_mailbox("box", &[("maxmsg", "3")]);
    let start = || {
        let mut command = std::process::Command::new("python3");
        command.args(["-I", "-c", ANYBODY]).arg(&path).arg(mount.path("control/mailboxes/box"));
        command.stdin(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut crowd: Vec<_> = (0..6).map(|_| start()).collect();
    for round in 0..60 {
        let victim = round % crowd.len();
        // Wherever it is once it runs: all may wait for each other, so that nothing else is sure to happen.
        common::wait_for("the victim to run", || {
            let maps = fs::read_to_string(format!("/proc/{}/wchan", crowd[victim].id())).unwrap_or_default();
            maps.starts_with("request_wait_answer") || maps.starts_with("fuse")
        });
        crowd[victim].kill().unwrap();
        common::reap(&mut crowd[victim]);
        crowd[victim] = start();
    }
    for mut one in crowd {
        one.kill().unwrap();
        common::reap(&mut one);
    }
    for key in ["waiting_readers", "leased", "requests", "serving"] {
        mount.wait_for_figure("box", key, 0);
    }
    // What the dead had written may wait for room still: it comes in as room is made.
    let reader = open(&path, BOTH | NOWAIT);
    while read(&reader, 5000).is_ok() {}
    let [sent, received, removed] = ["sent", "received", "removed"].map(|key| figure(&mount, "box", key));
    assert_eq!(sent, received + removed);
    assert_eq!(figure(&mount, "box", "waiting_writers"), 0);
    mount.wait_for_free_memory();
}
