//! Lines from one program to another.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Context, timed};
use crate::model::Samples;
use crate::peers::{Kind, Shape};

/// Killed if it is dropped before it ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `seq` into a file, `cat` out of one: until all lines are there.
fn lines(into: &Path, out_of: &Path, count: usize) -> Result<()> {
    let cat = Command::new("cat").arg(out_of).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut cat = Running(cat.context("starting cat")?);
    let mut output = cat.0.stdout.take().context("cat without output")?;
    let input = OpenOptions::new().write(true).open(into).context("opening what lines go into")?;
    let seq = Command::new("seq").arg(count.to_string()).stdout(input).spawn();
    let mut seq = Running(seq.context("starting seq")?);
    let mut buffer = vec![0; 131_072];
    let mut left = count;
    while left > 0 {
        let length = output.read(&mut buffer).context("reading what cat writes")?;
        ensure!(length > 0, "cat ended {left} lines early");
        left -= memchr::memchr_iter(b'\n', &buffer[..length]).count();
    }
    ensure!(seq.0.wait()?.success(), "seq failed");
    Ok(())
}

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let thousands = if context.settings.quick { 100 } else { 500 };
    for peer in context.in_turn() {
        context.go_on(&format!("lines: {}", crate::peers::name(peer.id)))?;
        let (Kind::Mailbox(_) | Kind::Fifo(_)) = peer.kind else { continue };
        let channel = peer.make("lines", Shape::two(64))?;
        let path = match &channel.address {
            crate::peers::Address::Fifo(path) => path.clone(),
            crate::peers::Address::Mailbox(path) => {
                let name = path.file_name().context("a mailbox without a name")?;
                let mount = context.mounts.iter().find(|mount| path.starts_with(&mount.dir));
                mount.context("a mailbox of no mount")?.control("mailboxes").join(name).join("stream")
            }
            _ => continue,
        };
        let time = lines(&path, &path, thousands * 100)
            .and_then(|()| timed(thousands, || lines(&path, &path, thousands * 1000)));
        match time {
            Ok(time) => samples.add("lines", ("1,000 lines", 1000.0), peer.id, "time", time),
            Err(error) => {
                context.go_on("")?;
                samples.leave_out("lines", peer.id, format!("{error:#}"));
            }
        }
    }
    Ok(())
}
