//! An open folder, and what READDIR shows of it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Cx, FileOps, Header, Inode, OpenFile, Read};
use crate::op::{Error, Fh, Listed, Reply};
use crate::state::saved;

/// What a folder has beside its names comes last in a listing, from this cookie on. All are positive as signed numbers, which
/// offsets are.
pub(super) const FIXED_COOKIES: u64 = (u64::MAX >> 1) - 256;

/// An open folder. A listing ends where the folder ended when it began: names that come later have later cookies, and a name that
/// is moved or made anew while it is listed would come again and again.
#[derive(Debug)]
pub(crate) struct OpenListing {
    /// The first cookie that is not shown.
    end: AtomicU64,
}

saved!(struct OpenListing { end });

impl OpenListing {
    /// Shows what comes before the cookie `end`. A listing that begins at `after` 0 is a new one.
    pub(super) fn show(&self, mut list: Vec<Listed>, after: u64, end: u64) -> Vec<Listed> {
        if after == 0 {
            self.end.store(end, Ordering::Relaxed);
        }
        let end = self.end.load(Ordering::Relaxed);
        list.retain(|listed| listed.cookie < end || listed.cookie >= FIXED_COOKIES);
        list
    }
}

impl Cx<'_> {
    /// A folder is open.
    pub(crate) fn open_listing(&mut self, folder: &Inode) -> Fh {
        let end = folder.ops().next_cookie(self).unwrap_or(u64::MAX);
        self.opened(OpenFile::Listing(OpenListing { end: AtomicU64::new(end) }))
    }

    /// READDIR of an open folder.
    pub(crate) fn list(
        &mut self,
        folder: &Inode,
        fh: Fh,
        after: u64,
        most: usize,
    ) -> Result<Vec<Listed>, Error> {
        let open = self.tree.handles.get(fh)?;
        let OpenFile::Listing(listing) = &*open else { return Err(Error::BadDescriptor) };
        let end = if after == 0 { folder.ops().next_cookie(self) } else { None };
        let list = folder.ops().list(after, most, self)?;
        Ok(listing.show(list, after, end.unwrap_or(u64::MAX)))
    }
}

impl FileOps for OpenListing {
    fn read(&self, _: Header, _: Read, _: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        Err(Error::IsFolder)
    }
}
