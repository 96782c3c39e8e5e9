//! TLS between a stream and what is above it.
//!
//! # States
//!
//! ```text
//!   ┌───────┐  start   ┌───────────┐  handshake complete   ┌─────────┐
//!   │ Clear │ ───────▶ │ Handshake │ ────────────────────▶ │ Secured │
//!   └───────┘          └───────────┘                       └─────────┘
//!
//!   ┌──────┐ lose_connection ┌─────────┐ all sent, and our alert ┌─────────┐
//!   │ Open │ ──────────────▶ │ Closing │ ──────────────────────▶ │ Leaving │
//!   └──────┘                 └─────────┘                         └─────────┘
//!       │ abort, a bad peer, a limit    │                             │ the peer's alert, or
//!       ▼                               ▼                             ▼ its end, or the limit
//!   ┌──────┐                                                      ┌──────┐
//!   │ Over │ ◀─────────────────────────────────────────────────── │ Over │ ──▶ Lost, with the
//!   └──────┘   the stream below is being lost                     └──────┘     stream below
//! ```
//!
//! What is written waits as plaintext until the callback at hand has returned, or the handshake
//! is complete; then it becomes as few records as it can. Nothing calls the receiver from inside
//! a method.
//!
//! # Bounds
//!
//! Kept are at most: plaintext that waits for the handshake, which counts as unsent and has the
//! limits of what is unsent; an unfinished record or handshake message, 64 KiB (rustls's bound);
//! and while reading is paused the rest of the chunk at hand, and, decrypted, that of one record of which
//! `try_read` has taken some.

mod ending;
mod receiving;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::mem;
use std::rc::{Rc, Weak};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use torsade_deferred::{Deferred, Trigger, fail, succeed};
use torsade_reactor::{
    ConnectionLost, DelayedCall, Limits, NotFlushed, Reactor, Receiver, Settle, Socket, Stream,
    WeakReceiver,
};

use crate::tls::config::{ClientConfig, ServerConfig, TlsLimits};
use crate::tls::error::{StartTlsError, TlsError};
use crate::tls::records::{Outgoing, RECORD, Records};
use crate::tls::session::{Asked, Session, WritesNameDown};

/// What is encrypted at once: more would only wait in one more buffer.
const AT_ONCE: usize = 4 * RECORD;

/// A stream that speaks TLS over the stream below: any stream, another `TlsStream` included.
///
/// Writes are accepted at once and wait for the handshake; what is read comes after it.
/// [`lose_connection`](Stream::lose_connection) sends what was written and the closing alert,
/// waits for the peer's, and closes; during the handshake it goes on with that only if something was
/// written, else the peer is told [`TlsError::HandshakeCutShort`]. A peer that ends its stream without a closing alert is told
/// from one that is done: [`TlsError::Truncated`].
///
/// After the peer's closing alert, the receiver hears `read_connection_lost` and may go on
/// writing; [`lose_write_connection`](Stream::lose_write_connection) sends our own alert and goes
/// on reading. (In TLS 1.2, too, though few peers expect it there.)
///
/// Which wrapper to use: [`Tls`](crate::tls::Tls) and [`StartTls`](crate::tls::StartTls) make one below a
/// protocol, [`TlsClientEndpoint`](crate::tls::TlsClientEndpoint) and
/// [`TlsServerEndpoint`](crate::tls::TlsServerEndpoint) below whatever comes. This type is for who
/// hands streams around.
pub struct TlsStream {
    below: Rc<dyn Stream>,
    /// Itself, to be settled.
    this: Weak<Self>,
    stage: Cell<Stage>,
    ending: Cell<Ending>,
    held: Cell<Held>,
    /// Out of its place while it takes in what has come, since that calls the receiver.
    records: Cell<Option<Box<Records>>>,
    receiver: RefCell<Option<Rc<dyn Receiver>>>,
    /// Decrypted for who reads for itself, and more than it had room for.
    unread: Cell<Vec<u8>>,
    /// Written, and not encrypted yet.
    plaintext: RefCell<Vec<u8>>,
    limits: Cell<TlsLimits>,
    session: OnceCell<Session>,
    /// Who waits for the handshake.
    waiting: RefCell<Vec<Trigger<Session>>>,
    /// Who waits until the plaintext has been sent.
    flushes: RefCell<Vec<Trigger<()>>>,
    /// The limit that runs: of the handshake, or of the end.
    timer: RefCell<Option<DelayedCall>>,
    /// What TLS was lost for.
    failure: RefCell<Option<TlsError>>,
    /// What `connection_lost` will be told if the stream below ends in order, or, after the end, the first receiver.
    reason: Cell<Option<Box<ConnectionLost>>>,
    /// Called after `connection_lost`.
    at_end: Cell<Option<Box<dyn FnOnce()>>>,
    flags: Flags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Clear,
    Handshake,
    Secured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    Closing,
    Leaving,
    Over,
    Lost,
}

