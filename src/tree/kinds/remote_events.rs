//! What the engine reports of the mailboxes that several hosts share.

use log::warn;

use super::Cx;
use super::remote_message::answered;
use super::remote_names::{gone, present};
use crate::engine::{Command, Event};
use crate::mailbox::WaitId;
use crate::op::{Effect, Error};

/// What the engine reports.
pub(crate) fn engine(event: Event, cx: &mut Cx<'_>) {
    let remotes = &cx.tree.remotes;
    match event {
        Event::Connected(connected) => {
            for file in remotes.note_connection(connected) {
                file.with(cx, |state, cx| state.queue.connection(connected, cx));
            }
        }
        Event::Present(path, described) => {
            if let Err(error) = present(&path, described, cx) {
                warn!("'{}', which other hosts share, cannot be shown: {error}", path.escape_ascii());
            }
        }
        Event::Gone(path) => gone(&path, cx),
        Event::Told(uid) => remotes.note_told(uid),
        Event::Died(ino, is_kept) => {
            if let Some(file) = remotes.get(ino) {
                file.with(cx, |state, _| state.queue.died(is_kept));
            }
        }
        Event::Published(ino, wait, sent, result) => {
            if let Some(file) = remotes.get(ino) {
                file.with(cx, |state, cx| state.queue.published(wait, sent, result, cx));
            }
        }
        Event::Settled(ino, wait, result) => {
            if let Some(file) = remotes.get(ino) {
                file.with(cx, |state, cx| state.queue.settled(wait, result, cx));
            }
        }
        Event::Answered(mailbox, wait, answer) => answered(mailbox, WaitId(wait), answer, cx),
        Event::Replied(ino, wait, result) => {
            if let Some(file) = remotes.get(ino) {
                file.with(cx, |state, cx| state.queue.replied(wait, result, cx));
            }
        }
        Event::Reply { mailbox, question, number, body } => {
            if let Some(file) = remotes.get(mailbox) {
                file.with(cx, |state, cx| state.queue.reply_came(question, number, body, cx));
            } else {
                let gone = Command::Heard(number, Err(Error::Cancelled));
                cx.fx.push(Effect::Engine(Box::new(gone)));
            }
        }
        Event::Message(ino, pull, message) => {
            if let Some(file) = remotes.get(ino) {
                file.with(cx, |state, cx| state.queue.arrived(pull, message, cx));
            }
        }
        Event::Nothing(ino, pull) => {
            if let Some(file) = remotes.get(ino) {
                file.with(cx, |state, cx| state.queue.nothing(pull, cx));
            }
        }
    }
}
