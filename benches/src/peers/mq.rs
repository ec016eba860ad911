//! A POSIX message queue, as long as it may be: `run` raises `/proc/sys/fs/mqueue/` where it may, and each process has
//! a limit of bytes in such queues, which only `CAP_SYS_RESOURCE` raises.

use anyhow::{Context as _, Result};
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_getattr, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Address, Receiver, Sender};

/// As many messages as a pipe would hold, but at least these.
const BYTES: usize = 65_536;
const FEWEST: usize = 16;

/// What the kernel counts for a message beside its bytes, rounded up.
const OVERHEAD: usize = 64;

/// Queues that one case has at once.
const QUEUES: usize = 2;

fn bound(name: &str, default: usize) -> usize {
    std::fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(default)
}

/// Messages of that size that a queue can hold here.
fn capacity(size: usize) -> Result<usize, String> {
    let unlimited = Rlimit { current: None, maximum: None };
    // The kernel says no to all but root; then it stays as it is.
    let _ = setrlimit(Resource::Msgqueue, unlimited);
    let most = bound("msgsize_max", 8192);
    if size > most {
        return Err(format!("fs.mqueue.msgsize_max is {most}"));
    }
    let bytes = getrlimit(Resource::Msgqueue).current.map_or(usize::MAX, |bytes| bytes as usize);
    let wanted = (BYTES / size).max(FEWEST).min(bound("msg_max", 10));
    match (bytes / QUEUES / (size + OVERHEAD)).min(wanted) {
        0 => Err(format!("`ulimit -q` is {bytes} bytes for all queues, and this user cannot raise it")),
        messages => Ok(messages),
    }
}

/// Why there can be no queue of messages that large.
pub(super) fn unfit(size: usize) -> Option<String> {
    capacity(size).err()
}

pub(super) fn make(name: &str, size: usize) -> Result<Address> {
    let messages = capacity(size).map_err(anyhow::Error::msg)?;
    let _ = mq_unlink(name);
    let attr = MqAttr::new(0, messages as i64, size as i64, 0);
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
    let queue = mq_open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attr))
        .with_context(|| format!("making a message queue of {messages} times {size} bytes"))?;
    mq_close(queue).context("closing a message queue")?;
    Ok(Address::Mq(name.to_owned()))
}

pub(super) fn remove(name: &str) {
    let _ = mq_unlink(name);
}

pub(super) struct Queue {
    /// There until it is dropped.
    queue: Option<MqdT>,
    buffer: Vec<u8>,
}

impl Queue {
    pub(super) fn open(name: &str) -> Result<Queue> {
        let queue =
            mq_open(name, MQ_OFlag::O_RDWR, Mode::empty(), None).context("opening a message queue")?;
        let size = mq_getattr(&queue).context("asking a message queue")?.msgsize();
        Ok(Queue { queue: Some(queue), buffer: vec![0; size as usize] })
    }
}

impl Sender for Queue {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let queue = self.queue.as_ref().context("closed")?;
        mq_send(queue, message, 0).context("sending to a message queue")
    }
}

impl Receiver for Queue {
    fn receive(&mut self) -> Result<&[u8]> {
        let queue = self.queue.as_ref().context("closed")?;
        let length = mq_receive(queue, &mut self.buffer, &mut 0).context("receiving from a message queue")?;
        Ok(&self.buffer[..length])
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            let _ = mq_close(queue);
        }
    }
}
