//! Time limits of messages, and how long they waited.

#![allow(clippy::float_cmp)] // spans that are the same figure

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::common::{self, Mount, wait_for};
use crate::tools::{
    BOTH, NOWAIT, READ, WRITE, aside, finish, open, read, receive_text, run, send, set, try_receive,
};
use crate::ways::{lease, numbers, side};

fn figure(mount: &Mount, mailbox: &str, key: &str) -> u64 {
    mount.figure(&format!("mailboxes/{mailbox}/status"), key)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Waits until a time of the clock is over.
fn wait_until(time: Duration) {
    wait_for("time to pass", || now() > time);
}

#[test]
fn messages_go_by_themselves_when_their_time_is_over() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"before there was a limit");
    set(&mount, "box", "ttl", "30ms");
    (0..5).for_each(|_| send(&path, b"short-lived"));
    // Whoever looks at the status only sees it happen: nothing else is done with the mailbox.
    mount.wait_for_figure("box", "expired", 5);
    assert_eq!((figure(&mount, "box", "depth"), figure(&mount, "box", "bytes")), (1, 24));
    assert_eq!(receive_text(&path), "before there was a limit");
    mount.wait_for_free_memory();
}

#[test]
fn expired_messages_go_to_the_mailbox_for_the_dead() {
    let Some(mount) = common::mount() else { return };
    let grave = mount.make_mailbox("grave", &[]);
    let path = mount.make_mailbox("box", &[("ttl", "20ms"), ("dead_letter", "grave")]);
    let reader = open(&grave, READ);
    let reader = aside(move || read(&reader, 99));
    mount.wait_for_figure("grave", "waiting_readers", 1);
    send(&path, b"one");
    assert_eq!(finish("who waits for the dead", reader), Ok(b"one".to_vec()));
    send(&path, b"two");
    send(&path, b"three");
    mount.wait_for_figure("grave", "depth", 2);
    assert_eq!((figure(&mount, "box", "expired"), figure(&mount, "box", "dropped")), (3, 0));
    assert_eq!([receive_text(&grave), receive_text(&grave)], ["two", "three"]);
}

#[test]
fn a_dead_letter_tells_why_it_is_one() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("grave", &[]);
    let path = mount.make_mailbox("box", &[("max_deliver", "1"), ("dead_letter", "grave")]);
    let reason = |number: u64| {
        let mut value = [0; 64];
        let file = side(&mount, "grave", &format!("messages/{number}"));
        let length = rustix::fs::getxattr(&file, "user.ipcfs.reason", &mut value)?;
        Ok(String::from_utf8(value[..length].to_vec()).unwrap())
    };
    for word in ["nack", "reject"] {
        send(&path, word.as_bytes());
        let (worker, _) = lease(&mount, "box");
        assert_eq!(rustix::io::write(&worker, word.as_bytes()), Ok(word.len()));
    }
    send(&side(&mount, "box", "ttl/20ms"), b"late");
    mount.wait_for_figure("grave", "depth", 3);
    let letters = numbers(&side(&mount, "grave", "messages"));
    let words = ["deliveries", "rejected", "expired"];
    assert_eq!(letters.iter().map(|number| reason(*number)).collect::<Vec<_>>(), words.map(|w| Ok(w.into())));
    let json = open(&side(&mount, "grave", "json"), READ);
    let lines = String::from_utf8(read(&json, 4096).unwrap()).unwrap();
    for (line, word) in lines.lines().zip(words) {
        assert!(line.contains(&format!("\"reason\":\"{word}\"")), "{line}");
    }
    send(&mount.mailbox("grave"), b"alive");
    let alive = numbers(&side(&mount, "grave", "messages"))[0];
    assert_eq!(reason(alive), Err(Errno::NODATA));
}

#[test]
fn room_made_by_expiry_lets_a_waiting_writer_in() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1"), ("ttl", "50ms")]);
    send(&path, b"first");
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(&writer, b"second"));
    assert_eq!(finish("the writer", writer), Ok(6));
    mount.wait_for_figure("box", "expired", 2);
}

#[test]
fn the_time_of_a_message_begins_when_it_is_sent_not_when_its_sender_began_to_wait() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"first");
    set(&mount, "box", "ttl", "50ms");
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(&writer, b"second"));
    mount.wait_for_figure("box", "waiting_writers", 1);
    wait_until(now() + Duration::from_millis(60));
    set(&mount, "box", "ttl", "1h");
    assert_eq!(receive_text(&path), "first");
    assert_eq!(finish("the writer", writer), Ok(6));
    assert_eq!(receive_text(&path), "second");
    assert_eq!(figure(&mount, "box", "expired"), 0);
}

