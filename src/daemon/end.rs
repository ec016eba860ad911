//! Why a mount ends, and how.

use std::io;
use std::sync::mpsc::Sender;

use log::info;

use crate::handover::request::Asked;
use crate::journal::OpenError;
use crate::kernel::session::{MountError, Mounted};
use crate::kernel::transport::Transport;

/// Why mounting or serving failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Mounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The engine cannot be used. Says what to do.
    #[error("{0}")]
    Engine(String),
    /// The store cannot be used.
    #[error("cannot use the store: {0}")]
    Store(OpenError),
    /// A thread or a signal handler could not be set up.
    #[error("cannot start the daemon's threads: {0}")]
    Start(io::Error),
    /// Requests could not be read.
    #[error("the request loop failed: {0}")]
    Serve(io::Error),
    /// What shall be in the mount when it is ready could not be made.
    #[error("{0}")]
    Prepare(String),
    /// A mount could not be taken over. It stays with the process that has it.
    #[error("cannot take the mount over: {0}")]
    TakeOver(io::Error),
}

/// What ends a mount.
pub(super) enum End {
    /// A signal that unmounts.
    Signal(i32),
    /// The kernel sends no more requests: somebody else unmounted or aborted it.
    Unmounted,
    /// Reading requests failed.
    Failed(io::Error),
    /// The mount could not be made ready.
    Unready(String),
    /// It is to be handed over. The next request comes when the sender is dropped.
    Asked(Asked, Sender<()>),
}

/// Ends a mount for that reason.
pub(super) fn finish(ended: End, transport: &Transport, mounted: &Mounted) -> Result<(), Error> {
    match ended {
        End::Unmounted | End::Asked(..) => {
            mounted.unmount();
            info!("unmounted");
        }
        End::Signal(signal) => {
            info!("signal {signal}: unmounting");
            transport.end();
            mounted.unmount();
        }
        End::Failed(error) => {
            transport.end();
            mounted.unmount();
            return Err(Error::Serve(error));
        }
        End::Unready(why) => {
            transport.end();
            mounted.unmount();
            return Err(Error::Prepare(why));
        }
    }
    Ok(())
}
