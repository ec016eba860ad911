//! `messages/` of a mailbox that several hosts share. Only the engine has the messages: whoever looks waits for its answer.
//!
//! ```text
//! LOOKUP, READDIR, UNLINK, RENAME in messages/; READ of a message ──▶ Command::Ask ──▶ Event::Answered ──▶ the answer
//! ```
//!
//! The kernel keeps the folder locked meanwhile. So nobody waits without a connection, and the engine answers within seconds.

use std::sync::{Arc, OnceLock};

use parking_lot::MutexGuard;

use super::control_folder::ControlFolder;
use super::folder::dots;
use super::message::number;
use super::remote::RemoteFile;
use super::remote_ask::{Asking, What, meta_of};
use super::{ControlNode, Cx, FileOps, Header, Inode, InodeOps, Names, OpenFile, Read, part_of};
use crate::accounts::{Charge, Resource};
use crate::engine::{About, Answer, Asked};
use crate::mailbox::{Memory, WaitId};
use crate::op::{
    Attr, Entry, Error, Fh, Ino, Listed, NodeId, OpenAs, OpenFlags, Opened, Reply, SetAttr, Sort, Validity,
};
use crate::state::{Restorer, Saved, Saver};
use crate::tree::names::meta::{Meta, REGULAR};

/// A node that leads to a message. What it shows never changes; each look-up makes another one.
#[derive(Debug)]
pub(crate) struct RemoteMessage {
    file: Arc<RemoteFile>,
    about: About,
    size: u64,
}

/// A message, open.
#[derive(Debug)]
pub(crate) struct OpenRemoteMessage {
    message: Arc<RemoteMessage>,
    /// Its bytes, once somebody has read. They stay, even if somebody receives it.
    body: Arc<OnceLock<Arc<[u8]>>>,
    _charge: Charge,
    node: NodeId,
}

/// A tree that has such a file is not saved (`Tree::save`).
impl Saved for OpenRemoteMessage {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(_: &mut Restorer<'_>) -> Option<OpenRemoteMessage> {
        None
    }
}

