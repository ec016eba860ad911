//! A mailbox and the reference queue get the same operations and must give the same answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipcfs::accounts::{Accounts, Charge, Resource};
use ipcfs::config::MailboxLimits;
use ipcfs::mailbox::{
    Context, Door, HandleId, Mailbox, Memory, Mode, Receive, Rules, Send, WaitId, WhenFull,
};
use ipcfs::op::{Caller, Effect, Effects, Error, Now, PollHandle, Poller, Ready, Reply, RequestId};
use proptest::prelude::*;

use super::config;
use super::reference::{Got, Read, Reference, Write};

/// Bytes of memory: some eight messages.
const MEMORY: u64 = 1700;

#[derive(Debug, Clone)]
enum Step {
    Open(Mode),
    Close(u8),
    Read {
        handle: u8,
        seek: Seek,
        size: usize,
        nonblock: bool,
    },
    Write {
        handle: u8,
        len: usize,
        continues: bool,
        nonblock: bool,
    },
    Poll(u8),
    /// A poll, and at once a read or write of the greatest length that may not wait.
    PollAndRead(u8),
    PollAndWrite(u8),
    Cancel(u8),
    Limits(MailboxLimits),
    Full(WhenFull),
    /// Other mailboxes take or leave memory: so many messages.
    Elsewhere(u64),
    Remove,
}

/// Where a descriptor that may seek reads.
#[derive(Debug, Clone, Copy)]
enum Seek {
    /// Where it is.
    On,
    To(u64),
    Back(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = || prop_oneof![Just(Mode::Receive), Just(Mode::Send), Just(Mode::Both)];
    let full = prop_oneof![Just(WhenFull::Wait), Just(WhenFull::Fail), Just(WhenFull::DropOldest)];
    let seek = prop_oneof![6 => Just(Seek::On), 1 => (0..30_u64).prop_map(Seek::To), 1 => (1..4_u64).prop_map(Seek::Back)];
    let limits = (1..=10_u32, 1..=4_u64, 1..=24_u64).prop_map(|(msgsize, maxmsg, maxbytes)| MailboxLimits {
        msgsize,
        maxmsg,
        maxbytes,
    });
    let index = any::<u8>;
    let step = prop_oneof![
        30 => mode().prop_map(Step::Open),
        10 => index().prop_map(Step::Close),
        120 => (index(), seek, 0..12_usize, any::<bool>())
            .prop_map(|(handle, seek, size, nonblock)| Step::Read { handle, seek, size, nonblock }),
        120 => (index(), 0..12_usize, prop::bool::weighted(0.05), any::<bool>())
            .prop_map(|(handle, len, continues, nonblock)| Step::Write { handle, len, continues, nonblock }),
        40 => index().prop_map(Step::Poll),
        20 => index().prop_map(Step::PollAndRead),
        20 => index().prop_map(Step::PollAndWrite),
        30 => index().prop_map(Step::Cancel),
        15 => limits.prop_map(Step::Limits),
        10 => full.prop_map(Step::Full),
        20 => (0..9_u64).prop_map(Step::Elsewhere),
        1 => Just(Step::Remove),
    ];
    prop::collection::vec(step, 1..120)
}

/// The mailbox, the reference, and what the kernel would know.
struct Pair {
    mailbox: Mailbox,
    accounts: Arc<Accounts>,
    memory: Memory,
    fx: Effects,
    reference: Reference,
    /// The handles opened, by the reference's numbers, with the descriptor's position. `None`: closed.
    handles: Vec<Option<(HandleId, Mode, u64)>>,
    /// Unanswered calls: their wait, and for a read its handle and offset.
    waits: BTreeMap<u64, (WaitId, Option<(usize, u64)>)>,
    /// Armed polls by handle: what the poller was told is ready, and has not learned otherwise since by a call that
    /// would have waited. It is woken when anything else is.
    armed: BTreeMap<usize, Ready>,
    woken: BTreeSet<usize>,
    answers: Vec<(u64, Got)>,
    answered: BTreeSet<u64>,
    starving: bool,
    elsewhere: Vec<Charge>,
    now: u64,
}

impl Pair {
    fn new() -> Pair {
        let limits = MailboxLimits { msgsize: 10, maxmsg: 3, maxbytes: 24 };
        let accounts = Arc::new(Accounts::unshared(MEMORY));
        Pair {
            mailbox: Mailbox::new(limits, Now::same(0).time()),
            memory: Memory::new(Arc::clone(&accounts)),
            accounts,
            fx: Effects::new(),
            reference: Reference::new(limits, MEMORY),
            handles: Vec::new(),
            waits: BTreeMap::new(),
            armed: BTreeMap::new(),
            woken: BTreeSet::new(),
            answers: Vec::new(),
            answered: BTreeSet::new(),
            starving: false,
            elsewhere: Vec::new(),
            now: 0,
        }
    }

