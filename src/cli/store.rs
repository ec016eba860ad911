//! `ipcfs store`: what the store of durable mailboxes has, for people and for scripts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::explain;
use super::listing::ExactPath;
use super::text::{escaped, quoted, table};
use crate::journal::{self, Damage, Recovered};
use crate::mailbox;
use crate::op::Ino;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "ls, dump and verify change nothing, and show what was written by now. compact needs a store that no mount uses."
)]
pub(super) struct Args {
    /// The folder that was given to `ipcfs mount --store`
    dir: PathBuf,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the mailboxes, with their messages
    Ls {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print each message as a JSON object on a line
    Dump,
    /// Check every record; exit status 1 if any is damaged
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write again what is in use, and drop everything else
    Compact,
}

#[derive(Serialize)]
struct Mailbox {
    #[serde(flatten)]
    name: ExactPath,
    messages: u64,
    bytes: u64,
    leased: u64,
    sent: u64,
    received: u64,
}

/// Carries out `ipcfs store`.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let failed = |error: &journal::OpenError| {
        let (why, advice) = explain::store(error);
        format!("cannot use the store {}: {why}\n  {advice}", quoted(&args.dir))
    };
    if let What::Compact = args.what {
        let (before, after) = journal::compact(&args.dir).map_err(|error| failed(&error))?;
        println!("{after} bytes, {before} before");
        return Ok(ExitCode::SUCCESS);
    }
    let (recovered, damage) = journal::look(&args.dir).map_err(|error| failed(&error))?;
    match &args.what {
        What::Ls { json } => list(&recovered, *json),
        What::Verify { json } => return Ok(verify(&recovered, &damage, *json)),
        What::Dump | What::Compact => dump(recovered),
    }
    .map_err(|error| format!("cannot print: {}", super::text::reason(&error)))?;
    Ok(ExitCode::SUCCESS)
}

/// The path of each mailbox and folder below `mailboxes/`.
fn paths(recovered: &[Recovered]) -> BTreeMap<Ino, Vec<u8>> {
    let objects: BTreeMap<Ino, &Recovered> = recovered.iter().map(|one| (one.object.ino, one)).collect();
    let path = |ino: &Ino| {
        let (mut names, mut at) = (Vec::new(), *ino);
        // No longer than there are folders, whatever damage has made of them.
        for _ in 0..=objects.len() {
            let Some(one) = objects.get(&at).filter(|one| !one.object.name.is_empty()) else { break };
            names.push(&*one.object.name);
            at = one.object.parent;
        }
        names.reverse();
        if names.is_empty() { format!("recovered-{}", ino.0).into_bytes() } else { names.join(&b'/') }
    };
    objects.keys().map(|ino| (*ino, path(ino))).collect()
}

fn list(recovered: &[Recovered], json: bool) -> io::Result<()> {
    let paths = paths(recovered);
    let mailboxes = recovered.iter().filter(|one| !one.object.folder).map(|one| Mailbox {
        name: ExactPath::name(Path::new(OsStr::from_bytes(
            paths.get(&one.object.ino).map_or(&[][..], Vec::as_slice),
        ))),
        messages: one.messages.iter().map(|(message, _)| message.count()).sum(),
        bytes: one.messages.iter().map(|(message, _)| message.body.as_bytes().len() as u64).sum(),
        leased: one.messages.iter().filter(|(_, leased)| *leased).count() as u64,
        sent: one.counters.sent,
        received: one.counters.received,
    });
    let mut mailboxes: Vec<Mailbox> = mailboxes.collect();
    mailboxes.sort_by(|one, other| one.name.cmp(&other.name));
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &mailboxes)?;
        return writeln!(out);
    }
    let mut rows =
        vec![["MAILBOX", "MESSAGES", "BYTES", "LEASED", "SENT", "RECEIVED"].map(String::from).to_vec()];
    rows.extend(mailboxes.into_iter().map(|one| {
        let figures =
            [one.messages, one.bytes, one.leased, one.sent, one.received].map(|figure| figure.to_string());
        [escaped(one.name.as_ref())].into_iter().chain(figures).collect()
    }));
    out.write_all(table(&[false, true, true, true, true, true], &rows).as_bytes())
}

fn dump(recovered: Vec<Recovered>) -> io::Result<()> {
    let paths = paths(&recovered);
    let mut out = io::BufWriter::new(io::stdout().lock());
    for one in recovered {
        let path =
            paths.get(&one.object.ino).map_or_else(String::new, |path| escaped(OsStr::from_bytes(path)));
        for (message, leased) in one.messages {
            for number in 0..message.count() {
                let Some(line) = message.part(number, 1) else { continue };
                let shown = mailbox::shown(line);
                let mut shown: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&shown)?;
                shown.insert(String::from("mailbox"), path.clone().into());
                shown.insert(String::from("leased"), leased.into());
                serde_json::to_writer(&mut out, &shown)?;
                writeln!(out)?;
            }
        }
    }
    out.flush()
}

fn verify(recovered: &[Recovered], damage: &Damage, json: bool) -> ExitCode {
    let mailboxes = recovered.iter().filter(|one| !one.object.folder).count();
    let messages: u64 =
        recovered.iter().flat_map(|one| &one.messages).map(|(message, _)| message.count()).sum();
    if json {
        let report = serde_json::json!({
            "mailboxes": mailboxes, "messages": messages, "lost": damage.lost, "files": damage.files,
        });
        println!("{report}");
    } else {
        println!("{mailboxes} mailboxes, {messages} messages, {} records lost", damage.lost);
        for file in &damage.files {
            println!("damaged: {file}");
        }
    }
    if damage.lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
