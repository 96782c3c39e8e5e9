//! Names to addresses and back: on threads of their own, or as the program says.
//!
//! # Bounds
//!
//! At most [`LOOKUPS_AT_ONCE`] threads, which end soon after the last lookup; further
//! lookups wait in line, each for at most [`LOOKUP_LIMIT`] with its answer. They share
//! nothing with any other pool: a slow name server delays names and nothing else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, IntoDeferred, fail, succeed};

use crate::address::{self, ToTcpAddress};
use crate::reactor::Reactor;
use crate::thread_pool::{PoolLimits, ThreadPool};

/// Lookups that may block at the same time.
const LOOKUPS_AT_ONCE: usize = 4;

/// How long a name server has, and the line before it: a connecting peer's 30 s.
pub(crate) const LOOKUP_LIMIT: Duration = Duration::from_secs(30);

/// Looks names up. Twisted's `IHostnameResolver`, whose errors have a way out.
///
/// A reactor has a [`SystemResolver`]; another takes its place with
/// [`Reactor::set_resolver`].
pub trait Resolve {
    /// The addresses of `host`, each with `port`, the best first; fails, or gives none, if there
    /// are none. Never called for what is an IP address, and always with a name in ASCII
    /// ([`ascii_host_name`](crate::ascii_host_name)).
    ///
    /// An [`io::Error`] becomes [`ConnectError::UnknownHost`](crate::ConnectError::UnknownHost).
    /// After 30 s, or when who connects gives up, the Deferred is cancelled.
    fn resolve(&self, reactor: &Reactor, host: &str, port: u16) -> Deferred<Vec<SocketAddr>>;

    /// The name of an address; fails with an [`io::Error`] of kind
    /// [`NotFound`](io::ErrorKind::NotFound) if it has none. Never called for an IPv4 address in
    /// the shape of an IPv6 one. After 30 s, or when who asks gives up, the Deferred is cancelled.
    ///
    /// Unless it is implemented, the system is asked.
    fn reverse_lookup(&self, reactor: &Reactor, ip: IpAddr) -> Deferred<String> {
        SystemResolver.reverse_lookup(reactor, ip)
    }
}

impl Reactor {
    /// Looks a name up without blocking the loop: all its addresses, in the order of the
    /// resolver's preference. What is an IP address, also with the name or number of an
    /// interface (`fe80::1%eth0`), is given back at once.
    ///
    /// # Errors
    ///
    /// As a rule the resolver's `io::Error`; [`Interrupted::TimedOut`](torsade_deferred::Interrupted::TimedOut)
    /// after 30 s; a [`PoolError`](crate::PoolError) if the line of lookups is full; an
    /// [`AddressError`](crate::AddressError) if no host can have such a name.
    ///
    /// # Cancellation
    ///
    /// Gives the answer up. A thread that asks already cannot be interrupted: its answer is
    /// thrown away.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), torsade_deferred::Failure> {
    /// let reactor = torsade_reactor::Reactor::new()?;
    /// let addresses = reactor.run_until(reactor.resolve("localhost", 80))?;
    /// assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn resolve(&self, host: &str, port: u16) -> Deferred<Vec<SocketAddr>> {
        let host = match address::ascii_host_name(host) {
            Ok(host) => host,
            // The name of an interface is the system's own affair.
            Err(_) if address::is_scoped(host) => Cow::Borrowed(host),
            Err(error) => return fail(error),
        };
        let host = &*host;
        if let Ok(address) = (host, port).to_tcp_address()
            && let Some(literal) = address.literal()
        {
            return succeed(vec![literal]);
        }
        if address::is_scoped(host) {
            // The system knows its interfaces by heart: nothing that blocks.
            let names = self.core().driver().names();
            return names.resolve(host, port).into_deferred().err_into();
        }
        let answer = self.resolver().resolve(self, host, port);
        answer.add_timeout(LOOKUP_LIMIT, self)
    }

    /// The name of an address, without blocking the loop: of a peer, for a log. What libuv and
    /// asyncio call `getnameinfo`; Twisted has it as `names.client.lookupPointer`.
    ///
    /// Who owns an address says what it is called, so the name proves nothing: whoever lets peers
    /// in by their names [`resolve`](Self::resolve)s it again and looks whether `ip` is among
    /// the addresses. It is in ASCII, as name servers have it. (The number alone is
    /// `ip.to_string()`; `::ffff:192.0.2.1` is asked for as `192.0.2.1`.)
    ///
    /// # Errors
    ///
    /// As a rule the resolver's `io::Error`, of kind [`NotFound`](io::ErrorKind::NotFound) if the
    /// address has no name; [`Interrupted::TimedOut`](torsade_deferred::Interrupted::TimedOut)
    /// after 30 s; a [`PoolError`](crate::PoolError) if the line of lookups is full.
    ///
    /// # Cancellation
    ///
    /// Gives the answer up. A thread that asks already cannot be interrupted: its answer is
    /// thrown away.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_reactor::{Hosts, Reactor};
    ///
    /// # fn main() -> Result<(), torsade_deferred::Failure> {
    /// let reactor = Reactor::new()?;
    /// reactor.set_resolver(Hosts::new().host("db.test", [[192, 0, 2, 1]]));
    /// let name = reactor.run_until(reactor.reverse_lookup([192, 0, 2, 1]))?;
    /// assert_eq!(name, "db.test");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn reverse_lookup(&self, ip: impl Into<IpAddr>) -> Deferred<String> {
        // A port for both families has peers of the one in the shape of the other.
        let ip = ip.into().to_canonical();
        let answer = self.resolver().reverse_lookup(self, ip);
        answer.add_timeout(LOOKUP_LIMIT, self)
    }

    /// Who looks names up: detached, to be called.
    fn resolver(&self) -> Rc<dyn Resolve> {
        let custom = self.core().lookups.borrow().resolver.clone();
        custom.unwrap_or_else(|| Rc::new(SystemResolver))
    }

    /// Has `resolver` look up names and addresses from now on, also for whoever connects and
    /// listens through an endpoint. Twisted's `installNameResolver`.
    pub fn set_resolver(&self, resolver: impl Resolve + 'static) {
        let resolver: Rc<dyn Resolve> = Rc::new(resolver);
        let replaced = self.core().lookups.borrow_mut().resolver.replace(resolver);
        drop(replaced);
    }
}

