//! The stream that a line receiver writes to.
//!
//! A [`LineStream`] is the stream below it, with three things of its own: it sends
//! lines, it changes how what comes is split, and it can pause in the middle of a chunk.
//!
//! # Reentrancy
//!
//! None of its methods delivers anything before it returns. A change asked for during a
//! delivery is seen by the loop that delivers; one asked for at another time is followed
//! by a call in the reactor's next turn.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::rc::{Rc, Weak};

use torsade_deferred::Deferred;
use torsade_reactor::{ConnectionLost, Limits, Receiver, Socket, Stream};

use super::delivery::GoOn;
use super::split::{Delimiter, Splitter};
use crate::succession::Succession;

/// What a [`LineTransport`](super::LineTransport) offers beyond a plain transport.
///
/// Its methods are called on the transport: `transport.send_line("hello")`.
pub struct LineStream {
    below: Rc<dyn Stream>,
    pub(super) splitter: RefCell<Splitter>,
    /// Bytes that have come and wait to be split.
    kept: RefCell<Kept>,
    /// Bytes that were given back during a delivery; they go before all others.
    unread: RefCell<Vec<u8>>,
    /// The raw data being delivered, and how much of its end is unused.
    raw_data: Cell<Option<Range<*const u8>>>,
    unused: Cell<usize>,
    /// Who brings what is kept to the line receiver.
    delivery: RefCell<Option<Weak<dyn GoOn>>>,
    /// Who gets what has come and was not delivered, when the delivery at hand is over.
    gives_up: Cell<Option<Taker>>,
    /// Who gets the bytes in place of the line receiver, as they are.
    pub(super) succession: Succession,
    flags: Flags,
}

#[derive(Default)]
struct Flags {
    /// The user paused reading.
    paused: Cell<bool>,
    /// The stream below was paused, too, and has not been resumed.
    below_paused: Cell<bool>,
    /// More is unsent than the high mark: the lines at hand wait.
    congested: Cell<bool>,
    /// The loop that delivers is on the stack.
    delivering: Cell<bool>,
    /// A call that goes on delivering is scheduled; nothing is delivered before.
    scheduled: Cell<bool>,
    /// The peer's stream has ended, behind what is kept, and that is to be told.
    read_ended: Cell<bool>,
    /// It was, to whoever received then.
    told_read_ended: Cell<bool>,
    /// The connection has ended.
    over: Cell<bool>,
}

/// Takes what has come in place of the line receiver.
type Taker = fn(&LineStream, &[u8]);

/// Bytes that wait, and how many of them have been used.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    used: usize,
}

impl Kept {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }
}

impl LineStream {
    /// Sends `line`, and the delimiter behind it.
    ///
    /// `line` must not have the delimiter in it: the peer would see two lines.
    pub fn send_line(&self, line: impl AsRef<[u8]>) {
        self.below.write(line.as_ref());
        self.below
            .write(self.splitter.borrow().delimiter().as_bytes());
    }

    /// Delivers raw data from here on: the rest of the chunk at hand, the beginning of an
    /// unfinished line, and what comes, until [`set_line_mode`](Self::set_line_mode).
    pub fn set_raw_mode(&self) {
        let partial = self.splitter.borrow_mut().set_raw_mode();
        self.give_back(&partial);
    }

    /// Delivers lines from here on, from the beginning of `unused`: bytes that were
    /// delivered as raw data and are not.
    ///
    /// If `unused` is the end of the slice that is being delivered, it is not copied.
    pub fn set_line_mode(&self, unused: impl AsRef<[u8]>) {
        let unused = unused.as_ref();
        let partial = self.splitter.borrow_mut().set_line_mode();
        self.give_back(&partial);
        match self.raw_data.take() {
            Some(data) if is_end_of(unused, &data) => self.unused.set(unused.len()),
            _ => self.give_back(unused),
        }
    }

    /// Splits at this delimiter from here on, and sends it behind lines.
    pub fn set_delimiter(&self, delimiter: impl Into<Delimiter>) {
        let partial = self.splitter.borrow_mut().set_delimiter(delimiter.into());
        self.give_back(&partial);
    }

    /// Accepts lines up to this length, the delimiter not counted, from here on.
    pub fn set_max_length(&self, max_length: usize) {
        let partial = self.splitter.borrow_mut().set_max_length(max_length);
        self.give_back(&partial);
    }

