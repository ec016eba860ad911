//! Control files that are opened for their data rather than for text: a mailbox's doors and its `purge`, a segment's doorbell.

use super::value;
use crate::config::PRIORITY_MAX;
use crate::mailbox::Door;
use crate::op::Error;

/// A door of a mailbox, or a folder of doors.
#[derive(Debug)]
pub struct DoorFile {
    /// Its name. Doors in a folder are named by priority, tag or user id.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The door or doors that it opens.
    pub kind: DoorKind,
}

/// A door, or a folder of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DoorKind {
    One(Door),
    Priorities,
    Tags,
    Senders,
    Ttls,
    Delays,
    Keys,
    /// No way to the queue: it removes messages.
    Purge,
}

/// The doors in `control/mailboxes/<name>/`.
pub static DOORS: [DoorFile; 15] = [
    door(
        "stream",
        "read: message after message, without end of file; write: each line is a message",
        Door::Stream,
    ),
    door("whole", "write: all bytes until the last close are one message", Door::Whole),
    door("peek", "read: the next message, which stays queued", Door::Peek),
    door("json", "read: as stream, each message as a JSON object on a line", Door::Json),
    door(
        "lease",
        "read: lease a message; write: ack, nack, nack <time>, reject or touch; close without: as nack",
        Door::Lease,
    ),
    door("rpc", "write: a request; read: its reply", Door::Rpc),
    door("serve", "read: a request; write: its reply", Door::Serve),
    DoorFile {
        name: "priority",
        help: "write: messages with priority n, 0 to 32767; higher ones are received first",
        kind: DoorKind::Priorities,
    },
    DoorFile {
        name: "tag",
        help: "write: messages with this tag; read: only messages with this tag",
        kind: DoorKind::Tags,
    },
    DoorFile { name: "from", help: "read: only messages that this user sent", kind: DoorKind::Senders },
    DoorFile {
        name: "ttl",
        help: "write: messages that expire after this time, or that of config/ttl if it is shorter",
        kind: DoorKind::Ttls,
    },
    DoorFile {
        name: "delay",
        help: "write: messages that cannot be received before this time has passed",
        kind: DoorKind::Delays,
    },
    DoorFile {
        name: "purge",
        help: "write: all, tag <tag>, from <uid> or older <time> removes such queued messages; read: how many",
        kind: DoorKind::Purge,
    },
    door(
        "lease.json",
        "as lease, any number of messages, as in json; write: ack, nack, nack <time>, reject or touch, and ids or all",
        Door::LeaseJson,
    ),
    DoorFile {
        name: "once",
        help: "write: messages that are sent once: not if one with this key was sent within config/once_window",
        kind: DoorKind::Keys,
    },
];

const fn door(name: &'static str, help: &'static str, door: Door) -> DoorFile {
    DoorFile { name, help, kind: DoorKind::One(door) }
}

impl DoorFile {
    /// Its path from the mailbox's folder.
    pub(super) fn path(&self) -> String {
        let special = match self.kind {
            DoorKind::One(_) | DoorKind::Purge => "",
            DoorKind::Priorities => "/<n>",
            DoorKind::Tags => "/<text>",
            DoorKind::Senders => "/<uid>",
            DoorKind::Ttls | DoorKind::Delays => "/<time>",
            DoorKind::Keys => "/<key>",
        };
        format!("{}{special}", self.name)
    }
}

impl DoorKind {
    /// The door with this name in a folder of doors. Numbers are decimal, without leading zeros. `Invalid` for what
    /// is not a number or a time, `Range` for one out of range, `NotFolder` if this is not a folder.
    pub fn named(&self, name: &[u8]) -> Result<Door, Error> {
        let number = || -> Result<u64, Error> {
            let text = std::str::from_utf8(name).map_err(|_| Error::Invalid)?;
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || (text.len() > 1 && text.starts_with('0')) {
                return Err(Error::Invalid);
            }
            text.parse().map_err(|_| Error::Range)
        };
        match self {
            DoorKind::One(_) | DoorKind::Purge => Err(Error::NotFolder),
            DoorKind::Tags => Ok(Door::Tag(name.into())),
            DoorKind::Priorities => match u16::try_from(number()?) {
                Ok(priority) if priority <= PRIORITY_MAX => Ok(Door::Priority(priority)),
                _ => Err(Error::Range),
            },
            DoorKind::Senders => u32::try_from(number()?).map(Door::From).map_err(|_| Error::Range),
            DoorKind::Ttls => time(name).map(Door::Ttl),
            DoorKind::Delays => time(name).map(Door::Delay),
            DoorKind::Keys => Ok(Door::Once(name.into())),
        }
    }
}

/// A time in nanoseconds, as a name: as in a file of `config/`, but without `max` and blanks around it.
fn time(name: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(name).map_err(|_| Error::Invalid)?;
    if text.trim() != text || text == "max" {
        return Err(Error::Invalid);
    }
    value::time("time", text).map_err(|refusal| refusal.error)
}

/// The files of a segment's doorbell.
pub static DOORBELL: [(&str, &str); 2] = [
    ("notify", "write: ring the doorbell; what is written does not matter"),
    ("wait", "read: wait for the next ring, and get the count of rings"),
];
