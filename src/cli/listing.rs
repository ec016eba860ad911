//! The contents of a mount, read through the mount itself: mailboxes and topics with their statistics from `control/`,
//! segments from their attributes. The tree may change meanwhile; what is removed meanwhile is omitted.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::mounts::Status;
use super::text::{escaped, quoted, reason};
use super::users::Names;

/// Most bytes of a status file that are read; it has a line for each waiting process.
const STATUS_MAX: u64 = 16 * 1024 * 1024;

/// Everything in a mount that this user may see.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By name.
    pub(super) mailboxes: Vec<Object>,
    /// By name.
    pub(super) topics: Vec<Object>,
    /// By name.
    pub(super) segments: Vec<Segment>,
    /// Folders and files that this user may not read.
    pub(super) unreadable: usize,
}

/// A mailbox or a topic.
#[derive(Debug, Serialize)]
pub(super) struct Object {
    /// Below `mailboxes/` or `topics/`.
    #[serde(flatten)]
    pub(super) name: ExactPath,
    /// The name, safe for a terminal.
    #[serde(skip)]
    pub(super) shown: String,
    /// Its statistics.
    #[serde(flatten)]
    pub(super) status: Status,
    /// `None` if this user may not search the folder.
    #[serde(flatten)]
    pub(super) file: Option<Rights>,
}

/// A segment.
#[derive(Debug, Serialize)]
pub(super) struct Segment {
    /// Below `segments/`.
    #[serde(flatten)]
    pub(super) name: ExactPath,
    /// The name, safe for a terminal.
    #[serde(skip)]
    pub(super) shown: String,
    /// Bytes.
    pub(super) size: u64,
    /// Bytes of it that are in memory.
    pub(super) resident: u64,
    /// Its owner and mode.
    #[serde(flatten)]
    pub(super) file: Rights,
}

/// A file's owner and mode.
#[derive(Debug, Serialize)]
pub(super) struct Rights {
    /// The owner's name, or the UID if there is none.
    pub(super) owner: String,
    uid: u32,
    gid: u32,
    /// In octal.
    pub(super) mode: String,
}

/// Reads everything, or says why the mount cannot be read.
pub(super) fn read(point: &Path) -> Result<Listing, String> {
    for root in ["control/mailboxes", "control/topics", "segments"].map(|root| point.join(root)) {
        let looked = root.symlink_metadata();
        looked.map_err(|error| format!("cannot access {}: {}", quoted(&root), reason(&error)))?;
    }
    let mut listing = Listing::default();
    let users = Names::users();
    let open = |path: PathBuf| Folder::open(&path, PathBuf::new());
    let top = |kind| (open(point.join("control").join(kind)), open(point.join(kind)));
    listing.mailboxes = listing.read_objects("mailboxes", top("mailboxes"), &users);
    listing.topics = listing.read_objects("topics", top("topics"), &users);
    listing.read_segments(point, &users);
    listing.segments.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}

/// The mailboxes by name, from `control/` alone, so without owners and modes; and how many files this user may not read.
pub(super) fn mailboxes(point: &Path) -> Result<(Vec<Object>, usize), String> {
    let top = Folder::open(&point.join("control/mailboxes"), PathBuf::new());
    let top = top.map_err(|error| format!("cannot access {}: {}", quoted(point), reason(&error)))?;
    let mut listing = Listing::default();
    let objects =
        listing.read_objects("mailboxes", (Ok(top), Err(io::ErrorKind::NotFound.into())), &Names::none());
    Ok((objects, listing.unreadable))
}

/// The status of the mount.
pub(super) fn mount_status(point: &Path) -> Result<Status, String> {
    let control = point.join("control");
    read_status(&control).map_err(|error| format!("cannot read {}: {}", quoted(&control), reason(&error)))
}

/// A folder with a second view of it, and names in it.
type Listed = (io::Result<Folder>, io::Result<Folder>, Vec<OsString>);

