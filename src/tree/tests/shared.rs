//! `messages/` of mailboxes that several hosts share, with a model of the servers: each question is answered once, late, twice or never.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::config::NO_LIMIT;
use crate::engine::{About, Answer, Ask, Asked, Described, Event, Path};
use crate::mailbox::{Purge, WhenFull};
use crate::op::{Listed, RenameHow};

const SENDER: Caller = Caller { uid: 7, gid: 8, pid: 9 };

/// A mount with an engine, and what the servers have of each mailbox.
struct Shared {
    mount: Harness,
    servers: BTreeMap<Path, BTreeMap<u64, &'static str>>,
}

impl Shared {
    /// With the mailboxes `s/q` and `s/other`, and a local one.
    fn new() -> Shared {
        let mut shared = Shared { mount: Harness::new(), servers: BTreeMap::new() };
        shared.tell(Event::Connected(true));
        for path in [&b"s/q"[..], b"s/other"] {
            let described = Described {
                folder: false,
                uid: 0,
                gid: 0,
                mode: 0o600,
                limits: MailboxLimits::default(),
                full: WhenFull::Wait,
                ttl: NO_LIMIT,
                lease_time: NO_LIMIT,
                max_deliver: NO_LIMIT,
                dead_letter: None,
            };
            shared.tell(Event::Present(Path::from(path), described));
            shared.servers.insert(Path::from(path), BTreeMap::new());
        }
        shared.mount.create("mailboxes/local", WRITE);
        shared
    }

    fn tell(&mut self, event: Event) {
        let mut fx = Effects::new();
        self.mount.tree.engine(event, at(self.mount.now), &mut fx);
        self.mount.carry_out(&mut fx, None);
    }

    fn send(&mut self, number: u64, text: &'static str) {
        self.servers.get_mut(&b"s/q"[..]).unwrap().insert(number, text);
    }

    /// What was asked, of which nobody has heard yet.
    fn asked(&mut self) -> Vec<Ask> {
        let asks = std::mem::take(&mut self.mount.engine).into_iter().filter_map(|command| match command {
            Command::Ask(ask) => Some(ask),
            _ => None,
        });
        asks.collect()
    }

    fn answer(&mut self, ask: &Ask) {
        let mailbox = self.servers.get_mut(&ask.path).unwrap();
        let result = match &ask.what {
            Asked::List { after, most } => Ok(Answer::List {
                numbers: mailbox.keys().copied().filter(|number| number > after).take(*most).collect(),
                last: mailbox.keys().next_back().copied().unwrap_or_default(),
            }),
            Asked::Look(number) => mailbox
                .get(number)
                .map(|text| {
                    let about = About {
                        number: *number,
                        sent: Timestamp(1),
                        sender: SENDER,
                        priority: 0,
                        tag: None,
                        reason: None,
                    };
                    Answer::Message(about, Arc::from(text.as_bytes()))
                })
                .ok_or(Error::NotFound),
            Asked::Next { .. } => panic!("nobody looks through the door"),
            Asked::Purge(what) => {
                assert_eq!(*what, Purge::All);
                let removed = mailbox.len() as u64;
                mailbox.clear();
                Ok(Answer::Removed(removed))
            }
            Asked::Remove(number) => mailbox.remove(number).map(|_| Answer::Done).ok_or(Error::NotFound),
            Asked::Move(number, to) => match mailbox.remove(number) {
                Some(text) => {
                    let target = self.servers.get_mut(to).unwrap();
                    target.insert(target.len() as u64 + 1, text);
                    Ok(Answer::Done)
                }
                None => Err(Error::NotFound),
            },
        };
        self.tell(Event::Answered(ask.mailbox, ask.wait, result));
    }

    /// The answer to a request that waits for the servers', which they give at once.
    fn get(&mut self, node: NodeId, op: Op<'_>) -> Reply {
        let unique = self.mount.wait(node, op);
        let asks = self.asked();
        for ask in &asks {
            self.answer(ask);
        }
        let late = self.mount.late();
        let [(of, reply)] = &late[..] else { panic!("{late:?}") };
        assert_eq!((*of, self.mount.parked()), (unique, 0));
        reply.clone()
    }

