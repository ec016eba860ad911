//! The words that scenarios are told in.

use ipcfs::op::Error;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Receive,
    Send,
    Both,
}

/// An open file; reads and writes through it never wait.
#[derive(Debug, Clone, Copy)]
pub struct Open(pub usize);

/// A client of its own that sends or receives one message, and waits if it must.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub usize);

/// What stat shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
}

pub type Outcome<T> = Result<T, Error>;

/// Bytes of the mount's memory for messages.
pub const MEMORY: u64 = 2 * 1024 * 1024;

/// Someone who carries out what a scenario says. Paths begin below the mount point.
pub trait Harness {
    fn make_folder(&mut self, path: &str) -> Outcome<()>;
    fn create(&mut self, path: &str) -> Outcome<()>;
    fn remove(&mut self, path: &str) -> Outcome<()>;
    fn remove_folder(&mut self, path: &str) -> Outcome<()>;
    fn rename(&mut self, from: &str, to: &str) -> Outcome<()>;
    /// Names in a folder, sorted.
    fn list(&mut self, path: &str) -> Vec<String>;
    fn stat(&mut self, path: &str) -> Outcome<Stat>;
    fn truncate(&mut self, path: &str, size: u64) -> Outcome<()>;

    fn open(&mut self, path: &str, mode: Mode) -> Outcome<Open>;
    fn close(&mut self, open: Open);
    /// write(2)
    fn write(&mut self, open: Open, bytes: &[u8]) -> Outcome<usize>;
    /// read(2)
    fn read(&mut self, open: Open, size: usize) -> Outcome<Vec<u8>>;
    /// lseek(2) to a position from the beginning.
    fn seek(&mut self, open: Open, position: u64) -> Outcome<()>;

    /// Somebody sends a message, and waits as long as there is no room.
    fn sender(&mut self, path: &str, bytes: &[u8]) -> Client;
    /// Somebody receives a message, and waits until there is one.
    fn receiver(&mut self, path: &str) -> Client;
    /// A signal ends what a client waits for.
    fn interrupt(&mut self, client: Client);
    /// How it went for a client; the message received, or nothing. It must not have to wait any more.
    fn outcome(&mut self, client: Client) -> Outcome<Vec<u8>>;

    /// A number in a status file below `control/`; waits until it is as wanted.
    fn expect_figure(&mut self, status: &str, key: &str, wanted: u64);
    /// Writes a value below `control/`.
    fn configure(&mut self, path: &str, value: &str) -> Outcome<()>;
    /// Reads a file below `control/`.
    fn show(&mut self, path: &str) -> String;

    /// Sends a message that is taken at once.
    fn send(&mut self, path: &str, bytes: &[u8]) {
        let open = self.open(path, Mode::Send).unwrap();
        assert_eq!(self.write(open, bytes), Ok(bytes.len()));
        self.close(open);
    }

    /// Receives the message that waits, or learns that there is none.
    fn receive(&mut self, path: &str) -> Outcome<Vec<u8>> {
        let open = self.open(path, Mode::Receive)?;
        let message = self.read(open, 1 << 20);
        self.close(open);
        message
    }

    /// Waits until so many wait for a mailbox.
    fn expect_waiting(&mut self, mailbox: &str, readers: u64, writers: u64) {
        let status = format!("{mailbox}/status");
        self.expect_figure(&status, "waiting_readers", readers);
        self.expect_figure(&status, "waiting_writers", writers);
    }
}
