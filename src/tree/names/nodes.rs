//! The kernel's nodes, and the pool of them that each mailbox has.
//!
//! The kernel locks a node while a write to it is under way, and while it truncates, changes or removes the file. So a
//! writer that waits must have a node to itself, or `echo >`, `chmod` and `rm` would wait with it, beyond the reach of
//! signals. Hence *one open file a node*, as far as a mailbox is concerned:
//!
//! - LOOKUP answers with a node that nobody has open, preferably the one it answered with before (which the kernel then
//!   finds in its cache), and asks to be asked again next time;
//! - an OPEN that would share a node with a writer is answered `ESTALE`: the kernel looks the name up once more, and that
//!   LOOKUP reserves a node for the thread. A thread is refused [only once](super::refusals) in an open(2), whatever
//!   becomes of the node or the name meanwhile;
//! - a writer that no name has led here reaches the same node whatever LOOKUP says: through a mailbox that is mounted on
//!   another file, `/dev/stdout` or `/proc/self/fd/N`. So one that has not looked the node up is refused, too. If it comes
//!   back without a LOOKUP, it is let in and may not wait, and the node is nobody else's from then on;
//! - a node that another thread has looked up recently counts as taken: that thread may be about to remove or change the
//!   file, with the node locked;
//! - to a writer that appends, the kernel must have been told that the file is empty: it takes the size for the position at
//!   which it writes, and ends a program for which that is beyond its limit for files (`ulimit -f`). So it is refused once, and
//!   the LOOKUP that follows tells the size 0, as do all that ask for attributes while the node is open;
//! - under [contention](Contenders) all are answered with one node, which readers can share. Whenever the node at a name
//!   changes, the kernel has everybody who is about to open it ask again: with a node for each, every one who opens would
//!   cost a LOOKUP by all the others.

use std::collections::BTreeMap;

use super::Named;
use super::lookups::{Contenders, RecentLookups};
use super::numbers::ByNumber;
use super::refusals::Refusals;
use crate::op::{Attr, Ino, NodeId, Timestamp};
use crate::state::saved;

/// Nodes tried before there is a fresh one.
const TRIED: usize = 16;

/// What the kernel calls all threads of which it can tell no number, as those of other PID namespaces are. They cannot be
/// told apart, so none of them is refused.
const UNKNOWN_THREAD: u32 = 0;

/// How a writer has come to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    ByName,
    /// By no name: it shares the node with all who come that way.
    Nameless,
}

/// The attributes by which the kernel decides who may open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permissions {
    mode: u32,
    uid: u32,
    gid: u32,
}

saved!(struct Permissions { mode, uid, gid });

impl From<&Attr> for Permissions {
    fn from(attr: &Attr) -> Permissions {
        Permissions { mode: attr.mode, uid: attr.uid, gid: attr.gid }
    }
}

#[derive(Debug)]
struct Node<O> {
    object: O,
    /// It is one of a mailbox's pool.
    pooled: bool,
    /// References the kernel has: look-ups less forgets.
    lookups: u64,
    readers: u32,
    writers: u32,
    recent_lookups: RecentLookups,
    /// The one thread that LOOKUP answers with this node.
    reserved_for: Option<u32>,
    /// What the kernel has for certain of this node, see [`Nodes::asked_for_attr`].
    permissions: Option<Permissions>,
    /// A writer came by no name, and others may.
    pinned: bool,
    /// Its size is told as 0, for a writer that appends.
    told_empty: bool,
    /// The kernel gave up some of its references and not all. It may have evicted its inode and made another by a look-up
    /// whose answer is on its way, so nobody knows what it has. Attributes are not cached on this node any more, and once
    /// it is quiet another takes its place.
    uncertain: bool,
}

saved!(struct Node<O> {
    object, pooled, lookups, readers, writers, recent_lookups, reserved_for, permissions, pinned,
    told_empty since 2, uncertain,
});

