//! A mailbox: the file that is written to send and read to receive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Mutex, MutexGuard};

use super::{
    ControlOps, Cx, FileOps, Header, Inode, InodeOps, Job, Names, OpenFile, Read, Wait, Write, mode_of,
};
use crate::control::{CarrierSetting, MailboxSettings};
use crate::journal::record::Why;
use crate::mailbox::{
    Context, Counts, Door, HandleId, LongText, Mailbox, Message, Receive, Removal, Send, WaitId,
};
use crate::op::{
    Attr, Caller, Effects, Entry, Error, Ino, Moment, NodeId, OpenAs, OpenFlags, Opened, Poller, Ready,
    Reply, SetAttr, Validity,
};
use crate::state::saved;
use crate::tree::Tree;
use crate::tree::names::Defaults;
use crate::tree::names::meta::{Meta, REGULAR};
use crate::tree::names::nodes::Opening;

/// Mailboxes in which something is due that one call of the clock sees to. Callers get their answers when it ends.
const TICKED_AT_ONCE: usize = 16;

/// How many threads are remembered that have opened a mailbox for reading only, and for how many nanoseconds: a minute. A program
/// that moves or edits a file removes it right after it has read it. Whoever did something else in between means it.
const RECEIVERS: usize = 16;
const RECENTLY: u64 = 60_000_000_000;

/// A mailbox and what stat shows of it.
#[derive(Debug)]
pub(crate) struct MailboxFile {
    pub(crate) ino: Ino,
    pub(crate) state: Mutex<MailboxState>,
}

saved!(struct MailboxFile { ino, state });

/// Guarded by [`MailboxFile::state`], which is held for decisions only, never while anyone waits or bytes are copied
/// to the kernel.
#[derive(Debug)]
pub(crate) struct MailboxState {
    pub(crate) meta: Meta,
    pub(crate) queue: Mailbox,
    /// Its place on the list of mailboxes that were used, see [`crate::tree::waiting::totals`].
    pub(crate) listed: Option<usize>,
    /// On the list of mailboxes that wait for memory.
    starved: bool,
    /// The one of its nodes whose attributes the kernel may have cached.
    attr_cached_on: Option<NodeId>,
    /// When the tree's clock will call next.
    alarm: Option<Moment>,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
    /// Who has opened it for reading only. `None` if nobody has.
    receivers: Option<Box<Receivers>>,
    /// In a mount with a store: the folder that it is in, and its name there.
    pub(super) home: Option<(Ino, Arc<[u8]>)>,
}

saved!(struct MailboxState {
    meta, queue, listed, starved, attr_cached_on, alarm, refusal, receivers since 3, home,
});

/// Threads that have opened a mailbox for reading only, and when, the last one last.
#[derive(Debug, Default)]
pub(super) struct Receivers(VecDeque<(u32, Moment)>);

saved!(struct Receivers(threads));

impl Receivers {
    /// Of other pid namespaces, no thread is known.
    pub(super) fn note(&mut self, pid: u32, now: Moment) {
        if pid == 0 {
            return;
        }
        self.0.retain(|(other, _)| *other != pid);
        if self.0.len() == RECEIVERS {
            self.0.pop_front();
        }
        self.0.push_back((pid, now));
    }

    pub(super) fn have(&self, pid: u32, now: Moment) -> bool {
        self.0.iter().any(|(other, at)| *other == pid && now < at.after(RECENTLY))
    }
}

/// An open mailbox, through whichever door.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct OpenMailbox {
    file: Arc<MailboxFile>,
    node: NodeId,
    id: HandleId,
    write: bool,
    /// It has a position, within the message that it reads.
    pub(super) seekable: bool,
    /// Who opened it: the sender of what is written through it, whoever writes.
    opener: Caller,
    /// It reads messages by tag or sender.
    selective: bool,
    /// No name led here, so the node is shared: a write that waited would keep it locked for all who come that way.
    never_waits: bool,
}

saved!(struct OpenMailbox { file, node, id, write, seekable since 4, opener, selective, never_waits });

impl MailboxFile {
    pub(super) fn new(
        ino: Ino,
        meta: Meta,
        defaults: &Defaults,
        home: (Ino, &[u8]),
        cx: &mut Cx<'_>,
    ) -> Arc<MailboxFile> {
        let setup = &cx.tree.setup;
        let queue = Mailbox::new(defaults.limits, cx.now.time()).with_rules(defaults.rules);
        let state = MailboxState {
            meta,
            queue: queue.with_store(ino, setup.journal.as_ref()),
            home: setup.journal.is_some().then(|| (home.0, Arc::from(home.1))),
            listed: None,
            starved: false,
            attr_cached_on: None,
            alarm: None,
            refusal: None,
            receivers: None,
        };
        Arc::new(MailboxFile { ino, state: Mutex::new(state) })
    }

