//! `config/`: what it takes and refuses, and that those who wait feel it at once.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;

use crate::common::{self, Mount};
use crate::tools::{BOTH, WRITE, aside, finish, open, receive_text, run, send, set, try_receive, try_send};
use crate::ways::side;

fn get(mount: &Mount, key: &str) -> String {
    fs::read_to_string(side(mount, "box", &format!("config/{key}"))).unwrap()
}

fn error(mount: &Mount) -> String {
    fs::read_to_string(side(mount, "box", "error")).unwrap()
}

fn try_set(mount: &Mount, key: &str, value: &[u8]) -> Result<usize, Errno> {
    rustix::io::write(open(&side(mount, "box", &format!("config/{key}")), WRITE), value)
}

#[test]
fn a_dead_letter_mailbox_is_named_by_its_exact_bytes() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[("max_deliver", "1")]);
    let file = side(&mount, "box", "config/dead_letter");
    let names = [
        &b"grave"[..],
        b" grave",
        b"grave ",
        b"grave\n",
        b"gr\nave",
        b"\xff\xfe",
        b" ",
        b"\n",
        b"\xe2\x80\x83",
    ];
    for name in names {
        let grave = mount.mailbox("").join(OsStr::from_bytes(name));
        fs::write(&grave, "buried before").unwrap();
        assert_eq!(fs::read(&grave).unwrap(), b"buried before");
        let value = [name, b"\n"].concat();
        assert_eq!(try_set(&mount, "dead_letter", &value), Ok(value.len()), "{}", name.escape_ascii());
        assert_eq!(fs::read(&file).unwrap(), value, "{}", name.escape_ascii());
        fs::write(mount.mailbox("box"), name).unwrap();
        let lease = open(&side(&mount, "box", "lease"), BOTH);
        let mut body = [0; 16];
        let length = rustix::io::read(&lease, &mut body).unwrap();
        assert_eq!(&body[..length], name);
        rustix::io::write(&lease, b"reject").unwrap();
        assert_eq!(fs::read(&grave).unwrap(), name, "{}", name.escape_ascii());
    }
    // Without the newline it is the same, unless the name ends with one.
    assert_eq!(try_set(&mount, "dead_letter", b"\xff\xfe"), Ok(2));
    assert_eq!(fs::read(&file).unwrap(), b"\xff\xfe\n");
    assert_eq!(try_set(&mount, "dead_letter", b"\xff\n"), Err(Errno::INVAL));
    assert_eq!(error(&mount), "dead_letter: there is no mailbox '\\xff'\n");
}

#[test]
fn values_read_back_in_one_form() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    mount.make_mailbox("grave", &[]);
    fs::create_dir(mount.mailbox("folder")).unwrap();
    mount.make_mailbox("folder/grave", &[]);
    for (key, first) in [
        ("msgsize", "1044480\n"),
        ("maxmsg", "10000\n"),
        ("maxbytes", "67108864\n"),
        ("full", "wait\n"),
        ("order", "priority\n"),
        ("ttl", "max\n"),
        ("lease_time", "max\n"),
        ("max_deliver", "max\n"),
        ("max_rounds", "max\n"),
        ("once_window", "2m\n"),
        ("remove", "guarded\n"),
        ("dead_letter", ""),
    ] {
        assert_eq!(get(&mount, key), first, "{key}");
    }
    for (key, value, shown) in [
        ("msgsize", "64K\n", "65536\n"),
        ("msgsize", "1", "1\n"),
        ("msgsize", "1044480\n", "1044480\n"),
        ("maxmsg", " 5 \n", "5\n"),
        ("maxmsg", "1K", "1024\n"),
        ("maxmsg", "max\n", "max\n"),
        ("maxbytes", "2M\n", "2097152\n"),
        ("maxbytes", "max", "max\n"),
        ("wholesize", "5M\n", "5242880\n"),
        ("full", "fail\n", "fail\n"),
        ("full", "drop-oldest", "drop-oldest\n"),
        ("order", "fifo", "fifo\n"),
        ("ttl", "90s\n", "1m 30s\n"),
        ("ttl", "10", "10s\n"),
        ("ttl", "1ms", "1ms\n"),
        ("lease_time", "1h 30m\n", "1h 30m\n"),
        ("lease_time", "max\n", "max\n"),
        ("max_deliver", "3\n", "3\n"),
        ("max_deliver", "max\n", "max\n"),
        ("max_rounds", "3\n", "3\n"),
        ("max_rounds", "max\n", "max\n"),
        ("once_window", "90\n", "1m 30s\n"),
        ("once_window", "2m\n", "2m\n"),
        ("remove", "empty\n", "empty\n"),
        ("remove", "any", "any\n"),
        ("dead_letter", "grave\n", "grave\n"),
        ("dead_letter", "folder/grave\n", "folder/grave\n"),
        ("dead_letter", "\n", ""),
    ] {
        assert_eq!(try_set(&mount, key, value.as_bytes()), Ok(value.len()), "{key} {value}");
        assert_eq!(get(&mount, key), shown, "{key} {value}");
        assert_eq!(error(&mount), "");
        // What it shows it takes.
        if !shown.is_empty() {
            assert_eq!(try_set(&mount, key, shown.as_bytes()), Ok(shown.len()), "{key} {shown}");
        }
        assert_eq!(get(&mount, key), shown, "{key}");
    }
}

