//! One life of an ordinary user's process: random system calls on the whole tree, until it has made enough or is killed.
//! What they return does not matter.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{
    self, Access, Advice, AtFlags, CWD, FallocateFlags, FileType, FlockOperation, IFlags, Mode, OFlags,
    RenameFlags, SeekFrom, StatxFlags, Timestamps, XattrFlags, inotify,
};
use rustix::io::{self, Errno, FdFlags, Result};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid};

use crate::chance::Chance;

/// Descriptors, and processes of its own, that a stranger holds at most.
const HELD: usize = 24;
const CHILDREN: usize = 3;

/// The signal that a stranger survives.
pub(crate) const INTERRUPT: Signal = Signal::USR1;

/// Maps a file, reads and stores. Mapping is not safe in Rust, and a file that shrinks kills who stores.
const MAP: &str = r"
import mmap, os, sys
path, flags, length, offset, kind, access = sys.argv[1], *map(int, sys.argv[2:])
m = mmap.mmap(os.open(path, flags), length, kind, access, offset=offset)
for at in range(0, length, 4096):
    m[at]
    if access & mmap.PROT_WRITE: m[at] = 7
m.flush()
";

pub(crate) struct Stranger {
    chance: Chance,
    held: Vec<Rc<OwnedFd>>,
    children: Vec<Child>,
    buffer: Vec<u8>,
}

impl Stranger {
    pub(crate) fn new(seed: u64) -> Stranger {
        // One that dies of its mapping leaves no core file.
        let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        // A signal ends the call that waits, and does nothing else.
        let _ = signal_hook::flag::register(INTERRUPT.as_raw(), Arc::default());
        Stranger {
            chance: Chance::new(seed),
            held: Vec::new(),
            children: Vec::new(),
            buffer: vec![0; 4 << 20],
        }
    }

    /// Makes so many calls.
    pub(crate) fn live(mut self, calls: u64) {
        for _ in 0..calls {
            let result = match self.chance.below(10) {
                0 | 1 => self.open(),
                2 => self.on_name(),
                3 => self.on_two_names(),
                4..=6 => self.transfer(),
                7 => self.on_descriptor(),
                8 => self.wait_or_lock(),
                _ => self.on_process(),
            };
            let _ = result;
        }
    }

    fn hold(&mut self, descriptor: OwnedFd) {
        if self.held.len() == HELD {
            let old = self.chance.below(HELD as u64) as usize;
            drop(self.held.swap_remove(old));
        }
        self.held.push(Rc::new(descriptor));
    }

    /// One of the descriptors that it holds.
    fn any(&mut self) -> Result<Rc<OwnedFd>> {
        if self.held.is_empty() {
            return Err(Errno::BADF);
        }
        let which = self.chance.below(self.held.len() as u64) as usize;
        Ok(Rc::clone(&self.held[which]))
    }

    /// A path that may exist, or one that a listing shows.
    fn path(&mut self) -> Vec<u8> {
        let path = self.chance.path();
        if self.chance.one_in(4)
            && let Ok(folder) = fs::open(path.as_slice(), OFlags::DIRECTORY, Mode::empty())
            && let Ok(listing) = fs::Dir::new(folder)
        {
            let count = 1 + self.chance.below(40) as usize;
            if let Some(Ok(entry)) = listing.take(count).last() {
                return [&path, b"/".as_slice(), entry.file_name().to_bytes()].concat();
            }
        }
        path
    }

    fn mode(&mut self) -> Mode {
        let mode = self.chance.of(&[0o666, 0o622, 0o644, 0o600, 0o777, 0o000, 0o1777, 0o4755, 0o2777]);
        Mode::from_raw_mode(mode)
    }

    fn open(&mut self) -> Result<()> {
        let path = self.path();
        let mut flags = self.chance.of(&[OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR]);
        flags |= self.chance.some_of(OFlags::empty(), &[OFlags::CREATE, OFlags::CLOEXEC]);
        if !self.chance.one_in(5) {
            flags |= OFlags::NONBLOCK;
        }
        if self.chance.one_in(4) {
            let rare = [
                OFlags::EXCL,
                OFlags::TRUNC,
                OFlags::APPEND,
                OFlags::DIRECTORY,
                OFlags::NOFOLLOW,
                OFlags::PATH,
                OFlags::SYNC,
                OFlags::DIRECT,
                OFlags::NOATIME,
                OFlags::TMPFILE,
            ];
            flags |= self.chance.of(&rare);
        }
        let mode = self.mode();
        let opened = fs::open(path, flags, mode)?;
        self.hold(opened);
        Ok(())
    }

