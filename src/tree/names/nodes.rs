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
//! - a writer that appends gets a node of another kind, whose size is told as 0 to all who ask: the kernel takes the size for the
//!   position at which it writes, and ends a program for which that is beyond its limit for files (`ulimit -f`). What opens a node
//!   of the wrong kind is refused. A node stays what it is, so that no answer is on its way that says otherwise;
//! - under [contention](Contenders) all are answered with one node, which readers can share. Whenever the node at a name
//!   changes, the kernel has everybody who is about to open it ask again: with a node for each, every one who opens would
//!   cost a LOOKUP by all the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::Named;
use super::lookups::{Contenders, RecentLookups};
use super::numbers::ByNumber;
use super::refusals::Refusals;
use crate::accounts::Charge;
use crate::op::{Attr, Ino, Moment, NodeId};
use crate::state::saved;

#[cfg(test)]
mod tests;

/// Nodes tried before there is a fresh one.
const TRIED: usize = 16;

/// After so many look-ups by a user that have made a node each, the kernel is asked to forget those that are older. It has no use
/// for them, and keeps them all the same until it needs the memory.
pub(crate) const LATEST: usize = 500;

/// So many of them at once.
const FORGOTTEN_AT_ONCE: usize = 100;

/// So many are looked at to find some that nobody has open.
const LOOKED_AT: usize = 1000;

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
#[allow(clippy::struct_excessive_bools)]
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
    /// It is for those who append: its size is told as 0.
    for_append: bool,
    /// The kernel gave up some of its references and not all. It may have evicted its inode and made another by a look-up
    /// whose answer is on its way, so nobody knows what it has. Attributes are not cached on this node any more, and once
    /// it is quiet another takes its place.
    uncertain: bool,
    /// What one that was made for a look-up is charged to whoever looked it up.
    charge: Option<Charge>,
}

/// The nodes that a user's look-ups have made, one each.
#[derive(Debug)]
struct Passing {
    /// The oldest first, as numbers only grow.
    nodes: BTreeSet<NodeId>,
    /// Look-ups since `latest`.
    count: usize,
    latest: NodeId,
    /// The kernel has been asked to forget those up to here, and is to be asked up to `until`.
    asked: NodeId,
    until: NodeId,
}

saved!(struct Passing { nodes, count, latest, asked, until });

impl Default for Passing {
    fn default() -> Passing {
        let none = NodeId(0);
        Passing { nodes: BTreeSet::new(), count: 0, latest: none, asked: none, until: none }
    }
}

saved!(struct Node<O> {
    object, pooled, lookups, readers, writers, recent_lookups, reserved_for, permissions, pinned,
    uncertain, charge since 2, for_append since 4,
});

/// The nodes of one mailbox, all of which the kernel knows.
#[derive(Debug, Default)]
struct Pool {
    /// The one last answered to others than those who append, which the kernel has by the mailbox's name if none of these came since.
    last: Option<NodeId>,
    /// Those that nobody has open and that are not reserved, the most recently used at the end.
    idle: Vec<NodeId>,
    /// How many there are.
    known: usize,
    /// What few pools have, made when it is needed.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    /// Threads that meet here.
    contenders: Contenders,
    /// As [`Pool::idle`], those for who appends.
    idle_for_append: Vec<NodeId>,
}

saved!(struct Pool { last, idle, known, rare });
saved!(struct Rare { contenders, idle_for_append since 4 });

/// All the nodes that the kernel knows, those of control files aside (they need no memory).
#[derive(Debug)]
pub(crate) struct Nodes<O> {
    by_id: ByNumber<NodeId, Node<O>>,
    pools: BTreeMap<Ino, Pool>,
    refusals: Refusals,
    /// By user.
    passing: HashMap<u32, Passing>,
}

saved!(struct Nodes<O> { by_id, pools, refusals, passing since 2 });

