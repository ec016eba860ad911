//! `ipcfs mount`: its arguments, and how they become a [`Config`].

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::ValueEnum;

use super::background;
use super::config_file::ConfigFile;
use super::explain::explain;
use super::logging;
use super::memory::Memory;
use super::mountpoint;
use super::size;
use super::supervise;
use super::text::{self, escaped, quoted, reason, report};
use crate::config::{
    Config, Limits, MAXMSG, MIN_MEMORY, MSGSIZE_CEILING, NO_LIMIT, TransportKind, USER_SHARE,
};
use crate::config::{MailboxLimits, PAGE, SegmentPath};
use crate::daemon;
use crate::engine::EngineConfig;
use crate::limits;
use crate::notify;
use crate::supervisor::Supervised;

/// The environment variable that chooses a transport.
const TRANSPORT: &str = "IPCFS_TRANSPORT";

/// Most threads that serve requests over /dev/fuse.
const MAX_THREADS: u64 = 64;

/// Greatest memory limit: far more than any machine has, and small enough that sums cannot overflow.
const MAX_MEMORY: u64 = 1 << 50;

/// Greatest limit on files.
const FILES_CEILING: u64 = u32::MAX as u64;

/// Greatest limit on a mailbox's messages or bytes; above it is `max`.
const LIMIT_CEILING: u64 = NO_LIMIT - 1;

#[derive(Debug, clap::Args)]
#[command(after_help = "Sizes may have a suffix K, M, G or T (powers of 1024): 64K, 1MiB, 2G.\n\
    Logging: RUST_LOG is error, warn (the default), info or debug. In the foreground and while mounting, the log goes to standard \
    error; then to the journal (journalctl -t ipcfs), or else to syslog. With --log, all of it goes to that file.\n\
    Signals: SIGTERM, SIGINT, SIGHUP and SIGQUIT unmount; SIGUSR1, SIGUSR2 and SIGALRM are ignored.")]
#[allow(clippy::struct_excessive_bools)] // each is a flag
pub(super) struct Args {
    /// Empty directory to mount on
    dir: PathBuf,

    /// Run in the foreground; Ctrl-C unmounts
    #[arg(short, long)]
    foreground: bool,

    /// Allow other users to access the mount (for root, or if /etc/fuse.conf allows it)
    #[arg(long)]
    allow_other: bool,

    /// How segments are mapped: directly by the kernel (passthrough: root, Linux 6.9), or through its page cache
    /// (cached: always available)
    #[arg(long, value_name = "HOW", value_enum, default_value = "auto")]
    segments: Segments,

    /// How requests reach the daemon: over `io_uring` (uring: Linux 6.14, enabled as `ipcfs doctor` shows), or over
    /// /dev/fuse (dev: always available) [default: what the environment variable `IPCFS_TRANSPORT` says, or auto]
    #[arg(long, value_name = "HOW", value_enum)]
    transport: Option<Transport>,

