//! Two connected streams in memory, and the wire between them.
//!
//! They are real connections, with everything that those have above their socket:
//! water marks and limits, half-close, flushes, the order of calls. Only the socket is
//! made of memory. What one side writes travels in later turns of the reactor; nothing
//! is ever delivered from inside a stream's method.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use crate::address::Address;
use crate::core::Core;
use crate::descriptor::Readiness;
use crate::driver::{AnySocket, StreamSocket};
use crate::error::RunError;
use crate::reactor::Reactor;
use crate::slab::Token;
use crate::sockets::{Connection, KeepAlive, SocketOption};
use crate::stream::Stream;
use crate::testing::wire::{Arrival, Chunks, Lane};

/// What one direction holds unless told otherwise: about what a socket on loopback does
/// at first.
const CAPACITY: usize = 64 * 1024;

/// Connects two streams in memory, on any reactor; made by [`memory_pair`].
///
/// # Examples
///
/// A conversation that the network cuts into single bytes:
///
/// ```
/// use torsade_reactor::testing::{Chunks, memory_pair, virtual_time_reactor};
/// use torsade_reactor::{Protocol, Transport};
///
/// #[derive(Default)]
/// struct Counter {
///     deliveries: usize,
/// }
///
/// impl Protocol for Counter {
///     fn data_received(&mut self, _transport: &Transport<Self>, _data: &[u8]) {
///         self.deliveries += 1;
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = virtual_time_reactor();
/// let pair = memory_pair(&reactor);
/// pair.pump.set_chunks(Chunks::Of(1));
/// let client = Transport::connect(Counter::default(), pair.client);
/// let server = Transport::connect(Counter::default(), pair.server);
/// client.write("hello");
/// pair.pump.run()?;
/// server.call(|server, _| assert_eq!(server.deliveries, 5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct MemoryPair {
    /// The end that connected.
    pub client: Rc<dyn Stream>,
    /// The end that was accepted: it is not read while its peer takes no answers.
    pub server: Rc<dyn Stream>,
    /// The wire between them, both directions.
    pub pump: Pump,
}

/// Two streams that are connected to each other in memory, and the wire between them.
///
/// Nothing is read before a stream has a receiver, see
/// [`Transport::connect`](crate::Transport::connect), and one that is dropped before is aborted.
#[must_use]
pub fn memory_pair(reactor: &Reactor) -> MemoryPair {
    let address = |port| Address::from(SocketAddr::from(([127, 0, 0, 1], port)));
    memory_pair_between(reactor, address(2), address(1))
}

/// A [`memory_pair`] whose ends have these addresses.
#[must_use]
pub fn memory_pair_between(reactor: &Reactor, client: Address, server: Address) -> MemoryPair {
    let core = reactor.core();
    let wire = Rc::new(Wire {
        core: Rc::clone(core),
        lanes: [CAPACITY, CAPACITY].map(|capacity| RefCell::new(Lane::new(capacity))),
        ends: Default::default(),
        scheduled: Cell::new(false),
    });
    let addresses = [client, server];
    let socket = |side: Side| MemorySocket {
        wire: Rc::clone(&wire),
        side,
        address: addresses[side.index()].clone(),
        resets: Cell::new(false),
    };
    let stream = |side: Side| -> Rc<dyn Stream> {
        let peer = addresses[side.other().index()].clone();
        let connection = core.add_source(|token| {
            wire.ends[side.index()].token.set(Some(token));
            let (core, socket) = (Rc::clone(core), AnySocket::other(socket(side)));
            match side {
                Side::Client => Connection::connected(core, token, socket, peer),
                Side::Server => {
                    let host = addresses[side.index()].clone();
                    Connection::accepted(core, token, socket, peer, Some(Rc::new(host)))
                }
            }
        });
        connection.let_go();
        connection
    };
    let (client, server) = (stream(Side::Client), stream(Side::Server));
    let pump = Pump {
        wire,
        reactor: reactor.clone(),
        first: 0,
        last: 1,
    };
    MemoryPair {
        client,
        server,
        pump,
    }
}

