//! The operating system's TCP sockets.

use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::address::Address;
use crate::driver::{AnySocket, ListeningSocket, StreamSocket, options};
use crate::slab::Token;
use crate::sockets::{ConnectOptions, KeepAlive, ListenOptions, SocketOption};
use crate::sys::poller::{Poller, Watched};
use crate::sys::{queue, send_file};

pub(super) fn listen(
    poller: &Rc<Poller>,
    address: SocketAddr,
    asked_for: &ListenOptions,
) -> io::Result<TcpListening> {
    let fd = stream_socket(address)?;
    // A server that restarts must not wait for the old one's connections to time out.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if asked_for.reuse_port {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, asked_for.only_v6)?;
    }
    // The accepted sockets inherit what is set here: no system call for each.
    set_options(&fd, &asked_for.options)?;
    net::bind(&fd, &address)?;
    net::listen(&fd, i32::try_from(asked_for.backlog).unwrap_or(i32::MAX))?;
    let address = SocketAddr::try_from(net::getsockname(&fd)?)?;
    Ok(TcpListening::new(poller, fd, address.into()))
}

pub(super) fn connect(
    poller: &Rc<Poller>,
    peer: SocketAddr,
    asked_for: &ConnectOptions,
) -> io::Result<TcpSocket> {
    let fd = stream_socket(peer)?;
    set_options(&fd, &asked_for.options)?;
    if let Some(address) = asked_for.local_address {
        // Among many connections from one address, each needs only a pair of its own.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        net::bind(&fd, &address)?;
    }
    begin_connecting(&fd, &peer)?;
    Ok(TcpSocket::over(poller, fd))
}

/// Asks the system to connect. The outcome is an event.
fn begin_connecting(fd: &OwnedFd, peer: &SocketAddr) -> io::Result<()> {
    loop {
        match net::connect(fd, peer) {
            // connect(2): the attempt goes on, unless it had not begun; to ask again tells.
            Err(Errno::INTR) => {}
            Ok(()) | Err(Errno::INPROGRESS | Errno::ALREADY | Errno::ISCONN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?)
}

/// What every TCP socket of ours has, and what was asked for.
pub(super) fn set_options(fd: &OwnedFd, asked_for: &[SocketOption]) -> io::Result<()> {
    sockopt::set_tcp_nodelay(fd, true)?;
    // Urgent data is data: a read that stopped in front of it would look like the last one.
    sockopt::set_socket_oobinline(fd, true)?;
    asked_for
        .iter()
        .try_for_each(|option| options::set(fd.as_fd(), option))
}

pub(super) struct TcpListening {
    watched: Watched,
    address: Address,
}

impl TcpListening {
    fn new(poller: &Rc<Poller>, fd: OwnedFd, address: Address) -> Self {
        Self {
            watched: Watched::new(fd, Rc::clone(poller)),
            address,
        }
    }

    pub(super) fn adopted(poller: &Rc<Poller>, fd: OwnedFd, address: Address) -> Self {
        Self {
            watched: Watched::adopted(fd, Rc::clone(poller)),
            address,
        }
    }
}

impl ListeningSocket for TcpListening {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn watch(&self, token: Token) -> io::Result<()> {
        self.watched.watch(token)
    }

    fn accept(&self) -> io::Result<(AnySocket, Address)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, peer) = net::acceptfrom_with(&self.watched, flags)?;
        // A peer without an address is one that has gone already.
        let peer = peer.ok_or(Errno::CONNABORTED)?;
        let socket = TcpSocket::over(self.watched.poller(), fd);
        Ok((AnySocket::Tcp(socket), SocketAddr::try_from(peer)?.into()))
    }
}

pub(crate) struct TcpSocket {
    watched: Watched,
}

impl TcpSocket {
    fn over(poller: &Rc<Poller>, fd: OwnedFd) -> Self {
        Self {
            watched: Watched::new(fd, Rc::clone(poller)),
        }
    }

