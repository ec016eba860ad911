//! Shares: whatever one ordinary user holds, another can still work.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::peer::Peer;
use common::{Mount, OTHER, USER, wait_for};

/// A mount of root's for everyone, with these options, and processes of two ordinary users that stand in it.
fn shared(options: &[&str]) -> Option<(Mount, Peer, Peer)> {
    let options: Vec<&str> = ["--allow-other"].iter().chain(options).copied().collect();
    let mount = common::mount_with(&options)?;
    fs::set_permissions(mount.dir().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut peers = [Peer::start_as(USER)?, Peer::start_as(OTHER)?];
    for peer in &mut peers {
        peer.run(&format!("os.chdir({:?})", mount.dir()));
    }
    let [greedy, other] = peers;
    Some((mount, greedy, other))
}

/// Repeats a call until it fails; the name of the error, and how often it succeeded, which is left in `n`.
fn until_it_fails(peer: &mut Peer, call: &str) -> String {
    peer.run("n = 0");
    peer.ask(&format!("[n := n + 1 for _ in iter(lambda: ({call}, 1)[1], 0)]"))
}

fn figure_of(peer: &mut Peer, uid: u32, key: &str) -> u64 {
    let line = format!("next(l.split()[1] for l in open('control/users/{uid}') if l.split()[0] == '{key}')");
    peer.ask(&line).trim_matches('\'').parse().unwrap()
}

const MAIL: &str = "os.O_CREAT | os.O_RDWR | os.O_NONBLOCK";

#[test]
fn a_user_who_fills_the_memory_keeps_no_other_from_sending() {
    let Some((mount, mut greedy, mut other)) = shared(&["--memory", "16M"]) else { return };
    greedy.run(&format!("f = os.open('mailboxes/a', {MAIL}, 0o600)"));
    other.run(&format!("f = os.open('mailboxes/b', {MAIL}, 0o600)"));
    assert_eq!(until_it_fails(&mut greedy, "os.write(f, b'x' * 1000000)"), "EAGAIN");
    assert_eq!(until_it_fails(&mut greedy, "os.write(f, b'x')"), "EAGAIN");
    let used = mount.figure("status", "memory_used");
    assert!((7 << 20..=8 << 20).contains(&used), "{used}");
    assert_eq!(figure_of(&mut greedy, USER, "memory_used"), used);
    assert_eq!(figure_of(&mut greedy, USER, "memory_share"), 8 << 20);
    assert!(figure_of(&mut greedy, USER, "memory_refused") > 0);
    assert_eq!(other.ask(&format!("open('control/users/{USER}').read()")), "EACCES");
    assert_eq!(other.ask("os.write(f, b'x' * 1000000)"), "1000000");
    assert_eq!(other.ask("len(os.read(f, 1 << 20))"), "1000000");
    // Mailboxes that are not the greedy user's own work too, and a mailbox of both holds up only one.
    greedy.run(
        "os.close(os.open('mailboxes/both', os.O_CREAT | os.O_WRONLY)); os.chmod('mailboxes/both', 0o666)",
    );
    greedy.run("g = os.open('mailboxes/both', os.O_WRONLY | os.O_NONBLOCK)");
    assert_eq!(greedy.ask("os.write(g, b'x')"), "EAGAIN");
    other.run("g = os.open('mailboxes/both', os.O_RDWR | os.O_NONBLOCK)");
    assert_eq!(other.ask("os.write(g, b'y'), os.read(g, 9)"), "(1, b'y')");
    greedy.run("os.unlink('mailboxes/a')");
    assert_eq!(greedy.ask("os.write(g, b'x')"), "1");
}

#[test]
fn messages_in_hand_are_charged() {
    let Some((mount, mut greedy, mut other)) = shared(&["--memory", "16M"]) else { return };
    greedy.run(&format!("f = os.open('mailboxes/a', {MAIL}, 0o600); held = []"));
    greedy.run(
        "take = lambda: (os.write(f, b'x' * 1000000), held.append(os.open('mailboxes/a', os.O_RDONLY)), os.read(held[-1], 1))",
    );
    // The last one stays in the mailbox: there is no room to keep what its reader would leave.
    assert_eq!(until_it_fails(&mut greedy, "take()"), "ENOMEM");
    assert_eq!(greedy.ask("len(held)"), "9");
    other.run(&format!("f = os.open('mailboxes/b', {MAIL}, 0o600)"));
    assert_eq!(other.ask("os.write(f, b'x' * 1000000)"), "1000000");
    greedy.run("for fd in held: os.close(fd)");
    for peer in [&mut greedy, &mut other] {
        assert_eq!(peer.ask("len(os.read(f, 1 << 20))"), "1000000");
    }
    wait_for("all to be returned", || mount.figure("status", "memory_used") == 0);
}

#[test]
fn text_that_is_not_a_message_yet_is_charged() {
    let Some((_mount, mut greedy, mut other)) = shared(&["--memory", "16M"]) else { return };
    for peer in [&mut greedy, &mut other] {
        peer.run(&format!("u = str(os.getuid()); os.close(os.open('mailboxes/' + u, {MAIL}))"));
        peer.run("w = os.open('control/mailboxes/' + u + '/whole', os.O_WRONLY)");
    }
    assert_eq!(until_it_fails(&mut greedy, "os.write(w, b'x' * 1000000)"), "ENOMEM");
    assert_eq!(greedy.ask("n"), "8");
    assert_eq!(other.ask("os.write(w, b'x' * 1000000)"), "1000000");
}

#[test]
fn extended_attributes_are_charged() {
    let Some((mount, mut greedy, mut other)) = shared(&["--memory", "4M"]) else { return };
    greedy.run(
        "mark = lambda p: (os.close(os.open(p, os.O_CREAT | os.O_WRONLY)), os.setxattr(p, 'user.x', b'x' * 60000))",
    );
    assert_eq!(until_it_fails(&mut greedy, "mark('mailboxes/%d' % n)"), "ENOSPC");
    assert_eq!(greedy.ask("n"), "34");
    other.run(&format!("f = os.open('mailboxes/b', {MAIL}, 0o600)"));
    assert_eq!(other.ask("os.write(f, b'x' * 1000000)"), "1000000");
    greedy.run("for i in range(n + 1): os.unlink('mailboxes/%d' % i)");
    // The kernel forgets the files a little later.
    wait_for("the attributes to go", || mount.figure("status", "memory_used") == 1_000_200);
}

#[test]
fn files_segments_and_locks_have_shares() {
    let options = ["--max-files", "100", "--segment-memory", "1M", "--user-share", "30"];
    let Some((mount, mut greedy, mut other)) = shared(&options) else { return };
    greedy.run("s = os.open('segments/s', os.O_CREAT | os.O_RDWR)");
    assert_eq!(greedy.ask("os.ftruncate(s, 1 << 19)"), "ENOSPC");
    greedy.run("os.ftruncate(s, 300 << 10)");
    assert_eq!(greedy.ask("os.truncate('segments/s', 308 << 10)"), "ENOSPC");
    let make = "os.close(os.open('mailboxes/%d' % n, os.O_CREAT | os.O_WRONLY))";
    assert_eq!(until_it_fails(&mut greedy, make), "ENOSPC");
    assert_eq!(greedy.ask("n"), "29");
    assert_eq!(greedy.ask("os.mkdir('mailboxes/folder')"), "ENOSPC");
    greedy.run("import fcntl; boxes = [os.open('mailboxes/%d' % n, os.O_RDWR) for n in range(20)]");
    assert_eq!(
        until_it_fails(&mut greedy, "fcntl.lockf(boxes[n // 1000], fcntl.LOCK_EX, 1, 2 * n)"),
        "ENOLCK"
    );
    assert_eq!(greedy.ask("n"), (65_536 * 30 / 100).to_string());
    other.run("import fcntl; s = os.open('segments/other', os.O_CREAT | os.O_RDWR); os.ftruncate(s, 4096)");
    other.run("fcntl.lockf(s, fcntl.LOCK_EX)");
    greedy.run("[os.close(f) for f in [s, *boxes]] and os.unlink('segments/s')");
    assert_eq!(figure_of(&mut greedy, USER, "locks_used"), 0);
    assert_eq!(figure_of(&mut greedy, USER, "files_used"), 29);
    // close(2) does not wait for the daemon.
    wait_for("the segment to go", || figure_of(&mut greedy, USER, "segments_used") == 0);
    let users: Vec<_> = fs::read_dir(mount.path("control/users")).unwrap().collect();
    let users: Vec<_> = users.into_iter().map(|user| user.unwrap().file_name()).collect();
    assert!([USER, OTHER].iter().all(|uid| users.contains(&uid.to_string().into())), "{users:?}");
}

/// Linux 6.18 or later.
fn forgets_when_asked() -> bool {
    let uname = rustix::system::uname();
    let mut numbers = uname.release().to_str().unwrap().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0_u32);
    (next(), next()) >= (6, 18)
}

