//! Servers, daemons and connections that die.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use super::common::{Mount, output, reap, wait_for};
use super::servers::servers;
use super::{appears, cat, error_of, make, nonblocking, received, send, share, two_hosts};

fn is_connected(mount: &Mount) -> bool {
    fs::read_to_string(mount.path("control/status")).unwrap().contains("engine connected\n")
}

#[test]
fn a_server_may_die_and_come_back() {
    let Some((mut servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let (other, _) = make(&here, &there, "other");
    send(&sends, "kept");
    let reader = cat(&other);
    here.wait_for_figure("shared/other", "waiting_readers", 1);
    servers.kill(0);
    wait_for("both to notice", || !is_connected(&here) && !is_connected(&there));
    // What must not wait does not; all else waits on, and can be killed.
    assert_eq!(error_of(nonblocking(&receives, false).read(&mut [0; 9])), Some(Errno::AGAIN));
    assert_eq!(error_of(nonblocking(&sends, true).write(b"x")), Some(Errno::AGAIN));
    assert_eq!(error_of(File::create(here.mailbox("shared/new"))), Some(Errno::HOSTUNREACH));
    let mut killed = cat(&receives);
    there.wait_for_figure("shared/q", "waiting_readers", 1);
    killed.kill().unwrap();
    reap(&mut killed);
    let late = {
        let sends = sends.clone();
        thread::spawn(move || send(&sends, "late"))
    };
    here.wait_for_figure("shared/q", "waiting_writers", 1);
    servers.run(0);
    late.join().unwrap();
    assert_eq!((received(&receives), received(&receives)), (String::from("kept"), String::from("late")));
    send(&there.mailbox("shared/other"), "waited for");
    assert_eq!(output(reader).stdout, b"waited for");
    File::create(here.mailbox("shared/new")).unwrap();
    appears(&there.mailbox("shared/new"));
}

#[test]
fn what_a_killed_host_had_in_hand_goes_to_another() {
    let Some((servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    send(&sends, "job");
    let lease = here.path("control/mailboxes/shared/q/lease");
    let mut worker = OpenOptions::new().read(true).write(true).open(lease).unwrap();
    assert_eq!(worker.read(&mut [0; 9]).unwrap(), 3);
    here.signal(Signal::KILL);
    // After the time for which a host may say nothing.
    assert_eq!(received(&receives), "job");
    drop((worker, here));
    // A host that unmounts gives it back at once, and a new one sees all that there is.
    send(&receives, "again");
    let lease = there.path("control/mailboxes/shared/q/lease");
    let mut worker = OpenOptions::new().read(true).write(true).open(lease).unwrap();
    assert_eq!(worker.read(&mut [0; 9]).unwrap(), 5);
    there.signal(Signal::TERM);
    let new = servers.mount();
    assert_eq!(received(&new.mailbox("shared/q")), "again");
}

#[test]
fn nothing_accepted_is_lost_while_three_servers_die_in_turn() {
    let Some(mut servers) = servers(3) else { return };
    let (here, there) = (servers.mount(), servers.mount());
    share(&here, "shared");
    appears(&there.mailbox("shared"));
    let (sends, receives) = make(&here, &there, "q");
    let (stop, all_read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut file = OpenOptions::new().write(true).open(sends).unwrap();
            let mut number = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                file.write_all(number.to_string().as_bytes()).unwrap();
                number += 1;
            }
            // For readers that have not seen the end yet.
            file.write_all(b"end").unwrap();
            number
        })
    };
    let reader = {
        let all_read = Arc::clone(&all_read);
        thread::spawn(move || {
            let mut got = Vec::new();
            let mut file = OpenOptions::new().read(true).write(true).open(receives).unwrap();
            let mut buffer = [0; 16];
            loop {
                let length = file.read(&mut buffer).unwrap();
                match std::str::from_utf8(&buffer[..length]).unwrap() {
                    "end" => break,
                    number => got.push(number.parse::<u32>().unwrap()),
                }
            }
            all_read.store(true, Ordering::Relaxed);
            got
        })
    };
    let sent = || here.figure("mailboxes/shared/q/status", "sent");
    for index in 0..3 {
        let before = sent();
        wait_for("messages to be sent", || sent() > before + 50);
        servers.kill(index);
        let before = sent();
        wait_for("messages to be sent without a server", || sent() > before + 50);
        servers.run(index);
        wait_for("the cluster to be whole", || servers.is_whole());
    }
    stop.store(true, Ordering::Relaxed);
    let number = writer.join().unwrap();
    wait_for("all to be received", || all_read.load(Ordering::Relaxed));
    let got = reader.join().unwrap();
    let distinct: BTreeSet<u32> = got.iter().copied().collect();
    // Each at least once. "end" is the last that was sent, but one that was given back comes after it.
    let mut missing: BTreeSet<u32> = (0..number).filter(|number| !distinct.contains(number)).collect();
    let mut file = OpenOptions::new().read(true).write(true).open(there.mailbox("shared/q")).unwrap();
    rustix::io::ioctl_fionbio(&file, true).unwrap();
    let mut buffer = [0; 16];
    // One that was on its way through a connection that is lost is given back when the servers have waited long enough for a word.
    wait_for(&format!("the rest of {number} messages, {missing:?},"), || {
        while let Ok(length @ 1..) = file.read(&mut buffer) {
            if let Ok(number) = std::str::from_utf8(&buffer[..length]).unwrap().parse::<u32>() {
                missing.remove(&number);
            }
        }
        missing.is_empty()
    });
}

#[test]
fn workers_that_are_killed_at_any_moment_lose_nothing() {
    const MESSAGES: u32 = 100;
    const WORKER: &str = "import os,sys
out=os.open(sys.argv[2],os.O_WRONLY|os.O_APPEND)
fd=os.open(sys.argv[1],os.O_RDWR)
while True:
    job=os.read(fd,99); os.write(out,job+b' '); os.write(fd,b'ack')";
    let Some((servers, here, there)) = two_hosts() else { return };
    let (sends, _) = make(&here, &there, "q");
    let done = servers.folder().join("done");
    File::create(&done).unwrap();
    let sender = thread::spawn(move || {
        let mut file = OpenOptions::new().write(true).open(sends).unwrap();
        for number in 0..MESSAGES {
            file.write_all(number.to_string().as_bytes()).unwrap();
        }
    });
    let mut turn = 0_u64;
    let all: BTreeSet<u32> = (0..MESSAGES).collect();
    wait_for("all jobs to be done", || {
        turn += 1;
        let mount = if turn.is_multiple_of(2) { &here } else { &there };
        let door = mount.path("control/mailboxes/shared/q/lease");
        let mut worker = Command::new("python3").args(["-c", WORKER]).arg(door).arg(&done).spawn().unwrap();
        // At another moment each time.
        thread::sleep(Duration::from_millis(100 + turn * 37 % 150));
        worker.kill().unwrap();
        reap(&mut worker);
        let text = fs::read_to_string(&done).unwrap();
        let got = text.split_whitespace().map(|job| job.parse::<u32>().unwrap()).collect::<BTreeSet<_>>();
        got == all
    });
    sender.join().unwrap();
}
