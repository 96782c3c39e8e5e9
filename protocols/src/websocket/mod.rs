//! WebSocket (RFC 6455): messages both ways, over a connection that began as HTTP.
//!
//! A server answers a request with one ([`WebSocketServer::accept`]); a [`WebSocketClient`] connects to `ws` and
//! `wss`. What is written is a [`WebSocketProtocol`], the same for both ends.
//!
//! ```
//! use torsade_protocols::http::{self, Request};
//! use torsade_protocols::websocket::{Message, WebSocketProtocol, WebSocketTransport, accept};
//! use torsade_reactor::Reactor;
//!
//! struct Echo;
//!
//! impl WebSocketProtocol for Echo {
//!     fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
//!         transport.send(message);
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Reactor::new()?;
//! let server = http::serve(&reactor, "127.0.0.1:0", |request: Request| accept(&request, Echo))?;
//! println!("ws://{}", server.address());
//! # reactor.stop();
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Files
//!
//! Pure: `frames.rs` (§5 to §5.6, §8.1), `handshake.rs` (§4, §10.2), `codes.rs` (§7.4), `masks.rs` (§5.3). The rim:
//! `stream/` (§7, and what is written), `delivery.rs` (what comes), `server.rs`, `client.rs`.
//!
//! # Not here
//!
//! No extension is offered or accepted, so nothing is compressed. Messages come and go whole: one that is sent in
//! pieces is not offered.
//!
//! # Design
//!
//! The frames are ours and not those of `tungstenite`, which would bring 15 crates more, masks from a generator
//! that no seed controls (two runs of one simulation would differ), and a buffer of its own for each connection, be it silent.
//! `fuzz/fuzz_targets/websocket.rs` holds the two against each other.

mod client;
mod codes;
mod delivery;
mod error;
mod frames;
#[cfg(fuzzing)]
pub mod fuzzed;
mod handshake;
mod masks;
mod protocol;
mod server;
mod settings;
mod stream;

pub use self::client::WebSocketClient;
pub use self::codes::CloseCode;
pub use self::error::{HandshakeError, PingError, Violation};
pub use self::handshake::Origins;
pub use self::protocol::{Closed, Message, WebSocketProtocol, WebSocketTransport};
pub use self::server::WebSocketServer;
pub use self::settings::WebSocketLimits;
pub use self::stream::WebSocketStream;

use crate::http::{Request, Response};

/// Answers a request that asks for WebSocket, as [`WebSocketServer::accept`] does with nothing changed.
#[must_use]
pub fn accept<P: WebSocketProtocol>(request: &Request, protocol: P) -> Response {
    WebSocketServer::new().accept(request, protocol)
}
