//! A mailbox whose messages an engine keeps for several hosts. No I/O, no clock, no lock of its own: what it wants of the
//! engine are effects, and what the engine reports is input.
//!
//! ```text
//!            Publish                  Published
//!   write ───────────▶ in flight ─────────────────▶ answered
//!
//!            Pull                     Message: the oldest waiting reader gets it
//!   read ────────────▶ waiting ───────────────────▶ answered, acknowledged once the kernel has the answer
//! ```
//!
//! There are never more pulls than readers that wait and open files that are polled, so that no message is kept from other
//! hosts without need. A message that comes after its reader has left goes to the next one here, or back at once.
//!
//! Invariant: *while a reader waits, no message is held.*

mod lines;
mod peek;
mod send;
#[cfg(test)]
mod tests;
mod writers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use slab::Slab;

use crate::accounts::{Account, Charge};
use crate::engine::{About, Command, DeliveryId, Described, Message, Path, Settle};
use crate::framing::{Framing, Single};
use crate::mailbox::{
    Context, Door, Facts, HandleId, Memory, Mode, Properties, Receive, WaitId, Waiter, charge_in_hand,
    write_facts,
};
use crate::op::{Effect, Error, FileTime, Ino, Moment, Now, Poller, Ready, Reply, RequestId, Slice, Taken};
use writers::{Line, Writer};

/// How long a message is kept for a reader that was told of it by poll(2), of the time after which the engine gives it to another.
const HOLD: (u32, u32) = (2, 3);

/// The mailbox.
#[derive(Debug)]
pub struct Remote {
    ino: Ino,
    path: Path,
    described: Described,
    handles: Slab<Open>,
    readers: VecDeque<(WaitId, Receive, Moment)>,
    /// Those that only look.
    peekers: BTreeMap<WaitId, (Receive, Moment)>,
    pollers: VecDeque<(WaitId, HandleId, RequestId)>,
    /// Writes that the engine has, and those that settle a lease.
    writers: BTreeMap<WaitId, Writer>,
    /// Pulls that wait, and those that do not, with the read or poll each is for.
    pulls: BTreeSet<u64>,
    looks: BTreeMap<u64, WaitId>,
    /// For readers that were told of it by poll(2).
    held: Option<Held>,
    next: u64,
    connected: bool,
    removed: bool,
    /// Messages that waited as the last one was received here.
    waiting: u64,
    /// Messages that were sent and received here.
    counts: Counts,
    /// Time of the last send here, or set by utimes(2).
    pub last_sent: FileTime,
    /// Time of the last receive here, or set by utimes(2).
    pub last_received: FileTime,
}

/// Counters of this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub sent: u64,
    pub received: u64,
    pub leased: u64,
    pub returned: u64,
    pub dead_lettered: u64,
    pub dropped: u64,
    pub removed: u64,
    pub moved_in: u64,
    pub moved_out: u64,
    /// Writes with a key that was known: nothing was sent.
    pub duplicates: u64,
}

#[derive(Debug)]
struct Open {
    mode: Mode,
    shows: Shows,
    framing: Framing,
    lease: Lease,
    /// What is known of the message that it has leased, and how often that was handed over before.
    in_hand: Option<Box<(About, u32)>>,
    /// What its messages get.
    properties: Properties,
    /// Opened through `stream` or `whole`: the beginning of a line or of the one message.
    line: Option<Line>,
    /// All that is written is one message.
    whole: bool,
    account: Arc<Account>,
    poll: Option<Poller>,
    /// A part of a split write was refused, so the next write is refused too.
    split_refused: bool,
}

/// How a message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Body,
    /// As a JSON object on a line.
    Json,
    /// It stays.
    Peek,
}

/// A message that no reader has yet.
#[derive(Debug)]
struct Held {
    message: Message,
    since: Moment,
    /// Its bytes are charged to one who polls.
    _charge: Charge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// Opened through another door.
    No,
    None,
    Of(DeliveryId),
    /// `ack` or `nack` is under way.
    Settling,
}

impl Remote {
    /// A mailbox without open files.
    pub fn new(ino: Ino, path: Path, described: Described, connected: bool, now: Now) -> Remote {
        Remote {
            ino,
            path,
            described,
            handles: Slab::new(),
            readers: VecDeque::new(),
            peekers: BTreeMap::new(),
            pollers: VecDeque::new(),
            writers: BTreeMap::new(),
            pulls: BTreeSet::new(),
            looks: BTreeMap::new(),
            held: None,
            next: 0,
            connected,
            removed: false,
            waiting: 0,
            counts: Counts::default(),
            last_sent: now.time(),
            last_received: now.time(),
        }
    }

