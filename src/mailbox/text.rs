//! Writing through `stream`, which makes a message of each line, and `whole`, which makes one of all that is written.

use std::sync::Arc;

use super::message::{Message, Run};
use super::room::{Load, WaitingWriter};
use super::{
    Caller, Context, Error, Hand, HandleId, Mailbox, Memory, Reply, RequestId, Send, WaitId, WhenFull,
    open_mut,
};

/// What was written through an open file and is no message yet: a line without its end, or all of it.
#[derive(Debug)]
pub(super) struct Text {
    bytes: Vec<u8>,
    caller: Caller,
    /// Taken of what the mount's memory holds for writers.
    held: u64,
    /// It became too long. Nothing more is taken, and nothing is sent, because it would be a part.
    refused: bool,
    /// There was no memory for the last write. Unless a later one succeeds, what there is would be a part, too.
    cut_off: bool,
}

impl Text {
    fn new(caller: Caller) -> Text {
        Text { bytes: Vec::new(), caller, held: 0, refused: false, cut_off: false }
    }
}

/// Lines that one write brought, on their way into the queue.
#[derive(Debug)]
pub(super) struct Lines {
    /// What an earlier write had begun, and this write's bytes behind that.
    data: Arc<[u8]>,
    caller: Caller,
    begun: Option<Box<Text>>,
    prefix: usize,
    /// Up to here they are taken.
    done: usize,
    /// Here the last complete one ends.
    end: usize,
    /// What follows it will be kept until its end comes: so much is held for it.
    tail: Option<u64>,
}

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// Bytes of the write that are taken once all lines are.
    pub(super) fn written(&self) -> u64 {
        (if self.tail.is_some() { self.data.len() } else { self.end }).saturating_sub(self.prefix) as u64
    }

    /// Bytes of the line that is to be taken next.
    pub(super) fn next_line(&self) -> usize {
        let rest = self.data.get(self.done..self.end).unwrap_or_default();
        memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
    }

    /// The lines before the first that is longer than `longest`, at most `most`: where they end, and how many they are.
    fn valid(&self, longest: u64, most: u64) -> (usize, u64) {
        let rest = self.data.get(self.done..self.end).unwrap_or_default();
        // A line has one byte at least.
        if rest.len() as u64 <= longest.min(most) {
            return (self.end, memchr::memchr_iter(b'\n', rest).count() as u64);
        }
        let (mut start, mut lines) = (0, 0);
        for at in memchr::memchr_iter(b'\n', rest) {
            if lines == most || (at + 1 - start) as u64 > longest {
                break;
            }
            (start, lines) = (at + 1, lines + 1);
        }
        (self.done + start, lines)
    }
}

impl Mailbox {
    /// A write through `stream`.
    pub(super) fn send_lines(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(end) = memchr::memrchr(b'\n', call.body) else { return self.append(call, cx) };
        if let Err(error) = self.may_write(call.handle) {
            cx.fx.fail(call.request_id, error);
            return None;
        }
        let mut begun = None;
        open_mut(&mut self.handles, call.handle, |open| {
            if let Hand::Text(text) = std::mem::take(&mut open.hand) {
                begun = Some(text);
            }
        });
        let prefix = begun.as_ref().map_or(0, |text| text.bytes.len());
        let data: Arc<[u8]> = match &begun {
            Some(text) => [&text.bytes, call.body].concat().into(),
            None => Arc::from(call.body),
        };
        let end = prefix + end + 1;
        let tail = data.len() - end;
        let tail = if tail == 0 {
            Some(0)
        } else {
            let cost = Memory::cost(tail);
            (tail as u64 <= self.longest() && cx.memory.hold(cost)).then_some(cost)
        };
        let lines = Lines { data, caller: call.caller, begun, prefix, done: 0, end, tail };
        let written = lines.written();
        self.come_in(call, Load::Lines(lines), written, cx)
    }

    /// Takes lines, as [`Mailbox::take_some`] does. Those that are not taken come back.
    pub(super) fn take_lines(
        &mut self,
        mut lines: Lines,
        handle: HandleId,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), Load> {
        self.take_some(&mut lines, room, cx);
        if lines.done < lines.end {
            return Err(Load::Lines(lines));
        }
        self.keep_tail(&lines, handle, cx);
        Ok(())
    }