/// The nodes of one mailbox, all of which the kernel knows.
#[derive(Debug, Default)]
struct Pool {
    /// The one last answered, which the kernel has by the mailbox's name.
    last: Option<NodeId>,
    /// Those that nobody has open and that are not reserved, the most recently used at the end.
    idle: Vec<NodeId>,
    /// How many there are.
    known: usize,
    /// Made when two threads first meet here, as in most pools they never do.
    contention: Option<Box<Contenders>>,
}

saved!(struct Pool { last, idle, known, contention });

/// All the nodes that the kernel knows, those of control files aside (they need no memory).
#[derive(Debug)]
pub(crate) struct Nodes<O> {
    by_id: ByNumber<NodeId, Node<O>>,
    pools: BTreeMap<Ino, Pool>,
    refusals: Refusals,
}

saved!(struct Nodes<O> { by_id, pools, refusals });

impl<O> Default for Nodes<O> {
    fn default() -> Nodes<O> {
        Nodes { by_id: ByNumber::default(), pools: BTreeMap::new(), refusals: Refusals::default() }
    }
}

impl<O: Named> Nodes<O> {
    /// What `node` stands for.
    pub(crate) fn object(&self, node: NodeId) -> Option<&O> {
        self.by_id.get(&node).map(|node| &node.object)
    }

    /// A LOOKUP of something that has one node, numbered as its inode.
    pub(crate) fn look_up(&mut self, object: &O) -> NodeId {
        let id = NodeId(object.ino().0);
        self.by_id.entry(id).or_insert_with(|| Node::new(object.clone())).lookups += 1;
        id
    }

    /// A LOOKUP that makes a node of its own, numbered `id`, which was never used before.
    pub(crate) fn look_up_once(&mut self, id: NodeId, object: O) {
        self.by_id.insert(id, Node { lookups: 1, ..Node::new(object) });
    }

    /// A LOOKUP of a mailbox by thread `pid`. `fresh` makes a number never used before.
    pub(crate) fn look_up_mailbox(
        &mut self,
        mailbox: &O,
        pid: u32,
        now: Timestamp,
        fresh: impl FnOnce() -> NodeId,
    ) -> NodeId {
        self.drop_overdue_refusals(now);
        self.refusals.note_look_up(pid);
        let refused = self.refusals.contains(pid);
        let reserved = if refused { self.refusals.reserved(pid) } else { None };
        // The name may stand for another mailbox than it did when the node was reserved.
        let mine = |id: &NodeId| {
            self.by_id
                .get(id)
                .is_some_and(|node| node.pooled && node.object.ino() == mailbox.ino() && !node.is_open())
        };
        let reserved = reserved.filter(mine);
        let pool = self.pools.entry(mailbox.ino()).or_default();
        let quiet = |id: &NodeId| self.by_id.get(id).is_some_and(|node| node.is_quiet_for(pid, now));
        let found = reserved.or_else(|| pool.last.filter(quiet)).or_else(|| {
            // Not if it is the first to come at all.
            let last = pool.last?;
            let contention = !refused && pool.contention.get_or_insert_default().joined_by(pid, now);
            let shared =
                Some(last).filter(|id| contention && self.by_id.get(id).is_some_and(Node::can_be_shared));
            shared.or_else(|| pool.idle.iter().rev().take(TRIED).copied().find(quiet))
        });
        let id = found.unwrap_or_else(fresh);
        let node = self.by_id.entry(id).or_insert_with(|| {
            pool.idle.push(id);
            pool.known += 1;
            Node { pooled: true, ..Node::new(mailbox.clone()) }
        });
        pool.last = Some(id);
        node.told_empty = refused && self.refusals.appends(pid);
        node.lookups += 1;
        node.recent_lookups.note(pid, now);
        if refused && reserved.is_none() {
            self.reserve(id, pid);
        }
        id
    }

