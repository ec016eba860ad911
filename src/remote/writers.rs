//! What the engine is doing for writes, and what is kept of a line that has no end yet.

use std::sync::Arc;

use crate::accounts::{Account, Charge, Resource};
use crate::engine::DeliveryId;
use crate::mailbox::{Context, HandleId, Memory, Send};
use crate::op::{Caller, Error, Moment, RequestId};

/// What the engine is doing for a write.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None`: its file is closed.
    pub(super) request: Option<RequestId>,
    pub(super) caller: Caller,
    pub(super) nonblock: bool,
    pub(super) since: Moment,
    pub(super) does: Doing,
    /// Of the bytes that are on their way.
    pub(super) _charge: Option<Charge>,
}

/// What a write waits for.
#[derive(Debug)]
pub(super) enum Doing {
    /// One message, of so many bytes, is sent.
    Sends(u32),
    /// Lines are sent through an open file.
    SendsLines {
        handle: HandleId,
        /// How the first of them began, before this write.
        begun: Line,
        /// How much of the write is done with each of them.
        ends: Vec<u32>,
        /// What is kept once all are sent.
        rest: Line,
    },
    /// The lease of an open file is settled, by so many bytes.
    Settles(HandleId, u32),
    /// An open file asks a question, of so many bytes.
    Asks(HandleId, u32),
    /// An open file replies to the question that it has in hand, by so many bytes.
    Replies(HandleId, DeliveryId, u32),
}

impl Writer {
    pub(super) fn of(call: Send<'_>, does: Doing, cx: &Context<'_>) -> Writer {
        let Send { request_id, caller, nonblock, .. } = call;
        Writer { request: Some(request_id), caller, nonblock, since: cx.now.moment, does, _charge: None }
    }
}

/// The beginning of a line, which a later write or the close ends.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    pub(super) caller: Caller,
    pub(super) charge: Option<Charge>,
    /// It was longer than a message may be. Nothing more is taken.
    pub(super) too_long: bool,
    /// A part of the one message is missing, so that it is not sent.
    pub(super) incomplete: bool,
}

impl Line {
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        caller: Caller,
        longest: usize,
        account: &Arc<Account>,
    ) -> Result<(), Error> {
        let length = self.bytes.len() + bytes.len();
        if length > longest {
            *self = Line { too_long: true, ..Line::default() };
            return Err(Error::TooLong);
        }
        let cost = Memory::cost(length);
        match &mut self.charge {
            Some(charge) => charge.resize(cost),
            none => account.charge(Resource::Waiting, cost).map(|charge| *none = Some(charge)),
        }
        .map_err(|_| Error::NoMemory)?;
        self.caller = caller;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
