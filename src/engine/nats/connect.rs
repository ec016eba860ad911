//! Connecting, and whether the servers have what is needed.

use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr, jetstream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::{self, Refused, code};
use super::{HEADERS, Link};
use crate::engine::EngineConfig;

/// The first version of the server with all that is used.
const OLDEST: (u64, u64) = (2, 12);

/// How long the connection to one server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How often the connection is tested. Two tests without an answer end it.
const PING: Duration = Duration::from_secs(5);

/// Longest time between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often a cluster is asked that has no leader yet, a second apart.
const ATTEMPTS: u32 = 10;

/// Version of what is kept in a space.
const VERSION: &str = "2";

/// A connection to servers that have all that is needed.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) names: jetstream::kv::Store,
    pub(super) link: watch::Receiver<Link>,
    pub(super) replicas: u64,
}

/// The bucket in which the names of a space are.
pub(super) fn bucket(space: &str) -> String {
    format!("ipcfs-{space}")
}

/// Connects. `msgsize` is the longest message of a new mailbox.
///
/// # Errors
/// What is missing, and how to get it.
pub(super) async fn connect(config: &EngineConfig, msgsize: u32) -> Result<Connected, String> {
    let (client, link) = open(config).await?;
    let info = client.server_info();
    let server = format!("{}:{}", info.host, info.port);
    if !is_new_enough(&info.version) {
        return Err(format!(
            "the NATS server at {server} has version {}, and ipcfs needs {}.{} or newer\n  \
             get it from https://nats.io/download",
            info.version, OLDEST.0, OLDEST.1
        ));
    }
    let most = info.max_payload.saturating_sub(HEADERS);
    if most < msgsize as usize {
        return Err(format!(
            "the NATS server at {server} takes {} bytes at most, with headers (max_payload), and messages may have {msgsize}\n  \
             mount with --msgsize={most}, or write max_payload: {} into the server's configuration",
            info.max_payload,
            msgsize as usize + HEADERS
        ));
    }
    check_account(&client, &server).await?;
    let replicas = if info.cluster.is_some() { 3 } else { 1 };
    let names = open_space(&client, &config.space, replicas).await?;
    Ok(Connected { client, names, link, replicas })
}

async fn open(config: &EngineConfig) -> Result<(Client, watch::Receiver<Link>), String> {
    let (told, link) = watch::channel(Link::default());
    let mut options = ConnectOptions::new()
        .name("ipcfs")
        .connection_timeout(CONNECT)
        .ping_interval(PING)
        .request_timeout(Some(api::TIMEOUT))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(100).saturating_mul(attempts.min(100) as u32).min(LONGEST_PAUSE)
        })
        .event_callback(move |event| {
            match event {
                async_nats::Event::Connected => told.send_modify(Link::note_connected),
                async_nats::Event::Disconnected | async_nats::Event::Closed => {
                    told.send_modify(Link::note_lost);
                }
                other => log::warn!("NATS: {other}"),
            }
            std::future::ready(())
        });
    if let Some(file) = &config.credentials {
        let unusable = |error| format!("the credentials in {} cannot be used: {error}", file.display());
        options = options.credentials_file(file).await.map_err(unusable)?;
    }
    if let Some(file) = &config.ca {
        // The library would say no more than that TLS has failed.
        std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        options = options.add_root_certificates(file.clone()).require_tls(true);
    }
    let servers = servers(&config.url)?;
    // The library takes no user from an address.
    if let Some((user, server)) = servers.iter().find_map(|server| Some((server.username()?, server))) {
        let password = server.password().unwrap_or_default();
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    let client = options.connect(&servers[..]).await.map_err(|error| explain(&error, &servers))?;
    Ok((client, link))
}

