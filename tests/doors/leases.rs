//! Leases: a message comes back unless its holder says otherwise, and for good only once.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::common::{self, Mount, have, peer::Peer, reap, wait_for};
use crate::tools::{BOTH, NOWAIT, open, read, receive_text, run, send, set, try_receive};
use crate::ways::{lease, numbers, ready, side};

fn figure(mount: &Mount, key: &str) -> u64 {
    mount.figure("mailboxes/box/status", key)
}

#[test]
fn a_killed_worker_gives_its_message_to_the_next_at_once() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let (Some(mut first), Some(mut second)) = (Peer::start(), Peer::start()) else { return };
    send(&path, b"job");
    for peer in [&mut first, &mut second] {
        peer.open("fd", &side(&mount, "box", "lease"), "O_RDWR");
    }
    assert_eq!(first.ask("os.read(fd, 100)"), "b'job'");
    assert_eq!((figure(&mount, "depth"), figure(&mount, "leased")), (0, 1));
    second.tell("os.read(fd, 100)");
    mount.wait_for_figure("box", "waiting_readers", 1);
    first.kill();
    assert_eq!(second.answer(), "b'job'");
    assert_eq!((figure(&mount, "leased"), figure(&mount, "redelivered")), (1, 1));
    assert_eq!(second.ask("os.write(fd, b'ack\\n')"), "4");
    assert_eq!((figure(&mount, "leased"), figure(&mount, "received"), figure(&mount, "depth")), (0, 1, 0));
}

#[test]
fn a_message_given_back_is_the_next_one_again() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    (1..=3).for_each(|n| send(&path, format!("{n}").as_bytes()));
    let (worker, text) = lease(&mount, "box");
    assert_eq!(text, "1");
    assert_eq!(rustix::io::write(&worker, b"nack"), Ok(4));
    assert_eq!(read(&worker, 9), Ok(b"1".to_vec()), "the same descriptor goes on");
    drop(worker);
    assert_eq!(["1", "2", "3"], [(); 3].map(|()| receive_text(&path)));
}

#[test]
fn until_it_is_settled_a_message_is_followed_by_the_end_of_file() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let worker = open(&side(&mount, "box", "lease"), BOTH | NOWAIT);
    send(&path, b"0123456789");
    send(&path, b"next");
    assert_eq!(read(&worker, 4), Ok(b"0123".to_vec()));
    assert_eq!(read(&worker, 99), Ok(b"456789".to_vec()));
    assert_eq!((read(&worker, 99), read(&worker, 99)), (Ok(vec![]), Ok(vec![])));
    assert_eq!(rustix::io::write(&worker, b"ack"), Ok(3));
    assert_eq!(read(&worker, 99), Ok(b"next".to_vec()));
    assert_eq!(rustix::io::write(&worker, b" ack \n"), Ok(6), "before its end of file, too");
    assert_eq!(read(&worker, 99), Err(Errno::AGAIN));
    assert!(!ready(&worker).contains(PollFlags::IN));
}

#[test]
fn a_word_without_a_lease_or_without_a_meaning_is_refused() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let worker = open(&side(&mount, "box", "lease"), BOTH | NOWAIT);
    for word in ["ack", "nack", "reject", "touch"] {
        assert_eq!(
            rustix::io::write(&worker, word.as_bytes()),
            Err(Errno::NOMSG),
            "{word}: nothing is leased"
        );
    }
    send(&path, b"job");
    assert_eq!(read(&worker, 99), Ok(b"job".to_vec()));
    for word in ["", "ok", "ACK", "ack ack", "acknowledged", "\u{e4}ck"] {
        let told = rustix::io::write(&worker, word.as_bytes());
        assert!(told == Err(Errno::INVAL) || (word.is_empty() && told == Ok(0)), "{word}: {told:?}");
    }
    assert_eq!(figure(&mount, "leased"), 1, "nonsense settles nothing");
    assert_eq!(rustix::io::write(&worker, b"ack"), Ok(3));
    assert_eq!(rustix::io::write(&worker, b"ack"), Err(Errno::NOMSG), "once is all");
    assert_eq!(rustix::io::write(&worker, b"nack"), Err(Errno::NOMSG), "and no way back");
    assert_eq!((figure(&mount, "depth"), figure(&mount, "received")), (0, 1));
}

