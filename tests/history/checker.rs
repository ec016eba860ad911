//! The checker: from the logs of writers and readers to the first thing that is wrong, if anything is.

use std::collections::{HashMap, HashSet};

/// A message: whose it is, its number with that sender (0, 1, 2, …), and bytes that follow from both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) writer: u32,
    pub(crate) number: u32,
}

impl Id {
    /// The message's bytes. Their length differs from message to message, and a checksum ends them, so that one that was
    /// cut, or mixed with another, is no message at all.
    pub(crate) fn body(self) -> Vec<u8> {
        let Id { writer, number } = self;
        let filler = usize::try_from((writer * 31 + number * 7) % 300).unwrap();
        let text = format!("{writer} {number} {}", "x".repeat(filler));
        format!("{text} {:08x}", checksum(text.as_bytes())).into_bytes()
    }

    /// The message that `body` is, byte for byte.
    pub(crate) fn parse(body: &[u8]) -> Option<Id> {
        let text = std::str::from_utf8(body).ok()?;
        let mut words = text.split(' ');
        let id = Id { writer: words.next()?.parse().ok()?, number: words.next()?.parse().ok()? };
        (id.body() == body).then_some(id)
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What everybody wrote down.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Of each writer: how many of its messages, from number 0 on, its write(2) had returned for; and whether it was killed
    /// with another on its way, which may have been sent or not.
    pub(crate) written: HashMap<u32, Written>,
    /// Of each reader's life: the messages it received, in order.
    pub(crate) received: Vec<Received>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    pub(crate) logged: u32,
    pub(crate) killed: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) bodies: Vec<Vec<u8>>,
    /// It was killed, perhaps between its read(2) and writing down what that returned.
    pub(crate) killed: bool,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Bytes that nobody sent as one message.
    Garbled,
    /// A message beyond those that its sender had written or was writing.
    Invented(Id),
    /// Received twice.
    Doubled(Id),
    /// Received by one reader after a later one of the same sender.
    Reordered(Id),
    /// More are missing than killed readers can have had in their hands.
    Lost { missing: usize, excused: usize, first: Id },
}

/// Everything that is guaranteed, or the first fault.
pub(crate) fn check(history: &History) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    for reader in &history.received {
        let mut latest: HashMap<u32, u32> = HashMap::new();
        for body in &reader.bodies {
            let id = Id::parse(body).ok_or(Fault::Garbled)?;
            let written = history.written.get(&id.writer).copied().unwrap_or_default();
            if id.number >= written.logged + u32::from(written.killed) {
                return Err(Fault::Invented(id));
            }
            if !seen.insert(id) {
                return Err(Fault::Doubled(id));
            }
            if latest.insert(id.writer, id.number).is_some_and(|before| before > id.number) {
                return Err(Fault::Reordered(id));
            }
        }
    }
    let logged = history
        .written
        .iter()
        .flat_map(|(writer, written)| (0..written.logged).map(|number| Id { writer: *writer, number }));
    let missing: Vec<_> = logged.filter(|id| !seen.contains(id)).collect();
    let excused = history.received.iter().filter(|reader| reader.killed).count();
    match missing.iter().min() {
        Some(first) if missing.len() > excused => {
            Err(Fault::Lost { missing: missing.len(), excused, first: *first })
        }
        _ => Ok(()),
    }
}

/// A history in which all went well: two readers, three writers of whom one was killed.
fn good() -> History {
    let mut written = HashMap::new();
    for writer in 0..3 {
        written.insert(writer, Written { logged: 10, killed: writer == 2 });
    }
    let mut received = vec![Received::default(), Received::default()];
    for number in 0..10 {
        for writer in 0..3 {
            received[(number % 2) as usize].bodies.push(Id { writer, number }.body());
        }
    }
    History { written, received }
}

#[test]
fn a_good_history_passes() {
    assert_eq!(check(&good()), Ok(()));
    let mut history = good();
    history.received[0].bodies.push(Id { writer: 2, number: 10 }.body());
    assert_eq!(check(&history), Ok(()), "sent, and killed before it wrote that down");
}

#[test]
fn a_lost_message_is_found() {
    let mut history = good();
    history.received[1].bodies.remove(4);
    let first = Id { writer: 1, number: 3 };
    assert_eq!(check(&history), Err(Fault::Lost { missing: 1, excused: 0, first }));
    history.received[0].killed = true;
    assert_eq!(check(&history), Ok(()), "a killed reader may have had it in its hand");
    history.received[1].bodies.remove(4);
    assert_eq!(check(&history), Err(Fault::Lost { missing: 2, excused: 1, first }), "but not two");
    let mut history = good();
    history.received[1].bodies.pop();
    assert!(matches!(check(&history), Err(Fault::Lost { .. })), "the last one, too");
}

#[test]
fn a_doubled_message_is_found() {
    for reader in 0..2 {
        let mut history = good();
        let body = history.received[0].bodies[28 / 2].clone();
        history.received[reader].bodies.push(body);
        assert_eq!(check(&history), Err(Fault::Doubled(Id { writer: 2, number: 8 })), "by reader {reader}");
    }
}

#[test]
fn a_message_out_of_order_is_found() {
    let mut history = good();
    history.received[0].bodies.swap(0, 3);
    assert_eq!(check(&history), Err(Fault::Reordered(Id { writer: 0, number: 0 })));
    let mut history = good();
    history.received[0].bodies.swap(0, 1);
    assert_eq!(check(&history), Ok(()), "between two senders there is no order");
}

#[test]
fn a_message_cut_or_mixed_is_found() {
    let whole = Id { writer: 0, number: 4 }.body();
    let other = Id { writer: 1, number: 4 }.body();
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    let doctored = [
        whole[..whole.len() - 1].to_vec(),
        whole[1..].to_vec(),
        Vec::new(),
        [&whole[..], &other[..]].concat(),
        [&whole[..9], &other[9..]].concat(),
        [&whole[..], b"\n"].concat(),
        flipped,
    ];
    for body in doctored {
        let mut history = good();
        history.received[0].bodies[6] = body;
        assert_eq!(check(&history), Err(Fault::Garbled));
    }
}

#[test]
fn an_invented_message_is_found() {
    for id in [Id { writer: 0, number: 10 }, Id { writer: 2, number: 11 }, Id { writer: 9, number: 0 }] {
        let mut history = good();
        history.received[0].bodies.push(id.body());
        assert_eq!(check(&history), Err(Fault::Invented(id)));
    }
}
