//! Protocols on TLS: the wrappers, and what a protocol asks of its transport.

use std::fmt;
use std::rc::Rc;

use rustls::pki_types::ServerName;
use torsade_deferred::{Deferred, fail};
use torsade_reactor::{Protocol, Stream, Transport};

use super::config::{ClientConfig, ServerConfig};
use super::error::{StartTlsError, TlsError};
use super::session::Session;
use super::stream::TlsStream;

/// A protocol that speaks over TLS from the beginning.
///
/// The protocol's `connection_made` comes at once; what it writes waits for the handshake, and
/// [`handshake`] says when that is complete. If it fails, `connection_lost` is told why:
/// [`TlsError::of`] finds the error. To seat the protocol only after the handshake, use
/// [`TlsServerEndpoint`](super::TlsServerEndpoint) and
/// [`TlsClientEndpoint`](super::TlsClientEndpoint).
///
/// # Examples
///
/// ```no_run
/// use torsade_protocols::lines::{LineReceiver, LineTransport, Lines};
/// use torsade_protocols::tls::{self, Identity, Tls};
/// use torsade_reactor::{Address, Reactor};
///
/// struct Shout;
///
/// impl LineReceiver for Shout {
///     fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
///         transport.send_line(line.to_ascii_uppercase());
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let config = tls::server_config(Identity::from_pem_files("chain.pem", "key.pem")?).build()?;
/// let port = reactor.listen_tcp("127.0.0.1:8443", move |_peer: &Address| {
///     Tls::server(&config, Lines::new(Shout))
/// })?;
/// # drop(port);
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
pub struct Tls<P: Protocol> {
    below: Below<P>,
}

/// A protocol that begins in the clear and starts TLS in the middle of the conversation, with
/// [`start_server`] or [`start_client`]: STARTTLS. It stays the same value, in the same seat, with
/// the same transport.
///
/// A [`LineReceiver`](crate::lines::LineReceiver) calls
/// [`start_tls_server`](crate::lines::LineStream::start_tls_server) or
/// [`start_tls_client`](crate::lines::LineStream::start_tls_client) on its transport; see there for
/// an example.
pub struct StartTls<P: Protocol> {
    below: Below<P>,
}

struct Below<P: Protocol> {
    /// Until the connection is made.
    protocol: Option<P>,
    how: How,
    transport: Option<Transport<P>>,
}

enum How {
    Server(ServerConfig),
    Client(ClientConfig, ServerName<'static>),
    Clear,
}

impl<P: Protocol> Below<P> {
    fn new(protocol: P, how: How) -> Self {
        Self {
            protocol: Some(protocol),
            how,
            transport: None,
        }
    }

    fn put_layer(&mut self, stream: Rc<dyn Stream>) -> Rc<dyn Stream> {
        match &self.how {
            How::Server(config) => TlsStream::server(stream, config),
            How::Client(config, name) => TlsStream::client(stream, config, name.clone()),
            How::Clear => TlsStream::in_the_clear(stream),
        }
    }

    fn connection_made<W: Protocol>(&mut self, transport: &Transport<W>) {
        let stream = Rc::clone(transport.stream());
        let Some(protocol) = self.protocol.take() else {
            return;
        };
        // The protocol's own seat takes the place of the wrapper's, which hears of the end.
        if let Some(tls) = stream.find::<TlsStream>() {
            let wrapper = transport.clone();
            tls.at_end(move || wrapper.leave(|_| {}));
        }
        self.transport = Some(Transport::connect(protocol, stream));
    }
}

impl<P: Protocol> Tls<P> {
    /// Speaks TLS below `protocol`, as the server.
    pub fn server(config: &ServerConfig, protocol: P) -> Self {
        let below = Below::new(protocol, How::Server(config.clone()));
        Self { below }
    }

    /// Speaks TLS below `protocol`, as the client. The server must show a certificate for `name`.
    pub fn client(config: &ClientConfig, name: ServerName<'static>, protocol: P) -> Self {
        let below = Below::new(protocol, How::Client(config.clone(), name));
        Self { below }
    }

