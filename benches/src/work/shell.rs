//! Messages as a shell script sends and receives them.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Context, timed};
use crate::model::Samples;
use crate::peers::{Address, Shape};

/// Sends and receives `$2` messages by way of `$1`, with what `sh`, coreutils and `redis-cli` offer.
fn script(address: &Address) -> Option<&'static str> {
    Some(match address {
        Address::Mailbox(_) => "echo message > $1; cat $1",
        // Opening a FIFO waits for the other side, so one of the two must be in the background.
        Address::Fifo(_) => "echo message > $1 & cat $1; wait",
        Address::Folder(_) => "echo message > $1/tmp/$i; mv $1/tmp/$i $1/new/$i; cat $1/new/$i; rm $1/new/$i",
        Address::RedisList(..) => "redis-cli -p $1 RPUSH shell message; redis-cli -p $1 LPOP shell",
        _ => return None,
    })
}

fn argument(address: &Address) -> String {
    match address {
        Address::Mailbox(path) | Address::Fifo(path) | Address::Folder(path) => path.display().to_string(),
        Address::RedisList(port, _) => port.to_string(),
        _ => String::new(),
    }
}

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let count = if context.settings.quick { 20 } else { 100 };
    for peer in context.in_turn() {
        if matches!(peer.kind, crate::peers::Kind::Null(_)) {
            continue;
        }
        context.go_on(&format!("shell: {}", crate::peers::name(peer.id)))?;
        let channel = peer.make("shell", Shape::two(64))?;
        let Some(script) = script(&channel.address) else {
            samples.leave_out("shell", peer.id, "has no program for the shell that Debian installs with it");
            continue;
        };
        let script = format!("i=0; while [ $i -lt $2 ]; do {script}; i=$((i + 1)); done");
        let work = |count: usize| {
            timed(count, || {
                let status = Command::new("sh")
                    .args(["-euc", &script, "sh", &argument(&channel.address), &count.to_string()])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .status()
                    .context("starting sh")?;
                ensure!(status.success(), "sh: {status}");
                Ok(())
            })
        };
        let time = work(count / 10).and_then(|_| work(count));
        match time {
            Ok(time) => samples.add("shell", ("8 B", 8.0), peer.id, "time", time),
            Err(error) => samples.leave_out("shell", peer.id, format!("{error:#}")),
        }
    }
    Ok(())
}
