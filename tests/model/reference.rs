//! The reference queue: the rules of a mailbox, written as plainly as they are told.

use ipcfs::config::MailboxLimits;
use ipcfs::mailbox::{Memory, Mode, WhenFull};
use ipcfs::op::Error;

/// What a call was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Bytes(Vec<u8>),
    Written(usize),
    Failed(Error),
}

/// One READ.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub request_id: u64,
    pub handle: usize,
    pub offset: u64,
    pub size: usize,
    pub nonblock: bool,
}

/// One WRITE.
#[derive(Debug, Clone)]
pub struct Write {
    pub request_id: u64,
    pub handle: usize,
    pub body: Vec<u8>,
    pub continues: bool,
    pub nonblock: bool,
}

#[derive(Debug)]
struct Open {
    mode: Mode,
    /// The message in hand, and where it stands: for a reader the offset at which it begins and whether its end was
    /// told, for a stream what is left of it.
    hand: Option<Hand>,
    /// What that message costs, and of which memory: it stays charged while any of its bytes are kept.
    cost: Cost,
    /// A part of a cut write was refused: so is the next write.
    cut: bool,
}

/// Of the memory of messages, and of what writers may wait with.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    queued: u64,
    waiting: u64,
}

#[derive(Debug)]
enum Hand {
    File {
        body: Vec<u8>,
        base: u64,
        told: bool,
    },
    /// And the offset of the next piece of the read(2) that got the part before.
    Rest(Vec<u8>, u64),
}

/// A mailbox, the slow way. Handles are numbered as they were opened.
#[derive(Debug)]
pub struct Reference {
    pub limits: MailboxLimits,
    pub full: WhenFull,
    /// Bytes that memory has, and how many of them other mailboxes take.
    pub memory: u64,
    pub elsewhere: u64,
    queue: Vec<Vec<u8>>,
    readers: Vec<Read>,
    writers: Vec<Write>,
    opens: Vec<Option<Open>>,
    removed: bool,
    pub sent: u64,
    pub received: u64,
    pub dropped: u64,
    /// Answers of the operation in hand.
    answers: Vec<(u64, Got)>,
}

impl Reference {
    pub fn new(limits: MailboxLimits, memory: u64) -> Reference {
        Reference {
            limits,
            full: WhenFull::Wait,
            memory,
            elsewhere: 0,
            queue: Vec::new(),
            readers: Vec::new(),
            writers: Vec::new(),
            opens: Vec::new(),
            removed: false,
            sent: 0,
            received: 0,
            dropped: 0,
            answers: Vec::new(),
        }
    }

    /// What the last operation answered, by `request_id`.
    pub fn answers(&mut self) -> Vec<(u64, Got)> {
        let mut answers = std::mem::take(&mut self.answers);
        answers.sort_by_key(|answer| answer.0);
        answers
    }

    pub fn depth(&self) -> (u64, u64) {
        (self.queue.len() as u64, self.queue.iter().map(|body| body.len() as u64).sum())
    }

    pub fn waiting(&self) -> (u64, u64) {
        (self.readers.len() as u64, self.writers.len() as u64)
    }

    /// Memory taken by the queue, and by messages in hand.
    pub fn used(&self) -> u64 {
        self.queue.iter().map(|body| Memory::cost(body.len())).sum::<u64>() + self.in_hand().queued
    }

    fn in_hand(&self) -> Cost {
        let mut sum = Cost::default();
        for open in self.opens.iter().flatten().filter(|open| open.hand.is_some()) {
            sum.queued += open.cost.queued;
            sum.waiting += open.cost.waiting;
        }
        sum
    }

    /// The longest message that is ever taken.
    pub fn longest(&self) -> u64 {
        u64::from(self.limits.msgsize).min(self.limits.maxbytes)
    }

    pub fn open(&mut self, mode: Mode) {
        self.opens.push(Some(Open { mode, hand: None, cost: Cost::default(), cut: false }));
    }

    pub fn close(&mut self, handle: usize) {
        for reader in self.readers.extract_if(.., |reader| reader.handle == handle) {
            self.answers.push((reader.request_id, Got::Failed(Error::BadDescriptor)));
        }
        self.opens[handle] = None;
        self.let_in();
    }