/// How the stream below holds this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// It has not been taken.
    Not,
    /// Whoever was given this one holds it: it has no receiver. Dropped, it aborts the connection.
    Weakly,
    Firmly,
}

#[derive(Default)]
struct Flags {
    /// In the reactor's list of layers to settle.
    scheduled: Cell<bool>,
    /// What is kept is to be looked at when it is settled.
    look: Cell<bool>,
    /// There is a receiver, or has been. Nothing is delivered before.
    seated: Cell<bool>,
    /// The user paused reading.
    paused: Cell<bool>,
    /// The stream below was paused from here.
    below_paused: Cell<bool>,
    /// The peer has sent its closing alert.
    peer_closed: Cell<bool>,
    /// Who reads for itself has come upon it, and the receiver has not been told.
    end_untold: Cell<bool>,
    /// That, or something unread.
    untold: Cell<bool>,
    /// Who reads for itself has come upon an end without that alert.
    cut_off: Cell<bool>,
    /// Our closing alert is to be sent, or has been, after what is unsent.
    write_ending: Cell<bool>,
    write_ended: Cell<bool>,
    /// All that was written, and the alert, is with the system.
    all_sent: Cell<bool>,
    /// More is unsent than the high mark: below, or as plaintext here.
    below_choked: Cell<bool>,
    plaintext_choked: Cell<bool>,
    /// What the receiver was told of that.
    told_choked: Cell<bool>,
    /// That was the receiver before this one.
    choke_untold: Cell<bool>,
    /// The receiver was told that the peer's stream has ended.
    told_read_ended: Cell<bool>,
    /// That was the receiver before this one.
    end_told_before: Cell<bool>,
    /// More plaintext waited than the limit when it was last settled.
    overfull: Cell<bool>,
}

impl TlsStream {
    /// Speaks TLS over `below`, as the client. The server must show a certificate for `name`.
    #[must_use]
    pub fn client(
        below: Rc<dyn Stream>,
        config: &ClientConfig,
        name: ServerName<'static>,
    ) -> Rc<Self> {
        let stream = Self::over(below);
        stream.begin_client(config, name, &[]);
        stream
    }

    /// Speaks TLS over `below`, as the server.
    #[must_use]
    pub fn server(below: Rc<dyn Stream>, config: &ServerConfig) -> Rc<Self> {
        let stream = Self::over(below);
        stream.begin_server(config, &[]);
        stream
    }

    /// Passes everything through as it is until TLS is started.
    #[must_use]
    pub fn in_the_clear(below: Rc<dyn Stream>) -> Rc<Self> {
        Self::over(below)
    }

    /// Starts TLS as the client, on a stream [in the clear](Self::in_the_clear). What was written
    /// before goes out in the clear, what is written from here on does not.
    ///
    /// `unused` is what has been received in the clear and not been used. A server has no reason
    /// to send anything before the handshake: if there is something, somebody in between has put
    /// it there, and the handshake fails.
    ///
    /// # Errors
    ///
    /// TLS has been started already, or the connection is being lost.
    pub fn start_client(
        &self,
        config: &ClientConfig,
        name: ServerName<'static>,
        unused: &[u8],
    ) -> Result<(), StartTlsError> {
        self.check_startable()?;
        self.begin_client(config, name, unused);
        Ok(())
    }

