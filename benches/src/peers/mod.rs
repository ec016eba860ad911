//! Ways to pass messages between processes, one file each, behind two small traits.

mod fifo;
mod folder;
mod mailbox;
mod mq;
mod nats;
mod redis_list;
mod redis_stream;
mod socket;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use socket::pair as socket_pair;

/// An end into which messages are put.
pub trait Sender {
    fn send(&mut self, message: &[u8]) -> Result<()>;
}

/// An end from which messages are taken. It waits until there is one.
pub trait Receiver: Send {
    fn receive(&mut self) -> Result<&[u8]>;
}

/// Both ends, held by one process.
pub type Ends = (Box<dyn Sender>, Box<dyn Receiver>);

/// Where a channel is: all that another process needs to open an end of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// A named pipe.
    Fifo(PathBuf),
    /// A POSIX message queue, by its name.
    Mq(String),
    /// A pair of SEQPACKET sockets; a process finds its end on standard input.
    Socket,
    /// A list of Redis, by the server's port and its key.
    RedisList(u16, String),
    /// A stream of Redis, by the server's port and its key.
    RedisStream(u16, String),
    /// A stream of NATS, by the server's port and its name.
    Nats(u16, String),
    /// A directory, a file for each message.
    Folder(PathBuf),
    /// A mailbox of ipcfs, or the one file of the null FUSE server.
    Mailbox(PathBuf),
}

impl Address {
    pub fn sender(&self) -> Result<Box<dyn Sender>> {
        Ok(match self {
            Address::Fifo(path) => Box::new(fifo::Writer::open(path)?),
            Address::Mq(name) => Box::new(mq::Queue::open(name)?),
            Address::Socket => Box::new(socket::End::inherited()?),
            Address::RedisList(port, key) => Box::new(redis_list::List::open(*port, key)?),
            Address::RedisStream(port, key) => Box::new(redis_stream::Stream::open(*port, key)?),
            Address::Nats(port, name) => Box::new(nats::Publisher::open(*port, name)?),
            Address::Folder(path) => Box::new(folder::Writer::open(path)),
            Address::Mailbox(path) => Box::new(mailbox::Writer::open(path)?),
        })
    }

    /// A receiver of messages of at most `size` bytes.
    pub fn receiver(&self, size: usize) -> Result<Box<dyn Receiver>> {
        Ok(match self {
            Address::Fifo(path) => Box::new(fifo::Reader::open(path, size)?),
            Address::Mq(name) => Box::new(mq::Queue::open(name)?),
            Address::Socket => Box::new(socket::End::inherited()?),
            Address::RedisList(port, key) => Box::new(redis_list::List::open(*port, key)?),
            Address::RedisStream(port, key) => Box::new(redis_stream::Stream::open(*port, key)?),
            Address::Nats(port, name) => nats::receiver(*port, name)?,
            Address::Folder(path) => Box::new(folder::Reader::open(path)?),
            Address::Mailbox(path) => Box::new(mailbox::Reader::open(path, size)?),
        })
    }

    /// A receiver that waits most of the time: a mailbox is opened as `cat` opens it.
    pub fn waiter(&self, size: usize) -> Result<Box<dyn Receiver>> {
        match self {
            Address::Mailbox(path) => Ok(Box::new(mailbox::Reader::open_to_read(path, size)?)),
            _ => self.receiver(size),
        }
    }

    /// Both ends in one process.
    pub fn ends(&self, size: usize) -> Result<Ends> {
        match self {
            Address::Socket => {
                let (a, b) = socket_pair(size)?;
                Ok((Box::new(socket::End::of(a)), Box::new(socket::End::of(b))))
            }
            _ => Ok((self.sender()?, self.receiver(size)?)),
        }
    }

    /// Removes the channel; what is gone already is as good.
    fn remove(&self) {
        match self {
            Address::Fifo(path) | Address::Mailbox(path) => drop(std::fs::remove_file(path)),
            Address::Folder(path) => drop(std::fs::remove_dir_all(path)),
            Address::Mq(name) => mq::remove(name),
            Address::RedisList(port, key) | Address::RedisStream(port, key) => redis_list::remove(*port, key),
            Address::Nats(port, name) => nats::remove(*port, name),
            Address::Socket => {}
        }
    }
}

/// A channel that was made, and is removed when this is dropped.
pub struct Channel {
    pub address: Address,
    /// A socket's two ends, for those who have no name to open: the senders' and the receivers'.
    pub ends: Option<(OwnedFd, OwnedFd)>,
    /// Whether it stays when this is dropped.
    kept: bool,
}

impl Channel {
    fn at(address: Address) -> Channel {
        Channel { address, ends: None, kept: false }
    }

    /// A new mailbox at this path.
    pub fn mailbox(path: PathBuf) -> Result<Channel> {
        mailbox::make(path).map(Channel::at)
    }

    /// A new stream of NATS that is kept in files.
    pub fn nats_file(port: u16, name: &str) -> Result<Channel> {
        nats::make_in_files(port, name).map(Channel::at)
    }