#[test]
fn what_fails_too_often_goes_to_the_mailbox_for_the_dead() {
    let Some(mount) = common::mount() else { return };
    let grave = mount.make_mailbox("grave", &[]);
    let path = mount.make_mailbox("box", &[("max_deliver", "2"), ("dead_letter", "grave")]);
    send(&path, b"poison");
    send(&path, b"fine");
    for text in ["poison", "poison", "fine"] {
        let (worker, got) = lease(&mount, "box");
        assert_eq!(got, text);
        if text == "fine" {
            assert_eq!(rustix::io::write(&worker, b"ack"), Ok(3));
        }
    }
    let of_grave = |key: &str| mount.figure("mailboxes/grave/status", key);
    wait_for("the burial", || of_grave("depth") == 1);
    assert_eq!(
        (figure(&mount, "dead_lettered"), figure(&mount, "dropped"), figure(&mount, "redelivered")),
        (1, 0, 1)
    );
    assert!(run("head -n 1 \"$1\"", side(&mount, "grave", "json")).contains("\"deliveries\":2"));
    assert_eq!(try_receive(&grave), Err(Errno::AGAIN));
    // And by a word, at the first attempt.
    send(&path, b"hopeless");
    let (worker, _) = lease(&mount, "box");
    assert_eq!(rustix::io::write(&worker, b"reject\n"), Ok(7));
    assert_eq!(receive_text(&grave), "hopeless");
}

/// An extended attribute of the only message of a mailbox.
fn told(mount: &Mount, mailbox: &str, name: &str) -> Result<String, Errno> {
    let number = numbers(&side(mount, mailbox, "messages"))[0];
    let file = side(mount, mailbox, &format!("messages/{number}"));
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&file, format!("user.ipcfs.{name}"), &mut value)?;
    Ok(String::from_utf8(value[..length].to_vec()).unwrap())
}

/// A message is tried, waits in the grave for a while, comes back by itself, and is tried again.
#[test]
fn a_circle_of_retries_ends_after_so_many_rounds_and_the_message_stays() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("grave", &[("ttl", "20ms")]);
    let path = mount.make_mailbox("box", &[("max_rounds", "3"), ("dead_letter", "grave")]);
    set(&mount, "grave", "dead_letter", "box");
    send(&path, b"poison");
    for _ in 0..3 {
        let (worker, got) = lease(&mount, "box");
        assert_eq!(got, "poison");
        assert_eq!(rustix::io::write(&worker, b"reject"), Ok(6));
    }
    assert_eq!(told(&mount, "grave", "reason"), Ok("rounds".to_owned()));
    assert_eq!(told(&mount, "grave", "rounds"), Ok("3".to_owned()));
    // Another comes and goes with its time, and this one stays.
    send(&mount.mailbox("grave"), b"other");
    mount.wait_for_figure("box", "depth", 1);
    assert_eq!(receive_text(&path), "other");
    assert_eq!(mount.figure("mailboxes/grave/status", "depth"), 1);
    let number = numbers(&side(&mount, "grave", "messages"))[0];
    let from = side(&mount, "grave", &format!("messages/{number}"));
    let to = |mailbox: &str| side(&mount, mailbox, &format!("messages/{number}"));
    assert_eq!(
        rustix::fs::rename(&from, to("box")),
        Err(Errno::PERM),
        "who sends it back learns that it has stopped"
    );
    mount.make_mailbox("desk", &[]);
    assert_eq!(rustix::fs::rename(&from, to("desk")), Ok(()));
    assert_eq!(rustix::fs::rename(to("desk"), to("box")), Err(Errno::PERM), "on no other way, either");
    set(&mount, "box", "max_rounds", "4");
    assert_eq!(rustix::fs::rename(to("desk"), to("box")), Ok(()));
    assert_eq!(
        (told(&mount, "box", "rounds"), told(&mount, "box", "reason")),
        (Ok("3".to_owned()), Err(Errno::NODATA))
    );
    let json = run("head -n 1 \"$1\"", side(&mount, "box", "json"));
    assert!(json.contains("\"rounds\":3") && json.contains("poison"), "{json}");
}

