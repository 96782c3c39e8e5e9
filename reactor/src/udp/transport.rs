//! What a datagram protocol holds: its port, and the seat it sits in.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use torsade_deferred::{Canceller, ChainError, Deferred};

use crate::address::Address;
use crate::panics;
use crate::reactor::Reactor;
use crate::slab::Slab;
use crate::sockets::SocketOption;
use crate::udp::port::{DatagramPort, DatagramReceiver, News};
use crate::udp::{DatagramError, DatagramLimits, DatagramProtocol, ToDatagramAddress};

/// A port for datagrams, UDP or UNIX, and its protocol's seat: a cheap clone, to keep, to store,
/// to hand around. Dropping it does not stop the port.
///
/// Through the seat, whoever has the transport can [`call`](DatagramTransport::call) the protocol with
/// `&mut` access, and [`when`](DatagramTransport::when) ties a Deferred to it, as with a
/// [`Transport`](crate::Transport).
///
/// There are two ways to send. [`write`](DatagramTransport::write) and
/// [`write_to`](DatagramTransport::write_to) answer nothing, as a connection's `write`: what goes wrong
/// is told to [`error_received`](DatagramProtocol::error_received). [`send`](DatagramTransport::send) and
/// [`send_to`](DatagramTransport::send_to) answer at once. All of them leave at once, whole or not at
/// all; what the system does not take for the moment waits.
///
/// Kept beyond the end of the port, a transport does no harm: writes are dropped, calls are not
/// made.
///
/// Twisted's `IUDPTransport`.
pub struct DatagramTransport<P: 'static> {
    seat: Rc<Seat<P>>,
}

/// Where a protocol sits while its port is open.
struct Seat<P: 'static> {
    /// Borrowed exactly while one of its methods, or a call, is on the stack. `None` after the
    /// end.
    protocol: RefCell<Option<P>>,
    /// Calls that came while it was borrowed, in order.
    waiting: RefCell<VecDeque<WaitingVisit<P>>>,
    /// What `when` has tied to this port and has not fired.
    ties: RefCell<Slab<Canceller>>,
    port: Rc<DatagramPort>,
}

/// Visits made in a row before the loop goes on with something else.
const VISITS_AT_ONCE: usize = 1000;

type WaitingVisit<P> = Box<dyn FnOnce(&mut Option<P>, &DatagramTransport<P>)>;

impl<P: DatagramProtocol> DatagramTransport<P> {
    /// Seats a protocol on a port that is open, and tells it so.
    pub(super) fn seat(protocol: P, port: Rc<DatagramPort>) -> Self {
        let seat = Rc::new(Seat {
            protocol: RefCell::new(Some(protocol)),
            waiting: RefCell::default(),
            ties: RefCell::new(Slab::new()),
            port,
        });
        seat.port
            .set_receiver(Rc::clone(&seat) as Rc<dyn DatagramReceiver>);
        let transport = Self { seat };
        transport.call(P::start_protocol);
        transport
    }
}

