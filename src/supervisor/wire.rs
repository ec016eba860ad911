//! What daemon and supervisor say to each other: two numbers, and at most one descriptor, in one packet.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// What the daemon says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToSupervisor {
    /// To keep a descriptor under a number, instead of what is there.
    Keep(u64),
    /// To keep it no longer.
    LetGo(u64),
    /// To give all that is kept.
    Give,
    /// Signals can be taken from now on.
    Ready,
    /// Which program to start from now on: a descriptor.
    Program,
    /// Which process serves from now on.
    Serves(u64),
}

/// What the supervisor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToDaemon {
    /// A descriptor that was kept under a number.
    Kept(u64),
    /// That was all; and how often a daemon was killed.
    All(u64),
}

/// As two numbers.
pub(super) trait Word: Sized {
    fn encode(self) -> [u64; 2];
    fn decode(numbers: [u64; 2], has_descriptor: bool) -> Option<Self>;
}

impl Word for ToSupervisor {
    fn encode(self) -> [u64; 2] {
        match self {
            ToSupervisor::Keep(number) => [1, number],
            ToSupervisor::LetGo(number) => [2, number],
            ToSupervisor::Give => [3, 0],
            ToSupervisor::Ready => [4, 0],
            ToSupervisor::Program => [5, 0],
            ToSupervisor::Serves(pid) => [6, pid],
        }
    }

    fn decode(numbers: [u64; 2], has_descriptor: bool) -> Option<ToSupervisor> {
        Some(match (numbers, has_descriptor) {
            // Its descriptor is lost if this process may not have so many.
            ([1, number], _) => ToSupervisor::Keep(number),
            ([2, number], false) => ToSupervisor::LetGo(number),
            ([3, _], false) => ToSupervisor::Give,
            ([4, _], false) => ToSupervisor::Ready,
            ([5, _], true) => ToSupervisor::Program,
            ([6, pid], false) => ToSupervisor::Serves(pid),
            _ => return None,
        })
    }
}

impl Word for ToDaemon {
    fn encode(self) -> [u64; 2] {
        match self {
            ToDaemon::Kept(number) => [1, number],
            ToDaemon::All(deaths) => [2, deaths],
        }
    }

    fn decode(numbers: [u64; 2], has_descriptor: bool) -> Option<ToDaemon> {
        Some(match (numbers, has_descriptor) {
            ([1, number], true) => ToDaemon::Kept(number),
            ([2, deaths], false) => ToDaemon::All(deaths),
            _ => return None,
        })
    }
}

const BYTES: usize = size_of::<[u64; 2]>();

/// Says something.
pub(super) fn send(
    socket: impl AsFd,
    word: impl Word,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let [first, second] = word.encode().map(u64::to_ne_bytes);
    let parts = [IoSlice::new(&first), IoSlice::new(&second)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() {
        rights.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    retry_on_intr(|| sendmsg(&socket, &parts, &mut rights, SendFlags::NOSIGNAL)).map(drop)
}

/// Hears what the other end says next. `None`: it has closed its end.
pub(super) fn receive<W: Word>(socket: impl AsFd) -> Result<Option<(W, Option<OwnedFd>)>, Errno> {
    let (mut first, mut second) = ([0; 8], [0; 8]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        let parts = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        recvmsg(&socket, parts, &mut rights, RecvFlags::CMSG_CLOEXEC)
    });
    let received = match received {
        // It was killed with packets unread.
        Err(Errno::CONNRESET) => return Ok(None),
        received => received?,
    };
    let mut descriptor = None;
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptor = some.last().or(descriptor);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let numbers = [first, second].map(u64::from_ne_bytes);
    let word = W::decode(numbers, descriptor.is_some()).filter(|_| received.bytes == BYTES);
    word.map(|word| Some((word, descriptor))).ok_or(Errno::PROTO)
}
