//! A host's socket for datagrams, as its reactor holds it.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use crate::address::Address;
use crate::driver::{DatagramSocket, Watching};
use crate::remains::crashed;
use crate::slab::Token;
use crate::sockets::SocketOption;
use crate::udp::{DatagramOption, MulticastGroup};

use super::network::udp::RECEIVE_BUFFER;
use super::network::{HostId, Network};
use super::world::World;

pub(super) struct HostDatagrams {
    pub(super) id: Token,
    pub(super) network: Rc<RefCell<Network>>,
    pub(super) dead: Rc<Cell<bool>>,
    pub(super) peer: Cell<Option<SocketAddr>>,
    /// Known also when the host has crashed.
    pub(super) address: Cell<SocketAddr>,
    pub(super) host: HostId,
    pub(super) world: Weak<World>,
}

impl HostDatagrams {
    fn living<T>(&self, act: impl FnOnce(&mut Network) -> io::Result<T>) -> io::Result<T> {
        if self.dead.get() {
            return Err(crashed());
        }
        act(&mut self.network.borrow_mut())
    }
}

fn ip_address(address: &Address) -> io::Result<SocketAddr> {
    match address {
        Address::Udp(address) => Ok(*address),
        _ => Err(ErrorKind::Unsupported.into()),
    }
}

impl DatagramSocket for HostDatagrams {
    fn watch(&self, token: Token) -> io::Result<Watching> {
        self.living(|network| {
            network.watch_udp(self.id, token);
            Ok(Watching::Edges)
        })
    }

    fn local_address(&self) -> io::Result<Address> {
        if !self.dead.get() {
            self.address
                .set(self.network.borrow().udp_address(self.id)?);
        }
        Ok(Address::Udp(self.address.get()))
    }

    fn peer(&self) -> Option<Address> {
        self.peer.get().map(Address::Udp)
    }

    fn receive(&self, buffer: &mut [u8], from: &mut Address) -> io::Result<usize> {
        if self.dead.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (length, sender) = self.network.borrow_mut().receive_udp(self.id, buffer)?;
        *from = Address::Udp(sender);
        Ok(length)
    }

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()> {
        let to = to.map(ip_address).transpose()?;
        if let Some(world) = self.world.upgrade().filter(|_| !self.dead.get()) {
            world.about_to_write(self.host);
        }
        if self.dead.get() {
            // Into the void: nobody may hear that the machine has crashed.
            return Ok(());
        }
        self.network.borrow_mut().send_udp(self.id, data, to)
    }

    fn connect(&self, peer: Option<&Address>) -> io::Result<()> {
        let peer = peer.map(ip_address).transpose()?;
        if !self.dead.get() {
            self.network.borrow_mut().connect_udp(self.id, peer)?;
        }
        self.peer.set(peer);
        Ok(())
    }

    fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        match option {
            SocketOption::NoDelay(_)
            | SocketOption::KeepAlive(_)
            | SocketOption::ResetOnClose(_)
            | SocketOption::QuickAck(_) => Err(ErrorKind::Unsupported.into()),
            // The others change nothing that a program could see here.
            _ => Ok(()),
        }
    }

    fn set_datagram_option(&self, option: DatagramOption) -> io::Result<()> {
        if self.dead.get() {
            return Ok(());
        }
        self.network.borrow_mut().set_udp_option(self.id, option)
    }

    fn set_membership(&self, group: &MulticastGroup, member: bool) -> io::Result<()> {
        if self.dead.get() {
            return Ok(());
        }
        self.network
            .borrow_mut()
            .set_membership(self.id, group, member)
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        Ok((super::lane::SEND_BUFFER, RECEIVE_BUFFER))
    }
}

impl Drop for HostDatagrams {
    fn drop(&mut self) {
        if !self.dead.get() {
            self.network.borrow_mut().close_udp(self.id);
        }
    }
}
