//! `ipcfs doctor`: what this machine offers, and the command that adds what is missing.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::Resource;

use super::machine;
use super::mount::default_threads;
use super::size;
use super::text::{self, reason, word};
use crate::config::Limits;
use crate::kernel::rings::{self, Obstacle, Rings};
use crate::kernel::session;

/// Oldest kernel that mounts: the first long-term one with all that the daemon asks of FUSE.
const OLDEST: (u32, u32) = (5, 10);

/// First kernel with passthrough.
const PASSTHROUGH: (u32, u32) = (6, 9);

/// Pages of one request that the longest message takes, with one to begin anywhere in.
const PAGES: u64 = 256;

/// Open files below which a mount soon has no room for segments.
const FEW_FILES: u64 = 4096;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Not there or not enough; a mount does without unless the finding says otherwise.
    Missing,
    /// There, but switched off.
    Off,
}

/// One thing looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    /// What there is.
    says: String,
    /// The command that changes it.
    fix: Option<String>,
    /// No mount is possible while this is missing.
    needed: bool,
}

/// Prints what was found. Exit code 0 if a mount can work for this user.
pub(super) fn run() -> ExitCode {
    let findings = [
        kernel(),
        device(),
        fusermount(),
        allow_other(),
        passthrough(),
        uring(),
        pages(),
        timeouts(),
        open_files(),
        memory(),
        threads(),
    ];
    let works = findings.iter().all(|finding| !finding.needed || finding.verdict == Verdict::Ok);
    let mut report: String = findings.iter().map(Finding::line).collect();
    report.push_str(if works {
        "\nThis user can mount ipcfs here.\n"
    } else {
        "\nThis user cannot mount ipcfs here: something marked \"needed\" is missing.\n"
    });
    let printed = text::print(&report);
    if works { printed } else { ExitCode::FAILURE }
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, says: impl Into<String>) -> Finding {
        Finding { what, verdict, says: says.into(), fix: None, needed: false }
    }

    fn ok(what: &'static str, says: impl Into<String>) -> Finding {
        Finding::new(what, Verdict::Ok, says)
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
        };
        let needed = if self.needed && self.verdict != Verdict::Ok { " (needed)" } else { "" };
        let fix = self.fix.as_ref().map(|fix| format!("{:27}fix: {fix}\n", "")).unwrap_or_default();
        format!("{verdict:<7}  {:<16}  {}{needed}\n{fix}", self.what, self.says)
    }
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match machine::kernel() {
        Some(version) if version < OLDEST => {
            let says = format!("{release}; ipcfs needs {}.{} or later", OLDEST.0, OLDEST.1);
            Finding::new("kernel", Verdict::Missing, says).fix("apt-get dist-upgrade, then reboot").needed()
        }
        _ => Finding::ok("kernel", release).needed(),
    }
}

fn device() -> Finding {
    let device = Path::new("/dev/fuse");
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Finding::ok("/dev/fuse", "there, and opens"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::new("/dev/fuse", Verdict::Missing, "not there")
                .fix("modprobe fuse (in a container: start it with --device /dev/fuse)")
        }
        Err(error) => {
            let says = format!("does not open: {}", reason(&error));
            Finding::new("/dev/fuse", Verdict::Missing, says)
                .fix("chmod 0666 /dev/fuse (in a container: start it with --device /dev/fuse)")
        }
    }
    .needed()
}

fn fusermount() -> Finding {
    let what = "fusermount3";
    let finding = match Some(session::fusermount()).filter(|path| path.is_file()) {
        None => Finding::new(what, Verdict::Missing, "not on PATH; users who are not root mount with it")
            .fix("apt-get install fuse3"),
        Some(path) if machine::is_setuid_root(&path) => Finding::ok(what, word(&path)),
        Some(path) => {
            let path = word(&path);
            let says = format!("{path} is not setuid root; users who are not root mount with it");
            Finding::new(what, Verdict::Off, says).fix(format!("chown root {path}; chmod u+s {path}"))
        }
    };
    if machine::is_privileged() { finding } else { finding.needed() }
}

