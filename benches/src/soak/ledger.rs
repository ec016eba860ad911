//! What was sent and what was received.
//!
//! A sender says what it has sent after it has, so of each life of a sender there may be one more write than it said.
//! A receiver says what it has received after it has, so one that was killed may have taken a message with it.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};

use super::actor::{DEAD, LEASED, PLAIN};
use super::report::{Report, parse};

/// The most messages in one write: those that a killed sender may have sent and not said.
pub const MOST_LINES: u64 = 8;

/// Messages of one life of a sender, by number: how often each was received, and how often acknowledged.
#[derive(Debug, Default, Clone)]
struct Sent {
    /// Said to be sent.
    said: u64,
    /// To which mailbox.
    to: String,
    received: Vec<u8>,
    settled: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    lives: HashMap<u64, Sent>,
    pub kills: u64,
    /// Kills of those who may take a message with them, which are those who read where it cannot be given back.
    pub takers_killed: u64,
    requests: u64,
    news: u64,
    names: u64,
    /// Increments of the shared counter that were said, and those who were killed while they might have made one more.
    counted: u64,
    pub counters_killed: u64,
    /// What the shared counter shows.
    pub counter: u64,
    wrong: Vec<String>,
    /// Of whole minutes, once they are balanced.
    sent: u64,
    received: u64,
    missing: u64,
}

fn bump(counts: &mut Vec<u8>, number: u64) {
    let index = number as usize;
    if counts.len() <= index {
        counts.resize(index + 1, 0);
    }
    counts[index] = counts[index].saturating_add(1);
}

impl Ledger {
    pub fn enter(&mut self, life: u64, report: Report) {
        match report {
            Report::Sent { to, upto } => {
                let sent = self.lives.entry(life).or_default();
                sent.to = to;
                sent.said = upto;
            }
            Report::Received { life, number } => {
                bump(&mut self.lives.entry(life).or_default().received, number);
            }
            Report::Settled { life, number } => {
                bump(&mut self.lives.entry(life).or_default().settled, number);
            }
            Report::Answered => self.requests += 1,
            Report::Heard => self.news += 1,
            Report::Counted => self.counted += 1,
            Report::Named => self.names += 1,
            Report::Wrong(what) => self.wrong.push(what),
        }
    }

    /// A message that nobody took before the end.
    pub fn drained(&mut self, mailbox: &str, message: &[u8]) {
        match parse(message) {
            Ok((life, number)) => {
                let sent = self.lives.entry(life).or_default();
                bump(&mut sent.received, number);
                if mailbox == LEASED || mailbox == DEAD {
                    bump(&mut sent.settled, number);
                }
            }
            Err(error) => self.wrong.push(format!("{mailbox}: {error}")),
        }
    }

    /// How many were sent for certain, received, and are missing; of one mailbox's, or of those of several.
    fn count(&self, of: impl Fn(&str) -> bool) -> (u64, u64, u64) {
        let (mut sent, mut received, mut missing) = (0, 0, 0);
        for life in self.lives.values().filter(|life| of(&life.to)) {
            sent += life.said;
            received += life.received.iter().filter(|count| **count > 0).count() as u64;
            let there = |number: u64| life.received.get(number as usize).is_some_and(|count| *count > 0);
            missing += (0..life.said).filter(|number| !there(*number)).count() as u64;
        }
        (sent, received, missing)
    }

