//! A waiting message: a file of `control/mailboxes/<name>/messages/`.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::mailbox::MailboxFile;
use super::{Cx, FileOps, Header, Inode, InodeOps, Names, OpenFile, Read, part_of};
use crate::accounts::{Charge, Resource};
use crate::journal::record::Why;
use crate::mailbox::{Mailbox, Memory, Message};
use crate::op::{
    Attr, Caller, Entry, Error, Ino, Listed, NodeId, Now, OpenAs, OpenFlags, Opened, Reply, SetAttr, Sort,
    Timestamp, Validity,
};
use crate::state::saved;
use crate::tree::names::meta::{FOLDER, Meta, REGULAR};

/// A node that leads to a message.
#[derive(Debug)]
pub(crate) struct MessageNode {
    file: Arc<MailboxFile>,
    id: u64,
}

saved!(struct MessageNode { file, id });

/// A message, open: its body as it was when the file was opened.
#[derive(Debug)]
pub(crate) struct OpenMessage {
    body: Arc<[u8]>,
    charge: Charge,
    /// `None` if it was opened by a program that did not note it.
    node: Option<NodeId>,
}

saved!(struct OpenMessage { body, charge, node since 2 });

/// `st_ino` of messages: their numbers, from here on.
const MESSAGES: u64 = 1 << 61;

/// LOOKUP in `messages/`.
pub(super) fn look_up(
    file: &Arc<MailboxFile>,
    name: &[u8],
    caller: Caller,
    cx: &mut Cx<'_>,
) -> Result<Entry, Error> {
    let found = MessageNode { file: Arc::clone(file), id: number(name).ok_or(Error::NotFound)? };
    let attr = found.attr_now()?;
    let charge = cx.charge_node(caller, name)?;
    let mut names = cx.tree.names.lock();
    let node = NodeId(names.fresh());
    cx.look_up_once(&mut names, node, Inode::Message(Arc::new(found)), charge);
    Ok(Entry { node, attr, validity: Validity::None })
}

/// READDIR of `messages/`: those behind the cookie `after`.
pub(super) fn list(file: &MailboxFile, after: u64, most: usize) -> Vec<Listed> {
    let list = file.state.lock().queue.list(after, most);
    let listed = list.into_iter().map(|(place, id)| Listed {
        ino: Ino(MESSAGES + id),
        cookie: place,
        sort: Sort::Regular,
        name: Arc::from(id.to_string().into_bytes()),
    });
    listed.collect()
}