impl<P: 'static> DatagramTransport<P> {
    pub(super) fn port(&self) -> &DatagramPort {
        &self.seat.port
    }

    /// Sends a datagram to the peer that the port is [connected](DatagramTransport::connect) to.
    ///
    /// If it cannot be sent, [`error_received`](DatagramProtocol::error_received) says why when the
    /// callback at hand has returned. After the end it is dropped.
    pub fn write(&self, datagram: impl AsRef<[u8]>) {
        self.port().write(datagram.as_ref(), None);
    }

    /// Sends a datagram to an address; otherwise as [`write`](DatagramTransport::write). Twisted's
    /// `write(datagram, addr)`.
    pub fn write_to(&self, datagram: impl AsRef<[u8]>, to: impl ToDatagramAddress) {
        let sent = self.send_to(datagram, to);
        self.port().mind(sent);
    }

    /// Sends a datagram to the peer that the port is [connected](DatagramTransport::connect) to.
    ///
    /// # Errors
    ///
    /// [`DatagramError`]: the datagram is not sent.
    pub fn send(&self, datagram: impl AsRef<[u8]>) -> Result<(), DatagramError> {
        self.port().send(datagram.as_ref(), None)
    }

    /// Sends a datagram to an address: on a UDP port a number and a port, never a name; on a
    /// UNIX socket a path, or `@` and a name.
    ///
    /// # Errors
    ///
    /// [`DatagramError`]: the datagram is not sent.
    pub fn send_to(
        &self,
        datagram: impl AsRef<[u8]>,
        to: impl ToDatagramAddress,
    ) -> Result<(), DatagramError> {
        let to = to.to_datagram_address(self.port().family())?;
        self.port().send(datagram.as_ref(), Some(&to))
    }

    /// Connects the port: from now on it sends to this peer alone, hears this peer alone, and is
    /// told if nobody listens there
    /// ([`connection_refused`](DatagramProtocol::connection_refused)). Nothing is sent for that.
    ///
    /// A UNIX socket must be there; when it has gone and there is another one of its name, that
    /// is whom the next datagram goes to. What others had sent before is heard. Who sends to a socket
    /// that is connected to somebody else is told that they may not.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Connected`]: once is enough; [`disconnect`](DatagramTransport::disconnect) first.
    /// Otherwise as for a datagram.
    pub fn connect(&self, peer: impl ToDatagramAddress) -> Result<(), DatagramError> {
        let peer = peer.to_datagram_address(self.port().family())?;
        self.port().connect(&peer)
    }

    /// Connects the port to nobody: it hears everybody again. For one that is not connected,
    /// nothing. Linux drops what a UNIX socket's peer had sent and was not delivered.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Stopped`]; [`DatagramError::Io`], for what the system says.
    pub fn disconnect(&self) -> Result<(), DatagramError> {
        self.port().disconnect()
    }

    /// Stops listening: the address is free when this returns, what waits to be sent is dropped,
    /// and the protocol hears nothing more but
    /// [`stop_protocol`](DatagramProtocol::stop_protocol), when the callback at hand has returned;
    /// outside of one, in the next turn. Then the Deferred fires. To stop twice is to stop.
    ///
    /// # Cancellation
    ///
    /// The port stops all the same.
    pub fn stop_listening(&self) -> Deferred<()> {
        self.port().stop_listening()
    }

    /// Whether it listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.port().is_listening()
    }

    /// Our own address, with the real port where 0 was asked for; a UNIX socket may be unnamed. Known
    /// also after the end.
    #[must_use]
    pub fn host(&self) -> Address {
        self.port().host()
    }

    /// To whom it is connected.
    #[must_use]
    pub fn peer(&self) -> Option<Address> {
        self.port().peer()
    }

    /// How many datagrams wait to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.port().unsent()
    }

    /// What may wait to be sent.
    #[must_use]
    pub fn limits(&self) -> DatagramLimits {
        self.port().limits()
    }

    /// Sets what may wait to be sent; it holds from now on.
    pub fn set_limits(&self, limits: DatagramLimits) {
        self.port().set_limits(limits);
    }

    /// Delivers no datagram until [`resume_reading`](DatagramTransport::resume_reading). The system keeps
    /// some (`SO_RCVBUF`), and drops the others; over UNIX sockets it takes no more, and who sends
    /// waits.
    pub fn pause_reading(&self) {
        self.port().pause_reading();
    }

    /// Delivers datagrams again; not before it returns.
    pub fn resume_reading(&self) {
        self.port().resume_reading();
    }

    /// Sets an option of the socket.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Io`] of kind [`Unsupported`](std::io::ErrorKind::Unsupported) for one that is
    /// TCP's, or on a UNIX socket IP's, or what the system says of the value; [`DatagramError::Stopped`].
    pub fn set_option(&self, option: SocketOption) -> Result<(), DatagramError> {
        self.port().ask(|socket| Ok(socket.set_option(&option)?))
    }

    /// How many bytes the system holds for this socket: to be sent, and received.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Stopped`]; [`DatagramError::Io`], for what the system says.
    pub fn buffer_sizes(&self) -> Result<(usize, usize), DatagramError> {
        self.port().ask(|socket| Ok(socket.buffer_sizes()?))
    }

    /// Whether [`Reactor::run_until_idle`] goes on for this port: not, if it is in the background.
    pub fn set_background(&self, on: bool) {
        self.port().background().set(on);
    }

    /// Whether it is in the background.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.port().background().get()
    }

    /// The reactor that drives the port.
    #[must_use]
    pub fn reactor(&self) -> Reactor {
        self.port().reactor()
    }

    /// Calls `visit` with the protocol: at once if it is free, right after its current method if
    /// it is not, in the order of the calls. After the end, `visit` is dropped.
    ///
    /// # Reentrancy
    ///
    /// May be called from everywhere, the protocol's own methods and its drop included.
    pub fn call(&self, visit: impl FnOnce(&mut P, &Self) + 'static) {
        if let Err(visit) = self.visit(visit) {
            let visit: WaitingVisit<P> = Box::new(|protocol, transport| {
                if let Some(protocol) = protocol.as_mut() {
                    visit(protocol, transport);
                }
            });
            self.seat.waiting.borrow_mut().push_back(visit);
        }
    }

    /// Ties a Deferred to this port: `callback` gets its result together with the protocol, as
    /// [`call`](DatagramTransport::call) would.
    ///
    /// When the port stops first, the Deferred is cancelled, and `callback` is dropped. Handing
    /// over the result counts as handling it.
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
            self.cancel_ties();
        }
    }

    fn is_over(&self) -> bool {
        self.seat
            .protocol
            .try_borrow()
            .is_ok_and(|protocol| protocol.is_none())
    }

    /// Makes a visit now, unless the protocol is busy: then it comes back.
    fn visit<F: FnOnce(&mut P, &Self)>(&self, visit: F) -> Result<(), F> {
        // Who waits comes first, also when the protocol is free for a moment.
        if !self.seat.waiting.borrow().is_empty() {
            return Err(visit);
        }
        let Ok(mut protocol) = self.seat.protocol.try_borrow_mut() else {
            return Err(visit);
        };
        if let Some(present) = protocol.as_mut() {
            // The panic has been reported, and the port goes on.
            let _ = panics::catch_with(|| self.port().core().origin(), || visit(present, self));
        }
        drop(protocol);
        if !self.seat.waiting.borrow().is_empty() {
            self.let_waiting_in();
        }
        Ok(())
    }

    /// Makes the visits that wait, within bounds: a protocol that calls itself again and again
    /// must not keep the loop.
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
            // As above.
            let _ = panics::catch_with(
                || self.port().core().origin(),
                || visit(&mut protocol, self),
            );
            let over = protocol.is_none();
            drop(protocol);
            if over {
                return self.clear();
            }
        }
        if !self.seat.waiting.borrow().is_empty() {
            let transport = self.clone();
            self.port()
                .core()
                .call_soon(move || transport.let_waiting_in());
        }
    }

    /// The end: nobody is visited any more, and what was tied to the port is cancelled.
    fn clear(&self) {
        // Detach, then call: dropping calls and cancelling Deferreds are user code.
        let waiting = self.seat.waiting.take();
        let _ = panics::catch(|| drop(waiting));
        self.cancel_ties();
    }

    fn cancel_ties(&self) {
        let ties = self.seat.ties.replace(Slab::new());
        for (_, canceller) in ties.iter() {
            // `cancel` does not panic, but the drop of what it sets free may: reported.
            let _ = panics::catch(|| canceller.cancel());
        }
    }
}

