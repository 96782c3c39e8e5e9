//! What users implement.

use crate::address::Address;
use crate::udp::{DatagramError, DatagramTransport};

/// A port for datagrams, UDP or UNIX, as callbacks.
///
/// Called by the reactor, on its thread, never two at a time for one port. One protocol serves
/// every peer of its port.
///
/// # Order
///
/// [`start_protocol`](DatagramProtocol::start_protocol) first and once,
/// [`stop_protocol`](DatagramProtocol::stop_protocol) last and once, with everything else
/// between. No method is called from inside another: what happens meanwhile waits until the
/// method returns.
///
/// # Reentrancy
///
/// Every method may call everything: on its transport, on others, on the reactor. A panic in a
/// method is reported as an unhandled failure, and the port goes on with the next datagram:
/// who sent a bad one must not take the service from the others.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{Address, DatagramProtocol, Reactor, DatagramTransport};
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(&mut self, transport: &DatagramTransport<Self>, data: &[u8], from: &Address) {
///         transport.write_to(data, from);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let transport = reactor.listen_udp("127.0.0.1:0", Echo)?;
/// println!("on {}", transport.host());
/// # Ok(())
/// # }
/// ```
///
/// Twisted's `DatagramProtocol`.
pub trait DatagramProtocol: Sized + 'static {
    /// Called once, before anything else, when the port is open: before
    /// [`listen_udp`](crate::Reactor::listen_udp) and its namesakes return.
    fn start_protocol(&mut self, transport: &DatagramTransport<Self>) {
        let _ = transport;
    }

    /// Called for each datagram, whole. It may be empty.
    ///
    /// Anybody can send to a UDP port, under any address: what `from` says is no proof of anything.
    /// To a UNIX socket can send who may write to its file, under a name that is their own, or under
    /// none, if they have none: then there is no way to answer.
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
    );

    /// Called in place of [`datagram_received`](DatagramProtocol::datagram_received) for a
    /// datagram of `length` bytes, which is more than
    /// [`DatagramOptions::datagram_max`](crate::DatagramOptions::datagram_max); `data` is its beginning.
    /// By default it is dropped: half a message is none.
    fn datagram_truncated(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
        length: usize,
    ) {
        let _ = (transport, data, from, length);
    }

    /// Called when the peer's host says that nobody listens there. Only for a port that is
    /// [connected](DatagramTransport::connect); it goes on. Some time after a datagram was sent, or
    /// never: hosts and routers need not say so, and what they say may be lost. A UNIX socket says so
    /// of each datagram that was [written](DatagramTransport::write) and did not find its peer;
    /// [`send`](DatagramTransport::send) answers
    /// [`DatagramError::Refused`].
    fn connection_refused(&mut self, transport: &DatagramTransport<Self>) {
        let _ = transport;
    }

    /// Called when the system says that something went wrong, and when a datagram that was
    /// [written](DatagramTransport::write) was not sent. The port goes on. By default it is told to
    /// `tracing`, as a warning.
    ///
    /// asyncio's `error_received`.
    fn error_received(&mut self, transport: &DatagramTransport<Self>, error: DatagramError) {
        tracing::warn!(target: "torsade", host = %transport.host(), %error, "a port for datagrams");
    }

    /// Called when more than [`DatagramLimits::queue_high`](crate::DatagramLimits::queue_high) waits to be
    /// sent. Always followed by [`write_resumed`](DatagramProtocol::write_resumed), or by the
    /// end.
    fn write_paused(&mut self, transport: &DatagramTransport<Self>) {
        let _ = transport;
    }

    /// Called when what waits to be sent has sunk to
    /// [`DatagramLimits::queue_low`](crate::DatagramLimits::queue_low).
    fn write_resumed(&mut self, transport: &DatagramTransport<Self>) {
        let _ = transport;
    }

    /// Called once, after everything else, when the port has stopped. The protocol is dropped
    /// when it returns.
    fn stop_protocol(&mut self) {}
}
