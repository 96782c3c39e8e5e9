//! How long who asks a server waits for a byte: one that was lost never comes, and the run is to fail, not to hang.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::{Result, Server};

/// No server that does its work is silent for so long, whatever else the machine does.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Waits for events, which are all that are in the list then.
///
/// # Errors
///
/// If none comes for `silence_max`.
pub fn wait(poll: impl AsFd, events: &mut Vec<epoll::Event>, silence_max: Duration) -> Result<()> {
    events.clear();
    let limit = Timespec::try_from(silence_max)?;
    if epoll::wait(poll, spare_capacity(events), Some(&limit))? == 0 {
        return Err(format!("nothing came for {silence_max:?}: something is lost").into());
    }
    Ok(())
}

impl Server {
    /// A connection to it that blocks; a read of which nothing comes for [`SILENCE_MAX`] is an error.
    ///
    /// # Errors
    ///
    /// If it does not listen.
    pub fn connect(&self) -> Result<TcpStream> {
        let socket = TcpStream::connect(self.address())?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}
