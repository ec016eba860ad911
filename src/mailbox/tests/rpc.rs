//! Requests and replies.

use super::*;

fn pair(rig: &mut Rig) -> (HandleId, HandleId) {
    (rig.enter(Door::Rpc, Mode::Both), rig.enter(Door::Serve, Mode::Both))
}

#[test]
fn a_reply_goes_to_the_client_that_sent_the_request_and_may_send_another() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    for round in ["1", "2"] {
        rig.fill(client, &[round]);
        assert_eq!(rig.send(client, "more"), Got::Failed(Error::Busy));
        assert!(!rig.ready(client).writable && rig.ready(server).readable);
        assert_eq!([rig.read(server, 64), rig.read(server, 64)], [bytes(round), bytes("")]);
        let call = rig.await_message(client);
        rig.fill(server, &["answer"]);
        assert_eq!(rig.got(call), bytes("answer"));
        assert_eq!([rig.read(client, 64), rig.read(client, 64)], [bytes(""), bytes("")]);
    }
    assert_eq!((rig.counts().replied, rig.counts().serving, rig.memory.used()), (2, 0, 0));
    assert_eq!(rig.counts().sent, 0, "requests are no messages");
}

#[test]
fn replies_in_another_order_go_to_the_right_clients() {
    let mut rig = Rig::new();
    let ((first, one), (second, two)) = (pair(&mut rig), pair(&mut rig));
    rig.fill(first, &["a"]);
    rig.fill(second, &["b"]);
    assert_eq!([rig.read(one, 64), rig.read(two, 64)], [bytes("a"), bytes("b")]);
    let call = rig.await_message(first);
    rig.fill(two, &["for b"]);
    assert_eq!(rig.got(call), Got::Waits);
    rig.fill(one, &["for a"]);
    assert_eq!((rig.got(call), rig.read(second, 64)), (bytes("for a"), bytes("for b")));
}

#[test]
fn memory_that_a_reply_has_taken_is_there_for_others_once_the_client_has_it() {
    for wait in [true, false] {
        let mut rig = Rig::new();
        let (client, server) = pair(&mut rig);
        let sender = rig.open(Mode::Send);
        // Enough for a message of any length, or for a request or a reply and a little more.
        rig.others_charge(PLENTY - Memory::cost(64) - Memory::cost(1) + 1);
        rig.fill(client, &["?"]);
        assert_eq!(rig.read(server, 64), bytes("?"));
        let call = rig.await_message(client);
        let waiting = wait.then(|| rig.await_room(sender, &"x".repeat(64)));
        assert!(!rig.arm(sender, 1).writable);
        rig.fill(server, &["!"]);
        assert_eq!(rig.got(call), bytes("!"));
        match waiting {
            Some(waiting) => assert_eq!(rig.got(waiting), Got::Written(64)),
            None => assert_eq!(rig.woken(), [1]),
        }
    }
}

#[test]
fn memory_of_a_reply_that_nobody_has_read_is_there_for_others_once_the_client_sends_again() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    let sender = rig.open(Mode::Send);
    rig.fill(client, &["?"]);
    assert_eq!(rig.read(server, 64), bytes("?"));
    rig.fill(server, &[&"!".repeat(60)]);
    let call = rig.await_message(server);
    // With the reply, there is no room for a message of this length.
    rig.others_charge(PLENTY - Memory::cost(60) - Memory::cost(2) + 1);
    let waiting = rig.await_room(sender, "xx");
    rig.fill(client, &["?"]);
    assert_eq!((rig.got(call), rig.got(waiting)), (bytes("?"), Got::Written(2)));
}

#[test]
fn without_a_request_there_is_nothing_to_read_or_reply_to() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    assert_eq!(rig.read(client, 64), Got::Failed(Error::NoMessage));
    assert_eq!(rig.send(server, "answer"), Got::Failed(Error::NoMessage));
    rig.remove();
    assert_eq!(rig.send(server, "answer"), Got::Failed(Error::Removed));
    assert_eq!(rig.read(client, 64), Got::Failed(Error::Removed));
}

#[test]
fn reads_that_wait_through_one_descriptor_share_one_request() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    let other = rig.enter(Door::Rpc, Mode::Both);
    let calls = [(); 3].map(|()| rig.await_message(server));
    rig.fill(client, &["1"]);
    rig.fill(other, &["2"]);
    assert_eq!(calls.map(|call| rig.got(call)), [bytes("1"), bytes(""), bytes("")]);
    assert_eq!((rig.counts().serving, rig.counts().requests), (1, 1));
    let calls = [(); 3].map(|()| rig.await_message(client));
    rig.fill(server, &["answer"]);
    assert_eq!(calls.map(|call| rig.got(call)), [bytes("answer"), bytes(""), bytes("")]);
    assert_eq!(rig.read(server, 64), bytes("2"));
}

