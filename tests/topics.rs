//! Topics through a real mount: every reader gets its own copy of what is sent while it has the topic open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::peer::Peer;
use common::{Mount, reap, sh, state_of, wait_for};
use rustix::process::Signal;

fn topic(mount: &Mount, name: &str) -> PathBuf {
    let path = mount.path("topics").join(name);
    File::create(&path).unwrap();
    path
}

fn figure(mount: &Mount, name: &str, key: &str) -> u64 {
    mount.figure(&format!("topics/{name}/status"), key)
}

fn wait_for_readers(mount: &Mount, name: &str, waiting: u64) {
    wait_for("readers to wait", || figure(mount, name, "waiting_readers") == waiting);
}

#[test]
fn every_reader_that_waits_gets_the_message() {
    let Some(mount) = common::mount() else { return };
    let path = topic(&mount, "news");
    let readers: Vec<_> =
        (0..5).map(|_| Command::new("cat").arg(&path).stdout(Stdio::piped()).spawn().unwrap()).collect();
    wait_for_readers(&mount, "news", 5);
    sh(&format!("echo hello > {}", path.display()));
    for reader in readers {
        assert_eq!(common::output(reader).stdout, b"hello\n", "one message, and the end of file");
    }
    assert_eq!(figure(&mount, "news", "readers"), 0);
}

#[test]
fn a_reader_gets_what_is_sent_since_it_opened_and_a_writer_needs_none() {
    let Some(mount) = common::mount() else { return };
    let path = topic(&mount, "news");
    fs::write(&path, "before").unwrap();
    let mut early = File::open(&path).unwrap();
    fs::write(&path, "first").unwrap();
    let mut late = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    fs::write(&path, "second").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(late.read(&mut buffer).unwrap(), 6, "a stream of whole messages");
    assert_eq!(&buffer[..6], b"second");
    for expected in ["first", "second"] {
        let mut text = String::new();
        early.read_to_string(&mut text).unwrap();
        assert_eq!(text, expected, "a file of one message at a time");
    }
    late.write_all(b"own").unwrap();
    assert_eq!(late.read(&mut buffer).unwrap(), 3, "a writer who reads hears itself");
    assert_eq!((figure(&mount, "news", "sent"), figure(&mount, "news", "unheard")), (4, 1));
}

