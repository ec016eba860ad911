//! `ipcfs doctor`: checks this machine, and shows the commands that add what is missing.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::Resource;

use super::explain;
use super::machine;
use super::memory::Memory;
use super::mount::default_threads;
use super::mounts::{self, Mount};
use super::size;
use super::text::{self, quoted, reason};
use crate::journal;
use crate::kernel::mount_table;
use crate::kernel::rings::{self, Obstacle, Rings};
use crate::kernel::run_policy::keeps_callers;
use crate::kernel::scheduling::Reason;

/// Oldest kernel that is supported: the first long-term one with every FUSE feature that the daemon requires.
const OLDEST: (u32, u32) = (5, 10);

/// First kernel with passthrough.
const PASSTHROUGH: (u32, u32) = (6, 9);

/// Pages of one request that the longest message needs if it begins in the middle of a page.
const PAGES: u64 = 256;

/// A limit of open files below this leaves room for few segments.
const FEW_FILES: u64 = 4096;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Absent or too low. A mount works without it unless the finding is marked as needed.
    Missing,
    /// Present, but disabled.
    Off,
    /// Works, but something there may lose messages.
    Warning,
    /// What was kept there cannot be read.
    Damaged,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Check this store of durable mailboxes, too
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// One check.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    /// What was found.
    detail: String,
    /// The command that adds what is missing.
    fix: Option<String>,
    /// Without it this user cannot mount.
    needed: bool,
}

/// Prints all findings. The exit code is 0 if this user can mount, and nothing is damaged.
pub(super) fn run(args: &Args) -> ExitCode {
    let mut findings = vec![
        kernel(),
        device(),
        fusermount(),
        allow_other(),
        passthrough(),
        uring(),
        scheduling(),
        pages(),
        timeouts(),
        open_files(),
        memory(),
        threads(),
        places(),
    ];
    findings.extend(args.store.as_deref().map(store));
    let works = findings.iter().all(|finding| !finding.needed || finding.verdict == Verdict::Ok);
    let mut report: String = findings.iter().map(Finding::line).collect();
    report.push_str(if works {
        "\nThis user can mount ipcfs here.\n"
    } else {
        "\nThis user cannot mount ipcfs here: something marked \"needed\" is missing.\n"
    });
    let printed = text::print(&report);
    let damaged = findings.iter().any(|finding| finding.verdict == Verdict::Damaged);
    if works && !damaged { printed } else { ExitCode::FAILURE }
}

/// What the store says, and what is damaged in it.
fn store(dir: &Path) -> Finding {
    match journal::look(dir) {
        Err(error) => {
            let (why, advice) = explain::store(&error);
            Finding::new("store", Verdict::Damaged, format!("{} cannot be used: {why}", quoted(dir)))
                .fix(advice)
        }
        Ok((_, damage)) if damage.lost > 0 => {
            let files = damage.files.join(", ");
            let detail = format!("{} records are lost, in {files}; the others are kept", damage.lost);
            Finding::new("store", Verdict::Damaged, detail)
                .fix("replace the disk if it fails again; the files are kept as *.damaged")
        }
        Ok((recovered, _)) => {
            let mailboxes = recovered.iter().filter(|one| !one.object.folder).count();
            Finding::ok("store", format!("{}: {mailboxes} mailboxes, nothing is damaged", quoted(dir)))
        }
    }
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, detail: impl Into<String>) -> Finding {
        Finding { what, verdict, detail: detail.into(), fix: None, needed: false }
    }

    fn ok(what: &'static str, detail: impl Into<String>) -> Finding {
        Finding::new(what, Verdict::Ok, detail)
    }

    fn fix(mut self, command: impl Into<String>) -> Finding {
        self.fix = Some(command.into());
        self
    }

    fn needed(mut self) -> Finding {
        self.needed = true;
        self
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Missing => "missing",
            Verdict::Off => "off",
            Verdict::Warning => "warning",
            Verdict::Damaged => "damaged",
        };
        let needed = if self.needed && self.verdict != Verdict::Ok { " (needed)" } else { "" };
        let fix = self.fix.as_ref().map(|fix| format!("{:27}fix: {fix}\n", "")).unwrap_or_default();
        format!("{verdict:<7}  {:<16}  {}{needed}\n{fix}", self.what, self.detail)
    }
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match machine::kernel() {
        Some(version) if version < OLDEST => {
            let detail = format!("{release}; ipcfs needs {}.{} or later", OLDEST.0, OLDEST.1);
            Finding::new("kernel", Verdict::Missing, detail).fix("apt-get dist-upgrade, then reboot").needed()
        }
        _ => Finding::ok("kernel", release).needed(),
    }
}