    pub fn read(&mut self, read: Read) {
        let usable = self.opens[read.handle].as_ref().is_some_and(|open| open.mode != Mode::Send);
        if !usable {
            return self.answer(read.request_id, Got::Failed(Error::BadDescriptor));
        }
        if let Some(got) = self.take_in_hand(read) {
            self.answer(read.request_id, got);
            return self.let_in();
        }
        if self.removed {
            return self.answer(read.request_id, Got::Failed(Error::Removed));
        }
        if !self.queue.is_empty() {
            let body = self.queue.remove(0);
            let cost = Cost { queued: Memory::cost(body.len()), waiting: 0 };
            self.deliver(read, body, cost);
        } else if !self.writers.is_empty() {
            let writer = self.writers.remove(0);
            self.answer(writer.request_id, Got::Written(writer.body.len()));
            self.sent += 1;
            let cost = Cost { queued: 0, waiting: Memory::cost(writer.body.len()) };
            self.deliver(read, writer.body, cost);
        } else if read.nonblock {
            self.answer(read.request_id, Got::Failed(Error::WouldWait));
        } else {
            // Who waits for the next message is done with this one.
            let open = self.opens[read.handle].as_mut().unwrap();
            if let Some(Hand::File { body, base, .. }) = &mut open.hand {
                *base += std::mem::take(body).len() as u64;
            }
            open.cost = Cost::default();
            self.readers.push(read);
        }
        self.let_in();
    }

    pub fn write(&mut self, write: Write) {
        let Some(open) = self.opens[write.handle].as_mut().filter(|open| open.mode != Mode::Receive) else {
            return self.answer(write.request_id, Got::Failed(Error::BadDescriptor));
        };
        let was_cut = std::mem::replace(&mut open.cut, write.continues);
        let len = write.body.len();
        let error = if write.continues || was_cut {
            Error::TooLong
        } else if self.removed {
            Error::Removed
        } else if len as u64 > self.longest() {
            Error::TooLong
        } else if len == 0 {
            return self.answer(write.request_id, Got::Written(0));
        } else if self.writers.is_empty() && self.make_room(len) {
            self.answer(write.request_id, Got::Written(len));
            return self.accept(write.body);
        } else if self.full != WhenFull::Wait {
            Error::NoSpace
        } else if write.nonblock {
            Error::WouldWait
        } else if self.held() + Memory::cost(len) > self.memory {
            Error::NoMemory
        } else {
            return self.writers.push(write);
        };
        self.answer(write.request_id, Got::Failed(error));
    }

    pub fn cancel(&mut self, request_id: u64) {
        self.readers.retain(|reader| reader.request_id != request_id);
        self.writers.retain(|writer| writer.request_id != request_id);
        self.answer(request_id, Got::Failed(Error::Interrupted));
        self.let_in();
    }

    pub fn remove(&mut self) -> u64 {
        self.removed = true;
        self.fail_all(Error::Removed);
        std::mem::take(&mut self.queue).len() as u64
    }

    pub fn fail_all(&mut self, error: Error) {
        let readers = self.readers.drain(..).map(|reader| reader.request_id);
        let writers = self.writers.drain(..).map(|writer| writer.request_id);
        self.answers.extend(readers.chain(writers).map(|request_id| (request_id, Got::Failed(error))));
    }

    pub fn set_full(&mut self, full: WhenFull) {
        self.full = full;
        self.let_in();
        if full == WhenFull::Fail {
            let writers = self.writers.drain(..);
            self.answers.extend(writers.map(|writer| (writer.request_id, Got::Failed(Error::NoSpace))));
        }
    }

    /// Those who wait for room, in order, as long as there is some for the first of them.
    pub fn let_in(&mut self) {
        while let Some(writer) = self.writers.first() {
            if !self.make_room(writer.body.len()) {
                break;
            }
            let writer = self.writers.remove(0);
            self.answer(writer.request_id, Got::Written(writer.body.len()));
            self.accept(writer.body);
        }
    }

    fn answer(&mut self, request_id: u64, got: Got) {
        self.answers.push((request_id, got));
    }

    fn held(&self) -> u64 {
        let writers = self.writers.iter().map(|writer| Memory::cost(writer.body.len()));
        writers.sum::<u64>() + self.in_hand().waiting
    }

