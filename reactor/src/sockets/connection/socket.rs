//! What a connection stands on: addresses, options, descriptors.

use std::io;
use std::os::fd::OwnedFd;

use crate::address::Address;
use crate::error::ConnectionLost;
use crate::reactor::Reactor;
use crate::sockets::connection::flags::Flags;
use crate::sockets::connection::{Connection, Ending};
use crate::sockets::{KeepAlive, SocketOption};
use crate::stream::Socket;
use crate::unix::PeerCredentials;

impl Socket for Connection {
    fn peer(&self) -> Address {
        self.peer.clone()
    }

    fn host(&self) -> Address {
        Address::clone(self.local_address())
    }

    fn reactor(&self) -> Reactor {
        Reactor::of(&self.core)
    }

    fn session_number(&self) -> u64 {
        self.number
    }

    fn set_nodelay(&self, on: bool) {
        let outcome = self
            .socket
            .borrow()
            .as_ref()
            .map(|socket| socket.set_option(&SocketOption::NoDelay(on)));
        match outcome {
            Some(Err(error)) if error.kind() != io::ErrorKind::Unsupported => {
                self.doom(ConnectionLost::Io(error));
            }
            _ => {}
        }
    }

    fn set_background(&self, on: bool) {
        self.flags.replace(Flags::BACKGROUND, on);
    }

    fn set_option(&self, option: SocketOption) -> io::Result<()> {
        self.ask(|socket| socket.set_option(&option))
    }

    fn nodelay(&self) -> io::Result<bool> {
        self.ask(|socket| socket.nodelay())
    }

    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        self.ask(|socket| socket.keep_alive())
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        self.ask(|socket| socket.buffer_sizes())
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        self.ask(|socket| socket.unacknowledged())
    }

    fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        self.ask(|socket| socket.peer_credentials())
    }

    fn accept_descriptors(&self, unclaimed_max: usize) -> io::Result<()> {
        self.ask(|socket| socket.accept_descriptors(unclaimed_max))
    }

    fn take_descriptor(&self) -> Option<OwnedFd> {
        self.socket.borrow().as_ref()?.take_descriptor()
    }

    fn send_descriptor(&self, fd: OwnedFd) -> Result<(), OwnedFd> {
        let can_be_sent = match self.socket.borrow().as_ref() {
            Some(socket) => socket.takes_descriptors(),
            None => false,
        };
        if !can_be_sent || self.ending.get() != Ending::Open || self.flags.has(Flags::WRITE_ENDING)
        {
            return Err(fd);
        }
        let buffered = self.outgoing.borrow().len();
        let mut rarities = self.rarities.borrow_mut();
        let attachments = &mut rarities.get_or_insert_default().attachments;
        attachments.push_descriptor(buffered, fd)?;
        self.flags.add(Flags::ATTACHED);
        Ok(())
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        self.ask(|socket| socket.duplicate())
    }
}
