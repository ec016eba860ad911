//! What the tests of doors share.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::common::Mount;
use crate::tools::{BOTH, open, read, send};

/// Doors that can be read and wait for something to come.
pub(crate) const READERS: [&str; 8] =
    ["stream", "peek", "json", "lease", "lease.json", "serve", "tag/x", "from/0"];

/// Doors whose writers wait for room.
pub(crate) const WRITERS: [&str; 5] = ["stream", "priority/3", "tag/x", "once/x", "rpc"];

/// A mailbox's folder in `control/`, or something in it.
pub(crate) fn side(mount: &Mount, mailbox: &str, below: &str) -> PathBuf {
    mount.path("control/mailboxes").join(mailbox).join(below)
}

/// A mailbox's name for a door.
pub(crate) fn name_for(door: &str) -> String {
    door.replace('/', "-")
}

/// Sends `hello` so that whoever reads at `door` gets it. A request lasts as long as the descriptor that comes back.
pub(crate) fn feed(mount: &Mount, mailbox: &str, door: &str) -> Option<OwnedFd> {
    match door {
        "serve" => {
            let client = open(&side(mount, mailbox, "rpc"), BOTH);
            assert_eq!(rustix::io::write(&client, b"hello\n"), Ok(6));
            return Some(client);
        }
        "tag/x" => send(&side(mount, mailbox, door), b"hello\n"),
        _ => send(&mount.mailbox(mailbox), b"hello\n"),
    }
    None
}

/// What a door makes of the message that [`feed`] sends.
pub(crate) fn is_hello(door: &str, got: Result<Vec<u8>, Errno>) -> bool {
    let text = String::from_utf8(got.unwrap()).unwrap();
    match door {
        "json" | "lease.json" => text.starts_with("{\"id\":") && text.ends_with("\"body\":\"hello\\n\"}\n"),
        _ => text == "hello\n",
    }
}

/// What poll(2) finds now.
pub(crate) fn ready(file: &impl AsFd) -> PollFlags {
    let mut fds = [PollFd::new(file, PollFlags::IN | PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    fds[0].revents()
}

/// Names in a folder, in the order of their numbers.
pub(crate) fn numbers(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut numbers: Vec<u64> = entries.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// A message that stays leased as long as the descriptor is open, and its text.
pub(crate) fn lease(mount: &Mount, mailbox: &str) -> (OwnedFd, String) {
    let worker = open(&side(mount, mailbox, "lease"), BOTH);
    let text = String::from_utf8(read(&worker, 4096).unwrap()).unwrap();
    (worker, text)
}
