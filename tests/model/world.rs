//! A kernel of sorts in front of a tree, with a ledger: of requests without an answer, of references to nodes, and of
//! what each answer has to be as far as names and segments are concerned. Shared with the fuzz target `tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipcfs::config::{Limits, MailboxLimits};
use ipcfs::op::{
    Caller, Effect, Effects, Entry, Error, Fh, Ino, Listed, Moment, NodeId, Now, Op, OpenFlags, Opened,
    Reply, Request, RequestId, Slice,
};
use ipcfs::tree::{MakeMemory, Setup, Tree};

use super::plain::Plain;

/// Bytes of all messages: some ten, so that mailboxes compete for them.
const MEMORY: u64 = 2600;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    Mailbox,
    Segment,
    Symlink,
}

impl Kind {
    /// It can be opened, and `control/` shows it.
    pub fn is_file(self) -> bool {
        matches!(self, Kind::Mailbox | Kind::Segment)
    }
}

/// What each symbolic link leads to.
pub const TARGET: &[u8] = b"a";

/// Which part of the tree a folder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Root,
    Mailboxes,
    Segments,
}

/// A node the kernel holds references to.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub ino: Ino,
    pub kind: Kind,
    lookups: u64,
}

/// An open file.
#[derive(Debug, Clone, Copy)]
pub struct File {
    pub fh: Fh,
    pub node: NodeId,
    pub ino: Ino,
    pub kind: Kind,
    pub flags: OpenFlags,
    pub position: u64,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
struct Parked {
    request_id: RequestId,
    fh: Fh,
    since: u64,
    /// Of a read.
    offset: Option<u64>,
}

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    pub node: NodeId,
    pub ino: Ino,
    pub fh: Fh,
    pub cookie: u64,
    pub seen: Vec<Vec<u8>>,
    /// Names that nobody has touched since it began.
    pub stayers: BTreeSet<Vec<u8>>,
}

/// A tree and its kernel.
pub struct World {
    pub tree: Tree,
    fx: Effects,
    pub now: u64,
    next_unique: u64,
    parked: BTreeMap<u64, Parked>,
    pub nodes: BTreeMap<NodeId, Known>,
    pub files: Vec<File>,
    pub names: BTreeMap<Ino, BTreeMap<Vec<u8>, (Ino, Kind)>>,
    pub parts: BTreeMap<Ino, Part>,
    /// Bytes of the segments that have any, or had when they could be opened last.
    pub bytes: BTreeMap<Ino, Vec<u8>>,
    /// Segments that go with their last close.
    pub last_close: BTreeSet<Ino>,
    pub listings: Vec<Listing>,
    /// Requests are garbage: nothing is known of what they do.
    pub wild: bool,
    /// Whose open(2) was refused and did not come back, because the name was gone or a folder's: their next OPEN is not
    /// refused.
    pub given_up: BTreeSet<u8>,
    greatest_node: u64,
}

pub const MAILBOXES: Ino = Ino(2);
pub const SEGMENTS: Ino = Ino(3);
pub const ROOT: Ino = Ino(1);

fn setup() -> Setup {
    let limits = Limits {
        mailbox: MailboxLimits { msgsize: 64, maxmsg: 3, maxbytes: 150 },
        memory: MEMORY,
        segment_memory: 16 * 4096,
        max_files: 1000,
        user_share: 50,
    };
    Setup {
        limits,
        ceiling: 4096,
        uid: 0,
        gid: 0,
        // The rule of sticky folders has tests of its own.
        shared: false,
        backing: None,
        transport: "none",
        scheduling: None,
        restart: None,
        threads: 1,
        descriptors: 1000,
        pid: 1,
        journal: None,
        engine: false,
    }
}

fn make_memory() -> MakeMemory {
    Arc::new(|| Ok(Arc::new(Plain::default())))
}

