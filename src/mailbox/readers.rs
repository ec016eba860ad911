//! Callers who wait to read, by what they wait for.

use std::collections::BTreeMap;

use super::call::{HandleId, Receive, Wish};
use super::line::{Line, WaitId};
use super::message::Message;
use super::queue::Filter;
use crate::op::Timestamp;

#[derive(Debug)]
pub(super) struct WaitingReader {
    pub(super) call: Receive,
    pub(super) since: Timestamp,
}

/// One line for those who take any message, and one for each other wish that somebody has. Whoever a message could go to
/// is at the head of one of three lines.
#[derive(Debug, Default)]
pub(super) struct Readers {
    any: Line<WaitId, WaitingReader>,
    choosy: BTreeMap<Wish, Line<WaitId, WaitingReader>>,
    /// The wishes of those in `choosy`.
    wishes: BTreeMap<WaitId, Wish>,
}

const ANY: Wish = Wish::Message(Filter::Any);

impl Readers {
    pub(super) fn len(&self) -> usize {
        self.any.len() + self.wishes.len()
    }

    pub(super) fn join(&mut self, id: WaitId, wish: Wish, reader: WaitingReader) {
        if wish == ANY {
            self.any.join(id, reader);
        } else {
            self.wishes.insert(id, wish.clone());
            self.choosy.entry(wish).or_default().join(id, reader);
        }
    }

    /// Somebody waits who takes any message.
    pub(super) fn any_waits(&self) -> bool {
        !self.any.is_empty()
    }

    /// Somebody waits for something that not every send brings.
    pub(super) fn choosy_wait(&self) -> bool {
        !self.choosy.is_empty()
    }

    pub(super) fn waits(&self, id: WaitId) -> bool {
        self.wishes.contains_key(&id) || self.any.get(id).is_some()
    }

    pub(super) fn has(&self, wish: &Wish) -> bool {
        self.choosy.contains_key(wish)
    }

    /// Somebody waits who takes `message`.
    pub(super) fn wants(&self, message: &Message) -> bool {
        self.any_waits() || (!self.choosy.is_empty() && self.first_choosy(message).is_some())
    }

    /// The first who takes `message` is served.
    pub(super) fn serve_for(&mut self, message: &Message) -> Option<WaitingReader> {
        let choosy = if self.choosy.is_empty() { None } else { self.first_choosy(message) };
        match (self.any.first_key(), choosy) {
            (Some(any), Some((id, _))) if any < id => self.any.serve(),
            (_, Some((_, wish))) => self.serve(&wish),
            (_, None) => self.any.serve(),
        }
    }

    /// The first with `wish` is served.
    pub(super) fn serve(&mut self, wish: &Wish) -> Option<WaitingReader> {
        let id = self.choosy.get(wish)?.first_key()?;
        self.leave(id)
    }

    /// All leave, in order of arrival.
    pub(super) fn leave_all(&mut self) -> Vec<WaitingReader> {
        let Readers { mut any, choosy, .. } = std::mem::take(self);
        let mut all: Vec<(WaitId, WaitingReader)> = any.drain().collect();
        for mut line in choosy.into_values() {
            all.extend(line.drain());
        }
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, reader)| reader).collect()
    }

    /// Leaves early.
    pub(super) fn leave(&mut self, id: WaitId) -> Option<WaitingReader> {
        let Some(wish) = self.wishes.remove(&id) else { return self.any.leave(id) };
        let line = self.choosy.get_mut(&wish)?;
        let reader = line.leave(id);
        if line.is_empty() {
            self.choosy.remove(&wish);
        }
        if self.wishes.is_empty() {
            *self = Readers { any: std::mem::take(&mut self.any), ..Readers::default() };
        }
        reader
    }

    /// The first who waits through `handle`, whose wish is `wish`, leaves.
    pub(super) fn leave_through(&mut self, handle: HandleId, wish: &Wish) -> Option<WaitingReader> {
        let line = if *wish == ANY { &self.any } else { self.choosy.get(wish)? };
        let id = line.entries().find(|(_, reader)| reader.call.handle == handle)?.0;
        self.leave(id)
    }

    /// All, in order of arrival.
    pub(super) fn all(&self) -> Vec<&WaitingReader> {
        let mut all: Vec<(WaitId, &WaitingReader)> = self.any.entries().collect();
        for line in self.choosy.values() {
            all.extend(line.entries());
        }
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, reader)| reader).collect()
    }

    fn first_choosy(&self, message: &Message) -> Option<(WaitId, Wish)> {
        let tag = message.tag().map(|tag| Wish::Message(Filter::Tag(tag.clone())));
        let sender = Wish::Message(Filter::Sender(message.sender.uid));
        let wishes = tag.into_iter().chain([sender]);
        let firsts = wishes.filter_map(|wish| Some((self.choosy.get(&wish)?.first_key()?, wish)));
        firsts.min_by_key(|(id, _)| *id)
    }
}
