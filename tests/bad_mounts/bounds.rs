//! A mount that reaches its limits refuses more or makes callers wait, loses nothing, and goes on.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::common::wait_for;
use crate::place::{Background, Place};

/// The longest message, in bytes.
const LONGEST: usize = 1_044_480;

/// Sends without waiting.
fn try_send(place: &Place, name: &str, body: &[u8]) -> std::io::Result<usize> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    options.open(place.path("mailboxes").join(name))?.write(body)
}

/// The next message, which must be there.
fn receive(place: &Place, name: &str) -> Vec<u8> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let mut body = Vec::new();
    options.open(place.path("mailboxes").join(name)).unwrap().read_to_end(&mut body).unwrap();
    body
}

fn figure(place: &Place, status: &str, key: &str) -> u64 {
    let text = fs::read_to_string(place.path("control").join(status)).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).unwrap().parse().unwrap()
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap()
}

#[test]
fn when_the_memory_is_full_writers_wait_in_every_mailbox_and_nothing_is_lost() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--memory", "2M"]);
    // As much as fits into one mailbox, then to the last byte into another.
    let mut big = Vec::new();
    for letter in b'a'.. {
        let body = vec![letter; LONGEST];
        match try_send(&place, "big", &body) {
            Ok(sent) => assert_eq!(sent, LONGEST),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
        big.push(body);
    }
    assert_eq!(big.len(), 2, "two of the longest and their cost are just below 2 MiB");
    let mut small = 0;
    while try_send(&place, "small", format!("{small}\n").as_bytes()).is_ok() {
        small += 1;
    }
    assert!(small > 0);
    assert!(figure(&place, "status", "memory_used") <= figure(&place, "status", "memory_max"));
    assert_eq!(figure(&place, "status", "memory_max"), 2 << 20);

    // Now the empty mailbox of somebody else is full too, and so is a new one.
    let mut waiting = Vec::new();
    for name in ["big", "small", "third"] {
        waiting.push(Background::start(&mut place.script(&format!("echo waited > $DIR/mailboxes/{name}"))));
        wait_for("the writer to wait", || {
            place.path("control/mailboxes").join(name).exists()
                && figure(&place, &format!("mailboxes/{name}/status"), "waiting_writers") == 1
        });
        assert_eq!(try_send(&place, name, b"x").unwrap_err().kind(), ErrorKind::WouldBlock, "{name}");
    }
    assert_eq!(figure(&place, "status", "waiting_writers"), 3);
    // Everything that sends nothing goes on.
    place.sh(
        "touch $DIR/mailboxes/new; ls -l $DIR/mailboxes; echo 64 > $DIR/control/mailboxes/new/config/maxmsg",
    );

    // Room in one is room for all.
    assert!(receive(&place, "big") == big[0]);
    for writer in waiting {
        assert_eq!(writer.finish().code, Some(0));
    }
    assert!(receive(&place, "big") == big[1]);
    assert_eq!(receive(&place, "big"), b"waited\n");
    for number in 0..small {
        assert_eq!(receive(&place, "small"), format!("{number}\n").into_bytes());
    }
    assert_eq!(receive(&place, "small"), b"waited\n");
    assert_eq!(receive(&place, "third"), b"waited\n");
    assert_eq!(figure(&place, "status", "messages"), 0);
    // close(2) does not wait for the daemon.
    wait_for("all memory to be free", || figure(&place, "status", "memory_used") == 0);
    assert_eq!(figure(&place, "status", "sent"), figure(&place, "status", "received"));
}

#[test]
fn when_the_memory_is_full_the_messages_of_a_removed_mailbox_make_room() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--memory", "2M"]);
    for _ in 0..2 {
        try_send(&place, "hog", &vec![0; LONGEST]).unwrap();
    }
    let writer = Background::start(&mut place.script("exec head -c 100000 /dev/zero > $DIR/mailboxes/other"));
    wait_for("the writer to wait", || figure(&place, "status", "waiting_writers") == 1);
    place.sh("rm $DIR/mailboxes/hog");
    assert_eq!(writer.finish().code, Some(0));
    assert_eq!(figure(&place, "status", "discarded"), 2);
}

