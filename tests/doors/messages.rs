//! `messages/`: what waits, each message a file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::common::{self, Mount, peer::Peer};
use crate::tools::{
    BOTH, NOWAIT, READ, WRITE, aside, finish, open, read, receive_text, run, send, set, try_receive,
};
use crate::ways::{lease, numbers, side};

/// The numbers of what waits in a mailbox.
fn waiting(mount: &Mount, mailbox: &str) -> Vec<u64> {
    numbers(&side(mount, mailbox, "messages"))
}

fn message(mount: &Mount, mailbox: &str, number: u64) -> PathBuf {
    side(mount, mailbox, &format!("messages/{number}"))
}

fn attribute(path: &std::path::Path, name: &str) -> Result<String, Errno> {
    let mut value = [0; 300];
    let length = rustix::fs::getxattr(path, format!("user.ipcfs.{name}"), &mut value)?;
    Ok(String::from_utf8(value[..length].to_vec()).unwrap())
}

fn mv(mount: &Mount, number: u64, from: &str, to: &str) -> Result<(), Errno> {
    rustix::fs::rename(message(mount, from, number), message(mount, to, number))
}

#[test]
fn a_listing_tells_sizes_senders_and_times() {
    let Some(mount) = common::mount_with(&["--allow-other"]) else { return };
    fs::set_permissions(mount.dir().parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let path = mount.make_mailbox("box", &[]);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o622)).unwrap();
    let before = std::time::SystemTime::now();
    send(&path, b"of root");
    let Some(mut user) = Peer::start_as(common::USER) else { return };
    user.open("fd", &path, "O_WRONLY");
    assert_eq!(user.ask("os.write(fd, b'of a user')"), "9");
    let found = waiting(&mount, "box");
    assert_eq!(found.len(), 2);
    for (number, (size, sender)) in found.iter().zip([(7, 0), (9, common::USER)]) {
        let metadata = fs::metadata(message(&mount, "box", *number)).unwrap();
        assert_eq!((metadata.len(), metadata.uid(), metadata.gid()), (size, sender, sender));
        let sent = metadata.modified().unwrap();
        let slack = std::time::Duration::from_millis(20);
        assert!(sent + slack >= before && sent <= std::time::SystemTime::now() + slack);
    }
    let text = run("ls -ln \"$1\"", side(&mount, "box", "messages"));
    let lines: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let user = common::USER.to_string();
    let expected: [&[&str]; 2] = [&["0", "0", "7"], &[&user, &user, "9"]];
    let shown: Vec<&[&str]> = lines.iter().map(|line| &line[2..5]).collect();
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn looking_at_a_message_takes_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let long = crate::tools::noise(300_000, 7);
    send(&path, b"one\n");
    send(&path, &long);
    let found = waiting(&mount, "box");
    for _ in 0..3 {
        assert_eq!(run("cat \"$1\"", message(&mount, "box", found[0])), "one\n");
        assert!(fs::read(message(&mount, "box", found[1])).unwrap() == long);
    }
    assert_eq!(run("cat \"$1\"/* | wc -c", side(&mount, "box", "messages")).trim(), "300004");
    let temp = tempfile::tempdir().unwrap();
    run(&format!("cp \"$1\"/* {:?}", temp.path()), side(&mount, "box", "messages"));
    assert!(fs::read(temp.path().join(found[1].to_string())).unwrap() == long);
    // What was opened can be read though somebody takes it.
    let file = open(&message(&mount, "box", found[0]), READ);
    assert_eq!(receive_text(&path), "one\n");
    assert_eq!(read(&file, 99), Ok(b"one\n".to_vec()));
    assert_eq!(fs::read(message(&mount, "box", found[0])).unwrap_err().raw_os_error(), Some(2));
    assert_eq!(waiting(&mount, "box"), found[1..]);
}

#[test]
fn a_message_can_be_removed() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "3")]);
    for n in 1..=3 {
        send(&path, format!("{n}").as_bytes());
    }
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(&writer, b"4"));
    mount.wait_for_figure("box", "waiting_writers", 1);
    let found = waiting(&mount, "box");
    run("rm \"$1\"", message(&mount, "box", found[1]));
    assert_eq!(finish("who waited for the room", writer), Ok(1));
    assert_eq!(mount.figure("mailboxes/box/status", "removed"), 1);
    assert_eq!(["1", "3", "4"], [(); 3].map(|()| receive_text(&path)));
    assert_eq!(fs::remove_file(message(&mount, "box", found[0])).unwrap_err().raw_os_error(), Some(2));
    (0..3).for_each(|n| send(&path, format!("{n}").as_bytes()));
    run("rm \"$1\"/*", side(&mount, "box", "messages"));
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
    mount.wait_for_free_memory();
}

