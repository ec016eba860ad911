//! Priorities. Those that a mailbox has had messages of are known to all hosts, and each has a subject and a consumer of its own. Who
//! receives asks the highest first; if none has a message, all of them, and takes what comes first.
//!
//! ```text
//! priority 0   subject ipcfs.SPACE.ID       consumer readers
//! priority N   subject ipcfs.SPACE.ID.p.N   consumer readers-N
//! questions    subject ipcfs.SPACE.ID.rpc   consumer servers
//! ```
//!
//! A mailbox that has had none but 0 costs what it would without priorities.

use super::{CONSUMER, Hosts};
use crate::engine::Path;
use crate::op::Error;

/// Priorities other than 0 that one mailbox can have.
pub(super) const MOST: usize = 16;

/// The word of a subject before a priority.
const WORD: &str = "p";

/// The last word of the subject of questions, and their consumer.
const QUESTION: &str = "rpc";
const SERVERS: &str = "servers";

/// Which messages are meant: the consumer that hands them over, and their subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) consumer: String,
    pub(super) subject: String,
}

/// The priority of a message that was sent to `subject`, or 0.
pub(super) fn of_subject(subject: &str) -> u16 {
    let mut words = subject.rsplit('.');
    let number = words.next().and_then(|word| word.parse().ok());
    number.filter(|_| words.next() == Some(WORD) && words.count() == 3).unwrap_or(0)
}

/// What was sent to `subject` is a question.
pub(super) fn is_question(subject: &str) -> bool {
    let mut words = subject.rsplit('.');
    words.next() == Some(QUESTION) && words.count() == 3
}

impl Hosts {
    /// The lane of questions.
    pub(super) fn question_lane(&self, id: &str) -> Lane {
        Lane { consumer: SERVERS.to_owned(), subject: format!("{}.{QUESTION}", self.subject(id)) }
    }

    /// The subjects of all messages of a mailbox that are not questions.
    pub(super) fn subjects(&self, id: &str) -> [String; 2] {
        let subject = self.subject(id);
        [format!("{subject}.{WORD}.*"), subject]
    }

    /// The lane of a priority.
    pub(super) fn lane(&self, id: &str, priority: u16) -> Lane {
        let subject = self.subject(id);
        match priority {
            0 => Lane { consumer: CONSUMER.to_owned(), subject },
            _ => Lane {
                consumer: format!("{CONSUMER}-{priority}"),
                subject: format!("{subject}.{WORD}.{priority}"),
            },
        }
    }

    /// Where a message with this priority is sent. The first time, all hosts are told.
    pub(super) async fn subject_of(&self, path: &Path, id: &str, priority: u16) -> Result<String, Error> {
        if priority > 0 && !self.priorities(path).contains(&priority) {
            self.add_priority(path, id, priority).await?;
        }
        Ok(self.lane(id, priority).subject)
    }

    /// As [`Hosts::subject_of`], for a message that is sent whether or not its priority can be had.
    pub(super) async fn subject_if(&self, path: &Path, id: &str, priority: u16) -> String {
        match self.subject_of(path, id, priority).await {
            Ok(subject) => subject,
            Err(_) => self.subject(id),
        }
    }

    /// Returns when a mailbox has other priorities than these.
    pub(super) async fn priorities_change(&self, path: &Path, known: &[u16]) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.priorities(path) != known {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_tells_the_priority() {
        for (subject, priority) in [
            ("ipcfs.space.id", 0),
            ("ipcfs.space.id.p.7", 7),
            ("ipcfs.space.id.p.32767", 32767),
            ("ipcfs.space.id.at.7", 0),
            ("ipcfs.p.7", 0),
            ("ipcfs.space.id.p.x", 0),
        ] {
            assert_eq!(of_subject(subject), priority, "{subject}");
        }
    }

    #[test]
    fn a_subject_tells_a_question() {
        for (subject, asks) in [
            ("ipcfs.space.id.rpc", true),
            ("ipcfs.space.id", false),
            ("ipcfs.space.id.p.7", false),
            ("ipcfs.space.rpc", false),
            ("ipcfs.space.id.p.rpc", false),
        ] {
            assert_eq!(is_question(subject), asks, "{subject}");
        }
    }
}
