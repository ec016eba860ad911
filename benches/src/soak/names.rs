//! The mailboxes that a soak uses, and what the actors and the ledger agree on.

/// Consumers of these are killed at any time: each kill may lose one message. The operator moves messages from the first
/// to the second.
pub const PLAIN: [&str; 2] = ["plain", "plain2"];

/// Consumers of this are never killed: no message may be lost.
pub const KEPT: &str = "kept";

/// Workers lease messages from this and are killed: no message may be lost.
pub const LEASED: &str = "leased";

/// The dead-letter mailbox of [`LEASED`].
pub const DEAD_LETTER: &str = "dead_letter";

/// The mailbox of the RPC clients and servers.
pub const ASKED: &str = "asked";

/// Nothing is ever sent to this.
pub const EMPTY: &str = "empty";

pub const MAILBOXES: [&str; 7] = [PLAIN[0], PLAIN[1], KEPT, LEASED, DEAD_LETTER, ASKED, EMPTY];

/// The most messages that one write(2) sends. A killed sender may have sent so many without a event.
pub const MAX_LINES: u64 = 8;
