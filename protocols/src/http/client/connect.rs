//! How a connection to an origin is made: the connector, perhaps a tunnel through a proxy, perhaps TLS.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Method, header};
use torsade_deferred::{Deferred, Interrupted, Trigger, fail};
use torsade_reactor::{
    ClientEndpoint, ConnectError, ConnectionLost, Protocol, Reactor, Stream, TcpClientEndpoint,
    Transport,
};

use super::super::encode;
use super::super::head::Framing;
use super::super::response_reader::{ResponseEvent, ResponseReader};
use super::super::upgrade::Upgraded;
use super::error::{ClientErrorKind, Stage};
use super::proxy::Proxy;
use super::url::Origin;
use super::{Route, Settings};

/// Makes the endpoint that leads to an origin.
pub(super) type Connector = Box<dyn Fn(&Origin) -> Box<dyn ClientEndpoint>>;

/// TCP, to host and port.
pub(super) fn tcp(origin: &Origin) -> Box<dyn ClientEndpoint> {
    Box::new(TcpClientEndpoint::new(origin.address()))
}

/// Makes a stream on which a request of this route can be sent.
///
/// Fails with a [`ClientErrorKind`], or with `Interrupted` when it is cancelled.
pub(super) fn connect(
    settings: &Settings,
    reactor: &Reactor,
    route: &Route,
) -> Deferred<Rc<dyn Stream>> {
    let below = Below::new(settings, route);
    if route.origin.is_https() && !route.absolute {
        return secured(settings, reactor, below, &route.origin);
    }
    below.connect_stream(reactor)
}

/// Makes the stream below that, whatever is to be spoken on it.
///
/// Fails as [`connect`] does.
pub(super) fn dial(
    settings: &Settings,
    reactor: &Reactor,
    route: &Route,
) -> Deferred<Rc<dyn Stream>> {
    Below::new(settings, route).connect_stream(reactor)
}

#[cfg(feature = "tls")]
fn secured(
    settings: &Settings,
    reactor: &Reactor,
    below: Below,
    origin: &Origin,
) -> Deferred<Rc<dyn Stream>> {
    use crate::tls::{TlsClientEndpoint, TlsError, TlsLimits};

    let config = match settings.tls(origin) {
        Ok(config) => config,
        Err(kind) => return fail(kind),
    };
    let host = origin.host().trim_matches(['[', ']']).to_owned();
    let Ok(name) = rustls::pki_types::ServerName::try_from(host) else {
        return fail(ClientErrorKind::BadUrl(super::url::BadUrl::Malformed));
    };
    let limit = settings.limits.handshake;
    let config = config.limits(TlsLimits {
        handshake: limit,
        ..TlsLimits::default()
    });
    TlsClientEndpoint::new(below, &config, name)
        .connect_stream(reactor)
        .map_err(move |failure| match failure.downcast_ref::<TlsError>() {
            Some(TlsError::HandshakeTimedOut { .. }) => ClientErrorKind::Timeout {
                stage: Stage::TlsHandshake,
                limit,
            }
            .into(),
            Some(_) => ClientErrorKind::Tls(failure).into(),
            None => failure,
        })
}

#[cfg(not(feature = "tls"))]
fn secured(_: &Settings, _: &Reactor, _: Below, _: &Origin) -> Deferred<Rc<dyn Stream>> {
    fail(ClientErrorKind::NoTls)
}

/// The connection itself, up to the end of the tunnel.
struct Below {
    endpoint: Box<dyn ClientEndpoint>,
    limit: Duration,
    tunnel: Option<Tunnel>,
}

impl Below {
    fn new(settings: &Settings, route: &Route) -> Self {
        let through = route.tunnel.as_ref().map(|proxy| &*proxy.origin);
        Self {
            endpoint: (settings.connector)(through.unwrap_or(&route.origin)),
            limit: settings.limits.connect,
            tunnel: route.tunnel.clone().map(|proxy| Tunnel {
                to: route.origin.address(),
                proxy,
                settings: settings.limits,
            }),
        }
    }
}

