//! A topic: every open reader gets its own copy of each message sent since it opened. No I/O, no clock, no lock of
//! its own.
//!
//! A sender never waits, whether anybody reads or not. The messages queued for a reader are limited by `backlog` and
//! by the mount's memory limit. If there is no room, the reader's oldest messages are dropped and counted.
//!
//! A message for many readers is given to some at once, and to the others by a job, in steps ([`Topic::advance`]). Nobody sees
//! the difference: a reader that reads or polls before its turn is given all that it has not got yet.
//!
//! Invariant: *while a read waits through an open file, no message is queued for that open file.*

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use crate::accounts::{Account, Charge, Resource};
use crate::framing::{Framing, Lookers};
use crate::mailbox::{Context, HandleId, Memory, Mode, Receive, Send, WaitId, Waiter, charge_in_hand};
use crate::op::{Caller, Error, FileTime, Moment, Poller, Ready, Reply, RequestId, Slice};
use crate::state::saved;

/// Readers that are served at once.
const AT_ONCE: usize = 200;

/// Open files that are looked at for readers at once.
const LOOKED_AT: usize = 10_000;

/// Limits of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes.
    pub msgsize: u32,
    /// Messages queued for one reader at most, or [`crate::config::NO_LIMIT`].
    pub backlog: u64,
}

saved!(struct Limits { msgsize, backlog });

/// A topic.
#[derive(Debug)]
pub struct Topic {
    limits: Limits,
    handles: Slab<Open>,
    /// The open file of each waiting read.
    waits: BTreeMap<WaitId, HandleId>,
    next_wait: u64,
    /// Messages that not all readers have been given, in the order in which they were sent.
    broadcasts: VecDeque<Broadcast>,
    /// The next open file whose waits end, while a job ends those of a removed topic.
    ending: Option<usize>,
    has_job: bool,
    counts: Counts,
    removed: bool,
    /// Time of the last send, or set by utimes(2).
    pub last_sent: FileTime,
    /// Time of the last receive, or set by utimes(2).
    pub last_received: FileTime,
    lookers: Lookers,
}

saved!(struct Topic {
    limits, handles, waits, next_wait, broadcasts, ending, has_job, counts, removed, last_sent,
    last_received, lookers since 4,
});

/// A message that a job gives to the readers.
#[derive(Debug)]
struct Broadcast {
    /// How many messages were sent by then, with this one.
    number: u64,
    body: Arc<[u8]>,
    /// The open file that is next.
    at: usize,
    /// Who sent it and waits, and how many bytes the answer says were written.
    sender: Option<(WaitId, RequestId, u32)>,
}

saved!(struct Broadcast { number, body, at, sender });

#[derive(Debug)]
struct Open {
    mode: Mode,
    /// It has been given all messages up to the one with this number.
    given: u64,
    caller: Caller,
    framing: Framing,
    /// Of the user who opened it.
    account: Arc<Account>,
    /// Messages, and what they are charged.
    backlog: VecDeque<(Arc<[u8]>, Charge)>,
    dropped: u64,
    waiting: VecDeque<(WaitId, Receive, Moment)>,
    poll: Option<Poller>,
    /// A part of a split write was refused, so the next write is refused too, as for a mailbox.
    split_refused: bool,
}

saved!(struct Open { mode, given, caller, framing, account, backlog, dropped, waiting, poll, split_refused });

/// Counters and current figures, for `stat` and `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub readers: u64,
    pub sent: u64,
    /// Sent while no reader had the topic open.
    pub unheard: u64,
    /// Copies that were read.
    pub received: u64,
    /// Copies that were dropped for lack of room.
    pub dropped: u64,
    /// Copies queued now.
    pub backlog: u64,
}

saved!(struct Counts { readers, sent, unheard, received, dropped, backlog });

/// An open reader, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Reader {
    pub caller: Caller,
    pub backlog: u64,
    pub dropped: u64,
}

impl Topic {
    /// A topic without open files.
    pub fn new(limits: Limits, now: FileTime) -> Topic {
        Topic {
            limits,
            handles: Slab::new(),
            waits: BTreeMap::new(),
            next_wait: 0,
            broadcasts: VecDeque::new(),
            ending: None,
            has_job: false,
            counts: Counts::default(),
            removed: false,
            last_sent: now,
            last_received: now,
            lookers: Lookers::default(),
        }
    }

