//! How an actor says what it did, and what a message looks like.

use std::io::Write as _;

use anyhow::{Context as _, Result};

/// What an actor says that it did.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// So many messages, counted from the beginning of its life.
    Sent {
        to: String,
        upto: u64,
    },
    Received {
        life: u64,
        number: u64,
    },
    /// The message is done with, for good.
    Settled {
        life: u64,
        number: u64,
    },
    Answered,
    Heard,
    Counted,
    Named,
    Wrong(String),
}

impl Report {
    pub fn say(&self) {
        let line = match self {
            Report::Sent { to, upto } => format!("sent {to} {upto}\n"),
            Report::Received { life, number } => format!("received {life} {number}\n"),
            Report::Settled { life, number } => format!("settled {life} {number}\n"),
            Report::Answered => "answered\n".into(),
            Report::Heard => "heard\n".into(),
            Report::Counted => "counted\n".into(),
            Report::Named => "named\n".into(),
            Report::Wrong(what) => format!("wrong {}\n", what.replace('\n', " ")),
        };
        // In one write, so that whoever is killed has said all of it or nothing. Nobody listens: the end is near.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    pub fn parse(line: &str) -> Option<Report> {
        let line = line.strip_suffix('\n')?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let two = || {
            let (a, b) = rest.split_once(' ')?;
            Some((a.to_owned(), b.parse().ok()?))
        };
        let message = || two().and_then(|(life, number)| Some((life.parse().ok()?, number)));
        Some(match word {
            "sent" => two().map(|(to, upto)| Report::Sent { to, upto })?,
            "received" => message().map(|(life, number)| Report::Received { life, number })?,
            "settled" => message().map(|(life, number)| Report::Settled { life, number })?,
            "answered" => Report::Answered,
            "heard" => Report::Heard,
            "counted" => Report::Counted,
            "named" => Report::Named,
            "wrong" => Report::Wrong(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Numbers that look random, from a seed: splitmix64.
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

/// A message says whose it is, which, and how long, so that a part of one, or of two, is none.
pub fn message(life: u64, number: u64, filler: usize) -> String {
    format!("{life} {number} {filler} {}\n", "x".repeat(filler))
}

pub fn parse(bytes: &[u8]) -> Result<(u64, u64)> {
    let parse = || {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let mut words = text.split(' ');
        let (life, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (length, filler): (usize, &str) = (words.next()?.parse().ok()?, words.next()?);
        (filler.len() == length && filler.bytes().all(|byte| byte == b'x') && words.next().is_none())
            .then_some((life, number))
    };
    parse().with_context(|| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        format!("{} bytes that are no message: {start:?}", bytes.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_understood_as_they_are_said() {
        let sent = Report::parse("sent kept 12\n").unwrap();
        assert_eq!(sent, Report::Sent { to: "kept".into(), upto: 12 });
        assert_eq!(Report::parse("received 3 4\n"), Some(Report::Received { life: 3, number: 4 }));
        // A line that was cut off says another number.
        assert_eq!(Report::parse("received 3 4"), None);
    }

    #[test]
    fn a_part_of_a_message_is_none() {
        let whole = message(7, 8, 9);
        assert_eq!(parse(whole.as_bytes()).unwrap(), (7, 8));
        assert!(parse(&whole.as_bytes()[..whole.len() - 2]).is_err());
        assert!(parse([&whole, whole.as_str()].concat().as_bytes()).is_err());
    }
}