    /// Longest message of a new mailbox, in bytes, 1 to 1020K
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = msgsize, default_value = "1020K")]
    msgsize: u32,

    /// Most messages waiting in a new mailbox, 1 or more, or max for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = maxmsg, default_value_t = MAXMSG)]
    maxmsg: u64,

    /// Most bytes waiting in a new mailbox, 1 or more, or max for no limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = maxbytes, default_value = "64M")]
    maxbytes: u64,

    /// Memory for all messages, in bytes, 2M or more [default: a quarter of what the daemon may use]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = memory)]
    memory: Option<u64>,

    /// Memory for all segments, in bytes, 4K or more [default: half of what the daemon may use]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = segment_memory)]
    segment_memory: Option<u64>,

    /// Most files and folders in the mount, 1 or more; each needs up to 2K of memory [default: 1000000, or what fits into a
    /// quarter of the memory limits of the daemon]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = max_files)]
    max_files: Option<u64>,

    /// Part of each of these limits that one user may take, in percent, 1 to 100; root and who mounts may take all
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, value_parser = user_share, default_value_t = USER_SHARE)]
    user_share: u32,

    /// Threads that serve requests over /dev/fuse, 1 to 64 [default: one per CPU, 2 to 8]; `io_uring` has one per CPU
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    threads: Option<u64>,

    /// Folder on a local disk where durable mailboxes are kept; made with mode 0700 if it is missing, and used by one mount at a
    /// time. See `durable` in `ipcfs status --help`
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    // A help text of its own: rustdoc would take the brackets for a link.
    #[arg(
        long,
        value_name = "URL",
        requires = "space",
        help = "Servers of NATS with JetStream, 2.12 or newer, for mailboxes that other hosts share: \
                nats://HOST[:PORT][,HOST[:PORT]…]. See `engine` in `ipcfs status --help`"
    )]
    engine: Option<String>,

    /// Mounts with the same servers and the same space share mailboxes: 1 to 32 letters, digits, _ and -
    #[arg(long, value_name = "NAME", requires = "engine", value_parser = space)]
    space: Option<String>,

    /// File with the credentials for the servers of --engine, as nsc(1) makes it
    #[arg(long, value_name = "FILE", requires = "engine")]
    engine_credentials: Option<PathBuf>,

    /// File with the certificates of the authorities that have signed those of the servers of --engine; the connection is encrypted
    #[arg(long, value_name = "FILE", requires = "engine")]
    engine_ca: Option<PathBuf>,

    /// Make the folders, mailboxes, topics and segments that this file names, with their owners, modes and settings, before the
    /// mount is ready; ipcfs-config(1) says how to print such a file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Do not let programs in segments/ be executed
    #[arg(long)]
    noexec: bool,

    /// Name of the mount in the mount table
    #[arg(long, value_name = "NAME", value_parser = source, default_value = "ipcfs")]
    source: String,

    /// Append the log to this file (created with mode 0600) instead of standard error, the journal and syslog
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Options as in fstab(5), separated by commas: those above without the dashes (`memory=1G,noexec`), and those of
    /// mount(8)
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub(super) options: Vec<String>,

    /// Start the daemon again if it is killed: calls wait on, and what is open, leased, locked or mapped stays. Not with --store, --engine
    /// or --foreground
    #[arg(long)]
    restart: bool,

    /// With --restart: however often it is killed
    #[arg(long, hide = true, requires = "restart")]
    always_restart: bool,

    /// Print `ready` on standard output, then detach from the terminal: used to mount in the background
    #[arg(long, hide = true)]
    ready_stdout: bool,

    /// Start a daemon, and start it again whenever it is killed
    #[arg(long = supervise::SUPERVISOR, hide = true)]
    supervisor: bool,

    /// The process that started this one does so
    #[arg(long = supervise::SUPERVISED, hide = true)]
    supervised: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Segments {
    Auto,
    Passthrough,
    Cached,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Transport {
    Auto,
    Dev,
    Uring,
}

/// Mounts. With `--foreground` it returns when the mount ends, otherwise when the mount is ready. `words` are the words that
/// gave `args`.
pub(super) fn run(args: &Args, words: &[OsString]) -> Result<ExitCode, String> {
    check_open_files(&args.dir)?;
    if args.restart && (args.store.is_some() || args.engine.is_some()) {
        let why = "--restart is not to be had with --store or --engine, which have state of their own";
        return Err(args.cannot(why));
    }
    if !args.foreground {
        return background::start(&args.dir, words, args.restart);
    }
    if args.restart && !args.supervisor && !args.supervised {
        let why = "--restart is not to be had with --foreground: a second process starts the daemon again";
        return Err(args.cannot(why));
    }
    let log = args.log.as_deref().map(logging::open).transpose()?;
    if args.supervisor {
        return supervise::run(words, args.always_restart, log).map_err(|error| args.cannot(&reason(&error)));
    }
    logging::start(log.as_ref()).map_err(|why| args.cannot(&why))?;
    let supervised = if args.supervised { supervise::supervisor() } else { None };
    let kept = supervised.as_ref().map(Supervised::kept).transpose();
    let kept =
        kept.map_err(|error| args.cannot(&reason(&error)))?.filter(|kept| !kept.descriptors.is_empty());
    let supervised = match (supervised, kept) {
        (Some(supervised), Some(kept)) => {
            if log.is_none() {
                logging::move_to_system(&args.dir);
            }
            background::set_process_name();
            let went_on = daemon::go_on(supervised, kept, log);
            return went_on.map(|()| ExitCode::SUCCESS).map_err(|error| explain(&args.dir, &error));
        }
        (supervised, _) => supervised,
    };
    if log.is_none() && logging::is_in_journal() {
        logging::move_to_system(&args.dir);
    }
    background::set_process_name();

    let wanted = args.config.as_deref().map(ConfigFile::read).transpose().map_err(|why| args.cannot(&why))?;
    let (dir, claim) = mountpoint::prepare(&args.dir, report)?;
    let transport = args.transport(env::var_os(TRANSPORT))?;
    let config = args.config(dir, transport)?;
    log::info!("mounting {} as {config:?}", escaped(&config.dir));
    let daemon_log = log.as_ref().and_then(|log| log.try_clone().ok());
    let ready = || {
        if let Some(wanted) = wanted {
            wanted.apply(&config.dir)?;
        }
        drop(claim);
        notify::ready();
        if args.ready_stdout {
            if log.is_none() {
                logging::move_to_system(&config.dir);
            }
            background::detach(log.as_ref());
        } else {
            text::print(&format!("mounted on {}; Ctrl-C unmounts\n", quoted(&config.dir)));
        }
        Ok(())
    };
    daemon::run(&config, daemon_log, supervised, ready).map_err(|error| explain(&config.dir, &error))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// The message that mounting failed, with the reason and what to do.
    fn cannot(&self, why: &str) -> String {
        format!("cannot mount on {}: {why}", quoted(&self.dir))
    }

    /// How requests shall reach the daemon, by the flag or the environment variable. If that is empty, it is as if it were unset.
    fn transport(&self, variable: Option<OsString>) -> Result<TransportKind, String> {
        let variable = variable.filter(|value| !value.is_empty());
        let chosen = match (self.transport, variable) {
            (Some(flag), _) => flag,
            (None, None) => Transport::Auto,
            (None, Some(value)) => Transport::from_str(&value.to_string_lossy(), false).map_err(|_| {
                format!(
                    "cannot mount on {}: the environment variable {TRANSPORT} is {}, which is no transport\n  \
                     set it to auto, dev or uring, or unset it: unset {TRANSPORT}",
                    quoted(&self.dir),
                    quoted(&value)
                )
            })?,
        };
        Ok(match chosen {
            Transport::Auto => TransportKind::Auto,
            Transport::Dev => TransportKind::Dev,
            Transport::Uring => TransportKind::Uring,
        })
    }

    fn config(&self, dir: PathBuf, transport: TransportKind) -> Result<Config, String> {
        let threads = self.threads.map_or_else(default_threads, |threads| threads as usize);
        let limits = Memory::here(threads)
            .limits(self.memory, self.segment_memory)
            .map_err(|why| format!("cannot mount on {}: {why}", quoted(&dir)))?;
        let mailbox = MailboxLimits { msgsize: self.msgsize, maxmsg: self.maxmsg, maxbytes: self.maxbytes };
        let max_files = self.max_files.unwrap_or(limits.max_files);
        let limits = Limits { mailbox, max_files, user_share: self.user_share, ..limits };
        let segments = match self.segments {
            Segments::Auto => SegmentPath::Auto,
            Segments::Passthrough => SegmentPath::Passthrough,
            Segments::Cached => SegmentPath::Cached,
        };
        let store = self.store.as_ref().map(std::path::absolute).transpose();
        let store = store.map_err(|error| format!("cannot use the store: {}", reason(&error)))?;
        // The daemon leaves this directory.
        let absolute = |file: &Option<PathBuf>| file.as_ref().map(std::path::absolute).transpose();
        let engine = match self.engine.as_ref().zip(self.space.as_ref()) {
            None => None,
            Some((url, space)) => Some(EngineConfig {
                url: url.clone(),
                space: space.clone(),
                credentials: absolute(&self.engine_credentials).map_err(|error| reason(&error))?,
                ca: absolute(&self.engine_ca).map_err(|error| reason(&error))?,
            }),
        };
        Ok(Config {
            dir,
            limits,
            store,
            engine,
            allow_other: self.allow_other,
            segments,
            transport,
            threads,
            noexec: self.noexec,
            source: self.source.clone(),
            own_session: self.ready_stdout,
        })
    }
}

/// The daemon needs some descriptors itself. Checked first, because nothing works without any.
fn check_open_files(dir: &Path) -> Result<(), String> {
    match limits::open_files().filter(|limit| *limit < limits::MIN_OPEN_FILES) {
        None => Ok(()),
        Some(limit) => Err(format!(
            "cannot mount on {}: the limit of open files is {limit}, and the daemon needs {}\n  \
             raise the limit: ulimit -n 1024",
            quoted(dir),
            limits::MIN_OPEN_FILES
        )),
    }
}

/// One per CPU: at least two, so that a slow request does not delay the others; more than eight only contend.
pub(super) fn default_threads() -> usize {
    thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

fn msgsize(text: &str) -> Result<u32, String> {
    size::bytes(text, 1..=u64::from(MSGSIZE_CEILING)).map(|size| size as u32)
}

fn maxmsg(text: &str) -> Result<u64, String> {
    size::count_or_max(text, 1..=LIMIT_CEILING)
}

fn maxbytes(text: &str) -> Result<u64, String> {
    size::bytes_or_max(text, 1..=LIMIT_CEILING)
}

fn memory(text: &str) -> Result<u64, String> {
    size::bytes(text, MIN_MEMORY..=MAX_MEMORY)
}

fn segment_memory(text: &str) -> Result<u64, String> {
    size::bytes(text, PAGE..=MAX_MEMORY)
}

fn max_files(text: &str) -> Result<u64, String> {
    size::count(text, 1..=FILES_CEILING)
}

/// fusermount3 takes it in a list.
fn source(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains([',', '\\']) || text.contains(char::is_control) {
        return Err("write a name without commas and backslashes".to_owned());
    }
    Ok(text.to_owned())
}

/// It is part of the names of streams and subjects.
fn space(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !(1..=32).contains(&text.len()) || !text.bytes().all(allowed) {
        return Err("write 1 to 32 letters, digits, _ and -".to_owned());
    }
    Ok(text.to_owned())
}

fn user_share(text: &str) -> Result<u32, String> {
    size::count(text, 1..=100).map(|percent| percent as u32)
}

fn threads(text: &str) -> Result<u64, String> {
    size::count(text, 1..=MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::config::MAXBYTES;

    #[derive(clap::Parser)]
    struct Mount {
        #[command(flatten)]
        args: Args,
    }

    fn config(args: &[&str]) -> Config {
        let args = parsed(args);
        // What the tests' own surroundings say is of no concern here.
        args.config(args.dir.clone(), args.transport(None).unwrap()).unwrap()
    }

    fn parsed(args: &[&str]) -> Args {
        Mount::try_parse_from([&["mount", "/mnt"], args].concat()).unwrap().args
    }

    #[test]
    fn the_variable_chooses_a_transport_unless_a_flag_does() {
        let chosen = |args: &[&str], variable: &str| parsed(args).transport(Some(variable.into()));
        assert_eq!(chosen(&[], "dev"), Ok(TransportKind::Dev));
        assert_eq!(chosen(&[], ""), Ok(TransportKind::Auto));
        assert_eq!(chosen(&["--transport=auto"], "dev"), Ok(TransportKind::Auto));
        assert_eq!(chosen(&["--transport=uring"], "foo"), Ok(TransportKind::Uring));
        let refused = chosen(&[], "foo").unwrap_err();
        assert!(
            refused.contains("IPCFS_TRANSPORT is foo") && refused.contains("auto, dev or uring"),
            "{refused}"
        );
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = config(&[]);
        assert_eq!(config.limits.mailbox, MailboxLimits::default());
        assert_eq!((config.segments, config.transport), (SegmentPath::Auto, TransportKind::Auto));
        assert_eq!(config.limits, Memory::here(config.threads).limits(None, None).unwrap());
        assert!((2..=8).contains(&config.threads) && !config.allow_other);
    }

    #[test]
    fn arguments_become_limits() {
        let config = config(&[
            "--msgsize=64K",
            "--maxmsg=max",
            "--maxbytes=1G",
            "--memory=2M",
            "--segment-memory=4K",
            "--max-files=10",
            "--threads=64",
            "--user-share=100",
            "--segments=cached",
            "--transport=dev",
            "--allow-other",
            "--noexec",
            "--source=jobs",
            "--engine=nats://a,b",
            "--space=work",
            "--engine-credentials=/a.creds",
            "--engine-ca=/ca.pem",
        ]);
        let mailbox = MailboxLimits { msgsize: 65_536, maxmsg: NO_LIMIT, maxbytes: 1 << 30 };
        let limits =
            Limits { mailbox, memory: MIN_MEMORY, segment_memory: PAGE, max_files: 10, user_share: 100 };
        let expected = Config {
            dir: "/mnt".into(),
            limits,
            store: None,
            engine: Some(EngineConfig {
                url: String::from("nats://a,b"),
                space: String::from("work"),
                credentials: Some(PathBuf::from("/a.creds")),
                ca: Some(PathBuf::from("/ca.pem")),
            }),
            allow_other: true,
            segments: SegmentPath::Cached,
            transport: TransportKind::Dev,
            threads: 64,
            noexec: true,
            source: String::from("jobs"),
            own_session: false,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn bounds_are_kept() {
        for bad in [
            "--msgsize=0",
            "--msgsize=1021K",
            "--maxmsg=0",
            "--maxbytes=0",
            "--memory=1M",
            "--segment-memory=1",
            "--segment-memory=max",
            "--threads=65",
            "--max-files=0",
            "--engine=nats://a",
            "--space=work",
        ] {
            assert!(Mount::command().try_get_matches_from(["mount", "/mnt", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_space_is_a_word() {
        assert_eq!(space("Work_1-a"), Ok(String::from("Work_1-a")));
        for bad in ["", "a.b", "a b", "ä", "*", &"a".repeat(33)] {
            assert!(space(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_tells_the_true_defaults() {
        assert_eq!(msgsize("1020K"), Ok(MSGSIZE_CEILING));
        assert_eq!(maxbytes("64M"), Ok(MAXBYTES));
        assert_eq!(memory("2M"), Ok(MIN_MEMORY));
        assert_eq!(segment_memory("4K"), Ok(PAGE));
    }
}
