//! The rows of the screen: made of two samples, in the order that the user chose, without those that are filtered out.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::Path;

use clap::ValueEnum;

use super::sample::{Sample, Waiter};
use crate::cli::listing::Object;
use crate::cli::mounts::Status;

/// By what rows can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Column {
    Name,
    Depth,
    Bytes,
    Age,
    Sent,
    Received,
    Readers,
    Writers,
}

/// One mailbox.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// As it is shown.
    pub(super) name: String,
    pub(super) depth: u64,
    pub(super) bytes: u64,
    /// How long the oldest message has waited, in seconds; `None` if none waits.
    pub(super) age: Option<f64>,
    /// Messages per second since the sample before; `None` if the mailbox was not in it.
    pub(super) sent: Option<f64>,
    pub(super) received: Option<f64>,
    pub(super) readers: u64,
    pub(super) writers: u64,
    pub(super) leased: u64,
    pub(super) waiters: Vec<Waiter>,
}

/// What is on the screen.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each is what the user chose, or what the daemon tells
pub(super) struct Table {
    last: Option<Sample>,
    all: Vec<Row>,
    /// Those that the filter lets through, in order.
    pub(super) rows: Vec<Row>,
    /// Whether the daemon tells the age of the oldest message.
    pub(super) has_age: bool,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// The user types the filter.
    pub(super) typing: bool,
    /// Name of the selected row: it stays selected wherever it moves.
    selected: Option<String>,
    /// The selected mailbox is shown with who waits there.
    pub(super) detailed: bool,
    /// The first row that is in sight, as the last frame had it.
    pub(super) offset: usize,
}

impl Column {
    /// The heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Name => "MAILBOX",
            Column::Depth => "DEPTH",
            Column::Bytes => "BYTES",
            Column::Age => "OLDEST",
            Column::Sent => "SENT/s",
            Column::Received => "RECV/s",
            Column::Readers => "READERS",
            Column::Writers => "WRITERS",
        }
    }

    /// The greater first, names from the first.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let greater = |a: Option<f64>, b: Option<f64>| b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0));
        let order = match self {
            Column::Name => Ordering::Equal,
            Column::Depth => b.depth.cmp(&a.depth),
            Column::Bytes => b.bytes.cmp(&a.bytes),
            Column::Age => greater(a.age, b.age),
            Column::Sent => greater(a.sent, b.sent),
            Column::Received => greater(a.received, b.received),
            Column::Readers => b.readers.cmp(&a.readers),
            Column::Writers => b.writers.cmp(&a.writers),
        };
        order.then_with(|| a.name.cmp(&b.name))
    }
}

impl Table {
    /// Without rows yet. A mailbox of this name is selected and shown in detail.
    pub(super) fn new(sort: Column, filter: &str, name: Option<&str>) -> Table {
        Table {
            last: None,
            all: Vec::new(),
            rows: Vec::new(),
            has_age: false,
            sort,
            reversed: false,
            filter: filter.to_owned(),
            typing: false,
            selected: name.map(str::to_owned),
            detailed: name.is_some(),
            offset: 0,
        }
    }

    /// Takes a new sample.
    pub(super) fn update(&mut self, sample: Sample) {
        let before: HashMap<&Path, &Status> = self
            .last
            .iter()
            .flat_map(|last| last.mailboxes.iter().map(|mailbox| (mailbox.name.as_ref(), &mailbox.status)))
            .collect();
        let seconds = self.last.as_ref().map_or(0.0, |last| (sample.taken - last.taken).as_secs_f64());
        let row = |mailbox: &Object| {
            let status = &mailbox.status;
            let number = |key| status.number(key).unwrap_or(0);
            let rate = |key| {
                let before = before.get(mailbox.name.as_ref())?.number(key)?;
                // Fewer than before: another mailbox has the name now.
                let grown = status.number(key)?.checked_sub(before)?;
                (seconds > 0.0).then(|| grown as f64 / seconds)
            };
            Row {
                name: mailbox.shown.clone(),
                depth: number("depth"),
                bytes: number("bytes"),
                age: status
                    .get("oldest_age")
                    .and_then(|age| age.parse().ok())
                    .filter(|_| number("depth") > 0),
                sent: rate("sent"),
                received: rate("received"),
                readers: number("waiting_readers"),
                writers: number("waiting_writers"),
                leased: number("leased"),
                waiters: Waiter::all(status),
            }
        };
        self.all = sample.mailboxes.iter().map(row).collect();
        self.has_age = sample.mailboxes.iter().any(|mailbox| mailbox.status.get("oldest_age").is_some());
        self.last = Some(sample);
        self.arrange();
    }

