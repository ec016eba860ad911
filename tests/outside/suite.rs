//! What all suites share: folders to work in, and running a program to its end, on tmpfs as well if it fails.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{self, Mount};

/// True for a full run, false for a piece that fits into CI.
pub(crate) fn is_full() -> bool {
    std::env::var("OUTSIDE").is_ok_and(|length| length == "full")
}

/// A mount with a folder in `segments/` to work in.
pub(crate) struct Place {
    /// The data path.
    pub(crate) path: &'static str,
    pub(crate) mount: Mount,
    pub(crate) folder: PathBuf,
}

/// The data paths.
pub(crate) const PATHS: [&str; 2] = ["passthrough", "cached"];

/// A mount with one data path; `None`, after saying so, where this machine has no FUSE.
pub(crate) fn place(path: &'static str) -> Option<Place> {
    // Enough for the sparse files of six gigabytes that Python maps.
    let options = [&format!("--segments={path}"), "--segment-memory=8G", "--allow-other"];
    let mount = common::mount_with(&options)?;
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(mount.dir().parent().unwrap(), open).unwrap();
    let folder = mount.segment("work");
    fs::create_dir(&folder).unwrap();
    Some(Place { path, mount, folder })
}

impl Place {
    /// Fails if the suite left anything behind.
    pub(crate) fn assert_clean(&self) {
        let entries = fs::read_dir(&self.folder).unwrap();
        let left: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        self.wait_for_memory();
    }

    /// Removes what failing tests left behind, which is to release all memory, too.
    pub(crate) fn clean(&self) {
        fs::remove_dir_all(&self.folder).unwrap();
        self.wait_for_memory();
    }

    fn wait_for_memory(&self) {
        common::wait_for("all memory to come back", || self.mount.figure("status", "segment_used") == 0);
    }

    /// Runs a program that works in a folder, and that is to succeed unless it fails on tmpfs, too; what it said.
    pub(crate) fn passes(&self, what: &str, command: impl Fn(&Path) -> Command) -> Option<String> {
        let mut here = command(&self.folder);
        let (code, said) = run(&mut here);
        if code == Some(0) {
            return Some(said);
        }
        let plain = run(&mut command(on_tmpfs().path())).0;
        assert_ne!(plain, Some(0), "{}, {what}: fails, and not on tmpfs\n{here:?}\n{said}", self.path);
        common::skip(&format!("{what} does not pass on tmpfs of this machine either"));
        fs::remove_dir_all(&self.folder).unwrap();
        fs::create_dir(&self.folder).unwrap();
        None
    }
}

/// A folder of tmpfs, which a suite is run on beside segments.
pub(crate) fn on_tmpfs() -> tempfile::TempDir {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).unwrap();
    made
}

/// Runs a program to its end: its exit code, and what it said.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let stream = || Stdio::from(File::options().append(true).open(said.path()).unwrap());
    // Many times what it needs, and less than a mount may last.
    let limit = (common::lifetime() - 20).to_string();
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=10", &limit]).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    limited.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    let status = limited.stdin(Stdio::null()).stdout(stream()).stderr(stream()).status().unwrap();
    (status.code(), String::from_utf8_lossy(&fs::read(said.path()).unwrap()).into_owned())
}
