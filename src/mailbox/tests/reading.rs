//! How a descriptor reads messages: whole, in parts, with an end of file between them, or as a stream.

use super::*;

#[test]
fn a_message_arrives_whole_and_is_followed_by_one_end_of_file() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["one\n", "two\n"]);
    let mut offset = 0;
    for expected in ["one\n", "", "two\n", ""] {
        let call = rig.read_at(reader, offset, 64, true);
        assert_eq!(rig.got(call), bytes(expected));
        offset += expected.len() as u64;
    }
    let call = rig.read_at(reader, offset, 64, true);
    assert_eq!(rig.got(call), Got::Failed(Error::WouldWait), "after the last message's end nothing waits");
}

#[test]
fn a_short_buffer_gets_the_rest_with_the_next_reads() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["abcdefg", "next"]);
    for (offset, expected) in [(0, "abc"), (3, "def"), (6, "g"), (7, ""), (7, "nex"), (10, "t"), (11, "")] {
        let call = rig.read_at(reader, offset, 3, true);
        assert_eq!(rig.got(call), bytes(expected), "at {offset}");
    }
}

#[test]
fn a_message_as_long_as_the_buffer_still_has_its_end_of_file() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["abc", "d"]);
    for (offset, expected) in [(0, "abc"), (3, ""), (3, "d")] {
        let call = rig.read_at(reader, offset, 3, true);
        assert_eq!(rig.got(call), bytes(expected));
    }
}

#[test]
fn a_reading_descriptor_seeks_within_the_message_it_holds() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["first", "second"]);
    for (offset, expected) in [(0, "first"), (1, "irst"), (5, ""), (2, "rst"), (0, "first"), (5, "")] {
        let call = rig.read_at(reader, offset, 64, true);
        assert_eq!(rig.got(call), bytes(expected), "at {offset}");
    }
    assert_eq!(rig.counts().depth, 1, "the second message was not touched");
}

#[test]
fn seeking_back_after_the_end_of_file_begins_another_end_of_file() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["one", "two"]);
    for (offset, expected) in [(0, "one"), (3, ""), (1, "ne"), (3, ""), (3, "two")] {
        let call = rig.read_at(reader, offset, 64, true);
        assert_eq!(rig.got(call), bytes(expected), "at {offset}");
    }
}

#[test]
fn without_a_current_message_there_is_nothing_to_seek_in() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["message"]);
    let call = rig.read_at(reader, 4, 64, true);
    assert_eq!(rig.got(call), Got::Failed(Error::Invalid));
    assert_eq!(rig.read(reader, 64), bytes("message"), "and nothing is lost by trying");
}

#[test]
fn the_position_increases_from_message_to_message_and_offset_0_is_the_current_one() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["one", "two", "six"]);
    for (offset, expected) in [(0, "one"), (3, ""), (3, "two"), (4, "wo"), (0, "two"), (2, "o"), (3, "")] {
        let call = rig.read_at(reader, offset, 64, true);
        assert_eq!(rig.got(call), bytes(expected), "at {offset}");
    }
    let call = rig.read_at(reader, 3, 64, true);
    assert_eq!(rig.got(call), bytes("six"), "after lseek(fd, 0, SEEK_SET) positions count from the second");
    let call = rig.read_at(reader, 2, 64, true);
    assert_eq!(rig.got(call), Got::Failed(Error::Invalid), "an earlier message is gone");
    let call = rig.read_at(reader, 3, 64, true);
    assert_eq!(rig.got(call), bytes("six"), "a refused read changes nothing");
}

#[test]
fn far_beyond_the_message_is_its_end_of_file() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["one", "two"]);
    for (offset, expected) in [(0, "one"), (u64::MAX, ""), (u64::MAX, "two"), (u64::MAX, "two")] {
        let call = rig.read_at(reader, offset, 64, true);
        assert_eq!(rig.got(call), bytes(expected), "at {offset}");
    }
}

