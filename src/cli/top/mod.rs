//! `ipcfs top`: the mailboxes of a mount on a full screen, as they change. It reads files of `control/`, and nothing else.
//!
//! A thread of its own takes [`Sample`]s, so that keys have their effect while a daemon is slow. [`Table`] is what was made of the
//! last two, and what the user chose of it; [`view`] draws that, and ratatui writes to the terminal only what has changed.

mod sample;
mod table;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use self::sample::Sample;
use self::table::{Column, Table};
use super::message::time;
use super::text::{print, quoted, reason};
use super::{mounts, umount};

/// How often the screen looks whether anything has happened that is no key.
const TICK: Duration = Duration::from_millis(100);

/// Width and height of a frame for a pipe: the usual terminal.
const USUAL: (u16, u16) = (80, 24);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: up, down, page up, page down select; Enter shows who waits at a mailbox; s sorts by the next column, r the other \
    way round; / filters by name, Esc shows all again; q quits. Rates are messages per second since the frame before."
)]
pub(super) struct Args {
    /// Mount point
    dir: PathBuf,

    /// Begin with this mailbox, and show who waits there: a path below mailboxes/
    #[arg(value_name = "NAME")]
    name: Option<PathBuf>,

    /// Time between two frames, such as 500ms or 10s
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "2s")]
    every: Duration,

    /// Sort by this column; the greatest first, names from the first
    #[arg(long, value_name = "COLUMN", value_enum, default_value = "depth")]
    sort: Column,

    /// Show only mailboxes with this text in their names
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    /// Print one frame as text, after one interval, and end; as wide as the terminal, or 80 columns
    #[arg(long)]
    once: bool,
}

/// What a sampler sends: one sample, or why there is none.
type Sampled = Result<Sample, String>;

/// Shows the screen until the user quits, or prints one frame.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let all = mounts::all()?;
    let mount = umount::find(&all, &args.dir)?;
    if let Some(why) = super::status::trouble(mount) {
        return Err(why);
    }
    let name = args.name.as_deref().map(Path::to_string_lossy);
    let mut table = Table::new(args.sort, &args.filter, name.as_deref());
    if args.once {
        table.update(Sample::take(&mount.point)?);
        thread::sleep(args.every);
        table.update(Sample::take(&mount.point)?);
        return frame(&mut table, &mount.point).map(|text| print(&text));
    }
    if !io::stdout().is_terminal() {
        return Err(String::from("standard output is no terminal\n  print one frame: ipcfs top --once DIR"));
    }
    let asked = watch_signals().map_err(|error| format!("cannot watch signals: {}", reason(&error)))?;
    let samples = start_sampler(mount.point.clone(), args.every)
        .map_err(|error| format!("cannot start a thread: {}", reason(&error)))?;
    // Restores the terminal also if this process panics.
    let mut terminal = ratatui::try_init().map_err(|error| {
        format!("cannot use this terminal: {}\n  print one frame: ipcfs top --once DIR", reason(&error))
    })?;
    let screen = Screen { point: &mount.point, samples, asked: &asked, every: args.every };
    let shown = screen.show(&mut terminal, &mut table);
    ratatui::restore();
    // As if it had not been caught.
    let signal = asked.signal.load(Ordering::Relaxed);
    if signal != 0 {
        let _ = emulate_default_handler(signal as i32);
    }
    shown.map(|()| ExitCode::SUCCESS)
}

/// One frame as text: all mailboxes, if it is not for a terminal.
fn frame(table: &mut Table, point: &Path) -> Result<String, String> {
    let size = if io::stdout().is_terminal() { ratatui::crossterm::terminal::size().ok() } else { None };
    let (width, height) = size.unwrap_or_else(|| (USUAL.0, USUAL.1.max(view::height(table))));
    let failed = |error: std::convert::Infallible| format!("cannot draw: {error}");
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(failed)?;
    terminal.draw(|frame| view::draw(frame, table, point, false, None)).map_err(failed)?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(width)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let used = text.trim_end().len();
    text.truncate(used);
    text.push('\n');
    Ok(text)
}