    /// What a message is charged that goes to a reader at once, if there is memory for it.
    fn for_reader(&self, len: usize) -> Option<Cost> {
        let cost = Memory::cost(len);
        if self.elsewhere + self.used() + cost <= self.memory {
            return Some(Cost { queued: cost, waiting: 0 });
        }
        (self.held() + cost <= self.memory).then_some(Cost { queued: 0, waiting: cost })
    }

    fn has_room(&self, len: usize) -> bool {
        let (count, bytes) = self.depth();
        count < self.limits.maxmsg
            && bytes + len as u64 <= self.limits.maxbytes
            && self.elsewhere + self.used() + Memory::cost(len) <= self.memory
    }

    fn make_room(&mut self, len: usize) -> bool {
        if !self.readers.is_empty() {
            return self.for_reader(len).is_some();
        }
        while !self.has_room(len) {
            let in_vain = len as u64 > self.limits.maxbytes
                || self.elsewhere + self.in_hand().queued + Memory::cost(len) > self.memory;
            if self.full != WhenFull::DropOldest || in_vain {
                return false;
            }
            self.queue.remove(0);
            self.dropped += 1;
        }
        true
    }

    fn accept(&mut self, body: Vec<u8>) {
        self.sent += 1;
        if self.readers.is_empty() {
            self.queue.push(body);
        } else {
            let cost = self.for_reader(body.len()).unwrap();
            let reader = self.readers.remove(0);
            self.deliver(reader, body, cost);
        }
    }

    /// A message for a read, and its rest for those who wait through the same handle.
    fn deliver(&mut self, read: Read, body: Vec<u8>, cost: Cost) {
        self.received += 1;
        let first = body[..read.size.min(body.len())].to_vec();
        self.answer(read.request_id, Got::Bytes(first.clone()));
        let open = self.opens[read.handle].as_mut().unwrap();
        open.cost = cost;
        open.hand = match open.mode {
            Mode::Both if first.len() == body.len() => None,
            Mode::Both => Some(Hand::Rest(body[first.len()..].to_vec(), read.offset + first.len() as u64)),
            _ => Some(Hand::File { body, base: read.offset, told: false }),
        };
        while self.has_in_hand(read.handle)
            && let Some(at) = self.readers.iter().position(|reader| reader.handle == read.handle)
        {
            let next = self.readers.remove(at);
            let got = self.take_in_hand(next).unwrap();
            self.answer(next.request_id, got);
        }
    }

    fn has_in_hand(&self, handle: usize) -> bool {
        match self.opens[handle].as_ref().and_then(|open| open.hand.as_ref()) {
            Some(Hand::File { told, .. }) => !told,
            Some(Hand::Rest(..)) => true,
            None => false,
        }
    }

    /// What a read gets without another message.
    fn take_in_hand(&mut self, read: Read) -> Option<Got> {
        let open = self.opens[read.handle].as_mut()?;
        match (&mut open.hand, open.mode) {
            (None, Mode::Both) => (read.offset != 0).then(|| Got::Bytes(Vec::new())),
            (None, _) => (read.offset != 0).then_some(Got::Failed(Error::Invalid)),
            // A piece of another read(2) than the one that got the part before.
            (Some(Hand::Rest(_, next)), _) if read.offset != 0 && read.offset != *next => {
                Some(Got::Bytes(Vec::new()))
            }
            (Some(Hand::Rest(rest, next)), _) => {
                let part: Vec<u8> = rest.drain(..read.size.min(rest.len())).collect();
                *next = read.offset + part.len() as u64;
                if rest.is_empty() {
                    open.hand = None;
                }
                Some(Got::Bytes(part))
            }
            (Some(Hand::File { body, base, told }), _) => {
                if read.offset == 0 {
                    *base = 0;
                }
                if read.offset < *base {
                    return Some(Got::Failed(Error::Invalid));
                }
                let from = (read.offset - *base).min(body.len() as u64) as usize;
                let part = &body[from..body.len().min(from + read.size)];
                if from < body.len() {
                    *told = false;
                } else if std::mem::replace(told, true) {
                    return None;
                }
                Some(Got::Bytes(part.to_vec()))
            }
        }
    }
}
