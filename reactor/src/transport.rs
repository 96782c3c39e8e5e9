//! What a protocol holds: its connection, and the seat it sits in.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::panic::Location;
use std::rc::{Rc, Weak};

use torsade_deferred::{Canceller, ChainError, Deferred, Failure, Interrupted, succeed};

use crate::address::Address;
use crate::error::{ConnectionLost, NotFlushed};
use crate::flow::Limits;
use crate::panics;
use crate::producer::Production;
use crate::protocol::Protocol;
use crate::reactor::Reactor;
use crate::slab::Slab;
use crate::sockets::SocketOption;
use crate::stream::{Receiver, Stream};

/// A protocol's connection: a cheap clone, to keep, to store, to hand around.
///
/// It knows two things: the stream below, which takes what is written, and the seat
/// of the protocol above. Through the seat, whoever has the transport can [`call`]
/// the protocol with `&mut` access, and [`when`] ties a Deferred to it; so a protocol's
/// state needs no `Rc<RefCell<..>>`, and nothing is ever borrowed twice.
///
/// `S` is what the stream is: any, for a [`Protocol`]; a layer that offers its protocol
/// more than a stream (lines, frames) names its own type there, whose methods are then
/// at hand through `Deref`.
///
/// Kept beyond the end of its connection, a transport does no harm: writes are
/// dropped, calls are not made, and the protocol itself is gone.
///
/// [`call`]: Transport::call
/// [`when`]: Transport::when
pub struct Transport<P: 'static, S: Stream + ?Sized = dyn Stream> {
    seat: Rc<Seat<P, S>>,
}

/// Where a protocol sits while its connection lasts. What each visit touches comes first, and lies
/// together.
#[repr(C)]
struct Seat<P: 'static, S: Stream + ?Sized> {
    stream: Rc<S>,
    /// How often something was written, and how many producers have been registered.
    writes: Cell<u64>,
    /// Calls that came while it was borrowed, in order.
    waiting: RefCell<VecDeque<WaitingVisit<P, S>>>,
    /// A callback panicked: only `connection_lost` is still to come.
    broken: Cell<bool>,
    /// The protocol was told `write_paused`, and not `write_resumed` since.
    choked: Cell<bool>,
    /// Borrowed exactly while one of its methods, or a call, is on the stack. `None`
    /// after the end.
    protocol: RefCell<Option<P>>,
    /// What `when` has tied to this connection and has not fired.
    ties: RefCell<Slab<Canceller>>,
    production: Production,
}

/// How often it is looked whether a writer that drains has been told to wait, turn by turn. Layers may
/// take a turn each to tell.
const LOOKS_AT_DRAINS: usize = 8;

/// Visits made in a row before the loop goes on with something else.
const VISITS_AT_ONCE: usize = 1000;

type WaitingVisit<P, S> = Box<dyn FnOnce(&mut Option<P>, &Transport<P, S>)>;

