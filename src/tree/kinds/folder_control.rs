//! What `control/` shows of a folder: the same names; of the root, `status` and `metrics`; of a folder of mailboxes, `config/`, which
//! holds what mailboxes and folders made in it begin with.

use std::sync::Arc;

use super::control::{Other, Slot, TextFile, mount_files, refusal_noted};
use super::{ControlOps, Cx, FolderInode, Names, user};
use crate::control::{CarrierSetting, FOLDER_SETTINGS, File, MAILBOX, MailboxSettings, MailboxView};
use crate::engine::Carrier;
use crate::op::{Attr, Caller, Error};
use crate::tree::names::{Defaults, Namespace};

type Setting = File<MailboxView, MailboxSettings>;

fn settings() -> impl Iterator<Item = &'static Setting> {
    MAILBOX.iter().filter(|file| FOLDER_SETTINGS.contains(&file.name))
}

fn setting(index: usize) -> Result<&'static Setting, Error> {
    settings().nth(index).ok_or(Error::NotFound)
}

fn settings_of(defaults: &Defaults, cx: &Cx<'_>) -> MailboxSettings {
    let setup = &cx.tree.setup;
    let (ceiling, has_store) = (setup.ceiling, setup.journal.is_some());
    let carrier = CarrierSetting { chosen: defaults.carrier, has_engine: setup.engine, may_change: true };
    let Defaults { limits, rules, .. } = *defaults;
    MailboxSettings { limits, rules, ceiling, has_store, named: Ok(None), carrier }
}

impl ControlOps for FolderInode {
    fn owner(&self, names: &Names) -> Result<Attr, Error> {
        names.folder(self.ino).map(|folder| folder.attr(self.ino)).ok_or(Error::NotFound)
    }

    fn folder_mode(&self, slot: Slot, file: u32) -> Option<u32> {
        match slot {
            Slot::Top => Some(file & 0o555),
            Slot::Config if self.namespace == Namespace::Mailboxes => Some(0o555),
            _ => None,
        }
    }

    fn files(&self) -> Vec<TextFile> {
        match self.namespace {
            Namespace::Root => mount_files(),
            // Beside `config/` stand names that users chose, so that `error` is in it.
            Namespace::Mailboxes => {
                settings().map(|file| TextFile { config: true, ..TextFile::of(file) }).collect()
            }
            Namespace::Segments | Namespace::Topics => Vec::new(),
        }
    }

    fn others(&self) -> Vec<Other> {
        match self.namespace {
            Namespace::Root => vec![Other { name: user::NAME, slot: user::SLOT, folder: true }],
            _ => Vec::new(),
        }
    }

    fn show(&self, index: usize, reader: Caller, cx: &mut Cx<'_>) -> Result<Vec<u8>, Error> {
        if self.namespace == Namespace::Root {
            let text = match index {
                0 => cx.tree.status(cx.now),
                _ => cx.tree.metrics(reader, cx.now),
            };
            return Ok(text.into_bytes());
        }
        let (defaults, refusal) = {
            let names = cx.tree.names.lock();
            let folder = names.folder(self.ino).ok_or(Error::NotFound)?;
            (Arc::clone(&folder.defaults), folder.refusal.as_deref().map(String::from).unwrap_or_default())
        };
        let view = MailboxView::of_settings(settings_of(&defaults, cx));
        Ok((setting(index)?.show)(&MailboxView { refusal, ..view }).into_bytes())
    }

    fn store(&self, index: usize, text: &[u8], writer: Caller, cx: &mut Cx<'_>) -> Result<(), Error> {
        let store = setting(index)?.store.ok_or(Error::AccessDenied)?;
        let mut names = cx.tree.names.lock();
        let folder = names.folder_mut(self.ino).ok_or(Error::NotFound)?;
        let mut settings = settings_of(&folder.defaults, cx);
        // What other hosts have seen of a shared folder cannot be taken back.
        settings.carrier.may_change = folder.is_empty() && folder.defaults.carrier == Carrier::Local;
        let result = store(&String::from_utf8_lossy(text), &mut settings);
        if settings.carrier.chosen == Carrier::Nats {
            cx.tree.remotes.check_reachable(writer.uid)?;
        }
        if result.is_ok() {
            folder.defaults = Arc::new(Defaults {
                limits: settings.limits,
                rules: settings.rules,
                carrier: settings.carrier.chosen,
            });
        }
        let result = refusal_noted(result, &mut folder.refusal);
        self.record(&names, cx);
        result
    }
}
