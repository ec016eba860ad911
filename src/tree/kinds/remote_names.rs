//! Names that several hosts share: what the engine is told of those that are made here, and what is made here of those that other
//! hosts tell of.

use std::sync::Arc;

use super::remote::{RemoteNode, tell};
use super::{Cx, Inode, Names};
use crate::accounts::Resource;
use crate::engine::{Carrier, Command, Described, Path};
use crate::mailbox::Rules;
use crate::op::{Caller, Error, Ino};
use crate::tree::names::meta::Meta;
use crate::tree::names::{Defaults, MAILBOXES, Named};

/// What the engine is told of a mailbox or folder with `meta`, made with `defaults`.
pub(super) fn described(meta: &Meta, defaults: &Defaults, folder: bool) -> Described {
    let Meta { uid, gid, mode, .. } = *meta;
    let Rules { full, ttl, lease_time, max_deliver, .. } = defaults.rules;
    let limits = defaults.limits;
    Described { folder, uid, gid, mode, limits, full, ttl, lease_time, max_deliver, dead_letter: None }
}

/// A folder whose mailboxes several hosts share was made here, or has changed.
pub(super) fn describe_folder(names: &Names, ino: Ino, cx: &mut Cx<'_>) {
    let Some(folder) = names.folder(ino).filter(|folder| folder.defaults.carrier == Carrier::Nats) else {
        return;
    };
    let path = names.path_of(ino);
    // `mailboxes/` itself is each mount's own.
    if !path.is_empty() {
        let told = described(&folder.meta, &folder.defaults, true);
        tell(told.uid, Command::Describe(Path::from(path), told), cx);
    }
}

/// Such a folder is gone: its path and what it was.
pub(super) fn forget_folder(gone: Option<(Path, Described)>, cx: &mut Cx<'_>) {
    if let Some((path, described)) = gone {
        tell(described.uid, Command::Remove(path, described), cx);
    }
}

/// Several hosts share what is made in the folder.
pub(super) fn is_shared(names: &Names, folder: Ino) -> bool {
    names.folder(folder).is_some_and(|folder| folder.defaults.carrier == Carrier::Nats)
}

/// A name in `folder` may change, as far as the engine is concerned.
pub(super) fn check_reachable(
    names: &Names,
    folder: Ino,
    object: Option<&Inode>,
    caller: Caller,
    cx: &Cx<'_>,
) -> Result<(), Error> {
    let told = match object {
        Some(Inode::Remote(_)) => true,
        Some(object) => object.folder().is_some_and(|ino| is_shared(names, ino)),
        None => is_shared(names, folder),
    };
    if told { cx.tree.remotes.check_reachable(caller.uid) } else { Ok(()) }
}

/// The path of a folder that several hosts share, and what they know of it.
pub(super) fn shared_folder(names: &Names, ino: Ino) -> Option<(Path, Described)> {
    let folder = names.folder(ino).filter(|folder| folder.defaults.carrier == Carrier::Nats)?;
    let path = names.path_of(ino);
    (!path.is_empty()).then(|| (Path::from(path), described(&folder.meta, &folder.defaults, true)))
}

/// Neither a mailbox nor a folder that several hosts share can get another name.
pub(super) fn check_movable(names: &Names, folder: Ino, name: &[u8]) -> Result<(), Error> {
    let shared = |ino| is_shared(names, ino);
    let object = names.folder(folder).and_then(|holder| holder.get(name));
    let moves_shared = object
        .is_some_and(|object| matches!(object, Inode::Remote(_)) || object.folder().is_some_and(shared));
    if moves_shared || shared(folder) { Err(Error::NotSupported) } else { Ok(()) }
}

/// Some host has described a mailbox or folder.
pub(super) fn present(path: &[u8], told: Described, cx: &mut Cx<'_>) -> Result<(), Error> {
    let mut names = cx.tree.names.lock();
    let mut at = MAILBOXES;
    let (above, last) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], path),
    };
    let setup = &cx.tree.setup;
    let on_the_way = Described { folder: true, uid: setup.uid, gid: setup.gid, mode: 0o755, ..told.clone() };
    for name in above.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = folder_at(&mut names, at, name, &on_the_way, false, cx)?;
    }
    if told.folder {
        return folder_at(&mut names, at, last, &told, true, cx).map(drop);
    }
    match names.folder(at).and_then(|folder| folder.get(last)).cloned() {
        Some(Inode::Remote(node)) => {
            drop(names);
            let mut state = node.file.state.lock();
            apply(&mut state.meta, &told);
            state.queue.describe(told);
        }
        Some(_) => return Err(Error::Exists),
        None => {
            names.check_new(at, last)?;
            let meta = Meta::new(told.mode, told.uid, told.gid, cx.now.time());
            let meta_uid = told.uid;
            let node = RemoteNode::make(&mut names, (at, last), (meta, told), false, cx)?;
            let charge = cx.tree.accounts.of(meta_uid).charge_regardless(Resource::Files, 1);
            names.link(at, last, &Inode::Remote(Box::new(node)), charge, cx.now.time());
        }
    }
    Ok(())
}

fn apply(meta: &mut Meta, told: &Described) {
    (meta.uid, meta.gid, meta.mode) = (told.uid, told.gid, told.mode);
}

/// The folder at a name, made if there is none. With `apply_it`, it is as `told`.
fn folder_at(
    names: &mut Names,
    parent: Ino,
    name: &[u8],
    told: &Described,
    apply_it: bool,
    cx: &mut Cx<'_>,
) -> Result<Ino, Error> {
    let found = names.folder(parent).and_then(|folder| folder.get(name)).map(Named::folder);
    let ino = match found {
        Some(Some(ino)) => ino,
        Some(None) => return Err(Error::NotFolder),
        None => {
            names.check_new(parent, name)?;
            let meta = Meta::new(told.mode, told.uid, told.gid, cx.now.time());
            let charge = cx.tree.accounts.of(told.uid).charge_regardless(Resource::Files, 1);
            names.make_folder(parent, name, meta, charge, cx.now.time()).ino()
        }
    };
    if let Some(folder) = names.folder_mut(ino).filter(|_| apply_it || found.is_none()) {
        apply(&mut folder.meta, told);
        let mut defaults = (*folder.defaults).clone();
        (defaults.limits, defaults.carrier) = (told.limits, Carrier::Nats);
        let Described { full, ttl, lease_time, max_deliver, .. } = *told;
        defaults.rules = Rules { full, ttl, max_deliver, lease_time, ..defaults.rules };
        folder.defaults = Arc::new(defaults);
    }
    Ok(ino)
}

/// Some host has removed a name.
pub(super) fn gone(path: &[u8], cx: &mut Cx<'_>) {
    let root = Caller::default();
    let mut names = cx.tree.names.lock();
    let Ok(inode) = names.find_mailbox(path, root) else { return };
    let Some((folder, name)) = names.link_of(inode.ino()).map(|link| (link.folder, Arc::clone(&link.name)))
    else {
        return;
    };
    // A folder in which this mount has something of its own stays.
    if !matches!(inode, Inode::Remote(_) | Inode::Folder(_))
        || names.unlink(folder, &name, inode.folder().is_some(), cx.now.time()).is_err()
    {
        return;
    }
    drop(names);
    if let Inode::Remote(node) = inode {
        node.file.end(cx);
    }
}
