use super::*;
use crate::tree::names::Namespace;
use crate::tree::names::lookups::LOOKUP_WINDOW;
use crate::tree::names::refusals::{MAX_REFUSALS, REFUSAL_LIFETIME};

const LATER: Moment = Moment(10 * LOOKUP_WINDOW as i64);

/// A mailbox, as far as nodes know.
#[derive(Debug, Clone)]
struct File(Ino);

impl Named for File {
    fn of_folder(ino: Ino, _: Namespace) -> File {
        File(ino)
    }

    fn ino(&self) -> Ino {
        self.0
    }

    fn folder(&self) -> Option<Ino> {
        None
    }

    fn is_symlink(&self) -> bool {
        false
    }
}

struct World {
    nodes: Nodes<File>,
    file: File,
    next: u64,
}

impl World {
    fn new() -> World {
        World { nodes: Nodes::default(), file: File(Ino(9)), next: 99 }
    }

    fn look_up(&mut self, pid: u32, now: Moment) -> NodeId {
        let next = &mut self.next;
        self.nodes.look_up_mailbox(&self.file, pid, now, || {
            *next += 1;
            NodeId(*next)
        })
    }

    fn open(&mut self, id: NodeId, write: bool, pid: u32, now: Moment) -> bool {
        // Each open(2) begins with a look-up, or another has been so short a time ago that it makes no difference.
        if let Some(node) = self.nodes.by_id.get_mut(&id) {
            node.recent_lookups.note(pid, now);
        }
        self.nodes.open(id, write, pid, now).is_some()
    }
}

#[test]
fn an_idle_node_is_answered_again_and_a_busy_one_never() {
    let mut world = World::new();
    let first = world.look_up(1, Moment(1));
    assert!(world.open(first, true, 1, Moment(1)));
    let second = world.look_up(2, Moment(2));
    assert_ne!(first, second, "a writer's node is not given to anyone else");
    assert!(world.open(second, true, 2, Moment(2)));
    world.nodes.close(second, true);
    assert_eq!(world.look_up(3, Moment(3)), second);
}

#[test]
fn the_loser_of_a_race_gets_a_node_of_its_own_at_once() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert_eq!(world.look_up(1, Moment(1)), node);
    assert!(world.open(node, true, 1, LATER));
    assert!(!world.open(node, true, 2, LATER), "refused");
    let other = world.look_up(3, LATER);
    let reserved = world.look_up(2, LATER);
    assert!(reserved != node && reserved != other, "reserved for the refused thread alone");
    assert_ne!(world.look_up(4, Moment(2 * LATER.0)), reserved);
    assert_eq!(world.look_up(2, LATER), reserved, "as often as it asks");
    assert!(world.open(reserved, true, 2, LATER));
    assert_eq!(world.nodes.refusals(), 0);
}

#[test]
fn nobody_is_refused_twice() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert!(world.open(node, true, 1, LATER));
    assert!(!world.open(node, true, 2, LATER));
    assert!(world.open(node, true, 2, LATER), "a magic link leads to the same node again");
    assert_eq!((world.nodes.len(), world.nodes.refusals()), (1, 0));
}

#[test]
fn who_comes_by_no_name_is_let_in_and_told_apart_and_the_node_is_given_to_nobody_else() {
    let mut world = World::new();
    let bound = world.look_up(1, Moment(1));
    // A mailbox that is mounted elsewhere: nobody who opens it there looks anything up.
    for pid in [2, 3] {
        assert_eq!(world.nodes.open(bound, true, pid, LATER), None);
        assert_eq!(world.nodes.open(bound, true, pid, LATER), Some(Opening::Nameless));
    }
    for _ in [2, 3] {
        world.nodes.close(bound, true);
    }
    let later = Moment(2 * LATER.0);
    let other = world.look_up(4, later);
    assert_ne!(other, bound);
    assert_eq!(world.nodes.open(other, true, 4, Moment(3 * LATER.0)), None, "a slow one");
    assert_eq!(world.look_up(4, Moment(3 * LATER.0)), other);
    assert_eq!(world.nodes.open(other, true, 4, Moment(4 * LATER.0)), Some(Opening::ByName));
    // A reader holds no lock while it waits.
    assert_eq!(world.nodes.open(bound, false, 5, LATER), Some(Opening::ByName));
    assert_eq!(world.nodes.refusals(), 0);
}

#[test]
fn a_node_that_another_process_looked_up_just_now_is_left_to_it() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert_ne!(world.look_up(2, Moment(2)), node);
    assert!(!world.open(node, true, 2, Moment(3)));
    assert_eq!(world.look_up(3, LATER), world.look_up(3, LATER));
}