    /// Starts TLS as the server, on a stream [in the clear](Self::in_the_clear). What was written
    /// before goes out in the clear, what is written from here on does not.
    ///
    /// `unused` is what has been received in the clear and not been used. It is taken for the
    /// beginning of the handshake: commands that somebody has smuggled in behind the one that
    /// starts TLS make the handshake fail, and are never delivered (CVE-2011-0411).
    ///
    /// # Errors
    ///
    /// TLS has been started already, or the connection is being lost.
    pub fn start_server(&self, config: &ServerConfig, unused: &[u8]) -> Result<(), StartTlsError> {
        self.check_startable()?;
        self.begin_server(config, unused);
        Ok(())
    }

    /// Fires when the handshake is complete; at once, if it is.
    ///
    /// # Errors
    ///
    /// Fails with a [`TlsError`] when the connection is lost first.
    ///
    /// # Cancellation
    ///
    /// Cancels the waiting, not the handshake.
    #[must_use]
    pub fn handshake(&self) -> Deferred<Session> {
        if let Some(session) = self.session.get() {
            return succeed(session.clone());
        }
        if self.ending.get() == Ending::Lost {
            let reason = "the connection is over".to_owned();
            let failure = self.failure.borrow().clone();
            return fail(failure.unwrap_or(TlsError::Interrupted { reason }));
        }
        let (trigger, deferred) = Deferred::new();
        self.waiting.borrow_mut().push(trigger);
        deferred
    }

    /// What the handshake came to; `None` before it is complete.
    #[must_use]
    pub fn session(&self) -> Option<Session> {
        self.session.get().cloned()
    }

