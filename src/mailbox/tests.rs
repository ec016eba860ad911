//! The rules of a mailbox, one by one, by plain calls with made-up request ids and times.

mod all_doors;
mod clock;
mod delayed;
mod due;
mod lease_many;
mod leases;
mod limits;
mod once;
mod polling;
mod purge;
mod queue;
mod reading;
mod rpc;
mod selecting;
mod shares;
mod stream;
mod waited;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::test_runner::{Config, RngSeed};

use super::message::Message;
use super::{
    Context, Counts, DeadLetter, Door, HandleId, Mailbox, Memory, Mode, Receive, Rules, Send, Tag, WaitId,
    WhenFull,
};
use crate::accounts::{Accounts, Charge, Resource};
use crate::config::{MAX_READ, MailboxLimits};
use crate::op::{
    Caller, Effect, Effects, Error, Ino, Moment, Now, PollEvents, PollHandle, Poller, Ready, Reply,
    RequestId, Timestamp,
};

/// `cases` histories, the same in each run; or as many other ones as `PROPTEST_CASES` says.
fn config(cases: u32) -> Config {
    let chosen = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if chosen { Config::default().cases } else { cases };
    let rng_seed = if chosen { RngSeed::Random } else { RngSeed::Fixed(1) };
    Config { cases, rng_seed, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() }
}

/// More than any test sends.
const PLENTY: u64 = 1 << 20;

const LIMITS: MailboxLimits = MailboxLimits { msgsize: 64, maxmsg: 3, maxbytes: 100 };

/// The reply to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Bytes(Vec<u8>),
    Written(u32),
    Failed(Error),
    /// None yet.
    Waits,
}

fn dead_letter() -> DeadLetter {
    DeadLetter { mailbox: Ino(9), setter: caller(1) }
}

fn bytes(text: &str) -> Got {
    Got::Bytes(text.as_bytes().to_vec())
}

