//! `control/`: the tree seen from the operator's side.
//!
//! Its folders and files are not kept anywhere: a node's number says which object's it is and which of that object's
//! files, and all else follows from the object. So they come and go with it by themselves and cost nothing.
//!
//! ```text
//! control/                       folder view of the root, with `status`
//! control/mailboxes/…            folder view of each folder
//! control/mailboxes/…/<name>/    object view: `config/` and the files of crate::control::MAILBOX
//! ```

use std::sync::Arc;

use parking_lot::Mutex;

use super::Tree;
use super::bells::bell_at;
use super::doors::{list_messages, messages_mode};
use super::folders::dots;
use super::handles::{Handle, Read, Target, no_text};
use super::meta::{FOLDER, Meta, REGULAR};
use super::names::ROOT;
use super::objects::{Child, MailboxState, SegmentState, TopicState};
use super::place::{Place, Slot};
use crate::control::{
    self, DOORBELL, DOORS, DoorKind, File, MAILBOX, MailboxSettings, MailboxView, MountView, Refusal,
    SEGMENT, SegmentSettings, SegmentView, TOPIC, TopicSettings, TopicView,
};
use crate::mailbox::Mailbox;
use crate::op::{
    Attr, Caller, Effects, Entry, Error, Ino, Listed, NodeId, OpenAs, OpenFlags, Opened, Reply, SetAttr,
    Slice, Timestamp, Validity,
};
use crate::segment::Usage;

/// What a control file reports as its size: no less than one reading of it gives, for programs that trust it.
const STATUS_SIZE: u64 = 4096;
/// Bytes of the line that `status` has for each caller who waits, or more.
const WAITING_LINE: u64 = 80;

/// What a place's object is, found anew each time.
enum Found {
    /// A view of a folder, with the folder's attributes.
    Folder(Meta),
    Object(Child, Meta),
}

/// What a folder of `control/` lists or a name in it leads to.
struct Item {
    name: Arc<[u8]>,
    place: Place,
    folder: bool,
    cookie: u64,
}

impl Tree {
    pub(super) fn look_up_control(&self, place: Place, name: &[u8]) -> Result<Entry, Error> {
        if let Some(file) = self.mailbox_numbered(place.object)
            && let Some(entry) = self.look_up_door(place, &file, name)?
        {
            return Ok(entry);
        }
        let item = self.control_item(place, name)?.ok_or(Error::NotFound)?;
        self.control_entry(item)
    }

    pub(super) fn control_entry(&self, place: Place) -> Result<Entry, Error> {
        let ino = place.ino();
        let mut size = STATUS_SIZE;
        let (owner, folder, mode) = match (self.find_control(place.object)?, place.slot) {
            (Found::Folder(meta), Slot::Top) => (meta.clone(), true, meta.mode & 0o555),
            (Found::Folder(meta), Slot::File(0)) if place.object == ROOT => (meta, false, 0o444),
            (Found::Object(_, meta), Slot::Top | Slot::Config) => (meta, true, 0o555),
            (Found::Object(Child::Mailbox(_), meta), Slot::Messages) => {
                let mode = messages_mode(meta.mode);
                (meta, true, mode)
            }
            (Found::Object(Child::Mailbox(_), meta), Slot::Door(index)) if is_folder_of_doors(index) => {
                (meta, true, 0o555)
            }
            (Found::Object(Child::Segment(_), meta), slot @ Slot::Door(_)) => {
                let mode = bell_at(slot).ok_or(Error::NotFound)?.mode(meta.mode);
                (meta, false, mode)
            }
            (Found::Folder(_), _) | (Found::Object(..), Slot::Messages | Slot::Door(_)) => {
                return Err(Error::NotFound);
            }
            (Found::Object(child, meta), Slot::File(index)) => {
                let writable = child.writable(index).ok_or(Error::NotFound)?;
                size += WAITING_LINE * child.status_lines();
                (meta, false, if writable { 0o644 } else { 0o444 })
            }
        };
        let attr = Attr {
            ino,
            size: if folder { 0 } else { size },
            blocks: 0,
            atime: owner.atime,
            mtime: owner.mtime,
            ctime: owner.ctime,
            mode: mode | if folder { FOLDER } else { REGULAR },
            nlink: if folder { 2 } else { 1 },
            uid: owner.uid,
            gid: owner.gid,
            blksize: 4096,
        };
        Ok(Entry { node: NodeId(ino.0), attr, validity: Validity::None })
    }

