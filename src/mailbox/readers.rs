//! Callers who wait to read, by what they wait for.

use std::collections::BTreeMap;

use super::call::{HandleId, Receive, Selector};
use super::line::{Line, WaitId};
use super::message::Message;
use super::queue::Filter;
use crate::op::Timestamp;

#[derive(Debug)]
pub(super) struct WaitingReader {
    pub(super) call: Receive,
    pub(super) since: Timestamp,
}

/// One line for those who take any message, and one for each other selector that somebody has. Whoever a message could go to
/// is at the head of one of three lines.
#[derive(Debug, Default)]
pub(super) struct Readers {
    any: Line<WaitId, WaitingReader>,
    selective: BTreeMap<Selector, Line<WaitId, WaitingReader>>,
    /// The selectors of those in `selective`.
    selectors: BTreeMap<WaitId, Selector>,
}

const ANY: Selector = Selector::Message(Filter::Any);

impl Readers {
    pub(super) fn len(&self) -> usize {
        self.any.len() + self.selectors.len()
    }

    pub(super) fn join(&mut self, id: WaitId, selector: Selector, reader: WaitingReader) {
        if selector == ANY {
            self.any.join(id, reader);
        } else {
            self.selectors.insert(id, selector.clone());
            self.selective.entry(selector).or_default().join(id, reader);
        }
    }

    /// Somebody waits who takes any message.
    pub(super) fn any_waits(&self) -> bool {
        !self.any.is_empty()
    }

    /// Somebody waits for something that not every send brings.
    pub(super) fn selective_wait(&self) -> bool {
        !self.selective.is_empty()
    }

    pub(super) fn waits(&self, id: WaitId) -> bool {
        self.selectors.contains_key(&id) || self.any.get(id).is_some()
    }

    pub(super) fn has(&self, selector: &Selector) -> bool {
        self.selective.contains_key(selector)
    }

    /// Somebody waits who takes `message`.
    pub(super) fn wants(&self, message: &Message) -> bool {
        self.any_waits() || (!self.selective.is_empty() && self.first_selective(message).is_some())
    }

    /// The first who takes `message` is served.
    pub(super) fn serve_for(&mut self, message: &Message) -> Option<WaitingReader> {
        let selective = if self.selective.is_empty() { None } else { self.first_selective(message) };
        match (self.any.first_key(), selective) {
            (Some(any), Some((id, _))) if any < id => self.any.serve(),
            (_, Some((_, selector))) => self.serve(&selector),
            (_, None) => self.any.serve(),
        }
    }

    /// The first with `selector` is served.
    pub(super) fn serve(&mut self, selector: &Selector) -> Option<WaitingReader> {
        let id = self.selective.get(selector)?.first_key()?;
        self.leave(id)
    }

    /// All leave, in order of arrival.
    pub(super) fn leave_all(&mut self) -> Vec<WaitingReader> {
        let Readers { mut any, selective, .. } = std::mem::take(self);
        let mut all: Vec<(WaitId, WaitingReader)> = any.drain().collect();
        for mut line in selective.into_values() {
            all.extend(line.drain());
        }
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, reader)| reader).collect()
    }

    /// Leaves early.
    pub(super) fn leave(&mut self, id: WaitId) -> Option<WaitingReader> {
        let Some(selector) = self.selectors.remove(&id) else { return self.any.leave(id) };
        let line = self.selective.get_mut(&selector)?;
        let reader = line.leave(id);
        if line.is_empty() {
            self.selective.remove(&selector);
        }
        if self.selectors.is_empty() {
            *self = Readers { any: std::mem::take(&mut self.any), ..Readers::default() };
        }
        reader
    }

    /// The first who waits through `handle`, whose selector is `selector`, leaves.
    pub(super) fn leave_through(&mut self, handle: HandleId, selector: &Selector) -> Option<WaitingReader> {
        let line = if *selector == ANY { &self.any } else { self.selective.get(selector)? };
        let id = line.entries().find(|(_, reader)| reader.call.handle == handle)?.0;
        self.leave(id)
    }

    /// All, in order of arrival.
    pub(super) fn all(&self) -> Vec<&WaitingReader> {
        let mut all: Vec<(WaitId, &WaitingReader)> = self.any.entries().collect();
        for line in self.selective.values() {
            all.extend(line.entries());
        }
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, reader)| reader).collect()
    }

    fn first_selective(&self, message: &Message) -> Option<(WaitId, Selector)> {
        let tag = message.tag().map(|tag| Selector::Message(Filter::Tag(tag.clone())));
        let sender = Selector::Message(Filter::Sender(message.sender.uid));
        let selectors = tag.into_iter().chain([sender]);
        let firsts =
            selectors.filter_map(|selector| Some((self.selective.get(&selector)?.first_key()?, selector)));
        firsts.min_by_key(|(id, _)| *id)
    }
}
