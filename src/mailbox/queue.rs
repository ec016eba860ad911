//! The queued messages: in order, by id, by tag and by sender.
//!
//! Plain queueing touches one queue of messages and nothing else. Messages are found by tag or sender through an
//! index, which is made on first use and kept until the queue is empty. Lines that came in one write are queued as a
//! *run*, one entry, until one of them is needed by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::{iter, mem};

use super::message::{Message, Rank, Tag};
use super::noted::Noted;
use super::ordered_queue::OrderedQueue;
use crate::accounts::Account;
use crate::op::Moment;
use crate::state::{Restorer, Saved, Saver, saved};

/// Which messages a receiver takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    Any,
    Tag(Tag),
    Sender(u32),
}

saved!(enum Filter { 0 = Any, 1 = Tag(it), 2 = Sender(it) });

/// In what order messages are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// In the order in which they were sent, whatever their priority.
    Fifo,
    /// Higher priorities first; within one priority, in the order in which they were sent.
    #[default]
    Priority,
}

saved!(enum Order { 0 = Fifo, 1 = Priority });

/// Positions are counted from here, so that there are some before the first message's.
pub(super) const FIRST_POSITION: u64 = 1 << 32;

/// Messages of one priority, by position.
type Level = OrderedQueue<u64, Message>;

/// The ranks of messages, by an attribute that they share.
type Index<K> = BTreeMap<K, BTreeSet<Rank>>;

/// An index that is being made, or was.
#[derive(Debug)]
struct Indexed<K> {
    index: Index<K>,
    /// It has the messages before this rank. `None`: all.
    until: Option<Rank>,
}

/// Messages that one step adds to an index.
const STEP: usize = 1000;

/// Messages, or runs, at which one step of a removal looks, and bytes of those that it removes, or a few more.
pub(super) const REMOVED_AT_ONCE: usize = 500;
pub(super) const BYTES_REMOVED_AT_ONCE: u64 = 1 << 20;

/// Lines of a run, so that splitting one is a short step.
pub(super) const LONGEST_RUN: u64 = 1000;

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: Order,
    /// Messages without priority. Only here are runs.
    plain: Level,
    /// Messages with a priority, the highest first. No level is empty.
    prioritized: BTreeMap<u16, Level>,
    /// The first positions of the prioritized levels, and the levels; under [`Order::Fifo`] only.
    fronts: BTreeSet<(u64, u16)>,
    /// Ranks, by id, of messages that are not in the plain level at the position that follows from their id.
    displaced: BTreeMap<u64, Rank>,
    by_tag: Option<Box<Indexed<Tag>>>,
    by_sender: Option<Box<Indexed<u32>>>,
    deadlines: BTreeSet<(Moment, Rank)>,
    depth: u64,
    bytes: u64,
    cost: u64,
    /// Where entries came, or have changed.
    noted: Noted<Rank>,
}

impl Filter {
    pub(super) fn wants(&self, message: &Message) -> bool {
        let is_of = match self {
            Filter::Any => true,
            Filter::Tag(tag) => message.tag() == Some(tag),
            Filter::Sender(uid) => message.sender.uid == *uid,
        };
        is_of && message.due().is_none()
    }
}

/// What follows from the messages is made again. An index is made again when it is first used.
impl Saved for Queue {
    fn save(&self, to: &mut Saver<'_>) {
        let Queue {
            order,
            plain,
            prioritized,
            fronts: _,
            displaced: _,
            by_tag: _,
            by_sender: _,
            deadlines: _,
            depth: _,
            bytes: _,
            cost: _,
            noted: _,
        } = self;
        order.save(to);
        plain.save(to);
        prioritized.save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let mut queue = Queue::default();
        queue.set_order(Saved::restore(from)?);
        let plain = (Rank::PLAIN, Level::restore(from)?);
        let prioritized: BTreeMap<u16, Level> = Saved::restore(from)?;
        for (level, mut line) in prioritized.into_iter().chain([plain]) {
            for (position, message) in line.drain() {
                if Rank::level(message.priority) != level {
                    return None;
                }
                queue.put_again(position, message)?;
            }
        }
        Some(queue)
    }
}

