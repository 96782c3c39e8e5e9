//! What can go wrong with a datagram.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::{Address, AddressError};

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
        to: Address,
        /// The port's own address.
        host: Address,
    },
    /// The datagram is longer than one can be: 65 507 bytes over IPv4, or what the path takes
    /// where it may not be cut up; over a UNIX socket a little less than its buffer
    /// ([`SocketOption::SendBuffer`](crate::SocketOption::SendBuffer)). Twisted's
    /// `MessageLengthError`.
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
        peer: Address,
    },
    /// The system does not allow it: a broadcast from a port that has not
    /// [said so](crate::DatagramTransport::set_broadcast), or a firewall's rule; over UNIX sockets
    /// the permissions of the file, or a receiver that is connected to somebody else.
    #[error("the system does not allow datagrams to {to}")]
    NotPermitted {
        /// Where it was to go.
        to: Address,
    },
    /// No UNIX socket of that name is open: there is no file, or it is left of a program that has
    /// ended. UDP is told later, if at all:
    /// [`connection_refused`](crate::DatagramProtocol::connection_refused).
    #[error("nobody listens at {to}: {source}")]
    Refused {
        /// Where it was to go.
        to: Address,
        /// What the system said: `ConnectionRefused`, or `NotFound` where there is no file.
        source: io::Error,
    },
    /// Whoever has the UNIX socket took nothing for
    /// [`DatagramLimits::wait_max`](crate::DatagramLimits::wait_max), and what waited for them is
    /// dropped.
    #[error("{to} took nothing for {limit:?}, and {datagrams} datagrams were dropped")]
    TimedOut {
        /// Where they were to go.
        to: Address,
        /// The limit.
        limit: Duration,
        /// How many.
        datagrams: usize,
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
    pub(crate) fn of_sending(error: io::Error, to: Address, length: usize) -> Self {
        use rustix::io::Errno;
        match (Errno::from_io_error(&error), &to) {
            (Some(Errno::MSGSIZE), _) => Self::TooLong { length },
            (Some(Errno::ACCESS | Errno::PERM), _) => Self::NotPermitted { to },
            (_, Address::Unix(_)) if is_refusal(&error) => Self::Refused { to, source: error },
            _ => Self::Io(error),
        }
    }
}

/// A UNIX socket is not there, or not read any more.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::BrokenPipe
    )
}