    /// Takes as many lines as somebody waits for and, with `room`, as there is room for.
    fn take_some(&mut self, lines: &mut Lines, room: bool, cx: &mut Context<'_>) {
        // Where the mailbox is full, a long write is not looked through again for each line that is received.
        let waited_for = self.readers.any_waits() || self.readers.selective_wait();
        let most = match self.rules.full {
            WhenFull::Wait | WhenFull::Fail if !waited_for => self.room_for_messages(),
            _ => u64::MAX,
        };
        let (stop, count) = lines.valid(self.longest(), most);
        if count == 0 {
            return;
        }
        let mut run = self.message(Arc::clone(&lines.data), lines.caller, 0, None, cx.now);
        run.extra_mut().run = Some(Run { lines: count, from: lines.done, to: stop });
        loop {
            let mut reader = None;
            if self.readers.wants(&run) {
                self.show_to_peekers(&run, cx);
                reader = self.readers.serve_for(&run);
            }
            let part = match &reader {
                Some(reader) => {
                    let many = self.handles.get(reader.call.handle.0);
                    let many = many.is_some_and(|open| open.door == super::Door::Stream);
                    if many { run.split_fitting(reader.call.size) } else { run.split_first() }
                }
                None if !room => return,
                None => match self.fitting(&run, cx.memory) {
                    0 if self.rules.full == WhenFull::DropOldest => {
                        let first = run.clone().split_first().unwrap_or_else(|| run.clone());
                        if !self.try_room(&first, cx) {
                            return;
                        }
                        cx.memory.give_back(first.cost());
                        run.split_first()
                    }
                    0 => return,
                    count => run.split_lines(count),
                },
            };
            let last = part.is_none();
            let mut part = part.unwrap_or_else(|| run.clone());
            part.id = cx.memory.number(part.count());
            if reader.is_none() && !cx.memory.take(part.cost()) {
                return;
            }
            lines.done += part.len() as usize;
            self.tally.sent += part.count();
            self.last_sent = cx.now;
            if let Some(reader) = reader {
                self.hand_over(&reader, part, cx);
            } else {
                self.show_to_peekers(&part, cx);
                let number = part.id;
                self.queue.push(part, number);
                self.wake_readers(cx);
            }
            if last {
                return;
            }
        }
    }

    /// How many lines of a run there is room for.
    fn fitting(&self, run: &Message, memory: &Memory) -> u64 {
        let messages = self.room_for_messages();
        let bytes = self.limits.maxbytes.saturating_sub(self.queue.bytes() + self.request_bytes);
        if run.count() <= messages && run.len() <= bytes && memory.has_room(run.cost()) {
            return run.count();
        }
        let each = (run.cost() - run.len()) / run.count();
        let slice = run.slice();
        let mut count = 0;
        for at in memchr::memchr_iter(b'\n', slice.as_bytes()) {
            let length = at as u64 + 1;
            if count == messages || length > bytes || !memory.has_room(length + each * (count + 1)) {
                break;
            }
            count += 1;
        }
        count
    }

    fn room_for_messages(&self) -> u64 {
        self.limits.maxmsg.saturating_sub(self.queue.depth() + self.requests.len() as u64)
    }

    /// All lines are taken: what is left of the write is the beginning of the next.
    fn keep_tail(&mut self, lines: &Lines, handle: HandleId, cx: &mut Context<'_>) {
        if let Some(text) = &lines.begun {
            cx.memory.let_go(text.held);
        }
        if let Some(held) = lines.tail.filter(|held| *held > 0) {
            let bytes = lines.data.get(lines.end..).unwrap_or_default().to_vec();
            self.keep_text(Text { bytes, held, ..Text::new(lines.caller) }, handle, cx);
        }
    }

