//! What the calls of a tree are written with, and read again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use log::warn;
use parking_lot::Mutex;

use super::call::{self, Call};
use super::log::{Full, Kind, Log};
use crate::op::{Error, Now};
use crate::segment::Usage;
use crate::state::{alone, restored_alone};
use crate::tree::Restart;

/// Another process, which keeps descriptors beyond the end of this one.
pub trait Keep: Send + Sync {
    /// Keeps one under a number.
    ///
    /// # Errors
    /// If there is no such process any more.
    fn keep(&self, number: u64, descriptor: BorrowedFd<'_>) -> io::Result<()>;
    /// Keeps it no longer.
    ///
    /// # Errors
    /// As for [`Keep::keep`].
    fn let_go(&self, number: u64) -> io::Result<()>;
    /// Whether there is such a process.
    fn is_there(&self) -> bool;
    /// The numbers that memories of segments may have.
    fn numbers(&self) -> std::ops::Range<u64>;
}

/// Writes calls, and what memory answers; or has it answer as it did.
pub(super) struct Pen {
    state: Mutex<State>,
    /// For each of the two generations, how much that its calls have decided is not performed yet.
    in_hand: [AtomicU64; 2],
    keeper: Box<dyn Keep>,
}

struct State {
    log: Log,
    mode: Mode,
    /// Nothing is written any more.
    given_up: bool,
    buffer: Vec<u8>,
    /// Descriptors that were kept, until all is made again.
    kept: Option<BTreeMap<u64, OwnedFd>>,
    /// Numbers that are taken, and the one that was given last.
    taken: BTreeSet<u64>,
    last: u64,
}

enum Mode {
    /// No call is being made.
    Idle,
    Calling,
    Repeating(Repeating),
}

/// A call is made again.
#[derive(Debug, Default)]
pub(super) struct Repeating {
    /// What memory answered.
    pub(super) results: VecDeque<Vec<u8>>,
    /// The process died after the call.
    pub(super) is_complete: bool,
    /// The answer to this call is still to be given.
    pub(super) is_wanted: bool,
    /// It does not do what it did.
    pub(super) differs: bool,
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen").finish_non_exhaustive()
    }
}

/// What memory answers, as a flag and a number.
pub(super) trait Outcome: Sized {
    fn save(&self) -> (bool, u64);
    fn restore(saved: (bool, u64)) -> Option<Self>;
    /// Where nothing else can be answered.
    fn none() -> Self;
}

impl Outcome for Result<u64, Error> {
    fn save(&self) -> (bool, u64) {
        match self {
            Ok(number) => (true, *number),
            Err(error) => (false, alone(error).first().copied().unwrap_or_default().into()),
        }
    }

    fn restore((ok, number): (bool, u64)) -> Option<Self> {
        if ok { Some(Ok(number)) } else { restored_alone(&[u8::try_from(number).ok()?]).map(Err) }
    }

    fn none() -> Self {
        Err(Error::Io)
    }
}

impl Outcome for Result<(), Error> {
    fn save(&self) -> (bool, u64) {
        self.map(|()| 0).save()
    }

    fn restore(saved: (bool, u64)) -> Option<Self> {
        Result::<u64, Error>::restore(saved).map(|result| result.map(drop))
    }

    fn none() -> Self {
        Err(Error::Io)
    }
}

impl Outcome for u64 {
    fn save(&self) -> (bool, u64) {
        (true, *self)
    }

    fn restore((_, number): (bool, u64)) -> Option<Self> {
        Some(number)
    }

    fn none() -> Self {
        0
    }
}

impl Outcome for Usage {
    fn save(&self) -> (bool, u64) {
        let number = match self {
            Usage::Unused => 0,
            Usage::Used => 1,
            Usage::Written => 2,
            Usage::Unknown => 3,
        };
        (true, number)
    }

    fn restore((_, number): (bool, u64)) -> Option<Self> {
        [Usage::Unused, Usage::Used, Usage::Written, Usage::Unknown].get(number as usize).copied()
    }

