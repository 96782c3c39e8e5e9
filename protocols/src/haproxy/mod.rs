//! The PROXY protocol: who connected to the proxy in front of this server.
//!
//! A proxy that speaks it, HAProxy or a load balancer, begins each connection with a header
//! that names the client; both versions, 1 (a line) and 2 (binary), are understood. The
//! connection's `peer` and `host` are then those of the client's connection to the proxy.
//!
//! Listen with it only where nobody but the proxy can connect: who can, can claim any address.
//!
//! # Order
//!
//! A connection is handed on when its header is complete; what came behind the header is
//! delivered first.

#[cfg(fuzzing)]
pub mod fuzzed;
mod header;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use torsade_deferred::Deferred;
use torsade_reactor::{
    Acceptor, Address, ConnectionLost, DelayedCall, EndpointParsers, FilePart, KeepAlive, Limits,
    PeerCredentials, Port, Reactor, Receiver, ServerEndpoint, Socket, SocketOption, Stream,
};

use self::header::{Header, Parser};

use crate::threshold::{Approach, Threshold};

pub use self::header::BadHeader;

/// How long a proxy has to send its header, which is the first thing that it does. §2 asks
/// for 3 s at least, the time of a retransmission.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// Adds the kind `haproxy:` to `parsers`, for servers: `haproxy:tcp:8007` listens at what is
/// behind the prefix, for a proxy.
pub fn add_endpoint_kinds(parsers: &mut EndpointParsers) {
    parsers.add_server("haproxy", |arguments, parsers| {
        let below = parsers.server(arguments.rest())?;
        Ok(Rc::new(ProxiedServerEndpoint::new(below)) as Rc<dyn ServerEndpoint>)
    });
}

/// Listens at the endpoint below, for a proxy that speaks the PROXY protocol. Twisted's
/// `proxyEndpoint`.
///
/// A connection without a good header is aborted and never seen by the factory: it is told to
/// [`on_bad_header`](Self::on_bad_header).
pub struct ProxiedServerEndpoint<E> {
    below: E,
    limit: Duration,
    bad_header: Rc<BadHeaderHook>,
}

type BadHeaderHook = dyn Fn(&Address, &ConnectionLost);

impl<E: ServerEndpoint> ProxiedServerEndpoint<E> {
    /// Expects a proxy at `below`.
    pub fn new(below: E) -> Self {
        Self {
            below,
            limit: HEADER_LIMIT,
            bad_header: Rc::new(|_, _| {}),
        }
    }

    /// How long a connection may take to send its header: 10 s unless this says otherwise.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Calls `hook` for each connection that was lost before its header was complete, with the
    /// proxy's address and the reason: [`Failed`](ConnectionLost::Failed) with a [`BadHeader`] if
    /// it was not one.
    #[must_use]
    pub fn on_bad_header(mut self, hook: impl Fn(&Address, &ConnectionLost) + 'static) -> Self {
        self.bad_header = Rc::new(hook);
        self
    }
}

impl<E: ServerEndpoint> ServerEndpoint for ProxiedServerEndpoint<E> {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let expecting = Expecting {
            threshold: Threshold::of(acceptor),
            limit: self.limit,
            bad_header: Rc::clone(&self.bad_header),
        };
        self.below.listen_streams(reactor, Rc::new(expecting))
    }
}

impl<E: fmt::Debug> fmt::Debug for ProxiedServerEndpoint<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxiedServerEndpoint")
            .field("below", &self.below)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Hands a stream on when its header has come.
struct Expecting {
    threshold: Rc<Threshold>,
    limit: Duration,
    bad_header: Rc<BadHeaderHook>,
}

impl Acceptor for Expecting {
    fn accept(&self, below: Rc<dyn Stream>) {
        let reading = Rc::new(Reading {
            below: Rc::clone(&below),
            approach: Cell::new(Some(self.threshold.approach())),
            bad_header: Rc::clone(&self.bad_header),
            parser: RefCell::default(),
            limit: Cell::new(None),
            proxied: RefCell::default(),
            waiting: RefCell::default(),
        });
        let (weak, limit) = (Rc::downgrade(&reading), self.limit);
        let late = below.socket().reactor().call_later(limit, move || {
            if let Some(reading) = weak.upgrade() {
                let waiting_for = "the header of the PROXY protocol";
                let reason = ConnectionLost::TimedOut { waiting_for, limit };
                reading.below.abort_connection(reason);
            }
        });
        reading.limit.set(Some(late));
        below.set_receiver(reading);
    }

    fn start_listening(&self) {
        self.threshold.start_listening();
    }

    fn stop_listening(&self) {
        self.threshold.stop_listening();
    }
}

/// The receiver of a connection whose header has not come, and after it until the stream
/// above has one of its own.
struct Reading {
    below: Rc<dyn Stream>,
    /// Until it has been handed on, or is lost.
    approach: Cell<Option<Approach>>,
    bad_header: Rc<BadHeaderHook>,
    parser: RefCell<Parser>,
    limit: Cell<Option<DelayedCall>>,
    /// What it was handed on as. Whoever it was handed to holds it.
    proxied: RefCell<Option<Weak<ProxiedStream>>>,
    /// The same, while its receiver waits for what came behind the header: that need not hold it.
    waiting: RefCell<Option<Rc<ProxiedStream>>>,
}

