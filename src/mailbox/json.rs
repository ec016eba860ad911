//! Messages as the `json` door shows them: one object a line.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::message::Message;
use crate::op::Slice;

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
    tag: Option<std::borrow::Cow<'a, str>>,
    deliveries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// Where the body is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Appends the message's line.
pub(super) fn write(message: &Message, line: &mut Vec<u8>) {
    let slice = message.slice();
    let body = std::str::from_utf8(slice.as_bytes()).ok();
    let shown = Shown {
        id: message.id,
        // To the microsecond, which a double keeps exactly for centuries.
        sent: (message.sent.0 / 1000) as f64 / 1e6,
        uid: message.sender.uid,
        gid: message.sender.gid,
        pid: message.sender.pid,
        priority: message.priority,
        tag: message.tag().map(|tag| String::from_utf8_lossy(tag)),
        deliveries: message.deliveries(),
        body_base64: body.is_none().then(|| STANDARD.encode(slice.as_bytes())),
        body,
    };
    // Fails only where a key or a writer can.
    if serde_json::to_writer(&mut *line, &shown).is_ok() {
        line.push(b'\n');
    }
}

/// The message's line.
pub(super) fn line(message: &Message) -> Slice {
    let mut line = Vec::new();
    write(message, &mut line);
    Slice { from: 0, to: line.len(), bytes: Arc::from(line) }
}

/// The line of the first message of a run, or of the one.
pub(super) fn first_line(message: &Message) -> Vec<u8> {
    let mut line = Vec::new();
    match message.clone().split_first() {
        Some(first) => write(&first, &mut line),
        None => write(message, &mut line),
    }
    line
}
