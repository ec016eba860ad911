//! One write, one message; one message, one reader.

use ipcfs::op::Error;

use super::harness::{Harness, Mode};

const BOX: &str = "mailboxes/box";

pub fn messages_arrive_whole_in_order_and_once(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    assert_eq!(harness.receive(BOX), Err(Error::WouldWait));
    let bodies: [&[u8]; 4] = [b"one\n", b"\0two\xff", b" ", &[b'x'; 100_000]];
    for body in bodies {
        harness.send(BOX, body);
    }
    for body in bodies {
        assert_eq!(harness.receive(BOX), Ok(body.to_vec()));
    }
    assert_eq!(harness.receive(BOX), Err(Error::WouldWait));
}

pub fn a_short_buffer_gets_the_rest_and_then_the_end(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    harness.send(BOX, b"abcde");
    harness.send(BOX, b"next");
    let reader = harness.open(BOX, Mode::Receive).unwrap();
    for expected in [&b"ab"[..], b"cd", b"e", b"", b"ne", b"xt", b""] {
        assert_eq!(harness.read(reader, 2).as_deref(), Ok(expected));
    }
    assert_eq!(harness.read(reader, 2), Err(Error::WouldWait));
}

pub fn a_stream_has_no_ends(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    let both = harness.open(BOX, Mode::Both).unwrap();
    for body in [&b"abc"[..], b"d", b"ef"] {
        assert_eq!(harness.write(both, body), Ok(body.len()));
    }
    for expected in [&b"ab"[..], b"c", b"d", b"ef"] {
        assert_eq!(harness.read(both, 2).as_deref(), Ok(expected));
    }
    assert_eq!(harness.read(both, 2), Err(Error::WouldWait));
}

pub fn a_descriptor_seeks_in_its_message_only(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    harness.send(BOX, b"first");
    harness.send(BOX, b"second");
    let reader = harness.open(BOX, Mode::Receive).unwrap();
    assert_eq!(harness.read(reader, 100).as_deref(), Ok(&b"first"[..]));
    harness.seek(reader, 2).unwrap();
    assert_eq!(harness.read(reader, 100).as_deref(), Ok(&b"rst"[..]));
    harness.seek(reader, 0).unwrap();
    assert_eq!(harness.read(reader, 100).as_deref(), Ok(&b"first"[..]));
    assert_eq!(harness.read(reader, 100).as_deref(), Ok(&b""[..]));
    assert_eq!(harness.read(reader, 100).as_deref(), Ok(&b"second"[..]));
    harness.seek(reader, 3).unwrap();
    assert_eq!(harness.read(reader, 100), Err(Error::Invalid), "the first message is gone");
}

pub fn a_waiting_reader_gets_the_next_message(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    let reader = harness.receiver(BOX);
    harness.expect_waiting(BOX, 1, 0);
    harness.send(BOX, b"hello");
    assert_eq!(harness.outcome(reader), Ok(b"hello".to_vec()));
    harness.expect_waiting(BOX, 0, 0);
    assert_eq!(harness.receive(BOX), Err(Error::WouldWait), "and nobody else gets it");
}

pub fn readers_are_served_as_they_came(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    let mut readers = Vec::new();
    for number in 1..=3 {
        readers.push(harness.receiver(BOX));
        harness.expect_waiting(BOX, number, 0);
    }
    for (reader, body) in readers.into_iter().zip([b"first!", b"second", b"third!"]) {
        harness.send(BOX, body);
        assert_eq!(harness.outcome(reader), Ok(body.to_vec()));
    }
}

pub fn an_interrupted_reader_takes_nothing(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    let first = harness.receiver(BOX);
    harness.expect_waiting(BOX, 1, 0);
    let second = harness.receiver(BOX);
    harness.expect_waiting(BOX, 2, 0);
    harness.interrupt(first);
    assert_eq!(harness.outcome(first), Err(Error::Interrupted));
    harness.expect_waiting(BOX, 1, 0);
    harness.send(BOX, b"for the second");
    harness.send(BOX, b"left");
    assert_eq!(harness.outcome(second), Ok(b"for the second".to_vec()));
    assert_eq!(harness.receive(BOX), Ok(b"left".to_vec()));
}

pub fn stat_tells_the_longest_message_and_the_backlog(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    let before = harness.stat(BOX).unwrap();
    assert_eq!((before.size, before.blocks), (1_044_480, 0));
    harness.configure(&format!("{BOX}/config/msgsize"), "1000").unwrap();
    harness.send(BOX, &[b'x'; 1000]);
    harness.send(BOX, b"y");
    let after = harness.stat(BOX).unwrap();
    assert_eq!((after.size, after.blocks), (1000, 2), "1001 bytes wait, in units of 512");
    assert_eq!(before.ino, after.ino);
    harness.truncate(BOX, 0).unwrap();
    assert_eq!(harness.stat(BOX).unwrap(), after, "what waits is never cut");
}