impl World {
    pub fn new() -> World {
        let tree = Tree::new(setup(), make_memory(), Now::same(0));
        let tops = [("mailboxes", MAILBOXES), ("segments", SEGMENTS)];
        let tops = tops.map(|(name, ino)| (name.as_bytes().to_vec(), (ino, Kind::Folder)));
        let names = [(ROOT, BTreeMap::from(tops)), (MAILBOXES, BTreeMap::new()), (SEGMENTS, BTreeMap::new())];
        let parts = [(ROOT, Part::Root), (MAILBOXES, Part::Mailboxes), (SEGMENTS, Part::Segments)];
        let mut world = World {
            tree,
            fx: Effects::new(),
            now: 1,
            next_unique: 0,
            parked: BTreeMap::new(),
            nodes: BTreeMap::from([(NodeId(1), Known { ino: ROOT, kind: Kind::Folder, lookups: 1 })]),
            files: Vec::new(),
            names: BTreeMap::from(names),
            parts: BTreeMap::from(parts),
            bytes: BTreeMap::new(),
            last_close: BTreeSet::new(),
            listings: Vec::new(),
            wild: false,
            given_up: BTreeSet::new(),
            greatest_node: 16,
        };
        world.allow_removal();
        world
    }

    /// Whoever has just received from a mailbox may remove it nevertheless: that this is refused has tests of its own.
    fn allow_removal(&mut self) {
        let mut nodes = vec![NodeId(1)];
        for name in ["control", "mailboxes", "config", "remove"] {
            let reply = self.get(0, nodes[nodes.len() - 1], Op::Lookup { name: name.as_bytes() });
            let Reply::Entry(Entry { node, .. }) = reply else { panic!("{reply:?}") };
            nodes.push(node);
        }
        let node = nodes[nodes.len() - 1];
        let flags = OpenFlags {
            read: false,
            write: true,
            append: false,
            truncate: false,
            exclusive: false,
            no_follow: false,
            kill_suid: false,
        };
        let reply = self.get(0, node, Op::Open(flags));
        let Reply::Opened(Opened { fh, .. }) = reply else { panic!("{reply:?}") };
        let (data, append) = (&b"any"[..], false);
        let write =
            Op::Write { fh, offset: 0, data, nonblock: false, append, page_cache: false, kill_suid: false };
        assert_eq!(self.get(0, node, write), Reply::Written(3));
        assert_eq!(self.get(0, node, Op::Release { fh }), Reply::Done);
        let known = nodes[1..].iter().map(|node| (*node, 1)).collect();
        assert_eq!(self.ask(0, node, Op::Forget(known)), None);
    }

    /// Another process takes the tree over.
    pub fn restart(&mut self) {
        let mut state = Vec::new();
        let memories = self.tree.save(&mut state).expect("memory takes all");
        self.tree = Tree::take_over(setup(), make_memory(), &state, memories, Now::same(self.now))
            .expect("it was saved just now");
        let mut again = Vec::new();
        self.tree.save(&mut again).expect("memory takes all");
        assert!(state == again, "what was taken over is saved otherwise");
        self.tree.tick(Now::same(self.now), &mut self.fx);
        self.collect(Error::Interrupted);
    }

    /// Has a request done. `None`: its caller waits, or it is one that is never answered.
    pub fn ask(&mut self, who: u8, node: NodeId, op: Op<'_>) -> Option<Reply> {
        self.next_unique += 2;
        let request_id = RequestId { unique: self.next_unique, reply_path: u32::from(who), pid: 0 };
        let pid = 100 + u32::from(who);
        let caller = Caller { uid: u32::from(who), gid: u32::from(who), pid };
        let request = Request { request_id, node, caller, op };
        let asked_for = match &request.op {
            Op::Interrupt { unique } => Some((*unique, self.parked.contains_key(unique))),
            _ => None,
        };
        self.tree.handle(&request, Now::same(self.now), &mut self.fx);
        while self.tree.work(Now::same(self.now), &mut self.fx) {}
        let mut own = None;
        let mut again = None;
        let effects: Vec<Effect> = self.fx.drain().collect();
        for effect in effects {
            match effect {
                Effect::Reply(to, reply) if to == request_id => {
                    assert_eq!(own.replace(reply), None, "answered twice: {request:?}");
                }
                Effect::Reply(to, reply) => self.late(to, &reply),
                Effect::Wake(_)
                | Effect::InvalidateAttr(_)
                | Effect::Prune(_)
                | Effect::Alarm(_)
                | Effect::TrimHeap
                | Effect::Work
                | Effect::ShareReached { .. } => {}
                Effect::InterruptAgain { unique } => again = Some(unique),
                Effect::Deliver(..) | Effect::Promise(..) => panic!("there is no store"),
                Effect::Engine(_) => panic!("there is no engine"),
            }
        }
        match asked_for {
            Some((unique, true)) => {
                assert_eq!(again, None, "it waited");
                assert!(!self.parked.contains_key(&unique), "interrupted in vain: {request:?}");
            }
            Some((unique, false)) => assert_eq!(again, Some(unique), "nobody knows of it"),
            None => assert_eq!(again, None),
        }
        if own.is_none() {
            let (fh, offset) = match &request.op {
                Op::Forget(_) | Op::Interrupt { .. } => return None,
                Op::Read { fh, offset, nonblock: false, .. } => (*fh, Some(*offset)),
                Op::Write { fh, nonblock: false, .. } => (*fh, None),
                Op::Setlk { lock, wait: true } => (lock.fh, None),
                other => panic!("no answer: {other:?}"),
            };
            self.parked.insert(request_id.unique, Parked { request_id, fh, since: self.now, offset });
        }
        own
    }

