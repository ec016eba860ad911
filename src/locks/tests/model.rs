//! Random histories, compared with a model of 16 bytes; the last stands for all bytes that follow.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::account;
use crate::locks::request::END;
use crate::locks::{Locks, WaitId};
use crate::op::{Effect, Effects, Error, Fh, Ino, LockCall, LockHeld, LockKind, LockOwner, Reply, RequestId};
use LockKind::{Exclusive, Shared, Unlock};

const BYTES: u64 = 16;
const OWNERS: u64 = 4;
const FILES: u64 = 2;

/// An input of the state machine.
#[derive(Debug, Clone)]
enum Step {
    Set {
        file: Ino,
        call: LockCall,
        wait: bool,
    },
    Test {
        file: Ino,
        call: LockCall,
    },
    /// The nth call that ever waited.
    Cancel(prop::sample::Index),
    CloseOwner(Ino, LockOwner),
    CloseHandle(Fh),
}

/// One owner's lock on a byte.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    kind: LockKind,
    fh: Fh,
    pid: u32,
}

#[derive(Debug, Default, Clone)]
struct File {
    bytes: BTreeMap<(LockOwner, u64), Mark>,
    flocks: BTreeMap<Fh, Mark>,
}

/// The reference: bytes, and waiting calls in order of arrival.
#[derive(Debug)]
struct Model {
    limit: usize,
    files: BTreeMap<Ino, File>,
    waiting: Vec<(WaitId, Ino, LockCall, RequestId)>,
    replies: Vec<(RequestId, Reply)>,
}

fn conflicts(a: LockKind, b: LockKind) -> bool {
    a != Unlock && b != Unlock && (a == Exclusive || b == Exclusive)
}

/// The model's number of a byte, and the real one.
fn byte(real: u64) -> u64 {
    real.min(BYTES - 1)
}

fn real_end(byte: u64) -> u64 {
    if byte == BYTES - 1 { END } else { byte }
}

impl File {
    /// Maximal runs of equal bytes: owner, first, last, mark.
    fn runs(&self) -> Vec<(LockOwner, u64, u64, Mark)> {
        let mut runs: Vec<(LockOwner, u64, u64, Mark)> = Vec::new();
        for (&(owner, at), &mark) in &self.bytes {
            match runs.last_mut() {
                Some(run) if (run.0, run.2 + 1, run.3) == (owner, at, mark) => run.2 = at,
                _ => runs.push((owner, at, at, mark)),
            }
        }
        runs
    }

    fn held(&self) -> usize {
        self.runs().len() + self.flocks.len()
    }

    /// Owner and pid of the locks that conflict with the call.
    fn conflicting(&self, call: &LockCall) -> Vec<(LockOwner, u32)> {
        if call.flock {
            let others =
                self.flocks.iter().filter(|(fh, mark)| **fh != call.fh && conflicts(call.kind, mark.kind));
            return others.map(|(fh, mark)| (LockOwner(fh.0), mark.pid)).collect();
        }
        let (from, to) = (byte(call.start), byte(call.end));
        let others = self.bytes.iter().filter(|((owner, at), mark)| {
            *owner != call.owner && (from..=to).contains(at) && conflicts(call.kind, mark.kind)
        });
        others.map(|((owner, _), mark)| (*owner, mark.pid)).collect()
    }

    fn apply(&mut self, call: &LockCall) {
        let mark = Mark { kind: call.kind, fh: call.fh, pid: call.pid };
        if call.flock {
            self.flocks.remove(&call.fh);
            if call.kind != Unlock {
                self.flocks.insert(call.fh, mark);
            }
            return;
        }
        for at in byte(call.start)..=byte(call.end) {
            self.bytes.remove(&(call.owner, at));
            if call.kind != Unlock {
                self.bytes.insert((call.owner, at), mark);
            }
        }
    }
}

impl Model {
    fn new(limit: usize) -> Model {
        let files = (0..FILES).map(|n| (Ino(n), File::default())).collect();
        Model { limit, files, waiting: Vec::new(), replies: Vec::new() }
    }

    fn held(&self) -> usize {
        self.files.values().map(File::held).sum()
    }

    fn fits(&self, file: Ino, call: &LockCall) -> bool {
        let mut after = self.files[&file].clone();
        let before = after.held();
        after.apply(call);
        after.held() <= before || self.held() + self.waiting.len() - before + after.held() <= self.limit
    }

    /// Every holder that the caller would wait for, itself or through others.
    fn waits_for(&self, file: Ino, call: &LockCall) -> BTreeSet<(LockOwner, u32)> {
        let mut reached: BTreeSet<_> = self.files[&file].conflicting(call).into_iter().collect();
        loop {
            let calls = self.waiting.iter().filter(|(_, _, call, _)| !call.flock);
            let of_reached = calls.filter(|(_, _, call, _)| reached.contains(&(call.owner, call.pid)));
            let more: Vec<_> =
                of_reached.flat_map(|(_, file, call, _)| self.files[file].conflicting(call)).collect();
            let before = reached.len();
            reached.extend(more);
            if reached.len() == before {
                return reached;
            }
        }
    }