    /// Works on a mailbox under its lock. What the tree keeps of it follows: its place in the lists of those that wait
    /// for memory or a time, what the kernel has cached, and its dead letters, which move on.
    pub(super) fn with<T>(
        self: &Arc<Self>,
        cx: &mut Cx<'_>,
        work: impl FnOnce(&mut MailboxState, &mut Context<'_>) -> T,
    ) -> T {
        let mut state = self.state.lock();
        state.note_use(self, cx.tree);
        let cached = state.attr_cached_on.is_some().then(|| state.attr(self.ino));
        let result = work(&mut state, &mut cx.domain());
        if cached.is_some_and(|cached| cached != state.attr(self.ino)) {
            state.attr_changed(cx.fx);
        }
        let letters = state.queue.take_outbox();
        state.note_changed(self, cx);
        drop(state);
        self.send_dead_letters(letters, cx);
        result
    }

    /// As [`MailboxFile::with`], for a call that may have to wait.
    fn with_waiting(
        self: &Arc<Self>,
        header: Header,
        cx: &mut Cx<'_>,
        work: impl FnOnce(&mut MailboxState, &mut Context<'_>) -> Option<WaitId>,
    ) {
        let waits = &cx.tree.waits;
        self.with(cx, |state, cx| {
            let Some(id) = work(state, cx) else { return };
            cx.fx.note_waiting();
            let wait = Wait::File(Inode::Mailbox(Arc::clone(self)), id);
            if !waits.insert(header.unique(), wait, cx.now.moment) {
                state.queue.cancel(id, Error::Ending, cx);
            }
        });
    }

    /// Messages that were given up go to the mailbox that `config/dead_letter` names, if whoever set it may send there now and
    /// it has room. The others are dropped.
    pub(super) fn send_dead_letters(self: &Arc<Self>, mut letters: Vec<Message>, cx: &mut Cx<'_>) {
        if letters.is_empty() {
            return;
        }
        let (rules, [died, expired]) = {
            let queue = &self.state.lock().queue;
            (queue.rules(), [Why::DeadLetter, Why::Expired].map(|why| queue.how_moved(why)))
        };
        let rule = rules.dead_letter;
        for letter in &mut letters {
            letter.note_death(self.ino, rules.max_rounds);
        }
        let target = rule.and_then(|rule| {
            let names = cx.tree.names.lock();
            names
                .may_reach(rule.mailbox, rule.setter)
                .then(|| names.link_of(rule.mailbox))?
                .map(|link| link.object.clone())
        });
        let mut moved = Vec::new();
        let refused = match (target, rule) {
            (Some(Inode::Mailbox(target)), Some(rule)) => target.with(cx, |state, cx| {
                let may_send = state.meta.permits(rule.setter, 2);
                let max_rounds = state.queue.rules().max_rounds;
                let comes_back = |letter: &Message| {
                    letter.has_died_in(rule.mailbox) || letter.has_stopped_in(rule.mailbox, max_rounds)
                };
                let (accepted, refused): (Vec<_>, Vec<_>) =
                    letters.into_iter().partition(|letter| may_send && !comes_back(letter));
                let mut refused = refused;
                for letter in accepted {
                    match state.queue.check_insert(&letter) {
                        Ok(()) => {
                            let has_expired = letter.expires().is_some();
                            moved.push((letter.id, has_expired));
                            let how = if has_expired { expired } else { died };
                            state.queue.insert_message(letter, how, false, cx);
                        }
                        Err(_) => refused.push(letter),
                    }
                }
                refused
            }),
            _ => letters,
        };
        if !moved.is_empty() {
            // For a target that is not durable.
            self.with(cx, |state, cx| state.queue.dead_letters_moved(&moved, cx));
        }
        if !refused.is_empty() {
            self.with(cx, |state, cx| state.queue.drop_dead_letters(refused, cx));
        }
    }

    /// Opens it through a door.
    pub(super) fn open_door(
        self: &Arc<Self>,
        header: Header,
        door: Door,
        flags: OpenFlags,
        opening: Opening,
        cx: &mut Cx<'_>,
    ) -> Opened {
        let account = cx.opener(header.caller);
        let selective = matches!(door, Door::Tag(_) | Door::From(_));
        let (id, seekable) = self.state.lock().queue.open(door, mode_of(flags), account);
        let how = if seekable { OpenAs::Message } else { OpenAs::Stream };
        let open = OpenMailbox {
            file: Arc::clone(self),
            node: header.node,
            id,
            write: flags.write,
            seekable,
            opener: header.caller,
            selective,
            never_waits: opening == Opening::Nameless,
        };
        Opened { fh: cx.opened(OpenFile::Mailbox(open)), how }
    }

    /// For the mount's totals, see [`crate::tree::waiting::totals::Totals::read_all`].
    pub(crate) fn settle(&self, settled: &mut dyn FnMut(usize, Counts)) {
        let mut state = self.state.lock();
        if let Some(place) = state.listed.take() {
            settled(place, state.queue.counts());
        }
    }
}

impl MailboxState {
    /// Before its figures change.
    pub(super) fn note_use(&mut self, file: &Arc<MailboxFile>, tree: &Tree) {
        if !self.queue.is_removed() {
            tree.totals.note_use(file, &mut self.listed, || self.queue.counts());
        }
    }

    /// What the tree keeps of it, after a change.
    pub(super) fn note_changed(&mut self, file: &Arc<MailboxFile>, cx: &mut Cx<'_>) {
        if self.queue.is_removed() {
            cx.tree.totals.note_removed(&mut self.listed, || self.queue.counts());
        }
        self.note_starved(file, cx.tree);
        // What is overdue comes behind what others have been waiting for.
        let next = self.queue.next_deadline().map(|next| next.max(cx.now.moment));
        cx.tree.alarms.set((file.ino, file), &mut self.alarm, next, cx.fx);
    }

    /// Whether this thread may remove it or replace it, or would lose messages by accident. A program that moves or edits a file
    /// reads it, which takes one message, and then removes the file with the others.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn check_removal(&self, pid: u32, now: Moment) -> Result<(), Error> {
        let refused = match self.queue.rules().removal {
            Removal::Any => false,
            Removal::Guarded => self.receivers.as_ref().is_some_and(|receivers| receivers.have(pid, now)),
            Removal::Empty => true,
        };
        let counts = self.queue.counts();
        if refused && counts.depth + counts.delayed > 0 { Err(Error::Busy) } else { Ok(()) }
    }

    fn note_starved(&mut self, file: &Arc<MailboxFile>, tree: &Tree) {
        if !self.starved && self.queue.blocked_by_memory() {
            self.starved = true;
            tree.starved.push(file);
        }
    }

    /// The kernel may cache the attributes of this one node from now on, until they change.
    fn cache_attr(&mut self, node: NodeId, fx: &mut Effects) -> Validity {
        if let Some(other) = self.attr_cached_on.replace(node).filter(|other| *other != node) {
            fx.invalidate_attr(other);
        }
        Validity::Moment
    }

    /// To be called whenever attributes may have changed.
    pub(super) fn attr_changed(&mut self, fx: &mut Effects) {
        if let Some(node) = self.attr_cached_on.take() {
            fx.invalidate_attr(node);
        }
    }

    pub(super) fn attr(&self, ino: Ino) -> Attr {
        let msgsize = self.queue.limits().msgsize;
        Attr {
            // What one read may return: programs that read `st_size` bytes get all of a message.
            size: u64::from(msgsize),
            blocks: self.queue.counts().bytes.div_ceil(512),
            atime: self.queue.last_received,
            mtime: self.queue.last_sent,
            nlink: u32::from(!self.queue.is_removed()),
            // Programs that copy in blocks of this size send a file in one piece, or learn that it is too long.
            blksize: (msgsize + 1).next_power_of_two(),
            ..self.meta.attr(ino, REGULAR)
        }
    }

    pub(super) fn settings(&self, ceiling: u32, has_store: bool) -> MailboxSettings {
        let (limits, rules) = (self.queue.limits(), self.queue.rules());
        MailboxSettings {
            limits,
            rules,
            ceiling,
            has_store,
            named: Ok(None),
            carrier: CarrierSetting::default(),
        }
    }
}

impl InodeOps for Arc<MailboxFile> {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn attr(&self, node: NodeId, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        let mut names = cx.tree.names.lock();
        let mut state = self.state.lock();
        let told_empty = names.nodes.is_told_empty(node);
        let attr = sized(state.attr(self.ino), told_empty);
        let may_cache = names.nodes.asked_for_attr(node, (&attr).into()) && !told_empty;
        Ok((attr, if may_cache { state.cache_attr(node, cx.fx) } else { Validity::None }))
    }