/// Somebody sends back whatever is in the grave.
#[test]
fn a_circle_of_mv_ends_too_and_a_stopped_message_that_is_rejected_is_dropped() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("grave", &[]);
    let path =
        mount.make_mailbox("box", &[("max_deliver", "1"), ("max_rounds", "2"), ("dead_letter", "grave")]);
    set(&mount, "grave", "dead_letter", "box");
    let (box_, grave) = (side(&mount, "box", "messages"), side(&mount, "grave", "messages"));
    let back = |expected| {
        let number = numbers(&grave)[0].to_string();
        assert_eq!(rustix::fs::rename(grave.join(&number), box_.join(&number)), expected);
    };
    send(&path, b"poison");
    drop(lease(&mount, "box"));
    mount.wait_for_figure("grave", "depth", 1);
    assert_eq!(
        (told(&mount, "grave", "rounds"), told(&mount, "grave", "reason")),
        (Ok("1".to_owned()), Ok("deliveries".to_owned()))
    );
    back(Ok(()));
    drop(lease(&mount, "box"));
    mount.wait_for_figure("grave", "depth", 1);
    back(Err(Errno::PERM));
    let (worker, _) = lease(&mount, "grave");
    assert_eq!(rustix::io::write(&worker, b"reject"), Ok(6));
    let of_grave = |key: &str| mount.figure("mailboxes/grave/status", key);
    assert_eq!((of_grave("depth"), of_grave("dropped"), figure(&mount, "depth")), (0, 1, 0));
    mount.wait_for_free_memory();
}

#[test]
fn without_a_mailbox_for_the_dead_they_are_dropped_and_counted() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("max_deliver", "1")]);
    send(&path, b"poison");
    drop(lease(&mount, "box"));
    mount.wait_for_figure("box", "dropped", 1);
    send(&path, b"hopeless");
    let (worker, _) = lease(&mount, "box");
    assert_eq!(rustix::io::write(&worker, b"reject"), Ok(6));
    assert_eq!((figure(&mount, "depth"), figure(&mount, "dropped"), figure(&mount, "leased")), (0, 2, 0));
    // As when the mailbox for the dead is removed meanwhile.
    mount.make_mailbox("grave", &[]);
    set(&mount, "box", "dead_letter", "grave");
    send(&path, b"late");
    let (worker, _) = lease(&mount, "box");
    fs::remove_file(mount.mailbox("grave")).unwrap();
    assert_eq!(rustix::io::write(&worker, b"reject"), Ok(6));
    assert_eq!(fs::read_to_string(side(&mount, "box", "config/dead_letter")).unwrap(), "");
    assert_eq!(figure(&mount, "depth"), 0);
    mount.wait_for_free_memory();
}

#[test]
fn a_lease_that_is_renewed_lasts_for_the_lease_time_of_now() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("lease_time", "1h")]);
    send(&path, b"0123456789");
    let worker = open(&side(&mount, "box", "lease"), BOTH);
    assert_eq!(read(&worker, 4), Ok(b"0123".to_vec()));
    assert_eq!(rustix::io::write(&worker, b"touch\n"), Ok(6));
    assert_eq!(read(&worker, 99), Ok(b"456789".to_vec()), "it goes on where it was");
    set(&mount, "box", "lease_time", "20ms");
    assert_eq!(figure(&mount, "leased"), 1, "a lease keeps the time that it began with");
    assert_eq!(rustix::io::write(&worker, b"touch"), Ok(5));
    mount.wait_for_figure("box", "depth", 1);
    assert_eq!(rustix::io::write(&worker, b"touch"), Err(Errno::NOMSG), "too late");
    assert_eq!((figure(&mount, "leased"), figure(&mount, "redelivered")), (0, 1));
}

