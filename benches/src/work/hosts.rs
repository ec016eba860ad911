//! Mailboxes that several hosts share, beside a client of the server that carries them.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Context, add};
use crate::launch::{exchange, round_trip};
use crate::model::Samples;
use crate::peers::{Kind, Peer};
use crate::servers::{self, Mount};

const SIZES: [(usize, &str); 2] = [(64, "64 B"), (4096, "4 KiB")];

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let temp = context.temp.join("hosts");
    fs::create_dir_all(&temp)?;
    let server = servers::nats(&temp)?;
    let url = format!("--engine=nats://127.0.0.1:{}", server.port);
    let mut peers = vec![Peer { id: "async-nats", kind: Kind::NatsOneByOne(server.port), server: None }];
    let mut mounts = Vec::new();
    for (id, transport) in &context.transports {
        let space = format!("--space={id}");
        let mount = Mount::start(&context.program, &temp, id, &[transport, &url, &space])?;
        let folder = mount.mailbox("shared");
        fs::create_dir(&folder).context("making a folder")?;
        fs::write(mount.control("mailboxes/shared/config/engine"), "nats")?;
        peers.push(Peer { id, kind: Kind::Mailbox(folder), server: Some(mount.pid()) });
        mounts.push(mount);
    }
    let first = context.round % peers.len();
    peers.rotate_left(first);
    for (size, point) in SIZES {
        for peer in &peers {
            context.go_on(&format!("hosts, {point}: {}", crate::peers::name(peer.id)))?;
            let way = exchange(peer, context.settings, size, 1, 1)?;
            add(samples, "hosts", (&format!("way, {point}"), size as f64), peer.id, &way);
            let trip = round_trip(peer, context.settings, size)?;
            add(samples, "hosts", (&format!("trip, {point}"), size as f64), peer.id, &trip);
        }
    }
    Ok(())
}
