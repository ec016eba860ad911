//! What becomes of those who use a mailbox whose name goes.

use std::fs;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::common::{self, Mount};
use crate::tools::{BOTH, NOWAIT, READ, WRITE, aside, finish, open, read, receive, send, try_receive};

/// Two ways of losing a name.
const WAYS: [fn(&Path); 2] = [
    |path| fs::remove_file(path).unwrap(),
    |path| {
        let other = path.with_extension("other");
        fs::File::create(&other).unwrap();
        fs::rename(&other, path).unwrap();
    },
];

#[test]
fn waiting_readers_learn_of_it() {
    let Some(mount) = common::mount() else { return };
    for (round, remove) in WAYS.into_iter().enumerate() {
        let name = format!("box{round}");
        let path = mount.make_mailbox(&name, &[]);
        let readers = [READ, BOTH, READ, BOTH].map(|flags| {
            let reader = open(&path, flags);
            aside(move || (read(&reader, 9), read(&reader, 9), rustix::io::write(&reader, b"x")))
        });
        mount.wait_for_figure(&name, "waiting_readers", 4);
        remove(&path);
        for (place, reader) in readers.into_iter().enumerate() {
            let written = if place % 2 == 0 { Errno::BADF } else { Errno::IDRM };
            assert_eq!(finish("a reader", reader), (Err(Errno::IDRM), Err(Errno::IDRM), Err(written)));
        }
    }
}

#[test]
fn waiting_writers_learn_of_it_and_what_waited_is_counted() {
    let Some(mount) = common::mount() else { return };
    for (round, remove) in WAYS.into_iter().enumerate() {
        let name = format!("box{round}");
        let path = mount.make_mailbox(&name, &[("maxmsg", "3")]);
        let before = mount.figure("status", "discarded");
        (0..3).for_each(|_| send(&path, b"lost"));
        let writers = [WRITE, BOTH, WRITE | OFlags::APPEND].map(|flags| {
            let writer = open(&path, flags);
            aside(move || (rustix::io::write(&writer, b"x"), rustix::io::write(&writer, b"x")))
        });
        mount.wait_for_figure(&name, "waiting_writers", 3);
        remove(&path);
        for writer in writers {
            assert_eq!(finish("a writer", writer), (Err(Errno::IDRM), Err(Errno::IDRM)));
        }
        assert_eq!(mount.figure("status", "discarded"), before + 3);
    }
}

#[test]
fn open_descriptors_fail_from_then_on_and_a_new_name_is_a_new_mailbox() {
    let Some(mount) = common::mount() else { return };
    for (round, remove) in WAYS.into_iter().enumerate() {
        let path = mount.make_mailbox(&format!("box{round}"), &[("remove", "any")]);
        send(&path, b"lost");
        let (reader, writer, stream) = (open(&path, READ), open(&path, WRITE), open(&path, BOTH | NOWAIT));
        remove(&path);
        fs::File::create(&path).unwrap();
        send(&path, b"new");
        for _ in 0..2 {
            assert_eq!((read(&reader, 9), read(&stream, 9)), (Err(Errno::IDRM), Err(Errno::IDRM)));
            assert_eq!(rustix::io::write(&writer, b"x"), Err(Errno::IDRM));
            assert_eq!(rustix::io::write(&stream, b"x"), Err(Errno::IDRM));
        }
        let links = rustix::fs::fstat(&reader).unwrap().st_nlink;
        assert_eq!((links, receive(&path), try_receive(&path)), (0, b"new".to_vec(), Err(Errno::AGAIN)));
    }
}

#[test]
fn the_message_in_hand_can_be_finished() {
    let Some(mount) = common::mount() else { return };
    for (round, remove) in WAYS.into_iter().enumerate() {
        let path = mount.make_mailbox(&format!("box{round}"), &[("remove", "any")]);
        let (file, stream) = (open(&path, READ), open(&path, BOTH));
        for reader in [&file, &stream] {
            send(&path, b"0123456789");
            assert_eq!(read(reader, 3), Ok(b"012".to_vec()));
        }
        send(&path, b"lost");
        remove(&path);
        assert_eq!(read(&file, 3), Ok(b"345".to_vec()));
        assert_eq!(read(&file, 99), Ok(b"6789".to_vec()));
        assert_eq!((read(&file, 99), read(&file, 99)), (Ok(vec![]), Err(Errno::IDRM)));
        assert_eq!((read(&stream, 99), read(&stream, 99)), (Ok(b"3456789".to_vec()), Err(Errno::IDRM)));
    }
}

#[test]
fn a_mailbox_that_moves_takes_those_who_wait_along() {
    let Some(mount) = common::mount() else { return };
    let wait = |mount: &Mount, name: &str, key: &str| mount.wait_for_figure(name, key, 1);
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    fs::create_dir(mount.mailbox("folder")).unwrap();
    let reader = open(&path, READ);
    let reader = aside(move || read(reader, 9));
    wait(&mount, "box", "waiting_readers");
    fs::rename(&path, mount.mailbox("folder/moved")).unwrap();
    wait(&mount, "folder/moved", "waiting_readers");
    send(&mount.mailbox("folder/moved"), b"found");
    assert_eq!(finish("the reader", reader), Ok(b"found".to_vec()));
    send(&mount.mailbox("folder/moved"), b"1");
    let writer = open(&mount.mailbox("folder/moved"), WRITE);
    let writer = aside(move || rustix::io::write(writer, b"2"));
    wait(&mount, "folder/moved", "waiting_writers");
    fs::rename(mount.mailbox("folder/moved"), &path).unwrap();
    assert_eq!((receive(&path), receive(&path)), (b"1".to_vec(), b"2".to_vec()));
    assert_eq!(finish("the writer", writer), Ok(1));
}
