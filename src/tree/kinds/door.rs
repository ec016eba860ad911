//! A door: a file of `control/mailboxes/<name>/` that is another way into and out of the mailbox's queue. `purge` is one, too.
//!
//! Each look-up makes a node, for the reason that mailboxes have a pool of them (see [`crate::tree::names::nodes`]): a
//! writer who waits must have one to itself. The kernel drops the one before, if nobody has it open.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::control::{ControlNode, Slot};
use super::mailbox::{MailboxFile, check_receives, sized};
use super::message::meta_of;
use super::purge::OpenPurge;
use super::{Cx, Header, Inode, InodeOps, Job, Names, OpenFile, set_size_only};
use crate::accounts::{Charge, Resource};
use crate::control::{DOORS, DoorKind};
use crate::mailbox::Door;
use crate::op::{Attr, Caller, Entry, Error, Fh, Ino, NodeId, OpenAs, OpenFlags, Opened, SetAttr, Validity};
use crate::state::saved;
use crate::tree::names::lookups::RecentLookups;
use crate::tree::names::meta::{Meta, REGULAR};

/// A node that leads to a door.
#[derive(Debug)]
pub(crate) struct DoorNode {
    file: Arc<MailboxFile>,
    way: Way,
    node: NodeId,
    ino: Ino,
    lookup: Mutex<RecentLookups>,
    /// Who opened it last. The number may be another file's since.
    opened: Mutex<Option<Fh>>,
    /// Its size is told as 0, for a writer that appends.
    told_empty: bool,
}

/// Where a door leads.
#[derive(Debug)]
enum Way {
    Queue(Door),
    Purge,
}

saved!(struct DoorNode { file, way, node, ino, lookup, opened, told_empty since 4 });
saved!(enum Way { 0 = Queue(door), 1 = Purge });

/// Bytes that a node is charged which a look-up makes, beside its name: an estimate of it, its entries in tables, and what allocating adds.
const NODE_COST: u64 = 500;

/// The door at `index` is a folder of doors, each named by a value.
pub(super) fn is_folder_of_doors(index: usize) -> bool {
    DOORS.get(index).is_some_and(|door| !matches!(door.kind, DoorKind::One(_) | DoorKind::Purge))
}

/// LOOKUP of a door in a mailbox's folder or in a folder of doors. `None`: no door has this name.
pub(super) fn look_up(
    file: &Arc<MailboxFile>,
    place: ControlNode,
    name: &[u8],
    caller: Caller,
    cx: &mut Cx<'_>,
) -> Result<Option<Entry>, Error> {
    let (way, ino) = if let Slot::Door(index) = place.slot {
        (Way::Queue(DOORS.get(index).ok_or(Error::NotFolder)?.kind.named(name)?), None)
    } else {
        let mut doors = DOORS.iter().enumerate();
        let Some((index, found)) = doors.find(|(_, door)| door.name.as_bytes() == name) else {
            return Ok(None);
        };
        let way = match &found.kind {
            DoorKind::One(door) => Way::Queue(door.clone()),
            DoorKind::Purge => Way::Purge,
            _ => return Ok(None),
        };
        (way, Some(place.with(Slot::Door(index)).ino()))
    };
    let charge = cx.charge_node(caller, name)?;
    let mut names = cx.tree.names.lock();
    let node = NodeId(names.fresh());
    let mut lookup = RecentLookups::default();
    lookup.note(caller.pid, cx.now.moment);
    let (ino, lookup) = (ino.unwrap_or(Ino(node.0)), Mutex::new(lookup));
    let told_empty = names.nodes.will_append(caller.pid);
    let (file, opened) = (Arc::clone(file), Mutex::default());
    let found = Arc::new(DoorNode { file, way, node, ino, lookup, opened, told_empty });
    let attr = found.attr_now();
    names.nodes.note_look_up(caller.pid);
    cx.look_up_once(&mut names, node, Inode::Door(found), charge);
    Ok(Some(Entry { node, attr, validity: Validity::None }))
}

