//! Writing through `stream` and `whole`, and reading many messages at once.

use super::*;

#[test]
fn a_stream_makes_a_message_of_each_line_and_keeps_what_is_unfinished() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Stream, Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["a\nbb\nc"]);
    assert_eq!((desk.counts().depth, desk.counts().bytes), (2, 5));
    desk.fill(writer, &["c", "c\n"]);
    for body in ["a\n", "bb\n", "ccc\n"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!((desk.memory.used(), desk.held(), desk.counts().sent), (0, 0, 3));
}

#[test]
fn an_unfinished_line_is_sent_at_close_and_nothing_is_no_message() {
    let mut desk = Desk::new();
    let reader = desk.open(Mode::Both);
    for (text, sent) in [("a\nb", 2), ("a\n", 1), ("", 0)] {
        let writer = desk.enter(Door::Stream, Mode::Send);
        assert_eq!(desk.send(writer, text), Got::Written(text.len() as u32));
        desk.close(writer);
        assert_eq!(desk.counts().depth, sent);
        while desk.counts().depth > 0 {
            desk.read(reader, 64);
        }
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn a_full_mailbox_takes_the_lines_of_one_write_as_it_empties() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Stream, Mode::Send), desk.open(Mode::Both));
    let call = desk.await_room(writer, "1\n2\n3\n4\n5\nrest");
    assert_eq!((desk.counts().depth, desk.counts().waiting_writers), (3, 1));
    assert_eq!(desk.read(reader, 64), bytes("1\n"));
    assert_eq!((desk.got(call), desk.counts().sent), (Got::Waits, 4));
    assert_eq!(desk.read(reader, 64), bytes("2\n"));
    assert_eq!(desk.got(call), Got::Written(14), "and the rest is kept");
    desk.fill(writer, &["less"]);
    desk.close(writer);
    for body in ["3\n", "4\n", "5\n", "restless"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn a_write_of_lines_that_ends_early_tells_how_much_was_taken() {
    let mut desk = Desk::new();
    let writer = desk.enter(Door::Stream, Mode::Send);
    assert_eq!(desk.send(writer, "1\n22\n3\n4\n"), Got::Written(7), "may not wait");
    assert_eq!(desk.send(writer, "4\n"), Got::Failed(Error::WouldWait));
    desk.set_limits(MailboxLimits { maxmsg: 4, ..LIMITS });
    let call = desk.await_room(writer, "4\n5\ntail");
    assert!(desk.cancel(call));
    assert_eq!((desk.got(call), desk.held()), (Got::Written(2), 0));
    let call = desk.await_room(writer, "5\n");
    assert!(desk.cancel(call));
    assert_eq!(desk.got(call), Got::Failed(Error::Interrupted));
    desk.when_full(WhenFull::Fail);
    assert_eq!(desk.send(writer, "5\n"), Got::Failed(Error::NoSpace));
    assert_eq!((desk.counts().sent, desk.counts().depth), (4, 4));
}

#[test]
fn what_was_begun_before_a_write_that_failed_is_kept() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Stream, Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1\n2\n3\nbeg"]);
    assert_eq!(desk.send(writer, "un\n"), Got::Failed(Error::WouldWait));
    let call = desk.await_room(writer, "un\n");
    desk.fill(writer, &["in"]);
    assert!(desk.cancel(call));
    assert_eq!(desk.read(reader, 64), bytes("1\n"));
    desk.fill(writer, &["\n"]);
    for body in ["2\n", "3\n", "begin\n"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    desk.close(writer);
    assert_eq!((desk.memory.used(), desk.held(), desk.counts().sent), (0, 0, 4));
}

#[test]
fn two_writes_that_end_no_line_are_both_kept_though_one_had_to_wait() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Stream, Mode::Both), desk.open(Mode::Both));
    let call = desk.await_room(writer, "1\n2\n3\n4\nfirst ");
    desk.fill(writer, &["second"]);
    assert_eq!(desk.read(reader, 64), bytes("1\n"));
    assert_eq!(desk.got(call), Got::Written(14));
    desk.close(writer);
    for body in ["2\n", "3\n", "4\n", "first second"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn a_line_that_is_too_long_is_refused_after_those_before_it() {
    let mut desk = Desk::new();
    let (writer, long) = (desk.enter(Door::Stream, Mode::Send), "x".repeat(64));
    assert_eq!(desk.send(writer, &format!("ok\n{long}\nmore\n")), Got::Written(3));
    assert_eq!(desk.send(writer, &format!("{long}\n")), Got::Failed(Error::TooLong));
    desk.fill(writer, &[&"y".repeat(64)]);
    assert_eq!(desk.send(writer, "y"), Got::Failed(Error::TooLong));
    assert_eq!(desk.send(writer, "\nz\n"), Got::Failed(Error::TooLong), "it would be a part of a line");
    desk.close(writer);
    assert_eq!((desk.counts().sent, desk.held()), (1, 0));
}

#[test]
fn an_unfinished_line_closed_into_a_full_mailbox_waits_like_a_writer() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Stream, Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1\n2\n3\nlast"]);
    desk.close(writer);
    let plain = desk.open(Mode::Send);
    let behind = desk.await_room(plain, "behind");
    assert_eq!((desk.counts().depth, desk.counts().waiting_writers), (3, 2));
    for body in ["1\n", "2\n", "3\n", "last"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!(desk.got(behind), Got::Written(6));
    assert_eq!(desk.read(reader, 64), bytes("behind"));
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn what_was_closed_into_a_full_mailbox_goes_with_its_name() {
    let mut desk = Desk::new();
    let (writer, whole) = (desk.enter(Door::Stream, Mode::Send), desk.enter(Door::Whole, Mode::Send));
    desk.fill(writer, &["1\n2\n3\nlast"]);
    desk.fill(whole, &["all"]);
    desk.close(writer);
    assert_eq!(desk.remove(), 3);
    desk.close(whole);
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn lines_are_dropped_from_the_oldest_on_where_the_mailbox_says_so() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Stream, Mode::Send), desk.open(Mode::Both));
    desk.when_full(WhenFull::DropOldest);
    desk.fill(writer, &["1\n2\n3\n4\n5\n"]);
    assert_eq!((desk.counts().depth, desk.counts().dropped, desk.counts().sent), (3, 2, 5));
    for body in ["3\n", "4\n", "5\n"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!(desk.memory.used(), 0);
}

#[test]
fn reading_gives_as_many_whole_messages_as_the_buffer_holds() {
    let mut desk = Desk::with(MailboxLimits { maxmsg: 10, ..LIMITS }, PLENTY);
    let (lines, plain) = (desk.enter(Door::Stream, Mode::Send), desk.open(Mode::Send));
    let reader = desk.enter(Door::Stream, Mode::Receive);
    desk.fill(lines, &["1\n22\n333\n"]);
    desk.fill(plain, &["four", "5"]);
    assert_eq!(desk.read(reader, 6), bytes("1\n22\n"), "333 does not fit");
    assert_eq!(desk.read(reader, 2), bytes("33"), "a message that no buffer holds is begun");
    assert_eq!(desk.read(reader, 64), bytes("3\n"), "and what is left of it comes alone");
    assert_eq!(desk.read(reader, 64), bytes("four5"));
    assert_eq!(desk.read(reader, 64), Got::Failed(Error::WouldWait), "no end of file");
    assert_eq!((desk.counts().received, desk.memory.used()), (5, 0));
}

#[test]
fn lines_go_to_those_who_wait_for_them_each_as_it_reads() {
    let mut desk = Desk::new();
    let writer = desk.enter(Door::Stream, Mode::Send);
    let (plain, many) = (desk.open(Mode::Receive), desk.enter(Door::Stream, Mode::Receive));
    let calls = [desk.await_message(plain), desk.read_at(many, 0, 4, false)];
    desk.fill(writer, &["1\n2\n3\n4\n"]);
    assert_eq!(calls.map(|call| desk.got(call)), [bytes("1\n"), bytes("2\n3\n")]);
    assert_eq!(desk.counts().depth, 1);
}

#[test]
fn a_whole_text_is_one_message_however_it_was_written() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Whole, Mode::Send), desk.open(Mode::Receive));
    let call = desk.await_message(reader);
    desk.fill(writer, &["one\n", "two\n", "three"]);
    assert_eq!(desk.got(call), Got::Waits);
    desk.close(writer);
    assert_eq!(desk.got(call), bytes("one\ntwo\nthree"));
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn a_whole_text_may_be_longer_than_a_message_and_no_longer_than_its_bound() {
    let mut desk = Desk::new();
    desk.rules(|rules| rules.wholesize = 80);
    let reader = desk.enter(Door::Stream, Mode::Both);
    for (more, sent) in [(20, 1), (21, 0)] {
        let writer = desk.enter(Door::Whole, Mode::Send);
        desk.fill(writer, &[&"x".repeat(60)]);
        let got = desk.send(writer, &"x".repeat(more));
        assert_eq!(got, if sent == 1 { Got::Written(20) } else { Got::Failed(Error::TooLong) });
        if sent == 0 {
            assert_eq!(desk.send(writer, "x"), Got::Failed(Error::TooLong), "what is left would be a part");
        }
        desk.close(writer);
        assert_eq!(desk.counts().depth, sent);
        if sent == 1 {
            assert_eq!(desk.read(reader, 100), bytes(&"x".repeat(80)));
        }
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn a_whole_text_closed_into_a_full_mailbox_waits_and_comes_in_though_bounds_were_lowered() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Whole, Mode::Send), desk.open(Mode::Both));
    let plain = desk.open(Mode::Send);
    desk.fill(plain, &["1", "2", "3"]);
    desk.fill(writer, &["all of it"]);
    desk.close(writer);
    assert_eq!(desk.counts().waiting_writers, 1);
    desk.set_limits(MailboxLimits { maxbytes: 4, ..LIMITS });
    for body in ["1", "2", "3", "all of it"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn a_text_that_waits_without_its_writer_is_not_refused_with_the_others() {
    let mut desk = Desk::new();
    let (writer, plain) = (desk.enter(Door::Whole, Mode::Send), desk.open(Mode::Send));
    desk.fill(plain, &["1"]);
    desk.set_limits(MailboxLimits { maxmsg: 2, maxbytes: 20, ..LIMITS });
    let long = desk.await_room(plain, &"x".repeat(20));
    desk.fill(writer, &["kept"]);
    desk.close(writer);
    desk.when_full(WhenFull::Fail);
    assert_eq!(desk.got(long), Got::Failed(Error::NoSpace));
    assert_eq!((desk.counts().depth, desk.counts().waiting_writers), (2, 0), "and there is room for it now");
}

#[test]
fn json_tells_what_is_known_of_each_message() {
    let mut desk = Desk::new();
    let reader = desk.enter(Door::Json, Mode::Receive);
    let tagged = desk.enter(Door::Tag(b"t\xff".as_slice().into()), Mode::Send);
    desk.fill(tagged, &["a \"b\"\n"]);
    let call = desk.now;
    let Got::Bytes(line) = desk.read(reader, 4096) else { panic!() };
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    let shown: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(shown["body"], "a \"b\"\n");
    assert_eq!((&shown["uid"], &shown["gid"]), (&1000.into(), &100.into()));
    assert_eq!((&shown["pid"], &shown["priority"]), (&call.into(), &0.into()));
    assert_eq!((&shown["tag"], &shown["deliveries"]), (&"t\u{fffd}".into(), &0.into()));
    assert!(shown["id"].is_u64() && shown["sent"].is_f64() && shown.get("body_base64").is_none());
}

#[test]
fn json_shows_bytes_that_are_no_text_in_base64() {
    let mut message = crate::mailbox::message::Message {
        id: 7,
        sent: Timestamp(1_500_000_000),
        sender: caller(1),
        priority: 3,
        body: b"\xff\x00".as_slice().into(),
        extra: None,
    };
    message.edit_extra(|extra| extra.deliveries = 2);
    let line = crate::mailbox::json::line(&message);
    let expected = "{\"id\":7,\"sent\":1.5,\"uid\":1000,\"gid\":100,\"pid\":1,\"priority\":3,\"deliveries\":2,\
                    \"body_base64\":\"/wA=\"}\n";
    assert_eq!(String::from_utf8_lossy(line.as_bytes()), expected);
}

#[test]
fn json_gives_whole_lines_and_begins_only_what_no_buffer_holds() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.enter(Door::Json, Mode::Receive));
    desk.fill(writer, &["1", "2", "3"]);
    let Got::Bytes(first) = desk.read(reader, 40) else { panic!() };
    assert_eq!((first.len(), desk.counts().received), (40, 1));
    let Got::Bytes(rest) = desk.read(reader, 4096) else { panic!() };
    assert_eq!((rest.last(), desk.counts().received), (Some(&b'\n'), 1), "the rest comes alone");
    let length = first.len() + rest.len();
    let Got::Bytes(second) = desk.read(reader, 2 * length - 1) else { panic!() };
    assert_eq!((second.last(), desk.counts().received), (Some(&b'\n'), 2));
    let waiting = desk.open(Mode::Receive);
    assert_eq!(desk.read(waiting, 64), bytes("3"));
    let call = desk.read_at(reader, 0, 10, false);
    desk.fill(writer, &["4"]);
    let Got::Bytes(first) = desk.got(call) else { panic!() };
    assert_eq!(first.len(), 10, "one who waited reads the rest too");
    let Got::Bytes(rest) = desk.read(reader, 4096) else { panic!() };
    let shown: serde_json::Value = serde_json::from_slice(&[first, rest].concat()).unwrap();
    assert_eq!(shown["body"], "4");
}
