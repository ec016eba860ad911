//! A tree is saved, and taken over by another process: whoever waits goes on waiting, and whatever is open stays as it was.

use std::os::fd::BorrowedFd;

use proptest::prelude::*;

use super::*;
use crate::op::Ready;
use crate::segment;
use crate::state::{Unfit, VERSION};
use crate::tree::Backing;

/// What [`busy`] was in each version.
const FIRST: &[u8] = include_bytes!("../../../tests/state/version-1");
const SECOND: &[u8] = include_bytes!("../../../tests/state/version-2");
const THIRD: &[u8] = include_bytes!("../../../tests/state/version-3");
const FOURTH: &[u8] = include_bytes!("../../../tests/state/version-4");

/// The requests in it that wait, but for the writer that waits for room.
const WAITED: [u64; 8] = [32, 42, 252, 278, 334, 368, 380, 396];
const WAITED_IN_THIRD: [u64; 8] = [32, 42, 252, 278, 336, 370, 382, 398];

/// The number of memory files in it.
const MEMORIES: usize = 2;

#[derive(Debug)]
struct FakeBacking;

impl Backing for FakeBacking {
    fn open(&self, _: BorrowedFd<'_>) -> Result<u32, Error> {
        Ok(7)
    }

    fn close(&self, _: u32) {}
}

fn passthrough() -> Setup {
    let mut setup = setup(1 << 20);
    setup.limits.segment_memory = 64 << 20;
    Setup { backing: Some(Box::new(FakeBacking)), ..setup }
}

fn saved(tree: &Tree) -> (Vec<u8>, Vec<Arc<dyn segment::Memory>>) {
    let mut state = Vec::new();
    let memories = tree.save(&mut state).unwrap();
    (state, memories)
}

fn take_over(state: &[u8], memories: Vec<Arc<dyn segment::Memory>>) -> Result<Tree, Unfit> {
    take_over_at(at(0), state, memories)
}

fn take_over_at(now: Now, state: &[u8], memories: Vec<Arc<dyn segment::Memory>>) -> Result<Tree, Unfit> {
    // Limits are the mount's, whatever the next process would have.
    Tree::take_over(
        Setup { backing: Some(Box::new(FakeBacking)), ..setup(1) },
        memfds(),
        state,
        memories,
        now,
    )
}

fn new_memories() -> Vec<Arc<dyn segment::Memory>> {
    (0..MEMORIES).map(|_| memfds()().unwrap()).collect()
}

/// A harness around a tree that was taken over.
fn go_on(before: &Harness, tree: Tree) -> Harness {
    Harness { tree, now: before.now, unique: before.unique, ..Harness::new() }
}

/// What [`busy`] has left open.
struct Files {
    readers: [(NodeId, Fh); 2],
    full: (NodeId, Fh),
    half_read: (NodeId, Fh),
    lines: Fh,
    whole: Fh,
    tagged: Fh,
    lease: Fh,
    client: Fh,
    server: Fh,
    removed: (NodeId, Fh),
    topic: [(NodeId, Fh); 3],
    segment: [(NodeId, Fh); 2],
    bell: Fh,
    ring: Fh,
    text: Fh,
    message: Fh,
    listing: (NodeId, Fh),
    through_ring: (NodeId, Fh),
}

impl Harness {
    fn door(&mut self, path: &str, flags: OpenFlags) -> (NodeId, Fh) {
        let node = self.node(path);
        (node, self.open(1, node, flags).unwrap())
    }

    fn send(&mut self, (node, fh): (NodeId, Fh), body: &[u8]) {
        let sent = self.get(node, write(fh, body));
        assert!(matches!(sent, Reply::Written(count) if count as usize == body.len()), "{sent:?}");
    }

    /// One step of a job. False if there is none.
    fn works(&mut self) -> bool {
        self.now += 1;
        let mut fx = Effects::new();
        let any = self.tree.work(at(self.now), &mut fx);
        self.carry_out(&mut fx, None);
        any
    }

