//! Questions and replies.

use super::*;
use crate::op::PollHandle;

impl Rig {
    fn door(&mut self, door: &Door) -> HandleId {
        self.remote.open(Mode::Both, door, self.accounts.of(1000)).0
    }

    /// Asks, and the engine has sent it. Returns what identifies the question.
    fn ask(&mut self, client: HandleId) -> u64 {
        let (wait, _) = self.write(client, b"question");
        assert_eq!(answer(&self.publish(wait, 1, Ok(()))), Reply::Written(8));
        wait.unwrap().0
    }

    fn reply(&mut self, question: u64, number: u64, body: &[u8]) -> Vec<Effect> {
        self.call(|remote, cx| remote.reply_came(question, number, Arc::from(body), cx)).1
    }

    /// A question comes to a server that reads.
    fn serve(&mut self, server: HandleId, delivery: u64) -> Vec<Effect> {
        let (_, effects) = self.read(server);
        let pull = pull_of(&effects);
        self.question_arrives(pull, delivery)
    }

    fn question_arrives(&mut self, pull: u64, delivery: u64) -> Vec<Effect> {
        let (delivery, body) = (DeliveryId(delivery), Arc::from(&b"question"[..]));
        let wanted = Wanted::Question;
        let message = Message { wanted, delivery, about: about(), deliveries: 0, body, waiting: 0 };
        self.call(|remote, cx| remote.arrived(pull, message, cx)).1
    }
}

fn heard(number: u64, result: Result<(), Error>) -> Effect {
    Effect::Engine(Box::new(Command::Heard(number, result)))
}

fn bytes(text: &'static [u8]) -> Reply {
    Reply::Message(Slice::whole(text))
}

fn is_failed(effects: &[Effect], error: Error) -> bool {
    answer(effects) == Reply::Failed(error)
}

