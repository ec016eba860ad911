//! How messages reach a descriptor: whole, in parts, with an end of file between them, or as a stream.

use super::*;

#[test]
fn a_message_arrives_whole_and_is_followed_by_one_end_of_file() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["one\n", "two\n"]);
    let mut offset = 0;
    for expected in ["one\n", "", "two\n", ""] {
        let call = desk.read_at(reader, offset, 64, true);
        assert_eq!(desk.got(call), bytes(expected));
        offset += expected.len() as u64;
    }
    let call = desk.read_at(reader, offset, 64, true);
    assert_eq!(desk.got(call), Got::Failed(Error::WouldWait), "after the last message's end nothing waits");
}

#[test]
fn a_short_buffer_gets_the_rest_with_the_next_reads() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["abcdefg", "next"]);
    for (offset, expected) in [(0, "abc"), (3, "def"), (6, "g"), (7, ""), (7, "nex"), (10, "t"), (11, "")] {
        let call = desk.read_at(reader, offset, 3, true);
        assert_eq!(desk.got(call), bytes(expected), "at {offset}");
    }
}

#[test]
fn a_message_as_long_as_the_buffer_still_has_its_end_of_file() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["abc", "d"]);
    for (offset, expected) in [(0, "abc"), (3, ""), (3, "d")] {
        let call = desk.read_at(reader, offset, 3, true);
        assert_eq!(desk.got(call), bytes(expected));
    }
}

#[test]
fn a_reading_descriptor_seeks_within_the_message_it_holds() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["first", "second"]);
    for (offset, expected) in [(0, "first"), (1, "irst"), (5, ""), (2, "rst"), (0, "first"), (5, "")] {
        let call = desk.read_at(reader, offset, 64, true);
        assert_eq!(desk.got(call), bytes(expected), "at {offset}");
    }
    assert_eq!(desk.counts().depth, 1, "the second message was not touched");
}

#[test]
fn seeking_back_after_the_end_of_file_begins_another_end_of_file() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["one", "two"]);
    for (offset, expected) in [(0, "one"), (3, ""), (1, "ne"), (3, ""), (3, "two")] {
        let call = desk.read_at(reader, offset, 64, true);
        assert_eq!(desk.got(call), bytes(expected), "at {offset}");
    }
}

#[test]
fn with_nothing_in_hand_there_is_nothing_to_seek_in() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["message"]);
    let call = desk.read_at(reader, 4, 64, true);
    assert_eq!(desk.got(call), Got::Failed(Error::Invalid));
    assert_eq!(desk.read(reader, 64), bytes("message"), "and nothing is lost by trying");
}

#[test]
fn the_position_runs_on_from_message_to_message_and_offset_0_is_the_one_in_hand() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["one", "two", "six"]);
    for (offset, expected) in [(0, "one"), (3, ""), (3, "two"), (4, "wo"), (0, "two"), (2, "o"), (3, "")] {
        let call = desk.read_at(reader, offset, 64, true);
        assert_eq!(desk.got(call), bytes(expected), "at {offset}");
    }
    let call = desk.read_at(reader, 3, 64, true);
    assert_eq!(desk.got(call), bytes("six"), "after lseek(fd, 0, SEEK_SET) positions count from the second");
    let call = desk.read_at(reader, 2, 64, true);
    assert_eq!(desk.got(call), Got::Failed(Error::Invalid), "an earlier message is gone");
    let call = desk.read_at(reader, 3, 64, true);
    assert_eq!(desk.got(call), bytes("six"), "a refused read changes nothing");
}

#[test]
fn far_behind_the_message_is_its_end() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["one", "two"]);
    for (offset, expected) in [(0, "one"), (u64::MAX, ""), (u64::MAX, "two"), (u64::MAX, "two")] {
        let call = desk.read_at(reader, offset, 64, true);
        assert_eq!(desk.got(call), bytes(expected), "at {offset}");
    }
}

#[test]
fn a_descriptor_for_both_is_a_stream_without_ends_of_file() {
    let mut desk = Desk::new();
    let both = desk.open(Mode::Both);
    desk.fill(both, &["one", "two"]);
    assert_eq!(desk.read(both, 64), bytes("one"));
    assert_eq!(desk.read(both, 64), bytes("two"));
    assert_eq!(desk.read(both, 64), Got::Failed(Error::WouldWait));
}

#[test]
fn a_stream_never_gives_parts_of_two_messages_in_one_read() {
    let mut desk = Desk::new();
    let both = desk.open(Mode::Both);
    desk.fill(both, &["abcde", "xyz"]);
    for expected in ["abcd", "e", "xyz"] {
        assert_eq!(desk.read(both, 4), bytes(expected));
    }
}