    /// As [`World::ask`], for what is answered at once.
    pub fn get(&mut self, who: u8, node: NodeId, op: Op<'_>) -> Reply {
        self.ask(who, node, op).expect("an answer")
    }

    /// An answer to somebody who waited.
    fn late(&mut self, to: RequestId, reply: &Reply) {
        let parked = self.parked.remove(&to.unique);
        let parked = parked.unwrap_or_else(|| panic!("{to:?} does not wait and is answered: {reply:?}"));
        assert_eq!(parked.request_id, to, "the answer goes where the request came from");
        if let (Reply::Message(slice), Some(offset)) = (reply, parked.offset) {
            self.moved(parked.fh, offset + slice.as_bytes().len() as u64);
        }
    }

    fn moved(&mut self, fh: Fh, position: u64) {
        if let Some(file) = self.files.iter_mut().find(|file| file.fh == fh) {
            file.position = position;
        }
    }

    /// Notes a name's answer: one more reference.
    pub fn learn(&mut self, entry: &Entry, kind: Kind) {
        let Entry { node, attr, .. } = *entry;
        self.greatest_node = self.greatest_node.max(node.0);
        let known = self.nodes.entry(node).or_insert(Known { ino: attr.ino, kind, lookups: 0 });
        known.lookups += 1;
        assert_eq!((known.ino, known.kind), (attr.ino, kind), "a node stands for one file for ever");
        if kind == Kind::Mailbox {
            let taken = self.files.iter().any(|file| file.node == node);
            assert!(!taken, "LOOKUP gave a node of a mailbox that somebody has open: {entry:?}");
        }
    }

    /// LOOKUP, checked against what the name stands for.
    pub fn look_up(&mut self, who: u8, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        let expected = self.names.get(&self.nodes[&folder].ino).and_then(|names| names.get(name)).copied();
        match (self.get(who, folder, Op::Lookup { name }), expected) {
            (Reply::Entry(entry), Some((ino, kind))) => {
                assert_eq!(entry.attr.ino, ino);
                self.learn(&entry, kind);
                if kind == Kind::Symlink {
                    let reply = self.get(who, entry.node, Op::Readlink);
                    assert_eq!(reply, Reply::Message(Slice::whole(TARGET)));
                }
                Some(entry.node)
            }
            (Reply::Failed(_), None) => None,
            (reply, expected) => panic!("{name:?} should be {expected:?}: {reply:?}"),
        }
    }

    /// OPEN, and once more after another LOOKUP where it is answered `Stale`, as the kernel does.
    pub fn open(&mut self, who: u8, node: NodeId, flags: OpenFlags) -> Option<File> {
        let Known { ino, kind, .. } = self.nodes[&node];
        let named = self.find(ino);
        let may_share = self.given_up.remove(&who);
        let reply = self.get(who, node, Op::Open(flags));
        if let Reply::Opened(opened) = reply {
            return Some(self.opened(node, &opened, flags, may_share));
        }
        if may_share && named.is_none() && reply == Reply::Failed(Error::NotFound) {
            return None;
        }
        assert_eq!(reply, Reply::Failed(Error::Stale), "{kind:?}");
        let found = named.and_then(|(folder, name)| {
            assert_eq!(kind, Kind::Mailbox, "a segment that has a name can be opened");
            let folder = self.reach(who, folder)?;
            Some(self.look_up(who, folder, &name).expect("it has a name"))
        });
        let Some(node) = found else {
            self.given_up.insert(who);
            return None;
        };
        Some(self.open_again(who, node, flags))
    }

