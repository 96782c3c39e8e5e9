//! One connection over a socket: reading, writing and ending.
//!
//! # States
//!
//! ```text
//!              lose_connection               all handed to the system
//!   ┌──────┐ ──────────────────▶ ┌─────────┐ ────────────────────────▶ ┌──────┐
//!   │ Open │                     │ Closing │                           │ Lost │
//!   └──────┘ ──────────────────▶ └─────────┘ ────────────────────────▶ └──────┘
//!       │        abort, error, overrun, panic   error, or Limits::flush   ▲
//!       │                        ┌─────────┐                              │
//!       └──────────────────────▶ │  Doomed │ ─────────────────────────────┘
//!                                └─────────┘   when no callback is running
//! ```
//!
//! Nothing calls the receiver from inside a method: a method changes the state and
//! marks the connection for [`settle`](Source::settle), which the reactor calls when
//! the callback at hand has returned.
//!
//! # Bounds
//!
//! [`READS_PER_TURN`] reads of [`READ_SIZE`] bytes for an event, and as many for what an
//! earlier turn left over; then the connection waits for the next turn. [`FIRINGS_PER_TURN`] times
//! whoever waits for a flush is told that it is done: they write more, and wait again. Unsent bytes:
//! [`Limits::unsent_max`], and what one callback writes, for [`Limits::flush`]; parts of files
//! wait in their files.

mod attachments;
mod ending;
mod flags;
mod receiving;
mod sending;
mod socket;
mod unseated;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

use torsade_deferred::{Deferred, Interrupted, Trigger, fail, succeed};

use crate::address::Address;
use crate::buffers::READ_SIZE;
use crate::core::{Core, Source};
use crate::delayed_call::DelayedCall;
use crate::driver::{AnySocket, Change, Received, StreamSocket};
use crate::error::{ConnectionLost, NotFlushed};
use crate::flow::{Limits, Outgoing};
use crate::panics;
use crate::slab::Token;
use crate::sockets::connection::attachments::Attachments;
use crate::sockets::connection::flags::Flags;
use crate::stream::{FilePart, Receiver, Socket, Stream};

/// Reads of one connection in one turn, so that a fast peer starves nobody.
const READS_PER_TURN: usize = 4;

/// How often those who wait for a flush are told, in one turn: who writes and waits again each time, to
/// a system that takes it all, would have the loop for itself. As much as is read, if they write as
/// much at a time.
const FIRINGS_PER_TURN: usize = 16;

/// A write that reaches this size, together with what waits before it, goes to the
/// system at once, past the buffer: copying it would cost as much as the call.
const DIRECT_WRITE: usize = 16 * 1024;

/// A connection that stands.
///
/// What each message touches comes first, and lies together: after a sleep each line of memory is
/// one that the processor fetches anew.
#[repr(C)]
pub(crate) struct Connection {
    flags: Flags,
    ending: Cell<Ending>,
    core: Rc<Core>,
    token: Token,
    /// `None` after the end.
    socket: RefCell<Option<AnySocket>>,
    receiver: RefCell<Option<Rc<dyn Receiver>>>,
    outgoing: RefCell<Outgoing>,
    number: u64,
    peer: Address,
    /// Known from the port, or asked of the system when somebody wants it, and at the
    /// latest at the end.
    host: OnceCell<Rc<Address>>,
    /// What most connections never need.
    rarities: RefCell<Option<Box<Rarities>>>,
    /// What `connection_lost` will be told.
    reason: Cell<Option<Box<ConnectionLost>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    Closing,
    Doomed,
    Lost,
}

#[derive(Default)]
struct Rarities {
    limits: Limits,
    /// Ends a flush before the end that stands still for too long.
    flush_limit: Option<DelayedCall>,
    /// Ends a connection of which more than the cap stays unsent.
    excess_limit: Option<DelayedCall>,
    /// What stands among the bytes that are unsent.
    attachments: Attachments,
    /// In the order of the calls, so with growing `left`.
    flushes: Vec<Flush>,
    /// How often some of them were fired in the turn of that number.
    firings: (u64, usize),
    /// This connection, while the reactor does not hold it; see [`Connection::let_go`].
    let_go: Option<Weak<Connection>>,
}

/// Somebody waits for what was unsent when they asked.
struct Flush {
    left: usize,
    trigger: Trigger<()>,
}

impl Connection {
    /// A connection that a port on `host` accepted; the address is `None` if the port
    /// has many.
    pub(crate) fn accepted(
        core: Rc<Core>,
        token: Token,
        socket: AnySocket,
        peer: Address,
        host: Option<Rc<Address>>,
    ) -> Rc<Self> {
        let flags = Flags::default();
        flags.add(Flags::THROTTLES);
        Self::new(core, token, socket, peer, host, flags)
    }