/// Asks the system, as every program does (`getaddrinfo`, `getnameinfo`): `/etc/hosts`, name
/// servers, and whatever else it is set up for. On threads that do nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, reactor: &Reactor, host: &str, port: u16) -> Deferred<Vec<SocketAddr>> {
        let core = reactor.core();
        let pool = core.lookups.borrow_mut().pool();
        let (names, host) = (core.driver().names(), host.to_owned());
        reactor.defer_to_thread_pool(&pool, move || names.resolve(&host, port))
    }

    fn reverse_lookup(&self, reactor: &Reactor, ip: IpAddr) -> Deferred<String> {
        let core = reactor.core();
        let pool = core.lookups.borrow_mut().pool();
        let names = core.driver().names();
        reactor.defer_to_thread_pool(&pool, move || names.reverse_lookup(ip))
    }
}

/// Names and addresses from a table: for tests, and for what no name server knows.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{Hosts, Reactor, SystemResolver};
///
/// # fn main() -> Result<(), torsade_deferred::Failure> {
/// let reactor = Reactor::new()?;
/// let hosts = Hosts::new().host("db.test", [[127, 0, 0, 1], [127, 0, 0, 2]]);
/// reactor.set_resolver(hosts.or_else(SystemResolver));
/// let addresses = reactor.run_until(reactor.resolve("DB.test", 80))?;
/// assert_eq!(addresses.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Hosts {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    names: BTreeMap<IpAddr, String>,
    next: Option<Rc<dyn Resolve>>,
}

impl Hosts {
    /// A table with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds addresses to a name, the best first. Capital letters are small ones, and a name
    /// that is not ASCII is found as it is asked for. An address is called as the first name that
    /// it was added to.
    #[must_use]
    pub fn host<A: Into<IpAddr>>(
        mut self,
        name: &str,
        addresses: impl IntoIterator<Item = A>,
    ) -> Self {
        // What is no name is never asked for.
        let ascii = address::ascii_host_name(name).unwrap_or(Cow::Borrowed(name));
        let name = ascii.to_ascii_lowercase();
        let known = self.addresses.entry(name.clone()).or_default();
        for ip in addresses.into_iter().map(Into::into) {
            known.push(ip);
            let called = self.names.entry(ip.to_canonical());
            called.or_insert_with(|| name.clone());
        }
        self
    }