    /// The second OPEN of a caller that was refused.
    pub fn open_again(&mut self, who: u8, node: NodeId, flags: OpenFlags) -> File {
        match self.get(who, node, Op::Open(flags)) {
            Reply::Opened(opened) => self.opened(node, &opened, flags, false),
            reply => panic!("refused twice: {reply:?}"),
        }
    }

    pub fn opened(&mut self, node: NodeId, opened: &Opened, flags: OpenFlags, may_share: bool) -> File {
        let Known { ino, kind, .. } = self.nodes[&node];
        assert!(self.files.iter().all(|file| file.fh != opened.fh), "a handle is given once");
        if kind == Kind::Mailbox && !may_share && self.find(ino).is_some() {
            let sharing =
                self.files.iter().any(|file| file.node == node && (file.flags.write || flags.write));
            assert!(!sharing, "a writer shares a node");
        }
        if kind == Kind::Segment && flags.truncate {
            self.bytes.insert(ino, Vec::new());
        }
        let file = File { fh: opened.fh, node, ino, kind, flags, position: 0 };
        self.files.push(file);
        file
    }

    /// READ; segments give what was written to them.
    pub fn read(&mut self, who: u8, file: File, offset: u64, size: u32, nonblock: bool) {
        let op = Op::Read { fh: file.fh, offset, size, nonblock, direct: true };
        let reply = self.ask(who, file.node, op);
        if file.kind == Kind::Segment {
            let all = self.bytes.get(&file.ino).map_or(&[][..], Vec::as_slice);
            let from = (offset as usize).min(all.len());
            let expected = all[from..all.len().min(from + size as usize)].to_vec();
            assert_eq!(reply, Some(Reply::Data(expected)));
        } else if let Some(Reply::Message(slice) | Reply::Text(slice)) = reply {
            self.moved(file.fh, offset + slice.as_bytes().len() as u64);
        }
    }

    /// RELEASE, unless a call through the file waits.
    pub fn release(&mut self, who: u8, at: usize) {
        let file = self.files[at];
        if self.parked.values().any(|parked| parked.fh == file.fh) {
            return;
        }
        self.files.remove(at);
        assert_eq!(self.get(who, file.node, Op::Release { fh: file.fh }), Reply::Done);
        if file.kind == Kind::Segment
            && self.files.iter().all(|other| other.ino != file.ino)
            && self.last_close.contains(&file.ino)
            && let Some((folder, name)) = self.find(file.ino)
        {
            self.unname(folder, &name);
        }
    }

    /// FORGET of some of a node's references. All go only where it is not open.
    pub fn forget(&mut self, who: u8, node: NodeId, count: u64) {
        let open = self.files.iter().any(|file| file.node == node);
        let Some(known) = self.nodes.get_mut(&node).filter(|_| node != NodeId(1)) else { return };
        let count = count.min(known.lookups - u64::from(open));
        known.lookups -= count;
        if known.lookups == 0 {
            self.nodes.remove(&node);
            self.listings.retain(|listing| listing.node != node);
        }
        assert_eq!(self.ask(who, node, Op::Forget(vec![(node, count)])), None);
    }

    /// INTERRUPT.
    pub fn interrupt(&mut self, who: u8, unique: u64) {
        assert_eq!(self.ask(who, NodeId(0), Op::Interrupt { unique }), None);
    }

    /// The numbers of the requests that wait.
    pub fn waiting(&self) -> Vec<u64> {
        self.parked.keys().copied().collect()
    }

    /// Waits that began at `limit` or before are ended.
    pub fn expire(&mut self, limit: u64) {
        self.tree.expire(Moment(0).after(limit), Now::same(self.now), &mut self.fx);
        self.collect(Error::Interrupted);
        assert!(self.parked.values().all(|parked| parked.since > limit), "it should have expired");
    }

    /// All waits are ended, for good.
    pub fn end(&mut self) {
        self.tree.end(Now::same(self.now), &mut self.fx);
        self.collect(Error::Ending);
        assert!(self.parked.is_empty(), "never answered: {:?}", self.parked);
    }