    /// A connection that was made from here.
    pub(crate) fn connected(
        core: Rc<Core>,
        token: Token,
        socket: AnySocket,
        peer: Address,
    ) -> Rc<Self> {
        let flags = Flags::default();
        flags.add(Flags::ROOM_WATCHED);
        Self::new(core, token, socket, peer, None, flags)
    }

    fn new(
        core: Rc<Core>,
        token: Token,
        socket: AnySocket,
        peer: Address,
        host: Option<Rc<Address>>,
        flags: Flags,
    ) -> Rc<Self> {
        flags.add(Flags::WRITABLE);
        Rc::new(Self {
            number: core.next_session_number(),
            core,
            token,
            peer,
            host: host.map_or_else(OnceCell::new, OnceCell::from),
            socket: RefCell::new(Some(socket)),
            receiver: RefCell::new(None),
            outgoing: RefCell::default(),
            rarities: RefCell::default(),
            ending: Cell::new(Ending::Open),
            reason: Cell::new(None),
            flags,
        })
    }

    /// Begins to watch the socket of a connection that was accepted. (One that connected
    /// is watched already.)
    pub(crate) fn begin(&self) {
        let watched = self
            .socket
            .borrow()
            .as_ref()
            .map(|socket| socket.watch(self.token));
        if let Some(Err(error)) = watched {
            self.doom(ConnectionLost::Io(error));
        }
    }

    /// Whether it has, or has had, a receiver.
    pub(crate) fn is_seated(&self) -> bool {
        self.flags.has(Flags::SEATED)
    }

