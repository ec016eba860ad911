//! The kernel's nodes, and the pool of them that each mailbox has.
//!
//! The kernel locks a node while a write to it is under way, and while it truncates, changes or removes the file. So a
//! writer who waits must have a node to itself, or `echo >`, `chmod` and `rm` would wait with it, beyond the reach of
//! signals. Hence *one open file a node*, as far as a mailbox is concerned:
//!
//! - LOOKUP answers with a node that nobody has open, preferably the one it answered with before (which the kernel then
//!   finds in its cache), and asks to be asked again next time;
//! - an OPEN that would share a node with a writer is answered `ESTALE`: the kernel looks the name up once more, and a
//!   fresh node is [kept](Pool::kept) for the caller until then. It is refused once only: a caller who opens
//!   `/dev/stdout` or `/proc/self/fd/N` reaches the same node whatever LOOKUP says, and is let in;
//! - a node that another thread has looked up just now counts as taken: that thread may be about to remove or change the
//!   file, with the node locked;
//! - in a [crowd](Crowd) all are answered with one node, which readers can share. Whenever the node at a name changes, the
//!   kernel has everybody who is about to open it ask again: with a node for each, every one who opens would cost a LOOKUP
//!   by all the others.

use std::collections::BTreeMap;

use super::Named;
use super::lookups::{Crowd, RecentLookups};
use super::numbers::ByNumber;
use crate::op::{Ino, NodeId, Timestamp};

/// Threads a pool remembers to have refused. More than will ever race for one mailbox; the oldest gives way.
const KEPT: usize = 16_384;

/// Nodes tried before there is a fresh one.
const TRIED: usize = 16;

#[derive(Debug)]
struct Node<O> {
    object: O,
    /// It is one of the nodes of a mailbox's pool.
    pooled: bool,
    /// References the kernel has: look-ups less forgets.
    lookups: u64,
    readers: u32,
    writers: u32,
    glances: RecentLookups,
    /// For the one thread whose OPEN of another node was refused.
    kept: bool,
}

/// The nodes of one mailbox.
#[derive(Debug, Default)]
struct Pool {
    /// The one last answered, which the kernel has by the mailbox's name.
    last: Option<NodeId>,
    /// Those that nobody has open and that are not kept, the most recently used at the end.
    idle: Vec<NodeId>,
    /// How many of its nodes the kernel knows.
    known: usize,
    /// Made when two threads first meet here, as in most pools they never do.
    rush: Option<Box<Rush>>,
}

#[derive(Debug, Default)]
struct Rush {
    /// Threads whose OPEN was refused, and the node kept for each.
    kept: BTreeMap<u32, NodeId>,
    crowd: Crowd,
}

impl Pool {
    fn rush(&mut self) -> &mut Rush {
        self.rush.get_or_insert_default()
    }
}

/// All the nodes that the kernel knows, those of control files aside (they need no memory).
#[derive(Debug)]
pub(crate) struct Nodes<O> {
    nodes: ByNumber<NodeId, Node<O>>,
    pools: BTreeMap<Ino, Pool>,
}

impl<O> Default for Nodes<O> {
    fn default() -> Nodes<O> {
        Nodes { nodes: ByNumber::default(), pools: BTreeMap::new() }
    }
}

impl<O: Named> Nodes<O> {
    /// What `node` stands for.
    pub(crate) fn object(&self, node: NodeId) -> Option<&O> {
        self.nodes.get(&node).map(|node| &node.object)
    }

    /// A LOOKUP of something that has one node, numbered as its inode.
    pub(crate) fn look_up(&mut self, object: &O) -> NodeId {
        let id = NodeId(object.ino().0);
        self.nodes.entry(id).or_insert_with(|| Node::new(object.clone())).lookups += 1;
        id
    }

    /// A LOOKUP that makes a node of its own, numbered `id`, which was never used before.
    pub(crate) fn look_up_once(&mut self, id: NodeId, object: O) {
        self.nodes.insert(id, Node { lookups: 1, ..Node::new(object) });
    }

