//! Descriptors that somebody else made: what they are, before they are ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd, ioctl_fionbio};
use rustix::net::{self, AddressFamily, SocketAddrAny, SocketType, sockopt};

use crate::address::Address;
use crate::driver::tcp::{self, TcpListening, TcpSocket};
use crate::driver::udp::UdpSocket;
use crate::driver::unix::{UnixListening, UnixSocket, our_address};
use crate::driver::unix_datagrams::UnixDatagrams;
use crate::driver::{AnySocket, DatagramSocket, ListeningSocket};
use crate::sys::poller::Poller;
use crate::unix::{AdoptError, AdoptProblem};

/// A socket that listens.
pub(super) fn listener(
    poller: &Rc<Poller>,
    fd: OwnedFd,
) -> Result<Box<dyn ListeningSocket>, AdoptError> {
    let address = match examine_listener(&fd) {
        Ok(address) => address,
        Err(problem) => return Err(AdoptError::new(fd, problem)),
    };
    Ok(match address {
        Address::Unix(address) => Box::new(UnixListening::adopted(poller, fd, address)),
        address => Box::new(TcpListening::adopted(poller, fd, address)),
    })
}

/// A socket that is connected, and its peer.
pub(super) fn connection(
    poller: &Rc<Poller>,
    fd: OwnedFd,
) -> Result<(AnySocket, Address), AdoptError> {
    let peer = match examine_connection(&fd) {
        Ok(peer) => peer,
        Err(problem) => return Err(AdoptError::new(fd, problem)),
    };
    let socket = match peer {
        Address::Unix(_) => AnySocket::other(UnixSocket::adopted(poller, fd)),
        _ => AnySocket::Tcp(TcpSocket::adopted(poller, fd)),
    };
    Ok((socket, peer))
}

/// A socket for datagrams.
pub(super) fn datagrams(
    poller: &Rc<Poller>,
    fd: OwnedFd,
) -> Result<Box<dyn DatagramSocket>, AdoptError> {
    let (family, peer) = match examine_datagrams(&fd) {
        Ok(found) => found,
        Err(problem) => return Err(AdoptError::new(fd, problem)),
    };
    Ok(match (family, peer) {
        (AddressFamily::UNIX, Some(Address::Unix(peer))) => {
            Box::new(UnixDatagrams::adopted(poller, fd, Some(peer)))
        }
        (AddressFamily::UNIX, _) => Box::new(UnixDatagrams::adopted(poller, fd, None)),
        (_, Some(Address::Tcp(peer))) => Box::new(UdpSocket::over(poller, fd, Some(peer))),
        _ => Box::new(UdpSocket::over(poller, fd, None)),
    })
}

fn examine_datagrams(fd: &OwnedFd) -> Result<(AddressFamily, Option<Address>), AdoptProblem> {
    let family = family_of(fd, SocketType::DGRAM, AdoptProblem::NotDatagrams)?;
    let peer = match net::getpeername(fd) {
        Ok(peer) => Some(peer.map_or_else(|| Ok(unnamed()), address_of)?),
        Err(Errno::NOTCONN) => None,
        Err(error) => return Err(AdoptProblem::Io(error.into())),
    };
    make_ours(fd)?;
    Ok((family, peer))
}

fn examine_listener(fd: &OwnedFd) -> Result<Address, AdoptProblem> {
    examine(fd)?;
    if !sockopt::socket_acceptconn(fd).map_err(io::Error::from)? {
        return Err(AdoptProblem::NotListening);
    }
    let address = net::getsockname(fd).map_err(io::Error::from)?;
    Ok(address_of(address)?)
}

fn examine_connection(fd: &OwnedFd) -> Result<Address, AdoptProblem> {
    examine(fd)?;
    match net::getpeername(fd) {
        Ok(peer) => Ok(peer.map_or_else(|| Ok(unnamed()), address_of)?),
        Err(Errno::NOTCONN) => Err(AdoptProblem::NotConnected),
        Err(error) => Err(AdoptProblem::Io(error.into())),
    }
}

/// Whether it is a stream of a family that we know; makes it as ours are.
fn examine(fd: &OwnedFd) -> Result<(), AdoptProblem> {
    let family = family_of(fd, SocketType::STREAM, AdoptProblem::NotAStream)?;
    if family != AddressFamily::UNIX {
        tcp::set_options(fd, &[])?;
    }
    Ok(make_ours(fd)?)
}

/// The family, if it is one that we know and the socket of this type.
fn family_of(
    fd: &OwnedFd,
    wanted: SocketType,
    otherwise: AdoptProblem,
) -> Result<AddressFamily, AdoptProblem> {
    match sockopt::socket_type(fd) {
        Ok(found) if found == wanted => {}
        Ok(_) => return Err(otherwise),
        Err(Errno::NOTSOCK) => return Err(AdoptProblem::NotASocket),
        Err(error) => return Err(AdoptProblem::Io(error.into())),
    }
    match sockopt::socket_domain(fd).map_err(io::Error::from)? {
        family @ (AddressFamily::UNIX | AddressFamily::INET | AddressFamily::INET6) => Ok(family),
        _ => Err(AdoptProblem::UnknownFamily),
    }
}

fn make_ours(fd: &OwnedFd) -> io::Result<()> {
    let flags = fcntl_getfd(fd)?;
    fcntl_setfd(fd, flags | FdFlags::CLOEXEC)?;
    Ok(ioctl_fionbio(fd.as_fd(), true)?)
}

fn address_of(address: SocketAddrAny) -> io::Result<Address> {
    if address.address_family() == AddressFamily::UNIX {
        return Ok(our_address(address)?.into());
    }
    Ok(std::net::SocketAddr::try_from(address)?.into())
}

fn unnamed() -> Address {
    crate::address::UnixAddress::Unnamed.into()
}
