//! One frame of the screen.

use std::path::Path;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row as Cells, Table as Widget, TableState};

use super::table::{Column, Row, Table};
use crate::cli::size;
use crate::cli::text::escaped;

/// Rows that page up and page down move by.
pub(super) const PAGE: isize = 10;

/// Lines above the rows: two of the mount, an empty one and the headings.
const ABOVE: u16 = 4;

/// Most waiting callers that are shown, with their headings and the name of the mailbox: the pane of a small screen.
const DETAIL: u16 = 10;

/// Lines that a frame needs to show all rows, without the line of keys.
pub(super) fn height(table: &Table) -> u16 {
    let detail = if table.detailed { 2 + table.selected().map_or(0, |row| row.waiters.len()) } else { 0 };
    u16::try_from(table.rows.len() + detail).unwrap_or(u16::MAX - ABOVE).saturating_add(ABOVE)
}

/// Draws the whole frame. `keys`: with a line that says what keys do. `silence`: how long the daemon has not answered.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    table: &mut Table,
    point: &Path,
    keys: bool,
    silence: Option<Duration>,
) {
    let area = frame.area();
    let detail = match (table.detailed, table.selected()) {
        (false, _) => 0,
        (true, None) => 2,
        (true, Some(row)) => {
            let wanted = 3 + u16::try_from(row.waiters.len()).unwrap_or(u16::MAX);
            if keys { wanted.clamp(4, (area.height / 2).max(DETAIL)) } else { wanted }
        }
    };
    let [top, rows, bottom, last] = Layout::vertical([
        Constraint::Length(ABOVE - 1),
        Constraint::Min(2),
        Constraint::Length(detail),
        Constraint::Length(u16::from(keys)),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(summary(table, point, silence)), top);
    draw_rows(frame, table, rows);
    if table.detailed {
        draw_detail(frame, table, bottom);
    }
    if keys {
        let line = if table.typing {
            Line::from(format!("filter: {}_   Enter: keep it, Esc: show all", table.filter))
        } else {
            Line::from("q quit  ↑↓ select  Enter who waits  s sort  r reverse  / filter  Esc show all")
        };
        frame.render_widget(line.style(Style::new().add_modifier(Modifier::DIM)), last);
    }
}

/// The lines of the mount.
fn summary(table: &Table, point: &Path, silence: Option<Duration>) -> Text<'static> {
    let Some(sample) = table.sample() else { return Text::from("reading…") };
    let status = &sample.status;
    let shown = |key| status.get(key).map_or_else(|| String::from("-"), escaped);
    let up = status.number("uptime").map_or_else(|| String::from("-"), |seconds| span(seconds as f64));
    let mut first = format!("{}   up {up}   {}", escaped(point), shown("transport"));
    if let Some(silence) = silence {
        first = format!("{first}   THE DAEMON HAS NOT ANSWERED FOR {}", span(silence.as_secs_f64()));
    }
    let filtered = match (table.filter.as_str(), table.rows.len(), table.count()) {
        ("", _, all) => format!("{all} mailboxes"),
        (filter, some, all) => format!("{some} of {all} mailboxes, with {}", escaped(filter)),
    };
    let unreadable = match sample.unreadable {
        0 => String::new(),
        number => format!(", {number} unreadable"),
    };
    let bytes = |key| status.number(key).map_or_else(|| String::from("-"), size::show);
    let second = format!(
        "{filtered}{unreadable}   {} messages   memory {} of {}",
        shown("messages"),
        bytes("memory_used"),
        bytes("memory_max")
    );
    Text::from(vec![Line::from(first).style(Style::new().add_modifier(Modifier::BOLD)), Line::from(second)])
}

fn draw_rows(frame: &mut Frame<'_>, table: &mut Table, area: Rect) {
    let columns = table.columns();
    let heading = columns.iter().map(|column| {
        let mark = match (*column == table.sort, table.reversed) {
            (false, _) => "",
            (true, false) => "▼",
            (true, true) => "▲",
        };
        let style =
            if *column == table.sort { Modifier::BOLD | Modifier::UNDERLINED } else { Modifier::BOLD };
        aligned(*column, format!("{}{mark}", column.title())).style(Style::new().add_modifier(style))
    });
    let rows = table.rows.iter().map(|row| {
        Cells::new(columns.iter().map(|column| aligned(*column, cell(*column, row))).collect::<Vec<_>>())
    });
    let widths = columns.iter().map(|column| match column {
        Column::Name => Constraint::Fill(1),
        _ => Constraint::Length(8),
    });
    let widget = Widget::new(rows, widths)
        .header(Cells::new(heading.collect::<Vec<_>>()))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_offset(table.offset).with_selected(table.position());
    frame.render_stateful_widget(widget, area, &mut state);
    table.offset = state.offset();
}

/// Names to the left, numbers to the right.
fn aligned(column: Column, text: String) -> Cell<'static> {
    let alignment = if column == Column::Name { Alignment::Left } else { Alignment::Right };
    Cell::from(Text::from(text).alignment(alignment))
}