    fn none() -> Self {
        Usage::Unknown
    }
}

impl Pen {
    /// `kept` are the memories that another process has had kept.
    pub(super) fn new(log: Log, kept: Option<BTreeMap<u64, OwnedFd>>, keeper: Box<dyn Keep>) -> Pen {
        let last = keeper.numbers().start;
        let taken = kept.iter().flat_map(BTreeMap::keys).copied().collect();
        let (mode, given_up, buffer) = (Mode::Idle, false, Vec::new());
        let state = State { log, mode, given_up, buffer, kept, taken, last };
        Pen { state: Mutex::new(state), in_hand: Default::default(), keeper }
    }

    /// Works with the files, unless nothing is written any more.
    pub(super) fn with_log<T>(&self, work: impl FnOnce(&mut Log) -> T) -> Option<T> {
        let mut state = self.state.lock();
        (!state.given_up).then(|| work(&mut state.log))
    }

    /// A call begins.
    pub(super) fn begin(&self, call: &Call<'_>, now: Now) {
        let mut state = self.state.lock();
        state.mode = Mode::Calling;
        if state.given_up {
            return;
        }
        let State { buffer, log, .. } = &mut *state;
        buffer.clear();
        let rest = call::save(call, now, buffer);
        let written = log.append(Kind::Call, &[buffer, rest]);
        state.check(written);
    }

    /// The call is done. `checksum` is that of what it has decided.
    pub(super) fn end(&self, checksum: u32) -> bool {
        let mut state = self.state.lock();
        state.mode = Mode::Idle;
        if state.given_up {
            return false;
        }
        let written = state.log.append(Kind::Done, &[&checksum.to_le_bytes()]);
        state.check(written);
        if state.log.has_older() && self.is_performed(1 - state.log.parity()) {
            state.log.drop_older();
        }
        state.log.is_long()
    }

    /// A call is to be made again.
    pub(super) fn repeat(&self, repeating: Repeating) {
        self.state.lock().mode = Mode::Repeating(repeating);
    }

    /// It was.
    pub(super) fn repeated(&self) -> Repeating {
        match std::mem::replace(&mut self.state.lock().mode, Mode::Idle) {
            Mode::Repeating(repeating) => repeating,
            Mode::Idle | Mode::Calling => Repeating::default(),
        }
    }

    /// What memory answers to the call that is being made: `work` asks it, unless it has answered before.
    pub(super) fn result<T: Outcome>(&self, work: impl FnOnce() -> T) -> T {
        let mut state = self.state.lock();
        if let Mode::Repeating(repeating) = &mut state.mode {
            if let Some(bytes) = repeating.results.pop_front() {
                let restored = bytes
                    .split_first()
                    .and_then(|(ok, rest)| T::restore((*ok != 0, u64::from_le_bytes(rest.try_into().ok()?))));
                repeating.differs |= restored.is_none();
                return restored.unwrap_or_else(T::none);
            }
            if repeating.is_complete {
                repeating.differs = true;
                return T::none();
            }
        }
        let is_call = !matches!(state.mode, Mode::Idle);
        drop(state);
        let value = work();
        if is_call {
            let mut state = self.state.lock();
            if !state.given_up {
                let (ok, number) = value.save();
                let written = state.log.append(Kind::Result, &[&[u8::from(ok)], &number.to_le_bytes()]);
                state.check(written);
            }
        }
        value
    }

    /// A call is made again whose answer was given.
    pub(super) fn is_unwanted(&self) -> bool {
        matches!(&self.state.lock().mode, Mode::Repeating(repeating) if !repeating.is_wanted)
    }

    /// A number for a new memory, if there is one.
    pub(super) fn reserve(&self) -> Option<u64> {
        let numbers = self.keeper.numbers();
        let mut state = self.state.lock();
        // The numbers take turns, so that one that was let go means another memory as late as possible.
        for _ in numbers.clone() {
            state.last = if state.last + 1 < numbers.end { state.last + 1 } else { numbers.start };
            let number = state.last;
            if state.taken.insert(number) {
                return Some(number);
            }
        }
        None
    }

