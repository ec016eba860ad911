//! The messages that wait: in order, by number, by tag and by sender.
//!
//! Plain queueing touches one line of messages and nothing else. What is asked for by tag or sender is found in an
//! index, which is made when it is first asked for and kept until the queue is empty; lines sent in one write wait as a
//! *run*, one entry, until somebody wants one of them singly.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::line::Line;
use super::message::{Message, Rank, Tag};
use crate::op::Timestamp;

/// Which messages a receiver takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    Any,
    Tag(Tag),
    Sender(u32),
}

/// In what order messages are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were sent, whatever their priority.
    Fifo,
    /// Higher priorities first, those of one priority as they were sent.
    #[default]
    Priority,
}

/// Places are counted from here, so that there are some before the first message's.
const FIRST_PLACE: u64 = 1 << 32;

type ReplyPath = Line<u64, Message>;

/// Where the messages are that have something in common.
type Index<K> = BTreeMap<K, BTreeSet<Rank>>;

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: Order,
    /// Messages without priority, or all of them under [`Order::Fifo`]. Runs are here only.
    plain: ReplyPath,
    /// The others, the highest priority first, and no empty reply_path.
    raised: BTreeMap<u16, ReplyPath>,
    /// Where messages are that are not in the plain reply_path at the place that their number gives.
    strays: BTreeMap<u64, Rank>,
    by_tag: Option<Index<Tag>>,
    by_sender: Option<Index<u32>>,
    deadlines: BTreeSet<(Timestamp, Rank)>,
    depth: u64,
    bytes: u64,
    cost: u64,
}

impl Filter {
    pub(super) fn wants(&self, message: &Message) -> bool {
        match self {
            Filter::Any => true,
            Filter::Tag(tag) => message.tag() == Some(tag),
            Filter::Sender(uid) => message.sender.uid == *uid,
        }
    }
}

