//! Mailboxes with no room, and how they are bounded.

use ipcfs::op::Error;

use super::desk::{Desk, MEMORY, Mode};

const BOX: &str = "mailboxes/box";

/// A mailbox with room for so many messages.
fn small(desk: &mut dyn Desk, maxmsg: &str) {
    desk.create(BOX).unwrap();
    desk.configure(&format!("{BOX}/config/maxmsg"), maxmsg).unwrap();
}

pub fn a_full_mailbox_makes_its_writers_wait_in_turn(desk: &mut dyn Desk) {
    small(desk, "1");
    desk.send(BOX, b"one");
    let open = desk.open(BOX, Mode::Send).unwrap();
    assert_eq!(desk.write(open, b"no"), Err(Error::WouldWait));
    let second = desk.sender(BOX, b"two");
    desk.expect_waiting(BOX, 0, 1);
    let third = desk.sender(BOX, b"three");
    desk.expect_waiting(BOX, 0, 2);
    assert_eq!(desk.receive(BOX), Ok(b"one".to_vec()));
    assert_eq!(desk.outcome(second), Ok(Vec::new()));
    desk.expect_waiting(BOX, 0, 1);
    assert_eq!(desk.receive(BOX), Ok(b"two".to_vec()));
    assert_eq!(desk.outcome(third), Ok(Vec::new()));
    assert_eq!(desk.receive(BOX), Ok(b"three".to_vec()));
    assert_eq!(desk.receive(BOX), Err(Error::WouldWait));
}

pub fn an_interrupted_writer_has_sent_nothing(desk: &mut dyn Desk) {
    small(desk, "1");
    desk.send(BOX, b"one");
    let writer = desk.sender(BOX, b"two");
    desk.expect_waiting(BOX, 0, 1);
    desk.interrupt(writer);
    assert_eq!(desk.outcome(writer), Err(Error::Interrupted));
    assert_eq!(desk.receive(BOX), Ok(b"one".to_vec()));
    assert_eq!(desk.receive(BOX), Err(Error::WouldWait));
    desk.expect_figure(&format!("{BOX}/status"), "sent", 1);
}

pub fn what_is_too_long_is_refused_whole(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    desk.configure(&format!("{BOX}/config/msgsize"), "10").unwrap();
    let open = desk.open(BOX, Mode::Send).unwrap();
    assert_eq!(desk.write(open, b"12345678901"), Err(Error::TooLong));
    assert_eq!(desk.write(open, b"1234567890"), Ok(10));
    assert_eq!(desk.receive(BOX), Ok(b"1234567890".to_vec()));
    assert_eq!(desk.receive(BOX), Err(Error::WouldWait));
}

pub fn full_may_mean_to_fail_or_to_drop(desk: &mut dyn Desk) {
    small(desk, "2");
    desk.send(BOX, b"one");
    desk.send(BOX, b"two");
    desk.configure(&format!("{BOX}/config/full"), "fail").unwrap();
    let open = desk.open(BOX, Mode::Send).unwrap();
    assert_eq!(desk.write(open, b"three"), Err(Error::NoSpace));
    desk.configure(&format!("{BOX}/config/full"), "drop-oldest").unwrap();
    assert_eq!(desk.write(open, b"four"), Ok(4));
    assert_eq!(desk.receive(BOX), Ok(b"two".to_vec()));
    assert_eq!(desk.receive(BOX), Ok(b"four".to_vec()));
    desk.expect_figure(&format!("{BOX}/status"), "dropped", 1);
}

pub fn changed_limits_hold_at_once(desk: &mut dyn Desk) {
    small(desk, "1");
    desk.send(BOX, b"one");
    let writer = desk.sender(BOX, b"two");
    desk.expect_waiting(BOX, 0, 1);
    desk.configure(&format!("{BOX}/config/maxmsg"), "2").unwrap();
    assert_eq!(desk.outcome(writer), Ok(Vec::new()));
    desk.expect_figure(&format!("{BOX}/status"), "depth", 2);
    desk.configure(&format!("{BOX}/config/maxmsg"), "1").unwrap();
    desk.expect_figure(&format!("{BOX}/status"), "depth", 2);
    assert_eq!(desk.receive(BOX), Ok(b"one".to_vec()));
    let open = desk.open(BOX, Mode::Send).unwrap();
    assert_eq!(desk.write(open, b"no"), Err(Error::WouldWait));
}

pub fn memory_freed_in_one_mailbox_lets_a_writer_of_another_in(desk: &mut dyn Desk) {
    let big = vec![b'x'; 1_000_000];
    desk.create("mailboxes/rich").unwrap();
    desk.create("mailboxes/poor").unwrap();
    desk.send("mailboxes/rich", &big);
    desk.send("mailboxes/rich", &big);
    assert!(MEMORY < 3 * big.len() as u64);
    let writer = desk.sender("mailboxes/poor", &big[..100_000]);
    desk.expect_waiting("mailboxes/poor", 0, 1);
    assert_eq!(desk.receive("mailboxes/rich").map(|message| message.len()), Ok(big.len()));
    assert_eq!(desk.outcome(writer), Ok(Vec::new()));
    desk.expect_waiting("mailboxes/poor", 0, 0);
    assert_eq!(desk.receive("mailboxes/poor").map(|message| message.len()), Ok(100_000));
}

pub fn a_refused_value_changes_nothing_and_says_why(desk: &mut dyn Desk) {
    small(desk, "7");
    let maxmsg = format!("{BOX}/config/maxmsg");
    assert_eq!(desk.configure(&maxmsg, "seven"), Err(Error::Invalid));
    assert_eq!(desk.show(&maxmsg), "7\n");
    assert!(desk.show(&format!("{BOX}/error")).starts_with("maxmsg: 'seven' is not a number"));
    assert_eq!(desk.configure(&maxmsg, "0"), Err(Error::Range));
    assert!(desk.show(&format!("{BOX}/error")).starts_with("maxmsg: 0 is out of range"));
    desk.configure(&maxmsg, "max").unwrap();
    assert_eq!(
        (desk.show(&maxmsg), desk.show(&format!("{BOX}/error"))),
        (String::from("max\n"), String::new())
    );
}
