//! One write, one message; one message, one reader.

use ipcfs::op::Error;

use super::desk::{Desk, Mode};

const BOX: &str = "mailboxes/box";

pub fn messages_arrive_whole_in_order_and_once(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    assert_eq!(desk.receive(BOX), Err(Error::WouldWait));
    let bodies: [&[u8]; 4] = [b"one\n", b"\0two\xff", b" ", &[b'x'; 100_000]];
    for body in bodies {
        desk.send(BOX, body);
    }
    for body in bodies {
        assert_eq!(desk.receive(BOX), Ok(body.to_vec()));
    }
    assert_eq!(desk.receive(BOX), Err(Error::WouldWait));
}

pub fn a_short_buffer_gets_the_rest_and_then_the_end(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    desk.send(BOX, b"abcde");
    desk.send(BOX, b"next");
    let reader = desk.open(BOX, Mode::Receive).unwrap();
    for expected in [&b"ab"[..], b"cd", b"e", b"", b"ne", b"xt", b""] {
        assert_eq!(desk.read(reader, 2).as_deref(), Ok(expected));
    }
    assert_eq!(desk.read(reader, 2), Err(Error::WouldWait));
}

pub fn a_stream_has_no_ends(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    let both = desk.open(BOX, Mode::Both).unwrap();
    for body in [&b"abc"[..], b"d", b"ef"] {
        assert_eq!(desk.write(both, body), Ok(body.len()));
    }
    for expected in [&b"ab"[..], b"c", b"d", b"ef"] {
        assert_eq!(desk.read(both, 2).as_deref(), Ok(expected));
    }
    assert_eq!(desk.read(both, 2), Err(Error::WouldWait));
}

pub fn a_descriptor_seeks_in_its_message_only(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    desk.send(BOX, b"first");
    desk.send(BOX, b"second");
    let reader = desk.open(BOX, Mode::Receive).unwrap();
    assert_eq!(desk.read(reader, 100).as_deref(), Ok(&b"first"[..]));
    desk.seek(reader, 2).unwrap();
    assert_eq!(desk.read(reader, 100).as_deref(), Ok(&b"rst"[..]));
    desk.seek(reader, 0).unwrap();
    assert_eq!(desk.read(reader, 100).as_deref(), Ok(&b"first"[..]));
    assert_eq!(desk.read(reader, 100).as_deref(), Ok(&b""[..]));
    assert_eq!(desk.read(reader, 100).as_deref(), Ok(&b"second"[..]));
    desk.seek(reader, 3).unwrap();
    assert_eq!(desk.read(reader, 100), Err(Error::Invalid), "the first message is gone");
}

pub fn a_waiting_reader_gets_the_next_message(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    let reader = desk.receiver(BOX);
    desk.expect_waiting(BOX, 1, 0);
    desk.send(BOX, b"hello");
    assert_eq!(desk.outcome(reader), Ok(b"hello".to_vec()));
    desk.expect_waiting(BOX, 0, 0);
    assert_eq!(desk.receive(BOX), Err(Error::WouldWait), "and nobody else gets it");
}

pub fn readers_are_served_as_they_came(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    let mut readers = Vec::new();
    for number in 1..=3 {
        readers.push(desk.receiver(BOX));
        desk.expect_waiting(BOX, number, 0);
    }
    for (reader, body) in readers.into_iter().zip([b"first!", b"second", b"third!"]) {
        desk.send(BOX, body);
        assert_eq!(desk.outcome(reader), Ok(body.to_vec()));
    }
}

pub fn an_interrupted_reader_takes_nothing(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    let first = desk.receiver(BOX);
    desk.expect_waiting(BOX, 1, 0);
    let second = desk.receiver(BOX);
    desk.expect_waiting(BOX, 2, 0);
    desk.interrupt(first);
    assert_eq!(desk.outcome(first), Err(Error::Interrupted));
    desk.expect_waiting(BOX, 1, 0);
    desk.send(BOX, b"for the second");
    desk.send(BOX, b"left");
    assert_eq!(desk.outcome(second), Ok(b"for the second".to_vec()));
    assert_eq!(desk.receive(BOX), Ok(b"left".to_vec()));
}

pub fn stat_tells_the_longest_message_and_the_backlog(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    let before = desk.stat(BOX).unwrap();
    assert_eq!((before.size, before.blocks), (1_044_480, 0));
    desk.configure(&format!("{BOX}/config/msgsize"), "1000").unwrap();
    desk.send(BOX, &[b'x'; 1000]);
    desk.send(BOX, b"y");
    let after = desk.stat(BOX).unwrap();
    assert_eq!((after.size, after.blocks), (1000, 2), "1001 bytes wait, in units of 512");
    assert_eq!(before.ino, after.ino);
    desk.truncate(BOX, 0).unwrap();
    assert_eq!(desk.stat(BOX).unwrap(), after, "what waits is never cut");
}
