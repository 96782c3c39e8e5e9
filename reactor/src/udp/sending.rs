//! What a port sends, and to whom.
//!
//! What does not leave at once waits in a [`Queue`](super::queue::Queue), in a line for whatever it
//! waits for. The system's own room is told as an event, and so is that of the peer that a UNIX
//! socket is connected to.
//!
//! # Design
//!
//! A UNIX socket that is not connected is told of no receiver's room: Linux calls it writable all
//! the time, and answers each datagram to a full one with "not now". Who would take that for an
//! event would never sleep; who waits for an edge would never wake. (BSD tells no one who is
//! connected, either.) So such receivers are asked again by a delayed call, of which a port has one, and given up after
//! [`DatagramLimits::wait_max`](super::DatagramLimits::wait_max).

use std::io;
use std::rc::Rc;
use std::time::Instant;

use crate::address::{Address, UnixAddress};
use crate::delayed_call::DelayedCall;
use crate::driver::{DatagramSocket, Watching};
use crate::udp::port::{DatagramPort, News, is_same};
use crate::udp::queue::Name;
use crate::udp::{DATAGRAM_MAX, DatagramError, DatagramFamily};

/// Sends that are tried again because the system had something else to say.
const TRIES: usize = 4;

/// Receivers that are asked in one turn whether there is room.
const RECEIVERS_AT_ONCE: usize = 64;

impl DatagramPort {
    /// Sends a datagram, or has it wait until it is taken.
    pub(super) fn send(&self, data: &[u8], to: Option<&Address>) -> Result<(), DatagramError> {
        self.ask(|socket| {
            let to = self.destination(to)?;
            if data.len() > DATAGRAM_MAX && self.family != DatagramFamily::Unix {
                return Err(DatagramError::TooLong { length: data.len() });
            }
            let may = self.writable.get() && !self.queue.borrow().is_before(to);
            if may && self.hand_over(socket, data, to)? {
                return Ok(());
            }
            let (limits, now) = (self.limits.get(), self.core.now());
            let pushed = self.queue.borrow_mut().push(data, to, &limits, now);
            pushed.map_err(|limit| DatagramError::QueueFull { limit })?;
            self.mark_dirty();
            Ok(())
        })
    }

    /// Sends a datagram; the protocol is told if it cannot be sent.
    pub(super) fn write(&self, data: &[u8], to: Option<&Address>) {
        self.mind(self.send(data, to));
    }

    /// Has the protocol told of what went wrong.
    pub(super) fn mind(&self, sent: Result<(), DatagramError>) {
        match sent {
            // Dropped, as what is written to a connection that is over.
            Ok(()) | Err(DatagramError::Stopped) => {}
            Err(DatagramError::Refused { .. }) if self.is_connected.get() => {
                self.note(News::Refused);
            }
            Err(error) => self.note(News::Error(error)),
        }
    }