fn device() -> Finding {
    let device = Path::new("/dev/fuse");
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Finding::ok("/dev/fuse", "exists, and this user can open it"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::new("/dev/fuse", Verdict::Missing, "does not exist")
                .fix("modprobe fuse (in a container: start it with --device /dev/fuse)")
        }
        Err(error) => {
            let detail = format!("cannot be opened: {}", reason(&error));
            Finding::new("/dev/fuse", Verdict::Missing, detail)
                .fix("chmod 0666 /dev/fuse (in a container: start it with --device /dev/fuse)")
        }
    }
    .needed()
}

fn fusermount() -> Finding {
    let what = "fusermount3";
    let finding = match Some(mount_table::fusermount()).filter(|path| path.is_file()) {
        None => {
            Finding::new(what, Verdict::Missing, "not found in PATH; users other than root need it to mount")
                .fix("apt-get install fuse3")
        }
        Some(path) if machine::is_setuid_root(&path) && !Path::new(machine::MTAB).exists() => {
            let detail = format!("{} cannot unmount: {} does not exist", quoted(&path), machine::MTAB);
            return Finding::new(what, Verdict::Off, detail).fix(machine::MAKE_MTAB);
        }
        Some(path) if machine::is_setuid_root(&path) => Finding::ok(what, quoted(&path)),
        Some(path) => {
            let path = quoted(&path);
            let detail = format!("{path} is not set-user-ID root; users other than root need it to mount");
            Finding::new(what, Verdict::Off, detail).fix(format!("chown root {path}; chmod u+s {path}"))
        }
    };
    if machine::is_privileged() { finding } else { finding.needed() }
}

fn allow_other() -> Finding {
    let what = "allow_other";
    let text = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if text.lines().any(|line| line.trim() == "user_allow_other") {
        return Finding::ok(what, "every user may use --allow-other (/etc/fuse.conf)");
    }
    if machine::is_privileged() {
        return Finding::ok(
            what,
            "root may use --allow-other; for other users, /etc/fuse.conf needs user_allow_other",
        );
    }
    let detail = "only root may use --allow-other";
    Finding::new(what, Verdict::Off, detail).fix("echo user_allow_other >> /etc/fuse.conf")
}

fn passthrough() -> Finding {
    let what = "passthrough";
    if machine::kernel().is_some_and(|version| version < PASSTHROUGH) {
        let detail = "segments use the page cache: passthrough needs Linux 6.9 or later";
        return Finding::new(what, Verdict::Missing, detail).fix("install a newer kernel");
    }
    if machine::is_privileged() && machine::is_in_first_user_namespace() {
        return Finding::ok(what, "the kernel can map segments directly");
    }
    let detail = "segments use the page cache: passthrough needs CAP_SYS_ADMIN";
    Finding::new(what, Verdict::Off, detail).fix("sudo ipcfs mount --allow-other DIR")
}

fn uring() -> Finding {
    let what = "io_uring";
    let Err(why) = Rings::make() else {
        return Finding::ok(what, "available for requests (--transport=uring)");
    };
    let detail = text::without_number(&format!("{why}; requests come over /dev/fuse"));
    match why {
        Obstacle::Off => {
            Finding::new(what, Verdict::Off, detail).fix(format!("echo Y > {}", rings::PARAMETER))
        }
        Obstacle::LockedMemory(..) => {
            Finding::new(what, Verdict::Off, detail).fix("ulimit -l 8192 (or memlock in limits.conf(5))")
        }
        _ => Finding::new(what, Verdict::Missing, detail),
    }
}

/// For a mount in the background, which has a session of its own.
fn scheduling() -> Finding {
    let what = "scheduling";
    let Err(why) = keeps_callers(true) else {
        return Finding::ok(what, "callers stay on their CPU over io_uring");
    };
    let finding = Finding::new(what, Verdict::Off, format!("{why}; requests come over /dev/fuse"));
    match why {
        Reason::Irreversible if Path::new("/proc/self/autogroup").exists() => {
            finding.fix("sysctl kernel.sched_autogroup_enabled=1")
        }
        Reason::Irreversible => {
            finding.fix("a nice limit of 20 (ulimit -e 20; \"nice -20\" in limits.conf(5))")
        }
        Reason::Chosen => finding.fix("chrt --other 0 ipcfs mount DIR"),
        Reason::Refused | Reason::Unmeasured => finding,
    }
}