    /// Its path, by which the engine knows it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What all hosts know of it.
    pub fn described(&self) -> &Described {
        &self.described
    }

    /// Counters of this mount.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Its name is gone.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Messages that waited as the last one was received here.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Opens it through a door, or plainly. Returns true if the reader may seek within a message.
    pub fn open(&mut self, mode: Mode, door: &Door, account: Arc<Account>) -> (HandleId, bool) {
        let seekable = mode == Mode::Receive && matches!(door, Door::Plain | Door::Peek);
        let shows = match door {
            Door::Json => Shows::Json,
            Door::Peek => Shows::Peek,
            _ => Shows::Body,
        };
        let (lease, line) = match door {
            Door::Lease => (Lease::None, None),
            Door::Stream | Door::Whole => (Lease::No, Some(Line::default())),
            _ => (Lease::No, None),
        };
        let framing = match (lease, seekable) {
            (Lease::None, _) => Framing::Single(Single::Idle),
            (_, true) => Framing::File(None),
            (_, false) => Framing::Stream(Vec::new()),
        };
        let (properties, whole) = (door.properties(), *door == Door::Whole);
        let open = Open {
            mode,
            shows,
            framing,
            lease,
            in_hand: None,
            properties,
            line,
            whole,
            account,
            poll: None,
            split_refused: false,
        };
        (HandleId(self.handles.insert(open)), seekable)
    }

    /// Closes an open file. A message that it has leased goes back at once, and a line that was begun is sent.
    pub fn close(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        let Some(mut open) = self.handles.try_remove(handle.0) else { return };
        self.send_last_line(&mut open, cx);
        if let Lease::Of(delivery) = open.lease {
            self.give_back(delivery, cx);
        }
        for (id, call, since) in std::mem::take(&mut self.readers) {
            if call.handle == handle {
                self.looks.retain(|_, look| *look != id);
                cx.fx.fail(call.request_id, Error::BadDescriptor);
            } else {
                self.readers.push_back((id, call, since));
            }
        }
        self.end_peeks(|call| call.handle == handle, Error::BadDescriptor, cx);
        let others = self.handles.iter().any(|(_, open)| open.takes());
        if let Some(held) = self.held.take_if(|_| !others) {
            self.give_back(held.message.delivery, cx);
        }
        self.balance(cx);
    }

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
        let peeks = open.shows == Shows::Peek;
        if !peeks && let Some(message) = self.take_held(cx) {
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
        self.readers.push_back((id, call, cx.now.moment));
        if call.nonblock {
            self.look(id, cx);
        } else {
            self.balance(cx);
        }
        Some(id)
    }

    /// A pull has got a message.
    pub fn arrived(&mut self, pull: u64, message: Message, cx: &mut Context<'_>) {
        self.pulls.remove(&pull);
        let looker = self.looks.remove(&pull);
        if self.removed {
            return self.give_back(message.delivery, cx);
        }
        if self.readers.is_empty() && self.held.is_none() {
            let cost = Memory::cost(message.body.len());
            let payer = self.polling().map(|open| charge_in_hand(&open.account, cost));
            if let Some(Ok(charge)) = payer {
                self.held = Some(Held { message, since: cx.now.moment, _charge: charge });
                self.answer_pollers(|_| true, cx);
                self.wake(cx);
                return;
            }
        }
        // The one that it was looked for, or else the one that has waited longest.
        let at = self.readers.iter().position(|(id, ..)| Some(*id) == looker).unwrap_or(0);
        match self.readers.remove(at) {
            Some((id, call, _)) => {
                self.looks.retain(|_, look| *look != id);
                self.deliver(&call, message, cx);
            }
            None => self.give_back(message.delivery, cx),
        }
        self.answer_pollers(|id| Some(id) == looker, cx);
        self.balance(cx);
    }

    /// A pull ended without a message.
    pub fn nothing(&mut self, pull: u64, cx: &mut Context<'_>) {
        self.pulls.remove(&pull);
        if let Some(id) = self.looks.remove(&pull) {
            if let Some(at) = self.readers.iter().position(|(reader, ..)| *reader == id)
                && let Some((_, call, _)) = self.readers.remove(at)
            {
                cx.fx.fail(call.request_id, Error::WouldWait);
            }
            self.answer_pollers(|poller| poller == id, cx);
        }
        self.balance(cx);
    }

