//! `ipcfs status`: all mounts, or the mailboxes, topics and segments of one, as tables or JSON.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::listing::{self, ExactPath, Listing, Object, Segment};
use super::mounts::{self, Mount, State, Status};
use super::size;
use super::text::{self, escaped, quoted, report, table};
use super::umount;

/// The meaning of the words in the table.
pub(super) const AFTER_HELP: &str = "States of a mount: live; dead (its daemon has exited); silent (its daemon does not \
    respond); private (only its owner may access it); failing (its daemon answers with an error). Sizes: K is 1024 bytes.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Show this mount, with its mailboxes, topics and segments; or one of these, by its path in a mount
    dir: Option<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,

    /// Show it again every so many seconds, 2 by default, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    #[arg(value_parser = seconds)]
    watch: Option<u64>,
}

/// A mount in the list. In JSON it includes its `control/status`.
#[derive(Debug, Serialize)]
struct Summary {
    #[serde(flatten)]
    dir: ExactPath,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(flatten)]
    status: Status,
}

/// One mount with its contents.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    mailbox_list: &'a [Object],
    topic_list: &'a [Object],
    segment_list: &'a [Segment],
    /// Folders and files that this user may not read.
    unreadable: usize,
}

/// Shows all mounts, or one, once or again and again.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let terminal = args.watch.is_some() && io::stdout().is_terminal();
    loop {
        let (text, failure) = look(args)?;
        // On a terminal, each line overwrites the one before, and what is below the last is erased: nothing flickers.
        let text = if terminal { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        let printed = text::print(&text);
        if let Some(why) = failure {
            report(&why);
            return Ok(ExitCode::FAILURE);
        }
        let Some(seconds) = args.watch.filter(|_| printed == ExitCode::SUCCESS) else { return Ok(printed) };
        if reader_has_left(Duration::from_secs(seconds)) {
            return Ok(printed);
        }
    }
}

/// Waits, at most until whoever reads standard output has left.
fn reader_has_left(longest: Duration) -> bool {
    let stdout = io::stdout();
    let timeout = Timespec::try_from(longest).ok();
    let start = Instant::now();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) => false,
        Ok(_) => true,
        // A signal that did not end this process.
        Err(_) => {
            thread::sleep(longest.saturating_sub(start.elapsed()));
            false
        }
    }
}

/// What there is to show, and if it could not be seen, why.
fn look(args: &Args) -> Result<(String, Option<String>), String> {
    let all = mounts::all()?;
    let Some(dir) = &args.dir else {
        let lines: Vec<Summary> = visible(&all).map(|mount| Summary::of(mount, mount.state())).collect();
        let text = match (args.json, lines.is_empty()) {
            (true, _) => json(&lines)?,
            (false, true) => "no ipcfs mounts\n".to_owned(),
            (false, false) => overview(&lines),
        };
        return Ok((text, None));
    };
    if let Some((mount, below)) = within(&all, dir) {
        return match mount.state() {
            State::Live(_) => one(&mount.point, below, args.json).map(|text| (text, None)),
            state => Ok((String::new(), Some(advice(mount, &state)))),
        };
    }
    let mount = umount::find(&all, dir)?;
    let state = mount.state();
    let line = Summary::of(mount, state.clone());
    let live = matches!(state, State::Live(_));
    let listing = if live { listing::read(&mount.point)? } else { Listing::default() };
    let text = if args.json { json(&Report::of(&line, &listing))? } else { tables(&line, &listing) };
    Ok((text, (!live).then(|| advice(mount, &state))))
}

/// The mount that a mailbox, topic or segment is in, and its path there.
fn within<'a>(all: &'a [Mount], path: &Path) -> Option<(&'a Mount, PathBuf)> {
    let mount = mounts::around(all, path).filter(|mount| mount.is_ipcfs())?;
    let below = std::path::absolute(path).ok()?.strip_prefix(&mount.point).ok()?.to_owned();
    let kinds = ["mailboxes", "topics", "segments"];
    (below.components().count() > 1 && kinds.iter().any(|kind| below.starts_with(kind)))
        .then_some((mount, below))
}

/// The `status` of one object.
fn one(point: &Path, below: PathBuf, in_json: bool) -> Result<String, String> {
    let status = point.join("control").join(&below).join("status");
    let text = fs::read(status).map_err(|error| {
        let advice = format!("see what there is: ipcfs status {}", quoted(point));
        format!(
            "cannot see the status of {}: {}\n  {advice}",
            quoted(point.join(below)),
            text::reason(&error)
        )
    })?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if in_json { json(&Status::parse(&text)) } else { Ok(text) }
}

fn seconds(text: &str) -> Result<u64, String> {
    size::count(text, 1..=86_400)
}

/// The ipcfs mounts that no other mount covers.
fn visible(all: &[Mount]) -> impl Iterator<Item = &Mount> {
    let hidden = |mount: &Mount| all.iter().any(|over| over.parent == mount.id && over.point == mount.point);
    all.iter().filter(move |mount| mount.is_ipcfs() && !hidden(mount))
}

impl Summary {
    fn of(mount: &Mount, state: State) -> Summary {
        let (dir, word) = (ExactPath::dir(&mount.point), state.word());
        match state {
            State::Live(status) => Summary { dir, state: word, why: None, status },
            State::Failing(why) => Summary { dir, state: word, why: Some(why), status: Status::default() },
            _ => Summary { dir, state: word, why: None, status: Status::default() },
        }
    }
}

