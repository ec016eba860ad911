//! Writing: messages that the engine sends, and what settles a lease. Each write waits for the engine's answer.

use std::sync::Arc;

use super::writers::{Doing, Writer};
use super::{Lease, Remote, command};
use crate::accounts::Charge;
use crate::engine::{Command, Publish, Sent, Settle};
use crate::mailbox::{
    Context, HandleId, Memory, Properties, Send, WaitId, WhenFull, charge_in_hand, parse_settling,
};
use crate::op::{Error, Reply, RequestId, Slice};

impl Remote {
    /// A write. Its wait is returned if the engine has to answer first.
    pub fn send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        match self.try_send(call, cx) {
            Ok(wait) => wait,
            Err(error) => {
                cx.fx.fail(call.request_id, error);
                None
            }
        }
    }

    fn try_send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Result<Option<WaitId>, Error> {
        let open = self.handles.get_mut(call.handle.0).filter(|open| open.mode.writes());
        let open = open.ok_or(Error::BadDescriptor)?;
        if open.lease != Lease::No && !open.serves {
            return self.settle(call, cx);
        }
        if open.whole {
            return self.append(call, cx).map(|()| None);
        }
        if open.line.is_some() {
            return self.send_lines(call, cx);
        }
        if call.continues || std::mem::take(&mut open.split_refused) {
            open.split_refused = call.continues;
            return Err(Error::TooLong);
        }
        if open.serves {
            return self.answer(call, cx);
        }
        if let Some(asks) = open.asks {
            return self.question(call, asks, cx);
        }
        if !self.check(&call, cx)? {
            return Ok(None);
        }
        let open = self.handles.get_mut(call.handle.0).ok_or(Error::BadDescriptor)?;
        let charge = charge_in_hand(&open.account, Memory::cost(call.body.len()));
        let charge = charge.map_err(|_| Error::NoMemory)?;
        let (does, properties) = (Doing::Sends(call.body.len() as u32), open.properties.clone());
        Ok(Some(self.publish(call, (vec![Slice::whole(call.body)], properties), does, charge, cx)))
    }

    /// Whether there is something to send. A write of nothing is answered.
    pub(super) fn check(&self, call: &Send<'_>, cx: &mut Context<'_>) -> Result<bool, Error> {
        if self.removed {
            return Err(Error::Removed);
        }
        if call.body.len() > self.longest() {
            return Err(Error::TooLong);
        }
        if call.body.is_empty() {
            cx.fx.reply(call.request_id, Reply::Written(0));
            return Ok(false);
        }
        if call.nonblock && !self.connected {
            return Err(Error::WouldWait);
        }
        Ok(true)
    }

    /// Longest message, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.described.limits.msgsize as usize
    }

    /// Has the engine send messages for a call.
    pub(super) fn publish(
        &mut self,
        call: Send<'_>,
        what: (Vec<Slice>, Properties),
        does: Doing,
        charge: Charge,
        cx: &mut Context<'_>,
    ) -> WaitId {
        let writer = Writer { _charge: Some(charge), ..Writer::of(call, does, cx) };
        self.publish_for(writer, what, cx)
    }

    pub(super) fn publish_for(
        &mut self,
        writer: Writer,
        (bodies, properties): (Vec<Slice>, Properties),
        cx: &mut Context<'_>,
    ) -> WaitId {
        let id = self.next_wait();
        let publish = Publish {
            mailbox: self.ino,
            path: Arc::clone(&self.path),
            wait: id.0,
            bodies,
            properties,
            sender: writer.caller,
            once: writer.nonblock || self.described.full == WhenFull::Fail,
            closed: writer.request.is_none(),
            asks: matches!(writer.does, Doing::Asks(..)),
        };
        self.writers.insert(id, writer);
        command(Command::Publish(publish), cx);
        id
    }

    /// `ack`, `nack`, `nack <time>`, `reject` or `touch` of the message that the open file has leased.
    fn settle(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Result<Option<WaitId>, Error> {
        let how = match parse_settling(call.body.trim_ascii())? {
            (b"ack", _) => Some(Settle::Ack),
            (b"nack", None) => Some(Settle::Nack),
            (b"nack", Some(nanos)) => Some(Settle::NackFor(nanos)),
            (b"reject", _) => Some(Settle::Reject),
            // The engine renews it as long as the file is open.
            _ => None,
        };
        let open = self.handles.get_mut(call.handle.0).ok_or(Error::BadDescriptor)?;
        let Lease::Of(delivery) = open.lease else { return Err(Error::NoMessage) };
        let Some(how) = how else {
            cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
            return Ok(None);
        };
        open.lease = Lease::Settling;
        let id = self.next_wait();
        let does = Doing::Settles(call.handle, call.body.len() as u32);
        self.writers.insert(id, Writer::of(call, does, cx));
        command(Command::Settle(delivery, how, Some((self.ino, id.0))), cx);
        Ok(Some(id))
    }

    /// The engine has accepted so many messages of a write, and this is why not all.
    pub fn published(&mut self, wait: u64, sent: Sent, result: Result<(), Error>, cx: &mut Context<'_>) {
        let Some(Writer { request, nonblock, does, .. }) = self.writers.remove(&WaitId(wait)) else { return };
        let Sent { accepted: sent, known } = sent;
        if let Doing::Asks(handle, length) = does {
            let written = self.asked((WaitId(wait), handle), length, result, cx);
            let Some(request) = request else { return };
            return match written {
                Ok(length) => cx.fx.reply(request, Reply::Written(length)),
                Err(error) => self.fail_full(request, nonblock, error, cx),
            };
        }
        self.counts.duplicates += known as u64;
        if sent > known {
            self.counts.sent += (sent - known) as u64;
            self.last_sent = cx.now.time();
        }
        let written = match does {
            Doing::Sends(length) => (sent > 0).then_some(length),
            Doing::SendsLines { handle, begun, ends, rest } => {
                // Where none was sent, what was written before is still a beginning.
                let kept = match sent {
                    0 => Some(begun),
                    _ => result.is_ok().then_some(rest),
                };
                if let (Some(open), Some(kept)) = (self.handles.get_mut(handle.0), kept) {
                    open.line = Some(kept);
                }
                sent.checked_sub(1).and_then(|last| ends.get(last).copied())
            }
            Doing::Settles(..) | Doing::Asks(..) | Doing::Replies(..) => None,
        };
        let Some(request) = request else {
            // Its file is closed, and nobody is there to be told.
            self.counts.dropped += u64::from(sent == 0);
            return;
        };
        match (written, result) {
            (Some(length), _) => cx.fx.reply(request, Reply::Written(length)),
            (None, result) => self.fail_full(request, nonblock, result.err().unwrap_or(Error::Io), cx),
        }
    }

    /// A write fails. If it is full, what must not wait learns that it would.
    fn fail_full(&self, request: RequestId, nonblock: bool, error: Error, cx: &mut Context<'_>) {
        let would_wait = error == Error::NoSpace && nonblock && self.described.full == WhenFull::Wait;
        cx.fx.fail(request, if would_wait { Error::WouldWait } else { error });
    }

    /// The engine has, or has not, settled a lease.
    pub fn settled(&mut self, wait: u64, result: Result<(), Error>, cx: &mut Context<'_>) {
        let Some(Writer { request, does, .. }) = self.writers.remove(&WaitId(wait)) else { return };
        let (Some(request), Doing::Settles(handle, length)) = (request, does) else { return };
        if let Some(open) = self.handles.get_mut(handle.0) {
            open.end_lease();
        }
        match result {
            Ok(()) => cx.fx.reply(request, Reply::Written(length)),
            Err(error) => cx.fx.fail(request, error),
        }
        self.lease_ended(handle, cx);
    }

    /// The open file can take another message, for which somebody may poll.
    pub(super) fn lease_ended(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        if let Some(open) = self.handles.get(handle.0) {
            self.balance(open.wanted(), cx);
        }
    }
}