    fn over(below: Rc<dyn Stream>) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            below,
            this: this.clone(),
            stage: Cell::new(Stage::Clear),
            ending: Cell::new(Ending::Open),
            held: Cell::new(Held::Not),
            records: Cell::new(None),
            receiver: RefCell::new(None),
            plaintext: RefCell::default(),
            limits: Cell::new(TlsLimits::default()),
            session: OnceCell::new(),
            waiting: RefCell::default(),
            flushes: RefCell::default(),
            timer: RefCell::new(None),
            failure: RefCell::new(None),
            reason: Cell::new(None),
            at_end: Cell::new(None),
            unread: Cell::default(),
            flags: Flags::default(),
        })
    }

    /// Takes back what was delivered in the clear and not used, behind what it has. For a layer
    /// that has just started TLS.
    #[cfg(feature = "lines")]
    pub(in crate::tls) fn take_back(&self, unused: &[u8]) {
        if let Some(mut records) = self.records.take() {
            records.keep(unused);
            self.records.set(Some(records));
            self.look_soon();
        }
    }

    /// Has `call` called after `connection_lost`.
    pub(in crate::tls) fn at_end(&self, call: impl FnOnce() + 'static) {
        self.at_end.set(Some(Box::new(call)));
    }

    /// Has the stream below hold this one until [`let_go`](Self::let_go): for who waits for the
    /// handshake and holds nothing meanwhile.
    pub(in crate::tls) fn hold(&self) {
        self.take_below(Held::Firmly);
    }

    /// From here on whoever has it holds it, until it has a receiver or is to be closed.
    pub(in crate::tls) fn let_go(&self) {
        if !self.is_held_firmly() {
            self.take_below(Held::Weakly);
        }
    }

    /// Whether it is the stream below that holds it, and goes on without anybody above.
    fn is_held_firmly(&self) -> bool {
        self.flags.seated.get() || self.ending.get() != Ending::Open
    }

    /// Becomes the receiver of the stream below.
    fn take_below(&self, held: Held) {
        let before = self.held.replace(held);
        let Some(this) = self.this.upgrade().filter(|_| before != held) else {
            return;
        };
        // The stream below says so once more to another receiver, if it still holds.
        self.flags.below_choked.set(false);
        self.below.set_receiver(match held {
            Held::Firmly => this,
            Held::Weakly | Held::Not => WeakReceiver::to(&this),
        });
    }

    fn check_startable(&self) -> Result<(), StartTlsError> {
        if self.stage.get() != Stage::Clear {
            return Err(StartTlsError::AlreadyStarted);
        }
        if !self.is_connected() {
            return Err(StartTlsError::NotConnected);
        }
        Ok(())
    }

    fn begin_client(&self, config: &ClientConfig, name: ServerName<'static>, unused: &[u8]) {
        let asked = Asked::for_name(name.to_str().into_owned());
        let connection = UnbufferedClientConnection::new(config.rustls.clone(), name);
        let records = connection.map(|connection| Records::client(connection, asked));
        self.begin(records, config.limits, unused);
    }

    fn begin_server(&self, config: &ServerConfig, unused: &[u8]) {
        let asked = Asked::default();
        let mut recording = rustls::ServerConfig::clone(&config.rustls);
        recording.cert_resolver = std::sync::Arc::new(WritesNameDown {
            resolver: recording.cert_resolver,
            asked: asked.clone(),
        });
        // Early data can be replayed: it is refused, and the client goes on without.
        recording.max_early_data_size = 0;
        let connection = UnbufferedServerConnection::new(recording.into());
        let records = connection.map(|connection| Records::server(connection, asked));
        self.begin(records, config.limits, unused);
    }

    fn begin(&self, records: Result<Records, rustls::Error>, limits: TlsLimits, unused: &[u8]) {
        self.stage.set(Stage::Handshake);
        self.limits.set(limits);
        match records {
            Ok(mut records) => {
                records.keep(unused);
                self.records.set(Some(Box::new(records)));
                self.set_timer(limits.handshake, Self::handshake_timed_out);
                self.regulate();
            }
            Err(error) => self.fail(TlsError::from_rustls(error)),
        }
        self.look_soon();
    }

    /// Has itself settled when the callback at hand has returned.
    fn settle_soon(&self) {
        if !self.flags.scheduled.replace(true)
            && let Some(this) = self.this.upgrade()
        {
            self.socket().reactor().settle_later(this);
        }
    }

    fn look_soon(&self) {
        self.flags.look.set(true);
        self.settle_soon();
    }

    fn receiver(&self) -> Option<Rc<dyn Receiver>> {
        self.receiver.borrow().clone()
    }

    fn tell(&self, event: impl FnOnce(Rc<dyn Receiver>)) {
        if let Some(receiver) = self.receiver() {
            event(receiver);
        }
    }

    /// Pauses the stream below when nothing may be delivered, and lets it go on when something
    /// may.
    fn regulate(&self) {
        let hold = self.ending.get() == Ending::Open
            && self.stage.get() != Stage::Handshake
            && (self.flags.paused.get() || !self.flags.seated.get());
        if hold != self.flags.below_paused.replace(hold) {
            if hold {
                self.below.pause_reading();
            } else {
                self.below.resume_reading();
            }
        }
    }

    /// Encrypts `plaintext` and writes it below, in pieces.
    fn send(&self, plaintext: &[u8], reactor: &Reactor) {
        let Some(mut records) = self.records.take() else {
            return;
        };
        let mut outgoing = Outgoing::over(reactor.lend_buffer());
        let mut outcome = Ok(());
        for piece in plaintext.chunks(AT_ONCE) {
            outgoing.clear();
            outcome = records.encrypt(piece, &mut outgoing);
            self.below.write(outgoing.as_slice());
            if outcome.is_err() {
                break;
            }
        }
        reactor.return_buffer(outgoing.into_buffer());
        self.records.set(Some(records));
        if let Err(error) = outcome {
            self.fail(TlsError::from_rustls(error));
        }
    }

    /// Sends the plaintext that waits, and gives its memory back.
    fn send_plaintext(&self) {
        let mut plaintext = self.plaintext.take();
        if !plaintext.is_empty() {
            let reactor = self.socket().reactor();
            self.send(&plaintext, &reactor);
            plaintext.clear();
            reactor.return_buffer(plaintext);
        }
    }

    /// Sends the plaintext that waits; whoever waits for that now waits for the stream below.
    fn send_waiting(&self) {
        self.send_plaintext();
        let flushes = self.flushes.take();
        for trigger in flushes {
            self.below.flush().chain_into(trigger);
        }
    }

    /// Tells the receiver when too much is unsent, here or below, and when it is not any more.
    fn mind_the_marks(&self) {
        if self.ending.get() != Ending::Open {
            // Nothing more can be written: there is no pace.
            return;
        }
        let waiting = self.plaintext.borrow().len();
        let (choked, below) = (self.flags.told_choked.get(), self.flags.below_choked.get());
        if waiting == 0 && !choked && !below {
            return self.flags.overfull.set(false);
        }
        let limits = self.below.limits();
        self.flags.overfull.set(waiting > limits.unsent_max);
        let mark = match self.flags.plaintext_choked.get() {
            true => limits.unsent_low,
            false => limits.unsent_high,
        };
        self.flags.plaintext_choked.set(waiting > mark);
        let choked = waiting > mark || self.flags.below_choked.get();
        if choked != self.flags.told_choked.replace(choked) && !self.flags.choke_untold.take() {
            self.tell(|receiver| match choked {
                true => receiver.write_paused(),
                false => receiver.write_resumed(),
            });
        }
    }
}

