//! poll(2): what a call would do now. Whether there is a message, only the engine knows.

use super::receive::ALL;
use super::{Asks, Lease, Open, Remote, Shows};
use crate::engine::Wanted;
use crate::mailbox::{Context, HandleId, WaitId};
use crate::op::{Poller, Ready, Reply, RequestId};

impl Remote {
    /// What poll(2) reports, and the wait of the caller if the engine has to be asked first.
    pub fn poll(
        &mut self,
        handle: HandleId,
        request: RequestId,
        arm: Option<Poller>,
        cx: &mut Context<'_>,
    ) -> Result<Ready, WaitId> {
        let Some(open) = self.handles.get_mut(handle.0) else {
            return Ok(Ready { hangup: true, ..Ready::default() });
        };
        open.poll = arm.or(open.poll);
        let wanted = open.wanted();
        let reads = open.wants() && arm.is_none_or(|poller| poller.events.input);
        let ready = self.ready(handle, cx);
        if ready.readable || !reads || self.removed || !self.connected {
            return Ok(ready);
        }
        if arm.is_some() {
            self.balance(wanted, cx);
            return Ok(ready);
        }
        let id = self.next_wait();
        self.intake(wanted).pollers.push_back((id, handle, request));
        self.look(wanted, id, cx);
        Err(id)
    }

    fn ready(&mut self, handle: HandleId, cx: &mut Context<'_>) -> Ready {
        for wanted in ALL {
            self.drop_stale(wanted, cx);
        }
        let Some(open) = self.handles.get(handle.0) else { return Ready::default() };
        let is_held = match open.wanted() {
            Wanted::Message => self.messages.held.is_some(),
            Wanted::Question => self.questions.held.is_some(),
        };
        let is_free = matches!(open.asks, None | Some(Asks::Nothing));
        Ready {
            // Only a read finds out what there is to look at.
            readable: open.shows == Shows::Peek
                || (open.mode.reads() && (open.framing.ready() || (is_held && open.wants()))),
            writable: open.mode.writes() && !self.removed && self.connected && is_free,
            hangup: self.removed,
        }
    }

    pub(super) fn answer_pollers(
        &mut self,
        wanted: Wanted,
        which: impl Fn(WaitId) -> bool,
        cx: &mut Context<'_>,
    ) {
        for (id, handle, request) in std::mem::take(&mut self.intake(wanted).pollers) {
            if !which(id) {
                self.intake(wanted).pollers.push_back((id, handle, request));
                continue;
            }
            let ready = self.ready(handle, cx);
            cx.fx.reply(request, Reply::Ready(ready));
        }
    }

    pub(super) fn wake(&mut self, cx: &mut Context<'_>) {
        for (_, open) in &mut self.handles {
            if let Some(poll) = open.poll.take() {
                cx.fx.wake(poll.handle);
            }
        }
    }

    /// Wakes those who poll one open file.
    pub(super) fn wake_at(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        if let Some(poll) = self.handles.get_mut(handle.0).and_then(|open| open.poll.take()) {
            cx.fx.wake(poll.handle);
        }
    }

    /// An open file for which somebody polls for messages.
    pub(super) fn polling(&self, wanted: Wanted) -> Option<&Open> {
        let pollers = match wanted {
            Wanted::Message => &self.messages.pollers,
            Wanted::Question => &self.questions.pollers,
        };
        let polls = |open: &Open| {
            open.wants() && open.wanted() == wanted && open.poll.is_some_and(|poller| poller.events.input)
        };
        let asks = pollers.iter().find_map(|(_, handle, _)| self.handles.get(handle.0));
        asks.or_else(|| self.handles.iter().map(|(_, open)| open).find(|open| polls(open)))
    }
}

impl Open {
    /// A read through it would take a message: it has none in hand that must be settled first.
    fn wants(&self) -> bool {
        self.takes() && (self.lease == Lease::No || self.framing.needs_next())
    }
}
