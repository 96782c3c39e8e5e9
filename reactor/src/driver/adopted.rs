//! Descriptors that somebody else made: what they are, before they are ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd, ioctl_fionbio};
use rustix::net::{self, AddressFamily, SocketAddrAny, SocketType, sockopt};

use crate::address::Address;
use crate::driver::tcp::{self, TcpListening, TcpSocket};
use crate::driver::unix::{UnixListening, UnixSocket, our_address};
use crate::driver::{AnySocket, ListeningSocket};
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
        address => Box::new(TcpListening::new(poller, fd, address)),
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
        Address::Unix(_) => AnySocket::other(UnixSocket::over(poller, fd)),
        _ => AnySocket::Tcp(TcpSocket::over(poller, fd)),
    };
    Ok((socket, peer))
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
    match sockopt::socket_type(fd) {
        Ok(SocketType::STREAM) => {}
        Ok(_) => return Err(AdoptProblem::NotAStream),
        Err(Errno::NOTSOCK) => return Err(AdoptProblem::NotASocket),
        Err(error) => return Err(AdoptProblem::Io(error.into())),
    }
    let family = sockopt::socket_domain(fd).map_err(io::Error::from)?;
    match family {
        AddressFamily::UNIX => {}
        AddressFamily::INET | AddressFamily::INET6 => tcp::set_options(fd, &[])?,
        _ => return Err(AdoptProblem::UnknownFamily),
    }
    let flags = fcntl_getfd(fd).map_err(io::Error::from)?;
    fcntl_setfd(fd, flags | FdFlags::CLOEXEC).map_err(io::Error::from)?;
    ioctl_fionbio(fd.as_fd(), true).map_err(io::Error::from)?;
    Ok(())
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
