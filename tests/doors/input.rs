//! What nobody should write, name or open, and that the daemon is none the worse for it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::common::{self, Mount, wait_for};
use crate::tools::{BOTH, NOWAIT, READ, WRITE, open, read, receive_text, run, send, try_receive};
use crate::ways::{READERS, WRITERS, feed, side};

fn try_open(path: &std::path::Path, flags: OFlags) -> Result<(), Errno> {
    rustix::fs::open(path, flags, Mode::from(0o600)).map(drop)
}

#[test]
fn a_number_that_is_none_names_no_door() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    for (name, errno) in [
        ("priority/99999999", Errno::RANGE),
        ("priority/32768", Errno::RANGE),
        ("priority/99999999999999999999999", Errno::RANGE),
        ("priority/abc", Errno::INVAL),
        ("priority/-1", Errno::INVAL),
        ("priority/+1", Errno::INVAL),
        ("priority/01", Errno::INVAL),
        ("priority/1.0", Errno::INVAL),
        ("priority/ 1", Errno::INVAL),
        ("from/4294967296", Errno::RANGE),
        ("from/root", Errno::INVAL),
        ("from/", Errno::ISDIR),
    ] {
        assert_eq!(try_open(&side(&mount, "box", name), WRITE), Err(errno), "{name}");
    }
    assert_eq!(try_open(&side(&mount, "box", "priority/32767"), WRITE), Ok(()));
    assert_eq!(try_open(&side(&mount, "box", "from/4294967295"), READ), Ok(()));
    assert_eq!(try_open(&side(&mount, "box", "stream/x"), WRITE), Err(Errno::NOTDIR));
    assert_eq!(try_open(&side(&mount, "box", "priority/1/x"), WRITE), Err(Errno::NOTDIR));
    assert_eq!(try_open(&side(&mount, "box", "nothing"), READ), Err(Errno::NOENT));
    // They are entered, not listed: there are too many.
    for folder in ["priority", "tag", "from"] {
        assert_eq!(fs::read_dir(side(&mount, "box", folder)).unwrap().count(), 0);
    }
}

#[test]
fn any_name_is_a_tag_up_to_its_bound() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let tag = |name: &[u8]| side(&mount, "box", "tag").join(OsStr::from_bytes(name));
    let long = [b'x'; 256];
    let names: [&[u8]; 8] = [
        &long[..255],
        b"\xff\xfe\x80",
        b"a\nb",
        b" ",
        b"...",
        b"\x01",
        "\u{65e5}\u{672c}".as_bytes(),
        b"'\"$(`\\",
    ];
    for name in names {
        send(&tag(name), b"mine");
        send(&tag(b"other"), b"other");
        let number = crate::ways::numbers(&side(&mount, "box", "messages"))[0];
        let message = side(&mount, "box", &format!("messages/{number}"));
        let mut value = [0; 300];
        let length = rustix::fs::getxattr(&message, "user.ipcfs.tag", &mut value).unwrap();
        assert_eq!(&value[..length], name);
        let reader = open(&tag(name), READ | NOWAIT);
        assert_eq!(read(&reader, 99), Ok(b"mine".to_vec()));
        assert_eq!((read(&reader, 99), read(&reader, 99)), (Ok(vec![]), Err(Errno::AGAIN)));
        assert_eq!(receive_text(&path), "other");
    }
    assert_eq!(try_open(&tag(&long), WRITE), Err(Errno::NAMETOOLONG));
    // What is no UTF-8, JSON shows in base64.
    send(&tag(b"a\xffb"), b"\xff\x00");
    let json = run("head -n 1 \"$1\"", side(&mount, "box", "json"));
    assert!(json.contains("\"tag_base64\":\"Yf9i\"") && json.contains("\"body_base64\":\"/wA=\""), "{json}");
}

#[test]
fn nothing_can_be_made_moved_or_removed_in_control() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    mount.make_mailbox("other", &[]);
    let folders = ["", "config", "messages", "priority", "tag", "from"];
    for folder in folders.map(|folder| side(&mount, "box", folder)) {
        assert!(fs::create_dir(folder.join("new")).is_err(), "{folder:?}");
        assert!(rustix::fs::symlink("x", folder.join("new")).is_err(), "{folder:?}");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.join("new"),
            FileType::RegularFile,
            Mode::from(0o600),
            0,
        );
        // A tag is there already.
        assert!(made.is_err(), "{folder:?}");
        assert!(fs::remove_dir(&folder).is_err(), "{folder:?}");
    }
    for file in [
        "status",
        "error",
        "config/maxmsg",
        "stream",
        "whole",
        "peek",
        "lease",
        "priority/1",
        "tag/x",
        "from/0",
    ] {
        let path = side(&mount, "box", file);
        assert!(fs::remove_file(&path).is_err(), "{file}");
        for to in [
            path.with_file_name("new"),
            side(&mount, "other", file),
            mount.mailbox("new"),
            side(&mount, "box", "status"),
        ] {
            if to != path {
                assert!(fs::rename(&path, &to).is_err(), "{file} to {to:?}");
            }
            let exchange = rustix::fs::renameat_with(
                rustix::fs::CWD,
                &path,
                rustix::fs::CWD,
                &to,
                RenameFlags::EXCHANGE,
            );
            assert!(exchange.is_err() || to == path, "{file} with {to:?}");
        }
        assert!(fs::hard_link(&path, mount.mailbox("link")).is_err(), "{file}");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        assert!(fs::set_permissions(&path, mode).is_err(), "{file}");
        assert!(std::os::unix::fs::chown(&path, Some(1), None).is_err(), "{file}");
        assert!(path.exists(), "{file}");
    }
    assert!(fs::rename(mount.mailbox("other"), side(&mount, "box", "tag/x")).is_err());
    assert!(fs::write(side(&mount, "box", "config/new"), "1").is_err());
    assert!(fs::write(side(&mount, "box", "status"), "1").is_err());
    assert_eq!(fs::read_dir(mount.path("mailboxes")).unwrap().count(), 2);
}

