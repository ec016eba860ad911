//! Readers that wait: what they cost beside others, when they are woken, and when they are killed.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{Context, decades, grouped, mailbox, repeated, timed};
use crate::launch::{alone, block};
use crate::model::Samples;
use crate::peers::{Kind, Peer, Shape};
use crate::process::own_memory;
use crate::servers::Mount;
use crate::worker::Task;

const SIZE: usize = 64;

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for (id, transport) in &context.transports {
        context.go_on(&format!("waiting readers: {}", crate::peers::name(id)))?;
        let (mount, peer) = context.fresh_mount(id, transport)?;
        for readers in counts(context) {
            context.go_on(&format!("{} waiting readers: {}", grouped(readers), crate::peers::name(id)))?;
            if let Err(error) = in_mount(context, &mount, &peer, readers, samples) {
                context.go_on("")?;
                samples.leave_out(&format!("blocked {}", grouped(readers)), id, format!("{error:#}"));
                break;
            }
        }
    }
    let Some(fifo) = context.peers.iter().find(|peer| matches!(peer.kind, Kind::Fifo(_))) else {
        return Ok(());
    };
    for readers in counts(context) {
        context.go_on(&format!("{} waiting readers: FIFO", grouped(readers)))?;
        let crowd = fifo.make("crowd", Shape::two(SIZE))?;
        let waiting = match block(context.settings, &crowd.address, SIZE, readers) {
            Ok(waiting) => waiting,
            Err(error) => {
                samples.leave_out(&format!("blocked {}", grouped(readers)), fifo.id, format!("{error:#}"));
                break;
            }
        };
        let cost = alone(fifo, context.settings, SIZE, Task::Pair)?;
        samples.add("blocked", (&grouped(readers), readers as f64), fifo.id, "time", cost.time);
        drop(waiting);
    }
    Ok(())
}

/// 2,000 more than once filled a ring of the transport.
fn counts(context: &Context<'_>) -> Vec<usize> {
    let mut counts: Vec<usize> = decades(context.settings.most_readers).collect();
    if context.settings.most_readers > 2000 {
        counts.insert(4, 2000);
    }
    counts
}

fn in_mount(
    context: &Context<'_>,
    mount: &Mount,
    peer: &Peer,
    readers: usize,
    samples: &mut Samples,
) -> Result<()> {
    let point = grouped(readers);
    let mut add =
        |metric: &str, value: f64| samples.add("blocked", (&point, readers as f64), peer.id, metric, value);
    let crowd = mailbox(mount, "crowd");
    fs::File::create(mount.mailbox("crowd"))?;
    let status = "mailboxes/crowd/status";
    let before = own_memory(mount.pid()).context("the daemon's memory")?;
    let waiting = block(context.settings, &crowd, SIZE, readers)?;
    mount.wait_for(status, "waiting_readers", readers as u64)?;
    if readers >= 1000 {
        let after = own_memory(mount.pid()).context("the daemon's memory")?;
        add("memory", (after - before) / readers as f64);
    }

    add("time", alone(peer, context.settings, SIZE, Task::Pair)?.time);
    add("status", repeated(context.settings, || Ok(fs::read(mount.control("status")).map(drop)?))?);

    // No more at once than half of those who wait, so that each finds one waiting.
    let mut sender = crowd.sender()?;
    let burst = (readers / 2).clamp(1, 1000);
    let start = Instant::now();
    let (mut sent, mut sending) = (0, 0.0);
    while start.elapsed().as_millis() < u128::from(context.settings.measure_ms) {
        sending += timed(1, || (0..burst).try_for_each(|_| sender.send(&[b'w'; SIZE])))?;
        sent += burst;
        mount.wait_for(status, "waiting_readers", readers as u64)?;
    }
    add("wake", sending / sent as f64);

    let kill = Instant::now();
    drop(waiting);
    add("kill", kill.elapsed().as_secs_f64() * 1e6 / readers as f64);
    fs::remove_file(mount.mailbox("crowd"))?;
    Ok(())
}