#[test]
fn a_server_that_closes_without_a_reply_returns_its_request() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    let later = rig.enter(Door::Rpc, Mode::Both);
    rig.fill(client, &["1"]);
    assert_eq!(rig.read(server, 64), bytes("1"));
    rig.fill(later, &["2"]);
    rig.close(server);
    assert_eq!((rig.counts().redelivered, rig.counts().requests), (1, 2));
    let server = rig.enter(Door::Serve, Mode::Both);
    assert_eq!(rig.read(server, 64), bytes("1"), "before those who asked later");
    let waiting = rig.enter(Door::Serve, Mode::Both);
    assert_eq!(rig.read(waiting, 64), bytes("2"));
    rig.fill(waiting, &["answer"]);
    let call = rig.await_message(waiting);
    rig.close(server);
    assert_eq!(rig.got(call), bytes("1"));
    rig.fill(waiting, &["answer"]);
    assert_eq!(rig.memory.used(), 2 * Memory::cost(6), "answers that nobody has read");
    assert_eq!([rig.read(client, 64), rig.read(later, 64)], [bytes("answer"), bytes("answer")]);
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_client_that_closes_cancels_its_request() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    rig.fill(client, &["1"]);
    rig.close(client);
    assert_eq!((rig.counts().requests, rig.memory.used()), (0, 0));
    let client = rig.enter(Door::Rpc, Mode::Both);
    rig.fill(client, &["2"]);
    assert_eq!(rig.read(server, 64), bytes("2"));
    rig.close(client);
    let another = rig.enter(Door::Rpc, Mode::Both);
    assert_eq!(another, client, "the same place in the table");
    rig.fill(another, &["3"]);
    assert_eq!(rig.send(server, "for 2"), Got::Failed(Error::Cancelled));
    assert_eq!(rig.read(another, 64), Got::Failed(Error::WouldWait));
    assert_eq!(rig.read(server, 64), bytes("3"));
    rig.close(another);
    rig.close(server);
    assert_eq!((rig.counts().serving, rig.counts().requests, rig.memory.used()), (0, 0, 0));
}

#[test]
fn requests_wait_for_room_like_messages_and_can_be_cancelled() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1", "2", "3"]);
    assert_eq!(rig.send(client, "ask"), Got::Failed(Error::WouldWait));
    let call = rig.await_room(client, "ask");
    assert_eq!(rig.send(client, "more"), Got::Failed(Error::Busy));
    assert!(rig.cancel(call));
    assert_eq!((rig.got(call), rig.held()), (Got::Failed(Error::Interrupted), 0));
    assert_eq!(rig.read(client, 64), Got::Failed(Error::NoMessage), "nothing was asked");
    let call = rig.await_room(client, "ask");
    assert_eq!(rig.read(reader, 64), bytes("1"));
    assert_eq!((rig.got(call), rig.counts().requests), (Got::Written(3), 1));
    assert_eq!(rig.send(writer, "4"), Got::Failed(Error::WouldWait), "a request takes a place");
    assert_eq!(rig.read(server, 64), bytes("ask"));
    rig.fill(writer, &["4"]);
}

#[test]
fn a_server_receives_a_request_from_a_writer_that_waits_behind_others() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    rig.arm(server, 1);
    let calls = [rig.await_room(writer, "4"), rig.await_room(client, "ask"), rig.await_room(writer, "5")];
    assert_eq!(rig.woken(), [1]);
    assert!(rig.ready(server).readable);
    assert_eq!(rig.read(server, 64), bytes("ask"));
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Waits, Got::Written(3), Got::Waits]);
    rig.fill(server, &["answer"]);
    assert_eq!(rig.read(client, 64), bytes("answer"));
    let call = rig.await_message(server);
    rig.arm(client, 2);
    rig.fill(client, &["again"]);
    assert_eq!(rig.got(call), bytes("again"), "past those who wait for room");
}

#[test]
fn a_reader_receives_from_a_writer_that_waits_behind_a_request() {
    let mut rig = Rig::new();
    let (client, _) = pair(&mut rig);
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill_memory();
    let calls = [rig.await_room(client, "ask"), rig.await_room(writer, "text")];
    assert_eq!(rig.read(reader, 64), bytes("text"));
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Waits, Got::Written(4)]);
}

#[test]
fn a_waiting_server_wakes_clients_that_poll() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    assert!(!rig.arm(client, 1).writable);
    assert!(!rig.arm(writer, 2).writable);
    rig.await_message(server);
    assert_eq!(rig.woken(), [1]);
    assert!(rig.ready(client).writable && !rig.ready(writer).writable);
    rig.fill(client, &["ask"]);
}

/// Otherwise it would be woken for room each time it polls, and never sleep.
#[test]
fn a_client_that_polls_for_its_reply_is_not_blocked_by_memory() {
    let mut rig = Rig::new();
    let (client, server) = pair(&mut rig);
    rig.fill(client, &["question"]);
    assert_eq!(rig.arm(client, 1), Ready::default());
    assert!(!rig.mailbox.blocked_by_memory(), "there is room, and that is not what it waits for");
    assert_eq!(rig.read(server, 64), bytes("question"));
    rig.woken();
    rig.arm(client, 2);
    assert!(!rig.mailbox.blocked_by_memory());
    rig.fill(server, &["answer"]);
    assert!(rig.woken().contains(&2));
}

#[test]
fn removal_ends_requests_wherever_they_are() {
    let mut rig = Rig::new();
    let (served, server) = pair(&mut rig);
    let (client, _) = pair(&mut rig);
    rig.fill(served, &["1"]);
    assert_eq!(rig.read(server, 64), bytes("1"));
    rig.fill(client, &["2"]);
    let calls = [rig.await_message(served), rig.await_message(client)];
    assert_eq!(rig.remove(), 0, "requests are no messages");
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Failed(Error::Removed), Got::Failed(Error::Removed)]);
    assert_eq!(rig.send(server, "answer"), Got::Failed(Error::Removed));
    rig.close(server);
    rig.close(client);
    assert_eq!((rig.memory.used(), rig.counts().serving), (0, 0));
}
