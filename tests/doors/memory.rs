//! Doors where the mount's memory is short.

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::common::{self, Mount};
use crate::tools::{
    BOTH, NOWAIT, READ, WRITE, aside, finish, noise, open, read, receive, send, set, try_receive,
};
use crate::ways::{lease, ready, side};

/// A mount with room for two messages of [`LONG`] bytes.
fn small() -> Option<Mount> {
    common::mount_with(&["--memory", "2M"])
}

const LONG: usize = 1_000_000;

#[test]
fn a_leased_message_takes_room_until_it_is_settled() {
    let Some(mount) = small() else { return };
    let path = mount.make_mailbox("box", &[]);
    let other = mount.make_mailbox("other", &[]);
    (0..2).for_each(|n| send(&path, &noise(LONG, n)));
    let workers = [lease_long(&mount), lease_long(&mount)];
    let writers: Vec<_> = [&path, &other]
        .into_iter()
        .zip(["box", "other"])
        .map(|(path, name)| {
            let file = open(path, WRITE);
            let writer = aside(move || rustix::io::write(&file, &noise(LONG, 5)));
            mount.wait_for_figure(name, "waiting_writers", 1);
            writer
        })
        .collect();
    for worker in workers {
        assert_eq!(rustix::io::write(&worker, b"ack"), Ok(3));
    }
    for writer in writers {
        assert_eq!(finish("a writer", writer), Ok(LONG));
    }
    assert_eq!((receive(&path).len(), receive(&other).len()), (LONG, LONG));
    mount.wait_for_free_memory();
}

fn lease_long(mount: &Mount) -> std::os::fd::OwnedFd {
    let worker = open(&side(mount, "box", "lease"), BOTH);
    assert_eq!(read(&worker, LONG + 1).map(|message| message.len()), Ok(LONG));
    worker
}

#[test]
fn a_text_for_which_there_is_no_memory_is_not_sent_in_part() {
    let Some(mount) = small() else { return };
    let path = mount.make_mailbox("box", &[("wholesize", "8M")]);
    let whole = open(&side(&mount, "box", "whole"), WRITE);
    let mut written = 0;
    let error = loop {
        match rustix::io::write(&whole, &noise(100_000, 3)) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::NOMEM);
    assert!(written > LONG, "{written}");
    drop(whole);
    mount.wait_for_free_memory();
    // Something after it, so that it would have come before.
    send(&path, b"after it");
    assert_eq!(receive(&path), b"after it");
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
    // What it took is free again.
    let whole = open(&side(&mount, "box", "whole"), WRITE);
    for _ in 0..15 {
        assert_eq!(rustix::io::write(&whole, &noise(100_000, 3)), Ok(100_000));
    }
    drop(whole);
    mount.wait_for_figure("box", "depth", 1);
}

#[test]
fn a_waiting_server_takes_a_request_though_memory_is_short() {
    let Some(mount) = small() else { return };
    let path = mount.make_mailbox("box", &[]);
    let full = mount.make_mailbox("full", &[]);
    (0..2).for_each(|n| send(&full, &noise(1_040_000, n)));
    let client = open(&side(&mount, "box", "rpc"), BOTH | NOWAIT);
    let question = noise(100_000, 1);
    assert_eq!(rustix::io::write(&client, &question), Err(Errno::AGAIN), "there is no room");
    let server = open(&side(&mount, "box", "serve"), BOTH);
    let serving = aside(move || (read(&server, 200_000), server));
    mount.wait_for_figure("box", "waiting_readers", 1);
    assert_eq!(rustix::io::write(&client, &question), Ok(question.len()));
    let (got, server) = finish("the server", serving);
    assert!(got == Ok(question));
    assert_eq!(rustix::io::write(&server, b"answer"), Ok(6));
    assert_eq!(read(&client, 99), Ok(b"answer".to_vec()));
    drop((client, server, path));
    (0..2).for_each(|_| drop(receive(&full)));
    mount.wait_for_free_memory();
}

#[test]
fn lines_that_wait_for_memory_go_in_when_another_mailbox_gives_it() {
    let Some(mount) = small() else { return };
    mount.make_mailbox("box", &[]);
    let full = mount.make_mailbox("full", &[]);
    (0..2).for_each(|n| send(&full, &noise(1_040_000, n)));
    let lines = "a line of some bytes\n".repeat(10_000);
    let stream = open(&side(&mount, "box", "stream"), WRITE);
    assert_eq!(ready(&stream), PollFlags::empty());
    let (text, length) = (lines.clone(), lines.len());
    let writer = aside(move || rustix::io::write(&stream, text.as_bytes()));
    mount.wait_for_figure("box", "waiting_writers", 1);
    receive(&full);
    // A line takes more than its bytes: the reader makes room for the last of them.
    let reader = open(&side(&mount, "box", "stream"), READ);
    let reader = aside(move || {
        let mut all = Vec::new();
        while all.len() < length {
            all.extend(read(&reader, 4096).unwrap());
        }
        all
    });
    assert_eq!(finish("the writer", writer), Ok(length));
    assert!(finish("the reader", reader) == lines.as_bytes());
    receive(&full);
    mount.wait_for_free_memory();
}

#[test]
fn what_comes_back_from_a_lease_comes_back_to_a_full_mailbox() {
    let Some(mount) = small() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"first");
    let (worker, _) = lease(&mount, "box");
    send(&path, b"second");
    drop(worker);
    mount.wait_for_figure("box", "depth", 2);
    assert_eq!([receive(&path), receive(&path)], [b"first".to_vec(), b"second".to_vec()]);
    set(&mount, "box", "maxmsg", "max");
    // And where all memory is taken meanwhile, because it has kept its own.
    send(&path, &noise(LONG, 1));
    let worker = lease_long(&mount);
    send(&path, &noise(LONG, 2));
    drop(worker);
    mount.wait_for_figure("box", "depth", 2);
    assert!([receive(&path), receive(&path)] == [noise(LONG, 1), noise(LONG, 2)]);
    mount.wait_for_free_memory();
}

#[test]
fn a_text_that_found_no_memory_can_go_on_when_there_is_some() {
    let Some(mount) = small() else { return };
    let path = mount.make_mailbox("box", &[("wholesize", "8M")]);
    let [first, second] = [(); 2].map(|()| open(&side(&mount, "box", "whole"), WRITE));
    assert_eq!(rustix::io::write(&first, &noise(800_000, 1)), Ok(800_000));
    assert_eq!(rustix::io::write(&first, &noise(700_000, 2)), Ok(700_000));
    assert_eq!(rustix::io::write(&second, b"begun, "), Ok(7));
    assert_eq!(rustix::io::write(&second, &noise(700_000, 3)), Err(Errno::NOMEM));
    drop(first);
    mount.wait_for_figure("box", "depth", 1);
    assert_eq!(rustix::io::write(&second, b"and finished"), Ok(12));
    drop(second);
    mount.wait_for_figure("box", "depth", 2);
    assert!(std::fs::read(&path).unwrap() == [noise(800_000, 1), noise(700_000, 2)].concat());
    assert_eq!(receive(&path), b"begun, and finished");
    mount.wait_for_free_memory();
}