fn pages() -> Finding {
    let what = "longest message";
    match read_number("/proc/sys/fs/fuse/max_pages_limit") {
        Some(pages) if pages < PAGES => {
            let detail = format!(
                "{} bytes: fs.fuse.max_pages_limit is {pages}",
                size::show(pages.saturating_sub(1) * 4096)
            );
            Finding::new(what, Verdict::Missing, detail)
                .fix(format!("sysctl fs.fuse.max_pages_limit={PAGES}"))
        }
        Some(pages) => Finding::ok(what, format!("1020K (fs.fuse.max_pages_limit is {pages})")),
        None => Finding::ok(what, "1020K"),
    }
}

fn timeouts() -> Finding {
    let what = "request timeout";
    let set: Vec<(&str, u64)> = ["default_request_timeout", "max_request_timeout"]
        .into_iter()
        .filter_map(|name| Some((name, read_number(&format!("/proc/sys/fs/fuse/{name}"))?)))
        .filter(|(_, seconds)| *seconds > 0)
        .collect();
    let Some(shortest) = set.iter().map(|(_, seconds)| *seconds).min() else {
        return Finding::ok(what, "none: a call may wait without limit");
    };
    let commands: Vec<String> = set.iter().map(|(name, _)| format!("sysctl fs.fuse.{name}=0")).collect();
    let detail = format!("{shortest} s: waiting calls fail with EINTR after half of that");
    Finding::new(what, Verdict::Off, detail).fix(commands.join("; "))
}

fn open_files() -> Finding {
    let what = "open files";
    let limit = rustix::process::getrlimit(Resource::Nofile);
    match limit.maximum {
        None => Finding::ok(what, "no limit; each segment needs one"),
        Some(hard) if hard >= FEW_FILES => Finding::ok(what, format!("{hard}; each segment needs one")),
        Some(hard) => {
            let detail = format!("at most {hard}; each segment needs one");
            Finding::new(what, Verdict::Missing, detail).fix("ulimit -Hn 65536 (as root, before mounting)")
        }
    }
}

fn memory() -> Finding {
    let what = "memory";
    let memory = Memory::here(default_threads());
    let total = size::show(memory.total());
    let by = memory.least().map(|least| format!(" ({least})")).unwrap_or_default();
    match memory.limits(None, None) {
        Ok(limits) => {
            let (messages, segments) = (size::show(limits.memory), size::show(limits.segment_memory));
            Finding::ok(
                what,
                format!("{total}{by}: by default {messages} for messages, {segments} for segments"),
            )
        }
        Err(why) => {
            let (why, fix) = why.split_once("\n  ").unwrap_or((&why, ""));
            Finding::new(what, Verdict::Missing, why).fix(fix).needed()
        }
    }
}

fn threads() -> Finding {
    Finding::ok("threads", format!("{} by default", default_threads()))
}

/// Indexers (Tracker, Baloo), file managers and backups read what is below a home folder, and reading a mailbox takes a message.
/// updatedb(8) is no danger: it reads names only.
fn places() -> Finding {
    let what = "mounts";
    let homes = homes(&fs::read_to_string("/etc/passwd").unwrap_or_default(), std::env::var_os("HOME"));
    let mut mounts = mounts::all().unwrap_or_default();
    mounts.retain(Mount::is_ipcfs);
    match mounts.iter().find(|mount| homes.iter().any(|home| mount.point.starts_with(home))) {
        Some(mount) => {
            let point = quoted(&mount.point);
            let detail =
                format!("{point} is below a home folder: indexers and file managers may take messages there");
            Finding::new(what, Verdict::Warning, detail).fix("mount in $XDG_RUNTIME_DIR, or in /run")
        }
        None => Finding::ok(what, format!("{} of ipcfs, none below a home folder", mounts.len())),
    }
}

/// The home folders of people: of the users in passwd(5) that are no services, and this user's.
fn homes(passwd: &str, own: Option<OsString>) -> Vec<PathBuf> {
    let people = passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[_, _, uid, _, _, home, _] = fields.as_slice() else { return None };
        matches!(uid.parse(), Ok(0_u32 | 1000..=59_999)).then(|| PathBuf::from(home))
    });
    let own = own.map(PathBuf::from);
    people.chain(own).filter(|home| home.is_absolute() && home.parent().is_some()).collect()
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_folders_are_those_of_people() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
                      ann:x:1000:1000:Ann,,,:/home/ann:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/false\n\
                      odd:x:1001:1001::/:/bin/sh\nnot a line\n";
        let paths =
            |homes: Vec<PathBuf>| homes.iter().map(|home| home.display().to_string()).collect::<Vec<_>>();
        assert_eq!(paths(homes(passwd, None)), ["/root", "/home/ann"]);
        assert_eq!(paths(homes(passwd, Some("/srv/me".into()))), ["/root", "/home/ann", "/srv/me"]);
        assert!(homes("", Some("relative".into())).is_empty());
    }
}