impl Queue {
    /// Messages waiting.
    pub(super) fn depth(&self) -> u64 {
        self.depth
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What they take of the mount's memory.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    pub(super) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    /// Puts all messages into another order.
    pub(super) fn set_order(&mut self, order: Order) {
        if order == self.order {
            return;
        }
        let mut all: Vec<(u64, Message)> = self.plain.drain().collect();
        for reply_path in mem::take(&mut self.raised).into_values() {
            all.extend({ reply_path }.drain());
        }
        all.sort_by_key(|(place, _)| *place);
        *self = Queue { order, ..Queue::default() };
        for (place, message) in all {
            self.put(Rank { reply_path: self.lane_of(&message), place }, message);
        }
    }

    /// Adds a message, or a run, behind all of its priority. `number` is its own, or one given out later.
    pub(super) fn push(&mut self, message: Message, number: u64) {
        let rank = Rank { reply_path: self.lane_of(&message), place: FIRST_PLACE + number };
        if message.run().is_some() && (message.expires().is_some() || self.by_sender.is_some()) {
            self.put_singly(rank, message);
        } else {
            self.put(rank, message);
        }
    }

    /// Puts a message before all of its priority.
    pub(super) fn push_front(&mut self, message: Message) {
        let own = FIRST_PLACE + message.id;
        let reply_paths = self.raised.values().chain([&self.plain]);
        let first = reply_paths.filter_map(ReplyPath::first_key).min();
        let place = first.map_or(own, |first| own.min(first.saturating_sub(1)));
        let rank = Rank { reply_path: self.lane_of(&message), place };
        self.note(rank, &message);
        self.lane_mut(rank.reply_path).join_first(place, message);
    }

    /// The message to be received next, and a run at that as such.
    pub(super) fn first(&self) -> Option<&Message> {
        self.raised
            .first_key_value()
            .and_then(|(_, reply_path)| reply_path.first())
            .or_else(|| self.plain.first())
    }

    /// Takes the next message.
    pub(super) fn pop(&mut self) -> Option<Message> {
        if self.raised.is_empty()
            && let Some(run) = self.plain.first_mut()
            && let Some(message) = run.split_first()
        {
            self.advance_first(1);
            self.less(&message);
            return Some(message);
        }
        let rank = self.first_rank()?;
        self.take(rank).map(single)
    }

    /// Takes the next message, or as much of a run as `room` bytes hold and at least one line of it.
    pub(super) fn pop_run(&mut self, room: usize) -> Option<Message> {
        if self.raised.is_empty()
            && let Some(run) = self.plain.first_mut()
            && let Some(lines) = run.split_fitting(room)
        {
            self.advance_first(lines.count());
            self.less(&lines);
            return Some(lines);
        }
        let rank = self.first_rank()?;
        self.take(rank)
    }

    /// Takes the next message that `filter` wants.
    pub(super) fn pop_matching(&mut self, filter: &Filter) -> Option<Message> {
        match filter {
            Filter::Any => self.pop(),
            Filter::Tag(_) | Filter::Sender(_) => {
                let rank = self.find_matching(filter)?;
                self.take(rank)
            }
        }
    }

    /// Takes the oldest message of the lowest priority.
    pub(super) fn pop_oldest(&mut self) -> Option<Message> {
        if let Some(run) = self.plain.first_mut()
            && let Some(message) = run.split_first()
        {
            self.advance_first(1);
            self.less(&message);
            return Some(message);
        }
        let plain = self.plain.first_key().map(|place| Rank { reply_path: Rank::PLAIN, place });
        let lowest = self.raised.last_key_value();
        let lowest = lowest
            .and_then(|(reply_path, line)| Some(Rank { reply_path: *reply_path, place: line.first_key()? }));
        self.take(plain.or(lowest)?)
    }

    /// True if there is a message that `filter` wants.
    pub(super) fn has_matching(&mut self, filter: &Filter) -> bool {
        match filter {
            Filter::Any => !self.is_empty(),
            Filter::Tag(_) | Filter::Sender(_) => self.find_matching(filter).is_some(),
        }
    }

    /// The message numbered `id`.
    pub(super) fn get(&mut self, id: u64) -> Option<&Message> {
        let rank = self.locate(id)?;
        self.reply_path(rank.reply_path)?.get(rank.place)
    }

    /// Takes the message numbered `id`.
    pub(super) fn remove(&mut self, id: u64) -> Option<Message> {
        let rank = self.locate(id)?;
        self.take(rank)
    }

    /// Numbers of messages by place, those after `place` only and at most `most`: each with its place, which no
    /// other message has while it waits. Messages sent later have later places.
    pub(super) fn list(&self, place: u64, most: usize) -> Vec<(u64, u64)> {
        let mut list: Vec<(u64, u64)> = Vec::new();
        for reply_path in std::iter::once(&self.plain).chain(self.raised.values()) {
            let from = list.len();
            for (first, message) in reply_path.entries_from(place) {
                for n in 0..message.count() {
                    if list.len() - from < most && first + n > place {
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

    /// When the first message goes by itself.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes a message whose time is over.
    pub(super) fn pop_expired(&mut self, now: Timestamp) -> Option<Message> {
        let (_, rank) = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.take(rank)
    }

    /// Takes all messages.
    pub(super) fn clear(&mut self) -> Queue {
        mem::replace(self, Queue { order: self.order, ..Queue::default() })
    }

    fn lane_of(&self, message: &Message) -> u16 {
        match self.order {
            Order::Fifo => Rank::PLAIN,
            Order::Priority => Rank::reply_path(message.priority),
        }
    }

    fn reply_path(&self, reply_path: u16) -> Option<&ReplyPath> {
        if reply_path == Rank::PLAIN { Some(&self.plain) } else { self.raised.get(&reply_path) }
    }

    fn lane_mut(&mut self, reply_path: u16) -> &mut ReplyPath {
        if reply_path == Rank::PLAIN { &mut self.plain } else { self.raised.entry(reply_path).or_default() }
    }

    fn first_rank(&self) -> Option<Rank> {
        let raised = self.raised.first_key_value();
        let raised = raised
            .and_then(|(reply_path, line)| Some(Rank { reply_path: *reply_path, place: line.first_key()? }));
        raised.or_else(|| Some(Rank { reply_path: Rank::PLAIN, place: self.plain.first_key()? }))
    }

    fn put(&mut self, rank: Rank, message: Message) {
        self.note(rank, &message);
        self.lane_mut(rank.reply_path).join(rank.place, message);
    }

    fn put_singly(&mut self, rank: Rank, run: Message) {
        for (place, message) in singles(rank.place, run) {
            self.put(Rank { place, ..rank }, message);
        }
    }

    /// A message is about to be put at `rank`.
    fn note(&mut self, rank: Rank, message: &Message) {
        self.depth += message.count();
        self.bytes += message.len();
        self.cost += message.cost();
        if rank != (Rank { reply_path: Rank::PLAIN, place: FIRST_PLACE + message.id }) {
            for n in 0..message.count() {
                self.strays.insert(message.id + n, Rank { place: rank.place + n, ..rank });
            }
        }
        if let Some(deadline) = message.expires() {
            self.deadlines.insert((deadline, rank));
        }
        if let (Some(index), Some(tag)) = (&mut self.by_tag, message.tag()) {
            index.entry(tag.clone()).or_default().insert(rank);
        }
        if let Some(index) = &mut self.by_sender {
            index.entry(message.sender.uid).or_default().insert(rank);
        }
    }

    /// Takes what is at `rank`, a run as such.
    fn take(&mut self, rank: Rank) -> Option<Message> {
        let message = if rank.reply_path == Rank::PLAIN {
            self.plain.leave(rank.place)?
        } else {
            let reply_path = self.raised.get_mut(&rank.reply_path)?;
            let message = reply_path.leave(rank.place)?;
            if reply_path.is_empty() {
                self.raised.remove(&rank.reply_path);
            }
            message
        };
        if let Some(deadline) = message.expires() {
            self.deadlines.remove(&(deadline, rank));
        }
        if let (Some(index), Some(tag)) = (&mut self.by_tag, message.tag()) {
            drop_from(index, tag, rank);
        }
        if let Some(index) = &mut self.by_sender {
            drop_from(index, &message.sender.uid, rank);
        }
        self.less(&message);
        Some(message)
    }

    /// A message, or a part of a run, was taken.
    fn less(&mut self, message: &Message) {
        self.depth -= message.count();
        self.bytes -= message.len();
        self.cost -= message.cost();
        if !self.strays.is_empty() {
            for n in 0..message.count() {
                self.strays.remove(&(message.id + n));
            }
        }
        if self.is_empty() {
            *self = Queue { order: self.order, plain: mem::take(&mut self.plain), ..Queue::default() };
        }
    }

    /// Where the message numbered `id` is, as an entry of its own.
    fn locate(&mut self, id: u64) -> Option<Rank> {
        let usual = Rank { reply_path: Rank::PLAIN, place: FIRST_PLACE.checked_add(id)? };
        let rank = self.strays.get(&id).copied().unwrap_or(usual);
        self.single_out(rank.reply_path, rank.place);
        // The place may be another message's: a stray's.
        let found = self.reply_path(rank.reply_path)?.get(rank.place)?;
        (found.id == id).then_some(rank)
    }

    /// Makes entries of the lines of the run that covers `place`, if one does.
    fn single_out(&mut self, reply_path: u16, place: u64) {
        let Some((first, run)) = self.reply_path(reply_path).and_then(|reply_path| reply_path.up_to(place))
        else {
            return;
        };
        if run.run().is_none() || first + run.count() <= place {
            return;
        }
        self.lane_mut(reply_path).replace(first, |run| singles(first, run));
    }

    /// So many lines were taken off the run that comes first.
    fn advance_first(&mut self, lines: u64) {
        if let Some(place) = self.plain.first_key() {
            self.plain.move_first(place + lines);
        }
    }

    fn find_matching(&mut self, filter: &Filter) -> Option<Rank> {
        match filter {
            Filter::Any => self.first_rank(),
            Filter::Tag(tag) => {
                if self.by_tag.is_none() {
                    let mut index: Index<Tag> = Index::new();
                    for (rank, message) in self.all() {
                        if let Some(tag) = message.tag() {
                            index.entry(tag.clone()).or_default().insert(rank);
                        }
                    }
                    self.by_tag = Some(index);
                }
                self.by_tag.as_ref()?.get(tag)?.first().copied()
            }
            Filter::Sender(uid) => {
                if self.by_sender.is_none() {
                    self.single_out_all();
                    let mut index: Index<u32> = Index::new();
                    for (rank, message) in self.all() {
                        index.entry(message.sender.uid).or_default().insert(rank);
                    }
                    self.by_sender = Some(index);
                }
                self.by_sender.as_ref()?.get(uid)?.first().copied()
            }
        }
    }

    fn single_out_all(&mut self) {
        if self.plain.iter().all(|message| message.run().is_none()) {
            return;
        }
        for (place, message) in self.plain.drain() {
            for (place, message) in singles(place, message) {
                self.plain.join(place, message);
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (Rank, &Message)> {
        let plain = std::iter::once((&Rank::PLAIN, &self.plain));
        let reply_paths = self.raised.iter().chain(plain);
        reply_paths.flat_map(|(reply_path, line)| {
            line.entries().map(|(place, message)| (Rank { reply_path: *reply_path, place }, message))
        })
    }
}

/// Messages in the order of their receipt, runs as such.
impl IntoIterator for Queue {
    type Item = Message;
    type IntoIter = Box<dyn Iterator<Item = Message>>;

    fn into_iter(mut self) -> Self::IntoIter {
        let reply_paths = mem::take(&mut self.raised).into_values().chain([mem::take(&mut self.plain)]);
        Box::new(
            reply_paths.flat_map(|mut reply_path| {
                reply_path.drain().map(|(_, message)| message).collect::<Vec<_>>()
            }),
        )
    }
}

/// The messages of a run, from a place on.
fn singles(place: u64, mut run: Message) -> Vec<(u64, Message)> {
    let mut singles = Vec::with_capacity(run.count() as usize);
    while let Some(message) = run.split_first() {
        singles.push(message);
    }
    singles.push(single(run));
    (place..).zip(singles).collect()
}

/// What is left of a run of one line: a message like any other, with bytes of its own.
pub(super) fn single(mut run: Message) -> Message {
    if run.run().is_some() {
        run.body = std::sync::Arc::from(run.slice().as_bytes());
        run.extra_mut().run = None;
        if run.extra.as_deref().is_some_and(|extra| *extra == super::message::Extra::default()) {
            run.extra = None;
        }
    }
    run
}

fn drop_from<K: Ord>(index: &mut Index<K>, key: &K, rank: Rank) {
    if let Some(ranks) = index.get_mut(key) {
        ranks.remove(&rank);
        if ranks.is_empty() {
            index.remove(key);
        }
    }
}