    /// Keeps the beginning of a line, before what another write has begun while this one waited.
    fn keep_text(&mut self, mut text: Text, handle: HandleId, cx: &mut Context<'_>) {
        let longest = self.longest();
        let Some(open) = self.handles.get_mut(handle.0) else {
            cx.memory.let_go(text.held);
            return;
        };
        if let Hand::Text(later) = std::mem::take(&mut open.hand) {
            text.held += later.held;
            text.refused |= later.refused;
            text.cut_off |= later.cut_off;
            text.bytes.extend_from_slice(&later.bytes);
        }
        if text.refused || text.bytes.len() as u64 > longest {
            cx.memory.let_go(text.held);
            text = Text { refused: true, ..Text::new(text.caller) };
        }
        open.hand = Hand::Text(Box::new(text));
    }

    /// A write of lines ends before all of them were taken: it is answered with those that were, or with `error`.
    pub(super) fn refuse_lines(
        &mut self,
        mut lines: Lines,
        handle: HandleId,
        request_id: RequestId,
        error: Error,
        cx: &mut Context<'_>,
    ) {
        cx.memory.let_go(lines.tail.unwrap_or(0));
        let begun = lines.begun.take();
        if lines.done > 0 {
            if let Some(text) = begun {
                cx.memory.let_go(text.held);
            }
            cx.fx.reply(request_id, Reply::Written(lines.done.saturating_sub(lines.prefix) as u32));
            return;
        }
        if let Some(mut text) = begun {
            text.refused |= error == Error::TooLong;
            self.keep_text(*text, handle, cx);
        }
        cx.fx.fail(request_id, error);
    }

    /// A write through `whole`, or one through `stream` that ends no line. Never waits.
    pub(super) fn append(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        match self.try_append(call, cx) {
            Ok(()) => cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32)),
            Err(error) => cx.fx.fail(call.request_id, error),
        }
        None
    }

    fn try_append(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Result<(), Error> {
        self.may_write(call.handle)?;
        let longest = self.longest();
        let whole = self.rules.wholesize.min(self.limits.maxbytes);
        let Some(open) = self.handles.get_mut(call.handle.0) else { return Err(Error::BadDescriptor) };
        if call.body.is_empty() {
            return Ok(());
        }
        let most = if open.door == super::Door::Whole { whole } else { longest };
        let mut text = match std::mem::take(&mut open.hand) {
            Hand::Text(text) => text,
            _ => Box::new(Text::new(call.caller)),
        };
        let cost = call.body.len() as u64 + if text.bytes.is_empty() { Memory::cost(0) } else { 0 };
        let result = if text.bytes.len() as u64 + call.body.len() as u64 > most {
            cx.memory.let_go(text.held);
            *text = Text { refused: true, ..Text::new(call.caller) };
            Err(Error::TooLong)
        } else if cx.memory.hold(cost) {
            text.held += cost;
            text.bytes.extend_from_slice(call.body);
            text.cut_off = false;
            Ok(())
        } else {
            text.cut_off = true;
            Err(Error::NoMemory)
        };
        open.hand = Hand::Text(text);
        result
    }

    fn may_write(&self, handle: HandleId) -> Result<(), Error> {
        let open = self.handles.get(handle.0).ok_or(Error::BadDescriptor)?;
        if self.removed {
            return Err(Error::Removed);
        }
        match &open.hand {
            Hand::Text(text) if text.refused => Err(Error::TooLong),
            _ => Ok(()),
        }
    }

    /// The last close: what was written is sent. Where there is no room, it waits like a writer, whom nobody waits for.
    pub(super) fn finish(&mut self, text: Text, handle: HandleId, cx: &mut Context<'_>) {
        if text.bytes.is_empty() || text.cut_off || self.removed {
            cx.memory.let_go(text.held);
            return;
        }
        let message = self.message(Arc::from(text.bytes), text.caller, 0, None, cx.now);
        let load = match self.take_load(Load::Message(message), handle, false, cx) {
            Ok(()) => {
                cx.memory.let_go(text.held);
                return;
            }
            Err(load) => load,
        };
        let (id, since) = (self.next_wait(), cx.now);
        let writer =
            WaitingWriter { id, request_id: None, handle, caller: text.caller, since, held: text.held, load };
        self.writers.join(id, writer);
        // He comes in now, or waits.
        self.room_made(cx);
        if !self.writers.is_empty() {
            self.wake_readers(cx);
        }
    }
}
