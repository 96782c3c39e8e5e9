//! TLS over any endpoint.

use std::fmt;
use std::rc::Rc;

use rustls::pki_types::{InvalidDnsNameError, ServerName};
use torsade_deferred::Deferred;
use torsade_reactor::{
    Acceptor, Address, ClientEndpoint, ConnectionLost, Port, Reactor, ServerEndpoint, Stream,
    ascii_host_name,
};

use super::config::{ClientConfig, ServerConfig};
use super::error::TlsError;
use super::stream::TlsStream;
use crate::threshold::Threshold;

/// The name that a server's certificate must show, from the host that a client connects to: an IP
/// address, or a name of any script, as [`ascii_host_name`] writes it.
///
/// # Errors
///
/// It is neither.
///
/// # Examples
///
/// ```
/// use torsade_protocols::tls::{ServerName, server_name};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = server_name("bücher.example")?;
/// assert_eq!(name, ServerName::try_from("xn--bcher-kva.example")?);
/// assert!(server_name("no name").is_err());
/// # Ok(())
/// # }
/// ```
pub fn server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    let name = ascii_host_name(host).ok().ok_or(InvalidDnsNameError)?;
    ServerName::try_from(name.into_owned())
}

/// Connects to the endpoint below and does the handshake; whoever connects gets the stream when
/// both have gone well.
///
/// # Errors
///
/// What the endpoint below fails with, or a [`TlsError`].
#[derive(Clone, Debug)]
pub struct TlsClientEndpoint<E> {
    below: E,
    config: ClientConfig,
    name: ServerName<'static>,
}

impl<E: ClientEndpoint> TlsClientEndpoint<E> {
    /// Speaks TLS to what is at `below`, which must show a certificate for `name`.
    pub fn new(below: E, config: &ClientConfig, name: ServerName<'static>) -> Self {
        Self {
            below,
            config: config.clone(),
            name,
        }
    }
}

impl<E: ClientEndpoint> ClientEndpoint for TlsClientEndpoint<E> {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let (config, name) = (self.config.clone(), self.name.clone());
        self.below
            .connect_stream(reactor)
            .add_callback(move |below| secured(TlsStream::client(below, &config, name)))
    }
}

/// Lets go of a stream when it has been handed on, also if whoever took it panics.
struct Arriving(Rc<TlsStream>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// The stream, when its handshake is complete. Cancelled, the connection is aborted.
fn secured(stream: Rc<TlsStream>) -> Deferred<Rc<dyn Stream>> {
    let (trigger, deferred) = Deferred::<Rc<dyn Stream>>::new();
    // Kept by the stream below, which the reactor keeps; if that goes, so does this.
    stream.hold();
    let given_up = Rc::downgrade(&stream);
    trigger.on_cancel(move || {
        if let Some(stream) = given_up.upgrade() {
            stream.abort_connection(ConnectionLost::Aborted);
        }
    });
    let weak = Rc::downgrade(&stream);
    drop(stream.handshake().add_both(move |outcome| match outcome {
        Ok(_) => {
            if let Some(stream) = weak.upgrade() {
                let _arriving = Arriving(Rc::clone(&stream));
                trigger.callback(stream);
            }
        }
        Err(failure) => trigger.errback(failure),
    }));
    deferred
}

/// Listens at the endpoint below; a connection is handed on when its handshake is complete.
///
/// One whose handshake fails is never seen by the factory: it is counted by whoever set
/// [`on_failed_handshake`](Self::on_failed_handshake), and reported as a `tracing` event at debug
/// level, since any stranger can cause one.
pub struct TlsServerEndpoint<E> {
    below: E,
    config: ServerConfig,
    failed: Rc<FailedHook>,
}

type FailedHook = dyn Fn(&Address, &TlsError);

impl<E: ServerEndpoint> TlsServerEndpoint<E> {
    /// Speaks TLS with whoever connects to `below`.
    pub fn new(below: E, config: &ServerConfig) -> Self {
        Self {
            below,
            config: config.clone(),
            failed: Rc::new(|_, _| {}),
        }
    }

    /// Calls `hook` for each handshake that fails, with the peer's address and the reason.
    #[must_use]
    pub fn on_failed_handshake(mut self, hook: impl Fn(&Address, &TlsError) + 'static) -> Self {
        self.failed = Rc::new(hook);
        self
    }
}

impl<E: ServerEndpoint> ServerEndpoint for TlsServerEndpoint<E> {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let securing = Securing {
            threshold: Threshold::of(acceptor),
            config: self.config.clone(),
            failed: Rc::clone(&self.failed),
        };
        self.below.listen_streams(reactor, Rc::new(securing))
    }
}

impl<E: fmt::Debug> fmt::Debug for TlsServerEndpoint<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServerEndpoint")
            .field("below", &self.below)
            .finish_non_exhaustive()
    }
}

/// Hands a stream on when its handshake is complete.
struct Securing {
    threshold: Rc<Threshold>,
    config: ServerConfig,
    failed: Rc<FailedHook>,
}

impl Acceptor for Securing {
    fn accept(&self, below: Rc<dyn Stream>) {
        let stream = TlsStream::server(below, &self.config);
        stream.hold();
        let (approach, failed) = (self.threshold.approach(), Rc::clone(&self.failed));
        // The stream itself is kept by the one below; if that goes, so does this.
        let weak = Rc::downgrade(&stream);
        let peer = stream.socket().peer();
        drop(stream.handshake().add_both(move |outcome| match outcome {
            Ok(_) => {
                if let Some(stream) = weak.upgrade() {
                    let _arriving = Arriving(Rc::clone(&stream));
                    approach.hand_on(stream);
                }
            }
            Err(failure) => {
                tracing::debug!(%peer, error = %failure, "TLS handshake failed");
                if let Some(error) = failure.downcast_ref::<TlsError>() {
                    failed(&peer, error);
                }
            }
        }));
    }

    fn start_listening(&self) {
        self.threshold.start_listening();
    }

    fn stop_listening(&self) {
        self.threshold.stop_listening();
    }
}