/// An open folder: what is in it is found from there, however deep it is.
struct Folder {
    open: File,
    /// Where it is, below the folder that the listing began with.
    below: PathBuf,
}

impl Folder {
    fn open(path: &Path, below: PathBuf) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let open = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
        Ok(Folder { open, below })
    }

    fn path(&self, name: &OsStr) -> PathBuf {
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.open.as_raw_fd()));
        path.push(name);
        path
    }

    fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        Ok(fs::read_dir(self.path(OsStr::new(".")))?.map(|entry| entry.map(|entry| entry.file_name())))
    }

    fn folder(&self, name: &OsStr) -> io::Result<Folder> {
        Folder::open(&self.path(name), self.below.join(name))
    }
}

impl Listing {
    /// `top`: the folder of a kind in `control/`, and the one that the files themselves are in.
    fn read_objects(
        &mut self,
        kind: &str,
        top: (io::Result<Folder>, io::Result<Folder>),
        users: &Names,
    ) -> Vec<Object> {
        let mut objects = Vec::new();
        // Each folder with both views, and the names in it that were not looked at.
        let mut folders = vec![self.with_names(top)];
        while let Some((views, files, names)) = folders.last_mut() {
            let Some(name) = names.pop() else {
                folders.pop();
                continue;
            };
            // No file has this name: it is the folder's own.
            if kind == "mailboxes" && name == "config" {
                continue;
            }
            let Ok(views) = views else { continue };
            let path = views.path(&name);
            let file = |files: &io::Result<Folder>| match files {
                Ok(files) => files.path(&name).symlink_metadata(),
                Err(error) => Err(error.kind().into()),
            };
            match is_object(&path) {
                Ok(true) => {
                    let (below, file) = (views.below.join(&name), file(files));
                    if let Some(status) = self.readable(read_status(&path)) {
                        let file = self.readable(file);
                        objects.push(Object::of(&below, status, file.as_ref(), users));
                    }
                }
                Ok(false) if path.is_dir() => {
                    let files = files.as_ref().map_err(|error| error.kind().into());
                    let folder = (views.folder(&name), files.and_then(|files| files.folder(&name)));
                    let folder = self.with_names(folder);
                    folders.push(folder);
                }
                Ok(false) => {}
                Err(error) => {
                    self.readable::<()>(Err(error));
                }
            }
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        objects
    }

    fn read_segments(&mut self, point: &Path, users: &Names) {
        let top = Folder::open(&point.join("segments"), PathBuf::new());
        let mut folders = vec![self.with_names((top, Err(io::ErrorKind::NotFound.into())))];
        while let Some((folder, _, names)) = folders.last_mut() {
            let (Some(name), Ok(folder)) = (names.pop(), folder) else {
                folders.pop();
                continue;
            };
            match self.readable(folder.path(&name).symlink_metadata()) {
                Some(metadata) if metadata.is_dir() => {
                    let inner = (folder.folder(&name), Err(io::ErrorKind::NotFound.into()));
                    let inner = self.with_names(inner);
                    folders.push(inner);
                }
                Some(metadata) if metadata.is_file() => {
                    let below = folder.below.join(&name);
                    self.segments.push(Segment::of(&below, &metadata, users));
                }
                // A symbolic link.
                Some(_) | None => {}
            }
        }
    }

    /// With the names in the first of two folders.
    fn with_names(&mut self, (folder, other): (io::Result<Folder>, io::Result<Folder>)) -> Listed {
        let names = match &folder {
            Ok(folder) => self
                .readable(folder.names())
                .map(|names| names.filter_map(|name| self.readable(name)).collect()),
            Err(error) => self.readable(Err(error.kind().into())),
        };
        (folder, other, names.unwrap_or_default())
    }

    /// The value, if it could be read; counts what this user may not read.
    fn readable<T>(&mut self, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            self.unreadable += 1;
        }
        result.ok()
    }
}

impl Object {
    fn of(below: &Path, status: Status, file: Option<&Metadata>, users: &Names) -> Object {
        let file = file.map(|file| Rights::of(file, users));
        Object { name: ExactPath::name(below), shown: escaped(below), status, file }
    }
}

