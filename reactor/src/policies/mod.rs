//! What holds for all connections of a port, whatever they speak: how many there may be, and
//! how long they may be silent.
//!
//! Each is an endpoint over an endpoint, or an [`Acceptor`](crate::Acceptor) before one, so it
//! works for every protocol, below TLS and above it. Twisted's `twisted.protocols.policies`.

mod connection_limits;
mod idle;
mod layer;

pub use self::connection_limits::{ConnectionLimits, LimitedServerEndpoint};
pub use self::idle::{IdleTimeout, TimeoutServerEndpoint};
