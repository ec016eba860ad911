//! Nodes that each look-up makes anew: they are charged, and the kernel is asked to forget them before they are many.

use super::*;
use crate::accounts::Resource;
use crate::tree::names::nodes::LATEST;

impl Harness {
    /// Looks names up, of which the kernel keeps all.
    fn look_many_up(&mut self, folder: NodeId, names: std::ops::Range<usize>) -> Vec<NodeId> {
        names.map(|n| self.look_up(1, folder, &format!("name{n}")).unwrap().node).collect()
    }

    /// What the kernel is asked to forget.
    fn prune(&mut self) -> Vec<NodeId> {
        loop {
            let mut fx = Effects::new();
            let any = self.tree.work(at(self.now), &mut fx);
            self.carry_out(&mut fx, None);
            if !any {
                return std::mem::take(&mut self.pruned);
            }
        }
    }

    fn texts(&self) -> u64 {
        self.tree.accounts.used(Resource::Texts)
    }

    fn look_up_as(&mut self, uid: u32, folder: NodeId, name: &str) -> Reply {
        self.unique += 2;
        let request_id = RequestId { unique: self.unique, reply_path: 0, pid: 0 };
        let caller = Caller { uid, gid: 0, pid: 1 };
        let op = Op::Lookup { name: name.as_bytes() };
        let mut fx = Effects::new();
        self.tree.handle(&Request { request_id, node: folder, caller, op }, at(self.now), &mut fx);
        self.carry_out(&mut fx, Some(request_id)).unwrap()
    }
}

#[test]
fn the_kernel_is_asked_to_forget_all_but_the_latest() {
    let mut harness = Harness::new();
    harness.create("mailboxes/box", BOTH);
    let folder = harness.node("control/mailboxes/box/tag");
    harness.prune();
    let before = harness.texts();
    let nodes = harness.look_many_up(folder, 0..5 * LATEST);
    let each = (harness.texts() - before) / nodes.len() as u64;
    assert!((500..520).contains(&each), "{each}");
    let pruned = harness.prune();
    assert!(nodes.starts_with(&pruned));
    assert!((3 * LATEST..=4 * LATEST).contains(&pruned.len()), "{}", pruned.len());
    assert_eq!(harness.prune(), []);
    // What it forgets is charged no longer.
    for node in nodes {
        harness.ask(1, node, Op::Forget(vec![(node, 1)]));
    }
    assert_eq!(harness.texts(), before);
    assert_eq!(harness.prune(), []);
}

#[test]
fn nodes_that_the_kernel_forgets_by_itself_are_not_asked_for() {
    let mut harness = Harness::new();
    harness.create("mailboxes/box", BOTH);
    let folder = harness.node("control/mailboxes/box");
    let before = harness.texts();
    for _ in 0..5 * LATEST {
        let node = harness.look_up(1, folder, "stream").unwrap().node;
        harness.ask(1, node, Op::Forget(vec![(node, 1)]));
    }
    assert_eq!((harness.prune(), harness.texts()), (vec![], before));
}

#[test]
fn messages_are_among_them() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", BOTH);
    assert_eq!(harness.get(node, write(fh, b"x")), Reply::Written(1));
    let folder = harness.node("control/mailboxes/box/messages");
    for _ in 0..3 * LATEST {
        harness.look_up(1, folder, "1").unwrap();
    }
    assert!(harness.prune().len() >= LATEST);
}

#[test]
fn whoever_has_used_up_the_share_loses_the_oldest_that_are_not_open_and_nobody_else_does() {
    let mut harness = Harness::new();
    harness.create("mailboxes/box", BOTH);
    let folder = harness.node("control/mailboxes/box/tag");
    let entry = |reply: Reply| match reply {
        Reply::Entry(entry) => Ok(entry.node),
        Reply::Failed(error) => Err(error),
        other => panic!("{other:?}"),
    };
    let stranger = entry(harness.look_up_as(1001, folder, "name")).unwrap();
    let own: Vec<NodeId> =
        (0..3).map(|n| entry(harness.look_up_as(1000, folder, &format!("name{n}"))).unwrap()).collect();
    let Reply::Opened(opened) = harness.get(own[0], Op::Open(BOTH)) else { panic!("not opened") };
    let account = harness.tree.accounts.of(1000);
    let held = account.charge(Resource::Texts, account.left(Resource::Texts)).unwrap();
    let latest = entry(harness.look_up_as(1000, folder, "latest")).unwrap();
    for (node, known) in [(stranger, true), (own[0], true), (own[1], false), (own[2], false), (latest, true)]
    {
        let reply = harness.get(node, Op::Getattr);
        assert_eq!(reply == Reply::Failed(Error::Stale), !known, "{reply:?}");
    }
    // Open files cannot be taken away.
    harness.ask(1, latest, Op::Forget(vec![(latest, 1)]));
    drop(account.charge(Resource::Texts, 0));
    let rest = account.charge(Resource::Texts, account.left(Resource::Texts)).unwrap();
    assert_eq!(entry(harness.look_up_as(1000, folder, "none")), Err(Error::NoMemory));
    assert!(entry(harness.look_up_as(1001, folder, "another user's")).is_ok());
    assert_eq!(harness.get(own[0], Op::Release { fh: opened.fh }), Reply::Done);
    assert!(entry(harness.look_up_as(1000, folder, "again")).is_ok());
    drop((held, rest));
    // The kernel may give back what it was never told of.
    harness.ask(1, own[1], Op::Forget(vec![(own[1], 1)]));
}
