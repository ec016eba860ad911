//! `control/mailboxes/<name>/` of a mailbox that several hosts share.

use std::sync::Arc;

use super::control::{ControlNode, Other, Slot, TextFile, find_dead_letter, refusal_noted, table_file};
use super::door::is_folder_of_doors;
use super::message::messages_mode;
use super::remote::{DoorAt, RemoteNode, tell};
use super::{ControlOps, Cx, Header, Inode, Names};
use crate::control::{DOORS, DoorFile, DoorKind, REMOTE, RemoteSettings, RemoteView};
use crate::engine::DeadLetter;
use crate::mailbox::Door;
use crate::op::{Attr, Caller, Entry, Error, Ino, NodeId, Validity};

impl ControlOps for RemoteNode {
    fn owner(&self, _: &Names) -> Result<Attr, Error> {
        Ok(self.file.state.lock().meta.attr(self.file.ino, 0))
    }

    fn folder_mode(&self, slot: Slot, file: u32) -> Option<u32> {
        match slot {
            Slot::Top | Slot::Config => Some(0o555),
            Slot::Messages => Some(messages_mode(file)),
            Slot::Door(index) if is_folder_of_doors(index) => Some(0o555),
            Slot::Door(_) | Slot::File(_) => None,
        }
    }

    fn files(&self) -> Vec<TextFile> {
        REMOTE.iter().map(TextFile::of).collect()
    }

    fn others(&self) -> Vec<Other> {
        let messages = Other { name: "messages", slot: Slot::Messages, folder: true };
        let doors = DOORS.iter().enumerate().filter(|(_, door)| is_shared(&door.kind));
        let doors = doors.map(|(index, door)| Other {
            name: door.name,
            slot: Slot::Door(index),
            folder: is_folder_of_doors(index),
        });
        [messages].into_iter().chain(doors).collect()
    }

    fn look_up(
        &self,
        header: Header,
        place: ControlNode,
        name: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<Option<Entry>, Error> {
        let (leads, ino) = match place.slot {
            Slot::Door(index) => (Some(DOORS.get(index).ok_or(Error::NotFolder)?.kind.named(name)?), None),
            Slot::Top => {
                let found = DOORS.iter().enumerate().find(|(_, door)| door.name.as_bytes() == name);
                match found {
                    Some((_, found)) if !is_shared(&found.kind) => return Err(Error::NotSupported),
                    Some((index, DoorFile { kind: DoorKind::One(door), .. })) => {
                        (Some(door.clone()), Some(place.with(Slot::Door(index)).ino()))
                    }
                    Some((index, DoorFile { kind: DoorKind::Purge, .. })) => {
                        (None, Some(place.with(Slot::Door(index)).ino()))
                    }
                    _ => return Ok(None),
                }
            }
            Slot::Config | Slot::Messages | Slot::File(_) => return Ok(None),
        };
        let charge = cx.charge_node(header.caller, name)?;
        let mut names = cx.tree.names.lock();
        let node = NodeId(names.fresh());
        let ino = ino.unwrap_or(Ino(node.0));
        let told_empty = names.nodes.will_append(header.caller.pid);
        let at = DoorAt { door: leads, ino, told_empty, opened: Arc::default() };
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
        let named = if file.names_mailbox() {
            let choose = |inode: &Inode| match inode {
                Inode::Remote(node) => {
                    let path = Arc::clone(node.file.state.lock().queue.path());
                    Ok(DeadLetter { path, setter: (writer.uid, writer.gid) })
                }
                Inode::Mailbox(_) => Err(Some("it must be a mailbox that the same hosts share")),
                _ => Err(None),
            };
            find_dead_letter(text, self.file.ino, writer, choose, cx)
        } else {
            Ok(None)
        };
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

/// Shared mailboxes have such a door.
fn is_shared(kind: &DoorKind) -> bool {
    match kind {
        DoorKind::One(door) => {
            matches!(
                door,
                Door::Lease | Door::Stream | Door::Whole | Door::Peek | Door::Json | Door::Rpc | Door::Serve
            )
        }
        DoorKind::Priorities | DoorKind::Tags | DoorKind::Ttls | DoorKind::Keys | DoorKind::Purge => true,
        DoorKind::Delays | DoorKind::Senders => false,
    }
}