/// Signals that end this process, once the terminal is as it was.
struct Asked {
    any: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

fn watch_signals() -> io::Result<Asked> {
    let asked = Asked { any: Arc::default(), signal: Arc::default() };
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::flag::register_usize(signal, Arc::clone(&asked.signal), signal as usize)?;
        signal_hook::flag::register(signal, Arc::clone(&asked.any))?;
    }
    Ok(asked)
}

/// Samples until nobody wants any more. It may wait for a daemon that does not respond.
fn start_sampler(point: PathBuf, every: Duration) -> io::Result<Receiver<Sampled>> {
    let (sender, samples) = mpsc::channel();
    thread::Builder::new().name(String::from("sampler")).spawn(move || {
        loop {
            let sample = Sample::take(&point);
            let over = sample.is_err();
            if sender.send(sample).is_err() || over {
                break;
            }
            thread::sleep(every);
        }
    })?;
    Ok(samples)
}

/// The screen and what it shows.
struct Screen<'a> {
    point: &'a Path,
    samples: Receiver<Sampled>,
    asked: &'a Asked,
    every: Duration,
}

impl Screen<'_> {
    fn show(&self, terminal: &mut DefaultTerminal, table: &mut Table) -> Result<(), String> {
        let mut last = Instant::now();
        let mut drawn_silent = false;
        let mut changed = true;
        while !self.asked.any.load(Ordering::Relaxed) {
            let silent = last.elapsed() > self.every * 2 + Duration::from_secs(2);
            if changed || silent || drawn_silent {
                let silence = silent.then(|| last.elapsed());
                terminal
                    .draw(|frame| view::draw(frame, table, self.point, true, silence))
                    .map_err(|error| terminal_failed(&error))?;
                drawn_silent = silent;
            }
            changed = false;
            if has_gone(&io::stdout()) {
                return Err(String::from("the terminal is gone"));
            }
            if event::poll(TICK).map_err(|error| terminal_failed(&error))? {
                match event::read().map_err(|error| terminal_failed(&error))? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        if !pressed(table, key) {
                            return Ok(());
                        }
                        changed = true;
                    }
                    Event::Resize(..) => changed = true,
                    _ => {}
                }
            }
            match self.samples.try_recv() {
                Ok(sample) => {
                    table.update(sample?);
                    last = Instant::now();
                    changed = true;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    return Err(format!(
                        "the mount on {} has ended\n  see: ipcfs status",
                        quoted(self.point)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Nobody is at the other end of the terminal. Reading from it would return at once, for ever.
fn has_gone(terminal: &io::Stdout) -> bool {
    let mut polled = [PollFd::new(terminal, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn terminal_failed(error: &io::Error) -> String {
    format!("cannot use this terminal: {}\n  print one frame: ipcfs top --once DIR", reason(error))
}

/// Does what a key is for; false if the user quits.
fn pressed(table: &mut Table, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return key.code != KeyCode::Char('c');
    }
    if table.typing {
        match key.code {
            KeyCode::Enter => table.typing = false,
            KeyCode::Esc => table.show_all(),
            KeyCode::Backspace => table.erase(),
            KeyCode::Char(typed) => table.type_in(typed),
            _ => {}
        }
        return true;
    }
    match key.code {
        KeyCode::Char('q') => return false,
        KeyCode::Up | KeyCode::Char('k') => table.select(-1),
        KeyCode::Down | KeyCode::Char('j') => table.select(1),
        KeyCode::PageUp => table.select(-view::PAGE),
        KeyCode::PageDown => table.select(view::PAGE),
        KeyCode::Home => table.select(isize::MIN),
        KeyCode::End => table.select(isize::MAX),
        KeyCode::Enter => table.detailed = !table.detailed,
        KeyCode::Char('s') => table.sort_by_next(),
        KeyCode::Char('r') => table.reverse(),
        KeyCode::Char('/') => table.typing = true,
        KeyCode::Esc if table.detailed => table.detailed = false,
        KeyCode::Esc => table.show_all(),
        _ => {}
    }
    true
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time < TICK || time > Duration::from_secs(86_400) {
        return Err(String::from("it is out of range: 100ms to 1day"));
    }
    Ok(time)
}
