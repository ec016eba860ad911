//! What the journal is told of mailboxes and folders, and how they are made again from it when a mount begins.
//!
//! In a mount with a store all folders of mailboxes are kept, with what mailboxes made in them begin with, and each mailbox
//! whose `config/durable` is not `off`.

use std::sync::Arc;

use log::warn;

use super::mailbox::{MailboxFile, MailboxState};
use super::{Cx, Inode, Names};
use crate::accounts::Resource;
use crate::control::{CarrierSetting, MAILBOX, MailboxSettings, MailboxView};
use crate::journal::record::{Object, Record};
use crate::journal::{Durable, Journal, Recovered, highest};
use crate::mailbox::{Context, DeadLetter};
use crate::op::Ino;
use crate::tree::names::meta::Meta;
use crate::tree::names::{Defaults, Folder, MAILBOXES, Namespace};

/// The files of `config/`, as the journal has them.
fn settings_text(settings: MailboxSettings) -> String {
    let view = MailboxView::of_settings(settings);
    let files = MAILBOX.iter().filter(|file| file.config && !file.names_mailbox());
    let lines: Vec<String> = files.map(|file| format!("{} {}", file.name, (file.show)(&view))).collect();
    lines.concat()
}

fn set_settings(text: &str, settings: &mut MailboxSettings) {
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let file = MAILBOX.iter().find(|file| file.name == name && file.config);
        let Some(store) = file.and_then(|file| file.store) else { continue };
        if let Err(refusal) = store(value, settings) {
            warn!("a setting of a durable mailbox is not possible in this mount: {}", refusal.why);
        }
    }
}

fn object(meta: &Meta, ino: Ino, (parent, name): (Ino, &Arc<[u8]>), settings: String) -> Object {
    Object {
        ino,
        parent,
        name: Arc::clone(name),
        folder: false,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        atime: meta.atime,
        mtime: meta.mtime,
        ctime: meta.ctime,
        settings,
        dead_letter: None,
        xattrs: meta.xattrs(),
    }
}

fn meta_of(object: &Object, cx: &Cx<'_>) -> Meta {
    let mut meta = Meta::new(object.mode, object.uid, object.gid, object.ctime);
    (meta.atime, meta.mtime) = (object.atime, object.mtime);
    let account = cx.tree.accounts.of(object.uid);
    for (name, value) in &object.xattrs {
        meta.restore_xattr(name, value, &account);
    }
    meta
}

impl MailboxState {
    /// Something of it has changed that is kept. To be called after the change.
    pub(super) fn record(&self, ino: Ino, ceiling: u32, cx: &mut Context<'_>) {
        let Some((folder, name)) = &self.home else { return };
        self.queue.record_object(cx, |_| {
            let dead_letter = self.queue.rules().dead_letter.map(|rule| (rule.mailbox, rule.setter));
            let settings = settings_text(self.settings(ceiling, true));
            let mut object = object(&self.meta, ino, (*folder, name), settings);
            (object.atime, object.mtime) = (self.queue.last_received, self.queue.last_sent);
            Object { dead_letter, ..object }
        });
    }
}

/// A folder of mailboxes was made, or has changed.
pub(super) fn record_folder(names: &Names, ino: Ino, cx: &mut Cx<'_>) {
    let Some(journal) = &cx.tree.setup.journal else { return };
    let Some(folder) = names.folder(ino).filter(|folder| folder.namespace == Namespace::Mailboxes) else {
        return;
    };
    let root: Arc<[u8]> = Arc::from(&b""[..]);
    let home = names.link_of(ino).map_or((folder.parent, &root), |link| (link.folder, &link.name));
    let settings = settings_text(folder_settings(folder, (cx.tree.setup.ceiling, cx.tree.setup.engine)));
    let record = Object { folder: true, ..object(&folder.meta, ino, home, settings) };
    let number = journal.put(Record::Object(Arc::new(record)));
    cx.fx.note_recorded(number, folder.defaults.rules.durable == Durable::Fsync);
}

/// A folder of mailboxes is gone.
pub(super) fn record_folder_removed(ino: Ino, cx: &mut Cx<'_>) {
    if let Some(journal) = &cx.tree.setup.journal {
        let number = journal.put(Record::Removed(ino));
        cx.fx.note_recorded(number, false);
    }
}

fn folder_settings(folder: &Folder<Inode>, (ceiling, has_engine): (u32, bool)) -> MailboxSettings {
    let Defaults { limits, rules, carrier } = *folder.defaults;
    let carrier = CarrierSetting { chosen: carrier, has_engine, may_change: true };
    MailboxSettings { limits, rules, ceiling, has_store: true, named: Ok(None), carrier }
}