    /// Opens it. A reader gets the messages sent from now on. Returns true if the reader may seek within a message.
    pub fn open(&mut self, mode: Mode, caller: Caller, account: Arc<Account>) -> (HandleId, bool) {
        self.lookers.remove(caller.pid);
        let seekable = mode == Mode::Receive;
        let framing = if seekable { Framing::File(None) } else { Framing::Stream(Vec::new()) };
        self.counts.readers += u64::from(mode.reads());
        let open = Open {
            mode,
            given: self.counts.sent,
            caller,
            framing,
            account,
            backlog: VecDeque::new(),
            dropped: 0,
            waiting: VecDeque::new(),
            poll: None,
            split_refused: false,
        };
        (HandleId(self.handles.insert(open)), seekable)
    }

    /// Closes an open file. The messages queued for it are lost.
    pub fn close(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        let Some(open) = self.handles.try_remove(handle.0) else { return };
        self.counts.readers -= u64::from(open.mode.reads());
        for (id, call, _) in open.waiting {
            self.waits.remove(&id);
            cx.fx.fail(call.request_id, Error::BadDescriptor);
        }
        self.counts.backlog -= open.backlog.len() as u64;
        if self.handles.is_empty() {
            self.handles = Slab::new();
        }
    }

    /// A read. Answered now, unless the caller has to wait: then its wait is returned.
    pub fn receive(&mut self, call: Receive, cx: &mut Context<'_>) -> Option<WaitId> {
        self.catch_up(call.handle, cx);
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.reads()) else {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
            return None;
        };
        if open.answer(&call, cx) {
            open.framing.note_end(call.piece(), &mut self.lookers);
            return None;
        }
        let looked_at = self.lookers.has(call.caller.pid);
        if let Some((body, charge)) = open.backlog.pop_front() {
            if open.backlog.is_empty() && open.backlog.capacity() > 64 {
                open.backlog = VecDeque::new();
            }
            self.counts.backlog -= 1;
            self.counts.received += 1;
            self.last_received = cx.now.time();
            open.deliver(&call, body, charge, cx);
            return None;
        }
        let error = match (self.removed, call.nonblock) {
            (true, _) => Error::Removed,
            (false, true) => Error::WouldWait,
            (false, false) if open.framing.ends_again(call.piece()) && !looked_at => {
                cx.fx.reply(call.request_id, Reply::Data(Vec::new()));
                return None;
            }
            (false, false) => {
                let id = next_wait(&mut self.next_wait);
                open.framing.release();
                open.waiting.push_back((id, call, cx.now.moment));
                self.waits.insert(id, call.handle);
                return Some(id);
            }
        };
        cx.fx.fail(call.request_id, error);
        None
    }

    /// As [`crate::mailbox::Mailbox::note_looked_at`].
    pub fn note_looked_at(&mut self, pid: u32) {
        self.lookers.note(pid);
    }

    /// A write: the message goes to all open readers. Answered now, unless there are many: then its wait is returned, and the
    /// answer comes when all have it.
    pub fn send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let written = call.body.len() as u32;
        match self.check_send(call) {
            Ok(()) if call.body.is_empty() => cx.fx.reply(call.request_id, Reply::Written(written)),
            Ok(()) => return self.publish(call.body, call.request_id, written, cx),
            Err(error) => cx.fx.fail(call.request_id, error),
        }
        None
    }

    fn check_send(&mut self, call: Send<'_>) -> Result<(), Error> {
        let open = self.handles.get_mut(call.handle.0).filter(|open| open.mode.writes());
        let open = open.ok_or(Error::BadDescriptor)?;
        if call.continues || std::mem::take(&mut open.split_refused) {
            open.split_refused = call.continues;
            return Err(Error::TooLong);
        }
        if self.removed {
            return Err(Error::Removed);
        }
        if call.body.len() as u64 > u64::from(self.limits.msgsize) {
            return Err(Error::TooLong);
        }
        Ok(())
    }

    /// Sends a message to all open readers, and then answers the request, of which `written` bytes were written: now, or after
    /// the wait that is returned.
    pub fn publish(
        &mut self,
        body: &[u8],
        request_id: RequestId,
        written: u32,
        cx: &mut Context<'_>,
    ) -> Option<WaitId> {
        self.counts.sent += 1;
        self.last_sent = cx.now.time();
        if self.counts.readers == 0 {
            self.counts.unheard += 1;
            cx.fx.reply(request_id, Reply::Written(written));
            return None;
        }
        let id = next_wait(&mut self.next_wait);
        self.broadcasts.push_back(Broadcast {
            number: self.counts.sent,
            body: Arc::from(body),
            at: 0,
            sender: Some((id, request_id, written)),
        });
        if self.broadcasts.len() == 1 {
            self.serve_some(cx);
        }
        let last = self.broadcasts.back()?;
        (last.number == self.counts.sent).then_some(id)
    }

    /// True if a job has to be made that calls [`Topic::advance`] until that returns false.
    pub fn needs_job(&mut self) -> bool {
        self.is_busy() && !std::mem::replace(&mut self.has_job, true)
    }

    /// A job's step. False if it was the last.
    pub fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        self.serve_some(cx);
        self.has_job = self.is_busy();
        self.has_job
    }

    fn is_busy(&self) -> bool {
        !self.broadcasts.is_empty() || self.ending.is_some()
    }

    /// Serves some of the readers that have not been given the next message, or ends some of the waits at a removed topic.
    fn serve_some(&mut self, cx: &mut Context<'_>) {
        if let Some(next) = self.broadcasts.front() {
            let (body, number) = (Arc::clone(&next.body), next.number);
            let rest = self.some_from(next.at, |topic, index| topic.give(index, number, &body, cx));
            if let (Some(rest), Some(next)) = (rest, self.broadcasts.front_mut()) {
                next.at = rest;
            } else if let Some((_, request_id, written)) =
                self.broadcasts.pop_front().and_then(|done| done.sender)
            {
                cx.fx.reply(request_id, Reply::Written(written));
            }
        } else if let Some(from) = self.ending {
            self.ending = self.some_from(from, |topic, index| topic.end_waits_of(index, cx));
        }
    }

    /// Works on some open files, from `from` on. `work` returns whether there was something to do. Returns the next one, if there
    /// may be more.
    fn some_from(&mut self, from: usize, mut work: impl FnMut(&mut Topic, usize) -> bool) -> Option<usize> {
        let mut done = 0;
        for index in from..from.saturating_add(LOOKED_AT) {
            if index >= self.handles.capacity() {
                return None;
            }
            if done == AT_ONCE {
                return Some(index);
            }
            done += usize::from(work(self, index));
        }
        Some(from.saturating_add(LOOKED_AT))
    }

    /// Gives an open file all messages that it has not been given.
    fn catch_up(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        for at in 0..self.broadcasts.len() {
            let Some(next) = self.broadcasts.get(at) else { return };
            let (number, body) = (next.number, Arc::clone(&next.body));
            self.give(handle.0, number, &body, cx);
        }
    }

    /// Gives an open file a message. False if it has been given it already or reads none.
    fn give(&mut self, index: usize, number: u64, body: &Arc<[u8]>, cx: &mut Context<'_>) -> bool {
        let Some(open) = self.handles.get_mut(index).filter(|open| open.mode.reads()) else { return false };
        if open.given >= number {
            return false;
        }
        open.given = number;
        if let Some((id, reader, _)) = open.waiting.front().copied() {
            let Ok(charge) = charge_in_hand(&open.account, Memory::cost(body.len())) else {
                open.dropped += 1;
                self.counts.dropped += 1;
                return true;
            };
            open.waiting.pop_front();
            self.waits.remove(&id);
            self.counts.received += 1;
            self.last_received = cx.now.time();
            for id in open.deliver(&reader, Arc::clone(body), charge, cx) {
                self.waits.remove(&id);
            }
        } else {
            let lost = open.enqueue(Arc::clone(body), self.limits.backlog);
            self.counts.backlog = self.counts.backlog + 1 - lost;
            self.counts.dropped += lost;
        }
        if let Some(poll) = open.poll.take_if(|poll| poll.events.input) {
            cx.fx.wake(poll.handle);
        }
        true
    }

    /// What poll(2) reports. The next change that it waits for wakes the poller `arm`, and removal in any case.
    pub fn poll(&mut self, handle: HandleId, arm: Option<Poller>, cx: &mut Context<'_>) -> Ready {
        self.catch_up(handle, cx);
        let removed = self.removed;
        let Some(open) = self.handles.get_mut(handle.0) else {
            return Ready { hangup: true, ..Ready::default() };
        };
        if let Some(Poller { handle, mut events }) = arm {
            events.input |= open.poll.is_some_and(|poll| poll.events.input);
            open.poll = Some(Poller { handle, events });
        }
        Ready {
            readable: open.mode.reads() && (open.framing.ready() || !open.backlog.is_empty()),
            writable: open.mode.writes() && !removed,
            hangup: removed,
        }
    }

    /// Ends a wait with `error`: the caller got a signal, or may not wait any longer. A message that was sent goes to all readers
    /// nevertheless, so its sender gets the answer without error. False if it was answered already.
    pub fn cancel(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) -> bool {
        let is_sender = |next: &Broadcast| next.sender.as_ref().is_some_and(|(other, ..)| *other == id);
        if let Some(next) = self.broadcasts.iter_mut().find(|next| is_sender(next)) {
            if let Some((_, request_id, written)) = next.sender.take() {
                cx.fx.reply(request_id, Reply::Written(written));
            }
            return true;
        }
        let Some(handle) = self.waits.remove(&id) else { return false };
        let Some(open) = self.handles.get_mut(handle.0) else { return false };
        let Some(at) = open.waiting.iter().position(|(other, _, _)| *other == id) else { return false };
        if let Some((_, call, _)) = open.waiting.remove(at) {
            cx.fx.fail(call.request_id, error);
        }
        true
    }

    /// The name was removed. All waits fail with `Removed`. Messages queued for a reader can still be read.
    pub fn remove(&mut self, cx: &mut Context<'_>) {
        self.removed = true;
        self.ending = Some(0);
        if self.broadcasts.is_empty() {
            self.serve_some(cx);
        }
    }

    fn end_waits_of(&mut self, index: usize, cx: &mut Context<'_>) -> bool {
        let Some(open) = self.handles.get_mut(index) else { return false };
        for (id, call, _) in open.waiting.drain(..) {
            self.waits.remove(&id);
            cx.fx.fail(call.request_id, Error::Removed);
        }
        if let Some(poll) = open.poll.take() {
            cx.fx.wake(poll.handle);
        }
        true
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Changes the limits. Queued messages stay until the next one comes.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// True once the name was removed.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Counters and current figures.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The open readers.
    pub fn readers(&self) -> Vec<Reader> {
        let open = self.handles.iter().map(|(_, open)| open).filter(|open| open.mode.reads());
        let reader = |open: &Open| Reader {
            caller: open.caller,
            backlog: open.backlog.len() as u64,
            dropped: open.dropped,
        };
        open.map(reader).collect()
    }

    /// How many reads wait.
    pub fn waiting(&self) -> u64 {
        self.waits.len() as u64
    }

    /// The waiting readers.
    pub fn waiters(&self) -> Vec<Waiter> {
        let waiting = self.handles.iter().flat_map(|(_, open)| &open.waiting);
        let waiter = |(_, call, since): &(WaitId, Receive, Moment)| Waiter {
            caller: call.caller,
            writes: false,
            since: *since,
        };
        waiting.map(waiter).collect()
    }
}