#[test]
fn a_read_write_descriptor_is_a_stream_without_ends_of_file() {
    let mut rig = Rig::new();
    let both = rig.open(Mode::Both);
    rig.fill(both, &["one", "two"]);
    assert_eq!(rig.read(both, 64), bytes("one"));
    assert_eq!(rig.read(both, 64), bytes("two"));
    assert_eq!(rig.read(both, 64), Got::Failed(Error::WouldWait));
}

#[test]
fn a_stream_never_gives_parts_of_two_messages_in_one_read() {
    let mut rig = Rig::new();
    let both = rig.open(Mode::Both);
    rig.fill(both, &["abcde", "xyz"]);
    for expected in ["abcd", "e", "xyz"] {
        assert_eq!(rig.read(both, 4), bytes(expected));
    }
}

#[test]
fn the_last_piece_of_a_split_read_is_empty_if_the_message_has_ended() {
    let mut rig = Rig::new();
    let both = rig.open(Mode::Both);
    rig.fill(both, &["one", "two"]);
    assert_eq!(rig.read(both, 64), bytes("one"));
    assert_eq!(rig.read_on(both, 64, 64), bytes(""), "the read has had its message");
    assert_eq!(rig.read_by(7, both, 0, 2), bytes("tw"));
    assert_eq!(rig.read_by(7, both, 2, 64), bytes("o"), "but what it was too short for it gets");
}

/// Longer than what the kernel asks for at once, by so much.
fn long(letter: &str, more: usize) -> String {
    letter.repeat(PIECE + more)
}

const PIECE: usize = MAX_READ as usize;
const LONG: MailboxLimits =
    MailboxLimits { msgsize: 4 * MAX_READ, maxmsg: 10, maxbytes: 40 * MAX_READ as u64 };

#[test]
fn the_end_of_file_is_for_the_read_after_the_one_that_got_the_whole_message() {
    for (length, pieces) in [
        (PIECE - 1, vec![PIECE - 1]),
        (PIECE, vec![PIECE, 0]),
        (PIECE + 1, vec![PIECE, 1]),
        (2 * PIECE, vec![PIECE, PIECE, 0]),
    ] {
        let mut rig = Rig::with(LONG, PLENTY * 8);
        let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
        rig.fill(writer, &[&"m".repeat(length), "next"]);
        let mut offset = 0;
        for piece in pieces {
            assert_eq!(rig.read_on(reader, offset, PIECE), bytes(&"m".repeat(piece)), "{length} at {offset}");
            offset += piece as u64;
        }
        assert_eq!(rig.read_on(reader, offset, PIECE), bytes(""), "{length}: the end of file");
        assert_eq!(rig.read_on(reader, offset, PIECE), bytes("next"), "{length}");
    }
}

#[test]
fn threads_that_read_long_messages_through_one_stream_get_one_each() {
    let mut rig = Rig::with(LONG, PLENTY * 8);
    let (writer, both) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &[&long("a", 2), &long("b", 1), "c"]);
    assert_eq!(rig.read_by(1, both, 0, PIECE), bytes(&long("a", 0)));
    assert_eq!(rig.read_by(2, both, 0, PIECE), bytes(&long("b", 0)), "not the rest of the other's");
    assert_eq!(rig.read_by(3, both, 0, 64), bytes("c"));
    assert_eq!(rig.read_by(2, both, PIECE as u64, PIECE), bytes("b"));
    assert_eq!(rig.read_by(1, both, PIECE as u64, 1), bytes("a"));
    assert_eq!(rig.read_by(1, both, PIECE as u64 + 1, PIECE), bytes("a"));
    assert_eq!(rig.read_by(1, both, PIECE as u64 + 2, PIECE), bytes(""));
}

#[test]
fn a_rest_that_its_thread_did_not_ask_for_at_once_is_for_its_next_read() {
    let mut rig = Rig::with(LONG, PLENTY * 8);
    let (writer, both) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &[&long("a", 2), "b"]);
    assert_eq!(rig.read_by(1, both, 0, PIECE), bytes(&long("a", 0)));
    assert!(rig.ready(both).readable);
    assert_eq!(rig.read_by(1, both, 0, 1), bytes("a"));
    assert_eq!(rig.read_by(2, both, 0, 64), bytes("a"), "the buffer was short: anybody may read on");
    assert_eq!(rig.read_by(1, both, 0, 64), bytes("b"));
}

