//! Torsade: a callback/Deferred event loop in Twisted's style.
//!
//! # Three things
//!
//! - A [`Reactor`](prelude::Reactor) runs the loop: it waits for sockets, deadlines and other threads, and
//!   calls you back. It is a value; make one, hand clones around.
//! - A [`Protocol`](prelude::Protocol) is what you write: one value per connection, whose methods are
//!   called with `&mut self` when something happens. It holds, and is handed, a
//!   [`Transport`](prelude::Transport) to answer with.
//! - A [`Deferred`](prelude::Deferred) is a result that comes later, with the chain of callbacks that waits
//!   for it. Its [`Trigger`](prelude::Trigger) fires it.
//!
//! ```
//! use torsade::prelude::*;
//!
//! /// Answers every line, after a moment's thought.
//! struct Oracle;
//!
//! fn think(reactor: &Reactor, question: String) -> Deferred<String> {
//!     let (trigger, answer) = Deferred::new();
//!     let moment = std::time::Duration::from_millis(10);
//!     reactor.call_later(moment, move || trigger.callback(format!("{question}? Yes.")));
//!     answer
//! }
//!
//! impl LineReceiver for Oracle {
//!     fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
//!         let question = String::from_utf8_lossy(line).into_owned();
//!         // Tied to the connection: if that is lost first, nobody is called.
//!         transport.when(think(&transport.reactor(), question), |_self, transport, answer| {
//!             match answer {
//!                 Ok(text) => transport.send_line(text),
//!                 Err(failure) => transport.lose_connection_because(failure),
//!             }
//!         });
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Reactor::new()?;
//! let port = reactor.listen_tcp("127.0.0.1:0", |_peer: &Address| Lines::new(Oracle))?;
//! println!("ask it on {}", port.address());
//! # reactor.stop();
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # The rules, in short
//!
//! - Everything happens on the reactor's thread, one callback at a time. Other threads hold a
//!   [`Remote`](prelude::Remote).
//! - A protocol hears `connection_made` first and once, `connection_lost` last and once.
//! - Nothing that you call calls you back before it returns, save a Deferred that has fired already:
//!   a callback added to that runs at once.
//! - What you write in a callback leaves when it returns.
//! - A panic in a protocol's method ends its connection, a panic in a chain fails that chain; the loop goes on.
//!
//! # Features
//!
//! All but `websocket` are on by default; `default-features = false` is the reactor and Deferred alone.
//!
//! - `http`, `lines`, `tls`, `haproxy`: the protocols, one each.
//! - `idna`: host names that are not ASCII. Without it such a name is an
//!   [`AddressError`](reactor::AddressError); what is ASCII already needs nothing.
//! - `testing`: `reactor::testing`, with streams in memory, virtual time and the simulation. A program that does
//!   without it asks for it in its `dev-dependencies`.
//! - `websocket`: `protocols::websocket`, on top of `http`.
//!
//! The guide goes on in `docs/`; the three crates behind this one have pages of their own: [`deferred`],
//! [`reactor`], [`protocols`].

mod endpoints;

pub use torsade_deferred as deferred;
#[cfg(any(
    feature = "haproxy",
    feature = "http",
    feature = "lines",
    feature = "tls"
))]
pub use torsade_protocols as protocols;
pub use torsade_reactor as reactor;

pub use crate::endpoints::{client_from_string, endpoint_parsers, server_from_string};

/// Everything that a program with callbacks needs, in one `use`.
pub mod prelude {
    pub use torsade_deferred::{
        Canceller, Deferred, DeferredEvent, DeferredLock, DeferredQueue, DeferredSemaphore,
        Failure, Interrupted, IntoDeferred, TaskGroup, Timeout, Trigger, deferred_list, fail,
        gather_results, gather_tuple, maybe_deferred, race, succeed,
    };
    #[cfg(feature = "http")]
    pub use torsade_protocols::http;
    #[cfg(feature = "lines")]
    pub use torsade_protocols::lines::{
        Delimiter, LineReceiver, LineTooLong, LineTransport, Lines, ToLines,
    };
    #[cfg(feature = "tls")]
    pub use torsade_protocols::tls::{
        self, Identity, Roots, ServerName, StartTls, Tls, TlsClientEndpoint, TlsError,
        TlsServerEndpoint,
    };
    pub use torsade_reactor::task::{
        Cooperator, LoopingCall, TimerService, defer_later, react, sleep,
    };
    pub use torsade_reactor::{
        Address, Backoff, ClientEndpoint, ClientService, ConnectError, ConnectionLimits,
        ConnectionLost, DatagramError, DatagramProtocol, DatagramTransport, DelayedCall, Factory,
        IdleTimeout, LimitedServerEndpoint, Limits, ListenError, Port, Protocol, Reactor, Remote,
        RunError, ServerEndpoint, TcpClientEndpoint, TcpServerEndpoint, TimeoutServerEndpoint,
        Transport, WeakReactor,
    };
}

/// The documents' programs are tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/first-server.md")]
    struct FirstServer;

    #[doc = include_str!("../docs/how-to.md")]
    struct HowTo;

    #[cfg(all(feature = "lines", feature = "tls"))]
    #[doc = include_str!("../docs/tls.md")]
    struct TlsChapter;

    #[cfg(all(feature = "http", feature = "tls"))]
    #[doc = include_str!("../docs/http.md")]
    struct HttpChapter;

    #[cfg(feature = "http")]
    #[doc = include_str!("../docs/http-client.md")]
    struct HttpClientChapter;

    #[cfg(feature = "http")]
    #[doc = include_str!("../docs/http-cache.md")]
    struct HttpCacheChapter;

    #[cfg(feature = "http")]
    #[doc = include_str!("../docs/http-proxy.md")]
    struct HttpProxyChapter;

    // Its feature comes with the dev-dependencies.
    #[cfg(all(feature = "http", feature = "testing"))]
    #[doc = include_str!("../docs/websocket.md")]
    struct WebSocketChapter;

    #[cfg(feature = "testing")]
    #[doc = include_str!("../docs/testing.md")]
    struct Testing;

    #[doc = include_str!("../docs/embedding.md")]
    struct Embedding;
}
