//! What a configuration file says, after it was checked.

use crate::control;

/// A kind of section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    Mailbox,
    Topic,
    Segment,
}

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Below the mount point: `mailboxes/shop/orders`.
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) owner: Option<At<u32>>,
    pub(super) group: Option<At<u32>>,
    pub(super) mode: Option<At<u32>>,
    /// Of a segment, in bytes.
    pub(super) size: Option<At<u64>>,
    /// Values for files in `config/`, by key.
    pub(super) settings: Vec<(String, At<String>)>,
}

/// A value with the line that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    /// Why, and on a second line what to do.
    pub(super) why: String,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Folder, Kind::Mailbox, Kind::Topic, Kind::Segment];

    /// The name of its sections.
    pub(super) fn section(self) -> &'static str {
        match self {
            Kind::Folder => "folders",
            Kind::Mailbox => "mailboxes",
            Kind::Topic => "topics",
            Kind::Segment => "segments",
        }
    }

    /// The files in `config/` of such an object at this path.
    pub(super) fn settings(self, path: &str) -> Vec<&'static str> {
        fn files<V, S>(table: &'static [control::File<V, S>]) -> Vec<&'static str> {
            table.iter().filter(|file| file.config).map(|file| file.name).collect()
        }
        match self {
            Kind::Folder if path.split('/').next() == Some("mailboxes") => {
                control::FOLDER_SETTINGS.into_iter().filter(|key| *key != "error").collect()
            }
            Kind::Folder => Vec::new(),
            Kind::Mailbox => files(&control::MAILBOX),
            Kind::Topic => files(&control::TOPIC),
            Kind::Segment => files(&control::SEGMENT),
        }
    }
}

impl Wrong {
    pub(super) fn new(line: usize, why: &str, advice: &str) -> Wrong {
        Wrong { line, why: format!("{why}\n  {advice}") }
    }
}
