//! A stream that records what it is asked to do, and has no other end.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use torsade_deferred::{Deferred, succeed};

use crate::address::Address;
use crate::error::ConnectionLost;
use crate::flow::Limits;
use crate::reactor::Reactor;
use crate::stream::{Receiver, Socket, Stream};

/// A stream that records what is asked of it, for a test that plays the system and the
/// peer itself. Twisted's `StringTransport`.
///
/// Nothing happens by itself: bytes come when the test says [`receive`](Self::receive),
/// and the connection, even one that is being lost, ends when it says [`end`](Self::end).
/// These call the receiver at once, from wherever they are called; a test can do that at a
/// moment that no network would choose. Two protocols that speak to each other want a
/// [`memory_pair`](super::memory_pair) instead.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use torsade_reactor::testing::{MemoryStream, virtual_time_reactor};
/// use torsade_reactor::{Protocol, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
///         transport.write(data);
///     }
/// }
///
/// let stream = MemoryStream::new(&virtual_time_reactor());
/// Transport::connect(Echo, stream.clone());
/// stream.receive(b"hello");
/// assert_eq!(stream.take_written(), b"hello");
/// ```
pub struct MemoryStream {
    reactor: Reactor,
    receiver: RefCell<Option<Rc<dyn Receiver>>>,
    written: RefCell<Vec<u8>>,
    /// What has come and nobody was told of.
    unread: RefCell<Vec<u8>>,
    paused: Cell<bool>,
    congested: Cell<bool>,
    throttled: Cell<bool>,
    open: Cell<bool>,
    write_ended: Cell<bool>,
    /// Set when it is being lost.
    reason: Cell<Option<ConnectionLost>>,
    limits: Cell<Limits>,
}

impl MemoryStream {
    /// A stream that is connected, to nobody.
    #[must_use]
    pub fn new(reactor: &Reactor) -> Rc<Self> {
        Rc::new(Self {
            reactor: reactor.clone(),
            receiver: RefCell::default(),
            written: RefCell::default(),
            unread: RefCell::default(),
            paused: Cell::default(),
            congested: Cell::default(),
            throttled: Cell::new(true),
            open: Cell::new(true),
            write_ended: Cell::default(),
            reason: Cell::default(),
            limits: Cell::default(),
        })
    }

    /// Takes what was written since the last time.
    #[must_use]
    pub fn take_written(&self) -> Vec<u8> {
        self.written.take()
    }

    /// Whether reading is paused. What [`receive`](Self::receive) brings is delivered all
    /// the same, as bytes are that a layer below had already.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Whether our stream has been ended, by `lose_write_connection`.
    #[must_use]
    pub fn is_write_ended(&self) -> bool {
        self.write_ended.get()
    }

    /// Takes what it is being lost for, if it is; [`end`](Self::end) then tells `Done`.
    #[must_use]
    pub fn take_reason(&self) -> Option<ConnectionLost> {
        self.reason.take()
    }

    /// The peer sends this.
    ///
    /// # Panics
    ///
    /// It has no receiver: none yet, or none any more.
    pub fn receive(&self, data: &[u8]) {
        self.receiver().data_received(data);
    }

    /// The peer sends this, and nobody is told: it is there for who comes for it, with
    /// [`try_read`](Stream::try_read), and for nobody else.
    pub fn receive_unread(&self, data: &[u8]) {
        self.unread.borrow_mut().extend_from_slice(data);
    }

    /// The peer ends its stream.
    ///
    /// # Panics
    ///
    /// It has no receiver: none yet, or none any more.
    pub fn end_read(&self) {
        self.receiver().read_connection_lost();
    }

    /// The peer takes no more, or takes more again. Says so to the receiver, if that is
    /// something new.
    ///
    /// # Panics
    ///
    /// It has no receiver: none yet, or none any more.
    pub fn set_congested(&self, congested: bool) {
        if self.congested.replace(congested) == congested {
            return;
        }
        if congested {
            self.receiver().write_paused();
        } else {
            self.receiver().write_resumed();
        }
    }

    /// The connection ends: for the reason that it was being lost for, in order if there is
    /// none.
    ///
    /// # Panics
    ///
    /// It has no receiver: none yet, or none any more.
    pub fn end(&self) {
        self.lose(ConnectionLost::Done);
        let receiver = self
            .receiver
            .take()
            .expect("it has a receiver, and ends once");
        receiver.connection_lost(self.reason.take().unwrap_or(ConnectionLost::Done));
    }

    /// The reactor stops: the receiver has its last word
    /// ([`about_to_be_lost`](Receiver::about_to_be_lost)), and the connection ends with
    /// [`ConnectionLost::Stopped`], unless it is being lost for something else.
    ///
    /// # Panics
    ///
    /// It has no receiver: none yet, or none any more.
    pub fn stop(&self) {
        if self.is_connected() {
            self.receiver().about_to_be_lost();
        }
        self.end_because(ConnectionLost::Stopped);
    }

    /// The connection ends for this reason, unless it is being lost for another.
    ///
    /// # Panics
    ///
    /// It has no receiver: none yet, or none any more.
    pub fn end_because(&self, reason: ConnectionLost) {
        self.lose(reason);
        self.end();
    }

    fn receiver(&self) -> Rc<dyn Receiver> {
        let receiver = self.receiver.borrow().clone();
        receiver.expect("it has a receiver, and has not ended")
    }

    fn lose(&self, reason: ConnectionLost) {
        if self.open.replace(false) {
            self.reason.set(Some(reason));
        }
    }
}

impl Stream for MemoryStream {
    fn write(&self, data: &[u8]) {
        if self.open.get() && !self.write_ended.get() {
            self.written.borrow_mut().extend_from_slice(data);
        }
    }

    /// What [`receive_unread`](Self::receive_unread) has brought.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.open.get() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut unread = self.unread.borrow_mut();
        if unread.is_empty() && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        unread.drain(..count);
        Ok(count)
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        self.lose(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.lose(reason);
    }

    fn lose_write_connection(&self) {
        self.write_ended.set(true);
    }

    fn pause_reading(&self) {
        self.paused.set(true);
    }

    fn resume_reading(&self) {
        self.paused.set(false);
    }

    fn is_connected(&self) -> bool {
        self.open.get()
    }

    fn is_write_ended(&self) -> bool {
        self.write_ended.get()
    }

    /// None: what is written is recorded at once.
    fn unsent(&self) -> usize {
        0
    }

    fn is_congested(&self) -> bool {
        self.congested.get()
    }

    fn flush(&self) -> Deferred<()> {
        succeed(())
    }

    fn limits(&self) -> Limits {
        self.limits.get()
    }

    fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
    }

    fn set_throttled(&self, on: bool) {
        self.throttled.set(on);
    }

    fn is_throttled(&self) -> bool {
        self.throttled.get()
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        let previous = self.receiver.replace(Some(receiver));
        drop(previous);
    }

    fn socket(&self) -> &dyn Socket {
        self
    }
}

impl Socket for MemoryStream {
    fn peer(&self) -> Address {
        SocketAddr::from(([127, 0, 0, 1], 1)).into()
    }

    fn host(&self) -> Address {
        SocketAddr::from(([127, 0, 0, 1], 2)).into()
    }

    fn reactor(&self) -> Reactor {
        self.reactor.clone()
    }

    fn set_nodelay(&self, _: bool) {}
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.open.get() { "connected" } else { "lost" };
        let written = self.written.borrow().len();
        write!(f, "MemoryStream({state}, {written} bytes written)")
    }
}
