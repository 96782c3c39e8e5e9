//! TCP: where to connect, by name or by number, and where to listen.
//!
//! One type for each side, whether the host is a name or a number: a number is a name with one
//! address that needs no lookup, and who reads an address from a file does not know which it
//! is. (Twisted has `TCP4ClientEndpoint`, `TCP6ClientEndpoint` and `HostnameEndpoint`.)

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade_deferred::{Deferred, Failure, Interrupted, IntoDeferred, fail};

use super::eyeballs::{ATTEMPT_DELAY, Eyeballs};
use super::race::{Terms, race};
use super::{ClientEndpoint, ServerEndpoint};
use crate::address::{AddressError, TcpAddress, ToTcpAddress};
use crate::connect_error::ConnectError;
use crate::error::ListenError;
use crate::protocol::Acceptor;
use crate::reactor::Reactor;
use crate::sockets::{self, ConnectOptions, ListenOptions, Port, SocketOption};
use crate::stream::Stream;
use crate::thread_pool::PoolError;

/// How long a connection may take, its lookup included: Twisted's 30 s.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    fn includes(self, address: &SocketAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// A TCP port to connect to, by name or by number.
///
/// A name is looked up each time, and all its addresses are tried, families taking turns: the
/// next one 250 ms after the one before, or at once when one fails. The first that connects
/// wins, the others are given up (RFC 8305, "Happy Eyeballs").
///
/// # Errors
///
/// [`ConnectError`]. If all addresses fail, the reported one is that which says most of the
/// peer: refused, then no answer, not permitted, another error, and no route at last; of equals
/// the first. The rest are [in it](ConnectError::attempts).
///
/// # Cancellation
///
/// Gives up the lookup, the delay and every attempt, and fails with
/// [`Interrupted::Cancelled`](torsade_deferred::Interrupted::Cancelled), as for every Deferred
/// (not with a `ConnectError`, as Twisted does).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::TcpClientEndpoint;
///
/// let endpoint = TcpClientEndpoint::new("example.com:80").timeout(Duration::from_secs(5));
/// # let _ = endpoint;
/// ```
#[derive(Clone, Debug)]
pub struct TcpClientEndpoint {
    /// What is wrong with it is told when it connects.
    address: Result<TcpAddress, AddressError>,
    options: ConnectOptions,
    family: Option<IpFamily>,
    limit: Duration,
    attempt_delay: Duration,
}

impl TcpClientEndpoint {
    /// The TCP port at this address: `"example.com:80"`, `"[::1]:80"`, `("example.com", 80)`.
    pub fn new(address: impl ToTcpAddress) -> Self {
        Self {
            address: address.to_tcp_address(),
            options: ConnectOptions::new(),
            family: None,
            limit: CONNECT_LIMIT,
            attempt_delay: ATTEMPT_DELAY,
        }
    }

    /// How long it may take in all, from the lookup to the connection: 30 s unless this says
    /// otherwise. Then it fails with [`ConnectError::TimedOut`].
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long an attempt has before the next begins beside it: 250 ms unless this says
    /// otherwise, and never less than 10 ms (RFC 8305 §8).
    #[must_use]
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = delay;
        self
    }

    /// The address to connect from; port 0 for any. Only addresses of its family are tried.
    /// Twisted's `bindAddress`.
    #[must_use]
    pub fn local_address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.options = self.options.local_address(address.into());
        self
    }

    /// Tries addresses of this family alone.
    #[must_use]
    pub fn family(mut self, family: IpFamily) -> Self {
        self.family = Some(family);
        self
    }

    /// An option of the socket, set before it connects.
    #[must_use]
    pub fn option(mut self, option: SocketOption) -> Self {
        self.options = self.options.option(option);
        self
    }

    fn is_wanted(&self, address: &SocketAddr) -> bool {
        let by_family = self.family.is_none_or(|family| family.includes(address));
        let by_local = self
            .options
            .local_address
            .is_none_or(|local| local.is_ipv4() == address.is_ipv4());
        by_family && by_local
    }

    /// Connects to one of these, each tried in its time.
    fn try_all(
        &self,
        reactor: &Reactor,
        peers: Vec<SocketAddr>,
        address: &TcpAddress,
        deadline: Instant,
    ) -> Deferred<Rc<dyn Stream>> {
        let known = peers.len();
        let wanted = peers.into_iter().filter(|peer| self.is_wanted(peer));
        let eyeballs = Eyeballs::new(wanted, self.attempt_delay);
        let terms = Terms {
            address: address.to_string(),
            limit: self.limit,
            deadline,
        };
        if eyeballs.is_exhausted() {
            let problem = if known == 0 {
                "the name has no address"
            } else {
                "the name has no address of the family that is wanted"
            };
            return fail(ConnectError::UnknownHost {
                address: terms.address,
                source: io::Error::new(io::ErrorKind::NotFound, problem),
            });
        }
        let (core, options) = (Rc::downgrade(reactor.core()), self.options.clone());
        race(reactor.core(), eyeballs, terms, move |peer| {
            match core.upgrade() {
                Some(core) => sockets::connect(&core, &peer.into(), &options),
                None => fail(Interrupted::Cancelled),
            }
        })
    }
}