    fn forget(&mut self, node: NodeId, count: u64) {
        assert_eq!(self.ask(1, node, Op::Forget(vec![(node, count)])).1, None);
    }
}

/// What `io_uring` asks before it reads.
fn asks(fh: Fh) -> Op<'static> {
    Op::Poll { fh, arm: None, reads: true }
}

fn part(fh: Fh, offset: u64, size: u32) -> Op<'static> {
    Op::Read { fh, offset, size, nonblock: false, direct: true }
}

fn attribute(name: &'static [u8], value: &'static [u8]) -> Op<'static> {
    Op::Setxattr { name, value, create: false, replace: false }
}

/// A tree with something of everything under way.
fn busy() -> (Harness, Files) {
    let mut harness = Harness::with(passthrough());
    let h = &mut harness;
    assert_eq!(h.node("mailboxes"), MAILBOXES);
    let mkdir = |name: &'static [u8]| Op::Mkdir { name, mode: 0o750 };
    assert!(matches!(h.get(MAILBOXES, mkdir(b"team")), Reply::Entry(_)));
    assert!(matches!(h.get(MAILBOXES, mkdir(b"gone")), Reply::Entry(_)));
    assert_eq!(h.get(MAILBOXES, Op::Rmdir { name: b"gone" }), Reply::Done);
    assert_eq!(h.store("control/mailboxes/team/config/maxmsg", "7"), Reply::Written(1));

    let reader = h.create("mailboxes/team/q", READ);
    h.wait(reader.0, read(reader.1));
    let second = h.door("mailboxes/team/q", READ);
    h.wait(second.0, read(second.1));
    h.get(reader.0, attribute(b"user.colour", b"red"));
    h.get(reader.0, Op::Poll { fh: reader.1, arm: Some(Poller::new(PollHandle(70))), reads: false });

    let full = h.create("mailboxes/full", WRITE);
    assert_eq!(h.store("control/mailboxes/full/config/maxmsg", "2"), Reply::Written(1));
    assert_eq!(h.store("control/mailboxes/full/config/maxmsg", "two"), Reply::Failed(Error::Invalid));
    h.send(full, b"first of two");
    h.send(full, b"second of two");
    h.wait(full.0, write(full.1, b"waits for room"));
    let half_read = h.door("mailboxes/full", READ);

    let (node, work) = h.create("mailboxes/jobs", WRITE);
    let settings = [("ttl", "1h"), ("lease_time", "10s"), ("max_deliver", "3"), ("dead_letter", "team/q")];
    for (name, value) in settings {
        let reply = h.store(&format!("control/mailboxes/jobs/config/{name}"), value);
        assert!(matches!(reply, Reply::Written(_)), "{name}: {reply:?}");
    }
    for n in 0..3 {
        h.send((node, work), format!("task {n}").as_bytes());
    }
    h.release(node, work);
    let lease = h.door("control/mailboxes/jobs/lease", BOTH);
    assert!(is_message(&h.get(lease.0, part(lease.1, 0, 3)), b"tas"));

    h.create("mailboxes/doors", READ);
    let lines = h.door("control/mailboxes/doors/stream", WRITE);
    h.send(lines, b"one\ntwo\nthree\nhalf a li");
    let urgent = h.door("control/mailboxes/doors/priority/9", WRITE);
    h.send(urgent, b"urgent");
    let blue = h.door("control/mailboxes/doors/tag/blue", WRITE);
    h.send(blue, b"a blue one");
    let whole = h.door("control/mailboxes/doors/whole", WRITE);
    h.send(whole, b"the beginning, ");
    let green = h.door("control/mailboxes/doors/tag/green", READ);
    h.wait(green.0, read(green.1));
    let client = h.door("control/mailboxes/doors/rpc", BOTH);
    h.send(client, b"what time is it?");
    let server = h.door("control/mailboxes/doors/serve", BOTH);
    assert!(is_message(&h.get(server.0, read(server.1)), b"what time is it?"));
    h.wait(client.0, read(client.1));
    let messages = h.node("control/mailboxes/doors/messages");
    let Reply::Directory(listing) = h.get(messages, Op::Opendir) else { panic!() };
    let Reply::Listing(list, _) = h.get(messages, Op::Readdir { fh: listing, offset: 0, size: 72 }) else {
        panic!()
    };
    let name = String::from_utf8(list[2].name.to_vec()).unwrap();
    let message = h.door(&format!("control/mailboxes/doors/messages/{name}"), READ);

    let removed = h.create("mailboxes/removed", READ);
    h.unlink("mailboxes/removed");

    let talk = h.create("topics/talk", WRITE);
    let waiting = h.door("topics/talk", READ);
    let busy = h.door("topics/talk", READ);
    h.send(talk, b"heard by both");
    assert!(is_message(&h.get(waiting.0, part(waiting.1, 0, 4096)), b"heard by both"));
    h.get(waiting.0, part(waiting.1, 13, 4096));
    h.get(waiting.0, Op::Getattr);
    h.wait(waiting.0, part(waiting.1, 13, 4096));

    let shared = h.create("segments/shared", BOTH);
    h.get(shared.0, Op::Setattr(SetAttr { size: Some(10_000), ..SetAttr::default() }));
    h.send(shared, b"bytes of a segment");
    assert_eq!(h.store("control/segments/shared/config/size_max", "1M"), Reply::Written(2));
    assert_eq!(h.get(shared.0, lock(shared.1, 1, LockKind::Exclusive)), Reply::Done);
    let other = h.door("segments/shared", READ);
    h.wait(other.0, lock(other.1, 2, LockKind::Shared));
    let bell = h.door("control/segments/shared/wait", READ);
    h.wait(bell.0, read(bell.1));
    let ring = h.door("control/segments/shared/notify", WRITE);
    let long = h.create("segments/long", BOTH);
    let length = 3 << 20;
    h.wait(long.0, Op::Fallocate { fh: long.1, offset: 0, length, mode: 0 });
    assert!(h.works());

    // A name that another thread has looked up just now is refused once.
    let looked_up = h.node("mailboxes/jobs");
    assert_eq!(h.open(5, looked_up, WRITE), Err(Error::Stale));
    let text = h.door("control/mailboxes/jobs/status", READ);
    h.get(text.0, part(text.1, 0, 10));
    h.forget(half_read.0, 0);

    let link = h.get(MAILBOXES, Op::Symlink { name: b"alias", target: b"full" });
    assert!(matches!(link, Reply::Entry(_)));
    let later = h.door("control/mailboxes/doors/delay/1h", WRITE);
    h.send(later, b"later");
    h.create("mailboxes/dead", READ);
    let bad = h.create("mailboxes/bad", WRITE);
    assert_eq!(h.store("control/mailboxes/bad/config/dead_letter", "dead"), Reply::Written(4));
    h.send(bad, b"rejected");
    let lease = h.door("control/mailboxes/bad/lease", BOTH);
    assert!(is_message(&h.get(lease.0, read(lease.1)), b"rejected"));
    assert_eq!(h.get(lease.0, write(lease.1, b"reject")), Reply::Written(6));

    h.create("mailboxes/many", READ);
    let once = h.door("control/mailboxes/many/once/key", WRITE);
    h.send(once, b"once");
    let many = h.door("control/mailboxes/many/lease.json", BOTH);
    assert!(matches!(h.get(many.0, read(many.1)), Reply::Message(_)));

    // A read through io_uring has got a part, and goes on.
    let through_ring = h.create("mailboxes/ring", BOTH);
    h.send(through_ring, b"a part");
    h.send(through_ring, b"the next");
    assert!(matches!(
        h.get(through_ring.0, asks(through_ring.1)),
        Reply::Ready(Ready { readable: true, .. })
    ));
    assert!(is_message(&h.get(through_ring.0, part(through_ring.1, 0, 100)), b"a part"));
    assert!(h.late().is_empty());
    let files = Files {
        readers: [reader, second],
        full,
        half_read,
        lines: lines.1,
        whole: whole.1,
        tagged: blue.1,
        lease: lease.1,
        client: client.1,
        server: server.1,
        removed,
        topic: [talk, waiting, busy],
        segment: [shared, other],
        bell: bell.1,
        ring: ring.1,
        text: text.1,
        message: message.1,
        listing: (messages, listing),
        through_ring,
    };
    (harness, files)
}

