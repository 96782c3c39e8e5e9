//! The operating system's UDP sockets.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{ipproto, sockopt};

use crate::address::Address;
use crate::descriptor::{Interest, Mode};
use crate::driver::{DatagramSocket, Watching, options};
use crate::slab::Token;
use crate::sockets::SocketOption;
use crate::sys::poller::{Poller, Watched};
use crate::udp::{DatagramOption, DatagramOptions, MulticastGroup, MulticastInterface};

pub(super) fn bind(
    poller: &Rc<Poller>,
    address: SocketAddr,
    asked_for: &DatagramOptions,
) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if asked_for.reuse_port {
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, asked_for.only_v6)?;
    }
    if asked_for.broadcast {
        sockopt::set_socket_broadcast(&fd, true)?;
    }
    let socket = UdpSocket::over(poller, fd, None);
    asked_for
        .options
        .iter()
        .try_for_each(|option| socket.set_option(option))?;
    net::bind(&socket.watched, &address)?;
    Ok(socket)
}

pub(super) struct UdpSocket {
    watched: Watched,
    peer: Cell<Option<SocketAddr>>,
}

impl UdpSocket {
    pub(super) fn over(poller: &Rc<Poller>, fd: OwnedFd, peer: Option<SocketAddr>) -> Self {
        Self {
            watched: Watched::new(fd, Rc::clone(poller)),
            peer: Cell::new(peer),
        }
    }

    fn own_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::try_from(net::getsockname(&self.watched)?)?)
    }

    /// connect(2): to connect to no family is to be connected to nobody. A port that the
    /// system had chosen goes with the connection, so it is taken again.
    fn disconnect(&self) -> io::Result<()> {
        let before = self.own_address()?;
        net::connect_unspec(&self.watched)?;
        if self.own_address()?.port() != before.port() {
            let any = match before {
                SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED),
            };
            net::bind(&self.watched, &SocketAddr::new(any, before.port()))?;
        }
        Ok(())
    }

    fn is_ipv4(&self) -> io::Result<bool> {
        Ok(self.own_address()?.is_ipv4())
    }
}

/// Begins to watch a socket for datagrams.
pub(super) fn watch(watched: &Watched, token: Token) -> io::Result<Watching> {
    if !watched.poller().is_epoll() {
        watched.watch(token)?;
        return Ok(Watching::Edges);
    }
    watched.watch_arrivals(token)?;
    Ok(Watching::Arrivals)
}

/// Watches it in another way.
pub(super) fn watch_as(
    watched: &Watched,
    token: Token,
    watching: Watching,
) -> io::Result<Watching> {
    if !watched.poller().is_epoll() {
        return Ok(Watching::Edges);
    }
    let (interest, mode) = match watching {
        Watching::Edges => (Interest::ReadWrite, Mode::Edge),
        Watching::Arrivals => (Interest::Read, Mode::Level),
    };
    watched.watch_as(token, interest, mode)?;
    Ok(watching)
}

fn ip_address(address: &Address) -> Result<SocketAddr, Errno> {
    match address {
        Address::Udp(address) => Ok(*address),
        _ => Err(Errno::AFNOSUPPORT),
    }
}

impl DatagramSocket for UdpSocket {
    fn watch(&self, token: Token) -> io::Result<Watching> {
        watch(&self.watched, token)
    }

