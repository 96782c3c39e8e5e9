//! One socket for datagrams, UDP or UNIX: receiving and stopping; `sending.rs` has the rest.
//!
//! Nothing calls the protocol from inside a method: what is to be told is noted, and told when
//! the callback at hand has returned.
//!
//! # Design
//!
//! A socket is watched for arrivals, as a level, where the driver can: then a port that stops
//! before nothing is left loses nothing (see `eagerness.rs`), and no datagram that has left its
//! socket wakes the loop, as it does whoever waits to send. A port that has to wait to send, or
//! finds something to receive while it is paused, or was told of something that was not there, is
//! watched for edges, until it is at rest again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;

use torsade_deferred::{Deferred, Trigger, succeed};

use crate::address::{Address, UnixAddress};
use crate::buffers::READ_SIZE;
use crate::core::{Core, Source};
use crate::delayed_call::DelayedCall;
use crate::driver::{Change, DatagramSocket, Watching};
use crate::reactor::Reactor;
use crate::slab::Token;
use crate::udp::eagerness::Eagerness;
use crate::udp::options::{DATAGRAM_MAX, UNIX_DATAGRAM_MAX};
use crate::udp::queue::Queue;
use crate::udp::{DatagramError, DatagramFamily, DatagramLimits, DatagramOptions};

/// What one port may receive in a turn, so that a flood starves nobody: datagrams, and bytes
/// (Twisted's bound).
pub(crate) const SHARE: (usize, usize) = (64, 256 * 1024);

/// Errors that are noted for one callback; what is wrong with more sends than that is the same.
const NEWS_MAX: usize = 64;

/// A port that receives and sends.
pub(crate) struct DatagramPort {
    pub(super) core: Rc<Core>,
    pub(super) token: Token,
    pub(super) family: DatagramFamily,
    pub(super) host: RefCell<Address>,
    pub(super) peer: RefCell<Option<Address>>,
    /// Whether there is a peer.
    pub(super) is_connected: Cell<bool>,
    /// `None` when it has stopped.
    pub(super) socket: RefCell<Option<Box<dyn DatagramSocket>>>,
    /// `None` when it has heard of that, too.
    receiver: RefCell<Option<Rc<dyn DatagramReceiver>>>,
    pub(super) queue: RefCell<Queue>,
    /// Receivers without room are to be asked again.
    pub(super) asking: RefCell<Option<DelayedCall>>,
    /// What is to be told when the callback at hand has returned.
    news: RefCell<VecDeque<News>>,
    /// They wait for the end.
    stopped: RefCell<Vec<Trigger<()>>>,
    pub(super) limits: Cell<DatagramLimits>,
    datagram_max: usize,
    /// For datagrams longer than the buffer that the reactor lends; empty until it is needed.
    long: Cell<Box<[u8]>>,
    watching: Cell<Watching>,
    /// What was told as a level was there. Once it was not (an error that nobody asks for, a socket
    /// that is not read any more), each wait would end with it.
    is_level_true: Cell<bool>,
    eagerness: Eagerness,
    /// There may be something to receive: known only of what is watched for edges.
    readable: Cell<bool>,
    /// The system took what it was given last, or does not say when it will.
    pub(super) writable: Cell<bool>,
    paused: Cell<bool>,
    /// The writer was told to pause.
    pub(super) choked: Cell<bool>,
    /// News are being told.
    telling: Cell<bool>,
    dirty: Cell<bool>,
    again: Cell<bool>,
    background: Cell<bool>,
    /// The machine has crashed.
    halted: Cell<bool>,
}

/// What is to be told.
pub(super) enum News {
    Refused,
    Error(DatagramError),
    WritePaused,
    WriteResumed,
}

/// Who is told: a protocol in its seat.
pub(super) trait DatagramReceiver {
    /// A datagram of `length` bytes has come; `data` is all of it, or its beginning.
    fn datagram_received(self: Rc<Self>, data: &[u8], length: usize, from: &Address);

    fn told(self: Rc<Self>, news: News);

    /// The end.
    fn stopped(self: Rc<Self>);
}

