//! What a connection may hold, and how long a peer may take.

use std::time::Duration;

use super::frames::Sizes;

/// How large messages may be, and how long a peer may take.
///
/// What is unsent has the limits of every connection: [`Limits`](torsade_reactor::Limits). The handshake has those
/// of HTTP: [`ServerLimits`](crate::http::ServerLimits), [`ClientLimits`](crate::http::ClientLimits).
///
/// # Examples
///
/// ```
/// use torsade_protocols::websocket::WebSocketLimits;
///
/// let limits = WebSocketLimits { message: 64 << 20, ping_after: None, ..WebSocketLimits::default() };
/// assert_eq!(limits.frame, usize::MAX);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// Bytes of a message, in all its frames: 1 MiB. Above, the peer is told 1009 (too big) before the frame that
    /// would go beyond is read.
    pub message: usize,
    /// Bytes of a frame: as many as of a message.
    pub frame: usize,
    /// How long the end may stand still, once one of us has said that it is to be: 30 s. What is unsent is sent in
    /// it, the peer says so, too, and (to a client) closes the connection; a peer that takes some of what is unsent
    /// has as long again. Then it is aborted, after up to an eighth more. When a server
    /// [stops](crate::http::Server::stop), its end may take no longer in all.
    pub closing: Duration,
    /// A peer of whom nothing has come for so long, or up to twice as long, is sent a ping: 30 s. `None` for
    /// never: then a peer that has vanished is noticed when something is sent to it.
    pub ping_after: Option<Duration>,
    /// How long it may take until something comes then: 30 s. Then it is aborted; unless what was sent before
    /// waits to be taken, and it has taken some of that meanwhile.
    pub pong_within: Duration,
    /// A connection on which no message has gone either way for so long, or up to twice as long, is closed with
    /// 1001 (going away). `None`, which is the default, for never: pings are no messages.
    pub idle: Option<Duration>,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        const HALF_A_MINUTE: Duration = Duration::from_secs(30);
        Self {
            // `websockets` for Python has it so.
            message: 1024 * 1024,
            frame: usize::MAX,
            closing: HALF_A_MINUTE,
            // Proxies and translators of addresses forget a silent connection after a minute, if they are strict.
            ping_after: Some(HALF_A_MINUTE),
            pong_within: HALF_A_MINUTE,
            idle: None,
        }
    }
}

impl WebSocketLimits {
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            frame: self.frame,
            message: self.message,
        }
    }
}
