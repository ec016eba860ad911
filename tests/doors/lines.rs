//! `stream`: a message of each line, and message after message.

use std::process::Stdio;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{self, Mount, peer::Peer, reap};
use crate::tools::{
    BOTH, NOWAIT, READ, WRITE, aside, finish, open, read, receive_text, run, send, shell, try_receive,
};
use crate::ways::side;

/// What `seq` prints.
fn numbered(last: u32) -> String {
    let lines: Vec<String> = (1..=last).map(|n| n.to_string()).collect();
    lines.join("\n") + "\n"
}

/// Reads through `stream` until a last line comes.
fn lines_until(mount: &Mount, last: &'static [u8]) -> std::thread::JoinHandle<Vec<u8>> {
    let file = open(&side(mount, "box", "stream"), READ);
    aside(move || {
        let mut all = Vec::new();
        while !all.ends_with(last) {
            all.extend(read(&file, 65_536).unwrap());
        }
        all
    })
}

#[test]
fn every_line_arrives_once_and_in_order_while_both_sides_run() {
    let Some(mount) = common::mount() else { return };
    for maxmsg in ["max", "100", "1"] {
        let path = mount.make_mailbox("box", &[("maxmsg", maxmsg)]);
        let expected = numbered(20_000);
        let reader = lines_until(&mount, b"20000\n");
        run("seq 20000 > \"$1\"", side(&mount, "box", "stream"));
        assert!(finish("the reader", reader) == expected.as_bytes(), "maxmsg {maxmsg}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn cat_prints_all_lines_that_seq_sends() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let temp = tempfile::tempdir().unwrap();
    let copy = temp.path().join("copy");
    let mut cat = std::process::Command::new("cat");
    cat.arg(side(&mount, "box", "stream")).stdout(std::fs::File::create(&copy).unwrap());
    let mut cat = cat.stdin(Stdio::null()).spawn().unwrap();
    mount.wait_for_figure("box", "waiting_readers", 1);
    run("seq 20000 > \"$1\"", side(&mount, "box", "stream"));
    let expected = numbered(20_000);
    common::wait_for("cat to print it", || std::fs::metadata(&copy).unwrap().len() == expected.len() as u64);
    assert!(std::fs::read(&copy).unwrap() == expected.as_bytes());
    kill_process(Pid::from_child(&cat), Signal::INT).unwrap();
    reap(&mut cat);
    mount.wait_for_figure("box", "waiting_readers", 0);
}

#[test]
fn lines_of_several_writers_never_mix() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[("maxmsg", "50")]);
    let mut writers: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|who| shell(&format!("seq -f '{who} %.0f' 5000 > \"$1\""), side(&mount, "box", "stream")))
        .collect();
    let file = open(&side(&mount, "box", "stream"), READ);
    let reader = aside(move || {
        let mut all = String::new();
        while all.lines().count() < 15_000 {
            all += &String::from_utf8(read(&file, 4096).unwrap()).unwrap();
        }
        all
    });
    let text = finish("the reader", reader);
    for who in ["a", "b", "c"] {
        let own: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix(who)?.strip_prefix(' ')).collect();
        assert!(own.iter().copied().eq((1..=5000).map(|n| n.to_string())), "{who}");
    }
    for writer in &mut writers {
        assert!(reap(writer).success());
    }
}

#[test]
fn an_unfinished_line_is_continued_by_the_next_write_and_sent_at_the_end() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let file = open(&side(&mount, "box", "stream"), WRITE);
    for part in ["on", "e\ntwo", "\nth", "re", "e"] {
        assert_eq!(rustix::io::write(&file, part.as_bytes()), Ok(part.len()));
    }
    assert_eq!([receive_text(&path), receive_text(&path)], ["one\n", "two\n"]);
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
    drop(file);
    mount.wait_for_figure("box", "depth", 1);
    assert_eq!(receive_text(&path), "three");
    // A process that is killed has closed it all the same.
    let Some(mut peer) = Peer::start() else { return };
    peer.open("fd", &side(&mount, "box", "stream"), "O_WRONLY");
    assert_eq!(peer.ask("os.write(fd, b'line\\nhalf a li')"), "14");
    peer.kill();
    mount.wait_for_figure("box", "depth", 2);
    assert_eq!([receive_text(&path), receive_text(&path)], ["line\n", "half a li"]);
}