#[test]
fn a_reader_that_falls_behind_misses_the_oldest_and_status_says_so() {
    let Some(mount) = common::mount() else { return };
    let path = topic(&mount, "news");
    fs::write(mount.path("control/topics/news/config/backlog"), "3\n").unwrap();
    let mut slow = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    for n in 0..10 {
        fs::write(&path, n.to_string()).unwrap();
    }
    let status = fs::read_to_string(mount.path("control/topics/news/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("reader ")).unwrap();
    assert!(line.ends_with("backlog 3 dropped 7"), "{status}");
    let mut buffer = [0; 8];
    for expected in [b"7", b"8", b"9"] {
        assert_eq!(slow.read(&mut buffer).unwrap(), 1);
        assert_eq!(&buffer[..1], expected);
    }
    drop(slow);
    mount.wait_for_free_memory();
}

#[test]
fn a_backlog_is_bounded_and_the_refusal_says_by_what() {
    let Some(mount) = common::mount() else { return };
    topic(&mount, "news");
    let config = mount.path("control/topics/news/config");
    for (file, value) in [("backlog", "0"), ("msgsize", "2M")] {
        assert_eq!(fs::write(config.join(file), value).unwrap_err().raw_os_error(), Some(34), "ERANGE");
        let why = fs::read_to_string(mount.path("control/topics/news/error")).unwrap();
        assert!(why.starts_with(&format!("{file}: ")) && why.contains("out of range"), "{why}");
    }
    assert_eq!(fs::read_to_string(config.join("backlog")).unwrap(), "1000\n");
    fs::write(config.join("msgsize"), "4").unwrap();
    let error = fs::write(mount.path("topics/news"), "12345").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(90), "EMSGSIZE");
}

#[test]
fn a_reader_that_waits_is_interrupted_killed_and_told_of_removal() {
    let Some(mount) = common::mount() else { return };
    let (Some(mut signalled), Some(mut killed), Some(mut told)) =
        (Peer::start(), Peer::start(), Peer::start())
    else {
        return;
    };
    let path = topic(&mount, "news");
    for peer in [&mut signalled, &mut killed, &mut told] {
        peer.open("fd", &path, "O_RDONLY");
        peer.tell("os.read(fd, 100)");
    }
    wait_for_readers(&mount, "news", 3);
    signalled.signal(Signal::USR1);
    assert_eq!(signalled.answer(), "Signalled()");
    killed.kill();
    wait_for_readers(&mount, "news", 1);
    fs::remove_file(&path).unwrap();
    assert_eq!(told.answer(), "EIDRM");
    assert_eq!(told.ask("os.read(fd, 100)"), "EIDRM");
}

#[test]
fn those_who_poll_are_woken() {
    let Some(mount) = common::mount() else { return };
    let (Some(mut one), Some(mut other)) = (Peer::start(), Peer::start()) else { return };
    let path = topic(&mount, "news");
    for peer in [&mut one, &mut other] {
        peer.open("fd", &path, "O_RDONLY | os.O_NONBLOCK");
        assert_eq!(peer.ask("os.read(fd, 100)"), "EAGAIN");
        assert_eq!(peer.ask("select.select([fd], [], [], 0)"), "([], [], [])");
        peer.tell("[len(part) for part in select.select([fd], [], [], 60)]");
        let pid = peer.pid();
        wait_for("the poller to sleep", || state_of(pid) == Some('S'));
    }
    fs::write(&path, "x").unwrap();
    for peer in [&mut one, &mut other] {
        assert_eq!(peer.answer(), "[1, 0, 0]");
        assert_eq!(peer.ask("os.read(fd, 100)"), "b'x'");
    }
}

#[test]
fn who_may_send_and_who_may_listen_is_a_matter_of_modes() {
    let Some(mount) = common::mount_with(&["--allow-other"]) else { return };
    let Some(mut user) = Peer::start_as(common::USER) else { return };
    let path = topic(&mount, "news");
    for (mode, listen, send) in [(0o622, "EACCES", "1"), (0o644, "3", "EACCES"), (0o600, "EACCES", "EACCES")]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let opened = |flags| {
            format!(
                "os.close(os.open({:?}, os.{flags})) or {}",
                path,
                if flags == "O_RDONLY" { 3 } else { 1 }
            )
        };
        assert_eq!(user.ask(&opened("O_RDONLY")), listen, "{mode:o}");
        assert_eq!(user.ask(&opened("O_WRONLY")), send, "{mode:o}");
    }
}

#[test]
fn all_copies_arrive_in_order_from_many_writers() {
    const EACH: usize = 500;
    let Some(mount) = common::mount() else { return };
    let path = topic(&mount, "news");
    fs::write(mount.path("control/topics/news/config/backlog"), "max").unwrap();
    let mut readers: Vec<_> =
        (0..3).map(|_| OpenOptions::new().read(true).write(true).open(&path).unwrap()).collect();
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let script = format!("for n in $(seq {EACH}); do echo {writer} $n; done > {}", path.display());
            // bash writes its builtins' output line by line.
            Command::new("bash").arg("-c").arg(script).spawn().unwrap()
        })
        .collect();
    for mut writer in writers {
        assert!(reap(&mut writer).success());
    }
    for reader in &mut readers {
        let mut last = [0; 3];
        let mut buffer = [0; 64];
        for _ in 0..3 * EACH {
            let length = reader.read(&mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer[..length]).unwrap().trim_end();
            let (writer, n) = text.split_once(' ').unwrap();
            let (writer, n): (usize, usize) = (writer.parse().unwrap(), n.parse().unwrap());
            assert_eq!(n, last[writer] + 1);
            last[writer] = n;
        }
        assert_eq!(last, [EACH; 3]);
    }
    assert_eq!(figure(&mount, "news", "dropped"), 0);
}

#[test]
fn it_moves_and_goes_like_any_file_and_control_follows() {
    let Some(mount) = common::mount() else { return };
    let path = topic(&mount, "news");
    let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    fs::create_dir(mount.path("topics/team")).unwrap();
    let moved = mount.path("topics/team/news");
    fs::rename(&path, &moved).unwrap();
    fs::write(&moved, "still").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(reader.read(&mut buffer).unwrap(), 5);
    assert!(mount.path("control/topics/team/news/status").is_file());
    assert_eq!(fs::rename(&moved, mount.mailbox("x")).unwrap_err().raw_os_error(), Some(18), "EXDEV");
    fs::remove_file(&moved).unwrap();
    assert!(!mount.path("control/topics/team/news").exists());
    assert_eq!(reader.write(b"x").unwrap_err().raw_os_error(), Some(43), "EIDRM");
}
