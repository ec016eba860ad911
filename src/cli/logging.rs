//! Where the log goes: to standard error, or the file of `--log`; once the daemon is in the background and has no such file, to
//! the journal of systemd, or else to syslog.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::text::{escaped, quoted, reason};

/// The journal's own socket, and that of syslog.
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

/// Levels without `RUST_LOG`.
const DEFAULT_LEVELS: &str = "warn";

/// Most bytes of one message for the journal or syslog; a socket takes some more.
const MESSAGE_MAX: usize = 32 * 1024;

/// Number of the facility `daemon` in syslog(3).
const DAEMON: u8 = 3;

/// The journal or syslog, from when this process has left its terminal.
static SYSTEM: OnceLock<System> = OnceLock::new();

/// A logger that changes its target once.
struct Logger {
    /// Also decides what is logged at all.
    early: env_logger::Logger,
}

/// The log of the system, without a connection: it goes on when its daemon is started anew.
struct System {
    socket: UnixDatagram,
    path: &'static str,
    /// The mount point, by which the journal can find the messages.
    dir: PathBuf,
}

/// Opens the file of `--log`.
pub(super) fn open(path: &Path) -> Result<File, String> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|error| {
        format!(
            "cannot open the log file {}: {}\n  choose a file that you may write: ipcfs mount --log FILE DIR",
            quoted(path),
            reason(&error)
        )
    })
}

/// Starts to log to standard error or the file, what `RUST_LOG` says.
pub(super) fn start(file: Option<&File>) -> Result<(), String> {
    let levels = env::var_os("RUST_LOG").unwrap_or_default();
    let levels = levels.to_string_lossy();
    check_levels(&levels).map_err(|why| {
        format!(
            "the environment variable RUST_LOG has {why}\n  \
             set it to error, warn, info, debug, trace or off, or unset it: unset RUST_LOG"
        )
    })?;
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(if levels.is_empty() { DEFAULT_LEVELS } else { &levels });
    if let Some(file) = file {
        let file =
            file.try_clone().map_err(|error| format!("cannot use the log file: {}", reason(&error)))?;
        builder.target(env_logger::Target::Pipe(Box::new(io::LineWriter::new(file))));
    }
    let early = builder.build();
    let most = early.filter();
    log::set_boxed_logger(Box::new(Logger { early }))
        .map_err(|error| format!("cannot start logging: {error}"))?;
    log::set_max_level(most);
    Ok(())
}

/// Whether standard error goes to the journal, as that of a service does: there, lines have no priority.
pub(super) fn is_in_journal() -> bool {
    let stream = env::var_os("JOURNAL_STREAM");
    let stderr = rustix::fs::fstat(rustix::stdio::stderr());
    stderr.is_ok_and(|file| stream == Some(format!("{}:{}", file.st_dev, file.st_ino).into()))
}

/// From now on, logs to the journal, or else to syslog, if there is either.
pub(super) fn move_to_system(dir: &Path) {
    let path = [JOURNAL, SYSLOG].into_iter().find(|path| Path::new(path).exists());
    let Some((path, socket)) = path.and_then(|path| Some((path, UnixDatagram::unbound().ok()?))) else {
        return;
    };
    // A message that the system does not take at once is dropped: nobody's request waits for it.
    if socket.set_nonblocking(true).is_ok() {
        let _ = SYSTEM.set(System { socket, path, dir: dir.to_owned() });
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.early.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        match SYSTEM.get() {
            Some(system) if self.early.matches(record) => system.send(record),
            Some(_) => {}
            None => self.early.log(record),
        }
    }

    fn flush(&self) {
        self.early.flush();
    }
}

impl System {
    fn send(&self, record: &Record<'_>) {
        let mut message = record.args().to_string();
        let most = (0..=MESSAGE_MAX.min(message.len())).rev().find(|most| message.is_char_boundary(*most));
        message.truncate(most.unwrap_or(0));
        let datagram = if self.path == JOURNAL {
            for_journal(record, &message, &self.dir)
        } else {
            for_syslog(record.level(), &message, std::process::id())
        };
        let _ = self.socket.send_to(&datagram, self.path);
    }
}

/// Fields, as systemd.journal-fields(7) names them.
fn for_journal(record: &Record<'_>, message: &str, dir: &Path) -> Vec<u8> {
    let priority = severity(record.level()).to_string();
    let fields: [(&str, &[u8]); 5] = [
        ("PRIORITY", priority.as_bytes()),
        ("SYSLOG_IDENTIFIER", b"ipcfs"),
        ("IPCFS_DIR", dir.as_os_str().as_bytes()),
        ("CODE_MODULE", record.target().as_bytes()),
        ("MESSAGE", message.as_bytes()),
    ];
    let mut datagram = Vec::new();
    for (name, value) in fields {
        datagram.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            // With its length, because the newline does not end it.
            datagram.push(b'\n');
            datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            datagram.push(b'=');
        }
        datagram.extend_from_slice(value);
        datagram.push(b'\n');
    }
    datagram
}

/// One line, as the C library's syslog(3) sends it; the system adds the time.
fn for_syslog(level: Level, message: &str, pid: u32) -> Vec<u8> {
    format!("<{}>ipcfs[{pid}]: {}", DAEMON * 8 + severity(level), escaped(message)).into_bytes()
}

/// The number of a level in syslog(3).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A wrong word in `RUST_LOG`: the logger would take it for the name of a module, and log nothing.
fn check_levels(levels: &str) -> Result<(), String> {
    let (directives, _pattern) = levels.split_once('/').unwrap_or((levels, ""));
    for directive in directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let level = match directive.split_once('=') {
            Some((_, level)) => level.trim(),
            None if directive.starts_with("ipcfs") || directive.starts_with("fuser") => continue,
            None => directive,
        };
        if !level.is_empty() && LevelFilter::from_str(level).is_err() {
            return Err(format!("{}, which is no level", quoted(level)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_no_levels_are_found() {
        for good in [
            "",
            "debug",
            "WARN",
            "off",
            "ipcfs",
            "ipcfs::tree=trace,warn",
            "info/text",
            "warn, fuser=off,",
            "x=",
        ] {
            assert_eq!(check_levels(good), Ok(()), "{good}");
        }
        for bad in ["dbug", "warn,verbose", "ipcfs=loud", "1"] {
            assert!(check_levels(bad).unwrap_err().ends_with(", which is no level"), "{bad}");
        }
    }

    #[test]
    fn the_journal_gets_fields_and_syslog_a_line() {
        let args = format_args!("two\nlines");
        let record = Record::builder().level(Level::Warn).target("ipcfs::tree").args(args).build();
        let fields = for_journal(&record, "two\nlines", Path::new("/run/ipc"));
        let expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=ipcfs\nIPCFS_DIR=/run/ipc\nCODE_MODULE=ipcfs::tree\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n";
        assert_eq!(fields, expected);
        assert_eq!(for_syslog(Level::Info, "two\nlines", 7), b"<30>ipcfs[7]: two\\nlines");
    }
}
