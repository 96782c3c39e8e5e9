//! Proxies: requests are passed on, and their responses back.
//!
//! A [`ReverseProxy`] stands in front of servers, a [`ForwardProxy`] in front of clients. Both are
//! [`Handler`](super::Handler)s, so that they compose with routes, layers and access logs, and ask through a
//! [`Client`](super::Client), whose pool, limits and TLS are theirs.
//!
//! # Order
//!
//! The response begins when its head has come from the server behind; bodies go through at the pace of
//! whoever is slower, both ways at once. What the client takes back, by going away, is taken back from the
//! server, too.
//!
//! # Bounds
//!
//! A body that goes through is held up to the marks of both sides, 64 KiB each, and one read.
//!
//! # Files
//!
//! Pure: `passing.rs` (what becomes of a message on its way), `location.rs`, `cookie_scope.rs`, `credentials.rs`, `upstreams.rs`
//! (whose turn it is), `outcome.rs` (what a client is told of an error). `reverse.rs` and `forward.rs` are the
//! proxies, `tunnels.rs` wires connections on which HTTP is over.
//!
//! # Not here
//!
//! Which pipelined requests go together (RFC 9112 §9.3.2): the server says that, and asks no handler for one that
//! has to wait.

mod cookie_scope;
pub(super) mod credentials;
mod forward;
mod location;
mod outcome;
mod passing;
mod reverse;
mod tunnels;
mod upstreams;

pub use self::forward::{ForwardProxy, ProxyRequest, TunnelRecord};
pub use self::reverse::ReverseProxy;
