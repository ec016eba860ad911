//! What the kernel names things by: names in folders, nodes, open files. Nothing here knows what a name leads to, beyond
//! the few questions of [`Named`]; so this folder imports nothing of `kinds`.

mod folder;
pub(crate) mod handles;
pub(crate) mod lookups;
pub(crate) mod meta;
pub(crate) mod nodes;
pub(crate) mod numbers;
pub(crate) mod refusals;
pub(crate) mod table;

pub(crate) use folder::{Defaults, Folder, Namespace};
pub(crate) use table::{Names, check_name};

use crate::op::Ino;

/// The mount's root.
pub(crate) const ROOT: Ino = Ino(1);
/// `mailboxes/`
pub(crate) const MAILBOXES: Ino = Ino(2);
/// `segments/`
pub(crate) const SEGMENTS: Ino = Ino(3);
/// `topics/`
pub(crate) const TOPICS: Ino = Ino(4);

/// The folder of settings in `control/`.
pub(crate) const CONFIG: &[u8] = b"config";

/// What a name leads to.
pub(crate) trait Named: Clone {
    /// The folder numbered `ino`, for what `namespace` says.
    fn of_folder(ino: Ino, namespace: Namespace) -> Self;
    /// Its number.
    fn ino(&self) -> Ino;
    /// Its number, if it is a folder.
    fn folder(&self) -> Option<Ino>;
    /// It is a symbolic link, of which `control/` shows nothing.
    fn is_symlink(&self) -> bool;
}