    fn set(&mut self, file: Ino, call: &LockCall, request_id: RequestId, wait: bool, id: Option<WaitId>) {
        if call.flock && self.files[&file].flocks.get(&call.fh).is_some_and(|mark| mark.kind != call.kind) {
            self.files.get_mut(&file).unwrap().flocks.remove(&call.fh);
        }
        let error = if self.files[&file].conflicting(call).is_empty() {
            (!self.fits(file, call)).then_some(Error::NoLocks)
        } else if !wait {
            Some(Error::WouldWait)
        } else if !call.flock && self.waits_for(file, call).contains(&(call.owner, call.pid)) {
            Some(Error::Deadlock)
        } else if self.held() + self.waiting.len() >= self.limit {
            Some(Error::NoLocks)
        } else {
            self.waiting.push((id.expect("the call waits in the model"), file, *call, request_id));
            self.grant(file);
            return;
        };
        assert_eq!(id, None, "the call does not wait in the model");
        if error.is_none() {
            self.files.get_mut(&file).unwrap().apply(call);
        }
        self.replies.push((request_id, error.map_or(Reply::Done, Reply::Failed)));
        self.grant(file);
    }

    /// Repeatedly grants the first waiting call that is not blocked.
    fn grant(&mut self, file: Ino) {
        for flock in [true, false] {
            while let Some(at) = self.waiting.iter().position(|(_, its_file, call, _)| {
                *its_file == file && call.flock == flock && self.files[&file].conflicting(call).is_empty()
            }) {
                let (_, _, call, request_id) = self.waiting.remove(at);
                let fits = self.fits(file, &call);
                if fits {
                    self.files.get_mut(&file).unwrap().apply(&call);
                }
                self.replies
                    .push((request_id, if fits { Reply::Done } else { Reply::Failed(Error::NoLocks) }));
            }
        }
    }

    fn test(&self, file: Ino, call: &LockCall) -> Option<LockHeld> {
        let file = &self.files[&file];
        if call.flock {
            let mut others = file.flocks.iter().filter(|(fh, _)| **fh != call.fh);
            let (_, mark) = others.find(|(_, mark)| conflicts(call.kind, mark.kind))?;
            return Some(LockHeld { kind: mark.kind, start: 0, end: END, pid: mark.pid });
        }
        let overlaps = |&&(owner, from, to, mark): &&(LockOwner, u64, u64, Mark)| {
            let wanted = if call.kind == Unlock {
                owner == call.owner
            } else {
                owner != call.owner && conflicts(call.kind, mark.kind)
            };
            wanted && from <= byte(call.end) && byte(call.start) <= to
        };
        let runs = file.runs();
        let (_, from, to, mark) = runs.iter().filter(overlaps).min_by_key(|run| (run.1, run.0))?;
        Some(LockHeld { kind: mark.kind, start: *from, end: real_end(*to), pid: mark.pid })
    }

    fn cancel(&mut self, id: WaitId, error: Error) -> bool {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.0 == id) else { return false };
        let (_, _, _, request_id) = self.waiting.remove(at);
        self.replies.push((request_id, Reply::Failed(error)));
        true
    }

    fn close_owner(&mut self, file: Ino, owner: LockOwner) {
        self.files.get_mut(&file).unwrap().bytes.retain(|(its, _), _| *its != owner);
        self.grant(file);
    }

    fn close_handle(&mut self, fh: Fh) {
        for n in 0..FILES {
            let file = Ino(n);
            let through_it =
                |waiting: &&(WaitId, Ino, LockCall, RequestId)| (waiting.1, waiting.2.fh) == (file, fh);
            let ended: Vec<WaitId> =
                self.waiting.iter().filter(through_it).map(|waiting| waiting.0).collect();
            for id in ended {
                self.cancel(id, Error::BadDescriptor);
            }
            let held = self.files.get_mut(&file).unwrap();
            held.flocks.remove(&fh);
            held.bytes.retain(|_, mark| mark.fh != fh);
            self.grant(file);
        }
    }
}

fn kinds() -> impl Strategy<Value = LockKind> {
    prop_oneof![3 => Just(Shared), 3 => Just(Exclusive), 2 => Just(Unlock)]
}

