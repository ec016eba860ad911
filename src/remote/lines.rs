//! Writing through `stream`, where each line is a message, and through `whole`, where all lines are one.

use std::sync::Arc;

use super::writers::{Doing, Line, Writer};
use super::{Open, Remote};
use crate::mailbox::{Context, Memory, Properties, Send, WaitId, charge_in_hand};
use crate::op::{Error, Reply, Slice};

impl Remote {
    /// Sends all lines that end in the write, and keeps what follows them.
    pub(super) fn send_lines(
        &mut self,
        call: Send<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<WaitId>, Error> {
        let longest = self.longest();
        let open = self.handles.get_mut(call.handle.0).ok_or(Error::BadDescriptor)?;
        let line = open.line.as_mut().ok_or(Error::BadDescriptor)?;
        if self.removed {
            return Err(Error::Removed);
        }
        if line.too_long {
            return Err(Error::TooLong);
        }
        let Some(last) = memchr::memrchr(b'\n', call.body) else {
            line.append(call.body, call.caller, longest, &open.account)?;
            cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
            return Ok(None);
        };
        if call.nonblock && !self.connected {
            return Err(Error::WouldWait);
        }
        let prefix = line.bytes.len();
        // Lines may be short and many, and each has its place in two lists.
        let lines = memchr::memchr_iter(b'\n', call.body).count();
        let cost = Memory::cost(prefix + call.body.len()) + (lines * size_of::<(Slice, u32)>()) as u64;
        let charge = charge_in_hand(&open.account, cost).map_err(|_| Error::NoMemory)?;
        let data: Arc<[u8]> = Arc::from([&line.bytes, call.body].concat());
        let (mut bodies, mut ends, mut from) = (Vec::new(), Vec::new(), 0);
        for at in memchr::memchr_iter(b'\n', &data) {
            let to = at + 1;
            if to - from > longest {
                break;
            }
            bodies.push(Slice { bytes: Arc::clone(&data), from, to });
            ends.push((to - prefix) as u32);
            from = to;
        }
        let Some(end) = ends.last_mut() else {
            *line = Line { too_long: true, ..Line::default() };
            return Err(Error::TooLong);
        };
        let mut rest = Line::default();
        let tail = data.get(from..).unwrap_or_default();
        // What follows the last line is taken if it can be kept.
        if from == prefix + last + 1
            && !tail.is_empty()
            && rest.append(tail, call.caller, longest, &open.account).is_ok()
        {
            *end = call.body.len() as u32;
        }
        let begun = std::mem::take(line);
        let does = Doing::SendsLines { handle: call.handle, begun, ends, rest };
        Ok(Some(self.publish(call, (bodies, Properties::default()), does, charge, cx)))
    }

    /// Keeps what is written until the close.
    pub(super) fn append(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Result<(), Error> {
        let longest = self.longest();
        let open = self.handles.get_mut(call.handle.0).ok_or(Error::BadDescriptor)?;
        let text = open.line.as_mut().ok_or(Error::BadDescriptor)?;
        if self.removed {
            return Err(Error::Removed);
        }
        if text.too_long {
            return Err(Error::TooLong);
        }
        let kept = text.append(call.body, call.caller, longest, &open.account);
        text.incomplete = kept.is_err();
        kept?;
        cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
        Ok(())
    }

    /// The last close sends a line that has no end, or the one message.
    pub(super) fn send_last_line(&mut self, open: &mut Open, cx: &mut Context<'_>) {
        let Some(Line { bytes, caller, charge, incomplete, .. }) = open.line.take() else { return };
        if self.removed || bytes.is_empty() || incomplete {
            return;
        }
        let writer = Writer {
            request: None,
            caller,
            nonblock: false,
            since: cx.now.moment,
            does: Doing::Sends(bytes.len() as u32),
            _charge: charge,
        };
        self.publish_for(writer, (vec![Slice::whole(bytes)], Properties::default()), cx);
    }
}