#[test]
fn head_takes_what_it_reads_and_ends() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    run("seq 5 > \"$1\"", side(&mount, "box", "stream"));
    assert_eq!(run("head -n 5 \"$1\"", side(&mount, "box", "stream")), "1\n2\n3\n4\n5\n");
    // `head` reads as much as it gets: message by message is what the mailbox itself is for.
    run("seq 5 > \"$1\"", side(&mount, "box", "stream"));
    assert_eq!(run("head -n 2 \"$1\"", side(&mount, "box", "stream")), "1\n2\n");
    assert_eq!(mount.figure("mailboxes/box/status", "received"), 10);
    // `read` of a shell reads byte by byte where it cannot seek: nothing is lost between two lines of one descriptor.
    run("seq 3 > \"$1\"", side(&mount, "box", "stream"));
    let script = "exec 5< \"$1\"; read a <&5; read b <&5; read c <&5; echo \"$a $b $c\"";
    assert_eq!(run(script, side(&mount, "box", "stream")), "1 2 3\n");
}

#[test]
fn a_read_gets_whole_messages_as_many_as_fit() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let file = open(&side(&mount, "box", "stream"), READ | NOWAIT);
    for text in ["1234", "5678", "90", "a", "long one"] {
        send(&path, text.as_bytes());
    }
    assert_eq!(read(&file, 9), Ok(b"12345678".to_vec()), "two, and no part of the third");
    assert_eq!(read(&file, 3), Ok(b"90a".to_vec()));
    assert_eq!(read(&file, 3), Ok(b"lon".to_vec()), "one that is longer than the buffer is begun");
    send(&path, b"next");
    assert_eq!(read(&file, 99), Ok(b"g one".to_vec()), "and finished alone");
    assert_eq!(read(&file, 99), Ok(b"next".to_vec()));
    assert_eq!(read(&file, 99), Err(Errno::AGAIN));
}

#[test]
fn a_reader_gets_lines_as_they_come_and_others_get_them_singly() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    // A reader of the mailbox who waits takes one line of those that come together.
    let reader = open(&path, READ);
    let reader = aside(move || read(&reader, 99));
    mount.wait_for_figure("box", "waiting_readers", 1);
    run("seq 4 > \"$1\"", side(&mount, "box", "stream"));
    assert_eq!(finish("the reader", reader), Ok(b"1\n".to_vec()));
    assert_eq!(run("cat \"$1\"", side(&mount, "box", "peek")), "2\n");
    assert_eq!(receive_text(&path), "2\n");
    let (worker, text) = crate::ways::lease(&mount, "box");
    assert_eq!(text, "3\n");
    drop(worker);
    mount.wait_for_figure("box", "depth", 2);
    let both = open(&side(&mount, "box", "stream"), BOTH | NOWAIT);
    assert_eq!(read(&both, 99), Ok(b"3\n4\n".to_vec()), "one given back and one of a run");
    assert_eq!(rustix::io::write(&both, b"5\n6\n"), Ok(4));
    assert_eq!(read(&both, 99), Ok(b"5\n6\n".to_vec()));
}

#[test]
fn a_line_that_is_too_long_ends_a_write_before_it() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("msgsize", "5")]);
    let file = open(&side(&mount, "box", "stream"), WRITE);
    assert_eq!(rustix::io::write(&file, b"1\n2\nlong line\n3\n"), Ok(4));
    assert_eq!(rustix::io::write(&file, b"long line\n3\n"), Err(Errno::MSGSIZE));
    assert_eq!(rustix::io::write(&file, b"3\n"), Ok(2));
    assert_eq!(["1\n", "2\n", "3\n"], [(); 3].map(|()| receive_text(&path)));
    let refused = run("seq 1000000 1000001 > \"$1\" || echo refused", side(&mount, "box", "stream"));
    assert_eq!(refused, "refused\n");
}

#[test]
fn json_of_a_message_longer_than_any_buffer_is_one_line() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let body = crate::tools::noise(1_044_480, 4);
    send(&path, &body);
    send(&path, b"next");
    let file = open(&side(&mount, "box", "json"), READ | NOWAIT);
    let mut all = Vec::new();
    while let Ok(part) = read(&file, 300_000) {
        all.extend(part);
    }
    let text = String::from_utf8(all).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    let (_, encoded) = lines[0].split_once("\"body_base64\":\"").unwrap();
    assert_eq!(encoded.len(), 1_044_480 / 3 * 4 + 2, "with a quote and a brace behind it");
    assert!(lines[1].ends_with("\"body\":\"next\"}"));
}