    /// Where a datagram goes: `None` for the peer that the socket is connected to.
    fn destination<'a>(
        &self,
        to: Option<&'a Address>,
    ) -> Result<Option<&'a Address>, DatagramError> {
        if self.is_connected.get() {
            return self.peer_for(to).map(|()| None);
        }
        let to = to.ok_or(DatagramError::NotConnected)?;
        self.check_family(to)?;
        Ok(Some(to))
    }

    fn peer_for(&self, to: Option<&Address>) -> Result<(), DatagramError> {
        match (to, self.peer.borrow().as_ref()) {
            (Some(to), Some(peer)) if !is_same(to, peer) => {
                Err(DatagramError::Connected { peer: peer.clone() })
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn check_family(&self, to: &Address) -> Result<(), DatagramError> {
        if DatagramFamily::of(to) == Some(self.family) {
            return Ok(());
        }
        Err(DatagramError::WrongFamily {
            to: to.clone(),
            host: self.host(),
        })
    }

    /// Gives the system a datagram. `false`: not now.
    fn hand_over(
        &self,
        socket: &dyn DatagramSocket,
        data: &[u8],
        to: Option<&Address>,
    ) -> Result<bool, DatagramError> {
        for _ in 0..TRIES {
            let Err(error) = socket.send(data, to) else {
                return Ok(true);
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => {
                    if socket.tells_of_room(to) {
                        self.writable.set(false);
                        self.watch_as(socket, Watching::Edges);
                    }
                    return Ok(false);
                }
                io::ErrorKind::Interrupted => {}
                // The answer to an earlier datagram; this one has not been sent yet.
                io::ErrorKind::ConnectionRefused if self.family != DatagramFamily::Unix => {
                    self.note(News::Refused);
                }
                _ => return Err(self.not_sent(error, to, data.len())),
            }
        }
        // Whoever has that much to say does not send, either: as if it were lost on its way.
        Ok(true)
    }

    #[cold]
    fn not_sent(&self, error: io::Error, to: Option<&Address>, length: usize) -> DatagramError {
        let to = to.cloned().or_else(|| self.peer());
        DatagramError::of_sending(error, to.unwrap_or_else(|| self.host()), length)
    }

    /// Sends what has waited and can leave now.
    pub(super) fn flush(&self) {
        let has_moved = self.flush_line(None);
        if self.family == DatagramFamily::Unix {
            self.ask_receivers(has_moved);
        }
    }

    /// Sends what waits in a line, until there is no room. Whether anything has left it.
    fn flush_line(&self, name: Name<'_>) -> bool {
        let mut has_moved = false;
        // What the system tells is about its own line alone, or the peer's.
        while name.is_some() || self.writable.get() {
            let sent = {
                let (socket, queue) = (self.socket.borrow(), self.queue.borrow());
                let (Some(socket), Some(first)) = (socket.as_ref(), queue.front(name)) else {
                    return has_moved;
                };
                self.hand_over(&**socket, &first.data, first.to.as_ref())
            };
            match sent {
                Ok(false) => return has_moved,
                sent => self.mind(sent.map(|_| ())),
            }
            let now = self.core.now();
            self.queue.borrow_mut().drop_front(name, now);
            has_moved = true;
        }
        has_moved
    }

    /// UNIX sockets: asks those who had no room, if it is time, and arranges for the next time.
    fn ask_receivers(&self, mut had_room: bool) {
        let is_idle = self.queue.borrow().is_empty();
        let is_due = match self.asking.borrow().as_ref() {
            Some(call) if is_idle => {
                call.cancel();
                false
            }
            Some(call) if call.is_active() => return,
            call => call.is_some(),
        };
        let (now, is_told) = (self.core.now(), self.is_told_of_room());
        if is_due {
            let names = self.queue.borrow_mut().next_receivers(RECEIVERS_AT_ONCE);
            for name in &names {
                had_room |= self.flush_line(Some(name));
                self.give_up(Some(name), now);
            }
            self.give_up(None, now);
            self.queue.borrow_mut().learn(had_room, is_told);
        }
        let asking = self.ask_later(is_told, now);
        self.asking.replace(asking);
    }

    /// Whether an event says that there is room for what goes to nobody else than the peer.
    fn is_told_of_room(&self) -> bool {
        let socket = self.socket.borrow();
        socket.as_ref().is_none_or(|it| it.tells_of_room(None))
    }

    /// Drops what has waited for too long.
    fn give_up(&self, name: Option<&UnixAddress>, now: Instant) {
        let limit = self.limits.get().wait_max;
        if !self.queue.borrow().is_stuck(name, limit, now) {
            return;
        }
        let datagrams = self.queue.borrow_mut().give_up(name);
        let to = name.cloned().map(Address::Unix).or_else(|| self.peer());
        self.note(News::Error(DatagramError::TimedOut {
            to: to.unwrap_or_else(|| self.host()),
            limit,
            datagrams,
        }));
    }

    /// The delayed call that asks receivers again; none, if nothing waits.
    fn ask_later(&self, is_told: bool, now: Instant) -> Option<DelayedCall> {
        let limit = self.limits.get().wait_max;
        let pause = self.queue.borrow().pause(limit, is_told, now)?;
        let (core, token) = (Rc::downgrade(&self.core), self.token);
        let call = self.core.call_later(pause, move || {
            if let Some(core) = core.upgrade() {
                core.settle_later(token);
            }
        });
        call.set_background(self.background().get());
        Some(call)
    }

    pub(super) fn mind_the_marks(&self) {
        let (mut size, limits) = (self.queue.borrow().size(), self.limits.get());
        let choked = self.choked.get();
        if size > limits.queue_low.min(limits.queue_high) {
            size = self.queue.borrow().size_that_moves(self.core.now());
        }
        if !choked && size > limits.queue_high {
            self.choked.set(true);
            self.note(News::WritePaused);
        } else if choked && size <= limits.queue_low {
            self.choked.set(false);
            self.note(News::WriteResumed);
        }
    }

    pub(super) fn connect(&self, peer: &Address) -> Result<(), DatagramError> {
        if let Some(peer) = self.peer() {
            return Err(DatagramError::Connected { peer });
        }
        self.check_family(peer)?;
        self.set_peer(Some(peer))
    }

    pub(super) fn disconnect(&self) -> Result<(), DatagramError> {
        if !self.is_connected.get() && self.is_listening() {
            return Ok(());
        }
        self.set_peer(None)
    }

    fn set_peer(&self, peer: Option<&Address>) -> Result<(), DatagramError> {
        self.ask(|socket| {
            socket.connect(peer).map_err(|error| match peer {
                Some(peer @ Address::Unix(_)) => self.not_sent(error, Some(peer), 0),
                _ => error.into(),
            })?;
            self.is_connected.set(peer.is_some());
            let before = self.peer.replace(peer.cloned());
            if let Some(before) = before {
                // What waits goes to whom it was sent.
                self.queue.borrow_mut().readdress(&before);
            }
            if let Some(peer) = peer {
                self.queue.borrow_mut().connected_to(peer);
            }
            // What was said of room was about whom it sent to before.
            self.writable.set(true);
            if let Some(call) = self.asking.take() {
                call.cancel();
            }
            if !self.queue.borrow().is_empty() {
                self.mark_dirty();
            }
            self.host.replace(socket.local_address()?);
            Ok(())
        })
    }
}
