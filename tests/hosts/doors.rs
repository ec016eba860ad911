//! The doors of shared mailboxes, and programs that treat a mailbox as any file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use rustix::io::Errno;

use super::common::{self, Mount, sh, wait_for};
use super::{error_of, make, nonblocking, received, send, two_hosts};

fn door(mount: &Mount, name: &str) -> PathBuf {
    mount.path(&format!("control/mailboxes/shared/q/{name}"))
}

fn read(file: &mut File) -> String {
    let mut buffer = [0; 99];
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
fn what_shared_mailboxes_do_not_have_is_refused() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (path, _) = make(&here, &there, "q");
    for name in ["whole", "peek", "json", "lease.json", "rpc", "serve", "purge"] {
        assert_eq!(error_of(File::open(door(&here, name))), Some(Errno::OPNOTSUPP), "{name}");
    }
    for name in ["messages", "priority", "tag", "from", "ttl", "delay", "once"] {
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
    assert_eq!(names, ["config", "error", "lease", "status", "stream"]);
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
