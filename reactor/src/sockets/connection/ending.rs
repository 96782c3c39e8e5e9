//! The end of a connection: what becomes of its socket, and who is told.

use std::net::Shutdown;

use crate::driver::StreamSocket;
use crate::error::{ConnectionLost, NotFlushed};
use crate::flow::Limits;
use crate::panics;
use crate::sockets::connection::flags::Flags;
use crate::sockets::connection::{Connection, Ending};
use crate::sockets::linger;

impl Connection {
    /// The end: leaves the reactor, closes the socket, tells the receiver.
    pub(super) fn lose(&self) {
        let in_order = self.ending.replace(Ending::Lost) == Ending::Closing;
        // A stream that is cut off must not look complete to the peer.
        let cut_off = !in_order && !self.is_flushed();
        let mut rarities = self.rarities.take();
        let reason = self
            .reason
            .take()
            .map_or(ConnectionLost::Done, |reason| *reason);
        // The address is to be known after the end, too.
        let _ = self.local_address();
        if let Some(rarities) = rarities.as_mut() {
            let limits = [rarities.flush_limit.take(), rarities.excess_limit.take()];
            for limit in limits.into_iter().flatten() {
                limit.cancel();
            }
        }
        // Closing a socket with unread bytes, or one that still gets some, makes the system
        // throw away what the peer has not acknowledged.
        match self.socket.take() {
            Some(socket) if in_order && !self.is_delivered(&*socket) => {
                let limits = rarities
                    .as_ref()
                    .map_or_else(Limits::default, |rarities| rarities.limits);
                linger::until_delivered(&self.core, self.token, socket, limits.linger);
            }
            socket => {
                self.core.remove_source(self.token);
                if let Some(socket) = socket {
                    self.part_with(&*socket, cut_off, &reason);
                }
            }
        }
        let unsent = self.outgoing.borrow_mut().take_buffer();
        self.core.buffers.return_from_writing(unsent);
        // Detach, then call: the receiver is gone from here when it hears of it.
        match self.receiver.take() {
            // The panic has been reported; there is no connection left to lose.
            Some(receiver) => drop(panics::catch(|| receiver.connection_lost(reason))),
            // Kept for the first receiver.
            None => self.reason.set(Some(Box::new(reason))),
        }
        // Order: what a protocol tied to its connection was cancelled by the end.
        for flush in rarities.into_iter().flat_map(|rarities| rarities.flushes) {
            flush.trigger.errback(NotFlushed);
        }
    }

    /// What a socket is told before it is closed at once.
    fn part_with(&self, socket: &dyn StreamSocket, cut_off: bool, reason: &ConnectionLost) {
        let aborts = cut_off || matches!(reason, ConnectionLost::Aborted);
        let stops = matches!(reason, ConnectionLost::Stopped);
        match socket.is_shared() {
            false if aborts => socket.reset_on_drop(),
            // The peer is to get the last words: a reset could overtake them.
            false if stops => linger::discard_unread(&self.core, socket),
            false => {}
            // Whoever else has a descriptor of it may go on with it. A reset would be one of their end,
            // too, and who hands it over stops then.
            true if aborts || stops => {}
            // To close one of several descriptors ends nothing. A socket that cannot be shut down is
            // not connected any more.
            true => drop(socket.shutdown(Shutdown::Write)),
        }
    }

    pub(super) fn end_write(&self) {
        let socket = self.socket.borrow();
        let ended = socket.as_ref().map_or(Ok(()), |s| s.end_stream());
        drop(socket);
        if let Err(error) = ended {
            self.doom(ConnectionLost::Io(error));
        }
    }

    fn is_delivered(&self, socket: &dyn StreamSocket) -> bool {
        self.flags.has(Flags::READ_ENDED)
            || (!self.flags.has(Flags::READABLE) && socket.is_delivered())
    }
}
