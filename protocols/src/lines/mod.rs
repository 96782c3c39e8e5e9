//! Lines: bytes up to a delimiter, and raw bytes between them.
//!
//! A [`LineReceiver`] is what you write; [`Lines`] makes a protocol of it; the
//! [`LineTransport`] that it is given is a [`Transport`] that also sends lines and
//! switches modes.
//!
//! ```
//! use torsade_protocols::lines::{LineReceiver, LineTransport, Lines};
//! use torsade_reactor::{Address, Reactor};
//!
//! struct Shout;
//!
//! impl LineReceiver for Shout {
//!     fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
//!         transport.send_line(line.to_ascii_uppercase());
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Reactor::new()?;
//! let port = reactor.listen_tcp("127.0.0.1:0", |_peer: &Address| Lines::new(Shout))?;
//! # drop(port);
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! Lines, raw data and the end of the peer's stream are delivered in the order in
//! which they came, one at a time. What one delivery asks for holds for the next: a
//! change of mode, delimiter or limit, a pause, the loss of the connection, even in the
//! middle of a chunk. How the bytes were cut into chunks makes no difference.
//!
//! A line that has no end yet is not delivered, also not when the peer's stream ends.
//!
//! # Bounds
//!
//! Kept are at most: an unfinished line, up to its maximum length and a delimiter; and,
//! while reading is paused, the rest of the chunk at hand. A silent connection keeps
//! neither. The work is linear in the bytes, whatever the chunks.
//!
//! # Files
//!
//! `split.rs` is the pure part. `stream.rs` is the stream that the line receiver writes
//! to, `delivery.rs` brings it what came, and `receiver.rs` ties the two to the
//! connection below. `to_lines.rs` leads there from the connection.
//!
//! [`Transport`]: torsade_reactor::Transport

mod delivery;
mod receiver;
mod split;
mod stream;
mod to_lines;

pub use self::receiver::{LineReceiver, LineTransport, Lines};
pub use self::split::{Delimiter, LineTooLong};
pub use self::stream::LineStream;
pub use self::to_lines::ToLines;
