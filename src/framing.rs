//! How one open file reads messages: whole, in parts, with an end of file between them, or as a stream.

use std::collections::VecDeque;

use crate::accounts::Charge;
use crate::config::MAX_READ;
use crate::op::{Effects, Error, Reply, RequestId, Slice};
use crate::state::saved;

/// How often a function that reads on gets the end of file of a descriptor's first message again. PHP and Python ask for it twice in
/// all, Java's `BufferedReader` three times if the last line has no end.
const MORE_ENDS: u32 = 2;

/// A READ request: one read(2), or a piece of one. The kernel splits a read(2) whose buffer is longer than [`MAX_READ`],
/// and asks for each piece when the one before it was answered in full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// On a stream: how many bytes the pieces before it got. 0: it begins a read(2).
    pub(crate) offset: u64,
    pub(crate) size: usize,
    /// The thread that reads.
    pub(crate) pid: u32,
}

impl Piece {
    /// The thread will ask for another piece at once if this one is answered in full. (Unless its buffer ends with this
    /// piece: then it gets a second end of file after a message that ends there, too.)
    pub(crate) fn may_continue(self) -> bool {
        self.size >= MAX_READ as usize
    }

    /// The offset at which its read(2) goes on after `part`, if it does.
    fn goes_on_after(self, part: &Slice) -> Option<u64> {
        let full = self.may_continue() && part.len() == self.size;
        full.then(|| self.offset.saturating_add(part.len() as u64))
    }
}

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
    /// A descriptor without a position. What is left of messages that were longer than the buffers of their readers:
    /// more than one message only while several threads read long messages at the same time.
    Stream(Vec<Rest>),
    /// A descriptor without a position that reads one message and then waits to be cleared.
    Single(Single),
}

saved!(enum Framing { 0 = File(it), 1 = Stream(it), 2 = Single(it) });

/// The state of a descriptor that reads one message at a time.
#[derive(Debug)]
pub(crate) enum Single {
    Idle,
    Rest(Rest),
    /// End of file, for every read; `eof_sent` once a read has returned it.
    End {
        eof_sent: bool,
    },
}

saved!(enum Single { 0 = Idle, 1 = Rest(it), 2 = End { eof_sent } });

/// What is left of a message after a part of it was read from a stream.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Never empty.
    slice: Slice,
    /// What its bytes are charged.
    charge: Option<Charge>,
    /// The thread that read the part before it, and the offset at which a further piece of that read(2) would begin.
    pid: u32,
    next: u64,
    /// Kept for that thread, because its read(2) goes on. Other threads begin the next message meanwhile.
    reserved: bool,
}

saved!(struct Rest { slice, charge, pid, next, reserved });

/// The current message of a seekable descriptor.
#[derive(Debug)]
pub(crate) struct Held {
    message: Slice,
    /// What its bytes are charged.
    charge: Option<Charge>,
    /// The descriptor's offset at which the message begins. The kernel's position increases from message to message.
    base: u64,
    /// A read has returned the end of file after the message.
    eof_sent: bool,
    /// The thread that may get it again, and how often.
    ended_for: Option<(u32, u32)>,
    /// The last piece was answered in full up to here, and its read(2) goes on. If the message ends here, the next piece
    /// ends that read(2), and the end of file is for the next one.
    continues: Option<u64>,
    kept: Kept,
}

saved!(struct Held { message, charge, base, eof_sent, ended_for since 4, continues, kept since 3 });

/// Whether a message is there for who seeks back in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kept {
    #[default]
    Yes,
    /// Until it was read to its end.
    UntilRead,
    /// No more.
    No,
}

saved!(enum Kept { 0 = Yes, 1 = UntilRead, 2 = No });

/// How many threads are remembered.
const MAX_LOOKERS: usize = 16;

/// The threads that have asked for a file's attributes since they opened it and last got its end: the last few.
#[derive(Debug, Default)]
pub(crate) struct Lookers(VecDeque<u32>);

saved!(struct Lookers(threads));

