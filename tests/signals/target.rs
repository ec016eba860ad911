//! Processes that wait in every possible way, to be sent signals.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{self, Mount};
use crate::tools::{APPEND, BOTH, READ, TRUNC, WRITE, open, read};

/// Ways of waiting. `Open` never waits in the daemon, and is interrupted all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    ReadStream,
    Write,
    Append,
    Flock,
    Posix,
    Ofd,
    Open,
}

impl Kind {
    pub(crate) const ALL: [Kind; 8] = [
        Kind::Read,
        Kind::ReadStream,
        Kind::Write,
        Kind::Append,
        Kind::Flock,
        Kind::Posix,
        Kind::Ofd,
        Kind::Open,
    ];

    /// Those that wait.
    pub(crate) fn waiting() -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| *kind != Kind::Open)
    }

    /// The status file below `control/`, and its figure, that count those who wait so.
    pub(crate) fn figure(self) -> (&'static str, &'static str) {
        match self {
            Kind::Read | Kind::ReadStream => ("mailboxes/empty/status", "waiting_readers"),
            Kind::Write | Kind::Append => ("mailboxes/full/status", "waiting_writers"),
            Kind::Flock | Kind::Posix | Kind::Ofd => ("status", "waiting_locks"),
            Kind::Open => ("status", "waiting_readers"),
        }
    }

    /// Opens what the kind waits on.
    fn open(self, mailboxes: &Path) -> OwnedFd {
        let (name, flags) = match self {
            Kind::Read => ("empty", READ),
            Kind::ReadStream => ("empty", BOTH),
            Kind::Write => ("full", WRITE | TRUNC),
            Kind::Append => ("full", WRITE | APPEND),
            Kind::Flock | Kind::Posix | Kind::Ofd | Kind::Open => ("locked", BOTH),
        };
        open(&mailboxes.join(name), flags)
    }

    /// Waits in the calling thread; the error that ends it.
    pub(crate) fn wait(self, mailboxes: &Path) -> Result<(), Errno> {
        let file = self.open(mailboxes);
        match self {
            Kind::Read | Kind::ReadStream => read(&file, 99).map(drop),
            Kind::Write | Kind::Append => rustix::io::write(&file, b"message").map(drop),
            Kind::Flock => rustix::fs::flock(&file, FlockOperation::LockExclusive),
            Kind::Posix => rustix::fs::fcntl_lock(&file, FlockOperation::LockExclusive),
            Kind::Ofd => lock_ofd(&file),
            Kind::Open => Ok(()),
        }
    }
}

/// `F_OFD_SETLKW` of the whole file.
#[allow(unsafe_code)]
fn lock_ofd(file: &OwnedFd) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for as long as it is borrowed, and the call reads the structure, which outlives it.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw const whole) };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()) }
}

/// What the targets wait for, and does not come: an empty mailbox, a full one, and one with all locks taken. `None` where
/// there is no FUSE, or no perl to play the targets.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) mount: Mount,
    /// Hold what the targets wait for, and the mount busy.
    _locks: Vec<OwnedFd>,
}

impl Fixture {
    pub(crate) fn new() -> Option<Fixture> {
        let mount = common::have("perl").then(common::mount)??;
        mount.make_mailbox("empty", &[]);
        fs::write(mount.make_mailbox("full", &[("maxmsg", "1")]), "full").unwrap();
        let path = mount.make_mailbox("locked", &[]);
        let locks = vec![open(&path, BOTH), open(&path, BOTH)];
        // For the process, and for the descriptor: POSIX and OFD locks conflict with both kinds.
        rustix::fs::flock(&locks[0], FlockOperation::NonBlockingLockExclusive).unwrap();
        rustix::fs::fcntl_lock(&locks[1], FlockOperation::NonBlockingLockExclusive).unwrap();
        Some(Fixture { mount, _locks: locks })
    }

    pub(crate) fn mailboxes(&self) -> PathBuf {
        self.mount.path("mailboxes")
    }

    pub(crate) fn figure(&self, kind: Kind) -> u64 {
        let (status, key) = kind.figure();
        self.mount.figure(status, key)
    }

    /// Waits until nobody waits.
    pub(crate) fn wait_until_nobody_waits(&self) {
        for key in ["waiting_readers", "waiting_writers", "waiting_locks"] {
            common::wait_for(&format!("{key} to be 0"), || self.mount.figure("status", key) == 0);
        }
    }
}

/// A process that waits, in one way, again and again. SIGUSR1 it survives: each call that fails with `EINTR` it tells by
/// one byte in a file.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) child: Child,
    pub(crate) kind: Kind,
    told: PathBuf,
}

/// What a target runs: a program of one thread, so that it is the thread that waits which gets the signal.
const PERL: &str = r#"
use Errno qw(EINTR);
use Fcntl;
my ($kind, $mailboxes, $told) = @ARGV;
# A test that runs in the background may have inherited these ignored.
$SIG{$_} = "DEFAULT" for qw(INT QUIT);
$SIG{USR1} = sub {};
sysopen my $out, $told, O_WRONLY | O_APPEND or exit 255;
sub file { sysopen my $file, "$mailboxes/$_[0]", $_[1] or return; $file }
# struct flock: exclusive, from the beginning, all of it.
my ($whole, $buffer) = (pack("s s x4 q q l x4", F_WRLCK, 0, 0, 0, 0), "");
my ($name, $flags, $wait) = @{{
    Read => ["empty", O_RDONLY, sub { sysread $_[0], $buffer, 99 }],
    ReadStream => ["empty", O_RDWR, sub { sysread $_[0], $buffer, 99 }],
    Write => ["full", O_WRONLY | O_TRUNC, sub { syswrite $_[0], "message" }],
    Append => ["full", O_WRONLY | O_APPEND, sub { syswrite $_[0], "message" }],
    Flock => ["locked", O_RDWR, sub { flock($_[0], 2) || undef }],
    Posix => ["locked", O_RDWR, sub { fcntl $_[0], F_SETLKW, $whole }],
    Ofd => ["locked", O_RDWR, sub { fcntl $_[0], 38, $whole }],
    Open => ["locked", O_RDWR, sub { file("locked", O_WRONLY | O_TRUNC) }],
}->{$kind}};
my $file;
until ($file = file($name, $flags)) { exit $! unless $! == EINTR }
while (1) {
    next if defined $wait->($file);
    exit $! unless $! == EINTR;
    syswrite $out, "i";
}
"#;

impl Target {
    /// Starts one; `told` names a file of its own.
    pub(crate) fn start(fixture: &Fixture, kind: Kind, told: PathBuf) -> Target {
        File::create(&told).unwrap();
        let mut command = Command::new("perl");
        command.arg("-e").arg(PERL).arg(format!("{kind:?}")).arg(fixture.mailboxes()).arg(&told);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        Target { child, kind, told }
    }

    /// Calls that failed with `EINTR` so far.
    pub(crate) fn interrupted(&self) -> u64 {
        fs::metadata(&self.told).unwrap().len()
    }

    /// Sends a signal. It may have ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // Not reaped yet, so that its number is nobody else's.
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}
