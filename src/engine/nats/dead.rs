//! Dead letters: messages that were rejected, or leased too often, go to another mailbox.
//!
//! A letter is sent before the message is settled, with an id that is made of the message's place: if its host dies between the two,
//! the message comes once more, another host sends the letter again, and the servers keep it once.

use std::time::Duration;

use async_nats::HeaderMap;
use tokio::time::sleep;

use super::Hosts;
use super::api::{self, Refused, code};
use super::ask::{ID, REASON, place_id};
use crate::config::NO_LIMIT;
use crate::engine::{Event, Path};
use crate::op::{Error, Ino};

/// Before an attempt that has failed is repeated.
const PAUSE: Duration = Duration::from_millis(300);

/// The mailboxes in which a letter was when it died, so that it does not go in circles.
const DIED: &str = "Ipcfs-Died";

impl Hosts {
    /// The message was delivered as often as it may be, or if `more` is 1 more often.
    pub(super) fn is_worn_out(&self, path: &[u8], ack: &str, more: u64) -> bool {
        let most = self.described(path).map_or(NO_LIMIT, |told| told.max_deliver);
        most != NO_LIMIT && place(ack).is_some_and(|place| place.delivered >= most.saturating_add(more))
    }

    /// Sends a message to the mailbox for dead letters, if there is one that takes it, and removes it.
    pub(super) async fn bury(
        &self,
        (mailbox, path): (Ino, &Path),
        ack: &str,
        reason: &'static str,
    ) -> Result<(), Error> {
        let Some(Place { sequence, .. }) = place(ack) else { return self.tell_settled(ack, "+ACK").await };
        let id = self.id(path).await?;
        let is_kept = loop {
            self.connected().await;
            match self.send_letter(path, &id, sequence, reason).await {
                Ok(is_kept) => break is_kept,
                Err(Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _)) => {
                    sleep(PAUSE).await;
                }
                Err(why) => {
                    log::warn!("a dead letter of '{}' is dropped: {why}", path.escape_ascii());
                    break false;
                }
            }
        };
        self.emit(Event::Died(mailbox, is_kept));
        self.tell_settled(ack, "+ACK").await
    }

    /// False: nothing takes it.
    async fn send_letter(&self, path: &[u8], id: &str, sequence: u64, reason: &str) -> Result<bool, Refused> {
        let Some((to_path, to)) = self.dead_letter(path) else { return Ok(false) };
        let found = match self.find(id, sequence).await {
            // It has expired, or is settled.
            Err(Refused::Server(code::NO_MESSAGE, _)) => return Ok(false),
            other => other?,
        };
        let died = found.header(DIED).unwrap_or_default();
        if died.split(' ').any(|place| place == to) {
            return Ok(false);
        }
        let mut headers = HeaderMap::new();
        headers.insert(ID, place_id(id, sequence));
        found.copy_to(&mut headers);
        headers.insert(REASON, reason);
        headers.insert(DIED, format!("{died} {id}").trim_start());
        let subject = self.subject_if(&to_path, &to, found.priority).await;
        match api::ask(&self.client, subject, Some(headers), found.body.clone()).await {
            Ok(_) => Ok(true),
            // It is gone.
            Err(Refused::Nobody) if api::has_stream(&self.client, &self.stream(&to)).await == Ok(false) => {
                Ok(false)
            }
            Err(why) => Err(why),
        }
    }
}

/// What a server says of a message that it hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// How often it was delivered.
    pub(super) delivered: u64,
    /// Its number in its stream.
    pub(super) sequence: u64,
    /// When the servers got it.
    pub(super) sent: u64,
    /// How many others wait to be delivered.
    pub(super) behind: u64,
}

/// It stands in the subject where the message is settled:
/// `$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER_SEQUENCE.TIME.PENDING[.…]`
pub(super) fn place(ack: &str) -> Option<Place> {
    let words: Vec<&str> = ack.split('.').collect();
    let first = if words.len() == 9 { 4 } else { 6 };
    let number = |at: usize| words.get(first + at)?.parse().ok();
    Some(Place { delivered: number(0)?, sequence: number(1)?, sent: number(3)?, behind: number(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_both_forms() {
        let there = Some(Place { delivered: 3, sequence: 17, sent: 1_700_000_000, behind: 5 });
        assert_eq!(place("$JS.ACK.s.readers.3.17.20.1700000000.5"), there);
        assert_eq!(place("$JS.ACK._.hash.s.readers.3.17.20.1700000000.5.x"), there);
        assert_eq!(place("$JS.ACK"), None);
    }
}
