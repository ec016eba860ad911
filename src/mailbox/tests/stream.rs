//! Writing through `stream` and `whole`, and reading many messages at once.

use super::*;

#[test]
fn a_stream_sends_each_line_and_keeps_an_unfinished_one() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["a\nbb\nc"]);
    assert_eq!((rig.counts().depth, rig.counts().bytes), (2, 5));
    rig.fill(writer, &["c", "c\n"]);
    for body in ["a\n", "bb\n", "ccc\n"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!((rig.memory.used(), rig.held(), rig.counts().sent), (0, 0, 3));
}

#[test]
fn an_unfinished_line_is_sent_at_close_unless_it_is_empty() {
    let mut rig = Rig::new();
    let reader = rig.open(Mode::Both);
    for (text, sent) in [("a\nb", 2), ("a\n", 1), ("", 0)] {
        let writer = rig.enter(Door::Stream, Mode::Send);
        assert_eq!(rig.send(writer, text), Got::Written(text.len() as u32));
        rig.close(writer);
        assert_eq!(rig.counts().depth, sent);
        while rig.counts().depth > 0 {
            rig.read(reader, 64);
        }
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_full_mailbox_admits_the_lines_of_one_write_as_it_empties() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Send), rig.open(Mode::Both));
    let call = rig.await_room(writer, "1\n2\n3\n4\n5\nrest");
    assert_eq!((rig.counts().depth, rig.counts().waiting_writers), (3, 1));
    assert_eq!(rig.read(reader, 64), bytes("1\n"));
    assert_eq!((rig.got(call), rig.counts().sent), (Got::Waits, 4));
    assert_eq!(rig.read(reader, 64), bytes("2\n"));
    assert_eq!(rig.got(call), Got::Written(14), "and the rest is kept");
    rig.fill(writer, &["less"]);
    rig.close(writer);
    for body in ["3\n", "4\n", "5\n", "restless"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_write_of_lines_that_ends_early_returns_the_bytes_sent() {
    let mut rig = Rig::new();
    let writer = rig.enter(Door::Stream, Mode::Send);
    assert_eq!(rig.send(writer, "1\n22\n3\n4\n"), Got::Written(7), "may not wait");
    assert_eq!(rig.send(writer, "4\n"), Got::Failed(Error::WouldWait));
    rig.set_limits(MailboxLimits { maxmsg: 4, ..LIMITS });
    let call = rig.await_room(writer, "4\n5\ntail");
    assert!(rig.cancel(call));
    assert_eq!((rig.got(call), rig.held()), (Got::Written(2), 0));
    let call = rig.await_room(writer, "5\n");
    assert!(rig.cancel(call));
    assert_eq!(rig.got(call), Got::Failed(Error::Interrupted));
    rig.when_full(WhenFull::Fail);
    assert_eq!(rig.send(writer, "5\n"), Got::Failed(Error::NoSpace));
    assert_eq!((rig.counts().sent, rig.counts().depth), (4, 4));
}

#[test]
fn a_line_begun_before_a_failed_write_is_kept() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1\n2\n3\nbeg"]);
    assert_eq!(rig.send(writer, "un\n"), Got::Failed(Error::WouldWait));
    let call = rig.await_room(writer, "un\n");
    rig.fill(writer, &["in"]);
    assert!(rig.cancel(call));
    assert_eq!(rig.read(reader, 64), bytes("1\n"));
    rig.fill(writer, &["\n"]);
    for body in ["2\n", "3\n", "begin\n"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    rig.close(writer);
    assert_eq!((rig.memory.used(), rig.held(), rig.counts().sent), (0, 0, 4));
}

#[test]
fn two_writes_that_end_no_line_are_both_kept_though_one_had_to_wait() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Both), rig.open(Mode::Both));
    let call = rig.await_room(writer, "1\n2\n3\n4\nfirst ");
    rig.fill(writer, &["second"]);
    assert_eq!(rig.read(reader, 64), bytes("1\n"));
    assert_eq!(rig.got(call), Got::Written(14));
    rig.close(writer);
    for body in ["2\n", "3\n", "4\n", "first second"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_line_that_is_too_long_is_refused_after_those_before_it() {
    let mut rig = Rig::new();
    let (writer, long) = (rig.enter(Door::Stream, Mode::Send), "x".repeat(64));
    assert_eq!(rig.send(writer, &format!("ok\n{long}\nmore\n")), Got::Written(3));
    assert_eq!(rig.send(writer, &format!("{long}\n")), Got::Failed(Error::TooLong));
    rig.fill(writer, &[&"y".repeat(64)]);
    assert_eq!(rig.send(writer, "y"), Got::Failed(Error::TooLong));
    assert_eq!(rig.send(writer, "\nz\n"), Got::Failed(Error::TooLong), "it would be a part of a line");
    rig.close(writer);
    assert_eq!((rig.counts().sent, rig.held()), (1, 0));
}

#[test]
fn an_unfinished_line_closed_into_a_full_mailbox_waits_like_a_writer() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1\n2\n3\nlast"]);
    rig.close(writer);
    let plain = rig.open(Mode::Send);
    let behind = rig.await_room(plain, "behind");
    assert_eq!((rig.counts().depth, rig.counts().waiting_writers), (3, 2));
    for body in ["1\n", "2\n", "3\n", "last"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!(rig.got(behind), Got::Written(6));
    assert_eq!(rig.read(reader, 64), bytes("behind"));
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_message_sent_by_close_into_a_full_mailbox_is_lost_on_removal() {
    let mut rig = Rig::new();
    let (writer, whole) = (rig.enter(Door::Stream, Mode::Send), rig.enter(Door::Whole, Mode::Send));
    rig.fill(writer, &["1\n2\n3\nlast"]);
    rig.fill(whole, &["all"]);
    rig.close(writer);
    assert_eq!(rig.remove(), 3);
    rig.close(whole);
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn the_oldest_lines_are_dropped_if_the_mailbox_is_set_to() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Send), rig.open(Mode::Both));
    rig.when_full(WhenFull::DropOldest);
    rig.fill(writer, &["1\n2\n3\n4\n5\n"]);
    assert_eq!((rig.counts().depth, rig.counts().dropped, rig.counts().sent), (3, 2, 5));
    for body in ["3\n", "4\n", "5\n"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn reading_gives_as_many_whole_messages_as_the_buffer_holds() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 10, ..LIMITS }, PLENTY);
    let (lines, plain) = (rig.enter(Door::Stream, Mode::Send), rig.open(Mode::Send));
    let reader = rig.enter(Door::Stream, Mode::Receive);
    rig.fill(lines, &["1\n22\n333\n"]);
    rig.fill(plain, &["four", "5"]);
    assert_eq!(rig.read(reader, 6), bytes("1\n22\n"), "333 does not fit");
    assert_eq!(rig.read(reader, 2), bytes("33"), "a message that no buffer holds is begun");
    assert_eq!(rig.read(reader, 64), bytes("3\n"), "and what is left of it comes alone");
    assert_eq!(rig.read(reader, 64), bytes("four5"));
    assert_eq!(rig.read(reader, 64), Got::Failed(Error::WouldWait), "no end of file");
    assert_eq!((rig.counts().received, rig.memory.used()), (5, 0));
}