    /// The protocol's own transport; `None` before `connection_made`.
    ///
    /// For who has connected and now holds a `Transport<Tls<P>>`: `transport.call(|tls, _| ..)`
    /// leads here.
    #[must_use]
    pub fn transport(&self) -> Option<&Transport<P>> {
        self.below.transport.as_ref()
    }
}

impl<P: Protocol> StartTls<P> {
    /// Begins in the clear, and lets `protocol` start TLS.
    pub fn new(protocol: P) -> Self {
        let below = Below::new(protocol, How::Clear);
        Self { below }
    }

    /// The protocol's own transport; `None` before `connection_made`.
    #[must_use]
    pub fn transport(&self) -> Option<&Transport<P>> {
        self.below.transport.as_ref()
    }
}

/// Starts TLS as the server on a connection whose protocol is wrapped in [`StartTls`].
///
/// What was written before goes out in the clear, what is written from here on waits for the
/// handshake. `unused` is the rest of what `data_received` was given: all that came behind the
/// command that starts TLS. It is taken for the beginning of the handshake, so commands that
/// somebody has smuggled in there end the connection (CVE-2011-0411).
///
/// # Errors
///
/// The protocol is not wrapped, TLS has been started already, or the connection is being lost.
pub fn start_server<P>(
    transport: &Transport<P>,
    config: &ServerConfig,
    unused: &[u8],
) -> Result<(), StartTlsError> {
    find(&**transport.stream())
        .ok_or(StartTlsError::NotPrepared)?
        .start_server(config, unused)
}

/// Starts TLS as the client on a connection whose protocol is wrapped in [`StartTls`].
///
/// As [`start_server`]; a server has nothing to say before the handshake, so if `unused` is not
/// empty somebody in between has spoken, and the handshake fails.
///
/// # Errors
///
/// The protocol is not wrapped, TLS has been started already, or the connection is being lost.
pub fn start_client<P>(
    transport: &Transport<P>,
    config: &ClientConfig,
    name: ServerName<'static>,
    unused: &[u8],
) -> Result<(), StartTlsError> {
    find(&**transport.stream())
        .ok_or(StartTlsError::NotPrepared)?
        .start_client(config, name, unused)
}

/// What the handshake of the TLS below came to; `None` before it is complete, and where there is no
/// TLS.
///
/// From a transport of any kind, also one of [`Lines`](crate::lines::Lines).
#[must_use]
pub fn session(transport: &impl OnStream) -> Option<Session> {
    find(transport.as_stream())?.session()
}

/// Fires when the handshake of the TLS below is complete; at once, if it is.
///
/// Tie it to the connection: `transport.when(tls::handshake(transport), ..)`.
///
/// # Errors
///
/// Fails with a [`TlsError`] if there is no handshake, or no TLS.
#[must_use]
pub fn handshake(transport: &impl OnStream) -> Deferred<Session> {
    match find(transport.as_stream()) {
        Some(stream) => stream.handshake(),
        None => fail(TlsError::Interrupted {
            reason: "there is no TLS below this transport".into(),
        }),
    }
}

fn find(stream: &dyn Stream) -> Option<&TlsStream> {
    stream.find()
}

/// A transport of any kind: what stands on a stream.
pub trait OnStream {
    /// The stream that it stands on.
    fn as_stream(&self) -> &dyn Stream;
}

impl<P> OnStream for Transport<P> {
    fn as_stream(&self) -> &dyn Stream {
        &**self.stream()
    }
}

impl<P, S: Stream> OnStream for Transport<P, S> {
    fn as_stream(&self) -> &dyn Stream {
        &**self.stream()
    }
}

macro_rules! wraps {
    ($($wrapper:ident)*) => {$(
        impl<P: Protocol> Protocol for $wrapper<P> {
            fn put_layer(&mut self, stream: Rc<dyn Stream>) -> Rc<dyn Stream> {
                self.below.put_layer(stream)
            }

            fn connection_made(&mut self, transport: &Transport<Self>) {
                self.below.connection_made(transport);
            }

            fn data_received(&mut self, _transport: &Transport<Self>, _data: &[u8]) {
                // The protocol's own seat is the receiver.
            }
        }

        impl<P: Protocol> fmt::Debug for $wrapper<P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match &self.below.transport {
                    Some(transport) => write!(f, "{}({transport:?})", stringify!($wrapper)),
                    None => write!(f, "{}(not connected)", stringify!($wrapper)),
                }
            }
        }
    )*};
}

wraps!(Tls StartTls);