    /// An error is what does not add up.
    pub fn balance(&self) -> Result<()> {
        if let Some(what) = self.wrong.first() {
            bail!("{what} (and {} more)", self.wrong.len() - 1);
        }
        for (id, life) in &self.lives {
            let leased = life.to == LEASED;
            let once = if leased { &life.settled } else { &life.received };
            if let Some(number) = once.iter().position(|count| *count > 1) {
                bail!("message {number} of sender {id} to {} was received {} times", life.to, once[number]);
            }
            let most = life.said + MOST_LINES;
            ensure!(
                life.received.len() as u64 <= most,
                "sender {id} said to have sent {} messages to {}, and number {} was received",
                life.said,
                life.to,
                life.received.len()
            );
        }
        let plain = |to: &str| PLAIN.contains(&to);
        let (.., missing) = self.count(plain);
        ensure!(
            missing <= self.takers_killed,
            "{missing} messages are lost, and only {} readers were killed who might have taken one along",
            self.takers_killed
        );
        let (.., missing) = self.count(|to| !plain(to));
        ensure!(missing == 0, "{missing} messages are lost that nobody could have taken along");
        let most = self.counted + self.counters_killed;
        ensure!(
            (self.counted..=most).contains(&self.counter),
            "{} increments under a lock were said, {} more may have been made, and there are {}",
            self.counted,
            self.counters_killed,
            self.counter
        );
        Ok(())
    }

    /// Adds the totals of another.
    pub fn add(&mut self, other: &Ledger) {
        let (sent, received, missing) = other.count(|_| true);
        self.sent += sent;
        self.received += received;
        self.missing += missing;
        self.kills += other.kills;
        self.requests += other.requests;
        self.news += other.news;
        self.names += other.names;
        self.counted += other.counted;
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sent, received, missing) = self.count(|_| true);
        write!(
            f,
            "{} messages sent, {} received, {} went with killed readers; {} requests answered, {} news heard, {} names \
             made and removed, {} counted under a lock; {} kills",
            self.sent + sent,
            self.received + received,
            self.missing + missing,
            self.requests,
            self.news,
            self.names,
            self.counted,
            self.kills
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::actor::KEPT;
    use super::*;

    fn sent(to: &str, upto: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.enter(1, Report::Sent { to: to.to_owned(), upto });
        ledger
    }

    fn received(ledger: &mut Ledger, number: u64) {
        ledger.enter(2, Report::Received { life: 1, number });
    }

    #[test]
    fn all_received_once_is_well() {
        let mut ledger = sent(KEPT, 2);
        received(&mut ledger, 0);
        received(&mut ledger, 1);
        ledger.balance().unwrap();
        // Sent by a write that its sender did not live to report.
        received(&mut ledger, 2);
        ledger.balance().unwrap();
    }

    #[test]
    fn a_lost_message_is_found() {
        let mut ledger = sent(KEPT, 2);
        received(&mut ledger, 1);
        assert!(ledger.balance().unwrap_err().to_string().contains("1 messages are lost"));
        // From where a killed reader may have taken it, it may be.
        let mut ledger = sent(PLAIN[0], 2);
        received(&mut ledger, 1);
        assert!(ledger.balance().is_err());
        ledger.takers_killed = 1;
        ledger.balance().unwrap();
    }

    #[test]
    fn a_doubled_message_is_found() {
        let mut ledger = sent(PLAIN[0], 1);
        received(&mut ledger, 0);
        received(&mut ledger, 0);
        assert!(ledger.balance().unwrap_err().to_string().contains("received 2 times"));
    }

    #[test]
    fn a_leased_message_may_come_twice_and_be_done_once() {
        let mut ledger = sent(LEASED, 1);
        received(&mut ledger, 0);
        received(&mut ledger, 0);
        ledger.enter(2, Report::Settled { life: 1, number: 0 });
        ledger.balance().unwrap();
        ledger.enter(3, Report::Settled { life: 1, number: 0 });
        assert!(ledger.balance().is_err());
    }

    #[test]
    fn a_message_from_nowhere_is_found() {
        let mut ledger = sent(KEPT, 1);
        received(&mut ledger, 0);
        received(&mut ledger, 1000);
        assert!(ledger.balance().is_err());
    }

    #[test]
    fn an_increment_that_nobody_made_is_found() {
        let mut ledger = Ledger { counter: 2, ..Ledger::default() };
        ledger.enter(1, Report::Counted);
        assert!(ledger.balance().is_err());
        ledger.counters_killed = 1;
        ledger.balance().unwrap();
        ledger.counter = 0;
        assert!(ledger.balance().is_err());
    }
}