impl<P: 'static, S: Stream + ?Sized> Transport<P, S> {
    /// Seats `protocol` on `stream`. For layers: the reactor does it for a protocol
    /// that it connects itself.
    pub fn over(protocol: P, stream: Rc<S>) -> Self {
        let seat = Seat {
            protocol: RefCell::new(Some(protocol)),
            waiting: RefCell::default(),
            broken: Cell::new(false),
            ties: RefCell::new(Slab::new()),
            production: Production::default(),
            choked: Cell::new(false),
            writes: Cell::new(0),
            stream,
        };
        Self {
            seat: Rc::new(seat),
        }
    }

    /// Sends bytes: all of them, in order, after what was written before.
    ///
    /// Never blocks. What is written during one callback leaves in one system call when
    /// the callback returns; large amounts leave earlier. After
    /// [`lose_connection`](Transport::lose_connection) it is dropped.
    pub fn write(&self, data: impl AsRef<[u8]>) {
        self.next_number();
        self.seat.stream.write(data.as_ref());
    }

    /// Sends as much as the system takes at once, and says how much that was. Nothing is kept: for
    /// what is worth something now or never, such as the next frame of a picture. A layer that
    /// cannot tell, such as TLS, takes all of it, if nothing waits to be sent. libuv's
    /// `uv_try_write`.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is taken, because the system takes
    /// nothing or something waits to be sent already, be it from this very callback;
    /// [`NotConnected`](io::ErrorKind::NotConnected) where a write would be dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use torsade_reactor::{Protocol, Transport};
    ///
    /// /// A peer that gets the newest frame, or waits for the one after it.
    /// fn show<P: Protocol>(transport: &Transport<P>, frame: &[u8]) -> io::Result<()> {
    ///     match transport.try_write(frame) {
    ///         // Half a frame is no frame: the rest has to follow.
    ///         Ok(count) => transport.write(&frame[count..]),
    ///         Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
    ///         Err(error) => return Err(error),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn try_write(&self, data: impl AsRef<[u8]>) -> io::Result<usize> {
        let taken = self.seat.stream.try_write(data.as_ref())?;
        self.next_number();
        Ok(taken)
    }

    /// Takes what has come and was not delivered into the caller's own memory, as much as there is and
    /// fits, and says how much that was: nothing at the end of the peer's stream, of which
    /// [`read_connection_lost`](Protocol::read_connection_lost) tells all the same, when reading goes on.
    ///
    /// For who [pauses reading](Transport::pause_reading) and comes for the bytes when it wants them:
    /// while reading goes on, `data_received` has got everything.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has come;
    /// [`NotConnected`](io::ErrorKind::NotConnected) if the connection is being lost;
    /// [`Unsupported`](io::ErrorKind::Unsupported) over a layer that hands on something else than bytes,
    /// such as lines; else what the system says, or TLS, for one, of an end that was cut short, and the
    /// connection is lost for that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use torsade_reactor::{Protocol, Transport};
    ///
    /// /// What a game takes once a frame, into memory that it keeps.
    /// fn inputs<P: Protocol>(transport: &Transport<P>, place: &mut [u8]) -> io::Result<usize> {
    ///     match transport.try_read(place) {
    ///         Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
    ///         outcome => outcome,
    ///     }
    /// }
    /// ```
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.seat.stream.try_read(buffer)
    }

    /// Sends several pieces in a row, as one [`write`](Transport::write) of all of them would:
    /// they leave together. Twisted's `writeSequence`.
    pub fn write_sequence(&self, pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        for piece in pieces {
            self.write(piece);
        }
    }

    /// Closes the connection in order: sends what was written, then closes.
    ///
    /// Delivers nothing more but `connection_lost`, with [`ConnectionLost::Done`], and
    /// that not before this returns. If the peer takes nothing of the rest for
    /// [`Limits::flush`], the connection is aborted. All that begins when a producer that is
    /// [registered](Transport::register_producer) has unregistered.
    pub fn lose_connection(&self) {
        self.lose(ConnectionLost::Done);
    }

    fn lose(&self, reason: ConnectionLost) {
        if let Err(reason) = self.seat.production.lose_later(reason) {
            self.seat.stream.lose_connection(reason);
            self.flush_drains();
        }
    }

    /// Closes the connection in order, and gives `connection_lost` this reason, as
    /// [`ConnectionLost::Failed`].
    #[track_caller]
    pub fn lose_connection_because(&self, error: impl Into<Failure>) {
        self.lose(ConnectionLost::Failed(error.into()));
    }

    /// Closes the connection now: what is unsent is dropped, the peer sees a reset. (Not where somebody
    /// else may have the socket, too: [`Socket::duplicate`](crate::Socket::duplicate).)
    ///
    /// `connection_lost`, with [`ConnectionLost::Aborted`], comes when the callback at hand
    /// has returned; outside of one, in the next turn.
    pub fn abort_connection(&self) {
        self.seat.stream.abort_connection(ConnectionLost::Aborted);
    }

    /// Ends our stream after what was written; the peer may go on sending. It waits for a
    /// [registered](Transport::register_producer) producer, as
    /// [`lose_connection`](Transport::lose_connection) does.
    pub fn lose_write_connection(&self) {
        if !self.seat.production.lose_write_later() {
            self.seat.stream.lose_write_connection();
        }
    }

    /// Delivers no data until [`resume_reading`](Transport::resume_reading). To pause
    /// twice is to pause. A connection that the peer resets meanwhile is lost at once, and what has
    /// come and was not delivered with it.
    pub fn pause_reading(&self) {
        self.seat.stream.pause_reading();
    }

    /// Delivers data again; not before it returns.
    pub fn resume_reading(&self) {
        self.seat.stream.resume_reading();
    }

    /// Whether writes are accepted: the connection is neither lost nor being lost.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.seat.stream.is_connected()
    }

    /// How many bytes were written and are not yet with the system.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.seat.stream.unsent()
    }

    /// Whether more than [`Limits::unsent_high`] is unsent at this moment, and may leave: of a
    /// connection that the peer has reset, the rest is read first. For who answers
    /// many requests in one callback: stop there, and go on when
    /// [`write_resumed`](Protocol::write_resumed) is called, or in a later turn.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.seat.stream.is_congested()
    }

    /// Whether nothing is read while [`write_paused`](Protocol::write_paused) holds: by default,
    /// for connections that were accepted. Off, for a protocol whose peers may send everything
    /// before they read an answer, and which then minds `write_paused` itself.
    pub fn set_throttled(&self, on: bool) {
        self.seat.stream.set_throttled(on);
    }

    /// Fires when the system has everything that was written before the call; at once, if
    /// it has. (That is not yet the peer: a protocol that must know has it answer.)
    ///
    /// Fails with [`NotFlushed`](crate::NotFlushed) if the connection is lost first.
    #[must_use]
    pub fn flush(&self) -> Deferred<()> {
        self.seat.stream.flush()
    }

    /// Fires when the writer may go on: at once, if no more than [`Limits::unsent_high`] is unsent, else
    /// when that has sunk to [`Limits::unsent_low`], as
    /// [`write_resumed`](Protocol::write_resumed) tells the protocol. For who writes in a loop, in a task
    /// above all: `transport.write(piece); transport.drain().await?`. asyncio's `drain`.
    ///
    /// On a connection that is being lost, whoever loses it, it fires when everything is with the system, as
    /// [`flush`](Transport::flush) does; so it does for who has handed the stream on, and is not told of
    /// it any more. Fails with [`NotFlushed`](crate::NotFlushed) if the connection is lost first.
    ///
    /// # Cancellation
    ///
    /// Cancels the waiting alone.
    #[must_use]
    pub fn drain(&self) -> Deferred<()> {
        if !self.is_connected() {
            return self.flush();
        }
        if !self.is_held_up() {
            return succeed(());
        }
        let (trigger, deferred) = Deferred::new();
        self.seat.production.wait_to_drain(trigger);
        self.mind_an_end_below();
        self.look_at_drains(LOOKS_AT_DRAINS);
        deferred
    }

    /// If somebody below closes the connection, nobody is told to go on. But what is unsent now has left
    /// before the end, if that is in order; then it is looked whether there is more.
    fn mind_an_end_below(&self) {
        if !self.seat.production.mind_drains() {
            return;
        }
        let Err(flushing) = self.flush().into_result() else {
            self.seat.production.end_minding();
            return;
        };
        let seat = self.downgrade();
        let flushed = move |()| {
            let transport = seat.upgrade();
            let waiting = transport.filter(|it| it.seat.production.end_minding());
            match waiting {
                Some(transport) if transport.is_connected() => transport.mind_an_end_below(),
                Some(transport) => transport.flush_drains(),
                None => {}
            }
        };
        // If it is lost first, whoever drains is told when the protocol leaves.
        drop(flushing.add_callbacks(flushed, |_| ()));
    }

    fn is_held_up(&self) -> bool {
        self.is_choked() || self.is_congested()
    }

    /// Who is held up is told of it when the callback at hand has returned, if it still is then: who is
    /// not told is to be looked after.
    fn look_at_drains(&self, looks: usize) {
        if self.is_choked() {
            return;
        }
        let transport = self.clone();
        self.reactor().call_soon(move || {
            if !transport.is_connected() {
                transport.flush_drains();
            } else if !transport.is_held_up() {
                transport.end_drains();
            } else if looks > 0 || transport.is_choked() {
                transport.look_at_drains(looks.saturating_sub(1));
            } else {
                // The stream was handed on, and somebody else is told.
                transport.flush_drains();
            }
        });
    }

    /// Whoever waits may go on.
    pub(crate) fn end_drains(&self) {
        // Detach, then call.
        for trigger in self.seat.production.take_drains() {
            trigger.callback(());
        }
    }

    /// Nobody will say when to go on: whoever waits now waits until all is sent.
    pub(crate) fn flush_drains(&self) {
        for trigger in self.seat.production.take_drains() {
            match self.flush().into_result() {
                Ok(result) => {
                    // Nobody is called from in here.
                    self.reactor().call_soon(move || trigger.fire(result));
                }
                Err(flushed) => flushed.chain_into(trigger),
            }
        }
    }

    /// This connection's limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.seat.stream.limits()
    }

    /// Sets this connection's limits; they hold from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.seat.stream.set_limits(limits);
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`) instead of waiting for the
    /// peer to acknowledge the ones before. They are, by default: the writes of one callback
    /// leave together anyway, and two answers in two turns must not take 40 ms.
    pub fn set_nodelay(&self, on: bool) {
        self.seat.stream.socket().set_nodelay(on);
    }

    /// Whether [`Reactor::run_until_idle`](crate::Reactor::run_until_idle) goes on for this
    /// connection: not, if it is in the background, as one that only waits in a pool. To say so
    /// twice is to say it once. libuv's `unref`.
    pub fn set_background(&self, on: bool) {
        self.seat.stream.socket().set_background(on);
    }

    /// Sets an option of the socket below.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](std::io::ErrorKind::Unsupported) where it means nothing, for instance
    /// TCP's on a UNIX socket; [`NotConnected`](std::io::ErrorKind::NotConnected) after the end;
    /// else what the system says of the value.
    pub fn set_option(&self, option: SocketOption) -> io::Result<()> {
        self.seat.stream.socket().set_option(option)
    }

    /// The peer's address. Known also after the end.
    #[must_use]
    pub fn peer(&self) -> Address {
        self.seat.stream.socket().peer()
    }

    /// Our own address. Known also after the end.
    #[must_use]
    pub fn host(&self) -> Address {
        self.seat.stream.socket().host()
    }

    /// Which of its reactor's connections this is, counted from 1 in the order in which they were
    /// accepted or made; 0 where there is none, in memory. For logs: Twisted's `sessionno`.
    #[must_use]
    pub fn session_number(&self) -> u64 {
        self.seat.stream.socket().session_number()
    }

    /// The reactor that drives the connection. (After that one's end: one with nothing in
    /// it.)
    #[must_use]
    pub fn reactor(&self) -> Reactor {
        self.seat.stream.socket().reactor()
    }

    /// The stream below. For layers.
    #[must_use]
    pub fn stream(&self) -> &Rc<S> {
        &self.seat.stream
    }

    /// Calls `visit` with the protocol: at once if the protocol is free, right after its
    /// current method if it is not, in the order of the calls. After the end of the
    /// connection, `visit` is dropped.
    ///
    /// # Reentrancy
    ///
    /// May be called from everywhere, the protocol's own methods and its drop included.
    pub fn call(&self, visit: impl FnOnce(&mut P, &Self) + 'static) {
        if let Visited::Busy(visit) = self.visit(visit) {
            self.wait_for_seat(Box::new(|protocol, transport| {
                if let Some(protocol) = protocol.as_mut().filter(|_| !transport.seat.broken.get()) {
                    visit(protocol, transport);
                }
            }));
        }
    }

    /// Ties a Deferred to this connection: `callback` gets its result together with the
    /// protocol, as [`call`](Transport::call) would.
    ///
    /// When the connection is lost first, the Deferred is cancelled, and `callback` is
    /// dropped. Handing over the result counts as handling it.
    #[track_caller]
    pub fn when<T: 'static, E: ChainError>(
        &self,
        deferred: Deferred<T, E>,
        callback: impl FnOnce(&mut P, &Self, Result<T, E>) + 'static,
    ) {
        let tie = self.seat.ties.borrow_mut().insert(deferred.canceller());
        let transport = self.clone();
        // Dropped: the callback returns nothing that could fail.
        drop(deferred.add_both(move |result| {
            // After the end there is nothing to untie.
            let untied = transport.seat.ties.borrow_mut().remove(tie);
            drop(untied);
            transport.call(move |protocol, transport| callback(protocol, transport, result));
        }));
        if self.is_over() {
            self.seat.cancel_ties();
        }
    }

    /// Delivers an event to the protocol if it is free. For layers: what borrows its data
    /// need not be copied when the protocol is free, which it is unless an event arises
    /// inside its own call.
    pub fn visit<F: FnOnce(&mut P, &Self)>(&self, visit: F) -> Visited<F> {
        // Who waits comes first, also when the protocol is free for a moment.
        if !self.seat.waiting.borrow().is_empty() {
            return Visited::Busy(visit);
        }
        let Ok(mut protocol) = self.seat.protocol.try_borrow_mut() else {
            return Visited::Busy(visit);
        };
        if self.seat.broken.get() {
            return Visited::Over;
        }
        let Some(present) = protocol.as_mut() else {
            return Visited::Over;
        };
        let outcome = panics::catch_with(|| self.origin(), || visit(present, self));
        drop(protocol);
        if let Err(panicked) = outcome {
            self.broke(&panicked);
        }
        if !self.seat.waiting.borrow().is_empty() {
            self.let_waiting_in();
        }
        Visited::Made
    }

    /// The last call: `visit` takes the protocol out of its seat, which stays empty. What
    /// was tied to the connection is cancelled. For layers, on `connection_lost`.
    pub fn leave(&self, visit: impl FnOnce(&mut P) + 'static) {
        self.seat.production.stop();
        let last: WaitingVisit<P, S> = Box::new(|seated, _| {
            if let Some(mut protocol) = seated.take() {
                visit(&mut protocol);
                drop(protocol);
            }
        });
        if let Ok(mut protocol) = self.seat.protocol.try_borrow_mut() {
            // The panic has been reported; there is no connection left to lose.
            let _ = panics::catch_with(|| self.origin(), || last(&mut protocol, self));
        } else {
            return self.wait_for_seat(last);
        }
        // Detach, then call: dropping calls and cancelling Deferreds are user code.
        let waiting = self.seat.waiting.take();
        let _ = panics::catch(|| drop(waiting));
        self.seat.cancel_ties();
        for trigger in self.seat.production.take_drains() {
            trigger.errback(NotFlushed);
        }
    }

    /// Where somebody asked for what the loop is about to do, for the report of a panic.
    fn origin(&self) -> Option<&'static Location<'static>> {
        self.reactor().core().origin()
    }

    pub(crate) fn production(&self) -> &Production {
        &self.seat.production
    }

    pub(crate) fn is_choked(&self) -> bool {
        self.seat.choked.get()
    }

    pub(crate) fn set_choked(&self, choked: bool) {
        self.seat.choked.set(choked);
    }

    pub(crate) fn writes(&self) -> u64 {
        self.seat.writes.get()
    }

    pub(crate) fn next_number(&self) -> u64 {
        let number = self.seat.writes.get().wrapping_add(1);
        self.seat.writes.set(number);
        number
    }

    /// A handle that keeps nothing alive: for what the protocol's own connection keeps.
    #[must_use]
    pub fn downgrade(&self) -> WeakTransport<P, S> {
        WeakTransport {
            seat: Rc::downgrade(&self.seat),
        }
    }

    fn is_over(&self) -> bool {
        self.seat
            .protocol
            .try_borrow()
            .is_ok_and(|protocol| protocol.is_none())
    }

    fn wait_for_seat(&self, visit: WaitingVisit<P, S>) {
        self.seat.waiting.borrow_mut().push_back(visit);
    }

    /// Makes the visits that wait, within bounds: a protocol that calls itself again and
    /// again must not keep the loop.
    #[inline(never)]
    fn let_waiting_in(&self) {
        for _ in 0..VISITS_AT_ONCE {
            // Detach, then call: the queue is free again before the visit begins.
            let Some(visit) = self.seat.waiting.borrow_mut().pop_front() else {
                return;
            };
            let Ok(mut protocol) = self.seat.protocol.try_borrow_mut() else {
                // A call inside a call: the outer one lets the rest in.
                return self.seat.waiting.borrow_mut().push_front(visit);
            };
            let outcome = panics::catch_with(|| self.origin(), || visit(&mut protocol, self));
            let over = protocol.is_none();
            drop(protocol);
            if let Err(panicked) = outcome {
                self.broke(&panicked);
            }
            if over {
                return self.leave(|_| {});
            }
        }
        if !self.seat.waiting.borrow().is_empty() {
            let transport = self.clone();
            self.reactor().call_soon(move || transport.let_waiting_in());
        }
    }

    #[cold]
    fn broke(&self, panicked: &Interrupted) {
        self.seat.broken.set(true);
        let reason = ConnectionLost::panicked(panicked);
        self.seat.stream.abort_connection(reason);
    }
}

impl<P: 'static, S: Stream + ?Sized> Seat<P, S> {
    fn cancel_ties(&self) {
        let ties = self.ties.replace(Slab::new());
        for (_, canceller) in ties.iter() {
            // `cancel` does not panic, but the drop of what it sets free may: reported.
            let _ = panics::catch(|| canceller.cancel());
        }
    }
}

impl<P: 'static, S: Stream + ?Sized> Clone for Transport<P, S> {
    fn clone(&self) -> Self {
        Self {
            seat: Rc::clone(&self.seat),
        }
    }
}

/// A [`Transport`] that keeps neither the connection's seat nor its stream alive.
pub struct WeakTransport<P: 'static, S: Stream + ?Sized = dyn Stream> {
    seat: Weak<Seat<P, S>>,
}

impl<P: 'static, S: Stream + ?Sized> WeakTransport<P, S> {
    /// The transport, if anybody still holds it.
    #[must_use]
    pub fn upgrade(&self) -> Option<Transport<P, S>> {
        self.seat.upgrade().map(|seat| Transport { seat })
    }
}

impl<P: 'static, S: Stream + ?Sized> Clone for WeakTransport<P, S> {
    fn clone(&self) -> Self {
        Self {
            seat: Weak::clone(&self.seat),
        }
    }
}

impl<P: 'static, S: Stream + ?Sized> fmt::Debug for WeakTransport<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.upgrade() {
            Some(transport) => write!(f, "Weak{transport:?}"),
            None => f.write_str("WeakTransport(gone)"),
        }
    }
}

/// What became of a [`visit`](Transport::visit).
#[derive(Debug)]
#[must_use = "a visit that was not made may have to be made later"]
pub enum Visited<F> {
    /// The protocol was visited.
    Made,
    /// There is nobody to visit any more: the connection is over, or the protocol panicked.
    Over,
    /// The protocol is busy: here is the visit back.
    Busy(F),
}

/// What the stream offers beyond every stream: lines, frames, ...
impl<P: 'static, S: Stream + ?Sized> Deref for Transport<P, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.seat.stream
    }
}

/// Two transports are equal if they are of the same connection and protocol.
impl<P: 'static, S: Stream + ?Sized> PartialEq for Transport<P, S> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.seat, &other.seat)
    }
}

impl<P: 'static, S: Stream + ?Sized> Eq for Transport<P, S> {}

impl<P: 'static, S: Stream + ?Sized> fmt::Debug for Transport<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_over() { "lost" } else { "connected" };
        write!(
            f,
            "Transport({} to {}, {state}, {} bytes unsent)",
            self.host(),
            self.peer(),
            self.unsent()
        )
    }
}

/// A protocol in its seat, directly above a stream.
impl<P: Protocol> Receiver for Seat<P, dyn Stream> {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        let transport = Transport { seat: self };
        let visited =
            transport.visit(|protocol, transport| protocol.data_received(transport, data));
        transport.keep_if_busy(&visited, data);
    }

    // The same once more, for what comes from a socket: this way has no turning.
    fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
        let transport = Transport { seat: self };
        let visited =
            transport.visit(|protocol, transport| protocol.data_received(transport, data));
        transport.keep_if_busy(&visited, data);
    }

    fn read_connection_lost(self: Rc<Self>) {
        Transport { seat: self }.call(P::read_connection_lost);
    }

    fn write_paused(self: Rc<Self>) {
        Transport { seat: self }.write_paused(P::write_paused);
    }

    fn write_resumed(self: Rc<Self>) {
        Transport { seat: self }.write_resumed(P::write_resumed);
    }

    fn about_to_be_lost(self: Rc<Self>) {
        let transport = Transport { seat: self };
        transport.call(P::about_to_be_lost);
        match transport.unsent() {
            0 => transport.end_drains(),
            _ => transport.flush_drains(),
        }
    }

    fn vanish(self: Rc<Self>) {
        Transport { seat: self }.leave(|_| {});
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        Transport { seat: self }.leave(|protocol| protocol.connection_lost(reason));
    }
}

impl<P: Protocol> Transport<P> {
    /// Keeps data for a protocol that is busy.
    #[inline]
    fn keep_if_busy<F>(&self, visited: &Visited<F>, data: &[u8]) {
        if let Visited::Busy(_) = visited {
            self.keep(data);
        }
    }

    #[cold]
    fn keep(&self, data: &[u8]) {
        let data = data.to_vec();
        self.call(move |protocol, transport| protocol.data_received(transport, &data));
    }

    /// Seats `protocol` on `stream`, makes it the stream's receiver and tells it that
    /// the connection stands. For layers and for handing a connection on.
    pub fn connect(mut protocol: P, stream: Rc<dyn Stream>) -> Self {
        let stream = protocol.put_layer(stream);
        let transport = Self::over(protocol, stream);
        transport
            .seat
            .stream
            .set_receiver(Rc::clone(&transport.seat) as Rc<dyn Receiver>);
        transport.call(P::connection_made);
        transport
    }
}