    /// A LOOKUP of a mailbox by thread `pid`: the node, and whether the kernel has it. `fresh` makes a number never used
    /// before.
    pub(crate) fn look_up_mailbox(
        &mut self,
        object: &O,
        pid: u32,
        now: Timestamp,
        fresh: impl FnOnce() -> NodeId,
    ) -> (NodeId, bool) {
        let pool = self.pools.entry(object.ino()).or_default();
        let quiet = |id: &NodeId| self.nodes.get(id).is_some_and(|node| node.is_quiet_for(pid, now));
        let kept = pool.rush.as_ref().and_then(|rush| rush.kept.get(&pid).copied());
        let found = kept.or_else(|| pool.last.filter(quiet)).or_else(|| {
            // Not if it is the first to come at all.
            let last = pool.last?;
            let crowd = pool.rush().crowd.joined_by(pid, now);
            let shared = Some(last).filter(|id| crowd && self.nodes.get(id).is_some_and(Node::can_be_shared));
            shared.or_else(|| pool.idle.iter().rev().take(TRIED).copied().find(quiet))
        });
        let id = found.unwrap_or_else(fresh);
        let node = self.nodes.entry(id).or_insert_with(|| {
            pool.idle.push(id);
            Node { pooled: true, ..Node::new(object.clone()) }
        });
        pool.last = Some(id);
        let known = node.lookups > 0;
        pool.known += usize::from(!known);
        node.lookups += 1;
        node.glances.note(pid, now);
        (id, known)
    }

    /// An OPEN of a mailbox's node by thread `pid`. False: refused, to be looked up again.
    #[must_use]
    pub(crate) fn open(
        &mut self,
        id: NodeId,
        write: bool,
        pid: u32,
        now: Timestamp,
        fresh: impl FnOnce() -> NodeId,
    ) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        if !node.pooled {
            return false;
        }
        let pool = self.pools.entry(node.object.ino()).or_default();
        let shared = if write { node.writers + node.readers > 0 } else { node.writers > 0 };
        let glanced = write && node.glances.are_by_another(pid, now);
        let refused_before = pool.rush.as_mut().and_then(|rush| {
            rush.crowd.left_by(pid);
            rush.kept.remove(&pid)
        });
        if (shared || glanced) && refused_before.is_none() {
            let object = node.object.clone();
            let kept = fresh();
            if let Some(dropped) = pool.rush().keep(pid, kept) {
                release_kept(&mut self.nodes, pool, dropped);
            }
            self.nodes.insert(kept, Node { kept: true, pooled: true, ..Node::new(object) });
            return false;
        }
        if let Some(kept) = refused_before {
            release_kept(&mut self.nodes, pool, kept);
        }
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        node.glances.clear(pid);
        if !node.is_open()
            && let Some(at) = pool.idle.iter().rposition(|idle| *idle == id)
        {
            pool.idle.remove(at);
        }
        if write {
            node.writers += 1;
        } else {
            node.readers += 1;
        }
        true
    }

    /// The open file counted by [`Nodes::open`] was closed.
    pub(crate) fn close(&mut self, id: NodeId, write: bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let count = if write { &mut node.writers } else { &mut node.readers };
        *count = count.saturating_sub(1);
        if !node.is_open()
            && !node.kept
            && node.pooled
            && let Some(pool) = self.pools.get_mut(&node.object.ino())
        {
            pool.idle.push(id);
        }
    }

    /// A change by thread `pid` that locked the node is over.
    pub(crate) fn changed(&mut self, id: NodeId, pid: u32) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.glances.clear(pid);
        }
    }

    /// The kernel gives back `count` references. Returns what the node stood for, if it was the last.
    pub(crate) fn forget(&mut self, id: NodeId, count: u64) -> Option<O> {
        let node = self.nodes.get_mut(&id)?;
        let was_known = node.lookups > 0;
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 {
            return None;
        }
        let ino = node.object.ino();
        if node.pooled
            && let Some(pool) = self.pools.get_mut(&ino)
        {
            pool.known -= usize::from(was_known);
            if pool.known == 0 {
                // Whoever a node is still kept for never came for it. He would find a fresh one all the same.
                let last = self.nodes.remove(&id);
                for kept in self.pools.remove(&ino)?.rush.unwrap_or_default().kept.into_values() {
                    self.nodes.remove(&kept);
                }
                return last.map(|node| node.object);
            }
            if node.kept {
                return None;
            }
            pool.idle.retain(|idle| *idle != id);
        }
        self.nodes.remove(&id).map(|node| node.object)
    }

    /// Nodes the kernel knows.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Rush {
    /// Keeps a node for a thread. Returns another's for which there is no room any more.
    fn keep(&mut self, pid: u32, id: NodeId) -> Option<NodeId> {
        let oldest = || self.kept.iter().min_by_key(|(_, id)| **id).map(|(pid, _)| *pid);
        let dropped = if self.kept.len() == KEPT { oldest() } else { None };
        let dropped = dropped.and_then(|pid| self.kept.remove(&pid));
        self.kept.insert(pid, id);
        dropped
    }
}

