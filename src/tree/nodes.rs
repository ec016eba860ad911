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
//! - a node that another process has looked up within [`GLANCE`] counts as taken: that process may be about to remove
//!   or change the file, with the node locked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::doors::{DoorNode, MessageNode};
use super::numbers::ByNumber;
use super::objects::{Child, MailboxFile, SegmentFile, TopicFile};
use crate::op::{Ino, NodeId, Timestamp};

/// How long a looked-up node is left to the process that looked it up, in nanoseconds. Far longer than unlink(2) needs
/// from its look-up to its lock.
pub(super) const GLANCE: u64 = 50_000_000;

/// Callers a pool remembers to have refused. More than will ever race for one mailbox; the oldest gives way.
const KEPT: usize = 64;

/// What a node stands for.
#[derive(Debug, Clone)]
pub(super) enum Object {
    Folder(Ino),
    Mailbox(Arc<MailboxFile>),
    Segment(Arc<SegmentFile>),
    Topic(Arc<TopicFile>),
    Door(Arc<DoorNode>),
    Message(Arc<MessageNode>),
}

impl From<&Child> for Object {
    fn from(child: &Child) -> Object {
        match child {
            Child::Folder(ino) => Object::Folder(*ino),
            Child::Mailbox(file) => Object::Mailbox(Arc::clone(file)),
            Child::Segment(file) => Object::Segment(Arc::clone(file)),
            Child::Topic(file) => Object::Topic(Arc::clone(file)),
        }
    }
}

#[derive(Debug)]
struct Node {
    object: Object,
    /// References the kernel has: look-ups less forgets.
    lookups: u64,
    readers: u32,
    writers: u32,
    /// Who looked it up last and has not opened it, and when.
    glance: Option<(u32, Timestamp)>,
}

/// The nodes of one mailbox, the one last answered at the end.
#[derive(Debug, Default)]
struct Pool {
    nodes: Vec<NodeId>,
    /// Threads whose OPEN was refused, and the node kept for each.
    kept: Vec<(u32, NodeId)>,
}

/// All the nodes that the kernel knows, those of control files aside (they need no memory).
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: ByNumber<NodeId, Node>,
    pools: BTreeMap<Ino, Pool>,
}

impl Nodes {
    /// What `node` stands for.
    pub(super) fn object(&self, node: NodeId) -> Option<&Object> {
        self.nodes.get(&node).map(|node| &node.object)
    }

    /// A LOOKUP of something that has one node, numbered as its inode.
    pub(super) fn look_up(&mut self, child: &Child) -> NodeId {
        let id = NodeId(child.ino().0);
        self.nodes.entry(id).or_insert_with(|| Node::new(child.into())).lookups += 1;
        id
    }

    /// A LOOKUP that makes a node of its own, numbered `id`, which was never used before.
    pub(super) fn look_up_once(&mut self, id: NodeId, object: Object) {
        self.nodes.insert(id, Node { lookups: 1, ..Node::new(object) });
    }

    /// A LOOKUP of a mailbox by thread `pid`: the node, and whether the kernel has it. `fresh` makes a number never used
    /// before.
    pub(super) fn look_up_mailbox(
        &mut self,
        file: &Arc<MailboxFile>,
        pid: u32,
        now: Timestamp,
        fresh: impl FnOnce() -> NodeId,
    ) -> (NodeId, bool) {
        let pool = self.pools.entry(file.ino).or_default();
        let kept = pool.kept.iter().find(|kept| kept.0 == pid).map(|kept| kept.1);
        let quiet = |id: &NodeId| {
            !pool.kept.iter().any(|kept| kept.1 == *id)
                && self.nodes.get(id).is_some_and(|node| node.is_quiet_for(pid, now))
        };
        let id = kept.or_else(|| pool.nodes.iter().rev().copied().find(quiet)).unwrap_or_else(fresh);
        if pool.nodes.last() != Some(&id) {
            pool.nodes.retain(|other| *other != id);
            pool.nodes.push(id);
        }
        let node = self.nodes.entry(id).or_insert_with(|| Node::new(Object::Mailbox(Arc::clone(file))));
        let known = node.lookups > 0;
        node.lookups += 1;
        node.glance = Some((pid, now));
        (id, known)
    }

