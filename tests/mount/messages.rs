//! Messages: exact, whole, in parts, with an end of file between them, or as a stream.

use std::io::IoSlice;

use rustix::fs::{SeekFrom, fcntl_setfl, seek};
use rustix::io::Errno;

use crate::common;
use crate::tools::{
    BOTH, LONGEST, NOWAIT, READ, WRITE, aside, finish, noise, open, read, receive, run, send, set,
    try_receive, try_send,
};

const PAGE: usize = 4096;
/// Places in a page where a buffer begins.
const PLACES: [usize; 4] = [0, 1, 2047, PAGE - 1];

/// A buffer of `length` bytes that begins `place` bytes behind a page's beginning, in the midst of another.
fn placed(room: &mut [u8], place: usize, length: usize) -> &mut [u8] {
    let start = room.as_ptr().align_offset(PAGE) + place;
    &mut room[start..start + length]
}

#[test]
fn a_message_arrives_exact_and_whole_wherever_in_a_page_its_buffers_begin() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (sender, file, stream) = (open(&path, WRITE), open(&path, READ | NOWAIT), open(&path, BOTH | NOWAIT));
    let (mut from, mut to) = (vec![0; 3 << 20], vec![0; 3 << 20]);
    for (round, place) in PLACES.into_iter().enumerate() {
        for length in [1, 2, PAGE - 1, PAGE, PAGE + 1, 65_536, LONGEST - 1, LONGEST] {
            let message = noise(length, round as u32);
            placed(&mut from, place, length).copy_from_slice(&message);
            for reader in [&file, &stream] {
                assert_eq!(rustix::io::write(&sender, placed(&mut from, place, length)), Ok(length));
                let other_place = PLACES[(round + 1) % PLACES.len()];
                let buffer = placed(&mut to, other_place, 2 << 20);
                assert_eq!(rustix::io::read(reader, &mut *buffer), Ok(length), "{length} bytes at {place}");
                assert!(buffer[..length] == message[..], "{length} bytes at {place} came out otherwise");
            }
            assert_eq!(read(&file, 1), Ok(vec![]), "the end of file after the message");
        }
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_and_nothing_is_sent() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let sender = open(&path, WRITE);
    let mut room = vec![7; 10 << 20];
    for place in PLACES {
        for length in [LONGEST + 1, 1 << 20, (1 << 20) + 1, 2 * LONGEST, (3 << 20) + 7, 8 << 20] {
            let message = placed(&mut room, place, length);
            assert_eq!(rustix::io::write(&sender, message), Err(Errno::MSGSIZE), "{length} bytes at {place}");
        }
    }
    set(&mount, "box", "msgsize", "100");
    assert_eq!(rustix::io::write(&sender, &[7; 101]), Err(Errno::MSGSIZE));
    assert_eq!(rustix::io::write(&sender, &[7; 100]), Ok(100));
    set(&mount, "box", "maxbytes", "50");
    assert_eq!(rustix::io::write(&sender, &[7; 51]), Err(Errno::MSGSIZE), "it would never fit");
    assert_eq!((mount.figure("mailboxes/box/status", "sent"), receive(&path)), (1, vec![7; 100]));
}

#[test]
fn an_empty_write_sends_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    assert_eq!(try_send(&path, b""), Ok(0));
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
}

#[test]
fn a_short_buffer_gets_the_rest_with_the_next_reads_and_then_an_end_of_file() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"0123456789");
    send(&path, b"next");
    let reader = open(&path, READ | NOWAIT);
    let parts: Vec<_> = (0..7).map(|_| read(&reader, 4)).collect();
    let expected: [&[u8]; 6] = [b"0123", b"4567", b"89", b"", b"next", b""];
    assert_eq!(parts[..6], expected.map(|part| Ok(part.to_vec())));
    assert_eq!(parts[6], Err(Errno::AGAIN), "two messages, two ends, and nothing more");
    send(&path, b"late");
    assert_eq!(read(&reader, 9), Ok(b"late".to_vec()), "one descriptor can be read for ever");
}

#[test]
fn closing_a_descriptor_drops_the_rest_of_its_message_and_no_other() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"begun");
    send(&path, b"other");
    assert_eq!(read(open(&path, READ | NOWAIT), 2), Ok(b"be".to_vec()));
    assert_eq!(receive(&path), b"other");
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
}

#[test]
fn a_reader_can_seek_within_the_message_it_holds() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let reader = open(&path, READ | NOWAIT);
    for _ in 0..3 {
        send(&path, b"one\ntwo\nthree\n");
        assert_eq!(read(&reader, 128), Ok(b"one\ntwo\nthree\n".to_vec()));
        let end = seek(&reader, SeekFrom::Current(0)).unwrap();
        assert_eq!(seek(&reader, SeekFrom::Current(-10)), Ok(end - 10));
        assert_eq!(read(&reader, 4), Ok(b"two\n".to_vec()));
        assert_eq!(seek(&reader, SeekFrom::Start(end - 6)), Ok(end - 6));
        assert_eq!(read(&reader, 128), Ok(b"three\n".to_vec()));
        assert_eq!(read(&reader, 128), Ok(vec![]));
        assert_eq!(seek(&reader, SeekFrom::Current(-6)), Ok(end - 6), "back from the end of file, too");
        assert_eq!(read(&reader, 128), Ok(b"three\n".to_vec()));
        assert_eq!(read(&reader, 128), Ok(vec![]));
    }
    send(&path, b"again");
    assert_eq!(read(&reader, 128), Ok(b"again".to_vec()));
    assert_eq!(seek(&reader, SeekFrom::Start(0)), Ok(0));
    assert_eq!(read(&reader, 128), Ok(b"again".to_vec()), "0 is the beginning of the message in hand");
}