    pub(super) fn set_control_attr(&self, place: Place, set: &SetAttr) -> Result<Reply, Error> {
        // `echo >` truncates first, which means nothing here; anything else belongs to the object itself.
        if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
            return Err(Error::NotPermitted);
        }
        self.control_entry(place).map(|entry| Reply::Attr(entry.attr, Validity::None))
    }

    pub(super) fn open_control_folder(&self, place: Place) -> Result<Reply, Error> {
        match place.slot {
            Slot::File(_) => Err(Error::NotFolder),
            Slot::Top | Slot::Config | Slot::Messages | Slot::Door(_) => {
                self.find_control(place.object).map(|_| Reply::Directory)
            }
        }
    }

    pub(super) fn list_control(&self, place: Place, offset: u64, most: usize) -> Result<Vec<Listed>, Error> {
        let mut list = dots(place.ino(), Place::ROOT.ino(), offset);
        if place.slot == Slot::Messages {
            let file = self.mailbox_numbered(place.object).ok_or(Error::NotFound)?;
            list.extend(list_messages(&file, offset.max(2), most));
            return Ok(list);
        }
        let items = self.control_items(place, offset.max(2), most)?;
        list.extend(items.into_iter().map(|item| Listed {
            ino: item.place.ino(),
            cookie: item.cookie,
            folder: item.folder,
            name: item.name,
        }));
        Ok(list)
    }

    pub(super) fn open_control(
        &self,
        place: Place,
        flags: OpenFlags,
        caller: Caller,
        now: Timestamp,
    ) -> Result<Opened, Error> {
        // A mailbox's doors have nodes of their own, so this is a segment's.
        if let Some(bell) = bell_at(place.slot)
            && self.mailbox_numbered(place.object).is_none()
        {
            return self.open_bell(place, bell, flags, caller, now);
        }
        let entry = self.control_entry(place)?;
        if entry.attr.mode & FOLDER != 0 {
            return Err(Error::IsFolder);
        }
        if flags.write && entry.attr.mode & 0o200 == 0 {
            return Err(Error::AccessDenied);
        }
        let target = Target::Control { place, text: no_text() };
        Ok(Opened { fh: self.handles.insert(Handle { node: entry.node, target }), how: OpenAs::Text })
    }

    /// Reading from the beginning shows the state of now; what follows belongs to the same state.
    pub(super) fn read_control(
        &self,
        place: Place,
        text: &Mutex<Arc<[u8]>>,
        call: Read,
        now: Timestamp,
    ) -> Result<Reply, Error> {
        if !call.direct {
            return Err(Error::Invalid);
        }
        if call.offset == 0 {
            let fresh = self.show_control(place, now)?;
            *text.lock() = Arc::from(fresh.into_bytes());
        }
        let bytes = Arc::clone(&text.lock());
        let from = usize::try_from(call.offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = from.saturating_add(call.size as usize).min(bytes.len());
        Ok(Reply::Message(Slice { bytes, from, to }))
    }

    pub(super) fn write_control(
        &self,
        place: Place,
        data: &[u8],
        caller: Caller,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Reply, Error> {
        let Slot::File(index) = place.slot else { return Err(Error::IsFolder) };
        let text = String::from_utf8_lossy(data);
        match self.find_control(place.object)? {
            Found::Object(Child::Mailbox(file), _) => {
                let entry = MAILBOX.get(index).ok_or(Error::NotFound)?;
                let store = entry.store.ok_or(Error::AccessDenied)?;
                let ceiling = self.setup.ceiling;
                // Found before the mailbox is locked: names come first.
                let named =
                    if entry.names_mailbox() { self.find_named(&text, file.ino, caller) } else { Ok(None) };
                self.with_mailbox(&file, now, fx, |state, cx| {
                    let mut settings = MailboxSettings { named, ..mailbox_settings(&state.queue, ceiling) };
                    let old = (settings.limits, settings.rules);
                    let result = store(&text, &mut settings);
                    if settings.limits != old.0 {
                        state.queue.set_limits(settings.limits, cx);
                    }
                    if settings.rules != old.1 {
                        state.queue.set_rules(settings.rules, cx);
                    }
                    noted(result, &mut state.refusal)
                })?;
            }
            Found::Object(Child::Segment(file), _) => {
                let store = SEGMENT.get(index).and_then(|file| file.store).ok_or(Error::AccessDenied)?;
                let mut state = file.state.lock();
                let mut settings = segment_settings(&state);
                let result = store(&text, &mut settings);
                state.segment.set_seals(settings.seals)?;
                state.segment.set_size_max(settings.size_max);
                state.segment.set_lifetime(settings.lifetime);
                noted(result, &mut state.refusal)?;
            }
            Found::Object(Child::Topic(file), _) => {
                let store = TOPIC.get(index).and_then(|file| file.store).ok_or(Error::AccessDenied)?;
                let mut state = file.state.lock();
                let mut settings =
                    TopicSettings { limits: state.topic.limits(), ceiling: self.setup.ceiling };
                let result = store(&text, &mut settings);
                state.topic.set_limits(settings.limits);
                noted(result, &mut state.refusal)?;
            }
            Found::Object(Child::Folder(_), _) | Found::Folder(_) => return Err(Error::AccessDenied),
        }
        Ok(Reply::Written(data.len() as u32))
    }

    /// The mailbox that a written value names, for a caller who may send to it. Empty: none.
    fn find_named(&self, text: &str, own: Ino, caller: Caller) -> Result<Option<Ino>, Refusal> {
        let path = text.trim();
        if path.is_empty() {
            return Ok(None);
        }
        let refuse = |error, what: &str| Refusal { error, why: format!("dead_letter: {what}") };
        let shown: String = path.chars().take(80).flat_map(char::escape_default).collect();
        let file = match self.names.lock().find_mailbox(path.as_bytes(), caller) {
            Ok(Child::Mailbox(file)) => file,
            Err(Error::AccessDenied) => {
                return Err(refuse(Error::AccessDenied, &format!("the way to '{shown}' is closed to you")));
            }
            _ => return Err(refuse(Error::Invalid, &format!("there is no mailbox '{shown}'"))),
        };
        if file.ino == own {
            return Err(refuse(Error::Invalid, "a mailbox cannot be its own"));
        }
        if !file.state.lock().meta.permits(caller, 2) {
            return Err(refuse(Error::AccessDenied, &format!("you may not send to '{shown}'")));
        }
        Ok(Some(file.ino))
    }

    fn show_control(&self, place: Place, now: Timestamp) -> Result<String, Error> {
        let Slot::File(index) = place.slot else { return Err(Error::IsFolder) };
        match self.find_control(place.object)? {
            Found::Folder(_) => Ok(control::mount_status(&self.mount_view(now))),
            Found::Object(Child::Mailbox(file), _) => {
                let dead = file.state.lock().queue.rules().dead_letter;
                let dead = dead.map(|ino| self.names.lock().path_of(ino)).unwrap_or_default();
                let state = file.state.lock();
                let file = MAILBOX.get(index).ok_or(Error::NotFound)?;
                Ok((file.show)(&mailbox_view(&state, self.setup.ceiling, dead)))
            }
            Found::Object(Child::Segment(file), _) => {
                let state = file.state.lock();
                let file = SEGMENT.get(index).ok_or(Error::NotFound)?;
                Ok((file.show)(&self.segment_view(&state)))
            }
            Found::Object(Child::Topic(file), _) => {
                let state = file.state.lock();
                let file = TOPIC.get(index).ok_or(Error::NotFound)?;
                Ok((file.show)(&topic_view(&state, self.setup.ceiling)))
            }
            Found::Object(Child::Folder(_), _) => Err(Error::IsFolder),
        }
    }

    fn find_control(&self, object: Ino) -> Result<Found, Error> {
        let names = self.names.lock();
        if let Some(folder) = names.folder(object) {
            return Ok(Found::Folder(folder.meta.clone()));
        }
        let child = names.located(object).ok_or(Error::NotFound)?.child.clone();
        drop(names);
        let meta = match &child {
            Child::Mailbox(file) => file.state.lock().meta.clone(),
            Child::Segment(file) => file.state.lock().meta.clone(),
            Child::Topic(file) => file.state.lock().meta.clone(),
            Child::Folder(_) => return Err(Error::NotFound),
        };
        Ok(Found::Object(child, meta))
    }

    fn control_item(&self, place: Place, name: &[u8]) -> Result<Option<Place>, Error> {
        match (self.find_control(place.object)?, place.slot) {
            (_, Slot::File(_)) => Err(Error::NotFolder),
            (Found::Folder(_), Slot::Config | Slot::Messages | Slot::Door(_)) => Err(Error::NotFound),
            (Found::Folder(_), Slot::Top) if place.object == ROOT && name == b"status" => {
                Ok(Some(place.with(Slot::File(0))))
            }
            (Found::Folder(_), Slot::Top) => {
                let names = self.names.lock();
                let folder = names.folder(place.object).ok_or(Error::Stale)?;
                Ok(folder.get(name).map(|child| Place::top(child.ino())))
            }
            (Found::Object(child, _), slot) => {
                let items = child.items(place, slot);
                Ok(items.into_iter().find(|item| *item.name == *name).map(|item| item.place))
            }
        }
    }

    fn control_items(&self, place: Place, after: u64, most: usize) -> Result<Vec<Item>, Error> {
        match (self.find_control(place.object)?, place.slot) {
            (_, Slot::File(_)) => Err(Error::NotFolder),
            (Found::Folder(_), Slot::Config | Slot::Messages | Slot::Door(_)) => Err(Error::NotFound),
            (Found::Folder(_), Slot::Top) => {
                let names = self.names.lock();
                let folder = names.folder(place.object).ok_or(Error::Stale)?;
                let entries = folder.list(after).take(most);
                let mut items: Vec<Item> = entries
                    .map(|(cookie, name, child)| Item {
                        name: Arc::clone(name),
                        place: Place::top(child.ino()),
                        folder: true,
                        cookie,
                    })
                    .collect();
                let last = u64::MAX >> 1;
                if place.object == ROOT && after < last {
                    items.push(Item {
                        name: Arc::from(*b"status"),
                        place: place.with(Slot::File(0)),
                        folder: false,
                        cookie: last,
                    });
                }
                Ok(items)
            }
            (Found::Object(child, _), slot) => {
                Ok(child.items(place, slot).into_iter().filter(|item| item.cookie > after).collect())
            }
        }
    }

    fn mount_view(&self, now: Timestamp) -> MountView {
        let (named, topics, nodes) = {
            let names = self.names.lock();
            (names.named(), names.topics(), names.nodes.len() as u64)
        };
        let (mut topic_readers, mut topic_backlog) = (0, 0);
        for file in &topics {
            let own = file.state.lock().topic.counts();
            topic_readers += own.readers;
            topic_backlog += own.backlog;
        }
        let (locks, waiting_locks) = {
            let locks = self.locks.lock();
            (locks.held() as u64, locks.waiting() as u64)
        };
        MountView {
            pid: self.setup.pid,
            transport: self.setup.transport,
            segment_path: self.segment_path(),
            uptime_ns: now.0.saturating_sub(self.started.0),
            threads: self.setup.threads,
            folders: named.folders,
            mailboxes: named.mailboxes,
            segments: named.segments,
            topics: named.topics,
            topic_readers,
            topic_backlog,
            counts: self.totals.read(),
            discarded: self.discarded.load(std::sync::atomic::Ordering::Relaxed),
            memory_used: self.memory.used(),
            memory_max: self.memory.limit(),
            segment_used: self.segment_budget.used(),
            segment_max: self.segment_budget.limit(),
            locks,
            waiting_locks,
            nodes,
        }
    }

    fn segment_view(&self, state: &SegmentState) -> SegmentView {
        SegmentView {
            settings: segment_settings(state),
            size: state.segment.size(),
            promised: state.segment.promised(),
            resident: state.segment.blocks() * 512,
            in_use: in_use(state),
            openers: state
                .openers
                .iter()
                .map(|(_, opener)| (opener.caller, opener.read, opener.write))
                .collect(),
            path: self.segment_path(),
            refusal: state.refusal.as_deref().map(String::from).unwrap_or_default(),
        }
    }

    fn segment_path(&self) -> &'static str {
        if self.setup.backing.is_some() { "passthrough" } else { "cached" }
    }
}

