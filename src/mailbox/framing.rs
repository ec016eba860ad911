//! How one open file reads messages: whole, in parts, with an end of file between them, or as a stream.

use std::sync::Arc;

use crate::op::{Error, Slice};

/// Where an open file stands in the message it reads.
///
/// Opened for reading only, it is a *file of one message at a time*:
///
/// ```text
///            begin                    read at the end: 0 bytes
///   Nothing ───────▶ Held{told: no} ─────────────────────────▶ Held{told: yes}
///      ▲                  ▲  │ read within: bytes                  │      │
///      │                  └──┘◀───── seek back and read ───────────┘      │
///      └───────────────────── read at the end: the next message ◀─────────┘
/// ```
///
/// Opened for reading and writing, it is a *stream of messages*: `Rest` holds what a buffer was too short for, and
/// there is no end of file.
#[derive(Debug)]
pub(super) enum Framing {
    /// A descriptor that may seek.
    File(Option<Held>),
    /// A descriptor without a position. The slice is never empty.
    Stream(Option<Slice>),
}

/// A message that a seekable descriptor stands in.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Arc<[u8]>,
    /// The descriptor's offset at which the message begins. The kernel's position runs on from message to message.
    base: u64,
    /// The end of file after the message was told.
    told: bool,
}

/// What a read gets without another message being taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// These bytes of the message in hand; none: its end.
    Bytes(Slice),
    /// Nothing in hand: the next message is due.
    NextDue,
    /// The offset lies in an earlier message, or in none at all.
    Refused(Error),
}

impl Framing {
    /// True when a read would be answered from what is in hand.
    pub(super) fn ready(&self) -> bool {
        match self {
            Framing::File(held) => held.as_ref().is_some_and(|held| !held.told),
            Framing::Stream(rest) => rest.is_some(),
        }
    }

    /// A read of up to `size` bytes at `offset`.
    pub(super) fn resume(&mut self, offset: u64, size: usize) -> Resumed {
        match self {
            // `tail` and `tac` go to the end that `stat` tells before they read, `dd skip=` over a part. There is nothing
            // to seek in yet, and a message must not be lost to a program that takes its beginning for something else.
            Framing::File(None) if offset != 0 => Resumed::Refused(Error::Invalid),
            Framing::File(None) => Resumed::NextDue,
            Framing::File(Some(held)) => held.resume(offset, size),
            Framing::Stream(None) if offset == 0 => Resumed::NextDue,
            // The kernel cut one long read in two, which happens only to readv(2) of more buffers than a request holds.
            // The first part got all of a message, so the read is complete.
            Framing::Stream(None) => Resumed::Bytes(empty()),
            Framing::Stream(rest) => match rest.take() {
                Some(slice) => Resumed::Bytes(self.first_part(slice, size)),
                None => Resumed::NextDue,
            },
        }
    }

    /// The next message was taken for a read of up to `size` bytes at `offset`: what the read gets of it.
    pub(super) fn begin(&mut self, bytes: Arc<[u8]>, offset: u64, size: usize) -> Slice {
        let whole = Slice { from: 0, to: bytes.len(), bytes };
        match self {
            Framing::File(held) => {
                *held = Some(Held { bytes: Arc::clone(&whole.bytes), base: offset, told: false });
                cut(whole, size)
            }
            Framing::Stream(_) => self.first_part(whole, size),
        }
    }

    fn first_part(&mut self, slice: Slice, size: usize) -> Slice {
        let part = cut(slice.clone(), size);
        if let Framing::Stream(rest) = self
            && part.to < slice.to
        {
            *rest = Some(Slice { from: part.to, ..slice });
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
        if at < self.bytes.len() {
            self.told = false;
            return Resumed::Bytes(cut(
                Slice { bytes: Arc::clone(&self.bytes), from: at, to: self.bytes.len() },
                size,
            ));
        }
        if self.told {
            return Resumed::NextDue;
        }
        self.told = true;
        Resumed::Bytes(empty())
    }
}

fn cut(slice: Slice, size: usize) -> Slice {
    Slice { to: slice.to.min(slice.from.saturating_add(size)), ..slice }
}

fn empty() -> Slice {
    Slice { bytes: Arc::from([]), from: 0, to: 0 }
}
