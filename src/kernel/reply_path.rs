//! Where an answer must be sent: the meaning of [`crate::op::RequestId::reply_path`].

/// Where a request came from. The kernel accepts its answer only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyPath {
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

/// Number of rings that a reply path can distinguish. If there are more CPUs, they share rings.
pub(super) const MAX_RINGS: usize = 1 << (31 - SLOT_BITS);

/// Number of entries of one ring that a reply path can distinguish.
pub(super) const MAX_ENTRIES: u32 = 1 << SLOT_BITS;

/// Bits of the entry's number.
const SLOT_BITS: u32 = 22;
/// Bit that distinguishes an entry of a ring from a descriptor.
const ENTRY: u32 = 1 << 31;

impl From<u32> for ReplyPath {
    fn from(reply_path: u32) -> ReplyPath {
        if reply_path & ENTRY == 0 {
            return ReplyPath::Device(reply_path);
        }
        ReplyPath::Entry { ring: (reply_path & !ENTRY) >> SLOT_BITS, slot: reply_path & (MAX_ENTRIES - 1) }
    }
}

impl From<ReplyPath> for u32 {
    fn from(reply_path: ReplyPath) -> u32 {
        match reply_path {
            ReplyPath::Device(index) => index,
            ReplyPath::Entry { ring, slot } => ENTRY | ring << SLOT_BITS | slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_path_converts_to_a_number_and_back() {
        let last = ReplyPath::Entry { ring: MAX_RINGS as u32 - 1, slot: MAX_ENTRIES - 1 };
        for reply_path in
            [ReplyPath::Device(0), ReplyPath::Device(63), ReplyPath::Entry { ring: 0, slot: 0 }, last]
        {
            assert_eq!(ReplyPath::from(u32::from(reply_path)), reply_path);
        }
    }
}