#[test]
fn a_moved_message_keeps_all_that_it_is() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("from", &[]);
    mount.make_mailbox("to", &[]);
    run("echo tagged > \"$1\"", side(&mount, "from", "tag/urgent"));
    run("echo raised > \"$1\"", side(&mount, "from", "priority/7"));
    run("echo plain > \"$1\"", mount.mailbox("from"));
    let attributes = |mailbox: &str| -> Vec<_> {
        let of = |number: &u64| {
            let path = message(&mount, mailbox, *number);
            let metadata = fs::metadata(&path).unwrap();
            let values = ["pid", "priority", "tag", "deliveries"].map(|name| attribute(&path, name).ok());
            (*number, metadata.uid(), metadata.len(), metadata.modified().unwrap(), values)
        };
        waiting(&mount, mailbox).iter().map(of).collect()
    };
    let before = attributes("from");
    run("mv \"$1\"/from/messages/* \"$1\"/to/messages/", mount.path("control/mailboxes"));
    assert_eq!(attributes("to"), before);
    assert!(waiting(&mount, "from").is_empty());
    assert_eq!(mount.figure("mailboxes/from/status", "moved_out"), 3);
    assert_eq!(mount.figure("mailboxes/to/status", "moved_in"), 3);
    let to = mount.mailbox("to");
    assert_eq!(["raised\n", "tagged\n", "plain\n"], [(); 3].map(|()| receive_text(&to)));
}

#[test]
fn a_move_that_cannot_be_moves_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("from", &[]);
    let full = mount.make_mailbox("full", &[("maxmsg", "1")]);
    let small = mount.make_mailbox("small", &[("msgsize", "3")]);
    send(&path, b"message");
    send(&full, b"full");
    let number = waiting(&mount, "from")[0];
    assert_eq!(mv(&mount, number, "from", "full"), Err(Errno::NOSPC));
    assert_eq!(mv(&mount, number, "from", "small"), Err(Errno::MSGSIZE));
    assert_eq!(mv(&mount, number, "from", "nowhere"), Err(Errno::NOENT));
    let other = message(&mount, "small", number + 1);
    assert_eq!(rustix::fs::rename(message(&mount, "from", number), other), Err(Errno::PERM), "no new number");
    let outside = mount.mailbox("outside");
    let moved = rustix::fs::rename(message(&mount, "from", number), outside).unwrap_err();
    assert!([Errno::PERM, Errno::XDEV].contains(&moved), "{moved}");
    let inside = side(&mount, "full", "messages/99");
    assert!(rustix::fs::rename(&small, inside).is_err(), "nor does a mailbox become a message");
    assert_eq!(waiting(&mount, "from"), [number]);
    assert_eq!(receive_text(&path), "message");
    // As one that was received just before.
    assert_eq!(mv(&mount, number, "from", "small"), Err(Errno::NOENT));
    assert_eq!((receive_text(&full), try_receive(&small)), ("full".into(), Err(Errno::AGAIN)));
    // One that is leased is nobody else's.
    send(&path, b"leased");
    let number = waiting(&mount, "from")[0];
    let (worker, _) = lease(&mount, "from");
    assert_eq!(mv(&mount, number, "from", "full"), Err(Errno::NOENT));
    drop(worker);
    assert_eq!(mv(&mount, number, "from", "full"), Ok(()));
    assert_eq!(receive_text(&full), "leased");
}

#[test]
fn a_moved_message_goes_to_whoever_waits_for_it_and_makes_room_where_it_was() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("from", &[("maxmsg", "1")]);
    let to = mount.make_mailbox("to", &[]);
    send(&path, b"first");
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(&writer, b"second"));
    mount.wait_for_figure("from", "waiting_writers", 1);
    let reader = open(&to, READ);
    let reader = aside(move || read(&reader, 99));
    mount.wait_for_figure("to", "waiting_readers", 1);
    assert_eq!(mv(&mount, waiting(&mount, "from")[0], "from", "to"), Ok(()));
    assert_eq!(finish("the reader", reader), Ok(b"first".to_vec()));
    assert_eq!(finish("the writer", writer), Ok(6));
    assert_eq!(receive_text(&path), "second");
    mount.wait_for_free_memory();
}

