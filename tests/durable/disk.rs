//! A disk that a test holds in its hands: a file of a FUSE file system in this process, on which a loop device stands. It can
//! hang, fail, and tell what was written between which flushes, so that it can be made again as a power cut would leave it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use parking_lot::Mutex;

use crate::common;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
const FILE: INodeNo = INodeNo(2);

/// What a disk has: its blocks that are not zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image(BTreeMap<u64, Arc<[u8; BLOCK]>>);

impl Image {
    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            let (block, from) = (at / BLOCK as u64, at as usize % BLOCK);
            let part = (BLOCK - from).min(length - bytes.len());
            match self.0.get(&block) {
                Some(data) => bytes.extend_from_slice(&data[from..from + part]),
                None => bytes.resize(bytes.len() + part, 0),
            }
        }
        bytes
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (block, from) = (at / BLOCK as u64, at as usize % BLOCK);
            let part = (BLOCK - from).min(bytes.len() - done);
            let data = Arc::make_mut(self.0.entry(block).or_insert_with(|| Arc::new([0; BLOCK])));
            data[from..from + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
    }

    fn discard(&mut self, offset: u64, length: u64) {
        let zeros = vec![0; BLOCK];
        let mut at = offset;
        while at < offset + length {
            let part = (BLOCK as u64 - at % BLOCK as u64).min(offset + length - at);
            if part == BLOCK as u64 {
                self.0.remove(&(at / BLOCK as u64));
            } else {
                self.write(at, &zeros[..part as usize]);
            }
            at += part;
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(offset, bytes) => self.write(*offset, bytes),
            Op::Discard(offset, length) => self.discard(*offset, *length),
            Op::Flush => {}
        }
    }
}

/// What a disk was told to do.
#[derive(Debug)]
pub(crate) enum Op {
    Write(u64, Vec<u8>),
    Discard(u64, u64),
    Flush,
}

/// How the disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Health {
    #[default]
    Well,
    /// Writes and flushes are not answered.
    Hung,
    /// They fail.
    Failing,
}

#[derive(Debug, Default)]
struct State {
    image: Image,
    /// What was done since [`Disk::record`].
    ops: Option<Vec<Op>>,
    health: Health,
    held: Vec<(Op, Answer)>,
}

#[derive(Debug)]
enum Answer {
    Write(ReplyWrite),
    Empty(ReplyEmpty),
}

impl State {
    fn take(&mut self, op: Op, answer: Answer) {
        match (self.health, answer) {
            (Health::Hung, answer) => self.held.push((op, answer)),
            (Health::Failing, Answer::Write(reply)) => reply.error(Errno::EIO),
            (Health::Failing, Answer::Empty(reply)) => reply.error(Errno::EIO),
            (Health::Well, answer) => {
                self.image.apply(&op);
                let length = if let Op::Write(_, bytes) = &op { bytes.len() as u32 } else { 0 };
                self.ops.iter_mut().for_each(|ops| ops.push(Op::Flush));
                if let Some(last) = self.ops.as_mut().and_then(|ops| ops.last_mut()) {
                    *last = op;
                }
                match answer {
                    Answer::Write(reply) => reply.written(length),
                    Answer::Empty(reply) => reply.ok(),
                }
            }
        }
    }
}

struct Server {
    state: Arc<Mutex<State>>,
    size: u64,
}

impl Server {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let folder = ino == INodeNo::ROOT;
        FileAttr {
            ino,
            size: if folder { 0 } else { self.size },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if folder { FileType::Directory } else { FileType::RegularFile },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        }
    }
}

const VALID: Duration = Duration::from_secs(3600);

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_READ);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&VALID, &self.attr(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&VALID, &self.attr(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nothing may be between the loop device and this.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = u64::from(size).min(self.size.saturating_sub(offset));
        reply.data(&self.state.lock().image.read(offset, length as usize));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.state.lock().take(Op::Write(offset, data.to_vec()), Answer::Write(reply));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state.lock().take(Op::Flush, Answer::Empty(reply));
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        self.state.lock().take(Op::Discard(offset, length), Answer::Empty(reply));
    }
}

/// A disk, and a file system on it. Both go with it, whatever state they are in.
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    device: Option<PathBuf>,
    mounted: PathBuf,
    served: PathBuf,
    session: Option<BackgroundSession>,
    _temp: tempfile::TempDir,
}