    fn on_name(&mut self) -> Result<()> {
        let path = self.path();
        let mode = self.mode();
        match self.chance.below(17) {
            0 | 1 => fs::mkdir(path, mode),
            2 => fs::rmdir(path),
            3 | 4 => fs::unlink(path),
            5 => fs::chmod(path, mode),
            6 => {
                let id = self.chance.of(&[0, 4711, 4712]);
                fs::chown(path, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
            }
            7 => {
                let times = self.times();
                fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
            8 => {
                let kind = self.chance.of(&[FileType::RegularFile, FileType::Fifo, FileType::Socket]);
                fs::mknodat(CWD, path, kind, mode, 0)
            }
            9 => fs::stat(path).map(drop),
            10 => fs::statx(CWD, path, AtFlags::STATX_FORCE_SYNC, StatxFlags::ALL).map(drop),
            11 => fs::statfs(path).map(drop),
            12 => fs::access(path, Access::READ_OK | Access::WRITE_OK),
            13 => {
                let text = self.chance.text();
                let flags = self.chance.of(&[XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE]);
                let name = self.attribute();
                fs::setxattr(path, name, &text, flags)
            }
            14 => {
                let (name, length) = (self.attribute(), self.chance.length());
                fs::getxattr(path.as_slice(), name, &mut self.buffer[..length])?;
                fs::listxattr(path, &mut self.buffer[..length]).map(drop)
            }
            15 => {
                let name = self.attribute();
                fs::removexattr(path, name)
            }
            _ => {
                let watch = inotify::init(inotify::CreateFlags::NONBLOCK)?;
                inotify::add_watch(&watch, path, inotify::WatchFlags::ALL_EVENTS)?;
                self.hold(watch);
                Ok(())
            }
        }
    }

    fn attribute(&mut self) -> &'static str {
        let all = [
            "user.a",
            "user.b",
            "user.",
            "user.ipcfs.pid",
            "user.ipcfs.tag",
            "user.ipcfs.reason",
            "security.selinux",
            "trusted.x",
            "",
        ];
        self.chance.of(&all)
    }

    fn times(&mut self) -> Timestamps {
        let mut time = || {
            let tv_sec = self.chance.of(&[0, 1, -1, 1 << 31, 1 << 40, i64::MIN, i64::MAX]);
            Timespec { tv_sec, tv_nsec: self.chance.of(&[0, 999_999_999, 0x3fff_ffff, 0x3fff_fffe]) }
        };
        Timestamps { last_access: time(), last_modification: time() }
    }

    fn on_two_names(&mut self) -> Result<()> {
        let (from, to) = (self.path(), self.path());
        match self.chance.below(5) {
            0 => fs::link(from, to),
            // A file without a name gets one.
            4 => {
                let file = format!("/proc/self/fd/{}", self.any()?.as_raw_fd());
                fs::linkat(CWD, file, CWD, to, AtFlags::SYMLINK_FOLLOW)
            }
            // Relative, so that nothing outside the mount is reached.
            1 => {
                let target = self.chance.of(&["a", "folder/a", "../a", "nowhere"]);
                fs::symlink(target, to)
            }
            2 => fs::rename(from, to),
            _ => {
                let how =
                    self.chance.of(&[RenameFlags::EXCHANGE, RenameFlags::NOREPLACE, RenameFlags::WHITEOUT]);
                fs::renameat_with(CWD, from, CWD, to, how)
            }
        }
    }

    fn transfer(&mut self) -> Result<()> {
        let (file, other) = (self.any()?, self.any()?);
        let (length, offset) = (self.chance.length(), self.chance.offset());
        match self.chance.below(12) {
            0..=2 => io::read(&file, &mut self.buffer[..length]).map(drop),
            3..=5 => io::write(&file, &self.chance.text()).map(drop),
            6 => io::pread(&file, &mut self.buffer[..length], offset).map(drop),
            7 => io::pwrite(&file, &self.chance.text(), offset).map(drop),
            8 => {
                let (first, second) = self.buffer.split_at_mut(length);
                io::readv(&file, &mut [IoSliceMut::new(first), IoSliceMut::new(&mut second[..4096])])
                    .map(drop)
            }
            9 => {
                let text = self.chance.text();
                let parts =
                    vec![IoSlice::new(&text[..text.len().min(5000)]); self.chance.of(&[1, 2, 129, 300])];
                io::writev(&file, &parts).map(drop)
            }
            10 => fs::copy_file_range(&file, None, &other, None, length).map(drop),
            _ => {
                fs::sendfile(&other, &file, None, length)?;
                splice(&file, None, &other, None, length, SpliceFlags::NONBLOCK).map(drop)
            }
        }
    }

    fn on_descriptor(&mut self) -> Result<()> {
        let file = self.any()?;
        let (offset, length) = (self.chance.offset(), self.chance.offset());
        match self.chance.below(19) {
            0 | 1 => {
                if !self.held.is_empty() {
                    let old = self.chance.below(self.held.len() as u64) as usize;
                    drop(self.held.swap_remove(old));
                }
                Ok(())
            }
            2 => {
                // The copies that this one makes are inherited.
                let copy = io::dup(&file)?;
                self.hold(copy);
                Ok(())
            }
            3 => {
                let here = offset as i64;
                let to = self.chance.of(&[
                    SeekFrom::Start(offset),
                    SeekFrom::Current(here),
                    SeekFrom::End(-here),
                    SeekFrom::Data(offset),
                    SeekFrom::Hole(offset),
                ]);
                fs::seek(&file, to).map(drop)
            }
            4 => fs::ftruncate(&file, offset),
            5 | 6 => {
                let all = [
                    FallocateFlags::KEEP_SIZE,
                    FallocateFlags::PUNCH_HOLE,
                    FallocateFlags::ZERO_RANGE,
                    FallocateFlags::COLLAPSE_RANGE,
                ];
                let how = self.chance.some_of(FallocateFlags::empty(), &all);
                fs::fallocate(&file, how, offset, length)
            }
            7 => fs::fsync(&file),
            8 => fs::fadvise(&file, offset, std::num::NonZero::new(length), Advice::DontNeed),
            9 => fs::fchmod(&file, self.mode()),
            10 => fs::fstat(&file).map(drop),
            11 => {
                let flags =
                    self.chance.some_of(OFlags::empty(), &[OFlags::NONBLOCK, OFlags::APPEND, OFlags::DIRECT]);
                fs::fcntl_setfl(&file, flags)
            }
            12 => io::fcntl_setfd(&file, FdFlags::empty()),
            13 => io::ioctl_fionread(&file).map(drop),
            14 => fs::ioctl_getflags(&file).map(drop),
            15 => fs::ioctl_setflags(&file, IFlags::IMMUTABLE),
            16 => fs::ioctl_ficlone(&file, self.any()?),
            17 => {
                let name = self.attribute();
                fs::fgetxattr(&file, name, &mut self.buffer[..100]).map(drop)
            }
            _ => {
                let listing = fs::Dir::read_from(&file)?;
                listing.take(100).try_for_each(|entry| entry.map(drop))
            }
        }
    }

    fn wait_or_lock(&mut self) -> Result<()> {
        let file = self.any()?;
        let moment = Timespec { tv_sec: 0, tv_nsec: self.chance.of(&[0, 0, 1_000_000, 10_000_000]) };
        match self.chance.below(6) {
            0 => {
                let other = self.any()?;
                let events = self.chance.some_of(PollFlags::IN, &[PollFlags::OUT, PollFlags::PRI]);
                poll(&mut [PollFd::new(&file, events), PollFd::new(&other, events)], Some(&moment)).map(drop)
            }
            1 => {
                let set = epoll::create(epoll::CreateFlags::empty())?;
                let events = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                epoll::add(&set, &file, epoll::EventData::new_u64(1), events)?;
                let mut ready: Vec<epoll::Event> = Vec::with_capacity(4);
                epoll::wait(&set, &mut ready, Some(&moment))?;
                self.hold(set);
                Ok(())
            }
            2 => {
                let (out, into) = pipe_with(PipeFlags::NONBLOCK)?;
                self.hold(out);
                self.hold(into);
                Ok(())
            }
            lock => {
                let ways = [
                    FlockOperation::NonBlockingLockShared,
                    FlockOperation::NonBlockingLockExclusive,
                    FlockOperation::Unlock,
                    FlockOperation::Unlock,
                    FlockOperation::LockShared,
                    FlockOperation::LockExclusive,
                ];
                let waiting = self.chance.one_in(8);
                let way = self.chance.of(&ways[..if waiting { 6 } else { 4 }]);
                if lock == 3 { fs::flock(&file, way) } else { fs::fcntl_lock(&file, way) }
            }
        }
    }

    /// Starts a process, which inherits what is held, or sends one a signal.
    fn on_process(&mut self) -> Result<()> {
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if self.children.len() == CHILDREN {
            let which = self.chance.below(CHILDREN as u64) as usize;
            let signal =
                self.chance.of(&[Signal::KILL, Signal::KILL, Signal::TERM, Signal::STOP, Signal::CONT]);
            return rustix::process::kill_process(Pid::from_child(&self.children[which]), signal);
        }
        if !self.chance.one_in(6) {
            return Ok(());
        }
        let path = OsString::from_vec(self.path());
        let mut command = match self.chance.below(4) {
            0 => {
                let mut command = Command::new("sleep");
                command.arg("0.1");
                command
            }
            1 => {
                let mut command = Command::new("cat");
                command.arg("--").arg(path);
                command
            }
            2 => {
                let mut command = Command::new("dd");
                command.args(["bs=4096", "count=3", "if=/dev/zero"]);
                let mut to = OsString::from("of=");
                to.push(path);
                command.arg(to);
                command
            }
            _ => {
                let mut command = Command::new("python3");
                command.args(["-I", "-c", MAP]).arg(path);
                let pages = self.chance.of(&[1, 2, 16, 300]);
                let numbers =
                    [2, pages * 4096, self.chance.of(&[0, 4096, 1 << 20]), self.chance.of(&[1, 2, 0x8001])];
                command.args(numbers.map(|number: u64| number.to_string()));
                command.arg(self.chance.of(&["1", "3"]));
                command
            }
        };
        let input = File::from(io::fcntl_dupfd_cloexec(self.any()?, 0)?);
        let child = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.children.extend(child);
        Ok(())
    }
}
