//! What a tree keeps inside: who waits, which nodes are known, what is freed. What users see of it is tested from
//! outside, in `tests/`.

mod alarms;
mod cached_attributes;
mod jobs;
mod lifetimes;
mod opening;
mod passing;
mod pools;
mod purge;
mod ring_reads;
mod shared;
mod starving;
mod taking_over;
mod threads;
mod totals;
mod waits;

use std::sync::Arc;

use super::kinds::{ControlNode, Inode};
use super::{MakeMemory, Setup, Tree};
use crate::config::{Limits, MailboxLimits};
use crate::engine::Command;
use crate::mailbox::Memory;
use crate::op::{
    Caller, Effect, Effects, Entry, Error, Fh, Ino, LockCall, LockKind, LockOwner, Moment, NodeId, Now, Op,
    OpenFlags, Opened, PollHandle, Poller, Reply, Request, RequestId, SetAttr, Timestamp,
};
use crate::sys::memfd::Memfd;

const READ: OpenFlags = OpenFlags {
    read: true,
    write: false,
    append: false,
    truncate: false,
    exclusive: false,
    no_follow: false,
    kill_suid: false,
};
const WRITE: OpenFlags = OpenFlags { read: false, write: true, ..READ };
const APPEND: OpenFlags = OpenFlags { append: true, ..WRITE };
const BOTH: OpenFlags = OpenFlags { write: true, ..READ };

/// `mailboxes/`, once it was looked up.
const MAILBOXES: NodeId = NodeId(2);

/// The longest message of these tests.
const LONGEST: usize = 100;

fn setup(memory: u64) -> Setup {
    let limits = Limits {
        mailbox: MailboxLimits { msgsize: LONGEST as u32, maxmsg: 100, maxbytes: 10_000 },
        memory,
        segment_memory: 1 << 20,
        max_files: 100,
        user_share: 50,
    };
    Setup {
        limits,
        ceiling: 4096,
        uid: 0,
        gid: 0,
        shared: true,
        backing: None,
        transport: "none",
        scheduling: None,
        restart: None,
        threads: 2,
        descriptors: 1000,
        pid: 1,
        journal: None,
        engine: false,
    }
}

/// The time by two clocks that show something else.
fn at(nanos: u64) -> Now {
    Now { wall: Timestamp(1_500_000_000_000_000_000 + nanos), moment: Moment(0).after(nanos) }
}

fn memfds() -> MakeMemory {
    Arc::new(|| Ok(Arc::new(Memfd::new()?)))
}

/// Memory for exactly so many messages of the greatest length.
fn room_for(messages: u64) -> u64 {
    messages * Memory::cost(LONGEST)
}

/// A tree and a kernel that asks it, one request after the other.
struct Harness {
    tree: Tree,
    now: u64,
    unique: u64,
    /// Answers to requests that had waited.
    late: Vec<(u64, Reply)>,
    woken: Vec<u64>,
    /// What the clock was told.
    alarms: Vec<u64>,
    /// Interrupts that the kernel shall send again.
    again: Vec<u64>,
    /// Nodes that the kernel is asked to forget.
    pruned: Vec<NodeId>,
    /// Nodes whose attributes the kernel shall not believe any more.
    renewed: Vec<NodeId>,
    /// What the engine is told.
    engine: Vec<Command>,
}

impl Harness {
    fn new() -> Harness {
        Harness::with(setup(1 << 20))
    }

    fn with(setup: Setup) -> Harness {
        let tree = Tree::new(setup, memfds(), at(0));
        Harness {
            tree,
            now: 0,
            unique: 0,
            late: Vec::new(),
            woken: Vec::new(),
            alarms: Vec::new(),
            again: Vec::new(),
            pruned: Vec::new(),
            renewed: Vec::new(),
            engine: Vec::new(),
        }
    }

    /// A request of thread `pid`'s; its number, and its answer unless it waits.
    fn ask(&mut self, pid: u32, node: NodeId, op: Op<'_>) -> (u64, Option<Reply>) {
        self.now += 1;
        self.unique += 2;
        let request_id = RequestId { unique: self.unique, reply_path: 0, pid: 0 };
        let request = Request { request_id, node, caller: Caller { uid: 0, gid: 0, pid }, op };
        let mut fx = Effects::new();
        self.tree.handle(&request, at(self.now), &mut fx);
        let own = self.carry_out(&mut fx, Some(request_id));
        (request_id.unique, own)
    }

