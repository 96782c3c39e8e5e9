//! The operating system as a driver.

use std::cell::OnceCell;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::address::Address;
use crate::descriptor::{Interest, Mode};
use crate::driver::boot_time::BootTime;
use crate::driver::{
    Driver, Event, ListeningSocket, Names, SignalSource, StreamSocket, WakeUp, options,
};
use crate::slab::Token;
use crate::sockets::{ConnectOptions, KeepAlive, ListenOptions, SocketOption};
use crate::sys::poller::{Poller, Watched};
use crate::sys::queue;
use crate::sys::signals::{self, SignalWatch};
use crate::sys::wake::WakeFd;

/// Sockets, clock and names of the machine that the program runs on.
pub(crate) struct OsDriver {
    boot_time: OnceCell<BootTime>,
    // Dropped before `wake`: see `Poller::add_wake`.
    poller: Rc<Poller>,
    wake: WakeFd,
}

impl OsDriver {
    pub(crate) fn new() -> io::Result<Self> {
        Self::over(Poller::new()?)
    }

    /// Waits the way that every system knows.
    pub(crate) fn portable() -> io::Result<Self> {
        Self::over(Poller::portable()?)
    }

    fn over(poller: Poller) -> io::Result<Self> {
        let wake = WakeFd::new()?;
        poller.add_wake(&wake)?;
        Ok(Self {
            boot_time: OnceCell::new(),
            poller: Rc::new(poller),
            wake,
        })
    }

    fn watched(&self, fd: OwnedFd) -> Watched {
        Watched::new(fd, Rc::clone(&self.poller))
    }
}

impl Driver for OsDriver {
    fn now(&self) -> Instant {
        now()
    }

    fn begin_boot_time(&self) -> io::Result<()> {
        if self.boot_time.get().is_none() {
            // Nobody has put one there meanwhile.
            let _ = self.boot_time.set(BootTime::new(&self.poller)?);
        }
        Ok(())
    }

    fn boot_now(&self) -> Instant {
        self.boot_time.get().map_or_else(now, BootTime::now)
    }

    fn set_boot_alarm(&self, deadline: Option<Instant>) {
        if let Some(boot_time) = self.boot_time.get() {
            boot_time.set_alarm(deadline);
        }
    }

    fn wait(&self, limit: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.poller.wait(limit, events)
    }

    fn wake_up(&self) -> Box<dyn WakeUp> {
        Box::new(self.wake.clone())
    }

    fn short_read_is_dry(&self) -> bool {
        self.poller.is_epoll()
    }

    fn listen(
        &self,
        address: &Address,
        options: &ListenOptions,
    ) -> io::Result<Box<dyn ListeningSocket>> {
        let address = ip_address(address)?;
        let fd = stream_socket(address)?;
        // A server that restarts must not wait for the old one's connections to time out.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if options.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, options.only_v6)?;
        }
        // The accepted sockets inherit what is set here: no system call for each.
        set_options(&fd, &options.options)?;
        net::bind(&fd, &address)?;
        net::listen(&fd, i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        let bound = SocketAddr::try_from(net::getsockname(&fd)?)?;
        Ok(Box::new(TcpListening {
            watched: self.watched(fd),
            address: bound,
        }))
    }

    fn connect(
        &self,
        peer: &Address,
        options: &ConnectOptions,
    ) -> io::Result<Box<dyn StreamSocket>> {
        let peer = ip_address(peer)?;
        let fd = stream_socket(peer)?;
        set_options(&fd, &options.options)?;
        if let Some(address) = options.local_address {
            // Among many connections from one address, each needs only a pair of its own.
            sockopt::set_socket_reuseaddr(&fd, true)?;
            net::bind(&fd, &address)?;
        }
        begin_connecting(&fd, &peer)?;
        Ok(Box::new(TcpSocket {
            watched: self.watched(fd),
        }))
    }