    fn perform(&mut self, step: &Step) {
        match step {
            Step::Open(mode) => {
                let id = self.mailbox.open(Door::Plain, *mode, self.accounts.of(1000)).0;
                self.reference.open(*mode);
                self.handles.push(Some((id, *mode, 0)));
            }
            Step::Close(index) => {
                let Some(number) = self.choose(*index) else { return };
                let Some((id, ..)) = self.handles[number] else { return };
                self.call(|mailbox, cx| mailbox.close(id, cx));
                self.reference.close(number);
                self.handles[number] = None;
                self.armed.remove(&number);
            }
            Step::Read { handle, seek, size, nonblock } => {
                let Some(number) = self.choose(*handle) else { return };
                self.read(number, *seek, *size, *nonblock);
            }
            Step::Write { handle, len, continues, nonblock } => {
                let Some(number) = self.choose(*handle) else { return };
                self.write(number, *len, *continues, *nonblock);
            }
            Step::Poll(index) => {
                let Some(number) = self.choose(*index) else { return };
                let Some((id, ..)) = self.handles[number] else { return };
                let ready = self.mailbox.poll(id, Some(Poller::new(PollHandle(number as u64))));
                self.armed.insert(number, ready);
                self.note_starving();
            }
            Step::PollAndRead(index) => {
                let Some(number) = self.choose(*index) else { return };
                let Some((id, mode, _)) = self.handles[number] else { return };
                let ready = self.mailbox.poll(id, None);
                let got = self.read(number, Seek::On, 12, true);
                if mode != Mode::Send {
                    let waits = got == Some(Got::Failed(Error::WouldWait));
                    assert_eq!(
                        waits,
                        !(ready.readable || ready.hangup),
                        "POLLIN said {ready:?}, the read {got:?}"
                    );
                }
            }
            Step::PollAndWrite(index) => {
                let Some(number) = self.choose(*index) else { return };
                let Some((id, mode, _)) = self.handles[number] else { return };
                let ready = self.mailbox.poll(id, None);
                let got = self.write(number, self.reference.longest() as usize, false, true);
                if mode != Mode::Receive && got != Some(Got::Failed(Error::TooLong)) {
                    let waits = got == Some(Got::Failed(Error::WouldWait));
                    assert_eq!(
                        waits,
                        !(ready.writable || ready.hangup),
                        "POLLOUT said {ready:?}, the write {got:?}"
                    );
                }
            }
            Step::Cancel(index) => {
                if self.waits.is_empty() {
                    return;
                }
                let (request_id, (id, _)) =
                    self.waits.iter().nth(usize::from(*index) % self.waits.len()).unwrap();
                let (request_id, id) = (*request_id, *id);
                assert!(self.call(|mailbox, cx| mailbox.cancel(id, Error::Interrupted, cx)));
                self.reference.cancel(request_id);
            }
            Step::Limits(limits) => {
                self.call(|mailbox, cx| mailbox.set_limits(*limits, cx));
                self.reference.limits = *limits;
                self.reference.let_in();
            }
            Step::Full(full) => {
                self.call(|mailbox, cx| mailbox.set_rules(Rules { full: *full, ..mailbox.rules() }, cx));
                self.reference.set_full(*full);
            }
            Step::Elsewhere(messages) => self.elsewhere(*messages as usize),
            Step::Remove => {
                let lost = self.call(Mailbox::remove);
                while self.call(Mailbox::discard) {}
                assert_eq!(lost, self.reference.remove());
            }
        }
    }

