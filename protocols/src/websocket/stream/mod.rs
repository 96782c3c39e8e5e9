//! The stream that a WebSocket's protocol writes to.
//!
//! # States
//!
//! ```text
//!   ┌──────┐ close, lose_connection  ┌─────────┐ the peer's Close  ┌─────────┐   ┌──────┐
//!   │ Open │ ──────────────────────▶ │ Closing │ ────────────────▶ │ Leaving │ ─▶│ Over │
//!   └──────┘  our Close is sent      └─────────┘                   └─────────┘   └──────┘
//!       │ the peer's Close: ours is sent;  │ the limit, an end without Close          ▲
//!       │ a bad peer, a panic: ours is sent └─────────────────────────────────────────┤
//!       └───────────────────────────────────────────▶ Leaving ────────────────────────┘
//! ```
//!
//! In `Leaving` a server has closed the connection below; a client waits for the server to do so
//! (RFC 6455 §7.1.1).
//!
//! # Reentrancy
//!
//! None of its methods delivers anything before it returns. A change asked for during a delivery is seen by the
//! loop that delivers; one asked for at another time is followed by a call in the reactor's next turn.

mod ending;
mod liveness;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

use torsade_deferred::Deferred;
use torsade_reactor::{ConnectionLost, DelayedCall, Limits, Receiver, Socket, Stream};

use self::liveness::{Asked, Pings};
use super::codes::CloseCode;
use super::delivery::GoOn;
use super::frames::{self, Decoder, Head, Opcode, Role};
use super::masks::Masks;
use super::protocol::Message;
use super::settings::WebSocketLimits;
use crate::succession::Succession;

/// What a [`WebSocketTransport`](super::WebSocketTransport) offers beyond a plain transport.
///
/// Its methods are called on the transport: `transport.send("hello")`. What a plain transport offers is here, too:
/// [`write`](Stream::write) sends a binary message, [`lose_connection`](Stream::lose_connection) closes with 1000,
/// after what was sent before, and [`abort_connection`](Stream::abort_connection) ends the connection at once. A
/// WebSocket has no half-close: [`lose_write_connection`](Stream::lose_write_connection) closes.
///
/// Any [`Protocol`](torsade_reactor::Protocol) can be seated on it
/// ([`Transport::connect`](torsade_reactor::Transport::connect)): the payloads of messages come to it as data, and
/// what it writes goes out as binary messages. The one before keeps its seat, and hears `closed`.
pub struct WebSocketStream {
    below: Rc<dyn Stream>,
    /// Itself, for timers.
    this: Weak<Self>,
    role: Role,
    limits: WebSocketLimits,
    subprotocol: Option<Box<str>>,
    stage: Cell<Stage>,
    pub(in crate::websocket) decoder: RefCell<Decoder>,
    /// Bytes that have come and wait to be decoded.
    kept: RefCell<Kept>,
    /// A client's; made when the first frame goes out.
    masks: RefCell<Option<Masks>>,
    /// Who brings what comes to the protocol.
    delivery: RefCell<Option<Weak<dyn GoOn>>>,
    /// Who gets the payloads in place of the protocol.
    pub(in crate::websocket) succession: Succession,
    /// What the peer's Close frame said.
    said: Cell<Option<(CloseCode, String)>>,
    /// What `closed` is told, if the stream below ends in order.
    reason: Cell<Option<Box<ConnectionLost>>>,
    pings: RefCell<Pings>,
    /// The payload of the last ping that could not be answered, because too much is unsent.
    owed_pong: RefCell<Option<Vec<u8>>>,
    /// The limit that runs: for silence, or for the end.
    timer: RefCell<Option<DelayedCall>>,
    idle_timer: RefCell<Option<DelayedCall>>,
    flags: Flags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) enum Stage {
    Open,
    Closing,
    Leaving,
    Over,
}

/// Bytes that wait, and how many of them have been used.
#[derive(Default)]
pub(in crate::websocket) struct Kept {
    bytes: Vec<u8>,
    used: usize,
}

impl Kept {
    pub(in crate::websocket) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == self.used
    }
}

#[derive(Default)]
struct Flags {
    /// The user paused reading.
    paused: Cell<bool>,
    /// The stream below was paused, too, and has not been resumed.
    below_paused: Cell<bool>,
    /// More is unsent than the high mark: the messages at hand wait.
    congested: Cell<bool>,
    /// The loop that delivers is on the stack.
    delivering: Cell<bool>,
    /// A call that goes on delivering is scheduled; nothing is delivered before.
    scheduled: Cell<bool>,
    /// The peer's stream has ended, behind what is kept.
    read_ended: Cell<bool>,
    /// Something has come since the timer looked last.
    heard: Cell<bool>,
    /// The peer is to show that it lives.
    asked: Cell<Option<Asked>>,
    /// Bytes that were written since then.
    written: Cell<usize>,
    /// A message has gone either way since the other timer looked last.
    messaged: Cell<bool>,
}

