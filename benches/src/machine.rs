//! The machine that a run was made on.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub memory_mb: u64,
    pub kernel: String,
    /// Seconds since 1970.
    pub started: u64,
    /// Processes that ran beside, as the load of the last minute when the run began.
    pub load: String,
}

impl Machine {
    pub fn here() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let field = |text: &str, key: &str, by: char| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(by)?.1.trim().to_owned())
        };
        let uname = rustix::system::uname();
        let memory = field(&meminfo, "MemTotal", ':').unwrap_or_default();
        Machine {
            cpu: field(&cpuinfo, "model name", ':').unwrap_or_else(|| "unknown".into()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024,
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            started: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The first line that a program prints about its version, if it is there.
pub fn version(program: &str, argument: &str) -> Option<String> {
    let output =
        Command::new(program).arg(argument).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
}
