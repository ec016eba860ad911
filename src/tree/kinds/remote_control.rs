//! `control/mailboxes/<name>/` of a mailbox that several hosts share.

use std::sync::Arc;

use super::control::{ControlNode, Other, Slot, TextFile, refusal_noted, table_file};
use super::remote::{DoorAt, RemoteNode, tell};
use super::{ControlOps, Cx, Header, Inode, Names};
use crate::control::{DOORS, DoorKind, REMOTE, Refusal, RemoteSettings, RemoteView};
use crate::engine::DeadLetter;
use crate::mailbox::Door;
use crate::op::{Attr, Caller, Entry, Error, NodeId, Validity};

impl RemoteNode {
    /// The mailbox that a written value names, if `caller` may send to it. Empty: none.
    fn find_dead_letter(
        &self,
        text: &[u8],
        caller: Caller,
        cx: &Cx<'_>,
    ) -> Result<Option<DeadLetter>, Refusal> {
        let path = text.strip_suffix(b"\n").unwrap_or(text);
        if path.is_empty() {
            return Ok(None);
        }
        let refuse = |error, what: &str| Refusal { error, why: format!("dead_letter: {what}") };
        let node = match cx.tree.names.lock().find_mailbox(path, caller) {
            Ok(Inode::Remote(node)) => node,
            Ok(_) => return Err(refuse(Error::Invalid, "it must be a mailbox that the same hosts share")),
            Err(Error::AccessDenied) => {
                return Err(refuse(Error::AccessDenied, "you may not search the way to it"));
            }
            Err(_) => return Err(refuse(Error::Invalid, "there is no such mailbox")),
        };
        if node.file.ino == self.file.ino {
            return Err(refuse(Error::Invalid, "a mailbox cannot be its own"));
        }
        let state = node.file.state.lock();
        if !state.meta.permits(caller, 2) {
            return Err(refuse(Error::AccessDenied, "you may not send to it"));
        }
        let path = Arc::clone(state.queue.path());
        Ok(Some(DeadLetter { path, setter: (caller.uid, caller.gid) }))
    }
}

impl ControlOps for RemoteNode {
    fn owner(&self, _: &Names) -> Result<Attr, Error> {
        Ok(self.file.state.lock().meta.attr(self.file.ino, 0))
    }

    fn folder_mode(&self, slot: Slot, _: u32) -> Option<u32> {
        matches!(slot, Slot::Top | Slot::Config).then_some(0o555)
    }

    fn files(&self) -> Vec<TextFile> {
        REMOTE.iter().map(TextFile::of).collect()
    }

    fn others(&self) -> Vec<Other> {
        let doors = DOORS.iter().enumerate().filter(|(_, door)| shared_door(&door.kind).is_some());
        doors.map(|(index, door)| Other { name: door.name, slot: Slot::Door(index), folder: false }).collect()
    }

    fn look_up(
        &self,
        header: Header,
        place: ControlNode,
        name: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<Option<Entry>, Error> {
        if place.slot != Slot::Top {
            return Ok(None);
        }
        let found = DOORS.iter().enumerate().find(|(_, door)| door.name.as_bytes() == name);
        let Some((index, leads)) = found.and_then(|(index, door)| Some((index, shared_door(&door.kind)?)))
        else {
            return if found.is_some() || name == b"messages" { Err(Error::NotSupported) } else { Ok(None) };
        };
        let charge = cx.charge_node(header.caller, name)?;
        let mut names = cx.tree.names.lock();
        let node = NodeId(names.fresh());
        let ino = place.with(Slot::Door(index)).ino();
        let told_empty = names.nodes.will_append(header.caller.pid);
        let at = DoorAt { door: leads.clone(), ino, told_empty };
        let door = RemoteNode { door: Some(at), ..self.clone() };
        names.nodes.note_look_up(header.caller.pid);
        cx.look_up_once(&mut names, node, Inode::Remote(Box::new(door.clone())), charge);
        let attr = door.attr_now(told_empty);
        Ok(Some(Entry { node, attr, validity: Validity::None }))
    }

    fn status_lines(&self) -> u64 {
        self.file.state.lock().queue.waiters().len() as u64
    }

    fn show(&self, index: usize, _: Caller, cx: &mut Cx<'_>) -> Result<Vec<u8>, Error> {
        let file = table_file(&REMOTE, index)?;
        let connected = cx.tree.remotes.is_connected();
        let state = self.file.state.lock();
        let (queue, waiters) = (&state.queue, state.queue.waiters());
        let (described, counts) = (queue.described().clone(), queue.counts());
        if file.names_mailbox() {
            let path = described.dead_letter.map(|dead_letter| dead_letter.path);
            return Ok(path.map(|path| [&path, &b"\n"[..]].concat()).unwrap_or_default());
        }
        let refusal = state.refusal.as_deref().map(String::from).unwrap_or_default();
        let view = RemoteView { described, counts, waiters, connected, now: cx.now, refusal };
        Ok((file.show)(&view).into_bytes())
    }

    fn store(&self, index: usize, text: &[u8], writer: Caller, cx: &mut Cx<'_>) -> Result<(), Error> {
        let file = table_file(&REMOTE, index)?;
        let store = file.store.ok_or(Error::AccessDenied)?;
        cx.tree.remotes.check_reachable(writer.uid)?;
        // Found before the mailbox is locked: names come first.
        let named = if file.names_mailbox() { self.find_dead_letter(text, writer, cx) } else { Ok(None) };
        let (result, change) = self.file.with(cx, |state, _| {
            let mut new = RemoteSettings { described: state.queue.described().clone(), named };
            let result = store(&String::from_utf8_lossy(text), &mut new);
            (refusal_noted(result, &mut state.refusal), state.change(new.described))
        });
        if let Some((uid, change)) = change {
            tell(uid, change, cx);
        }
        result
    }
}

/// The door, if shared mailboxes have it.
fn shared_door(kind: &DoorKind) -> Option<&Door> {
    match kind {
        DoorKind::One(door @ (Door::Lease | Door::Stream)) => Some(door),
        _ => None,
    }
}
