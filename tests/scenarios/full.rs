//! Mailboxes with no room, and how they are bounded.

use ipcfs::op::Error;

use super::harness::{Harness, MEMORY, Mode};

const BOX: &str = "mailboxes/box";

/// A mailbox with room for so many messages.
fn small(harness: &mut dyn Harness, maxmsg: &str) {
    harness.create(BOX).unwrap();
    harness.configure(&format!("{BOX}/config/maxmsg"), maxmsg).unwrap();
}

pub fn a_full_mailbox_makes_its_writers_wait_in_turn(harness: &mut dyn Harness) {
    small(harness, "1");
    harness.send(BOX, b"one");
    let open = harness.open(BOX, Mode::Send).unwrap();
    assert_eq!(harness.write(open, b"no"), Err(Error::WouldWait));
    let second = harness.sender(BOX, b"two");
    harness.expect_waiting(BOX, 0, 1);
    let third = harness.sender(BOX, b"three");
    harness.expect_waiting(BOX, 0, 2);
    assert_eq!(harness.receive(BOX), Ok(b"one".to_vec()));
    assert_eq!(harness.outcome(second), Ok(Vec::new()));
    harness.expect_waiting(BOX, 0, 1);
    assert_eq!(harness.receive(BOX), Ok(b"two".to_vec()));
    assert_eq!(harness.outcome(third), Ok(Vec::new()));
    assert_eq!(harness.receive(BOX), Ok(b"three".to_vec()));
    assert_eq!(harness.receive(BOX), Err(Error::WouldWait));
}

pub fn an_interrupted_writer_has_sent_nothing(harness: &mut dyn Harness) {
    small(harness, "1");
    harness.send(BOX, b"one");
    let writer = harness.sender(BOX, b"two");
    harness.expect_waiting(BOX, 0, 1);
    harness.interrupt(writer);
    assert_eq!(harness.outcome(writer), Err(Error::Interrupted));
    assert_eq!(harness.receive(BOX), Ok(b"one".to_vec()));
    assert_eq!(harness.receive(BOX), Err(Error::WouldWait));
    harness.expect_figure(&format!("{BOX}/status"), "sent", 1);
}

pub fn what_is_too_long_is_refused_whole(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    harness.configure(&format!("{BOX}/config/msgsize"), "10").unwrap();
    let open = harness.open(BOX, Mode::Send).unwrap();
    assert_eq!(harness.write(open, b"12345678901"), Err(Error::TooLong));
    assert_eq!(harness.write(open, b"1234567890"), Ok(10));
    assert_eq!(harness.receive(BOX), Ok(b"1234567890".to_vec()));
    assert_eq!(harness.receive(BOX), Err(Error::WouldWait));
}

pub fn full_may_mean_to_fail_or_to_drop(harness: &mut dyn Harness) {
    small(harness, "2");
    harness.send(BOX, b"one");
    harness.send(BOX, b"two");
    harness.configure(&format!("{BOX}/config/full"), "fail").unwrap();
    let open = harness.open(BOX, Mode::Send).unwrap();
    assert_eq!(harness.write(open, b"three"), Err(Error::NoSpace));
    harness.configure(&format!("{BOX}/config/full"), "drop-oldest").unwrap();
    assert_eq!(harness.write(open, b"four"), Ok(4));
    assert_eq!(harness.receive(BOX), Ok(b"two".to_vec()));
    assert_eq!(harness.receive(BOX), Ok(b"four".to_vec()));
    harness.expect_figure(&format!("{BOX}/status"), "dropped", 1);
}

pub fn changed_limits_hold_at_once(harness: &mut dyn Harness) {
    small(harness, "1");
    harness.send(BOX, b"one");
    let writer = harness.sender(BOX, b"two");
    harness.expect_waiting(BOX, 0, 1);
    harness.configure(&format!("{BOX}/config/maxmsg"), "2").unwrap();
    assert_eq!(harness.outcome(writer), Ok(Vec::new()));
    harness.expect_figure(&format!("{BOX}/status"), "depth", 2);
    harness.configure(&format!("{BOX}/config/maxmsg"), "1").unwrap();
    harness.expect_figure(&format!("{BOX}/status"), "depth", 2);
    assert_eq!(harness.receive(BOX), Ok(b"one".to_vec()));
    let open = harness.open(BOX, Mode::Send).unwrap();
    assert_eq!(harness.write(open, b"no"), Err(Error::WouldWait));
}

pub fn memory_freed_in_one_mailbox_lets_a_writer_of_another_in(harness: &mut dyn Harness) {
    let big = vec![b'x'; 1_000_000];
    harness.create("mailboxes/rich").unwrap();
    harness.create("mailboxes/poor").unwrap();
    harness.send("mailboxes/rich", &big);
    harness.send("mailboxes/rich", &big);
    assert!(MEMORY < 3 * big.len() as u64);
    let writer = harness.sender("mailboxes/poor", &big[..100_000]);
    harness.expect_waiting("mailboxes/poor", 0, 1);
    assert_eq!(harness.receive("mailboxes/rich").map(|message| message.len()), Ok(big.len()));
    assert_eq!(harness.outcome(writer), Ok(Vec::new()));
    harness.expect_waiting("mailboxes/poor", 0, 0);
    assert_eq!(harness.receive("mailboxes/poor").map(|message| message.len()), Ok(100_000));
}

pub fn a_refused_value_changes_nothing_and_says_why(harness: &mut dyn Harness) {
    small(harness, "7");
    let maxmsg = format!("{BOX}/config/maxmsg");
    assert_eq!(harness.configure(&maxmsg, "seven"), Err(Error::Invalid));
    assert_eq!(harness.show(&maxmsg), "7\n");
    assert!(harness.show(&format!("{BOX}/error")).starts_with("maxmsg: 'seven' is not a number"));
    assert_eq!(harness.configure(&maxmsg, "0"), Err(Error::Range));
    assert!(harness.show(&format!("{BOX}/error")).starts_with("maxmsg: 0 is out of range"));
    harness.configure(&maxmsg, "max").unwrap();
    assert_eq!(
        (harness.show(&maxmsg), harness.show(&format!("{BOX}/error"))),
        (String::from("max\n"), String::new())
    );
}