#[test]
fn names_that_were_looked_up_are_charged_and_do_not_stay() {
    let Some((mount, mut greedy, _other)) = shared(&[]) else { return };
    greedy.run(&format!("os.close(os.open('mailboxes/a', {MAIL}, 0o600))"));
    let before = mount.memory();
    // A name below a folder of doors, the doors of many mailboxes, and names that exist no more.
    greedy.run("stat = lambda p: os.stat('control/mailboxes/a/' + p)");
    greedy.run("for i in range(50000): stat('tag/%d' % i), stat('ttl/%ds' % (i + 1)), stat('from/%d' % i)");
    if forgets_when_asked() {
        wait_for("the kernel to forget", || figure_of(&mut greedy, USER, "texts_used") < 1 << 20);
        let more = mount.memory().saturating_sub(before);
        assert!(more < 20 << 20, "{more} bytes more after 150,000 look-ups");
    }
    // What is in use stays so.
    greedy.run(
        "held = [os.open('control/mailboxes/a/tag/%d' % i, os.O_RDWR | os.O_NONBLOCK) for i in range(300)]",
    );
    greedy.run("for i in range(5000): stat('tag/x%d' % i)");
    assert_eq!(greedy.ask("os.write(held[0], b'x'), os.read(held[0], 9)"), "(1, b'x')");
    assert!(figure_of(&mut greedy, USER, "texts_used") > 300 * 500);
    greedy.run("for fd in held: os.close(fd)");
}

#[test]
fn root_and_who_mounts_may_take_all() {
    let Some(mount) = common::mount_with(&["--memory", "4M", "--max-files", "10"]) else { return };
    for n in 0..10 {
        fs::write(mount.mailbox(&n.to_string()), "").unwrap();
    }
    assert_eq!(fs::write(mount.mailbox("more"), "").unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    for _ in 0..3 {
        fs::write(mount.mailbox("1"), vec![b'x'; 1_000_000]).unwrap();
    }
}

#[test]
fn a_bad_share_is_refused() {
    for bad in ["0", "101", "-1", "half", "1.5"] {
        let out = common::ipcfs().args(["mount", "--user-share", bad, "/nowhere"]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && said.contains("1 to 100"), "{bad}: {said}");
    }
}
