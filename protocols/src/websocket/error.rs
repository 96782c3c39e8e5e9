//! What can go wrong, and whose fault it is.

use http::StatusCode;
use http::header::HeaderMap;

use super::codes::CloseCode;

/// What the peer has done that it must not: its connection was failed (RFC 6455 §7.1.7), and this is the
/// reason in [`Closed::lost`](super::Closed::lost).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Bits that no extension has been agreed on for.
    #[error("a frame uses reserved bits (RFC 6455 §5.2)")]
    ReservedBits,
    /// A kind of frame that there is not.
    #[error("a frame of an unknown kind, {code} (RFC 6455 §5.2)")]
    ReservedOpcode {
        /// Its number.
        code: u8,
    },
    /// A client that does not mask.
    #[error("a client's frame is not masked (RFC 6455 §5.1)")]
    NotMasked,
    /// A server that masks.
    #[error("a server's frame is masked (RFC 6455 §5.1)")]
    Masked,
    /// A ping, pong or close in several frames.
    #[error("a control frame is fragmented (RFC 6455 §5.5)")]
    FragmentedControl,
    /// A ping, pong or close of more than 125 bytes.
    #[error("a control frame is longer than 125 bytes (RFC 6455 §5.5)")]
    LongControl,
    /// A frame that goes on with a message, where none is under way.
    #[error("a frame continues no message (RFC 6455 §5.4)")]
    NothingToContinue,
    /// A message that begins inside of another.
    #[error("a message begins inside of another (RFC 6455 §5.4)")]
    Interleaved,
    /// A length that is not said in the shortest way, or has its highest bit set.
    #[error("a frame's length is not said in the shortest way (RFC 6455 §5.2)")]
    OddLength,
    /// A frame that is too long.
    #[error("a frame is longer than {limit} bytes")]
    LongFrame {
        /// How long it may be.
        limit: usize,
    },
    /// A message that is too long.
    #[error("a message is longer than {limit} bytes")]
    LongMessage {
        /// How long it may be.
        limit: usize,
    },
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8 (RFC 6455 §8.1)")]
    NotText,
    /// A Close frame with a single byte in it.
    #[error("a close frame has half a code (RFC 6455 §5.5.1)")]
    HalfCloseCode,
    /// A code that no Close frame may have.
    #[error("a close frame has the code {code}, which is never sent (RFC 6455 §7.4)")]
    BadCloseCode {
        /// The code.
        code: u16,
    },
}

impl Violation {
    /// What the peer is told: RFC 6455 §7.4.1.
    #[must_use]
    pub fn code(&self) -> CloseCode {
        match self {
            Self::LongFrame { .. } | Self::LongMessage { .. } => CloseCode::TOO_BIG,
            Self::NotText => CloseCode::INVALID_DATA,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Why a client has no WebSocket, though the server answered. (That it did not is a
/// [`ClientError`](crate::http::ClientError).)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The URL has a scheme other than `ws` and `wss`. The caller's fault.
    #[error("{url:?} is no URL of ws or wss")]
    BadUrl {
        /// The URL.
        url: String,
    },
    /// The server answered with something else: 403 if it wants nothing of this client, for instance.
    #[error("the server does not switch: it answers with {status}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The fields of the answer.
        headers: Box<HeaderMap>,
    },
    /// The server's answer is not one to this request: RFC 6455 §4.1.
    #[error("the server's answer breaks RFC 6455 §4.1: {problem}")]
    BadAnswer {
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Why a ping has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The connection was lost, or is being closed.
    #[error("the connection was lost before the pong came")]
    Lost,
    /// So many pings wait for their pongs that this one was not sent.
    #[error("{limit} pings wait for their pongs")]
    TooMany {
        /// How many may.
        limit: usize,
    },
}
