//! The client's end: a request that asks to switch.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use torsade_deferred::{Deferred, Failure, fail};
use torsade_reactor::{Reactor, WeakReactor};

use super::delivery::seat;
use super::error::HandshakeError;
use super::frames::Role;
use super::handshake::{ask, check_answer, encoded, http_url};
use super::masks::Masks;
use super::protocol::{WebSocketProtocol, WebSocketTransport};
use super::settings::WebSocketLimits;
use crate::http::{Body, Client, ClientRequest, StatusCode, ToUrl};

/// Connects to WebSocket servers, through an HTTP [`Client`]: so `wss` is TLS with the platform's roots, names are
/// looked up, redirects followed, cookies sent if the client keeps any, and each stage has its
/// [limit](crate::http::ClientLimits). Through a proxy both go by CONNECT (RFC 6455 §4.1), so that it has to make tunnels to
/// port 80, too, for `ws`.
///
/// # Examples
///
/// ```no_run
/// use torsade_protocols::websocket::{
///     CloseCode, Message, WebSocketClient, WebSocketProtocol, WebSocketTransport,
/// };
/// use torsade_reactor::Reactor;
///
/// struct Once;
///
/// impl WebSocketProtocol for Once {
///     fn opened(&mut self, transport: &WebSocketTransport<Self>) {
///         transport.send("anybody there?");
///     }
///
///     fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
///         println!("{message:?}");
///         transport.close(CloseCode::NORMAL, "that was all");
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let client = WebSocketClient::new(&reactor).subprotocols(["chat"]);
/// let connected = client.connect("wss://example.com/chat", Once);
/// connected.add_callback(|transport| println!("we speak {:?}", transport.subprotocol()));
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WebSocketClient {
    http: Client,
    reactor: WeakReactor,
    subprotocols: Vec<String>,
    headers: HeaderMap,
    limits: WebSocketLimits,
}

impl WebSocketClient {
    /// A client that connects through `reactor`, with an HTTP client of its own. It does not keep the reactor
    /// alive.
    #[must_use]
    pub fn new(reactor: &Reactor) -> Self {
        Self::over(Client::new(reactor), reactor)
    }

    /// One that connects through this HTTP client, with its TLS, its proxies, its cookies, its limits.
    #[must_use]
    pub fn over(http: Client, reactor: &Reactor) -> Self {
        Self {
            http,
            reactor: reactor.downgrade(),
            subprotocols: Vec::new(),
            headers: HeaderMap::new(),
            limits: WebSocketLimits::default(),
        }
    }

    /// The subprotocols that it offers, the best first. [`subprotocol`](super::WebSocketStream::subprotocol) says
    /// which the server has chosen, if any.
    #[must_use]
    pub fn subprotocols(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// A field of the request: `Authorization`, or `Origin`, of which there is none by default.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// How large messages may be, and how long the server may take.
    #[must_use]
    pub fn limits(mut self, limits: WebSocketLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Connects to a URL of `ws` or `wss`, and seats `protocol` on the connection, which hears
    /// [`opened`](WebSocketProtocol::opened) before this fires. The protocol is dropped if it fails.
    ///
    /// # Errors
    ///
    /// Fails with a [`ClientError`](crate::http::ClientError) if no answer came, and with a [`HandshakeError`] if
    /// it was not the right one.
    ///
    /// # Cancellation
    ///
    /// Gives up, and closes the connection.
    pub fn connect<P: WebSocketProtocol>(
        &self,
        url: impl ToUrl,
        protocol: P,
    ) -> Deferred<WebSocketTransport<P>> {
        let url = match url.to_url() {
            Ok(url) => http_url(&url),
            Err(url) => Err(HandshakeError::BadUrl { url }),
        };
        let url = match url {
            Ok(url) => url,
            Err(error) => return fail(error),
        };
        let seed = self.reactor.upgrade();
        let seed = seed.map_or([0; 2], |reactor| [reactor.seed(), reactor.seed()]);
        let key = encoded(&Masks::new(seed).nonce());
        let mut request = ClientRequest::new(Body::empty());
        *request.uri_mut() = url;
        request.headers_mut().extend(self.headers.clone());
        ask(request.headers_mut(), &key, &self.subprotocols);
        let (offered, limits) = (self.subprotocols.clone(), self.limits);
        self.http
            .upgrade(request)
            .add_callback(move |(response, upgraded)| -> Result<_, Failure> {
                let Some(upgraded) = upgraded.filter(|_| {
                    // 200 to a CONNECT is another such answer.
                    response.status() == StatusCode::SWITCHING_PROTOCOLS
                }) else {
                    return Err(HandshakeError::Refused {
                        status: response.status(),
                        headers: Box::new(response.headers().clone()),
                    }
                    .into());
                };
                let chosen = check_answer(response.headers(), &key, &offered)?;
                Ok(seat(upgraded, Role::Client, limits, chosen, protocol))
            })
    }
}

impl fmt::Debug for WebSocketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketClient")
            .field("http", &self.http)
            .field("subprotocols", &self.subprotocols)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
