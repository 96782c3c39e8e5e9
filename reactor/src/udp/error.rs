//! What can go wrong with a datagram.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::address::AddressError;

/// Why a datagram was not sent, or what the system says of a port.
///
/// That a datagram was sent says nothing of whether it arrives: nobody knows that but who
/// gets it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// It is no address, or a name.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An IPv6 address from an IPv4 port, or the other way round.
    #[error("{to} is not of the family of the port's own address, {host}")]
    WrongFamily {
        /// Where it was to go.
        to: SocketAddr,
        /// The port's own address.
        host: SocketAddr,
    },
    /// The datagram is longer than one can be: 65 507 bytes over IPv4, or what the path takes
    /// where it may not be cut up. Twisted's `MessageLengthError`.
    #[error("a datagram of {length} bytes is too long")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// Too much waits to be sent already; see
    /// [`DatagramLimits::queue_max`](crate::DatagramLimits::queue_max). The datagram is dropped.
    #[error("more than {limit} bytes wait to be sent")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// No address was given, and the port is not connected to one.
    #[error("the port is connected to nobody: say where the datagram goes")]
    NotConnected,
    /// The port is connected to somebody else, or was to be connected a second time.
    #[error("the port is connected to {peer}, and to nobody else")]
    Connected {
        /// To whom.
        peer: SocketAddr,
    },
    /// The system does not allow it: a broadcast from a port that has not
    /// [said so](crate::DatagramTransport::set_broadcast), or a firewall's rule.
    #[error("the system does not allow datagrams to {to}")]
    NotPermitted {
        /// Where it was to go.
        to: SocketAddr,
    },
    /// A group was not joined or left. Twisted's `MulticastJoinError`.
    #[error("the membership in {group} cannot be changed: {source}")]
    Membership {
        /// The group.
        group: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The port has stopped listening.
    #[error("the port has stopped listening")]
    Stopped,
    /// The system says something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl DatagramError {
    /// What the system said when a datagram of this length was to be sent there.
    pub(crate) fn of_sending(error: io::Error, to: SocketAddr, length: usize) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(&error) {
            Some(Errno::MSGSIZE) => Self::TooLong { length },
            Some(Errno::ACCESS | Errno::PERM) => Self::NotPermitted { to },
            _ => Self::Io(error),
        }
    }
}