    /// Answers that nobody asked for just now: those who waited are told `error`, or get in where one has left.
    fn collect(&mut self, error: Error) {
        let effects: Vec<Effect> = self.fx.drain().collect();
        for effect in effects {
            match effect {
                Effect::Reply(to, reply) => {
                    let fine = matches!(&reply, Reply::Failed(other) if *other == error)
                        || matches!(reply, Reply::Written(_) | Reply::Done);
                    assert!(fine, "{reply:?}");
                    self.late(to, &reply);
                }
                Effect::Wake(_)
                | Effect::InvalidateAttr(_)
                | Effect::Prune(_)
                | Effect::Alarm(_)
                | Effect::TrimHeap
                | Effect::Work
                | Effect::ShareReached { .. } => {}
                Effect::InterruptAgain { .. }
                | Effect::Deliver(..)
                | Effect::Promise(..)
                | Effect::Engine(_) => {
                    panic!("{effect:?}")
                }
            }
        }
    }

    /// READDIR of a listing under way: takes the first `most` names of the answer. False at the end.
    pub fn list(&mut self, who: u8, at: usize, most: usize) -> bool {
        let Listing { node, cookie, fh, .. } = self.listings[at];
        let reply = self.get(who, node, Op::Readdir { fh, offset: cookie, size: 4096 });
        let Reply::Listing(list, _) = reply else { panic!("{reply:?}") };
        let listing = &mut self.listings[at];
        for Listed { name, cookie, .. } in list.iter().take(most) {
            assert!(*cookie > listing.cookie, "cookies rise");
            listing.cookie = *cookie;
            listing.seen.push(name.to_vec());
        }
        if !list.is_empty() {
            return true;
        }
        assert_eq!(self.get(who, node, Op::Releasedir { fh }), Reply::Done);
        let Listing { seen, stayers, .. } = self.listings.remove(at);
        for name in stayers.into_iter().chain([b".".to_vec(), b"..".to_vec()]) {
            let times = seen.iter().filter(|other| **other == name).count();
            assert_eq!(times, 1, "{} was there all along", name.escape_ascii());
        }
        false
    }

    /// A name appeared, or what it stood for changed.
    pub fn name(&mut self, folder: Ino, name: &[u8], ino: Ino, kind: Kind) {
        self.touched(folder, name);
        self.names.entry(folder).or_default().insert(name.to_vec(), (ino, kind));
        if kind == Kind::Folder {
            self.names.entry(ino).or_default();
            self.parts.insert(ino, self.parts[&folder]);
        }
    }

    /// A name is taken away; what it stood for.
    pub fn unname(&mut self, folder: Ino, name: &[u8]) -> Option<(Ino, Kind)> {
        self.touched(folder, name);
        self.names.get_mut(&folder)?.remove(name)
    }

    fn touched(&mut self, folder: Ino, name: &[u8]) {
        for listing in self.listings.iter_mut().filter(|listing| listing.ino == folder) {
            listing.stayers.remove(name);
        }
    }

    /// Where a file's name is.
    pub fn find(&self, ino: Ino) -> Option<(Ino, Vec<u8>)> {
        self.names.iter().find_map(|(folder, names)| {
            let (name, _) = names.iter().find(|(_, child)| child.0 == ino)?;
            Some((*folder, name.clone()))
        })
    }

    /// The names that lead from the root to a file.
    pub fn path(&self, ino: Ino) -> Option<Vec<Vec<u8>>> {
        if ino == ROOT {
            return Some(Vec::new());
        }
        let (folder, name) = self.find(ino)?;
        let mut path = self.path(folder)?;
        path.push(name);
        Some(path)
    }

    /// A node of a folder that can be reached from the root, looked up where necessary.
    pub fn reach(&mut self, who: u8, folder: Ino) -> Option<NodeId> {
        let mut node = NodeId(1);
        for name in self.path(folder)? {
            node = self.look_up(who, node, &name)?;
        }
        Some(node)
    }

    /// A file of `control/`, by its path there.
    pub fn control(&mut self, who: u8, path: &[&[u8]]) -> Option<NodeId> {
        let mut node = NodeId(1);
        for name in [&[&b"control"[..]], path].concat() {
            match self.get(who, node, Op::Lookup { name }) {
                Reply::Entry(entry) => node = entry.node,
                Reply::Failed(Error::NotFound) => return None,
                reply => panic!("{reply:?}"),
            }
        }
        Some(node)
    }

