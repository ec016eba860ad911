//! A full mailbox, at each door: waiting, failing, making room; and nobody is held up by one who waits.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{self, Mount, peer::Peer, reap, state_of};
use crate::tools::{
    BOTH, NOWAIT, WRITE, aside, finish, open, read, receive_text, run, send, set, try_receive, waiting,
};
use crate::ways::{WRITERS, name_for, ready, side};

/// A mailbox with room for one message, which it has.
fn full(mount: &Mount, name: &str) {
    let path = mount.make_mailbox(name, &[("maxmsg", "1")]);
    send(&path, b"first\n");
}

#[test]
fn a_writer_at_each_door_waits_for_room() {
    let Some(mount) = common::mount() else { return };
    for door in WRITERS {
        let name = name_for(door);
        full(&mount, &name);
        let file = open(&side(&mount, &name, door), WRITE);
        assert_eq!(ready(&file), PollFlags::empty(), "{door}");
        let writer = aside(move || (rustix::io::write(&file, b"second\n"), file));
        mount.wait_for_figure(&name, "waiting_writers", 1);
        assert_eq!(receive_text(&mount.mailbox(&name)), "first\n");
        let (written, file) = finish(door, writer);
        assert_eq!(written, Ok(7), "{door}");
        if door == "rpc" {
            let server = open(&side(&mount, &name, "serve"), BOTH | NOWAIT);
            assert_eq!(read(&server, 99), Ok(b"second\n".to_vec()));
        } else {
            assert_eq!(receive_text(&mount.mailbox(&name)), "second\n", "{door}");
            assert_eq!(ready(&file), PollFlags::OUT, "{door}");
        }
    }
}

#[test]
fn one_who_may_not_wait_for_room_is_told_so() {
    let Some(mount) = common::mount() else { return };
    for door in WRITERS {
        let name = name_for(door);
        full(&mount, &name);
        let file = open(&side(&mount, &name, door), WRITE | NOWAIT);
        assert_eq!(rustix::io::write(&file, b"second\n"), Err(Errno::AGAIN), "{door}");
        set(&mount, &name, "full", "fail");
        assert_eq!(rustix::io::write(&file, b"second\n"), Err(Errno::NOSPC), "{door}");
        set(&mount, &name, "full", "drop-oldest");
        assert_eq!(rustix::io::write(&file, b"second\n"), Ok(7), "{door}");
        assert_eq!(mount.figure(&format!("mailboxes/{name}/status"), "dropped"), 1, "{door}");
    }
}

#[test]
fn a_waiting_writer_is_interrupted_and_killed_and_nothing_was_sent() {
    let Some(mount) = common::mount() else { return };
    for door in WRITERS {
        let name = name_for(door);
        full(&mount, &name);
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &side(&mount, &name, door), "O_WRONLY");
        for _ in 0..2 {
            peer.tell("os.write(fd, b'never\\n')");
            mount.wait_for_figure(&name, "waiting_writers", 1);
            peer.signal(Signal::USR1);
            assert_eq!(peer.answer(), "Signalled()", "{door}");
            mount.wait_for_figure(&name, "waiting_writers", 0);
        }
        peer.tell("os.write(fd, b'never\\n')");
        mount.wait_for_figure(&name, "waiting_writers", 1);
        peer.kill();
        mount.wait_for_figure(&name, "waiting_writers", 0);
        assert_eq!(receive_text(&mount.mailbox(&name)), "first\n");
        assert_eq!(try_receive(&mount.mailbox(&name)), Err(Errno::AGAIN), "{door}");
        assert_eq!(mount.figure(&format!("mailboxes/{name}/status"), "requests"), 0);
    }
}

#[test]
fn a_removal_and_a_change_of_mind_end_the_wait_for_room() {
    let Some(mount) = common::mount() else { return };
    for door in WRITERS {
        for (round, expected) in [Errno::IDRM, Errno::NOSPC].into_iter().enumerate() {
            let name = format!("{}{round}", name_for(door));
            full(&mount, &name);
            let file = open(&side(&mount, &name, door), WRITE);
            let writer = aside(move || rustix::io::write(&file, b"second\n"));
            mount.wait_for_figure(&name, "waiting_writers", 1);
            if round == 0 {
                fs::remove_file(mount.mailbox(&name)).unwrap();
            } else {
                set(&mount, &name, "full", "fail");
            }
            assert_eq!(finish(door, writer), Err(expected), "{door}");
        }
    }
}

#[test]
fn a_whole_text_waits_for_room_after_its_writer_has_gone() {
    let Some(mount) = common::mount() else { return };
    full(&mount, "box");
    run("printf 'one\\ntwo\\n' > \"$1\"", side(&mount, "box", "whole"));
    mount.wait_for_figure("box", "waiting_writers", 1);
    set(&mount, "box", "full", "fail");
    assert_eq!(mount.figure("mailboxes/box/status", "waiting_writers"), 1, "whom nobody could tell");
    assert_eq!(receive_text(&mount.mailbox("box")), "first\n");
    assert_eq!(receive_text(&mount.mailbox("box")), "one\ntwo\n");
}

