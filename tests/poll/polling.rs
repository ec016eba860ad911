//! poll(2) and select(2).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::common::{self, Mount, wait_for};
use crate::tools::{
    BOTH, LONGEST, NOWAIT, READ, WRITE, aside, finish, open, read, receive, send, set, try_receive, try_send,
};

const IN: PollFlags = PollFlags::IN;
const OUT: PollFlags = PollFlags::OUT;
const REMOVED: PollFlags = PollFlags::HUP.union(PollFlags::ERR);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What poll(2) finds now.
fn ready(file: &impl AsFd) -> PollFlags {
    let mut fds = [PollFd::new(file, IN | OUT)];
    poll(&mut fds, Some(&AT_ONCE)).unwrap();
    fds[0].revents()
}

/// Polls in a thread until something of `wanted` is there; what that was.
fn polls(file: &OwnedFd, wanted: PollFlags) -> JoinHandle<PollFlags> {
    let file = file.try_clone().unwrap();
    let (started, start) = std::sync::mpsc::channel();
    let waits = aside(move || {
        let mut fds = [PollFd::new(&file, wanted)];
        started.send(rustix::thread::gettid()).unwrap();
        poll(&mut fds, None).unwrap();
        fds[0].revents()
    });
    let thread = start.recv().unwrap().as_raw_nonzero();
    // Asleep: it has asked, been told that nothing is ready, and waits to be woken.
    wait_for("the poller to sleep", || {
        let wchan = fs::read_to_string(format!("/proc/self/task/{thread}/wchan")).unwrap_or_default();
        waits.is_finished() || wchan.starts_with("poll_schedule_timeout") || wchan.starts_with("do_poll")
    });
    assert!(!waits.is_finished(), "it had to wait");
    waits
}

#[test]
fn readable_is_when_a_read_would_not_wait() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (file, stream) = (open(&path, READ | NOWAIT), open(&path, BOTH | NOWAIT));
    let both = || (ready(&file), ready(&stream));
    assert_eq!(both(), (PollFlags::empty(), OUT));
    send(&path, b"0123456789");
    assert_eq!(both(), (IN, IN | OUT));
    assert_eq!(read(&file, 3), Ok(b"012".to_vec()));
    assert_eq!(both(), (IN, OUT), "the rest of a message is its reader's alone");
    assert_eq!(read(&file, 9), Ok(b"3456789".to_vec()));
    assert_eq!(ready(&file), IN, "the end of file is to be read yet");
    assert_eq!(read(&file, 9), Ok(vec![]));
    assert_eq!(both(), (PollFlags::empty(), OUT));
    send(&path, b"0123456789");
    assert_eq!(read(&stream, 3), Ok(b"012".to_vec()));
    assert_eq!(both(), (PollFlags::empty(), IN | OUT));
    assert_eq!(read(&stream, 9), Ok(b"3456789".to_vec()));
    assert_eq!(both(), (PollFlags::empty(), OUT), "a stream has no end of file");
}

#[test]
fn a_message_whose_time_is_over_is_nothing_to_read() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("ttl", "2ms")]);
    let file = open(&path, READ | NOWAIT);
    for _ in 0..200 {
        send(&path, b"soon gone");
        let sent = Instant::now();
        while sent.elapsed() < Duration::from_millis(2) {}
        assert_eq!(ready(&file), PollFlags::empty(), "though the daemon may not have dropped it yet");
    }
}

