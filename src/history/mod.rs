//! What outlives a daemon that is killed: the state of its tree at some time, and the calls that were made of the tree since.
//!
//! A tree is told everything by its calls: requests, the time, what is interrupted. The only others that it asks are the memory of
//! segments and the kernel's table of backing files. So if the same calls are made of the same state in the same order, and those
//! answer as they did, the tree is as it was; and what it decides is what it decided.
//!
//! ```text
//! before a call   the call is written down                              ╮ one call at a time
//! during it       what memory answers                                   │
//! after it        a checksum of what was decided                        ╯
//! then            the answers are given, with no lock held
//! ```
//!
//! The history is in two memory files that another process keeps ([`Keep`]). When the calls are many, a new *generation* begins in
//! the other file, with the state at that time. The tree itself is then made again from that state: so the next daemon, which has
//! nothing else, begins with the very same one. The older generation stays until the kernel has the answers that its calls have
//! decided, because only its calls tell them.
//!
//! The next daemon ([`repeat::take_over`]) makes the calls again. If one decides something else than it did, the mount ends rather than that
//! somebody is told something wrong.

mod call;
mod log;
mod memory;
mod pen;
pub mod repeat;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};

use crate::engine::Event;
use crate::op::{Effect, Effects, Error, Moment, Now, Reply, Request, RequestId};
use crate::segment::Memory;
use crate::tree::{Restart, Setup, Tree};
use call::Call;
use log::Log;
use memory::{KeptBacking, KeptMemory};
pub use pen::Keep;
use pen::Pen;

/// Under which numbers the two files are kept.
pub const FILES: [u64; 2] = [1, 2];

/// A tree, and its history if it has one.
#[derive(Debug)]
pub struct Recorded(Kind);

#[derive(Debug)]
enum Kind {
    Without(Tree),
    /// Calls are made one at a time, and the tree is made again whenever a generation begins.
    With(RwLock<Tree>, Arc<Pen>),
}

/// The tree, which stays the same as long as this lives.
enum TreeRef<'a> {
    Free(&'a Tree),
    Locked(RwLockReadGuard<'a, Tree>),
}

impl Deref for TreeRef<'_> {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        match self {
            TreeRef::Free(tree) => tree,
            TreeRef::Locked(tree) => tree,
        }
    }
}

impl Recorded {
    /// A tree without a history.
    pub fn new(tree: Tree) -> Recorded {
        Recorded(Kind::Without(tree))
    }

    fn with(tree: Tree, pen: Arc<Pen>) -> Recorded {
        Recorded(Kind::With(RwLock::new(tree), pen))
    }

    /// A new tree whose history begins.
    ///
    /// # Errors
    /// Those of memory files, and of whoever keeps them.
    pub fn begin(setup: Setup, files: Files, keeper: Box<dyn Keep>, now: Now) -> io::Result<Recorded> {
        let pen = Arc::new(Pen::new(files.0, None, keeper));
        let tree = Tree::new(kept(setup, &pen), memory::maker(&pen, |_| {}), now);
        pen.keep_files()?;
        let tree = renewed(&tree, &pen, now)?;
        Ok(Recorded::with(tree, pen))
    }

    /// The tree that another process has saved, as [`Tree::take_over`] makes it. Its history must
    /// [begin](Recorded::begin_history) before the first call. Until then that process can go on.
    ///
    /// # Errors
    /// Those of memory files, and of [`Tree::take_over`].
    pub fn take_over(
        setup: Setup,
        files: Files,
        keeper: Box<dyn Keep>,
        (state, memories): (&[u8], Vec<Arc<dyn Memory>>),
        now: Now,
    ) -> io::Result<(Recorded, Memories)> {
        let pen = Arc::new(Pen::new(files.0, None, keeper));
        let memories = memories.into_iter().map(|memory| KeptMemory::new(memory, &pen).map(Arc::new));
        let memories: Vec<_> = memories.collect::<io::Result<_>>()?;
        let given = memories.iter().map(|memory| Arc::clone(memory) as Arc<dyn Memory>).collect();
        let make = memory::maker(&pen, |_| {});
        let tree = Tree::take_over(kept(setup, &pen), make, state, given, now).map_err(io::Error::other)?;
        Ok((Recorded::with(tree, pen), Memories(memories)))
    }

