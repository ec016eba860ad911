//! Requests and their answers.

use super::*;

fn pair(desk: &mut Desk) -> (HandleId, HandleId) {
    (desk.enter(Door::Rpc, Mode::Both), desk.enter(Door::Serve, Mode::Both))
}

#[test]
fn a_request_is_answered_to_whoever_asked_and_it_may_ask_again() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    for round in ["1", "2"] {
        desk.fill(client, &[round]);
        assert_eq!(desk.send(client, "more"), Got::Failed(Error::Busy));
        assert!(!desk.ready(client).writable && desk.ready(server).readable);
        assert_eq!([desk.read(server, 64), desk.read(server, 64)], [bytes(round), bytes("")]);
        let call = desk.await_message(client);
        desk.fill(server, &["answer"]);
        assert_eq!(desk.got(call), bytes("answer"));
        assert_eq!([desk.read(client, 64), desk.read(client, 64)], [bytes(""), bytes("")]);
    }
    assert_eq!((desk.counts().replied, desk.counts().serving, desk.memory.used()), (2, 0, 0));
    assert_eq!(desk.counts().sent, 0, "requests are no messages");
}

#[test]
fn answers_that_cross_go_each_to_its_own_client() {
    let mut desk = Desk::new();
    let ((first, one), (second, two)) = (pair(&mut desk), pair(&mut desk));
    desk.fill(first, &["a"]);
    desk.fill(second, &["b"]);
    assert_eq!([desk.read(one, 64), desk.read(two, 64)], [bytes("a"), bytes("b")]);
    let call = desk.await_message(first);
    desk.fill(two, &["for b"]);
    assert_eq!(desk.got(call), Got::Waits);
    desk.fill(one, &["for a"]);
    assert_eq!((desk.got(call), desk.read(second, 64)), (bytes("for a"), bytes("for b")));
}

#[test]
fn who_has_asked_or_taken_nothing_has_nothing_to_read_or_answer() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    assert_eq!(desk.read(client, 64), Got::Failed(Error::NoMessage));
    assert_eq!(desk.send(server, "answer"), Got::Failed(Error::NoMessage));
    desk.remove();
    assert_eq!(desk.send(server, "answer"), Got::Failed(Error::Removed));
    assert_eq!(desk.read(client, 64), Got::Failed(Error::Removed));
}

#[test]
fn reads_that_wait_through_one_descriptor_take_one_request_between_them() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    let other = desk.enter(Door::Rpc, Mode::Both);
    let calls = [(); 3].map(|()| desk.await_message(server));
    desk.fill(client, &["1"]);
    desk.fill(other, &["2"]);
    assert_eq!(calls.map(|call| desk.got(call)), [bytes("1"), bytes(""), bytes("")]);
    assert_eq!((desk.counts().serving, desk.counts().requests), (1, 1));
    let calls = [(); 3].map(|()| desk.await_message(client));
    desk.fill(server, &["answer"]);
    assert_eq!(calls.map(|call| desk.got(call)), [bytes("answer"), bytes(""), bytes("")]);
    assert_eq!(desk.read(server, 64), bytes("2"));
}

#[test]
fn a_server_that_goes_without_answering_gives_its_request_to_the_next() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    let later = desk.enter(Door::Rpc, Mode::Both);
    desk.fill(client, &["1"]);
    assert_eq!(desk.read(server, 64), bytes("1"));
    desk.fill(later, &["2"]);
    desk.close(server);
    assert_eq!((desk.counts().redelivered, desk.counts().requests), (1, 2));
    let server = desk.enter(Door::Serve, Mode::Both);
    assert_eq!(desk.read(server, 64), bytes("1"), "before those who asked later");
    let waiting = desk.enter(Door::Serve, Mode::Both);
    assert_eq!(desk.read(waiting, 64), bytes("2"));
    desk.fill(waiting, &["answer"]);
    let call = desk.await_message(waiting);
    desk.close(server);
    assert_eq!(desk.got(call), bytes("1"));
    desk.fill(waiting, &["answer"]);
    assert_eq!((desk.read(client, 64), desk.memory.used()), (bytes("answer"), 0));
}

#[test]
fn a_client_that_goes_cancels_its_request() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    desk.fill(client, &["1"]);
    desk.close(client);
    assert_eq!((desk.counts().requests, desk.memory.used()), (0, 0));
    let client = desk.enter(Door::Rpc, Mode::Both);
    desk.fill(client, &["2"]);
    assert_eq!(desk.read(server, 64), bytes("2"));
    desk.close(client);
    let another = desk.enter(Door::Rpc, Mode::Both);
    assert_eq!(another, client, "the same place in the table");
    desk.fill(another, &["3"]);
    assert_eq!(desk.send(server, "for 2"), Got::Failed(Error::Cancelled));
    assert_eq!(desk.read(another, 64), Got::Failed(Error::WouldWait));
    assert_eq!(desk.read(server, 64), bytes("3"));
    desk.close(another);
    desk.close(server);
    assert_eq!((desk.counts().serving, desk.counts().requests, desk.memory.used()), (0, 0, 0));
}