impl DatagramPort {
    /// Puts a socket under the reactor's eyes.
    pub(super) fn open(
        core: &Rc<Core>,
        socket: Box<dyn DatagramSocket>,
        options: &DatagramOptions,
    ) -> io::Result<Rc<Self>> {
        let host = socket.local_address()?;
        let peer = socket.peer();
        let family = DatagramFamily::of(&host).ok_or(io::ErrorKind::Unsupported)?;
        let datagram_max = match family {
            DatagramFamily::Unix => options.datagram_max.min(UNIX_DATAGRAM_MAX),
            _ => options.datagram_max.min(DATAGRAM_MAX),
        };
        let port = core.add_source(|token| {
            Rc::new(Self {
                core: Rc::clone(core),
                token,
                family,
                host: RefCell::new(host),
                is_connected: Cell::new(peer.is_some()),
                peer: RefCell::new(peer),
                socket: RefCell::new(Some(socket)),
                receiver: RefCell::default(),
                queue: RefCell::new(Queue::new()),
                asking: RefCell::default(),
                news: RefCell::default(),
                stopped: RefCell::default(),
                limits: Cell::new(options.limits),
                datagram_max,
                long: Cell::default(),
                watching: Cell::new(Watching::Edges),
                is_level_true: Cell::new(true),
                eagerness: Eagerness::default(),
                readable: Cell::new(false),
                writable: Cell::new(true),
                paused: Cell::new(false),
                choked: Cell::new(false),
                telling: Cell::new(false),
                dirty: Cell::new(false),
                again: Cell::new(false),
                background: Cell::new(false),
                halted: Cell::new(false),
            })
        });
        let watched = match port.socket.borrow().as_ref() {
            Some(socket) => socket.watch(port.token),
            None => Ok(Watching::Edges),
        };
        match watched {
            Ok(watching) => port.watching.set(watching),
            Err(error) => {
                core.remove_source(port.token);
                drop(port.socket.take());
                return Err(error);
            }
        }
        Ok(port)
    }

    pub(super) fn set_receiver(&self, receiver: Rc<dyn DatagramReceiver>) {
        self.receiver.replace(Some(receiver));
    }