impl Reading {
    fn hand_on(self: &Rc<Self>, header: Header, rest: &[u8]) {
        if let Some(limit) = self.limit.take() {
            limit.cancel();
        }
        let proxied = Rc::new_cyclic(|this| ProxiedStream {
            this: Weak::clone(this),
            reading: Rc::downgrade(self),
            below: Rc::clone(&self.below),
            addresses: match header {
                Header::Proxied { peer, host } => Some((peer, host)),
                Header::Local => None,
            },
            rest: RefCell::new(rest.to_vec()),
            receiver: RefCell::new(None),
            lost: Cell::new(None),
            paused: Cell::new(false),
            // Until somebody takes it.
            holds_below: Cell::new(true),
        });
        self.proxied.replace(Some(Rc::downgrade(&proxied)));
        self.below.pause_reading();
        if let Some(approach) = self.approach.take() {
            approach.hand_on(proxied);
        }
        if let Some(proxied) = self.handed_on() {
            proxied.deliver_rest();
        }
    }

    /// What it was handed on as, while there is anybody who has it.
    fn handed_on(&self) -> Option<Rc<ProxiedStream>> {
        self.proxied.borrow().as_ref().and_then(Weak::upgrade)
    }

    /// The receiver that waits for what came behind the header.
    fn waiting_receiver(&self) -> Option<Rc<dyn Receiver>> {
        self.handed_on()
            .and_then(|proxied| proxied.receiver.borrow().clone())
    }
}

impl Receiver for Reading {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        if self.proxied.borrow().is_some() {
            // It was on its way before the pause.
            if let Some(proxied) = self.handed_on() {
                proxied.rest.borrow_mut().extend_from_slice(data);
            }
            return;
        }
        let received = self.parser.borrow_mut().receive(data);
        match received {
            Ok(None) => {}
            Ok(Some((header, used))) => self.hand_on(header, &data[used..]),
            Err(bad) => self
                .below
                .abort_connection(ConnectionLost::Failed(bad.into())),
        }
    }

    fn read_connection_lost(self: Rc<Self>) {
        // Behind the header it is for whoever takes over, who hears of it from the stream below.
        if self.proxied.borrow().is_none() {
            let reason = ConnectionLost::Failed(BadHeader::Ended.into());
            self.below.abort_connection(reason);
        }
    }

    fn write_paused(self: Rc<Self>) {
        if let Some(receiver) = self.waiting_receiver() {
            receiver.write_paused();
        }
    }

    fn write_resumed(self: Rc<Self>) {
        if let Some(receiver) = self.waiting_receiver() {
            receiver.write_resumed();
        }
    }

    fn about_to_be_lost(self: Rc<Self>) {
        if let Some(receiver) = self.waiting_receiver() {
            receiver.about_to_be_lost();
        }
    }

    fn vanish(self: Rc<Self>) {
        if let Some(limit) = self.limit.take() {
            limit.cancel();
        }
        let (approach, waiting) = (self.approach.take(), self.waiting.take());
        // Whoever was to receive may hold the stream, and so itself.
        let receiver = waiting.as_ref().and_then(|proxied| proxied.receiver.take());
        if let Some(receiver) = receiver {
            receiver.vanish();
        }
        drop((approach, waiting));
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        if let Some(limit) = self.limit.take() {
            limit.cancel();
        }
        // Detach, then call.
        let approach = self.approach.take();
        let (handed_on, waiting) = (self.handed_on(), self.waiting.take());
        match (self.proxied.take(), handed_on) {
            (None, _) => (self.bad_header)(&self.below.socket().peer(), &reason),
            (Some(_), Some(proxied)) => proxied.connection_lost(reason),
            (Some(_), None) => {}
        }
        drop((approach, waiting));
    }
}

/// A connection by way of a proxy: the stream below, with the addresses of the header.
///
/// Descriptors cannot be sent over it, nor had from it: behind a proxy there is no socket of
/// the peer's.
pub struct ProxiedStream {
    this: Weak<Self>,
    /// What receives from the stream below until the rest has been delivered.
    reading: Weak<Reading>,
    below: Rc<dyn Stream>,
    /// The client, and where it connected to; `None` if the header names none.
    addresses: Option<(Address, Address)>,
    /// What came behind the header and was not delivered.
    rest: RefCell<Vec<u8>>,
    /// Who waits for that.
    receiver: RefCell<Option<Rc<dyn Receiver>>>,
    /// Why it was lost, if that happened before somebody took it.
    lost: Cell<Option<Box<ConnectionLost>>>,
    /// The user paused reading.
    paused: Cell<bool>,
    /// The stream below is paused until the rest has been delivered.
    holds_below: Cell<bool>,
}

