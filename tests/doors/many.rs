//! `lease.json`: many leases through one descriptor.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::common::{self, Mount, peer::Peer};
use crate::tools::{BOTH, NOWAIT, open, read, receive_text, run, send, set};
use crate::ways::{ready, side};

fn figure(mount: &Mount, key: &str) -> u64 {
    mount.figure("mailboxes/box/status", key)
}

/// Leases one more message; its id and body.
fn next(worker: &OwnedFd) -> (u64, String) {
    let line = read(worker, 1 << 16).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&line).unwrap();
    (shown["id"].as_u64().unwrap(), shown["body"].as_str().unwrap().to_owned())
}

fn write(worker: &OwnedFd, word: &str) -> Result<usize, Errno> {
    rustix::io::write(worker, word.as_bytes())
}

#[test]
fn a_worker_takes_many_and_acknowledges_them_at_once() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    (1..=5).for_each(|n| send(&path, format!("{n}").as_bytes()));
    let worker = open(&side(&mount, "box", "lease.json"), BOTH | NOWAIT);
    let leased: Vec<_> = (0..4).map(|_| next(&worker)).collect();
    assert_eq!(leased.iter().map(|(_, body)| body.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!((figure(&mount, "leased"), figure(&mount, "depth")), (4, 1));
    let [one, two, three, four] = [0, 1, 2, 3].map(|at| leased[at].0);
    let word = format!("ack {two} {one}\n");
    assert_eq!(write(&worker, &word), Ok(word.len()));
    assert_eq!(write(&worker, &format!("ack {three} {one}")), Err(Errno::NOMSG), "all or none");
    assert_eq!((figure(&mount, "leased"), figure(&mount, "received")), (2, 2));
    for (word, error) in [("ack", Errno::INVAL), ("ack x", Errno::INVAL), ("nack 11years all", Errno::RANGE)]
    {
        assert_eq!(write(&worker, word), Err(error), "{word}");
    }
    assert_eq!(write(&worker, &format!("touch {four}")), Ok(format!("touch {four}").len()));
    drop(worker);
    mount.wait_for_figure("box", "depth", 3);
    assert_eq!(["3", "4", "5"], [(); 3].map(|()| receive_text(&path)));
    mount.wait_for_free_memory();
}

#[test]
fn a_killed_worker_gives_all_of_them_back_in_order() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    (0..20).for_each(|n| send(&path, format!("{n:02}").as_bytes()));
    let Some(mut worker) = Peer::start() else { return };
    worker.open("fd", &side(&mount, "box", "lease.json"), "O_RDWR");
    for _ in 0..15 {
        assert!(worker.ask("os.read(fd, 10000)").contains("\"id\""));
    }
    assert_eq!(figure(&mount, "leased"), 15);
    worker.kill();
    mount.wait_for_figure("box", "depth", 20);
    (0..20).for_each(|n| assert_eq!(receive_text(&path), format!("{n:02}")));
}

#[test]
fn a_lease_too_many_is_refused() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let lines = (0..1001).map(|n| n.to_string()).collect::<Vec<_>>().join("\n") + "\n";
    fs::write(side(&mount, "box", "stream"), lines).unwrap();
    let worker = open(&side(&mount, "box", "lease.json"), BOTH | NOWAIT);
    (0..1000).for_each(|n| assert_eq!(next(&worker).1, format!("{n}\n")));
    assert_eq!(read(&worker, 1000), Err(Errno::BUSY));
    assert!(!ready(&worker).contains(PollFlags::IN));
    assert_eq!(write(&worker, "ack all"), Ok(7));
    assert_eq!((next(&worker).1.as_str(), figure(&mount, "received")), ("1000\n", 1000));
    set(&mount, "box", "lease_time", "20ms");
    assert_eq!(write(&worker, "touch all"), Ok(9));
    mount.wait_for_figure("box", "depth", 1);
    assert_eq!(write(&worker, "ack all"), Err(Errno::NOMSG));
    assert_eq!(receive_text(&path), "1000\n");
}

/// As a shell does it, which reads byte by byte.
#[test]
fn a_shell_reads_lines_and_takes_no_more_than_it_reads() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    for body in ["a", "b", "c"] {
        send(&path, body.as_bytes());
    }
    let script = r#"exec 3<> "$1"; read -r one <&3; read -r two <&3; id=${two#*:}; echo "ack ${id%%,*}" >&3; echo "$one" | cut -d: -f2-"#;
    assert!(run(script, side(&mount, "box", "lease.json")).ends_with("\"body\":\"a\"}\n"));
    mount.wait_for_figure("box", "depth", 2);
    assert_eq!(["a", "c"], [(); 2].map(|()| receive_text(&path)));
}