#[test]
fn a_refused_value_changes_nothing_and_error_says_why() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    fs::create_dir(mount.mailbox("folder")).unwrap();
    fs::File::create(mount.segment("segment")).unwrap();
    let (invalid, range) = (Errno::INVAL, Errno::RANGE);
    for (key, value, errno, says) in [
        ("msgsize", &b"0\n"[..], range, "1 to 1044480 bytes"),
        ("msgsize", b"2M\n", range, "2097152 is out of range"),
        ("msgsize", b"max\n", invalid, "'max' is not a number of bytes"),
        ("msgsize", b"ten\n", invalid, "'ten' is not a number of bytes"),
        ("msgsize", b"\n", invalid, "'' is not a number"),
        ("msgsize", b"5 6\n", invalid, "'5 6' is not a number"),
        ("msgsize", b"\xff\xfe\n", invalid, "is not a number"),
        ("maxmsg", b"0", range, "1 or more messages, or max"),
        ("maxmsg", b"-1", invalid, "'-1' is not a number of messages"),
        ("maxmsg", b"1.5", invalid, "'1.5' is not a number of messages"),
        ("maxbytes", b"0", range, "1 or more bytes, or max"),
        ("wholesize", b"0", range, "wholesize: 0 is out of range"),
        ("wholesize", b"1T", range, "wholesize: 1099511627776 is out of range"),
        ("full", b"never", invalid, "full: 'never' is not one of wait, fail, drop-oldest"),
        ("order", b"lifo", invalid, "order: 'lifo' is not one of priority, fifo"),
        ("ttl", b"0", range, "1ms to 10years, or max"),
        ("ttl", b"20years", range, "1ms to 10years, or max"),
        ("ttl", b"soon", invalid, "ttl: 'soon' is not a duration"),
        ("ttl", b"-5s", invalid, "ttl: '-5s' is not a duration"),
        ("lease_time", b"0s", range, "lease_time: 0s is out of range"),
        ("max_deliver", b"0", range, "max_deliver: 0 is out of range"),
        ("max_rounds", b"0", range, "max_rounds: 0 is out of range: 1 to 4294967295 rounds, or max"),
        ("once_window", b"max", range, "once_window: there must be an end: 1ms to 10years"),
        ("max_deliver", b"4294967296", range, "1 to 4294967295 deliveries, or max"),
        ("dead_letter", b"nobody", invalid, "dead_letter: there is no mailbox 'nobody'"),
        ("dead_letter", b"folder", invalid, "dead_letter: there is no mailbox 'folder'"),
        ("dead_letter", b"folder/nobody", invalid, "dead_letter: there is no mailbox 'folder/nobody'"),
        ("dead_letter", b"segment", invalid, "dead_letter: there is no mailbox 'segment'"),
        ("dead_letter", b"../segments/segment", invalid, "dead_letter: there is no mailbox"),
        ("dead_letter", b"box", invalid, "dead_letter: a mailbox cannot be its own"),
    ] {
        let before = get(&mount, key);
        assert_eq!(try_set(&mount, key, value), Err(errno), "{key} {value:?}");
        assert!(error(&mount).contains(says), "{key} {value:?}: {}", error(&mount));
        assert!(error(&mount).starts_with(key) && error(&mount).lines().count() == 1, "{}", error(&mount));
        assert_eq!(get(&mount, key), before, "{key}");
    }
    set(&mount, "box", "maxmsg", "7");
    assert_eq!(error(&mount), "", "the next good one clears it");
    // As a shell tells it.
    let failed = run("echo 0 > \"$1\" || echo refused", side(&mount, "box", "config/maxmsg"));
    assert_eq!(failed, "refused\n");
    assert_eq!(error(&mount), "maxmsg: 0 is out of range: 1 or more messages, or max\n");
}