impl Pool {
    /// The idle ones: those for who appends, or the others.
    fn idle(&mut self, for_append: bool) -> &mut Vec<NodeId> {
        if for_append { &mut self.rare.get_or_insert_default().idle_for_append } else { &mut self.idle }
    }

    fn remove_idle(&mut self, id: NodeId, for_append: bool) {
        let idle = self.idle(for_append);
        if let Some(at) = idle.iter().rposition(|idle| *idle == id) {
            idle.remove(at);
        }
    }
}

impl<O> Default for Nodes<O> {
    fn default() -> Nodes<O> {
        Nodes {
            by_id: ByNumber::default(),
            pools: BTreeMap::new(),
            refusals: Refusals::default(),
            passing: HashMap::new(),
        }
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

    /// A LOOKUP that makes a node of its own, numbered `id`, which was never used before. True if [`Nodes::superfluous`] must be
    /// called until there are no more.
    pub(crate) fn look_up_once(&mut self, id: NodeId, object: O, charge: Charge) -> bool {
        let passing = self.passing.entry(charge.account().uid()).or_default();
        self.by_id.insert(id, Node { lookups: 1, charge: Some(charge), ..Node::new(object) });
        passing.nodes.insert(id);
        passing.count += 1;
        if passing.count <= LATEST {
            return false;
        }
        let idle = passing.asked >= passing.until;
        (passing.until, passing.latest, passing.count) = (passing.latest, id, 1);
        idle && passing.asked < passing.until
    }

    /// Some of the nodes made by look-ups of a user that the kernel is to be asked to forget, and whether there are more.
    pub(crate) fn superfluous(&mut self, uid: u32) -> (Vec<NodeId>, bool) {
        let Some(passing) = self.passing.get_mut(&uid) else { return (Vec::new(), false) };
        let later = passing.nodes.range((Bound::Excluded(passing.asked), Bound::Unbounded));
        let nodes: Vec<NodeId> =
            later.take_while(|id| **id <= passing.until).take(FORGOTTEN_AT_ONCE).copied().collect();
        let more = nodes.len() == FORGOTTEN_AT_ONCE;
        passing.asked = nodes.last().copied().filter(|_| more).unwrap_or(passing.until);
        (nodes, more)
    }

    /// Forgets the oldest nodes that a user's look-ups have made and that nobody has open, to make room for others. If the kernel
    /// uses one, it is told that it is stale, and looks its name up. False if there are none.
    pub(crate) fn drop_oldest(&mut self, uid: u32) -> bool {
        let Some(passing) = self.passing.get_mut(&uid) else { return false };
        let is_open = |id: &NodeId| self.by_id.get(id).is_some_and(Node::is_open);
        let oldest = passing.nodes.iter().take(LOOKED_AT).filter(|id| !is_open(id));
        let oldest: Vec<NodeId> = oldest.take(FORGOTTEN_AT_ONCE).copied().collect();
        for id in &oldest {
            passing.nodes.remove(id);
            self.by_id.remove(id);
        }
        !oldest.is_empty()
    }

    /// A LOOKUP of a mailbox by thread `pid`. `fresh` makes a number never used before.
    pub(crate) fn look_up_mailbox(
        &mut self,
        mailbox: &O,
        pid: u32,
        now: Moment,
        fresh: impl FnOnce() -> NodeId,
    ) -> NodeId {
        self.drop_overdue_refusals(now);
        self.refusals.note_look_up(pid);
        let refused = self.refusals.contains(pid);
        let appends = refused && self.refusals.appends(pid);
        let reserved = if refused { self.refusals.reserved(pid) } else { None };
        // The name may stand for another mailbox than it did when the node was reserved.
        let mine = |id: &NodeId| {
            self.by_id.get(id).is_some_and(|node| {
                node.is_of(mailbox.ino()) && !node.is_open() && node.for_append == appends
            })
        };
        let reserved = reserved.filter(mine);
        let pool = self.pools.entry(mailbox.ino()).or_default();
        let quiet = |id: &NodeId| self.by_id.get(id).is_some_and(|node| node.is_quiet_for(pid, now));
        let known = |pool: &mut Pool| {
            if appends {
                return pool.idle(true).iter().rev().take(TRIED).copied().find(quiet);
            }
            pool.last.filter(quiet).or_else(|| {
                // Not if it is the first to come at all.
                let last = pool.last?;
                let contention = !refused && pool.rare.get_or_insert_default().contenders.joined_by(pid, now);
                let shared =
                    Some(last).filter(|id| contention && self.by_id.get(id).is_some_and(Node::can_be_shared));
                shared.or_else(|| pool.idle.iter().rev().take(TRIED).copied().find(quiet))
            })
        };
        let id = reserved.or_else(|| known(pool)).unwrap_or_else(fresh);
        let node = self.by_id.entry(id).or_insert_with(|| {
            pool.idle(appends).push(id);
            pool.known += 1;
            Node { pooled: true, for_append: appends, ..Node::new(mailbox.clone()) }
        });
        if !appends {
            pool.last = Some(id);
        }
        node.lookups += 1;
        node.recent_lookups.note(pid, now);
        if refused && reserved.is_none() {
            self.reserve(id, pid);
        }
        id
    }

    /// An OPEN of a mailbox's node by thread `pid`. `None`: refused, to be looked up again.
    pub(crate) fn open(&mut self, id: NodeId, write: bool, pid: u32, now: Moment) -> Option<Opening> {
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
        if let Some(Rare { contenders, .. }) = pool.rare.as_deref_mut() {
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
        {
            pool.remove_idle(id, node.for_append);
        }
        *node.opened(write) += 1;
        node.pinned |= nameless;
        Some(if nameless { Opening::Nameless } else { Opening::ByName })
    }

    /// An OPEN of a node that each LOOKUP makes anew, by thread `pid`, for writing or not. `is_its_own`: it is the one that looked
    /// it up. `None`: refused, to be looked up again.
    pub(crate) fn open_once(
        &mut self,
        (id, write): (NodeId, bool),
        is_its_own: bool,
        pid: u32,
        now: Moment,
    ) -> Option<Opening> {
        let nameless = self.refusals.came_without_look_up(pid);
        let refused_before = self.came_back(pid);
        if !is_its_own && !refused_before && self.refuse(pid, now) {
            return None;
        }
        self.open_other(id, write);
        Some(if nameless { Opening::Nameless } else { Opening::ByName })
    }

    /// An OPEN of a node that is none of a mailbox.
    pub(crate) fn open_other(&mut self, id: NodeId, write: bool) {
        if let Some(node) = self.by_id.get_mut(&id) {
            *node.opened(write) += 1;
        }
    }

    /// A LOOKUP by thread `pid` of a node that is made for it.
    pub(crate) fn note_look_up(&mut self, pid: u32) {
        self.refusals.note_look_up(pid);
    }

    /// The open file counted by [`Nodes::open`], [`Nodes::open_once`] or [`Nodes::open_other`] was closed.
    pub(crate) fn close(&mut self, id: NodeId, write: bool) {
        let Some(node) = self.by_id.get_mut(&id) else { return };
        let count = node.opened(write);
        *count = count.saturating_sub(1);
        if node.is_idle()
            && node.pooled
            && let Some(pool) = self.pools.get_mut(&node.object.ino())
        {
            pool.idle(node.for_append).push(id);
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
                pool.idle(node.for_append).retain(|idle| *idle != id);
            }
            return None;
        }
        let node = self.by_id.remove(&id)?;
        if let Some(uid) = node.charge.as_ref().map(|charge| charge.account().uid())
            && let Some(passing) = self.passing.get_mut(&uid)
        {
            passing.nodes.remove(&id);
            if passing.nodes.is_empty() {
                self.passing.remove(&uid);
            }
        }
        if let Some(pid) = node.reserved_for {
            // The thread is on its way all the same.
            self.refusals.reserve(pid, None);
        }
        if node.pooled
            && let Some(pool) = self.pools.get_mut(&node.object.ino())
        {
            pool.known = pool.known.saturating_sub(1);
            pool.idle(node.for_append).retain(|idle| *idle != id);
            if pool.known == 0 {
                self.pools.remove(&node.object.ino());
            }
        }
        Some(node.object)
    }

    /// Refuses an open(2) by thread `pid`, for the first time. False if it must not be refused.
    pub(crate) fn refuse(&mut self, pid: u32, now: Moment) -> bool {
        if pid == UNKNOWN_THREAD {
            return false;
        }
        // If there is one, it is of an earlier open(2).
        self.drop_refusal(pid);
        self.refusals.insert(pid, now);
        self.drop_overdue_refusals(now);
        true
    }

    /// Whether an OPEN by thread `pid`, which `appends` or not, is refused first, because it was not `told` the size that is right
    /// for it.
    pub(crate) fn refuse_size(&mut self, told: bool, appends: bool, pid: u32, now: Moment) -> bool {
        // A record of the other kind is of an earlier open(2), which has ended without an OPEN.
        let is_second = self.was_refused(pid) && self.will_append(pid) == appends;
        !told && !is_second && self.refuse(pid, now)
    }

    /// Thread `pid`, which was refused, opens to append.
    pub(crate) fn note_append(&mut self, pid: u32) {
        self.refusals.note_append(pid);
    }

    /// Thread `pid` makes a file and opens it, to append or not. If so, it is as if it had been refused: the answer is a node that is
    /// told to be empty.
    pub(crate) fn note_create(&mut self, appends: bool, pid: u32, now: Moment) {
        if appends {
            self.refuse(pid, now);
            self.note_append(pid);
        } else if self.will_append(pid) {
            self.drop_refusal(pid);
        }
    }

    /// Thread `pid` was refused and opens to append: what it looks up is told to be empty.
    pub(crate) fn will_append(&self, pid: u32) -> bool {
        self.refusals.appends(pid)
    }

    /// The size of a node is told as 0.
    pub(crate) fn is_told_empty(&self, id: NodeId) -> bool {
        self.by_id.get(&id).is_some_and(|node| node.for_append)
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
            {
                pool.remove_idle(id, node.for_append);
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
                pool.idle(node.for_append).push(id);
            }
        }
    }

