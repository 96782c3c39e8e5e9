//! What can be wrong with a message, and with a body.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use torsade_deferred::Failure;

use super::multipart::MultipartError;

/// What is wrong with a message from a peer, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMessage {
    /// The first line is none.
    #[error("not a message of HTTP/1 (RFC 9112 §2)")]
    NotHttp,
    /// A record of TLS, such as a server of `https` answers a request of `http` with.
    #[error(
        "not a message of HTTP/1 but a record of TLS: the peer speaks `https` here (RFC 8446 §5.1)"
    )]
    Tls,
    /// A line that ends in LF alone, or a CR that ends none.
    #[error("a line does not end in CR and LF (RFC 9112 §2.2)")]
    BareLineEnd,
    /// A header's name or value has a byte that it may not have, or there is space before the
    /// colon, or it goes on in the next line.
    #[error("a header field is malformed (RFC 9112 §5)")]
    Header,
    /// The request's target is no target.
    #[error("the request target is malformed (RFC 9112 §3.2)")]
    Target,
    /// No method has such a name.
    #[error("the method is malformed (RFC 9110 §9.1)")]
    Method,
    /// A version that is neither 1.0 nor 1.1.
    #[error("a version other than 1.0 and 1.1 (RFC 9112 §2.3)")]
    Version,
    /// No `Host`, several, or one that is no authority.
    #[error("a request needs exactly one Host, with a host in it (RFC 9112 §3.2)")]
    Host,
    /// A `Content-Length` that is no number, or more than one.
    #[error("Content-Length is not exactly one number (RFC 9112 §6.3)")]
    ContentLength,
    /// Both ways to say where the body ends.
    #[error("both Content-Length and Transfer-Encoding (RFC 9112 §6.3)")]
    TwoLengths,
    /// A `Transfer-Encoding` that does not end in `chunked`, or in HTTP/1.0, or twice.
    #[error("Transfer-Encoding does not say where the body ends (RFC 9112 §6.1)")]
    TransferEncoding,
    /// A transfer coding beside `chunked`.
    #[error("a transfer coding other than chunked (RFC 9112 §7)")]
    TransferCoding,
    /// An expectation other than `100-continue`.
    #[error("an expectation other than 100-continue (RFC 9110 §10.1.1)")]
    Expectation,
    /// A response with 101, to a request that did not ask for it.
    #[error("a switch of protocols that nobody asked for (RFC 9110 §15.2.2)")]
    UnaskedSwitch,
    /// A response with 101 before the request's body was sent.
    #[error("a switch of protocols in the middle of the request (RFC 9110 §7.8)")]
    EarlySwitch,
    /// The size of a chunk is no number, or what follows it is malformed.
    #[error("a chunk is malformed (RFC 9112 §7.1)")]
    Chunk,
    /// A trailer that is malformed.
    #[error("a trailer field is malformed (RFC 9112 §7.1.2)")]
    Trailer,
    /// More bytes in the target than the limit.
    #[error("the request target has more than {limit} bytes")]
    TargetTooLong {
        /// The limit.
        limit: usize,
    },
    /// More bytes in the head than the limit.
    #[error("the head has more than {limit} bytes")]
    HeadTooLong {
        /// The limit.
        limit: usize,
    },
    /// More header fields than the limit.
    #[error("more than {limit} header fields")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// More bytes in the body than the limit.
    #[error("the body has more than {limit} bytes")]
    BodyTooLong {
        /// The limit.
        limit: u64,
    },
    /// More trailers, or chunk extensions, than the limit.
    #[error("more than {limit} bytes of trailers or chunk extensions")]
    ChunkExtrasTooLong {
        /// The limit.
        limit: usize,
    },
}

impl BadMessage {
    /// What a server answers.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::HeadTooLong { .. }
            | Self::TooManyHeaders { .. }
            | Self::ChunkExtrasTooLong { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why a body did not come whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The connection ended in the middle of it.
    #[error("the connection was lost in the middle of the body: {reason}")]
    ConnectionLost {
        /// Why, in words.
        reason: String,
        /// What had come, where [`Body::read`](super::Body::read) was to give it all; else nothing.
        received: Bytes,
    },
    /// It is larger than whoever reads it wants.
    #[error("the body has more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// It breaks the rules.
    #[error(transparent)]
    Malformed(#[from] BadMessage),
    /// The peer was too slow.
    #[error("the body came too slowly: less than {least} bytes in {time:?}")]
    TooSlow {
        /// What would have been enough.
        least: u64,
        /// The time it had.
        time: Duration,
    },
    /// Who was to send it gave it up: the [`BodySender`](super::BodySender) was dropped, or the
    /// request is over.
    #[error("the body ends before its end: its sender was dropped")]
    Abandoned,
    /// More or fewer bytes than its `Content-Length` says.
    #[error("the body does not have the length that was announced: {announced}, but {actual}")]
    WrongLength {
        /// What was announced.
        announced: u64,
        /// What there was, at least.
        actual: u64,
    },
    /// It was written faster than anybody took it, without heed.
    #[error("more than {limit} bytes of the body wait to be taken")]
    Overrun {
        /// The limit.
        limit: usize,
    },
    /// Its text is not UTF-8.
    #[error("the body is not text: {0}")]
    NotText(#[source] std::str::Utf8Error),
}

impl BodyError {
    /// The connection ended in the middle of it.
    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self::ConnectionLost {
            reason: reason.into(),
            received: Bytes::new(),
        }
    }
}

/// Nobody wants the body any more: the connection is lost, or its reader is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads this body any more")]
pub struct BodyClosed;

/// An answer that is not what was asked for, as an error: what a handler returns, or fails with, to
/// have this status sent.
///
/// # Examples
///
/// ```
/// use torsade_deferred::Failure;
/// use torsade_protocols::http::{Request, StatusCode, StatusError};
///
/// fn double(request: Request) -> Result<String, Failure> {
///     let number = request.uri().query().and_then(|query| query.parse::<i64>().ok());
///     let number = number.ok_or(StatusError::new(StatusCode::BAD_REQUEST))?;
///     Ok((2 * number).to_string())
/// }
/// # drop(double);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusError {
    status: StatusCode,
    message: Option<Box<str>>,
    headers: Option<Box<HeaderMap>>,
}

impl StatusError {
    /// The status alone.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            message: None,
            headers: None,
        }
    }

    /// The status, and what its page says. The client reads it.
    #[must_use]
    pub fn because(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: Some(message.into().into()),
            headers: None,
        }
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND)
    }

    /// With a header: `WWW-Authenticate` for 401, `Retry-After` for 503.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().append(name, value);
        self
    }

    /// The headers that its response has.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().flat_map(|headers| headers.iter())
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the page says beside it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The status that a failure stands for: its own, if it is one of these; 400 and the like if the
    /// request was at fault; 500 otherwise.
    #[must_use]
    pub fn status_of(failure: &Failure) -> StatusCode {
        if let Some(error) = failure.downcast_ref::<Self>() {
            return error.status;
        }
        if let Some(bad) = failure.downcast_ref::<BadMessage>() {
            return bad.status();
        }
        if failure.check::<MultipartError>() {
            return StatusCode::BAD_REQUEST;
        }
        match failure.downcast_ref::<BodyError>() {
            Some(BodyError::Malformed(bad)) => bad.status(),
            Some(BodyError::TooLong { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Some(BodyError::TooSlow { .. }) => StatusCode::REQUEST_TIMEOUT,
            Some(BodyError::NotText(_)) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl std::fmt::Display for StatusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.status),
            None => write!(f, "{}", self.status),
        }
    }
}

impl std::error::Error for StatusError {}
