//! Requests and replies: the doors `rpc` and `serve`.
//!
//! Requests wait in a queue of their own, in order of arrival. A server holds one request until it has replied. A client
//! has at most one outstanding request. Each request has an id, and a reply goes only to the open file that sent the
//! request with this id and still waits for its reply.

use super::call::{Context, HandleId, Receive, Selector, Send, WaitId};
use super::memory::{Memory, charge_in_hand};
use super::message::Message;
use super::{Mailbox, State};
use crate::op::{Error, Reply, Slice};
use crate::state::saved;

/// A request, queued or taken by a server.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) client: HandleId,
}

saved!(struct Request { message, client });

/// How far a client's request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outstanding {
    /// It waits for room in the mailbox.
    Unsent,
    /// It was sent with this id.
    Sent(u64),
}

saved!(enum Outstanding { 0 = Unsent, 1 = Sent(it) });

impl Mailbox {
    /// Accepts a request that is charged to its sender.
    pub(super) fn accept_request(&mut self, mut message: Message, client: HandleId, cx: &mut Context<'_>) {
        message.id = cx.memory.allocate_ids(1);
        if let Some(open) = self.handles.get_mut(client.0) {
            open.state = State::Requesting(Outstanding::Sent(message.id));
            open.framing.clear();
        }
        self.last_sent = cx.now.time();
        self.dispatch(Request { message, client }, cx);
    }

    /// Gives a request to a waiting server, or queues it.
    fn dispatch(&mut self, request: Request, cx: &mut Context<'_>) {
        if let Some(server) = self.readers.pop(&Selector::Request) {
            self.wait_ended(server.call.handle);
            self.serve(&server.call, request, cx);
            return;
        }
        self.request_bytes += request.message.len();
        self.requests_noted.note(request.message.id);
        self.requests.insert(request.message.id, request);
        self.wake_readers(cx);
    }

    /// Answers a server's read with the oldest request. False if there is none.
    pub(super) fn receive_request(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        let Some((_, request)) = self.requests.pop_first() else { return false };
        self.request_bytes -= request.message.len();
        self.serve(call, request, cx);
        true
    }

    fn serve(&mut self, call: &Receive, mut request: Request, cx: &mut Context<'_>) {
        let slice = request.message.slice();
        // From now on it is recorded with the open file.
        request.message.record = None;
        self.counters.serving += 1;
        self.last_received = cx.now.time();
        if let Some(open) = self.handles.get_mut(call.handle.0) {
            open.state = State::Serving(Box::new(request));
        }
        self.begin(call, slice, None, Vec::new(), cx);
    }

    /// A server's write: the reply to the request that it has taken. Never waits.
    pub(super) fn send_reply(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        if !self.check_length(&call, cx) {
            return None;
        }
        // What the client has not read yet is held on the client's behalf. If that is too much, the server keeps the request.
        let mut charge = None;
        if let Some(State::Serving(request)) = self.handles.get(call.handle.0).map(|open| &open.state)
            && self.awaits_reply(request)
            && let Some(client) = self.handles.get(request.client.0)
        {
            let Ok(charged) = charge_in_hand(&client.account, Memory::cost(call.body.len())) else {
                cx.fx.fail(call.request_id, Error::NoMemory);
                return None;
            };
            charge = Some(charged);
        }
        let mut served = None;
        if let Some(open) = self.handles.get_mut(call.handle.0) {
            match std::mem::take(&mut open.state) {
                State::Serving(request) => {
                    open.framing.clear();
                    served = Some(request);
                }
                other => open.state = other,
            }
        }
        let Some(request) = served else {
            cx.fx.fail(call.request_id, if self.removed { Error::Removed } else { Error::NoMessage });
            return None;
        };
        self.counters.serving -= 1;
        self.wake_reader(call.handle, cx);
        let (client, awaited) = (request.client, self.awaits_reply(&request));
        drop(request);
        if self.removed || !awaited {
            self.admit_writers(cx);
            cx.fx.fail(call.request_id, if self.removed { Error::Removed } else { Error::Cancelled });
            return None;
        }
        self.counters.replied += 1;
        let reply = Slice::whole(call.body);
        let reader = self.readers.pop(&Selector::Reply(client));
        if let Some(open) = self.handles.get_mut(client.0) {
            open.state = State::Idle;
            if reader.is_none() {
                open.framing.keep(reply.clone(), charge.take());
            }
        }
        if let Some(reader) = reader {
            self.wait_ended(client);
            self.begin(&reader.call, reply, charge, Vec::new(), cx);
        }
        // The request is gone, and so may be the reply.
        self.admit_writers(cx);
        for poll in [self.polls_in.remove(&client), self.polls_out.remove(&client)].into_iter().flatten() {
            cx.fx.wake(poll);
        }
        cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
        None
    }

    /// A server has closed its file without a reply: the next server gets the request.
    pub(super) fn return_request(&mut self, request: Request, cx: &mut Context<'_>) {
        self.counters.serving -= 1;
        if self.removed || !self.awaits_reply(&request) {
            return;
        }
        self.counters.redelivered += 1;
        self.dispatch(request, cx);
    }

    /// A client has closed its file: its request is dropped if no server has taken it.
    pub(super) fn cancel_request(&mut self, outstanding: &Outstanding) {
        if let Outstanding::Sent(id) = outstanding
            && let Some(request) = self.requests.remove(id)
        {
            self.request_bytes -= request.message.len();
        }
    }

    /// The client that sent `request` still waits for its reply.
    fn awaits_reply(&self, request: &Request) -> bool {
        let sent = Outstanding::Sent(request.message.id);
        let client = self.handles.get(request.client.0);
        client.is_some_and(|open| matches!(open.state, State::Requesting(other) if other == sent))
    }
}