#[test]
fn lines_go_in_as_far_as_there_is_room() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[("maxmsg", "2")]);
    let file = open(&side(&mount, "box", "stream"), WRITE | NOWAIT);
    assert_eq!(rustix::io::write(&file, b"one\ntwo\nthree\n"), Ok(8), "two lines of three");
    assert_eq!(rustix::io::write(&file, b"three\n"), Err(Errno::AGAIN));
    assert_eq!(receive_text(&mount.mailbox("box")), "one\n");
    assert_eq!(rustix::io::write(&file, b"three\nfour\n"), Ok(6));
    assert_eq!(receive_text(&mount.mailbox("box")), "two\n");
    assert_eq!(receive_text(&mount.mailbox("box")), "three\n");
}

fn writer(script: &str, path: &std::path::Path, text: &str) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg("sh").arg(path).arg(text);
    command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// How shells and programs send; `$1` is the door, `$2` the message.
const WAYS: [&str; 4] = [
    "echo \"$2\" > \"$1\"",
    "echo \"$2\" >> \"$1\"",
    "echo \"$2\" | dd of=\"$1\" status=none",
    "exec 5> \"$1\"; echo \"$2\" >&5",
];

#[test]
fn a_writer_who_waits_at_a_door_holds_up_nobody() {
    let Some(mount) = common::mount() else { return };
    for door in ["priority/1", "tag/x", "stream", "rpc"] {
        let name = name_for(door);
        full(&mount, &name);
        let path = side(&mount, &name, door);
        let mut writers = Vec::new();
        for (place, way) in WAYS.into_iter().cycle().take(8).enumerate() {
            writers.push(writer(way, &path, &place.to_string()));
            mount.wait_for_figure(&name, "waiting_writers", place as u64 + 1);
        }
        for script in [
            "ls -l \"$1\" \"$1/priority\" \"$1/messages\"",
            "stat \"$1/stream\" \"$1/priority/1\" \"$1/tag/x\" \"$1/whole\"",
            "cat \"$1/status\" \"$1/config/maxmsg\"",
            "cat \"$1/peek\"",
            "truncate -s 0 \"$1/priority/1\"; : > \"$1/priority/1\"; : >> \"$1/tag/x\"; : > \"$1/stream\"",
            "test -w \"$1/priority/1\"; exec 3> \"$1/priority/1\"; exec 3>&-",
        ] {
            run(script, side(&mount, &name, ""));
        }
        let pids = waiting(&mount, &name, "writer");
        assert_eq!(pids.len(), 8);
        for pid in &pids {
            assert_ne!(state_of(pid.as_raw_nonzero().get() as u32), Some('D'), "{door}");
        }
        // Any of them, from the middle to the ends, by a signal that can be caught and by the one that cannot.
        for (left, (place, signal)) in
            [(4, Signal::INT), (0, Signal::KILL), (7, Signal::TERM), (2, Signal::KILL)]
                .into_iter()
                .enumerate()
        {
            kill_process(Pid::from_raw(pids[place].as_raw_nonzero().get()).unwrap(), signal).unwrap();
            mount.wait_for_figure(&name, "waiting_writers", 7 - left as u64);
        }
        fs::remove_file(mount.mailbox(&name)).unwrap();
        for mut writer in writers {
            assert!(!reap(&mut writer).success());
        }
    }
}

#[test]
fn higher_priorities_are_received_first_and_those_of_one_as_they_came() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let folder = side(&mount, "box", "");
    run("cd $1; for m in 1:a 5:b 0:c 32767:d 5:e 1:f; do echo ${m#*:} > priority/${m%:*}; done", &folder);
    run("echo g > \"$1\"", mount.mailbox("box"));
    let received: String = (0..7).map(|_| receive_text(&mount.mailbox("box"))).collect();
    assert_eq!(received, "d\nb\ne\na\nf\nc\ng\n");
    set(&mount, "box", "order", "fifo");
    run("cd $1; for m in 1:a 5:b 0:c; do echo ${m#*:} > priority/${m%:*}; done", &folder);
    let received: String = (0..3).map(|_| receive_text(&mount.mailbox("box"))).collect();
    assert_eq!(received, "a\nb\nc\n");
}

#[test]
fn a_choosy_reader_leaves_the_rest_in_order() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let folder = side(&mount, "box", "");
    run("cd $1; for m in x:1 y:2 x:3 y:4 z:5; do echo ${m#*:} > tag/${m%:*}; done", &folder);
    assert_eq!(run("cd $1; cat tag/y; cat tag/z; cat tag/y", &folder), "2\n5\n4\n");
    assert_eq!(run("cd $1; cat from/0; cat peek; cat peek; cat from/0", &folder), "1\n3\n3\n3\n");
    let waits = open(&side(&mount, "box", "from/1"), crate::tools::READ | NOWAIT);
    send(&mount.mailbox("box"), b"of root");
    assert_eq!(read(&waits, 9), Err(Errno::AGAIN));
}