/// The wire of a [`MemoryPair`]: how bytes travel on it, and when. A cheap clone.
///
/// It moves by itself, one chunk of each direction a turn, while there is something to
/// move. What is set here holds from the next turn on.
#[derive(Clone)]
pub struct Pump {
    wire: Rc<Wire>,
    reactor: Reactor,
    /// The directions that it is about, by index.
    first: usize,
    last: usize,
}

impl Pump {
    /// The direction from the client to the server alone.
    #[must_use]
    pub fn to_server(&self) -> Self {
        self.direction(Side::Client)
    }

    /// The direction from the server to the client alone.
    #[must_use]
    pub fn to_client(&self) -> Self {
        self.direction(Side::Server)
    }

    fn direction(&self, from: Side) -> Self {
        Self {
            first: from.index(),
            last: from.index(),
            ..self.clone()
        }
    }

    /// Sets the pieces in which bytes arrive.
    pub fn set_chunks(&self, chunks: Chunks) {
        self.change(|lane| lane.chunks = chunks.clone());
    }

    /// Sets how many turns each chunk takes longer than the one that it needs: none at
    /// first.
    pub fn set_delay(&self, turns: usize) {
        self.change(|lane| lane.delay = turns);
    }

    /// Sets how many bytes each direction takes before the reader has read any: 64 KiB at
    /// first. What is there already stays.
    pub fn set_capacity(&self, bytes: usize) {
        self.change(|lane| lane.capacity = bytes);
    }

    /// Lets nothing arrive any more, ends and resets neither, until
    /// [`release`](Pump::release).
    pub fn hold(&self) {
        self.change(|lane| lane.held = true);
    }

    /// Lets things arrive again.
    pub fn release(&self) {
        self.change(|lane| lane.held = false);
    }

    /// Cuts it: what is in flight is lost, and who reads at its end hears of this error.
    /// The other direction goes on.
    pub fn cut(&self, error: io::ErrorKind) {
        self.change(|lane| lane.break_off(error));
    }