impl ClientEndpoint for Below {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let mut connecting = self.endpoint.connect_stream(reactor);
        if let Some(tunnel) = self.tunnel.clone() {
            connecting = connecting.add_callback(move |stream| tunnel.dig(stream));
        }
        let limit = self.limit;
        connecting
            .add_timeout(limit, reactor)
            .map_err(move |failure| {
                let timed_out = matches!(failure.downcast_ref(), Some(Interrupted::TimedOut(_)))
                    || matches!(failure.downcast_ref(), Some(ConnectError::TimedOut { .. }));
                if timed_out {
                    let stage = Stage::Connect;
                    return ClientErrorKind::Timeout { stage, limit }.into();
                }
                if failure.check::<Interrupted>() || failure.check::<ClientErrorKind>() {
                    return failure;
                }
                ClientErrorKind::Connect(failure).into()
            })
    }
}

/// A tunnel that a proxy is asked for: RFC 9110 §9.3.6.
#[derive(Clone)]
struct Tunnel {
    /// Host and port.
    to: String,
    proxy: Proxy,
    settings: super::ClientLimits,
}

impl Tunnel {
    /// Asks for it; fires with the stream when it is there.
    fn dig(self, stream: Rc<dyn Stream>) -> Deferred<Rc<dyn Stream>> {
        let (trigger, deferred) = Deferred::new();
        let given_up = Rc::downgrade(&stream);
        trigger.on_cancel(move || {
            if let Some(stream) = given_up.upgrade() {
                stream.abort_connection(ConnectionLost::Aborted);
            }
        });
        let mut reader = ResponseReader::new(&self.settings.message);
        reader.expect(&Method::CONNECT, false);
        let digging = Digging {
            tunnel: self,
            reader,
            trigger: RefCell::new(Some(trigger)),
        };
        drop(Transport::connect(digging, stream));
        deferred
    }
}

/// A connection to a proxy that is to become a tunnel.
struct Digging {
    tunnel: Tunnel,
    reader: ResponseReader,
    trigger: RefCell<Option<Trigger<Rc<dyn Stream>>>>,
}

impl Digging {
    fn give_up(&self, transport: &Transport<Self>, kind: ClientErrorKind) {
        transport.abort_connection();
        self.fail(kind);
    }

    fn fail(&self, kind: ClientErrorKind) {
        // Detach, then call.
        let trigger = self.trigger.take();
        if let Some(trigger) = trigger {
            trigger.errback(kind);
        }
    }
}

impl Protocol for Digging {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = &self.tunnel.proxy.authorization {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let mut out = Vec::new();
        let to = &self.tunnel.to;
        encode::write_request_line(&mut out, &Method::CONNECT, to);
        encode::write_request_fields(&mut out, &Method::CONNECT, to, &headers, Framing::None);
        out.extend_from_slice(b"\r\n");
        transport.write(&out);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        let mut rest = data;
        loop {
            match self.reader.receive(&mut rest) {
                Ok(Some(ResponseEvent::Interim(_))) => {}
                Ok(Some(ResponseEvent::Head(..))) if self.reader.is_handed_on() => break,
                Ok(Some(ResponseEvent::Head(head, _))) => {
                    return self.give_up(transport, ClientErrorKind::Proxy(head.status));
                }
                Ok(None) => return,
                Ok(Some(_)) => unreachable!("a head comes first, and ends this"),
                Err(bad) => return self.give_up(transport, ClientErrorKind::BadResponse(bad)),
            }
        }
        let Some(trigger) = self.trigger.take() else {
            return;
        };
        let upgraded = Upgraded::new(Rc::clone(transport.stream()), rest.to_vec());
        transport.leave(|_| {});
        let (stream, unused) = upgraded.into_parts();
        if unused.is_empty() {
            trigger.callback(stream);
        } else {
            // Whoever is asked, in TLS or not, says nothing before.
            stream.abort_connection(ConnectionLost::Aborted);
            let reason = "the proxy's tunnel begins with bytes that nobody asked for";
            trigger.errback(ClientErrorKind::ConnectionLost {
                reason: reason.into(),
            });
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.fail(ClientErrorKind::ConnectionLost {
            reason: reason.to_string(),
        });
    }
}

/// What TLS says when no configuration can be made.
#[cfg(feature = "tls")]
pub(super) fn no_tls(error: crate::tls::ConfigError) -> ClientErrorKind {
    ClientErrorKind::Tls(error.into())
}
