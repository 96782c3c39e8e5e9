//! Groups: one datagram for many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::udp::{DatagramError, DatagramTransport};

/// A group that a port may join: what is sent to its address comes to all who have.
///
/// # Examples
///
/// ```
/// use std::net::Ipv4Addr;
/// use torsade_reactor::{MulticastGroup, MulticastInterface};
///
/// let announcements = MulticastGroup::from(Ipv4Addr::new(239, 1, 2, 3))
///     .on(MulticastInterface::Address(Ipv4Addr::LOCALHOST));
/// assert_eq!(announcements.address(), Ipv4Addr::new(239, 1, 2, 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MulticastGroup {
    pub(crate) address: IpAddr,
    pub(crate) interface: MulticastInterface,
    pub(crate) source: Option<Ipv4Addr>,
}

impl MulticastGroup {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The group as it is seen through this network interface.
    #[must_use]
    pub fn on(mut self, interface: MulticastInterface) -> Self {
        self.interface = interface;
        self
    }

    /// Only what this host sends to it (source-specific multicast). IPv4 only, and with an
    /// interface that is given by its address, or not at all.
    #[must_use]
    pub fn from_source(mut self, source: Ipv4Addr) -> Self {
        self.source = Some(source);
        self
    }
}

impl From<IpAddr> for MulticastGroup {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            interface: MulticastInterface::Any,
            source: None,
        }
    }
}

impl From<Ipv4Addr> for MulticastGroup {
    fn from(address: Ipv4Addr) -> Self {
        IpAddr::from(address).into()
    }
}

impl From<Ipv6Addr> for MulticastGroup {
    fn from(address: Ipv6Addr) -> Self {
        IpAddr::from(address).into()
    }
}

/// The network interface that datagrams to and from groups take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MulticastInterface {
    /// Whichever the system chooses.
    #[default]
    Any,
    /// The one with this address. IPv4 only.
    Address(Ipv4Addr),
    /// The one of this number, as in `ip link`.
    Index(u32),
}

/// What a socket is asked for, beside what every socket is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DatagramOption {
    Broadcast(bool),
    MulticastLoopback(bool),
    MulticastTtl(u8),
    MulticastInterface(MulticastInterface),
}

impl<P: 'static> DatagramTransport<P> {
    /// Joins a group: what is sent to it and to this port's number comes from now on, if the
    /// port is on every interface or on the group's own address. Twisted's `joinGroup`.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Membership`]: it is no group's address, the port is a member already, or
    /// there is no such interface; [`DatagramError::Stopped`].
    pub fn join_group(&self, group: impl Into<MulticastGroup>) -> Result<(), DatagramError> {
        self.set_membership(&group.into(), true)
    }

    /// Leaves a group. What stops leaves them all. Twisted's `leaveGroup`.
    ///
    /// # Errors
    ///
    /// As for [`join_group`](DatagramTransport::join_group).
    pub fn leave_group(&self, group: impl Into<MulticastGroup>) -> Result<(), DatagramError> {
        self.set_membership(&group.into(), false)
    }

    fn set_membership(&self, group: &MulticastGroup, member: bool) -> Result<(), DatagramError> {
        self.port().ask(|socket| {
            let outcome = socket.set_membership(group, member);
            outcome.map_err(|source| DatagramError::Membership {
                group: group.address,
                source,
            })
        })
    }

    /// How many routers what is sent to groups may pass: 1, if nobody says otherwise, for this
    /// network alone; 0 for this machine.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Stopped`]; [`DatagramError::Io`], for what the system says.
    pub fn set_multicast_ttl(&self, routers: u8) -> Result<(), DatagramError> {
        self.set_datagram_option(DatagramOption::MulticastTtl(routers))
    }

    /// Whether what is sent to groups comes to members on this machine, too. It does, by
    /// default.
    ///
    /// # Errors
    ///
    /// As for [`set_multicast_ttl`](DatagramTransport::set_multicast_ttl).
    pub fn set_multicast_loopback(&self, on: bool) -> Result<(), DatagramError> {
        self.set_datagram_option(DatagramOption::MulticastLoopback(on))
    }

    /// The interface that what is sent to groups takes. Twisted's `setOutgoingInterface`.
    ///
    /// # Errors
    ///
    /// As for [`set_multicast_ttl`](DatagramTransport::set_multicast_ttl).
    pub fn set_multicast_interface(
        &self,
        interface: MulticastInterface,
    ) -> Result<(), DatagramError> {
        self.set_datagram_option(DatagramOption::MulticastInterface(interface))
    }

    /// Whether it may send to broadcast addresses (`SO_BROADCAST`). Not by default: a program
    /// that answers whoever asks must not be made to answer everybody.
    ///
    /// # Errors
    ///
    /// As for [`set_multicast_ttl`](DatagramTransport::set_multicast_ttl).
    pub fn set_broadcast(&self, on: bool) -> Result<(), DatagramError> {
        self.set_datagram_option(DatagramOption::Broadcast(on))
    }

    fn set_datagram_option(&self, option: DatagramOption) -> Result<(), DatagramError> {
        self.port()
            .ask(|socket| Ok(socket.set_datagram_option(option)?))
    }
}
