//! Reading through `peek`: the engine shows the next message, and nobody takes it.

use std::sync::Arc;

use super::{Remote, command};
use crate::engine::{Answer, Ask, Asked, Command};
use crate::mailbox::{Context, Memory, Receive, WaitId, charge_in_hand};
use crate::op::{Error, Reply, Slice};

impl Remote {
    /// Has the engine look for a message.
    pub(super) fn peek(&mut self, call: Receive, cx: &mut Context<'_>) -> WaitId {
        let id = self.next_wait();
        if let Some(open) = self.handles.get_mut(call.handle.0) {
            open.framing.release();
        }
        self.peekers.insert(id, (call, cx.now.moment));
        let what = Asked::Next { wait: !call.nonblock };
        let ask = Ask { mailbox: self.ino, path: Arc::clone(&self.path), wait: id.0, what };
        command(Command::Ask(ask), cx);
        id
    }

    /// The engine shows a message, or says why there is none to show.
    pub fn peeked(&mut self, wait: WaitId, answer: Result<Answer, Error>, cx: &mut Context<'_>) {
        let Some((call, _)) = self.peekers.remove(&wait) else { return };
        let shown = match answer {
            Ok(Answer::Message(_, body)) => self.show(&call, &body),
            Ok(_) => Err(Error::Io),
            Err(error) => Err(error),
        };
        match shown {
            Ok(part) => cx.fx.reply(call.request_id, Reply::Message(part)),
            Err(error) => cx.fx.fail(call.request_id, error),
        }
    }

    fn show(&mut self, call: &Receive, body: &Arc<[u8]>) -> Result<Slice, Error> {
        let open = self.handles.get_mut(call.handle.0).ok_or(Error::BadDescriptor)?;
        let charge = charge_in_hand(&open.account, Memory::cost(body.len())).map_err(|_| Error::NoMemory)?;
        Ok(open.framing.begin(Slice::whole(Arc::clone(body)), Some(charge), true, call.piece()))
    }

    /// A look is over, unless it was.
    pub(super) fn end_peek(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) {
        if let Some((call, _)) = self.peekers.remove(&id) {
            cx.fx.fail(call.request_id, error);
            command(Command::Withdraw(self.ino, id.0), cx);
        }
    }

    /// Those of these calls are over.
    pub(super) fn end_peeks(&mut self, these: impl Fn(&Receive) -> bool, error: Error, cx: &mut Context<'_>) {
        let over = self.peekers.iter().filter(|(_, (call, _))| these(call));
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_peek(id, error, cx);
        }
    }
}
