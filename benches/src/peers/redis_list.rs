//! A list of Redis: `RPUSH` and `BLPOP`, each waiting for the server's answer.

use anyhow::{Context as _, Result};
use redis::{Client, Connection};

use super::{Receiver, Sender};

pub(super) fn connect(port: u16) -> Result<Connection> {
    Client::open(format!("redis://127.0.0.1:{port}/"))
        .and_then(|client| client.get_connection())
        .context("connecting to Redis")
}

/// A list or a stream.
pub(super) fn remove(port: u16, key: &str) {
    if let Ok(mut connection) = connect(port) {
        let _ = redis::cmd("DEL").arg(key).query::<()>(&mut connection);
    }
}

pub(super) struct List {
    connection: Connection,
    key: String,
    received: Vec<u8>,
}

impl List {
    pub(super) fn open(port: u16, key: &str) -> Result<List> {
        Ok(List { connection: connect(port)?, key: key.to_owned(), received: Vec::new() })
    }
}

impl Sender for List {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        redis::cmd("RPUSH").arg(&self.key).arg(message).query(&mut self.connection).context("RPUSH")
    }
}

impl Receiver for List {
    fn receive(&mut self) -> Result<&[u8]> {
        let (_, message): (String, Vec<u8>) =
            redis::cmd("BLPOP").arg(&self.key).arg(0).query(&mut self.connection).context("BLPOP")?;
        self.received = message;
        Ok(&self.received)
    }
}