#[test]
fn lines_go_to_waiting_readers_as_their_doors_read_them() {
    let mut rig = Rig::new();
    let writer = rig.enter(Door::Stream, Mode::Send);
    let (plain, many) = (rig.open(Mode::Receive), rig.enter(Door::Stream, Mode::Receive));
    let calls = [rig.await_message(plain), rig.read_at(many, 0, 4, false)];
    rig.fill(writer, &["1\n2\n3\n4\n"]);
    assert_eq!(calls.map(|call| rig.got(call)), [bytes("1\n"), bytes("2\n3\n")]);
    assert_eq!(rig.counts().depth, 1);
}

#[test]
fn whole_sends_one_message_however_it_was_written() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Whole, Mode::Send), rig.open(Mode::Receive));
    let call = rig.await_message(reader);
    rig.fill(writer, &["one\n", "two\n", "three"]);
    assert_eq!(rig.got(call), Got::Waits);
    rig.close(writer);
    assert_eq!(rig.got(call), bytes("one\ntwo\nthree"));
    rig.close(reader);
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn whole_may_exceed_msgsize_but_not_wholesize() {
    let mut rig = Rig::new();
    rig.rules(|rules| rules.wholesize = 80);
    let reader = rig.enter(Door::Stream, Mode::Both);
    for (more, sent) in [(20, 1), (21, 0)] {
        let writer = rig.enter(Door::Whole, Mode::Send);
        rig.fill(writer, &[&"x".repeat(60)]);
        let got = rig.send(writer, &"x".repeat(more));
        assert_eq!(got, if sent == 1 { Got::Written(20) } else { Got::Failed(Error::TooLong) });
        if sent == 0 {
            assert_eq!(rig.send(writer, "x"), Got::Failed(Error::TooLong), "what is left would be a part");
        }
        rig.close(writer);
        assert_eq!(rig.counts().depth, sent);
        if sent == 1 {
            assert_eq!(rig.read(reader, 100), bytes(&"x".repeat(80)));
        }
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_whole_message_waits_for_room_and_is_admitted_even_if_limits_were_lowered() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Whole, Mode::Send), rig.open(Mode::Both));
    let plain = rig.open(Mode::Send);
    rig.fill(plain, &["1", "2", "3"]);
    rig.fill(writer, &["all of it"]);
    rig.close(writer);
    assert_eq!(rig.counts().waiting_writers, 1);
    rig.set_limits(MailboxLimits { maxbytes: 4, ..LIMITS });
    for body in ["1", "2", "3", "all of it"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_message_that_waits_without_its_writer_is_not_refused_with_the_others() {
    let mut rig = Rig::new();
    let (writer, plain) = (rig.enter(Door::Whole, Mode::Send), rig.open(Mode::Send));
    rig.fill(plain, &["1"]);
    rig.set_limits(MailboxLimits { maxmsg: 2, maxbytes: 20, ..LIMITS });
    let long = rig.await_room(plain, &"x".repeat(20));
    rig.fill(writer, &["kept"]);
    rig.close(writer);
    rig.when_full(WhenFull::Fail);
    assert_eq!(rig.got(long), Got::Failed(Error::NoSpace));
    assert_eq!((rig.counts().depth, rig.counts().waiting_writers), (2, 0), "and there is room for it now");
}

#[test]
fn json_shows_the_attributes_of_each_message() {
    let mut rig = Rig::new();
    let reader = rig.enter(Door::Json, Mode::Receive);
    let tagged = rig.enter(Door::Tag(b"t\xff".as_slice().into()), Mode::Send);
    rig.fill(tagged, &["a \"b\"\n"]);
    let call = rig.now;
    let Got::Bytes(line) = rig.read(reader, 4096) else { panic!() };
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    let shown: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(shown["body"], "a \"b\"\n");
    assert_eq!((&shown["uid"], &shown["gid"]), (&1000.into(), &100.into()));
    assert_eq!((&shown["pid"], &shown["priority"]), (&call.into(), &0.into()));
    assert_eq!((&shown["tag_base64"], &shown["deliveries"]), (&"dP8=".into(), &0.into()));
    assert!(shown["id"].is_u64() && shown["sent"].is_f64());
    assert!(shown.get("body_base64").is_none() && shown.get("tag").is_none());
}

#[test]
fn json_shows_a_body_that_is_not_utf_8_in_base64() {
    let mut message = Message {
        id: 7,
        sent: Timestamp(1_500_000_000),
        since: Moment(0),
        sender: caller(1),
        priority: 3,
        body: b"\xff\x00".as_slice().into(),
        extra: None,
        charge: None,
        record: None,
    };
    message.edit_extra(|extra| extra.deliveries = 2);
    let line = crate::mailbox::json::line(&message);
    let expected = "{\"id\":7,\"sent\":1.5,\"uid\":1000,\"gid\":100,\"pid\":1,\"priority\":3,\"deliveries\":2,\
                    \"body_base64\":\"/wA=\"}\n";
    assert_eq!(String::from_utf8_lossy(line.as_bytes()), expected);
}

#[test]
fn json_returns_whole_lines_and_splits_only_one_too_long_for_the_buffer() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.enter(Door::Json, Mode::Receive));
    rig.fill(writer, &["1", "2", "3"]);
    let Got::Bytes(first) = rig.read(reader, 40) else { panic!() };
    assert_eq!((first.len(), rig.counts().received), (40, 1));
    let Got::Bytes(rest) = rig.read(reader, 4096) else { panic!() };
    assert_eq!((rest.last(), rig.counts().received), (Some(&b'\n'), 1), "the rest comes alone");
    let length = first.len() + rest.len();
    let Got::Bytes(second) = rig.read(reader, 2 * length - 1) else { panic!() };
    assert_eq!((second.last(), rig.counts().received), (Some(&b'\n'), 2));
    let waiting = rig.open(Mode::Receive);
    assert_eq!(rig.read(waiting, 64), bytes("3"));
    let call = rig.read_at(reader, 0, 10, false);
    rig.fill(writer, &["4"]);
    let Got::Bytes(first) = rig.got(call) else { panic!() };
    assert_eq!(first.len(), 10, "one who waited reads the rest too");
    let Got::Bytes(rest) = rig.read(reader, 4096) else { panic!() };
    let shown: serde_json::Value = serde_json::from_slice(&[first, rest].concat()).unwrap();
    assert_eq!(shown["body"], "4");
}