impl Queue {
    /// Number of messages.
    pub(super) fn depth(&self) -> u64 {
        self.depth
    }

    /// Their length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that they are charged to the mount's memory.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    pub(super) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    /// Since when the message waits that has waited longest, as far as messages are in the order of their times. Those that were
    /// delayed are not, if they were given back to the head: of each priority, it looks behind them, and at no more than [`STEP`].
    pub(super) fn oldest(&self) -> Option<Moment> {
        let oldest_of = |level: &Level| {
            let mut delayed = true;
            let mut next = |message: &Message| mem::replace(&mut delayed, message.since().is_some());
            let first =
                level.iter().map(|(_, message)| message).take(STEP).take_while(|message| next(message));
            first.map(Message::waits_since).min()
        };
        self.prioritized.values().chain([&self.plain]).filter_map(oldest_of).min()
    }

    /// Changes the order. No message moves: the order only says which level has the next one.
    pub(super) fn set_order(&mut self, order: Order) {
        if order == self.order {
            return;
        }
        self.order = order;
        self.fronts = match order {
            Order::Priority => BTreeSet::new(),
            Order::Fifo => {
                let fronts = self.prioritized.iter();
                fronts.filter_map(|(level, line)| Some((line.front_key()?, *level))).collect()
            }
        };
    }

    /// Adds a message, or a run, behind all others of its priority. `number` is its id, or a later one if it has
    /// moved here.
    pub(super) fn push(&mut self, message: Message, number: u64) {
        self.push_at(message, FIRST_POSITION + number);
    }

    /// Adds a message, or a run, at a position behind all others of its priority.
    pub(super) fn push_at(&mut self, message: Message, position: u64) {
        let rank = Rank { level: Rank::level(message.priority), position };
        if message.run().is_some() && (message.expires().is_some() || self.by_sender.is_some()) {
            self.put_singly(rank, message);
        } else {
            self.put(rank, message);
        }
    }

    /// Adds a message before all others of its priority. Returns its position.
    pub(super) fn push_front(&mut self, message: Message) -> u64 {
        let own = FIRST_POSITION + message.id;
        let levels = self.prioritized.values().chain([&self.plain]);
        let first = levels.filter_map(Level::front_key).min();
        let position = first.map_or(own, |first| own.min(first.saturating_sub(1)));
        let rank = Rank { level: Rank::level(message.priority), position };
        self.note_added(rank, &message);
        self.noted.note(rank);
        self.change_level(rank.level, |line| line.push_front(position, message));
        position
    }

