//! Where in `control/` a node is: its number says so, and nothing else has to be kept.

use super::names::ROOT;
use crate::op::{Ino, NodeId};

/// The folder's name in the root.
pub(super) const NAME: &[u8] = b"control";

/// No object's number is as high.
const BASE: u64 = 1 << 62;
const SLOT_BITS: u32 = 6;
const FIRST_DOOR: u64 = 3;
const FIRST_FILE: u64 = 16;

/// A node of `control/`: an object and which of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) object: Ino,
    pub(super) slot: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The object's folder, or the folder view of a folder.
    Top,
    /// `config/` in it.
    Config,
    /// `messages/`
    Messages,
    /// A door, or a folder of doors: its index in `crate::control::DOORS`.
    Door(usize),
    /// A file: its index in the object's table. For the root, 0 is `control/status`.
    File(usize),
}

impl Place {
    /// `control/` itself.
    pub(super) const ROOT: Place = Place { object: ROOT, slot: Slot::Top };

    /// The place that `node` numbers, if it is one of `control/`.
    pub(super) fn of(node: NodeId) -> Option<Place> {
        let number = node.0.checked_sub(BASE)?;
        let object = Ino(number >> SLOT_BITS);
        let slot = match number & ((1 << SLOT_BITS) - 1) {
            0 => Slot::Top,
            1 => Slot::Config,
            2 => Slot::Messages,
            door @ FIRST_DOOR..FIRST_FILE => Slot::Door((door - FIRST_DOOR) as usize),
            file => Slot::File((file - FIRST_FILE) as usize),
        };
        Some(Place { object, slot })
    }

    /// Both `st_ino` and the node's number.
    pub(super) fn ino(self) -> Ino {
        let slot = match self.slot {
            Slot::Top => 0,
            Slot::Config => 1,
            Slot::Messages => 2,
            Slot::Door(index) => FIRST_DOOR + index as u64,
            Slot::File(index) => FIRST_FILE + index as u64,
        };
        Ino(BASE + (self.object.0 << SLOT_BITS) + slot)
    }

    pub(super) fn top(object: Ino) -> Place {
        Place { object, slot: Slot::Top }
    }

    pub(super) fn with(self, slot: Slot) -> Place {
        Place { slot, ..self }
    }
}
