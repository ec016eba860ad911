//! Where an answer has to go: what the transports put into [`crate::op::Ticket::lane`].

/// The way a request came by. The kernel takes its answer there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A descriptor of the device, by index.
    Device(u32),
    /// An entry of a ring.
    Entry {
        /// Index of the ring, less than [`MAX_RINGS`].
        ring: u32,
        /// Number of the entry, less than [`MAX_ENTRIES`].
        slot: u32,
    },
}

/// Rings that a lane can tell apart. More CPUs than these share them.
pub(super) const MAX_RINGS: usize = 1 << (31 - SLOT_BITS);

/// Entries of one ring that a lane can tell apart.
pub(super) const MAX_ENTRIES: u32 = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 22;
const ENTRY: u32 = 1 << 31;

impl From<u32> for Lane {
    fn from(lane: u32) -> Lane {
        if lane & ENTRY == 0 {
            return Lane::Device(lane);
        }
        Lane::Entry { ring: (lane & !ENTRY) >> SLOT_BITS, slot: lane & (MAX_ENTRIES - 1) }
    }
}

impl From<Lane> for u32 {
    fn from(lane: Lane) -> u32 {
        match lane {
            Lane::Device(index) => index,
            Lane::Entry { ring, slot } => ENTRY | ring << SLOT_BITS | slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_a_number_and_back() {
        let last = Lane::Entry { ring: MAX_RINGS as u32 - 1, slot: MAX_ENTRIES - 1 };
        for lane in [Lane::Device(0), Lane::Device(63), Lane::Entry { ring: 0, slot: 0 }, last] {
            assert_eq!(Lane::from(u32::from(lane)), lane);
        }
    }
}