    /// Has something kept, as long as calls are written. If that fails, they are not any more.
    pub(super) fn keep(&self, number: u64, descriptor: BorrowedFd<'_>) {
        if self.is_written()
            && let Err(error) = self.keeper.keep(number, descriptor)
        {
            self.give_up(&error);
        }
    }

    /// Has the files kept.
    pub(super) fn keep_files(&self) -> io::Result<()> {
        let keep = |log: &mut Log| {
            let mut files = super::FILES.into_iter().zip(log.files());
            files.try_for_each(|(number, file)| self.keeper.keep(number, file))
        };
        self.with_log(keep).unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into()))
    }

    /// Whether calls are written.
    pub(super) fn is_written(&self) -> bool {
        !self.state.lock().given_up
    }

    /// Another process has the mount from now on: nothing that is kept for this one is worth anything.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.given_up = true;
        state.log.give_up();
        let taken = std::mem::take(&mut state.taken);
        // If there is no such process, nothing is kept.
        let _ = taken.into_iter().try_for_each(|number| self.keeper.let_go(number));
    }

    /// A memory is gone.
    pub(super) fn let_go(&self, number: u64) {
        let mut state = self.state.lock();
        // While all is made again, memories come and go that are long gone.
        if state.kept.is_none() {
            state.taken.remove(&number);
            let is_written = !state.given_up;
            drop(state);
            if is_written && let Err(error) = self.keeper.let_go(number) {
                self.give_up(&error);
            }
        }
    }

    /// A descriptor that was kept.
    pub(super) fn kept(&self, number: u64) -> Option<OwnedFd> {
        self.state.lock().kept.as_ref()?.get(&number)?.try_clone().ok()
    }

    /// All is made again: of what was kept, only what `is_used` is kept on.
    pub(super) fn made_again(&self, is_used: impl Fn(u64) -> bool) {
        let mut state = self.state.lock();
        state.kept = None;
        let unused: Vec<u64> = state.taken.iter().copied().filter(|number| !is_used(*number)).collect();
        let mut let_go = unused.into_iter().map(|number| {
            state.taken.remove(&number);
            self.keeper.let_go(number)
        });
        if let Err(error) = let_go.try_for_each(|done| done) {
            state.give_up(&error);
        }
    }

    /// What a call has decided is in somebody's hands. Returns the generation that must stay until it is performed.
    pub(super) fn take_in_hand(&self) -> u8 {
        let parity = self.state.lock().log.parity();
        let generation = parity as u8;
        self.take_more_in_hand(generation);
        generation
    }

    /// More of that generation is in somebody's hands.
    pub(super) fn take_more_in_hand(&self, generation: u8) {
        if let Some(count) = self.in_hand.get(usize::from(generation)) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// It is performed.
    pub(super) fn performed(&self, generation: u8) {
        if let Some(count) = self.in_hand.get(usize::from(generation)) {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn is_performed(&self, generation: usize) -> bool {
        self.in_hand.get(generation).is_none_or(|count| count.load(Ordering::SeqCst) == 0)
    }

    /// Nothing is written any more: a process that is killed takes the mount with it.
    pub(super) fn give_up(&self, why: &dyn fmt::Display) {
        self.state.lock().give_up(why);
    }
}

impl Restart for Pen {
    fn describe(&self) -> &'static str {
        if !self.keeper.is_there() {
            self.give_up(&"its supervisor is gone");
            "off: its supervisor is gone"
        } else if self.is_written() {
            "on"
        } else {
            "off: its history cannot be kept"
        }
    }
}

impl State {
    fn check(&mut self, written: Result<(), Full>) {
        if let Err(full) = written {
            self.give_up(&full);
        }
    }

    fn give_up(&mut self, why: &dyn fmt::Display) {
        if !self.given_up {
            warn!("the mount will end if its daemon is killed: {why}");
            self.given_up = true;
            self.log.give_up();
        }
    }
}