/// Goes on with what is open, and tells all answers, in order.
fn continued(h: &mut Harness, files: &Files) -> Vec<String> {
    let mut told = Vec::new();
    let any = NodeId::ROOT;
    let asked = [
        (files.readers[0].0, write(files.tagged, b"blue, for whoever takes any")),
        (any, part(files.half_read.1, 0, 5)),
        (any, part(files.half_read.1, 5, 500)),
        (any, write(files.lines, b"ne\n")),
        (any, write(files.whole, b"and the end")),
        (any, part(files.lease, 0, 500)),
        (any, part(files.lease, 0, 500)),
        (any, write(files.lease, b"nack")),
        (any, part(files.lease, 0, 500)),
        (any, write(files.client, b"too soon")),
        (any, write(files.server, b"noon")),
        (any, read(files.removed.1)),
        (any, write(files.topic[0].1, b"news")),
        (any, part(files.topic[2].1, 0, 500)),
        (any, part(files.segment[1].1, 0, 18)),
        (files.segment[0].0, lock(files.segment[0].1, 1, LockKind::Unlock)),
        (any, write(files.ring, b"x")),
        (any, read(files.bell)),
        (any, part(files.text, 10, 500)),
        (any, read(files.message)),
        (files.listing.0, Op::Readdir { fh: files.listing.1, offset: 0, size: 4096 }),
        (any, asks(files.through_ring.1)),
        (any, part(files.through_ring.1, 0, 94)),
        (files.full.0, Op::Getattr),
        (files.readers[0].0, Op::Getxattr { name: b"user.colour", size: 100 }),
        (any, Op::Release { fh: files.whole }),
        (any, Op::Release { fh: files.full.1 }),
    ];
    for (node, op) in asked {
        let (unique, reply) = h.ask(1, node, op);
        told.push(format!("{unique}: {reply:?}, then {:?}", h.late()));
    }
    while h.works() {
        told.push(format!("{:?}", h.late()));
    }
    // The lease is over, and then everything that has a time to live.
    for seconds in [11, 4000] {
        h.now += seconds * 1_000_000_000;
        let mut fx = Effects::new();
        h.tree.tick(at(h.now), &mut fx);
        h.carry_out(&mut fx, None);
        told.push(format!("{:?}", h.late()));
    }
    let texts = ["status", "mailboxes/team/q/status", "mailboxes/full/status", "mailboxes/full/error"];
    let more = ["mailboxes/jobs/config/dead_letter", "topics/talk/status", "segments/shared/status"];
    for text in texts.into_iter().chain(more) {
        told.push(h.show(&format!("control/{text}")));
    }
    h.now += 1_000_000_000;
    let next = h.node("mailboxes/team");
    let names = h.get(next, Op::Opendir);
    assert!(matches!(names, Reply::Directory(_)));
    told.push(format!("{:?} {:?} {:?}", h.woken, h.alarms, h.again));
    told
}

