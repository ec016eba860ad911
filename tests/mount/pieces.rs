//! One read(2) that the kernel splits into several requests gets one message, and the end of file is not part of it.

use std::fs;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use crate::common::{self, Mount, wait_for};
use crate::tools::{BOTH, LONGEST, NOWAIT, READ, WRITE, aside, finish, noise, open, read, send, waiting};
use common::peer::Peer;

/// An ordinary user.
const NOBODY: u32 = 65534;

/// The most that the kernel asks for at once: the mount option `max_read`.
fn piece() -> usize {
    ipcfs::config::MAX_READ as usize
}

/// Lengths at which a message ends within a piece, with it, or just after it.
fn lengths() -> impl Iterator<Item = usize> {
    [1, 2, 7].into_iter().flat_map(|count| (0..3).map(move |more| count * piece() - 1 + more))
}

/// What one descriptor reads of a message of `length` bytes with buffers of `size` bytes.
fn parts(message: &[u8], size: usize) -> Vec<Vec<u8>> {
    message.chunks(size).map(<[u8]>::to_vec).collect()
}

fn mounted_with(mount: &Mount, option: &str) -> bool {
    let dir = mount.dir().to_str().unwrap();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(1) == Some(dir)).unwrap();
    line.split([' ', ',']).any(|word| word == option)
}

#[test]
fn the_kernel_asks_for_a_part_of_a_long_buffer_first_whoever_mounts() {
    let option = format!("max_read={}", piece());
    for mount in [common::mount(), common::mount_as(NOBODY, &[])].into_iter().flatten() {
        assert!(mounted_with(&mount, &option));
    }
}

#[test]
fn every_buffer_gets_one_message_or_the_rest_of_one() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (file, stream) = (open(&path, READ | NOWAIT), open(&path, BOTH | NOWAIT));
    for length in lengths() {
        let message = noise(length, length as u32);
        let sizes = [length - 1, length, length + 1, 2 * length, 2 * piece() - 1, 2 * piece() + 1, 1 << 20];
        // With a buffer of whole pieces, a message that ends with it would have two ends of file.
        for size in sizes.into_iter().filter(|size| !size.is_multiple_of(piece())) {
            for (reader, has_end) in [(&file, true), (&stream, false)] {
                send(&path, &message);
                send(&path, b"next");
                for part in parts(&message, size) {
                    assert!(read(reader, size) == Ok(part), "{length} bytes with {size}");
                }
                if has_end {
                    assert_eq!(
                        read(reader, size),
                        Ok(vec![]),
                        "the end of file of {length} bytes with {size}"
                    );
                }
                assert_eq!(read(reader, size), Ok(b"next".to_vec()), "after {length} bytes with {size}");
                if has_end {
                    assert_eq!(read(reader, size), Ok(vec![]));
                }
                assert_eq!(read(reader, size), Err(Errno::AGAIN));
            }
        }
    }
}

#[test]
fn a_reader_that_waited_gets_one_message_too() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    for flags in [READ, BOTH] {
        let reader = open(&path, flags);
        for length in lengths() {
            let message = noise(length, 5);
            let waits = aside({
                let reader = reader.try_clone().unwrap();
                move || (read(&reader, 1 << 20), flags == BOTH || read(&reader, 1 << 20) == Ok(vec![]))
            });
            wait_for("the reader to wait", || waiting(&mount, "box", "reader").len() == 1);
            send(&path, &message);
            let (got, end) = finish("the reader", waits);
            assert!(got.as_ref() == Ok(&message), "{length} bytes with {flags:?}");
            assert!(end, "no end of file after {length} bytes");
        }
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        assert_eq!(read(&reader, 1 << 20), Err(Errno::AGAIN));
    }
}

#[test]
fn doors_keep_messages_apart_whatever_the_pieces() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxbytes", "1G")]);
    let door = |name: &str| mount.path(&format!("control/mailboxes/box/{name}"));
    let (stream, peek) = (open(&door("stream"), READ | NOWAIT), door("peek"));
    let lease = open(&door("lease"), BOTH | NOWAIT);
    for length in lengths() {
        let message = noise(length, 9);
        for flags in [READ, BOTH] {
            send(&path, &message);
            assert!(read(open(&peek, READ | NOWAIT), 1 << 20) == Ok(message.clone()));
            let tagged = open(&path, flags | NOWAIT);
            assert!(read(&tagged, 1 << 20) == Ok(message.clone()));
        }
        send(&path, &message);
        send(&path, b"next");
        assert!(read(&lease, 1 << 20) == Ok(message.clone()), "{length} bytes leased");
        assert_eq!(read(&lease, 1 << 20), Ok(vec![]), "until it is settled");
        assert_eq!(rustix::io::write(&lease, b"nack"), Ok(4));
        // As many whole messages as fit into a piece, or one.
        let mut got = read(&stream, 1 << 20).unwrap();
        if length + 4 > piece() {
            assert!(got == message, "{length} bytes");
            got.extend(read(&stream, 1 << 20).unwrap());
        }
        assert!(got == [&message[..], b"next"].concat(), "{length} bytes");
        assert_eq!(read(&stream, 1 << 20), Err(Errno::AGAIN));
    }
}

