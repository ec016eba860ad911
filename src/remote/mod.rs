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
//! Questions, which only servers receive, come as messages do (`intake.rs`); their replies do not wait in the mailbox (`rpc.rs`).

mod intake;
mod lines;
mod peek;
mod poll;
mod receive;
mod rpc;
mod send;
#[cfg(test)]
mod tests;
mod writers;

use std::collections::BTreeMap;
use std::sync::Arc;

use slab::Slab;

use crate::accounts::{Account, Charge};
use crate::engine::{About, Command, DeliveryId, Described, Path, Settle};
use crate::framing::{Framing, Single};
use crate::mailbox::{Context, Door, HandleId, Mode, Properties, Receive, WaitId, Waiter};
use crate::op::{Effect, Error, FileTime, Ino, Moment, Now, Poller};
use intake::Intake;
use receive::ALL;
use writers::{Line, Writer};

/// The mailbox.
#[derive(Debug)]
pub struct Remote {
    ino: Ino,
    path: Path,
    described: Described,
    handles: Slab<Open>,
    messages: Intake,
    questions: Intake,
    /// Those that only look.
    peekers: BTreeMap<WaitId, (Receive, Moment)>,
    /// Those that wait for the reply to a question.
    clients: BTreeMap<WaitId, (Receive, Moment)>,
    /// Questions without a reply, and the open files through which they were asked. The engine keeps their bytes, which are charged.
    outstanding: BTreeMap<WaitId, (HandleId, Charge)>,
    /// Writes that the engine has, and those that settle a lease.
    writers: BTreeMap<WaitId, Writer>,
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
    /// Questions without a reply that were asked here.
    pub requests: u64,
    /// Questions that servers here have in hand.
    pub serving: u64,
    /// Questions to which servers here have replied.
    pub replied: u64,
}

#[derive(Debug)]
struct Open {
    mode: Mode,
    shows: Shows,
    framing: Framing,
    lease: Lease,
    /// What it leases are questions, and what is written are their replies.
    serves: bool,
    /// Opened through `rpc`.
    asks: Option<Asks>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// Opened through another door.
    No,
    None,
    Of(DeliveryId),
    /// `ack`, `nack` or a reply is under way.
    Settling,
}

/// How far the question of an open file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// It has asked nothing, or has the reply.
    Nothing,
    /// The engine has been told to send it.
    Asking(WaitId),
    Asked(WaitId),
}

impl Remote {
    /// A mailbox without open files.
    pub fn new(ino: Ino, path: Path, described: Described, connected: bool, now: Now) -> Remote {
        Remote {
            ino,
            path,
            described,
            handles: Slab::new(),
            messages: Intake::default(),
            questions: Intake::default(),
            peekers: BTreeMap::new(),
            clients: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            writers: BTreeMap::new(),
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
        let serves = |open: &Open| open.serves && open.lease != Lease::None;
        let serving = self.handles.iter().filter(|(_, open)| serves(open)).count() as u64;
        Counts { requests: self.outstanding.len() as u64, serving, ..self.counts }
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
            Door::Lease | Door::Serve => (Lease::None, None),
            Door::Stream | Door::Whole => (Lease::No, Some(Line::default())),
            _ => (Lease::No, None),
        };
        let framing = match door {
            Door::Lease | Door::Serve | Door::Rpc => Framing::Single(Single::Idle),
            _ if seekable => Framing::File(None),
            _ => Framing::Stream(Vec::new()),
        };
        let (properties, whole) = (door.properties(), *door == Door::Whole);
        let open = Open {
            mode,
            shows,
            framing,
            lease,
            serves: *door == Door::Serve,
            asks: (*door == Door::Rpc).then_some(Asks::Nothing),
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
        let wanted = open.wanted();
        for call in self.intake(wanted).take_readers_at(handle) {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
        }
        self.end_peeks(|call| call.handle == handle, Error::BadDescriptor, cx);
        self.forget_questions(|other| other == handle, Error::BadDescriptor, cx);
        if !self.handles.iter().any(|(_, open)| open.takes() && open.wanted() == wanted) {
            self.drop_held(wanted, cx);
        }
        self.balance(wanted, cx);
    }

    /// There is a connection to the engine, or none.
    pub fn connection(&mut self, connected: bool, cx: &mut Context<'_>) {
        self.connected = connected;
        if connected {
            return;
        }
        self.end_looks(cx);
        self.end_peeks(|call| call.nonblock, Error::WouldWait, cx);
        self.wake(cx);
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

    /// Ends a wait with `error`. Of a write that the engine has, the engine decides.
    pub fn cancel(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) {
        if let Some(writer) = self.writers.get(&id) {
            if error == Error::Ending {
                writer.request.into_iter().for_each(|request| cx.fx.fail(request, error));
                self.writers.remove(&id);
            } else {
                command(Command::Withdraw(self.ino, id.0), cx);
            }
        } else if self.peekers.contains_key(&id) {
            self.end_peek(id, error, cx);
        } else if let Some((call, _)) = self.clients.remove(&id) {
            cx.fx.fail(call.request_id, error);
        } else {
            for wanted in ALL {
                if let Some(call) = self.intake(wanted).take_reader(id) {
                    cx.fx.fail(call.request_id, error);
                    self.balance(wanted, cx);
                } else if let Some(request) = self.intake(wanted).take_poller(id) {
                    cx.fx.fail(request, error);
                }
            }
        }
    }

    /// The name was removed: all waits fail, except those that the engine decides.
    pub fn remove(&mut self, cx: &mut Context<'_>) {
        self.removed = true;
        for wanted in ALL {
            self.drop_held(wanted, cx);
            for (_, call, _) in std::mem::take(&mut self.intake(wanted).readers) {
                cx.fx.fail(call.request_id, Error::Removed);
            }
        }
        self.forget_questions(|_| true, Error::Removed, cx);
        self.end_peeks(|_| true, Error::Removed, cx);
        for (_, writer) in std::mem::take(&mut self.writers) {
            writer.request.into_iter().for_each(|request| cx.fx.fail(request, Error::Removed));
        }
        for wanted in ALL {
            self.answer_pollers(wanted, |_| true, cx);
        }
        self.wake(cx);
        for wanted in ALL {
            self.balance(wanted, cx);
        }
    }

    /// Callers that wait.
    pub fn waiters(&self) -> Vec<Waiter> {
        let writers = self.writers.values().map(|writer| Waiter {
            caller: writer.caller,
            writes: true,
            since: writer.since,
        });
        self.waiting_readers().into_iter().chain(writers).collect()
    }

    fn give_back(&mut self, delivery: DeliveryId, cx: &mut Context<'_>) {
        self.counts.returned += 1;
        command(Command::Settle(delivery, Settle::Nack, None), cx);
    }

    /// A number that no other call has.
    pub(crate) fn next_wait(&mut self) -> WaitId {
        self.next += 1;
        WaitId(self.next)
    }
}

impl Open {
    /// The message in hand is settled, or the question replied to.
    fn end_lease(&mut self) {
        self.lease = Lease::None;
        self.in_hand = None;
        self.framing.clear();
    }
}

fn command(command: Command, cx: &mut Context<'_>) {
    cx.fx.push(Effect::Engine(Box::new(command)));
}
