//! Where to connect and where to listen, as values.
//!
//! An endpoint knows how a stream is made and says nothing of what is spoken on it: the
//! protocol comes with [`Reactor::connect`] and [`Reactor::listen`]. One endpoint may
//! wrap another: TLS over TCP is one, and looks like any other.

mod eyeballs;
mod parsers;
mod race;
mod syntax;
mod tcp;
mod unix;

use std::panic::Location;
use std::rc::Rc;

use torsade_deferred::Deferred;

use crate::address::Address;
use crate::protocol::{self, Acceptor, Built, Factory, Protocol, Seating};
use crate::reactor::Reactor;
use crate::sockets::Port;
use crate::stream::Stream;
use crate::transport::Transport;

pub use self::parsers::EndpointParsers;
pub use self::syntax::{EndpointArguments, EndpointError, quote_endpoint_argument};
pub use self::tcp::{IpFamily, TcpClientEndpoint, TcpServerEndpoint};
pub use self::unix::{AdoptedServerEndpoint, UnixClientEndpoint, UnixServerEndpoint};

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

macro_rules! endpoints_by_pointer {
    ($($pointer:ty),*) => {$(
        impl<E: ClientEndpoint + ?Sized> ClientEndpoint for $pointer {
            fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
                (**self).connect_stream(reactor)
            }
        }

        impl<E: ServerEndpoint + ?Sized> ServerEndpoint for $pointer {
            fn listen_streams(
                &self,
                reactor: &Reactor,
                acceptor: Rc<dyn Acceptor>,
            ) -> Deferred<Port> {
                (**self).listen_streams(reactor, acceptor)
            }
        }
    )*};
}

endpoints_by_pointer!(&E, Box<E>, Rc<E>);

impl Reactor {
    /// Connects to an endpoint, and seats the protocol that `build` makes on the stream.
    /// Fires with its transport, after `connection_made`.
    ///
    /// `build` gets the peer's address, and gives a protocol, or an `Option` of one to refuse
    /// the peer.
    ///
    /// # Errors
    ///
    /// What the endpoint fails with, as a rule a [`ConnectError`](crate::ConnectError);
    /// [`ConnectError::NoProtocol`](crate::ConnectError::NoProtocol) if `build` gives none, and
    /// then the connection is closed.
    ///
    /// # Cancellation
    ///
    /// Gives the attempt up; `build` is not called.
    #[track_caller]
    pub fn connect<B: Built>(
        &self,
        endpoint: &(impl ClientEndpoint + ?Sized),
        build: impl FnOnce(&Address) -> B + 'static,
    ) -> Deferred<Transport<B::Protocol>> {
        self.core()
            .on_behalf_of(Location::caller(), || endpoint.connect_stream(self))
            .add_callback(move |stream| protocol::seat(stream, build))
    }

    /// Connects a protocol that is there already. Twisted's `connectProtocol`.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Reactor::connect); the protocol is then dropped.
    ///
    /// # Cancellation
    ///
    /// Gives the attempt up, and drops the protocol.
    #[track_caller]
    pub fn connect_protocol<P: Protocol>(
        &self,
        endpoint: &(impl ClientEndpoint + ?Sized),
        protocol: P,
    ) -> Deferred<Transport<P>> {
        self.connect(endpoint, move |_| protocol)
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
        let seating = Rc::new(Seating::new(factory));
        self.core().on_behalf_of(Location::caller(), || {
            endpoint.listen_streams(self, seating)
        })
    }
}
