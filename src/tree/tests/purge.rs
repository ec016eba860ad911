//! `purge`: its writer waits for a job, which others are served beside.

use super::*;

const PURGE: &str = "control/mailboxes/box/purge";

impl Harness {
    /// A mailbox with so many messages, and its `purge`, open.
    fn box_with(&mut self, messages: usize) -> (NodeId, Fh) {
        let (node, fh) = self.create("mailboxes/box", BOTH);
        for _ in 0..messages {
            assert_eq!(self.get(node, write(fh, b"x")), Reply::Written(1));
        }
        let node = self.node(PURGE);
        let fh = self.open(1, node, BOTH).unwrap();
        (node, fh)
    }

    fn work(&mut self) -> bool {
        self.now += 1;
        let mut fx = Effects::new();
        let any = self.tree.work(at(self.now), &mut fx);
        self.carry_out(&mut fx, None);
        any
    }

    fn figure(&mut self, key: &str) -> u64 {
        let status = self.show("control/mailboxes/box/status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }
}

fn roomy() -> Harness {
    let mut setup = setup(1 << 22);
    setup.limits.mailbox.maxmsg = 5000;
    Harness::with(setup)
}

#[test]
fn a_purge_is_answered_when_it_is_done_and_tells_how_many() {
    let mut harness = roomy();
    let (node, fh) = harness.box_with(1200);
    assert_eq!(harness.get(node, read(fh)), Reply::Data(Vec::new()), "nothing was asked yet");
    let unique = harness.wait(node, write(fh, b"all\n"));
    let mut steps = 0;
    while harness.late.is_empty() {
        assert!(harness.work());
        steps += 1;
        assert_eq!(harness.figure("depth"), 1200_u64.saturating_sub(500 * steps), "others are served");
    }
    assert_eq!(harness.late(), [(unique, Reply::Written(4))]);
    assert!(!harness.work());
    assert_eq!((harness.figure("removed"), harness.parked()), (1200, 0));
    let part = Op::Read { fh, offset: 0, size: 2, nonblock: false, direct: true };
    assert_eq!(harness.get(node, part), Reply::Data(b"12".to_vec()));
    assert_eq!(harness.get(node, read(fh)), Reply::Data(b"00\n".to_vec()));
    assert_eq!(harness.get(node, read(fh)), Reply::Data(Vec::new()));
    harness.release(node, fh);
}

#[test]
fn a_purge_can_be_interrupted() {
    let mut harness = roomy();
    let (node, fh) = harness.box_with(1200);
    let unique = harness.wait(node, write(fh, b"all"));
    assert!(harness.work());
    harness.interrupt(unique);
    while harness.work() {}
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    assert_eq!((harness.figure("depth"), harness.figure("removed")), (700, 500));
    assert_eq!(harness.get(node, read(fh)), Reply::Data(Vec::new()));
}

#[test]
fn a_purge_ends_with_the_mailbox() {
    let mut harness = roomy();
    let (node, fh) = harness.box_with(1200);
    let unique = harness.wait(node, write(fh, b"all"));
    assert!(harness.work());
    harness.unlink("mailboxes/box");
    while harness.work() {}
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Removed))]);
}

#[test]
fn a_filter_that_is_none_is_refused_and_explained() {
    let mut harness = roomy();
    let (node, fh) = harness.box_with(1);
    for (text, error) in [("", Error::Invalid), ("some", Error::Invalid), ("from 4294967296", Error::Range)] {
        assert_eq!(harness.get(node, write(fh, text.as_bytes())), Reply::Failed(error), "{text}");
        assert!(harness.show("control/mailboxes/box/error").starts_with("purge: "), "{text}");
    }
    assert_eq!(harness.figure("depth"), 1);
    harness.wait(node, write(fh, b"tag none"));
    while harness.work() {}
    assert_eq!(harness.show("control/mailboxes/box/error"), "", "it was accepted");
    assert_eq!(harness.get(node, read(fh)), Reply::Data(b"0\n".to_vec()));
}
