//! The random operations.

use super::*;
use crate::mailbox::Removal;

pub(super) const MEMORY: u64 = 3000;

/// Longer than the longest delay: of a message that was given back.
pub(super) const LONG: u64 = 2_000_000_000;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Open(Door, Mode),
    Close(u8),
    Read {
        handle: u8,
        size: usize,
        nonblock: bool,
    },
    Write {
        handle: u8,
        text: Pieces,
        nonblock: bool,
    },
    Settle(u8, u8),
    Poll(u8),
    Cancel(u8),
    Limits(MailboxLimits),
    Rules(Rules),
    /// Other mailboxes charge or return memory.
    Elsewhere(u64),
    RemoveMessage(u8),
    Purge(Purge),
    MoveOut(u8),
    MoveIn {
        reset_deliveries: bool,
    },
    /// Nanoseconds pass.
    Tick(u64),
    Remove,
}

/// Pieces: the bytes that each has beyond its number, and whether a newline follows.
pub(super) type Pieces = Vec<(usize, bool)>;

fn doors() -> impl Strategy<Value = (Door, Mode)> {
    let tag = |n: u8| Door::Tag(Arc::from([n]));
    let door = prop_oneof![
        3 => Just(Door::Plain),
        3 => Just(Door::Stream),
        1 => Just(Door::Whole),
        1 => Just(Door::Peek),
        1 => prop_oneof![Just(1), Just(9)].prop_map(Door::Priority),
        2 => (1..40_u64).prop_map(Door::Delay),
        2 => (0..2_u8).prop_map(tag),
        2 => (0..2_u32).prop_map(Door::From),
        1 => Just(Door::Json),
        3 => Just(Door::Lease),
        3 => Just(Door::LeaseJson),
        2 => (0..2_u8).prop_map(|key| Door::Once(Arc::from([key]))),
        3 => Just(Door::Rpc),
        3 => Just(Door::Serve),
    ];
    (door, prop_oneof![Just(Mode::Receive), Just(Mode::Send), Just(Mode::Both), Just(Mode::Both)]).prop_map(
        |(door, mode)| match door.ways() {
            (true, true) => (door, mode),
            (true, false) => (door, Mode::Receive),
            _ => (door, Mode::Send),
        },
    )
}

fn rules() -> impl Strategy<Value = Rules> {
    let none = crate::config::NO_LIMIT;
    let full =
        prop_oneof![4 => Just(WhenFull::Wait), 1 => Just(WhenFull::Fail), 1 => Just(WhenFull::DropOldest)];
    let order = prop_oneof![Just(Order::Fifo), Just(Order::Priority)];
    let some = move || prop_oneof![2 => Just(none), 1 => 1..40_u64];
    let dead_letter = prop_oneof![Just(None), Just(Some(dead_letter()))];
    let durable = prop_oneof![Just(Durable::Off), Just(Durable::Daemon), Just(Durable::Fsync)];
    (full, order, some(), prop_oneof![Just(none), 1..3_u64], some(), dead_letter, durable).prop_map(
        |(full, order, ttl, max_deliver, lease_time, dead_letter, durable)| Rules {
            full,
            order,
            ttl,
            max_deliver,
            max_rounds: None,
            once_window: Some(20),
            lease_time,
            wholesize: 40,
            dead_letter,
            removal: Removal::Any,
            durable,
        },
    )
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let limits = (10..=30_u32, 1..=4_u64, 8..=60_u64);
    let limits = limits.prop_map(|(msgsize, maxmsg, maxbytes)| MailboxLimits { msgsize, maxmsg, maxbytes });
    let index = any::<u8>;
    let text = prop::collection::vec((0..8_usize, any::<bool>()), 1..4);
    let step = prop_oneof![
        40 => doors().prop_map(|(door, mode)| Step::Open(door, mode)),
        12 => index().prop_map(Step::Close),
        100 => (index(), 0..40_usize, prop::bool::weighted(0.3))
            .prop_map(|(handle, size, nonblock)| Step::Read { handle, size, nonblock }),
        120 => (index(), text, prop::bool::weighted(0.3))
            .prop_map(|(handle, text, nonblock)| Step::Write { handle, text, nonblock }),
        40 => (index(), 0..4_u8).prop_map(|(handle, word)| Step::Settle(handle, word)),
        30 => index().prop_map(Step::Poll),
        20 => index().prop_map(Step::Cancel),
        5 => limits.prop_map(Step::Limits),
        8 => rules().prop_map(Step::Rules),
        8 => (0..MEMORY).prop_map(Step::Elsewhere),
        6 => index().prop_map(Step::RemoveMessage),
        6 => index().prop_map(Step::MoveOut),
        6 => any::<bool>().prop_map(|reset_deliveries| Step::MoveIn { reset_deliveries }),
        15 => (0..30_u64).prop_map(Step::Tick),
        2 => Just(Step::Tick(LONG)),
        4 => purges().prop_map(Step::Purge),
        1 => Just(Step::Remove),
    ];
    prop::collection::vec(step, 1..80)
}

fn purges() -> impl Strategy<Value = Purge> {
    prop_oneof![
        Just(Purge::All),
        (0..2_u8).prop_map(|tag| Purge::Tag(Arc::from([tag]))),
        (0..2_u32).prop_map(Purge::From),
        (1..40_u64).prop_map(Purge::Older),
    ]
}