#[test]
fn who_waits_and_what_is_open_goes_on_as_it_would_have() {
    let (mut before, files) = busy();
    let (state, memories) = saved(&before.tree);
    let mut after = go_on(&before, take_over(&state, memories.clone()).unwrap());
    assert!(saved(&after.tree).0 == state);
    (before.woken, before.alarms) = (Vec::new(), Vec::new());
    let expected = continued(&mut before, &files);
    let told = continued(&mut after, &files);
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.len(), expected.len());
    assert!(saved(&before.tree).0 == saved(&after.tree).0);
}

/// A tree with jobs of each kind.
fn working() -> Harness {
    let mut setup = passthrough();
    (setup.limits.memory, setup.limits.segment_memory) = (1 << 24, 128 << 20);
    let mut h = Harness::with(setup);
    let talk = h.create("topics/talk", WRITE);
    let (old, _) = h.create("mailboxes/old", READ);
    for _ in 0..300 {
        let listener = h.door("topics/talk", READ);
        h.wait(listener.0, read(listener.1));
        let reader = h.open(1, old, READ).unwrap();
        h.wait(old, read(reader));
    }
    h.wait(talk.0, write(talk.1, b"heard by all"));
    h.unlink("mailboxes/old");

    h.create("mailboxes/long", READ);
    for (name, value) in [("maxbytes", "max"), ("maxmsg", "max")] {
        assert_eq!(h.store(&format!("control/mailboxes/long/config/{name}"), value), Reply::Written(3));
    }
    let whole = h.door("control/mailboxes/long/whole", WRITE);
    h.send(whole, &vec![b'x'; 5 << 20]);
    h.release(whole.0, whole.1);
    let tagged = h.door("control/mailboxes/long/tag/blue", WRITE);
    for _ in 0..2500 {
        h.send(tagged, b"blue");
    }
    let red = h.door("control/mailboxes/long/tag/red", READ);
    h.wait(red.0, read(red.1));

    let size = |size| Op::Setattr(SetAttr { size: Some(size), ..SetAttr::default() });
    for name in ["cut", "freed"] {
        let (node, fh) = h.create(&format!("segments/{name}"), WRITE);
        assert!(matches!(h.get(node, size(50 << 20)), Reply::Attr(..)));
        if name == "cut" {
            h.wait(node, size(1));
        } else {
            h.release(node, fh);
        }
    }
    h.unlink("segments/freed");
    h.late();
    h
}

