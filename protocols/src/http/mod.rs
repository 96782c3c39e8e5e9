//! HTTP/1.1 and 1.0: servers, clients, and what lies between.
//!
//! ```
//! use torsade_protocols::http::{self, Request};
//! use torsade_reactor::Reactor;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Reactor::new()?;
//! let server = http::serve(&reactor, "127.0.0.1:0", |_: Request| "hello")?;
//! # reactor.stop();
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! The handler is called for the requests of a connection in the order in which they come, each when
//! its head is there; the responses go out in the same order, whichever is ready first. Those that are
//! ready together leave together.
//!
//! # Files
//!
//! Pure, bytes in and values out: `head/` (the first line, the fields, and what RFC 9112 demands of
//! them), `chunked.rs`, `reader.rs`, `response_reader.rs`, `encode.rs`. `pipe.rs` carries a body
//! from who has it to who wants it; `body.rs` is its face. `server/` and `client/` are the rims.

pub mod access_log;
mod basic_auth;
mod body;
pub mod cache;
mod chunked;
mod client;
pub mod coding;
mod compression;
pub mod conditional;
pub mod cookie_jar;
pub mod cookies;
pub mod dates;
mod encode;
mod error;
mod fetch;
mod form_data;
pub mod forms;
pub mod forwarding;
#[cfg(fuzzing)]
pub mod fuzzed;
mod head;
mod kept;
mod limits;
mod log_file;
pub mod media_types;
pub mod multipart;
pub mod negotiate;
pub mod paths;
mod pipe;
mod proxy;
pub mod ranges;
mod reader;
mod recycled;
mod request;
mod response;
mod response_reader;
pub mod router;
mod routes;
mod scan;
mod server;
mod static_files;
mod upgrade;
mod uploads;
mod values;

pub use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, uri,
};
pub use bytes::Bytes;

#[cfg(feature = "websocket")]
pub(crate) use self::client::base64;
#[cfg(feature = "websocket")]
pub(crate) use self::values::is_token;

pub use self::basic_auth::{BasicUser, basic_auth, same_secret};
pub use self::body::{Body, BodySender};
pub use self::cache::{Cache, Cached};
pub use self::client::{
    BadUrl, Client, ClientError, ClientErrorKind, ClientLimits, ClientRequest, Origin, PoolCounts,
    Proxies, Proxy, RedirectedTo, Redirects, Stage, ToUrl,
};
pub use self::compression::{Compression, compress};
pub use self::error::{BadMessage, BodyClosed, BodyError, StatusError};
pub use self::fetch::{Fetch, InterimHook, PlainGet};
pub use self::form_data::FormData;
pub use self::kept::KeptResponse;
pub use self::limits::{HEADERS_MAX, MessageLimits, ServerLimits};
pub use self::log_file::AccessLog;
pub use self::proxy::{ForwardProxy, ProxyRequest, ReverseProxy, TunnelRecord};
pub use self::request::Request;
pub use self::response::{
    Answer, Handler, IntoAnswer, IntoResponse, Json, Response, answer_conditionally, redirect,
    set_cookie,
};
pub use self::routes::{Routes, wrap};
pub use self::server::{
    Access, Interim, NotInterim, Server, ServerConnection, ServerHold, Site, serve,
};
pub use self::static_files::StaticFiles;
pub use self::upgrade::{Upgraded, accept_connect, switch_protocols};
pub use self::uploads::{FormPiece, FormStream, Upload, UploadLimits, UploadedFile};
