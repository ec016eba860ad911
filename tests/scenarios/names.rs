//! Names that come, move and go, and what stays with them.

use ipcfs::op::Error;

use super::desk::{Desk, Mode};

const BOX: &str = "mailboxes/box";

pub fn removal_ends_waits_and_uses(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    desk.send(BOX, b"begun");
    desk.send(BOX, b"lost");
    desk.configure(&format!("{BOX}/config/maxmsg"), "1").unwrap();
    let holder = desk.open(BOX, Mode::Receive).unwrap();
    assert_eq!(desk.read(holder, 2).as_deref(), Ok(&b"be"[..]));
    let sender = desk.open(BOX, Mode::Send).unwrap();
    let writer = desk.sender(BOX, b"never sent");
    desk.expect_waiting(BOX, 0, 1);
    desk.remove(BOX).unwrap();
    assert_eq!(desk.outcome(writer), Err(Error::Removed));
    assert_eq!(desk.read(holder, 10).as_deref(), Ok(&b"gun"[..]), "what it holds it may finish");
    assert_eq!(desk.read(holder, 10).as_deref(), Ok(&b""[..]));
    assert_eq!(desk.read(holder, 10), Err(Error::Removed));
    assert_eq!(desk.write(sender, b"x"), Err(Error::Removed));
    assert_eq!(desk.open(BOX, Mode::Receive).map(|_| ()), Err(Error::NotFound));
    desk.expect_figure("status", "discarded", 1);

    desk.create(BOX).unwrap();
    let reader = desk.receiver(BOX);
    desk.expect_waiting(BOX, 1, 0);
    desk.remove(BOX).unwrap();
    assert_eq!(desk.outcome(reader), Err(Error::Removed));
}

pub fn a_renamed_mailbox_keeps_messages_and_descriptors(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    desk.make_folder("mailboxes/folder").unwrap();
    desk.send(BOX, b"one");
    let ino = desk.stat(BOX).unwrap().ino;
    let sender = desk.open(BOX, Mode::Send).unwrap();
    desk.rename(BOX, "mailboxes/folder/new").unwrap();
    assert_eq!(desk.write(sender, b"two"), Ok(3));
    assert_eq!(desk.stat("mailboxes/folder/new").unwrap().ino, ino);
    for body in [&b"one"[..], b"two"] {
        assert_eq!(desk.receive("mailboxes/folder/new").as_deref(), Ok(body));
    }
    assert_eq!(desk.stat(BOX).unwrap_err(), Error::NotFound);
}

pub fn renaming_over_a_mailbox_removes_it(desk: &mut dyn Desk) {
    desk.create(BOX).unwrap();
    desk.create("mailboxes/new").unwrap();
    desk.send("mailboxes/new", b"moved");
    let reader = desk.receiver(BOX);
    desk.expect_waiting(BOX, 1, 0);
    desk.rename("mailboxes/new", BOX).unwrap();
    assert_eq!(desk.outcome(reader), Err(Error::Removed));
    assert_eq!(desk.receive(BOX), Ok(b"moved".to_vec()));
    assert_eq!(desk.list("mailboxes"), ["box"]);
}

pub fn folders_hold_mailboxes_and_control_mirrors_them(desk: &mut dyn Desk) {
    desk.make_folder("mailboxes/team").unwrap();
    desk.create("mailboxes/team/a").unwrap();
    desk.create("mailboxes/team/b").unwrap();
    desk.create("segments/s").unwrap();
    assert_eq!(desk.list("mailboxes/team"), ["a", "b"]);
    assert_eq!(desk.list("control/mailboxes/team"), ["a", "b", "config"]);
    assert_eq!(desk.list(""), ["control", "mailboxes", "segments", "topics"]);
    assert!(desk.list("control/mailboxes/team/a/config").contains(&String::from("maxmsg")));
    assert_eq!(desk.remove_folder("mailboxes/team"), Err(Error::NotEmpty));
    assert_eq!(desk.rename("segments/s", "mailboxes/s"), Err(Error::OtherKind));
    assert_eq!(desk.rename("mailboxes/team", "mailboxes/team/in"), Err(Error::Invalid));
    desk.remove("mailboxes/team/a").unwrap();
    desk.remove("mailboxes/team/b").unwrap();
    desk.remove_folder("mailboxes/team").unwrap();
    assert_eq!(desk.list("control/mailboxes"), ["config"]);
    assert_eq!(desk.make_folder("other").unwrap_err(), Error::NotPermitted);
}

pub fn a_segment_is_a_file_of_memory(desk: &mut dyn Desk) {
    desk.create("segments/s").unwrap();
    let both = desk.open("segments/s", Mode::Both).unwrap();
    assert_eq!(desk.write(both, b"hello"), Ok(5));
    desk.seek(both, 1).unwrap();
    assert_eq!(desk.read(both, 3).as_deref(), Ok(&b"ell"[..]));
    desk.seek(both, 0).unwrap();
    assert_eq!(desk.write(both, b"J"), Ok(1));
    let other = desk.open("segments/s", Mode::Receive).unwrap();
    assert_eq!(desk.read(other, 100).as_deref(), Ok(&b"Jello"[..]));
    assert_eq!(desk.read(other, 100).as_deref(), Ok(&b""[..]));
    desk.truncate("segments/s", 10_000).unwrap();
    assert_eq!(desk.stat("segments/s").unwrap().size, 10_000);
    desk.expect_figure("segments/s/status", "promised", 12_288);
    desk.remove("segments/s").unwrap();
    desk.seek(both, 0).unwrap();
    assert_eq!(desk.read(both, 5).as_deref(), Ok(&b"Jello"[..]), "while it is open it lives");
    desk.close(both);
    desk.close(other);
    desk.expect_figure("status", "segment_used", 0);
}

pub fn a_segment_grows_no_further_than_it_may(desk: &mut dyn Desk) {
    desk.create("segments/s").unwrap();
    desk.configure("segments/s/config/size_max", "8K").unwrap();
    assert_eq!(desk.truncate("segments/s", 8193), Err(Error::NoSpace));
    desk.truncate("segments/s", 8192).unwrap();
    let both = desk.open("segments/s", Mode::Both).unwrap();
    desk.seek(both, 8192).unwrap();
    assert_eq!(desk.write(both, b"x"), Err(Error::NoSpace));
    desk.configure("segments/s/config/size_max", "max").unwrap();
    assert_eq!(desk.write(both, b"x"), Ok(1));
    assert_eq!(desk.stat("segments/s").unwrap().size, 8193);
}