/// A mailbox, and what a call needs besides.
struct Rig {
    mailbox: Mailbox,
    accounts: Arc<Accounts>,
    memory: Memory,
    /// What another mailbox is charged.
    others: Option<Charge>,
    fx: Effects,
    /// By the clock that is never set.
    now: u64,
    /// By how much the wall clock was set, forward or back.
    set: i64,
    answers: BTreeMap<u64, Got>,
    waits: BTreeMap<u64, WaitId>,
    /// Poll handles that were woken since this was last read.
    woken: Vec<u64>,
    /// The last read, or an earlier one, is to be called again.
    postponed: bool,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(LIMITS, PLENTY)
    }

    fn with(limits: MailboxLimits, memory: u64) -> Rig {
        Rig::with_accounts(limits, Accounts::unshared(memory))
    }

    fn with_accounts(limits: MailboxLimits, accounts: Accounts) -> Rig {
        let accounts = Arc::new(accounts);
        Rig {
            mailbox: Mailbox::new(limits, at(1).time()),
            memory: Memory::new(Arc::clone(&accounts)),
            accounts,
            others: None,
            fx: Effects::new(),
            now: 1,
            set: 0,
            answers: BTreeMap::new(),
            waits: BTreeMap::new(),
            woken: Vec::new(),
            postponed: false,
        }
    }

    fn moment(&self) -> Moment {
        Moment(0).after(self.now)
    }

    fn wall(&self) -> Timestamp {
        Timestamp(at(self.now).wall.0.saturating_add_signed(self.set))
    }

    /// Calls the mailbox and records the effects. The number of a call is its time.
    fn call<T>(&mut self, work: impl FnOnce(&mut Mailbox, &mut Context<'_>) -> T) -> T {
        self.now += 1;
        let now = Now { wall: self.wall(), moment: self.moment() };
        let mut cx = Context { now, memory: &self.memory, fx: &mut self.fx };
        let result = work(&mut self.mailbox, &mut cx);
        self.postponed |= self.fx.take_postponed();
        for effect in self.fx.drain() {
            match effect {
                Effect::Reply(request_id, reply) => {
                    let got = match reply {
                        Reply::Message(slice) => Got::Bytes(slice.as_bytes().to_vec()),
                        Reply::Data(bytes) => Got::Bytes(bytes),
                        Reply::Written(count) => Got::Written(count),
                        Reply::Failed(error) => Got::Failed(error),
                        other => panic!("a mailbox does not reply with: {other:?}"),
                    };
                    let before = self.answers.insert(request_id.unique, got);
                    assert_eq!(before, None, "request {} is answered twice", request_id.unique);
                }
                Effect::Wake(handle) => self.woken.push(handle.0),
                Effect::Deliver(..)
                | Effect::Promise(..)
                | Effect::Engine(_)
                | Effect::InterruptAgain { .. }
                | Effect::InvalidateAttr(_)
                | Effect::Prune(_)
                | Effect::Alarm(_)
                | Effect::TrimHeap
                | Effect::Work
                | Effect::ShareReached { .. } => {
                    panic!("{effect:?}")
                }
            }
        }
        self.check_idle();
        result
    }

    /// No reader waits while there is something for it.
    fn check_idle(&mut self) {
        let waiting: Vec<HandleId> =
            self.mailbox.readers.in_order().iter().map(|reader| reader.call.handle).collect();
        for handle in waiting {
            let ready = self.mailbox.poll(handle, None);
            assert!(!ready.readable, "a reader waits beside a message or a writer: {:?}", self.mailbox);
        }
    }

    fn open(&mut self, mode: Mode) -> HandleId {
        self.enter(Door::Plain, mode)
    }

    fn enter(&mut self, door: Door, mode: Mode) -> HandleId {
        self.enter_as(1000, door, mode)
    }

    fn enter_as(&mut self, uid: u32, door: Door, mode: Mode) -> HandleId {
        let account = self.accounts.of(uid);
        self.call(|mailbox, _| mailbox.open(door, mode, account).0)
    }

    fn close(&mut self, handle: HandleId) {
        self.call(|mailbox, cx| mailbox.close(handle, cx));
    }

    /// A read; its number.
    fn read_at(&mut self, handle: HandleId, offset: u64, size: usize, nonblock: bool) -> u64 {
        let unique = self.now + 1;
        let call = Receive {
            request_id: request_id(unique),
            handle,
            offset,
            size,
            nonblock,
            caller: caller(unique),
        };
        if let Some(id) = self.call(|mailbox, cx| mailbox.receive(call, cx)) {
            self.waits.insert(unique, id);
        }
        unique
    }

    /// The result of a read of up to `size` bytes, on a descriptor without a position or at offset 0.
    fn read(&mut self, handle: HandleId, size: usize) -> Got {
        let call = self.read_at(handle, 0, size, true);
        self.got(call)
    }

    /// The same at `offset`.
    fn read_on(&mut self, handle: HandleId, offset: u64, size: usize) -> Got {
        let call = self.read_at(handle, offset, size, true);
        self.got(call)
    }

    /// The same by a thread that reads in several pieces.
    fn read_by(&mut self, pid: u32, handle: HandleId, offset: u64, size: usize) -> Got {
        let unique = self.now + 1;
        let caller = Caller { pid, ..caller(unique) };
        let call = Receive { request_id: request_id(unique), handle, offset, size, nonblock: true, caller };
        self.call(|mailbox, cx| mailbox.receive(call, cx));
        self.got(unique)
    }

    /// A read of thread `pid` that may wait.
    fn wait_by(&mut self, pid: u32, handle: HandleId, offset: u64) -> u64 {
        let unique = self.now + 1;
        let caller = Caller { pid, ..caller(unique) };
        let request_id = request_id(unique);
        let call = Receive { request_id, handle, offset, size: 64, nonblock: false, caller };
        if let Some(id) = self.call(|mailbox, cx| mailbox.receive(call, cx)) {
            self.waits.insert(unique, id);
        }
        unique
    }

    /// A read that has to wait; its number.
    fn await_message(&mut self, handle: HandleId) -> u64 {
        let call = self.read_at(handle, 0, 64, false);
        assert_eq!(self.got(call), Got::Waits);
        call
    }

    /// A write; its number.
    fn write(&mut self, handle: HandleId, body: &str, nonblock: bool) -> u64 {
        self.write_part(handle, body, nonblock, false)
    }

    fn write_part(&mut self, handle: HandleId, body: &str, nonblock: bool, continues: bool) -> u64 {
        let unique = self.now + 1;
        let (body, request_id, caller) = (body.as_bytes(), request_id(unique), caller(unique));
        let call = Send { request_id, handle, body, continues, nonblock, caller };
        if let Some(id) = self.call(|mailbox, cx| mailbox.send(call, cx)) {
            self.waits.insert(unique, id);
        }
        unique
    }

    /// A write by this user; its number.
    fn write_as(&mut self, uid: u32, handle: HandleId, body: &str) -> u64 {
        let unique = self.now + 1;
        let (request_id, caller) = (request_id(unique), Caller { uid, ..caller(unique) });
        let call =
            Send { request_id, handle, body: body.as_bytes(), continues: false, nonblock: false, caller };
        if let Some(id) = self.call(|mailbox, cx| mailbox.send(call, cx)) {
            self.waits.insert(unique, id);
        }
        unique
    }

    /// The result of a write that may not wait.
    fn send(&mut self, handle: HandleId, body: &str) -> Got {
        let call = self.write(handle, body, true);
        self.got(call)
    }

    /// Sends messages that must be accepted at once.
    fn fill(&mut self, handle: HandleId, bodies: &[&str]) {
        for body in bodies {
            assert_eq!(self.send(handle, body), Got::Written(body.len() as u32));
        }
    }

    /// A write that has to wait; its number.
    fn await_room(&mut self, handle: HandleId, body: &str) -> u64 {
        let call = self.write(handle, body, false);
        assert_eq!(self.got(call), Got::Waits);
        call
    }

    /// The reply to a call. It is returned once.
    fn got(&mut self, call: u64) -> Got {
        self.answers.remove(&call).unwrap_or(Got::Waits)
    }

    /// The reply to a call that is still to be read.
    fn got_yet(&self, call: u64) -> Option<&Got> {
        self.answers.get(&call)
    }

    fn cancel(&mut self, call: u64) -> bool {
        let id = self.waits[&call];
        self.call(|mailbox, cx| mailbox.cancel(id, Error::Interrupted, cx))
    }

    fn remove(&mut self) -> u64 {
        let lost = self.call(Mailbox::remove);
        while self.call(Mailbox::discard) {}
        lost
    }

    fn set_limits(&mut self, limits: MailboxLimits) {
        self.call(|mailbox, cx| mailbox.set_limits(limits, cx));
    }

    fn when_full(&mut self, full: WhenFull) {
        self.rules(|rules| rules.full = full);
    }

    fn rules(&mut self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.mailbox.rules();
        change(&mut rules);
        self.call(|mailbox, cx| mailbox.set_rules(rules, cx));
    }

    /// Time passes, and the timer fires.
    fn tick(&mut self, time: u64) {
        self.now += time;
        self.call(Mailbox::tick);
    }

    fn ready(&mut self, handle: HandleId) -> Ready {
        self.mailbox.poll(handle, None)
    }

    /// A poll that wants to be woken.
    fn arm(&mut self, handle: HandleId, poll: u64) -> Ready {
        self.mailbox.poll(handle, Some(Poller::new(PollHandle(poll))))
    }

    fn woken(&mut self) -> Vec<u64> {
        let mut woken = std::mem::take(&mut self.woken);
        woken.sort_unstable();
        woken
    }

    fn counts(&self) -> Counts {
        self.mailbox.counts()
    }

    /// Another mailbox charges all of the memory, or returns it.
    fn fill_memory(&mut self) {
        self.others_charge(self.memory.limit());
    }

    fn others_charge(&mut self, amount: u64) {
        self.others = None;
        self.others = Some(self.accounts.of(1).charge(Resource::Memory, amount).unwrap());
    }

    fn free_memory(&mut self) {
        self.others = None;
    }

    /// Bytes charged for waiting writers.
    fn held(&self) -> u64 {
        self.accounts.used(Resource::Waiting)
    }
}

impl Clone for Message {
    fn clone(&self) -> Message {
        let Message { id, sent, since, sender, priority, .. } = *self;
        let (body, extra) = (Arc::clone(&self.body), self.extra.clone());
        Message { id, sent, since, sender, priority, body, extra, charge: None }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        (self.id, self.sent, self.since, self.sender, self.priority)
            == (other.id, other.sent, other.since, other.sender, other.priority)
            && (&self.body, &self.extra) == (&other.body, &other.extra)
    }
}

/// What the wall clock shows when the other shows 0.
const WALL: u64 = 1_500_000_000_000_000_000;

/// Both clocks.
fn at(nanos: u64) -> Now {
    Now { wall: Timestamp(WALL + nanos), moment: Moment(0).after(nanos) }
}

fn request_id(unique: u64) -> RequestId {
    RequestId { unique, reply_path: 7, pid: 0 }
}

/// A different process for each call.
fn caller(unique: u64) -> Caller {
    Caller { uid: 1000, gid: 100, pid: unique as u32 }
}
