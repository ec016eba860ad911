//! Who gets what, and in which order.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::io::Errno;

use crate::common::{self, USER, reap};
use crate::tools::{BOTH, READ, WRITE, aside, finish, open, read, receive, send};

#[test]
fn waiting_readers_are_served_in_the_order_they_came() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let readers: Vec<_> = (0..20)
        .map(|place| {
            let reader = open(&path, if place % 3 == 0 { BOTH } else { READ });
            let reader = aside(move || read(reader, 9));
            mount.wait_for_figure("box", "waiting_readers", place + 1);
            reader
        })
        .collect();
    for place in 0..20 {
        send(&path, format!("{place}").as_bytes());
    }
    for (place, reader) in readers.into_iter().enumerate() {
        assert_eq!(finish("the read", reader), Ok(format!("{place}").into_bytes()));
    }
}

#[test]
fn waiting_writers_are_let_in_in_the_order_they_came() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"0");
    let writers: Vec<_> = (1..=20)
        .map(|place| {
            let writer = open(&path, if place % 3 == 0 { BOTH } else { WRITE });
            let writer = aside(move || rustix::io::write(writer, format!("{place}").as_bytes()));
            mount.wait_for_figure("box", "waiting_writers", place);
            writer
        })
        .collect();
    let order: Vec<_> = (0..=20).map(|_| String::from_utf8(receive(&path)).unwrap()).collect();
    assert_eq!(order, (0..=20).map(|place: u32| place.to_string()).collect::<Vec<_>>());
    for writer in writers {
        assert!(finish("the write", writer).is_ok());
    }
}

#[test]
fn each_message_goes_to_exactly_one_of_many_readers() {
    const MESSAGES: u32 = 2_000;
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "10")]);
    let (got, all) = mpsc::channel();
    let readers: Vec<_> = (0..8)
        .map(|place| {
            let (reader, got) = (open(&path, if place % 2 == 0 { BOTH } else { READ }), got.clone());
            aside(move || {
                loop {
                    match read(&reader, 99) {
                        Ok(message) if message.is_empty() => {}
                        Ok(message) => got.send(message).unwrap(),
                        Err(error) => return error,
                    }
                }
            })
        })
        .collect();
    drop(got);
    let writers: Vec<_> = (0..4)
        .map(|first| {
            let writer = open(&path, WRITE);
            aside(move || {
                for number in (first..MESSAGES).step_by(4) {
                    let message = number.to_string().into_bytes();
                    assert_eq!(rustix::io::write(&writer, &message), Ok(message.len()));
                }
            })
        })
        .collect();
    for writer in writers {
        finish("a writer", writer);
    }
    mount.wait_for_figure("box", "received", u64::from(MESSAGES));
    fs::remove_file(&path).unwrap();
    for reader in readers {
        assert_eq!(finish("a reader", reader), Errno::IDRM);
    }
    let all: Vec<u32> =
        all.iter().map(|message| String::from_utf8(message).unwrap().parse().unwrap()).collect();
    assert_eq!(all.len(), MESSAGES as usize, "none twice");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), MESSAGES as usize, "none lost");
}

#[test]
fn status_names_who_waits_as_the_kernel_attests_it() {
    let Some(mount) = common::mount_with(&["--allow-other"]) else { return };
    fs::set_permissions(mount.dir().parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let status = mount.path("control/mailboxes/box/status");
    for (role, script) in
        [("reader", "exec cat < \"$1\""), ("writer", "exec dd of=\"$1\" conv=notrunc status=none")]
    {
        if role == "writer" {
            send(&path, b"full");
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(&path).uid(USER).gid(USER);
        let mut waiting = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let input = waiting.stdin.take().unwrap();
        if role == "writer" {
            rustix::io::write(&input, b"mine").unwrap();
        }
        drop(input);
        mount.wait_for_figure("box", &format!("waiting_{role}s"), 1);
        let text = fs::read_to_string(&status).unwrap();
        let line = format!("waiting {role} pid {} uid {USER} since ", waiting.id());
        assert!(text.lines().any(|other| other.starts_with(&line)), "{line}\n{text}");
        waiting.kill().unwrap();
        reap(&mut waiting);
        mount.wait_for_figure("box", &format!("waiting_{role}s"), 0);
        assert!(!fs::read_to_string(&status).unwrap().contains("waiting reader pid"));
    }
}