    fn choose(&self, index: u8) -> Option<usize> {
        (!self.handles.is_empty()).then(|| usize::from(index) % self.handles.len())
    }

    fn read(&mut self, number: usize, seek: Seek, size: usize, nonblock: bool) -> Option<Got> {
        let (handle, mode, position) = self.handles[number]?;
        let offset = match (mode, seek) {
            (Mode::Both, Seek::To(offset)) => offset,
            (Mode::Both, _) => 0,
            (_, Seek::On) => position,
            (_, Seek::To(offset)) => offset,
            (_, Seek::Back(by)) => position.saturating_sub(by),
        };
        let request_id = self.request_id();
        let call = Receive { request_id, handle, offset, size, nonblock, caller: Caller::default() };
        let id = self.call(|mailbox, cx| mailbox.receive(call, cx));
        self.waits.extend(id.map(|id| (request_id.unique, (id, Some((number, offset))))));
        self.reference.read(Read { request_id: request_id.unique, handle: number, offset, size, nonblock });
        let got = self.answer_to(request_id.unique);
        if let (Some(Got::Bytes(bytes)), Some(open)) = (&got, &mut self.handles[number]) {
            open.2 = offset + bytes.len() as u64;
        }
        // Whoever seeks back makes the descriptor readable himself, and wakes nobody by that.
        if let Some(before) = self.armed.get_mut(&number) {
            before.readable |= self.mailbox.poll(handle, None).readable;
            before.readable &= got != Some(Got::Failed(Error::WouldWait));
        }
        got
    }

    fn write(&mut self, number: usize, len: usize, continues: bool, nonblock: bool) -> Option<Got> {
        let (handle, ..) = self.handles[number]?;
        let request_id = self.request_id();
        // Bytes that tell this message from others, and its parts from each other.
        let body: Vec<u8> = (0..len).map(|at| (request_id.unique * 16 + at as u64) as u8).collect();
        let call = Send { request_id, handle, body: &body, continues, nonblock, caller: Caller::default() };
        let id = self.call(|mailbox, cx| mailbox.send(call, cx));
        self.waits.extend(id.map(|id| (request_id.unique, (id, None))));
        self.reference.write(Write {
            request_id: request_id.unique,
            handle: number,
            body,
            continues,
            nonblock,
        });
        let got = self.answer_to(request_id.unique);
        if let Some(before) = self.armed.get_mut(&number) {
            before.writable &= got != Some(Got::Failed(Error::WouldWait));
        }
        got
    }

    /// Other mailboxes have so many messages now. If they have fewer, whoever starves is told, as the tree does.
    fn elsewhere(&mut self, messages: usize) {
        self.elsewhere.truncate(messages);
        while self.elsewhere.len() < messages
            && let Ok(charge) = self.accounts.of(1).charge(Resource::Memory, Memory::cost(0))
        {
            self.elsewhere.push(charge);
        }
        if std::mem::take(&mut self.starving) {
            self.call(Mailbox::admit_writers);
        }
        self.reference.elsewhere = self.elsewhere.len() as u64 * Memory::cost(0);
        self.reference.let_in();
    }

    fn request_id(&mut self) -> RequestId {
        self.now += 1;
        RequestId { unique: self.now, reply_path: 0, pid: 0 }
    }

    fn answer_to(&self, request_id: u64) -> Option<Got> {
        self.answers.iter().find(|answer| answer.0 == request_id).map(|answer| answer.1.clone())
    }

