//! A file of text in `control/`: `status`, `error`, `seal` and what is in `config/`.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::control::{ControlNode, Slot, TextFile};
use super::{Cx, FileOps, Header, Inode, InodeOps, Names, OpenFile, Read, Write, part_of, set_size_only};
use crate::accounts::{Account, Charge, Resource};
use crate::op::{Attr, Caller, Error, Ino, NodeId, OpenAs, OpenFlags, Opened, Reply, SetAttr, Validity};
use crate::state::saved;
use crate::tree::names::Named as _;
use crate::tree::names::meta::REGULAR;

/// Bytes of the line that `status` has for each caller who waits, or more.
const STATUS_LINE: u64 = 80;

/// Most such lines of a text that is made at once.
const SHORT_STATUS: u64 = 2000;

/// A node of a file of text.
#[derive(Debug, Clone)]
pub(crate) struct ControlFile {
    place: ControlNode,
    /// Whose it is.
    object: Inode,
    attr: Attr,
}

/// A file of text, open: the text is as it was when reading began, so that reading in pieces gives one state.
#[derive(Debug)]
pub(crate) struct OpenControl {
    place: ControlNode,
    /// Who opened it: what is written is stored with this user's rights, whoever writes.
    opener: Caller,
    /// Of that user, for the text.
    account: Arc<Account>,
    text: Mutex<(Arc<[u8]>, Option<Charge>)>,
}

saved!(struct OpenControl { place, opener, account, text });

impl ControlFile {
    pub(super) fn new(place: ControlNode, object: Inode, file: TextFile, owner: Attr) -> ControlFile {
        let lines = object.ops().control().map_or(0, super::ControlOps::status_lines);
        let read = if file.private { 0o400 } else { readers(owner.mode, object.folder().is_some()) };
        let mode = if file.writable { read | 0o200 } else { read };
        let attr = Attr {
            ino: place.ino(),
            size: file.size + STATUS_LINE * lines,
            mode: REGULAR | mode,
            nlink: 1,
            ..owner
        };
        ControlFile { place, object, attr }
    }

    /// The file at a place, while its object has a name, and its index.
    fn at(place: ControlNode, cx: &Cx<'_>) -> Result<(ControlFile, usize), Error> {
        let Slot::File(index) = place.slot else { return Err(Error::IsFolder) };
        match Inode::at(place, &cx.tree.names.lock())? {
            Inode::ControlFile(file) => Ok((*file, index)),
            _ => Err(Error::IsFolder),
        }
    }
}

/// Who may read what `control/` shows of a file with this mode: its owner, and whoever may read or write the file; of a
/// folder, whoever may do anything with it. Others learn nothing but its name.
fn readers(mode: u32, folder: bool) -> u32 {
    let rights = if folder { 7 } else { 6 };
    let class = |shift: u32| if (mode >> shift) & rights == 0 { 0 } else { 4 << shift };
    0o400 | class(3) | class(0)
}

impl InodeOps for ControlFile {
    fn ino(&self) -> Ino {
        self.place.ino()
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr, Validity::None))
    }

    fn set_attr(&self, _: Header, set: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        set_size_only(set)?;
        Ok((self.attr, Validity::None))
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        drop(names);
        if flags.write && self.attr.mode & 0o200 == 0 {
            return Err(Error::AccessDenied);
        }
        let account = cx.opener(header.caller);
        let open = OpenControl {
            place: self.place,
            opener: header.caller,
            account,
            text: Mutex::new((Arc::from([]), None)),
        };
        Ok(Opened { fh: cx.opened(OpenFile::Control(open)), how: OpenAs::Text })
    }
}

impl OpenControl {
    /// True if this read makes a text of so many lines that a job does it.
    pub(super) fn is_long(&self, call: Read, cx: &Cx<'_>) -> bool {
        let lines =
            |file: &ControlFile| file.object.ops().control().map_or(0, super::ControlOps::status_lines);
        call.offset == 0 && ControlFile::at(self.place, cx).is_ok_and(|(file, _)| lines(&file) > SHORT_STATUS)
    }
}

impl FileOps for OpenControl {
    /// Reading from the beginning shows the state of now; what follows belongs to the same state.
    fn read(&self, _: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        if call.offset == 0 {
            let (file, index) = ControlFile::at(self.place, cx)?;
            let control = file.object.ops().control().ok_or(Error::NotFound)?;
            let text = control.show(index, self.opener, cx)?;
            let charge = self.account.charge(Resource::Texts, text.len() as u64);
            let charge = Some(charge.map_err(|_| Error::NoMemory)?);
            *self.text.lock() = (Arc::from(text), charge);
        }
        Ok(Some(part_of(&self.text.lock().0, call)))
    }

    fn write(&self, _: Header, call: Write<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let (file, index) = ControlFile::at(self.place, cx)?;
        let control = file.object.ops().control().ok_or(Error::NotFound)?;
        control.store(index, call.data, self.opener, cx)?;
        Ok(Some(Reply::Written(call.data.len() as u32)))
    }
}
