//! The doors of shared mailboxes, and programs that treat a mailbox as any file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use rustix::io::Errno;

use super::common::{self, Mount, sh, wait_for};
use super::{cat, error_of, make, nonblocking, received, send, two_hosts};

fn door(mount: &Mount, name: &str) -> PathBuf {
    mount.path(&format!("control/mailboxes/shared/q/{name}"))
}

fn read(file: &mut File) -> String {
    let mut buffer = [0; 999];
    let length = file.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn each_line_written_to_stream_is_a_message_for_all_hosts() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (_, receives) = make(&here, &there, "q");
    let mut lines = OpenOptions::new().write(true).open(door(&here, "stream")).unwrap();
    assert_eq!(lines.write(b"one\ntwo\nthr").unwrap(), 11);
    for expected in ["one\n", "two\n"] {
        assert_eq!(received(&receives), expected);
    }
    assert_eq!(error_of(nonblocking(&receives, false).read(&mut [0; 9])), Some(Errno::AGAIN));
    lines.write_all(b"ee\nfour").unwrap();
    assert_eq!(received(&receives), "three\n");
    // The close ends the last line.
    drop(lines);
    assert_eq!(received(&receives), "four");
    here.wait_for_figure("shared/q", "sent", 4);
}

#[test]
fn stream_reads_message_after_message() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    sh(&format!("seq 1000 > {}", door(&here, "stream").display()));
    let mut messages = File::open(door(&there, "stream")).unwrap();
    let got: Vec<String> = (0..1000).map(|_| read(&mut messages)).collect();
    let expected: Vec<String> = (1..=1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(got, expected);
    // And what it has read is not there any more.
    drop(messages);
    assert_eq!(
        error_of(nonblocking(&there.mailbox("shared/q"), false).read(&mut [0; 9])),
        Some(Errno::AGAIN)
    );
}

#[test]
fn a_line_that_is_too_long_is_refused_and_those_before_it_are_sent() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (_, receives) = make(&here, &there, "q");
    let mut lines = OpenOptions::new().write(true).open(door(&here, "stream")).unwrap();
    let long = "x".repeat(1_044_481);
    assert_eq!(error_of(lines.write_all(format!("short\n{long}\nshort\n").as_bytes())), Some(Errno::MSGSIZE));
    drop(lines);
    assert_eq!(received(&receives), "short\n");
    assert_eq!(error_of(nonblocking(&receives, false).read(&mut [0; 9])), Some(Errno::AGAIN));
}

#[test]
fn peek_shows_the_next_message_and_waits_for_one() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let none = || error_of(nonblocking(&door(&there, "peek"), false).read(&mut [0; 9]));
    assert_eq!(none(), Some(Errno::AGAIN));
    let looker = cat(&door(&there, "peek"));
    there.wait_for_figure("shared/q", "waiting_readers", 1);
    send(&sends, "one");
    assert_eq!(common::output(looker).stdout, b"one");
    send(&sends, "two");
    for mount in [&here, &there] {
        assert_eq!(received(&door(mount, "peek")), "one");
    }
    // What a reader has in hand is not the next.
    let mut worker = OpenOptions::new().read(true).write(true).open(door(&here, "lease")).unwrap();
    assert_eq!(read(&mut worker), "one");
    assert_eq!(received(&door(&there, "peek")), "two");
    // Nobody has had the others; then what came back is.
    assert_eq!(received(&receives), "two");
    worker.write_all(b"nack").unwrap();
    wait_for("it to be acknowledged", || received(&door(&there, "peek")) == "one");
    assert_eq!(received(&receives), "one");
    wait_for("it to be acknowledged", || none() == Some(Errno::AGAIN));
    // It can be interrupted, and does not write.
    let mut looker = cat(&door(&there, "peek"));
    there.wait_for_figure("shared/q", "waiting_readers", 1);
    looker.kill().unwrap();
    common::reap(&mut looker);
    there.wait_for_figure("shared/q", "waiting_readers", 0);
    assert_eq!(error_of(OpenOptions::new().write(true).open(door(&here, "peek"))), Some(Errno::ACCESS));
}

fn write_to(mount: &Mount, name: &str, text: &str) {
    let mut file = OpenOptions::new().write(true).open(door(mount, name)).unwrap();
    assert_eq!(file.write(text.as_bytes()).unwrap(), text.len());
}

fn is_empty(mount: &Mount) -> bool {
    error_of(nonblocking(&mount.mailbox("shared/q"), false).read(&mut [0; 9])) == Some(Errno::AGAIN)
}