impl Child {
    /// The files that the object's table puts into a folder of its view.
    fn items(&self, place: Place, slot: Slot) -> Vec<Item> {
        if let Slot::Messages | Slot::Door(_) = slot {
            return Vec::new();
        }
        let config = slot == Slot::Config;
        let file = |index: usize, name: &str| Item {
            name: Arc::from(name.as_bytes()),
            place: place.with(Slot::File(index)),
            folder: false,
            cookie: index as u64 + FILES_COOKIE,
        };
        let mut items = match self {
            Child::Mailbox(_) => in_folder(&MAILBOX, config, file),
            Child::Segment(_) => in_folder(&SEGMENT, config, file),
            Child::Topic(_) => in_folder(&TOPIC, config, file),
            Child::Folder(_) => Vec::new(),
        };
        if !config {
            let folder = |name: &str, slot, cookie| {
                let name = Arc::from(name.as_bytes());
                Item { name, place: place.with(slot), folder: true, cookie }
            };
            let mut first = vec![folder("config", Slot::Config, 3)];
            if let Child::Mailbox(_) = self {
                first.push(folder("messages", Slot::Messages, 4));
                first.extend((0..).zip(&DOORS).map(|(index, door)| Item {
                    folder: is_folder_of_doors(index),
                    ..folder(door.name, Slot::Door(index), index as u64 + 5)
                }));
            }
            if let Child::Segment(_) = self {
                first.extend((0..).zip(&DOORBELL).map(|(index, (name, _))| Item {
                    folder: false,
                    ..folder(name, Slot::Door(index), index as u64 + 5)
                }));
            }
            first.append(&mut items);
            return first;
        }
        items
    }

