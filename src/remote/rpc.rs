//! Questions and replies: the doors `rpc` and `serve`.
//!
//! ```text
//!              Publish               Published              Reply
//!   Nothing ─────────────▶ Asking ─────────────▶ Asked ─────────────▶ Nothing; its reader gets it
//! ```
//!
//! The reply may come before the engine reports that the question was sent. The first reply counts; the engine is told what becomes
//! of each, and the server at the other end with it. A server has a question in hand as one has a lease.

use std::sync::Arc;

use super::writers::{Doing, Writer};
use super::{Asks, Lease, Remote, command};
use crate::engine::{Command, Settle};
use crate::mailbox::{Context, HandleId, Memory, Properties, Receive, Send, WaitId, charge_in_hand};
use crate::op::{Error, Reply, Slice};

impl Remote {
    /// A write through `rpc`.
    pub(super) fn question(
        &mut self,
        call: Send<'_>,
        asks: Asks,
        cx: &mut Context<'_>,
    ) -> Result<Option<WaitId>, Error> {
        if asks != Asks::Nothing {
            return Err(Error::Busy);
        }
        if !self.check(&call, cx)? {
            return Ok(None);
        }
        let open = self.handles.get_mut(call.handle.0).ok_or(Error::BadDescriptor)?;
        let charge = charge_in_hand(&open.account, Memory::cost(call.body.len()));
        let charge = charge.map_err(|_| Error::NoMemory)?;
        // Of a write that may find that it would wait, the last reply stays until it does not.
        if !call.nonblock {
            open.framing.clear();
        }
        let (handle, body) = (call.handle, Slice::whole(call.body));
        let does = Doing::Asks(handle, call.body.len() as u32);
        let id = self.publish_for(Writer::of(call, does, cx), (vec![body], Properties::default()), cx);
        if let Some(open) = self.handles.get_mut(handle.0) {
            open.asks = Some(Asks::Asking(id));
        }
        self.outstanding.insert(id, (handle, charge));
        Ok(Some(id))
    }

    /// The engine has sent a question of an open file, or not. How much of the write was done.
    pub(super) fn asked(
        &mut self,
        (id, handle): (WaitId, HandleId),
        length: u32,
        result: Result<(), Error>,
        cx: &Context<'_>,
    ) -> Result<u32, Error> {
        // Its reply was here before.
        let is_answered = !self.outstanding.contains_key(&id);
        if result.is_err() && !is_answered {
            self.outstanding.remove(&id);
        }
        if let Some(open) = self.handles.get_mut(handle.0)
            && open.asks == Some(Asks::Asking(id))
        {
            open.asks = Some(if result.is_ok() { Asks::Asked(id) } else { Asks::Nothing });
            if result.is_ok() {
                open.framing.clear();
            }
        }
        if is_answered || result.is_ok() {
            self.last_sent = cx.now.time();
        }
        if is_answered { Ok(length) } else { result.map(|()| length) }
    }

    /// A read through `rpc` that finds nothing to read yet.
    pub(super) fn await_reply(&mut self, call: Receive, asks: Asks, cx: &mut Context<'_>) -> Option<WaitId> {
        let error = match asks {
            Asks::Nothing => Some(Error::NoMessage),
            _ => call.nonblock.then_some(Error::WouldWait),
        };
        if let Some(error) = error {
            cx.fx.fail(call.request_id, error);
            return None;
        }
        let id = self.next_wait();
        self.clients.insert(id, (call, cx.now.moment));
        Some(id)
    }

    /// A reply to a question. The engine is told what becomes of it.
    pub fn reply_came(&mut self, question: u64, number: u64, body: Arc<[u8]>, cx: &mut Context<'_>) {
        let kept = self.keep_reply(WaitId(question), body, cx);
        command(Command::Heard(number, kept), cx);
    }

