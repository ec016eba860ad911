//! What `control/` shows of a mailbox.

use std::sync::Arc;

use super::control::{ControlNode, Other, Slot, TextFile, find_dead_letter, refusal_noted, table_file};
use super::door::{self, is_folder_of_doors};
use super::mailbox::MailboxFile;
use super::message::{self, messages_mode};
use super::{ControlOps, Cx, Header, Inode, Names};
use crate::control::{DOORS, MAILBOX, MailboxSettings, MailboxView};
use crate::journal::Durable;
use crate::mailbox::DeadLetter;
use crate::op::{Attr, Caller, Entry, Error, Listed};

impl ControlOps for Arc<MailboxFile> {
    fn owner(&self, _: &Names) -> Result<Attr, Error> {
        Ok(self.state.lock().meta.attr(self.ino, 0))
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
        MAILBOX.iter().map(TextFile::of).collect()
    }

    fn others(&self) -> Vec<Other> {
        let messages = Other { name: "messages", slot: Slot::Messages, folder: true };
        let doors = DOORS.iter().enumerate().map(|(index, door)| Other {
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
        match place.slot {
            Slot::Top | Slot::Door(_) => door::look_up(self, place, name, header.caller, cx),
            Slot::Messages => message::look_up(self, name, header.caller, cx).map(Some),
            Slot::Config | Slot::File(_) => Ok(None),
        }
    }

    fn list(&self, slot: Slot, after: u64, most: usize) -> Vec<Listed> {
        if slot == Slot::Messages { message::list(self, after, most) } else { Vec::new() }
    }

    fn status_lines(&self) -> u64 {
        let counts = self.state.lock().queue.counts();
        counts.waiting_readers + counts.waiting_writers
    }

    fn show(&self, index: usize, _: Caller, cx: &mut Cx<'_>) -> Result<Vec<u8>, Error> {
        let file = table_file(&MAILBOX, index)?;
        if file.names_mailbox() {
            let target = self.state.lock().queue.rules().dead_letter;
            let path = target.map(|rule| cx.tree.names.lock().path_of(rule.mailbox)).unwrap_or_default();
            return Ok(if path.is_empty() { path } else { [&path, &b"\n"[..]].concat() });
        }
        let view = {
            let state = self.state.lock();
            let oldest = state.queue.oldest();
            MailboxView {
                settings: state.settings(cx.tree.setup.ceiling, cx.tree.setup.journal.is_some()),
                counts: state.queue.counts(),
                oldest_ns: oldest.map_or(0, |since| cx.now.moment.since(since)),
                waited: state.queue.waited().cloned().unwrap_or_default(),
                waiters: state.queue.waiters(),
                now: cx.now,
                refusal: state.refusal.as_deref().map(String::from).unwrap_or_default(),
            }
        };
        Ok((file.show)(&view).into_bytes())
    }

    fn store(&self, index: usize, text: &[u8], caller: Caller, cx: &mut Cx<'_>) -> Result<(), Error> {
        let file = table_file(&MAILBOX, index)?;
        let store = file.store.ok_or(Error::AccessDenied)?;
        // Found before the mailbox is locked: names come first.
        let named = if file.names_mailbox() {
            let choose = |inode: &Inode| match inode {
                Inode::Mailbox(file) => Ok(DeadLetter { mailbox: file.ino, setter: caller }),
                _ => Err(None),
            };
            find_dead_letter(text, self.ino, caller, choose, cx)
        } else {
            Ok(None)
        };
        let (ceiling, has_store) = (cx.tree.setup.ceiling, cx.tree.setup.journal.is_some());
        self.with(cx, |state, cx| {
            let old = state.settings(ceiling, has_store);
            let mut new = MailboxSettings { named, ..old.clone() };
            let result = store(&String::from_utf8_lossy(text), &mut new);
            if new.limits != old.limits {
                state.queue.set_limits(new.limits, cx);
            }
            let (before, after) = (old.rules.durable, new.rules.durable);
            if before != after && after == Durable::Off {
                state.queue.record_removed(cx);
            }
            if new.rules != old.rules {
                state.queue.set_rules(new.rules, cx);
            }
            if new.rules != old.rules || new.limits != old.limits {
                state.record(self.ino, ceiling, cx);
            }
            if before != after && before == Durable::Off {
                state.queue.record_all(cx);
            }
            refusal_noted(result, &mut state.refusal)
        })
    }
}
