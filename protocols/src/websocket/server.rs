//! The server's end: an answer to a request.

use std::fmt;
use std::rc::Rc;

use http::header::{self, HeaderValue};

use super::delivery::seat;
use super::frames::Role;
use super::handshake::{Origins, look_at};
use super::protocol::WebSocketProtocol;
use super::settings::WebSocketLimits;
use crate::http::{Body, Request, Response, switch_protocols};

/// Accepts WebSockets: how, and from whom. A cheap clone, made once and used for every request.
///
/// # Examples
///
/// One path of a site, for two versions of a protocol:
///
/// ```
/// use torsade_protocols::http::router::BadRoute;
/// use torsade_protocols::http::{Request, Routes};
/// use torsade_protocols::websocket::{
///     Message, WebSocketProtocol, WebSocketServer, WebSocketTransport,
/// };
///
/// struct Echo;
///
/// impl WebSocketProtocol for Echo {
///     fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
///         transport.send(message);
///     }
/// }
///
/// # fn main() -> Result<(), BadRoute> {
/// let sockets = WebSocketServer::new().subprotocols(["echo.v2", "echo.v1"]);
/// let routes = Routes::new().get("/echo", move |request: Request| sockets.accept(&request, Echo))?;
/// # drop(routes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct WebSocketServer {
    settings: Rc<Settings>,
}

#[derive(Clone, Debug, Default)]
struct Settings {
    subprotocols: Vec<String>,
    origins: Origins,
    limits: WebSocketLimits,
}

impl WebSocketServer {
    /// One that speaks no subprotocol, and lets in programs and pages of the [same host](Origins::SameHost).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The subprotocols that are spoken here, the best first: the first that the client offers, too, is chosen. If
    /// it offers none of them, none is, and the protocol may close;
    /// [`subprotocol`](super::WebSocketStream::subprotocol) says which it is. Names are tokens (RFC 9110 §5.6.2);
    /// what is none is never chosen.
    #[must_use]
    pub fn subprotocols(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Rc::make_mut(&mut self.settings).subprotocols = names;
        self
    }

    /// Which pages may connect: by default those of the [same host](Origins::SameHost).
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        Rc::make_mut(&mut self.settings).origins = origins;
        self
    }

    /// How large messages may be, and how long peers may take.
    #[must_use]
    pub fn limits(mut self, limits: WebSocketLimits) -> Self {
        Rc::make_mut(&mut self.settings).limits = limits;
        self
    }

    /// Answers a request that asks for WebSocket: 101, and `protocol` is seated on the connection when that has
    /// been sent. To others a refusal: 426 to who does not ask, or asks for another version, 405 if it is no GET,
    /// 400 without a proper key, 403 from the wrong [origin](Origins). `protocol` is dropped then.
    ///
    /// Whether the client may come in is looked at before: by the handler, which answers with something else, or by
    /// a layer around it. The answer may be given fields, a cookie for instance.
    #[must_use]
    pub fn accept<P: WebSocketProtocol>(&self, request: &Request, protocol: P) -> Response {
        let Settings {
            subprotocols,
            origins,
            limits,
        } = &*self.settings;
        let asks = request.wants_upgrade("websocket");
        let method = request.method();
        let accepted = match look_at(method, asks, request.headers(), subprotocols, origins) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                let status = refusal.status();
                let text = format!("{status}: {}\n", refusal.message());
                let mut response = Response::new(Body::from(text));
                *response.status_mut() = status;
                for (name, value) in refusal.fields() {
                    let value = HeaderValue::from_static(value);
                    response.headers_mut().insert(name, value);
                }
                return response;
            }
        };
        let (limits, chosen) = (*limits, accepted.subprotocol.clone());
        let name = HeaderValue::from_static("websocket");
        let mut response = switch_protocols(name, move |upgraded| {
            seat(upgraded, Role::Server, limits, chosen, protocol);
        });
        let fields = [
            (header::SEC_WEBSOCKET_ACCEPT, Some(accepted.accept)),
            (header::SEC_WEBSOCKET_PROTOCOL, accepted.subprotocol),
        ];
        for (name, value) in fields {
            // Base64 and tokens that came in a field are such values.
            if let Some(value) = value.and_then(|value| value.try_into().ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl fmt::Debug for WebSocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebSocketServer")
            .field(&self.settings)
            .finish()
    }
}
