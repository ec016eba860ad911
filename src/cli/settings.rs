//! `ipcfs config`: shows or changes the files in an object's `config/`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::config_dir::{store, values};
use super::text::{self, escaped, quoted};
use super::{config_file, mounts, umount};

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

    /// Print all folders, mailboxes, topics and segments with their owners, modes and settings, as a file for `ipcfs mount
    /// --config`
    #[arg(long, conflicts_with = "name")]
    save: bool,
}

/// Shows or changes settings.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let all = mounts::all()?;
    let point = &umount::find(&all, &args.dir)?.point;
    if args.save {
        return Ok(text::print(&config_file::saved(point)?));
    }
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
        let mut text = String::new();
        for (key, value) in values(&config)? {
            let value = escaped(OsStr::from_bytes(&value));
            let _ = if value.is_empty() { writeln!(text, "{key}") } else { writeln!(text, "{key} {value}") };
        }
        return Ok(text::print(&text));
    }
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(format!("{} is no setting\n  write KEY=VALUE", quoted(setting)));
        };
        store(&config, key, value)?;
    }
    Ok(ExitCode::SUCCESS)
}
