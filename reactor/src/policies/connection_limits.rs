//! How many connections there may be, in all and from one peer.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use torsade_deferred::Deferred;

use crate::address::Address;
use crate::endpoints::ServerEndpoint;
use crate::error::ConnectionLost;
use crate::policies::layer::{Policy, PolicyStream};
use crate::protocol::{Acceptor, Factory, Seating};
use crate::reactor::Reactor;
use crate::sockets::Port;
use crate::stream::Stream;

/// Connections that are told that there are too many, at one time: the next ones are aborted.
const OVERFLOWING_MAX: usize = 64;

/// How many connections there may be at a time, in all and from one peer.
///
/// A connection counts from the moment when it is accepted until it is lost, for whatever
/// reason, the factory's refusal and a panic included; when its protocol's `connection_lost` is
/// called, its place is free. One too many is aborted, or given to the protocol for the
/// [`overflow`](ConnectionLimits::overflow).
///
/// A peer is an IPv4 address, or a network of 64 bits of IPv6 addresses, which is what one
/// customer has. Peers without an IP address count in the total alone.
///
/// Clones count together: for several ports that share one limit. Twisted's
/// `LimitTotalConnectionsFactory` and `LimitConnectionsByPeer`.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{
///     Address, ConnectionLimits, LimitedServerEndpoint, Protocol, Reactor, TcpServerEndpoint,
///     Transport,
/// };
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
///         transport.write(data);
///     }
/// }
///
/// /// Says so, and is gone.
/// struct Busy;
///
/// impl Protocol for Busy {
///     fn connection_made(&mut self, transport: &Transport<Self>) {
///         transport.write("too many connections, come again later\n");
///         transport.lose_connection();
///     }
///
///     fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let limits = ConnectionLimits::new(10_000)
///     .per_peer(100)
///     .overflow(|_: &Address| Busy);
/// let endpoint = LimitedServerEndpoint::new(TcpServerEndpoint::new("127.0.0.1:0"), &limits);
/// let port = reactor.run_until(reactor.listen(&endpoint, |_: &Address| Echo))?;
/// assert_eq!(limits.count(), 0);
/// # drop(port);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ConnectionLimits {
    total_max: usize,
    per_peer_max: usize,
    overflow: Option<Rc<dyn Acceptor>>,
    counts: Rc<Counts>,
}

impl ConnectionLimits {
    /// At most `total` connections.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self {
            total_max: total,
            per_peer_max: usize::MAX,
            overflow: None,
            counts: Rc::default(),
        }
    }

    /// At most `count` connections from one peer; as many as there are in all unless this
    /// says otherwise.
    #[must_use]
    pub fn per_peer(mut self, count: usize) -> Self {
        self.per_peer_max = count;
        self
    }

    /// Seats what `factory` builds on a connection that is one too many, to say so and to lose
    /// it. These do not count; there are at most 64 of them at a time, and what comes then is
    /// aborted. Give them an end: an idle timeout, where they wait for the peer.
    ///
    /// The factory's `start_factory` and `stop_factory` are not called: it belongs to no
    /// port. Twisted's `overflowProtocol`.
    #[must_use]
    pub fn overflow(mut self, factory: impl Factory) -> Self {
        self.overflow = Some(Rc::new(Seating::new(factory)));
        self
    }

    /// How many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.counts.total.get()
    }

    /// How many connections there are from this peer.
    #[must_use]
    pub fn count_of(&self, peer: &Address) -> usize {
        let peers = self.counts.peers.borrow();
        network(peer)
            .and_then(|network| peers.get(&network).copied())
            .unwrap_or(0)
    }

    /// What hands a stream on to `above`, if there is a place for it.
    ///
    /// For who listens with acceptors; else see [`LimitedServerEndpoint`].
    #[must_use]
    pub fn acceptor(&self, above: Rc<dyn Acceptor>) -> Rc<dyn Acceptor> {
        Rc::new(Limiting {
            limits: self.clone(),
            above,
        })
    }

    fn take_place(&self, peer: &Address) -> Option<Place> {
        let is_full = self.count() >= self.total_max || self.count_of(peer) >= self.per_peer_max;
        (!is_full).then(|| Place::among_peers(&self.counts, network(peer)))
    }

    fn take_overflow_place(&self) -> Option<Place> {
        let is_full = self.counts.overflowing.get() >= OVERFLOWING_MAX;
        (!is_full).then(|| Place::overflowing(&self.counts))
    }
}

