//! What bytes mean: one protocol a module, one feature a protocol.
//!
//! Each is a pure core (bytes in, events out) and a thin rim that speaks to the
//! reactor. None of them knows a socket, a clock or a thread: what runs below may be
//! TCP, memory, or another protocol of this crate.

#![forbid(unsafe_code)]

#[cfg(feature = "haproxy")]
pub mod haproxy;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "lines")]
pub mod lines;
#[cfg(any(feature = "lines", feature = "websocket"))]
mod succession;
#[cfg(any(feature = "haproxy", feature = "tls"))]
mod threshold;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "websocket")]
pub mod websocket;