fn allow_other() -> Finding {
    let what = "allow_other";
    let text = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if text.lines().any(|line| line.trim() == "user_allow_other") {
        return Finding::ok(what, "--allow-other is open to every user (/etc/fuse.conf)");
    }
    let says = if machine::is_privileged() {
        "--allow-other is for root only, which this is"
    } else {
        "--allow-other is for root only"
    };
    Finding::new(what, Verdict::Off, says).fix("echo user_allow_other >> /etc/fuse.conf")
}

fn passthrough() -> Finding {
    let what = "passthrough";
    if machine::kernel().is_some_and(|version| version < PASSTHROUGH) {
        let says = "segments go through the page cache: Linux 6.9 or later would map them itself";
        return Finding::new(what, Verdict::Missing, says).fix("a newer kernel");
    }
    if machine::is_privileged() && machine::is_in_first_user_namespace() {
        return Finding::ok(what, "segments can be mapped by the kernel itself");
    }
    let says = "segments go through the page cache: passthrough needs CAP_SYS_ADMIN";
    Finding::new(what, Verdict::Off, says).fix("sudo ipcfs mount --allow-other DIR")
}

fn uring() -> Finding {
    let what = "io_uring";
    let Err(why) = Rings::make() else {
        return Finding::ok(what, "requests come by it (transport uring)");
    };
    let says = text::without_number(&format!("{why}; requests come over /dev/fuse"));
    match why {
        Obstacle::Off => Finding::new(what, Verdict::Off, says).fix(format!("echo Y > {}", rings::PARAMETER)),
        Obstacle::LockedMemory(..) => {
            Finding::new(what, Verdict::Off, says).fix("a memlock limit of 8192 (ulimit -l, limits.conf(5))")
        }
        _ => Finding::new(what, Verdict::Missing, says),
    }
}

fn pages() -> Finding {
    let what = "longest message";
    match figure("/proc/sys/fs/fuse/max_pages_limit") {
        Some(pages) if pages < PAGES => {
            let says = format!(
                "{} bytes: fs.fuse.max_pages_limit is {pages}",
                size::show(pages.saturating_sub(1) * 4096)
            );
            Finding::new(what, Verdict::Missing, says).fix(format!("sysctl fs.fuse.max_pages_limit={PAGES}"))
        }
        Some(pages) => Finding::ok(what, format!("1020K (fs.fuse.max_pages_limit is {pages})")),
        None => Finding::ok(what, "1020K"),
    }
}

fn timeouts() -> Finding {
    let what = "request timeout";
    let set: Vec<(&str, u64)> = ["default_request_timeout", "max_request_timeout"]
        .into_iter()
        .filter_map(|name| Some((name, figure(&format!("/proc/sys/fs/fuse/{name}"))?)))
        .filter(|(_, seconds)| *seconds > 0)
        .collect();
    let Some(shortest) = set.iter().map(|(_, seconds)| *seconds).min() else {
        return Finding::ok(what, "none: a read may wait for ever");
    };
    let commands: Vec<String> = set.iter().map(|(name, _)| format!("sysctl fs.fuse.{name}=0")).collect();
    let says = format!("{shortest} s: a call that waits ends with EINTR after half of that");
    Finding::new(what, Verdict::Off, says).fix(commands.join("; "))
}

fn open_files() -> Finding {
    let what = "open files";
    let limit = rustix::process::getrlimit(Resource::Nofile);
    match limit.maximum {
        None => Finding::ok(what, "no limit; each segment takes one"),
        Some(hard) if hard >= FEW_FILES => Finding::ok(what, format!("{hard}; each segment takes one")),
        Some(hard) => {
            let says = format!("at most {hard}; each segment takes one");
            Finding::new(what, Verdict::Missing, says).fix("ulimit -Hn 65536 (as root, before mounting)")
        }
    }
}

fn memory() -> Finding {
    let total = machine::memory();
    let limits = Limits::for_machine(total);
    let says = format!(
        "{}: by default {} for messages, {} for segments",
        size::show(total),
        size::show(limits.memory),
        size::show(limits.segment_memory)
    );
    Finding::ok("memory", says)
}

fn threads() -> Finding {
    Finding::ok("threads", format!("{} by default", default_threads()))
}

fn figure(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
