//! `control/`: it follows the other two folders at once, and its files take values or say why not.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown};

use rustix::io::Errno;

use super::{KINDS, create, errno, names, rename_with};
use crate::common;

/// What `control/` has for a mailbox.
const IN_A_MAILBOX: [&str; 19] = [
    "config",
    "delay",
    "error",
    "from",
    "json",
    "lease",
    "lease.json",
    "messages",
    "once",
    "peek",
    "priority",
    "purge",
    "rpc",
    "serve",
    "status",
    "stream",
    "tag",
    "ttl",
    "whole",
];

/// And for a segment.
const IN_A_SEGMENT: [&str; 6] = ["config", "error", "notify", "seal", "status", "wait"];

#[test]
fn control_follows_every_change_of_names_at_once() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let (dir, mirror) = (mount.path(kind), mount.path("control").join(kind));
        let same = |what: &str| {
            let all = |root: &std::path::Path| {
                let script = format!(
                    "cd {} && find . -mindepth 1 -name status -prune -o -mindepth 1 -print | sort",
                    root.display()
                );
                common::sh(&script)
            };
            let own = all(&dir);
            let mut mirrored: Vec<String> = all(&mirror).lines().map(String::from).collect();
            let inside = |line: &String| {
                let last = line.rsplit('/').next().unwrap_or_default();
                line.contains("/config/")
                    || last == "config"
                    || IN_A_MAILBOX.contains(&last)
                    || IN_A_SEGMENT.contains(&last)
            };
            mirrored.retain(|line| !inside(line));
            assert_eq!(mirrored, own.lines().collect::<Vec<_>>(), "{what}");
        };
        let at_first: &[&str] = if kind == "mailboxes" { &["config"] } else { &[] };
        assert_eq!(names(&mirror), at_first);
        fs::create_dir_all(dir.join("a/b")).unwrap();
        same("mkdir");
        create(&dir.join("one")).unwrap();
        create(&dir.join("a/b/two")).unwrap();
        same("create");
        assert!(mirror.join("a/b/two/status").is_file());
        let inside = match kind {
            "mailboxes" => &IN_A_MAILBOX[..],
            "segments" => &IN_A_SEGMENT,
            _ => &["config", "error", "status"],
        };
        assert_eq!(names(&mirror.join("one")), inside);
        fs::rename(dir.join("a/b"), dir.join("moved")).unwrap();
        same("rename of a folder");
        assert!(mirror.join("moved/two/config").is_dir() && !mirror.join("a/b").exists());
        fs::rename(dir.join("one"), dir.join("moved/two")).unwrap();
        same("rename over");
        rename_with(&dir.join("a"), &dir.join("moved"), rustix::fs::RenameFlags::EXCHANGE).unwrap();
        same("exchange");
        fs::remove_file(dir.join("a/two")).unwrap();
        same("remove");
        assert_eq!(errno(fs::metadata(mirror.join("a/two/status"))), Some(Errno::NOENT));
        fs::remove_dir(dir.join("a")).unwrap();
        same("rmdir");
    }
}

#[test]
fn control_is_changed_through_the_objects_only() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let below = mount.path("control/mailboxes/box");
    for path in [&below, &below.join("config"), &below.join("status"), &below.join("config/maxmsg")] {
        assert_eq!(
            errno(fs::set_permissions(path, fs::Permissions::from_mode(0o777))),
            Some(Errno::PERM),
            "{path:?}"
        );
        assert_eq!(errno(chown(path, Some(1), None)), Some(Errno::PERM), "{path:?}");
        assert!(fs::remove_file(path).is_err() && fs::remove_dir(path).is_err(), "{path:?}");
        assert_eq!(errno(fs::rename(path, mount.mailbox("x"))), Some(Errno::PERM), "{path:?}");
    }
    assert_eq!(errno(create(&below.join("maxmsg"))), Some(Errno::NOENT), "it is in config/");
    assert_eq!(errno(fs::create_dir(below.join("new"))), Some(Errno::PERM));
    assert!(errno(OpenOptions::new().write(true).open(below.join("status"))).is_some());
    assert_eq!(names(&below), IN_A_MAILBOX);
}

