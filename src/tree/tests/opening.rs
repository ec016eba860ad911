//! Many threads open one mailbox, as the kernel has them do it, in any order: a model of its names, inodes and
//! attributes around a tree. No open(2) fails that would not fail on tmpfs, and nothing is left of any.

use std::collections::BTreeMap;

use super::*;
use crate::op::{Attr, RenameHow, Validity};
use crate::tree::names::refusals::REFUSAL_LIFETIME;

const THREADS: usize = 24;
const STEPS: usize = 60_000;

/// Numbers that look random and are the same each time (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// An inode of the kernel's.
#[derive(Default)]
struct Inode {
    references: u64,
    /// Threads that use it.
    users: u32,
    /// None until the first attributes have been taken in.
    mode: Option<u32>,
    size: u64,
    version: u64,
    cached: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    LookUp,
    /// Answered; nothing done with it yet.
    Answered(Entry, u64),
    /// Has the inode; the attributes not yet taken in.
    HasInode(Entry, u64),
    CheckRights(NodeId),
    /// Has the answer to a GETATTR.
    HasAttributes(NodeId, Attr, Validity, u64),
    Open(NodeId),
    Holds(NodeId, Fh),
}

struct Thread {
    pid: u32,
    step: Step,
    flags: OpenFlags,
    creates: bool,
    /// stat(2): does no more than look up.
    stats: bool,
    /// Where a link in /proc leads.
    magic: Option<NodeId>,
    refused: bool,
}

struct Kernel {
    harness: Harness,
    random: Random,
    inodes: BTreeMap<NodeId, Inode>,
    /// The inode that the name `box` has in the cache.
    cached_name: Option<NodeId>,
    version: u64,
    forgets: Vec<(NodeId, u64)>,
    threads: Vec<Thread>,
    last_pid: u32,
    opened: usize,
    /// Of those, whose file was told to be empty without need: readers fall back from splice(2) then, and find nothing.
    told_empty: usize,
    refused: usize,
    /// Threads that were refused and ended without another OPEN.
    lost: usize,
    /// No thread dies and the name never goes.
    peaceful: bool,
}

impl Kernel {
    fn new(seed: u64, peaceful: bool) -> Kernel {
        let mut harness = Harness::new();
        let (node, fh) = harness.create("mailboxes/box", WRITE);
        harness.release(node, fh);
        assert_eq!(harness.ask(1, node, Op::Forget(vec![(node, 1)])).1, None);
        let mut kernel = Kernel {
            harness,
            random: Random(seed),
            inodes: BTreeMap::new(),
            cached_name: None,
            version: 1,
            forgets: Vec::new(),
            threads: Vec::new(),
            last_pid: 1_000,
            opened: 0,
            told_empty: 0,
            refused: 0,
            lost: 0,
            peaceful,
        };
        kernel.threads = (0..THREADS).map(|_| kernel.thread()).collect();
        kernel
    }

    fn thread(&mut self) -> Thread {
        self.last_pid += 1;
        let flags = [READ, WRITE, BOTH, APPEND][self.random.below(4)];
        let (creates, stats) = (self.random.once_in(3), self.random.once_in(6));
        Thread { pid: self.last_pid, step: Step::LookUp, flags, creates, stats, magic: None, refused: false }
    }

    fn ask(&mut self, pid: u32, node: NodeId, op: Op<'_>) -> Option<Reply> {
        let reply = self.harness.ask(pid, node, op).1;
        for node in std::mem::take(&mut self.harness.renewed) {
            if let Some(inode) = self.inodes.get_mut(&node) {
                self.version += 1;
                (inode.version, inode.cached) = (self.version, false);
            }
        }
        reply
    }

    /// Attributes from an answer to a request that was sent at `version`.
    fn take_in(&mut self, node: NodeId, attr: &Attr, validity: Validity, version: Option<u64>) {
        let inode = self.inodes.get_mut(&node).unwrap();
        if version.is_none_or(|version| inode.version <= version) {
            self.version += 1;
            (inode.version, inode.mode, inode.size) = (self.version, Some(attr.mode), attr.size);
            inode.cached = validity == Validity::Moment;
        }
    }

    /// Writes that append begin where the kernel takes the end to be.
    fn check_size(&mut self, node: NodeId, flags: OpenFlags) {
        let size = self.inodes[&node].size;
        assert!(size == 0 || !flags.append, "{node:?} has size {size} for {flags:?}");
        self.told_empty += usize::from(size == 0 && !flags.append);
    }

