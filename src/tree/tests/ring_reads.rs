//! Reads through `io_uring`, as the kernel makes them: asked first, and gone on with until nothing comes.

use super::*;

/// A thread that reads one open file so.
struct Ring {
    pid: u32,
    node: NodeId,
    fh: Fh,
}

impl Ring {
    fn poll(&self, harness: &mut Harness, arm: bool) -> bool {
        let poller = arm.then(|| Poller::new(PollHandle(u64::from(self.pid))));
        let poll = Op::Poll { fh: self.fh, arm: poller, reads: !arm };
        match harness.ask(self.pid, self.node, poll).1 {
            Some(Reply::Ready(ready)) => ready.readable,
            other => panic!("{other:?}"),
        }
    }

    /// What one request of the kernel's gets. `None`: it would have to wait.
    fn read_part(&self, harness: &mut Harness, offset: u64, size: u32) -> Option<Vec<u8>> {
        let read = Op::Read { fh: self.fh, offset, size, nonblock: false, direct: true };
        match harness.ask(self.pid, self.node, read).1 {
            Some(Reply::Message(slice) | Reply::Text(slice)) => Some(slice.as_bytes().to_vec()),
            Some(Reply::Data(bytes)) => Some(bytes),
            Some(Reply::Failed(Error::WouldWait)) => None,
            other => panic!("{other:?}"),
        }
    }

    /// What a read gets. `None`: it polls now.
    fn read(&self, harness: &mut Harness, offset: u64, size: u32) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            if !self.poll(harness, false) {
                assert!(all.is_empty() && !self.poll(harness, true), "it would wait within a read");
                return None;
            }
            let part = self.read_part(harness, offset, size - all.len() as u32)?;
            let done = part.is_empty();
            all.extend(part);
            if done || all.len() == size as usize {
                return Some(all);
            }
            assert!(self.poll(harness, true), "it is woken at once");
        }
    }
}

#[allow(clippy::unnecessary_wraps)] // Compared with what a read may get.
fn text(bytes: &str) -> Option<Vec<u8>> {
    Some(bytes.as_bytes().to_vec())
}

/// A mailbox with messages, and a reader.
fn filled(messages: &[&str], flags: OpenFlags) -> (Harness, Ring) {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", BOTH);
    for message in messages {
        harness.get(node, write(fh, message.as_bytes()));
    }
    let node = harness.node("mailboxes/box");
    let fh = harness.open(1, node, flags).unwrap();
    (harness, Ring { pid: 7, node, fh })
}

#[test]
fn a_read_gets_one_message_and_the_next_its_end() {
    let (mut harness, ring) = filled(&["hello", "second"], READ);
    for expected in ["hello", "", "second", ""] {
        assert_eq!(ring.read(&mut harness, 0, 100), text(expected), "at the position, which stays");
    }
    assert_eq!(ring.read(&mut harness, 0, 100), None);
    let (mut harness, ring) = filled(&["hello", "second"], READ);
    for (offset, expected) in [(0, "hello"), (5, ""), (5, "second"), (11, "")] {
        assert_eq!(ring.read(&mut harness, offset, 100), text(expected), "at {offset}");
    }
    let (mut harness, ring) = filled(&["hello", "second"], READ);
    for expected in ["hel", "lo", "", "sec", "ond", ""] {
        assert_eq!(ring.read(&mut harness, 0, 3), text(expected), "a short buffer");
    }
}

#[test]
fn a_stream_gets_one_message_a_read() {
    let (mut harness, ring) = filled(&["hello", "second", "abc"], BOTH);
    for (size, expected) in [(100, "hello"), (4, "seco"), (100, "nd"), (3, "abc")] {
        assert_eq!(ring.read(&mut harness, 0, size), text(expected));
    }
    assert_eq!(ring.read(&mut harness, 0, 100), None);
}

#[test]
fn threads_share_a_descriptor_and_a_message_that_somebody_else_took_is_waited_for() {
    let (mut harness, ring) = filled(&["hello", "second"], BOTH);
    let other = Ring { pid: 8, ..ring };
    assert!(ring.poll(&mut harness, false) && other.poll(&mut harness, false));
    assert_eq!(ring.read_part(&mut harness, 0, 100), text("hello"));
    assert_eq!(other.read_part(&mut harness, 0, 100), text("second"));
    assert!(ring.poll(&mut harness, false) && other.poll(&mut harness, true));
    assert_eq!(ring.read_part(&mut harness, 0, 95), text(""));
    assert!(!ring.poll(&mut harness, true), "its read is over");
    assert!(other.poll(&mut harness, false));
    assert_eq!(other.read_part(&mut harness, 0, 94), text(""));
    // A plain read(2) of the same thread is none of these.
    harness.get(ring.node, write(ring.fh, b"third"));
    harness.get(ring.node, write(ring.fh, b"fourth"));
    assert!(ring.poll(&mut harness, false));
    assert_eq!(ring.read_part(&mut harness, 0, 100), text("third"));
    assert_eq!(ring.read_part(&mut harness, 0, 100), text("fourth"));
    // What was asked is nothing that waits.
    assert!(!ring.poll(&mut harness, false));
    let waiting = harness.wait(ring.node, read(ring.fh));
    harness.get(ring.node, write(ring.fh, b"fifth"));
    assert!(
        matches!(&harness.late()[..], [(unique, reply)] if *unique == waiting && is_message(reply, b"fifth"))
    );
    // Somebody was faster.
    harness.get(ring.node, write(ring.fh, b"sixth"));
    assert!(ring.poll(&mut harness, false) && other.poll(&mut harness, false));
    assert_eq!(other.read_part(&mut harness, 0, 5), text("sixth"));
    assert_eq!(ring.read_part(&mut harness, 0, 100), None);
    harness.release(ring.node, ring.fh);
    assert!(harness.tree.ring_reads.is_empty());
}

#[test]
fn texts_end_and_begin_anew() {
    let (mut harness, _) = filled(&[], READ);
    let node = harness.node("control/mailboxes/box/config/order");
    let fh = harness.open(7, node, READ).unwrap();
    let ring = Ring { pid: 7, node, fh };
    for expected in ["priority\n", "", "priority\n", ""] {
        assert_eq!(ring.read(&mut harness, 0, 100), text(expected));
    }
}