/// The servers that an address names.
fn servers(url: &str) -> Result<Vec<ServerAddr>, String> {
    let (scheme, hosts) = url.split_once("://").unwrap_or(("nats", url));
    let wrong = || String::from("the engine's address is none: write nats://HOST[:PORT][,HOST[:PORT]…]");
    if !matches!(scheme, "nats" | "tls") {
        return Err(wrong());
    }
    let server = |host: &str| {
        let server = format!("{scheme}://{host}").parse::<ServerAddr>().map_err(|_| wrong())?;
        if server.host().is_empty() { Err(wrong()) } else { Ok(server) }
    };
    hosts.split(',').map(server).collect()
}

fn explain(error: &ConnectError, servers: &[ServerAddr]) -> String {
    let hosts: Vec<_> = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
    let hosts = hosts.join(", ");
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => format!(
            "the NATS server refuses the credentials ({hosts})\n  \
             name a file of its credentials with --engine-credentials, or write nats://USER:PASSWORD@HOST"
        ),
        ConnectErrorKind::Tls => format!(
            "no encrypted connection to a NATS server can be made ({hosts}): {error}\n  \
             if its certificate is signed by an authority of your own, name that authority's with --engine-ca"
        ),
        _ => format!(
            "no NATS server answers ({hosts}): {error}\n  \
             start one: nats-server -js; or see docs/HOSTS.md"
        ),
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

async fn check_account(client: &Client, server: &str) -> Result<(), String> {
    let without = |how: &str| {
        format!("the NATS server at {server} has no JetStream for this account\n  {how}, see docs/HOSTS.md")
    };
    match patiently(async || api::call(client, "INFO", &Value::Null).await).await {
        Ok(_) => Ok(()),
        Err(Refused::Nobody) => {
            Err(without("start it with -js, or write jetstream {} into its configuration"))
        }
        Err(Refused::Server(code, _)) if code::NOT_ENABLED.contains(&code) => {
            Err(without("write jetstream: enabled into the account's configuration"))
        }
        Err(why) => Err(format!(
            "the NATS server at {server} does not let this account use JetStream: {why}\n  \
             give it the permissions that docs/HOSTS.md names"
        )),
    }
}

/// Repeats what fails only because a cluster has no leader yet.
async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T, Refused>) -> Result<T, Refused> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match attempt().await {
            Err(Refused::Server(code::NOT_AVAILABLE | code::NO_PEERS, _) | Refused::Silent) if left > 0 => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
}

/// The names of a space, made if it is new.
async fn open_space(client: &Client, space: &str, replicas: u64) -> Result<jetstream::kv::Store, String> {
    let bucket = bucket(space);
    let refused = |why: String| format!("the space '{space}' cannot be used: {why}");
    let config = json!({
        "name": format!("KV_{bucket}"), "subjects": [format!("$KV.{bucket}.>")], "description": "names of ipcfs",
        "max_msgs_per_subject": 1, "max_msgs": -1, "max_bytes": -1, "max_consumers": -1, "retention": "limits",
        "discard": "new", "storage": "file", "num_replicas": replicas, "allow_rollup_hdrs": true,
        "deny_delete": true, "allow_direct": true, "allow_msg_ttl": true,
    });
    patiently(async || api::make_stream(client, &config).await).await.map_err(|why| match why {
        Refused::Server(code::NO_PEERS, _) => refused(String::from(
            "the cluster has fewer than three servers with JetStream now\n  start the others",
        )),
        why => refused(why.to_string()),
    })?;
    let context = jetstream::new(client.clone());
    let store = context.get_key_value(bucket).await.map_err(|why| refused(why.to_string()))?;
    // The first host writes it; every host finds it.
    let _ = store.create("version", VERSION.into()).await;
    let found = store.get("version").await.map_err(|why| refused(why.to_string()))?.unwrap_or_default();
    if found != VERSION.as_bytes() {
        return Err(refused(format!(
            "it has version {}, and this program has version {VERSION}\n  use the version of ipcfs that the other hosts have, or \
             another --space",
            found.escape_ascii()
        )));
    }
    Ok(store)
}