    /// Has `bytes` delivered, before anything else.
    fn give_back(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.unread.borrow_mut().splice(..0, bytes.iter().copied());
            self.schedule();
        }
    }

    /// Delivers nothing of what has come so far, and gives it to `taker`: at once, or, in the
    /// middle of a delivery, when that is over. For layers that are put below.
    #[cfg(feature = "tls")]
    pub(crate) fn give_up_kept(&self, taker: Taker) {
        self.gives_up.set(Some(taker));
        if !self.flags.delivering.get() {
            self.give_up();
        }
    }

    /// Has delivery go on when this callback has returned: in the loop that is on the
    /// stack, or in the next turn.
    pub(super) fn schedule(&self) {
        if self.flags.delivering.get() || self.flags.scheduled.replace(true) {
            return;
        }
        let delivery = self.delivery.borrow().clone();
        self.below.socket().reactor().call_soon(move || {
            if let Some(delivery) = delivery.and_then(|delivery| delivery.upgrade()) {
                delivery.go_on();
            }
        });
    }
}

/// For the delivery.
impl LineStream {
    pub(super) fn over(below: Rc<dyn Stream>, splitter: Splitter) -> Rc<Self> {
        Rc::new(Self {
            below,
            splitter: RefCell::new(splitter),
            kept: RefCell::default(),
            unread: RefCell::default(),
            raw_data: Cell::default(),
            unused: Cell::default(),
            delivery: RefCell::default(),
            gives_up: Cell::default(),
            succession: Succession::default(),
            flags: Flags::default(),
        })
    }

    pub(super) fn set_delivery(&self, delivery: Weak<dyn GoOn>) {
        self.delivery.replace(Some(delivery));
    }

    /// The end: nothing more is delivered, nothing is kept.
    pub(super) fn take_successor(&self) -> Option<Rc<dyn Receiver>> {
        self.flags.over.set(true);
        self.kept.take();
        self.unread.take();
        self.succession.take()
    }

    /// Whether the next event may be delivered now.
    pub(super) fn is_flowing(&self) -> bool {
        let waits =
            self.flags.paused.get() || self.flags.scheduled.get() || self.flags.congested.get();
        !waits && self.gives_up.get().is_none() && self.below.is_connected()
    }

    /// Gives what is kept to whoever wants it in place of the line receiver.
    pub(super) fn give_up(&self) {
        let Some(taker) = self.gives_up.take() else {
            return;
        };
        let partial = {
            let mut splitter = self.splitter.borrow_mut();
            let same = splitter.delimiter().clone();
            splitter.set_delimiter(same)
        };
        self.unread.borrow_mut().splice(..0, partial);
        let kept = self.take_kept();
        taker(self, kept.rest());
    }

    /// Looks whether the answers to what was delivered so far have left. If not, nothing
    /// more is delivered, nor read, until they have: a peer that asks much in one chunk and
    /// takes no answers would otherwise fill the memory from that one chunk. (Not where the stream
    /// below is read all the same: two ends that both stopped would wait for each other.)
    pub(super) fn look_for_congestion(&self) {
        // A successor minds the marks by itself: it need not answer at all.
        let congested =
            !self.succession.is_begun() && self.below.is_congested() && self.below.is_throttled();
        self.flags.congested.set(congested);
        if congested && !self.flags.below_paused.replace(true) {
            self.below.pause_reading();
        }
    }

    pub(super) fn is_held_up(&self) -> bool {
        self.flags.congested.get()
    }

    /// Whether the bytes at hand are the next to be split.
    pub(super) fn is_in_order(&self) -> bool {
        self.unread.borrow().is_empty()
    }

    pub(super) fn is_kept_empty(&self) -> bool {
        self.kept.borrow().rest().is_empty() && self.unread.borrow().is_empty()
    }

    pub(super) fn set_scheduled(&self, scheduled: bool) {
        self.flags.scheduled.set(scheduled);
    }

    pub(super) fn is_delivering(&self) -> bool {
        self.flags.delivering.get()
    }

    pub(super) fn set_delivering(&self, delivering: bool) {
        self.flags.delivering.set(delivering);
    }

    pub(super) fn set_read_ended(&self) {
        self.flags.read_ended.set(true);
    }

