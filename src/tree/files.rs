//! Operations on files: attributes, open, read, write, poll, close.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Tree;
use super::folders::{attr_of, entry};
use super::handles::{Handle, Read, Target, Write};
use super::nodes::Object;
use super::objects::{Child, MailboxFile, TopicFile, TopicState};
use super::parked;
use super::place::Place;
use crate::mailbox::{Context, Door, Mode, Receive, Send};
use crate::op::{
    Caller, Effects, Entry, Error, Fh, Ino, NodeId, OpenAs, OpenFlags, Opened, PollHandle, Ready, Reply,
    Request, RequestId, SetAttr, Slice, Timestamp, Validity,
};

impl Tree {
    pub(super) fn getattr(&self, node: NodeId, fx: &mut Effects) -> Result<Reply, Error> {
        if let Some(place) = Place::of(node) {
            return self.control_entry(place).map(|entry| Reply::Attr(entry.attr, Validity::None));
        }
        let names = self.names.lock();
        let object = names.nodes.object(node).cloned().ok_or(Error::Stale)?;
        Ok(match object {
            Object::Door(found) => {
                drop(names);
                Reply::Attr(found.attr(), Validity::None)
            }
            Object::Message(found) => {
                drop(names);
                Reply::Attr(found.attr()?, Validity::None)
            }
            Object::Folder(ino) => Reply::Attr(attr_of(&names, &Child::Folder(ino)), Validity::Long),
            Object::Mailbox(file) => {
                drop(names);
                let (attr, validity) = file.state.lock().believed_attr(file.ino, node, fx);
                Reply::Attr(attr, validity)
            }
            Object::Topic(file) => {
                drop(names);
                Reply::Attr(file.state.lock().attr(file.ino), Validity::None)
            }
            Object::Segment(file) => {
                drop(names);
                Reply::Attr(file.state.lock().attr(file.ino), Validity::None)
            }
        })
    }

