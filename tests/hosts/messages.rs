//! `messages/` of shared mailboxes: what waits, one by one.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use rustix::io::Errno;

use super::common::{self, Mount, sh, wait_for};
use super::servers::servers;
use super::{appears, error_of, make, nonblocking, received, send, share, two_hosts};

fn messages(mount: &Mount, mailbox: &str) -> PathBuf {
    mount.path(&format!("control/mailboxes/shared/{mailbox}/messages"))
}

/// What waits, in the order of the listing.
fn listed(mount: &Mount, mailbox: &str) -> Vec<u64> {
    let names = fs::read_dir(messages(mount, mailbox)).unwrap();
    names.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// The servers say what waits.
fn answers(mount: &Mount, mailbox: &str) -> bool {
    fs::read_dir(messages(mount, mailbox)).unwrap().all(|entry| entry.is_ok())
}

/// Their texts.
fn texts(mount: &Mount, mailbox: &str) -> Vec<String> {
    let folder = messages(mount, mailbox);
    let listed = listed(mount, mailbox).into_iter();
    listed.map(|number| fs::read_to_string(folder.join(number.to_string())).unwrap()).collect()
}

fn lease(mount: &Mount) -> File {
    let path = mount.path("control/mailboxes/shared/q/lease");
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn read(file: &mut File) -> String {
    let mut buffer = [0; 99];
    let length = file.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn is_empty(path: &std::path::Path) -> bool {
    error_of(nonblocking(path, false).read(&mut [0; 9])) == Some(Errno::AGAIN)
}

#[test]
fn what_waits_is_seen_on_all_hosts_and_stays() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    assert!(listed(&there, "q").is_empty());
    let long = "x".repeat(1_044_480);
    for text in ["one", "two", &long] {
        send(&sends, text);
    }
    for mount in [&here, &there] {
        assert!(texts(mount, "q") == ["one", "two", &long]);
    }
    let first = messages(&there, "q").join(listed(&there, "q")[0].to_string());
    let meta = fs::metadata(&first).unwrap();
    assert_eq!((meta.len(), meta.uid(), meta.mode() & 0o777), (3, 0, 0o444));
    assert!(meta.modified().unwrap().elapsed().unwrap().as_secs() < 3600);
    if common::have("python3") {
        let show = "import os,sys\nfor name in sorted(os.listxattr(sys.argv[1])): print(name, os.getxattr(sys.argv[1], name).decode())";
        let shown = sh(&format!("python3 -c '{show}' {}", first.display()));
        let pid = std::process::id();
        assert!(shown.contains("user.ipcfs.id 1\n") && shown.contains("user.ipcfs.uid 0\n"), "{shown}");
        // A thread has sent it.
        assert!(shown.contains("user.ipcfs.pid ") && pid > 0, "{shown}");
    }
    // Nothing was taken.
    for text in ["one", "two", &long] {
        assert!(fs::read_to_string(&receives).unwrap() == *text);
    }
    wait_for("all to be acknowledged", || listed(&here, "q").is_empty());
    assert_eq!(error_of(fs::read(&first)), Some(Errno::NOENT));
    let wrong = messages(&here, "q").join("x");
    assert_eq!(error_of(fs::read(wrong)), Some(Errno::NOENT));
}

#[test]
fn a_removed_message_comes_to_nobody() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    for text in ["one", "two", "three"] {
        send(&sends, text);
    }
    let second = messages(&there, "q").join(listed(&there, "q")[1].to_string());
    fs::remove_file(&second).unwrap();
    assert_eq!(error_of(fs::remove_file(&second)), Some(Errno::NOENT));
    assert_eq!(texts(&here, "q"), ["one", "three"]);
    assert_eq!((received(&receives), received(&receives)), ("one".into(), "three".into()));
    assert!(is_empty(&receives));
    assert_eq!(there.figure("mailboxes/shared/q/status", "removed"), 1);
}

#[test]
fn purge_removes_what_is_like_it_and_tells_how_many() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let door = |name: &str| there.path(&format!("control/mailboxes/shared/q/{name}"));
    let purge = |what: &str| {
        let mut file = OpenOptions::new().read(true).write(true).open(door("purge")).unwrap();
        file.write_all(what.as_bytes()).unwrap();
        read(&mut file)
    };
    for number in 0..3 {
        send(&sends, &number.to_string());
        fs::write(door("tag/red"), "red").unwrap();
        fs::write(door("priority/3"), "high").unwrap();
    }
    assert_eq!(
        (purge("tag red\n"), purge("from 7"), purge("older 1h")),
        ("3\n".into(), "0\n".into(), "0\n".into())
    );
    assert_eq!(texts(&here, "q"), ["0", "high", "1", "high", "2", "high"]);
    assert_eq!((purge("older 1ms"), purge("all")), ("6\n".into(), "0\n".into()));
    send(&sends, "last");
    assert_eq!((purge("from 0"), purge("all")), ("1\n".into(), "0\n".into()));
    let wrong = OpenOptions::new().write(true).open(door("purge")).unwrap().write(b"some");
    assert_eq!(error_of(wrong), Some(Errno::INVAL));
    assert!(is_empty(&receives));
    assert_eq!(there.figure("mailboxes/shared/q/status", "removed"), 10);
}