    /// Begins the history of a tree that was taken over. If that fails, there will be none.
    pub fn begin_history(&self, memories: &Memories, now: Now) {
        let Kind::With(tree, pen) = &self.0 else { return };
        let mut tree = tree.write();
        let kept = memories.0.iter().try_for_each(|memory| memory.keep()).and_then(|()| pen.keep_files());
        match kept.and_then(|()| renewed(&tree, pen, now)) {
            Ok(renewed) => *tree = renewed,
            Err(error) => pen.give_up(&error),
        }
    }

    /// Another process has the mount from now on.
    pub fn leave(&self) {
        self.pen().into_iter().for_each(|pen| pen.leave());
    }

    /// Everything below the mount point. Nothing is written down of what is done with it.
    pub fn tree(&self) -> impl Deref<Target = Tree> {
        match &self.0 {
            Kind::Without(tree) => TreeRef::Free(tree),
            Kind::With(tree, _) => TreeRef::Locked(tree.read()),
        }
    }

    /// Whether there is a history, so that the daemon can be killed.
    pub fn has_history(&self) -> bool {
        self.pen().is_some_and(|pen| pen.is_written())
    }

    /// Ends the history, if there is one.
    pub fn give_up_history(&self, why: &dyn std::fmt::Display) {
        self.pen().into_iter().for_each(|pen| pen.give_up(why));
    }

    fn pen(&self) -> Option<&Arc<Pen>> {
        match &self.0 {
            Kind::Without(_) => None,
            Kind::With(_, pen) => Some(pen),
        }
    }

    /// As [`Tree::handle`].
    pub fn handle(&self, request: &Request<'_>, now: Now, fx: &mut Effects) {
        self.handle_and(request, now, || (), fx);
    }

    /// The same. Calls `written` as soon as the call is written down.
    pub fn handle_and(&self, request: &Request<'_>, now: Now, written: impl FnOnce(), fx: &mut Effects) {
        self.call(&Call::Handle(request), now, fx, written, |tree, fx| tree.handle(request, now, fx));
    }

    /// As [`Tree::cancel_wait`].
    pub fn cancel_wait(&self, unique: u64, error: Error, now: Now, fx: &mut Effects) {
        let call = Call::Cancel(unique, error);
        self.call(&call, now, fx, || (), |tree, fx| tree.cancel_wait(unique, error, now, fx));
    }

    /// As [`Tree::expire`].
    pub fn expire(&self, limit: Moment, now: Now, fx: &mut Effects) {
        self.call(&Call::Expire(limit), now, fx, || (), |tree, fx| tree.expire(limit, now, fx));
    }

    /// As [`Tree::end`].
    pub fn end(&self, now: Now, fx: &mut Effects) {
        self.call(&Call::End, now, fx, || (), |tree, fx| tree.end(now, fx));
    }

    /// As [`Tree::tick`].
    pub fn tick(&self, now: Now, fx: &mut Effects) {
        self.call(&Call::Tick, now, fx, || (), |tree, fx| tree.tick(now, fx));
    }

    /// As [`Tree::work`].
    pub fn work(&self, now: Now, fx: &mut Effects) -> bool {
        if self.pen().is_some() && !self.has_work() {
            return false;
        }
        self.call(&Call::Work, now, fx, || (), |tree, fx| tree.work(now, fx))
    }

    /// As [`Tree::engine`]. A mount with an engine has no history.
    pub fn engine(&self, event: Event, now: Now, fx: &mut Effects) {
        self.tree().engine(event, now, fx);
    }

    /// As [`Tree::has_work`].
    pub fn has_work(&self) -> bool {
        self.tree().has_work()
    }

    fn call<T>(
        &self,
        call: &Call<'_>,
        now: Now,
        fx: &mut Effects,
        written: impl FnOnce(),
        make: impl FnOnce(&Tree, &mut Effects) -> T,
    ) -> T {
        let (tree, pen) = match &self.0 {
            Kind::Without(tree) => return make(tree, fx),
            Kind::With(tree, pen) => (tree, pen),
        };
        let mut tree = tree.write();
        let before = answers(fx).count();
        pen.begin(call, now);
        written();
        let made = make(&tree, fx);
        let is_long = pen.end(checksum(fx, before));
        if fx.in_hand().is_none() && answers(fx).count() > before {
            fx.set_in_hand(Some(pen.take_in_hand()));
        }
        if is_long {
            match renewed(&tree, pen, now) {
                Ok(renewed) => *tree = renewed,
                Err(error) => pen.give_up(&error),
            }
        }
        made
    }