#[test]
fn a_long_value_is_refused_and_shown_in_part() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    for key in ["maxmsg", "full", "ttl", "dead_letter"] {
        for value in [vec![b'x'; 100_000], vec![0; 5000], vec![0xf0; 300_000]] {
            assert_eq!(try_set(&mount, key, &value), Err(Errno::INVAL), "{key}");
            assert!((10..2000).contains(&error(&mount).len()), "{key}: {}", error(&mount).len());
        }
    }
}

#[test]
fn more_room_lets_waiting_writers_in_at_once() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"0");
    let writers: Vec<_> = (1..=5)
        .map(|n| {
            let writer = open(&path, WRITE);
            let writer = aside(move || rustix::io::write(&writer, n.to_string().as_bytes()));
            mount.wait_for_figure("box", "waiting_writers", n);
            writer
        })
        .collect();
    set(&mount, "box", "maxmsg", "3");
    mount.wait_for_figure("box", "waiting_writers", 3);
    set(&mount, "box", "maxmsg", "2");
    assert_eq!(mount.figure("mailboxes/box/status", "depth"), 3, "lowering it loses nothing");
    set(&mount, "box", "maxmsg", "max");
    for writer in writers {
        assert_eq!(finish("a writer", writer), Ok(1));
    }
    assert_eq!(["0", "1", "2", "3", "4", "5"], [(); 6].map(|()| receive_text(&path)));
    set(&mount, "box", "maxbytes", "10");
    send(&path, b"12345678");
    let writer = open(&path, WRITE);
    let writer = aside(move || rustix::io::write(&writer, b"abc"));
    mount.wait_for_figure("box", "waiting_writers", 1);
    set(&mount, "box", "maxbytes", "11");
    assert_eq!(finish("a writer", writer), Ok(3));
}

#[test]
fn another_way_of_being_full_ends_the_wait_or_makes_room() {
    let Some(mount) = common::mount() else { return };
    for (how, result) in [("fail", Err(Errno::NOSPC)), ("drop-oldest", Ok(3))] {
        let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
        send(&path, b"old");
        let writer = open(&path, WRITE);
        let writer = aside(move || rustix::io::write(&writer, b"new"));
        mount.wait_for_figure("box", "waiting_writers", 1);
        set(&mount, "box", "full", how);
        assert_eq!(finish(how, writer), result);
        assert_eq!(receive_text(&path), if result.is_ok() { "new" } else { "old" });
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn sizes_hold_for_the_next_message() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"12345678");
    set(&mount, "box", "msgsize", "4");
    assert_eq!(try_send(&path, b"12345"), Err(Errno::MSGSIZE));
    assert_eq!(receive_text(&path), "12345678", "what waited is not cut");
    assert_eq!(try_send(&path, b"1234"), Ok(4));
    assert_eq!(fs::metadata(&path).unwrap().len(), 4);
    set(&mount, "box", "wholesize", "10");
    let whole = open(&side(&mount, "box", "whole"), WRITE);
    assert_eq!(rustix::io::write(&whole, b"1234567890"), Ok(10), "longer than msgsize");
    assert_eq!(rustix::io::write(&whole, b"1"), Err(Errno::MSGSIZE));
    assert_eq!(rustix::io::write(&whole, b"1"), Err(Errno::MSGSIZE), "and all of it is refused");
    drop(whole);
    assert_eq!(receive_text(&path), "1234");
    assert_eq!(try_receive(&path), Err(Errno::AGAIN), "no part of it was sent");
    set(&mount, "box", "wholesize", "3M");
    let long = crate::tools::noise(3 << 20, 5);
    let whole = open(&side(&mount, "box", "whole"), WRITE);
    for part in long.chunks(100_000) {
        assert_eq!(rustix::io::write(&whole, part), Ok(part.len()));
    }
    drop(whole);
    mount.wait_for_figure("box", "depth", 1);
    assert!(fs::read(&path).unwrap() == long, "and is received whole, in as many reads as it takes");
}

#[test]
fn settings_move_with_the_mailbox_and_so_does_the_one_for_the_dead() {
    let Some(mount) = common::mount() else { return };
    let path =
        mount.make_mailbox("old", &[("maxmsg", "7"), ("ttl", "1h"), ("full", "fail"), ("max_deliver", "1")]);
    mount.make_mailbox("grave", &[]);
    set(&mount, "old", "dead_letter", "grave");
    fs::create_dir(mount.mailbox("folder")).unwrap();
    fs::rename(&path, mount.mailbox("box")).unwrap();
    fs::rename(mount.mailbox("grave"), mount.mailbox("folder/tomb")).unwrap();
    assert!(!side(&mount, "old", "").exists());
    assert_eq!(
        ["maxmsg", "ttl", "full", "max_deliver", "dead_letter"].map(|key| get(&mount, key)),
        ["7\n", "1h\n", "fail\n", "1\n", "folder/tomb\n"]
    );
    send(&mount.mailbox("box"), b"poison");
    drop(crate::ways::lease(&mount, "box"));
    mount.wait_for_figure("folder/tomb", "depth", 1);
    // Another one of that name is another one.
    fs::remove_file(mount.mailbox("folder/tomb")).unwrap();
    mount.make_mailbox("folder/tomb", &[]);
    assert_eq!(get(&mount, "dead_letter"), "");
}

