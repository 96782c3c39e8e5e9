//! Reading for others than the receiver: for who asks, and for nobody.

use std::io;

use crate::driver::Received;
use crate::error::ConnectionLost;
use crate::sockets::connection::flags::Flags;
use crate::sockets::connection::{Connection, Ending, READS_PER_TURN};

impl Connection {
    /// Reads what is there into the caller's memory.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ending.get() != Ending::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.flags.has(Flags::READ_ENDED) || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.ask(|socket| socket.receive(buffer)) {
                // There may be more, of which no edge will tell: the end, too, is for the receiver.
                Ok(Received { count, .. }) => {
                    self.flags.add(Flags::READABLE);
                    if self.is_reading() {
                        self.mark_again();
                    }
                    return Ok(count);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        self.flags.remove(Flags::READABLE);
                        return Err(error);
                    }
                    kind => {
                        self.doom(ConnectionLost::Io(error));
                        return Err(kind.into());
                    }
                },
            }
        }
    }

    /// Throws away what the peer sends while the rest is being sent to it: one that reads
    /// only when it has written everything would otherwise wait for us, and we for it.
    #[cold]
    #[inline(never)]
    pub(super) fn discard(&self) {
        if !self.flags.has(Flags::READABLE) || self.flags.has(Flags::READ_ENDED) {
            return;
        }
        // Nobody takes them any more, and too many would end the connection before its rest is sent.
        if let Some(socket) = self.socket.borrow().as_ref() {
            socket.refuse_descriptors();
        }
        let mut buffer = self.core.buffers.take_for_reading();
        for _ in 0..READS_PER_TURN {
            let received = match self.socket.borrow().as_ref() {
                Some(socket) => socket.receive(&mut buffer),
                None => break,
            };
            match received {
                Ok(Received { count: 0, .. }) => self.flags.add(Flags::READ_ENDED),
                Ok(_) => continue,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.flags.remove(Flags::READABLE),
                    io::ErrorKind::Interrupted => continue,
                    _ => self.doom(ConnectionLost::Io(error)),
                },
            }
            break;
        }
        self.core.buffers.return_from_reading(buffer);
        let goes_on = self.flags.has(Flags::READABLE) && !self.flags.has(Flags::READ_ENDED);
        if goes_on && self.ending.get() == Ending::Closing {
            self.mark_again();
        }
    }
}