/// The cookie that the next message would get.
pub(super) fn next_cookie(cx: &Cx<'_>) -> u64 {
    Mailbox::next_position(&cx.tree.memory)
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

/// UNLINK in `messages/`.
pub(super) fn unlink(file: &Arc<MailboxFile>, name: &[u8], cx: &mut Cx<'_>) -> Result<(), Error> {
    let id = number(name).ok_or(Error::NotFound)?;
    file.with(cx, |state, cx| state.queue.remove_message(id, cx))
}

/// RENAME from one `messages/` to another. Both mailboxes are locked, so that the message is in one of them at any time.
pub(super) fn rename(
    from: (&Arc<MailboxFile>, &[u8]),
    to: (&Arc<MailboxFile>, &[u8]),
    cx: &mut Cx<'_>,
) -> Result<(), Error> {
    let (source, target) = (from.0, to.0);
    let id = number(from.1).ok_or(Error::NotFound)?;
    // Its number is its name. Not `Invalid`, of which mv(1) says that a folder would move into itself.
    if from.1 != to.1 {
        return Err(Error::NotPermitted);
    }
    if source.ino == target.ino {
        return Ok(());
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
    if message.has_stopped_in(target.ino, there.queue.rules().max_rounds) {
        return Err(Error::NotPermitted);
    }
    there.queue.check_insert(message)?;
    there.queue.check_room(message.body.len() as u64)?;
    here.note_use(source, cx.tree);
    there.note_use(target, cx.tree);
    let message = here.queue.extract_message(id, &mut cx.domain()).ok_or(Error::NotFound)?;
    let how = here.queue.how_moved(Why::Moved);
    there.queue.insert_message(message, how, true, &mut cx.domain());
    here.queue.moved_out(id, &mut cx.domain());
    let letters = here.queue.take_outbox();
    here.attr_changed(cx.fx);
    there.attr_changed(cx.fx);
    here.note_changed(source, cx);
    there.note_changed(target, cx);
    drop((here, there));
    source.send_dead_letters(letters, cx);
    Ok(())
}

impl MessageNode {
    fn attr_now(&self) -> Result<Attr, Error> {
        let mut state = self.file.state.lock();
        let message = state.queue.message(self.id).ok_or(Error::NotFound)?;
        // Who may look is a matter of the folder: the owner shown is the sender.
        let meta = Meta::new(0o444, message.sender.uid, message.sender.gid, message.sent.into());
        let size = message.body.len() as u64;
        Ok(Attr { size, blocks: size.div_ceil(512), ..meta.attr(self.ino(), REGULAR) })
    }

    fn ino(&self) -> Ino {
        Ino(MESSAGES + self.id)
    }

    /// What the message has as extended attributes.
    fn meta(&self, now: Now) -> Result<Meta, Error> {
        let mut state = self.file.state.lock();
        state.queue.message(self.id).map(|message| meta_of(message, now)).ok_or(Error::NotFound)
    }
}

/// What a message has as extended attributes.
pub(super) fn meta_of(message: &Message, now: Now) -> Meta {
    let sender = message.sender;
    let mut meta = Meta::new(0o444, sender.uid, sender.gid, message.sent.into());
    let mut set = |name: &str, value: &[u8]| {
        meta.show_xattr(format!("user.ipcfs.{name}").as_bytes(), value);
    };
    let seconds = |time: Timestamp| {
        let (seconds, nanos) = time.split();
        format!("{seconds}.{:03}", nanos / 1_000_000)
    };
    let numbers = [("uid", sender.uid), ("gid", sender.gid), ("pid", sender.pid)];
    for (name, number) in numbers
        .into_iter()
        .chain([("priority", u32::from(message.priority)), ("deliveries", message.deliveries())])
    {
        set(name, number.to_string().as_bytes());
    }
    set("id", message.id.to_string().as_bytes());
    set("sent", seconds(message.sent).as_bytes());
    if let Some(tag) = message.tag() {
        set("tag", tag);
    }
    if let Some(reason) = message.reason() {
        set("reason", reason.word().as_bytes());
    }
    let rounds = message.rounds().count;
    if rounds > 0 {
        set("rounds", rounds.to_string().as_bytes());
    }
    if let Some(expires) = message.expires() {
        set("expires", seconds(message.wall_at(expires, now)).as_bytes());
    }
    meta
}

impl InodeOps for Arc<MessageNode> {
    fn ino(&self) -> Ino {
        MessageNode::ino(self)
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr_now()?, Validity::None))
    }

    fn set_attr(&self, _: Header, _: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Err(Error::NotPermitted)
    }

    fn read_meta(&self, look: &mut dyn FnMut(&Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        look(&self.meta(cx.now)?);
        Ok(())
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        drop(names);
        if flags.write {
            return Err(Error::AccessDenied);
        }
        let body = {
            let mut state = self.file.state.lock();
            let message = state.queue.message(self.id).ok_or(Error::NotFound)?;
            Arc::clone(&message.body)
        };
        // It stays while it is open, even if somebody receives it.
        let charge = cx.opener(header.caller).charge(Resource::Memory, Memory::cost(body.len()));
        let charge = charge.map_err(|_| Error::NoMemory)?;
        cx.tree.names.lock().nodes.open_other(header.node, false);
        let open = OpenMessage { body, charge, node: Some(header.node) };
        Ok(Opened { fh: cx.opened(OpenFile::Message(open)), how: OpenAs::Text })
    }
}

impl FileOps for OpenMessage {
    fn read(&self, _: Header, call: Read, _: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        Ok(Some(part_of(&self.body, call)))
    }

    fn close(&self, cx: &mut Cx<'_>) {
        if let Some(node) = self.node {
            cx.tree.names.lock().nodes.close(node, false);
        }
    }

    fn node(&self) -> Option<NodeId> {
        self.node
    }
}

/// A message's number, written in one way only.
pub(super) fn number(name: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