impl Lookers {
    pub(crate) fn note(&mut self, pid: u32) {
        // Threads that the kernel can tell no number of are many.
        if pid == 0 || self.has(pid) {
            return;
        }
        if self.0.len() >= MAX_LOOKERS {
            self.0.pop_front();
        }
        self.0.push_back(pid);
    }

    pub(crate) fn has(&self, pid: u32) -> bool {
        self.0.contains(&pid)
    }

    /// True if it was there.
    pub(crate) fn remove(&mut self, pid: u32) -> bool {
        let at = self.0.iter().position(|looker| *looker == pid);
        at.and_then(|at| self.0.remove(at)).is_some()
    }
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
            Framing::Stream(rests) => !rests.is_empty(),
            Framing::Single(single) => {
                matches!(single, Single::Rest(_) | Single::End { eof_sent: false })
            }
        }
    }

    /// True if the read of a thread that has not begun a message would take the next one.
    pub(crate) fn needs_next(&self) -> bool {
        match self {
            Framing::File(held) => held.as_ref().is_none_or(|held| held.eof_sent),
            Framing::Stream(rests) => rests.iter().all(|rest| rest.reserved),
            Framing::Single(single) => matches!(single, Single::Idle),
        }
    }

    /// A read was answered. If it got the end of file, of the first message, and its thread had looked at the size since it opened
    /// the file, that is a function that reads a whole file, and it may get the end of file again.
    pub(crate) fn note_end(&mut self, piece: Piece, lookers: &mut Lookers) {
        if let Framing::File(Some(held)) = self
            && held.eof_sent
            && lookers.remove(piece.pid)
            && held.base == 0
        {
            held.ended_for = Some((piece.pid, MORE_ENDS));
        }
    }

    /// True, as often as [`MORE_ENDS`], if a read that would have to wait is of a function that has just got the end of file: a
    /// library may have kept that for itself, as many do.
    pub(crate) fn ends_again(&mut self, piece: Piece) -> bool {
        match self {
            Framing::File(Some(Held { eof_sent: true, ended_for: Some((pid, left)), .. }))
                if *pid == piece.pid && *left > 0 =>
            {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Drops a message that was read to its end, because its reader waits for the next.
    pub(crate) fn release(&mut self) {
        if let Framing::File(Some(held)) = self {
            held.release(Kept::Yes);
        }
    }

    /// The descriptor may seek, so that a message is kept once it was read.
    pub(crate) fn seeks(&self) -> bool {
        matches!(self, Framing::File(_))
    }

    /// Of how many messages it keeps bytes that are charged.
    pub(crate) fn charged(&self) -> usize {
        match self {
            Framing::File(held) => usize::from(held.as_ref().is_some_and(|held| held.charge.is_some())),
            Framing::Stream(rests) => rests.iter().filter(|rest| rest.charge.is_some()).count(),
            Framing::Single(single) => {
                usize::from(matches!(single, Single::Rest(Rest { charge: Some(_), .. })))
            }
        }
    }

    /// A read that takes no new message.
    fn resume(&mut self, piece: Piece) -> Resumed {
        match self {
            // `tail` and `tac` seek to the end that stat(2) reports before they read, and `dd skip=` seeks past a
            // part. There is no message to seek in yet. The read fails, so that no program loses a message by taking
            // its beginning for another part.
            Framing::File(None) if piece.offset != 0 => Resumed::Failed(Error::Invalid),
            Framing::File(None) => Resumed::NeedsNext,
            Framing::File(Some(held)) => held.resume(piece),
            Framing::Stream(rests) => match rests.iter().position(|rest| rest.is_for(piece)) {
                Some(at) => {
                    let rest = rests.remove(at);
                    Resumed::Bytes(self.first_part(rest.slice, rest.charge, piece))
                }
                // The piece before it ended the message.
                None if piece.offset != 0 => Resumed::Bytes(empty()),
                None => Resumed::NeedsNext,
            },
            Framing::Single(single) => match std::mem::replace(single, Single::Idle) {
                Single::Rest(rest) if piece.offset == 0 || rest.is_for(piece) => {
                    Resumed::Bytes(self.first_part(rest.slice, rest.charge, piece))
                }
                Single::Idle if piece.offset == 0 => Resumed::NeedsNext,
                Single::End { eof_sent } => {
                    *single = Single::End { eof_sent: eof_sent || piece.offset == 0 };
                    Resumed::Bytes(empty())
                }
                other => {
                    *single = other;
                    Resumed::Bytes(empty())
                }
            },
        }
    }

    /// Answers a read if that takes no new message. Otherwise returns false.
    pub(crate) fn answer(&mut self, request_id: RequestId, piece: Piece, fx: &mut Effects) -> bool {
        match self.resume(piece) {
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

    /// Makes `message` the current message, and keeps `charge` while it keeps bytes of it. Returns the part that `piece`
    /// gets. Without `has_room`, the message is not kept once it was read to its end: its end of file comes as ever, and to seek back to
    /// it is an error.
    pub(crate) fn begin(
        &mut self,
        message: Slice,
        charge: Option<Charge>,
        has_room: bool,
        piece: Piece,
    ) -> Slice {
        match self {
            Framing::File(held) => {
                let part = truncate(message.clone(), piece.size);
                let continues = piece.goes_on_after(&part);
                let kept = if has_room { Kept::Yes } else { Kept::UntilRead };
                let base = piece.offset;
                let held = held.insert(Held {
                    message,
                    charge,
                    base,
                    eof_sent: false,
                    ended_for: None,
                    continues,
                    kept,
                });
                held.note_read(&part);
                part
            }
            Framing::Stream(_) | Framing::Single(_) => self.first_part(message, charge, piece),
        }
    }

    /// A reply for a client that does not read yet.
    pub(crate) fn keep(&mut self, slice: Slice, charge: Option<Charge>) {
        if let Framing::Single(single) = self {
            *single = Single::Rest(Rest { slice, charge, pid: 0, next: 0, reserved: false });
        }
    }

    fn first_part(&mut self, slice: Slice, charge: Option<Charge>, piece: Piece) -> Slice {
        let part = truncate(slice.clone(), piece.size);
        let next = piece.offset.saturating_add(part.len() as u64);
        let rest = (part.to < slice.to).then(|| Rest {
            slice: Slice { from: part.to, ..slice },
            charge,
            pid: piece.pid,
            next,
            reserved: piece.may_continue(),
        });
        match self {
            Framing::File(_) => {}
            Framing::Stream(rests) => rests.extend(rest),
            Framing::Single(single) => *single = rest.map_or(Single::End { eof_sent: false }, Single::Rest),
        }
        part
    }
}

impl Rest {
    /// Whether `piece` gets it: the next piece of the same read(2), or a read(2) that begins.
    fn is_for(&self, piece: Piece) -> bool {
        match piece.offset {
            0 => !self.reserved || self.pid == piece.pid,
            offset => self.next == offset && self.pid == piece.pid,
        }
    }
}

impl Held {
    fn release(&mut self, kept: Kept) {
        self.base = self.base.saturating_add((self.message.to - self.message.from) as u64);
        self.message = empty();
        self.charge = None;
        self.kept = kept;
    }

    /// A read has got this part.
    fn note_read(&mut self, part: &Slice) {
        if self.kept == Kept::UntilRead && part.to == self.message.to {
            self.release(Kept::No);
        }
    }

    fn resume(&mut self, piece: Piece) -> Resumed {
        let offset = piece.offset;
        let continues = self.continues.take() == Some(offset);
        if offset < self.base {
            if self.kept == Kept::No {
                return Resumed::Failed(Error::NoMemory);
            }
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
            let part = truncate(Slice { from, ..self.message.clone() }, piece.size);
            self.continues = piece.goes_on_after(&part);
            self.note_read(&part);
            return Resumed::Bytes(part);
        }
        if continues {
            return Resumed::Bytes(empty());
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
