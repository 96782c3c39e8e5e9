//! Datagrams: what programs write, what they hold, and the socket between.
//!
//! A [`DatagramProtocol`] sits on a UDP port or a UNIX socket; its [`DatagramTransport`] is what it sends with. One
//! protocol serves all peers: a datagram comes with the address of who sent it.
//!
//! # Order
//!
//! Datagrams leave in the order in which they were sent from a port, at once: what the system
//! does not take for the moment waits in a queue, and nothing overtakes it. From a UNIX socket that
//! is not connected, those to one receiver do: what waits for one that has no room holds up no other, as long as the
//! system has room for what it holds for us.
//! What is received is told in the order in which the system has it. Whether and when a datagram
//! arrives is the network's affair: it may be lost, come twice, or late. Between UNIX sockets none is
//! lost that was taken, unless its receiver goes.
//!
//! `start_protocol` is first and once, `stop_protocol` last and once. No method of a protocol is
//! called from inside another.
//!
//! # Bounds
//!
//! A port is read for [`SHARE`](port::SHARE) in a turn, then the others have theirs. What waits to be sent:
//! [`DatagramLimits::queue_max`].
//!
//! # Not here
//!
//! No system (see `driver/udp.rs` and `driver/unix_datagrams.rs`), no simulated
//! network (see `simulation/network/udp.rs` and `unix.rs` beside it), no fake one (see `testing/memory_datagrams.rs`).

mod address;
mod eagerness;
mod error;
mod listen;
mod multicast;
mod options;
pub(crate) mod port;
mod protocol;
mod queue;
mod sending;
mod transport;

pub use self::address::{DatagramFamily, ToDatagramAddress, ToUdpAddress};
pub use self::error::DatagramError;
pub(crate) use self::listen::listen_on;
pub(crate) use self::multicast::DatagramOption;
pub use self::multicast::{MulticastGroup, MulticastInterface};
pub(crate) use self::options::DATAGRAM_MAX;
pub use self::options::{DatagramLimits, DatagramOptions};
pub use self::protocol::DatagramProtocol;
pub use self::transport::DatagramTransport;
