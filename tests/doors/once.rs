//! `once/<key>`: a repeated send is no second message.

use std::fs;

use rustix::io::Errno;

use crate::common::{self, Mount};
use crate::tools::{NOWAIT, WRITE, aside, finish, open, receive_text, send, set, try_receive};
use crate::ways::side;

fn figure(mount: &Mount, key: &str) -> u64 {
    mount.figure("mailboxes/box/status", key)
}

#[test]
fn what_is_sent_again_with_its_key_is_there_once() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    mount.make_mailbox("other", &[]);
    let door = side(&mount, "box", "once/order-17");
    send(&door, b"pizza");
    send(&door, b"pizza");
    send(&side(&mount, "box", "once/order-18"), b"pasta");
    send(&side(&mount, "other", "once/order-17"), b"pizza");
    assert_eq!((figure(&mount, "sent"), figure(&mount, "duplicates")), (2, 1));
    assert_eq!(mount.figure("mailboxes/other/status", "sent"), 1, "each mailbox has its own keys");
    assert_eq!([receive_text(&path), receive_text(&path)], ["pizza", "pasta"]);
    send(&door, b"pizza");
    assert_eq!(try_receive(&path), Err(Errno::AGAIN), "it was received, and is not sent again");
    fs::write(&door, b"pizza").unwrap();
    assert_eq!(figure(&mount, "duplicates"), 3);
    let name = "k".repeat(256);
    let long = fs::write(side(&mount, "box", &format!("once/{name}")), "x").unwrap_err();
    assert_eq!(long.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    assert_eq!(fs::File::open(&door).unwrap_err().raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
}

#[test]
fn a_key_is_known_for_the_time_of_once_window_and_then_its_memory_is_free() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    assert_eq!(fs::read_to_string(side(&mount, "box", "config/once_window")).unwrap(), "2m\n");
    for (value, why) in [("max", "there must be an end"), ("0", "out of range"), ("soon", "not a duration")] {
        assert!(fs::write(side(&mount, "box", "config/once_window"), value).is_err(), "{value}");
        let error = fs::read_to_string(side(&mount, "box", "error")).unwrap();
        assert!(error.starts_with("once_window: ") && error.contains(why), "{error}");
    }
    let door = side(&mount, "box", "once/a");
    send(&door, b"1");
    assert_eq!(receive_text(&path), "1");
    // What the reader has of it may be charged a moment longer.
    common::wait_for("the message to be free", || mount.figure("status", "memory_used") == 257);
    set(&mount, "box", "once_window", "10ms");
    mount.wait_for_free_memory();
    send(&door, b"2");
    assert_eq!((figure(&mount, "sent"), figure(&mount, "duplicates")), (2, 0));
}

#[test]
fn of_two_that_wait_with_one_key_one_is_sent_and_both_succeed() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"first");
    let door = side(&mount, "box", "once/a");
    let writers = [0, 1].map(|_| {
        let file = open(&door, WRITE);
        aside(move || rustix::io::write(&file, b"once"))
    });
    mount.wait_for_figure("box", "waiting_writers", 2);
    let quick = open(&door, WRITE | NOWAIT);
    assert_eq!(rustix::io::write(&quick, b"once"), Err(Errno::AGAIN), "none was accepted yet");
    assert_eq!(receive_text(&path), "first");
    assert_eq!(rustix::io::write(&quick, b"once"), Ok(4), "it needs no room");
    assert_eq!(receive_text(&path), "once");
    for writer in writers {
        assert_eq!(finish("a writer", writer), Ok(4));
    }
    assert_eq!((figure(&mount, "depth"), figure(&mount, "sent"), figure(&mount, "duplicates")), (0, 2, 2));
}