#[test]
fn bash_reads_a_message_line_by_line() {
    let Some(mount) = common::mount() else { return };
    if !common::have("bash") {
        return;
    }
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"one\ntwo\nthree\n");
    let script = r#"exec bash -c 'read a; read b; read c; read d; echo "$a-$b-$c-$d."' < "$1""#;
    assert_eq!(run(script, &path), "one-two-three-.\n");
}

#[test]
fn a_descriptor_for_reading_and_writing_is_a_stream_without_ends_of_file() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let stream = open(&path, BOTH | NOWAIT);
    assert_eq!(seek(&stream, SeekFrom::Start(0)), Err(Errno::SPIPE));
    assert_eq!(seek(&stream, SeekFrom::Current(0)), Err(Errno::SPIPE));
    for message in [&b"abc"[..], b"de", b"f"] {
        assert_eq!(rustix::io::write(&stream, message), Ok(message.len()));
    }
    let parts: Vec<_> = (0..5).map(|_| read(&stream, 2)).collect();
    let expected: [&[u8]; 4] = [b"ab", b"c", b"de", b"f"];
    assert_eq!(parts[..4], expected.map(|part| Ok(part.to_vec())), "never parts of two messages in one read");
    assert_eq!(parts[4], Err(Errno::AGAIN), "and never an end of file");
}

#[test]
fn a_read_that_waits_does_not_hold_up_a_write_on_the_same_descriptor() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let stream = open(&path, BOTH);
    let (first, second) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    let first = aside(move || read(first, 9));
    mount.wait_for_figure("box", "waiting_readers", 1);
    let written = aside(move || rustix::io::write(second, b"through"));
    assert_eq!(finish("the write", written), Ok(7));
    assert_eq!(finish("the read", first), Ok(b"through".to_vec()));
}

#[test]
fn without_waiting_an_empty_and_a_full_mailbox_say_so() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    for reader in [open(&path, READ | NOWAIT), open(&path, BOTH | NOWAIT)] {
        assert_eq!(read(&reader, 9), Err(Errno::AGAIN));
    }
    send(&path, b"1");
    for writer in [open(&path, WRITE | NOWAIT), open(&path, BOTH | NOWAIT)] {
        assert_eq!(rustix::io::write(&writer, b"2"), Err(Errno::AGAIN));
    }
    // Set and taken back on open descriptors.
    let (reader, writer) = (open(&path, READ), open(&path, WRITE));
    fcntl_setfl(&writer, NOWAIT).unwrap();
    assert_eq!(rustix::io::write(&writer, b"2"), Err(Errno::AGAIN));
    assert_eq!((read(&reader, 9), read(&reader, 9)), (Ok(b"1".to_vec()), Ok(vec![])));
    fcntl_setfl(&reader, NOWAIT).unwrap();
    assert_eq!(read(&reader, 9), Err(Errno::AGAIN));
    fcntl_setfl(&reader, READ).unwrap();
    let waiting = aside(move || read(reader, 9));
    mount.wait_for_figure("box", "waiting_readers", 1);
    assert_eq!(rustix::io::write(&writer, b"3"), Ok(1));
    assert_eq!(finish("the read", waiting), Ok(b"3".to_vec()));
}

#[test]
fn a_write_of_many_parts_is_one_message() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (writer, reader) = (open(&path, WRITE), open(&path, BOTH | NOWAIT));
    // Each part may lie in two pages, and the kernel takes 256 pages at once.
    for count in [2, 3, 16, 17, 127, 128] {
        let parts: Vec<_> = (0..count).map(|part| noise(1 + part % 20, part as u32)).collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let message = parts.concat();
        assert_eq!(rustix::io::writev(&writer, &slices), Ok(message.len()), "{count} parts");
        assert_eq!(read(&reader, 1 << 20), Ok(message), "{count} parts");
        assert_eq!(read(&reader, 1), Err(Errno::AGAIN), "{count} parts are one message");
    }
}

/// The kernel cuts such a write in two. Its first part is a message then, and the program learns how long that was;
/// a program that goes on with the rest, as if this were a file, gets an error instead of a second message.
#[test]
fn a_write_of_more_parts_than_the_kernel_takes_at_once_is_never_two_messages() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (writer, reader) = (open(&path, WRITE), open(&path, BOTH | NOWAIT));
    for count in [257, 300] {
        let parts: Vec<_> = (0..count).map(|part| noise(10, part)).collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let message = parts.concat();
        let taken = rustix::io::writev(&writer, &slices).unwrap();
        assert_eq!(read(&reader, 1 << 20).as_deref(), Ok(&message[..taken]), "{count} parts");
        if taken < message.len() {
            assert_eq!(rustix::io::write(&writer, &message[taken..]), Err(Errno::MSGSIZE), "{count} parts");
        }
        assert_eq!(read(&reader, 1), Err(Errno::AGAIN), "{count} parts");
        assert_eq!(rustix::io::write(&writer, b"another"), Ok(7), "and then all is as before");
        assert_eq!(read(&reader, 9), Ok(b"another".to_vec()));
    }
}