#[test]
fn a_lease_that_lasts_too_long_ends_by_itself() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("lease_time", "20ms")]);
    send(&path, b"job");
    let (slow, text) = lease(&mount, "box");
    assert_eq!(text, "job");
    mount.wait_for_figure("box", "depth", 1);
    set(&mount, "box", "lease_time", "max");
    let (next, text) = lease(&mount, "box");
    assert_eq!(text, "job");
    assert_eq!(read(&slow, 9), Ok(vec![]), "it is told before it gets another message");
    assert_eq!(rustix::io::write(&slow, b"ack"), Err(Errno::NOMSG), "too late");
    assert_eq!(rustix::io::write(&next, b"ack"), Ok(3));
    assert_eq!(
        (figure(&mount, "depth"), figure(&mount, "received"), figure(&mount, "redelivered")),
        (0, 1, 1)
    );
    send(&path, b"next");
    assert_eq!(read(&slow, 9), Ok(b"next".to_vec()), "and can go on");
}

/// Takes messages until it is killed, and writes down what it does before and after each word.
const WORKER: &str = r"
import os, random, sys
lease, log = os.open(sys.argv[1], os.O_RDWR), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
while True:
    number = os.read(lease, 100).strip()
    os.write(log, b'got ' + number + b'\n')
    if random.random() < 0.2:
        os.write(lease, b'nack')
        continue
    os.write(lease, b'ack')
    os.write(log, b'acked ' + number + b'\n')
";

