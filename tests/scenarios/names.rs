//! Names that come, move and go, and what stays with them.

use ipcfs::op::Error;

use super::harness::{Harness, Mode};

const BOX: &str = "mailboxes/box";

pub fn removal_ends_waits_and_uses(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    harness.send(BOX, b"begun");
    harness.send(BOX, b"lost");
    harness.configure(&format!("{BOX}/config/maxmsg"), "1").unwrap();
    // This thread reads it before it removes it.
    harness.configure(&format!("{BOX}/config/remove"), "any").unwrap();
    let holder = harness.open(BOX, Mode::Receive).unwrap();
    assert_eq!(harness.read(holder, 2).as_deref(), Ok(&b"be"[..]));
    let sender = harness.open(BOX, Mode::Send).unwrap();
    let writer = harness.sender(BOX, b"never sent");
    harness.expect_waiting(BOX, 0, 1);
    harness.remove(BOX).unwrap();
    assert_eq!(harness.outcome(writer), Err(Error::Removed));
    assert_eq!(harness.read(holder, 10).as_deref(), Ok(&b"gun"[..]), "what it holds it may finish");
    assert_eq!(harness.read(holder, 10).as_deref(), Ok(&b""[..]));
    assert_eq!(harness.read(holder, 10), Err(Error::Removed));
    assert_eq!(harness.write(sender, b"x"), Err(Error::Removed));
    assert_eq!(harness.open(BOX, Mode::Receive).map(|_| ()), Err(Error::NotFound));
    harness.expect_figure("status", "discarded", 1);

    harness.create(BOX).unwrap();
    let reader = harness.receiver(BOX);
    harness.expect_waiting(BOX, 1, 0);
    harness.remove(BOX).unwrap();
    assert_eq!(harness.outcome(reader), Err(Error::Removed));
}

pub fn a_renamed_mailbox_keeps_messages_and_descriptors(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    harness.make_folder("mailboxes/folder").unwrap();
    harness.send(BOX, b"one");
    let ino = harness.stat(BOX).unwrap().ino;
    let sender = harness.open(BOX, Mode::Send).unwrap();
    harness.rename(BOX, "mailboxes/folder/new").unwrap();
    assert_eq!(harness.write(sender, b"two"), Ok(3));
    assert_eq!(harness.stat("mailboxes/folder/new").unwrap().ino, ino);
    for body in [&b"one"[..], b"two"] {
        assert_eq!(harness.receive("mailboxes/folder/new").as_deref(), Ok(body));
    }
    assert_eq!(harness.stat(BOX).unwrap_err(), Error::NotFound);
}

pub fn renaming_over_a_mailbox_removes_it(harness: &mut dyn Harness) {
    harness.create(BOX).unwrap();
    harness.create("mailboxes/new").unwrap();
    harness.send("mailboxes/new", b"moved");
    let reader = harness.receiver(BOX);
    harness.expect_waiting(BOX, 1, 0);
    harness.rename("mailboxes/new", BOX).unwrap();
    assert_eq!(harness.outcome(reader), Err(Error::Removed));
    assert_eq!(harness.receive(BOX), Ok(b"moved".to_vec()));
    assert_eq!(harness.list("mailboxes"), ["box"]);
}

pub fn folders_hold_mailboxes_and_control_mirrors_them(harness: &mut dyn Harness) {
    harness.make_folder("mailboxes/team").unwrap();
    harness.create("mailboxes/team/a").unwrap();
    harness.create("mailboxes/team/b").unwrap();
    harness.create("segments/s").unwrap();
    assert_eq!(harness.list("mailboxes/team"), ["a", "b"]);
    assert_eq!(harness.list("control/mailboxes/team"), ["a", "b", "config"]);
    assert_eq!(harness.list(""), ["control", "mailboxes", "segments", "topics"]);
    assert!(harness.list("control/mailboxes/team/a/config").contains(&String::from("maxmsg")));
    assert_eq!(harness.remove_folder("mailboxes/team"), Err(Error::NotEmpty));
    assert_eq!(harness.rename("segments/s", "mailboxes/s"), Err(Error::OtherKind));
    assert_eq!(harness.rename("mailboxes/team", "mailboxes/team/in"), Err(Error::Invalid));
    harness.remove("mailboxes/team/a").unwrap();
    harness.remove("mailboxes/team/b").unwrap();
    harness.remove_folder("mailboxes/team").unwrap();
    assert_eq!(harness.list("control/mailboxes"), ["config"]);
    assert_eq!(harness.make_folder("other").unwrap_err(), Error::NotPermitted);
}

pub fn a_segment_is_a_file_of_memory(harness: &mut dyn Harness) {
    harness.create("segments/s").unwrap();
    let both = harness.open("segments/s", Mode::Both).unwrap();
    assert_eq!(harness.write(both, b"hello"), Ok(5));
    harness.seek(both, 1).unwrap();
    assert_eq!(harness.read(both, 3).as_deref(), Ok(&b"ell"[..]));
    harness.seek(both, 0).unwrap();
    assert_eq!(harness.write(both, b"J"), Ok(1));
    let other = harness.open("segments/s", Mode::Receive).unwrap();
    assert_eq!(harness.read(other, 100).as_deref(), Ok(&b"Jello"[..]));
    assert_eq!(harness.read(other, 100).as_deref(), Ok(&b""[..]));
    harness.truncate("segments/s", 10_000).unwrap();
    assert_eq!(harness.stat("segments/s").unwrap().size, 10_000);
    harness.expect_figure("segments/s/status", "promised", 12_288);
    harness.remove("segments/s").unwrap();
    harness.seek(both, 0).unwrap();
    assert_eq!(harness.read(both, 5).as_deref(), Ok(&b"Jello"[..]), "while it is open it lives");
    harness.close(both);
    harness.close(other);
    harness.expect_figure("status", "segment_used", 0);
}

pub fn a_segment_grows_no_further_than_it_may(harness: &mut dyn Harness) {
    harness.create("segments/s").unwrap();
    harness.configure("segments/s/config/size_max", "8K").unwrap();
    assert_eq!(harness.truncate("segments/s", 8193), Err(Error::NoSpace));
    harness.truncate("segments/s", 8192).unwrap();
    let both = harness.open("segments/s", Mode::Both).unwrap();
    harness.seek(both, 8192).unwrap();
    assert_eq!(harness.write(both, b"x"), Err(Error::NoSpace));
    harness.configure("segments/s/config/size_max", "max").unwrap();
    assert_eq!(harness.write(both, b"x"), Ok(1));
    assert_eq!(harness.stat("segments/s").unwrap().size, 8193);
}