#[test]
fn work_that_is_under_way_goes_on() {
    let finished = |taken_over: bool| {
        let (mut h, mut told) = (working(), Vec::new());
        for step in 0.. {
            if taken_over && step == 3 {
                let (state, memories) = saved(&h.tree);
                h = go_on(&h, take_over(&state, memories).unwrap());
                assert!(saved(&h.tree).0 == state);
            }
            if !h.works() {
                assert!(step > 10, "{step} steps");
                break;
            }
            // When the segment was cut depends on the others' turns.
            let timeless = |reply| if let Reply::Attr(..) = reply { Reply::Done } else { reply };
            told.extend(h.late().into_iter().map(|(unique, reply)| (unique, timeless(reply))));
        }
        // An index is begun anew, so that others may have their turn before.
        told.sort_by_key(|(unique, _)| *unique);
        let long = h.show("control/mailboxes/long/status");
        (told, long, h.show("control/status"))
    };
    let ((expected, long, _), (told, long_after, status)) = (finished(false), finished(true));
    assert_eq!(told, expected);
    assert_eq!(long_after, long);
    assert!(long.starts_with("depth 2501\n"), "{long}");
    assert!(status.contains("segment_used 4096\n"), "{status}");
}

#[test]
fn a_job_in_the_middle_of_a_step_is_not_left_behind() {
    let h = working();
    let (id, job, _) = h.tree.work.take().unwrap();
    let refused = h.tree.save(&mut Vec::new()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy);
    h.tree.work.put_back(id, job, true);
    assert!(h.tree.save(&mut Vec::new()).is_ok());
}