    /// All that a file of `control/` shows.
    pub fn show(&mut self, who: u8, node: NodeId) -> String {
        let flags = OpenFlags { read: true, ..OpenFlags::default() };
        let Reply::Opened(Opened { fh, .. }) = self.get(who, node, Op::Open(flags)) else { panic!() };
        let op = Op::Read { fh, offset: 0, size: 65536, nonblock: false, direct: true };
        let (Reply::Message(slice) | Reply::Text(slice)) = self.get(who, node, op) else { panic!() };
        assert_eq!(self.get(who, node, Op::Release { fh }), Reply::Done);
        String::from_utf8(slice.as_bytes().to_vec()).expect("text")
    }

    /// Writes a value to a file of `control/`; the answer.
    pub fn store(&mut self, who: u8, node: NodeId, value: &[u8]) -> Reply {
        let flags = OpenFlags { write: true, ..OpenFlags::default() };
        let Reply::Opened(Opened { fh, .. }) = self.get(who, node, Op::Open(flags)) else { panic!() };
        let (nonblock, append, page_cache, kill_suid) = (false, false, false, false);
        let op = Op::Write { fh, offset: 0, data: value, nonblock, append, page_cache, kill_suid };
        let reply = self.get(who, node, op);
        assert_eq!(self.get(who, node, Op::Release { fh }), Reply::Done);
        reply
    }

    fn remove_attributes(&mut self, node: NodeId) {
        let Reply::Data(names) = self.get(0, node, Op::Listxattr { size: 65536 }) else { return };
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            assert_eq!(self.get(0, node, Op::Removexattr { name }), Reply::Done);
        }
    }

    /// Everything is interrupted or ended, closed, removed and forgotten: nothing may be left.
    pub fn finish(mut self, end: bool) {
        if end || self.wild {
            self.end();
            self.nobody_waits_any_more();
        }
        for unique in self.waiting() {
            if self.parked.contains_key(&unique) {
                self.interrupt(0, unique);
            }
        }
        assert!(self.parked.is_empty(), "never answered: {:?}", self.parked);
        if self.wild {
            return;
        }
        while !self.files.is_empty() {
            self.release(0, 0);
        }
        while !self.listings.is_empty() {
            self.list(0, 0, 3);
        }
        self.remove_all(MAILBOXES);
        self.remove_all(SEGMENTS);
        for (node, known) in self.nodes.clone() {
            self.remove_attributes(node);
            self.forget(0, node, known.lookups);
        }
        self.remove_attributes(NodeId(1));
        let status = self.control(0, &[b"status"]).expect("control/status");
        let status = self.show(0, status);
        let empty = [
            "folders",
            "symlinks",
            "mailboxes",
            "segments",
            "messages",
            "bytes",
            "waiting_readers",
            "waiting_writers",
            "memory_used",
            "segment_used",
            "locks",
            "waiting_locks",
        ];
        for key in empty {
            assert!(status.lines().any(|line| line == format!("{key} 0")), "{key} is not 0:\n{status}");
        }
        // Numbers of nodes and inodes come from one counter.
        for number in 2..self.greatest_node + 200 {
            let reply = self.get(0, NodeId(number), Op::Getattr);
            assert_eq!(reply, Reply::Failed(Error::Stale), "node {number} is forgotten");
        }
    }

    /// After the end a call that would wait is told so.
    fn nobody_waits_any_more(&mut self) {
        let readers: Vec<File> =
            self.files.iter().filter(|file| file.kind == Kind::Mailbox && file.flags.read).copied().collect();
        for file in readers {
            let op = Op::Read { fh: file.fh, offset: 0, size: 64, nonblock: false, direct: true };
            assert!(self.ask(0, file.node, op).is_some(), "nobody waits any more");
        }
    }

    fn remove_all(&mut self, folder: Ino) {
        let node = self.reach(0, folder).expect("a folder");
        for (name, (ino, kind)) in self.names[&folder].clone() {
            let op = if kind == Kind::Folder {
                self.remove_all(ino);
                Op::Rmdir { name: &name }
            } else {
                Op::Unlink { name: &name }
            };
            assert_eq!(self.get(0, node, op), Reply::Done);
            self.unname(folder, &name);
        }
    }
}