    /// Asks the socket, while there is one.
    fn ask<T>(&self, question: impl FnOnce(&dyn StreamSocket) -> io::Result<T>) -> io::Result<T> {
        match self.socket.borrow().as_ref() {
            Some(socket) => question(&**socket),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn limits(&self) -> Limits {
        self.rarities
            .borrow()
            .as_ref()
            .map_or_else(Limits::default, |rarities| rarities.limits)
    }

    fn local_address(&self) -> &Address {
        self.host.get_or_init(|| {
            let asked = self
                .socket
                .borrow()
                .as_ref()
                .map(|socket| socket.local_address());
            // A connection whose own address the system does not know any more is as good
            // as at no address.
            let known = asked.and_then(Result::ok);
            Rc::new(known.unwrap_or_else(|| Address::Named("(unknown)".into())))
        })
    }

    fn receiver(&self) -> Option<Rc<dyn Receiver>> {
        self.receiver.borrow().clone()
    }

    /// Calls the receiver. A protocol's seat catches its panics; a layer's own are caught
    /// here.
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    fn tell(&self, event: impl FnOnce(Rc<dyn Receiver>)) {
        if let Some(receiver) = self.receiver()
            && let Err(panicked) = panics::catch_with(|| self.core.origin(), || event(receiver))
        {
            self.broke(&panicked);
        }
    }

    #[cold]
    fn broke(&self, panicked: &Interrupted) {
        self.doom(ConnectionLost::panicked(panicked));
    }

    /// Asks the reactor to come by when the callback at hand has returned.
    #[inline]
    fn mark_dirty(&self) {
        if self.flags.replace(Flags::DIRTY, true) {
            return;
        }
        if self.flags.has(Flags::TELLING) && !self.core.has_unsettled() {
            // Its own callback is the one at hand, and nothing is to be settled before it.
            return;
        }
        self.flags.remove(Flags::TELLING);
        self.core.settle_later(self.token);
    }

    /// Asks the reactor to come by in the next turn.
    fn mark_again(&self) {
        if !self.flags.replace(Flags::AGAIN, true) {
            self.core.ready_again(self.token);
        }
    }

    #[inline]
    fn is_reading(&self) -> bool {
        let among = Flags::SEATED | Flags::PAUSED | Flags::READ_ENDED;
        self.flags.are(Flags::SEATED, among) && self.is_open_for_reading()
    }

    /// Whether it reads, and there may be something.
    #[inline]
    fn is_to_read(&self) -> bool {
        let these = Flags::READABLE | Flags::SEATED;
        let among = these | Flags::PAUSED | Flags::READ_ENDED;
        self.flags.are(these, among) && self.is_open_for_reading()
    }

    #[inline]
    fn is_open_for_reading(&self) -> bool {
        // Of what is broken all that came is read, though nobody takes the answers.
        let held_back = Flags::CHOKED | Flags::THROTTLES;
        !self.flags.are(held_back, held_back | Flags::BROKEN) && self.ending.get() == Ending::Open
    }

    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    fn take_in(self: &Rc<Self>) {
        match self.ending.get() {
            Ending::Open => self.read(),
            Ending::Closing => self.discard(),
            Ending::Doomed | Ending::Lost => {}
        }
    }

    /// The same, out of the way of events.
    #[inline(never)]
    fn take_in_again(self: &Rc<Self>) {
        self.take_in();
    }

    /// Reads what is there, within the bounds of a turn.
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    fn read(self: &Rc<Self>) {
        if !self.is_to_read() {
            return;
        }
        let mut buffer = self.core.buffers.take_for_reading();
        let mut reads = 0;
        let goes_on = loop {
            self.read_once(&mut buffer);
            reads += 1;
            let goes_on = self.is_to_read();
            if !goes_on || reads == READS_PER_TURN {
                break goes_on;
            }
        };
        self.core.buffers.return_from_reading(buffer);
        if goes_on {
            self.mark_again();
        }
    }

    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    fn read_once(self: &Rc<Self>, buffer: &mut [u8]) {
        let received = match self.socket.borrow().as_ref() {
            Some(socket) => socket.receive(buffer),
            None => return,
        };
        self.flags.add(Flags::TELLING);
        match received {
            Ok(Received { count, is_cut }) if count > 0 => {
                if count < buffer.len()
                    && !is_cut
                    && !self.flags.has(Flags::WARY)
                    && self.core.short_read_is_dry()
                {
                    self.flags.remove(Flags::READABLE);
                }
                self.tell(|receiver| receiver.data_received_mut(&mut buffer[..count]));
            }
            Ok(_) => self.read_to_the_end(),
            Err(error) => self.read_nothing(error),
        }
        self.settle_what_was_told();
    }

    #[cold]
    #[inline(never)]
    fn read_to_the_end(&self) {
        self.flags.remove(Flags::READABLE);
        self.flags.add(Flags::READ_ENDED);
        self.tell_of_the_end();
    }

    #[cold]
    fn tell_of_the_end(&self) {
        self.tell(|receiver| receiver.read_connection_lost());
        if self.flags.has(Flags::WRITE_ENDING) {
            self.mark_dirty();
        }
    }

    #[cold]
    fn read_nothing(&self, error: io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.flags.remove(Flags::READABLE),
            io::ErrorKind::Interrupted => {}
            _ => self.doom(ConnectionLost::Io(error)),
        }
    }

    /// What the callback wrote leaves now, before the next is read.
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    fn settle_what_was_told(self: &Rc<Self>) {
        let was_told = self.flags.replace(Flags::TELLING, false);
        if was_told && self.flags.has(Flags::DIRTY) {
            if self.core.has_unsettled() {
                // Order: it was the first, the others came after it.
                self.core.settle_first(self.token);
            } else {
                self.settle_this();
            }
        }
        self.core.settle();
    }

    /// Nothing can be sent on a connection that is broken, and to find that out first would
    /// lose what came before. So it counts as one that the system takes nothing for until all that
    /// has come is read, be it in this turn or in later ones.
    #[cold]
    fn ready_though_broken(self: &Rc<Self>, change: Change) {
        if change.is_readable() {
            self.flags.add(Flags::READABLE);
        }
        self.flags.add(Flags::BROKEN);
        self.flags.remove(Flags::WRITABLE);
        self.take_in_again();
        self.send_though_broken();
    }

    /// Finds out how it is broken, if there is nothing left to be read.
    fn send_though_broken(&self) {
        if self.is_to_read() || !self.flags.replace(Flags::BROKEN, false) {
            return;
        }
        self.send_on();
        let has_spilt = self.flags.replace(Flags::SPILT, false);
        if has_spilt || !self.is_reading() {
            self.look_for_error();
        }
        if has_spilt {
            let limit = self.limits().unsent_max;
            self.doom(ConnectionLost::Overrun { limit });
        }
    }

    /// The system takes more.
    fn send_on(&self) {
        if !self.flags.replace(Flags::WRITABLE, true) {
            self.mark_dirty();
            self.core.settle();
        }
    }

    /// Asks what has become of a connection of which the system says that it is broken,
    /// where no read will find out. Who is paused learns of it at once, and what was unread is
    /// lost: to wait for a reader would be to keep what its peer has given up, perhaps for ever.
    fn look_for_error(&self) {
        let error = match self.socket.borrow().as_ref() {
            Some(socket) => socket.take_error(),
            None => return,
        };
        match error {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.doom(ConnectionLost::Io(error));
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Sends and closes what the callback at hand has asked for.
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    fn settle_this(self: &Rc<Self>) {
        self.flags.remove(Flags::DIRTY);
        if !self.send_all_at_once() {
            self.settle_in_full();
        }
    }

    #[inline(never)]
    fn settle_in_full(self: &Rc<Self>) {
        match self.ending.get() {
            Ending::Open | Ending::Closing => self.flush(),
            Ending::Doomed | Ending::Lost => {}
        }
        match self.ending.get() {
            Ending::Open => {
                self.fire_flushes();
                let ends = self
                    .flags
                    .are(Flags::WRITE_ENDING, Flags::WRITE_ENDING | Flags::BROKEN)
                    && self.is_flushed();
                if ends && !self.flags.replace(Flags::WRITE_ENDED, true) {
                    self.end_write();
                }
                self.mind_the_marks();
                if self.flags.has(Flags::WRITE_ENDING) && self.flags.has(Flags::READ_ENDED) {
                    // Nothing can come, and nothing more can be written: the rest has its limit.
                    self.close(ConnectionLost::Done);
                }
                self.rest();
            }
            Ending::Closing => {
                self.fire_flushes();
                if self.is_flushed() {
                    self.lose();
                } else {
                    self.limit_the_flush();
                }
            }
            Ending::Doomed => self.lose(),
            Ending::Lost => {}
        }
    }

    /// Ends the connection without sending the rest, when no callback is running.
    #[cold]
    fn doom(&self, reason: ConnectionLost) {
        if matches!(self.ending.get(), Ending::Open | Ending::Closing) {
            self.ending.set(Ending::Doomed);
            self.reason.set(Some(Box::new(reason)));
            self.mark_dirty();
        }
    }

    /// Begins an orderly end.
    fn close(&self, reason: ConnectionLost) {
        if self.ending.get() == Ending::Open {
            self.ending.set(Ending::Closing);
            self.reason.set(Some(Box::new(reason)));
            self.hold_on();
            self.mark_dirty();
            if self.flags.has(Flags::READABLE) {
                self.mark_again();
            }
        }
    }
}

impl Source for Connection {
    fn ready(self: Rc<Self>, change: Change) {
        if change.makes_wary() {
            self.flags.add(Flags::WARY);
        }
        if change.is_broken() {
            return self.ready_though_broken(change);
        }
        // Order: what can be sent goes before what has come.
        if change.is_writable() && !self.flags.has(Flags::WRITABLE) {
            self.send_on();
        }
        if change.is_readable() {
            self.flags.add(Flags::READABLE);
            self.take_in();
        }
    }

    fn again(self: Rc<Self>) {
        self.flags.remove(Flags::AGAIN);
        if self.flags.replace(Flags::CHOKE_UNTOLD, false) && self.flags.has(Flags::CHOKED) {
            self.tell(|receiver| receiver.write_paused());
            self.core.settle();
        }
        let among = Flags::END_UNTOLD | Flags::PAUSED;
        if self.flags.are(Flags::END_UNTOLD, among) && self.ending.get() == Ending::Open {
            self.flags.remove(Flags::END_UNTOLD);
            self.tell_of_the_end();
            self.core.settle();
        }
        if self.flags.replace(Flags::FILE_RESTS, false) || self.flags.has(Flags::AWAITED) {
            self.mark_dirty();
            self.core.settle();
        }
        self.take_in_again();
        self.send_though_broken();
    }

    fn settle(self: Rc<Self>) {
        self.settle_this();
    }

    fn stop(self: Rc<Self>) {
        if self.ending.get() == Ending::Open {
            self.tell(|receiver| receiver.about_to_be_lost());
            // One last try; nothing waits for the peer any more.
            self.flush();
        }
        self.doom(ConnectionLost::Stopped);
    }

    fn halt(&self) {
        self.ending.set(Ending::Lost);
    }

    fn is_background(&self) -> bool {
        self.flags.has(Flags::BACKGROUND)
    }

    fn vanish(self: Rc<Self>) {
        self.ending.set(Ending::Lost);
        if let Some(receiver) = self.receiver.take() {
            receiver.vanish();
        }
        drop(self.socket.take());
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsent = self.unsent();
        write!(
            f,
            "connection {} with {}, {:?}, {unsent} bytes unsent",
            self.number,
            self.peer,
            self.ending.get()
        )?;
        if self.flags.has(Flags::PAUSED) {
            f.write_str(", reading paused")?;
        }
        Ok(())
    }
}

impl Stream for Connection {
    fn write(&self, data: &[u8]) {
        if self.ending.get() != Ending::Open || self.flags.has(Flags::WRITE_ENDING) {
            return;
        }
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.len() + data.len() >= DIRECT_WRITE || self.flags.has(Flags::OVERFULL) {
            return self.write_much(&mut outgoing, data);
        }
        outgoing.push(data, || self.core.buffers.take_for_writing());
        self.mark_dirty();
    }

    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        self.try_send(data)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_receive(buffer)
    }

    fn write_file(&self, part: FilePart) -> Result<(), FilePart> {
        if self.ending.get() != Ending::Open
            || self.flags.has(Flags::WRITE_ENDING)
            || part.length == 0
        {
            // As bytes would be.
            return Ok(());
        }
        let can_be_sent = match self.socket.borrow().as_ref() {
            Some(socket) => socket.takes_files(),
            None => false,
        };
        if !can_be_sent {
            return Err(part);
        }
        let buffered = self.outgoing.borrow().len();
        let mut rarities = self.rarities.borrow_mut();
        let attachments = &mut rarities.get_or_insert_default().attachments;
        attachments.push_file(buffered, part);
        self.flags.add(Flags::ATTACHED);
        self.mark_dirty();
        Ok(())
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        self.close(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.doom(reason);
    }

    fn lose_write_connection(&self) {
        if self.ending.get() == Ending::Open && !self.flags.replace(Flags::WRITE_ENDING, true) {
            self.mark_dirty();
        }
    }

    fn pause_reading(&self) {
        self.flags.add(Flags::PAUSED);
    }

    fn resume_reading(&self) {
        let is_there = self.flags.has(Flags::READABLE | Flags::END_UNTOLD);
        if self.flags.replace(Flags::PAUSED, false) && is_there {
            self.mark_again();
        }
    }

    fn is_connected(&self) -> bool {
        self.ending.get() == Ending::Open
    }

    fn is_write_ended(&self) -> bool {
        self.flags.has(Flags::WRITE_ENDING)
    }

    fn unsent(&self) -> usize {
        let buffered = self.outgoing.borrow().len();
        buffered.saturating_add(self.file_bytes())
    }

    fn is_congested(&self) -> bool {
        !self.flags.has(Flags::BROKEN) && self.unsent() > self.limits().unsent_high
    }

    fn flush(&self) -> Deferred<()> {
        let left = self.unsent();
        if matches!(self.ending.get(), Ending::Doomed | Ending::Lost) {
            return fail(NotFlushed);
        }
        if left == 0 {
            return succeed(());
        }
        let (trigger, deferred) = Deferred::new();
        let mut rarities = self.rarities.borrow_mut();
        let flushes = &mut rarities.get_or_insert_default().flushes;
        flushes.push(Flush { left, trigger });
        self.flags.add(Flags::AWAITED);
        self.mark_dirty();
        deferred
    }

    fn limits(&self) -> Limits {
        Self::limits(self)
    }

    fn set_limits(&self, limits: Limits) {
        self.rarities.borrow_mut().get_or_insert_default().limits = limits;
        self.mark_dirty();
    }

    fn set_throttled(&self, on: bool) {
        if self.flags.replace(Flags::THROTTLES, on) && !on && self.flags.has(Flags::READABLE) {
            self.mark_again();
        }
    }

    fn is_throttled(&self) -> bool {
        self.flags.has(Flags::THROTTLES)
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        if self.ending.get() == Ending::Lost {
            // Too late for this one: it hears of the end, and is not kept.
            let reason = self.reason.take();
            let reason = reason.map_or(ConnectionLost::Done, |reason| *reason);
            return self
                .core
                .call_soon(move || receiver.connection_lost(reason));
        }
        let is_another = !self.receiver().is_some_and(|it| Rc::ptr_eq(&it, &receiver));
        let previous = self.receiver.replace(Some(receiver));
        if !self.flags.replace(Flags::SEATED, true) {
            self.hold_on();
            if self.flags.has(Flags::READABLE) {
                self.mark_again();
            }
        }
        if self.flags.has(Flags::CHOKED) && is_another {
            self.flags.add(Flags::CHOKE_UNTOLD);
            self.mark_again();
        }
        if self.flags.has(Flags::READ_ENDED) && is_another {
            self.flags.add(Flags::END_UNTOLD);
            self.mark_again();
        }
        drop(previous);
    }

    fn socket(&self) -> &dyn Socket {
        self
    }
}

// An echo of a full read goes past the buffer.
const _: () = assert!(READ_SIZE >= DIRECT_WRITE);
