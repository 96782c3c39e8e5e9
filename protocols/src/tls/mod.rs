//! TLS by [rustls], as a layer over any stream: from the start, or in the middle of a
//! conversation; as the server, or as the client.
//!
//! | | |
//! |---|---|
//! | [`TlsServerEndpoint`], [`TlsClientEndpoint`] | connections that are seen when their handshake has gone well |
//! | [`Tls`] | a protocol with TLS below it, which hears of the connection at once |
//! | [`StartTls`] | a protocol that begins in the clear: STARTTLS |
//! | [`TlsStream`] | the layer itself |
//! | [`session`], [`handshake`] | from a transport to who the peer is |
//! | [`client_config`], [`server_config`] | how TLS is spoken |
//!
//! A client always verifies the server's certificate, with the platform's roots unless it is given
//! others; there is no switch that turns this off. Who needs something else makes a `rustls`
//! configuration, of which [`ClientConfig`] and [`ServerConfig`] can be made.
//!
//! # Order
//!
//! As for every stream. Besides: [`handshake`] fires before any data is delivered. A failed
//! handshake, a bad record and a stream that was cut short end the connection with a [`TlsError`];
//! the alert that tells the peer is sent first.
//!
//! # Standards
//!
//! TLS 1.3 is RFC 8446, TLS 1.2 is RFC 5246 (rustls keeps both). Closing alerts and truncation:
//! RFC 8446 §6.1. Names: RFC 6125. ALPN: RFC 7301. Renegotiation is refused (RFC 5746 is kept where it
//! matters: a peer that tries gets a warning, and on the second try is lost).
//!
//! # Files
//!
//! `records.rs` is the pure part: records to plaintext and back. `stream/` is the layer.
//! `wrapper.rs`, `starttls_lines.rs` and `endpoints.rs` put it where it is wanted; `config.rs` and
//! `certificates.rs` say how it speaks, `session.rs` and `error.rs` what came of it.

mod certificates;
mod config;
mod endpoints;
mod error;
mod parsers;
mod records;
mod session;
#[cfg(feature = "lines")]
mod starttls_lines;
mod stream;
mod wrapper;

pub use rustls;
pub use rustls::pki_types::ServerName;

pub use self::certificates::{Certificates, Identity, Roots};
pub use self::config::{
    ClientConfig, ClientConfigBuilder, ServerConfig, ServerConfigBuilder, TlsLimits, Versions,
    client_config, server_config,
};
pub use self::endpoints::{TlsClientEndpoint, TlsServerEndpoint, server_name};
pub use self::error::{ConfigError, StartTlsError, TlsError};
pub use self::parsers::{add_endpoint_kinds, add_endpoint_kinds_with};
pub use self::session::Session;
pub use self::stream::TlsStream;
pub use self::wrapper::{OnStream, StartTls, Tls, handshake, session, start_client, start_server};
