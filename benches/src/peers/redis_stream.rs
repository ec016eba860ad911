//! A stream of Redis, read by a consumer group: `XADD`, and `XREADGROUP NOACK` of one entry; a receive is not
//! acknowledged, as a mailbox's is not. Entries stay until the stream is removed: cutting it to a length would lose
//! what a slow reader has not seen.

use anyhow::{Context as _, Result};
use redis::Connection;
use redis::streams::StreamReadReply;

use super::redis_list::connect;
use super::{Address, Receiver, Sender};

const GROUP: &str = "readers";

pub(super) fn make(port: u16, key: String) -> Result<Address> {
    redis::cmd("XGROUP")
        .arg(&["CREATE", &key, GROUP, "$", "MKSTREAM"])
        .query::<()>(&mut connect(port)?)
        .context("XGROUP CREATE")?;
    Ok(Address::RedisStream(port, key))
}

pub(super) struct Stream {
    connection: Connection,
    key: String,
    /// This reader's name in the group.
    reader: String,
    received: Vec<u8>,
}

impl Stream {
    pub(super) fn open(port: u16, key: &str) -> Result<Stream> {
        let reader = std::process::id().to_string();
        Ok(Stream { connection: connect(port)?, key: key.to_owned(), reader, received: Vec::new() })
    }
}

impl Sender for Stream {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        redis::cmd("XADD")
            .arg(&self.key)
            .arg(&["*", "m"])
            .arg(message)
            .query::<String>(&mut self.connection)
            .map(drop)
            .context("XADD")
    }
}

impl Receiver for Stream {
    fn receive(&mut self) -> Result<&[u8]> {
        let reply: StreamReadReply = redis::cmd("XREADGROUP")
            .arg(&["GROUP", GROUP, &self.reader, "COUNT", "1", "BLOCK", "0", "NOACK", "STREAMS"])
            .arg(&self.key)
            .arg(">")
            .query(&mut self.connection)
            .context("XREADGROUP")?;
        let entry = reply.keys.first().and_then(|key| key.ids.first()).context("XREADGROUP: no entry")?;
        self.received = entry.get("m").context("XREADGROUP: an entry without its field")?;
        Ok(&self.received)
    }
}
