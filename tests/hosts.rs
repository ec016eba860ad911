//! Mailboxes that several hosts share, with real servers of NATS. Each mount is a host.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests

mod common;
#[path = "hosts/doors.rs"]
mod doors;
#[path = "hosts/messages.rs"]
mod messages;
#[path = "hosts/refused.rs"]
mod refused;
#[path = "hosts/rpc.rs"]
mod rpc;
#[path = "hosts/rules.rs"]
mod rules;
#[path = "hosts/servers.rs"]
mod servers;
#[path = "hosts/trouble.rs"]
mod trouble;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Mount, output, reap, sh, wait_for};
use rustix::io::Errno;
use servers::{Servers, servers};

/// A folder whose mailboxes all hosts share.
fn share(mount: &Mount, folder: &str) {
    fs::create_dir(mount.mailbox(folder)).unwrap();
    fs::write(mount.path(&format!("control/mailboxes/{folder}/config/engine")), "nats\n").unwrap();
}

/// One server and two hosts, with a shared folder.
fn two_hosts() -> Option<(Servers, Mount, Mount)> {
    let servers = servers(1)?;
    let (here, there) = (servers.mount(), servers.mount());
    share(&here, "shared");
    appears(&there.mailbox("shared"));
    Some((servers, here, there))
}

/// A mailbox in the shared folder, made on one host and seen on the other.
fn make(here: &Mount, there: &Mount, name: &str) -> (PathBuf, PathBuf) {
    let name = format!("shared/{name}");
    File::create(here.mailbox(&name)).unwrap();
    appears(&there.mailbox(&name));
    (here.mailbox(&name), there.mailbox(&name))
}

fn appears(path: &Path) {
    wait_for(&format!("{} to appear", path.display()), || path.exists());
}

fn is_gone(path: &Path) {
    wait_for(&format!("{} to go", path.display()), || !path.exists());
}

fn cat(path: &Path) -> Child {
    Command::new("cat").arg(path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(path: &Path, text: &str) {
    assert_eq!(
        OpenOptions::new().write(true).open(path).unwrap().write(text.as_bytes()).unwrap(),
        text.len()
    );
}

fn received(path: &Path) -> String {
    String::from_utf8(output(cat(path)).stdout).unwrap()
}

fn nonblocking(path: &Path, write: bool) -> File {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    OpenOptions::new().read(!write).write(write).custom_flags(flags).open(path).unwrap()
}

fn error_of<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<Errno> {
    Errno::from_io_error(&result.unwrap_err())
}

#[test]
fn a_message_sent_on_one_host_is_received_on_another() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    send(&sends, "x\n");
    assert_eq!(received(&receives), "x\n");
    // And the other way, to a reader that waits.
    let reader = cat(&sends);
    here.wait_for_figure("shared/q", "waiting_readers", 1);
    send(&receives, "back");
    assert_eq!(output(reader).stdout, b"back");
    assert_eq!(here.figure("mailboxes/shared/q/status", "sent"), 1);
    assert_eq!(there.figure("mailboxes/shared/q/status", "received"), 1);
}

#[test]
fn each_message_goes_to_one_reader_in_the_order_sent() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    for number in 0..50 {
        send(&sends, &number.to_string());
    }
    let got: Vec<_> = (0..50)
        .map(|turn| received(if turn % 2 == 0 { &sends } else { &receives }).parse::<u32>().unwrap())
        .collect();
    assert_eq!(got, (0..50).collect::<Vec<_>>());
    assert_eq!(error_of(nonblocking(&receives, false).read(&mut [0; 9])), Some(Errno::AGAIN));
}

#[test]
fn messages_are_exact_and_limits_hold() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    for size in [1, 131_101, 1_044_480] {
        let body: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        assert_eq!(OpenOptions::new().write(true).open(&sends).unwrap().write(&body).unwrap(), body.len());
        assert!(fs::read(&receives).unwrap() == body, "{size}");
    }
    let long = vec![0; 1_044_481];
    let result = OpenOptions::new().write(true).open(&sends).unwrap().write(&long);
    assert_eq!(error_of(result), Some(Errno::MSGSIZE));
    assert_eq!(error_of(nonblocking(&receives, false).read(&mut [0; 9])), Some(Errno::AGAIN));
}