#[test]
fn requests_wait_for_room_like_messages_and_can_be_cancelled() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1", "2", "3"]);
    assert_eq!(desk.send(client, "ask"), Got::Failed(Error::WouldWait));
    let call = desk.await_room(client, "ask");
    assert_eq!(desk.send(client, "more"), Got::Failed(Error::Busy));
    assert!(desk.cancel(call));
    assert_eq!((desk.got(call), desk.held()), (Got::Failed(Error::Interrupted), 0));
    assert_eq!(desk.read(client, 64), Got::Failed(Error::NoMessage), "nothing was asked");
    let call = desk.await_room(client, "ask");
    assert_eq!(desk.read(reader, 64), bytes("1"));
    assert_eq!((desk.got(call), desk.counts().requests), (Got::Written(3), 1));
    assert_eq!(desk.send(writer, "4"), Got::Failed(Error::WouldWait), "a request takes a place");
    assert_eq!(desk.read(server, 64), bytes("ask"));
    desk.fill(writer, &["4"]);
}

#[test]
fn a_server_takes_a_request_from_a_writer_who_waits_behind_others() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["1", "2", "3"]);
    desk.arm(server, 1);
    let calls = [desk.await_room(writer, "4"), desk.await_room(client, "ask"), desk.await_room(writer, "5")];
    assert_eq!(desk.woken(), [1]);
    assert!(desk.ready(server).readable);
    assert_eq!(desk.read(server, 64), bytes("ask"));
    assert_eq!(calls.map(|call| desk.got(call)), [Got::Waits, Got::Written(3), Got::Waits]);
    desk.fill(server, &["answer"]);
    assert_eq!(desk.read(client, 64), bytes("answer"));
    let call = desk.await_message(server);
    desk.arm(client, 2);
    desk.fill(client, &["again"]);
    assert_eq!(desk.got(call), bytes("again"), "past those who wait for room");
}

#[test]
fn a_reader_takes_from_a_writer_who_waits_behind_a_request() {
    let mut desk = Desk::new();
    let (client, _) = pair(&mut desk);
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.crowd();
    let calls = [desk.await_room(client, "ask"), desk.await_room(writer, "text")];
    assert_eq!(desk.read(reader, 64), bytes("text"));
    assert_eq!(calls.map(|call| desk.got(call)), [Got::Waits, Got::Written(4)]);
}

#[test]
fn a_server_that_waits_is_room_for_clients_that_poll() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["1", "2", "3"]);
    assert!(!desk.arm(client, 1).writable);
    assert!(!desk.arm(writer, 2).writable);
    desk.await_message(server);
    assert_eq!(desk.woken(), [1]);
    assert!(desk.ready(client).writable && !desk.ready(writer).writable);
    desk.fill(client, &["ask"]);
}

/// Otherwise it would be told of room as often as it polled, and never sleep.
#[test]
fn a_client_that_polls_for_its_answer_does_not_starve_for_room() {
    let mut desk = Desk::new();
    let (client, server) = pair(&mut desk);
    desk.fill(client, &["question"]);
    assert_eq!(desk.arm(client, 1), Ready::default());
    assert!(!desk.mailbox.blocked_by_memory(), "there is room, and that is not what it waits for");
    assert_eq!(desk.read(server, 64), bytes("question"));
    desk.woken();
    desk.arm(client, 2);
    assert!(!desk.mailbox.blocked_by_memory());
    desk.fill(server, &["answer"]);
    assert!(desk.woken().contains(&2));
}

#[test]
fn removal_ends_requests_wherever_they_are() {
    let mut desk = Desk::new();
    let (served, server) = pair(&mut desk);
    let (client, _) = pair(&mut desk);
    desk.fill(served, &["1"]);
    assert_eq!(desk.read(server, 64), bytes("1"));
    desk.fill(client, &["2"]);
    let calls = [desk.await_message(served), desk.await_message(client)];
    assert_eq!(desk.remove(), 0, "requests are no messages");
    assert_eq!(calls.map(|call| desk.got(call)), [Got::Failed(Error::Removed), Got::Failed(Error::Removed)]);
    assert_eq!(desk.send(server, "answer"), Got::Failed(Error::Removed));
    desk.close(server);
    desk.close(client);
    assert_eq!((desk.memory.used(), desk.counts().serving), (0, 0));
}
