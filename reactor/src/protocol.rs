//! What users implement: protocols, and factories that build them.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use torsade_deferred::Failure;

use crate::address::Address;
use crate::connect_error::ConnectError;
use crate::error::ConnectionLost;
use crate::panics;
use crate::stream::Stream;
use crate::transport::Transport;

/// One end of one connection, as callbacks.
///
/// Called by the reactor, on its thread, never two at a time for one connection.
///
/// # Order
///
/// [`connection_made`](Protocol::connection_made) first and once,
/// [`connection_lost`](Protocol::connection_lost) last and once, with everything
/// else between. No method is called from inside another: what happens meanwhile
/// waits until the method returns.
///
/// # Reentrancy
///
/// Every method may call everything: on its transport, on others, on the reactor.
/// A panic in a method ends this connection, with
/// [`ConnectionLost::Panicked`], and nothing else.
///
/// Twisted's `IProtocol`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    note = "implement `Protocol` for it; a `LineReceiver` becomes a protocol as `Lines::new(..)`"
)]
pub trait Protocol: Sized + 'static {
    /// Called once, before anything else, when the connection stands.
    fn connection_made(&mut self, transport: &Transport<Self>) {
        let _ = transport;
    }

    /// Called whenever bytes have come.
    ///
    /// Where one chunk ends and the next begins says nothing: the peer's writes may
    /// arrive in any pieces, down to single bytes. Test with that.
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]);

    /// Called once, before [`connection_made`](Protocol::connection_made), with the stream that it
    /// is to be seated on; gives the one that it wants: this one, or a layer over it. For
    /// protocols that wrap another and bring the layer for it, such as TLS.
    fn put_layer(&mut self, stream: Rc<dyn Stream>) -> Rc<dyn Stream> {
        stream
    }

    /// Called when the peer has ended its stream: nothing more will come, though it
    /// may still read.
    ///
    /// By default the connection is lost in order, after what is unsent has been sent.
    /// Override this to go on writing; the connection then lasts until
    /// [`lose_connection`](Transport::lose_connection), or until our stream has ended, too.
    /// Twisted's `IHalfCloseableProtocol.readConnectionLost`.
    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        transport.lose_connection();
    }

    /// Called when more than the high mark is unsent: the peer reads more slowly than
    /// this protocol writes.
    ///
    /// Comes when the callback in which it happened has returned, and what could be sent
    /// then was sent. Always followed by [`write_resumed`](Protocol::write_resumed), or by
    /// the end; the other never comes without this one.
    /// Between the two, nothing is read from the peer of an accepted connection either: who
    /// takes no answers gets to ask no more.
    fn write_paused(&mut self, transport: &Transport<Self>) {
        let _ = transport;
    }

    /// Called when what is unsent has sunk to the low mark.
    fn write_resumed(&mut self, transport: &Transport<Self>) {
        let _ = transport;
    }

    /// Called when the connection will be lost as soon as this returns, though neither peer nor
    /// protocol wants that: the reactor stops, or a policy such as
    /// [`TimeoutServerEndpoint`](crate::TimeoutServerEndpoint) has run out of patience. For last
    /// words: what is written in here is still sent; when the reactor stops, as far as the system
    /// takes it at once, and no answer is read. [`connection_lost`](Protocol::connection_lost)
    /// follows.
    ///
    /// By default nothing. Twisted has no word for it: there a protocol that wants it asks for a
    /// trigger before the shutdown, as it can here
    /// ([`Reactor::on_shutdown`](crate::Reactor::on_shutdown)) if it has to wait for the peer.
    fn about_to_be_lost(&mut self, transport: &Transport<Self>) {
        let _ = transport;
    }

    /// Called once, after everything else. The protocol is dropped when it returns.
    fn connection_lost(&mut self, reason: ConnectionLost) {
        drop(reason);
    }
}

/// Builds a protocol for each connection that a port accepts.
///
/// Implemented for closures: `|peer: &Address| Echo`, or one that returns
/// `Option<Echo>` to refuse some peers. Twisted's `IProtocolFactory`.
pub trait Factory: 'static {
    /// What it builds.
    type Protocol: Protocol;

    /// Called by the port for each connection. `None` refuses it: the connection is
    /// closed at once.
    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol>;

    /// Called once, before the port accepts.
    fn start_factory(&mut self) {}

    /// Called once, when the port has stopped listening, and those whose handshake was under way
    /// then have been built or are lost.
    fn stop_factory(&mut self) {}
}

impl<F, B> Factory for F
where
    F: FnMut(&Address) -> B + 'static,
    B: Built,
{
    type Protocol = B::Protocol;

    fn build_protocol(&mut self, peer: &Address) -> Option<B::Protocol> {
        self(peer).into_protocol()
    }
}