#[test]
fn lines_of_json_are_whole_whatever_the_pieces() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let json = open(&mount.path("control/mailboxes/box/json"), READ | NOWAIT);
    // The line around a body has the same length for bodies of one length.
    send(&path, &vec![b'j'; piece()]);
    let around = read(&json, 1 << 20).unwrap().len() - piece();
    for length in lengths().map(|length| length - around) {
        send(&path, &vec![b'j'; length]);
        send(&path, b"next");
        let mut text = Vec::new();
        while let Ok(bytes) = read(&json, 1 << 20) {
            assert!(bytes.ends_with(b"\n"), "a part of a line");
            text.extend(bytes);
        }
        let lines: Vec<serde_json::Value> = text
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let bodies: Vec<&str> = lines.iter().map(|line| line["body"].as_str().unwrap()).collect();
        assert!(bodies == ["j".repeat(length).as_str(), "next"], "{length} bytes");
    }
}

#[test]
fn messages_of_several_requests_have_one_end_of_file() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxbytes", "1G"), ("wholesize", "1G")]);
    let file = open(&path, READ | NOWAIT);
    for count in [8, 16, 31] {
        for length in [count * piece() - 1, count * piece(), count * piece() + 1, count << 20] {
            let message = noise(length, 3);
            fs::write(mount.path("control/mailboxes/box/whole"), &message).unwrap();
            wait_for("the message", || mount.figure("mailboxes/box/status", "depth") == 1);
            send(&path, b"next");
            assert!(read(&file, length + 1) == Ok(message), "{length} bytes");
            assert_eq!(read(&file, length + 1), Ok(vec![]), "the end of file of {length} bytes");
            assert_eq!(read(&file, 100), Ok(b"next".to_vec()));
            assert_eq!(read(&file, 100), Ok(vec![]));
        }
    }
}

#[test]
fn threads_that_share_a_descriptor_get_whole_messages() {
    const READERS: usize = 6;
    const EACH: usize = 60;
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let reader = std::sync::Arc::new(open(&path, BOTH));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let reader = std::sync::Arc::clone(&reader);
            aside(move || (0..EACH).map(|_| read(&*reader, 1 << 20).unwrap()).collect::<Vec<_>>())
        })
        .collect();
    let sender = open(&path, WRITE);
    let message = |number: usize| vec![(number % 251) as u8; 2 * piece() + number];
    for number in 0..READERS * EACH {
        assert_eq!(rustix::io::write(&sender, &message(number)), Ok(2 * piece() + number));
    }
    let mut got: Vec<Vec<u8>> = readers.into_iter().flat_map(|reader| finish("a reader", reader)).collect();
    got.sort_unstable_by_key(Vec::len);
    for (number, bytes) in got.iter().enumerate() {
        assert!(*bytes == message(number), "message {number} was taken apart or mixed with another");
    }
}

#[test]
fn signals_between_pieces_neither_cut_nor_lose_a_message() {
    let Some(mount) = common::mount() else { return };
    for flags in ["O_RDONLY", "O_RDWR"] {
        let Some(mut peer) = Peer::start() else { return };
        let path = mount.make_mailbox("box", &[]);
        peer.open("box", &path, flags);
        peer.run("old = signal.signal(signal.SIGALRM, lambda *_: None)");
        peer.run("old = signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)");
        // Python reads on after a signal if nothing was read before.
        peer.tell("[len(data) for data in iter(lambda: os.read(box, 1 << 20), b'end') if data]");
        let sender = open(&path, WRITE);
        let lengths: Vec<usize> = (0..300).map(|number| 3 * piece() - 150 + number).collect();
        for length in &lengths {
            assert_eq!(rustix::io::write(&sender, &vec![1; *length]), Ok(*length));
        }
        assert_eq!(rustix::io::write(&sender, b"end"), Ok(3));
        assert_eq!(peer.answer(), format!("{lengths:?}"), "{flags}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn long_texts_of_control_and_single_messages_are_complete() {
    let Some(mount) = common::mount() else { return };
    let Some(mut peer) = Peer::start() else { return };
    let topic = mount.path("topics/t");
    fs::write(&topic, b"").unwrap();
    peer.run("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8000, 8000))");
    peer.run(&format!("fds = [os.open('{}', os.O_RDONLY) for _ in range(7000)]", topic.display()));
    let text = fs::read_to_string(mount.path("control/topics/t/status")).unwrap();
    assert!(text.len() > piece(), "{} bytes", text.len());
    assert_eq!(text.lines().filter(|line| line.starts_with("reader ")).count(), 7000);
    assert!(text.ends_with('\n'));
    let path = mount.make_mailbox("box", &[]);
    for length in lengths() {
        let message = noise(length, 1);
        send(&path, &message);
        let shown =
            fs::read_dir(mount.path("control/mailboxes/box/messages")).unwrap().next().unwrap().unwrap();
        assert!(fs::read(shown.path()).unwrap() == message, "{length} bytes");
        fs::remove_file(shown.path()).unwrap();
    }
}

#[test]
fn long_reads_of_segments_are_complete() {
    for option in ["--segments=cached", "--segments=passthrough"] {
        let Some(mount) = common::mount_with(&[option]) else { return };
        check_segment(&mount.segment("s"));
    }
}

fn check_segment(path: &Path) {
    let bytes = noise(5 * piece() + 17, 2);
    fs::write(path, &bytes).unwrap();
    for flags in [READ, BOTH] {
        let file = open(path, flags);
        assert!(read(&file, LONGEST) == Ok(bytes.clone()), "{flags:?}");
        assert_eq!(read(&file, LONGEST), Ok(vec![]));
        let mut middle = vec![0; 3 * piece()];
        assert_eq!(rustix::io::pread(&file, &mut middle[..], 4097), Ok(middle.len()));
        assert!(middle[..] == bytes[4097..4097 + middle.len()], "{flags:?}");
    }
}