impl ClientEndpoint for TcpClientEndpoint {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let address = match &self.address {
            Ok(address) => address.clone(),
            Err(error) => return fail(ConnectError::from(error.clone())),
        };
        let deadline = reactor.core().later(self.limit);
        if let Some(literal) = address.literal() {
            return self.try_all(reactor, vec![literal], &address, deadline);
        }
        let (shown, limit) = (address.to_string(), self.limit);
        let (endpoint, weak) = (self.clone(), reactor.downgrade());
        // Whoever answers the lookup does not connect.
        let origin = reactor.core().origin();
        reactor
            .resolve(address.name(), address.port())
            .add_timeout(limit, reactor)
            .map_err(move |failure| lookup_error(shown, limit, failure))
            .add_callback(move |peers| match weak.upgrade() {
                Some(reactor) => {
                    let try_all = || endpoint.try_all(&reactor, peers, &address, deadline);
                    match origin {
                        Some(origin) => reactor.core().on_behalf_of(origin, try_all),
                        None => try_all(),
                    }
                }
                None => fail(Interrupted::Cancelled),
            })
    }
}

/// A TCP port to listen on.
///
/// # Errors
///
/// [`ListenError`], through the Deferred.
///
/// # Examples
///
/// ```
/// use torsade_reactor::TcpServerEndpoint;
///
/// let endpoint = TcpServerEndpoint::new("[::1]:8007").backlog(50);
/// # let _ = endpoint;
/// ```
#[derive(Clone, Debug)]
pub struct TcpServerEndpoint {
    /// What is wrong with it is told when it listens.
    address: Result<TcpAddress, AddressError>,
    options: ListenOptions,
    family: Option<IpFamily>,
}

impl TcpServerEndpoint {
    /// The TCP port at this address: `"127.0.0.1:8007"`, `":8007"` for every IPv4 interface,
    /// `"[::]:8007"` for every interface; port 0 for a free one. A name is looked up when it
    /// listens, without blocking the loop, and the first of its addresses that can be listened
    /// on is.
    pub fn new(address: impl ToTcpAddress) -> Self {
        Self {
            address: address.to_tcp_address(),
            options: ListenOptions::new(),
            family: None,
        }
    }