fn cell(column: Column, row: &Row) -> String {
    match column {
        Column::Name => row.name.clone(),
        Column::Depth => row.depth.to_string(),
        Column::Bytes => size::show(row.bytes),
        Column::Age => row.age.map_or_else(|| String::from("-"), span),
        Column::Sent => rate(row.sent),
        Column::Received => rate(row.received),
        Column::Readers => row.readers.to_string(),
        Column::Writers => row.writers.to_string(),
    }
}

/// Who waits at the selected mailbox.
fn draw_detail(frame: &mut Frame<'_>, table: &Table, area: Rect) {
    let block = Block::new().borders(Borders::TOP);
    let (Some(row), Some(sample)) = (table.selected(), table.sample()) else {
        frame.render_widget(Paragraph::new("select a mailbox with ↑ and ↓").block(block), area);
        return;
    };
    let title = format!(
        " {}: {} waiting, {} receiving and {} sending wait, {} leased ",
        row.name, row.depth, row.readers, row.writers, row.leased
    );
    let mut lines = vec![
        Line::from(format!("{:<10}{:>10}{:>12}  WAITS", "", "PID", "UID"))
            .style(Style::new().add_modifier(Modifier::BOLD)),
    ];
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    let shown = if row.waiters.len() > room { room - 1 } else { room };
    lines.extend(row.waiters.iter().take(shown).map(|waiter| {
        let role = if waiter.writes { "sender" } else { "receiver" };
        let waits = span((sample.clock - waiter.since).max(0.0));
        Line::from(format!("{role:<10}{:>10}{:>12}  {waits}", waiter.pid, waiter.uid))
    }));
    if row.waiters.len() > shown {
        lines.push(Line::from(format!("and {} more", row.waiters.len() - shown)));
    }
    frame.render_widget(Paragraph::new(lines).block(block.title(title)), area);
}

/// Messages per second.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => String::from("-"),
        Some(rate) if rate > 0.0 && rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// A time in its two greatest units: `3h20m`.
fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::sample::Sample;
    use super::*;
    use crate::cli::listing::{ExactPath, Object};
    use crate::cli::mounts::Status;

    fn frame(width: u16, height: u16, table: &mut Table) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, table, Path::new("/run/ipcfs"), true, None)).unwrap();
        let cells = &terminal.backend().buffer().content;
        let line =
            |row: &[ratatui::buffer::Cell]| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
        cells.chunks(usize::from(width)).map(|row| line(row).trim_end().to_owned()).collect()
    }

    fn full_table() -> Table {
        let mut table = Table::new(Column::Depth, "", None);
        let waiting = "waiting reader pid 12 uid 1000 since 100.000\n".repeat(30);
        let mailbox = |number: u64| Object {
            name: ExactPath::name(Path::new(&format!("team/box-{number:03}"))),
            shown: format!("team/box-{number:03}"),
            status: Status::parse(&format!(
                "depth {number}\nbytes 2048\nwaiting_readers 30\noldest_age 75.5\n{waiting}"
            )),
            file: None,
        };
        let status = Status::parse(
            "transport uring\nuptime 3725.1\nmessages 4950\nmemory_used 1024\nmemory_max 2048\n",
        );
        table.update(Sample {
            taken: Instant::now(),
            clock: 165.0,
            status,
            mailboxes: (0..100).map(mailbox).collect(),
            unreadable: 2,
        });
        table
    }

    #[test]
    fn a_frame_has_the_mount_the_rows_and_the_keys_at_any_size() {
        let mut table = full_table();
        for (width, height) in [(80, 24), (200, 60), (20, 5), (1, 1)] {
            for detailed in [false, true] {
                table.detailed = detailed;
                let lines = frame(width, height, &mut table);
                assert_eq!(lines.len(), usize::from(height));
            }
        }
        table.detailed = false;
        let lines = frame(80, 24, &mut table);
        assert_eq!(lines[0], "/run/ipcfs   up 1h02m   uring");
        assert_eq!(lines[1], "100 mailboxes, 2 unreadable   4950 messages   memory 1K of 2K");
        let words: Vec<&str> = lines[4].split_whitespace().collect();
        assert_eq!(words, ["team/box-099", "99", "2K", "1m15s", "-", "-", "30", "0"]);
        assert!(lines[3].contains("MAILBOX") && lines[3].contains("DEPTH▼"), "{}", lines[3]);
        assert!(lines[23].starts_with("q quit"), "{}", lines[23]);
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn the_selected_mailbox_is_in_sight_and_shows_who_waits() {
        let mut table = full_table();
        table.select(0);
        table.select(isize::MAX);
        table.detailed = true;
        let lines = frame(80, 24, &mut table);
        let text = lines.join("\n");
        assert!(text.contains("\nteam/box-000 "), "{text}");
        assert!(
            text.contains(" team/box-000: 0 waiting, 30 receiving and 0 sending wait, 0 leased "),
            "{text}"
        );
        assert!(text.contains("\nreceiver          12        1000  1m05s\n"), "{text}");
        assert!(text.contains(" more\n"), "{text}");
    }

    #[test]
    fn spans_are_short() {
        for (seconds, text) in
            [(0.9, "0s"), (59.0, "59s"), (61.0, "1m01s"), (3725.0, "1h02m"), (90_061.0, "1d01h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