    /// A sender in this process.
    pub fn sender(&self) -> Result<Box<dyn Sender>> {
        match &self.ends {
            Some((end, _)) => Ok(Box::new(socket::End::of(end.try_clone()?))),
            None => self.address.sender(),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if !self.kept {
            self.address.remove();
        }
    }
}

/// What is asked of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of a message.
    pub size: usize,
    /// More than one sender or receiver.
    pub shared: bool,
    /// One process sends and receives: a message must fit before it is received.
    pub alone: bool,
    /// Opened for each message.
    pub opened_each: bool,
}

impl Shape {
    /// Two processes, each with its end.
    pub fn two(size: usize) -> Shape {
        Shape { size, shared: false, alone: false, opened_each: false }
    }
}

/// The kinds of peers, with what makes a channel of each.
#[derive(Debug, Clone)]
pub enum Kind {
    Fifo(PathBuf),
    Mq,
    Socket,
    RedisList(u16),
    RedisStream(u16),
    Nats(u16),
    /// By its port: used as ipcfs uses it.
    NatsOneByOne(u16),
    /// The folder in which the queues are.
    Folder(PathBuf),
    /// The folder `mailboxes/` of a mount.
    Mailbox(PathBuf),
    /// The file of a null FUSE server.
    Null(PathBuf),
}

/// One who can pass messages.
#[derive(Debug, Clone)]
pub struct Peer {
    /// As in the JSON.
    pub id: &'static str,
    pub kind: Kind,
    /// The process behind it, whose memory and CPU time are its cost too.
    pub server: Option<u32>,
}

impl Peer {
    /// Makes an empty channel.
    pub fn make(&self, name: &str, shape: Shape) -> Result<Channel> {
        let name = format!("{name}-{}", std::process::id());
        Ok(match &self.kind {
            Kind::Fifo(dir) => Channel::at(fifo::make(dir.join(name))?),
            Kind::Mq => Channel::at(mq::make(&format!("/ipcfs-bench-{name}"), shape.size)?),
            Kind::Socket => {
                let ends = socket_pair(shape.size)?;
                Channel { address: Address::Socket, ends: Some(ends), kept: false }
            }
            Kind::RedisList(port) => Channel::at(Address::RedisList(*port, name)),
            Kind::RedisStream(port) => Channel::at(redis_stream::make(*port, name)?),
            Kind::Nats(port) => Channel::at(nats::make(*port, &name, shape.shared)?),
            Kind::NatsOneByOne(port) => Channel::at(nats::make_one_by_one(*port, &name)?),
            Kind::Folder(dir) => Channel::at(folder::make(dir.join(name))?),
            Kind::Mailbox(dir) => Channel::at(mailbox::make(dir.join(name))?),
            Kind::Null(file) => Channel { address: Address::Mailbox(file.clone()), ends: None, kept: true },
        })
    }

    /// Why it cannot do this, if it cannot.
    pub fn unfit(&self, shape: Shape) -> Option<String> {
        match self.kind {
            Kind::Fifo(_) if shape.alone && shape.size > 65_536 => {
                Some("a pipe holds 64 KiB: one process alone would wait for itself".into())
            }
            Kind::Fifo(_) if shape.shared && shape.size > 4096 => {
                Some("a pipe mixes writes of more than 4,096 bytes".into())
            }
            Kind::Socket if shape.opened_each => Some("needs a connection accepted for each message".into()),
            Kind::Nats(_) if shape.opened_each => Some("needs a session set up for each message".into()),
            Kind::Mq => mq::unfit(shape.size),
            _ => None,
        }
    }

    /// A mailbox of ipcfs?
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Mailbox(_))
    }
}

/// The peer that does a case's work in the plainest way, and that others are measured by.
pub fn yardstick(case: &str) -> &'static str {
    match case {
        "segments" => "shm",
        "durable-stores" => "journal",
        "durable" => "ipcfs-uring-fsync",
        "hosts" => "async-nats",
        _ => "fifo",
    }
}

/// A peer's name for people, by the one in the JSON.
pub fn name(id: &str) -> &str {
    match id {
        "ipcfs-dev" => "ipcfs, /dev/fuse",
        "ipcfs-uring" => "ipcfs, io_uring",
        "null-dev" => "null FUSE, /dev/fuse",
        "null-uring" => "null FUSE, io_uring",
        "fifo" => "FIFO",
        "mq" => "POSIX queue",
        "socket" => "SEQPACKET socket",
        "redis-list" => "Redis list",
        "redis-stream" => "Redis stream",
        "nats" => "NATS JetStream",
        "folder" => "directory",
        "shm" => "/dev/shm",
        "ipcfs-passthrough" => "ipcfs, passthrough",
        "ipcfs-cached" => "ipcfs, cached",
        "ipcfs-mailbox" => "mailbox",
        "ipcfs-doorbell" => "segment, doorbell",
        "ipcfs-futex" => "segment, futex",
        "ipcfs-uring-fsync" => "ipcfs fsync, io_uring",
        "ipcfs-dev-fsync" => "ipcfs fsync, /dev/fuse",
        "ipcfs-uring-daemon" => "ipcfs daemon, io_uring",
        "ipcfs-uring-off" => "ipcfs off, io_uring",
        "async-nats" => "async-nats alone",
        "redis-always" => "Redis, always",
        "nats-always" => "JetStream, always",
        "beanstalkd-always" => "beanstalkd -f 0",
        "litequeue-full" => "litequeue, FULL",
        other => other,
    }
}