impl ProxiedStream {
    /// The proxy's own address, where [`Transport::peer`](torsade_reactor::Transport::peer) says
    /// who connected to it.
    #[must_use]
    pub fn proxy(&self) -> Address {
        self.below.socket().peer()
    }

    /// Gives the receiver what came behind the header, and then the stream below.
    fn deliver_rest(&self) {
        if self.paused.get() || !self.holds_below.get() {
            return;
        }
        let Some(receiver) = self.receiver.take() else {
            return;
        };
        let rest = self.rest.take();
        self.holds_below.set(false);
        // The one that stood there goes with this, and what it held meanwhile.
        self.below.set_receiver(Rc::clone(&receiver));
        if !rest.is_empty() && self.below.is_connected() {
            receiver.data_received(&rest);
        }
        if !self.paused.get() {
            self.below.resume_reading();
        }
    }

    /// The end, before the rest was delivered.
    fn connection_lost(&self, reason: ConnectionLost) {
        let receiver = self.receiver.take();
        match receiver {
            Some(receiver) => receiver.connection_lost(reason),
            // Kept for the first receiver.
            None => self.lost.set(Some(Box::new(reason))),
        }
    }

    /// From here on the stream below holds it, and whoever has it need not.
    fn stay(&self) {
        if let Some(reading) = self.reading.upgrade() {
            let before = reading.waiting.replace(self.this.upgrade());
            drop(before);
        }
    }

    /// Has the rest delivered, not from inside a method of this stream.
    fn deliver_later(&self) {
        let this = Weak::clone(&self.this);
        self.below.socket().reactor().call_soon(move || {
            if let Some(this) = this.upgrade() {
                this.deliver_rest();
            }
        });
    }
}

impl Stream for ProxiedStream {
    fn write(&self, data: &[u8]) {
        self.below.write(data);
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            return self.below.try_read(buffer);
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        rest.drain(..count);
        Ok(count)
    }

    fn write_file(&self, part: FilePart) -> Result<(), FilePart> {
        self.below.write_file(part)
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        self.stay();
        self.below.lose_connection(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.below.abort_connection(reason);
    }

    fn lose_write_connection(&self) {
        self.below.lose_write_connection();
    }

    fn pause_reading(&self) {
        self.paused.set(true);
        self.below.pause_reading();
    }

    fn resume_reading(&self) {
        self.paused.set(false);
        if self.holds_below.get() {
            self.deliver_later();
        } else {
            self.below.resume_reading();
        }
    }

    fn is_connected(&self) -> bool {
        self.below.is_connected()
    }

    fn unsent(&self) -> usize {
        self.below.unsent()
    }

    fn is_congested(&self) -> bool {
        self.below.is_congested()
    }

    fn flush(&self) -> Deferred<()> {
        self.below.flush()
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn set_limits(&self, limits: Limits) {
        self.below.set_limits(limits);
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        if let Some(reason) = self.lost.take() {
            let reactor = self.reactor();
            reactor.call_soon(move || receiver.connection_lost(*reason));
            return;
        }
        if !self.holds_below.get() {
            return self.below.set_receiver(receiver);
        }
        let previous = self.receiver.replace(Some(receiver));
        self.stay();
        drop(previous);
        self.deliver_later();
    }

    fn socket(&self) -> &dyn Socket {
        self
    }

    fn below(&self) -> Option<&Rc<dyn Stream>> {
        Some(&self.below)
    }
}

impl Socket for ProxiedStream {
    fn peer(&self) -> Address {
        let named = self.addresses.as_ref().map(|(peer, _)| peer.clone());
        named.unwrap_or_else(|| self.below.socket().peer())
    }

    fn host(&self) -> Address {
        let named = self.addresses.as_ref().map(|(_, host)| host.clone());
        named.unwrap_or_else(|| self.below.socket().host())
    }

    fn reactor(&self) -> Reactor {
        self.below.socket().reactor()
    }

    fn session_number(&self) -> u64 {
        self.below.socket().session_number()
    }

    fn set_nodelay(&self, on: bool) {
        self.below.socket().set_nodelay(on);
    }

    fn set_background(&self, on: bool) {
        self.below.socket().set_background(on);
    }

    fn set_option(&self, option: SocketOption) -> io::Result<()> {
        self.below.socket().set_option(option)
    }

    fn nodelay(&self) -> io::Result<bool> {
        self.below.socket().nodelay()
    }

    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        self.below.socket().keep_alive()
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        self.below.socket().buffer_sizes()
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        self.below.socket().unacknowledged()
    }

    fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        self.below.socket().peer_credentials()
    }
}

impl Drop for ProxiedStream {
    fn drop(&mut self) {
        // Nobody will ever read it or close it, unless it is closing already.
        if self.holds_below.get() && self.below.is_connected() {
            self.below.abort_connection(ConnectionLost::Aborted);
        }
    }
}

impl fmt::Debug for ProxiedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxiedStream({} to {})", self.host(), self.peer())
    }
}