#[test]
fn names_owners_and_modes_are_the_same_on_all_hosts() {
    let Some((servers, here, there)) = two_hosts() else { return };
    let (mine, theirs) = make(&here, &there, "q");
    std::os::unix::fs::chown(&mine, Some(common::USER), Some(common::OTHER)).unwrap();
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o622)).unwrap();
    wait_for("owner and mode to be known", || {
        let meta = fs::metadata(&theirs).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o777) == (common::USER, common::OTHER, 0o622)
    });
    fs::create_dir(there.mailbox("shared/deep")).unwrap();
    File::create(there.mailbox("shared/deep/er")).unwrap();
    appears(&here.mailbox("shared/deep/er"));
    // A host that comes later sees all of it at once.
    let late = servers.mount();
    assert_eq!(
        sh(&format!("cd {}/mailboxes; find . | sort", late.dir().display())),
        ".\n./shared\n./shared/deep\n./shared/deep/er\n./shared/q\n"
    );
    assert_eq!(fs::metadata(late.mailbox("shared/q")).unwrap().uid(), common::USER);
    fs::remove_file(late.mailbox("shared/deep/er")).unwrap();
    fs::remove_dir(late.mailbox("shared/deep")).unwrap();
    is_gone(&here.mailbox("shared/deep"));
    is_gone(&there.mailbox("shared/deep"));
}

#[test]
fn any_bytes_make_a_name() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    for name in [&b"a b.*>"[..], b"\xff\x01\n", "Käse$".as_bytes(), &[b'x'; 255]] {
        let at = |mount: &Mount| mount.mailbox("shared").join(OsStr::from_bytes(name));
        File::create(at(&here)).unwrap();
        appears(&at(&there));
        send(&at(&here), "m");
        assert_eq!(received(&at(&there)), "m");
    }
}

#[test]
fn a_removed_mailbox_is_removed_on_all_hosts_with_what_it_has() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (mine, theirs) = make(&here, &there, "q");
    let mut reader = File::open(&theirs).unwrap();
    let waiting = std::thread::spawn(move || error_of(reader.read(&mut [0; 9])));
    there.wait_for_figure("shared/q", "waiting_readers", 1);
    fs::remove_file(&mine).unwrap();
    assert_eq!(waiting.join().unwrap(), Some(Errno::IDRM));
    is_gone(&theirs);
    // Under the same name there is another one.
    make(&here, &there, "q");
    send(&mine, "old");
    fs::remove_file(&theirs).unwrap();
    is_gone(&mine);
    make(&there, &here, "q");
    assert_eq!(error_of(nonblocking(&mine, false).read(&mut [0; 9])), Some(Errno::AGAIN));
}

#[test]
fn a_full_mailbox_is_full_for_all_hosts() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    fs::create_dir(here.mailbox("shared/small")).unwrap();
    let config = here.path("control/mailboxes/shared/small/config");
    fs::write(config.join("maxmsg"), "1").unwrap();
    let (sends, receives) = make(&here, &there, "small/q");
    send(&sends, "one");
    let theirs = receives.clone();
    assert_eq!(error_of(nonblocking(&receives, true).write(b"x")), Some(Errno::AGAIN));
    let writer = std::thread::spawn(move || send(&theirs, "two"));
    there.wait_for_figure("shared/small/q", "waiting_writers", 1);
    assert_eq!(received(&sends), "one");
    writer.join().unwrap();
    assert_eq!(received(&sends), "two");
    fs::write(config.join("full"), "fail").unwrap();
    let (sends, receives) = make(&here, &there, "small/fails");
    send(&sends, "one");
    assert_eq!(
        error_of(OpenOptions::new().write(true).open(&receives).unwrap().write(b"x")),
        Some(Errno::NOSPC)
    );
}

#[test]
fn a_lease_is_settled_or_goes_to_another_host() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let lease = |mount: &Mount| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(mount.path("control/mailboxes/shared/q/lease"))
            .unwrap()
    };
    let read = |file: &mut File| {
        let mut buffer = [0; 9];
        let length = file.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    send(&sends, "job");
    let mut worker = lease(&here);
    assert_eq!(read(&mut worker), "job");
    worker.write_all(b"nack").unwrap();
    let mut worker = lease(&there);
    assert_eq!(read(&mut worker), "job");
    // A worker that dies gives it back at once.
    drop(worker);
    let mut worker = lease(&here);
    assert_eq!(read(&mut worker), "job");
    worker.write_all(b"ack\n").unwrap();
    assert_eq!(error_of(worker.write(b"ack")), Some(Errno::NOMSG));
    drop(worker);
    assert_eq!(error_of(nonblocking(&receives, false).read(&mut [0; 9])), Some(Errno::AGAIN));
}

