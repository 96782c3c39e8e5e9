//! Where to connect and where to listen, as values.
//!
//! An endpoint knows how a stream is made and says nothing of what is spoken on it: the
//! protocol comes with [`Reactor::connect`] and [`Reactor::listen`]. One endpoint may
//! wrap another: TLS over TCP is one, and looks like any other.

use std::panic::Location;
use std::rc::Rc;

use torsade_deferred::Deferred;

use crate::address::Address;
use crate::protocol::{self, Acceptor, Factory, Protocol, Seating};
use crate::reactor::Reactor;
use crate::sockets::Port;
use crate::stream::Stream;
use crate::transport::Transport;

/// A place to connect to. Twisted's `IStreamClientEndpoint`.
pub trait ClientEndpoint {
    /// Makes a stream to the peer, once for each call. It reads nothing before it has a
    /// receiver, so nothing is lost until somebody takes it.
    ///
    /// Every error comes through the Deferred.
    ///
    /// # Cancellation
    ///
    /// Gives up everything that was begun: lookups, attempts, handshakes.
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>>;
}

/// A place to listen at. Twisted's `IStreamServerEndpoint`.
pub trait ServerEndpoint {
    /// Listens, and hands each connection to `acceptor`.
    ///
    /// Every error comes through the Deferred.
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port>;
}

impl Reactor {
    /// Connects to an endpoint, and seats the protocol that `build` makes on the stream.
    /// Fires with its transport, after `connection_made`.
    ///
    /// # Errors
    ///
    /// What the endpoint fails with, as a rule a [`ConnectError`](crate::ConnectError).
    ///
    /// # Cancellation
    ///
    /// Gives the attempt up; `build` is not called.
    #[track_caller]
    pub fn connect<P: Protocol>(
        &self,
        endpoint: &(impl ClientEndpoint + ?Sized),
        build: impl FnOnce(&Address) -> P + 'static,
    ) -> Deferred<Transport<P>> {
        self.core()
            .on_behalf_of(Location::caller(), || endpoint.connect_stream(self))
            .add_callback(move |stream| protocol::seat(stream, build))
    }

    /// Listens at an endpoint, and seats a protocol from `factory` on every connection.
    /// Fires with the port when it listens.
    ///
    /// # Errors
    ///
    /// What the endpoint fails with, as a rule a [`ListenError`](crate::ListenError).
    #[track_caller]
    pub fn listen(
        &self,
        endpoint: &(impl ServerEndpoint + ?Sized),
        factory: impl Factory,
    ) -> Deferred<Port> {
        self.core().on_behalf_of(Location::caller(), || {
            endpoint.listen_streams(self, Rc::new(Seating::new(factory)))
        })
    }
}