#[test]
fn a_setting_is_read_back_as_it_was_written() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("m", &[]);
    create(&mount.segment("s")).unwrap();
    assert_eq!(
        names(&mount.path("control/mailboxes/m/config")),
        [
            "dead_letter",
            "durable",
            "engine",
            "full",
            "lease_time",
            "max_deliver",
            "max_rounds",
            "maxbytes",
            "maxmsg",
            "msgsize",
            "once_window",
            "order",
            "remove",
            "ttl",
            "wholesize"
        ]
    );
    assert_eq!(names(&mount.path("control/segments/s/config")), ["lifetime", "size_max"]);
    for (file, initial, values) in [
        (
            "mailboxes/m/config/msgsize",
            "1044480\n",
            &[("1", "1\n"), ("64K\n", "65536\n"), (" 7 \n", "7\n")][..],
        ),
        ("mailboxes/m/config/maxmsg", "10000\n", &[("max", "max\n"), ("1\n", "1\n")]),
        ("mailboxes/m/config/maxbytes", "67108864\n", &[("1M", "1048576\n"), ("max\n", "max\n")]),
        (
            "mailboxes/m/config/full",
            "wait\n",
            &[("fail\n", "fail\n"), ("drop-oldest", "drop-oldest\n"), ("wait", "wait\n")],
        ),
        ("mailboxes/m/config/order", "priority\n", &[("fifo", "fifo\n"), ("priority\n", "priority\n")]),
        ("mailboxes/m/config/ttl", "max\n", &[("90s", "1m 30s\n"), ("5", "5s\n"), ("20ms", "20ms\n")]),
        ("mailboxes/m/config/lease_time", "max\n", &[("1h\n", "1h\n")]),
        ("mailboxes/m/config/max_deliver", "max\n", &[("1", "1\n"), ("3\n", "3\n")]),
        ("mailboxes/m/config/wholesize", "67108864\n", &[("1G", "1073741824\n")]),
        ("segments/s/config/size_max", "max\n", &[("0", "0\n"), ("2G", "2147483648\n")]),
        ("segments/s/config/lifetime", "keep\n", &[("last-close", "last-close\n"), ("keep", "keep\n")]),
    ] {
        let path = mount.path("control").join(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), initial, "{file}");
        for (value, shown) in values {
            fs::write(&path, value).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), *shown, "{file}");
        }
        let quoted = path.display();
        assert_eq!(common::sh(&format!("cat {quoted}")), values.last().unwrap().1);
        common::sh(&format!("echo {} > {quoted}; printf %s {} >> {quoted}", initial.trim(), initial.trim()));
        assert_eq!(fs::read_to_string(&path).unwrap(), initial);
    }
}