    fn watch_as(&self, token: Token, watching: Watching) -> io::Result<Watching> {
        watch_as(&self.watched, token, watching)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Udp(self.own_address()?))
    }

    fn peer(&self) -> Option<Address> {
        self.peer.get().map(Address::Udp)
    }

    fn receive(&self, buffer: &mut [u8], from: &mut Address) -> io::Result<usize> {
        let (count, _, sender) = net::recvfrom(&self.watched, buffer, RecvFlags::empty())?;
        let sender = sender.ok_or(Errno::AFNOSUPPORT)?;
        *from = Address::Udp(SocketAddr::try_from(sender)?);
        Ok(count)
    }

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()> {
        match to {
            None => net::send(&self.watched, data, SendFlags::NOSIGNAL)?,
            Some(to) => {
                let to = ip_address(to)?;
                net::sendto(&self.watched, data, SendFlags::NOSIGNAL, &to)?
            }
        };
        Ok(())
    }

    fn connect(&self, peer: Option<&Address>) -> io::Result<()> {
        let peer = peer.map(ip_address).transpose()?;
        match peer {
            Some(peer) => net::connect(&self.watched, &peer)?,
            None => self.disconnect()?,
        }
        self.peer.set(peer);
        Ok(())
    }

    fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        match option {
            SocketOption::NoDelay(_)
            | SocketOption::KeepAlive(_)
            | SocketOption::ResetOnClose(_)
            | SocketOption::QuickAck(_) => Err(io::ErrorKind::Unsupported.into()),
            _ => options::set(self.watched.as_fd(), option),
        }
    }

    fn set_datagram_option(&self, option: DatagramOption) -> io::Result<()> {
        let socket = &self.watched;
        let v4 = self.is_ipv4()?;
        match option {
            DatagramOption::Broadcast(on) => sockopt::set_socket_broadcast(socket, on)?,
            DatagramOption::MulticastLoopback(on) if v4 => {
                sockopt::set_ip_multicast_loop(socket, on)?;
            }
            DatagramOption::MulticastLoopback(on) => {
                sockopt::set_ipv6_multicast_loop(socket, on)?;
            }
            DatagramOption::MulticastTtl(routers) if v4 => {
                sockopt::set_ip_multicast_ttl(socket, routers.into())?;
            }
            DatagramOption::MulticastTtl(routers) => {
                sockopt::set_ipv6_multicast_hops(socket, routers.into())?;
            }
            DatagramOption::MulticastInterface(interface) => match (interface, v4) {
                (MulticastInterface::Any, true) => {
                    sockopt::set_ip_multicast_if(socket, &Ipv4Addr::UNSPECIFIED)?;
                }
                (MulticastInterface::Address(address), true) => {
                    sockopt::set_ip_multicast_if(socket, &address)?;
                }
                (MulticastInterface::Index(index), true) => set_interface_index(socket, index)?,
                (MulticastInterface::Any, false) => sockopt::set_ipv6_multicast_if(socket, 0)?,
                (MulticastInterface::Index(index), false) => {
                    sockopt::set_ipv6_multicast_if(socket, index)?;
                }
                (MulticastInterface::Address(_), false) => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
            },
        }
        Ok(())
    }

    fn set_membership(&self, group: &MulticastGroup, member: bool) -> io::Result<()> {
        let socket = &self.watched;
        match (group.address, group.interface, group.source) {
            (IpAddr::V4(address), MulticastInterface::Index(index), None) => {
                set_membership_by_index(socket, address, index, member)?;
            }
            (IpAddr::V4(address), interface, source) => {
                let interface = match interface {
                    MulticastInterface::Address(interface) => interface,
                    MulticastInterface::Any => Ipv4Addr::UNSPECIFIED,
                    MulticastInterface::Index(_) => {
                        return Err(io::ErrorKind::Unsupported.into());
                    }
                };
                match (source, member) {
                    (None, true) => sockopt::set_ip_add_membership(socket, &address, &interface)?,
                    (None, false) => sockopt::set_ip_drop_membership(socket, &address, &interface)?,
                    (Some(source), member) => {
                        set_source_membership(socket, address, interface, source, member)?;
                    }
                }
            }
            (IpAddr::V6(address), interface, None) => {
                let index = match interface {
                    MulticastInterface::Any => 0,
                    MulticastInterface::Index(index) => index,
                    MulticastInterface::Address(_) => {
                        return Err(io::ErrorKind::Unsupported.into());
                    }
                };
                if member {
                    sockopt::set_ipv6_add_membership(socket, &address, index)?;
                } else {
                    sockopt::set_ipv6_drop_membership(socket, &address, index)?;
                }
            }
            (IpAddr::V6(_), _, Some(_)) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        options::buffer_sizes(self.watched.as_fd())
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        // One that was adopted may live on elsewhere: what comes there would end each wait.
        self.watched.unwatch();
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_interface_index(socket: &Watched, index: u32) -> io::Result<()> {
    let any = Ipv4Addr::UNSPECIFIED;
    Ok(sockopt::set_ip_multicast_if_with_ifindex(
        socket, &any, &any, index,
    )?)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_membership_by_index(
    socket: &Watched,
    group: Ipv4Addr,
    index: u32,
    member: bool,
) -> io::Result<()> {
    let any = Ipv4Addr::UNSPECIFIED;
    let set = if member {
        sockopt::set_ip_add_membership_with_ifindex
    } else {
        sockopt::set_ip_drop_membership_with_ifindex
    };
    Ok(set(socket, &group, &any, index)?)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_source_membership(
    socket: &Watched,
    group: Ipv4Addr,
    interface: Ipv4Addr,
    source: Ipv4Addr,
    member: bool,
) -> io::Result<()> {
    let set = if member {
        sockopt::set_ip_add_source_membership
    } else {
        sockopt::set_ip_drop_source_membership
    };
    Ok(set(socket, &group, &interface, &source)?)
}

/// Elsewhere IPv4's interfaces are named by their addresses.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_interface_index(_: &Watched, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_membership_by_index(_: &Watched, _: Ipv4Addr, _: u32, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_source_membership(
    _: &Watched,
    _: Ipv4Addr,
    _: Ipv4Addr,
    _: Ipv4Addr,
    _: bool,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