fn errno(result: std::io::Result<()>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

#[test]
fn a_folder_says_what_is_made_in_it_begins_with() {
    let Some(mount) = common::mount() else { return };
    let config = |folder: &str, key: &str| mount.path(&format!("control/mailboxes/{folder}config/{key}"));
    let value = |path: std::path::PathBuf| fs::read_to_string(path).unwrap();
    mount.make_mailbox("before", &[]);
    fs::create_dir(mount.mailbox("jobs")).unwrap();
    assert_eq!(value(config("jobs/", "maxmsg")), "10000\n");
    for (key, written) in
        [("maxmsg", "7"), ("full", "fail"), ("ttl", "1m"), ("order", "fifo"), ("msgsize", "64K")]
    {
        fs::write(config("jobs/", key), written).unwrap();
    }
    mount.make_mailbox("jobs/one", &[]);
    fs::create_dir(mount.mailbox("jobs/deep")).unwrap();
    mount.make_mailbox("jobs/deep/two", &[]);
    for mailbox in ["jobs/one/", "jobs/deep/", "jobs/deep/two/"] {
        let values =
            ["maxmsg", "full", "ttl", "order", "msgsize", "maxbytes"].map(|key| value(config(mailbox, key)));
        assert_eq!(values, ["7\n", "fail\n", "1m\n", "fifo\n", "65536\n", "67108864\n"], "{mailbox}");
    }
    assert_eq!(value(config("before/", "maxmsg")), "10000\n", "what was there before stays");
    fs::write(config("", "maxmsg"), "9").unwrap();
    mount.make_mailbox("after", &[]);
    assert_eq!(value(config("after/", "maxmsg")), "9\n");
    fs::rename(mount.mailbox("jobs/one"), mount.mailbox("one")).unwrap();
    assert_eq!(value(config("one/", "maxmsg")), "7\n", "a move changes no setting");
    let sent = (0..8).map_while(|n| fs::write(mount.mailbox("jobs/deep/two"), n.to_string()).ok());
    assert_eq!(sent.count(), 7, "and then it is full");
}

#[test]
fn a_folder_refuses_what_its_mailboxes_would_and_says_why() {
    let Some(mount) = common::mount() else { return };
    fs::create_dir(mount.mailbox("jobs")).unwrap();
    let config = mount.path("control/mailboxes/jobs/config");
    let mut names: Vec<_> = fs::read_dir(&config).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let settings = "durable engine full lease_time max_deliver max_rounds maxbytes maxmsg msgsize once_window order remove ttl wholesize";
    let mut expected: Vec<&str> = settings.split(' ').chain(["error"]).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let set = |key: &str, value: &str| rustix::io::write(open(&config.join(key), WRITE), value.as_bytes());
    assert_eq!(set("maxmsg", "none"), Err(Errno::INVAL));
    let why = fs::read_to_string(config.join("error")).unwrap();
    assert_eq!(why, "maxmsg: 'none' is not a number of messages (1 or more, or max; suffixes K, M, G, T)\n");
    assert_eq!(set("maxmsg", "3"), Ok(1));
    assert_eq!(fs::read_to_string(config.join("error")).unwrap(), "");
    // The name is the folder's own there, so no file has it.
    assert_eq!(errno(fs::write(mount.mailbox("jobs/config"), "x")), Some(Errno::INVAL));
    assert_eq!(errno(fs::create_dir(mount.mailbox("config"))), Some(Errno::INVAL));
    mount.make_mailbox("jobs/m", &[]);
    let renamed = fs::rename(mount.mailbox("jobs/m"), mount.mailbox("jobs/config"));
    assert_eq!(errno(renamed), Some(Errno::INVAL));
    assert!(!mount.path("control/topics/config").exists() && !mount.path("control/segments/config").exists());
    fs::write(mount.segment("config"), "any name").unwrap();
    fs::remove_file(mount.mailbox("jobs/m")).unwrap();
    fs::remove_dir(mount.mailbox("jobs")).unwrap();
    assert!(!config.exists());
}