#[test]
fn doors_of_a_removed_mailbox_lead_nowhere() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let folder = rustix::fs::open(side(&mount, "box", ""), OFlags::PATH, Mode::empty()).unwrap();
    let tags = rustix::fs::open(side(&mount, "box", "tag"), OFlags::PATH, Mode::empty()).unwrap();
    let opened = rustix::fs::open(side(&mount, "box", "stream"), OFlags::PATH, Mode::empty()).unwrap();
    fs::remove_file(&path).unwrap();
    for name in READERS.into_iter().chain(WRITERS).chain(["status", "messages", "config/maxmsg"]) {
        let error = rustix::fs::openat(&folder, name, READ, Mode::empty()).unwrap_err();
        assert!([Errno::NOENT, Errno::STALE].contains(&error), "{name}: {error}");
    }
    assert!(rustix::fs::openat(&tags, "x", WRITE, Mode::empty()).is_err());
    // Found before the removal, opened after it: open, and told so.
    let by_fd = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened)));
    if let Ok(late) = rustix::fs::open(by_fd, READ | NOWAIT, Mode::empty()) {
        assert_eq!(read(&late, 9), Err(Errno::IDRM));
    }
}

/// What the daemon has of the system.
fn of_daemon(mount: &Mount) -> (usize, u64) {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap().count();
    (descriptors, mount.memory() / 1024)
}

/// Opens and abandons doors of every kind, with something begun through many of them.
fn ten_thousand_doors(mount: &Mount) {
    let doors = ["stream", "whole", "lease", "rpc", "serve", "json", "peek"];
    for n in 0..10_000 {
        let name = match n % 10 {
            7 => format!("tag/{n}"),
            8 => format!("priority/{n}"),
            9 => format!("from/{n}"),
            kind => doors[kind].to_owned(),
        };
        let flags = match n % 10 {
            0..=1 | 8 => WRITE,
            2..=4 | 7 => BOTH,
            _ => READ,
        };
        let file = open(&side(mount, "box", &name), flags | NOWAIT);
        match n % 10 {
            2 => assert_eq!(read(&file, 9), Err(Errno::AGAIN)),
            // The question before may be there still: close(2) does not wait for the daemon.
            4 => assert!(matches!(read(&file, 9), Ok(_) | Err(Errno::AGAIN))),
            3 => assert_eq!(rustix::io::write(&file, b"question"), Ok(8)),
            _ => {}
        }
    }
}

#[test]
fn ten_thousand_doors_opened_and_abandoned_leave_the_daemon_as_it_was() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    // Once, for what is taken once.
    ten_thousand_doors(&mount);
    let (descriptors, before) = of_daemon(&mount);
    (0..3).for_each(|_| ten_thousand_doors(&mount));
    wait_for("the requests to be withdrawn", || mount.figure("mailboxes/box/status", "requests") == 0);
    let (now, after) = of_daemon(&mount);
    // A thread that serves a ring opens a file of /proc when it first does so.
    let rings = std::thread::available_parallelism().unwrap().get();
    assert!(now <= descriptors + rings, "{descriptors}, then {now}");
    // Less than 64 bytes for each; and entries of io_uring keep a page or two each, however many were in use at once.
    assert!(after < before + 1_900, "{before} KiB, then {after} KiB");
    mount.wait_for_free_memory();
    assert_eq!(try_receive(&path), Err(Errno::AGAIN), "nothing was sent");
    drop(feed(&mount, "box", "stream"));
    assert_eq!(receive_text(&path), "hello\n");
}

#[test]
fn the_names_of_a_mailboxs_doors_go_with_it() {
    let Some(mount) = common::mount() else { return };
    let mut taken = Vec::new();
    for round in 0..6 {
        let path = mount.make_mailbox("box", &[]);
        for n in 0..5000 {
            drop(open(&side(&mount, "box", &format!("tag/{round}-{n}")), WRITE));
        }
        fs::remove_file(path).unwrap();
        // Whoever looks next makes the kernel forget what was there.
        assert!(!side(&mount, "box", "").exists());
        taken.push(of_daemon(&mount).1);
    }
    // Far less than a hundred bytes for each of the last 20,000.
    assert!(taken[5] < taken[1] + 1024, "{taken:?} KiB");
}