    /// Asks the socket, while there is one.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&dyn DatagramSocket) -> Result<T, DatagramError>,
    ) -> Result<T, DatagramError> {
        match self.socket.borrow().as_ref() {
            Some(socket) => question(&**socket),
            None => Err(DatagramError::Stopped),
        }
    }

    pub(super) fn reactor(&self) -> Reactor {
        Reactor::of(&self.core)
    }

    pub(super) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(super) fn host(&self) -> Address {
        self.host.borrow().clone()
    }

    pub(super) fn peer(&self) -> Option<Address> {
        self.peer.borrow().clone()
    }

    pub(super) fn family(&self) -> DatagramFamily {
        self.family
    }

    pub(super) fn is_listening(&self) -> bool {
        self.socket.borrow().is_some()
    }

    pub(super) fn unsent(&self) -> usize {
        self.queue.borrow().len()
    }

    pub(super) fn background(&self) -> &Cell<bool> {
        &self.background
    }

    pub(super) fn limits(&self) -> DatagramLimits {
        self.limits.get()
    }

    pub(super) fn set_limits(&self, limits: DatagramLimits) {
        self.limits.set(limits);
        self.mark_dirty();
    }

    pub(super) fn pause_reading(&self) {
        self.paused.set(true);
    }

    pub(super) fn resume_reading(&self) {
        if self.paused.replace(false) && self.readable.get() {
            self.mark_again();
        }
    }

    /// Notes what is to be told when the callback at hand has returned.
    pub(super) fn note(&self, news: News) {
        if !self.is_listening() {
            return;
        }
        let mut noted = self.news.borrow_mut();
        if matches!(news, News::Refused) && matches!(noted.back(), Some(News::Refused)) {
            return;
        }
        // A writer that was paused is resumed, whatever else there is to tell.
        if noted.len() < NEWS_MAX || !matches!(news, News::Error(_)) {
            noted.push_back(news);
        }
        if self.telling.get() {
            // Who causes an error whenever it is told of one must not keep the loop.
            self.mark_again();
        } else {
            self.mark_dirty();
        }
    }

    fn tell_news(&self) {
        if self.news.borrow().is_empty() {
            return;
        }
        let news = self.news.take();
        self.telling.set(true);
        for news in news {
            self.tell(|receiver| receiver.told(news));
        }
        self.telling.set(false);
    }

    /// Calls the receiver, if it is to hear anything any more. Its seat catches its panics.
    fn tell(&self, event: impl FnOnce(Rc<dyn DatagramReceiver>)) {
        let listening = !self.halted.get() && self.is_listening();
        let receiver = self.receiver.borrow().clone();
        if let Some(receiver) = receiver.filter(|_| listening) {
            event(receiver);
        }
    }

    pub(super) fn mark_dirty(&self) {
        if !self.dirty.replace(true) {
            self.core.settle_later(self.token);
        }
    }

    fn mark_again(&self) {
        if !self.again.replace(true) {
            self.core.ready_again(self.token);
        }
    }

    fn is_reading(&self) -> bool {
        self.readable.get() && !self.paused.get() && self.is_listening()
    }

    /// Takes in what is there, within the bounds of a turn.
    fn receive(&self) {
        if !self.is_reading() {
            return;
        }
        let (datagrams, mut bytes) = SHARE;
        let mut buffer = self.take_buffer();
        let mut from = Address::Unix(UnixAddress::Unnamed);
        for count in 0..datagrams {
            let received = match self.socket.borrow().as_ref() {
                Some(socket) => socket.receive(&mut buffer, &mut from),
                None => break,
            };
            match received {
                Ok(length) => {
                    bytes = bytes.saturating_sub(length);
                    self.take_in(&buffer, length, &from);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.found_nothing(count),
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionRefused => self.note(News::Refused),
                    _ => self.note(News::Error(error.into())),
                },
            }
            self.core.settle();
            if bytes == 0 || !self.is_reading() || self.is_content_with(count + 1) {
                break;
            }
        }
        self.return_buffer(buffer);
        if self.watching.get() == Watching::Arrivals {
            // What is left is told in the next wait.
            self.readable.set(false);
        } else if self.is_reading() {
            self.mark_again();
        }
    }

    fn takes_long_ones(&self) -> bool {
        self.datagram_max > READ_SIZE
    }

    fn take_buffer(&self) -> Box<[u8]> {
        if self.takes_long_ones() {
            let buffer = self.long.take();
            if buffer.is_empty() {
                return vec![0; self.datagram_max].into_boxed_slice();
            }
            return buffer;
        }
        self.core.buffers.take_for_reading()
    }

    fn return_buffer(&self, buffer: Box<[u8]>) {
        if self.takes_long_ones() {
            self.long.set(buffer);
        } else {
            self.core.buffers.return_from_reading(buffer);
        }
    }

    /// Whether it need not ask for more: a level tells of what is left.
    fn is_content_with(&self, count: usize) -> bool {
        if count == 2 {
            self.eagerness.learn(true);
        }
        count == 1 && self.watching.get() == Watching::Arrivals && !self.eagerness.asks_again()
    }

    /// Nothing is left, after so many.
    fn found_nothing(&self, count: usize) {
        self.readable.set(false);
        match (self.watching.get(), count) {
            (Watching::Arrivals, 0) => {
                self.is_level_true.set(false);
                self.watch(Watching::Edges);
            }
            (Watching::Arrivals, 1) => self.eagerness.learn(false),
            (Watching::Edges, _) if self.is_level_true.get() && self.writable.get() => {
                self.watch(Watching::Arrivals);
            }
            _ => {}
        }
    }

    /// It need not wait to send any more: what comes is told as a level again, if nothing is there now.
    fn rest(&self) {
        let is_idle = self.writable.get() && !self.readable.get() && !self.paused.get();
        if is_idle && self.is_level_true.get() {
            self.watch(Watching::Arrivals);
        }
    }

    fn watch(&self, watching: Watching) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            self.watch_as(&**socket, watching);
        }
    }

    pub(super) fn watch_as(&self, socket: &dyn DatagramSocket, watching: Watching) {
        // If the system cannot, which it can for what it watches, all is as before.
        if self.watching.get() != watching
            && let Ok(watching) = socket.watch_as(self.token, watching)
        {
            self.watching.set(watching);
        }
    }

    /// A datagram of this length has come, or as much of it as the buffer holds.
    fn take_in(&self, buffer: &[u8], length: usize, from: &Address) {
        if self.is_connected.get() && self.is_of_a_stranger(from) {
            return;
        }
        let shown = &buffer[..length.min(self.datagram_max).min(buffer.len())];
        self.tell(|receiver| receiver.datagram_received(shown, length, from));
    }

    /// What came from others before the port was connected is there still. Of UNIX sockets a name
    /// says nothing: its socket may have been bound under another way of writing it.
    fn is_of_a_stranger(&self, from: &Address) -> bool {
        let peer = self.peer.borrow();
        let peer = peer
            .as_ref()
            .filter(|_| self.family != DatagramFamily::Unix);
        peer.is_some_and(|peer| !is_same(peer, from))
    }

    /// Closes the socket. The protocol hears of it when the callback at hand has returned.
    pub(super) fn stop_listening(&self) -> Deferred<()> {
        self.close();
        if self.receiver.borrow().is_none() || self.halted.get() {
            return succeed(());
        }
        let (trigger, deferred) = Deferred::new();
        self.stopped.borrow_mut().push(trigger);
        deferred
    }

    fn close(&self) {
        if let Some(socket) = self.socket.take() {
            drop(socket);
            self.queue.borrow_mut().clear();
            if let Some(call) = self.asking.take() {
                call.cancel();
            }
            self.mark_dirty();
        }
    }

    /// The end: leaves the reactor, tells the receiver, then who waits for that.
    fn end(&self) {
        self.core.remove_source(self.token);
        drop(self.news.take());
        // Detach, then call: the receiver is gone from here when it hears of it.
        if let Some(receiver) = self.receiver.take() {
            receiver.stopped();
        }
        for trigger in self.stopped.take() {
            trigger.callback(());
        }
    }
}

