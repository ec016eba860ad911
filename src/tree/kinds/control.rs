//! What the kinds share of `control/`: the numbers of its nodes, and what an object's table says of its files.
//!
//! A node's number says which object's and which of its files it is, and all else follows from the object. So the files
//! come and go with it by themselves and cost nothing.

use super::{Cx, Inode};
use crate::control::{File, METRICS_SIZE, Refusal};
use crate::op::{Caller, Error, Ino, NodeId};
use crate::state::{Restorer, Saved, Saver};
use crate::tree::names::{Named as _, ROOT};

/// The folder's name in the root.
pub(super) const NAME: &[u8] = b"control";

/// No object's number is as high.
const BASE: u64 = 1 << 62;
const SLOT_BITS: u32 = 6;
const FIRST_DOOR: u64 = 3;
const FIRST_FILE: u64 = 24;

/// A node of `control/`: an object and which of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlNode {
    pub(super) object: Ino,
    pub(super) slot: Slot,
}

/// One of an object's folders or files in `control/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The object's folder, or the view of a folder.
    Top,
    /// `config/` in it.
    Config,
    /// `messages/`
    Messages,
    /// A door, or a folder of doors: its index in `crate::control::DOORS`. Of a segment, a file of its doorbell.
    Door(usize),
    /// A file of text: its index in the object's table.
    File(usize),
}

impl ControlNode {
    /// `control/` itself.
    pub(crate) const ROOT: ControlNode = ControlNode { object: ROOT, slot: Slot::Top };

    /// The one that `node` numbers, if it is in `control/`.
    pub(crate) fn of(node: NodeId) -> Option<ControlNode> {
        let number = node.0.checked_sub(BASE)?;
        let object = Ino(number >> SLOT_BITS);
        let slot = match number & ((1 << SLOT_BITS) - 1) {
            0 => Slot::Top,
            1 => Slot::Config,
            2 => Slot::Messages,
            door @ FIRST_DOOR..FIRST_FILE => Slot::Door((door - FIRST_DOOR) as usize),
            file => Slot::File((file - FIRST_FILE) as usize),
        };
        Some(ControlNode { object, slot })
    }

    /// Its `st_ino`; its node has the same number.
    pub(crate) fn ino(self) -> Ino {
        let slot = match self.slot {
            Slot::Top => 0,
            Slot::Config => 1,
            Slot::Messages => 2,
            Slot::Door(index) => FIRST_DOOR + index as u64,
            Slot::File(index) => FIRST_FILE + index as u64,
        };
        Ino(BASE + (self.object.0 << SLOT_BITS) + slot)
    }

    pub(super) fn top(object: Ino) -> ControlNode {
        ControlNode { object, slot: Slot::Top }
    }

    pub(super) fn with(self, slot: Slot) -> ControlNode {
        ControlNode { slot, ..self }
    }
}

/// By its number, which the kernel has, too: what an object has in `control/` keeps its place in the tables.
impl Saved for ControlNode {
    fn save(&self, to: &mut Saver<'_>) {
        self.ino().save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        ControlNode::of(NodeId(Ino::restore(from)?.0))
    }
}

/// A file of text, as an object's table has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextFile {
    pub(super) name: &'static str,
    /// It stands in `config/`.
    pub(super) config: bool,
    pub(super) writable: bool,
    /// Only its owner may read it.
    pub(super) private: bool,
    /// What it reports as its size: no less than one reading of it gives, for programs that trust it. Lines of `status` for
    /// callers come on top.
    pub(super) size: u64,
}

/// The size of most of them.
pub(super) const SIZE: u64 = 4096;

/// A folder or file that an object has beside its files of text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Other {
    pub(crate) name: &'static str,
    pub(crate) slot: Slot,
    pub(crate) folder: bool,
}

impl TextFile {
    pub(super) fn of<V, S>(file: &File<V, S>) -> TextFile {
        TextFile {
            name: file.name,
            config: file.config,
            writable: file.store.is_some(),
            private: file.names_mailbox(),
            size: SIZE,
        }
    }
}

/// `control/status` and `control/metrics`, in this order.
pub(super) fn mount_files() -> Vec<TextFile> {
    let status = TextFile { name: "status", config: false, writable: false, private: false, size: SIZE };
    vec![status, TextFile { name: "metrics", size: METRICS_SIZE, ..status }]
}

/// The file at an index of an object's table.
pub(super) fn table_file<V, S>(
    table: &'static [File<V, S>],
    index: usize,
) -> Result<&'static File<V, S>, Error> {
    table.get(index).ok_or(Error::NotFound)
}

/// The mailbox that a value written to `dead_letter` names, as `choose` takes it, if `caller` may send there. Empty: none. `own` is the
/// mailbox whose letters they are.
pub(super) fn find_dead_letter<T>(
    text: &[u8],
    own: Ino,
    caller: Caller,
    choose: impl FnOnce(&Inode) -> Result<T, Option<&'static str>>,
    cx: &mut Cx<'_>,
) -> Result<Option<T>, Refusal> {
    // One newline ends the value; any other byte is part of a name.
    let path = text.strip_suffix(b"\n").unwrap_or(text);
    if path.is_empty() {
        return Ok(None);
    }
    let refuse = |error, what: &str| Refusal { error, why: format!("dead_letter: {what}") };
    let shown = path.get(..80).unwrap_or(path).escape_ascii();
    let found = cx.tree.names.lock().find_mailbox(path, caller);
    let inode = found.map_err(|error| match error {
        Error::AccessDenied => refuse(error, &format!("you may not search the way to '{shown}'")),
        _ => refuse(Error::Invalid, &format!("there is no mailbox '{shown}'")),
    })?;
    let chosen = choose(&inode).map_err(|why| match why {
        Some(why) => refuse(Error::Invalid, why),
        None => refuse(Error::Invalid, &format!("there is no mailbox '{shown}'")),
    })?;
    if inode.ino() == own {
        return Err(refuse(Error::Invalid, "a mailbox cannot be its own"));
    }
    let mut may_send = false;
    let looked = inode.ops().read_meta(&mut |meta| may_send = meta.permits(caller, 2), cx);
    if looked.is_err() || !may_send {
        return Err(refuse(Error::AccessDenied, &format!("you may not send to '{shown}'")));
    }
    Ok(Some(chosen))
}

/// Keeps the sentence of a refused value for `error`, or clears it.
pub(super) fn refusal_noted(
    result: Result<(), Refusal>,
    refusal: &mut Option<Box<str>>,
) -> Result<(), Error> {
    match result {
        Ok(()) => {
            *refusal = None;
            Ok(())
        }
        Err(Refusal { error, why }) => {
            *refusal = Some(why.into_boxed_str());
            Err(error)
        }
    }
}
