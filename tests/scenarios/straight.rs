//! Scenarios straight on the tree: this is the kernel, as far as it matters.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipcfs::config::{Limits, MSGSIZE_CEILING};
use ipcfs::op::{
    Attr, Caller, Effect, Effects, Entry, Error, Fh, NodeId, Now, Op, OpenAs, OpenFlags, RenameHow, Reply,
    Request, RequestId, SetAttr,
};
use ipcfs::sys::memfd::Memfd;
use ipcfs::tree::{Setup, Tree};

use super::harness::{Client, Harness, MEMORY, Mode, Open, Outcome, Stat};

struct File {
    node: NodeId,
    fh: Fh,
    position: u64,
    /// Neither position nor seeking.
    stream: bool,
}

/// A tree, and those who have files of it open.
pub struct Straight {
    tree: Tree,
    now: u64,
    files: Vec<Option<File>>,
    /// Requests of clients, and their open files.
    clients: Vec<(u64, Open)>,
    answers: BTreeMap<u64, Reply>,
}

impl Straight {
    pub fn new() -> Straight {
        let limits = Limits { memory: MEMORY, ..Limits::for_machine(1 << 30) };
        let (uid, gid, shared, backing, threads, pid) = (0, 0, false, None, 1, 1);
        let setup = Setup {
            limits,
            ceiling: MSGSIZE_CEILING,
            uid,
            gid,
            shared,
            backing,
            transport: "none",
            scheduling: None,
            restart: None,
            threads,
            descriptors: 1000,
            pid,
            journal: None,
            engine: false,
        };
        let tree = Tree::new(setup, Arc::new(|| Ok(Arc::new(Memfd::new()?))), Now::same(0));
        Straight { tree, now: 0, files: Vec::new(), clients: Vec::new(), answers: BTreeMap::new() }
    }

    /// A request of a process of its own; its number.
    fn ask(&mut self, node: NodeId, op: Op<'_>) -> u64 {
        // Processes come far enough apart not to meet.
        self.now += 1_000_000_000;
        let unique = self.now;
        let caller = Caller { uid: 0, gid: 0, pid: 1 };
        let request = Request { request_id: RequestId { unique, reply_path: 0, pid: 0 }, node, caller, op };
        let mut fx = Effects::new();
        self.tree.handle(&request, Now::same(self.now), &mut fx);
        for effect in fx.drain() {
            if let Effect::Reply(request_id, reply) = effect {
                assert_eq!(self.answers.insert(request_id.unique, reply), None, "answered twice");
            }
        }
        unique
    }

    fn get(&mut self, node: NodeId, op: Op<'_>) -> Outcome<Reply> {
        let unique = self.ask(node, op);
        match self.answers.remove(&unique).expect("an answer at once") {
            Reply::Failed(error) => Err(error),
            reply => Ok(reply),
        }
    }

    fn look_up(&mut self, path: &str) -> Outcome<NodeId> {
        let mut node = NodeId::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match self.get(node, Op::Lookup { name: name.as_bytes() })? {
                Reply::Entry(Entry { node: next, .. }) => node = next,
                reply => panic!("{reply:?}"),
            }
        }
        Ok(node)
    }

    /// The folder of a path, and the last name.
    fn parent<'a>(&mut self, path: &'a str) -> Outcome<(NodeId, &'a [u8])> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.look_up(folder)?, name.as_bytes()))
    }

    fn file(&self, open: Open) -> &File {
        self.files[open.0].as_ref().expect("open")
    }

    fn read_op(&self, open: Open, size: u32, nonblock: bool) -> (NodeId, Op<'static>) {
        let file = self.file(open);
        (file.node, Op::Read { fh: file.fh, offset: file.position, size, nonblock, direct: true })
    }

    fn write_op<'a>(&self, open: Open, data: &'a [u8], nonblock: bool) -> (NodeId, Op<'a>) {
        let (File { node, fh, position: offset, .. }, append) = (self.file(open), false);
        let (fh, offset, page_cache, kill_suid) = (*fh, *offset, false, false);
        (*node, Op::Write { fh, offset, data, nonblock, append, page_cache, kill_suid })
    }

    fn advance(&mut self, open: Open, by: usize) {
        let file = self.files[open.0].as_mut().expect("open");
        file.position += if file.stream { 0 } else { by as u64 };
    }
}

fn bytes(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Message(slice) | Reply::Text(slice) => slice.as_bytes().to_vec(),
        Reply::Data(bytes) => bytes,
        Reply::Written(_) => Vec::new(),
        reply => panic!("{reply:?}"),
    }
}

impl Harness for Straight {
    fn make_folder(&mut self, path: &str) -> Outcome<()> {
        let (folder, name) = self.parent(path)?;
        self.get(folder, Op::Mkdir { name, mode: 0o755 }).map(drop).map_err(as_number)
    }

    fn create(&mut self, path: &str) -> Outcome<()> {
        let (folder, name) = self.parent(path)?;
        self.get(folder, Op::Mknod { name, mode: 0o644 }).map(drop)
    }

    fn remove(&mut self, path: &str) -> Outcome<()> {
        let (folder, name) = self.parent(path)?;
        self.get(folder, Op::Unlink { name }).map(drop)
    }