/// Scope and flow of IPv6 tell no peers apart.
pub(super) fn is_same(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Udp(one), Address::Udp(other)) => {
            one.port() == other.port() && one.ip() == other.ip()
        }
        _ => one == other,
    }
}

impl Source for DatagramPort {
    fn ready(self: Rc<Self>, change: Change) {
        if change.is_writable() && !self.writable.replace(true) {
            self.mark_dirty();
            self.core.settle();
            if !change.is_readable() {
                self.rest();
            }
        }
        if change.is_readable() {
            self.readable.set(true);
            if self.paused.get() {
                // A level would end each wait.
                self.watch(Watching::Edges);
            }
            self.receive();
        }
    }

    fn again(self: Rc<Self>) {
        self.again.set(false);
        self.tell_news();
        self.receive();
    }

    fn settle(self: Rc<Self>) {
        self.dirty.set(false);
        if !self.is_listening() {
            return self.end();
        }
        self.flush();
        self.mind_the_marks();
        self.tell_news();
    }

    fn stop(self: Rc<Self>) {
        self.close();
    }

    fn halt(&self) {
        self.halted.set(true);
    }

    fn vanish(self: Rc<Self>) {
        self.halted.set(true);
        let receiver = self.receiver.take();
        let waiting = mem::take(&mut *self.stopped.borrow_mut());
        drop((self.socket.take(), receiver, waiting));
    }