    /// An OPEN of a mailbox's node by thread `pid`. False: refused, to be looked up again.
    #[must_use]
    pub(super) fn open(
        &mut self,
        id: NodeId,
        write: bool,
        pid: u32,
        now: Timestamp,
        fresh: impl FnOnce() -> NodeId,
    ) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Object::Mailbox(file) = &node.object else { return false };
        let pool = self.pools.entry(file.ino).or_default();
        let shared = if write { node.writers + node.readers > 0 } else { node.writers > 0 };
        let glanced = write && node.glance.is_some_and(|(other, at)| other != pid && now.0 < at.0 + GLANCE);
        let refused_before = pool.kept.iter().position(|kept| kept.0 == pid).map(|at| pool.kept.remove(at));
        if (shared || glanced) && refused_before.is_none() {
            let object = node.object.clone();
            let kept = fresh();
            if pool.kept.len() == KEPT {
                let (_, dropped) = pool.kept.remove(0);
                drop_if_unknown(&mut self.nodes, pool, dropped);
            }
            pool.kept.push((pid, kept));
            pool.nodes.insert(0, kept);
            self.nodes.insert(kept, Node::new(object));
            return false;
        }
        node.glance = None;
        if write {
            node.writers += 1;
        } else {
            node.readers += 1;
        }
        if let Some((_, kept)) = refused_before.filter(|kept| kept.1 != id) {
            drop_if_unknown(&mut self.nodes, pool, kept);
        }
        true
    }

    /// The open file counted by [`Nodes::open`] was closed.
    pub(super) fn close(&mut self, id: NodeId, write: bool) {
        if let Some(node) = self.nodes.get_mut(&id) {
            let count = if write { &mut node.writers } else { &mut node.readers };
            *count = count.saturating_sub(1);
        }
    }

    /// A change that locked the node is over.
    pub(super) fn changed(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.glance = None;
        }
    }

    /// The kernel gives back `count` references. Returns what the node stood for, if it was the last.
    pub(super) fn forget(&mut self, id: NodeId, count: u64) -> Option<Object> {
        let node = self.nodes.get_mut(&id)?;
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 {
            return None;
        }
        if let Object::Mailbox(file) = &node.object {
            let ino = file.ino;
            let pool = self.pools.get_mut(&ino)?;
            let known = |id: &NodeId| self.nodes.get(id).is_some_and(|node| node.lookups > 0);
            if !pool.nodes.iter().any(known) {
                // Whoever a node is still kept for never came for it. He would find a fresh one all the same.
                let last = self.nodes.remove(&id);
                for (_, kept) in self.pools.remove(&ino)?.kept {
                    self.nodes.remove(&kept);
                }
                return last.map(|node| node.object);
            }
            if pool.kept.iter().any(|kept| kept.1 == id) {
                return None;
            }
            pool.nodes.retain(|other| *other != id);
        }
        self.nodes.remove(&id).map(|node| node.object)
    }

    /// Nodes the kernel knows.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Node {
    fn new(object: Object) -> Node {
        Node { object, lookups: 0, readers: 0, writers: 0, glance: None }
    }

    /// Nobody has it open, and nobody but `pid` is about to use it.
    fn is_quiet_for(&self, pid: u32, now: Timestamp) -> bool {
        self.readers == 0
            && self.writers == 0
            && self.glance.is_none_or(|(other, at)| other == pid || now.0 >= at.0.saturating_add(GLANCE))
    }
}

/// A kept node that its caller did not come for: gone, unless the kernel knows it.
fn drop_if_unknown(nodes: &mut ByNumber<NodeId, Node>, pool: &mut Pool, id: NodeId) {
    if nodes.get(&id).is_some_and(|node| node.lookups == 0) {
        nodes.remove(&id);
        pool.nodes.retain(|other| *other != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MailboxLimits;
    use crate::mailbox::Mailbox;
    use crate::tree::meta::Meta;
    use crate::tree::objects::MailboxState;
    use parking_lot::Mutex;

    const LATER: Timestamp = Timestamp(10 * GLANCE);

    struct World {
        nodes: Nodes,
        file: Arc<MailboxFile>,
        next: u64,
    }

    impl World {
        fn new() -> World {
            let state = MailboxState {
                meta: Meta::new(0o644, 0, 0, Timestamp(0)),
                queue: Mailbox::new(MailboxLimits::default(), Timestamp(0)),
                starving: false,
                believed: None,
                alarm: None,
                refusal: None,
            };
            World {
                nodes: Nodes::default(),
                file: Arc::new(MailboxFile { ino: Ino(9), state: Mutex::new(state) }),
                next: 99,
            }
        }

        fn look_up(&mut self, pid: u32, now: Timestamp) -> NodeId {
            let next = &mut self.next;
            self.nodes
                .look_up_mailbox(&self.file, pid, now, || {
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
        let first = world.look_up(1, Timestamp(0));
        assert!(world.open(first, true, 1, Timestamp(0)));
        let second = world.look_up(2, Timestamp(1));
        assert_ne!(first, second, "a writer's node is not given to anyone else");
        assert!(world.open(second, true, 2, Timestamp(1)));
        world.nodes.close(second, true);
        assert_eq!(world.look_up(3, Timestamp(2)), second);
    }

    #[test]
    fn the_loser_of_a_race_gets_a_node_of_its_own_at_once() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(0));
        assert_eq!(world.look_up(1, Timestamp(0)), node);
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
        let node = world.look_up(1, Timestamp(0));
        assert!(world.open(node, true, 1, LATER));
        assert!(!world.open(node, true, 2, LATER));
        assert!(world.open(node, true, 2, LATER), "a magic link leads to the same node again");
        assert_eq!(world.nodes.len(), 1, "the node kept for it is gone");
    }

    #[test]
    fn a_node_that_another_process_looked_up_just_now_is_left_to_it() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(0));
        assert_ne!(world.look_up(2, Timestamp(1)), node);
        assert!(!world.open(node, true, 2, Timestamp(2)));
        assert_eq!(world.look_up(3, LATER), world.look_up(3, LATER));
    }

    #[test]
    fn readers_share_and_forgotten_nodes_leave_nothing() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(0));
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
        let node = world.look_up(1, Timestamp(0));
        assert!(world.open(node, true, 1, LATER));
        for pid in 2..1000 {
            assert!(!world.open(node, true, pid, LATER));
        }
        assert!(world.nodes.len() <= KEPT + 1);
    }
}