    /// The sample that is shown.
    pub(super) fn sample(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// How many mailboxes there are, filtered out or not.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Where the selected row is.
    pub(super) fn position(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        self.rows.iter().position(|row| row.name == selected)
    }

    /// The selected row.
    pub(super) fn selected(&self) -> Option<&Row> {
        self.position().and_then(|position| self.rows.get(position))
    }

    /// Selects the row that many rows further down. The first move selects the first row.
    pub(super) fn select(&mut self, by: isize) {
        let Some(last) = self.rows.len().checked_sub(1) else { return };
        let position = self.position().map_or(0, |position| position.saturating_add_signed(by).min(last));
        self.selected = self.rows.get(position).map(|row| row.name.clone());
    }

    /// Sorts by the next column that is shown.
    pub(super) fn sort_by_next(&mut self) {
        let columns = self.columns();
        let position = columns.iter().position(|column| *column == self.sort).unwrap_or(0);
        self.sort = columns.get(position + 1).or(columns.first()).copied().unwrap_or(self.sort);
        self.arrange();
    }

    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
        self.arrange();
    }

    /// Adds a character to the filter.
    pub(super) fn type_in(&mut self, typed: char) {
        self.filter.push(typed);
        self.arrange();
    }

    /// Removes the last character of the filter.
    pub(super) fn erase(&mut self) {
        self.filter.pop();
        self.arrange();
    }

    /// Without a filter.
    pub(super) fn show_all(&mut self) {
        self.typing = false;
        self.filter.clear();
        self.arrange();
    }

    /// The columns that are shown.
    pub(super) fn columns(&self) -> Vec<Column> {
        let all = Column::value_variants().iter().copied();
        all.filter(|column| *column != Column::Age || self.has_age).collect()
    }

    fn arrange(&mut self) {
        self.rows = self.all.iter().filter(|row| row.name.contains(&self.filter)).cloned().collect();
        self.rows.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            if self.reversed { order.reverse() } else { order }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cli::listing::ExactPath;

    fn sample(taken: Instant, mailboxes: &[(&str, &str)]) -> Sample {
        let mailboxes = mailboxes
            .iter()
            .map(|(name, status)| Object {
                name: ExactPath::name(Path::new(name)),
                shown: (*name).to_owned(),
                status: Status::parse(status),
                file: None,
            })
            .collect();
        Sample { taken, clock: 0.0, status: Status::default(), mailboxes, unreadable: 0 }
    }

    fn names(table: &Table) -> Vec<&str> {
        table.rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn rates_are_those_between_two_samples() {
        let mut table = Table::new(Column::Depth, "", None);
        let start = Instant::now();
        table.update(sample(start, &[("a", "sent 10\nreceived 5"), ("b", "sent 9")]));
        assert_eq!((table.rows[0].sent, table.rows[0].received), (None, None));
        let next = start + Duration::from_secs(2);
        table.update(sample(next, &[("a", "sent 30\nreceived 5"), ("b", "sent 1"), ("c", "sent 4")]));
        let rates: Vec<_> = table.rows.iter().map(|row| row.sent).collect();
        assert_eq!(rates, [Some(10.0), None, None], "another mailbox is b now, and c is new");
        assert_eq!(table.rows[0].received, Some(0.0));
    }

    #[test]
    fn rows_are_sorted_and_filtered_and_the_selected_one_stays_selected() {
        let mut table = Table::new(Column::Depth, "", None);
        let now = Instant::now();
        let boxes = [("jobs/a", "depth 1"), ("jobs/b", "depth 7\nbytes 1"), ("mail", "depth 3\nbytes 9")];
        table.update(sample(now, &boxes));
        assert_eq!(names(&table), ["jobs/b", "mail", "jobs/a"]);
        table.select(1);
        assert_eq!(table.position(), Some(0), "the first move selects the first row");
        table.sort_by_next();
        assert_eq!((table.sort, names(&table)), (Column::Bytes, vec!["mail", "jobs/b", "jobs/a"]));
        assert_eq!(table.position(), Some(1));
        table.sort_by_next();
        assert_eq!(table.sort, Column::Sent, "no column without figures");
        table.sort = Column::Name;
        table.reverse();
        assert_eq!(names(&table), ["mail", "jobs/b", "jobs/a"]);
        table.reverse();
        "jobs".chars().for_each(|typed| table.type_in(typed));
        assert_eq!((names(&table), table.count()), (vec!["jobs/a", "jobs/b"], 3));
        table.select(isize::MAX);
        assert_eq!(table.selected().map(|row| row.name.as_str()), Some("jobs/b"));
        table.erase();
        table.show_all();
        assert_eq!(names(&table).len(), 3);
        table.update(sample(now, &[("jobs/a", "depth 1\noldest_age 2.5"), ("mail", "oldest_age 0.0")]));
        assert_eq!((table.position(), table.has_age), (None, true));
        assert_eq!((table.rows[0].age, table.rows[1].age), (Some(2.5), None));
        table.sort = Column::Bytes;
        table.sort_by_next();
        assert_eq!(table.sort, Column::Age);
    }
}
