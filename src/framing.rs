//! How one open file reads messages: whole, in parts, with an end of file between them, or as a stream.

use std::sync::Arc;

use crate::op::{Effects, Error, Reply, RequestId, Slice};

/// Where an open file stands in the message it reads.
///
/// Opened for reading only, it is a *file of one message at a time*:
///
/// ```text
///            begin                    read at the end: 0 bytes
///   Idle ───────▶ Held{eof_reported: no} ─────────────────────────▶ Held{eof_reported: yes}
///      ▲                  ▲  │ read within: bytes                  │      │
///      │                  └──┘◀───── seek back and read ───────────┘      │
///      └───────────────────── read at the end: the next message ◀─────────┘
/// ```
///
/// Opened for reading and writing, and through some doors, it is a *stream of messages*: what a buffer was too short for
/// is held, and there is no end of file. Through other doors it is *one message at a time*, then end of file until that
/// message was settled or answered.
#[derive(Debug)]
pub(crate) enum Framing {
    /// A descriptor that may seek.
    File(Option<Held>),
    /// A descriptor without a position. The slice is never empty.
    Stream(Option<Slice>),
    /// A descriptor without a position that has one message in hand until it is eof_reported to go on.
    Single(Single),
}

/// What a descriptor that has one message at a time has in hand.
#[derive(Debug)]
pub(crate) enum Single {
    Idle,
    /// Never empty.
    Rest(Slice),
    /// The end of file, which every read tells; `eof_reported` once one has.
    End {
        eof_reported: bool,
    },
}

/// A message that a seekable descriptor stands in.
#[derive(Debug)]
pub(crate) struct Held {
    message: Slice,
    /// The descriptor's offset at which the message begins. The kernel's position runs on from message to message.
    base: u64,
    /// The end of file after the message was eof_reported.
    eof_reported: bool,
}

/// What a read gets without another message being taken.
#[derive(Debug, PartialEq, Eq)]
enum Resumed {
    /// These bytes of the message in hand; none: its end.
    Bytes(Slice),
    /// Idle in hand: the next message is due.
    NeedsNext,
    /// The offset lies in an earlier message, or in none at all.
    Refused(Error),
}

impl Framing {
    /// True when a read would be answered from what is in hand.
    pub(crate) fn ready(&self) -> bool {
        match self {
            Framing::File(held) => held.as_ref().is_some_and(|held| !held.eof_reported),
            Framing::Stream(rest) => rest.is_some(),
            Framing::Single(single) => {
                matches!(single, Single::Rest(_) | Single::End { eof_reported: false })
            }
        }
    }

    /// True when a read would take the next message.
    pub(crate) fn needs_next(&self) -> bool {
        match self {
            Framing::File(held) => held.as_ref().is_none_or(|held| held.eof_reported),
            Framing::Stream(rest) => rest.is_none(),
            Framing::Single(single) => matches!(single, Single::Idle),
        }
    }

    /// A read of up to `size` bytes at `offset`.
    fn resume(&mut self, offset: u64, size: usize) -> Resumed {
        match self {
            // `tail` and `tac` go to the end that `stat` tells before they read, `dd skip=` over a part. There is nothing
            // to seek in yet, and a message must not be lost to a program that takes its beginning for something else.
            Framing::File(None) if offset != 0 => Resumed::Refused(Error::Invalid),
            Framing::File(None) | Framing::Single(Single::Idle) => Resumed::NeedsNext,
            Framing::File(Some(held)) => held.resume(offset, size),
            Framing::Stream(None) if offset == 0 => Resumed::NeedsNext,
            // The kernel truncate one long read in two, which happens only to readv(2) of more buffers than a request holds.
            // The first part got all of a message, so the read is complete.
            Framing::Stream(None) => Resumed::Bytes(empty()),
            Framing::Stream(rest) => match rest.take() {
                Some(slice) => Resumed::Bytes(self.first_part(slice, size)),
                None => Resumed::NeedsNext,
            },
            Framing::Single(Single::End { eof_reported }) => {
                *eof_reported = true;
                Resumed::Bytes(empty())
            }
            Framing::Single(Single::Rest(slice)) => {
                let slice = slice.clone();
                Resumed::Bytes(self.first_part(slice, size))
            }
        }
    }

    /// Answers a read of up to `size` bytes at `offset` without another message being taken. False: the next is due.
    pub(crate) fn answer(
        &mut self,
        request_id: RequestId,
        offset: u64,
        size: usize,
        fx: &mut Effects,
    ) -> bool {
        match self.resume(offset, size) {
            Resumed::Bytes(slice) => fx.reply(request_id, Reply::Message(slice)),
            Resumed::Refused(error) => fx.fail(request_id, error),
            Resumed::NeedsNext => return false,
        }
        true
    }

    /// What was in hand is settled: the next message is due.
    pub(crate) fn clear(&mut self) {
        if let Framing::Single(single) = self {
            *single = Single::Idle;
        }
    }

    /// What is in hand is no more, of which its reader has to be eof_reported: there is nothing more to read until then.
    pub(crate) fn abort(&mut self) {
        if let Framing::Single(single) = self {
            *single = Single::End { eof_reported: false };
        }
    }

    /// The next message was taken for a read of up to `size` bytes at `offset`: what the read gets of it.
    pub(crate) fn begin(&mut self, message: Slice, offset: u64, size: usize) -> Slice {
        match self {
            Framing::File(held) => {
                *held = Some(Held { message: message.clone(), base: offset, eof_reported: false });
                truncate(message, size)
            }
            Framing::Stream(_) | Framing::Single(_) => self.first_part(message, size),
        }
    }

    fn first_part(&mut self, slice: Slice, size: usize) -> Slice {
        let part = truncate(slice.clone(), size);
        let rest = (part.to < slice.to).then_some(Slice { from: part.to, ..slice });
        match self {
            Framing::File(_) => {}
            Framing::Stream(held) => *held = rest,
            Framing::Single(single) => {
                *single = rest.map_or(Single::End { eof_reported: false }, Single::Rest)
            }
        }
        part
    }
}

impl Held {
    fn resume(&mut self, offset: u64, size: usize) -> Resumed {
        if offset < self.base {
            // Offset 0 is the beginning of the message in hand, as `lseek(fd, 0, SEEK_SET)` means it.
            if offset != 0 {
                return Resumed::Refused(Error::Invalid);
            }
            self.base = 0;
        }
        let at = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        let from = self.message.from.saturating_add(at);
        if from < self.message.to {
            self.eof_reported = false;
            return Resumed::Bytes(truncate(Slice { from, ..self.message.clone() }, size));
        }
        if self.eof_reported {
            return Resumed::NeedsNext;
        }
        self.eof_reported = true;
        Resumed::Bytes(empty())
    }
}

fn truncate(slice: Slice, size: usize) -> Slice {
    Slice { to: slice.to.min(slice.from.saturating_add(size)), ..slice }
}

fn empty() -> Slice {
    Slice { bytes: Arc::from([]), from: 0, to: 0 }
}