#[test]
fn a_piece_never_gets_bytes_of_the_message_after_a_settled_one() {
    let mut rig = Rig::with(LONG, PLENTY * 8);
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &[&long("a", 9), &long("b", 9)]);
    assert_eq!(rig.read_by(1, lease, 0, PIECE), bytes(&long("a", 0)));
    assert_eq!(rig.send(lease, "ack"), Got::Written(3));
    assert_eq!(rig.read_by(1, lease, PIECE as u64, PIECE), bytes(""));
    assert_eq!(rig.read_by(2, lease, 0, PIECE), bytes(&long("b", 0)));
    assert_eq!(rig.read_by(1, lease, PIECE as u64, PIECE), bytes(""));
    assert_eq!(rig.read_by(2, lease, PIECE as u64, PIECE), bytes("bbbbbbbbb"));
}

#[test]
fn closing_drops_the_rest_of_a_message_and_nothing_else() {
    for mode in [Mode::Receive, Mode::Both] {
        let mut rig = Rig::new();
        let (writer, reader) = (rig.open(Mode::Send), rig.open(mode));
        rig.fill(writer, &["abcdef", "next"]);
        assert_eq!(rig.read(reader, 2), bytes("ab"));
        rig.close(reader);
        let other = rig.open(mode);
        assert_eq!(rig.read(other, 64), bytes("next"));
    }
}

#[test]
fn each_message_goes_to_one_reader_and_descriptors_are_independent() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    let readers = [rig.open(Mode::Receive), rig.open(Mode::Receive)];
    rig.fill(writer, &["one", "two"]);
    assert_eq!(rig.read(readers[0], 2), bytes("on"));
    assert_eq!(rig.read(readers[1], 64), bytes("two"));
    let call = rig.read_at(readers[0], 2, 64, true);
    assert_eq!(rig.got(call), bytes("e"));
}

#[test]
fn the_wrong_direction_is_a_bad_descriptor() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    assert_eq!(rig.read(writer, 64), Got::Failed(Error::BadDescriptor));
    assert_eq!(rig.send(reader, "x"), Got::Failed(Error::BadDescriptor));
    rig.close(reader);
    assert_eq!(rig.read(reader, 64), Got::Failed(Error::BadDescriptor));
    assert_eq!(rig.counts(), Counts::default());
}

#[test]
fn a_removed_mailbox_lets_a_reader_finish_what_it_holds_and_nothing_more() {
    let mut rig = Rig::new();
    let (writer, file, stream) = (rig.open(Mode::Send), rig.open(Mode::Receive), rig.open(Mode::Both));
    rig.fill(writer, &["abc", "def", "lost"]);
    assert_eq!(rig.read(file, 2), bytes("ab"));
    assert_eq!(rig.read(stream, 2), bytes("de"));
    assert_eq!(rig.remove(), 1, "what waited is gone and counted");
    assert_eq!(rig.read(stream, 64), bytes("f"));
    for expected in [bytes("c"), bytes("")] {
        let offset = if expected == bytes("c") { 2 } else { 3 };
        let call = rig.read_at(file, offset, 64, true);
        assert_eq!(rig.got(call), expected);
    }
    let call = rig.read_at(file, 3, 64, false);
    assert_eq!(rig.got(call), Got::Failed(Error::Removed));
    let call = rig.read_at(stream, 0, 64, false);
    assert_eq!(rig.got(call), Got::Failed(Error::Removed));
    let call = rig.write(writer, "x", false);
    assert_eq!(rig.got(call), Got::Failed(Error::Removed));
    rig.close(file);
    assert_eq!((rig.counts().depth, rig.counts().bytes, rig.memory.used()), (0, 0, 0));
}