    pub(super) fn take_read_ended(&self) -> bool {
        let is_untold = self.flags.read_ended.take();
        if is_untold {
            self.flags.told_read_ended.set(true);
        }
        is_untold
    }

    /// Keeps `data` behind all that is kept.
    pub(super) fn keep(&self, data: &[u8]) {
        self.kept.borrow_mut().bytes.extend_from_slice(data);
    }

    /// Takes what is kept, in order.
    pub(super) fn take_kept(&self) -> Kept {
        let (unread, mut kept) = (self.unread.take(), self.kept.take());
        if !unread.is_empty() {
            kept.bytes.splice(..kept.used, unread);
            kept.used = 0;
        }
        kept
    }

    /// Keeps what was taken, less what has been used of it, before what has come since.
    pub(super) fn put_back(&self, mut kept: Kept, used: usize) {
        kept.used += used;
        if kept.rest().is_empty() {
            return;
        }
        let mut place = self.kept.borrow_mut();
        kept.bytes.extend_from_slice(place.rest());
        *place = kept;
    }

    /// Keeps the rest of a chunk, before what has come since.
    pub(super) fn keep_rest(&self, rest: &[u8]) {
        if !rest.is_empty() {
            self.put_back(
                Kept {
                    bytes: rest.to_vec(),
                    used: 0,
                },
                0,
            );
        }
    }

    /// Says which raw data is delivered now.
    pub(super) fn begin_raw(&self, data: &[u8]) {
        self.raw_data.set(Some(data.as_ptr_range()));
        self.unused.set(0);
    }

    /// How many bytes at the end of the raw data were not used.
    pub(super) fn end_raw(&self) -> usize {
        self.raw_data.set(None);
        self.unused.take()
    }

    /// Lets the stream below go on, if it was paused here.
    pub(super) fn resume_below(&self) {
        if self.flags.below_paused.take() {
            self.below.resume_reading();
        }
    }
}

impl Stream for LineStream {
    fn write(&self, data: &[u8]) {
        self.below.write(data);
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        self.below.lose_connection(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.below.abort_connection(reason);
    }

    fn lose_write_connection(&self) {
        self.below.lose_write_connection();
    }

    /// Delivers nothing more, not even the next line of the chunk at hand.
    fn pause_reading(&self) {
        self.flags.paused.set(true);
        self.flags.below_paused.set(true);
        self.below.pause_reading();
    }

    fn resume_reading(&self) {
        if !self.flags.paused.replace(false) || self.flags.delivering.get() {
            return;
        }
        if self.is_kept_empty() && !self.flags.read_ended.get() && !self.flags.congested.get() {
            self.resume_below();
        } else {
            self.schedule();
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

    fn set_throttled(&self, on: bool) {
        self.below.set_throttled(on);
        if !on && self.flags.congested.get() {
            self.schedule();
        }
    }

    /// Hands the connection on: `receiver` gets the bytes as they are, from the first
    /// that the line receiver has not had. That one keeps its seat, and hears of the end.
    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        if self.flags.over.get() {
            // Too late for this one: it hears of the end, and is not kept.
            let reactor = self.socket().reactor();
            reactor.call_soon(move || receiver.connection_lost(ConnectionLost::Done));
            return;
        }
        let successor = self.succession.successor();
        let is_another = !successor.is_some_and(|it| Rc::ptr_eq(&it, &receiver));
        if is_another && self.flags.told_read_ended.take() {
            // It does not know what the one before was told.
            self.flags.read_ended.set(true);
            self.schedule();
        }
        let is_choked = self.succession.give_over(receiver);
        let partial = self.splitter.borrow_mut().set_raw_mode();
        self.give_back(&partial);
        if is_choked || self.flags.congested.get() {
            self.schedule();
        }
    }

    fn socket(&self) -> &dyn Socket {
        self.below.socket()
    }

    fn below(&self) -> Option<&Rc<dyn Stream>> {
        Some(&self.below)
    }
}

impl fmt::Debug for LineStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.borrow().rest().len();
        write!(
            f,
            "LineStream({} to {}, {kept} bytes kept)",
            self.socket().host(),
            self.socket().peer()
        )
    }
}

/// Whether `unused` is the end of the slice that lies at `data`.
fn is_end_of(unused: &[u8], data: &Range<*const u8>) -> bool {
    let unused = unused.as_ptr_range();
    data.start <= unused.start && unused.end == data.end
}