impl Disk {
    /// One of `size` bytes, full of zeros. `None`, after saying so, on a machine without loop devices.
    pub(crate) fn new(size: u64) -> Option<Disk> {
        if !common::fuse_is_here() {
            return None;
        }
        let usable = Command::new("losetup").arg("-f").output().is_ok_and(|found| found.status.success());
        if !usable {
            eprintln!("SKIP: needs losetup(8) and a loop device");
            return None;
        }
        let temp = tempfile::tempdir().unwrap();
        let (served, mounted) = (temp.path().join("served"), temp.path().join("mounted"));
        fs::create_dir(&served).unwrap();
        fs::create_dir(&mounted).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server { state: Arc::clone(&state), size };
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName(String::from("test-disk")));
        let session = fuser::spawn_mount(server, &served, &config).unwrap();
        Some(Disk { state, device: None, mounted, served, session: Some(session), _temp: temp })
    }

    /// The program that makes such a file system, if it is there.
    pub(crate) fn tools(kind: &str) -> Option<String> {
        let name = format!("mkfs.{kind}");
        Command::new(&name).arg("-V").output().ok().map(|_| name)
    }

    /// Makes a file system on it, and mounts that.
    pub(crate) fn format(&mut self, kind: &str) {
        self.attach();
        let make = Disk::tools(kind).unwrap();
        tool(&make, &["-q", self.device.as_ref().unwrap().to_str().unwrap()]).unwrap();
        self.mount(kind).unwrap();
    }

    fn attach(&mut self) {
        let file = self.served.join("disk");
        let device = tool("losetup", &["-f", "--show", file.to_str().unwrap()]).unwrap();
        self.device = Some(PathBuf::from(device.trim()));
    }

    fn mount(&self, kind: &str) -> Result<String, String> {
        let device = self.device.as_ref().unwrap().to_str().unwrap();
        tool("mount", &["-t", kind, device, self.mounted.to_str().unwrap()])
    }

    /// Where its file system is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mounted
    }

    /// Unmounts the file system, and puts another image in place of its own.
    pub(crate) fn replace(&mut self, image: Image, kind: &str) -> Result<(), String> {
        self.detach();
        self.wait_until_free();
        self.state.lock().image = image;
        self.attach();
        self.mount(kind).map(drop)
    }

    /// Unmounts the file system and mounts it again, as after a restart of the machine.
    pub(crate) fn remount(&mut self, kind: &str) -> Result<(), String> {
        self.detach();
        self.wait_until_free();
        self.attach();
        self.mount(kind).map(drop)
    }

    /// Somebody may still have a file of it open, or another mount namespace may have a copy of its mount. The file system writes
    /// until the last of them has gone.
    fn wait_until_free(&self) {
        let file = self.served.join("disk");
        let used = || tool("losetup", &["-j", file.to_str().unwrap()]).unwrap();
        common::wait_for("the disk to be free", || used().is_empty());
    }

    fn detach(&mut self) {
        let _ = rustix::mount::unmount(&self.mounted, rustix::mount::UnmountFlags::DETACH);
        if let Some(device) = self.device.take() {
            let _ = tool("losetup", &["-d", device.to_str().unwrap()]);
        }
    }

    pub(crate) fn set_health(&self, health: Health) {
        let mut state = self.state.lock();
        state.health = health;
        if health != Health::Hung {
            for (op, answer) in std::mem::take(&mut state.held) {
                state.take(op, answer);
            }
        }
    }

    /// Number of writes and flushes that are not answered.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Begins to record what is written. Returns what is there.
    pub(crate) fn record(&self) -> Image {
        let mut state = self.state.lock();
        state.ops = Some(Vec::new());
        state.image.clone()
    }

    /// How much was recorded by now.
    pub(crate) fn recorded(&self) -> usize {
        self.state.lock().ops.as_ref().map_or(0, Vec::len)
    }

    pub(crate) fn end_record(&self) -> Vec<Op> {
        self.state.lock().ops.take().unwrap_or_default()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.set_health(Health::Well);
        self.detach();
        if let Some(session) = self.session.take() {
            let _ = rustix::mount::unmount(&self.served, rustix::mount::UnmountFlags::DETACH);
            // It ends when the loop device has let go of its file.
            drop(session);
        }
    }
}

/// The images that a power cut may leave, in order of the cuts.
pub(crate) struct Cuts<'a> {
    ops: &'a [Op],
    /// Everything before the last flush that was passed.
    synced: Image,
    done: usize,
}

impl<'a> Cuts<'a> {
    pub(crate) fn new(begin: Image, ops: &'a [Op]) -> Cuts<'a> {
        Cuts { ops, synced: begin, done: 0 }
    }

    /// The disk if power was cut after `cut` operations: of the writes since the last flush, some are there, in any order, some
    /// are torn between sectors, some are missing. `choose` returns a number below its argument.
    pub(crate) fn image(&mut self, cut: usize, choose: &mut impl FnMut(usize) -> usize) -> Image {
        let before = &self.ops[..cut];
        let flushed = before.iter().rposition(|op| matches!(op, Op::Flush)).map_or(0, |at| at + 1);
        assert!(self.done <= flushed.max(self.done), "cuts come in order");
        for op in &self.ops[self.done.min(flushed)..flushed] {
            self.synced.apply(op);
        }
        self.done = self.done.max(flushed);
        let mut image = self.synced.clone();
        let mut late: Vec<&Op> = before[flushed..].iter().filter(|_| choose(2) == 0).collect();
        for at in (1..late.len()).rev() {
            late.swap(at, choose(at + 1));
        }
        for op in late {
            match op {
                Op::Write(offset, bytes) if choose(4) == 0 => {
                    image.write(*offset, &bytes[..choose(bytes.len() / SECTOR + 1) * SECTOR]);
                }
                op => image.apply(op),
            }
        }
        image
    }
}

/// Runs a tool of the system; what it printed.
fn tool(name: &str, words: &[&str]) -> Result<String, String> {
    let out = Command::new(name).args(words).output().map_err(|error| format!("{name}: {error}"))?;
    if !out.status.success() {
        return Err(format!("{name} {words:?}: {}", String::from_utf8_lossy(&out.stderr)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