#[test]
fn a_waiting_reader_gets_nothing_that_has_expired_in_a_workers_hands() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("ttl", "300ms")]);
    send(&path, b"job");
    let expires = expiry(&mount, "box");
    let (worker, _) = lease(&mount, "box");
    wait_until(expires);
    let reader = open(&path, READ);
    let reader = aside(move || read(&reader, 99));
    mount.wait_for_figure("box", "waiting_readers", 1);
    assert_eq!(rustix::io::write(&worker, b"nack"), Ok(4));
    mount.wait_for_figure("box", "expired", 1);
    assert_eq!(figure(&mount, "box", "waiting_readers"), 1);
    send(&path, b"fresh");
    assert_eq!(finish("the reader", reader), Ok(b"fresh".to_vec()));
}

#[test]
fn a_lease_outlasts_the_time_of_its_message() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("ttl", "200ms")]);
    send(&path, b"job");
    let expires = expiry(&mount, "box");
    let (worker, _) = lease(&mount, "box");
    wait_until(expires);
    assert_eq!(rustix::io::write(&worker, b"ack"), Ok(3));
    assert_eq!((figure(&mount, "box", "received"), figure(&mount, "box", "expired")), (1, 0));
}

#[test]
fn a_limit_that_is_lifted_is_none_for_later_messages_only() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("ttl", "50ms")]);
    send(&path, b"limited");
    set(&mount, "box", "ttl", "max");
    send(&path, b"unlimited");
    mount.wait_for_figure("box", "expired", 1);
    assert_eq!(receive_text(&path), "unlimited");
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
}

/// When the only message of a mailbox expires, by its attribute.
fn expiry(mount: &Mount, mailbox: &str) -> Duration {
    let number = numbers(&side(mount, mailbox, "messages"))[0];
    let path = side(mount, mailbox, &format!("messages/{number}"));
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&path, "user.ipcfs.expires", &mut value).unwrap();
    let seconds: f64 = std::str::from_utf8(&value[..length]).unwrap().parse().unwrap();
    Duration::from_secs_f64(seconds + 0.001)
}

/// A span of `status`, in seconds.
fn span(mount: &Mount, key: &str) -> f64 {
    let text = std::fs::read_to_string(mount.path("control/mailboxes/box/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn status_tells_how_old_the_oldest_is_and_how_long_messages_waited() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let all = ["oldest_age", "waited_p50", "waited_p99"];
    assert_eq!(all.map(|key| span(&mount, key)), [0.0; 3], "nothing waits, and nothing has");
    let sent = now();
    send(&path, b"old");
    wait_until(sent + Duration::from_millis(30));
    send(&path, b"young");
    let age = span(&mount, "oldest_age");
    assert!(age > 0.02 && age <= now().as_secs_f64() - sent.as_secs_f64(), "{age}");
    assert_eq!(span(&mount, "waited_p99"), 0.0, "none was received");
    assert_eq!(receive_text(&path), "old");
    let waited = span(&mount, "waited_p50");
    assert!(waited >= age && waited <= now().as_secs_f64() - sent.as_secs_f64(), "{waited}");
    assert_eq!(receive_text(&path), "young");
    assert_eq!(span(&mount, "waited_p99"), waited, "the longest");
    assert_eq!(span(&mount, "oldest_age"), 0.0);
}

#[test]
fn a_delayed_message_is_as_old_as_it_has_been_due() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let sent = now();
    send(&side(&mount, "box", "delay/200ms"), b"later");
    mount.wait_for_figure("box", "depth", 1);
    let since = |span: f64| Duration::from_secs_f64(now().as_secs_f64() - span);
    let age = span(&mount, "oldest_age");
    assert!(since(age) >= sent + Duration::from_millis(199), "{age}: without the delay");
    assert_eq!(receive_text(&path), "later");
    let waited = span(&mount, "waited_p99");
    assert!(waited <= now().as_secs_f64() - sent.as_secs_f64() - 0.199, "{waited}: neither");
}

#[test]
fn a_message_can_have_a_time_of_its_own() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("ttl", "1h")]);
    let before = now();
    send(&side(&mount, "box", "ttl/30ms"), b"short");
    mount.wait_for_figure("box", "expired", 1);
    send(&side(&mount, "box", "ttl/10days"), b"long");
    assert!(expiry(&mount, "box") < now() + Duration::from_secs(3601), "no longer than the mailbox says");
    set(&mount, "box", "ttl", "max");
    assert_eq!(receive_text(&path), "long");
    send(&side(&mount, "box", "ttl/2h 30m"), b"longer");
    let left = expiry(&mount, "box").checked_sub(before).unwrap();
    assert!((8999..9100).contains(&left.as_secs()), "{left:?}");
    assert_eq!(receive_text(&path), "longer");
    let refused = |name: &str| {
        let door = side(&mount, "box", &format!("ttl/{name}"));
        rustix::fs::open(door, WRITE, rustix::fs::Mode::empty()).unwrap_err()
    };
    for name in ["max", "soon", " 1s", "1s ", "-1", "1s\n"] {
        assert_eq!(refused(name), Errno::INVAL, "{name:?}");
    }
    for name in ["0", "11years", "1us"] {
        assert_eq!(refused(name), Errno::RANGE, "{name:?}");
    }
    let door = side(&mount, "box", "ttl/1s");
    assert_eq!(rustix::fs::open(door, READ, rustix::fs::Mode::empty()).unwrap_err(), Errno::ACCESS);
}

