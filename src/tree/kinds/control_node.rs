//! The numbers of nodes in `control/`: a number says which object's and which of its files, and nothing has to be kept.

use crate::op::{Ino, NodeId};
use crate::tree::names::ROOT;

/// The folder's name in the root.
pub(super) const NAME: &[u8] = b"control";

/// No object's number is as high.
const BASE: u64 = 1 << 62;
const SLOT_BITS: u32 = 6;
const FIRST_DOOR: u64 = 3;
const FIRST_FILE: u64 = 16;

/// A node of `control/`: an object and which of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlNode {
    pub(super) object: Ino,
    pub(super) slot: Slot,
}

/// One of an object's folders or files in `control/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The object's folder, or the view of a folder.
    Top,
    /// `config/` in it.
    Config,
    /// `messages/`
    Messages,
    /// A door, or a folder of doors: its index in `crate::control::DOORS`. Of a segment, a file of its doorbell.
    Door(usize),
    /// A file of text: its index in the object's table.
    File(usize),
}

impl ControlNode {
    /// `control/` itself.
    pub(crate) const ROOT: ControlNode = ControlNode { object: ROOT, slot: Slot::Top };

    /// The one that `node` numbers, if it is in `control/`.
    pub(crate) fn of(node: NodeId) -> Option<ControlNode> {
        let number = node.0.checked_sub(BASE)?;
        let object = Ino(number >> SLOT_BITS);
        let slot = match number & ((1 << SLOT_BITS) - 1) {
            0 => Slot::Top,
            1 => Slot::Config,
            2 => Slot::Messages,
            door @ FIRST_DOOR..FIRST_FILE => Slot::Door((door - FIRST_DOOR) as usize),
            file => Slot::File((file - FIRST_FILE) as usize),
        };
        Some(ControlNode { object, slot })
    }

    /// Its `st_ino`; its node has the same number.
    pub(crate) fn ino(self) -> Ino {
        let slot = match self.slot {
            Slot::Top => 0,
            Slot::Config => 1,
            Slot::Messages => 2,
            Slot::Door(index) => FIRST_DOOR + index as u64,
            Slot::File(index) => FIRST_FILE + index as u64,
        };
        Ino(BASE + (self.object.0 << SLOT_BITS) + slot)
    }

    pub(super) fn top(object: Ino) -> ControlNode {
        ControlNode { object, slot: Slot::Top }
    }

    pub(super) fn with(self, slot: Slot) -> ControlNode {
        ControlNode { slot, ..self }
    }
}