impl<O> Node<O> {
    fn new(object: O) -> Node<O> {
        Node {
            object,
            pooled: false,
            lookups: 0,
            readers: 0,
            writers: 0,
            glances: RecentLookups::default(),
            kept: false,
        }
    }

    fn is_open(&self) -> bool {
        self.readers + self.writers > 0
    }

    /// Nobody has it open, and nobody but `pid` is about to use it.
    fn is_quiet_for(&self, pid: u32, now: Timestamp) -> bool {
        !self.kept && !self.is_open() && !self.glances.are_by_another(pid, now)
    }

    /// Readers may have it open, and anybody may be about to use it.
    fn can_be_shared(&self) -> bool {
        !self.kept && self.writers == 0
    }
}

/// A kept node that its thread came for, or will not: an ordinary one from now on, or gone if the kernel never heard of it.
fn release_kept<O>(nodes: &mut ByNumber<NodeId, Node<O>>, pool: &mut Pool, id: NodeId) {
    match nodes.get_mut(&id) {
        Some(node) if node.lookups > 0 => {
            node.kept = false;
            if !node.is_open() {
                pool.idle.push(id);
            }
        }
        _ => drop(nodes.remove(&id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::names::lookups::LOOKUP_WINDOW;

    const LATER: Timestamp = Timestamp(10 * LOOKUP_WINDOW);

    /// A mailbox, as far as nodes know.
    #[derive(Debug, Clone)]
    struct File;

    impl Named for File {
        fn of_folder(_: Ino) -> File {
            File
        }

        fn ino(&self) -> Ino {
            Ino(9)
        }

        fn folder(&self) -> Option<Ino> {
            None
        }
    }

    struct World {
        nodes: Nodes<File>,
        next: u64,
    }

    impl World {
        fn new() -> World {
            World { nodes: Nodes::default(), next: 99 }
        }

        fn look_up(&mut self, pid: u32, now: Timestamp) -> NodeId {
            let next = &mut self.next;
            self.nodes
                .look_up_mailbox(&File, pid, now, || {
                    *next += 1;
                    NodeId(*next)
                })
                .0
        }

        fn open(&mut self, id: NodeId, write: bool, pid: u32, now: Timestamp) -> bool {
            let next = &mut self.next;
            self.nodes.open(id, write, pid, now, || {
                *next += 1;
                NodeId(*next)
            })
        }
    }

    #[test]
    fn an_idle_node_is_answered_again_and_a_busy_one_never() {
        let mut world = World::new();
        let first = world.look_up(1, Timestamp(1));
        assert!(world.open(first, true, 1, Timestamp(1)));
        let second = world.look_up(2, Timestamp(2));
        assert_ne!(first, second, "a writer's node is not given to anyone else");
        assert!(world.open(second, true, 2, Timestamp(2)));
        world.nodes.close(second, true);
        assert_eq!(world.look_up(3, Timestamp(3)), second);
    }

    #[test]
    fn the_loser_of_a_race_gets_a_node_of_its_own_at_once() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert_eq!(world.look_up(1, Timestamp(1)), node);
        assert!(world.open(node, true, 1, LATER));
        assert!(!world.open(node, true, 2, LATER), "refused");
        let other = world.look_up(3, LATER);
        let kept = world.look_up(2, LATER);
        assert!(kept != node && kept != other, "kept for the refused one alone");
        assert_eq!(world.look_up(2, LATER), kept, "as often as it asks");
        assert!(world.open(kept, true, 2, LATER));
    }

    #[test]
    fn nobody_is_refused_twice() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, true, 1, LATER));
        assert!(!world.open(node, true, 2, LATER));
        assert!(world.open(node, true, 2, LATER), "a magic link leads to the same node again");
        assert_eq!(world.nodes.len(), 1, "the node kept for it is gone");
    }

    #[test]
    fn a_node_that_another_process_looked_up_just_now_is_left_to_it() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert_ne!(world.look_up(2, Timestamp(2)), node);
        assert!(!world.open(node, true, 2, Timestamp(3)));
        assert_eq!(world.look_up(3, LATER), world.look_up(3, LATER));
    }

    #[test]
    fn readers_share_and_forgotten_nodes_leave_nothing() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, false, 1, LATER));
        assert!(world.open(node, false, 2, LATER));
        assert!(!world.open(node, true, 3, LATER), "a writer shares with nobody");
        world.nodes.close(node, false);
        world.nodes.close(node, false);
        assert!(world.nodes.forget(node, 1).is_some());
        let kept = world.look_up(3, LATER);
        assert!(world.open(kept, true, 3, LATER));
        world.nodes.close(kept, true);
        assert!(world.nodes.forget(kept, 1).is_some());
        assert!(world.nodes.nodes.is_empty() && world.nodes.pools.is_empty());
    }

    #[test]
    fn those_who_never_come_back_are_forgotten() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, true, 1, LATER));
        let last = KEPT as u32 + 1_000;
        for pid in 2..=last {
            assert!(!world.open(node, true, pid, LATER));
        }
        assert!(world.nodes.len() <= KEPT + 1);
        assert!(world.open(node, true, last, LATER), "the oldest give way");
        assert!(!world.open(node, true, 2, LATER));
    }

    #[test]
    fn a_crowd_of_readers_shares_a_node_that_no_writer_gets() {
        const COUNT: u32 = 1_000;
        let mut world = World::new();
        let answered: Vec<NodeId> = (1..=COUNT).map(|pid| world.look_up(pid, LATER)).collect();
        let mut distinct = answered.clone();
        distinct.dedup();
        assert!(distinct.len() <= 32, "{} nodes for a crowd", distinct.len());
        let shared = world.look_up(1, LATER);
        for pid in 2..=COUNT {
            assert_eq!(world.look_up(pid, LATER), shared);
            assert!(world.open(shared, false, pid, LATER));
        }
        assert!(!world.open(shared, true, COUNT + 1, LATER), "readers have it");
        for _ in 2..=COUNT {
            world.nodes.close(shared, false);
        }
        assert!(!world.open(shared, true, COUNT + 2, LATER), "the first may be about to lock it");
        let later = Timestamp(LATER.0 + LOOKUP_WINDOW);
        assert_eq!(world.look_up(COUNT + 3, later), shared);
        assert!(world.open(shared, true, COUNT + 3, later));
    }

    #[test]
    fn a_crowd_of_writers_ends_up_with_a_node_each() {
        const COUNT: u32 = 500;
        let mut world = World::new();
        let answered: Vec<NodeId> = (1..=COUNT).map(|pid| world.look_up(pid, LATER)).collect();
        let mut opened = std::collections::BTreeSet::new();
        for (pid, id) in (1..=COUNT).zip(answered) {
            let id = if world.open(id, true, pid, LATER) {
                id
            } else {
                let kept = world.look_up(pid, LATER);
                assert!(world.open(kept, true, pid, LATER), "refused twice");
                kept
            };
            assert!(opened.insert(id), "{id:?} has two writers");
        }
    }

    #[test]
    fn looking_a_busy_mailbox_up_costs_the_same_whatever_is_open() {
        let mut world = World::new();
        for pid in 1..=10_000 {
            let id = world.look_up(pid, LATER);
            assert!(world.open(id, true, pid, LATER));
        }
        let pool = world.nodes.pools.values().next().unwrap();
        assert_eq!((pool.idle.len(), pool.known), (0, 10_000));
    }
}