    /// How many bytes have been written to it and have not arrived.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lanes().map(|lane| lane.borrow().in_flight()).sum()
    }

    /// How many bytes have arrived and have not been read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.lanes().map(|lane| lane.borrow().unread()).sum()
    }

    /// Runs turns of the reactor, until it has nothing to do that needs no waiting. No
    /// time passes.
    ///
    /// # Errors
    ///
    /// As for [`Reactor::turn`]: called from inside of it, for instance.
    ///
    /// # Panics
    ///
    /// After a million turns: two protocols that answer each other for ever never come to
    /// rest.
    pub fn run(&self) -> Result<(), RunError> {
        /// More than any test's conversation takes, byte by byte.
        const TURNS_MAX: usize = 1_000_000;
        let core = &self.wire.core;
        for _ in 0..TURNS_MAX {
            // What was written outside of a callback is sent when the turn begins.
            self.reactor.turn(Some(Duration::ZERO))?;
            if core.next_deadline().is_none_or(|due| due > core.now()) {
                return Ok(());
            }
        }
        panic!("the wire is not at rest after {TURNS_MAX} turns");
    }

    fn lanes(&self) -> impl Iterator<Item = &RefCell<Lane>> {
        self.wire.lanes[self.first..=self.last].iter()
    }

    fn change(&self, change: impl Fn(&mut Lane)) {
        for lane in self.lanes() {
            change(&mut lane.borrow_mut());
        }
        self.wire.schedule();
    }
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (in_flight, unread) = (self.in_flight(), self.unread());
        write!(f, "Pump({in_flight} bytes in flight, {unread} unread)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Side {
    /// Also that of the lane which leads away from it.
    fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Two lanes, and who is at their ends.
struct Wire {
    core: Rc<Core>,
    /// By the side that writes to it.
    lanes: [RefCell<Lane>; 2],
    ends: [End; 2],
    scheduled: Cell<bool>,
}

#[derive(Default)]
struct End {
    token: Cell<Option<Token>>,
    /// The socket is gone.
    closed: Cell<bool>,
}

impl Wire {
    fn outgoing(&self, side: Side) -> &RefCell<Lane> {
        &self.lanes[side.index()]
    }

    fn incoming(&self, side: Side) -> &RefCell<Lane> {
        &self.lanes[side.other().index()]
    }

    fn is_busy(&self) -> bool {
        self.lanes.iter().any(|lane| lane.borrow().is_busy())
    }

    /// Has the next step made in the next turn, if there is something to move.
    fn schedule(self: &Rc<Self>) {
        if self.is_busy() && !self.scheduled.replace(true) {
            let wire = Rc::clone(self);
            self.core.call_soon(move || wire.step());
        }
    }

    /// Moves both lanes, and tells both ends what they would see of it.
    fn step(self: &Rc<Self>) {
        self.scheduled.set(false);
        // Detach, then call: both have moved before either end hears of it.
        let arrivals = [Side::Client, Side::Server].map(|side| (side, self.arrive(side)));
        for (side, readiness) in arrivals {
            if let (Some(readiness), Some(token)) = (readiness, self.ends[side.index()].token.get())
            {
                self.core.deliver(token, readiness);
            }
        }
        self.schedule();
    }

    /// One step on the lane that leads to `side`.
    fn arrive(&self, side: Side) -> Option<Readiness> {
        let Arrival { bytes, tail } = self.incoming(side).borrow_mut().step();
        let writable = self.outgoing(side).borrow_mut().take_room();
        if self.ends[side.index()].closed.get() {
            // As systems do: what comes for a socket that is gone is answered by a reset.
            if self.incoming(side).borrow_mut().discard_arrived() {
                self.outgoing(side)
                    .borrow_mut()
                    .break_off(io::ErrorKind::ConnectionReset);
            }
            return None;
        }
        let error = self.incoming(side).borrow().error();
        let broken = tail && error.is_some();
        (bytes || tail || writable).then_some(Readiness {
            readable: bytes || tail,
            writable: writable || broken,
            hangup: self.incoming(side).borrow().is_over(),
            broken,
            urgent: false,
        })
    }
}

/// One end of a wire, as the reactor's connections know sockets.
struct MemorySocket {
    wire: Rc<Wire>,
    side: Side,
    address: Address,
    resets: Cell<bool>,
}

impl StreamSocket for MemorySocket {
    fn watch(&self, _token: Token) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = self.wire.incoming(self.side).borrow_mut().read(buffer);
        self.wire.schedule();
        outcome
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        if let Some(error) = self.wire.incoming(self.side).borrow().error() {
            return Err(error.into());
        }
        let outcome = self.wire.outgoing(self.side).borrow_mut().write(data);
        self.wire.schedule();
        outcome
    }

    fn write_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let count = self.write(first)?;
        if count < first.len() {
            return Ok(count);
        }
        match self.write(second) {
            Ok(more) => Ok(count + more),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(count),
            Err(error) => Err(error),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if let Some(error) = self.wire.incoming(self.side).borrow().error() {
            return Err(error.into());
        }
        if how != Shutdown::Read {
            self.wire.outgoing(self.side).borrow_mut().end();
        }
        self.wire.schedule();
        Ok(())
    }

    fn reset_on_drop(&self) {
        self.resets.set(true);
    }

    fn is_delivered(&self) -> bool {
        self.wire.outgoing(self.side).borrow().in_flight() == 0
            && self.wire.incoming(self.side).borrow().unread() == 0
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(self.wire.outgoing(self.side).borrow().in_flight())
    }

    fn take_error(&self) -> io::Result<()> {
        match self.wire.incoming(self.side).borrow().error() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }

    fn set_option(&self, _option: &SocketOption) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn nodelay(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        let capacity = |lane: &RefCell<Lane>| lane.borrow().capacity;
        Ok((
            capacity(self.wire.outgoing(self.side)),
            capacity(self.wire.incoming(self.side)),
        ))
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.wire.ends[self.side.index()].closed.set(true);
        // As systems do: a socket that is closed with something unread resets.
        let unread = self.wire.incoming(self.side).borrow_mut().discard_arrived();
        let mut outgoing = self.wire.outgoing(self.side).borrow_mut();
        if unread || self.resets.get() {
            outgoing.break_off(io::ErrorKind::ConnectionReset);
        } else {
            outgoing.end();
        }
        drop(outgoing);
        self.wire.schedule();
    }
}