    /// All effects are performed, but for answers that were [left](Recorded::leave_answer) to others.
    pub fn performed(&self, fx: &mut Effects) {
        if let (Some(generation), Some(pen)) = (fx.in_hand(), self.pen()) {
            fx.set_in_hand(None);
            pen.performed(generation);
        }
    }

    /// An answer of these effects is left to somebody else, who says when it is [given](Recorded::given).
    pub fn leave_answer(&self, generation: u8) {
        self.pen().into_iter().for_each(|pen| pen.take_more_in_hand(generation));
    }

    /// An answer that was left to somebody is given.
    pub fn given(&self, generation: u8) {
        self.pen().into_iter().for_each(|pen| pen.performed(generation));
    }
}

/// New files for a history.
#[derive(Debug)]
pub struct Files(Log);

impl Files {
    /// They may take `length` bytes each.
    ///
    /// # Errors
    /// Those of memory files.
    pub fn new(length: u64) -> io::Result<Files> {
        Log::new(length).map(Files)
    }
}

/// The memories of a tree that was taken over.
#[derive(Debug, Default)]
pub struct Memories(Vec<Arc<KeptMemory>>);

/// What a tree is made with whose history is written.
fn kept(setup: Setup, pen: &Arc<Pen>) -> Setup {
    let keep = |backing| Box::new(KeptBacking { backing, pen: Arc::clone(pen) }) as Box<_>;
    let restart = Some(Arc::clone(pen) as Arc<dyn Restart>);
    Setup { backing: setup.backing.map(keep), restart, ..setup }
}

/// Begins a generation. Returns the tree that it begins with.
fn renewed(tree: &Tree, pen: &Pen, now: Now) -> io::Result<Tree> {
    let begin = |log: &mut Log| {
        let mut memories = Vec::new();
        log.begin(|sink| {
            memories = tree.save(sink)?;
            let number = |memory: &Arc<dyn Memory>| memory.kept_as();
            memories.iter().map(number).collect::<Option<_>>().ok_or(io::ErrorKind::Unsupported.into())
        })?;
        let (state, _) = log.state(log.parity()).ok_or(io::ErrorKind::InvalidData)?;
        tree.renewed(state, memories, now).map_err(io::Error::other)
    };
    pen.with_log(begin).unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into()))
}

fn answers(fx: &Effects) -> impl Iterator<Item = (&RequestId, &Reply)> {
    fx.iter().filter_map(|effect| match effect {
        Effect::Reply(request_id, reply)
        | Effect::Deliver(request_id, reply, _)
        | Effect::Promise(_, request_id, reply) => Some((request_id, reply)),
        _ => None,
    })
}

/// Of the answers after the first `before`.
fn checksum(fx: &Effects, before: usize) -> u32 {
    let mut sum: u64 = 0;
    let mut add = |number: u64| sum = (sum.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for (request_id, reply) in answers(fx).skip(before) {
        add(request_id.unique);
        // Not the bytes of texts: they tell of the process, too.
        let (kind, number) = match reply {
            Reply::Done => (0, 0),
            Reply::Failed(error) => (1, *error as u64),
            Reply::Entry(entry) => (2, entry.node.0),
            Reply::Created(entry, opened) => (3, entry.node.0 ^ opened.fh.0.rotate_left(32)),
            Reply::Attr(attr, _) => (4, attr.ino.0),
            Reply::Opened(opened) => (5, opened.fh.0),
            Reply::Directory(fh) => (6, fh.0),
            Reply::Message(slice) => (7, slice.len() as u64),
            Reply::Data(_) => (8, 0),
            Reply::Text(_) => (17, 0),
            Reply::Listing(names, _) => (9, names.len() as u64),
            Reply::Written(count) => (10, u64::from(*count)),
            Reply::Copied(count) => (11, *count),
            Reply::XattrSize(size) => (12, u64::from(*size)),
            Reply::Lock(lock) => (13, u64::from(lock.is_some())),
            Reply::Ready(ready) => (14, u64::from(ready.readable) | u64::from(ready.writable) << 1),
            Reply::Offset(offset) => (15, *offset),
            Reply::Space(_) => (16, 0),
        };
        add(kind);
        add(number);
    }
    (sum >> 32) as u32
}