    /// A thread goes on to the next thing that it or the tree can see.
    fn advance(&mut self, index: usize) {
        let Thread { pid, step, flags, creates, stats, magic, .. } = self.threads[index];
        self.threads[index].step = match step {
            Step::LookUp => match magic {
                Some(node) => Step::CheckRights(node),
                None => match self.look_up(pid, creates && !stats, flags) {
                    Ok(step) => step,
                    Err(Error::NotFound) if !self.peaceful => return self.end(index),
                    Err(Error::Stale) => return self.refuse(index),
                    Err(error) => panic!("{error:?}"),
                },
            },
            Step::Answered(entry, version) => {
                let inode = self.inodes.entry(entry.node).or_default();
                inode.references += 1;
                inode.users += 1;
                self.cached_name = Some(entry.node);
                Step::HasInode(entry, version)
            }
            Step::HasInode(entry, version) => {
                self.take_in(entry.node, &entry.attr, entry.validity, Some(version));
                Step::CheckRights(entry.node)
            }
            Step::CheckRights(_) if stats => return self.end(index),
            Step::CheckRights(node) => {
                if self.inodes[&node].cached {
                    assert!(self.inodes[&node].mode.is_some());
                    Step::Open(node)
                } else {
                    let version = self.version;
                    match self.ask(pid, node, Op::Getattr) {
                        Some(Reply::Attr(attr, validity)) => {
                            Step::HasAttributes(node, attr, validity, version)
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            Step::HasAttributes(node, attr, validity, version) => {
                self.take_in(node, &attr, validity, Some(version));
                assert!(
                    self.inodes[&node].mode.is_some(),
                    "EACCES: the kernel has no permissions of {node:?}"
                );
                Step::Open(node)
            }
            Step::Open(node) => match self.ask(pid, node, Op::Open(flags)) {
                Some(Reply::Opened(opened)) => {
                    self.opened += 1;
                    self.threads[index].refused = false;
                    if magic.is_none() {
                        self.check_size(node, flags);
                    }
                    Step::Holds(node, opened.fh)
                }
                Some(Reply::Failed(Error::Stale)) => return self.refuse(index),
                other => panic!("{other:?}"),
            },
            Step::Holds(node, fh) => {
                if flags == BOTH && self.random.once_in(2) {
                    // Changes the attributes.
                    self.ask(pid, node, write(fh, b"x"));
                    self.ask(pid, node, Op::Read { fh, offset: 0, size: 9, nonblock: true, direct: true });
                    step
                } else {
                    return self.end(index);
                }
            }
        };
    }

    fn look_up(&mut self, pid: u32, creates: bool, flags: OpenFlags) -> Result<Step, Error> {
        let version = self.version;
        let entry = match self.ask(pid, MAILBOXES, Op::Lookup { name: b"box" }) {
            Some(Reply::Entry(entry)) => entry,
            Some(Reply::Failed(Error::NotFound)) if creates => {
                // With the folder locked all the time.
                return match self.ask(pid, MAILBOXES, Op::Create { name: b"box", mode: 0o600, flags }) {
                    Some(Reply::Created(entry, opened)) => {
                        let inode = self.inodes.entry(entry.node).or_default();
                        (inode.references, inode.users) = (inode.references + 1, inode.users + 1);
                        self.take_in(entry.node, &entry.attr, entry.validity, None);
                        self.check_size(entry.node, flags);
                        self.cached_name = Some(entry.node);
                        self.opened += 1;
                        if let Some(thread) = self.threads.iter_mut().find(|thread| thread.pid == pid) {
                            thread.refused = false;
                        }
                        Ok(Step::Holds(entry.node, opened.fh))
                    }
                    Some(Reply::Failed(error)) => Err(error),
                    other => panic!("{other:?}"),
                };
            }
            Some(Reply::Failed(error)) => {
                self.cached_name = None;
                return Err(error);
            }
            other => panic!("{other:?}"),
        };
        match self.cached_name {
            Some(cached) if cached != entry.node => {
                self.forgets.push((entry.node, 1));
                self.cached_name = None;
                Ok(Step::LookUp)
            }
            _ => Ok(Step::Answered(entry, version)),
        }
    }

    /// open(2) begins once more, the second and last time.
    fn refuse(&mut self, index: usize) {
        self.leave(index);
        let thread = &mut self.threads[index];
        assert!(!thread.refused, "ESTALE: thread {} is refused twice", thread.pid);
        (thread.refused, thread.step) = (true, Step::LookUp);
        if let Some(inode) = thread.magic.and_then(|node| self.inodes.get_mut(&node)) {
            inode.users += 1;
        }
        self.refused += 1;
    }

    /// The thread uses no inode any more.
    fn leave(&mut self, index: usize) {
        let thread = &self.threads[index];
        let node = match thread.step {
            Step::HasInode(Entry { node, .. }, _)
            | Step::CheckRights(node)
            | Step::HasAttributes(node, ..)
            | Step::Open(node)
            | Step::Holds(node, _) => Some(node),
            Step::Answered(entry, _) => {
                self.forgets.push((entry.node, 1));
                None
            }
            Step::LookUp => thread.magic,
        };
        if let Some(inode) = node.and_then(|node| self.inodes.get_mut(&node)) {
            inode.users -= 1;
        }
    }

    /// The thread has done what it wanted, or was killed. The next one begins.
    fn end(&mut self, index: usize) {
        self.leave(index);
        if let Step::Holds(node, fh) = self.threads[index].step {
            assert_eq!(self.ask(1, node, Op::Release { fh }), Some(Reply::Done));
        }
        self.lost += usize::from(self.threads[index].refused);
        let mut next = self.thread();
        // Sometimes the same thread goes on, also one whose open(2) has failed.
        if self.random.once_in(2) {
            next.pid = self.threads[index].pid;
        }
        let held = self.threads.iter().find_map(|thread| match thread.step {
            Step::Holds(node, _) => Some(node),
            _ => None,
        });
        if self.random.once_in(8)
            && !next.stats
            && let Some(inode) = held.and_then(|node| self.inodes.get_mut(&node))
        {
            inode.users += 1;
            next.magic = held;
        }
        self.threads[index] = next;
    }

    /// Something happens that no opening thread does.
    fn disturb(&mut self) {
        match self.random.below(if self.peaceful { 4 } else { 6 }) {
            0 => {
                // By an entry of /proc/sys/vm/drop_caches, or lack of memory.
                let cached_name = self.cached_name;
                self.inodes.retain(|node, inode| {
                    let stays = inode.users > 0 || Some(*node) == cached_name;
                    if !stays {
                        self.forgets.push((*node, inode.references));
                    }
                    stays
                });
            }
            1 => self.cached_name = None,
            2 => self.harness.now += [1_000, 40_000_000, 60_000_000, 1_000_000_000][self.random.below(4)],
            3 => {
                let (node, fh) = self.harness.create("mailboxes/new", WRITE);
                self.harness.release(node, fh);
                self.forgets.push((node, 1));
                let how = RenameHow::Replace;
                let rename = Op::Rename { name: b"new", new_parent: MAILBOXES, new_name: b"box", how };
                assert_eq!(self.ask(1, MAILBOXES, rename), Some(Reply::Done));
                self.cached_name = None;
            }
            4 => {
                self.ask(1, MAILBOXES, Op::Unlink { name: b"box" });
                self.cached_name = None;
            }
            _ => {
                let killed = self.random.below(THREADS);
                self.end(killed);
            }
        }
    }

    fn deliver_forgets(&mut self) {
        let items = std::mem::take(&mut self.forgets);
        self.ask(1, NodeId(0), Op::Forget(items));
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let index = self.random.below(THREADS);
            self.advance(index);
            if self.random.once_in(20) {
                self.disturb();
            }
            if self.random.once_in(10) {
                self.deliver_forgets();
            }
        }
        // Each finishes what it is at.
        for index in 0..THREADS {
            let opened = self.opened;
            while self.threads[index].refused && self.opened == opened {
                self.advance(index);
            }
            self.end(index);
        }
    }

    /// The kernel gives everything up.
    fn forget_all(&mut self) {
        for index in 0..THREADS {
            self.leave(index);
        }
        self.cached_name = None;
        for (node, inode) in std::mem::take(&mut self.inodes) {
            assert_eq!(inode.users, 0, "{node:?}");
            self.forgets.push((node, inode.references));
        }
        self.deliver_forgets();
    }

    fn refusals(&self) -> usize {
        self.harness.tree.names.lock().nodes.refusals()
    }

    /// Nodes of mailboxes.
    fn nodes(&self) -> usize {
        let names = self.harness.tree.names.lock();
        names.nodes.len() - (1..=4).filter(|number| names.nodes.object(NodeId(*number)).is_some()).count()
    }
}

#[test]
fn no_open_fails_and_no_record_is_left_of_threads_that_come_back() {
    for seed in 1..=8 {
        let mut kernel = Kernel::new(seed * 0x9e37_79b9, true);
        kernel.run();
        assert!(kernel.opened > 1_000 && kernel.refused > 100, "{} of {}", kernel.refused, kernel.opened);
        assert!(kernel.told_empty <= kernel.opened / 100, "{} of {}", kernel.told_empty, kernel.opened);
        assert_eq!((kernel.lost, kernel.refusals()), (0, 0));
        kernel.forget_all();
        assert_eq!(kernel.nodes(), 0);
    }
}

#[test]
fn no_open_fails_though_threads_die_and_the_name_comes_and_goes() {
    for seed in 1..=8 {
        let mut kernel = Kernel::new(seed * 0x9e37_79b9, false);
        kernel.run();
        assert!(kernel.opened > 1_000 && kernel.refused > 100, "{} of {}", kernel.refused, kernel.opened);
        assert!(kernel.told_empty <= kernel.opened / 100, "{} of {}", kernel.told_empty, kernel.opened);
        assert!(kernel.refusals() <= kernel.lost, "{} of {}", kernel.refusals(), kernel.lost);
        kernel.forget_all();
        assert_eq!(kernel.nodes(), 0);
        kernel.harness.now += REFUSAL_LIFETIME;
        let (node, fh) = kernel.harness.create("mailboxes/other", WRITE);
        kernel.harness.release(node, fh);
        assert_eq!(kernel.refusals(), 0, "old ones go");
    }
}