    fn keep_reply(&mut self, question: WaitId, body: Arc<[u8]>, cx: &mut Context<'_>) -> Result<(), Error> {
        let handle = self.outstanding.get(&question).ok_or(Error::Cancelled)?.0;
        let open = self.handles.get_mut(handle.0).ok_or(Error::Cancelled)?;
        let charge = charge_in_hand(&open.account, Memory::cost(body.len())).map_err(|_| Error::NoMemory)?;
        self.outstanding.remove(&question);
        open.asks = Some(Asks::Nothing);
        open.framing.clear();
        let mut readers = Vec::new();
        self.clients.retain(|_, (call, _)| {
            let is_here = call.handle == handle;
            if is_here {
                readers.push(*call);
            }
            !is_here
        });
        let mut readers = readers.into_iter();
        let reply = Slice::whole(body);
        match readers.next() {
            Some(call) => {
                let part = open.framing.begin(reply, Some(charge), true, call.piece());
                cx.fx.reply(call.request_id, Reply::Message(part));
            }
            None => open.framing.keep(reply, Some(charge)),
        }
        // Others that wait at the same open file get the rest, or its end of file.
        for call in readers {
            if !open.framing.answer(call.request_id, call.piece(), cx.fx) {
                cx.fx.fail(call.request_id, Error::NoMessage);
            }
        }
        self.wake_at(handle, cx);
        Ok(())
    }

    /// Nobody waits for the reply to what was asked through these open files. Their reads are over.
    pub(super) fn forget_questions(
        &mut self,
        these: impl Fn(HandleId) -> bool,
        error: Error,
        cx: &mut Context<'_>,
    ) {
        let ino = self.ino;
        self.outstanding.retain(|question, (handle, _)| {
            let is_over = these(*handle);
            if is_over {
                command(Command::Forget(ino, question.0), cx);
            }
            !is_over
        });
        self.clients.retain(|_, (call, _)| {
            let is_over = these(call.handle);
            if is_over {
                cx.fx.fail(call.request_id, error);
            }
            !is_over
        });
    }

    /// A write through `serve`: the reply to the question in hand.
    pub(super) fn answer(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Result<Option<WaitId>, Error> {
        let (removed, connected) = (self.removed, self.connected);
        if call.body.len() > self.longest() {
            return Err(Error::TooLong);
        }
        if call.body.is_empty() {
            cx.fx.reply(call.request_id, Reply::Written(0));
            return Ok(None);
        }
        let open = self.handles.get_mut(call.handle.0).ok_or(Error::BadDescriptor)?;
        let Lease::Of(delivery) = open.lease else {
            return Err(if removed { Error::Removed } else { Error::NoMessage });
        };
        if removed {
            // Its client has been told so.
            open.end_lease();
            command(Command::Settle(delivery, Settle::Nack, None), cx);
            return Err(Error::Removed);
        }
        if call.nonblock && !connected {
            return Err(Error::WouldWait);
        }
        let charge = charge_in_hand(&open.account, Memory::cost(call.body.len()));
        let charge = charge.map_err(|_| Error::NoMemory)?;
        open.lease = Lease::Settling;
        let (id, body, once) = (self.next_wait(), Slice::whole(call.body), call.nonblock);
        let does = Doing::Replies(call.handle, delivery, call.body.len() as u32);
        self.writers.insert(id, Writer { _charge: Some(charge), ..Writer::of(call, does, cx) });
        command(Command::Reply { delivery, body, mailbox: self.ino, wait: id.0, once }, cx);
        Ok(Some(id))
    }

    /// The engine has, or has not, handed over the reply of a server.
    pub fn replied(&mut self, wait: u64, result: Result<(), Error>, cx: &mut Context<'_>) {
        let Some(Writer { request, does, .. }) = self.writers.remove(&WaitId(wait)) else { return };
        let (Some(request), Doing::Replies(handle, delivery, length)) = (request, does) else { return };
        self.counts.replied += u64::from(result.is_ok());
        let is_kept = matches!(result, Err(Error::NoMemory | Error::WouldWait | Error::Interrupted));
        match self.handles.get_mut(handle.0) {
            Some(open) if is_kept => open.lease = Lease::Of(delivery),
            Some(open) => open.end_lease(),
            None => {}
        }
        match result {
            Ok(()) => cx.fx.reply(request, Reply::Written(length)),
            Err(error) => cx.fx.fail(request, error),
        }
        self.lease_ended(handle, cx);
    }
}