#[test]
fn a_value_that_cannot_be_taken_changes_nothing_and_is_explained() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("m", &[]);
    create(&mount.segment("s")).unwrap();
    for (object, file, value, why) in [
        ("mailboxes/m", "msgsize", "0", Errno::RANGE),
        ("mailboxes/m", "msgsize", "1044481", Errno::RANGE),
        ("mailboxes/m", "msgsize", "max", Errno::INVAL),
        ("mailboxes/m", "msgsize", "", Errno::INVAL),
        ("mailboxes/m", "msgsize", "ten", Errno::INVAL),
        ("mailboxes/m", "msgsize", "-1", Errno::INVAL),
        ("mailboxes/m", "maxmsg", "0", Errno::RANGE),
        ("mailboxes/m", "maxmsg", "1 2", Errno::INVAL),
        ("mailboxes/m", "maxmsg", "99999999999999999999", Errno::INVAL),
        ("mailboxes/m", "maxbytes", "1.5M", Errno::INVAL),
        ("mailboxes/m", "full", "explode", Errno::INVAL),
        ("mailboxes/m", "full", "WAIT", Errno::INVAL),
        ("segments/s", "size_max", "9223372036854775808", Errno::RANGE),
        ("segments/s", "lifetime", "forever", Errno::INVAL),
    ] {
        let (dir, error) =
            (mount.path("control").join(object), mount.path("control").join(object).join("error"));
        let path = dir.join("config").join(file);
        let before = fs::read_to_string(&path).unwrap();
        if value.is_empty() {
            // What an empty write is, no program can tell: write(2) of nothing never reaches a file.
            fs::write(&path, value).unwrap();
            fs::write(&path, "\n").unwrap_err();
        } else {
            assert_eq!(errno(fs::write(&path, value)), Some(why), "{file} {value}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "{file} {value}");
        let said = fs::read_to_string(&error).unwrap();
        assert!(
            said.starts_with(&format!("{file}: ")) && said.ends_with('\n') && said.lines().count() == 1,
            "{said}"
        );
        fs::write(&path, before).unwrap();
        assert_eq!(fs::read_to_string(&error).unwrap(), "", "a value that is taken clears it");
    }
    let path = mount.path("control/mailboxes/m/config/maxmsg");
    assert_eq!(errno(fs::write(&path, [0xff, 0xfe, b'\n'])), Some(Errno::INVAL), "not even text");
    assert!(fs::read_to_string(mount.path("control/mailboxes/m/error")).is_ok());
}

#[test]
fn control_files_say_who_may_write_them_and_how_long_they_may_be() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("m", &[]);
    let below = mount.path("control/mailboxes/m");
    chown(&path, Some(common::USER), Some(common::OTHER)).unwrap();
    for (file, mode) in
        [("status", 0o444), ("error", 0o444), ("config/maxmsg", 0o644), ("config/full", 0o644)]
    {
        let metadata = fs::metadata(below.join(file)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{file}");
        assert_eq!((metadata.uid(), metadata.gid()), (common::USER, common::OTHER), "{file}");
        let text = fs::read(below.join(file)).unwrap();
        assert!(metadata.len() >= text.len() as u64, "{file}");
    }
    let listed = common::sh(&format!("ls -ln {}", below.join("config").display()));
    for file in ["msgsize", "maxmsg", "maxbytes", "full"] {
        let line = listed.lines().find(|line| line.ends_with(&format!(" {file}"))).unwrap();
        assert!(line.starts_with("-rw-r--r-- 1 4711 4712"), "{line}");
    }
    let status = mount.path("control/status");
    assert!(fs::metadata(&status).unwrap().len() >= fs::read(&status).unwrap().len() as u64);
    assert!(errno(OpenOptions::new().write(true).open(status)).is_some());
}

#[test]
fn status_is_no_longer_than_stat_says_however_many_wait() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("m", &[]);
    let script = format!("for n in $(seq 150); do timeout 60 cat {} & done; wait", path.display());
    let mut readers = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    mount.wait_for_figure("m", "waiting_readers", 150);
    let status = mount.path("control/mailboxes/m/status");
    let text = fs::read_to_string(&status).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("waiting reader pid ")).count(), 150);
    assert!(fs::metadata(&status).unwrap().len() >= text.len() as u64);
    fs::remove_file(&path).unwrap();
    common::reap(&mut readers);
}

#[test]
fn a_control_file_read_in_pieces_is_one_text() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("m", &[]);
    let file = File::open(mount.path("control/mailboxes/m/status")).unwrap();
    let mut text = Vec::new();
    for (at, byte) in std::io::BufReader::with_capacity(1, &file).bytes().enumerate() {
        text.push(byte.unwrap());
        if at % 10 == 5 {
            fs::write(&path, "changes every figure meanwhile").unwrap();
        }
    }
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.starts_with("depth 0\nbytes 0\n") && text.contains("\nsent 0\n") && text.ends_with('\n'),
        "{text}"
    );
    let mut now = [0; 8];
    file.read_exact_at(&mut now[..7], 0).unwrap();
    assert_ne!(&now[..7], b"depth 0", "from the beginning again, it is the state of now");
    assert_eq!(file.read_at(&mut now, 1 << 20).unwrap(), 0);
}

#[test]
fn control_files_of_what_was_removed_fail_cleanly() {
    let Some(mount) = common::mount() else { return };
    for (object, config) in [("mailboxes/m", "maxmsg"), ("segments/s", "size_max")] {
        create(&mount.path(object)).unwrap();
        let below = mount.path("control").join(object);
        let mut status = File::open(below.join("status")).unwrap();
        let config =
            OpenOptions::new().read(true).write(true).open(below.join("config").join(config)).unwrap();
        let folder = File::open(&below).unwrap();
        fs::remove_file(mount.path(object)).unwrap();
        create(&mount.path(object)).unwrap();
        assert_eq!(errno(status.read(&mut [0; 100])), Some(Errno::NOENT), "not what has the name now");
        assert_eq!(errno(config.write_at(b"5", 0)), Some(Errno::NOENT));
        assert_eq!(
            errno(
                rustix::fs::accessat(
                    &folder,
                    "status",
                    rustix::fs::Access::READ_OK,
                    rustix::fs::AtFlags::empty()
                )
                .map_err(std::io::Error::from)
            ),
            Some(Errno::NOENT)
        );
        assert!(fs::read(below.join("status")).is_ok());
    }
}
