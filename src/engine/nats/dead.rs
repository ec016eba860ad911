//! Dead letters: messages that were rejected, or leased too often, go to another mailbox.
//!
//! A letter is sent before the message is settled, with an id that is made of the message's place: if its host dies between the two,
//! the message comes once more, another host sends the letter again, and the servers keep it once.

use std::time::Duration;

use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use tokio::time::sleep;

use super::Hosts;
use super::api::{self, Refused, code};
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
        let Some(to) = self.dead_letter(path) else { return Ok(false) };
        let what = format!("STREAM.MSG.GET.{}", self.stream(id));
        let found = match api::call(&self.client, &what, &json!({ "seq": sequence })).await {
            // It has expired, or is settled.
            Err(Refused::Server(code::NO_MESSAGE, _)) => return Ok(false),
            other => other?,
        };
        let decoded = |field: &str| {
            STANDARD.decode(found["message"][field].as_str().unwrap_or_default()).unwrap_or_default()
        };
        let old = decoded("hdrs");
        let old = String::from_utf8_lossy(&old);
        let header = |name: &str| old.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let died = header(DIED).unwrap_or_default();
        if died.split(' ').any(|place| place == to) {
            return Ok(false);
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{id}.{sequence}"));
        headers.insert("Ipcfs-Sender", header("Ipcfs-Sender").unwrap_or_default());
        headers.insert("Ipcfs-Reason", reason);
        headers.insert(DIED, format!("{died} {id}").trim_start());
        let body = Bytes::from(decoded("data"));
        match api::ask(&self.client, self.subject(&to), Some(headers), body).await {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// How often it was delivered.
    delivered: u64,
    /// Its number in its stream.
    sequence: u64,
    /// How many others wait to be delivered.
    pub(super) behind: u64,
}

/// It stands in the subject where the message is settled:
/// `$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER_SEQUENCE.TIME.PENDING[.…]`
pub(super) fn place(ack: &str) -> Option<Place> {
    let words: Vec<&str> = ack.split('.').collect();
    let first = if words.len() == 9 { 4 } else { 6 };
    let number = |at: usize| words.get(first + at)?.parse().ok();
    Some(Place { delivered: number(0)?, sequence: number(1)?, behind: number(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_both_forms() {
        let there = Some(Place { delivered: 3, sequence: 17, behind: 5 });
        assert_eq!(place("$JS.ACK.s.readers.3.17.20.1700000000.5"), there);
        assert_eq!(place("$JS.ACK._.hash.s.readers.3.17.20.1700000000.5.x"), there);
        assert_eq!(place("$JS.ACK"), None);
    }
}