fn worker(mount: &Mount, log: &Path) -> Child {
    let mut command = Command::new("python3");
    command.args(["-I", "-c", WORKER]).arg(side(mount, "box", "lease")).arg(log);
    command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn an_acknowledged_message_never_comes_back_and_none_is_lost_whoever_is_killed() {
    const MESSAGES: u64 = 3000;
    let Some(mount) = common::mount() else { return };
    if !have("python3") {
        return;
    }
    let path = mount.make_mailbox("box", &[]);
    let temp = tempfile::tempdir().unwrap();
    let log = temp.path().join("log");
    fs::write(&log, "").unwrap();
    run(&format!("seq {MESSAGES} > \"$1\""), side(&mount, "box", "stream"));
    assert_eq!(figure(&mount, "depth"), MESSAGES);
    let mut workers: Vec<Child> = (0..4).map(|_| worker(&mount, &log)).collect();
    for round in 1..=24_usize {
        // Each dies at another moment: wherever it is once so much has happened.
        let seen = fs::metadata(&log).unwrap().len();
        let more = (round * 37 % 23 * 16) as u64;
        wait_for("work to be done", || {
            fs::metadata(&log).unwrap().len() > seen + more || figure(&mount, "received") == MESSAGES
        });
        let place = round % workers.len();
        workers[place].kill().unwrap();
        reap(&mut workers[place]);
        workers[place] = worker(&mount, &log);
    }
    for mut worker in workers {
        worker.kill().unwrap();
        reap(&mut worker);
    }
    mount.wait_for_figure("box", "leased", 0);
    let text = fs::read_to_string(&log).unwrap();
    let mut acked: HashMap<&str, usize> = HashMap::new();
    for (line, words) in text.lines().enumerate() {
        let (word, number) = words.split_once(' ').unwrap();
        assert!(!acked.contains_key(number), "line {line}: {words} after it was acknowledged");
        if word == "acked" {
            acked.insert(number, line);
        }
    }
    let left: Vec<String> = (0..figure(&mount, "depth")).map(|_| receive_text(&path)).collect();
    let distinct: BTreeSet<&str> = left.iter().map(|line| line.trim_end()).collect();
    assert_eq!(distinct.len(), left.len(), "none is there twice");
    assert!(distinct.iter().all(|number| !acked.contains_key(number)), "none is there that was acknowledged");
    // One may have been killed between its word and writing that down.
    let unknown = MESSAGES as usize - distinct.len() - acked.len();
    assert!(unknown <= 28, "{unknown} are lost");
    assert_eq!(figure(&mount, "received"), MESSAGES);
    assert_eq!((figure(&mount, "dropped"), figure(&mount, "dead_lettered")), (0, 0));
}

/// An attribute of the message that a descriptor has in hand.
fn in_hand(file: &impl AsFd, name: &str) -> Result<String, Errno> {
    let mut value = [0; 300];
    let length = rustix::fs::fgetxattr(file, format!("user.ipcfs.{name}"), &mut value)?;
    Ok(String::from_utf8_lossy(&value[..length]).into_owned())
}

#[test]
fn a_worker_can_ask_who_sent_what_it_has_in_hand() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let worker = open(&side(&mount, "box", "lease"), BOTH);
    assert_eq!(in_hand(&worker, "id"), Err(Errno::NODATA), "it has none");
    send(&side(&mount, "box", "tag/a b"), b"job");
    let id = fs::read_dir(side(&mount, "box", "messages")).unwrap().next().unwrap().unwrap().file_name();
    for deliveries in ["0", "1"] {
        assert_eq!(read(&worker, 9), Ok(b"job".to_vec()));
        assert_eq!(in_hand(&worker, "id").unwrap(), id.to_string_lossy());
        assert_eq!(in_hand(&worker, "uid"), Ok(rustix::process::getuid().as_raw().to_string()));
        assert_eq!(in_hand(&worker, "tag"), Ok("a b".into()));
        assert_eq!(in_hand(&worker, "deliveries"), Ok(deliveries.into()));
        assert_eq!(in_hand(&worker, "expires"), Err(Errno::NODATA));
        let other = open(&side(&mount, "box", "lease"), BOTH);
        assert_eq!(in_hand(&other, "id"), Err(Errno::NODATA), "each descriptor has its own");
        rustix::io::write(&worker, b"nack").unwrap();
        assert_eq!(in_hand(&worker, "id"), Err(Errno::NODATA), "it was given back");
    }
}

#[test]
fn a_server_can_ask_who_sent_the_request_in_hand() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let (client, server) =
        (open(&side(&mount, "box", "rpc"), BOTH), open(&side(&mount, "box", "serve"), BOTH));
    rustix::io::write(&client, b"request").unwrap();
    assert_eq!(read(&server, 9), Ok(b"request".to_vec()));
    assert_eq!(in_hand(&server, "pid"), Ok(rustix::thread::gettid().as_raw_nonzero().to_string()));
    rustix::io::write(&server, b"reply").unwrap();
    assert_eq!(in_hand(&server, "pid"), Err(Errno::NODATA));
    assert_eq!(read(&client, 9), Ok(b"reply".to_vec()));
    assert_eq!(in_hand(&client, "pid"), Err(Errno::NODATA), "a reply is no message");
}

#[test]
fn a_shell_can_ask_for_the_attributes_of_what_it_has_in_hand() {
    let Some(mount) = common::mount() else { return };
    if !have("getfattr") {
        return;
    }
    mount.make_mailbox("box", &[]);
    let script = "echo job > \"$1/tag/red\"; exec 3<> \"$1/lease\"; read -r job <&3
        getfattr --only-values -n user.ipcfs.tag /dev/fd/3; echo ack >&3";
    assert_eq!(run(script, side(&mount, "box", "")), "red");
}
