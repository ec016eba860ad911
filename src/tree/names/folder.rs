//! A folder: its entries by name and by cookie.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::meta::{FOLDER, Meta};
use super::{CONFIG, Named};
use crate::config::MailboxLimits;
use crate::engine::Carrier;
use crate::mailbox::Rules;
use crate::op::{Attr, FileTime, Ino};
use crate::state::saved;

/// What may be created in a folder. Everything below `mailboxes/` is of that namespace, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    Root,
    Mailboxes,
    Segments,
    Topics,
}

saved!(enum Namespace { 0 = Root, 1 = Mailboxes, 2 = Segments, 3 = Topics });

impl Namespace {
    /// As an index.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// What a mailbox or folder made in a folder of mailboxes begins with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub(crate) limits: MailboxLimits,
    pub(crate) rules: Rules,
    pub(crate) carrier: Carrier,
}

/// Names and what they lead to, by cookie.
type Entries<O> = BTreeMap<u64, (Arc<[u8]>, O)>;

saved!(struct Defaults { limits, rules, carrier since 3 });

/// A folder. Its entries have two orders: by name for look-ups, and by a cookie that only grows for listings. So a
/// listing shows every entry that was there all along exactly once, whatever comes and goes meanwhile.
#[derive(Debug)]
pub(crate) struct Folder<O> {
    pub(crate) meta: Meta,
    pub(crate) namespace: Namespace,
    pub(crate) parent: Ino,
    /// Shared with the parent's until one of them changes.
    pub(crate) defaults: Arc<Defaults>,
    /// Why the last value written to `config/` was refused.
    pub(crate) refusal: Option<Box<str>>,
    names: HashMap<Arc<[u8]>, u64>,
    shown: Entries<O>,
    /// Those that `control/` does not show: a listing there must not have to pass over them.
    hidden: Entries<O>,
    next_cookie: u64,
    folders: u32,
    /// Its name is gone. It stays while the kernel knows its node.
    pub(super) removed: bool,
}

saved!(struct Folder<O> {
    meta, namespace, parent, defaults, refusal, names, shown, hidden, next_cookie, folders, removed,
});

impl<O: Named> Folder<O> {
    pub(super) fn new(meta: Meta, namespace: Namespace, parent: Ino, defaults: Arc<Defaults>) -> Folder<O> {
        let (names, shown, hidden) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
        // 0 means "from the beginning"; 1 and 2 are "." and "..".
        let (next_cookie, folders, removed, refusal) = (3, 0, false, None);
        Folder {
            meta,
            namespace,
            parent,
            defaults,
            refusal,
            names,
            shown,
            hidden,
            next_cookie,
            folders,
            removed,
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&O> {
        let cookie = self.names.get(name)?;
        self.shown.get(cookie).or_else(|| self.hidden.get(cookie)).map(|(_, object)| object)
    }

    /// As [`Folder::get`], of a name that `control/` shows.
    pub(crate) fn get_shown(&self, name: &[u8]) -> Option<&O> {
        self.names.get(name).and_then(|cookie| self.shown.get(cookie)).map(|(_, object)| object)
    }

    /// Entries after the one with `cookie`, in the order of their creation.
    pub(crate) fn list(&self, cookie: u64) -> impl Iterator<Item = (u64, &Arc<[u8]>, &O)> {
        let mut hidden = after(&self.hidden, cookie).peekable();
        let mut shown = after(&self.shown, cookie).peekable();
        std::iter::from_fn(move || match (shown.peek(), hidden.peek()) {
            (Some(one), Some(other)) if other.0 < one.0 => hidden.next(),
            (None, _) => hidden.next(),
            _ => shown.next(),
        })
    }

    /// As [`Folder::list`], without those that `control/` does not show.
    pub(crate) fn list_shown(&self, cookie: u64) -> impl Iterator<Item = (u64, &Arc<[u8]>, &O)> {
        after(&self.shown, cookie)
    }

    /// The cookie that the next name will get.
    pub(crate) fn next_cookie(&self) -> u64 {
        self.next_cookie
    }

    /// No file here may have this name: in `control/` it is that of the folder's settings.
    pub(super) fn reserves(&self, name: &[u8]) -> bool {
        self.namespace == Namespace::Mailboxes && name == CONFIG
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn attr(&self, ino: Ino) -> Attr {
        let nlink = if self.removed { 0 } else { 2 + self.folders };
        Attr { nlink, ..self.meta.attr(ino, FOLDER) }
    }

    /// `shown`: in `control/` too.
    pub(super) fn insert(&mut self, name: &Arc<[u8]>, object: O, shown: bool, now: FileTime) {
        self.folders += u32::from(object.folder().is_some());
        self.names.insert(Arc::clone(name), self.next_cookie);
        let entries = if shown { &mut self.shown } else { &mut self.hidden };
        entries.insert(self.next_cookie, (Arc::clone(name), object));
        self.next_cookie += 1;
        self.touch(now);
    }

    pub(super) fn remove(&mut self, name: &[u8], now: FileTime) -> Option<O> {
        let cookie = self.names.remove(name)?;
        let (_, object) = self.shown.remove(&cookie).or_else(|| self.hidden.remove(&cookie))?;
        self.folders -= u32::from(object.folder().is_some());
        self.touch(now);
        Some(object)
    }

    /// `control/` shows a name from now on.
    pub(super) fn show(&mut self, name: &[u8]) {
        if let Some(cookie) = self.names.get(name)
            && let Some(entry) = self.hidden.remove(cookie)
        {
            self.shown.insert(*cookie, entry);
        }
    }

    fn touch(&mut self, now: FileTime) {
        (self.meta.mtime, self.meta.ctime) = (now, now);
    }
}

/// The entries after the one with `cookie`.
fn after<O>(entries: &Entries<O>, cookie: u64) -> impl Iterator<Item = (u64, &Arc<[u8]>, &O)> {
    let from = cookie.saturating_add(1);
    entries.range(from..).map(|(cookie, (name, object))| (*cookie, name, object))
}