    /// An OPEN of a mailbox's node by thread `pid`. `None`: refused, to be looked up again.
    pub(crate) fn open(&mut self, id: NodeId, write: bool, pid: u32, now: Timestamp) -> Option<Opening> {
        let nameless = write && self.refusals.came_without_look_up(pid);
        let refused_before = self.came_back(pid);
        let node = self.by_id.get_mut(&id)?;
        if !node.pooled {
            return None;
        }
        let pool = self.pools.entry(node.object.ino()).or_default();
        let shared = if write { node.writers + node.readers > 0 } else { node.writers > 0 };
        let looked_up =
            write && (node.recent_lookups.are_by_another(pid, now) || !node.recent_lookups.are_by(pid, now));
        if let Some(contenders) = &mut pool.contention {
            contenders.left_by(pid);
        }
        if (shared || looked_up) && !refused_before && self.refuse(pid, now) {
            return None;
        }
        let node = self.by_id.get_mut(&id)?;
        node.recent_lookups.clear(pid);
        if !node.is_open()
            && node.pooled
            && let Some(pool) = self.pools.get_mut(&node.object.ino())
            && let Some(at) = pool.idle.iter().rposition(|idle| *idle == id)
        {
            pool.idle.remove(at);
        }
        if write {
            node.writers += 1;
        } else {
            node.readers += 1;
        }
        node.pinned |= nameless;
        Some(if nameless { Opening::Nameless } else { Opening::ByName })
    }

    /// An OPEN for writing of a node that each LOOKUP makes anew, by thread `pid`. `is_its_own`: it is the one that looked it
    /// up. `None`: refused, to be looked up again.
    pub(crate) fn open_once(&mut self, is_its_own: bool, pid: u32, now: Timestamp) -> Option<Opening> {
        let nameless = self.refusals.came_without_look_up(pid);
        let refused_before = self.came_back(pid);
        if !is_its_own && !refused_before && self.refuse(pid, now) {
            return None;
        }
        Some(if nameless { Opening::Nameless } else { Opening::ByName })
    }

    /// A LOOKUP by thread `pid` of a node that is made for it.
    pub(crate) fn note_look_up(&mut self, pid: u32) {
        self.refusals.note_look_up(pid);
    }

    /// The open file counted by [`Nodes::open`] was closed.
    pub(crate) fn close(&mut self, id: NodeId, write: bool) {
        let Some(node) = self.by_id.get_mut(&id) else { return };
        let count = if write { &mut node.writers } else { &mut node.readers };
        *count = count.saturating_sub(1);
        node.told_empty &= node.writers > 0;
        if node.is_idle()
            && node.pooled
            && let Some(pool) = self.pools.get_mut(&node.object.ino())
        {
            pool.idle.push(id);
        }
    }

    /// A change by thread `pid` that locked the node is over.
    pub(crate) fn changed(&mut self, id: NodeId, pid: u32) {
        if let Some(node) = self.by_id.get_mut(&id) {
            node.recent_lookups.clear(pid);
        }
    }

    /// True if the kernel has these permissions of a node for certain: then no harm is done if it drops an answer that
    /// has them, as it does when an invalidation overtakes the answer.
    pub(crate) fn kernel_has(&self, id: NodeId, permissions: Permissions) -> bool {
        self.by_id.get(&id).is_some_and(|node| !node.uncertain && node.permissions == Some(permissions))
    }

    /// A GETATTR of a mailbox's node, or an answer that the kernel takes in any case. True if the answer may be cached.
    ///
    /// A kernel that asks for a node's attributes has taken in an earlier answer, that of a LOOKUP, because it dropped
    /// none: as long as it did not have these permissions, no invalidation was sent. This answer is one that must not be
    /// dropped, as the caller's last chance before its permissions are checked. So it is cached only if the node is open:
    /// then the caller has passed that check, and the kernel does not evict the inode.
    pub(crate) fn asked_for_attr(&mut self, id: NodeId, permissions: Permissions) -> bool {
        let Some(node) = self.by_id.get_mut(&id) else { return false };
        node.permissions.replace(permissions) == Some(permissions) && node.is_open() && !node.uncertain
    }

