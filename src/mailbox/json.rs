//! Messages as the `json` door shows them: one object a line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::message::Message;
use crate::journal::record::Reason;
use crate::op::{Caller, Slice, Timestamp};

/// What is told of a message beside its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) id: u64,
    pub(crate) sent: Timestamp,
    pub(crate) sender: Caller,
    pub(crate) priority: u16,
    pub(crate) tag: Option<&'a [u8]>,
    pub(crate) deliveries: u32,
    pub(crate) reason: Option<Reason>,
    /// How often it became a dead letter.
    pub(crate) rounds: u32,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: u64,
    /// Seconds since 1970.
    sent: f64,
    uid: u32,
    gid: u32,
    pid: u32,
    priority: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    /// Instead of `tag`, if that is not valid UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_base64: Option<String>,
    deliveries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rounds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// Instead of `body`, if that is not valid UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Appends the line of a message.
pub(super) fn write(message: &Message, line: &mut Vec<u8>) {
    write_with_body(message, &message.slice(), line);
}

fn write_with_body(message: &Message, slice: &Slice, line: &mut Vec<u8>) {
    let facts = Facts {
        id: message.id,
        sent: message.sent,
        sender: message.sender,
        priority: message.priority,
        tag: message.tag().map(|tag| &**tag),
        deliveries: message.deliveries(),
        reason: message.reason(),
        rounds: message.rounds().count,
    };
    write_facts(&facts, slice.as_bytes(), line);
}

/// Appends the line of a message of which this is known.
pub(crate) fn write_facts(facts: &Facts<'_>, bytes: &[u8], line: &mut Vec<u8>) {
    let body = std::str::from_utf8(bytes).ok();
    let tag = facts.tag.and_then(|tag| std::str::from_utf8(tag).ok());
    let shown = Shown {
        id: facts.id,
        // In microseconds, which a double represents exactly for centuries.
        sent: (facts.sent.0 / 1000) as f64 / 1e6,
        uid: facts.sender.uid,
        gid: facts.sender.gid,
        pid: facts.sender.pid,
        priority: facts.priority,
        tag_base64: facts.tag.filter(|_| tag.is_none()).map(|tag| STANDARD.encode(tag)),
        tag,
        deliveries: facts.deliveries,
        reason: facts.reason.map(Reason::word),
        rounds: Some(facts.rounds).filter(|count| *count > 0),
        body_base64: body.is_none().then(|| STANDARD.encode(bytes)),
        body,
    };
    // Writing to a `Vec` and keys that are strings cannot fail.
    if serde_json::to_writer(&mut *line, &shown).is_ok() {
        line.push(b'\n');
    }
}

/// The line of a message.
pub(super) fn line(message: &Message) -> Slice {
    let mut line = Vec::new();
    write(message, &mut line);
    Slice::whole(line)
}

/// The line of a message, or of the first message of a run.
pub(super) fn first_line(message: &Message) -> Vec<u8> {
    let mut line = Vec::new();
    write_with_body(message, &message.first_slice(), &mut line);
    line
}
