//! Single messages of a mailbox that several hosts share: requests that wait for what the engine says of them, and what is shown.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::{Header, Read};
use crate::config::NO_LIMIT;
use crate::engine::About;
use crate::op::{Fh, Ino, RequestId, Timestamp};
use crate::tree::names::meta::Meta;

/// A request that waits for the engine's answer.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) header: Header,
    pub(super) about: What,
}

/// What its answer is made for.
#[derive(Debug)]
pub(super) enum What {
    LookUp(Box<[u8]>),
    List {
        folder: Ino,
        fh: Fh,
        after: u64,
        size: u32,
    },
    Read(Read, Arc<OnceLock<Arc<[u8]>>>),
    Remove,
    /// The answer that the write's open file reads, and how long the write is.
    Purge(Arc<Mutex<Vec<u8>>>, u32),
    /// Into this mailbox.
    Move(Ino),
}

impl Asking {
    pub(super) fn request_id(&self) -> RequestId {
        self.header.request_id
    }
}

/// What a message has as extended attributes, in a mailbox with this `ttl`.
pub(super) fn meta_of(about: &About, deliveries: Option<u32>, ttl: u64) -> Meta {
    let About { number, sent, sender, priority, tag, reason } = about;
    let mut meta = Meta::new(0o444, sender.uid, sender.gid, (*sent).into());
    if let Some(tag) = tag {
        meta.show_xattr(b"user.ipcfs.tag", tag);
    }
    let mut set = |name: &str, value: String| {
        meta.show_xattr(format!("user.ipcfs.{name}").as_bytes(), value.as_bytes());
    };
    set("id", number.to_string());
    set("sent", seconds(*sent));
    let numbers = [("uid", sender.uid), ("gid", sender.gid), ("pid", sender.pid)];
    for (name, number) in numbers.into_iter().chain([("priority", u32::from(*priority))]) {
        set(name, number.to_string());
    }
    if let Some(reason) = reason {
        set("reason", reason.word().to_owned());
    }
    if let Some(deliveries) = deliveries {
        set("deliveries", deliveries.to_string());
    }
    if ttl != NO_LIMIT {
        set("expires", seconds(Timestamp(sent.0.saturating_add(ttl))));
    }
    meta
}

fn seconds(time: Timestamp) -> String {
    let (seconds, nanos) = time.split();
    format!("{seconds}.{:03}", nanos / 1_000_000)
}