#[test]
fn a_reader_that_is_killed_takes_nothing_with_it() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    for number in 0..20 {
        let mut reader = cat(&receives);
        there.wait_for_figure("shared/q", "waiting_readers", 1);
        reader.kill().unwrap();
        reap(&mut reader);
        send(&sends, &number.to_string());
        assert_eq!(received(&receives), number.to_string());
    }
}

#[test]
fn polls_report_messages_of_other_hosts() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let poller = Command::new("python3")
        .args(["-c", "import os,select,sys\nfd=os.open(sys.argv[1],os.O_RDONLY|os.O_NONBLOCK)\np=select.poll()\np.register(fd,select.POLLIN)
assert p.poll()[0][1]&select.POLLIN\nprint(os.read(fd,9).decode())"])
        .arg(&receives)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The message may come before or after it polls.
    send(&sends, "polled");
    let out = output(poller);
    assert_eq!(String::from_utf8(out.stdout).unwrap().lines().last(), Some("polled"));
}

/// `io_uring` reads on after a short read, at the same offset.
#[test]
fn a_read_through_io_uring_gets_one_message() {
    if !common::have("cc") {
        return;
    }
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let program = here.path("segments/ring");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/ring.c");
    assert!(Command::new("cc").arg("-o").arg(&program).arg(source).status().unwrap().success());
    for (mode, wanted) in [("r", "5 first\n0 \n6 second\n0 \n"), ("rw", "5 first\n6 second\n")] {
        let count = wanted.lines().count().to_string();
        let reader = Command::new(&program)
            .arg(&receives)
            .args([mode, "position", "100", &count])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // They may come before or after it asks.
        send(&sends, "first");
        send(&sends, "second");
        assert_eq!(String::from_utf8(output(reader).stdout).unwrap(), wanted);
    }
}

#[test]
fn local_mailboxes_stand_beside_shared_ones() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    fs::create_dir(here.mailbox("own")).unwrap();
    send_new(&here.mailbox("own/q"), "mine");
    make(&here, &there, "q");
    assert!(!there.mailbox("own").exists());
    assert_eq!(received(&here.mailbox("own/q")), "mine");
    let engine = |name: &str| {
        fs::read_to_string(here.path(&format!("control/mailboxes/{name}/config/engine"))).unwrap()
    };
    assert_eq!(
        (&engine("own/q")[..], &engine("shared/q")[..], &engine("shared")[..]),
        ("local\n", "nats\n", "nats\n")
    );
    // It is chosen while a folder is empty, and a mailbox stays where it is.
    let set = |name: &str, value: &str| {
        fs::write(here.path(&format!("control/mailboxes/{name}/config/engine")), value)
    };
    assert_eq!(error_of(set("own", "nats")), Some(Errno::INVAL));
    assert_eq!(error_of(fs::rename(here.mailbox("own/q"), here.mailbox("shared/p"))), Some(Errno::OPNOTSUPP));
}

fn send_new(path: &Path, text: &str) {
    File::create(path).unwrap();
    send(path, text);
}

#[test]
fn many_processes_on_two_hosts_get_each_message_once() {
    const WRITERS: u32 = 4;
    const EACH: u32 = 250;
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (mine, theirs) = make(&here, &there, "q");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let path = if writer % 2 == 0 { mine.clone() } else { theirs.clone() };
            std::thread::spawn(move || {
                let mut file = OpenOptions::new().write(true).open(path).unwrap();
                for number in 0..EACH {
                    file.write_all(format!("{writer} {number}").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let path = if reader % 2 == 0 { mine.clone() } else { theirs.clone() };
            std::thread::spawn(move || {
                (0..WRITERS * EACH / 4).map(|_| fs::read_to_string(&path).unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let got: Vec<String> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
    let distinct: BTreeSet<_> = got.iter().collect();
    assert_eq!((got.len(), distinct.len()), ((WRITERS * EACH) as usize, (WRITERS * EACH) as usize));
}
