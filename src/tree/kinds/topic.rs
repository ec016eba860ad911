//! A topic: the file whose readers each get a copy of what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::control::{Slot, TextFile, refusal_noted, table_file};
use super::mailbox::{check_receives, receive, send, sized};
use super::{
    Broadcaster, ControlOps, Cx, FileOps, Header, Inode, InodeOps, Job, Names, OpenFile, Read, Wait, Write,
    mode_of,
};
use crate::config::BACKLOG;
use crate::control::{TOPIC, TopicSettings, TopicView};
use crate::mailbox::{Context, HandleId, WaitId};
use crate::op::{
    Attr, Caller, Entry, Error, FileTime, Ino, NodeId, OpenAs, OpenFlags, Opened, Poller, Ready, Reply,
    SetAttr, Validity,
};
use crate::state::saved;
use crate::topic::{Limits, Topic};
use crate::tree::Tree;
use crate::tree::names::meta::{Meta, REGULAR};

/// A topic and what stat shows of it.
#[derive(Debug)]
pub(crate) struct TopicFile {
    ino: Ino,
    state: Mutex<TopicState>,
}

saved!(struct TopicFile { ino, state });

/// Guarded by [`TopicFile::state`].
#[derive(Debug)]
struct TopicState {
    meta: Meta,
    topic: Topic,
    /// Why the last value written to `config/` was refused.
    refusal: Option<Box<str>>,
}

saved!(struct TopicState { meta, topic, refusal });

/// An open topic.
#[derive(Debug)]
pub(crate) struct OpenTopic {
    file: Arc<TopicFile>,
    id: HandleId,
    /// It has a position, within the message that it reads.
    pub(super) seekable: bool,
    opener: Caller,
    /// A node that was made for one who appends, and stays as long as this is open; and whether this writes.
    own_node: Option<(NodeId, bool)>,
}

saved!(struct OpenTopic { file, id, seekable since 4, opener, own_node since 4 });

/// The figures of all topics together.
#[derive(Debug, Default)]
pub(crate) struct TopicTotals {
    readers: AtomicU64,
    backlog: AtomicU64,
}

saved!(struct TopicTotals { readers, backlog });

impl TopicTotals {
    /// Readers, and copies that wait for them.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.readers.load(Ordering::Relaxed), self.backlog.load(Ordering::Relaxed))
    }
}

impl TopicFile {
    pub(super) fn new(ino: Ino, meta: Meta, tree: &Tree, now: FileTime) -> Arc<TopicFile> {
        let msgsize = tree.setup.limits.mailbox.msgsize.min(tree.setup.ceiling);
        let topic = Topic::new(Limits { msgsize, backlog: BACKLOG }, now);
        Arc::new(TopicFile { ino, state: Mutex::new(TopicState { meta, topic, refusal: None }) })
    }

    /// A node of its own, for one who appends, is told to be empty, see [`crate::tree::names::nodes`].
    fn is_told_empty(&self, node: NodeId) -> bool {
        node.0 != self.ino.0
    }

    fn attr_by(&self, node: NodeId) -> Attr {
        sized(self.state.lock().attr(self.ino), self.is_told_empty(node))
    }

    /// Works on the topic under its lock, and keeps the totals. What is left for a job is given to one.
    fn with<T>(
        self: &Arc<Self>,
        cx: &mut Cx<'_>,
        work: impl FnOnce(&mut TopicState, &mut Context<'_>) -> T,
    ) -> T {
        let totals = &cx.tree.topic_totals;
        let mut state = self.state.lock();
        let before = state.topic.counts();
        let result = work(&mut state, &mut cx.domain());
        let after = state.topic.counts();
        // Wrapping, so that a difference below zero is added as well.
        totals.readers.fetch_add(after.readers.wrapping_sub(before.readers), Ordering::Relaxed);
        totals.backlog.fetch_add(after.backlog.wrapping_sub(before.backlog), Ordering::Relaxed);
        if state.topic.needs_job() {
            cx.tree.work.push(Job::Readers(Broadcaster::Topic(Arc::clone(self))), |_| Ok(()));
        }
        result
    }

    /// As [`TopicFile::with`], for a call that may have to wait.
    fn with_waiting(
        self: &Arc<Self>,
        header: Header,
        cx: &mut Cx<'_>,
        work: impl FnOnce(&mut TopicState, &mut Context<'_>) -> Option<WaitId>,
    ) {
        let waits = &cx.tree.waits;
        self.with(cx, |state, cx| {
            let Some(id) = work(state, cx) else { return };
            cx.fx.note_waiting();
            let wait = Wait::File(Inode::Topic(Arc::clone(self)), id);
            if !waits.insert(header.unique(), wait, cx.now.moment) {
                state.topic.cancel(id, Error::Ending, cx);
            }
        });
    }

    /// Takes a step of what is left for a job. False if that was all.
    pub(super) fn advance(self: &Arc<Self>, cx: &mut Cx<'_>) -> bool {
        self.with(cx, |state, cx| state.topic.advance(cx))
    }
}

impl TopicState {
    fn attr(&self, ino: Ino) -> Attr {
        let msgsize = self.topic.limits().msgsize;
        Attr {
            // As a mailbox's.
            size: u64::from(msgsize),
            atime: self.topic.last_received,
            mtime: self.topic.last_sent,
            nlink: u32::from(!self.topic.is_removed()),
            blksize: (msgsize + 1).next_power_of_two(),
            ..self.meta.attr(ino, REGULAR)
        }
    }

    fn settings(&self, ceiling: u32) -> TopicSettings {
        TopicSettings { limits: self.topic.limits(), ceiling }
    }
}

impl InodeOps for Arc<TopicFile> {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn attr(&self, node: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr_by(node), Validity::None))
    }

