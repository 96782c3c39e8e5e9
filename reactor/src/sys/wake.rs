//! A descriptor that wakes the loop from any thread, and from signal handlers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// An eventfd, watched for edges.
///
/// Every write is an edge, whether or not anybody reads the counter, so nobody
/// does: a wake-up costs one write and no read. The counter would need 2^64 writes
/// to fill.
#[derive(Clone, Debug)]
pub(crate) struct WakeFd {
    fd: Arc<OwnedFd>,
}

impl WakeFd {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd: Arc::new(fd) })
    }

    pub(crate) fn notify(&self) {
        // It fails only when it is interrupted, or when the counter is full, and then the loop
        // has been woken.
        while rustix::io::write(&self.fd, &1_u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// Forgets the wake-ups so far, for who waits for a level.
    pub(crate) fn calm(&self) {
        // It fails when there were none. One that was interrupted is forgotten the next time.
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
    }

    /// The descriptor, for a signal handler to write to.
    pub(crate) fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
