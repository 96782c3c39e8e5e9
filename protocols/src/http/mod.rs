//! HTTP: RFC 9110 (semantics), RFC 9111 (caching), RFC 9112 (HTTP/1.1).
//!
//! Types of requests and responses are those of the [`http`](https://docs.rs/http) crate.

pub mod access_log;
pub mod coding;
pub mod conditional;
pub mod dates;
pub mod forms;
pub mod forwarding;
pub mod media_types;
pub mod negotiate;
pub mod paths;
pub mod ranges;
pub mod router;
mod values;
