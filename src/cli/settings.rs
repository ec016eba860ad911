//! `ipcfs config`: shows or changes the files in an object's `config/`.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::io::Errno;

use super::text::{self, escaped, quoted, reason};
use super::{mounts, umount};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without KEY=VALUE, all settings are shown. Of several, those before one that is refused are kept."
)]
pub(super) struct Args {
    /// Mount point
    dir: PathBuf,

    /// A mailbox or folder of mailboxes, as a path below mailboxes/; or with its kind: topics/news, segments/frame. Without
    /// it: what new mailboxes begin with
    #[arg(value_name = "NAME")]
    name: Option<PathBuf>,

    /// Settings to change, such as maxmsg=100 or full=fail
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Shows or changes settings.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let all = mounts::all()?;
    let point = &umount::find(&all, &args.dir)?.point;
    // The first of them may be in the place of a name.
    let first = args.name.as_deref().and_then(Path::to_str).filter(|name| name.contains('='));
    let name = args.name.as_deref().filter(|_| first.is_none()).unwrap_or(Path::new("mailboxes"));
    let kinds = ["mailboxes", "topics", "segments"];
    let below = if kinds.iter().any(|kind| name.starts_with(kind)) {
        PathBuf::new()
    } else {
        PathBuf::from("mailboxes")
    };
    let config = point.join("control").join(below).join(name).join("config");
    let settings: Vec<&str> = first.into_iter().chain(args.settings.iter().map(String::as_str)).collect();
    if settings.is_empty() {
        return Ok(text::print(&shown(&config)?));
    }
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(format!("{} is no setting\n  write KEY=VALUE", quoted(setting)));
        };
        store(&config, key, value)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines of `key value`, in the order of the alphabet.
fn shown(config: &Path) -> Result<String, String> {
    let failed = |error: io::Error| cannot("read", config, &error);
    let mut lines = Vec::new();
    for entry in fs::read_dir(config).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() == "error" {
            continue;
        }
        let key = escaped(entry.file_name());
        // What only the owner may read is left out for others.
        if let Ok(value) = fs::read(entry.path()) {
            let value = escaped(OsStr::from_bytes(value.strip_suffix(b"\n").unwrap_or(&value)));
            lines.push(if value.is_empty() { key + "\n" } else { format!("{key} {value}\n") });
        }
    }
    lines.sort();
    Ok(lines.concat())
}

fn store(config: &Path, key: &str, value: &str) -> Result<(), String> {
    let file = config.join(key);
    // Not made, and not by a path that leads elsewhere.
    let known = !key.is_empty() && !key.contains('/') && key != "error";
    if !known || (config.exists() && !file.exists()) {
        let keys = shown(config)?;
        let keys: Vec<&str> = keys.lines().filter_map(|line| line.split(' ').next()).collect();
        return Err(format!("there is no setting {}\n  there are {}", quoted(key), keys.join(", ")));
    }
    let opened = OpenOptions::new().write(true).open(&file);
    // An empty value needs a line to be written at all.
    match opened.and_then(|mut file| file.write_all(format!("{value}\n").as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::RANGE)) => {
            let why = [config.join("error"), config.with_file_name("error")]
                .into_iter()
                .find_map(|error| fs::read_to_string(error).ok());
            let why = why.filter(|why| !why.is_empty()).unwrap_or_else(|| reason(&error));
            Err(format!("{} was refused\n  {}", quoted(format!("{key}={value}")), escaped(why.trim_end())))
        }
        Err(error) => Err(cannot("change", &file, &error)),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    let advice = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "see the names: ipcfs status DIR",
        Some(Errno::ACCESS) => "only its owner and root may change it",
        _ => "see its state: ipcfs status DIR",
    };
    format!("cannot {what} {}: {}\n  {advice}", quoted(path), reason(error))
}