    fn watch_fd(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.poller.add_fd(fd, token, interest, mode)
    }

    fn rewatch_fd(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.poller.modify_fd(fd, token, interest, mode)
    }

    fn unwatch_fd(&self, fd: BorrowedFd<'_>) {
        self.poller.delete_fd(fd);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.poller.as_fd())
    }

    fn names(&self) -> Box<dyn Names> {
        Box::new(SystemNames)
    }

    fn watch_signals(&self) -> io::Result<Rc<dyn SignalSource>> {
        Ok(Rc::new(SignalWatch::new(&[], self.wake.shared())?))
    }

    fn is_signal_default(&self, signal: i32) -> bool {
        signals::is_default(signal)
    }
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

/// The OS clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the OS clock is read"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Whether a descriptor is readable, right now.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    // Where the system cannot say, a turn finds out.
    poll(&mut fds, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
}

impl WakeUp for WakeFd {
    fn wake_up(&self) {
        self.notify();
    }
}

impl SignalSource for SignalWatch {
    fn add(&self, signal: i32) -> io::Result<()> {
        Self::add(self, signal)
    }

    fn remove(&self, signal: i32) {
        Self::remove(self, signal);
    }

    fn take(&self) -> Vec<i32> {
        self.take_pending().into_iter().collect()
    }
}

struct SystemNames;

impl Names for SystemNames {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

fn ip_address(address: &Address) -> io::Result<SocketAddr> {
    match address {
        Address::Tcp(address) => Ok(*address),
        _ => Err(io::ErrorKind::Unsupported.into()),
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

fn set_options(fd: &OwnedFd, asked_for: &[SocketOption]) -> io::Result<()> {
    sockopt::set_tcp_nodelay(fd, true)?;
    // Urgent data is data: a read that stopped in front of it would look like the last one.
    sockopt::set_socket_oobinline(fd, true)?;
    asked_for
        .iter()
        .try_for_each(|option| options::set(fd.as_fd(), option))
}

struct TcpListening {
    watched: Watched,
    address: SocketAddr,
}

impl ListeningSocket for TcpListening {
    fn address(&self) -> Address {
        self.address.into()
    }

    fn watch(&self, token: Token) -> io::Result<()> {
        self.watched.watch(token)
    }

    fn accept(&self) -> io::Result<(Box<dyn StreamSocket>, Address)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, peer) = net::acceptfrom_with(&self.watched, flags)?;
        // A peer without an address is one that has gone already.
        let peer = peer.ok_or(Errno::CONNABORTED)?;
        let socket = TcpSocket {
            watched: Watched::new(fd, Rc::clone(self.watched.poller())),
        };
        Ok((Box::new(socket), SocketAddr::try_from(peer)?.into()))
    }
}

struct TcpSocket {
    watched: Watched,
}

impl StreamSocket for TcpSocket {
    fn watch(&self, token: Token) -> io::Result<()> {
        self.watched.watch(token)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = net::recv(&self.watched, buffer, net::RecvFlags::empty())?;
        Ok(received)
    }

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

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => net::Shutdown::Read,
            Shutdown::Write => net::Shutdown::Write,
            Shutdown::Both => net::Shutdown::Both,
        };
        Ok(net::shutdown(&self.watched, how)?)
    }

    fn reset_on_drop(&self) {
        // It fails only for a socket that is broken already, and then there is nobody to
        // send a reset to.
        let _ = sockopt::set_socket_linger(&self.watched, Some(Duration::ZERO));
    }

    fn is_delivered(&self) -> bool {
        queue::unacknowledged(self.watched.as_fd()).is_ok_and(|bytes| bytes == 0)
    }

    fn take_error(&self) -> io::Result<()> {
        sockopt::socket_error(&self.watched)??;
        match net::getpeername(&self.watched) {
            Ok(_) => Ok(()),
            Err(Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
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
        self.watched.as_fd().try_clone_to_owned()
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