    fn call<T>(&mut self, work: impl FnOnce(&mut Mailbox, &mut Context<'_>) -> T) -> T {
        let mut cx = Context { now: Now::same(self.now), memory: &self.memory, fx: &mut self.fx };
        let result = work(&mut self.mailbox, &mut cx);
        for effect in self.fx.drain() {
            match effect {
                Effect::Reply(request_id, reply) => {
                    assert!(
                        self.answered.insert(request_id.unique),
                        "{request_id:?} is answered twice: {reply:?}"
                    );
                    let got = match reply {
                        Reply::Message(slice) => Got::Bytes(slice.as_bytes().to_vec()),
                        Reply::Written(count) => Got::Written(count as usize),
                        Reply::Failed(error) => Got::Failed(error),
                        other => panic!("no answer of a mailbox's: {other:?}"),
                    };
                    if let (Got::Bytes(bytes), Some((_, Some((handle, offset))))) =
                        (&got, self.waits.remove(&request_id.unique))
                        && let Some(open) = &mut self.handles[handle]
                    {
                        open.2 = offset + bytes.len() as u64;
                    }
                    self.answers.push((request_id.unique, got));
                }
                Effect::Wake(handle) => {
                    self.woken.insert(handle.0 as usize);
                }
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
        self.note_starving();
        result
    }

    fn note_starving(&mut self) {
        self.starving |= self.mailbox.blocked_by_memory();
    }

    /// What must hold after every operation.
    fn check(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        answers.sort_by_key(|answer| answer.0);
        assert_eq!(answers, self.reference.answers(), "mailbox on the left, reference on the right");

        let counts = self.mailbox.counts();
        assert_eq!((counts.depth, counts.bytes), self.reference.depth());
        assert_eq!((counts.waiting_readers, counts.waiting_writers), self.reference.waiting());
        let reference = (self.reference.sent, self.reference.received, self.reference.dropped);
        assert_eq!((counts.sent, counts.received, counts.dropped), reference);
        assert_eq!(self.memory.used(), self.reference.used() + self.reference.elsewhere);
        assert_eq!(counts.waiting_readers + counts.waiting_writers, self.waits.len() as u64);
        assert_eq!(self.mailbox.waiters().len(), self.waits.len());
        assert!(
            counts.waiting_readers == 0 || (counts.depth == 0 && counts.waiting_writers == 0),
            "{counts:?}"
        );

        for woken in std::mem::take(&mut self.woken) {
            self.armed.remove(&woken);
        }
        for (number, told) in &self.armed {
            let Some((id, ..)) = self.handles[*number] else { continue };
            let ready = self.mailbox.poll(id, None);
            let news = (ready.readable && !told.readable)
                || (ready.writable && !told.writable)
                || (ready.hangup && !told.hangup);
            assert!(!news, "handle {number} polls and was not woken: {told:?}, now {ready:?}");
        }
    }

    /// Everything is ended, read and closed: nothing is left, and everyone was answered.
    fn finish(mut self) {
        // The end of a mount wakes nobody who polls: the kernel does.
        self.armed.clear();
        self.call(|mailbox, cx| mailbox.end_waits(Error::Ending, cx));
        self.reference.fail_all(Error::Ending);
        self.check();
        self.elsewhere(0);
        self.check();
        for number in 0..self.handles.len() {
            self.perform(&Step::Open(Mode::Both));
            self.read(self.handles.len() - 1, Seek::On, 12, true);
            self.check();
            if let Some((id, ..)) = self.handles[number].take() {
                self.call(|mailbox, cx| mailbox.close(id, cx));
                self.reference.close(number);
            }
        }
        let depth = self.mailbox.counts().depth;
        assert_eq!(self.call(Mailbox::remove), depth);
        while self.call(Mailbox::discard) {}
        assert!(self.waits.is_empty(), "never answered: {:?}", self.waits);
        assert_eq!(self.answered, (1..=self.now).collect(), "every call is answered");
        assert_eq!(self.memory.used(), 0);
        assert_eq!(self.accounts.used(Resource::Waiting), 0);
    }
}

proptest! {
    #![proptest_config(config(8000))]

    #[test]
    fn a_mailbox_does_what_a_queue_of_vectors_does(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.perform(step);
            pair.check();
        }
        pair.finish();
    }
}
