//! One UDP socket: receiving, sending, stopping.
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
use std::net::SocketAddr;
use std::rc::Rc;

use torsade_deferred::{Deferred, Trigger, succeed};

use crate::core::{Core, Source};
use crate::driver::{Change, DatagramSocket, Watching};
use crate::reactor::Reactor;
use crate::slab::Token;
use crate::udp::eagerness::Eagerness;
use crate::udp::options::DATAGRAM_MAX;
use crate::udp::queue::Queue;
use crate::udp::{DatagramError, DatagramLimits, DatagramOptions};

/// What one port may receive in a turn, so that a flood starves nobody: datagrams, and bytes
/// (Twisted's bound).
pub(crate) const SHARE: (usize, usize) = (64, 256 * 1024);

/// Errors that are noted for one callback; what is wrong with more sends than that is the same.
const NEWS_MAX: usize = 64;

/// Sends that are tried again because the system had something else to say.
const TRIES: usize = 4;

/// A port that receives and sends.
pub(crate) struct DatagramPort {
    core: Rc<Core>,
    token: Token,
    host: Cell<SocketAddr>,
    peer: Cell<Option<SocketAddr>>,
    /// `None` when it has stopped.
    socket: RefCell<Option<Box<dyn DatagramSocket>>>,
    /// `None` when it has heard of that, too.
    receiver: RefCell<Option<Rc<dyn DatagramReceiver>>>,
    queue: RefCell<Queue>,
    /// What is to be told when the callback at hand has returned.
    news: RefCell<VecDeque<News>>,
    /// They wait for the end.
    stopped: RefCell<Vec<Trigger<()>>>,
    limits: Cell<DatagramLimits>,
    datagram_max: usize,
    watching: Cell<Watching>,
    /// What was told as a level was there. Once it was not (an error that nobody asks for, a socket
    /// that is not read any more), each wait would end with it.
    is_level_true: Cell<bool>,
    eagerness: Eagerness,
    /// There may be something to receive: known only of what is watched for edges.
    readable: Cell<bool>,
    /// The system took what it was given last.
    writable: Cell<bool>,
    paused: Cell<bool>,
    /// The writer was told to pause.
    choked: Cell<bool>,
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
    fn datagram_received(self: Rc<Self>, data: &[u8], length: usize, from: SocketAddr);

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
        let port = core.add_source(|token| {
            Rc::new(Self {
                core: Rc::clone(core),
                token,
                host: Cell::new(host),
                peer: Cell::new(peer),
                socket: RefCell::new(Some(socket)),
                receiver: RefCell::default(),
                queue: RefCell::default(),
                news: RefCell::default(),
                stopped: RefCell::default(),
                limits: Cell::new(options.limits),
                datagram_max: options.datagram_max.min(DATAGRAM_MAX),
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

    pub(super) fn host(&self) -> SocketAddr {
        self.host.get()
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer.get()
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

    /// Sends a datagram, or has it wait until the system takes it.
    pub(super) fn send(&self, data: &[u8], to: Option<SocketAddr>) -> Result<(), DatagramError> {
        self.ask(|socket| {
            let to = self.destination(to)?;
            if data.len() > DATAGRAM_MAX {
                return Err(DatagramError::TooLong { length: data.len() });
            }
            let may = self.queue.borrow().is_empty() && self.writable.get();
            if may && self.hand_over(socket, data, to)? {
                return Ok(());
            }
            let limit = self.limits.get().queue_max;
            if !self.queue.borrow_mut().push(data, to, limit) {
                return Err(DatagramError::QueueFull { limit });
            }
            self.mark_dirty();
            Ok(())
        })
    }

    /// Sends a datagram; the protocol is told if it cannot be sent.
    pub(super) fn write(&self, data: &[u8], to: Option<SocketAddr>) {
        self.mind(self.send(data, to));
    }

    /// Has the protocol told of what went wrong.
    pub(super) fn mind(&self, sent: Result<(), DatagramError>) {
        match sent {
            // Dropped, as what is written to a connection that is over.
            Ok(()) | Err(DatagramError::Stopped) => {}
            Err(error) => self.note(News::Error(error)),
        }
    }

    /// Where a datagram goes: `None` for the peer that the socket is connected to.
    fn destination(&self, to: Option<SocketAddr>) -> Result<Option<SocketAddr>, DatagramError> {
        match (to, self.peer.get()) {
            (None, None) => Err(DatagramError::NotConnected),
            (None, Some(_)) => Ok(None),
            (Some(to), Some(peer)) if is_same(to, peer) => Ok(None),
            (Some(_), Some(peer)) => Err(DatagramError::Connected { peer }),
            (Some(to), None) => self.of_our_family(to).map(Some),
        }
    }

    fn of_our_family(&self, to: SocketAddr) -> Result<SocketAddr, DatagramError> {
        let host = self.host.get();
        if to.is_ipv4() != host.is_ipv4() {
            return Err(DatagramError::WrongFamily { to, host });
        }
        Ok(to)
    }

    /// Gives the system a datagram. `false`: not now.
    fn hand_over(
        &self,
        socket: &dyn DatagramSocket,
        data: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<bool, DatagramError> {
        for _ in 0..TRIES {
            let Err(error) = socket.send(data, to) else {
                return Ok(true);
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.writable.set(false);
                    self.watch_as(socket, Watching::Edges);
                    return Ok(false);
                }
                io::ErrorKind::Interrupted => {}
                // The answer to an earlier datagram; this one has not been sent yet.
                io::ErrorKind::ConnectionRefused => self.note(News::Refused),
                _ => {
                    let to = to.or(self.peer.get()).unwrap_or(self.host.get());
                    return Err(DatagramError::of_sending(error, to, data.len()));
                }
            }
        }
        // Whoever has that much to say does not send, either: as if it were lost on its way.
        Ok(true)
    }

    fn flush(&self) {
        while self.writable.get() {
            let sent = {
                let (socket, queue) = (self.socket.borrow(), self.queue.borrow());
                let (Some(socket), Some(first)) = (socket.as_ref(), queue.front()) else {
                    return;
                };
                self.hand_over(&**socket, &first.data, first.to)
            };
            match sent {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => self.note(News::Error(error)),
            }
            self.queue.borrow_mut().drop_front();
        }
    }

    /// Notes what is to be told when the callback at hand has returned.
    fn note(&self, news: News) {
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

    fn mind_the_marks(&self) {
        let (size, limits) = (self.queue.borrow().size(), self.limits.get());
        let choked = self.choked.get();
        if !choked && size > limits.queue_high {
            self.choked.set(true);
            self.note(News::WritePaused);
        } else if choked && size <= limits.queue_low {
            self.choked.set(false);
            self.note(News::WriteResumed);
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

    fn mark_dirty(&self) {
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
        let mut buffer = self.core.buffers.take_for_reading();
        for count in 0..datagrams {
            let received = match self.socket.borrow().as_ref() {
                Some(socket) => socket.receive(&mut buffer),
                None => break,
            };
            match received {
                Ok((length, from)) => {
                    bytes = bytes.saturating_sub(length);
                    self.take_in(&buffer[..length], from);
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
        self.core.buffers.return_from_reading(buffer);
        if self.watching.get() == Watching::Arrivals {
            // What is left is told in the next wait.
            self.readable.set(false);
        } else if self.is_reading() {
            self.mark_again();
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

    fn watch_as(&self, socket: &dyn DatagramSocket, watching: Watching) {
        // If the system cannot, which it can for what it watches, all is as before.
        if self.watching.get() != watching
            && let Ok(watching) = socket.watch_as(self.token, watching)
        {
            self.watching.set(watching);
        }
    }

    fn take_in(&self, data: &[u8], from: SocketAddr) {
        // What came from others before the port was connected is there still.
        if self.peer.get().is_none_or(|peer| is_same(peer, from)) {
            let shown = &data[..data.len().min(self.datagram_max)];
            self.tell(|receiver| receiver.datagram_received(shown, data.len(), from));
        }
    }

    pub(super) fn connect(&self, peer: SocketAddr) -> Result<(), DatagramError> {
        if let Some(peer) = self.peer.get() {
            return Err(DatagramError::Connected { peer });
        }
        let peer = self.of_our_family(peer)?;
        self.set_peer(Some(peer))
    }

    pub(super) fn disconnect(&self) -> Result<(), DatagramError> {
        if self.peer.get().is_none() && self.is_listening() {
            return Ok(());
        }
        self.set_peer(None)
    }

    fn set_peer(&self, peer: Option<SocketAddr>) -> Result<(), DatagramError> {
        self.ask(|socket| {
            // What waits goes to whom it was sent.
            socket.connect(peer)?;
            self.peer.set(peer);
            self.host.set(socket.local_address()?);
            Ok(())
        })
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
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip() == other.ip()
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
        write!(f, "UDP port on {}", self.host.get())?;
        if let Some(peer) = self.peer.get() {
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
    use crate::udp::{DatagramOption, MulticastGroup};

    /// What the system is like, and how it was told to watch.
    #[derive(Default)]
    struct System {
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

        fn local_address(&self) -> io::Result<SocketAddr> {
            Ok(here())
        }

        fn peer(&self) -> Option<SocketAddr> {
            None
        }

        fn receive(&self, _: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn send(&self, _: &[u8], _: Option<SocketAddr>) -> io::Result<()> {
            if self.0.is_full.get() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.sent.set(self.0.sent.get() + 1);
            Ok(())
        }

        fn connect(&self, _: Option<SocketAddr>) -> io::Result<()> {
            Ok(())
        }

        fn set_option(&self, _: &SocketOption) -> io::Result<()> {
            Ok(())
        }

        fn set_datagram_option(&self, _: DatagramOption) -> io::Result<()> {
            Ok(())
        }

        fn set_membership(&self, _: &MulticastGroup, _: bool) -> io::Result<()> {
            Ok(())
        }

        fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
            Ok((0, 0))
        }
    }

    fn here() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7))
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
            port.send(b"x", Some(here())).expect("it waits");
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
}
