//! The queue, compared with a list that is searched from end to end.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::message::{Message, Run};
use super::super::queue::{Filter, Order, Queue};
use super::{at, config};
use crate::op::Caller;

#[derive(Debug, Clone)]
enum Step {
    Push(Kind),
    /// Its id is older than its place in the queue, as of a message that was moved here.
    PushMoved(Kind),
    /// Lines of these lengths, from one sender.
    PushRun {
        lengths: Vec<u8>,
        uid: u32,
        expires: Option<u64>,
    },
    Pop,
    PopRun(usize),
    PopTag(u8),
    PopSender(u32),
    PopOldest,
    PopExpired,
    /// Removes a message and puts it back at the front.
    Return(u8),
    Get(u8),
    Remove(u8),
    List(usize),
    Order(bool),
    Clear,
}

#[derive(Debug, Clone)]
struct Kind {
    priority: u16,
    tag: Option<u8>,
    uid: u32,
    expires: Option<u64>,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let priority = prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(7), 1 => Just(32_767)];
    (priority, prop::option::of(0..3_u8), 0..3_u32, expiries())
        .prop_map(|(priority, tag, uid, expires)| Kind { priority, tag, uid, expires })
}

fn expiries() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(None), 1 => (1..60_u64).prop_map(Some)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run = (prop::collection::vec(1..6_u8, 1..6), 0..3_u32, expiries());
    let step = prop_oneof![
        8 => kinds().prop_map(Step::Push),
        2 => kinds().prop_map(Step::PushMoved),
        6 => run.prop_map(|(lengths, uid, expires)| Step::PushRun { lengths, uid, expires }),
        4 => Just(Step::Pop),
        4 => (0..20_usize).prop_map(Step::PopRun),
        2 => (0..3_u8).prop_map(Step::PopTag),
        1 => (0..3_u32).prop_map(Step::PopSender),
        2 => Just(Step::PopOldest),
        2 => Just(Step::PopExpired),
        3 => any::<u8>().prop_map(Step::Return),
        2 => any::<u8>().prop_map(Step::Get),
        2 => any::<u8>().prop_map(Step::Remove),
        2 => (1..5_usize).prop_map(Step::List),
        1 => any::<bool>().prop_map(Step::Order),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..60)
}

/// All messages in the order sent, returned ones before the others.
struct Pair {
    queue: Queue,
    list: Vec<Message>,
    by_priority: bool,
    number: u64,
    now: u64,
}

impl Pair {
    fn message(&mut self, kind: &Kind, length: usize) -> Message {
        self.number += 1;
        let bytes = format!("{:0length$}\n", self.number);
        let mut message = Message {
            id: self.number,
            sent: at(self.now).wall,
            since: at(self.now).moment,
            sender: Caller { uid: kind.uid, gid: 1, pid: 2 },
            priority: kind.priority,
            body: Arc::from(bytes.as_bytes()),
            extra: None,
            charge: None,
            record: None,
        };
        if let Some(tag) = kind.tag {
            message.edit_extra(|extra| extra.tag = Some(Arc::from([tag])));
        }
        if let Some(after) = kind.expires {
            let expires = Some(at(self.now + after).moment);
            message.edit_extra(|extra| extra.expires = expires);
        }
        message
    }

    /// The index of the first message that is `wanted`.
    fn first(&self, wanted: impl Fn(&Message) -> bool) -> Option<usize> {
        let found = self.list.iter().enumerate().filter(|(_, message)| wanted(message));
        let priority = |message: &Message| if self.by_priority { message.priority } else { 0 };
        found.min_by_key(|(at, message)| (u16::MAX - priority(message), *at)).map(|(at, _)| at)
    }

    fn take_first(&mut self, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        self.first(wanted).map(|at| self.list.remove(at))
    }

    fn some_id(&self, choice: u8) -> u64 {
        // Usually of a queued message.
        let at = usize::from(choice) % (self.list.len() + 1);
        self.list.get(at).map_or(u64::from(choice), |message| message.id)
    }

