//! A store on a disk that does not respond.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::disk::{Disk, Health};
use crate::{Stored, common, receive};

/// A disk for a store.
pub(crate) fn disk_for_store() -> Option<(Disk, Stored)> {
    let mut disk = Disk::new(160 << 20)?;
    disk.format("ext4");
    let stored = Stored::at(disk.path().join("store"))?;
    Some((disk, stored))
}

/// A process that sends one message.
fn sender(path: &std::path::Path, body: &str) -> Child {
    let mut sender = Command::new("sh");
    sender.args(["-c", "printf %s \"$1\" > \"$2\"", "sh", body]).arg(path).stdin(Stdio::null());
    sender.spawn().unwrap()
}

fn send_signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

#[test]
fn on_a_hung_disk_everybody_can_be_killed_and_the_rest_of_the_mount_works() {
    let Some((disk, stored)) = disk_for_store() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    let other = stored.place.path("mailboxes/other");
    fs::write(&other, "before").unwrap();
    fs::write(&path, "promised").unwrap();
    disk.set_health(Health::Hung);
    let mut senders: Vec<Child> = (0..20).map(|n| sender(&path, &format!("message {n}"))).collect();
    // Each is in the queue, and each waits.
    common::wait_for("all to be accepted", || stored.figure("jobs", "depth") == 21);
    common::wait_for("the disk to be asked", || disk.held() > 0);
    for sender in &mut senders {
        assert!(sender.try_wait().unwrap().is_none(), "a promise that the disk has not given");
    }
    // Others do not notice.
    assert_eq!(receive(&other), b"before");
    fs::write(&other, "meanwhile").unwrap();
    assert_eq!(receive(&other), b"meanwhile");
    assert_eq!(fs::read_dir(stored.place.path("mailboxes")).unwrap().count(), 2);
    assert!(fs::metadata(&path).is_ok());
    assert_eq!(stored.place.ipcfs(&["status"]).code, Some(0));
    // What waits can be received, too.
    assert_eq!(receive(&path), b"promised");
    for sender in senders.iter_mut().take(10) {
        send_signal(sender, Signal::KILL);
        assert_eq!(common::reap(sender).signal(), Some(9));
    }
    // A signal that ends a process by its default action.
    for sender in senders.iter_mut().skip(10).take(5) {
        send_signal(sender, Signal::TERM);
        assert_eq!(common::reap(sender).signal(), Some(15));
    }
    disk.set_health(Health::Well);
    for mut sender in senders.drain(15..) {
        assert!(common::reap(&mut sender).success());
    }
    // The messages of those that were killed are there.
    assert_eq!(stored.figure("jobs", "depth"), 20);
    stored.crash();
    assert_eq!(stored.figure("jobs", "depth"), 20);
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
}

/// A caller with a handler would send again, and its message would be there twice.
#[test]
fn on_a_hung_disk_a_signal_with_a_handler_does_not_end_a_call() {
    let Some((disk, stored)) = disk_for_store() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    disk.set_health(Health::Hung);
    let script = "import os, signal, sys\n\
        signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'signal\\n'))\n\
        file = os.open(sys.argv[1], os.O_WRONLY)\n\
        print('ready', flush=True)\n\
        print(os.write(file, b'once'), flush=True)\n";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(&path).stdout(Stdio::piped());
    let Ok(python) = python.spawn() else {
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none(), "python3 is missing");
        return eprintln!("SKIP: needs python3");
    };
    common::wait_for("the message to be accepted", || stored.figure("jobs", "depth") == 1);
    common::wait_for("the disk to be asked", || disk.held() > 0);
    send_signal(&python, Signal::USR1);
    // The signal has arrived when the caller is beyond the reach of others.
    common::wait_for("the signal", || common::state_of(python.id()) == Some('D'));
    // And the mount has answered other calls since.
    for _ in 0..50 {
        stored.figure("jobs", "depth");
    }
    disk.set_health(Health::Well);
    let out = common::output(python);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "ready\nsignal\n4\n");
    // One that had such a signal can still be killed.
    disk.set_health(Health::Hung);
    let mut python = Command::new("python3");
    let mut python = python.args(["-c", script]).arg(&path).stdout(Stdio::null()).spawn().unwrap();
    common::wait_for("the message to be accepted", || stored.figure("jobs", "depth") == 2);
    send_signal(&python, Signal::USR1);
    common::wait_for("the signal", || common::state_of(python.id()) == Some('D'));
    send_signal(&python, Signal::KILL);
    assert_eq!(common::reap(&mut python).signal(), Some(9));
    disk.set_health(Health::Well);
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
}

/// A `daemon` mailbox waits for write(2) only. More than the room that is there is left to a thread that may wait.
#[test]
fn on_a_hung_disk_no_thread_that_serves_waits_for_it() {
    let Some((disk, stored)) = disk_for_store() else { return };
    stored.mount();
    let path = stored.durable("big", "daemon");
    stored.set("big", "maxmsg", "max");
    stored.set("big", "maxbytes", "max");
    drop(stored.durable("jobs", "fsync"));
    disk.set_health(Health::Hung);
    let mut first = sender(&stored.place.path("mailboxes/jobs"), "first");
    common::wait_for("the disk to be asked", || disk.held() > 0);
    let mut senders: Vec<Child> = (0..4)
        .map(|_| {
            let mut dd = Command::new("dd");
            dd.args(["if=/dev/zero", "bs=1000000", "count=20", "status=none"])
                .arg(format!("of={}", path.display()));
            dd.spawn().unwrap()
        })
        .collect();
    common::wait_for("all to end or wait", || {
        let waits = |dd: &mut Child| {
            dd.try_wait().unwrap().is_some() || matches!(common::state_of(dd.id()), Some('S' | 'D'))
        };
        senders.iter_mut().all(waits) && stored.figure("big", "depth") >= 4
    });
    // On every CPU, and more than once.
    for cpu in 0..std::thread::available_parallelism().unwrap().get() {
        let status = stored.place.path("control/status");
        common::sh(&format!(
            "for n in 1 2 3; do taskset -c {cpu} cat {} > /dev/null; done",
            status.display()
        ));
    }
    for dd in senders.iter_mut().chain([&mut first]) {
        if dd.try_wait().unwrap().is_none() {
            let _ = dd.kill();
        }
        common::reap(dd);
    }
    disk.set_health(Health::Well);
    fs::write(stored.place.path("mailboxes/jobs"), "last").unwrap();
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
}