impl<P: DatagramProtocol> DatagramReceiver for Seat<P> {
    fn datagram_received(self: Rc<Self>, data: &[u8], length: usize, from: &Address) {
        let transport = DatagramTransport { seat: self };
        let visited =
            transport.visit(|protocol, transport| deliver(protocol, transport, data, length, from));
        if visited.is_err() {
            let (data, from) = (data.to_vec(), from.clone());
            transport.call(move |protocol, transport| {
                deliver(protocol, transport, &data, length, &from);
            });
        }
    }

    fn told(self: Rc<Self>, news: News) {
        Self::transport(self).call(|protocol, transport| match news {
            News::Refused => protocol.connection_refused(transport),
            News::Error(error) => protocol.error_received(transport, error),
            News::WritePaused => protocol.write_paused(transport),
            News::WriteResumed => protocol.write_resumed(transport),
        });
    }

    fn stopped(self: Rc<Self>) {
        let transport = Self::transport(self);
        let last: WaitingVisit<P> = Box::new(|seated, _| {
            if let Some(mut protocol) = seated.take() {
                protocol.stop_protocol();
                drop(protocol);
            }
        });
        transport.seat.waiting.borrow_mut().push_back(last);
        transport.let_waiting_in();
    }
}

impl<P: 'static> Seat<P> {
    fn transport(seat: Rc<Self>) -> DatagramTransport<P> {
        DatagramTransport { seat }
    }
}

fn deliver<P: DatagramProtocol>(
    protocol: &mut P,
    transport: &DatagramTransport<P>,
    data: &[u8],
    length: usize,
    from: &Address,
) {
    if data.len() == length {
        protocol.datagram_received(transport, data, from);
    } else {
        protocol.datagram_truncated(transport, data, from, length);
    }
}

impl<P: 'static> Clone for DatagramTransport<P> {
    fn clone(&self) -> Self {
        Self {
            seat: Rc::clone(&self.seat),
        }
    }
}

/// Two transports are equal if they are of the same port.
impl<P: 'static> PartialEq for DatagramTransport<P> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.seat, &other.seat)
    }
}

impl<P: 'static> Eq for DatagramTransport<P> {}

impl<P: 'static> fmt::Debug for DatagramTransport<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_listening() {
            "listening"
        } else {
            "stopped"
        };
        write!(f, "DatagramTransport({}, {state}", self.host())?;
        if let Some(peer) = self.peer() {
            write!(f, ", connected to {peer}")?;
        }
        write!(f, ", {} datagrams unsent)", self.unsent())
    }
}
