use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::repeat::{Again, Lost, take_over};
use super::{FILES, Files, Keep, Recorded};
use crate::config::Limits;
use crate::op::{
    Caller, Effect, Effects, Entry, Fh, Moment, NodeId, Now, Op, OpenFlags, Reply, Request, RequestId,
    Timestamp,
};
use crate::sys::history_file::HistoryFile;
use crate::tree::Setup;

/// What another process would keep.
#[derive(Debug, Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<u64, OwnedFd>>>, Arc<AtomicBool>);

impl Keep for Shelf {
    fn keep(&self, number: u64, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.0.lock().insert(number, descriptor.try_clone_to_owned()?);
        Ok(())
    }

    fn let_go(&self, number: u64) -> io::Result<()> {
        // A process that is killed says nothing more.
        if !self.1.load(Ordering::SeqCst) {
            assert!(self.0.lock().remove(&number).is_some(), "{number} is not kept");
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        true
    }

    fn numbers(&self) -> Range<u64> {
        10..1000
    }
}

fn setup() -> Setup {
    Setup {
        limits: Limits::for_machine(1 << 30),
        ceiling: 1 << 20,
        uid: 0,
        gid: 0,
        shared: false,
        backing: None,
        transport: "dev",
        scheduling: None,
        restart: None,
        threads: 1,
        descriptors: 1000,
        pid: 1,
        journal: None,
        engine: false,
    }
}

fn now(time: u64) -> Now {
    Now { wall: Timestamp(time), moment: Moment(time as i64) }
}

/// A daemon that can be killed.
struct Daemon {
    shelf: Shelf,
    recorded: Option<Recorded>,
    last: u64,
}

impl Daemon {
    fn new() -> Daemon {
        let shelf = Shelf::default();
        let recorded =
            Recorded::begin(setup(), Files::new(1 << 30).unwrap(), Box::new(shelf.clone()), now(1)).unwrap();
        Daemon { shelf, recorded: Some(recorded), last: 0 }
    }

    fn recorded(&self) -> &Recorded {
        self.recorded.as_ref().unwrap()
    }

    /// Makes a call. Returns its number and all answers.
    fn call(&mut self, node: NodeId, op: Op<'_>) -> (u64, BTreeMap<u64, Reply>) {
        self.last += 2;
        let request_id = RequestId { unique: self.last, reply_path: 0, pid: 1 };
        let request = Request { request_id, node, caller: Caller { pid: 1, ..Caller::default() }, op };
        let mut fx = Effects::new();
        self.recorded().handle(&request, now(self.last + 100), &mut fx);
        let answers = answers(&mut fx);
        self.recorded().performed(&mut fx);
        (self.last, answers)
    }

    fn ask(&mut self, node: NodeId, op: Op<'_>) -> Reply {
        let (unique, mut answers) = self.call(node, op);
        answers.remove(&unique).unwrap()
    }

    fn make(&mut self, folder: &[u8], name: &[u8]) -> NodeId {
        let Reply::Entry(folder) = self.ask(NodeId::ROOT, Op::Lookup { name: folder }) else { panic!() };
        let made = self.ask(folder.node, Op::Mknod { name, mode: 0o100_644 });
        let Reply::Entry(entry) = made else { panic!("{made:?}") };
        entry.node
    }

    /// Looks a mailbox or segment up and opens it, as the kernel does each time.
    fn open(&mut self, folder: &[u8], name: &[u8], read: bool, write: bool) -> (NodeId, Fh) {
        let Reply::Entry(folder) = self.ask(NodeId::ROOT, Op::Lookup { name: folder }) else { panic!() };
        let Reply::Entry(Entry { node, .. }) = self.ask(folder.node, Op::Lookup { name }) else { panic!() };
        let opened = self.ask(node, Op::Open(OpenFlags { read, write, ..OpenFlags::default() }));
        let Reply::Opened(opened) = opened else { panic!("{opened:?}") };
        (node, opened.fh)
    }

    fn state(&self) -> Vec<u8> {
        let mut state = Vec::new();
        self.recorded().tree().save(&mut state).unwrap();
        state
    }

    /// Kills it. Another one goes on, which must be as it was.
    fn kill(&mut self, wanted: &[u64]) -> Again {
        let before = self.state();
        self.shelf.1.store(true, Ordering::SeqCst);
        drop(self.recorded.take());
        self.shelf.1.store(false, Ordering::SeqCst);
        let again = self.go_on(wanted).unwrap_or_else(|lost| panic!("{lost}"));
        let mut state = Vec::new();
        again.recorded.tree().save(&mut state).unwrap();
        assert!(before == state, "the tree is another one");
        again
    }

    fn go_on(&self, wanted: &[u64]) -> Result<Again, Lost> {
        let kept = self.shelf.0.lock();
        let copy = |number: &u64| kept.get(number).unwrap().try_clone().unwrap();
        let files = FILES.map(|number| copy(&number));
        let memories =
            kept.keys().filter(|number| **number >= 10).map(|number| (*number, copy(number))).collect();
        drop(kept);
        let wanted: BTreeSet<u64> = wanted.iter().copied().collect();
        take_over(files, setup, memories, Box::new(self.shelf.clone()), &wanted)
    }
}

fn answers(fx: &mut Effects) -> BTreeMap<u64, Reply> {
    let answer = |effect| match effect {
        Effect::Reply(request_id, reply) => Some((request_id.unique, reply)),
        _ => None,
    };
    fx.drain().filter_map(answer).collect()
}

fn read(fh: Fh) -> Op<'static> {
    Op::Read { fh, offset: 0, size: 1 << 20, nonblock: false, direct: true }
}