    /// Has `next` asked for the names and addresses that are not in the table.
    #[must_use]
    pub fn or_else(mut self, next: impl Resolve + 'static) -> Self {
        self.next = Some(Rc::new(next));
        self
    }
}

impl Resolve for Hosts {
    fn resolve(&self, reactor: &Reactor, host: &str, port: u16) -> Deferred<Vec<SocketAddr>> {
        match (self.addresses.get(&host.to_ascii_lowercase()), &self.next) {
            (Some(addresses), _) => {
                let with_port = |ip: &IpAddr| SocketAddr::from((*ip, port));
                succeed(addresses.iter().map(with_port).collect())
            }
            (None, Some(next)) => next.resolve(reactor, host, port),
            (None, None) => fail(unknown("the name is not in the table of hosts")),
        }
    }

    fn reverse_lookup(&self, reactor: &Reactor, ip: IpAddr) -> Deferred<String> {
        match (self.names.get(&ip), &self.next) {
            (Some(name), _) => succeed(name.clone()),
            (None, Some(next)) => next.reverse_lookup(reactor, ip),
            (None, None) => fail(unknown("the address is not in the table of hosts")),
        }
    }
}

fn unknown(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, what)
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosts")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// The reactor's pool for lookups, once there has been one, and the resolver of the user's.
#[derive(Default)]
pub(crate) struct Lookups {
    pool: Option<ThreadPool>,
    resolver: Option<Rc<dyn Resolve>>,
}

impl Lookups {
    pub(crate) fn dump(&self) -> Option<String> {
        self.pool.as_ref().map(|pool| format!("{pool:?}"))
    }

    fn pool(&mut self) -> ThreadPool {
        let pool = self.pool.get_or_insert_with(|| {
            let limits = PoolLimits {
                threads_max: LOOKUPS_AT_ONCE,
                ..PoolLimits::default()
            };
            ThreadPool::with_limits("torsade-resolver", limits)
        });
        pool.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use torsade_deferred::Interrupted;

    use crate::testing;
    use crate::thread_pool::PoolError;

    use super::*;

    /// Looks up with a pool that never comes to it, and room for so many.
    #[track_caller]
    fn check_unanswered<E: Error + 'static>(queued_max: usize) {
        check_unanswered_by::<E, _>(queued_max, |reactor| reactor.resolve("host", 7));
        check_unanswered_by::<E, _>(queued_max, |reactor| reactor.reverse_lookup([192, 0, 2, 1]));
    }

    #[track_caller]
    fn check_unanswered_by<E: Error + 'static, T: 'static>(
        queued_max: usize,
        look_up: impl Fn(&Reactor) -> Deferred<T>,
    ) {
        let reactor = testing::virtual_time_reactor();
        let limits = PoolLimits {
            threads_max: 0,
            queued_max,
            ..PoolLimits::default()
        };
        let pool = ThreadPool::with_limits("never", limits);
        reactor.core().lookups.borrow_mut().pool = Some(pool.clone());
        let begun = reactor.now();
        let answer = reactor.run_until(look_up(&reactor).map(drop));
        let failure = answer.expect_err("nobody answers");
        assert!(failure.check::<E>(), "{failure}");
        let passed = reactor.now() - begun;
        assert_eq!(passed >= LOOKUP_LIMIT, queued_max > 0);
        assert_eq!(pool.statistics().queued, 0, "it is not left in line");
    }

    #[test]
    fn a_lookup_that_is_given_up_leaves_the_line() {
        let reactor = testing::virtual_time_reactor();
        let limits = PoolLimits {
            threads_max: 0,
            ..PoolLimits::default()
        };
        let pool = ThreadPool::with_limits("never", limits);
        reactor.core().lookups.borrow_mut().pool = Some(pool.clone());
        let answer = reactor.reverse_lookup([192, 0, 2, 1]);
        assert_eq!(pool.statistics().queued, 1);
        answer.cancel();
        assert_eq!(pool.statistics().queued, 0);
        let failure = answer.into_result().expect("it has fired");
        assert!(failure.expect_err("given up").check::<Interrupted>());
    }

    #[test]
    fn lookup_without_an_answer_fails_at_its_deadline_and_leaves_the_line() {
        check_unanswered::<Interrupted>(1);
    }

    #[test]
    fn lookup_beyond_the_line_fails_at_once() {
        check_unanswered::<PoolError>(0);
    }
}