#[test]
fn memory_for_segments_is_promised_to_its_last_page_and_not_beyond() {
    let Some(place) = Place::new() else { return };
    for how in ["passthrough", "cached"] {
        place.mount(&["--segment-memory", "64K", "--segments", how]);
        let one = fs::File::create_new(place.path("segments/one")).unwrap();
        let two = fs::File::create_new(place.path("segments/two")).unwrap();
        one.set_len(40 << 10).unwrap();
        assert_eq!(errno(&two.set_len((24 << 10) + 1).unwrap_err()), Errno::NOSPC, "{how}");
        assert_eq!(two.metadata().unwrap().len(), 0, "{how}");
        two.set_len(24 << 10).unwrap();
        assert_eq!(figure(&place, "status", "segment_used"), 64 << 10, "{how}");
        assert_eq!(errno(&(&one).write(&vec![1; 41 << 10]).unwrap_err()), Errno::NOSPC, "{how}");
        let more = rustix::fs::fallocate(&two, rustix::fs::FallocateFlags::empty(), 24 << 10, 1);
        assert_eq!(more, Err(Errno::NOSPC), "{how}");
        // What was promised can be filled; what is given back can be had.
        rustix::io::pwrite(&one, &vec![7; 40 << 10], 0).unwrap();
        rustix::io::pwrite(&two, &vec![8; 24 << 10], 0).unwrap();
        drop(one);
        place.sh("rm $DIR/segments/one");
        two.set_len(64 << 10).unwrap();
        let mut bytes = Vec::new();
        fs::File::open(place.path("segments/two")).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [vec![8; 24 << 10], vec![0; 40 << 10]].concat(), "{how}");
        drop(two);
        place.sh("$IPCFS umount $DIR");
    }
}

#[test]
fn files_and_folders_are_bounded_in_number() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--max-files", "4"]);
    place.sh("cd $DIR; : > mailboxes/a; mkdir mailboxes/b; : > segments/c; : > mailboxes/b/d");
    let full = Errno::NOSPC;
    assert_eq!(errno(&fs::File::create(place.path("mailboxes/e")).unwrap_err()), full);
    assert_eq!(errno(&fs::File::create(place.path("segments/e")).unwrap_err()), full);
    assert_eq!(errno(&fs::create_dir(place.path("segments/e")).unwrap_err()), full);
    // What is there can be used, and what goes makes room.
    place.sh("cd $DIR/mailboxes; echo hi > a; cat a; mv a b/a; rm b/d; true > e; ! true > f");
}

#[test]
fn without_descriptors_left_the_next_segment_has_no_room_and_the_daemon_lives_on() {
    let Some(place) = Place::new() else { return };
    for how in ["passthrough", "cached"] {
        place.sh(&format!("ulimit -n 64; $IPCFS mount --segments {how} $DIR"));
        let mut made = 0;
        let error = loop {
            assert!(made < 100, "{how}: more segments than descriptors");
            match fs::File::create_new(place.path(format!("segments/{made}"))) {
                Ok(mut file) => file.write_all(made.to_string().as_bytes()).unwrap(),
                Err(error) => break error,
            }
            made += 1;
        };
        assert!(made > 30, "{how}: {made} segments from 64 descriptors");
        assert_eq!(errno(&error), Errno::NOSPC, "{how}");
        assert!(!place.path(format!("segments/{made}")).exists());
        assert_eq!(figure(&place, "status", "segments"), made, "{how}");
        // All else goes on, and what goes makes room.
        assert_eq!(place.sh("echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a"), "hi\n");
        for number in 0..made {
            assert_eq!(
                fs::read_to_string(place.path(format!("segments/{number}"))).unwrap(),
                number.to_string()
            );
        }
        place.sh(
            "rm $DIR/segments/7; echo new > $DIR/segments/new; cat $DIR/segments/new; $IPCFS umount $DIR",
        );
        place.assert_nothing_left();
    }
}
