//! Callers that wait to read, by selector.

use std::collections::BTreeMap;

use super::call::{HandleId, Receive, Selector, WaitId};
use super::message::Message;
use super::ordered_queue::OrderedQueue;
use super::queue::Filter;
use crate::op::Moment;
use crate::state::saved;

#[derive(Debug)]
pub(super) struct WaitingReader {
    pub(super) call: Receive,
    pub(super) since: Moment,
}

saved!(struct WaitingReader { call, since });

/// One queue for readers that take any message, and one for each other selector in use. The readers that may get a
/// certain message are at the heads of at most three queues.
#[derive(Debug, Default)]
pub(super) struct Readers {
    any: OrderedQueue<WaitId, WaitingReader>,
    selective: BTreeMap<Selector, OrderedQueue<WaitId, WaitingReader>>,
    /// The selectors of the readers in `selective`.
    selectors: BTreeMap<WaitId, Selector>,
}

saved!(struct Readers { any, selective, selectors });

const ANY: Selector = Selector::Message(Filter::Any);

impl Readers {
    pub(super) fn len(&self) -> usize {
        self.any.len() + self.selectors.len()
    }

    pub(super) fn push_back(&mut self, id: WaitId, selector: Selector, reader: WaitingReader) {
        if selector == ANY {
            self.any.push_back(id, reader);
        } else {
            self.selectors.insert(id, selector.clone());
            self.selective.entry(selector).or_default().push_back(id, reader);
        }
    }

    /// A reader waits that takes any message.
    pub(super) fn any_waits(&self) -> bool {
        !self.any.is_empty()
    }

    /// A reader waits that takes only certain messages, requests or replies.
    pub(super) fn any_selective(&self) -> bool {
        !self.selective.is_empty()
    }

    pub(super) fn waits(&self, id: WaitId) -> bool {
        self.selectors.contains_key(&id) || self.any.get(id).is_some()
    }

    /// A reader with this selector waits, which must not be the one for any message.
    pub(super) fn has(&self, selector: &Selector) -> bool {
        self.selective.contains_key(selector)
    }

    /// A reader waits that takes `message`.
    pub(super) fn wants(&self, message: &Message) -> bool {
        message.due().is_none() && (self.any_waits() || self.first_selective(message).is_some())
    }

    /// Removes the first reader that takes `message`.
    pub(super) fn pop_for(&mut self, message: &Message) -> Option<WaitingReader> {
        match (self.any.front_key(), self.first_selective(message)) {
            (Some(any), Some((id, _))) if any < id => self.any.pop_front(),
            (_, Some((_, selector))) => self.pop(&selector),
            (_, None) => self.any.pop_front(),
        }
    }

    /// Removes the first reader with this selector, which must not be the one for any message.
    pub(super) fn pop(&mut self, selector: &Selector) -> Option<WaitingReader> {
        let id = self.selective.get(selector)?.front_key()?;
        self.remove(id)
    }

    /// Removes all readers; returns them in order of arrival.
    pub(super) fn drain(&mut self) -> Vec<WaitingReader> {
        let Readers { mut any, selective, .. } = std::mem::take(self);
        let mut all: Vec<(WaitId, WaitingReader)> = any.drain().collect();
        for mut queue in selective.into_values() {
            all.extend(queue.drain());
        }
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, reader)| reader).collect()
    }

    pub(super) fn remove(&mut self, id: WaitId) -> Option<WaitingReader> {
        let Some(selector) = self.selectors.remove(&id) else { return self.any.remove(id) };
        let queue = self.selective.get_mut(&selector)?;
        let reader = queue.remove(id);
        if queue.is_empty() {
            self.selective.remove(&selector);
        }
        if self.selectors.is_empty() {
            *self = Readers { any: std::mem::take(&mut self.any), ..Readers::default() };
        }
        reader
    }

    /// Removes the first reader that waits through `handle`, whose selector is `selector`.
    pub(super) fn remove_by_handle(
        &mut self,
        handle: HandleId,
        selector: &Selector,
    ) -> Option<WaitingReader> {
        let queue = if *selector == ANY { &self.any } else { self.selective.get(selector)? };
        let id = queue.iter().find(|(_, reader)| reader.call.handle == handle)?.0;
        self.remove(id)
    }

    /// All readers, in order of arrival.
    pub(super) fn in_order(&self) -> Vec<&WaitingReader> {
        let mut all: Vec<(WaitId, &WaitingReader)> = self.any.iter().collect();
        for queue in self.selective.values() {
            all.extend(queue.iter());
        }
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, reader)| reader).collect()
    }

    /// The first reader that takes `message` but not any message.
    fn first_selective(&self, message: &Message) -> Option<(WaitId, Selector)> {
        if self.selective.is_empty() {
            return None;
        }
        let tag = message.tag().map(|tag| Selector::Message(Filter::Tag(tag.clone())));
        let sender = Selector::Message(Filter::Sender(message.sender.uid));
        let selectors = tag.into_iter().chain([sender]);
        let firsts =
            selectors.filter_map(|selector| Some((self.selective.get(&selector)?.front_key()?, selector)));
        firsts.min_by_key(|(id, _)| *id)
    }
}
