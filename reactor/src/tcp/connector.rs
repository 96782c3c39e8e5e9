//! Connecting: from a name to a protocol in its seat.

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
use crate::error::ConnectError;
use crate::panics;
use crate::protocol::Protocol;
use crate::resolver;
use crate::slab::Token;
use crate::stream::Stream;
use crate::tcp::Connection;
use crate::thread_pool::PoolError;
use crate::transport::Transport;

/// How long a peer has to accept, and a resolver to answer: Twisted's 30 s.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Connects, tries the addresses of a name one after the other, and seats the
/// protocol.
#[track_caller]
pub(crate) fn connect<P: Protocol>(
    core: &Rc<Core>,
    address: &impl ToTcpAddress,
    build: impl FnOnce(&Address) -> P + 'static,
) -> Deferred<Transport<P>> {
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
        .add_callback(move |peers| try_each(&core, peers.into_iter(), shown, None, Box::new(build)))
}

type Build<P> = Box<dyn FnOnce(&Address) -> P>;

fn try_each<P: Protocol>(
    core: &Rc<Core>,
    mut peers: std::vec::IntoIter<SocketAddr>,
    address: String,
    last: Option<ConnectError>,
    build: Build<P>,
) -> Deferred<Transport<P>> {
    let Some(peer) = peers.next() else {
        return fail(last.unwrap_or_else(|| ConnectError::UnknownHost {
            address,
            source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        }));
    };
    // The attempt that succeeds takes it.
    let build = Rc::new(Cell::new(Some(build)));
    let (core, spare) = (Rc::clone(core), Rc::clone(&build));
    attempt(&core, peer, address.clone(), build).add_errback(move |failure| {
        match (failure.trap::<ConnectError>(), spare.take()) {
            // The reactor stopped: no further attempt.
            (Ok(error @ ConnectError::Interrupted(_)), _) | (Ok(error), None) => fail(error),
            (Ok(error), Some(build)) => try_each(&core, peers, address, Some(error), build),
            // Cancelled: no further attempt.
            (Err(failure), _) => fail(failure),
        }
    })
}

/// Connects to one address.
fn attempt<P: Protocol>(
    core: &Rc<Core>,
    peer: SocketAddr,
    address: String,
    build: Rc<Cell<Option<Build<P>>>>,
) -> Deferred<Transport<P>> {
    let socket = match core.driver().connect(peer) {
        Ok(socket) => socket,
        Err(error) => return fail(connect_error(address, error)),
    };
    let (trigger, deferred) = Deferred::new();
    let attempt = core.add_source(|token| {
        Rc::new(Attempt {
            core: Rc::clone(core),
            token,
            peer,
            address,
            socket: RefCell::new(Some(socket)),
            trigger: Cell::new(None),
            build,
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

struct Attempt<P: Protocol> {
    core: Rc<Core>,
    token: Token,
    peer: SocketAddr,
    /// As the user wrote it, for errors.
    address: String,
    // These are `None` when the attempt is over.
    socket: RefCell<Option<Box<dyn StreamSocket>>>,
    trigger: Cell<Option<Trigger<Transport<P>>>>,
    limit: Cell<Option<DelayedCall>>,
    build: Rc<Cell<Option<Build<P>>>>,
}

impl<P: Protocol> Attempt<P> {
    /// Ends the attempt; its trigger is the caller's to fire, or to drop.
    fn give_up(&self) -> Option<Trigger<Transport<P>>> {
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
        let (Some(trigger), Some(build)) = (self.trigger.take(), self.build.take()) else {
            return self.core.remove_source(self.token);
        };
        let connection =
            Connection::connected(Rc::clone(&self.core), self.token, socket, self.peer);
        self.core
            .replace_source(self.token, Rc::clone(&connection) as Rc<dyn Source>);
        // A panic in `build` is this attempt's failure. One in `connection_made` is the
        // connection's, which is lost for it; the attempt has made it.
        let stream = Rc::clone(&connection) as Rc<dyn Stream>;
        let address = self.peer.into();
        match panics::catch(|| build(&address)) {
            Ok(protocol) => {
                let transport = Transport::connect(protocol, stream);
                self.core.settle();
                trigger.callback(transport);
            }
            Err(panicked) => {
                stream.abort_connection();
                trigger.errback(Failure::from(panicked));
            }
        }
        self.core.settle();
        connection.ready(readiness);
    }
}

impl<P: Protocol> Source for Attempt<P> {
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

    struct Quiet;

    impl Protocol for Quiet {
        fn data_received(&mut self, _transport: &Transport<Self>, _data: &[u8]) {}
    }

    #[test]
    fn stop_ends_an_attempt_for_good_though_the_name_has_more_addresses() {
        let reactor = Reactor::new().expect("the system has descriptors left");
        let core = reactor.core();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("it is free"));
        let peers = listeners.map(|listener| listener.local_addr().expect("it is bound"));
        let peers = Vec::from(peers).into_iter();
        let attempt = try_each(core, peers, "two".into(), None, Box::new(|_| Quiet));
        let sources: Vec<_> = core
            .sources
            .borrow()
            .iter()
            .map(|(_, source)| Rc::clone(source))
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
