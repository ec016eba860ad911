//! `purge`: many messages go at once, by what they are.

use std::fs;

use rustix::io::Errno;

use crate::common::{self, Mount, OTHER, USER, have, peer::Peer};
use crate::tools::{BOTH, READ, WRITE, aside, finish, open, read, receive_text, run, send, try_receive};
use crate::ways::{lease, side};

fn figure(mount: &Mount, key: &str) -> u64 {
    mount.figure("mailboxes/box/status", key)
}

/// Removes what a filter names; how many messages that were.
fn purge(mount: &Mount, filter: &str) -> Result<u64, Errno> {
    let file = open(&side(mount, "box", "purge"), BOTH);
    assert_eq!(rustix::io::write(&file, filter.as_bytes())?, filter.len());
    let answer = String::from_utf8(read(&file, 99)?).unwrap();
    assert_eq!(read(&file, 99), Ok(Vec::new()), "the answer has an end");
    Ok(answer.strip_suffix('\n').unwrap().parse().unwrap())
}

#[test]
fn a_filter_says_which_messages_go() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    for n in 0..3 {
        send(&side(&mount, "box", "tag/two words\n"), format!("tagged {n}").as_bytes());
        send(&path, format!("plain {n}").as_bytes());
    }
    assert_eq!(purge(&mount, "tag two words"), Ok(0), "without the newline that belongs to the tag");
    assert_eq!(purge(&mount, "tag two words\n\n"), Ok(3));
    assert_eq!(purge(&mount, "from 4711\n"), Ok(0));
    assert_eq!(purge(&mount, "older 1h\n"), Ok(0));
    assert_eq!(receive_text(&path), "plain 0");
    let (_worker, text) = lease(&mount, "box");
    assert_eq!(text, "plain 1");
    assert_eq!(purge(&mount, "all\n"), Ok(1), "a message in hand stays");
    assert_eq!((figure(&mount, "depth"), figure(&mount, "leased"), figure(&mount, "removed")), (0, 1, 4));
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
    send(&path, b"later");
    assert_eq!(receive_text(&path), "later");
}

#[test]
fn what_is_no_filter_removes_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"stays");
    for (text, error) in
        [("everything", Errno::INVAL), ("older max", Errno::INVAL), ("older 1ns", Errno::RANGE)]
    {
        assert_eq!(purge(&mount, text), Err(error), "{text}");
        let why = fs::read_to_string(side(&mount, "box", "error")).unwrap();
        assert!(why.starts_with("purge") && why.ends_with('\n'), "{why:?}");
    }
    assert_eq!(fs::read(side(&mount, "box", "purge")).unwrap(), b"", "nothing was asked");
    assert_eq!(receive_text(&path), "stays");
}

#[test]
fn a_shell_purges_and_is_told_how_many() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&side(&mount, "box", "stream"), "line\n".repeat(5000).as_bytes());
    let script =
        "echo 'tag none' > \"$1\"; exec 3<> \"$1\"; echo all >&3; read -r count <&3; echo \"$count\"";
    assert_eq!(run(script, side(&mount, "box", "purge")), "5000\n");
    assert_eq!((figure(&mount, "depth"), figure(&mount, "removed")), (0, 5000));
    send(&path, b"one");
    assert_eq!(run("exec 3<> \"$1\"; echo all >&3; cat <&3", side(&mount, "box", "purge")), "1\n");
    if have("python3") {
        send(&path, b"two");
        let script = "python3 -c 'import sys; f = open(sys.argv[1], \"r+b\", buffering=0); f.write(b\"all\")
print(f.read())' \"$1\"";
        assert_eq!(run(script, side(&mount, "box", "purge")), "b'1\\n'\n");
    }
    mount.wait_for_free_memory();
}

#[test]
fn room_that_a_purge_makes_lets_a_waiting_writer_in() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "2")]);
    send(&path, b"one");
    send(&path, b"two");
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(&writer, b"three"));
    mount.wait_for_figure("box", "waiting_writers", 1);
    assert_eq!(purge(&mount, "all"), Ok(2));
    assert_eq!(finish("the writer", writer), Ok(5));
    assert_eq!(receive_text(&path), "three");
}

#[test]
fn to_purge_takes_both_rights() {
    let Some(mount) = common::mount_with(&["--allow-other"]) else { return };
    fs::set_permissions(mount.dir().parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let (Some(mut owner), Some(mut other)) = (Peer::start_as(USER), Peer::start_as(OTHER)) else { return };
    let path = mount.mailbox("box");
    owner.run(&format!("os.close(os.open({path:?}, os.O_CREAT | os.O_WRONLY))"));
    for (mode, allowed) in
        [(0o622, "EACCES"), (0o644, "EACCES"), (0o600, "EACCES"), (0o660, "EACCES"), (0o666, "3")]
    {
        owner.run(&format!("os.chmod({path:?}, {mode})"));
        owner.run(&format!("os.write(os.open({path:?}, os.O_WRONLY), b'text') and None"));
        let purge = side(&mount, "box", "purge");
        let call = format!("os.write(os.open({purge:?}, os.O_WRONLY), b'all')");
        assert_eq!(other.ask(&call), allowed, "{mode:o}");
    }
    assert_eq!(figure(&mount, "depth"), 0);
    owner.run(&format!("os.chmod({path:?}, 0o400)"));
    let purge = side(&mount, "box", "purge");
    assert_eq!(owner.ask(&format!("os.write(os.open({purge:?}, os.O_WRONLY), b'all')")), "EACCES");
    drop(open(&side(&mount, "box", "purge"), READ));
}
