//! Work whose length depends on what users made: done in short steps, by a thread that serves no requests.
//!
//! A job takes its file's lock in each step anew, so that neither other requests nor other jobs wait for it. Jobs take turns.

use std::collections::{BTreeMap, VecDeque};

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::op::{Effect, Effects, Error};
use crate::state::saved;

/// Identifies a job. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(u64);

saved!(struct JobId(number));

/// All jobs of a mount.
#[derive(Debug)]
pub(crate) struct Work<J> {
    // Innermost but for the index of waiting requests: taken while a file's lock is held.
    line: Mutex<Line<J>>,
    /// A job came, and the thread that does them was not told.
    news: AtomicBool,
}

saved!(struct Work<J> { line, news });

#[derive(Debug)]
struct Line<J> {
    jobs: VecDeque<(JobId, J)>,
    /// The job that takes a step now.
    in_hand: Option<JobId>,
    /// Jobs that must end before they are done, and why.
    ended: BTreeMap<JobId, Error>,
    next: u64,
}

saved!(struct Line<J> { jobs, in_hand, ended, next });

impl<J> Default for Work<J> {
    fn default() -> Work<J> {
        let line = Line { jobs: VecDeque::new(), in_hand: None, ended: BTreeMap::new(), next: 0 };
        Work { line: Mutex::new(line), news: AtomicBool::new(false) }
    }
}

impl<J> Work<J> {
    /// Adds a job. `enter` is called before the first step can be taken: with it, the job's request becomes one that waits. An
    /// error of it ends the job.
    pub(crate) fn push(&self, job: J, enter: impl FnOnce(JobId) -> Result<(), Error>) {
        let mut line = self.line.lock();
        let id = line.next_id();
        if let Err(error) = enter(id) {
            line.ended.insert(id, error);
        }
        line.jobs.push_back((id, job));
        self.news.store(true, Ordering::SeqCst);
    }

    /// Adds a job that frees memory, before those that may need it.
    pub(crate) fn push_first(&self, job: J) {
        let mut line = self.line.lock();
        let id = line.next_id();
        line.jobs.push_front((id, job));
        self.news.store(true, Ordering::SeqCst);
    }

    /// Makes the thread that does the jobs take them, after one more came.
    pub(crate) fn arm(&self, fx: &mut Effects) {
        if self.news.load(Ordering::SeqCst) && self.news.swap(false, Ordering::SeqCst) {
            fx.push(Effect::Work);
        }
    }

    /// The next job, and the error with which it must end, if it must. It is in hand until [`Work::put_back`] or
    /// [`Work::done`].
    pub(crate) fn take(&self) -> Option<(JobId, J, Option<Error>)> {
        let mut line = self.line.lock();
        let (id, job) = line.jobs.pop_front()?;
        line.in_hand = Some(id);
        let ended = line.ended.remove(&id);
        Some((id, job, ended))
    }

    /// The job in hand has taken a step, and is not done.
    pub(crate) fn put_back(&self, id: JobId, job: J, first: bool) {
        let mut line = self.line.lock();
        line.in_hand = None;
        if first {
            line.jobs.push_front((id, job));
        } else {
            line.jobs.push_back((id, job));
        }
    }

    /// The job in hand is done. Returns the error with which it had to end, if that was said during its last step.
    pub(crate) fn done(&self, id: JobId) -> Option<Error> {
        let mut line = self.line.lock();
        line.in_hand = None;
        line.ended.remove(&id)
    }

    /// There is a job.
    pub(crate) fn is_any(&self) -> bool {
        let line = self.line.lock();
        line.in_hand.is_some() || !line.jobs.is_empty()
    }

    /// A job takes a step now.
    pub(crate) fn is_in_hand(&self) -> bool {
        self.line.lock().in_hand.is_some()
    }

    /// A job has to end with `error`: it is told at its next step.
    pub(crate) fn end(&self, id: JobId, error: Error) {
        let mut line = self.line.lock();
        if line.in_hand == Some(id) || line.jobs.iter().any(|(other, _)| *other == id) {
            line.ended.insert(id, error);
        }
    }
}

impl<J> Line<J> {
    fn next_id(&mut self) -> JobId {
        self.next += 1;
        JobId(self.next)
    }
}