impl Settle for TlsStream {
    fn settle(self: Rc<Self>) {
        self.flags.scheduled.set(false);
        if self.held.get() == Held::Not && self.stage.get() != Stage::Clear {
            // Nobody has sat down in the callback that made it.
            self.take_below(match self.is_held_firmly() {
                true => Held::Firmly,
                false => Held::Weakly,
            });
        }
        if self.flags.look.take() {
            self.take_in(&mut []);
        }
        if self.flags.cut_off.take() {
            Rc::clone(&self).read_connection_lost();
        }
        let is_open = self.ending.get() == Ending::Open && !self.flags.paused.get();
        if is_open && self.flags.end_told_before.take() {
            self.tell(|receiver| receiver.read_connection_lost());
        }
        if matches!(self.ending.get(), Ending::Over | Ending::Lost) {
            return;
        }
        if self.stage.get() == Stage::Secured {
            self.send_waiting();
            if self.flags.write_ending.get() {
                self.send_closing_alert();
            }
            if self.flags.write_ended.get() && self.flags.peer_closed.get() {
                // Nothing can come and nothing can go.
                self.lose_connection(ConnectionLost::Done);
            }
        }
        if self.ending.get() == Ending::Closing {
            self.close();
        }
        self.mind_the_marks();
    }
}

impl Stream for TlsStream {
    fn write(&self, data: &[u8]) {
        if self.ending.get() != Ending::Open || self.flags.write_ending.get() {
            return;
        }
        let secured = match self.stage.get() {
            Stage::Clear => return self.below.write(data),
            Stage::Handshake => false,
            Stage::Secured => true,
        };
        let waiting = self.plaintext.borrow().len();
        // A record is full: there is nothing to be gained by waiting. (Unless what has come is
        // being delivered right now.)
        if secured && waiting + data.len() >= RECORD {
            let is_there = self
                .records
                .take()
                .map(|records| self.records.set(Some(records)));
            if is_there.is_some() {
                // Whoever waits for a flush is told later: nobody is called from in here.
                self.send_plaintext();
                return self.send(data, &self.socket().reactor());
            }
        }
        let limit = self.below.limits().unsent_max;
        // Not what this callback alone has written.
        if waiting > limit && self.flags.overfull.get() {
            return self.abort_connection(ConnectionLost::Overrun { limit });
        }
        let mut plaintext = self.plaintext.borrow_mut();
        // Gone when the callback returns; what waits for a handshake lies too long to be lent.
        if secured && plaintext.capacity() == 0 {
            *plaintext = self.socket().reactor().lend_buffer();
            plaintext.clear();
        }
        plaintext.extend_from_slice(data);
        self.settle_soon();
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ending.get() != Ending::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        match self.stage.get() {
            Stage::Clear => self.below.try_read(buffer),
            // It goes on by itself.
            Stage::Handshake => Err(io::ErrorKind::WouldBlock.into()),
            Stage::Secured => self.read_into(buffer),
        }
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        if self.ending.get() != Ending::Open {
            return;
        }
        if self.stage.get() == Stage::Clear {
            self.ending.set(Ending::Over);
            return self.below.lose_connection(reason);
        }
        self.ending.set(Ending::Closing);
        self.reason.set(Some(Box::new(reason)));
        self.take_below(Held::Firmly);
        self.regulate();
        // What is kept may have the peer's alert in it.
        self.look_soon();
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        if self.ending.get() != Ending::Lost {
            self.ending.set(Ending::Over);
            self.cancel_timer();
            if self.held.get() == Held::Weakly {
                // Whoever waits for the handshake is told why.
                self.take_below(Held::Firmly);
            }
            self.below.abort_connection(reason);
        }
    }

