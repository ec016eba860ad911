//! The files of `control/mailboxes/<name>/` that are ways in and out: doors to the queue, and each waiting message.
//!
//! Each look-up makes a node, for the reason that mailboxes have a pool of them (see [`super::nodes`]): a writer who waits
//! must have one to itself. The kernel drops the one before, if nobody has it open.

use std::sync::Arc;

use super::Tree;
use super::handles::{Handle, Target};
use super::meta::{FOLDER, Meta, REGULAR};
use super::nodes::Object;
use super::objects::{Child, MailboxFile};
use super::place::{Place, Slot};
use crate::control::{DOORS, DoorKind};
use crate::mailbox::{Context, Door, Message};
use crate::op::{
    Attr, Effects, Entry, Error, Ino, Listed, NodeId, OpenAs, OpenFlags, Opened, Reply, SetAttr, Timestamp,
    Validity,
};

/// A node that leads to a door.
#[derive(Debug)]
pub(super) struct DoorNode {
    pub(super) file: Arc<MailboxFile>,
    pub(super) door: Door,
    /// `st_ino`
    ino: Ino,
}

/// A node that leads to a message.
#[derive(Debug)]
pub(super) struct MessageNode {
    pub(super) file: Arc<MailboxFile>,
    pub(super) id: u64,
}

/// `st_ino` of messages: their numbers, from here on.
const MESSAGES: u64 = 1 << 61;

impl Tree {
    /// The door named `name` in the folder `place`, if there is one.
    pub(super) fn look_up_door(
        &self,
        place: Place,
        file: &Arc<MailboxFile>,
        name: &[u8],
    ) -> Result<Option<Entry>, Error> {
        let (door, ino) = match place.slot {
            Slot::Top => {
                let mut doors = DOORS.iter().enumerate();
                match doors.find(|(_, door)| door.name.as_bytes() == name) {
                    Some((index, found)) => match &found.kind {
                        DoorKind::One(door) => (door.clone(), Some(place.with(Slot::Door(index)).ino())),
                        _ => return Ok(None),
                    },
                    None => return Ok(None),
                }
            }
            Slot::Door(index) => {
                let folder = DOORS.get(index).ok_or(Error::NotFolder)?;
                (folder.kind.named(name)?, None)
            }
            Slot::Messages => return self.look_up_message(file, name).map(Some),
            Slot::Config | Slot::File(_) => return Ok(None),
        };
        let mut names = self.names.lock();
        let node = NodeId(names.fresh());
        let found = DoorNode { file: Arc::clone(file), door, ino: ino.unwrap_or(Ino(node.0)) };
        let attr = found.attr();
        names.nodes.look_up_once(node, Object::Door(Arc::new(found)));
        Ok(Some(Entry { node, attr, validity: Validity::None }))
    }

    fn look_up_message(&self, file: &Arc<MailboxFile>, name: &[u8]) -> Result<Entry, Error> {
        let id = number(name).ok_or(Error::NotFound)?;
        let attr = message_attr(file, id)?;
        let mut names = self.names.lock();
        let node = NodeId(names.fresh());
        let found = MessageNode { file: Arc::clone(file), id };
        names.nodes.look_up_once(node, Object::Message(Arc::new(found)));
        Ok(Entry { node, attr, validity: Validity::None })
    }

    pub(super) fn open_door(
        &self,
        node: NodeId,
        found: &DoorNode,
        flags: OpenFlags,
    ) -> Result<Opened, Error> {
        let (reads, writes) = found.door.ways();
        if (flags.read && !reads) || (flags.write && !writes) {
            return Err(Error::AccessDenied);
        }
        Ok(self.open_mailbox(node, &found.file, found.door.clone(), flags))
    }

    pub(super) fn open_message(
        &self,
        node: NodeId,
        found: &MessageNode,
        flags: OpenFlags,
    ) -> Result<Opened, Error> {
        if flags.write {
            return Err(Error::AccessDenied);
        }
        let mut state = found.file.state.lock();
        let message = state.queue.message(found.id).ok_or(Error::NotFound)?;
        let target = Target::Message(Arc::clone(&message.body));
        Ok(Opened { fh: self.handles.insert(Handle { node, target }), how: OpenAs::Text })
    }