/// What is asked of a folder, if it is one of these.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question<'a> {
    LookUp(&'a [u8]),
    Unlink(&'a [u8]),
    /// The names behind a cookie, for a listing of so many bytes.
    #[allow(missing_docs)]
    List {
        fh: Fh,
        after: u64,
        most: usize,
        size: u32,
    },
}

/// `st_ino` of messages: a number that tells them apart as long as there are not too many mailboxes.
const MESSAGES: u64 = 1 << 60;
const NUMBER_BITS: u32 = 40;

/// The cookie of a message comes so far behind its number: cookies 1 and 2 are those of the folder itself and the one above.
const FIRST_COOKIE: u64 = 2;

/// Asks the engine, if `folder` is the `messages/` of a mailbox that several hosts share. False: it is another folder.
pub(crate) fn ask(
    header: Header,
    folder: &Inode,
    question: Question<'_>,
    cx: &mut Cx<'_>,
) -> Result<bool, Error> {
    let Inode::ControlFolder(folder) = folder else { return Ok(false) };
    let Some(file) = folder.shared_messages_of() else { return Ok(false) };
    let named = |name| number(name).ok_or(Error::NotFound);
    let (about, what) = match question {
        Question::LookUp(name) => (What::LookUp(Box::from(name)), Asked::Look(named(name)?)),
        Question::Unlink(name) => (What::Remove, Asked::Remove(named(name)?)),
        Question::List { fh, after, most, size } => {
            cx.tree.handles.get(fh)?;
            let asked = Asked::List { after: after.saturating_sub(FIRST_COOKIE), most };
            (What::List { folder: folder.ino(), fh, after, size }, asked)
        }
    };
    file.ask(header, about, what, cx).map(|()| true)
}

/// RENAME from one `messages/` to another. False: no other hosts share the messages.
pub(super) fn rename(
    header: Header,
    from: (&ControlFolder, &[u8]),
    to: (&ControlFolder, &[u8]),
    cx: &mut Cx<'_>,
) -> Result<bool, Error> {
    let (source, target) = match (from.0.shared_messages_of(), to.0.shared_messages_of()) {
        (None, None) => return Ok(false),
        (Some(source), Some(target)) => (source, target),
        // Two hands would have to let go of it at once.
        (Some(_), None) => return to.0.messages_of().and(Err(Error::NotSupported)),
        (None, Some(_)) => return from.0.messages_of().and(Err(Error::NotSupported)),
    };
    let number = number(from.1).ok_or(Error::NotFound)?;
    // As in local mailboxes: a message has no name to choose.
    if from.1 != to.1 || source.ino == target.ino {
        return Err(Error::NotPermitted);
    }
    let path = Arc::clone(target.state.lock().queue.path());
    source.ask(header, What::Move(target.ino), Asked::Move(number, path), cx).map(|()| true)
}

/// The engine has answered a question about a mailbox.
pub(crate) fn answered(mailbox: Ino, wait: WaitId, answer: Result<Answer, Error>, cx: &mut Cx<'_>) {
    let Some(file) = cx.tree.remotes.get(mailbox) else { return };
    // Whoever takes it owns the answer.
    let asking = file.state.lock().asking.remove(&wait);
    let Some(Asking { header, about }) = asking else {
        return file.with(cx, |state, cx| state.queue.peeked(wait, answer, cx));
    };
    let reply = answer.and_then(|answer| reply(&file, header, about, answer, cx));
    match reply {
        Ok(reply) => cx.fx.reply(header.request_id, reply),
        Err(error) => cx.fx.fail(header.request_id, error),
    }
}

fn reply(
    file: &Arc<RemoteFile>,
    header: Header,
    about: What,
    answer: Answer,
    cx: &mut Cx<'_>,
) -> Result<Reply, Error> {
    match (about, answer) {
        (What::LookUp(name), Answer::Message(about, body)) => {
            let charge = cx.charge_node(header.caller, &name)?;
            let size = body.len() as u64;
            let found = Arc::new(RemoteMessage { file: Arc::clone(file), about, size });
            let mut names = cx.tree.names.lock();
            let node = NodeId(names.fresh());
            let attr = found.attr_now();
            cx.look_up_once(&mut names, node, Inode::RemoteMessage(found), charge);
            Ok(Reply::Entry(Entry { node, attr, validity: Validity::None }))
        }
        (What::List { folder, fh, after, size }, Answer::List { numbers, last }) => {
            let mut list = dots(folder, ControlNode::ROOT.ino(), after);
            list.extend(numbers.into_iter().map(|number| Listed {
                ino: file.ino_of(number),
                cookie: number + FIRST_COOKIE,
                sort: Sort::Regular,
                name: Arc::from(number.to_string().into_bytes()),
            }));
            let open = cx.tree.handles.get(fh)?;
            let OpenFile::Listing(listing) = &*open else { return Err(Error::BadDescriptor) };
            Ok(Reply::Listing(listing.show(list, after, last + FIRST_COOKIE + 1), size))
        }
        (What::Read(call, kept), Answer::Message(_, body)) => Ok(part_of(kept.get_or_init(|| body), call)),
        (What::Remove, Answer::Done) => {
            file.with(cx, |state, _| state.queue.count(|counts| counts.removed += 1));
            Ok(Reply::Done)
        }
        (What::Purge(answer, written), Answer::Removed(removed)) => {
            *answer.lock() = format!("{removed}\n").into_bytes();
            file.with(cx, |state, _| state.queue.count(|counts| counts.removed += removed));
            Ok(Reply::Written(written))
        }
        (What::Move(target), Answer::Done) => {
            file.with(cx, |state, _| state.queue.count(|counts| counts.moved_out += 1));
            if let Some(target) = cx.tree.remotes.get(target) {
                target.with(cx, |state, _| state.queue.count(|counts| counts.moved_in += 1));
            }
            Ok(Reply::Done)
        }
        _ => Err(Error::Io),
    }
}

impl RemoteFile {
    fn ino_of(&self, message: u64) -> Ino {
        let mailbox = self.ino.0 & ((MESSAGES >> NUMBER_BITS) - 1);
        Ino(MESSAGES | (mailbox << NUMBER_BITS) | (message & ((1 << NUMBER_BITS) - 1)))
    }
}

impl RemoteMessage {
    fn attr_now(&self) -> Attr {
        let About { number, sent, sender, .. } = self.about;
        // As of a local mailbox: the owner shown is the sender.
        let meta = Meta::new(0o444, sender.uid, sender.gid, sent.into());
        let attr = meta.attr(self.file.ino_of(number), REGULAR);
        Attr { size: self.size, blocks: self.size.div_ceil(512), ..attr }
    }

    fn meta(&self) -> Meta {
        meta_of(&self.about, None, self.file.state.lock().queue.described().ttl)
    }
}

impl InodeOps for Arc<RemoteMessage> {
    fn ino(&self) -> Ino {
        self.file.ino_of(self.about.number)
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr_now(), Validity::None))
    }

    fn set_attr(&self, _: Header, _: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Err(Error::NotPermitted)
    }

    fn read_meta(&self, look: &mut dyn FnMut(&Meta), _: &mut Cx<'_>) -> Result<(), Error> {
        look(&self.meta());
        Ok(())
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        mut names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        if flags.write {
            return Err(Error::AccessDenied);
        }
        let charge = cx.opener(header.caller).charge(Resource::Memory, Memory::cost(self.size as usize));
        let charge = charge.map_err(|_| Error::NoMemory)?;
        names.nodes.open_other(header.node, false);
        drop(names);
        let (message, body) = (Arc::clone(self), Arc::default());
        let open = OpenRemoteMessage { message, body, _charge: charge, node: header.node };
        Ok(Opened { fh: cx.opened(OpenFile::RemoteMessage(open)), how: OpenAs::Text })
    }
}

impl FileOps for OpenRemoteMessage {
    fn read(&self, header: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        if let Some(body) = self.body.get() {
            return Ok(Some(part_of(body, call)));
        }
        let RemoteMessage { file, about, .. } = &*self.message;
        file.ask(header, What::Read(call, Arc::clone(&self.body)), Asked::Look(about.number), cx)?;
        Ok(None)
    }

    fn close(&self, cx: &mut Cx<'_>) {
        cx.tree.names.lock().nodes.close(self.node, false);
    }
}
