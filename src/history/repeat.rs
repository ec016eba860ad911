//! Making the tree of a daemon again that was killed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::call::{self, Made};
use super::log::{Kind, Log};
use super::memory::{self, KeptMemory};
use super::pen::{Keep, Pen, Repeating};
use super::{Recorded, checksum, kept};
use crate::op::{Effect, Effects, NodeId, Now, Op, PollHandle, Reply, RequestId};
use crate::segment::Memory;
use crate::tree::{Setup, Tree};

/// Why the tree cannot be made again.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Lost {
    #[error("its history cannot be used: {0}")]
    Unusable(#[from] io::Error),
    #[error("its history is damaged")]
    Damaged,
    #[error("what was done cannot be done again in the same way (call {0})")]
    Differs(u64),
    #[error("the memory of a segment is gone")]
    Memory,
}

/// A tree as it was, and what is left to do.
#[derive(Debug)]
pub struct Again {
    /// The tree. Its history goes on.
    pub recorded: Recorded,
    /// Answers that were decided and that the kernel may not have, by the number of the request.
    pub answers: BTreeMap<u64, (RequestId, Reply)>,
    /// Pollers that may not have been woken.
    pub wakes: Vec<PollHandle>,
    /// Nodes whose attributes the kernel may not have dropped.
    pub stale: Vec<NodeId>,
    /// The generation that stays until the answers are [given](Recorded::given).
    pub held: u8,
    /// How many calls were made again.
    pub calls: u64,
    /// The numbers of those that are FORGETs.
    pub forgets: BTreeSet<u64>,
}

/// The memories that were made, by number.
type Registry = Arc<Mutex<Option<Vec<Weak<KeptMemory>>>>>;

/// Makes the tree again whose history is in `files`. `memories` are those of segments, by number. `wanted` are the requests that the
/// kernel still has.
///
/// # Errors
/// If it is not certain that the tree is as it was.
pub fn take_over(
    files: [OwnedFd; 2],
    setup: impl Fn() -> Setup,
    memories: BTreeMap<u64, OwnedFd>,
    keeper: Box<dyn Keep>,
    wanted: &BTreeSet<u64>,
) -> Result<Again, Lost> {
    let log = Log::of_files(files)?;
    let generations = log.generations();
    let held = generations.first().copied().unwrap_or_default() as u8;
    let pen = Arc::new(Pen::new(log, Some(memories), keeper));
    pen.take_more_in_hand(held);
    let registry: Registry = Arc::new(Mutex::new(None));
    let mut again = Repeater {
        pen: Arc::clone(&pen),
        wanted,
        answers: BTreeMap::new(),
        wakes: BTreeSet::new(),
        stale: BTreeSet::new(),
        calls: 0,
        forgets: BTreeSet::new(),
    };
    let mut tree = None;
    for generation in generations {
        // The one before has told its answers.
        drop(tree.take());
        *registry.lock() = Some(Vec::new());
        let made = again.tree(generation, setup(), &registry)?;
        again.repeat(generation, &made)?;
        tree = Some(made);
    }
    let tree = tree.ok_or(Lost::Damaged)?;
    let used: Vec<Arc<KeptMemory>> =
        registry.lock().take().into_iter().flatten().filter_map(|memory| memory.upgrade()).collect();
    if used.iter().any(|memory| memory.is_missing()) {
        return Err(Lost::Memory);
    }
    let numbers: BTreeSet<u64> = used.iter().filter_map(|memory| memory.kept_as()).collect();
    pen.made_again(|number| numbers.contains(&number));
    let Repeater { answers, wakes, stale, calls, forgets, .. } = again;
    Ok(Again {
        recorded: Recorded::with(tree, pen),
        answers,
        wakes: wakes.into_iter().map(PollHandle).collect(),
        stale: stale.into_iter().collect(),
        held,
        calls,
        forgets,
    })
}

struct Repeater<'a> {
    pen: Arc<Pen>,
    wanted: &'a BTreeSet<u64>,
    answers: BTreeMap<u64, (RequestId, Reply)>,
    wakes: BTreeSet<u64>,
    stale: BTreeSet<NodeId>,
    calls: u64,
    forgets: BTreeSet<u64>,
}

/// A call as it is written down.
struct Written {
    bytes: Vec<u8>,
    results: VecDeque<Vec<u8>>,
    /// Of what was decided, if the process died after that.
    checksum: Option<u32>,
    next: u64,
}