    /// How many connections the system holds that have not been accepted yet; see
    /// [`ListenOptions::backlog`].
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options = self.options.backlog(connections);
        self
    }

    /// Whether several ports may share the address; see [`ListenOptions::reuse_port`].
    #[must_use]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.options = self.options.reuse_port(on);
        self
    }

    /// Whether an IPv6 address leaves IPv4 alone; see [`ListenOptions::only_v6`].
    #[must_use]
    pub fn only_v6(mut self, on: bool) -> Self {
        self.options = self.options.only_v6(on);
        self
    }

    /// All the options at once, in place of those before.
    #[must_use]
    pub fn options(mut self, options: ListenOptions) -> Self {
        self.options = options;
        self
    }

    /// Listens on an address of this family alone.
    #[must_use]
    pub fn family(mut self, family: IpFamily) -> Self {
        self.family = Some(family);
        self
    }

    fn listen_on(
        &self,
        reactor: &Reactor,
        candidates: Vec<SocketAddr>,
        address: &TcpAddress,
        acceptor: &Rc<dyn Acceptor>,
    ) -> Result<Port, ListenError> {
        let mut last = None;
        let wanted = |address: &SocketAddr| self.family.is_none_or(|f| f.includes(address));
        for candidate in candidates.into_iter().filter(wanted) {
            let acceptor = Rc::clone(acceptor);
            match sockets::listen_on(reactor.core(), &candidate.into(), &self.options, acceptor) {
                Ok(port) => return Ok(port),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ListenError::UnknownHost {
            address: address.to_string(),
            source: io::Error::new(
                io::ErrorKind::NotFound,
                "it has no address of the family that is wanted",
            ),
        }))
    }
}

impl ServerEndpoint for TcpServerEndpoint {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let address = match &self.address {
            Ok(address) => address.clone(),
            Err(error) => return fail(ListenError::from(error.clone())),
        };
        if let Some(literal) = address.literal() {
            return self
                .listen_on(reactor, vec![literal], &address, &acceptor)
                // Not as a path: the failure's origin would be a line of std's.
                .map_err(|error| Failure::new(error))
                .into_deferred();
        }
        let (endpoint, weak, shown) = (self.clone(), reactor.downgrade(), address.to_string());
        reactor
            .resolve(address.name(), address.port())
            .map_err(move |failure| match failure.trap::<io::Error>() {
                Ok(source) => ListenError::UnknownHost {
                    address: shown,
                    source,
                }
                .into(),
                // Cancelled, or too late.
                Err(failure) => failure,
            })
            .add_callback(move |candidates| match weak.upgrade() {
                Some(reactor) => Ok(endpoint.listen_on(&reactor, candidates, &address, &acceptor)?),
                None => Err(Interrupted::Cancelled.into()),
            })
    }
}

/// What a connection fails with when its lookup has: only what the resolver said is an
/// unknown host.
fn lookup_error(address: String, limit: Duration, failure: Failure) -> Failure {
    let failure = match failure.trap::<Interrupted>() {
        Ok(Interrupted::TimedOut(lookup)) => {
            return ConnectError::TimedOut {
                address,
                limit: limit.min(lookup),
                others: Vec::new(),
            }
            .into();
        }
        // Cancelled, as an attempt after its lookup would be.
        Ok(interrupted) => return interrupted.into(),
        Err(failure) => failure,
    };
    match failure.trap::<io::Error>() {
        Ok(source) => ConnectError::UnknownHost { address, source }.into(),
        // The line of lookups is full, there is no thread, or the resolver is the user's.
        Err(failure) => {
            let source = match failure.trap::<PoolError>() {
                Ok(error) => io::Error::other(error),
                Err(failure) => io::Error::other(failure.to_string()),
            };
            let others = Vec::new();
            ConnectError::Io {
                address,
                source,
                others,
            }
            .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_resolver_says_is_an_unknown_host() {
        let limit = Duration::from_secs(1);
        let check = |failure: Failure| {
            lookup_error("x".into(), CONNECT_LIMIT, failure).trap::<ConnectError>()
        };
        let unknown = io::Error::from(io::ErrorKind::NotFound);
        assert!(matches!(
            check(unknown.into()),
            Ok(ConnectError::UnknownHost { .. })
        ));
        let overloaded = PoolError::Overloaded {
            pool: "names".into(),
            queued_max: 1,
        };
        assert!(matches!(
            check(overloaded.into()),
            Ok(ConnectError::Io { .. })
        ));
        assert!(matches!(
            check(Interrupted::TimedOut(limit).into()),
            Ok(ConnectError::TimedOut { limit: told, .. }) if told == limit
        ));
        let cancelled = check(Interrupted::Cancelled.into()).expect_err("no ConnectError");
        assert!(cancelled.check::<Interrupted>());
    }
}