#[test]
fn writable_is_when_a_write_would_not_wait() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "2")]);
    let writer = open(&path, WRITE | NOWAIT);
    for expected in [OUT, OUT, PollFlags::empty()] {
        assert_eq!(ready(&writer), expected);
        let written = rustix::io::write(&writer, b"x");
        assert_eq!(written, if expected == OUT { Ok(1) } else { Err(Errno::AGAIN) });
    }
    set(&mount, "box", "maxmsg", "3");
    assert_eq!(ready(&writer), OUT);
    // Room for a short message, not for any.
    set(&mount, "box", "msgsize", "10");
    set(&mount, "box", "maxbytes", "11");
    assert_eq!(ready(&writer), PollFlags::empty());
    set(&mount, "box", "maxbytes", "12");
    assert_eq!(ready(&writer), OUT);
    // Where a write never waits, it is always ready: to fail, or to push something out.
    set(&mount, "box", "maxmsg", "1");
    for full in ["fail", "drop-oldest"] {
        set(&mount, "box", "full", full);
        assert_eq!(ready(&writer), OUT, "{full}");
    }
}

#[test]
fn a_descriptor_is_never_ready_for_what_it_was_not_opened_for() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (reader, writer) = (open(&path, READ), open(&path, WRITE));
    assert_eq!((ready(&reader), ready(&writer)), (PollFlags::empty(), OUT));
    send(&path, b"x");
    assert_eq!((ready(&reader), ready(&writer)), (IN, OUT));
}

#[test]
fn a_message_wakes_whoever_polls_to_read() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    for flags in [READ, READ | NOWAIT, BOTH, BOTH | NOWAIT] {
        let reader = open(&path, flags);
        for _ in 0..20 {
            let waits = polls(&reader, IN);
            send(&path, b"wake");
            assert_eq!(finish("the poller", waits), IN);
            assert_eq!(read(&reader, 9), Ok(b"wake".to_vec()));
            if flags.difference(NOWAIT) == READ {
                assert_eq!(read(&reader, 9), Ok(vec![]));
            }
        }
    }
}

#[test]
fn a_writer_who_waits_is_something_to_read() {
    let Some(mount) = common::mount_with(&["--memory", "2M"]) else { return };
    let filler = mount.make_mailbox("filler", &[]);
    for size in [LONGEST, 512] {
        while try_send(&filler, &vec![0; size]).is_ok() {}
    }
    let path = mount.make_mailbox("box", &[]);
    let reader = open(&path, READ);
    let waits = polls(&reader, IN);
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(writer, &[1; 5000]));
    assert_eq!(finish("the poller", waits), IN, "only the mount's memory keeps the message out");
    assert_eq!(receive(&path), [1; 5000]);
    assert_eq!(finish("the writer", writer), Ok(5000));
}

/// Something that makes room.
type Change = fn(&Mount);

#[test]
fn room_wakes_whoever_polls_to_write() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    let ways: [(&str, Change); 4] = [
        ("a receive", |mount| drop(receive(&mount.mailbox("box")))),
        ("raising maxmsg", |mount| set(mount, "box", "maxmsg", "2")),
        ("full fail", |mount| set(mount, "box", "full", "fail")),
        ("full drop-oldest", |mount| set(mount, "box", "full", "drop-oldest")),
    ];
    for (what, make_room) in ways {
        set(&mount, "box", "maxmsg", "1");
        set(&mount, "box", "full", "wait");
        let _ = try_send(&path, b"full");
        for flags in [WRITE, BOTH | NOWAIT] {
            let writer = open(&path, flags);
            set(&mount, "box", "maxmsg", "1");
            set(&mount, "box", "full", "wait");
            let _ = try_send(&path, b"full");
            let waits = polls(&writer, OUT);
            make_room(&mount);
            assert_eq!(finish(what, waits), OUT, "{what}");
        }
    }
}

/// Where the mount is out of memory, an empty mailbox takes no message, until somebody waits for it.
#[test]
fn a_reader_that_begins_to_wait_wakes_whoever_polls_to_write() {
    let Some(mount) = common::mount_with(&["--memory", "2M"]) else { return };
    let filler = mount.make_mailbox("filler", &[]);
    while try_send(&filler, &vec![0; LONGEST]).is_ok() {}
    let path = mount.make_mailbox("box", &[]);
    let writer = open(&path, WRITE | NOWAIT);
    let waits = polls(&writer, OUT);
    let reader = open(&path, READ);
    let reader = aside(move || read(reader, LONGEST));
    assert_eq!(finish("the poller", waits), OUT);
    assert_eq!(rustix::io::write(&writer, &vec![1; LONGEST]), Ok(LONGEST));
    assert_eq!(finish("the reader", reader), Ok(vec![1; LONGEST]));
}

