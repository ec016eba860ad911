//! Places at which something has changed.

use crate::state::{Restorer, Saved, Saver};

/// Places, as long as somebody asks for them.
#[derive(Debug)]
pub(super) struct Noted<P>(Option<Vec<P>>);

impl<P> Default for Noted<P> {
    fn default() -> Noted<P> {
        Noted(None)
    }
}

/// Not saved: who asks begins anew.
impl<P: Send + Sync + 'static> Saved for Noted<P> {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(_: &mut Restorer<'_>) -> Option<Self> {
        Some(Noted(None))
    }
}

impl<P: PartialEq> Noted<P> {
    /// From now on somebody asks.
    pub(super) fn watch(&mut self) {
        self.0.get_or_insert_default();
    }

    /// Something has changed there.
    pub(super) fn note(&mut self, place: P) {
        // Most calls concern one.
        if let Some(places) = self.0.as_mut().filter(|places| places.last() != Some(&place)) {
            places.push(place);
        }
    }

    /// All places since the last call. Some may come twice.
    pub(super) fn take(&mut self) -> Vec<P> {
        self.0.as_mut().map_or_else(Vec::new, std::mem::take)
    }
}
