//! Several leases through one descriptor.

use super::*;
use crate::config::{LEASED_BYTES_MAX, LEASES_MAX};
use crate::mailbox::memory::MESSAGE_COST;

const MS: u64 = 1_000_000;
const ROOM: MailboxLimits = MailboxLimits { msgsize: 64, maxmsg: 2000, maxbytes: 100_000 };

impl Rig {
    /// Leases one more; returns the id and the body of its message.
    fn lease_next(&mut self, handle: HandleId) -> (u64, String) {
        let Got::Bytes(line) = self.read(handle, 2 << 20) else { panic!("nothing to lease") };
        let shown: serde_json::Value = serde_json::from_slice(&line).unwrap();
        (shown["id"].as_u64().unwrap(), shown["body"].as_str().unwrap().to_owned())
    }

    /// What waits, in order.
    fn waiting(&mut self) -> Vec<String> {
        let ids: Vec<u64> = self.mailbox.list(0, 99).into_iter().map(|(_, id)| id).collect();
        ids.into_iter()
            .map(|id| String::from_utf8_lossy(&self.mailbox.message(id).unwrap().body).into())
            .collect()
    }
}

/// A mailbox with `count` messages, 1, 2, 3 …, and who leases them.
fn rig(count: usize) -> (Rig, HandleId) {
    let mut rig = Rig::with(ROOM, PLENTY);
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::LeaseJson, Mode::Both));
    (1..=count).for_each(|n| rig.fill(writer, &[&n.to_string()]));
    (rig, lease)
}

#[test]
fn messages_are_settled_by_id_one_or_many() {
    let (mut rig, lease) = rig(5);
    let ids = [(); 5].map(|()| rig.lease_next(lease).0);
    assert_eq!(rig.read(lease, 1000), Got::Failed(Error::WouldWait));
    assert_eq!((rig.counts().leased, rig.counts().depth), (5, 0));
    let word = format!("ack {} {}\n", ids[3], ids[0]);
    assert_eq!(rig.send(lease, &word), Got::Written(word.len() as u32));
    assert_eq!((rig.counts().leased, rig.counts().received), (3, 2));
    let again = format!("ack {} {}", ids[1], ids[0]);
    assert_eq!(rig.send(lease, &again), Got::Failed(Error::NoMessage), "one of them is settled");
    assert_eq!((rig.counts().leased, rig.counts().received), (3, 2), "and nothing was");
    rig.rules(|rules| rules.dead_letter = Some(dead_letter()));
    assert_eq!(rig.send(lease, &format!("reject {}", ids[4])), Got::Written(8));
    assert_eq!((rig.mailbox.take_outbox().len(), rig.counts().dead_lettered), (1, 1));
    assert_eq!(rig.send(lease, "ack all"), Got::Written(7));
    assert_eq!(rig.send(lease, "ack all"), Got::Failed(Error::NoMessage));
    assert_eq!((rig.counts().leased, rig.counts().received, rig.memory.used()), (0, 4, 0));
}

#[test]
fn what_is_no_order_is_refused_and_the_leases_stay() {
    let (mut rig, lease) = rig(1);
    let (id, _) = rig.lease_next(lease);
    let many = format!("ack{}", format!(" {id}").repeat(LEASES_MAX + 1));
    for word in
        ["", "ack", "nack", "nack 5s", "ack x", "ack -1", "ack all 5", "touch", "nack 5 s 7", "eat 5", &many]
    {
        assert_eq!(rig.send(lease, word), Got::Failed(Error::Invalid), "{word}");
    }
    assert_eq!(rig.send(lease, "nack 11years all"), Got::Failed(Error::Range));
    assert_eq!(rig.counts().leased, 1);
    let twice = format!("ack {id} {id}");
    assert_eq!(rig.send(lease, &twice), Got::Written(twice.len() as u32), "to say it twice is to say it");
    assert_eq!(rig.counts().received, 1);
}

#[test]
fn what_is_given_back_is_at_the_head_in_the_order_in_which_it_was_leased() {
    for how in ["nack all", "close", "time"] {
        let (mut rig, lease) = rig(6);
        rig.rules(|rules| rules.lease_time = 1000);
        (0..4).for_each(|_| drop(rig.lease_next(lease)));
        match how {
            "close" => rig.close(lease),
            "time" => rig.tick(1000),
            word => drop(rig.send(lease, word)),
        }
        assert_eq!(rig.waiting(), ["1", "2", "3", "4", "5", "6"], "{how}");
        assert_eq!((rig.counts().redelivered, rig.counts().leased), (4, 0));
        assert_eq!(rig.mailbox.next_deadline(), None);
    }
    let (mut rig, lease) = rig(3);
    let ids = [(); 3].map(|()| rig.lease_next(lease).0);
    assert_eq!(rig.send(lease, &format!("nack 5ms {} {}", ids[2], ids[1])), Got::Written(12));
    assert_eq!((rig.counts().delayed, rig.counts().leased), (2, 1));
    rig.tick(5 * MS);
    assert_eq!(rig.waiting().len(), 2);
}