impl Cx<'_> {
    /// Charges for the node of a name in `control/` that `caller` looks up.
    pub(super) fn charge_node(&self, caller: Caller, name: &[u8]) -> Result<Charge, Error> {
        self.charge_node_or(caller, name, || self.tree.names.lock().nodes.drop_oldest(caller.uid))
    }

    /// The same for one who has the names locked.
    pub(super) fn charge_node_of(
        &self,
        names: &mut Names,
        caller: Caller,
        name: &[u8],
    ) -> Result<Charge, Error> {
        self.charge_node_or(caller, name, || names.nodes.drop_oldest(caller.uid))
    }

    fn charge_node_or(
        &self,
        caller: Caller,
        name: &[u8],
        make_room: impl FnOnce() -> bool,
    ) -> Result<Charge, Error> {
        let account = self.tree.accounts.of(caller.uid);
        let charge =
            || account.charge(Resource::Texts, NODE_COST + name.len() as u64).map_err(|_| Error::NoMemory);
        charge().or_else(|error| if make_room() { charge() } else { Err(error) })
    }

    /// A LOOKUP has made a node of its own.
    pub(super) fn look_up_once(&self, names: &mut Names, node: NodeId, inode: Inode, charge: Charge) {
        let uid = charge.account().uid();
        if names.nodes.look_up_once(node, inode, charge) {
            self.tree.work.push(Job::Prune(uid), |_| Ok(()));
        }
    }
}

impl DoorNode {
    fn attr_now(&self) -> Attr {
        let attr = {
            let state = self.file.state.lock();
            state.attr(self.file.ino)
        };
        let (receive, send) = (attr.mode & 0o444, attr.mode & 0o222);
        let mode = match &self.way {
            // As for `rm` in `messages/`.
            Way::Purge => (receive & send << 1) | (send & receive >> 1),
            // Whoever may receive settles what it received; whoever may send reads the answer.
            Way::Queue(Door::Lease | Door::LeaseJson | Door::Serve) => receive | receive >> 1,
            Way::Queue(Door::Rpc) => send | send << 1,
            Way::Queue(door) => match door.ways() {
                (true, true) => receive | send,
                (true, false) => receive,
                (false, _) => send,
            },
        };
        sized(Attr { ino: self.ino, mode: REGULAR | mode, ..attr }, self.told_empty)
    }
}

impl InodeOps for Arc<DoorNode> {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr_now(), Validity::None))
    }

    fn looked_at(&self, pid: u32) {
        self.file.looked_at(pid);
    }

    fn set_attr(&self, _: Header, set: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        set_size_only(set)?;
        Ok((self.attr_now(), Validity::None))
    }

    /// Extended attributes are those of the message in hand.
    fn read_meta(&self, look: &mut dyn FnMut(&Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        let fh = *self.opened.lock();
        let file = fh.and_then(|fh| cx.tree.handles.get(fh).ok());
        let in_hand = match file.as_deref() {
            Some(OpenFile::Mailbox(open)) if open.is_of(self.node) => {
                open.look_in_hand(|message| meta_of(message, cx.now))
            }
            _ => None,
        };
        look(&in_hand.unwrap_or_else(|| Meta::new(0, 0, 0, cx.now.time())));
        Ok(())
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        mut names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        let (reads, writes) = match &self.way {
            Way::Queue(door) => door.ways(),
            Way::Purge => (true, true),
        };
        if (flags.read && !reads) || (flags.write && !writes) {
            return Err(Error::AccessDenied);
        }
        check_receives(flags)?;
        let pid = header.caller.pid;
        let now = cx.now.moment;
        let is_its_own = !flags.write || self.lookup.lock().end(pid, now);
        let told = !flags.appends() || self.told_empty;
        let refused = names.nodes.refuse_size(told, flags.appends(), pid, now);
        let opening = if refused {
            None
        } else {
            names.nodes.open_once((self.node, flags.write), is_its_own, pid, now)
        };
        if flags.appends() && opening.is_none() {
            names.nodes.note_append(pid);
        }
        let opening = opening.ok_or(Error::Stale)?;
        drop(names);
        let opened = match &self.way {
            Way::Queue(door) => self.file.open_door(header, door.clone(), flags, opening, cx),
            Way::Purge => {
                let open = OpenPurge::new(&self.file, header.node, flags.write);
                Opened { fh: cx.opened(OpenFile::Purge(open)), how: OpenAs::Stream }
            }
        };
        *self.opened.lock() = Some(opened.fh);
        Ok(opened)
    }
}