/// Calls as a kernel makes them: an owner is a process with one or two open files, or an open file with one or two
/// processes.
fn calls() -> impl Strategy<Value = LockCall> {
    let span = (0..BYTES, 0..BYTES).prop_map(|(a, b)| (a.min(b), a.max(b)));
    (0..OWNERS, any::<bool>(), prop::bool::weighted(0.25), kinds(), span, any::<bool>()).prop_map(
        |(owner, second, flock, kind, (start, end), unsigned)| {
            let second_file = second && owner % 2 == 0;
            let second_process = second && owner % 2 == 1;
            let end = if end < BYTES - 1 {
                end
            } else if unsigned {
                u64::MAX
            } else {
                END
            };
            LockCall {
                fh: Fh(owner + if second_file { OWNERS } else { 0 }),
                owner: LockOwner(owner),
                pid: (owner + if second_process { OWNERS } else { 0 }) as u32,
                flock,
                kind,
                start,
                end,
            }
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let files = || (0..FILES).prop_map(Ino);
    prop_oneof![
        12 => (files(), calls(), any::<bool>()).prop_map(|(file, call, wait)| Step::Set { file, call, wait }),
        3 => (files(), calls()).prop_map(|(file, call)| Step::Test { file, call }),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => (files(), 0..OWNERS).prop_map(|(file, owner)| Step::CloseOwner(file, LockOwner(owner))),
        1 => (0..OWNERS * 2).prop_map(|fh| Step::CloseHandle(Fh(fh))),
    ]
}

fn run(limit: usize, steps: Vec<Step>) {
    let (mut locks, account) = (Locks::default(), account(limit));
    let mut model = Model::new(limit);
    let mut fx = Effects::new();
    let mut waited = Vec::new();
    let mut unanswered = BTreeSet::new();
    let finish = (0..OWNERS * 2).map(|fh| Step::CloseHandle(Fh(fh)));
    for (step, unique) in steps.into_iter().chain(finish).zip(0..) {
        match step {
            Step::Set { file, call, wait } => {
                let request_id = RequestId { unique, reply_path: 0, pid: 0 };
                unanswered.insert(request_id);
                let id = locks.set(file, &call, &account, (request_id, wait), &mut fx);
                waited.extend(id);
                model.set(file, &call, request_id, wait, id);
            }
            Step::Test { file, call } => assert_eq!(locks.test(file, &call), model.test(file, &call)),
            Step::Cancel(index) if !waited.is_empty() => {
                let id = waited[index.index(waited.len())];
                let cancelled = locks.cancel(id, Error::Interrupted, &mut fx);
                assert_eq!(cancelled, model.cancel(id, Error::Interrupted));
            }
            Step::Cancel(_) => {}
            Step::CloseOwner(file, owner) => {
                locks.close_owner(file, owner, &mut fx);
                model.close_owner(file, owner);
            }
            Step::CloseHandle(fh) => {
                locks.close_handle(fh, &mut fx);
                model.close_handle(fh);
            }
        }
        let replies: Vec<_> = fx
            .drain()
            .map(|effect| match effect {
                Effect::Reply(request_id, reply) => (request_id, reply),
                other => panic!("not a reply: {other:?}"),
            })
            .collect();
        for (request_id, _) in &replies {
            assert!(unanswered.remove(request_id), "{request_id:?} answered twice");
        }
        assert_eq!(replies, std::mem::take(&mut model.replies));
        assert_eq!(unanswered, model.waiting.iter().map(|waiting| waiting.3).collect());
        assert_eq!((locks.held(), locks.waiting()), (model.held(), model.waiting.len()));
        assert!(locks.held() + locks.waiting() <= limit);
    }
    assert_eq!((locks.held(), locks.waiting(), unanswered.len()), (0, 0, 0));
    assert!(locks.files.is_empty() && locks.used.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_bytes_do(steps in prop::collection::vec(steps(), 0..120)) {
        run(1000, steps);
    }

    #[test]
    fn behaves_as_bytes_do_at_the_limit(limit in 0..8usize, steps in prop::collection::vec(steps(), 0..120)) {
        run(limit, steps);
    }

    /// For arbitrary arguments: no panic, and every call is answered by the end.
    #[test]
    fn survives_any_numbers(
        calls in prop::collection::vec((any::<u64>(), any::<u64>(), 0..3u64, 0..3u64, kinds(), any::<bool>()), 0..80)
    ) {
        let (mut locks, account) = (Locks::default(), account(20));
        let mut fx = Effects::new();
        let count = calls.len();
        for ((start, end, owner, fh, kind, wait), unique) in calls.into_iter().zip(0..) {
            let flock = start % 7 == 0;
            let call =
                LockCall { fh: Fh(fh), owner: LockOwner(u64::MAX - owner), pid: 0, flock, kind, start, end };
            locks.test(Ino(u64::MAX), &call);
            locks.set(Ino(u64::MAX), &call, &account, (RequestId { unique, reply_path: 0, pid: 0 }, wait), &mut fx);
        }
        (0..3).for_each(|fh| locks.close_handle(Fh(fh), &mut fx));
        prop_assert_eq!((locks.held(), locks.waiting(), fx.drain().count()), (0, 0, count));
    }
}
