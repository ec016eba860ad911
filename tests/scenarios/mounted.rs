//! Scenarios through a real mount: the clients who wait are `cat`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ipcfs::op::Error;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::common::{self, Mount};
use super::harness::{Client, Harness, MEMORY, Mode, Open, Outcome, Stat};

/// A mount, and those who use it.
pub struct Mounted {
    files: Vec<Option<File>>,
    clients: Vec<Option<Child>>,
    mount: Mount,
}

impl Mounted {
    pub fn new() -> Option<Mounted> {
        let mount = common::mount_with(&[&format!("--memory={MEMORY}")])?;
        Some(Mounted { files: Vec::new(), clients: Vec::new(), mount })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.mount.path(path)
    }

    fn client(&mut self, child: Child) -> Client {
        self.clients.push(Some(child));
        Client(self.clients.len() - 1)
    }

    fn file(&mut self, open: Open) -> &mut File {
        self.files[open.0].as_mut().expect("open")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for client in self.clients.iter_mut().flatten() {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

/// The numbers that scenarios meet, in the tree's words.
const NUMBERS: [(Errno, Error); 13] = [
    (Errno::AGAIN, Error::WouldWait),
    (Errno::INTR, Error::Interrupted),
    (Errno::IDRM, Error::Removed),
    (Errno::MSGSIZE, Error::TooLong),
    (Errno::NOSPC, Error::NoSpace),
    (Errno::NOENT, Error::NotFound),
    (Errno::NOTEMPTY, Error::NotEmpty),
    (Errno::XDEV, Error::OtherKind),
    (Errno::INVAL, Error::Invalid),
    (Errno::RANGE, Error::Range),
    (Errno::PERM, Error::NotPermitted),
    (Errno::EXIST, Error::Exists),
    (Errno::SPIPE, Error::NotSupported),
];

fn word(error: &io::Error) -> Error {
    let errno = Errno::from_io_error(error);
    let found = NUMBERS.iter().find(|(number, _)| Some(*number) == errno);
    found.unwrap_or_else(|| panic!("no scenario meets this: {error}")).1
}

fn outcome<T>(result: io::Result<T>) -> Outcome<T> {
    result.map_err(|error| word(&error))
}

impl Harness for Mounted {
    fn make_folder(&mut self, path: &str) -> Outcome<()> {
        outcome(fs::create_dir(self.path(path)))
    }

    fn create(&mut self, path: &str) -> Outcome<()> {
        outcome(OpenOptions::new().write(true).create_new(true).open(self.path(path)).map(drop))
    }

    fn remove(&mut self, path: &str) -> Outcome<()> {
        outcome(fs::remove_file(self.path(path)))
    }

    fn remove_folder(&mut self, path: &str) -> Outcome<()> {
        outcome(fs::remove_dir(self.path(path)))
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome<()> {
        outcome(fs::rename(self.path(from), self.path(to)))
    }

    fn list(&mut self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn stat(&mut self, path: &str) -> Outcome<Stat> {
        let meta = outcome(fs::metadata(self.path(path)))?;
        Ok(Stat { ino: meta.ino(), size: meta.size(), blocks: meta.blocks() })
    }

    fn truncate(&mut self, path: &str, size: u64) -> Outcome<()> {
        let path = self.path(path);
        outcome(OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(size)))
    }

    fn open(&mut self, path: &str, mode: Mode) -> Outcome<Open> {
        let mut options = OpenOptions::new();
        options.read(mode != Mode::Send).write(mode != Mode::Receive).custom_flags(libc::O_NONBLOCK);
        let file = outcome(options.open(self.path(path)))?;
        self.files.push(Some(file));
        Ok(Open(self.files.len() - 1))
    }

    fn close(&mut self, open: Open) {
        self.files[open.0].take().expect("open");
    }

    fn write(&mut self, open: Open, bytes: &[u8]) -> Outcome<usize> {
        outcome(self.file(open).write(bytes))
    }

    fn read(&mut self, open: Open, size: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; size];
        let count = outcome(self.file(open).read(&mut bytes))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn seek(&mut self, open: Open, position: u64) -> Outcome<()> {
        outcome(self.file(open).seek(SeekFrom::Start(position)).map(drop))
    }

    fn sender(&mut self, path: &str, bytes: &[u8]) -> Client {
        let to = OpenOptions::new().write(true).truncate(true).open(self.path(path)).unwrap();
        // dd writes all it was given in one piece.
        let mut command = Command::new("dd");
        command.args(["bs=1M", "iflag=fullblock", "status=none"]).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(to).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        self.client(child)
    }

    fn receiver(&mut self, path: &str) -> Client {
        let mut command = Command::new("cat");
        command.arg(self.path(path)).env("LC_ALL", "C").stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.client(child)
    }

    fn interrupt(&mut self, client: Client) {
        let id = self.clients[client.0].as_ref().unwrap().id();
        kill_process(Pid::from_raw(id as i32).unwrap(), Signal::INT).unwrap();
    }

    fn outcome(&mut self, client: Client) -> Outcome<Vec<u8>> {
        let out = common::output(self.clients[client.0].take().unwrap());
        if out.status.success() {
            return Ok(out.stdout);
        }
        if out.status.signal() == Some(Signal::INT.as_raw()) {
            return Err(Error::Interrupted);
        }
        let said = String::from_utf8(out.stderr).unwrap();
        let found = NUMBERS.iter().find(|(number, _)| {
            let text = io::Error::from(*number).to_string();
            text.split(" (os error").next().is_some_and(|text| said.trim_end().ends_with(text))
        });
        Err(found.unwrap_or_else(|| panic!("{said}")).1)
    }

    fn expect_figure(&mut self, status: &str, key: &str, wanted: u64) {
        common::wait_for(&format!("{key} of {status} to be {wanted}"), || {
            self.mount.figure(status, key) == wanted
        });
    }

    fn configure(&mut self, path: &str, value: &str) -> Outcome<()> {
        outcome(fs::write(self.path("control").join(path), value))
    }

    fn show(&mut self, path: &str) -> String {
        fs::read_to_string(self.path("control").join(path)).unwrap()
    }
}