    fn entry(&self, names: &mut Names, caller: Caller, cx: &mut Cx<'_>) -> Result<Entry, Error> {
        // Nobody who uses a topic holds its node locked while waiting, so one serves all but those who append. They do with it
        // if they have no share left.
        let inode = Inode::Topic(Arc::clone(self));
        let charge = names.nodes.will_append(caller.pid).then(|| cx.charge_node_of(names, caller, b""));
        let node = if let Some(Ok(charge)) = charge {
            let node = NodeId(names.fresh());
            cx.look_up_once(names, node, inode, charge);
            node
        } else {
            names.nodes.look_up(&inode)
        };
        Ok(Entry { node, attr: self.attr_by(node), validity: Validity::None })
    }

    fn set_attr(&self, header: Header, set: &SetAttr, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        let mut state = self.state.lock();
        let TopicState { meta, topic, .. } = &mut *state;
        (meta.atime, meta.mtime) = (topic.last_received, topic.last_sent);
        meta.set(set, false, cx.now.time());
        (topic.last_received, topic.last_sent) = (meta.atime, meta.mtime);
        drop(state);
        Ok((self.attr_by(header.node), Validity::None))
    }

    fn with_meta(&self, work: &mut dyn FnMut(&mut Meta), _: &mut Cx<'_>) -> Result<(), Error> {
        work(&mut self.state.lock().meta);
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
        let (node, pid) = (header.node, header.caller.pid);
        let told = !flags.appends() || self.is_told_empty(node);
        if names.nodes.refuse_size(told, flags.appends(), pid, cx.now.moment) {
            names.nodes.note_append(pid);
            return Err(Error::Stale);
        }
        names.nodes.came_back(pid);
        let own_node = self.is_told_empty(node).then_some((node, flags.write));
        if let Some((node, write)) = own_node {
            names.nodes.open_other(node, write);
        }
        drop(names);
        let account = cx.opener(header.caller);
        let (id, seekable) =
            self.with(cx, |state, _| state.topic.open(mode_of(flags), header.caller, account));
        let how = if seekable { OpenAs::Message } else { OpenAs::Stream };
        let open = OpenTopic { file: Arc::clone(self), id, seekable, opener: header.caller, own_node };
        Ok(Opened { fh: cx.opened(OpenFile::Topic(open)), how })
    }

    fn renamed(&self, _: &Names, _: (Ino, &[u8]), cx: &mut Cx<'_>) {
        self.state.lock().meta.ctime = cx.now.time();
    }

    fn unlinked(&self, cx: &mut Cx<'_>) {
        self.with(cx, |state, cx| {
            state.meta.ctime = cx.now.time();
            state.topic.remove(cx);
        });
    }

    fn cancel(&self, wait: WaitId, error: Error, cx: &mut Cx<'_>) {
        self.with(cx, |state, cx| state.topic.cancel(wait, error, cx));
    }

    fn control(&self) -> Option<&dyn ControlOps> {
        Some(self)
    }
}

impl FileOps for OpenTopic {
    fn read(&self, header: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let call = receive(header, self.id, call);
        self.file.with_waiting(header, cx, |state, cx| state.topic.receive(call, cx));
        Ok(None)
    }

    fn write(&self, header: Header, call: Write<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let call = send(header, self.id, self.opener, call);
        self.file.with_waiting(header, cx, |state, cx| state.topic.send(call, cx));
        Ok(None)
    }

    fn poll(&self, arm: Option<Poller>, cx: &mut Cx<'_>) -> Ready {
        self.file.with(cx, |state, cx| state.topic.poll(self.id, arm, cx))
    }

    fn close(&self, cx: &mut Cx<'_>) {
        self.file.with(cx, |state, cx| state.topic.close(self.id, cx));
        if let Some((node, write)) = self.own_node {
            cx.tree.names.lock().nodes.close(node, write);
        }
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.own_node.map_or(NodeId(self.file.ino.0), |(node, _)| node))
    }
}

impl ControlOps for Arc<TopicFile> {
    fn owner(&self, _: &Names) -> Result<Attr, Error> {
        Ok(self.state.lock().meta.attr(self.ino, 0))
    }

    fn folder_mode(&self, slot: Slot, _: u32) -> Option<u32> {
        matches!(slot, Slot::Top | Slot::Config).then_some(0o555)
    }

    fn files(&self) -> Vec<TextFile> {
        TOPIC.iter().map(TextFile::of).collect()
    }

    fn status_lines(&self) -> u64 {
        let state = self.state.lock();
        state.topic.counts().readers + state.topic.waiting()
    }

    fn show(&self, index: usize, _: Caller, cx: &mut Cx<'_>) -> Result<Vec<u8>, Error> {
        let file = table_file(&TOPIC, index)?;
        let view = {
            let state = self.state.lock();
            TopicView {
                settings: state.settings(cx.tree.setup.ceiling),
                counts: state.topic.counts(),
                readers: state.topic.readers(),
                waiters: state.topic.waiters(),
                now: cx.now,
                refusal: state.refusal.as_deref().map(String::from).unwrap_or_default(),
            }
        };
        Ok((file.show)(&view).into_bytes())
    }

    fn store(&self, index: usize, text: &[u8], _: Caller, cx: &mut Cx<'_>) -> Result<(), Error> {
        let store = table_file(&TOPIC, index)?.store.ok_or(Error::AccessDenied)?;
        let mut state = self.state.lock();
        let mut settings = state.settings(cx.tree.setup.ceiling);
        let result = store(&String::from_utf8_lossy(text), &mut settings);
        state.topic.set_limits(settings.limits);
        refusal_noted(result, &mut state.refusal)
    }
}