/// The servers do not tell who has it.
#[test]
fn a_message_in_hand_is_listed_and_if_it_is_removed_its_reader_has_it_and_nobody_else() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    for settle in ["ack", "nack", ""] {
        send(&sends, "job");
        let mut worker = lease(&here);
        assert_eq!(read(&mut worker), "job");
        assert_eq!(texts(&there, "q"), ["job"]);
        let file = messages(&there, "q").join(listed(&there, "q")[0].to_string());
        fs::remove_file(&file).unwrap();
        assert!(listed(&there, "q").is_empty());
        worker.write_all(settle.as_bytes()).unwrap();
        drop(worker);
        assert!(is_empty(&receives), "{settle}");
        // What is sent after it comes.
        send(&sends, "next");
        assert_eq!(received(&receives), "next");
    }
}

#[test]
fn a_message_is_moved_to_another_shared_mailbox() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let (other, _) = make(&here, &there, "other");
    fs::create_dir(here.mailbox("shared/small")).unwrap();
    let small = here.path("control/mailboxes/shared/small/config");
    fs::write(small.join("maxmsg"), "1").unwrap();
    make(&here, &there, "small/q");
    fs::write(small.join("msgsize"), "2").unwrap();
    make(&here, &there, "small/short");
    File::create(here.mailbox("own")).unwrap();
    for text in ["one", "two", "three"] {
        send(&sends, text);
    }
    let numbers = listed(&here, "q");
    let mv = |number: u64, to: PathBuf| {
        fs::rename(messages(&here, "q").join(number.to_string()), to.join(number.to_string()))
    };
    mv(numbers[1], messages(&here, "other")).unwrap();
    assert_eq!(error_of(mv(numbers[1], messages(&here, "other"))), Some(Errno::NOENT));
    assert_eq!(
        (texts(&there, "q"), texts(&there, "other")),
        (vec!["one".into(), "three".into()], vec!["two".into()])
    );
    // As sent by whoever has sent it.
    let moved = messages(&there, "other").join(listed(&there, "other")[0].to_string());
    assert_eq!(fs::metadata(moved).unwrap().uid(), 0);
    // What cannot be moved stays.
    mv(numbers[0], messages(&here, "small/q")).unwrap();
    assert_eq!(error_of(mv(numbers[2], messages(&here, "small/q"))), Some(Errno::NOSPC));
    assert_eq!(error_of(mv(numbers[2], messages(&here, "small/short"))), Some(Errno::MSGSIZE));
    let own = here.path("control/mailboxes/own/messages");
    assert_eq!(error_of(mv(numbers[2], own)), Some(Errno::OPNOTSUPP));
    let out = messages(&here, "q").join("9");
    let renamed = fs::rename(messages(&here, "q").join(numbers[2].to_string()), out);
    assert_eq!(error_of(renamed), Some(Errno::PERM));
    assert_eq!((received(&receives), received(&other)), ("three".into(), "two".into()));
    assert!(is_empty(&receives));
    let moved = |name: &str, key: &str| here.figure(&format!("mailboxes/shared/{name}/status"), key);
    assert_eq!((moved("q", "moved_out"), moved("other", "moved_in")), (2, 1));
}

#[test]
fn many_messages_are_listed_each_once_also_where_many_are_missing() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let stream = here.path("control/mailboxes/shared/q/stream");
    sh(&format!("seq 1500 > {}", stream.display()));
    wait_for("all to be there", || listed(&there, "q").len() == 1500);
    assert_eq!(listed(&there, "q"), (1..=1500).collect::<Vec<_>>());
    // One is in hand, and those behind it are received.
    let mut worker = lease(&here);
    assert_eq!(read(&mut worker), "1\n");
    let mut reader = File::open(&stream).unwrap();
    for (last, missing) in [(600, 599), (1300, 1299)] {
        while read(&mut reader) != format!("{last}\n") {}
        wait_for("all to be acknowledged", || listed(&there, "q").len() == 1500 - missing);
        let expected: Vec<u64> = std::iter::once(1).chain(last + 1..=1500).collect();
        assert_eq!(listed(&there, "q"), expected);
    }
}

