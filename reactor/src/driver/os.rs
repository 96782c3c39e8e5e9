//! The operating system as a driver.

use std::cell::OnceCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::address::{Address, UnixAddress};
use crate::capability::WorldKind;
use crate::descriptor::{Interest, Mode};
use crate::driver::boot_time::BootTime;
use crate::driver::{
    AnySocket, DatagramSocket, Driver, Events, ListeningSocket, Names, SignalSource, WakeUp,
    adopted, tcp, udp, unix, unix_datagrams,
};
use crate::slab::Token;
use crate::sockets::{ConnectOptions, ListenOptions};
use crate::sys::names;
use crate::sys::poller::Poller;
use crate::sys::signals::{self, SignalWatch};
use crate::sys::wake::WakeFd;
use crate::udp::DatagramOptions;
use crate::unix::AdoptError;

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
}

impl Driver for OsDriver {
    fn world(&self) -> WorldKind {
        WorldKind::System
    }

    fn now(&self) -> Instant {
        now()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the calendar is read"
    )]
    fn system_time(&self) -> SystemTime {
        SystemTime::now()
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

    fn wait(&self, limit: Option<Duration>, events: &mut Events) -> io::Result<()> {
        self.poller.wait(limit, events)
    }

    fn poller(&self) -> Option<Rc<Poller>> {
        let poller = Some(&self.poller).filter(|poller| poller.is_epoll());
        poller.cloned()
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
        Ok(match address {
            Address::Tcp(address) => Box::new(tcp::listen(&self.poller, *address, options)?),
            Address::Unix(address) => Box::new(unix::listen(&self.poller, address, options)?),
            Address::Udp(_) | Address::Named(_) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        })
    }

    fn connect(&self, peer: &Address, options: &ConnectOptions) -> io::Result<AnySocket> {
        Ok(match peer {
            Address::Tcp(peer) => AnySocket::Tcp(tcp::connect(&self.poller, *peer, options)?),
            Address::Unix(peer) => AnySocket::other(unix::connect(&self.poller, peer, options)?),
            Address::Udp(_) | Address::Named(_) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        })
    }

    fn bind_datagrams(
        &self,
        address: SocketAddr,
        options: &DatagramOptions,
    ) -> io::Result<Box<dyn DatagramSocket>> {
        Ok(Box::new(udp::bind(&self.poller, address, options)?))
    }

    fn open_unix_datagrams(
        &self,
        host: &UnixAddress,
        peer: Option<&UnixAddress>,
        options: &DatagramOptions,
    ) -> io::Result<Box<dyn DatagramSocket>> {
        let socket = unix_datagrams::open(&self.poller, host, peer, options)?;
        Ok(Box::new(socket))
    }

    fn adopt_datagrams(&self, fd: OwnedFd) -> Result<Box<dyn DatagramSocket>, AdoptError> {
        adopted::datagrams(&self.poller, fd)
    }

    fn adopt_listener(&self, fd: OwnedFd) -> Result<Box<dyn ListeningSocket>, AdoptError> {
        adopted::listener(&self.poller, fd)
    }

    fn adopt_connection(&self, fd: OwnedFd) -> Result<(AnySocket, Address), AdoptError> {
        adopted::connection(&self.poller, fd)
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

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn process_descriptor(&self, id: u32) -> io::Result<OwnedFd> {
        if !self.poller.is_epoll() {
            // What waits as every system does knows of an end as every system does.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let id = i32::try_from(id).ok().and_then(Pid::from_raw);
        let id = id.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(pidfd_open(id, PidfdFlags::empty())?)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.poller.as_fd())
    }

    fn names(&self) -> Box<dyn Names> {
        Box::new(SystemNames)
    }

    fn seed(&self) -> u64 {
        // What std keeps its tables safe with.
        RandomState::new().build_hasher().finish()
    }

    fn watch_signals(&self) -> io::Result<Rc<dyn SignalSource>> {
        Ok(Rc::new(SignalWatch::new(&[], self.wake.shared())?))
    }

    fn is_signal_default(&self, signal: i32) -> bool {
        signals::is_default(signal)
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

    fn has_some(&self) -> bool {
        self.has_pending()
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

    fn reverse_lookup(&self, ip: IpAddr) -> io::Result<String> {
        names::of_address(ip)
    }
}