#[test]
fn times_and_counts_follow_sends_and_receives() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["four"]);
    let sent = rig.mailbox.last_sent;
    assert_eq!(sent, at(rig.now).time());
    assert_eq!(rig.mailbox.last_received, at(1).time());
    let expected = Counts { depth: 1, bytes: 4, sent: 1, ..Counts::default() };
    assert_eq!(rig.counts(), expected);
    assert_eq!(rig.read(reader, 2), bytes("fo"));
    let received = rig.mailbox.last_received;
    assert_eq!(received, at(rig.now).time());
    assert_eq!(rig.counts(), Counts { sent: 1, received: 1, ..Counts::default() });
    let call = rig.read_at(reader, 2, 2, true);
    assert_eq!(rig.got(call), bytes("ur"));
    assert_eq!(rig.mailbox.last_received, received, "the rest of a message is no receive");
    assert_eq!(rig.mailbox.last_sent, sent);
}

/// Thread 1 opens a descriptor of its own, and reads a message to its end of file. `looks`: it asks for the attributes first.
fn ended(rig: &mut Rig, writer: HandleId, looks: bool) -> HandleId {
    let reader = rig.open(Mode::Receive);
    rig.call(|mailbox, _| mailbox.note_opened(1));
    if looks {
        rig.call(|mailbox, _| mailbox.note_looked_at(1));
    }
    rig.fill(writer, &["one"]);
    for (offset, expected) in [(0, "one"), (3, "")] {
        assert_eq!(waited(rig, 1, reader, offset), bytes(expected));
    }
    reader
}

fn waited(rig: &mut Rig, pid: u32, reader: HandleId, offset: u64) -> Got {
    let call = rig.wait_by(pid, reader, offset);
    rig.got(call)
}

#[test]
fn a_function_that_reads_on_after_the_end_of_file_is_told_it_again_where_it_would_wait() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    let reader = ended(&mut rig, writer, true);
    for _ in 0..2 {
        assert_eq!(waited(&mut rig, 1, reader, 3), bytes(""));
    }
    let call = rig.wait_by(1, reader, 3);
    assert_eq!(rig.got(call), Got::Waits, "not for ever");
    rig.fill(writer, &["two", "three"]);
    assert_eq!(rig.got(call), bytes("two"));
    for (offset, expected) in [(6, ""), (6, "three"), (11, "")] {
        assert_eq!(waited(&mut rig, 1, reader, offset), bytes(expected));
    }
    assert_eq!(waited(&mut rig, 1, reader, 11), Got::Waits, "it goes on from message to message");
}

#[test]
fn a_message_that_waits_is_read_at_once_after_the_end_of_file() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    let reader = ended(&mut rig, writer, true);
    rig.fill(writer, &["two"]);
    for (offset, expected) in [(3, "two"), (6, "")] {
        assert_eq!(waited(&mut rig, 1, reader, offset), bytes(expected));
    }
    assert_eq!(waited(&mut rig, 1, reader, 6), Got::Waits);
}

#[test]
fn who_only_reads_has_one_end_of_file_a_message() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    // It has looked before it opened: at something else.
    rig.call(|mailbox, _| mailbox.note_looked_at(1));
    let reader = ended(&mut rig, writer, false);
    assert_eq!(waited(&mut rig, 1, reader, 3), Got::Waits);
}

#[test]
fn nobody_else_is_told_the_end_of_file_again() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    // Another program through the same descriptor.
    let reader = ended(&mut rig, writer, true);
    assert_eq!(waited(&mut rig, 2, reader, 3), Got::Waits);
    rig.fill(writer, &["for who waits"]);
    // A function that reads a whole file, called once more: it asks for the attributes first.
    let reader = ended(&mut rig, writer, true);
    rig.call(|mailbox, _| mailbox.note_looked_at(1));
    assert_eq!(waited(&mut rig, 1, reader, 3), Got::Waits);
    rig.fill(writer, &["for who waits"]);
    // Nobody waits who must not, and a stream has no end.
    let reader = ended(&mut rig, writer, true);
    assert_eq!(rig.read_by(1, reader, 3, 64), Got::Failed(Error::WouldWait));
    let both = rig.open(Mode::Both);
    rig.call(|mailbox, _| mailbox.note_looked_at(1));
    rig.fill(writer, &["one"]);
    assert_eq!([waited(&mut rig, 1, both, 0), waited(&mut rig, 1, both, 0)], [bytes("one"), Got::Waits]);
}