impl<'a> Report<'a> {
    fn of(summary: &'a Summary, listing: &'a Listing) -> Report<'a> {
        let Listing { mailboxes, topics, segments, unreadable } = listing;
        Report {
            summary,
            mailbox_list: mailboxes,
            topic_list: topics,
            segment_list: segments,
            unreadable: *unreadable,
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, String> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| format!("cannot write JSON: {error}"))?;
    text.push('\n');
    Ok(text)
}

fn overview(lines: &[Summary]) -> String {
    let heading = ["DIR", "STATE", "VERSION", "TRANSPORT", "MAILBOXES", "MESSAGES", "UPTIME"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for line in lines {
        rows.push(vec![
            escaped(line.dir.as_ref()),
            line.state.to_owned(),
            shown(&line.status, "version"),
            shown(&line.status, "transport"),
            shown(&line.status, "mailboxes"),
            shown(&line.status, "messages"),
            line.status.number("uptime").map_or_else(|| "-".to_owned(), uptime),
        ]);
    }
    table(&[false, false, false, false, true, true, true], &rows)
}

fn tables(line: &Summary, listing: &Listing) -> String {
    let mut text = overview(std::slice::from_ref(line));
    if line.state != "live" {
        return text;
    }
    let _ = writeln!(
        text,
        "memory {} of {} for messages, {} of {} for segments ({})",
        bytes(&line.status, "memory_used"),
        bytes(&line.status, "memory_max"),
        bytes(&line.status, "segment_used"),
        bytes(&line.status, "segment_max"),
        shown(&line.status, "segment_path"),
    );
    text.push('\n');
    text.push_str(&mailboxes(&listing.mailboxes));
    text.push('\n');
    if !listing.topics.is_empty() {
        text.push_str(&topics(&listing.topics));
        text.push('\n');
    }
    text.push_str(&segments(&listing.segments));
    if listing.unreadable > 0 {
        let _ = writeln!(text, "\n{} omitted that this user may not read", listing.unreadable);
    }
    text
}

fn mailboxes(mailboxes: &[Object]) -> String {
    if mailboxes.is_empty() {
        return "no mailboxes\n".to_owned();
    }
    let heading = ["MAILBOX", "DEPTH", "BYTES", "READERS", "WRITERS", "SENT", "RECEIVED", "OWNER", "MODE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for mailbox in mailboxes {
        rows.push(vec![
            mailbox.shown.clone(),
            shown(&mailbox.status, "depth"),
            bytes(&mailbox.status, "bytes"),
            shown(&mailbox.status, "waiting_readers"),
            shown(&mailbox.status, "waiting_writers"),
            shown(&mailbox.status, "sent"),
            shown(&mailbox.status, "received"),
            mailbox.file.as_ref().map_or("-", |file| &file.owner).to_owned(),
            mailbox.file.as_ref().map_or("-", |file| &file.mode).to_owned(),
        ]);
    }
    table(&[false, true, true, true, true, true, true, false, false], &rows)
}

fn topics(topics: &[Object]) -> String {
    let heading = ["TOPIC", "READERS", "SENT", "UNHEARD", "BACKLOG", "DROPPED", "OWNER", "MODE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for topic in topics {
        let figure = |key| shown(&topic.status, key);
        rows.push(vec![
            topic.shown.clone(),
            figure("readers"),
            figure("sent"),
            figure("unheard"),
            figure("backlog"),
            figure("dropped"),
            topic.file.as_ref().map_or("-", |file| &file.owner).to_owned(),
            topic.file.as_ref().map_or("-", |file| &file.mode).to_owned(),
        ]);
    }
    table(&[false, true, true, true, true, true, false, false], &rows)
}

fn segments(segments: &[Segment]) -> String {
    if segments.is_empty() {
        return "no segments\n".to_owned();
    }
    let heading = ["SEGMENT", "SIZE", "RESIDENT", "OWNER", "MODE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for segment in segments {
        rows.push(vec![
            segment.shown.clone(),
            size::show(segment.size),
            size::show(segment.resident),
            segment.file.owner.clone(),
            segment.file.mode.clone(),
        ]);
    }
    table(&[false, true, true, false, false], &rows)
}

fn shown(status: &Status, key: &str) -> String {
    status.get(key).map_or_else(|| "-".to_owned(), escaped)
}

fn bytes(status: &Status, key: &str) -> String {
    status.number(key).map_or_else(|| "-".to_owned(), size::show)
}

/// The time in its two greatest units: `3h 20m`, `2days 4h`.
fn uptime(seconds: u64) -> String {
    let coarse = match seconds {
        86_400.. => seconds - seconds % 3600,
        3600.. => seconds - seconds % 60,
        _ => seconds,
    };
    humantime::format_duration(Duration::from_secs(coarse)).to_string()
}

/// Why a mount cannot be looked into, and what to do; `None` if it can.
pub(super) fn trouble(mount: &Mount) -> Option<String> {
    let state = mount.state();
    (!matches!(state, State::Live(_))).then(|| advice(mount, &state))
}

fn advice(mount: &Mount, state: &State) -> String {
    let point = quoted(&mount.point);
    match state {
        State::Silent => format!(
            "the daemon of {point} runs but does not respond\n  if it is stopped, continue it with kill -CONT; otherwise \
             unmount: ipcfs umount --lazy {point}"
        ),
        State::Private => format!(
            "cannot access {point}: only the user who mounted it may\n  run this as that user, or mount with \
             --allow-other"
        ),
        State::Failing(why) => {
            format!("cannot read {point}/control/status: {why}\n  unmount: ipcfs umount {point}")
        }
        State::Dead | State::Live(_) => format!(
            "cannot access {point}: its daemon has exited\n  unmount: ipcfs umount {point} (or mount there again)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_short() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (3_725, "1h 2m"), (90_061, "1day 1h")] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