    fn drop_refusal(&mut self, pid: u32) {
        if let Some(reserved) = self.refusals.remove(pid) {
            self.release(reserved);
        }
    }

    fn drop_overdue_refusals(&mut self, now: Moment) {
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
            for_append: false,
            uncertain: false,
            charge: None,
        }
    }

    /// It is one of a mailbox's pool.
    fn is_of(&self, mailbox: Ino) -> bool
    where
        O: Named,
    {
        self.pooled && self.object.ino() == mailbox
    }

    fn is_open(&self) -> bool {
        self.readers + self.writers > 0
    }

    /// How many have it open for writing, or else only for reading.
    fn opened(&mut self, write: bool) -> &mut u32 {
        if write { &mut self.writers } else { &mut self.readers }
    }

    /// Nobody has it open, and anybody may be given it.
    fn is_idle(&self) -> bool {
        !self.is_open() && self.reserved_for.is_none() && !self.uncertain && !self.pinned
    }

    /// Nobody has it open, and nobody but `pid` is about to use it.
    fn is_quiet_for(&self, pid: u32, now: Moment) -> bool {
        self.is_idle() && !self.recent_lookups.are_by_another(pid, now)
    }

    /// Readers may have it open, and anybody may be about to use it.
    fn can_be_shared(&self) -> bool {
        self.reserved_for.is_none() && self.writers == 0 && !self.pinned
    }
}