    fn lose_write_connection(&self) {
        if self.ending.get() == Ending::Open && !self.flags.write_ending.replace(true) {
            match self.stage.get() {
                Stage::Clear => self.below.lose_write_connection(),
                Stage::Handshake | Stage::Secured => self.settle_soon(),
            }
        }
    }

    fn pause_reading(&self) {
        self.flags.paused.set(true);
        self.regulate();
    }

    fn resume_reading(&self) {
        if self.flags.paused.replace(false) {
            self.regulate();
            self.look_soon();
        }
    }

    fn is_connected(&self) -> bool {
        self.ending.get() == Ending::Open && self.below.is_connected()
    }

    fn is_write_ended(&self) -> bool {
        self.flags.write_ending.get() || self.below.is_write_ended()
    }

    fn unsent(&self) -> usize {
        self.plaintext.borrow().len() + self.below.unsent()
    }

    fn is_congested(&self) -> bool {
        // As the marks have it: whoever sees this for good is told to pause.
        self.below.is_congested() || self.plaintext.borrow().len() > self.below.limits().unsent_high
    }

    fn flush(&self) -> Deferred<()> {
        if matches!(self.ending.get(), Ending::Over | Ending::Lost) {
            return fail(NotFlushed);
        }
        if self.plaintext.borrow().is_empty() {
            return self.below.flush();
        }
        let (trigger, deferred) = Deferred::new();
        self.flushes.borrow_mut().push(trigger);
        deferred
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn set_limits(&self, limits: Limits) {
        self.below.set_limits(limits);
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        if self.ending.get() == Ending::Lost {
            let reason = self
                .reason
                .take()
                .map_or(ConnectionLost::Done, |reason| *reason);
            self.socket()
                .reactor()
                .call_soon(move || receiver.connection_lost(reason));
            return;
        }
        let is_another = !self.receiver().is_some_and(|it| Rc::ptr_eq(&it, &receiver));
        let previous = self.receiver.replace(Some(receiver));
        if self.flags.told_choked.get() && is_another {
            self.flags.choke_untold.set(true);
            let this = Weak::clone(&self.this);
            self.socket().reactor().call_soon(move || {
                if let Some(stream) = this.upgrade()
                    && stream.flags.choke_untold.take()
                {
                    stream.tell(|receiver| receiver.write_paused());
                }
            });
        }
        if self.flags.told_read_ended.get() && is_another {
            self.flags.end_told_before.set(true);
            self.settle_soon();
        }
        if !self.flags.seated.replace(true) {
            self.take_below(Held::Firmly);
            if self.stage.get() != Stage::Clear {
                self.regulate();
                self.look_soon();
            }
        }
        drop(previous);
    }

    fn socket(&self) -> &dyn Socket {
        self.below.socket()
    }

    fn below(&self) -> Option<&Rc<dyn Stream>> {
        Some(&self.below)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket();
        let (stage, ending) = (self.stage.get(), self.ending.get());
        let (host, peer) = (socket.host(), socket.peer());
        write!(f, "TlsStream({host} to {peer}, {stage:?}, {ending:?})")
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        // Nobody is left to be told; a timer would keep the loop awake for nothing.
        if let Some(timer) = mem::take(self.timer.get_mut()) {
            timer.cancel();
        }
        // Nobody will ever read it or close it.
        if self.held.get() == Held::Weakly && self.below.is_connected() {
            self.below.abort_connection(ConnectionLost::Aborted);
        }
    }
}
