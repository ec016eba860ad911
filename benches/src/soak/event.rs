//! What an actor reports, and the format of a message.

use std::io::Write as _;

use anyhow::{Context as _, Result};

/// Something that an actor did. It is reported as one line on standard output.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The instance has sent `upto` messages since it started.
    Sent {
        to: String,
        upto: u64,
    },
    Received {
        instance: u64,
        number: u64,
    },
    /// The message was acknowledged.
    Settled {
        instance: u64,
        number: u64,
    },
    Answered,
    Delivered,
    Counted,
    Churned,
    Failed(String),
}

impl Event {
    pub fn send(&self) {
        let line = match self {
            Event::Sent { to, upto } => format!("sent {to} {upto}\n"),
            Event::Received { instance, number } => format!("received {instance} {number}\n"),
            Event::Settled { instance, number } => format!("settled {instance} {number}\n"),
            Event::Answered => "answered\n".into(),
            Event::Delivered => "delivered\n".into(),
            Event::Counted => "counted\n".into(),
            Event::Churned => "churned\n".into(),
            Event::Failed(what) => format!("failed {}\n", what.replace('\n', " ")),
        };
        // One write(2), so that a killed actor has reported the whole line or nothing. A failure means that the soak ends.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    pub fn parse(line: &str) -> Option<Event> {
        let line = line.strip_suffix('\n')?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let two = || {
            let (a, b) = rest.split_once(' ')?;
            Some((a.to_owned(), b.parse().ok()?))
        };
        let message = || two().and_then(|(instance, number)| Some((instance.parse().ok()?, number)));
        Some(match word {
            "sent" => two().map(|(to, upto)| Event::Sent { to, upto })?,
            "received" => message().map(|(instance, number)| Event::Received { instance, number })?,
            "settled" => message().map(|(instance, number)| Event::Settled { instance, number })?,
            "answered" => Event::Answered,
            "delivered" => Event::Delivered,
            "counted" => Event::Counted,
            "churned" => Event::Churned,
            "failed" => Event::Failed(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Pseudo-random numbers from a seed: splitmix64.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A message names its sender, its number and its length, so that a part of a message, or two messages in one, cannot be
/// parsed.
pub fn message(instance: u64, number: u64, filler: usize) -> String {
    format!("{instance} {number} {filler} {}\n", "x".repeat(filler))
}

pub fn parse(bytes: &[u8]) -> Result<(u64, u64)> {
    let parse = || {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let mut words = text.split(' ');
        let (instance, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (length, filler): (usize, &str) = (words.next()?.parse().ok()?, words.next()?);
        (filler.len() == length && filler.bytes().all(|byte| byte == b'x') && words.next().is_none())
            .then_some((instance, number))
    };
    parse().with_context(|| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        format!("{} bytes that are not a message: {start:?}", bytes.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_as_written() {
        let sent = Event::parse("sent kept 12\n").unwrap();
        assert_eq!(sent, Event::Sent { to: "kept".into(), upto: 12 });
        assert_eq!(Event::parse("received 3 4\n"), Some(Event::Received { instance: 3, number: 4 }));
        // A line that was cut off could hold another number.
        assert_eq!(Event::parse("received 3 4"), None);
    }

    #[test]
    fn a_part_of_a_message_is_not_a_message() {
        let whole = message(7, 8, 9);
        assert_eq!(parse(whole.as_bytes()).unwrap(), (7, 8));
        assert!(parse(&whole.as_bytes()[..whole.len() - 2]).is_err());
        assert!(parse([&whole, whole.as_str()].concat().as_bytes()).is_err());
    }
}
