//! How a port for datagrams is opened, and what it may hold.

use std::time::Duration;

use crate::address::UnixAddress;
use crate::sockets::SocketOption;

/// The longest datagram of a UNIX socket that anybody may ask for: the port has a buffer of that size.
pub(crate) const UNIX_DATAGRAM_MAX: usize = 16 * 1024 * 1024;

/// The longest datagram that a port is given, if nobody asks for another: whatever UDP can carry.
pub(crate) const DATAGRAM_MAX: usize = 65_535;

/// How a port for datagrams is opened: UDP, or a UNIX socket.
///
/// # Examples
///
/// ```
/// use torsade_reactor::DatagramOptions;
///
/// let options = DatagramOptions::new().broadcast(true).datagram_max(1500);
/// assert_ne!(options, DatagramOptions::new());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramOptions {
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    pub(crate) broadcast: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) local_address: UnixAddress,
    pub(crate) datagram_max: usize,
    pub(crate) limits: DatagramLimits,
    pub(crate) options: Vec<SocketOption>,
}

impl DatagramOptions {
    /// What a program wants as a rule.
    #[must_use]
    pub fn new() -> Self {
        Self {
            reuse_port: false,
            only_v6: false,
            broadcast: false,
            mode: None,
            local_address: UnixAddress::Unnamed,
            datagram_max: DATAGRAM_MAX,
            limits: DatagramLimits::default(),
            options: Vec::new(),
        }
    }

    /// Whether several UDP ports, of several processes as a rule, may have the same address
    /// (`SO_REUSEADDR` and `SO_REUSEPORT`). Each of them gets what goes to a group or to all;
    /// of what goes to the address itself, each its share. All of them have to say so. Not by
    /// default. Twisted's `listenMultiple`.
    #[must_use]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Whether a port on an IPv6 address, `[::]` above all, leaves IPv4 alone
    /// (`IPV6_V6ONLY`). By default it takes both, and an IPv4 peer's address looks like
    /// `::ffff:192.0.2.1`.
    #[must_use]
    pub fn only_v6(mut self, on: bool) -> Self {
        self.only_v6 = on;
        self
    }

    /// Whether it may send to broadcast addresses (`SO_BROADCAST`). Not by default. See also
    /// [`DatagramTransport::set_broadcast`](crate::DatagramTransport::set_broadcast).
    #[must_use]
    pub fn broadcast(mut self, on: bool) -> Self {
        self.broadcast = on;
        self
    }

    /// The permission bits of a UNIX socket's file, such as `0o600`; by default what the process's
    /// umask leaves of `0o777`. Who may not write to the file may not send. Twisted's `mode`.
    #[must_use]
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits);
        self
    }

    /// The name that [`connect_unix_datagrams_with`](crate::Reactor::connect_unix_datagrams_with)
    /// gives its socket. By default it has none, and whom it sends to cannot answer. An abstract
    /// name that is empty is one that nobody else has, of the system's choosing, as port 0 is.
    /// Twisted's `bindAddress`.
    #[must_use]
    pub fn local_address(mut self, address: UnixAddress) -> Self {
        self.local_address = address;
        self
    }

    /// The longest datagram that the protocol is given whole, in bytes: of a longer one it is
    /// told so ([`DatagramProtocol::datagram_truncated`](crate::DatagramProtocol::datagram_truncated)).
    /// By default 65 535, which is more than UDP can carry, and costs no memory. A UNIX socket can
    /// be sent more (212 960 bytes by default, on Linux): for more than 65 792 its port has a buffer of
    /// that size, for as long as it is open. More than 16 MiB are as good as that. Twisted's
    /// `maxPacketSize`.
    #[must_use]
    pub fn datagram_max(mut self, bytes: usize) -> Self {
        self.datagram_max = bytes;
        self
    }

    /// What may wait to be sent.
    #[must_use]
    pub fn limits(mut self, limits: DatagramLimits) -> Self {
        self.limits = limits;
        self
    }

    /// An option of the socket, set before it is bound. One that is TCP's is an error.
    #[must_use]
    pub fn option(mut self, option: SocketOption) -> Self {
        self.options.push(option);
        self
    }
}

impl Default for DatagramOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How much may wait to be sent, when the system takes no more for the moment.
///
/// A datagram counts with its length and 64 bytes, for itself.
///
/// # UNIX sockets
///
/// There it is a receiver who takes no more: the system holds a few datagrams for each (on Linux
/// `net.unix.max_dgram_qlen`: 10 as it is built, 512 where systemd has started it). Nothing tells a port that is
/// not connected when there is room, so it asks again, after 1 ms first and 100 ms at last. Receivers do not
/// wait for each other; one of them may have a quarter of [`queue_max`](Self::queue_max), and one who has
/// taken nothing for 200 ms no longer counts for the two marks, so that nobody stops the writer for all.
///
/// But what the system holds for them counts as ours, too, with several hundred bytes for each datagram: on
/// Linux, fewer than 300 short ones that nobody reads use our own buffer up, and until they are read or their
/// receivers go nobody else is sent to from this port. [`SocketOption::SendBuffer`] makes it larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramLimits {
    /// Above this the writer is paused: 64 KiB.
    pub queue_high: usize,
    /// At this it goes on: 16 KiB.
    pub queue_low: usize,
    /// What would exceed this is dropped, with [`DatagramError::QueueFull`](crate::DatagramError::QueueFull):
    /// 1 MiB. What is too old when it arrives is of no use to anybody.
    pub queue_max: usize,
    /// Who has taken nothing for so long is given up, with what waits for them:
    /// [`DatagramError::TimedOut`](crate::DatagramError::TimedOut). 30 s. UNIX sockets only: what waits
    /// for a network waits for our own system.
    pub wait_max: Duration,
}

impl Default for DatagramLimits {
    fn default() -> Self {
        Self {
            // asyncio's marks, which are the same for datagrams as for streams.
            queue_high: 64 * 1024,
            queue_low: 16 * 1024,
            queue_max: 1024 * 1024,
            wait_max: Duration::from_secs(30),
        }
    }
}
