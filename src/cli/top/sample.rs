//! The state of a mount at one moment, from its `control/`.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::super::listing::{self, Object};
use super::super::mounts::Status;

/// What `control/` showed.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) taken: Instant,
    /// The same moment as seconds since 1970.
    pub(super) clock: f64,
    /// Of the mount.
    pub(super) status: Status,
    pub(super) mailboxes: Vec<Object>,
    /// Folders and mailboxes that this user may not read.
    pub(super) unreadable: usize,
}

/// Someone who waits at a mailbox.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waiter {
    pub(super) writes: bool,
    pub(super) pid: u32,
    pub(super) uid: u32,
    /// Seconds since 1970.
    pub(super) since: f64,
}

impl Sample {
    pub(super) fn take(point: &Path) -> Result<Sample, String> {
        let status = listing::mount_status(point)?;
        let (mailboxes, unreadable) = listing::mailboxes(point)?;
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Ok(Sample { taken: Instant::now(), clock, status, mailboxes, unreadable })
    }
}

impl Waiter {
    /// Those of the status of a mailbox, in the order in which they came.
    pub(super) fn all(status: &Status) -> Vec<Waiter> {
        status.all("waiting").filter_map(Waiter::parse).collect()
    }

    /// `reader pid 5 uid 0 since 1764230000.123`
    fn parse(line: &str) -> Option<Waiter> {
        let mut words = line.split(' ');
        let writes = words.next()? == "writer";
        let mut value = |key: &str| (words.next()? == key).then(|| words.next()).flatten();
        let (pid, uid) = (value("pid")?.parse().ok()?, value("uid")?.parse().ok()?);
        Some(Waiter { writes, pid, uid, since: value("since")?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_are_read_from_status() {
        let status = Status::parse("depth 0\nwaiting reader pid 5 uid 7 since 12.500\nwaiting nonsense\n");
        assert_eq!(Waiter::all(&status), [Waiter { writes: false, pid: 5, uid: 7, since: 12.5 }]);
    }
}