#[test]
fn memory_that_frees_elsewhere_wakes_whoever_polls_to_write() {
    let Some(mount) = common::mount_with(&["--memory", "2M"]) else { return };
    let filler = mount.make_mailbox("filler", &[]);
    for _ in 0..20 {
        while try_send(&filler, &vec![0; LONGEST]).is_ok() {}
        let waits = ["one", "two", "three"].map(|name| {
            let path = mount.make_mailbox(name, &[]);
            polls(&open(&path, WRITE | NOWAIT), OUT)
        });
        receive(&filler);
        for waits in waits {
            assert_eq!(finish("the poller", waits), OUT);
        }
    }
}

#[test]
fn removal_wakes_everyone() {
    let Some(mount) = common::mount() else { return };
    for replaced in [false, true] {
        let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
        let readers = [open(&path, READ), open(&path, READ | NOWAIT)];
        let readers = [polls(&readers[0], IN), polls(&readers[1], IN)];
        // To read is all that can be waited for in an empty mailbox, and to write in a full one.
        let full = mount.make_mailbox("full", &[("maxmsg", "1")]);
        send(&full, b"full");
        let writer = open(&full, WRITE | NOWAIT);
        let waits = polls(&writer, OUT);
        for path in [&path, &full] {
            if replaced {
                let other = mount.make_mailbox("other", &[]);
                fs::rename(other, path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        for reader in readers {
            assert!(finish("a reader", reader).contains(REMOVED));
        }
        assert!(finish("the writer", waits).contains(REMOVED));
        assert!(ready(&writer).contains(REMOVED), "and so it stays");
        assert_eq!(rustix::io::write(&writer, b"x"), Err(Errno::IDRM));
    }
}

#[test]
fn of_many_who_poll_for_one_message_one_gets_it() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    for round in 0..10 {
        let readers: Vec<_> = (0..8).map(|place| open(&path, [READ, BOTH][place % 2] | NOWAIT)).collect();
        let waits: Vec<_> = readers.iter().map(|reader| polls(reader, IN)).collect();
        send(&path, b"one");
        // Everyone is woken or sleeps on; who asks too late finds nothing.
        let got: Vec<_> = readers.iter().map(|reader| read(reader, 9)).collect();
        assert_eq!(got.iter().filter(|got| got.is_ok()).count(), 1, "round {round}: {got:?}");
        // The rest may still sleep: a message for each wakes them.
        for _ in &readers {
            send(&path, b"more");
        }
        for wait in waits {
            assert_eq!(finish("a poller", wait), IN);
        }
        while try_receive(&path).is_ok() {}
    }
}

#[test]
fn select_sees_what_poll_sees() {
    let Some(mount) = common::mount() else { return };
    if !common::have("python3") {
        return;
    }
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    let script = "
import os, select, sys
r, w = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[1], os.O_WRONLY)
def now(): return select.select([r], [w], [], 0)
assert now() == ([], [w], []), now()
os.write(w, b'full')
assert now() == ([r], [], []), now()
assert os.read(r, 9) == b'full' and os.read(r, 9) == b''
assert now() == ([], [w], []), now()
print('asleep', flush=True)
assert select.select([r], [], []) == ([r], [], [])
assert os.read(r, 9) == b'wake'
";
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(&path).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    wait_for("the process to sleep in select", || {
        let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        wchan.contains("poll_schedule_timeout")
            || wchan.contains("do_select")
            || child.try_wait().unwrap().is_some()
    });
    send(&path, b"wake");
    assert!(common::reap(&mut child).success());
}
