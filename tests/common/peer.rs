//! Another process that does what it is told: a Python interpreter, fed one line at a time.
//!
//! What several processes do to each other is tested with several of these, each told its part in turn. A call that
//! waits is told with [`Peer::tell`]; its answer comes when it ends.
#![allow(unreachable_pub)] // each test program has this as a module of its own

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, have, reap};

/// Answers each line with its value, or the name of the error it failed with. A signal USR1 ends a call that waits.
const SERVER: &str = r"
import ctypes, errno, fcntl, mmap, os, select, signal, stat, struct, sys, time
class Signalled(Exception): pass
def signalled(number, frame): raise Signalled
signal.signal(signal.SIGUSR1, signalled)
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result == -1: raise OSError(ctypes.get_errno(), 'failed')
    return result
def ofd(command, fd, kind, start=0, length=0):
    return struct.unpack('hhqqi0q', fcntl.fcntl(fd, command, struct.pack('hhqqi0q', kind, 0, start, length, 0)))
OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38
def sure(call, *arguments):
    while True:
        try: return call(*arguments)
        except OSError as error:
            if error.errno != errno.ECANCELED: raise
def getlk(fd, kind, start=0, length=0):
    kind, _, start, length, pid = ofd(fcntl.F_GETLK, fd, kind, start, length)
    return (kind, start, length, pid)
# Of two names for one number, the one that manuals use.
aliases = {errno.EAGAIN: 'EAGAIN', errno.EDEADLK: 'EDEADLK', errno.EOPNOTSUPP: 'EOPNOTSUPP'}
names = dict(globals())
for line in sys.stdin:
    try:
        try: answer = eval(line, names)
        except SyntaxError: answer = exec(line, names)
    except OSError as error: answer = aliases.get(error.errno) or errno.errorcode[error.errno]
    except BaseException as error: answer = repr(error)
    sys.stdout.write(str(answer).replace('\n', '\\n') + '\n')
    sys.stdout.flush()
";

/// A Python interpreter, killed when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: ChildStdout,
}

impl Peer {
    /// Starts one; `None`, after saying so, where Python is not installed.
    pub fn start() -> Option<Peer> {
        Peer::spawn(&mut Command::new("python3"))
    }

    /// As [`Peer::start`], as an ordinary user in a group of the same number.
    pub fn start_as(user: u32) -> Option<Peer> {
        Peer::spawn(Command::new("python3").uid(user).gid(user))
    }

    fn spawn(python: &mut Command) -> Option<Peer> {
        if !have("python3") {
            return None;
        }
        // `-I`: nothing of the environment, nor a folder that this user may not read.
        let command = python.args(["-I", "-u", "-c", SERVER]).current_dir("/");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut peer = Peer { child, commands, answers };
        assert_eq!(peer.ask("1 + 1"), "2");
        Some(peer)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has a line carried out; its answer comes later.
    pub fn tell(&mut self, line: &str) {
        assert!(!line.contains('\n'), "one line only: {line}");
        writeln!(self.commands, "{line}").unwrap();
    }

    /// The answer to the line told last: its value as Python prints it, or the name of its error.
    pub fn answer(&mut self) -> String {
        let mut line = Vec::new();
        let start = Instant::now();
        while line.last() != Some(&b'\n') {
            let mut wanted = [PollFd::new(&self.answers, PollFlags::IN)];
            let left = Timespec::try_from(PATIENCE.saturating_sub(start.elapsed())).unwrap();
            let ready = poll(&mut wanted, Some(&left)).unwrap();
            assert!(
                ready > 0,
                "process {} does not answer: state {:?}",
                self.pid(),
                super::state_of(self.pid())
            );
            let mut byte = [0];
            let read = self.answers.read(&mut byte).unwrap();
            assert!(read > 0, "process {} has ended: {:?}", self.pid(), self.child.try_wait());
            line.push(byte[0]);
        }
        line.pop();
        String::from_utf8(line).unwrap()
    }

    /// Has a line carried out; its answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.answer()
    }

    /// Has a line carried out that must succeed and has no value.
    pub fn run(&mut self, line: &str) {
        assert_eq!(self.ask(line), "None", "{line}");
    }

    /// Opens `path` with Python's flags for `os.open`, as `name`.
    #[allow(clippy::unnecessary_debug_formatting)] // quoted and escaped as Python has it too
    pub fn open(&mut self, name: &str, path: &Path, flags: &str) {
        self.run(&format!("{name} = os.open({path:?}, os.{flags})"));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    /// Has it exit.
    pub fn exit(mut self) -> ExitStatus {
        self.tell("os._exit(0)");
        reap(&mut self.child)
    }

    /// Kills it, whatever it does, and waits for its end.
    pub fn kill(mut self) -> ExitStatus {
        self.child.kill().unwrap();
        reap(&mut self.child)
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> ExitStatus {
        reap(&mut self.child)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
