//! Readers at each door: waiting and being served, refused, interrupted, killed, woken, and told of a removal.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::common::{self, Mount, peer::Peer, wait_for};
use crate::tools::{BOTH, NOWAIT, READ, WRITE, aside, finish, open, read, send, try_receive};
use crate::ways::{READERS, WRITERS, feed, is_hello, name_for, ready, side};

#[test]
fn a_reader_at_each_door_waits_and_is_served() {
    let Some(mount) = common::mount() else { return };
    for door in READERS {
        let name = name_for(door);
        mount.make_mailbox(&name, &[]);
        let file = open(&side(&mount, &name, door), READ);
        let reader = aside(move || (read(&file, 4096), file));
        mount.wait_for_figure(&name, "waiting_readers", 1);
        let client = feed(&mount, &name, door);
        let (got, file) = finish(door, reader);
        assert!(is_hello(door, got), "{door}");
        mount.wait_for_figure(&name, "waiting_readers", 0);
        drop((file, client));
    }
}

#[test]
fn one_who_may_not_wait_is_told_so_at_each_door() {
    let Some(mount) = common::mount() else { return };
    for door in READERS {
        let name = name_for(door);
        mount.make_mailbox(&name, &[]);
        let file = open(&side(&mount, &name, door), READ | NOWAIT);
        assert_eq!(read(&file, 4096), Err(Errno::AGAIN), "{door}");
        let client = feed(&mount, &name, door);
        assert!(is_hello(door, read(&file, 4096)), "{door}");
        drop(client);
    }
    let client = open(&side(&mount, "stream", "rpc"), BOTH | NOWAIT);
    assert_eq!(read(&client, 9), Err(Errno::NOMSG), "nothing was asked, and so no answer will come");
    assert_eq!(rustix::io::write(&client, b"question"), Ok(8));
    assert_eq!(read(&client, 9), Err(Errno::AGAIN));
}

#[test]
fn signals_end_the_wait_at_each_door_and_take_nothing() {
    let Some(mount) = common::mount() else { return };
    for door in READERS {
        let name = name_for(door);
        mount.make_mailbox(&name, &[]);
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &side(&mount, &name, door), "O_RDONLY");
        peer.tell("os.read(fd, 100)");
        mount.wait_for_figure(&name, "waiting_readers", 1);
        peer.signal(Signal::USR1);
        assert_eq!(peer.answer(), "Signalled()", "{door}");
        mount.wait_for_figure(&name, "waiting_readers", 0);
        peer.tell("os.read(fd, 100)");
        mount.wait_for_figure(&name, "waiting_readers", 1);
        peer.kill();
        mount.wait_for_figure(&name, "waiting_readers", 0);
        let client = feed(&mount, &name, door);
        let file = open(&side(&mount, &name, door), READ | NOWAIT);
        assert!(is_hello(door, read(&file, 4096)), "{door}: the dead have taken nothing");
        drop(client);
    }
}

#[test]
fn a_client_who_waits_for_its_answer_can_be_interrupted_and_killed() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let Some(mut peer) = Peer::start() else { return };
    peer.open("fd", &side(&mount, "box", "rpc"), "O_RDWR");
    assert_eq!(peer.ask("os.write(fd, b'question')"), "8");
    peer.tell("os.read(fd, 100)");
    mount.wait_for_figure("box", "waiting_readers", 1);
    peer.signal(Signal::USR1);
    assert_eq!(peer.answer(), "Signalled()");
    assert_eq!(mount.figure("mailboxes/box/status", "requests"), 1, "it is asked still");
    peer.tell("os.read(fd, 100)");
    mount.wait_for_figure("box", "waiting_readers", 1);
    peer.kill();
    mount.wait_for_figure("box", "requests", 0);
    mount.wait_for_figure("box", "waiting_readers", 0);
}

#[test]
fn a_removal_ends_the_wait_at_each_door() {
    let Some(mount) = common::mount() else { return };
    for door in READERS.into_iter().chain(["rpc"]) {
        let name = name_for(door);
        let path = mount.make_mailbox(&name, &[]);
        let flags = if door == "rpc" { BOTH } else { READ };
        let file = open(&side(&mount, &name, door), flags);
        if door == "rpc" {
            assert_eq!(rustix::io::write(&file, b"question"), Ok(8));
        }
        let reader = aside(move || (read(&file, 99), read(&file, 99), ready(&file)));
        mount.wait_for_figure(&name, "waiting_readers", 1);
        fs::remove_file(&path).unwrap();
        let (first, second, flags) = finish(door, reader);
        assert_eq!((first, second), (Err(Errno::IDRM), Err(Errno::IDRM)), "{door}");
        assert!(flags.contains(PollFlags::HUP | PollFlags::ERR), "{door}: {flags:?}");
        assert!(!side(&mount, &name, "").exists(), "what was in control/ went with it");
    }
}

#[test]
fn a_removal_is_told_to_writers_at_each_door() {
    let Some(mount) = common::mount() else { return };
    for door in WRITERS.into_iter().chain(["whole"]) {
        let name = name_for(door);
        let path = mount.make_mailbox(&name, &[]);
        let file = open(&side(&mount, &name, door), WRITE);
        fs::remove_file(&path).unwrap();
        assert_eq!(rustix::io::write(&file, b"late\n"), Err(Errno::IDRM), "{door}");
    }
    for (door, word, expected) in [("lease", "ack", Ok(3)), ("serve", "answer", Err(Errno::IDRM))] {
        let path = mount.make_mailbox(door, &[]);
        let client = feed(&mount, door, door);
        let file = open(&side(&mount, door, door), BOTH);
        assert!(is_hello(door, read(&file, 99)));
        fs::remove_file(&path).unwrap();
        assert_eq!(rustix::io::write(&file, word.as_bytes()), expected, "{door}");
        drop(client);
    }
}