#[test]
fn readers_share_and_forgotten_nodes_leave_nothing() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert!(world.open(node, false, 1, LATER));
    assert!(world.open(node, false, 2, LATER));
    assert!(!world.open(node, true, 3, LATER), "a writer shares with nobody");
    world.nodes.close(node, false);
    world.nodes.close(node, false);
    assert!(world.nodes.forget(node, 1).is_some());
    let reserved = world.look_up(3, LATER);
    assert!(world.open(reserved, true, 3, LATER), "whatever was forgotten meanwhile");
    world.nodes.close(reserved, true);
    assert!(world.nodes.forget(reserved, 1).is_some());
    assert!(world.nodes.by_id.is_empty() && world.nodes.pools.is_empty());
    assert_eq!(world.nodes.refusals(), 0);
}

#[test]
fn a_refused_thread_is_let_in_after_its_node_was_forgotten_or_the_mailbox_replaced() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert!(world.open(node, true, 1, LATER));
    assert!(!world.open(node, true, 2, LATER));
    let reserved = world.look_up(2, LATER);
    assert!(world.nodes.forget(reserved, 1).is_some());
    let another = world.look_up(2, LATER);
    world.file = File(Ino(10));
    world.nodes.close(node, true);
    world.nodes.forget(node, 1);
    let replaced = world.look_up(2, LATER);
    assert_ne!(replaced, another);
    assert!(!world.open(replaced, true, 3, LATER) && world.open(replaced, true, 3, LATER), "by a magic link");
    let own = world.look_up(2, LATER);
    assert_ne!(own, replaced);
    assert!(world.open(own, true, 2, LATER));
    assert_eq!(world.nodes.refusals(), 0);
}

#[test]
fn threads_that_never_come_back_are_bounded_by_number() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert!(world.open(node, true, 1, LATER));
    let last = MAX_REFUSALS as u32 + 1_000;
    for pid in 2..=last {
        assert!(!world.open(node, true, pid, LATER));
    }
    assert_eq!((world.nodes.len(), world.nodes.refusals()), (1, MAX_REFUSALS));
    assert!(world.open(node, true, last, LATER), "the oldest are dropped");
    assert!(!world.open(node, true, 2, LATER));
}

#[test]
fn a_node_reserved_for_a_thread_that_never_comes_back_is_used_again_when_that_is_long_ago() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert!(world.open(node, true, 1, LATER));
    assert!(!world.open(node, true, 2, LATER));
    let reserved = world.look_up(2, LATER);
    let much_later = LATER.after(REFUSAL_LIFETIME);
    assert_eq!(world.look_up(3, much_later), reserved);
    assert_eq!(world.nodes.refusals(), 0);
}

#[test]
fn threads_without_a_number_are_never_refused() {
    let mut world = World::new();
    let node = world.look_up(1, Moment(1));
    assert!(world.open(node, true, 1, LATER));
    assert!(world.open(node, true, UNKNOWN_THREAD, LATER));
}

#[test]
fn contending_readers_share_a_node_that_no_writer_gets() {
    const COUNT: u32 = 1_000;
    let mut world = World::new();
    let answered: Vec<NodeId> = (1..=COUNT).map(|pid| world.look_up(pid, LATER)).collect();
    let mut distinct = answered.clone();
    distinct.dedup();
    assert!(distinct.len() <= 32, "{} nodes for all of them", distinct.len());
    let shared = world.look_up(1, LATER);
    for pid in 2..=COUNT {
        assert_eq!(world.look_up(pid, LATER), shared);
        assert!(world.open(shared, false, pid, LATER));
    }
    assert!(!world.open(shared, true, COUNT + 1, LATER), "readers have it");
    for _ in 2..=COUNT {
        world.nodes.close(shared, false);
    }
    assert!(!world.open(shared, true, COUNT + 2, LATER), "the first may be about to lock it");
    let later = LATER.after(LOOKUP_WINDOW);
    assert_eq!(world.look_up(COUNT + 3, later), shared);
    assert!(world.open(shared, true, COUNT + 3, later));
}

#[test]
fn contending_writers_end_up_with_a_node_each() {
    const COUNT: u32 = 500;
    let mut world = World::new();
    let answered: Vec<NodeId> = (1..=COUNT).map(|pid| world.look_up(pid, LATER)).collect();
    let mut opened = BTreeSet::new();
    for (pid, id) in (1..=COUNT).zip(answered) {
        let id = if world.open(id, true, pid, LATER) {
            id
        } else {
            let reserved = world.look_up(pid, LATER);
            assert!(world.open(reserved, true, pid, LATER), "refused twice");
            reserved
        };
        assert!(opened.insert(id), "{id:?} has two writers");
    }
}

#[test]
fn looking_a_busy_mailbox_up_costs_the_same_whatever_is_open() {
    let mut world = World::new();
    for pid in 1..=10_000 {
        let id = world.look_up(pid, LATER);
        assert!(world.open(id, true, pid, LATER));
    }
    let pool = world.nodes.pools.values().next().unwrap();
    assert_eq!((pool.idle.len(), pool.known), (0, 10_000));
}