impl Segment {
    fn of(below: &Path, file: &Metadata, users: &Names) -> Segment {
        Segment {
            name: ExactPath::name(below),
            shown: escaped(below),
            size: file.size(),
            resident: file.blocks().saturating_mul(512),
            file: Rights::of(file, users),
        }
    }
}

impl Rights {
    fn of(file: &Metadata, users: &Names) -> Rights {
        let mode = format!("{:04o}", file.mode() & 0o7777);
        Rights { owner: users.name(file.uid()), uid: file.uid(), gid: file.gid(), mode }
    }
}

/// A path in JSON: as it is if it is UTF-8, otherwise in base64, under another key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExactPath {
    path: PathBuf,
    keys: [&'static str; 2],
}

impl ExactPath {
    pub(super) fn name(path: &Path) -> ExactPath {
        ExactPath { path: path.to_owned(), keys: ["name", "name_base64"] }
    }

    pub(super) fn dir(path: &Path) -> ExactPath {
        ExactPath { path: path.to_owned(), keys: ["dir", "dir_base64"] }
    }
}

impl AsRef<Path> for ExactPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Serialize for ExactPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [text, base64] = self.keys;
        let mut map = serializer.serialize_map(Some(1))?;
        match self.path.to_str() {
            Some(path) => map.serialize_entry(text, path)?,
            None => map.serialize_entry(base64, &STANDARD.encode(self.path.as_os_str().as_bytes()))?,
        }
        map.end()
    }
}

/// Whether it is a mailbox or topic. A folder has no file `status`: everything in it is a directory.
fn is_object(dir: &Path) -> io::Result<bool> {
    match dir.join("status").symlink_metadata() {
        Ok(status) => Ok(status.is_file() && dir.join("config").is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_status(dir: &Path) -> io::Result<Status> {
    let mut bytes = Vec::new();
    File::open(dir.join("status"))?.take(STATUS_MAX).read_to_end(&mut bytes)?;
    Ok(Status::parse(&String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_listed() {
        let mount = tempfile::tempdir().unwrap();
        let boxes = mount.path().join("control/mailboxes");
        for dir in ["jobs/config", "team/a/config", "empty", "odd/status", "odd/config"] {
            fs::create_dir_all(boxes.join(dir)).unwrap();
        }
        fs::write(boxes.join("jobs/status"), "depth 3\nbytes 12\nsent 5\nreceived 2\n").unwrap();
        fs::write(boxes.join("team/a/status"), "depth 0\n").unwrap();
        fs::create_dir_all(mount.path().join("control/topics/news/config")).unwrap();
        fs::write(mount.path().join("control/topics/news/status"), "readers 2\n").unwrap();
        fs::create_dir_all(mount.path().join("mailboxes")).unwrap();
        fs::write(mount.path().join("mailboxes/jobs"), "").unwrap();
        fs::create_dir_all(mount.path().join("segments/team")).unwrap();
        fs::write(mount.path().join("segments/team/frame"), "12345").unwrap();
        std::os::unix::fs::symlink("team/frame", mount.path().join("segments/alias")).unwrap();

        let listing = read(mount.path()).unwrap();
        let names: Vec<&Path> = listing.mailboxes.iter().map(|mailbox| mailbox.name.as_ref()).collect();
        assert_eq!(names, ["jobs", "team/a"].map(Path::new));
        let jobs = &listing.mailboxes[0];
        assert_eq!((jobs.status.number("depth"), jobs.status.number("sent")), (Some(3), Some(5)));
        assert!(jobs.file.is_some() && listing.mailboxes[1].file.is_none());
        assert_eq!(listing.topics[0].status.number("readers"), Some(2));
        assert_eq!(listing.segments.len(), 1);
        assert_eq!(
            (listing.segments[0].name.as_ref(), listing.segments[0].size),
            (Path::new("team/frame"), 5)
        );
        assert_eq!(listing.unreadable, 0);
    }
}
