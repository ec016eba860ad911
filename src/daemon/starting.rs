//! Setting rings up, if they are wanted and possible; starting threads.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};

use log::{info, warn};

use super::end::End;
use crate::config::{Config, TransportKind};
use crate::journal::{JOURNAL_THREAD, Journal};
use crate::kernel::dev;
use crate::kernel::read_buffer::ReadBuffer;
use crate::kernel::rings::{self, Rings, Started};
use crate::kernel::run_policy::{RunPolicy, keeps_callers};
use crate::kernel::session::{MountError, Mounted};
use crate::kernel::transport::{Alarm, Transport};
use crate::sys::heap;

/// Bytes of memory that rings must leave: for the handshake's buffer of 16 MiB, and for the other threads.
const ROOM_BESIDE_RINGS: usize = 32 << 20;

/// Bytes of memory for the ring of one CPU: its entries, and the stack of its thread.
const ROOM_OF_RING: usize = 40 << 20;

/// Most bytes for messages that are looked for: a request for all memory of the machine could fail without need.
const MOST_ROOM_FOR_MESSAGES: u64 = 512 << 20;

pub(super) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Rings, if they are wanted and possible; otherwise, for `control/status`, why they are not used although possible.
pub(super) fn make_rings(config: &Config) -> Result<(Option<Rings>, Option<Arc<RunPolicy>>), MountError> {
    let wanted = config.transport;
    if wanted == TransportKind::Dev {
        return Ok((None, None));
    }
    if wanted == TransportKind::Auto
        && rings::obstacle().is_none()
        && let Err(why) = keeps_callers(config.own_session)
    {
        info!("requests come over /dev/fuse, which is quicker here: {why}");
        return Ok((None, Some(Arc::new(RunPolicy::not_used(why)))));
    }
    // Checked first, because the memory of rings is never unmapped.
    let messages = config.limits.memory.min(MOST_ROOM_FOR_MESSAGES) as usize;
    let room = ROOM_BESIDE_RINGS + ROOM_OF_RING * cpus() + 2 * messages;
    let made = if heap::has_room(room) {
        Rings::make().map_err(|why| why.to_string())
    } else {
        Err(String::from(
            "io_uring cannot be set up: the limits of this process leave too little memory for it",
        ))
    };
    match made {
        Ok(rings) => Ok((Some(rings), None)),
        Err(why) if wanted == TransportKind::Uring => Err(MountError::NoRings(why)),
        Err(why) => {
            info!("requests come over /dev/fuse: {why}");
            Ok((None, None))
        }
    }
}

/// Starts the rings, if the kernel has agreed to use them.
pub(super) fn start_rings(
    wanted: TransportKind,
    mounted: &Mounted,
    rings: Option<Rings>,
) -> Result<Option<Started>, MountError> {
    let Some(rings) = rings else { return Ok(None) };
    let started = if mounted.takes_rings() {
        rings.start(mounted.device())
    } else {
        Err(String::from("the kernel does not offer it to this mount"))
    };
    match started {
        Ok(started) => Ok(Some(started)),
        Err(why) if wanted == TransportKind::Uring => {
            mounted.unmount();
            Err(MountError::NoRings(why))
        }
        Err(why) => {
            warn!("requests come over /dev/fuse: {why}");
            Ok(None)
        }
    }
}

/// Starts the threads of the journal, if there is one. Returns the one that must be waited for.
pub(super) fn start_journal(
    transport: &Arc<Transport>,
    journal: Option<&Arc<Journal>>,
) -> io::Result<Option<JoinHandle<()>>> {
    let Some(_) = journal else { return Ok(None) };
    let thread = || thread::Builder::new().name(String::from(JOURNAL_THREAD));
    let writer = Arc::clone(transport);
    thread().spawn(move || writer.run_journal_writer())?;
    let transport = Arc::clone(transport);
    thread().spawn(move || transport.run_journal()).map(Some)
}

/// Starts the threads that read the device. They read into `buffers`, as far as there are some.
pub(super) fn start_readers(
    transport: &Arc<Transport>,
    count: usize,
    buffers: Vec<ReadBuffer>,
    ends: &Sender<End>,
) -> io::Result<()> {
    let mut buffers = buffers.into_iter();
    for index in 0..count {
        let (transport, ends, buffer) = (Arc::clone(transport), ends.clone(), buffers.next());
        thread::Builder::new()
            .name(format!("serve-{index}"))
            .spawn(move || report_end(&ends, dev::serve(&transport, index, buffer)))?;
    }
    Ok(())
}

/// Reports that a serving thread has ended.
pub(super) fn report_end(ends: &Sender<End>, end: io::Result<()>) {
    // Fails only if the mount is ending already.
    let _ = ends.send(end.map_or_else(End::Failed, |()| End::Unmounted));
}

/// Starts the threads of the clock and of what takes long.
pub(super) fn start_clock(
    transport: &Arc<Transport>,
    alarms: Receiver<Alarm>,
    policy: Option<Arc<RunPolicy>>,
) -> io::Result<()> {
    let worker = Arc::clone(transport);
    thread::Builder::new().name(String::from("work")).spawn(move || {
        worker.run_work(policy.as_deref());
    })?;
    let transport = Arc::clone(transport);
    thread::Builder::new().name(String::from("clock")).spawn(move || transport.run_timer(&alarms))?;
    Ok(())
}
