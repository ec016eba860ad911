//! Accounts for each message: what was sent and what was received.
//!
//! A sender reports a write(2) after it returned, so each instance may have done one write more than it reported. A
//! consumer reports a message after it received it, so a killed consumer may have lost one message.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};

use super::event::{Event, parse};
use super::names::{DEAD_LETTER, LEASED, MAX_LINES, PLAIN};

/// The messages of one instance of a sender: how often each number was received, and how often acknowledged.
#[derive(Debug, Default, Clone)]
struct Sent {
    /// Messages that the sender reported as sent.
    reported: u64,
    /// The mailbox.
    to: String,
    received: Vec<u8>,
    settled: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    instances: HashMap<u64, Sent>,
    pub kills: u64,
    /// Kills of consumers that receive without a lease: each may lose one message.
    pub consumers_killed: u64,
    requests: u64,
    news: u64,
    names: u64,
    /// Increments of the shared counter that were reported.
    counted: u64,
    /// Kills of incrementers: each may have made one increment more than it reported.
    pub incrementers_killed: u64,
    /// The value of the shared counter.
    pub counter: u64,
    failures: Vec<String>,
    /// Totals of the minutes that were checked.
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
    pub fn record(&mut self, instance: u64, event: Event) {
        match event {
            Event::Sent { to, upto } => {
                let sent = self.instances.entry(instance).or_default();
                sent.to = to;
                sent.reported = upto;
            }
            Event::Received { instance, number } => {
                bump(&mut self.instances.entry(instance).or_default().received, number);
            }
            Event::Settled { instance, number } => {
                bump(&mut self.instances.entry(instance).or_default().settled, number);
            }
            Event::Answered => self.requests += 1,
            Event::Delivered => self.news += 1,
            Event::Counted => self.counted += 1,
            Event::Churned => self.names += 1,
            Event::Failed(what) => self.failures.push(what),
        }
    }

    /// Records a message that was still in a mailbox at the end.
    pub fn drained(&mut self, mailbox: &str, message: &[u8]) {
        match parse(message) {
            Ok((instance, number)) => {
                let sent = self.instances.entry(instance).or_default();
                bump(&mut sent.received, number);
                if mailbox == LEASED || mailbox == DEAD_LETTER {
                    bump(&mut sent.settled, number);
                }
            }
            Err(error) => self.failures.push(format!("{mailbox}: {error}")),
        }
    }

    /// Counts the messages that were certainly sent, were received, and are missing, in the mailboxes that `of` selects.
    fn count(&self, of: impl Fn(&str) -> bool) -> (u64, u64, u64) {
        let (mut sent, mut received, mut missing) = (0, 0, 0);
        for instance in self.instances.values().filter(|instance| of(&instance.to)) {
            sent += instance.reported;
            received += instance.received.iter().filter(|count| **count > 0).count() as u64;
            let there = |number: u64| instance.received.get(number as usize).is_some_and(|count| *count > 0);
            missing += (0..instance.reported).filter(|number| !there(*number)).count() as u64;
        }
        (sent, received, missing)
    }

    /// The mailbox, sender and number of messages that are missing, a few of them.
    fn lost(&self, of: impl Fn(&str) -> bool) -> Vec<(&str, u64, u64)> {
        let mut lost = Vec::new();
        for (id, instance) in self.instances.iter().filter(|(_, instance)| of(&instance.to)) {
            let there = |number: u64| instance.received.get(number as usize).is_some_and(|count| *count > 0);
            let missing = (0..instance.reported).filter(|number| !there(*number));
            lost.extend(missing.map(|number| (instance.to.as_str(), *id, number)).take(10));
        }
        lost
    }

    /// Checks that nothing is lost or doubled. The error says what does not add up.
    pub fn balance(&self) -> Result<()> {
        if let Some(what) = self.failures.first() {
            bail!("{what} (and {} more)", self.failures.len() - 1);
        }
        for (id, instance) in &self.instances {
            let leased = instance.to == LEASED;
            let once = if leased { &instance.settled } else { &instance.received };
            if let Some(number) = once.iter().position(|count| *count > 1) {
                bail!(
                    "message {number} of sender {id} to {} was received {} times",
                    instance.to,
                    once[number]
                );
            }
            let most = instance.reported + MAX_LINES;
            ensure!(
                instance.received.len() as u64 <= most,
                "sender {id} reported {} messages to {}, but number {} was received",
                instance.reported,
                instance.to,
                instance.received.len()
            );
        }
        let plain = |to: &str| PLAIN.contains(&to);
        let (.., missing) = self.count(plain);
        ensure!(
            missing <= self.consumers_killed,
            "{missing} messages are lost, but only {} consumers were killed that may each have lost one",
            self.consumers_killed
        );
        let (.., missing) = self.count(|to| !plain(to));
        ensure!(
            missing == 0,
            "{missing} messages are lost where no message may be lost: {:?}",
            self.lost(|to| !plain(to))
        );
        let most = self.counted + self.incrementers_killed;
        ensure!(
            (self.counted..=most).contains(&self.counter),
            "{} increments under a lock were reported and {} more may have been made, but the counter is {}",
            self.counted,
            self.incrementers_killed,
            self.counter
        );
        Ok(())
    }

    /// Adds the totals of `other`.
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
            "{} messages sent, {} received, {} lost by killed consumers; {} requests answered, {} topic messages \
             delivered, {} sets of files created and removed, {} increments under a lock; {} kills",
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
    use super::super::names::KEPT;
    use super::*;

    fn sent(to: &str, upto: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record(1, Event::Sent { to: to.to_owned(), upto });
        ledger
    }

    fn received(ledger: &mut Ledger, number: u64) {
        ledger.record(2, Event::Received { instance: 1, number });
    }

    #[test]
    fn messages_that_are_received_once_balance() {
        let mut ledger = sent(KEPT, 2);
        received(&mut ledger, 0);
        received(&mut ledger, 1);
        ledger.balance().unwrap();
        // The sender was killed before it reported this write.
        received(&mut ledger, 2);
        ledger.balance().unwrap();
    }

    #[test]
    fn a_lost_message_is_found() {
        let mut ledger = sent(KEPT, 2);
        received(&mut ledger, 1);
        assert!(ledger.balance().unwrap_err().to_string().contains("1 messages are lost"));
        // A killed consumer of a plain mailbox may have lost it.
        let mut ledger = sent(PLAIN[0], 2);
        received(&mut ledger, 1);
        assert!(ledger.balance().is_err());
        ledger.consumers_killed = 1;
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
    fn a_leased_message_may_be_delivered_twice_but_acknowledged_once() {
        let mut ledger = sent(LEASED, 1);
        received(&mut ledger, 0);
        received(&mut ledger, 0);
        ledger.record(2, Event::Settled { instance: 1, number: 0 });
        ledger.balance().unwrap();
        ledger.record(3, Event::Settled { instance: 1, number: 0 });
        assert!(ledger.balance().is_err());
    }

    #[test]
    fn a_message_that_was_never_sent_is_found() {
        let mut ledger = sent(KEPT, 1);
        received(&mut ledger, 0);
        received(&mut ledger, 1000);
        assert!(ledger.balance().is_err());
    }

    #[test]
    fn a_wrong_counter_is_found() {
        let mut ledger = Ledger { counter: 2, ..Ledger::default() };
        ledger.record(1, Event::Counted);
        assert!(ledger.balance().is_err());
        ledger.incrementers_killed = 1;
        ledger.balance().unwrap();
        ledger.counter = 0;
        assert!(ledger.balance().is_err());
    }
}
