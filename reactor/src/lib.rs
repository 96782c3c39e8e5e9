//! Torsade's event loop: time, threads, signals, sockets and the protocols on them.
//!
//! ```no_run
//! use torsade_reactor::{Address, Protocol, Reactor, Transport};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
//!         transport.write(data);
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let reactor = Reactor::new()?;
//!     let port = reactor.listen_tcp("127.0.0.1:8007", |_peer: &Address| Echo)?;
//!     println!("listening on {}", port.address());
//!     reactor.run()?;
//!     Ok(())
//! }
//! ```
//!
//! # The turn
//!
//! ```text
//! thread calls ─▶ due calls ─▶ soon calls ─▶ wait ─▶ signals ─▶ events ─▶ left over ─┐
//!      ▲                                                                             │
//!      └─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! One turn runs what was queued when it began, waits for the kernel, and tells the
//! protocols what happened. What a callback schedules runs in the next turn. What a
//! callback writes leaves when it returns.
//!
//! # Where to start
//!
//! [`Reactor`] runs it all; [`Protocol`] is what you write; [`Transport`] is what your
//! protocol holds. Results that come later are
//! [`Deferred`](torsade_deferred::Deferred)s. [`Remote`] is for other threads.
//!
//! # Features
//!
//! `idna`: host names that are not ASCII. `testing`: the module `testing`, with the simulation. Both are on by
//! default.

#![cfg_attr(
    not(feature = "testing"),
    allow(
        dead_code,
        unused_imports,
        reason = "what the testing kit and the simulation alone ask of the loop"
    )
)]

mod address;
mod agenda;
mod background;
mod boot_clock;
mod buffers;
mod calls;
mod capability;
mod channel;
mod children;
mod connect_error;
mod core;
mod delayed_call;
mod descriptor;
mod driver;
mod dump;
mod endpoints;
mod error;
mod file_sender;
mod flow;
#[cfg(doctest)]
mod forbidden;
mod futures;
mod guest;
mod hooks;
mod host;
mod inspect;
mod panics;
mod policies;
mod producer;
mod protocol;
mod random;
mod reactor;
mod remains;
mod remote;
mod remote_call;
mod resolver;
mod root_folder;
mod running;
mod service;
mod signals;
#[cfg(feature = "testing")]
mod simulation;
mod slab;
mod sockets;
mod sources;
mod standstill;
mod stream;
mod sys;
pub mod systemd;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod thread_pool;
mod threads;
mod timers;
mod transport;
mod tunnel;
mod udp;
mod unix;
mod virtual_threads;
mod weak_reactor;

pub use crate::address::{
    Address, AddressError, TcpAddress, ToTcpAddress, ToUnixAddress, UnixAddress, ascii_host_name,
};
pub use crate::boot_clock::BootClock;
pub use crate::capability::{Capability, Unsupported};
pub use crate::channel::{Channel, ChannelEvent, Ping, SendError, Sender};
pub use crate::children::WaitError;
pub use crate::connect_error::ConnectError;
pub use crate::delayed_call::{DelayedCall, SoonCall};
pub use crate::descriptor::{Interest, Mode, Readiness, RemovedWatch, Watch, WatchError};
pub use crate::dump::{Dump, Held};
pub use crate::endpoints::{
    AdoptedServerEndpoint, ClientEndpoint, EndpointArguments, EndpointError, EndpointParsers,
    IpFamily, ServerEndpoint, TcpClientEndpoint, TcpServerEndpoint, UnixClientEndpoint,
    UnixServerEndpoint, quote_endpoint_argument,
};
pub use crate::error::{ConnectionLost, ListenError, NotFlushed, RunError};
pub use crate::file_sender::FileSender;
pub use crate::flow::Limits;
pub use crate::futures::AsyncFd;
pub use crate::guest::Guest;
pub use crate::hooks::{Hook, Phase, Place};
pub use crate::inspect::{SlowCallback, Statistics};
pub use crate::panics::PanicPolicy;
pub use crate::policies::{
    ConnectionLimits, IdleTimeout, LimitedServerEndpoint, RateLimit, RateLimitedClientEndpoint,
    RateLimitedServerEndpoint, TimeoutServerEndpoint,
};
pub use crate::producer::{AlreadyProducing, Producer, Streaming};
pub use crate::protocol::{Acceptor, Built, Factory, Protocol, Seating};
pub use crate::reactor::Reactor;
pub use crate::remote::{BlockingCallError, ReactorGone, Remote, RemoteFailure};
pub use crate::remote_call::RemoteCall;
pub use crate::resolver::{Hosts, Resolve, SystemResolver};
pub use crate::root_folder::{FolderEntry, FollowLinks, RootFolder};
pub use crate::service::{Backoff, ClientService, LostEarly, RetryPolicy, ServiceState};
pub use crate::signals::{Signal, SignalError, SignalWatcher};
pub use crate::sockets::{ConnectOptions, KeepAlive, ListenOptions, Port, SocketOption};
pub use crate::standstill::Standstill;
pub use crate::stream::{FilePart, Receiver, Settle, Socket, Stream, WeakReceiver};
pub use crate::thread_pool::{Job, PoolError, PoolLimits, PoolStatistics, Refused, ThreadPool};
pub use crate::transport::{Transport, Visited, WeakTransport};
pub use crate::tunnel::{Carried, tunnel, tunnel_with_timeout};
pub use crate::udp::{
    DatagramError, DatagramFamily, DatagramLimits, DatagramOptions, DatagramProtocol,
    DatagramTransport, MulticastGroup, MulticastInterface, ToDatagramAddress, ToUdpAddress,
};
pub use crate::unix::{AdoptError, AdoptProblem, PeerCredentials};
pub use crate::weak_reactor::WeakReactor;