impl fmt::Debug for ConnectionLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimits")
            .field("count", &self.count())
            .field("total_max", &self.total_max)
            .field("per_peer_max", &self.per_peer_max)
            .finish_non_exhaustive()
    }
}

/// Listens at the endpoint below, within limits.
///
/// Over a TLS endpoint it counts connections whose handshake is complete, and what is said to
/// the overflow is encrypted; below one it counts all, and says it in the clear.
#[derive(Clone, Debug)]
pub struct LimitedServerEndpoint<E> {
    below: E,
    limits: ConnectionLimits,
}

impl<E: ServerEndpoint> LimitedServerEndpoint<E> {
    /// Listens at `below`, counting together with whoever else has these limits.
    pub fn new(below: E, limits: &ConnectionLimits) -> Self {
        Self {
            below,
            limits: limits.clone(),
        }
    }
}

impl<E: ServerEndpoint> ServerEndpoint for LimitedServerEndpoint<E> {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        self.below
            .listen_streams(reactor, self.limits.acceptor(acceptor))
    }
}

struct Limiting {
    limits: ConnectionLimits,
    above: Rc<dyn Acceptor>,
}

impl Acceptor for Limiting {
    fn accept(&self, stream: Rc<dyn Stream>) {
        let peer = stream.socket().peer();
        if let Some(place) = self.limits.take_place(&peer) {
            return PolicyStream::over(stream, place).hand_on(|stream| self.above.accept(stream));
        }
        if let Some(overflow) = &self.limits.overflow
            && let Some(place) = self.limits.take_overflow_place()
        {
            return PolicyStream::over(stream, place).hand_on(|stream| overflow.accept(stream));
        }
        stream.abort_connection(ConnectionLost::Aborted);
    }

    fn start_listening(&self) {
        self.above.start_listening();
    }

    fn stop_listening(&self) {
        self.above.stop_listening();
    }
}

#[derive(Default)]
struct Counts {
    total: Cell<usize>,
    overflowing: Cell<usize>,
    /// As many entries as there are connections, at most.
    peers: RefCell<HashMap<IpAddr, usize>>,
}

/// One connection's place among the others; given up at its end, at the latest when nobody
/// holds it.
struct Place {
    counts: Rc<Counts>,
    kind: Cell<Kind>,
}

#[derive(Clone, Copy)]
enum Kind {
    Counted(Option<IpAddr>),
    Overflowing,
    GivenUp,
}

impl Place {
    fn among_peers(counts: &Rc<Counts>, network: Option<IpAddr>) -> Self {
        counts.total.set(counts.total.get() + 1);
        if let Some(network) = network {
            *counts.peers.borrow_mut().entry(network).or_default() += 1;
        }
        Self {
            counts: Rc::clone(counts),
            kind: Cell::new(Kind::Counted(network)),
        }
    }

    fn overflowing(counts: &Rc<Counts>) -> Self {
        counts.overflowing.set(counts.overflowing.get() + 1);
        Self {
            counts: Rc::clone(counts),
            kind: Cell::new(Kind::Overflowing),
        }
    }

    fn give_up(&self) {
        let counts = &self.counts;
        match self.kind.replace(Kind::GivenUp) {
            Kind::Counted(network) => {
                counts.total.set(counts.total.get() - 1);
                let mut peers = counts.peers.borrow_mut();
                if let Some(network) = network
                    && let Some(count) = peers.get_mut(&network)
                {
                    *count -= 1;
                    if *count == 0 {
                        peers.remove(&network);
                    }
                }
            }
            Kind::Overflowing => counts.overflowing.set(counts.overflowing.get() - 1),
            Kind::GivenUp => {}
        }
    }
}

impl Policy for Place {
    fn connection_lost(&self) {
        self.give_up();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// What counts as one peer.
pub(super) fn network(peer: &Address) -> Option<IpAddr> {
    const NETWORK: u128 = !0 << 64;
    peer.ip().map(|ip| match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & NETWORK).into(),
        ip => ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_ipv4_address_or_a_network_of_ipv6_addresses() {
        let of = |text: &str| network(&Address::Tcp(text.parse().expect("an address")));
        assert_eq!(of("10.0.0.1:1"), of("10.0.0.1:2"));
        assert_eq!(of("10.0.0.1:1"), of("[::ffff:10.0.0.1]:2"));
        assert_ne!(of("10.0.0.1:1"), of("10.0.0.2:1"));
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8:0:0:1::2]:1"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(network(&Address::Named("memory".into())), None);
    }
}