#[test]
fn each_lease_ends_when_its_own_time_is_over() {
    let (mut rig, lease) = rig(3);
    rig.rules(|rules| rules.lease_time = 1000);
    let first = rig.lease_next(lease).0;
    rig.now += 400;
    let second = rig.lease_next(lease).0;
    rig.now += 400;
    assert_eq!(rig.send(lease, &format!("touch {first}")), Got::Written(7));
    let end = rig.mailbox.next_deadline().unwrap();
    rig.tick(end.since(rig.moment()) - 1);
    assert_eq!((rig.waiting(), rig.counts().leased), (vec!["2".to_owned(), "3".to_owned()], 1));
    assert_eq!(rig.send(lease, &format!("ack {second} {first}")), Got::Failed(Error::NoMessage));
    assert_eq!(rig.send(lease, &format!("ack {first}")), Got::Written(5));
    assert_eq!(rig.mailbox.next_deadline(), None);
    let third = rig.lease_next(lease).0;
    rig.now += 1000;
    assert_eq!(
        rig.send(lease, &format!("ack {third}")),
        Got::Failed(Error::NoMessage),
        "before the timer has fired"
    );
}

#[test]
fn more_leases_than_a_step_ends_end_in_steps_and_in_order() {
    let (mut rig, lease) = rig(LEASES_MAX);
    rig.rules(|rules| rules.lease_time = 1000);
    let ids: Vec<u64> = (0..LEASES_MAX).map(|_| rig.lease_next(lease).0).collect();
    let reader = rig.open(Mode::Both);
    rig.now += LEASES_MAX as u64 + 1000;
    rig.read_at(reader, 0, 9, true);
    assert!(std::mem::take(&mut rig.postponed), "others come before those that are there now");
    assert_eq!(rig.counts().leased, LEASES_MAX as u64 - 500);
    assert_eq!(rig.send(lease, &format!("ack {}", ids[0])), Got::Failed(Error::NoMessage), "it is over");
    assert_eq!(rig.send(lease, "ack all"), Got::Failed(Error::NoMessage));
    assert_eq!((rig.counts().leased, rig.counts().redelivered), (0, LEASES_MAX as u64));
    for n in 1..=LEASES_MAX {
        assert_eq!(rig.read(reader, 9), bytes(&n.to_string()));
    }
}

#[test]
fn a_descriptor_has_leases_of_a_limited_length() {
    let mut rig = Rig::with(MailboxLimits { msgsize: 1 << 20, maxmsg: 100, maxbytes: u64::MAX }, 1 << 30);
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::LeaseJson, Mode::Both));
    let body = "x".repeat(1 << 20);
    let most = LEASED_BYTES_MAX >> 20;
    (0..=most).for_each(|_| rig.fill(writer, &[&body]));
    let ids: Vec<u64> = (0..most).map(|_| rig.lease_next(lease).0).collect();
    assert_eq!(rig.read(lease, 2 << 20), Got::Failed(Error::Busy));
    rig.send(lease, &format!("ack {}", ids[3]));
    rig.lease_next(lease);
}

#[test]
fn a_descriptor_has_a_limited_number_of_leases() {
    let (mut rig, lease) = rig(LEASES_MAX + 1);
    (0..LEASES_MAX).for_each(|_| drop(rig.lease_next(lease)));
    assert_eq!(rig.read(lease, 1000), Got::Failed(Error::Busy));
    assert!(!rig.arm(lease, 7).readable, "a read would fail");
    rig.woken();
    assert_eq!((rig.counts().leased, rig.counts().depth), (LEASES_MAX as u64, 1));
    let other = rig.enter(Door::LeaseJson, Mode::Both);
    assert_eq!(rig.lease_next(other).1, (LEASES_MAX + 1).to_string(), "another has its own");
    assert_eq!(rig.send(lease, "nack all"), Got::Written(8));
    assert!(rig.woken().contains(&7) && rig.ready(lease).readable);
    assert_eq!(rig.lease_next(lease).1, "1");
}

#[test]
fn a_line_is_read_in_parts_and_its_rest_is_charged_to_the_reader() {
    let (mut rig, lease) = rig(2);
    let Got::Bytes(mut line) = rig.read(lease, 10) else { panic!() };
    let whole = rig.memory.used() - 2 * (MESSAGE_COST + 1) - MESSAGE_COST;
    assert!(rig.ready(lease).readable);
    while line.last() != Some(&b'\n') {
        let Got::Bytes(part) = rig.read(lease, 10) else { panic!() };
        line.extend(part);
    }
    assert_eq!((line.len() as u64, rig.memory.used()), (whole, 2 * (MESSAGE_COST + 1)));
    assert_eq!(rig.counts().leased, 1);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap()["body"], "1");
}

#[test]
fn after_removal_what_is_in_hand_can_be_settled() {
    let (mut rig, lease) = rig(3);
    let ids = [(); 2].map(|()| rig.lease_next(lease).0);
    assert_eq!(rig.remove(), 1);
    assert_eq!(rig.send(lease, &format!("ack {}", ids[0])), Got::Written(5));
    assert_eq!(rig.send(lease, "nack all"), Got::Written(8));
    assert_eq!(rig.send(lease, "nack all"), Got::Failed(Error::Removed));
    assert_eq!(rig.read(lease, 1000), Got::Failed(Error::Removed));
    assert_eq!((rig.counts().received, rig.memory.used()), (1, 0));
}
