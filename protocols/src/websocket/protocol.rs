//! What users implement, and what they are given.

use torsade_reactor::{ConnectionLost, Transport};

use super::codes::CloseCode;
use super::stream::WebSocketStream;

/// What a [`WebSocketProtocol`] holds: a [`Transport`] that knows messages, see [`WebSocketStream`].
pub type WebSocketTransport<P> = Transport<P, WebSocketStream>;

/// One end of a WebSocket, as callbacks.
///
/// Called on the reactor's thread, never two at a time for one connection.
///
/// # Order
///
/// [`opened`](Self::opened) first and once, [`closed`](Self::closed) last and once. Once either end has said that
/// it closes, no message is delivered any more, not even one that has come already.
///
/// # Reentrancy
///
/// Every method may call everything. What it asks for holds for the next message, though that may have come in
/// the same chunk.
///
/// autobahn's `WebSocketServerProtocol` and `WebSocketClientProtocol`.
pub trait WebSocketProtocol: Sized + 'static {
    /// Called once, before anything else, when both ends have agreed to speak WebSocket.
    fn opened(&mut self, transport: &WebSocketTransport<Self>) {
        let _ = transport;
    }

    /// Called for each message, when all of it has come.
    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>);

    /// Called when the peer has sent a ping. Its pong has been sent; while too much is unsent it is owed, and of
    /// several that are, the last one's is sent.
    fn ping_received(&mut self, transport: &WebSocketTransport<Self>, payload: &[u8]) {
        let _ = (transport, payload);
    }

    /// Called when the peer has sent a pong: to a [`ping`](WebSocketStream::ping), whose Deferred has fired then,
    /// or unasked.
    fn pong_received(&mut self, transport: &WebSocketTransport<Self>, payload: &[u8]) {
        let _ = (transport, payload);
    }

    /// Called when the peer reads more slowly than this end writes; see
    /// [`Protocol::write_paused`](torsade_reactor::Protocol::write_paused).
    fn write_paused(&mut self, transport: &WebSocketTransport<Self>) {
        let _ = transport;
    }

    /// Called when what is unsent has sunk to the low mark.
    fn write_resumed(&mut self, transport: &WebSocketTransport<Self>) {
        let _ = transport;
    }

    /// Called when the connection will be lost as soon as this returns: the [server](crate::http::Server::stop) or the
    /// reactor stops, or a policy has run out of patience. At most once. For last words; then the peer is told 1001
    /// (going away), unless this has closed with another code. See [`Protocol::about_to_be_lost`](torsade_reactor::Protocol::about_to_be_lost).
    fn about_to_be_lost(&mut self, transport: &WebSocketTransport<Self>) {
        let _ = transport;
    }

    /// Called once, after everything else. The protocol is dropped when it returns.
    fn closed(&mut self, closed: Closed) {
        drop(closed);
    }
}

/// A message: RFC 6455 §5.6. Borrowed, on its way in and on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The bytes that it consists of.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }
}

macro_rules! messages {
    ($($kind:ident: $($from:ty),*;)*) => {$($(
        impl<'a> From<&'a $from> for Message<'a> {
            fn from(from: &'a $from) -> Self {
                Self::$kind(from)
            }
        }
    )*)*};
}

messages! {
    Text: str, String;
    Binary: [u8], Vec<u8>, bytes::Bytes;
}

impl<'a, const LENGTH: usize> From<&'a [u8; LENGTH]> for Message<'a> {
    fn from(bytes: &'a [u8; LENGTH]) -> Self {
        Self::Binary(bytes)
    }
}

/// How a WebSocket has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// What the peer's Close frame said: [`CloseCode::NO_STATUS`] if it gave no reason, and
    /// [`CloseCode::ABNORMAL`] if none came.
    pub code: CloseCode,
    /// What it said in words. The peer's words: nothing to rely on.
    pub reason: String,
    /// Whether both ends have said that it is over: RFC 6455 §7.1.4.
    pub is_clean: bool,
    /// What became of the connection below. [`ConnectionLost::Failed`] has the
    /// [`Violation`](super::Violation), if the peer broke a rule.
    pub lost: ConnectionLost,
}
