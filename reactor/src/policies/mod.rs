//! What holds for all connections of a port, whatever they speak: how many there may be,
//! how long they may be silent, and how fast they may read and write.
//!
//! Each is an endpoint over an endpoint, or an [`Acceptor`](crate::Acceptor) before one, so it
//! works for every protocol, below TLS and above it. Twisted's `twisted.protocols.policies`.

mod connection_limits;
mod idle;
mod layer;
mod rate_limit;

pub use self::connection_limits::{ConnectionLimits, LimitedServerEndpoint};
pub use self::idle::{IdleTimeout, TimeoutServerEndpoint};
pub use self::rate_limit::{RateLimit, RateLimitedClientEndpoint, RateLimitedServerEndpoint};
