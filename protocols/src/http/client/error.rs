//! What can go wrong with a request, and whose fault it is.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{Method, StatusCode};
use torsade_deferred::{Failure, Interrupted};
use torsade_reactor::Address;

use super::super::error::BadMessage;
use super::url::BadUrl;

/// Why a request came to nothing, and which one it was.
///
/// Its text has the method and the URL, without credentials; [`kind`](Self::kind) says what it was.
///
/// # Examples
///
/// ```
/// use torsade_deferred::Failure;
/// use torsade_protocols::http::{ClientError, ClientErrorKind, Stage};
///
/// fn is_slow(failure: &Failure) -> bool {
///     let error = failure.downcast_ref::<ClientError>();
///     matches!(
///         error.map(ClientError::kind),
///         Some(ClientErrorKind::Timeout { stage: Stage::Head, .. })
///     )
/// }
/// # let _ = is_slow;
/// ```
#[derive(Debug)]
pub struct ClientError {
    method: Method,
    url: Box<str>,
    kind: ClientErrorKind,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The URL is none, or none that can be asked. The caller's fault.
    BadUrl(BadUrl),
    /// The request contradicts itself, or asks for what a client does not do. The caller's fault.
    BadRequest(&'static str),
    /// No connection was made: what the connector said, as a rule a
    /// [`ConnectError`](torsade_reactor::ConnectError).
    Connect(Failure),
    /// No TLS was spoken: a `TlsError`, or a `ConfigError` if there are no roots to trust.
    Tls(Failure),
    /// The URL says `https`, and this was built without the feature `tls`.
    NoTls,
    /// The proxy made no tunnel, but answered with this.
    Proxy(StatusCode),
    /// It took too long.
    Timeout {
        /// What did.
        stage: Stage,
        /// How long it had.
        limit: Duration,
    },
    /// The response breaks the rules. The server's fault.
    BadResponse(BadMessage),
    /// The connection ended before the response had come. Whether the request was carried out,
    /// nobody knows.
    ConnectionLost {
        /// Why, in words.
        reason: String,
    },
    /// The body of the request did not come to its end.
    RequestBody(Failure),
    /// Redirected once more than is allowed.
    TooManyRedirects {
        /// How often it may be.
        limit: u32,
    },
    /// Redirected from `https` to `http`, which would show the request to everybody.
    InsecureRedirect {
        /// Where to, without credentials.
        url: String,
    },
    /// Redirected to what is no URL.
    BadRedirect {
        /// What stands in `Location`.
        location: String,
    },
    /// Too many requests wait for a connection.
    Overloaded {
        /// How many may.
        limit: usize,
    },
    /// Nobody at this address may be asked: the rules of the proxy that passes the request on say so.
    Forbidden {
        /// Who was connected to, and was asked nothing.
        address: Address,
    },
    /// The client is closed, or its reactor is gone.
    Closed,
    /// Not a success, where a success was asked for.
    Status(StatusCode),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// One of the connections that may be used.
    Waiting,
    /// A connection: looking the name up, connecting, and a proxy's tunnel.
    Connect,
    /// The handshake of TLS.
    TlsHandshake,
    /// That the server takes the request.
    Send,
    /// The head of the response.
    Head,
    /// The next piece of the response's body.
    Body,
    /// All of it.
    Total,
}

impl ClientError {
    pub(super) fn new(method: Method, url: String, kind: ClientErrorKind) -> Self {
        let url = url.into();
        Self { method, url, kind }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ClientErrorKind {
        &self.kind
    }

    /// The method of the request.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The URL of the request, without credentials: after redirects, the last one.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.method, self.url, self.kind)
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

impl fmt::Display for ClientErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl(error) => write!(f, "bad URL: {error}"),
            Self::BadRequest(problem) => write!(f, "bad request: {problem}"),
            Self::Connect(failure) | Self::Tls(failure) => write!(f, "{failure}"),
            Self::NoTls => f.write_str("https needs the feature `tls`"),
            Self::Proxy(status) => write!(f, "the proxy makes no tunnel: {status}"),
            Self::Timeout { stage, limit } => write!(f, "{stage} took longer than {limit:?}"),
            Self::BadResponse(bad) => write!(f, "bad response: {bad}"),
            Self::ConnectionLost { reason } => {
                write!(f, "the connection ended before the response: {reason}")
            }
            Self::RequestBody(failure) => write!(f, "the request's body: {failure}"),
            Self::TooManyRedirects { limit } => write!(f, "redirected more than {limit} times"),
            Self::InsecureRedirect { url } => {
                write!(f, "redirected from https to {url}")
            }
            Self::BadRedirect { location } => write!(f, "redirected to no URL: {location:?}"),
            Self::Overloaded { limit } => {
                write!(f, "more than {limit} requests wait for a connection")
            }
            Self::Forbidden { address } => write!(f, "{address} may not be asked"),
            Self::Closed => f.write_str("the client is closed"),
            Self::Status(status) => write!(f, "the server answers with {status}"),
        }
    }
}

impl Error for ClientErrorKind {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::BadUrl(error) => Some(error),
            Self::BadResponse(bad) => Some(bad),
            Self::Connect(failure) | Self::Tls(failure) | Self::RequestBody(failure) => {
                Some(failure.error())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for a free connection",
            Self::Connect => "connecting",
            Self::TlsHandshake => "the TLS handshake",
            Self::Send => "sending the request",
            Self::Head => "the head of the response",
            Self::Body => "the next piece of the response",
            Self::Total => "the whole exchange",
        })
    }
}

/// What a chain of connecting failed with, as what went wrong.
pub(super) fn kind_of(failure: Failure) -> ClientErrorKind {
    match failure.trap::<ClientErrorKind>() {
        Ok(kind) => kind,
        Err(failure) if failure.check::<Interrupted>() => ClientErrorKind::Closed,
        Err(failure) => ClientErrorKind::Connect(failure),
    }
}