/// What may be returned where a protocol is to be built: a protocol, or an `Option` of one.
#[diagnostic::on_unimplemented(
    message = "a factory builds protocols, and `{Self}` is none",
    note = "return a `Protocol`, or an `Option` of one; a `LineReceiver` becomes a protocol as `Lines::new(..)`"
)]
pub trait Built {
    /// The protocol.
    type Protocol: Protocol;

    /// The protocol, unless the peer is refused.
    fn into_protocol(self) -> Option<Self::Protocol>;
}

impl<P: Protocol> Built for P {
    type Protocol = P;

    fn into_protocol(self) -> Option<P> {
        Some(self)
    }
}

impl<P: Protocol> Built for Option<P> {
    type Protocol = P;

    fn into_protocol(self) -> Self {
        self
    }
}

/// Takes the streams that a port accepts.
///
/// What lies between a port and a factory, so that layers can be put there: one that
/// speaks TLS accepts a stream, and hands a stream on. Implemented for closures;
/// [`Seating`] makes one of a [`Factory`].
pub trait Acceptor: 'static {
    /// Called by the port for each connection, at once when it is accepted. It reads nothing
    /// before it has a receiver. Dropped without one, in here or later, it is aborted.
    fn accept(&self, stream: Rc<dyn Stream>);

    /// Called once, before the port accepts.
    fn start_listening(&self) {}

    /// Called once, when the port has stopped listening; nothing is accepted after that. A layer
    /// that hands a stream on later than it got it, after a handshake, passes this on when it has
    /// handed on, or lost, the last.
    fn stop_listening(&self) {}
}

impl<F: Fn(Rc<dyn Stream>) + 'static> Acceptor for F {
    fn accept(&self, stream: Rc<dyn Stream>) {
        self(stream);
    }
}

/// Seats a protocol from a factory on each stream that is accepted.
pub struct Seating<F: Factory> {
    /// Taken out while it builds.
    factory: Cell<Option<Box<F>>>,
    /// The port has stopped, perhaps while the factory built.
    stopped: Cell<bool>,
    /// Who gave the factory, for the report of a panic in it.
    origin: &'static Location<'static>,
}

impl<F: Factory> Seating<F> {
    /// Seats what `factory` builds.
    #[track_caller]
    pub fn new(factory: F) -> Self {
        Self {
            factory: Cell::new(Some(Box::new(factory))),
            stopped: Cell::new(false),
            origin: Location::caller(),
        }
    }

    fn with_factory<T>(&self, call: impl FnOnce(&mut F) -> T) -> Option<T> {
        // Detach, then call: the factory is out of its place meanwhile.
        let mut factory = self.factory.take()?;
        let outcome = panics::catch_of(self.origin, || call(&mut factory));
        self.factory.set(Some(factory));
        outcome.ok()
    }

    fn stop_if_stopped(&self) {
        if self.stopped.get()
            && let Some(mut factory) = self.factory.take()
        {
            // The panics have been reported, and the factory is dropped either way.
            let _ = panics::catch_of(self.origin, || factory.stop_factory());
            let _ = panics::catch_of(self.origin, || drop(factory));
        }
    }
}

impl<F: Factory> Acceptor for Seating<F> {
    fn accept(&self, stream: Rc<dyn Stream>) {
        let peer = stream.socket().peer();
        let built = self.with_factory(|factory| factory.build_protocol(&peer));
        // It stopped its own port: this was the last it built.
        self.stop_if_stopped();
        match built.flatten() {
            Some(protocol) => drop(Transport::connect(protocol, stream)),
            // Refused, or panicked.
            None => stream.lose_connection(ConnectionLost::Done),
        }
    }

    fn start_listening(&self) {
        self.with_factory(F::start_factory);
    }

    fn stop_listening(&self) {
        self.stopped.set(true);
        self.stop_if_stopped();
    }
}

impl<F: Factory> fmt::Debug for Seating<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seating").finish_non_exhaustive()
    }
}

/// Seats the protocol that `build` makes on a stream that was made from here.
///
/// A panic in `build` is the failure of who connects. One in `connection_made` is the
/// connection's, which is lost for it.
pub(crate) fn seat<B: Built>(
    stream: Rc<dyn Stream>,
    build: impl FnOnce(&Address) -> B,
) -> Result<Transport<B::Protocol>, Failure> {
    let peer = stream.socket().peer();
    let origin = || stream.socket().reactor().core().origin();
    match panics::catch_with(origin, || build(&peer).into_protocol()) {
        Ok(Some(protocol)) => Ok(Transport::connect(protocol, stream)),
        Ok(None) => {
            stream.lose_connection(ConnectionLost::Done);
            let address = peer.to_string();
            Err(ConnectError::NoProtocol { address }.into())
        }
        Err(panicked) => {
            stream.abort_connection(ConnectionLost::panicked(&panicked));
            Err(panicked.into())
        }
    }
}