impl Repeater<'_> {
    /// The tree with which a generation begins.
    fn tree(&self, generation: usize, setup: Setup, registry: &Registry) -> Result<Tree, Lost> {
        let note = {
            let registry = Arc::clone(registry);
            move |memory: &Arc<KeptMemory>| {
                if let Some(made) = &mut *registry.lock() {
                    made.push(Arc::downgrade(memory));
                }
            }
        };
        let copied = self.pen.with_log(|log| {
            let (state, numbers) = log.state(generation)?;
            Some((state.to_vec(), numbers))
        });
        let (state, numbers) = copied.flatten().ok_or(Lost::Damaged)?;
        let mut memories = Vec::new();
        for number in numbers {
            let memory = Arc::new(KeptMemory::find(number, &self.pen).map_err(|_| Lost::Memory)?);
            note(&memory);
            memories.push(memory as Arc<dyn Memory>);
        }
        let make = memory::maker(&self.pen, note);
        Tree::take_over(kept(setup, &self.pen), make, &state, memories, Now::default())
            .map_err(|unfit| Lost::Unusable(io::Error::other(unfit)))
    }

    fn written(&self, generation: usize, at: u64) -> Result<Option<Written>, Lost> {
        let read = |log: &mut Log| {
            let Some((kind, bytes, mut next)) = log.entry(generation, at) else { return Ok(None) };
            if kind != Kind::Call {
                return Err(Lost::Damaged);
            }
            let (bytes, mut results) = (bytes.to_vec(), VecDeque::new());
            loop {
                match log.entry(generation, next) {
                    Some((Kind::Result, bytes, after)) => {
                        results.push_back(bytes.to_vec());
                        next = after;
                    }
                    Some((Kind::Done, checksum, after)) => {
                        let checksum = checksum.try_into().map_err(|_| Lost::Damaged)?;
                        let checksum = Some(u32::from_le_bytes(checksum));
                        return Ok(Some(Written { bytes, results, checksum, next: after }));
                    }
                    Some((Kind::Call, ..)) => return Err(Lost::Damaged),
                    None => return Ok(Some(Written { bytes, results, checksum: None, next })),
                }
            }
        };
        self.pen.with_log(read).unwrap_or(Err(Lost::Damaged))
    }

    /// Makes the calls of a generation.
    fn repeat(&mut self, generation: usize, tree: &Tree) -> Result<(), Lost> {
        let mut at = self.pen.with_log(|log| log.first(generation)).unwrap_or_default();
        let mut fx = Effects::new();
        while let Some(Written { bytes, results, checksum: before, next }) = self.written(generation, at)? {
            self.calls += 1;
            let (call, now) = call::restore(&bytes).ok_or(Lost::Damaged)?;
            let is_wanted = match &call {
                Made::Handle(request) => self.wanted.contains(&request.request_id.unique),
                _ => true,
            };
            if let Made::Handle(request) = &call
                && matches!(request.op, Op::Forget(_))
            {
                self.forgets.insert(request.request_id.unique);
            }
            let is_complete = before.is_some();
            self.pen.repeat(Repeating { results, is_complete, is_wanted, differs: false });
            match &call {
                Made::Handle(request) => tree.handle(request, now, &mut fx),
                Made::Cancel(unique, error) => tree.cancel_wait(*unique, *error, now, &mut fx),
                Made::Expire(limit) => tree.expire(*limit, now, &mut fx),
                Made::End => tree.end(now, &mut fx),
                Made::Tick => tree.tick(now, &mut fx),
                Made::Work => drop(tree.work(now, &mut fx)),
            }
            let repeated = self.pen.repeated();
            let checksum = checksum(&fx, 0);
            let is_same = !repeated.differs && repeated.results.is_empty();
            if !is_same || before.is_some_and(|before| before != checksum) {
                // Without names and texts, which are users'.
                let what = match &call {
                    Made::Handle(request) => name(&request.op),
                    _ => String::from("no request"),
                };
                log::error!(
                    "call {} of a history differs: {what}; memory {}, {} results left; now it decides {:?}",
                    self.calls,
                    repeated.differs,
                    repeated.results.len(),
                    super::answers(&fx)
                        .map(|(request_id, reply)| (request_id.unique, kind(reply)))
                        .collect::<Vec<_>>(),
                );
            }
            if !is_same || before.is_some_and(|before| before != checksum) {
                return Err(Lost::Differs(self.calls));
            }
            if !is_complete {
                self.pen.end(checksum);
            }
            self.keep_answers(&call, &mut fx);
            at = next;
            if !is_complete {
                break;
            }
        }
        Ok(())
    }

    fn keep_answers(&mut self, call: &Made<'_>, fx: &mut Effects) {
        if let Made::Handle(request) = call
            && matches!(request.op, Op::Setlk { .. } | Op::Getlk(_))
            && fx.refuses_lock(request.request_id)
        {
            // It may have been taken back. A lock that was refused is asked for again: nothing has changed by it.
            fx.take_back(request.request_id);
        }
        for effect in fx.drain() {
            match effect {
                Effect::Reply(request_id, reply)
                | Effect::Deliver(request_id, reply, _)
                | Effect::Promise(_, request_id, reply) => {
                    let answer = (request_id.unique, (request_id, reply));
                    self.answers.extend(Some(answer).filter(|(unique, _)| self.wanted.contains(unique)));
                }
                Effect::Wake(handle) => drop(self.wakes.insert(handle.0)),
                Effect::InvalidateAttr(node) => drop(self.stale.insert(node)),
                // The clock and the worker look for themselves, and the kernel asks again.
                _ => {}
            }
        }
    }
}

/// What a request asks, without names and texts.
fn name(op: &Op<'_>) -> String {
    first_word(&format!("{op:?}"))
}

fn kind(reply: &Reply) -> String {
    match reply {
        Reply::Failed(error) => format!("{error:?}"),
        Reply::Entry(entry) => format!("Entry {:?}", entry.node),
        Reply::Opened(opened) => format!("{opened:?}"),
        Reply::Created(entry, opened) => format!("Created {:?} {opened:?}", entry.node),
        Reply::Message(slice) => format!("Message of {}", slice.len()),
        other => first_word(&format!("{other:?}")),
    }
}

fn first_word(text: &str) -> String {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
}