    fn entry(&self, names: &mut Names, caller: Caller, cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let fresh = NodeId(names.fresh());
        let inode = Inode::Mailbox(Arc::clone(self));
        let node = names.nodes.look_up_mailbox(&inode, caller.pid, cx.now.moment, || fresh);
        let mut state = self.state.lock();
        let told_empty = names.nodes.is_told_empty(node);
        let attr = sized(state.attr(self.ino), told_empty);
        // No invalidation may overtake this answer, if the kernel knows no permissions but those in it: it would check the
        // caller's rights by none, or by old ones.
        // And what appends asks for its size again each time.
        let kernel_has = names.nodes.kernel_has(node, (&attr).into()) && !told_empty;
        let validity = if kernel_has { state.cache_attr(node, cx.fx) } else { Validity::None };
        Ok(Entry { node, attr, validity })
    }

    fn set_attr(&self, header: Header, set: &SetAttr, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        let now = cx.now.time();
        let told_empty = cx.tree.names.lock().nodes.is_told_empty(header.node);
        // A size is accepted and means nothing: `echo >` must never lose what waits.
        let ceiling = cx.tree.setup.ceiling;
        let attr = self.with(cx, |state, cx| {
            (state.meta.atime, state.meta.mtime) = (state.queue.last_received, state.queue.last_sent);
            state.meta.set(set, false, now);
            (state.queue.last_received, state.queue.last_sent) = (state.meta.atime, state.meta.mtime);
            // `echo >` sets a size only.
            if *set != (SetAttr { size: set.size, ..SetAttr::default() }) {
                state.record(self.ino, ceiling, cx);
            }
            state.attr(self.ino)
        });
        Ok((sized(attr, told_empty), Validity::None))
    }

