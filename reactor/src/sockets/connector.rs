//! Connecting: from a name to a stream.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, IntoDeferred, Trigger, fail};

use crate::address::{Address, Host, ToTcpAddress};
use crate::core::{Core, Source};
use crate::delayed_call::DelayedCall;
use crate::descriptor::Readiness;
use crate::driver::StreamSocket;
use crate::error::{ConnectError, ConnectionLost};
use crate::resolver;
use crate::slab::Token;
use crate::sockets::{ConnectOptions, Connection};
use crate::stream::Stream;
use crate::thread_pool::PoolError;

/// How long a peer has to accept, and a resolver to answer: Twisted's 30 s.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Connects; tries the addresses of a name one after the other.
#[track_caller]
pub(crate) fn connect_tcp(
    core: &Rc<Core>,
    address: &impl ToTcpAddress,
) -> Deferred<Rc<dyn Stream>> {
    let address = match address.to_tcp_address() {
        Ok(address) => address,
        Err(error) => return fail(ConnectError::from(error)),
    };
    let addresses = match &address.host {
        Host::Literal(literal) => Ok::<_, Failure>(vec![*literal]).into_deferred(),
        Host::Name(name) => resolver::resolve(core, name, address.port),
    };
    let (core, shown) = (Rc::clone(core), address.to_string());
    let unknown = shown.clone();
    addresses
        .map_err(move |failure| lookup_error(unknown, failure))
        .add_callback(move |peers| try_each(&core, peers.into_iter(), shown, None))
}

fn try_each(
    core: &Rc<Core>,
    mut peers: std::vec::IntoIter<SocketAddr>,
    address: String,
    last: Option<ConnectError>,
) -> Deferred<Rc<dyn Stream>> {
    let Some(peer) = peers.next() else {
        return fail(last.unwrap_or_else(|| ConnectError::UnknownHost {
            address,
            source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        }));
    };
    let core = Rc::clone(core);
    attempt(&core, &peer.into(), address.clone()).add_errback(move |failure| {
        match failure.trap::<ConnectError>() {
            // The reactor stopped: no further attempt.
            Ok(error @ ConnectError::Interrupted(_)) => fail(error),
            Ok(error) => try_each(&core, peers, address, Some(error)),
            // Cancelled: no further attempt.
            Err(failure) => fail(failure),
        }
    })
}

/// The references to a connection that nobody else holds: the reactor's and the attempt's.
const KEPT_BY_THE_REACTOR: usize = 2;

/// Connects to one address.
fn attempt(core: &Rc<Core>, peer: &Address, address: String) -> Deferred<Rc<dyn Stream>> {
    let socket = match core.driver().connect(peer, &ConnectOptions::new()) {
        Ok(socket) => socket,
        Err(error) => return fail(connect_error(address, error)),
    };
    let (trigger, deferred) = Deferred::new();
    let attempt = core.add_source(|token| {
        Rc::new(Attempt {
            core: Rc::clone(core),
            token,
            peer: peer.clone(),
            address,
            socket: RefCell::new(Some(socket)),
            trigger: Cell::new(None),
            limit: Cell::new(None),
        })
    });
    let weak = Rc::downgrade(&attempt);
    trigger.on_cancel(move || {
        if let Some(attempt) = weak.upgrade() {
            attempt.give_up();
        }
    });
    attempt.trigger.set(Some(trigger));
    let watched = attempt
        .socket
        .borrow()
        .as_ref()
        .map(|socket| socket.watch(attempt.token));
    if let Some(Err(error)) = watched {
        attempt.failed(error);
        return deferred;
    }
    let weak = Rc::downgrade(&attempt);
    let limit = core.call_later(CONNECT_LIMIT, move || {
        if let Some(attempt) = weak.upgrade() {
            attempt.timed_out();
        }
    });
    attempt.limit.set(Some(limit));
    deferred
}

struct Attempt {
    core: Rc<Core>,
    token: Token,
    peer: Address,
    /// As the user wrote it, for errors.
    address: String,
    // These are `None` when the attempt is over.
    socket: RefCell<Option<Box<dyn StreamSocket>>>,
    trigger: Cell<Option<Trigger<Rc<dyn Stream>>>>,
    limit: Cell<Option<DelayedCall>>,
}

impl Attempt {
    /// Ends the attempt; its trigger is the caller's to fire, or to drop.
    fn give_up(&self) -> Option<Trigger<Rc<dyn Stream>>> {
        if let Some(limit) = self.limit.take() {
            limit.cancel();
        }
        if self.socket.take().is_some() {
            self.core.remove_source(self.token);
        }
        self.trigger.take()
    }