#[test]
fn attributes_tell_what_is_known_of_a_message() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"plain");
    let plain = message(&mount, "box", waiting(&mount, "box")[0]);
    // The kernel tells the thread, which of a program with one thread is the process.
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    assert_eq!(attribute(&plain, "pid"), Ok(thread));
    assert_eq!(attribute(&plain, "priority"), Ok("0".into()));
    assert_eq!(attribute(&plain, "deliveries"), Ok("0".into()));
    assert_eq!(attribute(&plain, "tag"), Err(Errno::NODATA));
    assert_eq!(attribute(&plain, "expires"), Err(Errno::NODATA));
    drop(lease(&mount, "box"));
    mount.wait_for_figure("box", "depth", 1);
    assert_eq!(attribute(&plain, "deliveries"), Ok("1".into()));
    set(&mount, "box", "ttl", "1h");
    send(&side(&mount, "box", "tag/a b"), b"tagged");
    let tagged = message(&mount, "box", waiting(&mount, "box")[1]);
    assert_eq!(attribute(&tagged, "tag"), Ok("a b".into()));
    let expires: f64 = attribute(&tagged, "expires").unwrap().parse().unwrap();
    let sent = fs::metadata(&tagged).unwrap().mtime();
    assert!((3599.0..3602.0).contains(&(expires - sent as f64)), "{expires} {sent}");
    let mut names = [0; 300];
    let length = rustix::fs::listxattr(&tagged, &mut names).unwrap();
    let mut names: Vec<&[u8]> =
        names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let expected = ["deliveries", "expires", "gid", "id", "pid", "priority", "sent", "tag", "uid"]
        .map(|name| format!("user.ipcfs.{name}"));
    assert_eq!(names, expected.each_ref().map(String::as_bytes));
    let set = rustix::fs::setxattr(&tagged, "user.ipcfs.tag", b"x", rustix::fs::XattrFlags::empty());
    assert_eq!(set, Err(Errno::OPNOTSUPP));
}

#[test]
fn nothing_can_be_made_or_changed_in_messages() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"message");
    let number = waiting(&mount, "box")[0];
    let file = message(&mount, "box", number);
    for flags in [WRITE, BOTH, WRITE | crate::tools::TRUNC] {
        assert_eq!(rustix::fs::open(&file, flags, rustix::fs::Mode::empty()).unwrap_err(), Errno::ACCESS);
    }
    for name in ["999999", "0", "new", "-1", "007", "18446744073709551616"] {
        let new = side(&mount, "box", &format!("messages/{name}"));
        assert!(fs::metadata(&new).is_err(), "{name}");
        assert!(fs::write(&new, "x").is_err(), "{name}");
        assert!(fs::create_dir(&new).is_err(), "{name}");
        assert!(fs::remove_file(&new).is_err(), "{name}");
    }
    let zeros = side(&mount, "box", &format!("messages/0{number}"));
    assert!(fs::metadata(zeros).is_err(), "a number has one name");
    assert!(fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).is_err());
    assert!(fs::hard_link(&file, side(&mount, "box", "messages/link")).is_err());
    assert!(fs::remove_dir(side(&mount, "box", "messages")).is_err());
    assert_eq!((fs::read(&file).unwrap(), receive_text(&path)), (b"message".to_vec(), "message".into()));
}

#[test]
fn a_listing_is_complete_while_others_send_and_receive() {
    const STAY: u64 = 20_000;
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "max")]);
    run(&format!("seq {STAY} > \"$1\""), side(&mount, "box", "stream"));
    assert_eq!(mount.figure("mailboxes/box/status", "depth"), STAY);
    let first = waiting(&mount, "box");
    assert_eq!(first.len() as u64, STAY);
    // Others come before and behind those that stay, and go again.
    let (urgent, tail) = (open(&side(&mount, "box", "priority/9"), WRITE), open(&path, WRITE));
    let taker = open(&path, BOTH | NOWAIT);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let sender = aside(move || {
        let mut rounds = 0;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            assert_eq!(rustix::io::write(&urgent, b"urgent"), Ok(6));
            assert_eq!(rustix::io::write(&tail, b"tail"), Ok(4));
            assert_eq!(read(&taker, 99), Ok(b"urgent".to_vec()));
            rounds += 1;
        }
        rounds
    });
    for _ in 0..5 {
        let entries = fs::read_dir(side(&mount, "box", "messages")).unwrap();
        let names: Vec<u64> =
            entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        let distinct: BTreeSet<u64> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len(), "none is shown twice");
        assert!(first.iter().all(|number| distinct.contains(number)), "all that stay are shown");
    }
    stop.send(()).unwrap();
    assert!(finish("the sender", sender) > 0);
    let text = run("ls -U \"$1\" | wc -l; find \"$1\" -type f | wc -l", side(&mount, "box", "messages"));
    let depth = mount.figure("mailboxes/box/status", "depth").to_string();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), [&depth, &depth]);
}

#[test]
fn numbers_are_never_used_again() {
    let Some(mount) = common::mount() else { return };
    let mut last = 0;
    for round in 0..4 {
        // In another mailbox of the same name, too.
        let path = mount.make_mailbox("box", &[]);
        run("printf 'a\\nb\\nc\\n' > \"$1\"", side(&mount, "box", "stream"));
        send(&path, b"d");
        send(&side(&mount, "box", "priority/1"), b"e");
        let found = waiting(&mount, "box");
        assert_eq!(found.len(), 5);
        assert!(found[0] > last, "{found:?} after {last}");
        last = found[4];
        if round % 2 == 0 {
            fs::remove_file(&path).unwrap();
        } else {
            run("rm \"$1\"/*", side(&mount, "box", "messages"));
        }
    }
}
