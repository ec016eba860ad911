//! How one open file reads messages: whole, in parts, with an end of file between them, or as a stream.

use crate::op::{Effects, Error, Reply, RequestId, Slice};

/// How an open file reads messages, and its position in the current one.
///
/// Opened for reading only, it is a *file of one message at a time*:
///
/// ```text
///           begin                            read at the end: 0 bytes
///   None ───────────▶ Held, eof_sent: false ──────────────────────────▶ Held, eof_sent: true
///                            ▲  │  ▲                                         │        │
///                            │  └──┘ read within: bytes                      │        │
///                            ├◀──────────── seek back and read ──────────────┘        │
///                            └◀──────── read at the end: the next message ────────────┘
/// ```
///
/// Opened for reading and writing, and through some doors, it is a *stream of messages*: what does not fit into a buffer
/// is kept for the next read, and there is no end of file. Through other doors it reads *one message at a time*, then
/// end of file until that message is settled or replied to.
#[derive(Debug)]
pub(crate) enum Framing {
    /// A descriptor that may seek.
    File(Option<Held>),
    /// A descriptor without a position. The slice is never empty.
    Stream(Option<Slice>),
    /// A descriptor without a position that reads one message and then waits to be cleared.
    Single(Single),
}

/// The state of a descriptor that reads one message at a time.
#[derive(Debug)]
pub(crate) enum Single {
    Idle,
    /// Never empty.
    Rest(Slice),
    /// End of file, for every read; `eof_sent` once a read has returned it.
    End {
        eof_sent: bool,
    },
}

/// The current message of a seekable descriptor.
#[derive(Debug)]
pub(crate) struct Held {
    message: Slice,
    /// The descriptor's offset at which the message begins. The kernel's position increases from message to message.
    base: u64,
    /// A read has returned the end of file after the message.
    eof_sent: bool,
}

/// What a read gets without taking another message.
#[derive(Debug, PartialEq, Eq)]
enum Resumed {
    /// Bytes of the current message. Empty: its end of file.
    Bytes(Slice),
    /// There is no current message, or all of it was read.
    NeedsNext,
    /// The offset is in an earlier message, or in none.
    Failed(Error),
}

impl Framing {
    /// True if a read would be answered from the current message, its end of file included.
    pub(crate) fn ready(&self) -> bool {
        match self {
            Framing::File(held) => held.as_ref().is_some_and(|held| !held.eof_sent),
            Framing::Stream(rest) => rest.is_some(),
            Framing::Single(single) => {
                matches!(single, Single::Rest(_) | Single::End { eof_sent: false })
            }
        }
    }

    /// True if a read would take the next message.
    pub(crate) fn needs_next(&self) -> bool {
        match self {
            Framing::File(held) => held.as_ref().is_none_or(|held| held.eof_sent),
            Framing::Stream(rest) => rest.is_none(),
            Framing::Single(single) => matches!(single, Single::Idle),
        }
    }

    /// Drops a message that was read to its end, because its reader waits for the next.
    pub(crate) fn release(&mut self) {
        if let Framing::File(Some(held)) = self {
            held.base = held.base.saturating_add((held.message.to - held.message.from) as u64);
            held.message = empty();
        }
    }

    /// True if it keeps bytes of the current message.
    pub(crate) fn keeps_bytes(&self) -> bool {
        match self {
            Framing::File(held) => held.as_ref().is_some_and(|held| held.message.from < held.message.to),
            Framing::Stream(rest) => rest.is_some(),
            Framing::Single(single) => matches!(single, Single::Rest(_)),
        }
    }

    /// A read of up to `size` bytes at `offset`.
    fn resume(&mut self, offset: u64, size: usize) -> Resumed {
        match self {
            // `tail` and `tac` seek to the end that stat(2) reports before they read, and `dd skip=` seeks past a
            // part. There is no message to seek in yet. The read fails, so that no program loses a message by taking
            // its beginning for another part.
            Framing::File(None) if offset != 0 => Resumed::Failed(Error::Invalid),
            Framing::File(None) | Framing::Single(Single::Idle) => Resumed::NeedsNext,
            Framing::File(Some(held)) => held.resume(offset, size),
            Framing::Stream(None) if offset == 0 => Resumed::NeedsNext,
            // The kernel has split one long read, which happens only to readv(2) with more buffers than a request
            // holds. The first part returned a message, so the read is complete.
            Framing::Stream(None) => Resumed::Bytes(empty()),
            Framing::Stream(rest) => match rest.take() {
                Some(slice) => Resumed::Bytes(self.first_part(slice, size)),
                None => Resumed::NeedsNext,
            },
            Framing::Single(Single::End { eof_sent }) => {
                *eof_sent = true;
                Resumed::Bytes(empty())
            }
            Framing::Single(Single::Rest(slice)) => {
                let slice = slice.clone();
                Resumed::Bytes(self.first_part(slice, size))
            }
        }
    }

    /// Answers a read of up to `size` bytes at `offset` if that takes no new message. Otherwise returns false.
    pub(crate) fn answer(
        &mut self,
        request_id: RequestId,
        offset: u64,
        size: usize,
        fx: &mut Effects,
    ) -> bool {
        match self.resume(offset, size) {
            Resumed::Bytes(slice) => fx.reply(request_id, Reply::Message(slice)),
            Resumed::Failed(error) => fx.fail(request_id, error),
            Resumed::NeedsNext => return false,
        }
        true
    }

    /// The current message is settled or replied to: the next read takes another.
    pub(crate) fn clear(&mut self) {
        if let Framing::Single(single) = self {
            *single = Single::Idle;
        }
    }

    /// The current message was taken back. Reads get end of file until [`Framing::clear`].
    pub(crate) fn abort(&mut self) {
        if let Framing::Single(single) = self {
            *single = Single::End { eof_sent: false };
        }
    }

    /// Makes `message` the current message. Returns the part of it that a read of up to `size` bytes at `offset`
    /// gets.
    pub(crate) fn begin(&mut self, message: Slice, offset: u64, size: usize) -> Slice {
        match self {
            Framing::File(held) => {
                *held = Some(Held { message: message.clone(), base: offset, eof_sent: false });
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
            Framing::Single(single) => *single = rest.map_or(Single::End { eof_sent: false }, Single::Rest),
        }
        part
    }
}

impl Held {
    fn resume(&mut self, offset: u64, size: usize) -> Resumed {
        if offset < self.base {
            // Offset 0 is the beginning of the current message, as `lseek(fd, 0, SEEK_SET)` means it.
            if offset != 0 {
                return Resumed::Failed(Error::Invalid);
            }
            self.base = 0;
        }
        let at = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        let from = self.message.from.saturating_add(at);
        if from < self.message.to {
            self.eof_sent = false;
            return Resumed::Bytes(truncate(Slice { from, ..self.message.clone() }, size));
        }
        if self.eof_sent {
            return Resumed::NeedsNext;
        }
        self.eof_sent = true;
        Resumed::Bytes(empty())
    }
}

fn truncate(slice: Slice, size: usize) -> Slice {
    Slice { to: slice.to.min(slice.from.saturating_add(size)), ..slice }
}

fn empty() -> Slice {
    Slice::whole([])
}