#[test]
fn the_first_reply_goes_to_the_client_that_asked_and_it_may_ask_again() {
    let mut rig = Rig::new();
    let client = rig.door(&Door::Rpc);
    assert!(is_failed(&rig.read(client).1, Error::NoMessage));
    let question = rig.ask(client);
    assert!(is_failed(&rig.write(client, b"more").1, Error::Busy));
    assert_eq!(rig.remote.counts().requests, 1);
    // Two reads of one descriptor: the reply, and its end of file.
    let waits = [rig.read(client).0, rig.read(client).0];
    assert!(waits.iter().all(Option::is_some));
    let effects = rig.reply(question, 1, b"reply");
    let replies: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reply(_, reply) => Some(reply.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(replies, [bytes(b"reply"), bytes(b"")]);
    assert!(effects.contains(&heard(1, Ok(()))));
    assert_eq!(rig.reply(question, 2, b"late"), [heard(2, Err(Error::Cancelled))]);
    assert_eq!(answer(&rig.read(client).1), bytes(b""));
    // What nobody has read is gone with the next question.
    let question = rig.ask(client);
    rig.reply(question, 3, b"unread");
    let question = rig.ask(client);
    assert!(rig.read(client).0.is_some());
    assert_eq!(answer(&rig.reply(question, 4, b"read")), bytes(b"read"));
    assert_eq!((rig.remote.counts().requests, rig.remote.counts().sent), (0, 0));
    assert_eq!(rig.accounts.used(Resource::Memory), 0);
}

#[test]
fn a_reply_may_come_before_the_question_is_known_to_be_sent() {
    // Even if what the engine says of the question is that it may not have been sent.
    for result in [Ok(()), Err(Error::Interrupted)] {
        let mut rig = Rig::new();
        let client = rig.door(&Door::Rpc);
        let (wait, _) = rig.write(client, b"question");
        assert_eq!(rig.reply(wait.unwrap().0, 1, b"reply"), [heard(1, Ok(()))]);
        let effects = rig.publish(wait, usize::from(result.is_ok()), result);
        assert_eq!(answer(&effects), Reply::Written(8));
        assert_eq!(answer(&rig.read(client).1), bytes(b"reply"));
    }
    // One that was not sent is none.
    let mut rig = Rig::new();
    let client = rig.door(&Door::Rpc);
    let (wait, _) = rig.write(client, b"question");
    assert!(is_failed(&rig.publish(wait, 0, Err(Error::Interrupted)), Error::Interrupted));
    assert!(is_failed(&rig.read(client).1, Error::NoMessage));
    assert_eq!(rig.reply(wait.unwrap().0, 1, b"reply"), [heard(1, Err(Error::Cancelled))]);
}

#[test]
fn a_reply_for_which_there_is_no_memory_is_not_taken() {
    let mut rig = Rig::new();
    let client = rig.door(&Door::Rpc);
    let question = rig.ask(client);
    // The bytes of the question are charged as long as it has no reply.
    assert!(rig.accounts.used(Resource::Memory) > 0);
    let long = vec![b'x'; 2 << 20];
    assert_eq!(rig.reply(question, 1, &long), [heard(1, Err(Error::NoMemory))]);
    assert!(rig.read(client).0.is_some(), "it waits on");
    assert_eq!(answer(&rig.reply(question, 2, b"short")), bytes(b"short"));
}

#[test]
fn a_client_that_closes_or_whose_mailbox_is_removed_waits_for_no_reply() {
    for removed in [false, true] {
        let mut rig = Rig::new();
        let client = rig.door(&Door::Rpc);
        let question = rig.ask(client);
        let effects = if removed {
            rig.read(client);
            let ((), effects) = rig.call(Remote::remove);
            assert!(is_failed(&effects, Error::Removed));
            effects
        } else {
            rig.call(|remote, cx| remote.close(client, cx)).1
        };
        let forget = Effect::Engine(Box::new(Command::Forget(Ino(20), question)));
        assert!(effects.contains(&forget), "{effects:?}");
        assert_eq!(rig.reply(question, 1, b"reply"), [heard(1, Err(Error::Cancelled))]);
        assert_eq!(rig.accounts.used(Resource::Memory), 0);
    }
}

#[test]
fn a_server_keeps_its_question_unless_the_reply_is_taken_or_nobody_waits() {
    let mut rig = Rig::new();
    let server = rig.door(&Door::Serve);
    assert!(is_failed(&rig.write(server, b"reply").1, Error::NoMessage));
    for (result, is_kept) in [
        (Err(Error::Interrupted), true),
        (Err(Error::WouldWait), true),
        (Err(Error::NoMemory), true),
        (Err(Error::Cancelled), false),
        (Ok(()), false),
    ] {
        let effects = rig.serve(server, 7);
        assert!(effects.contains(&Effect::Engine(Box::new(Command::Keep(DeliveryId(7))))));
        assert_eq!((answer(&effects), rig.remote.counts().serving), (bytes(b"question"), 1));
        assert_eq!(answer(&rig.read(server).1), bytes(b""));
        let (wait, effects) = rig.write(server, b"reply");
        let [Effect::Engine(told)] = &effects[..] else { panic!("{effects:?}") };
        assert!(matches!(**told, Command::Reply { delivery: DeliveryId(7), once: false, .. }));
        assert!(is_failed(&rig.write(server, b"reply").1, Error::NoMessage));
        let ((), effects) = rig.call(|remote, cx| remote.replied(wait.unwrap().0, result, cx));
        let expected = result.map_or_else(Reply::Failed, |()| Reply::Written(5));
        assert_eq!(answer(&effects), expected);
        assert_eq!(rig.remote.counts().serving, u64::from(is_kept));
        let (wait, _) = rig.write(server, b"reply");
        assert_eq!(wait.is_some(), is_kept);
        if let Some(wait) = wait {
            rig.call(|remote, cx| remote.replied(wait.0, Ok(()), cx));
        }
    }
    assert_eq!((rig.remote.counts().replied, rig.remote.counts().received), (4, 0));
    // Closing gives it back.
    rig.serve(server, 8);
    let ((), effects) = rig.call(|remote, cx| remote.close(server, cx));
    assert_eq!(effects, [Effect::Engine(Box::new(Command::Settle(DeliveryId(8), Settle::Nack, None)))]);
}

#[test]
fn questions_and_messages_come_to_those_who_wait_for_them() {
    let mut rig = Rig::new();
    let (reader, server) = (rig.open(Mode::Receive, false), rig.door(&Door::Serve));
    let (_, effects) = rig.read(reader);
    let pull = pull_of(&effects);
    rig.read(server);
    // Reads of one descriptor share a question.
    let (_, effects) = rig.read(server);
    let effects = rig.question_arrives(pull_of(&effects), 7);
    let replies = effects.iter().filter(|effect| matches!(effect, Effect::Reply(..))).count();
    assert_eq!(replies, 2);
    let ends =
        |effect: &Effect| matches!(effect, Effect::Engine(told) if matches!(**told, Command::EndPull(..)));
    assert!(effects.iter().any(ends), "{effects:?}");
    // One that comes nevertheless goes back.
    let back = Command::Settle(DeliveryId(8), Settle::Nack, None);
    assert_eq!(rig.question_arrives(99, 8), [Effect::Engine(Box::new(back))]);
    assert!(matches!(rig.arrive(pull, 9)[0], Effect::Deliver(..)));
}

#[test]
fn one_who_polls_with_a_question_in_hand_is_told_of_the_next_once_it_has_replied() {
    let mut rig = Rig::new();
    let server = rig.door(&Door::Serve);
    rig.serve(server, 7);
    rig.read(server);
    let request = RequestId { unique: 100, reply_path: 0, pid: 0 };
    let poller = Poller::new(PollHandle(5));
    let (ready, effects) = rig.call(|remote, cx| remote.poll(server, request, Some(poller), cx));
    assert!(!ready.unwrap().readable && effects.is_empty(), "{effects:?}");
    let (wait, _) = rig.write(server, b"reply");
    let ((), effects) = rig.call(|remote, cx| remote.replied(wait.unwrap().0, Ok(()), cx));
    let effects = rig.question_arrives(pull_of(&effects), 8);
    assert!(effects.contains(&Effect::Wake(PollHandle(5))), "{effects:?}");
    assert_eq!(answer(&rig.read(server).1), bytes(b"question"));
}
