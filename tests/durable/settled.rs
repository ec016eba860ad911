//! What a store keeps of leases by id, keys of `once/<key>`, and the rounds of dead letters.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};

use crate::{Stored, common, receive};

#[test]
fn of_many_leases_those_that_were_settled_stay_so_and_the_others_come_first() {
    for how in ["daemon", "fsync"] {
        let Some(stored) = Stored::new() else { return };
        stored.mount();
        let path = stored.durable("jobs", how);
        (0..6).for_each(|n| fs::write(&path, n.to_string()).unwrap());
        let door = stored.place.path("control/mailboxes/jobs/lease.json");
        let mut worker = OpenOptions::new().read(true).write(true).open(door).unwrap();
        let mut ids = Vec::new();
        for _ in 0..5 {
            let mut line = [0; 1000];
            let length = worker.read(&mut line).unwrap();
            ids.push(serde_json::from_slice::<serde_json::Value>(&line[..length]).unwrap()["id"].to_string());
        }
        worker.write_all(format!("ack {} {}", ids[3], ids[1]).as_bytes()).unwrap();
        stored.crash();
        assert_eq!((stored.figure("jobs", "received"), stored.figure("jobs", "redelivered")), (2, 3));
        assert_eq!(
            ["0", "2", "4", "5"].map(str::as_bytes),
            [(); 4].map(|()| receive(&path)).each_ref().map(Vec::as_slice)
        );
    }
}

#[test]
fn a_key_is_kept_with_its_message_and_without_it() {
    for how in ["daemon", "fsync"] {
        let Some(stored) = Stored::new() else { return };
        stored.mount();
        let path = stored.durable("jobs", how);
        let once = |key: &str, body: &str| {
            fs::write(stored.place.path(format!("control/mailboxes/jobs/once/{key}")), body).unwrap();
        };
        once("a", "one");
        once("b", "two");
        assert_eq!(receive(&path), b"one");
        common::wait_for("the receipt to be written", || {
            stored.command(&["ls", "--json"]).stdout.contains("\"messages\":1")
        });
        stored.crash();
        once("a", "one");
        once("b", "two");
        once("c", "three");
        assert_eq!((stored.figure("jobs", "sent"), stored.figure("jobs", "duplicates")), (3, 2));
        assert_eq!([receive(&path), receive(&path)], [&b"two"[..], b"three"]);
        // What becomes durable later has its keys too, and a store that is written anew.
        let late = stored.durable("late", "off");
        let send = || fs::write(stored.place.path("control/mailboxes/late/once/x"), "late").unwrap();
        send();
        assert_eq!(receive(&late), b"late");
        stored.set("late", "durable", how);
        assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
        let compacted = stored.command(&["compact"]);
        assert_eq!(compacted.code, Some(0), "{compacted:?}");
        stored.mount();
        send();
        once("c", "three");
        assert_eq!((stored.figure("late", "duplicates"), stored.figure("jobs", "duplicates")), (1, 1));
        // Forgotten is forgotten.
        for name in ["jobs", "late"] {
            stored.set(name, "once_window", "1ms");
        }
        let used = || stored.figure("", "memory_used");
        common::wait_for("the keys to be forgotten", || used() == 0);
        stored.crash();
        assert_eq!(used(), 0);
    }
}

#[test]
fn a_message_that_has_stopped_stays_so() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    drop(stored.durable("grave", "daemon"));
    let path = stored.durable("jobs", "daemon");
    stored.set("jobs", "dead_letter", "grave");
    stored.set("jobs", "max_rounds", "2");
    stored.set("grave", "ttl", "1h");
    fs::write(&path, "job").unwrap();
    let messages = |name: &str| stored.place.path(format!("control/mailboxes/{name}/messages"));
    let only = |name: &str| fs::read_dir(messages(name)).unwrap().next().unwrap().unwrap().file_name();
    let back = || fs::rename(messages("grave").join(only("grave")), messages("jobs").join(only("grave")));
    for round in 1..=2 {
        let door = stored.place.path("control/mailboxes/jobs/lease");
        let mut worker = OpenOptions::new().read(true).write(true).open(door).unwrap();
        assert_eq!(worker.read(&mut [0; 10]).unwrap(), 3);
        worker.write_all(b"reject").unwrap();
        drop(worker);
        stored.crash();
        let mut value = [0; 20];
        let letter = messages("grave").join(only("grave"));
        let mut told = |name: &str| {
            let length = rustix::fs::getxattr(&letter, format!("user.ipcfs.{name}"), &mut value[..]);
            length.map(|length| String::from_utf8(value[..length].to_vec()).unwrap())
        };
        assert_eq!(told("rounds"), Ok(round.to_string()));
        let (reason, expires) = (told("reason").unwrap(), told("expires").is_ok());
        if round == 1 {
            assert_eq!((reason.as_str(), expires), ("rejected", true));
            back().unwrap();
        } else {
            assert_eq!((reason.as_str(), expires), ("rounds", false));
            assert_eq!(back().unwrap_err().raw_os_error(), Some(rustix::io::Errno::PERM.raw_os_error()));
        }
    }
}