/// Polls for `wanted` in a thread, which sleeps by the time this returns.
fn poller(file: &OwnedFd, wanted: PollFlags) -> std::thread::JoinHandle<PollFlags> {
    let file = file.try_clone().unwrap();
    let (started, start) = std::sync::mpsc::channel();
    let waits = aside(move || {
        let mut fds = [PollFd::new(&file, wanted)];
        started.send(rustix::thread::gettid()).unwrap();
        poll(&mut fds, None).unwrap();
        fds[0].revents()
    });
    let thread = start.recv().unwrap().as_raw_nonzero();
    wait_for("the poller to sleep", || {
        let wchan = fs::read_to_string(format!("/proc/self/task/{thread}/wchan")).unwrap_or_default();
        waits.is_finished() || wchan.starts_with("poll_schedule_timeout") || wchan.starts_with("do_poll")
    });
    assert!(!waits.is_finished(), "it had to wait");
    waits
}

#[test]
fn pollers_at_each_door_are_woken_by_what_they_can_read() {
    let Some(mount) = common::mount() else { return };
    for door in READERS {
        let name = name_for(door);
        mount.make_mailbox(&name, &[]);
        let file = open(&side(&mount, &name, door), READ | NOWAIT);
        assert_eq!(ready(&file), PollFlags::empty(), "{door}");
        if ["tag/x", "from/0"].contains(&door) {
            // What others want is nothing to this one.
            assert_eq!(ready(&open(&side(&mount, &name, "tag/other"), READ | NOWAIT)), PollFlags::empty());
        }
        let waits = poller(&file, PollFlags::IN);
        let client = feed(&mount, &name, door);
        assert!(finish(door, waits).contains(PollFlags::IN), "{door}");
        assert!(is_hello(door, read(&file, 4096)), "{door}");
        drop(client);
    }
    let path = mount.make_mailbox("tagged", &[]);
    let file = open(&side(&mount, "tagged", "tag/x"), READ | NOWAIT);
    send(&path, b"without");
    assert_eq!(ready(&file), PollFlags::empty(), "not for this tag");
    assert_eq!(read(&file, 9), Err(Errno::AGAIN));
    assert_eq!(try_receive(&path), Ok(b"without".to_vec()));
}

#[test]
fn a_client_polls_for_its_answer_and_then_for_its_next_question() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let client = open(&side(&mount, "box", "rpc"), BOTH | NOWAIT);
    let server = open(&side(&mount, "box", "serve"), BOTH | NOWAIT);
    assert_eq!(ready(&client), PollFlags::OUT);
    assert!(!ready(&server).contains(PollFlags::IN));
    let waits = poller(&server, PollFlags::IN);
    assert_eq!(rustix::io::write(&client, b"question"), Ok(8));
    assert!(finish("the server", waits).contains(PollFlags::IN));
    assert_eq!(ready(&client), PollFlags::empty(), "neither an answer nor room for another question");
    assert_eq!(rustix::io::write(&client, b"more"), Err(Errno::BUSY));
    assert_eq!(read(&server, 99), Ok(b"question".to_vec()));
    let waits = poller(&client, PollFlags::IN);
    assert_eq!(rustix::io::write(&server, b"answer"), Ok(6));
    assert!(finish("the client", waits).contains(PollFlags::IN));
    assert_eq!(read(&client, 99), Ok(b"answer".to_vec()));
    assert!(ready(&client).contains(PollFlags::OUT));
}

/// As programs in shell see it: `select` there is `timeout` around a read.
#[test]
fn a_shell_gives_up_waiting_at_each_door() {
    let Some(mount) = common::mount() else { return };
    for door in READERS {
        let name = name_for(door);
        mount.make_mailbox(&name, &[]);
        let script = format!("timeout 0.1 cat {:?}; test $? -eq 124", side(&mount, &name, door));
        common::sh(&script);
        mount.wait_for_figure(&name, "waiting_readers", 0);
    }
}

#[test]
fn a_door_opened_the_wrong_way_is_refused() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let try_open = |door: &str, flags| {
        rustix::fs::open(side(&mount, "box", door), flags, rustix::fs::Mode::empty()).map(drop)
    };
    for door in ["peek", "json", "from/0", "status", "error"] {
        assert_eq!(try_open(door, WRITE), Err(Errno::ACCESS), "{door}");
        assert_eq!(try_open(door, BOTH), Err(Errno::ACCESS), "{door}");
        assert_eq!(try_open(door, READ), Ok(()), "{door}");
    }
    for door in ["whole", "priority/0"] {
        assert_eq!(try_open(door, READ), Err(Errno::ACCESS), "{door}");
        assert_eq!(try_open(door, BOTH), Err(Errno::ACCESS), "{door}");
        assert_eq!(try_open(door, WRITE), Ok(()), "{door}");
    }
    for folder in ["priority", "tag", "from", "messages", "config"] {
        assert_eq!(try_open(folder, WRITE), Err(Errno::ISDIR), "{folder}");
    }
    assert_eq!(count_handles(&mount), 0);
}

/// Callers who wait anywhere.
fn count_handles(mount: &Mount) -> u64 {
    mount.figure("status", "waiting_readers") + mount.figure("status", "waiting_writers")
}