    fn perform(&mut self, step: &Step) {
        self.now += 1;
        match step {
            Step::Push(kind) => {
                let message = self.message(kind, 3);
                self.list.push(message.clone());
                self.queue.push(message, self.number);
            }
            Step::PushMoved(kind) => {
                let message = self.message(kind, 3);
                self.number += 1;
                self.list.push(message.clone());
                self.queue.push(message, self.number);
            }
            Step::PushRun { lengths, uid, expires } => self.push_run(lengths, *uid, *expires),
            Step::Pop => {
                let expected = self.take_first(|_| true);
                assert_eq!(self.queue.pop(), expected);
            }
            Step::PopRun(room) => self.pop_run(*room),
            Step::PopTag(tag) => {
                let tag = Arc::from([*tag]);
                let expected = self.take_first(|message| message.tag() == Some(&tag));
                let filter = Filter::Tag(tag);
                assert_eq!(self.queue.has_matching(&filter), expected.is_some());
                assert_eq!(self.queue.pop_matching(&filter).map(Message::into_single), expected);
            }
            Step::PopSender(uid) => {
                let expected = self.take_first(|message| message.sender.uid == *uid);
                let filter = Filter::Sender(*uid);
                assert_eq!(self.queue.has_matching(&filter), expected.is_some());
                assert_eq!(self.queue.pop_matching(&filter).map(Message::into_single), expected);
            }
            Step::PopOldest => {
                let priority = |message: &Message| if self.by_priority { message.priority } else { 0 };
                let lowest = self.list.iter().map(priority).min();
                let at = self.list.iter().position(|message| Some(priority(message)) == lowest);
                let expected = at.map(|at| self.list.remove(at));
                assert_eq!(self.queue.pop_oldest().map(Message::into_single), expected);
            }
            Step::PopExpired => {
                let now = at(self.now).moment;
                match self.queue.pop_expired(now).map(Message::into_single) {
                    Some(message) => {
                        let at = self.list.iter().position(|other| *other == message).unwrap();
                        let earliest = self.list.iter().filter_map(Message::expires).min();
                        assert_eq!(self.list.remove(at).expires(), earliest);
                        assert!(earliest.unwrap() <= now);
                    }
                    None => {
                        assert!(self.list.iter().all(|message| message.expires().is_none_or(|at| at > now)));
                    }
                }
            }
            Step::Return(choice) => {
                let Some(message) = self.queue.remove(self.some_id(*choice)) else { return };
                let at = self.list.iter().position(|other| *other == message).unwrap();
                self.list.remove(at);
                self.list.insert(0, message.clone());
                self.queue.push_front(message);
            }
            Step::Get(choice) => {
                let id = self.some_id(*choice);
                let expected = self.list.iter().find(|message| message.id == id);
                assert_eq!(self.queue.get(id).cloned().map(Message::into_single).as_ref(), expected);
            }
            Step::Remove(choice) => {
                let id = self.some_id(*choice);
                let at = self.list.iter().position(|message| message.id == id);
                let expected = at.map(|at| self.list.remove(at));
                assert_eq!(self.queue.remove(id), expected);
            }
            Step::List(most) => self.check_list(*most),
            Step::Order(by_priority) => {
                self.by_priority = *by_priority;
                self.queue.set_order(if *by_priority { Order::Priority } else { Order::Fifo });
            }
            Step::Clear => self.clear(),
        }
    }

    fn push_run(&mut self, lengths: &[u8], uid: u32, expires: Option<u64>) {
        let kind = Kind { priority: 0, tag: None, uid, expires };
        let lines: Vec<Message> =
            lengths.iter().map(|length| self.message(&kind, usize::from(*length))).collect();
        let mut body = b"of another line\n".to_vec();
        let from = body.len();
        body.extend(lines.iter().flat_map(|line| line.body.to_vec()));
        let to = body.len();
        let mut run = Message { body: body.into(), ..lines[0].clone() };
        run.edit_extra(|extra| extra.run = Some(Run { lines: lines.len() as u64, from, to }));
        let number = run.id;
        self.queue.push(run, number);
        self.list.extend(lines);
    }

    /// The first message, and those of the same write after it that fit into `room`.
    fn pop_run(&mut self, room: usize) {
        let Some(run) = self.queue.pop_run(room) else {
            assert!(self.list.is_empty());
            return;
        };
        assert!(run.count() == 1 || run.len() <= room as u64);
        let mut bytes = Vec::new();
        for n in 0..run.count() {
            let line = self.take_first(|_| true).unwrap();
            assert_eq!((line.id, line.sender, line.sent), (run.id + n, run.sender, run.sent));
            bytes.extend_from_slice(&line.body);
        }
        assert_eq!(run.slice().as_bytes(), bytes);
    }

    fn check_list(&mut self, most: usize) {
        let mut listed = Vec::new();
        let mut position = 0;
        loop {
            let page = self.queue.list(position, most);
            assert!(page.len() <= most);
            let Some(last) = page.last() else { break };
            position = last.0;
            listed.extend(page);
        }
        assert!(listed.is_sorted_by(|one, next| one.0 < next.0), "no position twice: {listed:?}");
        let ids: Vec<u64> = listed.iter().map(|(_, id)| *id).collect();
        let expected: Vec<u64> = self.list.iter().map(|message| message.id).collect();
        assert_eq!(ids, expected);
    }

    fn clear(&mut self) {
        let mut taken = Vec::new();
        let mut cleared = self.queue.clear();
        while let Some(mut message) = cleared.pop_run(usize::MAX) {
            while let Some(line) = message.split_first() {
                taken.push(line);
            }
            taken.push(message.into_single());
        }
        let mut expected = Vec::new();
        while let Some(message) = self.take_first(|_| true) {
            expected.push(message);
        }
        assert_eq!(taken, expected);
    }

    fn check(&self) {
        assert_eq!(self.queue.depth(), self.list.len() as u64);
        assert_eq!(self.queue.is_empty(), self.list.is_empty());
        assert_eq!(self.queue.bytes(), self.list.iter().map(Message::len).sum::<u64>());
        assert_eq!(self.queue.cost(), self.list.iter().map(Message::cost).sum::<u64>());
        assert_eq!(self.queue.next_deadline(), self.list.iter().filter_map(Message::expires).min());
        let first = self.first(|_| true).map(|at| &self.list[at]);
        let shown = self.queue.first();
        assert_eq!(shown.map(|message| message.id), first.map(|message| message.id));
        assert_eq!(
            shown.map(|message| message.first_slice().as_bytes().to_vec()),
            first.map(|message| message.body.to_vec())
        );
        assert_eq!(shown.map(Message::first_len), first.map(Message::len));
        let ids: BTreeSet<u64> = self.list.iter().map(|message| message.id).collect();
        assert_eq!(ids.len(), self.list.len());
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn a_queue_behaves_as_a_list_that_is_searched_from_end_to_end(steps in steps()) {
        let mut pair =
            Pair { queue: Queue::default(), list: Vec::new(), by_priority: true, number: 0, now: 0 };
        for step in &steps {
            pair.perform(step);
            pair.check();
        }
        pair.check_list(3);
        pair.clear();
        pair.check();
    }
}
