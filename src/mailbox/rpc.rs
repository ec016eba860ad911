//! Requests and their answers.
//!
//! A request waits like a message, in a line of its own. A server has it in hand until it answers, and a client that
//! asked can ask again once it was answered. Each request has a number; an answer goes to the open file that has asked
//! with this number and still waits for it, and so never to another.

use super::message::Message;
use super::{Context, Error, Hand, HandleId, Mailbox, Receive, Reply, Selector, Send, WaitId, open_mut};
use crate::framing::{Framing, Single};
use crate::op::Slice;

/// A request that no server has taken.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Message,
    client: HandleId,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Room for its request.
    Room,
    /// The answer to the request with this number.
    Answer(u64),
}

/// A request in a server's hands. Its memory stays taken.
#[derive(Debug)]
pub(super) struct Serving {
    message: Message,
    client: HandleId,
}

impl Mailbox {
    /// A request for which there is room, or a server who waits, comes in.
    pub(super) fn accept_request(&mut self, mut message: Message, client: HandleId, cx: &mut Context<'_>) {
        message.id = cx.memory.number(1);
        open_mut(&mut self.handles, client, |open| {
            open.hand = Hand::Asked(Asked::Answer(message.id));
            open.framing.clear();
        });
        self.last_sent = cx.now;
        if self.readers.has(&Selector::Request) {
            cx.memory.take_anyway(message.cost());
        }
        self.pass_on(Request { message, client }, cx);
    }

    /// A request whose memory is taken goes to a server who waits, or into the line.
    fn pass_on(&mut self, request: Request, cx: &mut Context<'_>) {
        if let Some(server) = self.readers.serve(&Selector::Request) {
            open_mut(&mut self.handles, server.call.handle, |open| open.waiting -= 1);
            self.serve(&server.call, request, cx);
            return;
        }
        self.request_bytes += request.message.len();
        self.requests.insert(request.message.id, request);
        self.wake_readers(cx);
    }

    /// Answers a server's read. False: there is no request.
    pub(super) fn serve_request(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        let Some((_, request)) = self.requests.pop_first() else { return false };
        self.request_bytes -= request.message.len();
        self.serve(call, request, cx);
        true
    }

    fn serve(&mut self, call: &Receive, request: Request, cx: &mut Context<'_>) {
        let Request { message, client } = request;
        let slice = message.slice();
        self.tally.serving += 1;
        self.last_received = cx.now;
        open_mut(&mut self.handles, call.handle, |open| {
            open.hand = Hand::Serving(Box::new(Serving { message, client }));
        });
        self.begin(call, slice, cx);
    }

    /// A server's write: the answer to what it has in hand. Never waits.
    pub(super) fn answer(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let len = call.body.len();
        if !self.has_length(&call, cx) {
            return None;
        }
        let mut serving = None;
        open_mut(&mut self.handles, call.handle, |open| match std::mem::take(&mut open.hand) {
            Hand::Serving(held) => {
                open.framing.clear();
                serving = Some(held);
            }
            other => open.hand = other,
        });
        let Some(serving) = serving else {
            cx.fx.fail(call.request_id, if self.removed { Error::Removed } else { Error::NoMessage });
            return None;
        };
        self.tally.serving -= 1;
        self.next_is_due(call.handle, cx);
        cx.memory.give_back(serving.message.cost());
        self.room_made(cx);
        if self.removed {
            cx.fx.fail(call.request_id, Error::Removed);
            return None;
        }
        let client = self.handles.get_mut(serving.client.0);
        let asked = Asked::Answer(serving.message.id);
        let Some(client) = client.filter(|open| matches!(open.hand, Hand::Asked(other) if other == asked))
        else {
            cx.fx.fail(call.request_id, Error::Cancelled);
            return None;
        };
        client.hand = Hand::Nothing;
        let slice = Slice { from: 0, to: len, bytes: call.body.into() };
        self.tally.replied += 1;
        let handle = serving.client;
        match self.readers.serve(&Selector::Reply(handle)) {
            Some(reader) => {
                open_mut(&mut self.handles, handle, |open| open.waiting -= 1);
                self.begin(&reader.call, slice, cx);
            }
            None => open_mut(&mut self.handles, handle, |open| {
                open.framing = Framing::Single(Single::Rest(slice));
            }),
        }
        for poll in [self.polls_in.remove(&handle), self.polls_out.remove(&handle)].into_iter().flatten() {
            cx.fx.wake(poll);
        }
        cx.fx.reply(call.request_id, Reply::Written(len as u32));
        None
    }

    /// A server is gone without having answered: the next one gets the request.
    pub(super) fn request_returned(&mut self, serving: Serving, cx: &mut Context<'_>) {
        let Serving { message, client } = serving;
        self.tally.serving -= 1;
        let asked = Asked::Answer(message.id);
        let waits = self.handles.get(client.0);
        let waits = waits.is_some_and(|open| matches!(open.hand, Hand::Asked(other) if other == asked));
        if self.removed || !waits {
            cx.memory.give_back(message.cost());
            return;
        }
        self.tally.redelivered += 1;
        self.pass_on(Request { message, client }, cx);
    }

    /// A client is gone: nobody is to work for it.
    pub(super) fn withdraw(&mut self, asked: &Asked, cx: &mut Context<'_>) {
        if let Asked::Answer(number) = asked
            && let Some(request) = self.requests.remove(number)
        {
            self.request_bytes -= request.message.len();
            cx.memory.give_back(request.message.cost());
        }
    }

    pub(super) fn drop_requests(&mut self, cx: &mut Context<'_>) {
        for request in std::mem::take(&mut self.requests).into_values() {
            cx.memory.give_back(request.message.cost());
        }
        self.request_bytes = 0;
    }
}