#[test]
fn a_text_that_is_written_in_parts_is_one_message() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (_, receives) = make(&here, &there, "q");
    let mut text = OpenOptions::new().write(true).open(door(&here, "whole")).unwrap();
    text.write_all(b"one\n").unwrap();
    text.write_all(b"two\n").unwrap();
    assert!(is_empty(&there));
    drop(text);
    assert_eq!(received(&receives), "one\ntwo\n");
    let mut text = OpenOptions::new().write(true).open(door(&here, "whole")).unwrap();
    text.write_all(&vec![b'x'; 1_000_000]).unwrap();
    assert_eq!(error_of(text.write(&vec![b'x'; 100_000])), Some(Errno::MSGSIZE));
    drop(text);
    assert_eq!(error_of(File::open(door(&here, "whole"))), Some(Errno::ACCESS));
    here.wait_for_figure("shared/q", "sent", 1);
    assert!(is_empty(&there));
}

#[test]
fn a_tag_goes_with_a_message_wherever_it_goes() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let (other, _) = make(&here, &there, "other");
    write_to(&here, "tag/a b", "text");
    let messages = |name: &str| here.path(&format!("control/mailboxes/shared/{name}/messages/1"));
    fs::rename(messages("q"), messages("other")).unwrap();
    let json = here.path("control/mailboxes/shared/other/json");
    let line = read(&mut File::open(json).unwrap());
    let shown: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&shown["tag"], &shown["body"]), (&"a b".into(), &"text".into()));
    assert!(error_of(nonblocking(&other, false).read(&mut [0; 9])) == Some(Errno::AGAIN));
    // The servers cannot choose by it.
    assert_eq!(error_of(File::open(door(&there, "tag/a b"))), Some(Errno::OPNOTSUPP));
}

#[test]
fn a_message_with_a_time_of_its_own_expires_and_others_stay() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (_, receives) = make(&here, &there, "q");
    write_to(&here, "ttl/1ms", "short");
    write_to(&here, "ttl/1h", "long");
    let messages = there.path("control/mailboxes/shared/q/messages");
    wait_for("it to be gone", || fs::read_dir(&messages).unwrap().count() == 1);
    assert_eq!(received(&receives), "long");
    assert!(is_empty(&there));
}

#[test]
fn messages_of_a_higher_priority_are_received_first() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    send(&sends, "plain");
    for (priority, text) in [(5, "five"), (9, "nine"), (5, "five again")] {
        write_to(&here, &format!("priority/{priority}"), text);
    }
    send(&sends, "plain again");
    wait_for("the other host to know of the priorities", || received(&door(&there, "peek")) == "nine");
    for text in ["nine", "five", "five again", "plain", "plain again"] {
        assert_eq!(received(&receives), text);
    }
    assert!(is_empty(&there));
    // What comes back has its priority.
    send(&sends, "plain");
    write_to(&here, "priority/5", "five");
    let mut worker = OpenOptions::new().read(true).write(true).open(door(&there, "lease")).unwrap();
    assert_eq!(read(&mut worker), "five");
    worker.write_all(b"nack").unwrap();
    drop(worker);
    let line = read(&mut File::open(door(&here, "json")).unwrap());
    let shown: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&shown["body"], &shown["priority"]), (&"five".into(), &5.into()));
    assert_eq!(received(&sends), "plain");
}

#[test]
fn a_reader_that_waits_gets_what_comes_with_whichever_priority() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    for (name, text) in [("priority/7", "seven"), ("priority/32767", "most"), ("priority/0", "none")] {
        let reader = cat(&receives);
        there.wait_for_figure("shared/q", "waiting_readers", 1);
        write_to(&here, name, text);
        assert_eq!(common::output(reader).stdout, text.as_bytes());
    }
    let mut reader = cat(&receives);
    there.wait_for_figure("shared/q", "waiting_readers", 1);
    reader.kill().unwrap();
    common::reap(&mut reader);
    send(&sends, "next");
    assert_eq!(received(&receives), "next");
    // No mailbox has any number of them.
    let result = (1..100).find_map(|priority| {
        let file = OpenOptions::new().write(true).open(door(&here, &format!("priority/{priority}")));
        file.unwrap().write(b"x").err()
    });
    assert_eq!(result.and_then(|error| Errno::from_io_error(&error)), Some(Errno::RANGE));
    // Those before it are there, and a setting that changes meanwhile changes none of them.
    fs::write(there.path("control/mailboxes/shared/q/config/max_deliver"), "9").unwrap();
    assert!((1..=15).all(|_| received(&receives) == "x"));
    assert!(is_empty(&here) && is_empty(&there));
}

#[test]
fn a_lease_is_given_back_for_later_and_tells_of_its_message() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    send(&sends, "later");
    send(&sends, "now");
    let open = || OpenOptions::new().read(true).write(true).open(door(&there, "lease")).unwrap();
    let mut worker = open();
    let attribute = |worker: &File, name: &str| {
        let mut value = [0; 99];
        let result = rustix::fs::fgetxattr(worker, format!("user.ipcfs.{name}"), &mut value);
        result.map(|length| String::from_utf8_lossy(&value[..length]).into_owned())
    };
    assert_eq!(attribute(&worker, "uid"), Err(Errno::NODATA));
    assert_eq!(read(&mut worker), "later");
    let shown = ["id", "uid", "deliveries", "priority"].map(|name| attribute(&worker, name).unwrap());
    assert_eq!(shown, ["1", "0", "0", "0"]);
    worker.write_all(b"touch").unwrap();
    worker.write_all(b"nack 1h").unwrap();
    assert_eq!(error_of(worker.write(b"touch")), Some(Errno::NOMSG));
    drop(worker);
    assert_eq!(received(&receives), "now");
    assert!(is_empty(&here) && is_empty(&there));
    send(&sends, "soon");
    let mut worker = open();
    assert_eq!(read(&mut worker), "soon");
    worker.write_all(b"nack 100ms").unwrap();
    // It comes to one who waits.
    assert_eq!(received(&receives), "soon");
    assert_eq!(error_of(worker.write(b"ack")), Some(Errno::NOMSG));
}

