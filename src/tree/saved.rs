//! A tree, from one process to the next.

use std::io;
use std::sync::Arc;

use super::kinds::Remotes;
use super::waiting::ring_reads::RingReads;
use super::{MakeMemory, Setup, Tree, accounts};
use crate::accounts::{Account, COUNT};
use crate::config::{Limits, MAX_OPEN};
use crate::op::Now;
use crate::segment::Memory;
use crate::state::{Given, Restorer, Saved, Saver, Unfit, saved};

impl Tree {
    /// Writes all that the tree knows to `sink`, so that [`Tree::take_over`] makes the same tree of it in another process. Returns
    /// the memory of the segments, whose descriptors ([`Memory::backing`]) must go to that process in this order.
    ///
    /// Nothing else may call the tree until this returns. What it has decided before must be done: all effects performed, all
    /// records written, all promises of the journal kept. The requests that wait stay, with their numbers and reply paths. The tree
    /// does not change, and can go on.
    ///
    /// # Errors
    /// Those of `sink`; `ResourceBusy` if a job takes a step, which would be lost; `Unsupported` if an engine carries mailboxes: what
    /// it has in hand stays in its process.
    pub fn save(&self, sink: &mut dyn io::Write) -> io::Result<Vec<Arc<dyn Memory>>> {
        if self.work.is_in_hand() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        if self.setup.engine {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut to = Saver::new(sink);
        let Tree {
            setup,
            started,
            names,
            handles,
            locks,
            waits,
            memory,
            accounts: _,
            make_memory: _,
            starved,
            totals,
            topic_totals,
            remotes: _,
            alarms,
            orphans,
            work,
            ring_reads,
            discarded,
        } = self;
        Mount::of(setup).save(&mut to);
        let holdings = self.holdings();
        holdings.save(&mut to);
        started.save(&mut to);
        names.save(&mut to);
        handles.save(&mut to);
        locks.save(&mut to);
        waits.save(&mut to);
        memory.save(&mut to);
        starved.save(&mut to);
        totals.save(&mut to);
        topic_totals.save(&mut to);
        alarms.save(&mut to);
        orphans.save(&mut to);
        work.save(&mut to);
        discarded.save(&mut to);
        ring_reads.save(&mut to);
        to.finish()
    }

    /// The tree that was saved. `memories` are those that [`Tree::save`] has returned, made again from their descriptors. `setup` and
    /// `make_memory` are as for [`Tree::new`]; but limits and owner are the mount's, and those of `setup` do not count. If there is a
    /// store, the journal is opened as ever, and what it has recovered is not needed.
    ///
    /// [`Tree::tick`] has to be called before the first request: it tells the clock when to call next. There may be work
    /// ([`Tree::has_work`]).
    ///
    /// # Errors
    /// If the state has another version, is damaged, or does not fit what `setup` has. Then the process that has saved it can go
    /// on.
    pub fn take_over(
        setup: Setup,
        make_memory: MakeMemory,
        state: &[u8],
        memories: Vec<Arc<dyn Memory>>,
        now: Now,
    ) -> Result<Tree, Unfit> {
        let mut from = Restorer::new(state)?;
        let mount = Mount::restore(&mut from).ok_or(Unfit::Damaged)?;
        let setup = mount.applied(setup)?;
        from.give(given(&setup, memories, now));
        let tree = Tree::restored(Arc::new(setup), make_memory, &mut from);
        tree.filter(|_| from.is_at_end()).ok_or(Unfit::Damaged)
    }

    /// The same tree as [`Tree::take_over`] makes of a state that this one has just saved: nothing else of this one is in it.
    ///
    /// # Errors
    /// As those of [`Tree::take_over`].
    pub fn renewed(&self, state: &[u8], memories: Vec<Arc<dyn Memory>>, now: Now) -> Result<Tree, Unfit> {
        let mut from = Restorer::new(state)?;
        Mount::restore(&mut from).ok_or(Unfit::Damaged)?;
        let setup = Arc::clone(&self.setup);
        from.give(given(&setup, memories, now));
        let tree = Tree::restored(setup, Arc::clone(&self.make_memory), &mut from);
        tree.filter(|_| from.is_at_end()).ok_or(Unfit::Damaged)
    }

    fn restored(setup: Arc<Setup>, make_memory: MakeMemory, from: &mut Restorer<'_>) -> Option<Tree> {
        let holdings: Vec<Holding> = Saved::restore(from)?;
        // Held until all is charged, as accounts that hold nothing may be dropped.
        let mut users: Vec<Arc<Account>> = Vec::new();
        for holding in &holdings {
            let account = from.account(holding.uid)?;
            account.restore_refused(holding.refused);
            users.push(account);
        }
        let tree = Tree {
            started: Saved::restore(from)?,
            names: Saved::restore(from)?,
            handles: Saved::restore(from)?,
            locks: Saved::restore(from)?,
            waits: Saved::restore(from)?,
            memory: Saved::restore(from)?,
            accounts: Saved::restore(from)?,
            make_memory,
            starved: Saved::restore(from)?,
            totals: Saved::restore(from)?,
            topic_totals: Saved::restore(from)?,
            remotes: Remotes::default(),
            alarms: Saved::restore(from)?,
            orphans: Saved::restore(from)?,
            work: Saved::restore(from)?,
            discarded: Saved::restore(from)?,
            ring_reads: if from.version() < 4 { RingReads::default() } else { Saved::restore(from)? },
            setup,
        };
        // Each charge has been entered again.
        (tree.holdings() == holdings).then_some(tree)
    }

    fn holdings(&self) -> Vec<Holding> {
        let users = self.accounts.list(None, usize::MAX).into_iter();
        let holding = |account: Arc<Account>| {
            let usage = account.usage();
            let (used, refused) = (usage.map(|usage| usage.used), usage.map(|usage| usage.refused));
            Holding { uid: account.uid(), used, refused }
        };
        users.filter_map(|uid| self.accounts.find(uid)).map(holding).collect()
    }
}

/// What is not in a state.
fn given(setup: &Setup, memories: Vec<Arc<dyn Memory>>, now: Now) -> Given {
    Given {
        accounts: Arc::new(accounts(setup)),
        journal: setup.journal.clone(),
        memories,
        now,
        longest_table: setup.limits.max_files.max(MAX_OPEN) as usize,
    }
}

/// What belongs to a mount and not to a process.
struct Mount {
    limits: Limits,
    ceiling: u32,
    uid: u32,
    gid: u32,
    shared: bool,
    passthrough: bool,
    store: bool,
}

saved!(struct Mount { limits, ceiling, uid, gid, shared, passthrough, store });

impl Mount {
    fn of(setup: &Setup) -> Mount {
        let Setup {
            limits,
            ceiling,
            uid,
            gid,
            shared,
            backing,
            transport: _,
            scheduling: _,
            restart: _,
            threads: _,
            descriptors: _,
            pid: _,
            journal,
            engine: _,
        } = setup;
        Mount {
            limits: *limits,
            ceiling: *ceiling,
            uid: *uid,
            gid: *gid,
            shared: *shared,
            passthrough: backing.is_some(),
            store: journal.is_some(),
        }
    }

    /// The setup of a process that takes this mount over.
    fn applied(&self, setup: Setup) -> Result<Setup, Unfit> {
        let Mount { limits, ceiling, uid, gid, shared, passthrough, store } = *self;
        if passthrough != setup.backing.is_some() {
            return Err(Unfit::Mount("data path of segments"));
        }
        if store != setup.journal.is_some() {
            return Err(Unfit::Mount("store"));
        }
        Ok(Setup { limits, ceiling, uid, gid, shared, ..setup })
    }
}

/// What one user holds, and how often something was refused.
#[derive(PartialEq)]
struct Holding {
    uid: u32,
    used: [u64; COUNT],
    refused: [u64; COUNT],
}

saved!(struct Holding { uid, used, refused });
