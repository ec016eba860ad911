//! Mounting as mount(8) does it: options in a list (`-o memory=1G,noexec`), and its helper, `mount.ipcfs`.
//!
//! For a file system of type `ipcfs` mount(8) starts `/sbin/mount.ipcfs SOURCE DIR [-sfnv] [-o options] [-t type]`, and for
//! `fuse.ipcfs` `/sbin/mount.fuse.ipcfs`. Both are links to this program, which knows by its name what it is asked.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory as _, Parser};

/// The names of the helper.
const NAMES: [&str; 2] = ["mount.ipcfs", "mount.fuse.ipcfs"];

/// Exit codes of mount(8): the mount failed; wrong usage.
pub(super) const FAILED: u8 = 32;
pub(super) const USAGE: u8 = 1;

/// Options of mount(8) for all file systems. They are for mount(8) itself or systemd, or say what holds anyway.
const FOR_ALL: &str = "defaults rw auto noauto user nouser users owner group nofail _netdev dev nodev suid nosuid \
    sync async dirsync atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime \
    nolazytime mand nomand iversion noiversion silent loud symfollow default_permissions";

/// The same, with a value.
const FOR_ALL_WITH_VALUE: [&str; 6] = ["x-", "X-", "comment=", "user=", "helper=", "uhelper="];

/// Mount as the helper of mount(8): mount -t ipcfs SOURCE DIR -o OPTIONS
#[derive(Debug, Parser)]
#[command(name = "mount.ipcfs", version, max_term_width = 100)]
pub(super) struct Helper {
    /// Name of the mount in the mount table
    source: OsString,

    /// Empty directory to mount on
    dir: PathBuf,

    /// Options, separated by commas: those of `ipcfs mount` without the dashes, and those of mount(8)
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,

    /// Ignore unknown options
    #[arg(short)]
    sloppy: bool,

    /// Mount nothing
    #[arg(short)]
    fake: bool,

    /// Ignored
    #[arg(short = 'n', visible_short_alias = 'v', action = ArgAction::Count)]
    ignored: u8,

    /// Ignored: the type of the file system
    #[arg(short, value_name = "TYPE")]
    type_: Option<String>,
}

/// Whether mount(8) asks, by the name under which the program was started.
pub(super) fn is_asked(words: &[OsString]) -> bool {
    let name = words.first().and_then(|program| Path::new(program).file_name());
    NAMES.iter().any(|known| name == Some(OsStr::new(known)))
}

/// The helper's words as those of `ipcfs mount`. `None`: there is nothing to do.
pub(super) fn translate(words: &[OsString], mount: &Command) -> Result<Option<Vec<OsString>>, clap::Error> {
    let helper = Helper::try_parse_from(words)?;
    if helper.fake {
        return Ok(None);
    }
    let mut list = Vec::new();
    for option in options(&helper.options) {
        match flag(option, mount) {
            Err(_) if helper.sloppy => {}
            Err(why) => return Err(Helper::command().error(ErrorKind::UnknownArgument, why)),
            Ok(_) => list.push(option),
        }
    }
    let mut source = OsString::from("--source=");
    source.push(name_of(&helper.source));
    let options = OsString::from(list.join(","));
    let words = ["ipcfs".into(), "mount".into(), source, "-o".into(), options, "--".into()];
    Ok(Some(words.into_iter().chain([helper.dir.into_os_string()]).collect()))
}

/// The name that a source is: mount(8) makes an absolute path of one that is a file or folder in the current directory.
fn name_of(source: &OsStr) -> &OsStr {
    let path = Path::new(source);
    path.file_name().filter(|_| path.is_absolute()).unwrap_or(source)
}

/// The flags of `ipcfs mount` that stand for lists of options, or which option is unknown.
pub(super) fn flags(lists: &[String], mount: &Command) -> Result<Vec<OsString>, String> {
    let mut flags: Vec<OsString> = Vec::new();
    for option in options(lists) {
        match option {
            "exec" => flags.retain(|flag| flag != "--noexec"),
            _ => flags.extend(flag(option, mount)?.map(OsString::from)),
        }
    }
    Ok(flags)
}

fn options(lists: &[String]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty())
}

/// The flag that stands for an option; `None` if it changes nothing.
fn flag(option: &str, mount: &Command) -> Result<Option<String>, String> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    match name {
        "exec" => return Ok(None),
        "ro" => {
            return Err(String::from("an ipcfs mount cannot be read-only ('ro'): each receive changes it"));
        }
        "remount" => {
            let why =
                "options of a mount cannot be changed ('remount'): unmount it first, or write to control/";
            return Err(String::from(why));
        }
        _ => {}
    }
    let for_all = FOR_ALL.split_whitespace().any(|known| known == option)
        || FOR_ALL_WITH_VALUE.iter().any(|known| option.starts_with(known));
    if for_all {
        return Ok(None);
    }
    let long = if name == "fsname" { String::from("source") } else { name.replace('_', "-") };
    let Some((_, arg)) = known(mount).find(|(_, arg)| arg.get_long() == Some(&long)) else {
        let names: Vec<String> = known(mount).map(|(name, _)| name).collect();
        return Err(format!("mount option '{name}' is unknown; ipcfs has {}", names.join(", ")));
    };
    match value {
        Some(value) => Ok(Some(format!("--{long}={value}"))),
        None if arg.get_action().takes_values() => {
            Err(format!("mount option '{name}' needs a value: {name}=…"))
        }
        None => Ok(Some(format!("--{long}"))),
    }
}

/// The options of `ipcfs mount` as a list has them. mount(8) waits for its helper, so a mount in the foreground is none.
pub(super) fn known(mount: &Command) -> impl Iterator<Item = (String, &Arg)> {
    let shown = mount.get_arguments().filter(|arg| !arg.is_hide_set());
    let options = shown.filter(|arg| !["help", "foreground"].contains(&arg.get_id().as_str()));
    options.filter_map(|arg| Some((arg.get_long()?.replace('-', "_"), arg)))
}
