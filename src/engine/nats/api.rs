//! Requests to `JetStream`, as its protocol has them: one JSON object each way. (The library has a type of errors for each call; here
//! the server's own number decides.)

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, Request};
use bytes::Bytes;
use serde_json::{Value, json};

/// How long an answer may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer, or not the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// The server says so: its number, and its words.
    Server(u64, String),
    /// Nobody answers in time. What was asked may have been done.
    Silent,
    /// Nobody serves this. What was asked was not done.
    Nobody,
}

/// Numbers of the server's errors, from its `errors.json`.
pub(super) mod code {
    /// No group of servers that is great enough.
    pub(in super::super) const NO_PEERS: u64 = 10_005;
    /// The cluster has no leader now.
    pub(in super::super) const NOT_AVAILABLE: u64 = 10_008;
    /// The account's or the server's limits.
    pub(in super::super) const RESOURCES: [u64; 3] = [10_002, 10_023, 10_047];
    pub(in super::super) const NO_MESSAGE: u64 = 10_037;
    /// A message that is to be removed is not there, or cannot be removed.
    pub(in super::super) const NO_SEQUENCE: u64 = 10_043;
    pub(in super::super) const NOT_DELETED: u64 = 10_057;
    pub(in super::super) const NOT_ENABLED: [u64; 2] = [10_076, 10_039];
    pub(in super::super) const TOO_LONG: u64 = 10_054;
    /// A stream has this name, with another configuration.
    pub(in super::super) const STREAM_EXISTS: u64 = 10_058;
    pub(in super::super) const NO_STREAM: u64 = 10_059;
    /// What was expected to be the last is not.
    pub(in super::super) const NOT_LAST: u64 = 10_071;
    /// A message could not be stored, mostly because the limits of its stream are reached.
    pub(in super::super) const STORE_FAILED: u64 = 10_077;
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Server(code, why) => write!(f, "{why} (error {code} of the server)"),
            Refused::Silent => f.write_str("the server does not answer"),
            Refused::Nobody => f.write_str("nobody serves the request"),
        }
    }
}

/// Publishes a message for which there is an answer.
pub(super) async fn ask(
    client: &Client,
    subject: String,
    headers: Option<HeaderMap>,
    body: Bytes,
) -> Result<Value, Refused> {
    let mut request = Request::new().payload(body).timeout(Some(TIMEOUT));
    if let Some(headers) = headers {
        request = request.headers(headers);
    }
    let answer = client.send_request(subject, request).await.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => Refused::Nobody,
        _ => Refused::Silent,
    })?;
    let answer: Value = serde_json::from_slice(&answer.payload).map_err(|_| Refused::Silent)?;
    let Some(error) = answer.get("error") else { return Ok(answer) };
    let why = error["description"].as_str().unwrap_or("unknown").to_owned();
    Err(Refused::Server(error["err_code"].as_u64().unwrap_or_default(), why))
}

/// One of the calls below `$JS.API`.
pub(super) async fn call(client: &Client, what: &str, argument: &Value) -> Result<Value, Refused> {
    let body = if argument.is_null() { Bytes::new() } else { Bytes::from(argument.to_string()) };
    ask(client, format!("$JS.API.{what}"), None, body).await
}

/// Makes a stream. One that is there already will do.
pub(super) async fn make_stream(client: &Client, config: &Value) -> Result<(), Refused> {
    let name = config["name"].as_str().unwrap_or_default();
    match call(client, &format!("STREAM.CREATE.{name}"), config).await {
        Ok(_) | Err(Refused::Server(code::STREAM_EXISTS, _)) => Ok(()),
        Err(why) => Err(why),
    }
}

/// Removes a stream, if it is there.
pub(super) async fn remove_stream(client: &Client, name: &str) -> Result<(), Refused> {
    match call(client, &format!("STREAM.DELETE.{name}"), &Value::Null).await {
        Ok(_) | Err(Refused::Server(code::NO_STREAM, _)) => Ok(()),
        Err(why) => Err(why),
    }
}

/// The stream of a mailbox exists.
pub(super) async fn has_stream(client: &Client, name: &str) -> Result<bool, Refused> {
    match call(client, &format!("STREAM.INFO.{name}"), &Value::Null).await {
        Ok(_) => Ok(true),
        Err(Refused::Server(code::NO_STREAM, _)) => Ok(false),
        Err(why) => Err(why),
    }
}

/// Makes the one consumer of a stream, which all hosts share.
pub(super) async fn make_consumer(client: &Client, stream: &str, config: &Value) -> Result<(), Refused> {
    let name = config["durable_name"].as_str().unwrap_or_default();
    let argument = json!({ "stream_name": stream, "config": config });
    call(client, &format!("CONSUMER.CREATE.{stream}.{name}"), &argument).await.map(drop)
}

/// A request whose answer has no content.
pub(super) async fn ask_plainly(client: &Client, subject: &str, body: &str) -> Result<(), Refused> {
    let request = Request::new().payload(Bytes::copy_from_slice(body.as_bytes())).timeout(Some(TIMEOUT));
    match client.send_request(subject.to_owned(), request).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(Refused::Nobody),
        Err(_) => Err(Refused::Silent),
    }
}