    pub(super) fn setattr(
        &self,
        node: NodeId,
        set: &SetAttr,
        pid: u32,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Reply, Error> {
        if let Some(place) = Place::of(node) {
            return self.set_control_attr(place, set);
        }
        let mut names = self.names.lock();
        names.nodes.changed(node, pid);
        match names.nodes.object(node).cloned().ok_or(Error::Stale)? {
            Object::Folder(ino) => {
                let folder = names.folder_mut(ino).ok_or(Error::Stale)?;
                if set.size.is_some() {
                    return Err(Error::IsFolder);
                }
                folder.meta.set(set, true, now);
                Ok(Reply::Attr(folder.attr(ino), Validity::Long))
            }
            Object::Door(found) => {
                drop(names);
                found.set_attr(set)
            }
            Object::Message(_) => Err(Error::NotPermitted),
            Object::Mailbox(file) => {
                drop(names);
                // A size is accepted and means nothing: `echo >` must never lose what waits.
                let attr = self.with_mailbox(&file, now, fx, |state, _| {
                    (state.meta.atime, state.meta.mtime) = (state.queue.last_received, state.queue.last_sent);
                    state.meta.set(set, false, now);
                    (state.queue.last_received, state.queue.last_sent) = (state.meta.atime, state.meta.mtime);
                    state.attr(file.ino)
                });
                Ok(Reply::Attr(attr, Validity::None))
            }
            Object::Topic(file) => {
                drop(names);
                let mut state = file.state.lock();
                let TopicState { meta, topic, .. } = &mut *state;
                (meta.atime, meta.mtime) = (topic.last_received, topic.last_sent);
                meta.set(set, false, now);
                (topic.last_received, topic.last_sent) = (meta.atime, meta.mtime);
                Ok(Reply::Attr(state.attr(file.ino), Validity::None))
            }
            Object::Segment(file) => {
                drop(names);
                if let Some(size) = set.size {
                    self.with_room(&file, now, fx, |state| {
                        state.segment.resize(size)?;
                        state.meta.mtime = now;
                        Ok(())
                    })?;
                }
                let mut state = file.state.lock();
                state.meta.set(set, false, now);
                Ok(Reply::Attr(state.attr(file.ino), Validity::None))
            }
        }
    }

    pub(super) fn open(
        &self,
        node: NodeId,
        flags: OpenFlags,
        caller: Caller,
        now: Timestamp,
    ) -> Result<Opened, Error> {
        if let Some(place) = Place::of(node) {
            return self.open_control(place, flags, caller, now);
        }
        let mut names = self.names.lock();
        match names.nodes.object(node).cloned().ok_or(Error::Stale)? {
            Object::Folder(_) => Err(Error::IsFolder),
            Object::Door(found) => {
                drop(names);
                self.open_door(node, &found, flags)
            }
            Object::Message(found) => {
                drop(names);
                self.open_message(node, &found, flags)
            }
            Object::Mailbox(file) => {
                let fresh = NodeId(names.fresh());
                if !names.nodes.open(node, flags.write, caller.pid, now, || fresh) {
                    return Err(Error::Stale);
                }
                drop(names);
                Ok(self.open_mailbox(node, &file, Door::Plain, flags))
            }
            Object::Topic(file) => {
                drop(names);
                Ok(self.open_topic(node, &file, flags, caller))
            }
            Object::Segment(file) => {
                drop(names);
                self.open_segment(node, &file, flags, caller, now)
            }
        }
    }

    pub(super) fn create(
        &self,
        request: &Request<'_>,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<(Entry, Opened), Error> {
        let Request { node: parent, caller, .. } = *request;
        let mut names = self.names.lock();
        let child = match self.new_file(&mut names, parent, name, mode, caller, now) {
            // Somebody was faster. The kernel looks the name up again and opens what is there, permissions checked.
            Err(Error::Exists) if !flags.exclusive => return Err(Error::Stale),
            other => other?,
        };
        let entry = entry(&mut names, &child, caller.pid, now, fx);
        match child {
            Child::Folder(_) => Err(Error::IsFolder),
            Child::Mailbox(file) => {
                let fresh = NodeId(names.fresh());
                if !names.nodes.open(entry.node, flags.write, caller.pid, now, || fresh) {
                    return Err(Error::Stale);
                }
                drop(names);
                Ok((entry, self.open_mailbox(entry.node, &file, Door::Plain, flags)))
            }
            Child::Topic(file) => {
                drop(names);
                Ok((entry, self.open_topic(entry.node, &file, flags, caller)))
            }
            Child::Segment(file) => {
                drop(names);
                let opened = self.open_segment(entry.node, &file, flags, caller, now);
                // The kernel learns of no node with an error, and will forget none.
                let opened = opened.inspect_err(|_| self.forget(&[(entry.node, 1)]))?;
                Ok((entry, opened))
            }
        }
    }

    /// `Ok(None)`: answered among the effects, or waiting.
    pub(super) fn read(
        &self,
        request_id: RequestId,
        caller: Caller,
        fh: Fh,
        call: Read,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Option<Reply>, Error> {
        let handle = self.handles.get(fh)?;
        match &handle.target {
            Target::Mailbox { file, id, .. } => {
                // The page cache asks for whole pages on somebody's behalf, and would keep what it gets. Refused, the
                // program that used splice(2) or sendfile(2) falls back to read(2).
                if !call.direct {
                    return Err(Error::Invalid);
                }
                let Read { offset, nonblock, .. } = call;
                let size = call.size as usize;
                let receive = Receive { request_id, handle: *id, offset, size, nonblock, caller };
                self.with_waiting(file, request_id, now, fx, |state, cx| state.queue.receive(receive, cx));
                Ok(None)
            }
            Target::Topic { file, id } => {
                if !call.direct {
                    return Err(Error::Invalid);
                }
                let Read { offset, nonblock, .. } = call;
                let size = call.size as usize;
                let receive = Receive { request_id, handle: *id, offset, size, nonblock, caller };
                self.receive_from_topic(file, receive, now, fx);
                Ok(None)
            }
            Target::Segment { file, .. } => self.read_segment(file, call, now).map(Some),
            Target::Notify { .. } => Err(Error::BadDescriptor),
            Target::Wait { file, id } => self.hear(file, *id, (request_id, caller), call, now, fx),
            Target::Message(bytes) => {
                if !call.direct {
                    return Err(Error::Invalid);
                }
                let bytes = Arc::clone(bytes);
                let from = usize::try_from(call.offset).unwrap_or(usize::MAX).min(bytes.len());
                let to = from.saturating_add(call.size as usize).min(bytes.len());
                Ok(Some(Reply::Message(Slice { bytes, from, to })))
            }
            Target::Control { place, text } => self.read_control(*place, text, call, now).map(Some),
        }
    }

    /// `Ok(None)`: answered among the effects, or waiting.
    pub(super) fn write(
        &self,
        request_id: RequestId,
        caller: Caller,
        fh: Fh,
        call: Write<'_>,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Option<Reply>, Error> {
        let handle = self.handles.get(fh)?;
        match &handle.target {
            Target::Mailbox { file, id, .. } => {
                // A stream has no position: only the later parts of a write that the kernel has cut have an offset.
                let continues = call.offset != 0 && !call.append;
                let Write { data: body, nonblock, .. } = call;
                let send = Send { request_id, handle: *id, body, continues, nonblock, caller };
                self.with_waiting(file, request_id, now, fx, |state, cx| state.queue.send(send, cx));
                Ok(None)
            }
            Target::Topic { file, id } => {
                let continues = call.offset != 0 && !call.append;
                let Write { data: body, nonblock, .. } = call;
                let send = Send { request_id, handle: *id, body, continues, nonblock, caller };
                let mut cx = Context { now, memory: &self.memory, fx };
                file.state.lock().topic.send(send, &mut cx);
                Ok(None)
            }
            Target::Notify { file } => Ok(Some(self.ring(file, call.data.len(), now, fx))),
            Target::Segment { file, write, .. } => {
                if !write && !call.page_cache {
                    return Err(Error::BadDescriptor);
                }
                let written = self.with_room(file, now, fx, |state| {
                    if call.kill_suid {
                        state.meta.kill_suid();
                    }
                    let written = if call.page_cache {
                        state.segment.write_back(call.offset, call.data)
                    } else {
                        state.segment.write(call.offset, call.data)
                    }?;
                    (state.meta.mtime, state.meta.ctime) = (now, now);
                    Ok(written)
                })?;
                Ok(Some(Reply::Written(written)))
            }
            Target::Wait { .. } | Target::Message(_) => Err(Error::BadDescriptor),
            Target::Control { place, .. } => self.write_control(*place, call.data, caller, now, fx).map(Some),
        }
    }

    pub(super) fn poll(&self, fh: Fh, arm: Option<PollHandle>) -> Result<Reply, Error> {
        let handle = self.handles.get(fh)?;
        Ok(Reply::Ready(match &handle.target {
            Target::Mailbox { file, id, .. } => {
                let mut state = file.state.lock();
                let ready = state.queue.poll(*id, arm, &self.memory);
                self.note_starving(file, &mut state);
                ready
            }
            Target::Topic { file, id } => file.state.lock().topic.poll(*id, arm),
            Target::Wait { file, id } => {
                let ready = file.state.lock().bell.as_mut().map(|bell| bell.topic.poll(*id, arm));
                ready.unwrap_or_default()
            }
            Target::Segment { .. } | Target::Notify { .. } | Target::Message(_) | Target::Control { .. } => {
                Ready { readable: true, writable: true, hangup: false }
            }
        }))
    }

    pub(super) fn release(&self, fh: Fh, now: Timestamp, fx: &mut Effects) -> Result<Reply, Error> {
        // While the number is taken: once it is free it may be another open file's, with locks of its own.
        self.locks.lock().close_handle(fh, fx);
        let handle = self.handles.remove(fh).ok_or(Error::BadDescriptor)?;
        match &handle.target {
            Target::Mailbox { file, id, write } => {
                self.with_mailbox(file, now, fx, |state, cx| state.queue.close(*id, cx));
                self.names.lock().nodes.close(handle.node, *write);
            }
            Target::Topic { file, id } => {
                let mut cx = Context { now, memory: &self.memory, fx };
                file.state.lock().topic.close(*id, &mut cx);
            }
            Target::Segment { file, opener, .. } => self.close_segment(file, *opener, now, fx),
            Target::Wait { file, id } => {
                let mut cx = Context { now, memory: &self.memory, fx };
                if let Some(bell) = &mut file.state.lock().bell {
                    bell.topic.close(*id, &mut cx);
                }
            }
            Target::Notify { .. } | Target::Message(_) | Target::Control { .. } => {}
        }
        Ok(Reply::Done)
    }

    /// The file whose locks a node's are: one for all nodes of a mailbox.
    pub(super) fn lock_target(&self, node: NodeId) -> Result<Ino, Error> {
        if Place::of(node).is_some() {
            return Ok(Ino(node.0));
        }
        match self.names.lock().nodes.object(node).ok_or(Error::Stale)? {
            Object::Folder(ino) => Ok(*ino),
            Object::Door(_) | Object::Message(_) => Ok(Ino(node.0)),
            Object::Mailbox(file) => Ok(file.ino),
            Object::Topic(file) => Ok(file.ino),
            Object::Segment(file) => Ok(file.ino),
        }
    }

    pub(super) fn open_mailbox(
        &self,
        node: NodeId,
        file: &Arc<MailboxFile>,
        door: Door,
        flags: OpenFlags,
    ) -> Opened {
        let (id, seekable) = file.state.lock().queue.open(door, mode(flags));
        let how = if seekable { OpenAs::Message } else { OpenAs::Stream };
        let target = Target::Mailbox { file: Arc::clone(file), id, write: flags.write };
        Opened { fh: self.handles.insert(Handle { node, target }), how }
    }

    fn open_topic(&self, node: NodeId, file: &Arc<TopicFile>, flags: OpenFlags, caller: Caller) -> Opened {
        let (id, seekable) = file.state.lock().topic.open(mode(flags), caller);
        let how = if seekable { OpenAs::Message } else { OpenAs::Stream };
        let target = Target::Topic { file: Arc::clone(file), id };
        Opened { fh: self.handles.insert(Handle { node, target }), how }
    }

    /// As [`Tree::with_waiting`], of a topic.
    fn receive_from_topic(&self, file: &Arc<TopicFile>, call: Receive, now: Timestamp, fx: &mut Effects) {
        let mut state = file.state.lock();
        let mut cx = Context { now, memory: &self.memory, fx };
        if let Some(id) = state.topic.receive(call, &mut cx) {
            self.parked.insert(call.request_id.unique, parked::Place::Topic(Arc::clone(file), id), now);
            cx.fx.note_waiting();
            if self.ending.load(Ordering::SeqCst) {
                state.topic.cancel(id, Error::Ending, &mut cx);
            }
        }
    }
}

fn mode(flags: OpenFlags) -> Mode {
    match (flags.read, flags.write) {
        (true, true) => Mode::Both,
        (false, true) => Mode::Send,
        _ => Mode::Receive,
    }
}