    fn with_meta(&self, work: &mut dyn FnMut(&mut Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        let mut state = self.state.lock();
        let ctime = state.meta.ctime;
        work(&mut state.meta);
        if state.meta.ctime != ctime {
            state.record(self.ino, cx.tree.setup.ceiling, &mut cx.domain());
            state.attr_changed(cx.fx);
        }
        Ok(())
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        mut names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        check_receives(flags)?;
        let opening = open_sized(&mut names, header, flags, cx)?;
        drop(names);
        if !flags.write {
            self.state.lock().receivers.get_or_insert_default().note(header.caller.pid, cx.now.moment);
        }
        Ok(self.open_door(header, Door::Plain, flags, opening, cx))
    }

    fn renamed(&self, _: &Names, home: (Ino, &[u8]), cx: &mut Cx<'_>) {
        let mut state = self.state.lock();
        state.meta.ctime = cx.now.time();
        if let Some(kept) = &mut state.home {
            *kept = (home.0, Arc::from(home.1));
        }
        state.record(self.ino, cx.tree.setup.ceiling, &mut cx.domain());
        state.attr_changed(cx.fx);
    }

    fn unlinked(&self, cx: &mut Cx<'_>) {
        let (lost, more) = self.with(cx, |state, cx| {
            state.meta.ctime = cx.now.time();
            (state.queue.remove(cx), state.queue.discard(cx))
        });
        if more {
            cx.tree.work.push_first(Job::Discard(Arc::clone(self)));
        }
        cx.tree.discarded.fetch_add(lost, Ordering::Relaxed);
    }

    fn cancel(&self, wait: WaitId, error: Error, cx: &mut Cx<'_>) {
        self.with(cx, |state, cx| state.queue.cancel(wait, error, cx));
    }

    fn control(&self) -> Option<&dyn ControlOps> {
        Some(self)
    }
}

impl FileOps for OpenMailbox {
    fn read(&self, header: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let receive = receive(header, self.id, call);
        self.file.with_waiting(header, cx, |state, cx| state.queue.receive(receive, cx));
        Ok(None)
    }

    fn write(&self, header: Header, call: Write<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let call = Write { nonblock: call.nonblock || self.never_waits, ..call };
        let send = send(header, self.id, self.opener, call);
        self.file.with_waiting(header, cx, |state, cx| state.queue.send(send, cx));
        Ok(None)
    }

    fn poll(&self, arm: Option<Poller>, cx: &mut Cx<'_>) -> Ready {
        // What has expired is nothing to read, however late the timer is.
        if !self.file.with(cx, |state, cx| state.queue.catch_up(cx)) {
            cx.fx.postpone();
            return Ready::default();
        }
        let mut state = self.file.state.lock();
        let ready = state.queue.poll(self.id, arm);
        state.note_starved(&self.file, cx.tree);
        ready
    }

