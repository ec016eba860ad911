//! A topic: every open reader gets its own copy of each message sent since it opened. No I/O, no clock, no lock of
//! its own.
//!
//! A sender never waits, whether anybody reads or not. The messages queued for a reader are limited by `backlog` and
//! by the mount's memory limit. If there is no room, the reader's oldest messages are dropped and counted.
//!
//! Invariant: *while a read waits through an open file, no message is queued for that open file.*

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use crate::accounts::{Account, Charge, Resource};
use crate::framing::Framing;
use crate::mailbox::{Context, HandleId, Memory, Mode, Receive, Send, WaitId, Waiter, charge_in_hand};
use crate::op::{Caller, Error, PollHandle, Ready, Reply, Slice, Timestamp};

/// Limits of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes.
    pub msgsize: u32,
    /// Messages queued for one reader at most, or [`crate::config::NO_LIMIT`].
    pub backlog: u64,
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    limits: Limits,
    handles: Slab<Open>,
    /// The open file of each waiting read.
    waits: BTreeMap<WaitId, HandleId>,
    next_wait: u64,
    counts: Counts,
    removed: bool,
    /// Time of the last send, or set by utimes(2).
    pub last_sent: Timestamp,
    /// Time of the last receive, or set by utimes(2).
    pub last_received: Timestamp,
}

#[derive(Debug)]
struct Open {
    mode: Mode,
    caller: Caller,
    framing: Framing,
    /// Of the user who opened it.
    account: Arc<Account>,
    /// Messages, and what they are charged.
    backlog: VecDeque<(Arc<[u8]>, Charge)>,
    dropped: u64,
    waiting: VecDeque<(WaitId, Receive, Timestamp)>,
    poll: Option<PollHandle>,
    /// A part of a split write was refused, so the next write is refused too, as for a mailbox.
    split_refused: bool,
}

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
    pub fn new(limits: Limits, now: Timestamp) -> Topic {
        Topic {
            limits,
            handles: Slab::new(),
            waits: BTreeMap::new(),
            next_wait: 0,
            counts: Counts::default(),
            removed: false,
            last_sent: now,
            last_received: now,
        }
    }

    /// Opens it. A reader gets the messages sent from now on. Returns true if the reader may seek within a message.
    pub fn open(&mut self, mode: Mode, caller: Caller, account: Arc<Account>) -> (HandleId, bool) {
        let seekable = mode == Mode::Receive;
        let framing = if seekable { Framing::File(None) } else { Framing::Stream(Vec::new()) };
        self.counts.readers += u64::from(mode.reads());
        let open = Open {
            mode,
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
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.reads()) else {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
            return None;
        };
        if open.answer(&call, cx) {
            return None;
        }
        if let Some((body, charge)) = open.backlog.pop_front() {
            if open.backlog.is_empty() && open.backlog.capacity() > 64 {
                open.backlog = VecDeque::new();
            }
            self.counts.backlog -= 1;
            self.counts.received += 1;
            self.last_received = cx.now;
            open.deliver(&call, body, charge, cx);
            return None;
        }
        let error = match (self.removed, call.nonblock) {
            (true, _) => Error::Removed,
            (false, true) => Error::WouldWait,
            (false, false) => {
                self.next_wait += 1;
                let id = WaitId(self.next_wait);
                open.framing.release();
                open.waiting.push_back((id, call, cx.now));
                self.waits.insert(id, call.handle);
                return Some(id);
            }
        };
        cx.fx.fail(call.request_id, error);
        None
    }

    /// A write: the message goes to all open readers. Never waits.
    pub fn send(&mut self, call: Send<'_>, cx: &mut Context<'_>) {
        match self.try_send(call, cx) {
            Ok(()) => cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32)),
            Err(error) => cx.fx.fail(call.request_id, error),
        }
    }

    fn try_send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Result<(), Error> {
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
        if !call.body.is_empty() {
            self.publish(call.body, cx);
        }
        Ok(())
    }

    /// Sends a message to all open readers.
    pub fn publish(&mut self, body: &[u8], cx: &mut Context<'_>) {
        self.counts.sent += 1;
        self.last_sent = cx.now;
        if self.counts.readers == 0 {
            self.counts.unheard += 1;
            return;
        }
        let body: Arc<[u8]> = Arc::from(body);
        for (_, open) in self.handles.iter_mut().filter(|(_, open)| open.mode.reads()) {
            if let Some((id, reader, _)) = open.waiting.front().copied() {
                let Ok(charge) = charge_in_hand(&open.account, Memory::cost(body.len())) else {
                    open.dropped += 1;
                    self.counts.dropped += 1;
                    continue;
                };
                open.waiting.pop_front();
                self.waits.remove(&id);
                self.counts.received += 1;
                self.last_received = cx.now;
                for id in open.deliver(&reader, Arc::clone(&body), charge, cx) {
                    self.waits.remove(&id);
                }
            } else {
                let lost = open.enqueue(Arc::clone(&body), self.limits.backlog);
                self.counts.backlog = self.counts.backlog + 1 - lost;
                self.counts.dropped += lost;
            }
            if let Some(poll) = open.poll.take() {
                cx.fx.wake(poll);
            }
        }
    }

    /// What poll(2) reports. With `arm`, the next change wakes the poller of `handle`.
    pub fn poll(&mut self, handle: HandleId, arm: Option<PollHandle>) -> Ready {
        let removed = self.removed;
        let Some(open) = self.handles.get_mut(handle.0) else {
            return Ready { hangup: true, ..Ready::default() };
        };
        open.poll = arm.or(open.poll);
        Ready {
            readable: open.mode.reads() && (open.framing.ready() || !open.backlog.is_empty()),
            writable: open.mode.writes() && !removed,
            hangup: removed,
        }
    }

    /// Ends a wait with `error`: the caller got a signal, or may not wait any longer. False if it was answered
    /// already.
    pub fn cancel(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) -> bool {
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
        self.waits.clear();
        for (_, open) in &mut self.handles {
            for (_, call, _) in open.waiting.drain(..) {
                cx.fx.fail(call.request_id, Error::Removed);
            }
            if let Some(poll) = open.poll.take() {
                cx.fx.wake(poll);
            }
        }
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

    /// The waiting readers.
    pub fn waiters(&self) -> Vec<Waiter> {
        let waiting = self.handles.iter().flat_map(|(_, open)| &open.waiting);
        let waiter = |(_, call, since): &(WaitId, Receive, Timestamp)| Waiter {
            caller: call.caller,
            writes: false,
            since: *since,
        };
        waiting.map(waiter).collect()
    }
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
        let slice = self.framing.begin(Slice::whole(body), Some(charge), call.piece());
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