    fn remove_folder(&mut self, path: &str) -> Outcome<()> {
        let (folder, name) = self.parent(path)?;
        self.get(folder, Op::Rmdir { name }).map(drop)
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome<()> {
        let (parent, name) = self.parent(from)?;
        let (new_parent, new_name) = self.parent(to)?;
        let how = RenameHow::Replace;
        self.get(parent, Op::Rename { name, new_parent, new_name, how }).map(drop)
    }

    fn list(&mut self, path: &str) -> Vec<String> {
        let node = self.look_up(path).unwrap();
        let Ok(Reply::Directory(fh)) = self.get(node, Op::Opendir) else { panic!() };
        let read = Op::Readdir { fh, offset: 0, size: 65536 };
        let Ok(Reply::Listing(list, _)) = self.get(node, read) else { panic!() };
        self.get(node, Op::Releasedir { fh }).unwrap();
        let names = list.iter().map(|item| String::from_utf8(item.name.to_vec()).unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort();
        names
    }

    fn stat(&mut self, path: &str) -> Outcome<Stat> {
        let node = self.look_up(path)?;
        let Reply::Attr(Attr { ino, size, blocks, .. }, _) = self.get(node, Op::Getattr)? else { panic!() };
        Ok(Stat { ino: ino.0, size, blocks })
    }

    fn truncate(&mut self, path: &str, size: u64) -> Outcome<()> {
        let node = self.look_up(path)?;
        self.get(node, Op::Setattr(SetAttr { size: Some(size), ..SetAttr::default() })).map(drop)
    }

    fn open(&mut self, path: &str, mode: Mode) -> Outcome<Open> {
        let mut node = self.look_up(path)?;
        let (read, write) = (mode != Mode::Send, mode != Mode::Receive);
        let open = || Op::Open(OpenFlags { read, write, ..OpenFlags::default() });
        let mut reply = self.get(node, open());
        if reply == Err(Error::Stale) {
            node = self.look_up(path)?;
            reply = self.get(node, open());
        }
        let Reply::Opened(opened) = reply? else { panic!() };
        let stream = opened.how == OpenAs::Stream;
        self.files.push(Some(File { node, fh: opened.fh, position: 0, stream }));
        Ok(Open(self.files.len() - 1))
    }

    fn close(&mut self, open: Open) {
        let file = self.files[open.0].take().expect("open");
        assert_eq!(self.get(file.node, Op::Release { fh: file.fh }), Ok(Reply::Done));
    }

    fn write(&mut self, open: Open, bytes: &[u8]) -> Outcome<usize> {
        let (node, op) = self.write_op(open, bytes, true);
        let Reply::Written(count) = self.get(node, op)? else { panic!() };
        self.advance(open, count as usize);
        Ok(count as usize)
    }

    fn read(&mut self, open: Open, size: usize) -> Outcome<Vec<u8>> {
        let (node, op) = self.read_op(open, size as u32, true);
        let bytes = bytes(self.get(node, op)?);
        self.advance(open, bytes.len());
        Ok(bytes)
    }

    fn seek(&mut self, open: Open, position: u64) -> Outcome<()> {
        let file = self.files[open.0].as_mut().expect("open");
        assert!(!file.stream);
        file.position = position;
        Ok(())
    }

    fn sender(&mut self, path: &str, bytes: &[u8]) -> Client {
        let open = self.open(path, Mode::Send).unwrap();
        let (node, op) = self.write_op(open, bytes, false);
        let unique = self.ask(node, op);
        self.clients.push((unique, open));
        Client(self.clients.len() - 1)
    }

    fn receiver(&mut self, path: &str) -> Client {
        let open = self.open(path, Mode::Receive).unwrap();
        let (node, op) = self.read_op(open, 1 << 20, false);
        let unique = self.ask(node, op);
        self.clients.push((unique, open));
        Client(self.clients.len() - 1)
    }

    fn interrupt(&mut self, client: Client) {
        let (unique, _) = self.clients[client.0];
        self.ask(NodeId(0), Op::Interrupt { unique });
    }

    fn outcome(&mut self, client: Client) -> Outcome<Vec<u8>> {
        let (unique, open) = self.clients[client.0];
        let reply = self.answers.remove(&unique).expect("an answer by now");
        self.close(open);
        match reply {
            Reply::Failed(error) => Err(error),
            reply => Ok(bytes(reply)),
        }
    }

    fn expect_figure(&mut self, status: &str, key: &str, wanted: u64) {
        let text = self.show(status);
        let line = format!("{key} {wanted}");
        assert!(text.lines().any(|other| other == line), "{status} should say {line}:\n{text}");
    }

    fn configure(&mut self, path: &str, value: &str) -> Outcome<()> {
        let open = self.open(&format!("control/{path}"), Mode::Send)?;
        let written = self.write(open, value.as_bytes());
        self.close(open);
        written.map(drop)
    }

    fn show(&mut self, path: &str) -> String {
        let open = self.open(&format!("control/{path}"), Mode::Receive).unwrap();
        let text = self.read(open, 65536).unwrap();
        self.close(open);
        String::from_utf8(text).unwrap()
    }
}

/// Two errors of the tree's have one number.
fn as_number(error: Error) -> Error {
    if error == Error::KindRefused { Error::NotPermitted } else { error }
}