#[test]
fn a_message_can_be_sent_for_later() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "2")]);
    let sent = now();
    send(&side(&mount, "box", "delay/300ms"), b"later");
    send(&side(&mount, "box", "delay/10days"), b"much later");
    assert_eq!((figure(&mount, "box", "delayed"), figure(&mount, "box", "depth")), (2, 0));
    let full = open(&path, WRITE | NOWAIT);
    assert_eq!(rustix::io::write(&full, b"full"), Err(Errno::AGAIN), "they take room");
    let reader = open(&path, READ);
    let reader = aside(move || read(&reader, 99));
    assert_eq!(finish("who waits for it", reader), Ok(b"later".to_vec()));
    assert!(now() >= sent + Duration::from_millis(300));
    assert_eq!((figure(&mount, "box", "delayed"), figure(&mount, "box", "received")), (1, 1));
    assert!(numbers(&side(&mount, "box", "messages")).is_empty());
    let refused = |name: &str, how| {
        let door = side(&mount, "box", &format!("delay/{name}"));
        rustix::fs::open(door, how, rustix::fs::Mode::empty()).unwrap_err()
    };
    for name in ["max", "soon", " 1s", "-1"] {
        assert_eq!(refused(name, WRITE), Errno::INVAL, "{name:?}");
    }
    for name in ["0", "11years", "1us"] {
        assert_eq!(refused(name, WRITE), Errno::RANGE, "{name:?}");
    }
    assert_eq!(refused("1s", READ), Errno::ACCESS);
    run(
        "exec 3<> \"$1\"; echo all >&3; read -r count <&3; test \"$count\" = 1",
        side(&mount, "box", "purge"),
    );
    assert_eq!(figure(&mount, "box", "delayed"), 0);
    mount.wait_for_free_memory();
}

#[test]
fn delayed_messages_go_with_their_mailbox_and_count_as_lost() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&side(&mount, "box", "delay/1h"), b"x");
    send(&path, b"y");
    assert_eq!((mount.figure("status", "delayed"), mount.figure("status", "messages")), (1, 1));
    std::fs::remove_file(&path).unwrap();
    assert_eq!((mount.figure("status", "delayed"), mount.figure("status", "discarded")), (0, 2));
    mount.wait_for_free_memory();
}

#[test]
fn a_worker_can_give_a_message_back_for_later() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"job");
    let (worker, _) = lease(&mount, "box");
    assert_eq!(rustix::io::write(&worker, b"nack sometime"), Err(Errno::INVAL));
    assert_eq!(rustix::io::write(&worker, b"nack 1us"), Err(Errno::RANGE));
    let given_back = now();
    assert_eq!(rustix::io::write(&worker, b"nack 200ms\n"), Ok(11));
    assert_eq!((figure(&mount, "box", "delayed"), figure(&mount, "box", "leased")), (1, 0));
    // The same worker waits for what comes next, and that is what it gave back.
    let reader = aside(move || (read(&worker, 99), worker));
    let (got, worker) = finish("the worker", reader);
    assert_eq!(got, Ok(b"job".to_vec()));
    assert!(now() >= given_back + Duration::from_millis(200));
    assert_eq!(rustix::io::write(&worker, b"nack 1h"), Ok(7));
    let idle = open(&side(&mount, "box", "lease"), BOTH | NOWAIT);
    assert_eq!(read(&idle, 99), Err(Errno::AGAIN));
    assert_eq!(figure(&mount, "box", "redelivered"), 2);
}