    /// The kernel gives back `count` references. Returns what the node stood for, if it was the last.
    pub(crate) fn forget(&mut self, id: NodeId, count: u64) -> Option<O> {
        let node = self.by_id.get_mut(&id)?;
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 {
            (node.permissions, node.uncertain) = (None, true);
            if let Some(pool) = self.pools.get_mut(&node.object.ino()) {
                pool.idle.retain(|idle| *idle != id);
            }
            return None;
        }
        let node = self.by_id.remove(&id)?;
        if let Some(pid) = node.reserved_for {
            // The thread is on its way all the same.
            self.refusals.reserve(pid, None);
        }
        if node.pooled
            && let Some(pool) = self.pools.get_mut(&node.object.ino())
        {
            pool.known = pool.known.saturating_sub(1);
            pool.idle.retain(|idle| *idle != id);
            if pool.known == 0 {
                self.pools.remove(&node.object.ino());
            }
        }
        Some(node.object)
    }

    /// Refuses an open(2) by thread `pid`, of which there is no record. False if it must not be refused.
    pub(crate) fn refuse(&mut self, pid: u32, now: Timestamp) -> bool {
        if pid == UNKNOWN_THREAD {
            return false;
        }
        self.refusals.insert(pid, now);
        self.drop_overdue_refusals(now);
        true
    }

    /// Whether an OPEN by thread `pid` is refused first, so that the kernel is told another size: 0 if it appends. `told`: it
    /// was told this size.
    pub(crate) fn refuse_to_append(&mut self, told: bool, pid: u32, now: Timestamp) -> bool {
        !told && !self.was_refused(pid) && self.refuse(pid, now)
    }

    /// Thread `pid`, which was refused, opens to append.
    pub(crate) fn note_append(&mut self, pid: u32) {
        self.refusals.note_append(pid);
    }

    /// Thread `pid` was refused and opens to append: what it looks up is told to be empty.
    pub(crate) fn will_append(&self, pid: u32) -> bool {
        self.refusals.appends(pid)
    }

    /// The size of a node is told as 0, until it is looked up for somebody else or its writers have closed it.
    pub(crate) fn tell_empty(&mut self, id: NodeId) {
        if let Some(node) = self.by_id.get_mut(&id) {
            node.told_empty = true;
        }
    }

    /// Whether the size of a node is told as 0.
    pub(crate) fn is_told_empty(&self, id: NodeId) -> bool {
        self.by_id.get(&id).is_some_and(|node| node.told_empty)
    }

    /// Thread `pid` was refused in the open(2) that it is in.
    pub(crate) fn was_refused(&self, pid: u32) -> bool {
        self.refusals.contains(pid)
    }

    /// An OPEN by thread `pid`, with which its record ends. True if it was refused before.
    pub(crate) fn came_back(&mut self, pid: u32) -> bool {
        let refused = self.refusals.contains(pid);
        if refused {
            self.drop_refusal(pid);
        }
        refused
    }

    /// Nodes the kernel knows.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Threads that were refused and have not come back.
    #[cfg(test)]
    pub(crate) fn refusals(&self) -> usize {
        self.refusals.len()
    }

    /// Makes a node the one that thread `pid`, which was refused, is answered with, and nobody else.
    fn reserve(&mut self, id: NodeId, pid: u32) {
        if let Some(before) = self.refusals.reserved(pid) {
            self.release(before);
        }
        self.refusals.reserve(pid, Some(id));
        if let Some(node) = self.by_id.get_mut(&id) {
            node.reserved_for = Some(pid);
            if node.pooled
                && let Some(pool) = self.pools.get_mut(&node.object.ino())
                && let Some(at) = pool.idle.iter().rposition(|idle| *idle == id)
            {
                pool.idle.remove(at);
            }
        }
    }

    /// A reserved node is an ordinary one from now on.
    fn release(&mut self, id: NodeId) {
        if let Some(node) = self.by_id.get_mut(&id) {
            node.reserved_for = None;
            if node.is_idle()
                && node.pooled
                && let Some(pool) = self.pools.get_mut(&node.object.ino())
            {
                pool.idle.push(id);
            }
        }
    }

    fn drop_refusal(&mut self, pid: u32) {
        if let Some(reserved) = self.refusals.remove(pid) {
            self.release(reserved);
        }
    }