    fn failed(&self, error: io::Error) {
        if let Some(trigger) = self.give_up() {
            trigger.errback(connect_error(self.address.clone(), error));
        }
    }

    fn timed_out(&self) {
        if let Some(trigger) = self.give_up() {
            let address = self.address.clone();
            trigger.errback(ConnectError::TimedOut {
                address,
                limit: CONNECT_LIMIT,
            });
        }
    }

    fn connected(&self, socket: Box<dyn StreamSocket>, readiness: Readiness) {
        if let Some(limit) = self.limit.take() {
            limit.cancel();
        }
        let Some(trigger) = self.trigger.take() else {
            return self.core.remove_source(self.token);
        };
        let peer = self.peer.clone();
        let connection = Connection::connected(Rc::clone(&self.core), self.token, socket, peer);
        self.core
            .replace_source(self.token, Rc::clone(&connection) as Rc<dyn Source>);
        trigger.callback(Rc::clone(&connection) as Rc<dyn Stream>);
        if Rc::strong_count(&connection) == KEPT_BY_THE_REACTOR {
            // Nobody took it: the Deferred was dropped, or its chain has failed.
            connection.lose_connection(ConnectionLost::Done);
        }
        self.core.settle();
        connection.ready(readiness);
    }
}

impl Source for Attempt {
    fn ready(self: Rc<Self>, readiness: Readiness) {
        let outcome = self
            .socket
            .borrow()
            .as_ref()
            .map(|socket| socket.take_error());
        match outcome {
            Some(Ok(())) => {
                if let Some(socket) = self.socket.take() {
                    self.connected(socket, readiness);
                }
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Some(Err(error)) => self.failed(error),
            None => {}
        }
    }

    fn again(self: Rc<Self>) {}

    fn settle(self: Rc<Self>) {}

    fn stop(self: Rc<Self>) {
        if let Some(trigger) = self.give_up() {
            trigger.errback(ConnectError::Interrupted(Interrupted::Cancelled));
        }
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt to connect to {} ({})", self.address, self.peer)
    }
}

/// What the attempt fails with when its lookup has: only what the resolver said is an
/// unknown host.
fn lookup_error(address: String, failure: Failure) -> Failure {
    let failure = match failure.trap::<Interrupted>() {
        Ok(Interrupted::TimedOut(limit)) => {
            return ConnectError::TimedOut { address, limit }.into();
        }
        // Cancelled, as an attempt after its lookup would be.
        Ok(interrupted) => return interrupted.into(),
        Err(failure) => failure,
    };
    match failure.trap::<io::Error>() {
        Ok(source) => ConnectError::UnknownHost { address, source }.into(),
        // The line of lookups is full, or there is no thread.
        Err(failure) => {
            let source = match failure.trap::<PoolError>() {
                Ok(error) => io::Error::other(error),
                Err(failure) => io::Error::other(failure.to_string()),
            };
            ConnectError::Io { address, source }.into()
        }
    }
}

fn connect_error(address: String, source: io::Error) -> ConnectError {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused { address },
        _ => ConnectError::Io { address, source },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use crate::reactor::Reactor;

    use super::*;

    #[test]
    fn stop_ends_an_attempt_for_good_though_the_name_has_more_addresses() {
        let reactor = Reactor::new().expect("the system has descriptors left");
        let core = reactor.core();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("it is free"));
        let peers = listeners.map(|listener| listener.local_addr().expect("it is bound"));
        let peers = Vec::from(peers).into_iter();
        let attempt = try_each(core, peers, "two".into(), None);
        let sources: Vec<_> = core
            .sources
            .borrow()
            .iter()
            .map(|(_, registered)| Rc::clone(&registered.source))
            .collect();
        assert_eq!(sources.len(), 1);
        for source in sources {
            source.stop();
        }
        assert!(core.sources.borrow().is_empty(), "the next is tried");
        let outcome = attempt.map(drop).into_result();
        let failure = outcome.expect("it has fired").expect_err("nobody is there");
        assert!(matches!(
            failure.trap::<ConnectError>(),
            Ok(ConnectError::Interrupted(Interrupted::Cancelled))
        ));
    }

    #[test]
    fn only_what_the_resolver_says_is_an_unknown_host() {
        let check = |failure: Failure| lookup_error("x".into(), failure).trap::<ConnectError>();
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
        let limit = Duration::from_secs(1);
        assert!(matches!(
            check(Interrupted::TimedOut(limit).into()),
            Ok(ConnectError::TimedOut { limit: told, .. }) if told == limit
        ));
        let cancelled = check(Interrupted::Cancelled.into()).expect_err("no ConnectError");
        assert!(cancelled.check::<Interrupted>());
    }
}