    fn messages(&mut self) -> NodeId {
        self.mount.node("control/mailboxes/s/q/messages")
    }

    fn look_up(&mut self, name: &str) -> Result<Entry, Error> {
        let folder = self.messages();
        match self.get(folder, Op::Lookup { name: name.as_bytes() }) {
            Reply::Entry(entry) => Ok(entry),
            Reply::Failed(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn list(&mut self, fh: Fh, after: u64, size: u32) -> Vec<Listed> {
        let folder = self.messages();
        match self.get(folder, Op::Readdir { fh, offset: after, size }) {
            Reply::Listing(list, _) => list,
            other => panic!("{other:?}"),
        }
    }

    fn open_list(&mut self) -> Fh {
        let folder = self.messages();
        let Reply::Directory(fh) = self.mount.get(folder, Op::Opendir) else { panic!("no folder") };
        fh
    }

    fn status(&mut self, name: &str) -> u64 {
        let text = self.mount.show("control/mailboxes/s/q/status");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next().unwrap().parse().unwrap()
    }
}

#[test]
fn a_listing_has_pages_and_ends_where_it_ended_when_it_began() {
    let mut shared = Shared::new();
    for number in [3, 4, 9, 20] {
        shared.send(number, "x");
    }
    let fh = shared.open_list();
    let names = |list: &[Listed]| {
        let names = list.iter().map(|listed| String::from_utf8_lossy(&listed.name).into_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let first = shared.list(fh, 0, 24);
    assert_eq!(names(&first), ". .. 3 4");
    shared.send(21, "late");
    let rest = shared.list(fh, first.last().unwrap().cookie, 4096);
    assert_eq!(names(&rest), "9 20");
    assert!(shared.list(fh, rest.last().unwrap().cookie, 4096).is_empty());
    // From its beginning, it is a new one.
    assert_eq!(names(&shared.list(fh, 0, 4096)), ". .. 3 4 9 20 21");
}

#[test]
fn a_message_shows_who_sent_it_and_reads_as_it_is() {
    let mut shared = Shared::new();
    shared.send(5, "body");
    let entry = shared.look_up("5").unwrap();
    assert_eq!((entry.attr.uid, entry.attr.gid, entry.attr.size), (7, 8, 4));
    let fh = shared.mount.open(1, entry.node, READ).unwrap();
    assert!(is_message(&shared.get(entry.node, read(fh)), b"body"));
    // Somebody receives it. Who has it open keeps it.
    shared.servers.get_mut(&b"s/q"[..]).unwrap().clear();
    assert!(is_message(&shared.mount.get(entry.node, read(fh)), b"body"));
    shared.mount.release(entry.node, fh);
    assert_eq!(shared.look_up("5"), Err(Error::NotFound));
    assert_eq!(shared.mount.open(1, entry.node, WRITE), Err(Error::AccessDenied));
    // What is no number is not asked for.
    let folder = shared.messages();
    for name in ["05", "x", "-1", "18446744073709551616"] {
        let reply = shared.mount.get(folder, Op::Lookup { name: name.as_bytes() });
        assert_eq!(reply, Reply::Failed(Error::NotFound), "{name}");
    }
}

#[test]
fn a_message_is_removed_or_moved_by_its_number() {
    let mut shared = Shared::new();
    shared.send(1, "one");
    shared.send(2, "two");
    let folder = shared.messages();
    assert_eq!(shared.get(folder, Op::Unlink { name: b"1" }), Reply::Done);
    assert_eq!(shared.get(folder, Op::Unlink { name: b"1" }), Reply::Failed(Error::NotFound));
    let other = shared.mount.node("control/mailboxes/s/other/messages");
    let local = shared.mount.node("control/mailboxes/local/messages");
    let to = |new_parent, new_name| Op::Rename { name: b"2", new_parent, new_name, how: RenameHow::Replace };
    assert_eq!(shared.mount.get(folder, to(other, b"3")), Reply::Failed(Error::NotPermitted));
    assert_eq!(shared.mount.get(folder, to(local, b"2")), Reply::Failed(Error::NotSupported));
    let out = Op::Rename { name: b"2", new_parent: folder, new_name: b"2", how: RenameHow::Replace };
    assert_eq!(shared.mount.get(local, out), Reply::Failed(Error::NotSupported));
    assert_eq!(shared.get(folder, to(other, b"2")), Reply::Done);
    assert_eq!(shared.get(folder, to(other, b"2")), Reply::Failed(Error::NotFound));
    assert_eq!(shared.servers[&b"s/other"[..]][&1], "two");
    assert_eq!((shared.status("removed"), shared.status("moved_out")), (1, 1));
}

#[test]
fn purge_says_how_many_messages_it_has_removed() {
    let mut shared = Shared::new();
    shared.send(1, "one");
    shared.send(2, "two");
    let node = shared.mount.node("control/mailboxes/s/q/purge");
    let fh = shared.mount.open(1, node, BOTH).unwrap();
    assert_eq!(shared.mount.get(node, write(fh, b"some")), Reply::Failed(Error::Invalid));
    assert_eq!(shared.get(node, write(fh, b"all\n")), Reply::Written(4));
    for expected in [&b"2\n"[..], b""] {
        assert_eq!(shared.mount.get(node, read(fh)), Reply::Data(expected.to_vec()));
    }
    assert_eq!((shared.status("removed"), shared.servers[&b"s/q"[..]].len()), (2, 0));
    shared.mount.release(node, fh);
}

#[test]
fn each_request_is_answered_once_whatever_becomes_of_its_question() {
    let mut shared = Shared::new();
    shared.send(1, "one");
    let folder = shared.messages();
    // The caller gets a signal, and the answer comes late, and twice.
    let unique = shared.mount.wait(folder, Op::Lookup { name: b"1" });
    shared.mount.interrupt(unique);
    assert_eq!(shared.mount.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    for ask in shared.asked() {
        shared.answer(&ask);
        shared.answer(&ask);
    }
    assert_eq!((shared.mount.late().len(), shared.mount.parked()), (0, 0));
    // It is not what was asked for.
    let unique = shared.mount.wait(folder, Op::Lookup { name: b"1" });
    let asks = shared.asked();
    shared.tell(Event::Answered(asks[0].mailbox, asks[0].wait, Ok(Answer::Done)));
    assert_eq!(shared.mount.late(), [(unique, Reply::Failed(Error::Io))]);
    // The mailbox goes.
    let unique = shared.mount.wait(folder, Op::Lookup { name: b"1" });
    shared.tell(Event::Gone(Path::from(&b"s/q"[..])));
    assert_eq!(shared.mount.late(), [(unique, Reply::Failed(Error::NotFound))]);
    // The mount ends.
    let other = shared.mount.node("control/mailboxes/s/other/messages");
    let unique = shared.mount.wait(other, Op::Lookup { name: b"1" });
    let mut fx = Effects::new();
    shared.mount.tree.end(at(0), &mut fx);
    shared.mount.carry_out(&mut fx, None);
    assert_eq!(shared.mount.late(), [(unique, Reply::Failed(Error::Ending))]);
    assert_eq!(shared.mount.parked(), 0);
}

#[test]
fn without_a_connection_nobody_waits_for_messages() {
    let mut shared = Shared::new();
    shared.send(1, "one");
    let entry = shared.look_up("1").unwrap();
    let (fh, folder) = (shared.mount.open(1, entry.node, READ).unwrap(), shared.messages());
    shared.tell(Event::Connected(false));
    let unreachable = Reply::Failed(Error::Unreachable);
    assert_eq!(shared.mount.get(folder, Op::Lookup { name: b"1" }), unreachable);
    assert_eq!(shared.mount.get(folder, Op::Unlink { name: b"1" }), unreachable);
    assert_eq!(shared.mount.get(entry.node, read(fh)), unreachable);
    let list = shared.open_list();
    assert_eq!(shared.mount.get(folder, Op::Readdir { fh: list, offset: 0, size: 99 }), unreachable);
}