    /// Lines that `status` has for callers and open files, at most.
    fn status_lines(&self) -> u64 {
        match self {
            Child::Mailbox(file) => {
                let counts = file.state.lock().queue.counts();
                counts.waiting_readers + counts.waiting_writers
            }
            Child::Topic(file) => {
                let state = file.state.lock();
                state.topic.counts().readers + state.topic.waiters().len() as u64
            }
            Child::Segment(file) => file.state.lock().openers.len() as u64,
            Child::Folder(_) => 0,
        }
    }

    /// Whether the file at `index` in the object's table can be written; `None` if there is none.
    fn writable(&self, index: usize) -> Option<bool> {
        match self {
            Child::Mailbox(_) => MAILBOX.get(index).map(|file| file.store.is_some()),
            Child::Segment(_) => SEGMENT.get(index).map(|file| file.store.is_some()),
            Child::Topic(_) => TOPIC.get(index).map(|file| file.store.is_some()),
            Child::Folder(_) => None,
        }
    }
}

/// Where the files of the table are in a listing: behind the folders and doors.
const FILES_COOKIE: u64 = 32;

fn is_folder_of_doors(index: usize) -> bool {
    DOORS.get(index).is_some_and(|door| !matches!(door.kind, DoorKind::One(_)))
}

fn in_folder<V, S>(table: &[File<V, S>], config: bool, item: impl Fn(usize, &str) -> Item) -> Vec<Item> {
    let files = table.iter().enumerate().filter(|(_, file)| file.config == config);
    files.map(|(index, file)| item(index, file.name)).collect()
}