    fn carry_out(&mut self, fx: &mut Effects, own: Option<RequestId>) -> Option<Reply> {
        let mut answer = None;
        for effect in fx.drain() {
            match effect {
                Effect::Reply(request_id, reply) if Some(request_id) == own => {
                    assert_eq!(answer.replace(reply), None, "answered twice");
                }
                Effect::Reply(request_id, reply) => self.late.push((request_id.unique, reply)),
                Effect::Wake(handle) => self.woken.push(handle.0),
                Effect::Alarm(time) => self.alarms.push(time.since(Moment(0))),
                Effect::InvalidateAttr(node) => {
                    assert!(answer.is_none() && self.late.is_empty(), "answered before the kernel was told");
                    self.renewed.push(node);
                }
                Effect::Deliver(..) | Effect::Promise(..) => panic!("{effect:?}"),
                Effect::Prune(nodes) => self.pruned.extend(nodes),
                Effect::TrimHeap | Effect::ShareReached { .. } | Effect::Work => {}
                Effect::InterruptAgain { unique } => self.again.push(unique),
                Effect::Engine(command) => self.engine.push(*command),
            }
        }
        answer
    }

    /// The answer to a request that does not wait.
    fn get(&mut self, node: NodeId, op: Op<'_>) -> Reply {
        self.ask(1, node, op).1.expect("an answer at once")
    }

    /// The number of a request that waits.
    fn wait(&mut self, node: NodeId, op: Op<'_>) -> u64 {
        let (unique, reply) = self.ask(1, node, op);
        assert_eq!(reply, None);
        unique
    }

    fn late(&mut self) -> Vec<(u64, Reply)> {
        std::mem::take(&mut self.late)
    }

    fn look_up(&mut self, pid: u32, folder: NodeId, name: &str) -> Result<Entry, Error> {
        match self.ask(pid, folder, Op::Lookup { name: name.as_bytes() }).1 {
            Some(Reply::Entry(entry)) => Ok(entry),
            Some(Reply::Failed(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// The node a path leads to.
    fn node(&mut self, path: &str) -> NodeId {
        path.split('/').fold(NodeId::ROOT, |node, name| self.look_up(1, node, name).unwrap().node)
    }

    /// A new file, as its creator has it open.
    fn create(&mut self, path: &str, flags: OpenFlags) -> (NodeId, Fh) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = self.node(folder);
        match self.get(folder, Op::Create { name: name.as_bytes(), mode: 0o644, flags }) {
            Reply::Created(entry, Opened { fh, .. }) => (entry.node, fh),
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, pid: u32, node: NodeId, flags: OpenFlags) -> Result<Fh, Error> {
        match self.ask(pid, node, Op::Open(flags)).1 {
            Some(Reply::Opened(opened)) => Ok(opened.fh),
            Some(Reply::Failed(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, node: NodeId, fh: Fh) {
        assert_eq!(self.get(node, Op::Release { fh }), Reply::Done);
    }

    fn unlink(&mut self, path: &str) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = self.node(folder);
        assert_eq!(self.get(folder, Op::Unlink { name: name.as_bytes() }), Reply::Done);
    }

    /// What a file of `control/` shows.
    fn show(&mut self, path: &str) -> String {
        let node = self.node(path);
        let fh = self.open(1, node, READ).unwrap();
        let reply = self.get(node, read(fh));
        self.release(node, fh);
        let (Reply::Message(slice) | Reply::Text(slice)) = reply else { panic!("{reply:?}") };
        String::from_utf8(slice.as_bytes().to_vec()).unwrap()
    }

    fn store(&mut self, path: &str, value: &str) -> Reply {
        let node = self.node(path);
        let fh = self.open(1, node, WRITE).unwrap();
        let reply = self.get(node, write(fh, value.as_bytes()));
        self.release(node, fh);
        reply
    }

    fn interrupt(&mut self, unique: u64) {
        assert_eq!(self.ask(1, NodeId(0), Op::Interrupt { unique }).1, None);
    }

    /// Requests in the index of those that wait.
    fn parked(&self) -> usize {
        self.tree.waits.since(Moment::LAST).len()
    }
}

fn read(fh: Fh) -> Op<'static> {
    Op::Read { fh, offset: 0, size: 4096, nonblock: false, direct: true }
}

fn write(fh: Fh, data: &[u8]) -> Op<'_> {
    Op::Write { fh, offset: 0, data, nonblock: false, append: false, page_cache: false, kill_suid: false }
}

fn lock(fh: Fh, owner: u64, kind: LockKind) -> Op<'static> {
    let (owner, pid, flock) = (LockOwner(owner), 1, false);
    Op::Setlk { lock: LockCall { fh, owner, pid, flock, kind, start: 0, end: 9 }, wait: true }
}

fn is_message(reply: &Reply, body: &[u8]) -> bool {
    matches!(reply, Reply::Message(slice) | Reply::Text(slice) if slice.as_bytes() == body)
}