#[test]
fn a_message_with_a_key_is_sent_once_by_whichever_host() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (_, receives) = make(&here, &there, "q");
    write_to(&here, "once/a key", "first");
    write_to(&there, "once/a key", "again");
    write_to(&there, "once/another", "other");
    assert_eq!((received(&receives), received(&receives)), ("first".into(), "other".into()));
    // It is remembered whatever happens to the message.
    write_to(&here, "once/a key", "again");
    assert!(is_empty(&there));
    let figure = |mount: &Mount, name: &str| mount.figure("mailboxes/shared/q/status", name);
    assert_eq!((figure(&here, "sent"), figure(&here, "duplicates")), (1, 1));
    assert_eq!((figure(&there, "sent"), figure(&there, "duplicates")), (1, 1));
}

#[test]
fn json_tells_who_sent_a_message_on_whichever_host() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, _) = make(&here, &there, "q");
    let mut objects = File::open(door(&there, "json")).unwrap();
    let mut object = || -> serde_json::Value { serde_json::from_str(&read(&mut objects)).unwrap() };
    send(&sends, "text");
    let first = object();
    assert_eq!((&first["body"], &first["uid"], &first["id"]), (&"text".into(), &0.into(), &1.into()));
    assert!(first["pid"].as_u64().unwrap() > 0 && first["sent"].as_f64().unwrap() > 1e9);
    assert_eq!((&first["deliveries"], &first["priority"]), (&0.into(), &0.into()));
    // One that came back has been delivered.
    send(&sends, "again");
    let mut worker = OpenOptions::new().read(true).write(true).open(door(&here, "lease")).unwrap();
    assert_eq!(read(&mut worker), "again");
    worker.write_all(b"nack").unwrap();
    assert_eq!(object()["deliveries"], 1);
    assert_eq!(OpenOptions::new().write(true).open(&sends).unwrap().write(b"\xff").unwrap(), 1);
    assert_eq!(object()["body_base64"], "/w==");
    assert_eq!(
        error_of(nonblocking(&there.mailbox("shared/q"), false).read(&mut [0; 9])),
        Some(Errno::AGAIN)
    );
}

#[test]
fn what_shared_mailboxes_do_not_have_is_refused() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (path, _) = make(&here, &there, "q");
    assert_eq!(error_of(File::open(door(&here, "lease.json"))), Some(Errno::OPNOTSUPP));
    for name in ["delay", "from"] {
        assert_eq!(error_of(fs::read_dir(door(&here, name))), Some(Errno::OPNOTSUPP), "{name}");
    }
    assert_eq!(error_of(fs::rename(&path, here.mailbox("shared/other"))), Some(Errno::OPNOTSUPP));
    assert_eq!(error_of(fs::rename(&path, here.mailbox("own"))), Some(Errno::OPNOTSUPP));
    // What there is, is listed.
    let mut names: Vec<String> = fs::read_dir(door(&here, ""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let (doors, rest) = (
        "error json lease messages once peek priority purge rpc serve status stream tag ttl whole",
        ["config"],
    );
    let mut expected: Vec<&str> = doors.split(' ').chain(rest).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn programs_that_treat_it_as_a_file_take_nothing() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (path, receives) = make(&here, &there, "q");
    let temp = tempfile::tempdir().unwrap();
    for text in ["one", "two", "three"] {
        send(&path, text);
    }
    let (folder, to) = (here.mailbox("shared"), temp.path().join("to"));
    let (folder, to) = (folder.display(), to.display());
    for command in [
        format!("cp -r {folder} {to}"),
        format!("tar cf /dev/zero {folder}"),
        format!("grep -r one {folder}"),
        format!("mv {} {to}", path.display()),
    ] {
        let out = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains("not permitted"), "{command}: {said}");
    }
    if common::have("python3") {
        // It receives one message, and must not remove the mailbox with the others.
        let script = "import os, sys\nopen(sys.argv[1]).read()\nos.unlink(sys.argv[1])";
        let out = std::process::Command::new("python3").args(["-c", script]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("Device or resource busy"), "{said}");
        send(&path, "four");
    }
    assert!(["one", "two"].contains(&received(&receives).as_str()));
    // Another process may.
    fs::remove_file(&path).unwrap();
    wait_for("it to go", || !receives.exists());
}