/// Keeps the sentence of a refused value for `error`, or clears it.
fn noted(result: Result<(), Refusal>, refusal: &mut Option<Box<str>>) -> Result<(), Error> {
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

fn mailbox_settings(queue: &Mailbox, ceiling: u32) -> MailboxSettings {
    MailboxSettings { limits: queue.limits(), rules: queue.rules(), ceiling, named: Ok(None) }
}

fn mailbox_view(state: &MailboxState, ceiling: u32, dead: String) -> MailboxView {
    MailboxView {
        settings: mailbox_settings(&state.queue, ceiling),
        counts: state.queue.counts(),
        waiters: state.queue.waiters(),
        dead_letter: dead,
        refusal: state.refusal.as_deref().map(String::from).unwrap_or_default(),
    }
}

/// Whether somebody has a segment open or mapped. Its memory is asked only where nobody has it open.
fn in_use(state: &SegmentState) -> &'static str {
    if !state.openers.is_empty() {
        return "yes";
    }
    match state.segment.memory().usage() {
        Usage::Used | Usage::Written => "yes",
        Usage::Unused => "no",
        Usage::Unknown => "unknown",
    }
}

fn topic_view(state: &TopicState, ceiling: u32) -> TopicView {
    TopicView {
        settings: TopicSettings { limits: state.topic.limits(), ceiling },
        counts: state.topic.counts(),
        readers: state.topic.readers(),
        waiters: state.topic.waiters(),
        refusal: state.refusal.as_deref().map(String::from).unwrap_or_default(),
    }
}

fn segment_settings(state: &SegmentState) -> SegmentSettings {
    SegmentSettings {
        size_max: state.segment.size_max(),
        lifetime: state.segment.lifetime(),
        seals: state.segment.seals(),
        written: state.openers.iter().any(|(_, opener)| opener.write)
            || state.segment.memory().usage() == Usage::Written,
    }
}
