//! Connections that go on in another protocol: RFC 9110 §7.8, and CONNECT.

use std::fmt;
use std::mem;
use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::{Response as HttpResponse, StatusCode};
use torsade_reactor::{ConnectionLost, Protocol, Stream, Transport};

use super::body::Body;
use super::response::Response;
use super::server::ServerHold;

/// A connection on which HTTP is over: the response has been sent, and what comes now is another
/// protocol's.
///
/// Nothing is read meanwhile. Dropped without having been taken, it aborts the connection.
pub struct Upgraded {
    /// Until it is taken.
    stream: Option<Rc<dyn Stream>>,
    unused: Vec<u8>,
    /// Of a server's, until somebody takes it.
    hold: Option<ServerHold>,
}

impl Upgraded {
    pub(super) fn new(stream: Rc<dyn Stream>, unused: Vec<u8>) -> Self {
        stream.pause_reading();
        Self {
            stream: Some(stream),
            unused,
            hold: None,
        }
    }

    pub(super) fn with_hold(mut self, hold: ServerHold) -> Self {
        self.hold = Some(hold);
        self
    }

    /// Has the server that the connection came to wait for it when it [stops](super::Server::stop), until what this gives is
    /// dropped, and [say](ServerHold::on_stop) when that begins. Without it, a server that stops knows nothing of a
    /// connection once that has been taken over. `None` of a client's connection, and the second time.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_protocols::http::{Request, Response, ServerHold, switch_protocols, header};
    /// use torsade_reactor::{Protocol, Transport};
    ///
    /// struct Ticker {
    ///     hold: Option<ServerHold>,
    /// }
    ///
    /// impl Protocol for Ticker {
    ///     fn connection_made(&mut self, transport: &Transport<Self>) {
    ///         let ours = transport.clone();
    ///         if let Some(hold) = &self.hold {
    ///             hold.on_stop(move || {
    ///                 ours.write("that was all\n");
    ///                 ours.lose_connection();
    ///             });
    ///         }
    ///     }
    ///
    ///     fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    /// }
    ///
    /// fn handler(_: Request) -> Response {
    ///     let protocol = header::HeaderValue::from_static("ticker");
    ///     switch_protocols(protocol, |mut upgraded| {
    ///         let hold = upgraded.hold_server();
    ///         drop(upgraded.seat(Ticker { hold }));
    ///     })
    /// }
    /// # drop(torsade_protocols::http::Site::new(handler));
    /// ```
    #[must_use]
    pub fn hold_server(&mut self) -> Option<ServerHold> {
        self.hold.take()
    }

    /// Seats `protocol` on the connection; it gets first what has come already.
    pub fn seat<P: Protocol>(self, protocol: P) -> Transport<P> {
        let (stream, unused) = self.into_parts();
        let transport = Transport::connect(protocol, stream);
        if !unused.is_empty() {
            transport.call(move |protocol, transport| protocol.data_received(transport, &unused));
        }
        transport
    }

    /// The stream, and what has come already and was none of HTTP's: for a layer, or for a
    /// [`tunnel`](torsade_reactor::tunnel).
    ///
    /// It reads again when this returns: give it its new receiver at once.
    ///
    /// # Panics
    ///
    /// Never: there is one stream, and this takes it.
    #[must_use]
    pub fn into_parts(mut self) -> (Rc<dyn Stream>, Vec<u8>) {
        let stream = self.stream.take().expect("only this takes it");
        stream.resume_reading();
        (stream, mem::take(&mut self.unused))
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.abort_connection(ConnectionLost::Aborted);
        }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded")
            .field("stream", &self.stream)
            .field("unused", &self.unused.len())
            .finish_non_exhaustive()
    }
}

/// A response that switches to another protocol: 101. When it has been sent, `then` is called with the
/// connection.
///
/// Whether the client asked for it is the caller's to look up; see
/// [`Request::wants_upgrade`](super::Request::wants_upgrade). To who did not, 426 is sent.
pub fn switch_protocols(protocol: HeaderValue, then: impl FnOnce(Upgraded) + 'static) -> Response {
    let mut response = HttpResponse::new(Body::upgrade(then));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
    response
}

/// The response to a CONNECT: 200. When it has been sent, `then` is called with the connection. To one with a body,
/// 400 is sent.
pub fn accept_connect(then: impl FnOnce(Upgraded) + 'static) -> Response {
    HttpResponse::new(Body::upgrade(then))
}