    /// `rm` in `messages/`.
    pub(super) fn unlink_message(
        &self,
        place: Place,
        name: &[u8],
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Reply, Error> {
        let file = self.messages_of(place)?;
        let id = number(name).ok_or(Error::NotFound)?;
        self.with_mailbox(&file, now, fx, |state, cx| state.queue.remove_message(id, cx))?;
        Ok(Reply::Done)
    }

    /// `mv` from one `messages/` to another. Both mailboxes are locked, so that the message is in one of them at any time.
    pub(super) fn move_message(
        &self,
        from: (Place, &[u8]),
        to: (Place, &[u8]),
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Reply, Error> {
        let (source, target) = (self.messages_of(from.0)?, self.messages_of(to.0)?);
        let id = number(from.1).ok_or(Error::NotFound)?;
        // Its number is its name. Not `Invalid`, of which mv(1) says that a folder would move into itself.
        if from.1 != to.1 {
            return Err(Error::NotPermitted);
        }
        if source.ino == target.ino {
            return Ok(Reply::Done);
        }
        let (mut here, mut there);
        if source.ino < target.ino {
            here = source.state.lock();
            there = target.state.lock();
        } else {
            there = target.state.lock();
            here = source.state.lock();
        }
        let message = here.queue.message(id).ok_or(Error::NotFound)?;
        there.queue.check_insert(message)?;
        self.totals.note_use(&source, &mut here);
        self.totals.note_use(&target, &mut there);
        let mut cx = Context { now, memory: &self.memory, fx };
        let message = here.queue.extract_message(id, &mut cx).ok_or(Error::NotFound)?;
        there.queue.insert_message(message, true, &mut cx);
        let dead = here.queue.take_outbox();
        here.attr_changed(fx);
        there.attr_changed(fx);
        self.note_changed(&source, &mut here, fx);
        self.note_changed(&target, &mut there, fx);
        drop((here, there));
        self.bury(&source, dead, now, fx);
        Ok(Reply::Done)
    }

    /// The mailbox whose `messages/` a place is.
    fn messages_of(&self, place: Place) -> Result<Arc<MailboxFile>, Error> {
        if place.slot != Slot::Messages {
            return Err(Error::NotPermitted);
        }
        self.mailbox_numbered(place.object).ok_or(Error::NotFound)
    }

    pub(super) fn mailbox_numbered(&self, ino: Ino) -> Option<Arc<MailboxFile>> {
        match &self.names.lock().located(ino)?.child {
            Child::Mailbox(file) => Some(Arc::clone(file)),
            Child::Folder(_) | Child::Segment(_) | Child::Topic(_) => None,
        }
    }

    /// Messages that nobody could deal with go where the mailbox says.
    pub(super) fn bury(&self, file: &Arc<MailboxFile>, dead: Vec<Message>, now: Timestamp, fx: &mut Effects) {
        if dead.is_empty() {
            return;
        }
        let target = file.state.lock().queue.rules().dead_letter;
        match target.and_then(|ino| self.mailbox_numbered(ino)) {
            Some(target) => self.with_mailbox(&target, now, fx, |state, cx| {
                for message in dead {
                    state.queue.insert_message(message, false, cx);
                }
            }),
            None => self.with_mailbox(file, now, fx, |state, cx| state.queue.drop_dead_letters(dead, cx)),
        }
    }
}

impl DoorNode {
    pub(super) fn attr(&self) -> Attr {
        let state = self.file.state.lock();
        let (receive, send) = (state.meta.mode & 0o444, state.meta.mode & 0o222);
        let mode = match (&self.door, self.door.ways()) {
            // Whoever may receive settles what it received; whoever may send reads the answer.
            (Door::Lease | Door::Serve, _) => receive | receive >> 1,
            (Door::Rpc, _) => send | send << 1,
            (_, (true, true)) => receive | send,
            (_, (true, false)) => receive,
            (_, (false, _)) => send,
        };
        let attr = state.attr(self.file.ino);
        Attr { ino: self.ino, mode: REGULAR | mode, ..attr }
    }

    /// A size is accepted and means nothing, as `echo >` sets one; the rest belongs to the mailbox.
    pub(super) fn set_attr(&self, set: &SetAttr) -> Result<Reply, Error> {
        if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
            return Err(Error::NotPermitted);
        }
        Ok(Reply::Attr(self.attr(), Validity::None))
    }
}

impl MessageNode {
    pub(super) fn attr(&self) -> Result<Attr, Error> {
        message_attr(&self.file, self.id)
    }

    /// What the message has as extended attributes.
    pub(super) fn meta(&self) -> Result<Meta, Error> {
        let mut state = self.file.state.lock();
        let message = state.queue.message(self.id).ok_or(Error::NotFound)?;
        let sender = message.sender;
        let mut meta = Meta::new(0o444, sender.uid, sender.gid, message.sent);
        let mut set = |name: &str, value: &[u8]| {
            // Far below the bound of one file.
            let name = format!("user.ipcfs.{name}");
            let _ = meta.set_xattr(name.as_bytes(), value, false, false, message.sent);
        };
        set("pid", sender.pid.to_string().as_bytes());
        set("priority", message.priority.to_string().as_bytes());
        set("deliveries", message.deliveries().to_string().as_bytes());
        if let Some(tag) = message.tag() {
            set("tag", tag);
        }
        if let Some(expires) = message.expires() {
            let (seconds, nanos) = expires.split();
            set("expires", format!("{seconds}.{:03}", nanos / 1_000_000).as_bytes());
        }
        Ok(meta)
    }
}

/// Waiting messages as a listing of `messages/` shows them, those behind the cookie `after`.
pub(super) fn list_messages(file: &MailboxFile, after: u64, most: usize) -> Vec<Listed> {
    let list = file.state.lock().queue.list(after, most);
    let listed = list.into_iter().map(|(place, id)| Listed {
        ino: Ino(MESSAGES + id),
        cookie: place,
        folder: false,
        name: Arc::from(id.to_string().into_bytes()),
    });
    listed.collect()
}

/// Permissions of `messages/`: whoever may receive lists and looks; to remove or move takes the right to send as well,
/// which whoever moves a message into a mailbox must have.
pub(super) fn messages_mode(mailbox: u32) -> u32 {
    let class = |shift: u32| match ((mailbox >> shift) & 4 != 0, (mailbox >> shift) & 2 != 0) {
        (true, true) => 7 << shift,
        (true, false) => 5 << shift,
        (false, _) => 0,
    };
    FOLDER | class(6) | class(3) | class(0)
}

fn message_attr(file: &MailboxFile, id: u64) -> Result<Attr, Error> {
    let mut state = file.state.lock();
    let message = state.queue.message(id).ok_or(Error::NotFound)?;
    let (sent, sender) = (message.sent, message.sender);
    Ok(Attr {
        ino: Ino(MESSAGES + id),
        size: message.body.len() as u64,
        blocks: (message.body.len() as u64).div_ceil(512),
        atime: sent,
        mtime: sent,
        ctime: sent,
        // Who may look is a matter of the folder: the owner shown is the sender.
        mode: REGULAR | 0o444,
        nlink: 1,
        uid: sender.uid,
        gid: sender.gid,
        blksize: 4096,
    })
}

/// A message's number, written in one way only.
fn number(name: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