    /// There is a connection to the engine, or none.
    pub fn connection(&mut self, connected: bool, cx: &mut Context<'_>) {
        self.connected = connected;
        if connected {
            return;
        }
        // What must not wait cannot learn now whether there is a message.
        for (_, id) in std::mem::take(&mut self.looks) {
            if let Some(at) = self.readers.iter().position(|(reader, ..)| *reader == id)
                && let Some((_, call, _)) = self.readers.remove(at)
            {
                cx.fx.fail(call.request_id, Error::WouldWait);
            }
        }
        self.end_peeks(|call| call.nonblock, Error::WouldWait, cx);
        self.answer_pollers(|_| true, cx);
        self.wake(cx);
        self.balance(cx);
    }

    /// The engine has given up a message.
    pub fn died(&mut self, is_kept: bool) {
        if is_kept {
            self.counts.dead_lettered += 1;
        } else {
            self.counts.dropped += 1;
        }
    }

    /// A message was removed, or moved from here or to here, by its number.
    pub fn count(&mut self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.counts);
    }

    /// What is known of the message that an open file has leased, and how often that was handed over before.
    pub fn in_hand(&self, handle: HandleId) -> Option<&(About, u32)> {
        self.handles.get(handle.0)?.in_hand.as_deref()
    }

    /// Some host has changed what is known of it.
    pub fn describe(&mut self, described: Described) {
        self.described = described;
    }

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
        let reads = open.takes() && arm.is_none_or(|poller| poller.events.input);
        let ready = self.ready(handle, cx);
        if ready.readable || !reads || self.removed || !self.connected {
            return Ok(ready);
        }
        if arm.is_some() {
            self.balance(cx);
            return Ok(ready);
        }
        let id = self.next_wait();
        self.pollers.push_back((id, handle, request));
        self.look(id, cx);
        Err(id)
    }

    fn ready(&mut self, handle: HandleId, cx: &mut Context<'_>) -> Ready {
        self.drop_stale(cx);
        let Some(open) = self.handles.get(handle.0) else { return Ready::default() };
        Ready {
            // Only a read finds out what there is to look at.
            readable: open.shows == Shows::Peek
                || (open.mode.reads() && (open.framing.ready() || self.held.is_some())),
            writable: open.mode.writes() && !self.removed && self.connected,
            hangup: self.removed,
        }
    }

    fn answer_pollers(&mut self, which: impl Fn(WaitId) -> bool, cx: &mut Context<'_>) {
        for (id, handle, request) in std::mem::take(&mut self.pollers) {
            if !which(id) {
                self.pollers.push_back((id, handle, request));
                continue;
            }
            let ready = self.ready(handle, cx);
            cx.fx.reply(request, Reply::Ready(ready));
        }
    }

    fn wake(&mut self, cx: &mut Context<'_>) {
        for (_, open) in &mut self.handles {
            if let Some(poll) = open.poll.take() {
                cx.fx.wake(poll.handle);
            }
        }
    }

    /// An open file for which somebody polls for messages.
    fn polling(&self) -> Option<&Open> {
        let polls = |open: &Open| open.takes() && open.poll.is_some_and(|poller| poller.events.input);
        let asks = self.pollers.iter().find_map(|(_, handle, _)| self.handles.get(handle.0));
        asks.or_else(|| self.handles.iter().map(|(_, open)| open).find(|open| polls(open)))
    }

    /// Ends a wait with `error`. Of a write that the engine has, the engine decides.
    pub fn cancel(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) {
        if let Some(writer) = self.writers.get(&id) {
            if error == Error::Ending {
                writer.request.into_iter().for_each(|request| cx.fx.fail(request, error));
                self.writers.remove(&id);
            } else {
                command(Command::Withdraw(self.ino, id.0), cx);
            }
        } else if let Some(at) = self.readers.iter().position(|(reader, ..)| *reader == id) {
            if let Some((_, call, _)) = self.readers.remove(at) {
                cx.fx.fail(call.request_id, error);
            }
            self.balance(cx);
        } else if self.peekers.contains_key(&id) {
            self.end_peek(id, error, cx);
        } else if let Some(at) = self.pollers.iter().position(|(poller, ..)| *poller == id)
            && let Some((.., request)) = self.pollers.remove(at)
        {
            cx.fx.fail(request, error);
        }
    }

    /// The name was removed: all waits fail, except those that the engine decides.
    pub fn remove(&mut self, cx: &mut Context<'_>) {
        self.removed = true;
        if let Some(held) = self.held.take() {
            self.give_back(held.message.delivery, cx);
        }
        for (_, call, _) in std::mem::take(&mut self.readers) {
            cx.fx.fail(call.request_id, Error::Removed);
        }
        self.end_peeks(|_| true, Error::Removed, cx);
        for (_, writer) in std::mem::take(&mut self.writers) {
            writer.request.into_iter().for_each(|request| cx.fx.fail(request, Error::Removed));
        }
        self.answer_pollers(|_| true, cx);
        self.wake(cx);
        self.balance(cx);
    }

    /// Callers that wait.
    pub fn waiters(&self) -> Vec<Waiter> {
        let peekers = self.peekers.values().map(|(call, since)| (call, since));
        let readers = self.readers.iter().map(|(_, call, since)| (call, since)).chain(peekers);
        let readers =
            readers.map(|(call, since)| Waiter { caller: call.caller, writes: false, since: *since });
        let writers = self.writers.values().map(|writer| Waiter {
            caller: writer.caller,
            writes: true,
            since: writer.since,
        });
        readers.chain(writers).collect()
    }

    fn deliver(&mut self, call: &Receive, message: Message, cx: &mut Context<'_>) {
        let Message { delivery, about, deliveries, body, waiting } = message;
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
        self.waiting = waiting;
        if open.lease == Lease::No {
            self.counts.received += 1;
            let taken = Taken::Delivery(delivery);
            cx.fx.deliver(call.request_id, Reply::Message(part), vec![taken]);
        } else {
            self.counts.leased += 1;
            open.lease = Lease::Of(delivery);
            open.in_hand = Some(Box::new((about, deliveries)));
            command(Command::Keep(delivery), cx);
            cx.fx.reply(call.request_id, Reply::Message(part));
        }
    }

    fn give_back(&mut self, delivery: DeliveryId, cx: &mut Context<'_>) {
        self.counts.returned += 1;
        command(Command::Settle(delivery, Settle::Nack, None), cx);
    }

    fn take_held(&mut self, cx: &mut Context<'_>) -> Option<Message> {
        self.drop_stale(cx);
        self.held.take().map(|held| held.message)
    }

    /// A message that nobody has read for long is another reader's.
    fn drop_stale(&mut self, cx: &mut Context<'_>) {
        let (now, hold) = (cx.now.moment, (self.described.silence() * HOLD.0 / HOLD.1).as_nanos());
        if let Some(held) = self.held.take_if(|held| u128::from(now.since(held.since)) > hold) {
            self.give_back(held.message.delivery, cx);
        }
    }

    /// As many pulls as there are readers, and one if somebody polls.
    fn balance(&mut self, cx: &mut Context<'_>) {
        let polled = usize::from(self.held.is_none() && self.polling().is_some());
        // For the others, it is looked whether there is a message.
        let waiting = self.readers.iter().filter(|(_, call, _)| !call.nonblock).count();
        let wanted = if self.removed { 0 } else { waiting + polled };
        while self.pulls.len() < wanted {
            let pull = self.next_wait().0;
            self.pulls.insert(pull);
            self.pull(pull, true, cx);
        }
        while self.pulls.len() > wanted {
            let Some(pull) = self.pulls.pop_last() else { break };
            command(Command::EndPull(self.ino, pull), cx);
        }
    }

    /// Asks for a message without waiting, for the call `id`.
    fn look(&mut self, id: WaitId, cx: &mut Context<'_>) {
        let pull = self.next_wait().0;
        self.looks.insert(pull, id);
        self.pull(pull, false, cx);
    }

    fn pull(&self, pull: u64, wait: bool, cx: &mut Context<'_>) {
        command(Command::Pull { mailbox: self.ino, path: Arc::clone(&self.path), pull, wait }, cx);
    }

    /// A number that no other call has.
    pub(crate) fn next_wait(&mut self) -> WaitId {
        self.next += 1;
        WaitId(self.next)
    }
}

impl Open {
    /// A read through it receives a message.
    fn takes(&self) -> bool {
        self.mode.reads() && self.shows != Shows::Peek
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

fn command(command: Command, cx: &mut Context<'_>) {
    cx.fx.push(Effect::Engine(Box::new(command)));
}
