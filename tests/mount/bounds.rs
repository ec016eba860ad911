//! What a full mailbox does, as its `config/` says, and the bound that all mailboxes of a mount share.

use std::fs::File;

use rustix::io::Errno;

use crate::common;
use crate::tools::{
    LONGEST, READ, WRITE, aside, finish, open, read, receive, receive_text, run, send, set, try_send,
};

#[test]
fn full_fail_refuses_at_once() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "2"), ("full", "fail")]);
    send(&path, b"1");
    send(&path, b"2");
    assert_eq!(try_send(&path, b"3"), Err(Errno::NOSPC));
    assert_eq!(rustix::io::write(open(&path, WRITE), b"3"), Err(Errno::NOSPC), "and does not wait");
    assert_eq!([receive(&path), receive(&path)], [b"1", b"2"]);
    send(&path, b"4");
}

#[test]
fn full_fail_ends_the_waits_of_those_who_wait_already() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"1");
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(writer, b"2"));
    mount.wait_for_figure("box", "waiting_writers", 1);
    set(&mount, "box", "full", "fail");
    assert_eq!(finish("the write", writer), Err(Errno::NOSPC));
}

#[test]
fn full_drop_oldest_makes_room_and_counts_what_it_dropped() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "3"), ("full", "drop-oldest")]);
    for number in 0..10 {
        send(&path, number.to_string().as_bytes());
    }
    let figure = |key| mount.figure("mailboxes/box/status", key);
    assert_eq!(["sent", "dropped", "depth", "bytes"].map(figure), [10, 7, 3, 3]);
    assert_eq!([receive(&path), receive(&path), receive(&path)], [b"7", b"8", b"9"]);
    // As many of the oldest as a long message needs.
    set(&mount, "box", "maxbytes", "10");
    for body in ["aaaa", "bbbb", "cccccccc"] {
        send(&path, body.as_bytes());
    }
    assert_eq!((figure("dropped"), receive_text(&path).as_str()), (9, "cccccccc"));
}

#[test]
fn raising_maxmsg_lets_waiting_writers_in_at_once_and_lowering_it_loses_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"0");
    let writers: Vec<_> = (1..6)
        .map(|place| {
            let writer = open(&path, WRITE);
            let writer = aside(move || rustix::io::write(writer, place.to_string().as_bytes()));
            mount.wait_for_figure("box", "waiting_writers", place);
            writer
        })
        .collect();
    set(&mount, "box", "maxmsg", "3");
    mount.wait_for_figure("box", "waiting_writers", 3);
    set(&mount, "box", "maxmsg", "max");
    for writer in writers {
        assert_eq!(finish("the write", writer), Ok(1));
    }
    set(&mount, "box", "maxmsg", "2");
    assert_eq!(mount.figure("mailboxes/box/status", "depth"), 6);
    assert_eq!(try_send(&path, b"6"), Err(Errno::AGAIN));
    for expected in 0..6 {
        assert_eq!(receive_text(&path), expected.to_string());
    }
    send(&path, b"6");
}

#[test]
fn maxbytes_bounds_the_backlog_and_lets_short_messages_wait_their_turn() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxbytes", "10")]);
    send(&path, b"1234567");
    let (long, short) = (open(&path, WRITE), open(&path, WRITE));
    let long = aside(move || rustix::io::write(long, b"12345"));
    mount.wait_for_figure("box", "waiting_writers", 1);
    // There would be room for it, but not before the one that came first.
    let short = aside(move || rustix::io::write(short, b"1"));
    mount.wait_for_figure("box", "waiting_writers", 2);
    assert_eq!([receive(&path).len(), receive(&path).len(), receive(&path).len()], [7, 5, 1]);
    assert_eq!((finish("the long one", long), finish("the short one", short)), (Ok(5), Ok(1)));
}

/// Fills the 2 MiB of a mount, to the last message of 512 bytes, through one mailbox.
fn fill(mount: &common::Mount) -> std::path::PathBuf {
    let path = mount.make_mailbox("filler", &[]);
    for size in [LONGEST, 4096, 512] {
        while try_send(&path, &vec![0; size]).is_ok() {}
    }
    path
}

#[test]
fn a_mount_out_of_memory_is_a_full_mailbox_to_every_sender_until_memory_frees_anywhere() {
    let Some(mount) = common::mount_with(&["--memory", "2M"]) else { return };
    let filler = fill(&mount);
    let names = ["one", "two", "three"];
    let writers = names.map(|name| {
        let path = mount.make_mailbox(name, &[]);
        assert_eq!(try_send(&path, &[1; 1000]), Err(Errno::AGAIN));
        let writer = open(&path, WRITE);
        let writer = aside(move || rustix::io::write(writer, &[1; 1000]));
        mount.wait_for_figure(name, "waiting_writers", 1);
        writer
    });
    assert!(mount.figure("status", "memory_used") <= mount.figure("status", "memory_max"));
    assert_eq!(receive(&filler).len(), LONGEST);
    for writer in writers {
        assert_eq!(finish("a write", writer), Ok(1000));
    }
    assert!(mount.figure("status", "memory_used") <= mount.figure("status", "memory_max"));
}

#[test]
fn memory_frees_with_a_removal_and_with_what_is_dropped() {
    let Some(mount) = common::mount_with(&["--memory", "2M"]) else { return };
    for script in ["rm \"$1\"", "touch \"$1.new\" && mv \"$1.new\" \"$1\" && rm \"$1\""] {
        let filler = fill(&mount);
        let path = mount.make_mailbox("box", &[]);
        let writer = open(&path, WRITE);
        let writer = aside(move || rustix::io::write(writer, &[1; 1000]));
        mount.wait_for_figure("box", "waiting_writers", 1);
        run(script, &filler);
        assert_eq!(finish("the write", writer), Ok(1000), "{script}");
        assert_eq!(receive(&path).len(), 1000);
    }
    mount.wait_for_free_memory();
}

#[test]
fn a_message_that_is_awaited_needs_no_memory() {
    let Some(mount) = common::mount_with(&["--memory", "2M"]) else { return };
    let path = mount.make_mailbox("box", &[]);
    let reader = open(&path, READ);
    let reader = aside(move || read(reader, LONGEST));
    mount.wait_for_figure("box", "waiting_readers", 1);
    fill(&mount);
    send(&path, &vec![1; LONGEST]);
    assert_eq!(finish("the read", reader).map(|message| message.len()), Ok(LONGEST));
    // And a reader takes from a writer whom only the lack of memory keeps out.
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(writer, &[2; 5000]));
    mount.wait_for_figure("box", "waiting_writers", 1);
    assert_eq!(receive(&path), [2; 5000]);
    assert_eq!(finish("the write", writer), Ok(5000));
}

#[test]
fn what_a_process_pipes_in_waits_for_room_and_arrives_in_order() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "4")]);
    let script = "exec seq 1 500 | while read n; do echo \"$n\" > \"$1\"; done";
    let writer = crate::tools::shell(script, &path);
    let reader = File::from(open(&path, READ));
    let all =
        aside(move || (1..=500).map(|_| (read(&reader, 99).unwrap(), read(&reader, 99).unwrap())).collect());
    let all: Vec<_> = finish("the reader", all);
    let expected = (1..=500).map(|number| (format!("{number}\n").into_bytes(), vec![]));
    assert!(all.into_iter().eq(expected));
    assert!(common::output(writer).status.success());
}
