//! Messages that wait: time and memory against their number.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context as _, Result};

use super::{Context, decades, grouped, mailbox, repeated, timed};
use crate::launch::alone_in;
use crate::model::Samples;
use crate::peers::{Address, Kind, Peer};
use crate::process::own_memory;
use crate::servers::Mount;
use crate::worker::Task;

const MESSAGE: [u8; 64] = [b'm'; 64];

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for (id, transport) in &context.transports {
        context.go_on(&format!("waiting messages: {}", crate::peers::name(id)))?;
        let (mount, peer) = context.fresh_mount(id, transport)?;
        fs::File::create(mount.mailbox("deep"))?;
        for limit in ["maxmsg", "maxbytes"] {
            fs::write(mount.control("mailboxes/deep/config").join(limit), "max\n")?;
        }
        let before = own_memory(mount.pid()).context("the daemon's memory")?;
        let mut there = 0;
        for depth in decades(context.settings.most_messages) {
            let point = grouped(depth);
            context.go_on(&format!("{point} waiting messages: {}", crate::peers::name(id)))?;
            fill(&mailbox(&mount, "deep"), depth - there)?;
            there = depth;
            look(context, &mount, &peer, depth, before, samples)?;
            there -= remove(&mount, &peer, depth, samples)?;
        }
    }
    let redis = context.peers.iter().find(|peer| matches!(peer.kind, Kind::RedisList(_)));
    if let Some(Peer { id, kind: Kind::RedisList(port), server }) = redis {
        let channel = Address::RedisList(*port, "deep".into());
        let before = server.and_then(own_memory).context("the memory of Redis")?;
        let mut there = 0;
        for depth in decades(context.settings.most_messages) {
            let point = grouped(depth);
            context.go_on(&format!("{point} waiting messages: Redis list"))?;
            fill(&channel, depth - there)?;
            there = depth;
            let cost =
                alone_in(redis.context("Redis")?, context.settings, &channel, MESSAGE.len(), Task::Pair)?;
            samples.add("depth", (&point, depth as f64), id, "time", cost.time);
            if depth >= 10_000 {
                let after = server.and_then(own_memory).context("the memory of Redis")?;
                samples.add("depth", (&point, depth as f64), id, "memory", (after - before) / depth as f64);
            }
        }
        let mut connection = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection()?;
        redis::cmd("DEL").arg("deep").query::<()>(&mut connection)?;
    }
    Ok(())
}

fn fill(address: &Address, count: usize) -> Result<()> {
    if let Address::RedisList(port, key) = address {
        let mut connection = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection()?;
        let batch = vec![&MESSAGE[..]; 1000];
        for done in (0..count).step_by(batch.len()) {
            let batch = &batch[..batch.len().min(count - done)];
            redis::cmd("RPUSH").arg(key).arg(batch).query::<()>(&mut connection)?;
        }
        return Ok(());
    }
    let mut sender = address.sender()?;
    (0..count).try_for_each(|_| sender.send(&MESSAGE))
}

fn look(
    context: &Context<'_>,
    mount: &Mount,
    peer: &Peer,
    depth: usize,
    before: f64,
    samples: &mut Samples,
) -> Result<()> {
    let point = grouped(depth);
    let mut add =
        |metric: &str, value: f64| samples.add("depth", (&point, depth as f64), peer.id, metric, value);
    if depth >= 10_000 {
        let after = own_memory(mount.pid()).context("the daemon's memory")?;
        add("memory", (after - before) / depth as f64);
    }
    let settings = context.settings;
    let file = |name: &str| mount.control("mailboxes/deep").join(name);
    add("time", alone_in(peer, settings, &mailbox(mount, "deep"), MESSAGE.len(), Task::Pair)?.time);
    add("status", repeated(settings, || Ok(fs::read(file("status")).map(drop)?))?);
    add("peek", repeated(settings, || Ok(fs::read(file("peek")).map(drop)?))?);
    add("list", timed(1, || Ok(fs::read_dir(file("messages")).map(Iterator::count).map(drop)?))?);
    Ok(())
}

/// Removes some messages out of the middle of those that were listed first, by their numbers; says how many.
fn remove(mount: &Mount, peer: &Peer, depth: usize, samples: &mut Samples) -> Result<usize> {
    let folder = mount.control("mailboxes/deep/messages");
    let names: Vec<OsString> = fs::read_dir(&folder)?
        .skip(depth / 2)
        .take(100)
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    let time = timed(names.len(), || {
        names.iter().try_for_each(|name| fs::remove_file(folder.join(name)).context("removing a message"))
    })?;
    samples.add("depth", (&grouped(depth), depth as f64), peer.id, "remove", time);
    Ok(names.len())
}