    pub(super) fn adopted(poller: &Rc<Poller>, fd: OwnedFd) -> Self {
        Self {
            watched: Watched::adopted(fd, Rc::clone(poller)),
        }
    }
}

impl StreamSocket for TcpSocket {
    fn watch(&self, token: Token) -> io::Result<()> {
        self.watched.watch(token)
    }

    #[expect(clippy::inline_always, reason = "the way of every message")]
    #[inline(always)]
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (count, _) = net::recv(&self.watched, buffer, net::RecvFlags::empty())?;
        Ok(count)
    }

    #[expect(clippy::inline_always, reason = "the way of every message")]
    #[inline(always)]
    fn write(&self, data: &[u8]) -> io::Result<usize> {
        Ok(net::send(&self.watched, data, net::SendFlags::NOSIGNAL)?)
    }

    fn write_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let parts = [io::IoSlice::new(first), io::IoSlice::new(second)];
        Ok(net::sendmsg(
            &self.watched,
            &parts,
            &mut net::SendAncillaryBuffer::default(),
            net::SendFlags::NOSIGNAL,
        )?)
    }

    fn takes_files(&self) -> bool {
        true
    }

    fn write_file(&self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        send_file::send(self.watched.as_fd(), file.as_fd(), offset, length)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(net::shutdown(&self.watched, direction(how))?)
    }

    fn is_shared(&self) -> bool {
        self.watched.is_shared()
    }

    fn reset_on_drop(&self) {
        // It fails only for a socket that is broken already, and then there is nobody to
        // send a reset to.
        let _ = sockopt::set_socket_linger(&self.watched, Some(Duration::ZERO));
    }

    fn is_delivered(&self) -> bool {
        // A socket that is closed with something unread resets the connection, and what the
        // peer has not read of ours is lost to it.
        queue::unacknowledged(self.watched.as_fd()).is_ok_and(|bytes| bytes == 0)
            && ioctl_fionread(&self.watched).is_ok_and(|bytes| bytes == 0)
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        queue::unacknowledged(self.watched.as_fd())
    }

    fn take_error(&self) -> io::Result<()> {
        connect_outcome(&self.watched)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(SocketAddr::try_from(net::getsockname(&self.watched)?)?.into())
    }

    fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        options::set(self.watched.as_fd(), option)
    }

    fn nodelay(&self) -> io::Result<bool> {
        options::nodelay(self.watched.as_fd())
    }

    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        options::keep_alive(self.watched.as_fd())
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        options::buffer_sizes(self.watched.as_fd())
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        self.watched.duplicate()
    }
}

/// What became of a socket that connects.
pub(super) fn connect_outcome(watched: &Watched) -> io::Result<()> {
    sockopt::socket_error(watched)??;
    match net::getpeername(watched) {
        Ok(_) => Ok(()),
        Err(Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn direction(how: Shutdown) -> net::Shutdown {
    match how {
        Shutdown::Read => net::Shutdown::Read,
        Shutdown::Write => net::Shutdown::Write,
        Shutdown::Both => net::Shutdown::Both,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn small_writes_are_not_delayed_on_accepted_sockets_nor_on_those_that_connect() {
        let fd = stream_socket(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
        assert!(
            !sockopt::tcp_nodelay(&fd).expect("it is TCP"),
            "the system does not delay anyway"
        );
        set_options(&fd, &[]).expect("it is TCP");
        assert!(sockopt::tcp_nodelay(&fd).expect("it is TCP"));
        // What is accepted inherits it.
        net::bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        net::listen(&fd, 1).expect("it is bound");
        let address = SocketAddr::try_from(net::getsockname(&fd).expect("it is bound"));
        let _peer = TcpStream::connect(address.expect("an IP address")).expect("it listens");
        let (accepted, _) = loop {
            match net::acceptfrom_with(&fd, SocketFlags::CLOEXEC) {
                Err(Errno::WOULDBLOCK) => std::thread::yield_now(),
                outcome => break outcome.expect("somebody has connected"),
            }
        };
        assert!(sockopt::tcp_nodelay(&accepted).expect("it is TCP"));
    }
}
