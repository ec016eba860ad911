//! How many requests the kernel sends to the daemon for what people do: counted in the daemon's log.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::Context;
use crate::model::Samples;
use crate::peers::Address;
use crate::servers::Mount;

/// How often each thing is done: what happens once only is a small part of one.
const TIMES: usize = 20;

/// Requests by their names.
type Counts = BTreeMap<String, usize>;

pub(super) fn run(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    context.go_on("requests")?;
    let temp = context.temp.join("requests");
    fs::create_dir_all(&temp)?;
    let log = temp.join("log");
    let _ = fs::remove_file(&log);
    let mount = Mount::start_logging(&context.program, &temp, &log)?;
    let path = mount.mailbox("box");
    fs::File::create(&path)?;
    let address = Address::Mailbox(path.clone());
    let shell = |script: &str| {
        let status = Command::new("sh")
            .args(["-euc", script, "sh"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("starting sh")?;
        ensure!(status.success(), "{script}: {status}");
        Ok(())
    };

    let mut count = |what: &str, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let before = requests(&mount, &log)?;
        for _ in 0..TIMES {
            work()?;
        }
        for (request, count) in &requests(&mount, &log)? {
            let more = count - before.get(request).unwrap_or(&0);
            if more > 0 {
                let each = more as f64 / TIMES as f64;
                samples.add("requests", (what, 0.0), "ipcfs", request, each);
            }
        }
        Ok(())
    };
    // What is looked up once is looked up. Then each as often as the other, so that what is sent is received.
    shell("echo message > $1; cat $1")?;
    count("`echo message > box`", &mut || shell("echo message > $1"))?;
    count("`cat box`", &mut || shell("cat $1"))?;
    let (mut sender, mut receiver) = (address.sender()?, address.receiver(64)?);
    count("a send, held open", &mut || sender.send(b"message"))?;
    count("a receive, held open", &mut || receiver.receive().map(drop))?;
    drop((sender, receiver));
    count("open, send, close", &mut || address.sender()?.send(b"message"))?;
    count("open, receive, close", &mut || address.receiver(64)?.receive().map(drop))?;
    count("`stat box`", &mut || fs::metadata(&path).map(drop).context("stat"))?;
    Ok(())
}

/// What has been asked so far. A daemon with one thread logs requests in the order in which the kernel sends them, those
/// that nobody waits for too: when it has logged one that is asked now, it has logged all before.
fn requests(mount: &Mount, log: &Path) -> Result<Counts> {
    let _ = fs::metadata(mount.dir.join("no such file"));
    Ok(count(&fs::read_to_string(log)?))
}

/// Counts them; those about the mount's root, which only the above asks for, are left out.
fn count(log: &str) -> Counts {
    let mut counts = Counts::new();
    for line in log.lines() {
        let Some((_, request)) = line.split_once("::transport] #") else { continue };
        let Some((caller, request)) = request.split_once(": ") else { continue };
        if caller.contains(" node 1 ") {
            continue;
        }
        let name: String = request.chars().take_while(char::is_ascii_alphanumeric).collect();
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    #[test]
    fn requests_are_counted_by_name() {
        let log = "[x INFO  ipcfs::daemon] mounted\n\
            [x DEBUG ipcfs::kernel::transport] #14 node 1 pid 1: Lookup { name: [97] }\n\
            [x DEBUG ipcfs::kernel::transport] #16 node 2 pid 1: Lookup { name: [97] }\n\
            [x DEBUG ipcfs::kernel::transport] #18 node 2 pid 1: Open(OpenFlags { read: true })\n\
            [x DEBUG ipcfs::kernel::transport] #20 node 2 pid 1: Getattr\n\
            [x DEBUG ipcfs::kernel::transport] #22 node 2 pid 1: Getattr\n";
        let counts = super::count(log);
        assert_eq!(format!("{counts:?}"), r#"{"Getattr": 2, "Lookup": 1, "Open": 1}"#);
    }
}