fn write(fh: Fh, data: &[u8]) -> Op<'_> {
    Op::Write { fh, offset: 0, data, nonblock: false, append: false, page_cache: false, kill_suid: false }
}

fn text(reply: Option<&Reply>) -> &[u8] {
    match reply {
        Some(Reply::Message(slice)) => slice.as_bytes(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_waits_waits_on_and_what_was_decided_is_told() {
    let mut daemon = Daemon::new();
    daemon.make(b"mailboxes", b"q");
    let (node, reader) = daemon.open(b"mailboxes", b"q", true, true);
    let (to, writer) = daemon.open(b"mailboxes", b"q", false, true);
    let (waits, none) = daemon.call(node, read(reader));
    assert!(none.is_empty());
    let mut again = daemon.kill(&[waits]);
    assert_eq!((again.answers.len(), again.recorded.tree().waiting()), (0, vec![waits]));
    daemon.recorded = Some(again.recorded);
    let (sent, answered) = daemon.call(to, write(writer, b"hello"));
    assert_eq!((text(answered.get(&waits)), answered.get(&sent)), (&b"hello"[..], Some(&Reply::Written(5))));
    // Whichever of the two the kernel has not got.
    again = daemon.kill(&[waits]);
    assert_eq!(
        (again.answers.len(), text(again.answers.get(&waits).map(|(_, reply)| reply))),
        (1, &b"hello"[..])
    );
    daemon.recorded = Some(again.recorded);
    again = daemon.kill(&[sent]);
    assert_eq!(again.answers.get(&sent).map(|(_, reply)| reply), Some(&Reply::Written(5)));
    daemon.recorded = Some(again.recorded);
    assert!(daemon.kill(&[]).answers.is_empty());
}

#[test]
fn an_older_generation_stays_until_its_answers_are_given() {
    let mut daemon = Daemon::new();
    daemon.make(b"mailboxes", b"q");
    let (node, reader) = daemon.open(b"mailboxes", b"q", true, true);
    let (to, writer) = daemon.open(b"mailboxes", b"q", false, true);
    let long = vec![7; 1 << 19];
    let request_id = RequestId { unique: 1_000_000, reply_path: 0, pid: 1 };
    let op = write(writer, &long);
    let mut fx = Effects::new();
    let request = Request { request_id, node: to, caller: Caller::default(), op };
    // In somebody's hands as long as this test wants.
    daemon.recorded().handle(&request, now(5), &mut fx);
    assert_eq!(answers(&mut fx).get(&1_000_000), Some(&Reply::Written(1 << 19)));
    for _ in 0..40 {
        daemon.call(node, read(reader));
        daemon.call(to, write(writer, &long));
    }
    let again = daemon.kill(&[1_000_000]);
    assert_eq!(again.answers.len(), 1, "it is in the first generation");
    again.recorded.given(again.held);
    daemon.recorded = Some(again.recorded);
    for _ in 0..40 {
        daemon.call(node, read(reader));
        daemon.call(to, write(writer, &long));
    }
    let again = daemon.kill(&[1_000_000]);
    assert_eq!((again.answers.len(), again.calls < 100), (0, true), "it was given");
}

#[test]
fn memory_of_segments_is_asked_once_and_kept_as_long_as_it_is_used() {
    let mut daemon = Daemon::new();
    daemon.make(b"segments", b"one");
    let two = daemon.make(b"segments", b"two");
    let (one, first) = daemon.open(b"segments", b"one", true, true);
    assert_eq!(daemon.ask(one, write(first, b"written once")), Reply::Written(12));
    daemon.ask(
        one,
        Op::Write {
            fh: first,
            offset: 8,
            data: b"twice",
            nonblock: false,
            append: false,
            page_cache: false,
            kill_suid: false,
        },
    );
    assert_eq!(daemon.shelf.0.lock().len(), 4);
    let again = daemon.kill(&[]);
    daemon.recorded = Some(again.recorded);
    let Reply::Data(bytes) = daemon.ask(one, read(first)) else { panic!() };
    assert_eq!(bytes, b"written twice");
    let Reply::Entry(folder) = daemon.ask(NodeId::ROOT, Op::Lookup { name: b"segments" }) else { panic!() };
    assert_eq!(daemon.ask(folder.node, Op::Unlink { name: b"two" }), Reply::Done);
    daemon.call(two, Op::Forget(vec![(two, 1)]));
    let mut fx = Effects::new();
    while daemon.recorded().work(now(900), &mut fx) {}
    let again = daemon.kill(&[]);
    daemon.recorded = Some(again.recorded);
    assert!(daemon.shelf.0.lock().len() <= 4);
    let Reply::Data(bytes) = daemon.ask(one, read(first)) else { panic!() };
    assert_eq!(bytes, b"written twice");
}

#[test]
fn a_daemon_that_would_decide_otherwise_does_not_go_on() {
    let mut daemon = Daemon::new();
    daemon.make(b"mailboxes", b"q");
    let (to, writer) = daemon.open(b"mailboxes", b"q", false, true);
    daemon.call(to, write(writer, b"short"));
    drop(daemon.recorded.take());
    for number in FILES {
        let file = daemon.shelf.0.lock().get(&number).unwrap().try_clone().unwrap();
        let mut file = HistoryFile::of_file(file).unwrap();
        // The checksum of the last call is the last of a generation, before zeros.
        let end = file.word(32);
        if file.word(16) != 0 {
            file.write(end - 8, b"else");
        }
    }
    assert!(matches!(daemon.go_on(&[]), Err(Lost::Differs(_))));
}