    fn close(&self, cx: &mut Cx<'_>) {
        if let Some(text) = self.file.with(cx, |state, cx| state.queue.close(self.id, cx)) {
            cx.tree.work.push(Job::Send(Arc::clone(&self.file), text), |_| Ok(()));
        }
        cx.tree.names.lock().nodes.close(self.node, self.write);
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.node)
    }
}

/// Whoever reads takes messages, or waits. `O_NOFOLLOW` to read only is what programs pass that go through folders and read all
/// that is there (mv, cp -r, tar, grep -r), and not what those pass that mean to receive.
pub(super) fn check_receives(flags: OpenFlags) -> Result<(), Error> {
    if flags.no_follow && flags.read && !flags.write { Err(Error::NotPermitted) } else { Ok(()) }
}

/// Attributes with the size that a node is told: 0 for a writer that appends, see [`crate::tree::names::nodes`].
pub(super) fn sized(attr: Attr, told_empty: bool) -> Attr {
    if told_empty { Attr { size: 0, ..attr } } else { attr }
}

/// An OPEN of a mailbox's node, which must be of the kind that is told the right size.
pub(super) fn open_sized(
    names: &mut Names,
    header: Header,
    flags: OpenFlags,
    cx: &Cx<'_>,
) -> Result<Opening, Error> {
    let (node, pid, now) = (header.node, header.caller.pid, cx.now.moment);
    let told = flags.appends() == names.nodes.is_told_empty(node);
    let refused = names.nodes.refuse_size(told, flags.appends(), pid, now);
    let opening = if refused { None } else { names.nodes.open(node, flags.write, pid, now) };
    if opening.is_none() && flags.appends() {
        names.nodes.note_append(pid);
    }
    opening.ok_or(Error::Stale)
}

/// READ, as a mailbox and a topic take it.
pub(super) fn receive(header: Header, handle: HandleId, call: Read) -> Receive {
    let Header { request_id, caller, .. } = header;
    let Read { offset, nonblock, .. } = call;
    Receive { request_id, handle, offset, size: call.size as usize, nonblock, caller }
}

/// WRITE, as a mailbox and a topic take it. The sender is who opened the file: a program that runs with another user's
/// rights and prints into a descriptor that it was given does not speak for that user. The process is the one that writes.
pub(super) fn send(header: Header, handle: HandleId, opener: Caller, call: Write<'_>) -> Send<'_> {
    let Header { request_id, caller: Caller { pid, .. }, .. } = header;
    let caller = Caller { pid, ..opener };
    // A stream has no position: only the later parts of a write that the kernel has cut have an offset.
    let continues = call.offset != 0 && !call.append;
    Send { request_id, handle, body: call.data, continues, nonblock: call.nonblock, caller }
}

/// Memory has come free: mailboxes whose writers waited only for that let them in.
pub(crate) fn feed_starved(cx: &mut Cx<'_>) {
    while let Some(files) = cx.tree.starved.take() {
        let mut again = false;
        for file in files {
            let mut state = file.state.lock();
            state.starved = false;
            state.note_use(&file, cx.tree);
            state.queue.admit_writers(&mut cx.domain());
            state.attr_changed(cx.fx);
            state.note_changed(&file, cx);
            again |= state.starved && state.queue.memory_available();
        }
        if !again {
            break;
        }
    }
}

impl OpenMailbox {
    /// Whether it was opened by this node.
    pub(super) fn is_of(&self, node: NodeId) -> bool {
        self.node == node
    }

    /// Looks at the message that it has leased, or the request that it serves.
    pub(super) fn look_in_hand<T>(&self, look: impl FnOnce(&Message) -> T) -> Option<T> {
        self.file.state.lock().queue.in_hand(self.id).map(look)
    }

    /// The program that reads it has asked for a copy by the kernel.
    pub(super) fn note_copying(&self) {
        self.file.state.lock().queue.note_copying(self.id);
    }

    /// Takes a step towards the index that it reads by. True if it has all that it needs.
    pub(super) fn index_some(&self) -> bool {
        !self.selective || self.file.state.lock().queue.index_some(self.id)
    }
}

/// Sends a long text.
pub(super) fn send_long(file: &Arc<MailboxFile>, text: LongText, cx: &mut Cx<'_>) {
    file.with(cx, |state, cx| state.queue.send_long(text, cx));
}

/// Ends some of the waits at a mailbox that was removed, or frees some of what was queued there. False if there is no more.
pub(super) fn discard(file: &MailboxFile, cx: &mut Cx<'_>) -> bool {
    file.state.lock().queue.discard(&mut cx.domain())
}

/// Does some of what is due in mailboxes by now: one step in each, in turn.
pub(crate) fn tick(cx: &mut Cx<'_>) {
    for _ in 0..TICKED_AT_ONCE {
        let Some(file) = cx.tree.alarms.due(cx.now.moment) else { break };
        file.with(cx, |state, cx| state.queue.tick(cx));
    }
}