    /// All messages and runs with their positions, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Message)> {
        iter::once(&self.plain).chain(self.prioritized.values()).flat_map(Level::iter)
    }

    /// The message to be received next, or the run that begins with it.
    pub(super) fn first(&self) -> Option<&Message> {
        self.level(self.first_rank()?.level)?.front()
    }

    /// Removes the next message.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let rank = self.first_rank()?;
        self.take_first(rank)
    }

    /// Removes the next message, or as many lines of a run as fit into `room` bytes, and at least one.
    pub(super) fn pop_run(&mut self, room: usize) -> Option<Message> {
        let rank = self.first_rank()?;
        if rank.level == Rank::PLAIN
            && let Some(run) = self.plain.front_mut()
            && let Some(lines) = run.split_fitting(room)
        {
            self.advance_first(lines.count());
            self.note_removed(&lines);
            return Some(lines);
        }
        self.take(rank)
    }

    /// Removes the next message that `filter` wants.
    pub(super) fn pop_matching(&mut self, filter: &Filter) -> Option<Message> {
        match filter {
            Filter::Any => self.pop(),
            Filter::Tag(_) | Filter::Sender(_) => {
                let rank = self.find_matching(filter)?;
                self.take(rank)
            }
        }
    }

    /// Removes the oldest message; under [`Order::Priority`], that of the lowest priority.
    pub(super) fn pop_oldest(&mut self) -> Option<Message> {
        let rank = self.oldest_rank()?;
        self.take_first(rank)
    }

    /// True if the message that [`Queue::pop_oldest`] would remove is charged to `account`.
    pub(super) fn oldest_is_charged_to(&self, account: &Account) -> bool {
        let oldest = self.oldest_rank().and_then(|rank| self.level(rank.level)?.front());
        let charge = oldest.and_then(|message| message.charge.as_ref());
        charge.is_some_and(|charge| charge.account().uid() == account.uid())
    }

    /// The message that [`Queue::pop_matching`] would remove.
    pub(super) fn first_matching(&mut self, filter: &Filter) -> Option<&Message> {
        if *filter == Filter::Any {
            return self.first();
        }
        let rank = self.find_matching(filter)?;
        self.level(rank.level)?.get(rank.position)
    }

    /// True if there is a message that `filter` wants.
    pub(super) fn has_matching(&mut self, filter: &Filter) -> bool {
        match filter {
            Filter::Any => !self.is_empty(),
            Filter::Tag(_) | Filter::Sender(_) => self.find_matching(filter).is_some(),
        }
    }

    /// The message with this id.
    pub(super) fn get(&mut self, id: u64) -> Option<&Message> {
        let rank = self.find_id(id)?;
        self.level(rank.level)?.get(rank.position)
    }

    /// Removes the message with this id.
    pub(super) fn remove(&mut self, id: u64) -> Option<Message> {
        let rank = self.find_id(id)?;
        self.take(rank)
    }

    /// Removes some of the messages, and runs, that are `wanted`: of those at rank `from` and later, as far as they come before
    /// position `end`. Returns them, and the rank to go on from, unless it has come to the end.
    pub(super) fn remove_some(
        &mut self,
        from: Rank,
        end: u64,
        wanted: impl Fn(&Message) -> bool,
    ) -> (Vec<Message>, Option<Rank>) {
        let (mut found, mut next) = (Vec::new(), None);
        let (mut looked, mut bytes) = (0, 0);
        let levels = self.prioritized.range(from.level..).filter(|(level, _)| **level != Rank::PLAIN);
        'levels: for (level, line) in levels.chain([(&Rank::PLAIN, &self.plain)]) {
            let first = if *level == from.level { from.position } else { 0 };
            for (position, message) in line.iter_at(first).take_while(|(position, _)| *position < end) {
                let here = Rank { level: *level, position };
                if looked == REMOVED_AT_ONCE || bytes >= BYTES_REMOVED_AT_ONCE {
                    next = Some(here);
                    break 'levels;
                }
                looked += 1;
                if wanted(message) {
                    bytes += message.len();
                    found.push(here);
                }
            }
        }
        (found.into_iter().filter_map(|rank| self.take(rank)).collect(), next)
    }

    /// Positions and ids of messages, in order of position: those after `position`, at most `most`. No two queued
    /// messages have the same position. Messages sent later have later positions.
    pub(super) fn list(&self, position: u64, most: usize) -> Vec<(u64, u64)> {
        let mut list: Vec<(u64, u64)> = Vec::new();
        for level in iter::once(&self.plain).chain(self.prioritized.values()) {
            let from = list.len();
            for (first, message) in level.iter_from(position) {
                for n in 0..message.count() {
                    if list.len() - from < most && first + n > position {
                        list.push((first + n, message.id + n));
                    }
                }
                if list.len() - from >= most {
                    break;
                }
            }
        }
        list.sort_unstable();
        list.truncate(most);
        list
    }

    /// When the next message expires.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Removes a message that has expired.
    pub(super) fn pop_expired(&mut self, now: Moment) -> Option<Message> {
        let (_, rank) = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.take(rank)
    }

    /// Removes all messages.
    pub(super) fn clear(&mut self) -> Queue {
        let noted = mem::take(&mut self.noted);
        mem::replace(self, Queue { order: self.order, noted, ..Queue::default() })
    }

    /// The queue that has these messages, and runs, with their positions. `None` if it cannot have them.
    pub(super) fn of_messages(order: Order, mut messages: Vec<(u64, Message)>) -> Option<Queue> {
        let mut queue = Queue::default();
        queue.set_order(order);
        messages.sort_unstable_by_key(|(position, _)| *position);
        for (position, message) in messages {
            queue.put_again(position, message)?;
        }
        Some(queue)
    }

    /// From now on somebody asks what is new.
    pub(super) fn watch(&mut self) {
        self.noted.watch();
    }

    /// Calls `record` with each message, or run, that has come or has changed, and its position.
    pub(super) fn record(&mut self, mut record: impl FnMut(u64, &mut Message)) {
        for Rank { level, position } in self.noted.take() {
            let line =
                if level == Rank::PLAIN { Some(&mut self.plain) } else { self.prioritized.get_mut(&level) };
            if let Some(message) = line.and_then(|line| line.get_mut(position)) {
                record(position, message);
            }
        }
    }

    fn put_again(&mut self, position: u64, message: Message) -> Option<()> {
        let level = Rank::level(message.priority);
        let last = self.level(level).and_then(Level::last_key);
        if position > u64::MAX / 2 || last.is_some_and(|last| last >= position) {
            return None;
        }
        if level != Rank::PLAIN && message.run().is_some() {
            return None;
        }
        self.put(Rank { level, position }, message);
        Some(())
    }

    fn level(&self, level: u16) -> Option<&Level> {
        if level == Rank::PLAIN { Some(&self.plain) } else { self.prioritized.get(&level) }
    }

    /// Changes a level, and what is kept of it.
    fn change_level<T>(&mut self, level: u16, change: impl FnOnce(&mut Level) -> T) -> T {
        if level == Rank::PLAIN {
            return change(&mut self.plain);
        }
        let line = self.prioritized.entry(level).or_default();
        let before = line.front_key();
        let result = change(line);
        let after = line.front_key();
        if after.is_none() {
            self.prioritized.remove(&level);
        }
        if self.order == Order::Fifo && before != after {
            before.map(|position| self.fronts.remove(&(position, level)));
            after.map(|position| self.fronts.insert((position, level)));
        }
        result
    }

    fn first_rank(&self) -> Option<Rank> {
        let plain = self.plain.front_key().map(|position| Rank { level: Rank::PLAIN, position });
        let prioritized = match self.order {
            Order::Fifo => self.fronts.first().map(|(position, level)| (*level, *position)),
            Order::Priority => self.prioritized.first_key_value().and_then(front_of),
        };
        let prioritized = prioritized.map(|(level, position)| Rank { level, position });
        plain.into_iter().chain(prioritized).min_by_key(|rank| self.turn(*rank))
    }

    /// The rank of the message that [`Queue::pop_oldest`] would remove, always the first of its level.
    fn oldest_rank(&self) -> Option<Rank> {
        if self.order == Order::Fifo {
            return self.first_rank();
        }
        let plain = self.plain.front_key().map(|position| (Rank::PLAIN, position));
        let lowest = plain.or_else(|| self.prioritized.last_key_value().and_then(front_of));
        lowest.map(|(level, position)| Rank { level, position })
    }

    /// When the message at `rank` is received: the least comes first.
    fn turn(&self, rank: Rank) -> (u16, u64) {
        let level = if self.order == Order::Fifo { Rank::PLAIN } else { rank.level };
        (level, rank.position)
    }

    /// The one of these that is received first. It takes as long as they have levels.
    fn first_of(&self, ranks: &BTreeSet<Rank>) -> Option<Rank> {
        if self.order == Order::Priority {
            return ranks.first().copied();
        }
        let next =
            |rank: &Rank| ranks.range(Rank { level: rank.level.checked_add(1)?, position: 0 }..).next();
        iter::successors(ranks.first(), |rank| next(rank)).min_by_key(|rank| rank.position).copied()
    }

    fn put(&mut self, rank: Rank, message: Message) {
        self.note_added(rank, &message);
        self.noted.note(rank);
        self.change_level(rank.level, |line| line.push_back(rank.position, message));
    }

    fn put_singly(&mut self, rank: Rank, run: Message) {
        for (position, message) in split_run(rank.position, run) {
            self.put(Rank { position, ..rank }, message);
        }
    }

    /// Updates figures and indices for a message that is about to be put at `rank`.
    fn note_added(&mut self, rank: Rank, message: &Message) {
        self.depth += message.count();
        self.bytes += message.len();
        self.cost += message.cost();
        if rank != (Rank { level: Rank::PLAIN, position: FIRST_POSITION + message.id }) {
            for n in 0..message.count() {
                self.displaced.insert(message.id + n, Rank { position: rank.position + n, ..rank });
            }
        }
        if let Some(deadline) = message.expires() {
            self.deadlines.insert((deadline, rank));
        }
        if let (Some(indexed), Some(tag)) = (&mut self.by_tag, message.tag()) {
            indexed.add(tag.clone(), rank);
        }
        if let Some(indexed) = &mut self.by_sender {
            indexed.add(message.sender.uid, rank);
        }
    }

    /// Removes a message that is the first of its level. Of a run, it is the first line.
    fn take_first(&mut self, rank: Rank) -> Option<Message> {
        if rank.level == Rank::PLAIN
            && let Some(run) = self.plain.front_mut()
            && let Some(message) = run.split_first()
        {
            self.advance_first(1);
            self.note_removed(&message);
            return Some(message);
        }
        self.take(rank).map(Message::into_single)
    }

    /// Removes the entry at `rank`, a message or a run.
    fn take(&mut self, rank: Rank) -> Option<Message> {
        let mut message = self.change_level(rank.level, |line| line.remove(rank.position))?;
        message.record = None;
        if let Some(deadline) = message.expires() {
            self.deadlines.remove(&(deadline, rank));
        }
        if let (Some(indexed), Some(tag)) = (&mut self.by_tag, message.tag()) {
            drop_from(&mut indexed.index, tag, rank);
        }
        if let Some(indexed) = &mut self.by_sender {
            drop_from(&mut indexed.index, &message.sender.uid, rank);
        }
        self.note_removed(&message);
        Some(message)
    }

    /// Updates figures for a message, or a part of a run, that was removed.
    fn note_removed(&mut self, message: &Message) {
        self.depth -= message.count();
        self.bytes -= message.len();
        self.cost -= message.cost();
        if !self.displaced.is_empty() {
            for n in 0..message.count() {
                self.displaced.remove(&(message.id + n));
            }
        }
        if self.is_empty() {
            let (plain, noted) = (mem::take(&mut self.plain), mem::take(&mut self.noted));
            *self = Queue { order: self.order, plain, noted, ..Queue::default() };
        }
    }

    /// The rank of the message with this id. Its run, if it was in one, is split.
    fn find_id(&mut self, id: u64) -> Option<Rank> {
        let usual = Rank { level: Rank::PLAIN, position: FIRST_POSITION.checked_add(id)? };
        let rank = self.displaced.get(&id).copied().unwrap_or(usual);
        self.split_run_at(rank.level, rank.position);
        // A displaced message may be at the usual position of another.
        let found = self.level(rank.level)?.get(rank.position)?;
        (found.id == id).then_some(rank)
    }

    /// Splits the run that covers `position`, if there is one, into single messages.
    fn split_run_at(&mut self, level: u16, position: u64) {
        let Some((first, run)) = self.level(level).and_then(|level| level.last_at_or_before(position)) else {
            return;
        };
        if run.run().is_none() || first + run.count() <= position {
            return;
        }
        for n in 0..run.count() {
            self.noted.note(Rank { level, position: first + n });
        }
        self.change_level(level, |line| line.replace(first, |run| split_run(first, run)));
    }

    /// Lines were removed from the head of the run that comes first.
    fn advance_first(&mut self, lines: u64) {
        if let Some(position) = self.plain.front_key() {
            self.plain.set_front_key(position + lines);
            self.noted.note(Rank { level: Rank::PLAIN, position: position + lines });
        }
        if let Some(run) = self.plain.front_mut() {
            run.compact();
        }
    }

    fn find_matching(&mut self, filter: &Filter) -> Option<Rank> {
        while !self.index_some(filter) {}
        match filter {
            Filter::Any => self.first_rank(),
            Filter::Tag(tag) => self.first_of(self.by_tag.as_ref()?.index.get(tag)?),
            Filter::Sender(uid) => self.first_of(self.by_sender.as_ref()?.index.get(uid)?),
        }
    }

    /// Adds some messages to the index that `filter` needs. True if it has all.
    pub(super) fn index_some(&mut self, filter: &Filter) -> bool {
        match filter {
            Filter::Any => true,
            Filter::Tag(_) => {
                let mut indexed = self.by_tag.take().unwrap_or_default();
                let next = indexed.until.map(|until| self.some_from(until, false));
                if let Some((some, next)) = next {
                    indexed.until = next;
                    for (rank, message) in some {
                        if let Some(tag) = message.tag() {
                            indexed.index.entry(tag.clone()).or_default().insert(rank);
                        }
                    }
                }
                let done = indexed.until.is_none();
                self.by_tag = Some(indexed);
                done
            }
            Filter::Sender(_) => {
                let mut indexed = self.by_sender.take().unwrap_or_default();
                if let Some(until) = indexed.until {
                    if until.level == Rank::PLAIN {
                        self.split_next_run(until.position);
                    }
                    let (some, next) = self.some_from(until, true);
                    indexed.until = next;
                    for (rank, message) in some {
                        indexed.index.entry(message.sender.uid).or_default().insert(rank);
                    }
                }
                let done = indexed.until.is_none();
                self.by_sender = Some(indexed);
                done
            }
        }
    }

    /// At most [`STEP`] messages from `rank` on, and the rank that follows them. With `singly`, as far as the next run.
    fn some_from(&self, rank: Rank, singly: bool) -> (Vec<(Rank, &Message)>, Option<Rank>) {
        let mut some = Vec::new();
        let levels = self.prioritized.range(rank.level..).filter(|(level, _)| **level != Rank::PLAIN);
        for (level, line) in levels.chain([(&Rank::PLAIN, &self.plain)]) {
            let from = if *level == rank.level { rank.position } else { 0 };
            for (position, message) in line.iter_from(from).filter(|(position, _)| *position >= from) {
                let here = Rank { level: *level, position };
                if some.len() >= STEP || (singly && message.run().is_some()) {
                    return (some, Some(here));
                }
                some.push((here, message));
            }
        }
        (some, None)
    }

    /// Splits the first run at or after `position`, if nothing is before it.
    fn split_next_run(&mut self, position: u64) {
        let next = self.plain.iter_from(position).find(|(first, _)| *first >= position);
        if let Some((first, message)) = next
            && message.run().is_some()
        {
            self.split_run_at(Rank::PLAIN, first);
        }
    }
}

impl<K> Default for Indexed<K> {
    fn default() -> Indexed<K> {
        Indexed { index: Index::new(), until: Some(Rank::FIRST) }
    }
}

impl<K: Ord> Indexed<K> {
    /// A message was added. If it is not yet its turn, it is indexed later.
    fn add(&mut self, key: K, rank: Rank) {
        if self.until.is_none_or(|until| rank < until) {
            self.index.entry(key).or_default().insert(rank);
        }
    }
}

/// The level and first position of a level.
fn front_of((level, line): (&u16, &Level)) -> Option<(u16, u64)> {
    Some((*level, line.front_key()?))
}

/// The messages of a run, and their positions: the first has `position`.
fn split_run(position: u64, mut run: Message) -> Vec<(u64, Message)> {
    let mut messages = Vec::with_capacity(run.count() as usize);
    while let Some(message) = run.split_first() {
        messages.push(message);
    }
    messages.push(run.into_single());
    (position..).zip(messages).collect()
}

fn drop_from<K: Ord>(index: &mut Index<K>, key: &K, rank: Rank) {
    if let Some(ranks) = index.get_mut(key) {
        ranks.remove(&rank);
        if ranks.is_empty() {
            index.remove(key);
        }
    }
}
