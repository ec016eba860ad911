//! Many mailboxes in one folder, and many FIFOs in one directory.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mknodat, statat, unlinkat};

use super::{Context, decades, grouped, repeated, timed};
use crate::launch::alone_in;
use crate::model::Samples;
use crate::peers::{Address, Kind, Peer};
use crate::process::own_memory;
use crate::worker::Task;

/// How many are made and removed beside those that are there.
const MORE: usize = 200;

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for (id, transport) in &context.transports {
        context.go_on(&format!("mailboxes: {}", crate::peers::name(id)))?;
        let (mount, peer) = context.fresh_mount(id, transport)?;
        let status = mount.control("status");
        let grow = Grow { context, peer: &peer, dir: &mount.dir.join("mailboxes"), status: Some(&status) };
        grow.run(FileType::RegularFile, Address::Mailbox, samples)?;
    }
    let Some(fifo) = context.peers.iter().find(|peer| matches!(peer.kind, Kind::Fifo(_))) else {
        return Ok(());
    };
    let dir = context.temp.join("fifos-many");
    fs::create_dir_all(&dir)?;
    let grown =
        Grow { context, peer: fifo, dir: &dir, status: None }.run(FileType::Fifo, Address::Fifo, samples);
    fs::remove_dir_all(&dir)?;
    grown
}

struct Grow<'a> {
    context: &'a Context<'a>,
    peer: &'a Peer,
    dir: &'a Path,
    /// The mount's.
    status: Option<&'a Path>,
}

impl Grow<'_> {
    fn run(
        &self,
        kind: FileType,
        address: fn(std::path::PathBuf) -> Address,
        samples: &mut Samples,
    ) -> Result<()> {
        let settings = self.context.settings;
        let dir = rustix::fs::open(self.dir, OFlags::PATH, Mode::empty()).context("opening a folder")?;
        let name = |n: usize| format!("box{n:07}");
        let make = |n: usize| mknodat(&dir, name(n), kind, Mode::from(0o600), 0).context("making a file");
        let remove = |n: usize| unlinkat(&dir, name(n), AtFlags::empty()).context("removing a file");
        let before = self.peer.server.and_then(own_memory);
        let mut there = 0;
        for count in decades(settings.most_mailboxes) {
            let point = grouped(count);
            self.context.go_on(&format!("{point} mailboxes: {}", crate::peers::name(self.peer.id)))?;
            (there..count).try_for_each(make)?;
            there = count;
            let mut add = |metric: &str, value: f64| {
                samples.add("mailboxes", (&point, count as f64), self.peer.id, metric, value);
            };
            if let (Some(pid), Some(before)) = (self.peer.server, before)
                && count >= 10_000
            {
                add("memory", (own_memory(pid).context("the daemon's memory")? - before) / count as f64);
            }
            // One in the middle, which nobody used yet.
            let middle = address(self.dir.join(name(count / 2)));
            add("time", alone_in(self.peer, settings, &middle, 64, Task::Open)?.time);
            add("create", timed(MORE, || (count..count + MORE).try_for_each(make))?);
            add("remove", timed(MORE, || (count..count + MORE).try_for_each(remove))?);
            let mut next = 0;
            let find = || {
                // Far from the last one, so that each is another.
                next = (next + 7919) % count;
                statat(&dir, name(next), AtFlags::empty()).context("finding a file").map(drop)
            };
            add("find", repeated(settings, find)?);
            add("list", timed(1, || Ok(fs::read_dir(self.dir).map(Iterator::count).map(drop)?))?);
            if let Some(status) = self.status {
                add("status", repeated(settings, || Ok(fs::read(status).map(drop)?))?);
            }
        }
        Ok(())
    }
}