fn next_wait(last: &mut u64) -> WaitId {
    *last += 1;
    WaitId(*last)
}

impl Open {
    /// Answers a read if that takes no new message. Otherwise returns false.
    fn answer(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        self.framing.answer(call.request_id, call.piece(), cx.fx)
    }

    /// Answers a read with a message, and further waiting reads with the rest of it. Returns the waits that end.
    fn deliver(
        &mut self,
        call: &Receive,
        body: Arc<[u8]>,
        charge: Charge,
        cx: &mut Context<'_>,
    ) -> Vec<WaitId> {
        let slice = self.framing.begin(Slice::whole(body), Some(charge), true, call.piece());
        cx.fx.reply(call.request_id, Reply::Message(slice));
        let mut ended = Vec::new();
        while !self.framing.needs_next()
            && let Some((id, next, _)) = self.waiting.pop_front()
        {
            ended.push(id);
            if !self.answer(&next, cx) {
                cx.fx.fail(next.request_id, Error::Io);
            }
        }
        ended
    }

    /// Queues a message, dropping older ones if there is no room. Returns how many were dropped, perhaps this one
    /// too.
    fn enqueue(&mut self, body: Arc<[u8]>, most: u64) -> u64 {
        let cost = Memory::cost(body.len());
        let mut lost = 0;
        loop {
            if (self.backlog.len() as u64) < most
                && let Ok(charge) = self.account.charge(Resource::Memory, cost)
            {
                self.backlog.push_back((body, charge));
                break;
            }
            lost += 1;
            if self.backlog.pop_front().is_none() {
                break;
            }
        }
        self.dropped += lost;
        lost
    }
}