#[test]
fn the_clock_is_told_again() {
    let (before, _) = busy();
    let (state, memories) = saved(&before.tree);
    let mut after = go_on(&before, take_over(&state, memories).unwrap());
    let mut fx = Effects::new();
    after.tree.tick(at(after.now), &mut fx);
    after.carry_out(&mut fx, None);
    assert_eq!(after.alarms, before.alarms.last().copied().as_slice());
    assert!(after.tree.has_work(), "a long call was under way");
}

/// What any version has saved of [`busy`] before 1000, by either clock, is there, and who waited waits.
fn check_frozen(state: &[u8], moment: u64) -> Harness {
    let now = Now { wall: Timestamp(1000), moment: Moment(0).after(moment) };
    let tree = take_over_at(now, state, new_memories()).unwrap();
    let mut h = Harness { tree, now: moment, unique: 100_000, ..Harness::new() };
    assert!(h.show("control/status").contains("uptime 0.000\n"));
    let full = h.door("control/mailboxes/full/stream", READ);
    assert_eq!(h.get(full.0, read(full.1)), Reply::Data(b"first of twosecond of two".to_vec()));
    assert_eq!(h.late(), [(88, Reply::Written(14))]);
    assert!(is_message(&h.get(full.0, read(full.1)), b"waits for room"));
    assert!(h.show("control/mailboxes/jobs/status").starts_with("depth 2\n"));
    assert_eq!(h.show("control/mailboxes/team/config/maxmsg"), "7\n");
    assert_eq!(h.show("control/segments/shared/config/size_max"), "1048576\n");
    h
}

fn check_who_waited(h: &mut Harness, waited_in_it: [u64; 8]) {
    let mut fx = Effects::new();
    h.tree.end(at(h.now), &mut fx);
    while h.tree.work(at(h.now), &mut fx) {}
    h.carry_out(&mut fx, None);
    let mut waited: Vec<(u64, Reply)> = h.late();
    waited.sort_by_key(|(unique, _)| *unique);
    let ended = waited_in_it.map(|unique| (unique, Reply::Failed(Error::Ending)));
    assert_eq!(waited, ended);
}

/// `IPCFS_FREEZE=1` writes the state of this version anew, as long as it was not released.
#[test]
fn the_format_of_this_version_is_as_it_was() {
    let state = saved(&busy().0.tree).0;
    if std::env::var_os("IPCFS_FREEZE").is_some() {
        std::fs::write(format!("tests/state/version-{VERSION}"), &state).unwrap();
    }
    let tree = take_over_at(at(0), FOURTH, new_memories()).unwrap();
    assert!(VERSION > 4 || saved(&tree).0 == FOURTH, "the format has changed without another version");
}

#[test]
fn a_state_of_version_1_can_always_be_taken_over() {
    // Its times are all those of the wall clock.
    check_who_waited(&mut check_frozen(FIRST, 5_000_000_000), WAITED);
}

#[test]
fn a_state_of_version_2_can_always_be_taken_over() {
    check_who_waited(&mut check_dead_letter(SECOND), WAITED);
}

#[test]
fn a_state_of_version_3_can_always_be_taken_over() {
    check_who_waited(&mut check_many(THIRD), WAITED_IN_THIRD);
}

#[test]
fn a_state_of_version_4_can_always_be_taken_over() {
    check_who_waited(&mut check_many(FOURTH), WAITED_IN_THIRD);
}

fn check_many(state: &[u8]) -> Harness {
    let mut h = check_dead_letter(state);
    assert!(h.show("control/mailboxes/many/status").contains("\nleased 1\n"));
    let once = h.door("control/mailboxes/many/once/key", WRITE);
    assert_eq!(h.get(once.0, write(once.1, b"again")), Reply::Written(5));
    assert!(h.show("control/mailboxes/many/status").contains("\nduplicates 1\n"));
    h
}