    fn drop_overdue_refusals(&mut self, now: Timestamp) {
        while let Some(pid) = self.refusals.overdue(now) {
            self.drop_refusal(pid);
        }
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
            recent_lookups: RecentLookups::default(),
            reserved_for: None,
            permissions: None,
            pinned: false,
            told_empty: false,
            uncertain: false,
        }
    }

    fn is_open(&self) -> bool {
        self.readers + self.writers > 0
    }

    /// Nobody has it open, and anybody may be given it.
    fn is_idle(&self) -> bool {
        !self.is_open() && self.reserved_for.is_none() && !self.uncertain && !self.pinned
    }

    /// Nobody has it open, and nobody but `pid` is about to use it.
    fn is_quiet_for(&self, pid: u32, now: Timestamp) -> bool {
        self.is_idle() && !self.recent_lookups.are_by_another(pid, now)
    }

    /// Readers may have it open, and anybody may be about to use it.
    fn can_be_shared(&self) -> bool {
        self.reserved_for.is_none() && self.writers == 0 && !self.pinned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::names::Namespace;
    use crate::tree::names::lookups::LOOKUP_WINDOW;
    use crate::tree::names::refusals::{MAX_REFUSALS, REFUSAL_LIFETIME};

    const LATER: Timestamp = Timestamp(10 * LOOKUP_WINDOW);

    /// A mailbox, as far as nodes know.
    #[derive(Debug, Clone)]
    struct File(Ino);

    impl Named for File {
        fn of_folder(ino: Ino, _: Namespace) -> File {
            File(ino)
        }

        fn ino(&self) -> Ino {
            self.0
        }

        fn folder(&self) -> Option<Ino> {
            None
        }

        fn is_symlink(&self) -> bool {
            false
        }
    }

    struct World {
        nodes: Nodes<File>,
        file: File,
        next: u64,
    }

    impl World {
        fn new() -> World {
            World { nodes: Nodes::default(), file: File(Ino(9)), next: 99 }
        }

        fn look_up(&mut self, pid: u32, now: Timestamp) -> NodeId {
            let next = &mut self.next;
            self.nodes.look_up_mailbox(&self.file, pid, now, || {
                *next += 1;
                NodeId(*next)
            })
        }

        fn open(&mut self, id: NodeId, write: bool, pid: u32, now: Timestamp) -> bool {
            // Each open(2) begins with a look-up, or another has been so short a time ago that it makes no difference.
            if let Some(node) = self.nodes.by_id.get_mut(&id) {
                node.recent_lookups.note(pid, now);
            }
            self.nodes.open(id, write, pid, now).is_some()
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
        let reserved = world.look_up(2, LATER);
        assert!(reserved != node && reserved != other, "reserved for the refused thread alone");
        assert_ne!(world.look_up(4, Timestamp(2 * LATER.0)), reserved);
        assert_eq!(world.look_up(2, LATER), reserved, "as often as it asks");
        assert!(world.open(reserved, true, 2, LATER));
        assert_eq!(world.nodes.refusals(), 0);
    }

    #[test]
    fn nobody_is_refused_twice() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, true, 1, LATER));
        assert!(!world.open(node, true, 2, LATER));
        assert!(world.open(node, true, 2, LATER), "a magic link leads to the same node again");
        assert_eq!((world.nodes.len(), world.nodes.refusals()), (1, 0));
    }

    #[test]
    fn who_comes_by_no_name_is_let_in_and_told_apart_and_the_node_is_given_to_nobody_else() {
        let mut world = World::new();
        let bound = world.look_up(1, Timestamp(1));
        // A mailbox that is mounted elsewhere: nobody who opens it there looks anything up.
        for pid in [2, 3] {
            assert_eq!(world.nodes.open(bound, true, pid, LATER), None);
            assert_eq!(world.nodes.open(bound, true, pid, LATER), Some(Opening::Nameless));
        }
        for _ in [2, 3] {
            world.nodes.close(bound, true);
        }
        let later = Timestamp(2 * LATER.0);
        let other = world.look_up(4, later);
        assert_ne!(other, bound);
        assert_eq!(world.nodes.open(other, true, 4, Timestamp(3 * LATER.0)), None, "a slow one");
        assert_eq!(world.look_up(4, Timestamp(3 * LATER.0)), other);
        assert_eq!(world.nodes.open(other, true, 4, Timestamp(4 * LATER.0)), Some(Opening::ByName));
        // A reader holds no lock while it waits.
        assert_eq!(world.nodes.open(bound, false, 5, LATER), Some(Opening::ByName));
        assert_eq!(world.nodes.refusals(), 0);
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
        let reserved = world.look_up(3, LATER);
        assert!(world.open(reserved, true, 3, LATER), "whatever was forgotten meanwhile");
        world.nodes.close(reserved, true);
        assert!(world.nodes.forget(reserved, 1).is_some());
        assert!(world.nodes.by_id.is_empty() && world.nodes.pools.is_empty());
        assert_eq!(world.nodes.refusals(), 0);
    }

    #[test]
    fn a_refused_thread_is_let_in_after_its_node_was_forgotten_or_the_mailbox_replaced() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, true, 1, LATER));
        assert!(!world.open(node, true, 2, LATER));
        let reserved = world.look_up(2, LATER);
        assert!(world.nodes.forget(reserved, 1).is_some());
        let another = world.look_up(2, LATER);
        world.file = File(Ino(10));
        world.nodes.close(node, true);
        world.nodes.forget(node, 1);
        let replaced = world.look_up(2, LATER);
        assert_ne!(replaced, another);
        assert!(
            !world.open(replaced, true, 3, LATER) && world.open(replaced, true, 3, LATER),
            "by a magic link"
        );
        let own = world.look_up(2, LATER);
        assert_ne!(own, replaced);
        assert!(world.open(own, true, 2, LATER));
        assert_eq!(world.nodes.refusals(), 0);
    }

    #[test]
    fn threads_that_never_come_back_are_bounded_by_number() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, true, 1, LATER));
        let last = MAX_REFUSALS as u32 + 1_000;
        for pid in 2..=last {
            assert!(!world.open(node, true, pid, LATER));
        }
        assert_eq!((world.nodes.len(), world.nodes.refusals()), (1, MAX_REFUSALS));
        assert!(world.open(node, true, last, LATER), "the oldest are dropped");
        assert!(!world.open(node, true, 2, LATER));
    }

    #[test]
    fn a_node_reserved_for_a_thread_that_never_comes_back_is_used_again_when_that_is_long_ago() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, true, 1, LATER));
        assert!(!world.open(node, true, 2, LATER));
        let reserved = world.look_up(2, LATER);
        let much_later = Timestamp(LATER.0 + REFUSAL_LIFETIME);
        assert_eq!(world.look_up(3, much_later), reserved);
        assert_eq!(world.nodes.refusals(), 0);
    }

    #[test]
    fn threads_without_a_number_are_never_refused() {
        let mut world = World::new();
        let node = world.look_up(1, Timestamp(1));
        assert!(world.open(node, true, 1, LATER));
        assert!(world.open(node, true, UNKNOWN_THREAD, LATER));
    }

    #[test]
    fn contending_readers_share_a_node_that_no_writer_gets() {
        const COUNT: u32 = 1_000;
        let mut world = World::new();
        let answered: Vec<NodeId> = (1..=COUNT).map(|pid| world.look_up(pid, LATER)).collect();
        let mut distinct = answered.clone();
        distinct.dedup();
        assert!(distinct.len() <= 32, "{} nodes for all of them", distinct.len());
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
    fn contending_writers_end_up_with_a_node_each() {
        const COUNT: u32 = 500;
        let mut world = World::new();
        let answered: Vec<NodeId> = (1..=COUNT).map(|pid| world.look_up(pid, LATER)).collect();
        let mut opened = std::collections::BTreeSet::new();
        for (pid, id) in (1..=COUNT).zip(answered) {
            let id = if world.open(id, true, pid, LATER) {
                id
            } else {
                let reserved = world.look_up(pid, LATER);
                assert!(world.open(reserved, true, pid, LATER), "refused twice");
                reserved
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
