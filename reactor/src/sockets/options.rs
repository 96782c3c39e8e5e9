//! What sockets may be asked for: when they listen, when they connect, while they last.

use std::net::SocketAddr;
use std::time::Duration;

/// Connections that the kernel holds for a port that is busy. The kernel's own limit,
/// `net.core.somaxconn`, caps it.
const BACKLOG: u32 = 1024;

/// How a port listens.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{KeepAlive, ListenOptions, SocketOption};
///
/// let options = ListenOptions::new()
///     .backlog(50)
///     .reuse_port(true)
///     .option(SocketOption::KeepAlive(Some(KeepAlive::default())));
/// assert_ne!(options, ListenOptions::new());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) options: Vec<SocketOption>,
}

impl ListenOptions {
    /// What a server wants as a rule.
    #[must_use]
    pub fn new() -> Self {
        Self {
            backlog: BACKLOG,
            reuse_port: false,
            only_v6: false,
            mode: None,
            options: Vec::new(),
        }
    }

    /// How many connections the system holds that have not been accepted yet: 1024, or
    /// what `net.core.somaxconn` says if that is less.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Whether several ports, of several processes as a rule, may listen on the same TCP
    /// address and be given its connections in turn (`SO_REUSEPORT`). All of them have to
    /// say so. Not by default.
    #[must_use]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Whether a port on an IPv6 address, `[::]` above all, leaves IPv4 alone
    /// (`IPV6_V6ONLY`). By default it takes both, whatever the system's own default, and an
    /// IPv4 peer's address looks like `::ffff:192.0.2.1`.
    #[must_use]
    pub fn only_v6(mut self, on: bool) -> Self {
        self.only_v6 = on;
        self
    }

    /// The permission bits of a UNIX socket's file, such as `0o600`; by default what the
    /// process's umask leaves of `0o777`. The file has them before anybody can connect.
    #[must_use]
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits);
        self
    }

    /// An option of the listening socket, which the connections that it accepts inherit:
    /// that costs no system call for each.
    #[must_use]
    pub fn option(mut self, option: SocketOption) -> Self {
        self.options.push(option);
        self
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How a connection is made.
///
/// # Examples
///
/// ```
/// use std::net::SocketAddr;
/// use torsade_reactor::ConnectOptions;
///
/// let options = ConnectOptions::new().local_address(SocketAddr::from(([127, 0, 0, 2], 0)));
/// assert_ne!(options, ConnectOptions::new());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    pub(crate) local_address: Option<SocketAddr>,
    pub(crate) options: Vec<SocketOption>,
}

impl ConnectOptions {
    /// What a client wants as a rule: any local address.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The address to connect from; its port may be 0, for any. Twisted's `bindAddress`.
    #[must_use]
    pub fn local_address(mut self, address: SocketAddr) -> Self {
        self.local_address = Some(address);
        self
    }

    /// An option of the socket, set before it connects.
    #[must_use]
    pub fn option(mut self, option: SocketOption) -> Self {
        self.options.push(option);
        self
    }
}

/// An option of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// Whether small writes are sent at once instead of waiting for the peer to
    /// acknowledge the ones before (`TCP_NODELAY`). They are, unless this says no. TCP only.
    NoDelay(bool),
    /// Whether the system asks a silent peer now and then whether it is still there
    /// (`SO_KEEPALIVE`), and when. Not by default. TCP only.
    KeepAlive(Option<KeepAlive>),
    /// Whether closing resets the connection and drops what is on its way, every time, as
    /// `abort_connection` does once (`SO_LINGER` of 0). A longer `SO_LINGER` is not offered: it
    /// would block the loop in `close`. What waits for the peer here is
    /// [`Limits::linger`](crate::Limits::linger).
    ResetOnClose(bool),
    /// How many bytes the system holds that the peer has not acknowledged (`SO_SNDBUF`).
    /// Linux doubles it, for its own book-keeping.
    SendBuffer(usize),
    /// How many bytes the system holds that we have not read (`SO_RCVBUF`). Linux doubles
    /// it. To be set before the socket listens or connects, to have its effect on the TCP
    /// window.
    ReceiveBuffer(usize),
    /// Through how many routers a packet may go (`IP_TTL`, `IPV6_UNICAST_HOPS`), 1 to 255.
    TimeToLive(u8),
    /// The byte for the routers on the way (`IP_TOS`, `IPV6_TCLASS`): six bits of
    /// differentiated services, two of congestion notice, which TCP keeps for itself.
    TrafficClass(u8),
    /// Whether what comes is acknowledged at once (`TCP_QUICKACK`). The system goes its own
    /// way again later. TCP only.
    QuickAck(bool),
    /// The one network interface to use, such as `eth0` (`SO_BINDTODEVICE`); `None` for any.
    Device(Option<Box<str>>),
}

/// When a silent peer is asked whether it is still there, and when it is given up, with
/// [`ConnectionLost::Io`](crate::ConnectionLost::Io). Whole seconds, each at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long it may be silent before it is asked: 60 s. (The system's own default is two
    /// hours, of no use to a server.)
    pub idle: Duration,
    /// How long it has to answer before it is asked again: 10 s.
    pub interval: Duration,
    /// How often it is asked before it is given up: 6 times.
    pub count: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 6,
        }
    }
}