/// Masked at once: enough that what is written below is worth it, little enough for the stack.
const PIECE: usize = 4096;

impl WebSocketStream {
    /// Sends a message, in one frame. Nothing is sent once the connection is being closed.
    ///
    /// It leaves when the callback at hand has returned, with whatever else was written in it. What the peer does
    /// not take is kept, up to [`Limits::unsent_max`]; who sends much heeds
    /// [`write_paused`](super::WebSocketProtocol::write_paused).
    pub fn send<'a>(&self, message: impl Into<Message<'a>>) {
        if self.stage.get() != Stage::Open {
            return;
        }
        self.flags.messaged.set(true);
        match message.into() {
            Message::Text(text) => self.send_frame(Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => self.send_frame(Opcode::Binary, bytes),
        }
    }

    /// Closes: says so behind what was sent before, waits for the peer to say so, too, and ends the connection.
    /// Nothing more is delivered. If that stands still for [`WebSocketLimits::closing`], the connection is aborted.
    ///
    /// A code that no Close frame may have (1005: nothing is said; 1006 and the like: 1011 is sent instead) is no
    /// error: who passes on what another connection was closed with need not look. Of a reason, 123 bytes are
    /// sent. Only the first call counts.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str) {
        self.close_because(code.into(), reason, ConnectionLost::Done);
    }

    /// The subprotocol that both ends have agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Whether this is the client's end.
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.role == Role::Client
    }

    fn send_frame(&self, opcode: Opcode, payload: &[u8]) {
        let key = (self.role == Role::Client).then(|| self.next_mask());
        let head = Head::new(opcode, payload.len(), key);
        let written = head.as_slice().len() + payload.len();
        let written = self.flags.written.get().saturating_add(written);
        self.flags.written.set(written);
        let Some(key) = key else {
            self.below.write(head.as_slice());
            if !payload.is_empty() {
                self.below.write(payload);
            }
            return;
        };
        let mut piece = [0; PIECE];
        let mut filled = head.as_slice().len();
        piece[..filled].copy_from_slice(head.as_slice());
        let mut offset = 0;
        loop {
            let count = (payload.len() - offset).min(PIECE - filled);
            let place = &mut piece[filled..][..count];
            place.copy_from_slice(&payload[offset..][..count]);
            frames::mask(key, offset, place);
            self.below.write(&piece[..filled + count]);
            offset += count;
            filled = 0;
            if offset == payload.len() {
                return;
            }
        }
    }

    fn next_mask(&self) -> [u8; 4] {
        let mut masks = self.masks.borrow_mut();
        let masks = masks.get_or_insert_with(|| {
            let reactor = self.socket().reactor();
            Masks::new([reactor.seed(), reactor.seed()])
        });
        masks.next()
    }

    /// Has delivery go on when this callback has returned: in the loop that is on the stack, or in the next turn.
    pub(in crate::websocket) fn schedule(&self) {
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
impl WebSocketStream {
    pub(in crate::websocket) fn over(
        below: Rc<dyn Stream>,
        role: Role,
        limits: WebSocketLimits,
        subprotocol: Option<String>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            below,
            this: Weak::clone(this),
            role,
            limits,
            subprotocol: subprotocol.map(String::into_boxed_str),
            stage: Cell::new(Stage::Open),
            decoder: RefCell::new(Decoder::new(role, limits.sizes())),
            kept: RefCell::default(),
            masks: RefCell::default(),
            delivery: RefCell::default(),
            succession: Succession::default(),
            said: Cell::default(),
            reason: Cell::default(),
            pings: RefCell::default(),
            owed_pong: RefCell::default(),
            timer: RefCell::default(),
            idle_timer: RefCell::default(),
            flags: Flags::default(),
        })
    }

    pub(in crate::websocket) fn set_delivery(&self, delivery: Weak<dyn GoOn>) {
        self.delivery.replace(Some(delivery));
    }

    pub(in crate::websocket) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether what comes may be looked at now. Once it is being closed, all of it, for the peer's Close.
    pub(in crate::websocket) fn is_flowing(&self) -> bool {
        let held = self.flags.paused.get() || self.flags.congested.get();
        match self.stage.get() {
            Stage::Open => !held && !self.flags.scheduled.get() && self.below.is_connected(),
            Stage::Closing | Stage::Leaving => true,
            Stage::Over => false,
        }
    }

    /// Looks whether the answers to what was delivered so far have left. If not, nothing more is delivered, nor
    /// read, until they have: who asks much in one chunk and takes no answers would otherwise fill the memory from
    /// that one chunk. (Not where the stream below is read all the same, as that of a client is: two ends that
    /// both stopped would wait for each other.)
    pub(in crate::websocket) fn look_for_congestion(&self) {
        let congested = self.stage.get() == Stage::Open
            && !self.succession.is_begun()
            && self.below.is_congested()
            && self.below.is_throttled();
        self.flags.congested.set(congested);
        if congested && !self.flags.below_paused.replace(true) {
            self.below.pause_reading();
        }
    }

    pub(in crate::websocket) fn is_held_up(&self) -> bool {
        self.flags.congested.get()
    }

    /// Lets the stream below go on, if it was paused here.
    pub(in crate::websocket) fn resume_below(&self) {
        if self.flags.below_paused.take() {
            self.below.resume_reading();
        }
    }

    pub(in crate::websocket) fn keep(&self, data: &[u8]) {
        self.kept.borrow_mut().bytes.extend_from_slice(data);
    }

    /// Puts back what was taken, less what has been used of it, before what has come since.
    pub(in crate::websocket) fn put_back(&self, mut kept: Kept, used: usize) {
        kept.used += used;
        if !kept.is_empty() {
            let mut place = self.kept.borrow_mut();
            kept.bytes.extend_from_slice(&place.bytes[place.used..]);
            *place = kept;
        }
    }

    pub(in crate::websocket) fn take_kept(&self) -> Kept {
        self.kept.take()
    }

    pub(in crate::websocket) fn is_kept_empty(&self) -> bool {
        self.kept.borrow().is_empty()
    }

    pub(in crate::websocket) fn is_delivering(&self) -> bool {
        self.flags.delivering.get()
    }

    pub(in crate::websocket) fn set_delivering(&self, delivering: bool) {
        self.flags.delivering.set(delivering);
    }

    pub(in crate::websocket) fn set_scheduled(&self, scheduled: bool) {
        self.flags.scheduled.set(scheduled);
    }

    pub(in crate::websocket) fn set_read_ended(&self) {
        self.flags.read_ended.set(true);
    }

    pub(in crate::websocket) fn take_read_ended(&self) -> bool {
        self.flags.read_ended.take()
    }

    pub(in crate::websocket) fn set_heard(&self) {
        self.flags.heard.set(true);
    }

    pub(in crate::websocket) fn set_messaged(&self) {
        self.flags.messaged.set(true);
    }

    /// The stream below says that the writer is to pause, or may go on.
    pub(in crate::websocket) fn set_choked(&self, choked: bool) {
        self.succession.set_choked(choked);
        if !choked {
            self.send_owed_pong();
        }
    }
}