#[test]
fn the_second_part_of_a_cut_read_of_a_stream_is_empty() {
    let mut desk = Desk::new();
    let both = desk.open(Mode::Both);
    desk.fill(both, &["one", "two"]);
    assert_eq!(desk.read(both, 64), bytes("one"));
    let call = desk.read_at(both, 64, 64, false);
    assert_eq!(desk.got(call), bytes(""), "the read has had its message");
    assert_eq!(desk.read(both, 2), bytes("tw"));
    let call = desk.read_at(both, 2, 64, false);
    assert_eq!(desk.got(call), bytes("o"), "but what it was too short for it gets");
}

#[test]
fn closing_takes_the_rest_of_a_message_along_and_nothing_else() {
    for mode in [Mode::Receive, Mode::Both] {
        let mut desk = Desk::new();
        let (writer, reader) = (desk.open(Mode::Send), desk.open(mode));
        desk.fill(writer, &["abcdef", "next"]);
        assert_eq!(desk.read(reader, 2), bytes("ab"));
        desk.close(reader);
        let other = desk.open(mode);
        assert_eq!(desk.read(other, 64), bytes("next"));
    }
}

#[test]
fn each_message_goes_to_one_reader_and_descriptors_stand_apart() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    let readers = [desk.open(Mode::Receive), desk.open(Mode::Receive)];
    desk.fill(writer, &["one", "two"]);
    assert_eq!(desk.read(readers[0], 2), bytes("on"));
    assert_eq!(desk.read(readers[1], 64), bytes("two"));
    let call = desk.read_at(readers[0], 2, 64, true);
    assert_eq!(desk.got(call), bytes("e"));
}

#[test]
fn the_wrong_way_round_is_a_bad_descriptor() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    assert_eq!(desk.read(writer, 64), Got::Failed(Error::BadDescriptor));
    assert_eq!(desk.send(reader, "x"), Got::Failed(Error::BadDescriptor));
    desk.close(reader);
    assert_eq!(desk.read(reader, 64), Got::Failed(Error::BadDescriptor));
    assert_eq!(desk.counts(), Counts::default());
}

#[test]
fn a_removed_mailbox_lets_a_reader_finish_what_it_holds_and_nothing_more() {
    let mut desk = Desk::new();
    let (writer, file, stream) = (desk.open(Mode::Send), desk.open(Mode::Receive), desk.open(Mode::Both));
    desk.fill(writer, &["abc", "def", "lost"]);
    assert_eq!(desk.read(file, 2), bytes("ab"));
    assert_eq!(desk.read(stream, 2), bytes("de"));
    assert_eq!(desk.remove(), 1, "what waited is gone and counted");
    assert_eq!(desk.read(stream, 64), bytes("f"));
    for expected in [bytes("c"), bytes("")] {
        let offset = if expected == bytes("c") { 2 } else { 3 };
        let call = desk.read_at(file, offset, 64, true);
        assert_eq!(desk.got(call), expected);
    }
    let call = desk.read_at(file, 3, 64, false);
    assert_eq!(desk.got(call), Got::Failed(Error::Removed));
    let call = desk.read_at(stream, 0, 64, false);
    assert_eq!(desk.got(call), Got::Failed(Error::Removed));
    let call = desk.write(writer, "x", false);
    assert_eq!(desk.got(call), Got::Failed(Error::Removed));
    assert_eq!((desk.counts().depth, desk.counts().bytes, desk.memory.used()), (0, 0, 0));
}

#[test]
fn times_and_counts_follow_sends_and_receives() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["four"]);
    let sent = desk.mailbox.last_sent;
    assert_eq!(sent, Timestamp(desk.now));
    assert_eq!(desk.mailbox.last_received, Timestamp(1));
    let expected = Counts { depth: 1, bytes: 4, sent: 1, ..Counts::default() };
    assert_eq!(desk.counts(), expected);
    assert_eq!(desk.read(reader, 2), bytes("fo"));
    let received = desk.mailbox.last_received;
    assert_eq!(received, Timestamp(desk.now));
    assert_eq!(desk.counts(), Counts { sent: 1, received: 1, ..Counts::default() });
    let call = desk.read_at(reader, 2, 2, true);
    assert_eq!(desk.got(call), bytes("ur"));
    assert_eq!(desk.mailbox.last_received, received, "the rest of a message is no receive");
    assert_eq!(desk.mailbox.last_sent, sent);
}
