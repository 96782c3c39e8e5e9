//! What a message may hold, and how long a peer may take.

use std::time::Duration;

/// How large a message from a peer may be.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::MessageLimits;
///
/// let limits = MessageLimits { body: 64 << 20, ..MessageLimits::default() };
/// assert_eq!(limits.headers, 100);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of the request's target, the path and query: 8 KiB. Above, 414.
    pub target: usize,
    /// Bytes of a message's head: 32 KiB. Above, 431.
    pub head: usize,
    /// Header fields of a message: 100, and never more than [`HEADERS_MAX`]. Above, 431.
    pub headers: usize,
    /// Bytes of a request's body: 2 MiB. Above, 413, before it is read if its length is announced.
    pub body: u64,
    /// Bytes of the trailers behind a chunked body: 8 KiB.
    pub trailers: usize,
    /// Bytes of all chunk extensions of a body, which are skipped: 4 KiB.
    pub chunk_extensions: usize,
}

/// As many header fields as a message may have, whatever its limits say.
pub const HEADERS_MAX: usize = 256;

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            // RFC 9112 §3 recommends at least 8,000.
            target: 8 * 1024,
            // nginx: four buffers of 8 KiB.
            head: 32 * 1024,
            // Apache's and hyper's.
            headers: 100,
            // As much as a handler can be given in memory without a thought.
            body: 2 * 1024 * 1024,
            trailers: 8 * 1024,
            chunk_extensions: 4 * 1024,
        }
    }
}

/// How long a client may take, and how much it may have under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// How large a request may be.
    pub message: MessageLimits,
    /// From the connection, or from the first byte of a later request, to the end of its head: 30 s.
    /// Then 408.
    pub head: Duration,
    /// Between a response and the next request: 60 s. Then the connection is closed.
    pub idle: Duration,
    /// How long a client may neither send any of a body that we wait for, nor take any of a response:
    /// 30 s. A body in arrears gets 408; a connection that takes nothing is aborted.
    pub stall: Duration,
    /// Bytes a second, on the average over [`stall`](Self::stall), below which a body is too slow:
    /// 240. Then 408. A client that takes a response more slowly, when it does not fit into the system's
    /// buffers, is aborted.
    pub body_rate: u32,
    /// How long a response may take to come from its handler: none, by default. Then 503, and
    /// what the handler waits for is cancelled.
    pub answer: Option<Duration>,
    /// Requests of one connection whose responses are under way: 64. Further ones are not read before.
    pub pipelined: usize,
    /// Bytes of a body that nobody has read yet, above which no more of it is taken from the
    /// connection: 64 KiB.
    pub unread: usize,
    /// Bytes of a body that are read and thrown away when the response came without them: 256 KiB. If
    /// there is more, the connection is closed instead.
    pub discarded: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            message: MessageLimits::default(),
            head: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            // Kestrel's.
            body_rate: 240,
            answer: None,
            pipelined: 64,
            unread: 64 * 1024,
            discarded: 256 * 1024,
        }
    }
}