#[test]
fn who_may_look_is_who_may_receive() {
    let Some((servers, here, _there)) = two_hosts() else { return };
    let open = servers.mount_with(&["--allow-other"]);
    fs::set_permissions(open.dir().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let (sends, seen) = make(&here, &open, "q");
    send(&sends, "secret");
    let folder = messages(&open, "q");
    let as_user = |command: &str, mode: u32| {
        fs::set_permissions(&seen, fs::Permissions::from_mode(mode)).unwrap();
        let mut user = std::process::Command::new("sh");
        user.args(["-c", command]).uid(common::USER).gid(common::USER).stderr(std::process::Stdio::null());
        user.stdout(std::process::Stdio::null()).status().unwrap().success()
    };
    let (look, remove) = (format!("cat {}/1", folder.display()), format!("rm -f {}/1", folder.display()));
    assert!(!as_user(&look, 0o602) && as_user(&look, 0o604));
    assert!(!as_user(&remove, 0o604) && as_user(&remove, 0o606));
}

#[test]
fn without_a_connection_messages_cannot_be_reached() {
    let Some((mut servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    send(&sends, "one");
    servers.kill(0);
    wait_for("the connection to be lost", || {
        fs::read_to_string(there.path("control/status")).unwrap().contains("engine reconnecting")
    });
    let (folder, first) = (messages(&there, "q"), messages(&there, "q").join("1"));
    let all = fs::read_dir(&folder).unwrap().next().unwrap();
    for result in [all.map(drop), fs::read(&first).map(drop), fs::remove_file(&first)] {
        assert_eq!(error_of(result), Some(Errno::HOSTUNREACH));
    }
    servers.run(0);
    wait_for("the connection to be back", || {
        fs::read_to_string(there.path("control/status")).unwrap().contains("engine connected")
    });
    wait_for("the server to answer", || answers(&there, "q"));
    assert_eq!(texts(&there, "q"), ["one"]);
    assert_eq!(received(&receives), "one");
}

/// Whoever moves a message tries again until it is moved.
#[test]
fn messages_are_moved_while_the_server_dies_and_none_is_lost_or_there_twice() {
    const COUNT: u64 = 60;
    let Some((mut servers, here, there)) = two_hosts() else { return };
    let (sends, _) = make(&here, &there, "q");
    make(&here, &there, "other");
    for number in 0..COUNT {
        send(&sends, &number.to_string());
    }
    let (from, to) = (messages(&there, "q"), messages(&there, "other"));
    let mover = std::thread::spawn(move || {
        for number in 1..=COUNT {
            let name = number.to_string();
            wait_for("a message to be moved", || match fs::rename(from.join(&name), to.join(&name)) {
                Ok(()) => true,
                Err(error) => Errno::from_io_error(&error) == Some(Errno::NOENT),
            });
        }
    });
    for _ in 0..3 {
        let moved = || there.figure("mailboxes/shared/q/status", "moved_out");
        let before = moved();
        wait_for("some to be moved", || moved() >= (before + 5).min(COUNT / 2));
        servers.kill(0);
        servers.run(0);
    }
    mover.join().unwrap();
    // This host may not have its connection back yet.
    wait_for("the server to answer", || answers(&here, "q") && answers(&here, "other"));
    assert!(listed(&here, "q").is_empty());
    let expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    assert_eq!(texts(&here, "other"), expected);
}

/// Each host may be connected to another server; the one that leads is asked.
#[test]
fn three_servers_show_at_once_what_was_done_and_go_on_without_one() {
    let Some(mut servers) = servers(3) else { return };
    let (here, there) = (servers.mount(), servers.mount());
    share(&here, "shared");
    appears(&there.mailbox("shared"));
    let (sends, receives) = make(&here, &there, "q");
    make(&here, &there, "other");
    for count in 1..=20 {
        send(&sends, &count.to_string());
        assert_eq!(listed(&there, "q").len(), count);
    }
    for left in (0..10).rev() {
        let last = listed(&there, "q").pop().unwrap().to_string();
        fs::remove_file(messages(&there, "q").join(last)).unwrap();
        assert_eq!(listed(&here, "q").len(), left + 10);
    }
    servers.kill(0);
    // A write waits for another server to lead.
    fs::write(here.path("control/mailboxes/shared/q/priority/7"), "first").unwrap();
    fs::write(here.path("control/mailboxes/shared/q/once/key"), "key").unwrap();
    fs::write(there.path("control/mailboxes/shared/q/once/key"), "again").unwrap();
    let (from, to) = (messages(&there, "q").join("1"), messages(&there, "other").join("1"));
    wait_for("a message to be moved", || match fs::rename(&from, &to) {
        Ok(()) => true,
        Err(error) => Errno::from_io_error(&error) == Some(Errno::NOENT),
    });
    let peek = there.path("control/mailboxes/shared/q/peek");
    wait_for("the priority to be known", || received(&peek) == "first");
    let expected = ["first"].into_iter().map(String::from).chain((2..=10).map(|number| number.to_string()));
    for text in expected.chain([String::from("key")]) {
        assert_eq!(received(&receives), text);
    }
    assert!(is_empty(&receives));
    assert_eq!(texts(&here, "other"), ["1"]);
}