impl Stream for WebSocketStream {
    /// One binary message.
    fn write(&self, data: &[u8]) {
        self.send(data);
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        let code = match reason {
            ConnectionLost::Done => CloseCode::NORMAL,
            _ => CloseCode::INTERNAL_ERROR,
        };
        self.close_because(code, "", reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        match (self.stage.get(), reason) {
            (Stage::Over, _) => {}
            (Stage::Open, reason @ ConnectionLost::Panicked { .. }) => self.broke(reason),
            (_, reason) => {
                self.begin_to_end();
                self.stage.set(Stage::Leaving);
                self.below.abort_connection(reason);
            }
        }
    }

    fn lose_write_connection(&self) {
        self.lose_connection(ConnectionLost::Done);
    }

    /// Delivers nothing more, not even the next message of the chunk at hand.
    fn pause_reading(&self) {
        self.flags.paused.set(true);
        if self.stage.get() == Stage::Open && !self.flags.below_paused.replace(true) {
            self.below.pause_reading();
        }
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
        self.stage.get() == Stage::Open && self.below.is_connected()
    }

    fn is_write_ended(&self) -> bool {
        self.stage.get() != Stage::Open || self.below.is_write_ended()
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

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        if self.stage.get() == Stage::Over {
            // Too late for this one: it hears of the end, and is not kept.
            let reactor = self.socket().reactor();
            reactor.call_soon(move || receiver.connection_lost(ConnectionLost::Done));
            return;
        }
        let is_choked = self.succession.give_over(receiver);
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

impl fmt::Debug for WebSocketStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, peer) = (self.socket().host(), self.socket().peer());
        let kept =
            self.kept.borrow().bytes.len() + self.decoder.try_borrow().map_or(0, |it| it.kept());
        let stage = self.stage.get();
        write!(
            f,
            "WebSocketStream({host} to {peer}, {stage:?}, {kept} bytes kept)"
        )
    }
}

impl Drop for WebSocketStream {
    fn drop(&mut self) {
        // Nobody is left to be told; a timer would keep the loop awake for nothing.
        for timer in [self.timer.take(), self.idle_timer.take()]
            .into_iter()
            .flatten()
        {
            timer.cancel();
        }
    }
}
