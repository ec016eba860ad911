//! Receiving: readers wait, the engine is asked, and what comes goes to one of them or back.

use std::sync::Arc;

use super::intake::{Held, Intake};
use super::{Lease, Open, Remote, Shows, command};
use crate::engine::{About, Command, Message, Wanted};
use crate::mailbox::{
    Context, Facts, HandleId, Memory, Receive, WaitId, Waiter, charge_in_hand, write_facts,
};
use crate::op::{Error, Reply, Slice, Taken};

/// How long a message is kept for a reader that was told of it by poll(2), of the time after which the engine gives it to another.
const HOLD: (u32, u32) = (2, 3);

/// What there is to take.
pub(super) const ALL: [Wanted; 2] = [Wanted::Message, Wanted::Question];

impl Remote {
    /// A read. Answered now, unless the caller has to wait: then its wait is returned.
    pub fn receive(&mut self, call: Receive, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.reads()) else {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
            return None;
        };
        if open.framing.answer(call.request_id, call.piece(), cx.fx) {
            return None;
        }
        if self.removed {
            cx.fx.fail(call.request_id, Error::Removed);
            return None;
        }
        if let Some(asks) = open.asks {
            return self.await_reply(call, asks, cx);
        }
        let (peeks, wanted) = (open.shows == Shows::Peek, open.wanted());
        if !peeks && let Some(message) = self.take_held(wanted, cx) {
            self.deliver(&call, message, cx);
            return None;
        }
        if call.nonblock && !self.connected {
            cx.fx.fail(call.request_id, Error::WouldWait);
            return None;
        }
        if peeks {
            return Some(self.peek(call, cx));
        }
        let id = self.next_wait();
        if let Some(open) = self.handles.get_mut(call.handle.0) {
            open.framing.release();
        }
        self.intake(wanted).readers.push_back((id, call, cx.now.moment));
        if call.nonblock {
            self.look(wanted, id, cx);
        } else {
            self.balance(wanted, cx);
        }
        Some(id)
    }

    /// A pull has got a message.
    pub fn arrived(&mut self, pull: u64, message: Message, cx: &mut Context<'_>) {
        let wanted = message.wanted;
        let intake = self.intake(wanted);
        intake.pulls.remove(&pull);
        let looker = intake.looks.remove(&pull);
        let is_awaited = !intake.readers.is_empty() || intake.held.is_some();
        if self.removed {
            return self.give_back(message.delivery, cx);
        }
        if !is_awaited {
            let cost = Memory::cost(message.body.len());
            let payer = self.polling(wanted).map(|open| charge_in_hand(&open.account, cost));
            if let Some(Ok(charge)) = payer {
                let held = Held { message, since: cx.now.moment, _charge: charge };
                self.intake(wanted).held = Some(held);
                self.answer_pollers(wanted, |_| true, cx);
                self.wake(cx);
                return;
            }
        }
        match self.intake(wanted).next_reader(looker) {
            Some(call) => self.deliver(&call, message, cx),
            None => self.give_back(message.delivery, cx),
        }
        self.answer_pollers(wanted, |id| Some(id) == looker, cx);
        self.balance(wanted, cx);
    }

    /// A pull ended without a message.
    pub fn nothing(&mut self, pull: u64, cx: &mut Context<'_>) {
        for wanted in ALL {
            let intake = self.intake(wanted);
            let looker = intake.looks.remove(&pull);
            if !intake.pulls.remove(&pull) && looker.is_none() {
                continue;
            }
            if let Some(id) = looker {
                if let Some(call) = intake.take_reader(id) {
                    cx.fx.fail(call.request_id, Error::WouldWait);
                }
                self.answer_pollers(wanted, |poller| poller == id, cx);
            }
            self.balance(wanted, cx);
        }
    }

    /// There is no connection: what must not wait cannot learn now whether there is a message.
    pub(super) fn end_looks(&mut self, cx: &mut Context<'_>) {
        for wanted in ALL {
            let intake = self.intake(wanted);
            for (_, id) in std::mem::take(&mut intake.looks) {
                if let Some(call) = intake.take_reader(id) {
                    cx.fx.fail(call.request_id, Error::WouldWait);
                }
            }
            self.answer_pollers(wanted, |_| true, cx);
            self.balance(wanted, cx);
        }
    }

    /// Those who wait for a message, or only look.
    pub(super) fn waiting_readers(&self) -> Vec<Waiter> {
        let peekers = self.peekers.values().chain(self.clients.values()).map(|(call, since)| (call, since));
        let intakes = [&self.messages, &self.questions].into_iter();
        let readers = intakes.flat_map(|intake| intake.readers.iter().map(|(_, call, since)| (call, since)));
        let all = readers.chain(peekers);
        all.map(|(call, since)| Waiter { caller: call.caller, writes: false, since: *since }).collect()
    }

    fn deliver(&mut self, call: &Receive, message: Message, cx: &mut Context<'_>) {
        let Message { delivery, about, deliveries, body, waiting, wanted } = message;
        let Some(open) = self.handles.get_mut(call.handle.0) else {
            return self.give_back(delivery, cx);
        };
        let text = match open.shows {
            Shows::Json => Slice::whole(json(&about, deliveries, &body)),
            Shows::Body | Shows::Peek => Slice::whole(body),
        };
        let Ok(charge) = charge_in_hand(&open.account, Memory::cost(text.len())) else {
            cx.fx.fail(call.request_id, Error::NoMemory);
            return self.give_back(delivery, cx);
        };
        let part = open.framing.begin(text, Some(charge), true, call.piece());
        self.last_received = cx.now.time();
        if wanted == Wanted::Message {
            self.waiting = waiting;
        }
        if open.lease == Lease::No {
            self.counts.received += 1;
            let taken = Taken::Delivery(delivery);
            cx.fx.deliver(call.request_id, Reply::Message(part), vec![taken]);
        } else {
            self.counts.leased += u64::from(!open.serves);
            open.lease = Lease::Of(delivery);
            open.in_hand = Some(Box::new((about, deliveries)));
            command(Command::Keep(delivery), cx);
            cx.fx.reply(call.request_id, Reply::Message(part));
            self.answer_others(wanted, call.handle, cx);
        }
    }

    /// Reads that wait at an open file that has got its one message get the rest of that, or its end of file.
    fn answer_others(&mut self, wanted: Wanted, handle: HandleId, cx: &mut Context<'_>) {
        for call in self.intake(wanted).take_readers_at(handle) {
            let framing = self.handles.get_mut(handle.0).map(|open| &mut open.framing);
            if !framing.is_some_and(|framing| framing.answer(call.request_id, call.piece(), cx.fx)) {
                cx.fx.fail(call.request_id, Error::Io);
            }
        }
        self.balance(wanted, cx);
    }

    fn take_held(&mut self, wanted: Wanted, cx: &mut Context<'_>) -> Option<Message> {
        self.drop_stale(wanted, cx);
        self.intake(wanted).held.take().map(|held| held.message)
    }

    /// A message that nobody has read for long is another reader's.
    pub(super) fn drop_stale(&mut self, wanted: Wanted, cx: &mut Context<'_>) {
        let (now, hold) = (cx.now.moment, (self.described.silence() * HOLD.0 / HOLD.1).as_nanos());
        let stale = |held: &mut Held| u128::from(now.since(held.since)) > hold;
        if let Some(held) = self.intake(wanted).held.take_if(stale) {
            self.give_back(held.message.delivery, cx);
        }
    }

    /// A message that is held goes back.
    pub(super) fn drop_held(&mut self, wanted: Wanted, cx: &mut Context<'_>) {
        if let Some(held) = self.intake(wanted).held.take() {
            self.give_back(held.message.delivery, cx);
        }
    }

    /// As many pulls as there are readers, and one if somebody polls.
    pub(super) fn balance(&mut self, wanted: Wanted, cx: &mut Context<'_>) {
        let is_polled = self.polling(wanted).is_some();
        let removed = self.removed;
        let intake = self.intake(wanted);
        let polled = usize::from(intake.held.is_none() && is_polled);
        // For the others, it is looked whether there is a message.
        let waiting = intake.readers.iter().filter(|(_, call, _)| !call.nonblock).count();
        let most = if removed { 0 } else { waiting + polled };
        let mut ended = Vec::new();
        while intake.pulls.len() > most {
            ended.extend(intake.pulls.pop_last());
        }
        let missing = most - intake.pulls.len();
        for pull in ended {
            command(Command::EndPull(self.ino, pull), cx);
        }
        for _ in 0..missing {
            let pull = self.next_wait().0;
            self.intake(wanted).pulls.insert(pull);
            self.pull(wanted, pull, true, cx);
        }
    }

    /// Asks for a message without waiting, for the call `id`.
    pub(super) fn look(&mut self, wanted: Wanted, id: WaitId, cx: &mut Context<'_>) {
        let pull = self.next_wait().0;
        self.intake(wanted).looks.insert(pull, id);
        self.pull(wanted, pull, false, cx);
    }

    fn pull(&self, wanted: Wanted, pull: u64, wait: bool, cx: &mut Context<'_>) {
        let path = Arc::clone(&self.path);
        command(Command::Pull { mailbox: self.ino, path, pull, wanted, wait }, cx);
    }

    pub(super) fn intake(&mut self, wanted: Wanted) -> &mut Intake {
        match wanted {
            Wanted::Message => &mut self.messages,
            Wanted::Question => &mut self.questions,
        }
    }
}

impl Open {
    /// A read through it receives a message or a question.
    pub(super) fn takes(&self) -> bool {
        self.mode.reads() && self.shows != Shows::Peek && self.asks.is_none()
    }

    /// Which of them.
    pub(super) fn wanted(&self) -> Wanted {
        if self.serves { Wanted::Question } else { Wanted::Message }
    }
}

/// The line that `json` shows of a message.
fn json(about: &About, deliveries: u32, body: &[u8]) -> Vec<u8> {
    let About { number: id, sent, sender, priority, reason, .. } = *about;
    let tag = about.tag.as_deref();
    let facts = Facts { id, sent, sender, priority, tag, deliveries, reason, rounds: 0 };
    let mut line = Vec::new();
    write_facts(&facts, body, &mut line);
    line
}
