//! How long servers take to start and to stop.

use std::time::Instant;

use anyhow::Result;

use super::Context;
use crate::model::Samples;
use crate::process::own_memory;
use crate::servers::{self, Listening};

type Start = fn(&std::path::Path) -> Result<Listening>;

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let temp = context.temp.join("daemons");
    std::fs::create_dir_all(&temp)?;
    let mut add =
        |peer: &str, metric: &str, value: f64| samples.add("daemon", ("", 0.0), peer, metric, value);
    for (id, transport) in &context.transports {
        context.go_on("daemon: ipcfs")?;
        let mount = servers::Mount::start(&context.program, &temp, id, &[transport])?;
        add(id, "start", mount.start_time.as_secs_f64() * 1e6);
        add(id, "memory", own_memory(mount.pid()).unwrap_or(f64::NAN));
        let stop = Instant::now();
        mount.end()?;
        add(id, "stop", stop.elapsed().as_secs_f64() * 1e6);
    }
    for (id, start_server) in [("redis-list", servers::redis as Start), ("nats", servers::nats as Start)] {
        context.go_on(&format!("daemon: {id}"))?;
        // Why it is not there has been said.
        if !context.peers.iter().any(|peer| peer.id == id) {
            continue;
        }
        let start = Instant::now();
        let server = start_server(&temp)?;
        add(id, "start", start.elapsed().as_secs_f64() * 1e6);
        add(id, "memory", own_memory(server.pid()).unwrap_or(f64::NAN));
        let stop = Instant::now();
        drop(server);
        add(id, "stop", stop.elapsed().as_secs_f64() * 1e6);
    }
    Ok(())
}
