//! A host's UNIX socket for datagrams, as its reactor holds it.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::{Rc, Weak};

use crate::address::{Address, UnixAddress};
use crate::driver::{DatagramSocket, Watching};
use crate::remains::crashed;
use crate::slab::Token;
use crate::sockets::SocketOption;

use super::network::unix::SEND_BUFFER;
use super::network::{HostId, Network};
use super::world::World;

pub(super) struct HostUnixDatagrams {
    pub(super) id: Token,
    pub(super) network: Rc<RefCell<Network>>,
    pub(super) dead: Rc<Cell<bool>>,
    pub(super) name: UnixAddress,
    pub(super) peer: RefCell<Option<UnixAddress>>,
    pub(super) host: HostId,
    pub(super) world: Weak<World>,
}

fn unix_address(address: &Address) -> io::Result<&UnixAddress> {
    match address {
        Address::Unix(address) => Ok(address),
        _ => Err(ErrorKind::Unsupported.into()),
    }
}

impl DatagramSocket for HostUnixDatagrams {
    fn watch(&self, token: Token) -> io::Result<Watching> {
        if self.dead.get() {
            return Err(crashed());
        }
        self.network.borrow_mut().watch_unix(self.id, token);
        Ok(Watching::Edges)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Unix(self.name.clone()))
    }

    fn peer(&self) -> Option<Address> {
        self.peer.borrow().clone().map(Address::Unix)
    }

    fn receive(&self, buffer: &mut [u8], from: &mut Address) -> io::Result<usize> {
        if self.dead.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (length, sender) = self.network.borrow_mut().receive_unix(self.id, buffer)?;
        *from = Address::Unix(sender);
        Ok(length)
    }

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()> {
        let to = to.map(unix_address).transpose()?;
        if let Some(world) = self.world.upgrade().filter(|_| !self.dead.get()) {
            world.about_to_write(self.host);
        }
        if self.dead.get() {
            // Into the void: nobody may hear that the machine has crashed.
            return Ok(());
        }
        self.network.borrow_mut().send_unix(self.id, data, to)
    }

    fn tells_of_room(&self, to: Option<&Address>) -> bool {
        // As on Linux.
        to.is_none()
    }

    fn connect(&self, peer: Option<&Address>) -> io::Result<()> {
        let peer = peer.map(unix_address).transpose()?;
        if !self.dead.get() {
            self.network.borrow_mut().connect_unix(self.id, peer)?;
        }
        self.peer.replace(peer.cloned());
        Ok(())
    }

    fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        match option {
            // They change nothing that a program could see here.
            SocketOption::SendBuffer(_) | SocketOption::ReceiveBuffer(_) => Ok(()),
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        Ok((SEND_BUFFER, SEND_BUFFER))
    }
}

impl Drop for HostUnixDatagrams {
    fn drop(&mut self) {
        if !self.dead.get() {
            self.network.borrow_mut().close_unix(self.id);
        }
    }
}