fn check_dead_letter(state: &[u8]) -> Harness {
    let mut h = check_frozen(state, 1000);
    let alias = h.node("mailboxes/alias");
    assert!(is_message(&h.get(alias, Op::Readlink), b"full"));
    assert!(h.show("control/mailboxes/doors/status").contains("\ndelayed 1\n"));
    let dead = h.door("control/mailboxes/dead/json", READ);
    let Reply::Data(line) = h.get(dead.0, read(dead.1)) else { panic!() };
    let line = String::from_utf8(line).unwrap();
    assert!(line.contains("\"reason\":\"rejected\"") && line.contains("\"body\":\"rejected\""), "{line}");
    h
}

#[test]
fn leases_by_id_keys_and_who_has_just_received_go_over() {
    let mut h = Harness::with(passthrough());
    h.create("mailboxes/box", WRITE);
    let once = h.door("control/mailboxes/box/once/k", WRITE);
    h.send(once, b"zero");
    let plain = h.door("mailboxes/box", WRITE);
    h.send(plain, b"one");
    h.send(plain, b"two");
    let many = h.door("control/mailboxes/box/lease.json", BOTH);
    let id = |reply: &Reply| -> u64 {
        let (Reply::Message(line) | Reply::Text(line)) = reply else { panic!("{reply:?}") };
        serde_json::from_slice::<serde_json::Value>(line.as_bytes()).unwrap()["id"].as_u64().unwrap()
    };
    let ids = [(); 2].map(|()| id(&h.get(many.0, read(many.1))));
    let node = h.node("mailboxes/box");
    h.open(7, node, READ).unwrap();
    let (state, memories) = saved(&h.tree);
    let mut h = go_on(&h, take_over_at(at(h.now), &state, memories).unwrap());
    assert_eq!(h.get(once.0, write(once.1, b"zero")), Reply::Written(4));
    let status = h.show("control/mailboxes/box/status");
    assert!(status.contains("duplicates 1\n") && status.contains("leased 2\n"), "{status}");
    let folder = h.node("mailboxes");
    assert_eq!(h.ask(7, folder, Op::Unlink { name: b"box" }).1, Some(Reply::Failed(Error::Busy)));
    let word = format!("ack {}", ids[1]);
    assert_eq!(h.get(many.0, write(many.1, word.as_bytes())), Reply::Written(word.len() as u32));
    h.release(many.0, many.1);
    let status = h.show("control/mailboxes/box/status");
    assert!(status.contains("depth 2\n") && status.contains("leased 0\n"), "{status}");
}

#[test]
fn what_cannot_be_taken_over_is_refused() {
    let (before, _) = busy();
    let (state, memories) = saved(&before.tree);
    let other = [&(VERSION + 1).to_le_bytes(), &state[4..]].concat();
    let refused = |state: &[u8]| take_over(state, memories.clone()).unwrap_err();
    assert_eq!(refused(&other), Unfit::Version(VERSION + 1));
    for length in [0, 3, 4, 7, 8, 100, state.len() - 1] {
        assert_eq!(refused(&state[..length]), Unfit::Damaged);
    }
    assert_eq!(take_over(&state, memories[1..].to_vec()).unwrap_err(), Unfit::Damaged, "memory is missing");
    let cached = Tree::take_over(setup(1 << 20), memfds(), &state, memories, at(0));
    assert_eq!(cached.unwrap_err(), Unfit::Mount("data path of segments"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checksums aside, whatever the bytes are they make a tree or none.
    #[test]
    fn damage_is_an_error_and_no_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut state = FOURTH[..FOURTH.len() - 4].to_vec();
        for (at, byte) in damage {
            let rest = &mut state[4..];
            rest[at.index(rest.len())] = byte;
        }
        if let Some(cut) = cut {
            state.truncate(4 + cut.index(state.len() - 4));
        }
        let checksum = crc32c::crc32c(&state);
        state.extend_from_slice(&checksum.to_le_bytes());
        drop(take_over(&state, new_memories()));
    }
}