/// Makes everything again that a store has. To be called before the first request.
pub(crate) fn restore(recovered: Vec<Recovered>, journal: &Arc<Journal>, cx: &mut Cx<'_>) {
    let (last_ino, last_id) = highest(&recovered);
    cx.tree.memory.skip_ids(last_id);
    let (folders, mailboxes): (Vec<_>, Vec<_>) = recovered.into_iter().partition(|one| one.object.folder);
    let mut names = cx.tree.names.lock();
    names.skip_numbers(last_ino.0);
    restore_folders(folders, &mut names, cx);
    if names.folder(MAILBOXES).is_some() {
        record_folder(&names, MAILBOXES, cx);
    }
    let mut made = Vec::new();
    for one in mailboxes {
        let object = Arc::clone(&one.object);
        let (parent, name) = free_place(&names, &object);
        let Some(defaults) = names.folder(parent).map(|folder| Arc::clone(&folder.defaults)) else {
            continue;
        };
        let home = (parent, &*name);
        let meta = meta_of(&object, cx);
        let file = MailboxFile::new(object.ino, meta, &defaults, home, cx);
        let charge = cx.tree.accounts.of(object.uid).charge_regardless(Resource::Files, 1);
        names.link(parent, &name, &Inode::Mailbox(Arc::clone(&file)), charge, object.ctime);
        made.push((file, one));
    }
    drop(names);
    for (file, one) in made {
        restore_mailbox(&file, one, cx);
    }
    // Nobody has asked for anything yet.
    let mut due = Vec::new();
    journal.write(&mut due);
    cx.fx.drain().for_each(drop);
}

/// Folders in whatever order their records are: one may have been moved into a younger one.
fn restore_folders(mut folders: Vec<Recovered>, names: &mut Names, cx: &mut Cx<'_>) {
    let mut progress = true;
    while progress && !folders.is_empty() {
        progress = false;
        for one in std::mem::take(&mut folders) {
            let object = &one.object;
            let is_top = object.ino == MAILBOXES;
            if !is_top && names.folder(object.parent).is_none() {
                folders.push(one);
                continue;
            }
            progress = true;
            if !is_top {
                let (parent, name) = free_place(names, object);
                let charge = cx.tree.accounts.of(object.uid).charge_regardless(Resource::Files, 1);
                names.restore_folder(object.ino, parent, &name, meta_of(object, cx), charge);
            }
            let Some(folder) = names.folder_mut(object.ino) else { continue };
            let mut settings = folder_settings(folder, (cx.tree.setup.ceiling, cx.tree.setup.engine));
            set_settings(&object.settings, &mut settings);
            folder.defaults = Arc::new(Defaults {
                limits: settings.limits,
                rules: settings.rules,
                carrier: settings.carrier.chosen,
            });
        }
    }
    for one in folders {
        // Damage has taken the record of the folder that it was in.
        let moved = Object { parent: MAILBOXES, ..(*one.object).clone() };
        restore_folders(vec![Recovered { object: Arc::new(moved), ..one }], names, cx);
    }
}

/// Where an object goes: to its own place, unless damage has taken that.
fn free_place(names: &Names, object: &Object) -> (Ino, Arc<[u8]>) {
    let parent = if names.folder(object.parent).is_some() { object.parent } else { MAILBOXES };
    if names.check_new(parent, &object.name).is_ok() {
        return (parent, Arc::clone(&object.name));
    }
    let name = format!("recovered-{}", object.ino.0);
    warn!("the name of mailbox {} cannot be had again: it is mailboxes/{name} now", object.ino.0);
    (MAILBOXES, Arc::from(name.into_bytes()))
}

fn restore_mailbox(file: &Arc<MailboxFile>, one: Recovered, cx: &mut Cx<'_>) {
    let ceiling = cx.tree.setup.ceiling;
    let accounts = Arc::clone(&cx.tree.accounts);
    file.with(cx, |state, cx| {
        let mut settings = state.settings(ceiling, true);
        set_settings(&one.object.settings, &mut settings);
        let dead_letter = one.object.dead_letter;
        settings.rules.dead_letter = dead_letter.map(|(mailbox, setter)| DeadLetter { mailbox, setter });
        state.queue.set_limits(settings.limits, cx);
        state.queue.set_rules(settings.rules, cx);
        (state.queue.last_received, state.queue.last_sent) = (one.object.atime, one.object.mtime);
        state.queue.restore(one.counters, one.messages, one.keys, &accounts, cx);
    });
}