    fn is_background(&self) -> bool {
        self.background.get()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.family {
            DatagramFamily::Unix => "UNIX datagram port",
            _ => "UDP port",
        };
        write!(f, "{kind} on {}", self.host.borrow())?;
        if let Some(peer) = self.peer.borrow().as_ref() {
            write!(f, ", connected to {peer}")?;
        }
        match self.unsent() {
            0 => Ok(()),
            unsent => write!(f, ", {unsent} datagrams unsent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Readiness;
    use crate::sockets::SocketOption;

    /// What the system is like, and how it was told to watch.
    #[derive(Default)]
    struct System {
        /// Which tells nobody of room, as BSD does not.
        is_unix: bool,
        is_full: Cell<bool>,
        sent: Cell<usize>,
        watching: Cell<Option<Watching>>,
    }

    struct FakeSocket(Rc<System>);

    impl DatagramSocket for FakeSocket {
        fn watch(&self, token: Token) -> io::Result<Watching> {
            self.watch_as(token, Watching::Arrivals)
        }

        fn watch_as(&self, _: Token, watching: Watching) -> io::Result<Watching> {
            self.0.watching.set(Some(watching));
            Ok(watching)
        }

        fn local_address(&self) -> io::Result<Address> {
            Ok(match self.0.is_unix {
                true => UnixAddress::Unnamed.into(),
                false => here(),
            })
        }

        fn peer(&self) -> Option<Address> {
            None
        }

        fn receive(&self, _: &mut [u8], _: &mut Address) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn send(&self, _: &[u8], _: Option<&Address>) -> io::Result<()> {
            if self.0.is_full.get() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.sent.set(self.0.sent.get() + 1);
            Ok(())
        }

        fn tells_of_room(&self, _: Option<&Address>) -> bool {
            !self.0.is_unix
        }

        fn connect(&self, _: Option<&Address>) -> io::Result<()> {
            Ok(())
        }

        fn set_option(&self, _: &SocketOption) -> io::Result<()> {
            Ok(())
        }

        fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
            Ok((0, 0))
        }
    }

    fn here() -> Address {
        Address::Udp(std::net::SocketAddr::from(([127, 0, 0, 1], 7)))
    }

    #[test]
    fn a_port_that_had_to_wait_to_send_is_watched_for_arrivals_again_when_all_is_sent() {
        let reactor = Reactor::new().expect("the system has descriptors left");
        let system = Rc::new(System::default());
        let socket = Box::new(FakeSocket(Rc::clone(&system)));
        let port = DatagramPort::open(reactor.core(), socket, &DatagramOptions::new());
        let port = port.expect("it is watched");
        let writable = || Readiness {
            readable: false,
            writable: true,
            hangup: false,
            broken: false,
            urgent: false,
        };
        assert_eq!(system.watching.get(), Some(Watching::Arrivals));
        for sent in [1, 2] {
            system.is_full.set(true);
            port.send(b"x", Some(&here())).expect("it waits");
            assert_eq!(system.watching.get(), Some(Watching::Edges));
            // It says so, and takes nothing all the same.
            reactor.core().deliver(port.token, writable());
            assert_eq!(system.watching.get(), Some(Watching::Edges));
            system.is_full.set(false);
            reactor.core().deliver(port.token, writable());
            assert_eq!(system.sent.get(), sent);
            assert_eq!(system.watching.get(), Some(Watching::Arrivals));
        }
    }

    #[test]
    fn a_unix_port_whose_system_does_not_tell_of_its_peers_room_asks_for_it() {
        let reactor = Reactor::new().expect("the system has descriptors left");
        let system = Rc::new(System {
            is_unix: true,
            ..System::default()
        });
        let socket = Box::new(FakeSocket(Rc::clone(&system)));
        let port = DatagramPort::open(reactor.core(), socket, &DatagramOptions::new());
        let port = port.expect("it is watched");
        let peer = UnixAddress::Path("/run/peer".into());
        port.connect(&peer.into()).expect("it is new");
        system.is_full.set(true);
        port.send(b"x", None).expect("it waits");
        let turn = || {
            let outcome = reactor.turn(Some(std::time::Duration::from_millis(50)));
            outcome.expect("it turns");
        };
        turn();
        assert_eq!((system.sent.get(), port.unsent()), (0, 1));
        system.is_full.set(false);
        for _ in 0..10 {
            turn();
        }
        assert_eq!((system.sent.get(), port.unsent()), (1, 0));
        assert_eq!(reactor.dump().delayed_calls.len(), 0);
    }
}
