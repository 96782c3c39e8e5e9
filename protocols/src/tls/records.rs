//! Records to plaintext and back: rustls, and the bytes that are not whole yet. Pure.
//!
//! # Design
//!
//! rustls's unbuffered interface: records are decrypted where they lie, in the reactor's
//! own read buffer, and a connection whose peer is silent keeps no buffer. (Its buffered
//! interface reads 4 KiB at a time into a buffer that each connection keeps.) What is left of a
//! chunk, an unfinished record, is kept here until the rest has come.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadTraffic, UnbufferedStatus,
};
use rustls::{CommonState, Error, HandshakeKind};

use super::session::{Asked, Session};

/// What a record has on top of its plaintext, at most: header, explicit nonce, content
/// type, tag (RFC 8446 §5.2 and RFC 5288 §3: 22 and 29 bytes).
const OVERHEAD: usize = 32;

/// The most plaintext that one record carries (RFC 8446 §5.1).
pub(super) const RECORD: usize = 16 * 1024;

/// What came out of the records.
pub(super) enum Event<'a> {
    /// The handshake is complete. Before all data.
    Secured(Session),
    Data(&'a [u8]),
    /// The peer's closing alert: there is no more data.
    PeerClosed,
}

/// Whether whoever was told of an event wants the next one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Stop,
}

pub(super) struct Records {
    side: Side,
    /// Bytes that have come and have not been used up.
    kept: Vec<u8>,
    /// How many of them rustls has seen: what it has seen belongs to a message that is not
    /// whole, and it wants to see it again. Invariant: `seen <= kept.len()`.
    seen: usize,
    beginning: Beginning,
    asked: Asked,
}

/// How far whoever is told of events is with the end of the handshake, and what came together with
/// its last message: rustls gives that away once, and writes nothing before it has.
#[derive(Default)]
struct Beginning {
    told: Told,
    /// Invariant: empty, and not closed, once all is told.
    data: Vec<u8>,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    /// That the handshake is complete.
    Secured,
    /// That, and what came with it.
    All,
}

impl Beginning {
    /// Tells the rest, until told to stop.
    #[cold]
    fn tell_of_the_rest(&mut self, tell: &mut impl FnMut(Event<'_>) -> Then) -> Then {
        let data = std::mem::take(&mut self.data);
        let mut then = Then::GoOn;
        if !data.is_empty() {
            then = tell(Event::Data(&data));
        }
        if self.is_closed && then == Then::GoOn {
            self.is_closed = false;
            then = tell(Event::PeerClosed);
        }
        if !self.is_closed {
            self.told = Told::All;
        }
        then
    }

    /// Keeps what rustls gives away at a moment at which nobody is to be told: for the next time.
    #[cold]
    fn keep<Data>(&mut self, mut traffic: ReadTraffic<'_, '_, Data>) {
        while let Some(Ok(record)) = traffic.next_record() {
            self.data.extend_from_slice(record.payload);
        }
        self.tell_later();
    }

    #[cold]
    fn keep_end(&mut self) {
        self.is_closed = true;
        self.tell_later();
    }

    fn tell_later(&mut self) {
        if self.told == Told::All {
            self.told = Told::Secured;
        }
    }
}

/// Bytes to be sent, in memory that is longer: what is behind them need not be filled with zeros
/// for the next ones.
#[derive(Default)]
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    // Invariant: at most `buffer.len()`.
    used: usize,
}

impl Outgoing {
    pub(super) fn over(buffer: Vec<u8>) -> Self {
        Self { buffer, used: 0 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.buffer[..self.used]
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Memory behind what is there, for as much.
    fn room(&mut self, count: usize) -> &mut [u8] {
        if self.buffer.len() < self.used + count {
            self.buffer.resize(self.used + count, 0);
        }
        &mut self.buffer[self.used..]
    }

    /// So much of the room has been filled.
    fn add(&mut self, count: usize) {
        self.used += count;
    }
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// The one thing that rustls has for each side and not for both.
trait Process {
    type Data;
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8])
    -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        records: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        records: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

/// Runs the same code for whichever side it is.
macro_rules! either {
    ($side:expr, $connection:ident => $code:expr) => {
        match $side {
            Side::Client($connection) => $code,
            Side::Server($connection) => $code,
        }
    };
}

impl Records {
    pub(super) fn client(connection: UnbufferedClientConnection, asked: Asked) -> Self {
        Self::new(Side::Client(Box::new(connection)), asked)
    }

    pub(super) fn server(connection: UnbufferedServerConnection, asked: Asked) -> Self {
        Self::new(Side::Server(Box::new(connection)), asked)
    }

    fn new(side: Side, asked: Asked) -> Self {
        Self {
            side,
            kept: Vec::new(),
            seen: 0,
            beginning: Beginning::default(),
            asked,
        }
    }

    /// Keeps `data` behind what is kept, for the next [`receive`](Self::receive).
    pub(super) fn keep(&mut self, data: &[u8]) {
        self.kept.extend_from_slice(data);
    }

    /// Takes in `data`, tells what was in it, and puts what is to be sent to `outgoing`.
    ///
    /// What is left when `tell` says stop is kept.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol or is not who it should be. What is in `outgoing` says so to
    /// it. There is no going on.
    pub(super) fn receive(
        &mut self,
        mut data: &mut [u8],
        outgoing: &mut Outgoing,
        mut tell: impl FnMut(Event<'_>) -> Then,
    ) -> Result<(), Error> {
        if !self.kept.is_empty() {
            // The rest of one record, so that the others can be used where they lie.
            let wanted = missing(&self.kept).unwrap_or(data.len()).min(data.len());
            let (rest, others) = data.split_at_mut(wanted);
            self.kept.extend_from_slice(rest);
            let mut kept = std::mem::take(&mut self.kept);
            let (used, outcome) = self.take_in(&mut kept, outgoing, &mut tell);
            let stopped = matches!(outcome, Ok(Then::Stop));
            self.seen = if stopped { 0 } else { kept.len() - used };
            if used < kept.len() {
                kept.drain(..used);
                self.kept = kept;
            }
            if !self.kept.is_empty() || stopped || outcome.is_err() {
                self.kept.extend_from_slice(others);
                let wants_more = outcome? == Then::GoOn && self.seen < self.kept.len();
                // A message of several records: all that has come, at once.
                return if wants_more {
                    self.receive(&mut [], outgoing, tell)
                } else {
                    Ok(())
                };
            }
            data = others;
        }
        let (used, outcome) = self.take_in(data, outgoing, &mut tell);
        self.kept.extend_from_slice(&data[used..]);
        let stopped = outcome? == Then::Stop;
        self.seen = if stopped { 0 } else { self.kept.len() };
        Ok(())
    }

    fn take_in(
        &mut self,
        data: &mut [u8],
        outgoing: &mut Outgoing,
        tell: &mut impl FnMut(Event<'_>) -> Then,
    ) -> (usize, Result<Then, Error>) {
        let (beginning, asked) = (&mut self.beginning, &self.asked);
        if beginning.told == Told::Secured && beginning.tell_of_the_rest(tell) == Then::Stop {
            return (0, Ok(Then::Stop));
        }
        either!(&mut self.side, connection => take_in(&mut **connection, beginning, asked, data, outgoing, tell))
    }

    /// Encrypts `plaintext` into `outgoing`.
    ///
    /// # Errors
    ///
    /// The keys are used up, and the peer speaks a version that cannot renew them.
    pub(super) fn encrypt(
        &mut self,
        plaintext: &[u8],
        outgoing: &mut Outgoing,
    ) -> Result<(), Error> {
        self.write(outgoing, Message::Data(plaintext))
    }

    /// Puts the closing alert into `outgoing`.
    pub(super) fn close(&mut self, outgoing: &mut Outgoing) -> Result<(), Error> {
        self.write(outgoing, Message::Close)
    }

    fn write(&mut self, outgoing: &mut Outgoing, message: Message<'_>) -> Result<(), Error> {
        let (seen, beginning) = (&mut self.kept[..self.seen], &mut self.beginning);
        let (used, outcome) = either!(&mut self.side, connection => write(&mut **connection, beginning, seen, outgoing, message));
        self.kept.drain(..used);
        self.seen -= used;
        outcome
    }
}

enum Message<'a> {
    Data(&'a [u8]),
    Close,
}

fn take_in<C: Process>(
    connection: &mut C,
    beginning: &mut Beginning,
    asked: &Asked,
    data: &mut [u8],
    outgoing: &mut Outgoing,
    tell: &mut impl FnMut(Event<'_>) -> Then,
) -> (usize, Result<Then, Error>) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process(&mut data[used..]);
        let mut then = Then::GoOn;
        let mut is_dry = false;
        match state {
            Err(error) => {
                send_what_is_left(connection, outgoing);
                return (used + discard, Err(error));
            }
            Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, outgoing),
            // Who calls us sends what is in `outgoing`, before anything else.
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::ReadTraffic(mut traffic)) if beginning.told == Told::All => {
                while let Some(Ok(record)) = traffic.next_record() {
                    used += record.discard;
                    then = tell(Event::Data(record.payload));
                }
                // All was used up: rustls need not be asked once more to say so.
                is_dry = used + discard == data.len() && !connection.common().wants_write();
            }
            Ok(ConnectionState::PeerClosed) if beginning.told == Told::All => {
                then = tell(Event::PeerClosed);
            }
            // Order: that the handshake is complete is told first, below.
            Ok(ConnectionState::ReadTraffic(traffic)) => beginning.keep(traffic),
            Ok(ConnectionState::PeerClosed) => beginning.keep_end(),
            Ok(ConnectionState::ReadEarlyData(_)) => {
                let error = "early data is not taken: it can be replayed";
                return (used + discard, Err(Error::General(error.into())));
            }
            // Blocked, ready to write, or closed: until more comes.
            Ok(_) => is_dry = true,
        }
        used += discard;
        let common = connection.common();
        // Our own last messages are put out first: the peer waits for them, and whoever is told may say
        // stop.
        if beginning.told == Told::Nothing && !common.is_handshaking() && !common.wants_write() {
            beginning.told = Told::Secured;
            then = tell(Event::Secured(Session::of(common, asked)));
            if then == Then::GoOn {
                then = beginning.tell_of_the_rest(tell);
            }
            is_dry = false;
        }
        if is_dry || then == Then::Stop {
            return (used, Ok(then));
        }
    }
}

/// After an error: the alert that tells the peer. The connection is not asked for anything else,
/// since it would look at the same bytes again.
fn send_what_is_left<C: Process>(connection: &mut C, outgoing: &mut Outgoing) {
    while connection.common().wants_write() {
        match connection.process(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, outgoing),
            // Data that nobody will be told of any more, and that lies in front of the alert.
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while traffic.next_record().is_some() {}
            }
            _ => return,
        }
    }
}

fn encode<Data>(mut chunk: EncodeTlsData<'_, Data>, outgoing: &mut Outgoing) {
    if let Err(EncodeError::InsufficientSize(size)) = chunk.encode(&mut []) {
        let encoded = chunk.encode(outgoing.room(size.required_size));
        outgoing.add(encoded.unwrap_or(0));
    }
}

fn write<C: Process>(
    connection: &mut C,
    beginning: &mut Beginning,
    seen: &mut [u8],
    outgoing: &mut Outgoing,
    message: Message<'_>,
) -> (usize, Result<(), Error>) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process(&mut seen[used..]);
        used += discard;
        let mut writer = match state {
            Err(error) => return (used, Err(error)),
            Ok(ConnectionState::WriteTraffic(writer)) => writer,
            Ok(ConnectionState::EncodeTlsData(chunk)) => {
                encode(chunk, outgoing);
                continue;
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                continue;
            }
            // Nobody is told from in here: with the next bytes that come.
            Ok(ConnectionState::ReadTraffic(traffic)) => {
                beginning.keep(traffic);
                continue;
            }
            Ok(ConnectionState::PeerClosed) => {
                beginning.keep_end();
                continue;
            }
            // Not secured, or our side is closed: there is nothing to be said any more.
            Ok(_) => return (used, Ok(())),
        };
        let mut wanted = match message {
            Message::Data(plaintext) => plaintext.len() + (plaintext.len() / RECORD + 1) * OVERHEAD,
            Message::Close => 2 + OVERHEAD,
        };
        loop {
            let room = outgoing.room(wanted);
            let written = match message {
                Message::Data(plaintext) => writer.encrypt(plaintext, room),
                Message::Close => writer.queue_close_notify(room),
            };
            match written {
                Ok(count) => {
                    outgoing.add(count);
                    return (used, Ok(()));
                }
                // There was more to be said first, such as a change of keys.
                Err(EncryptError::InsufficientSize(size)) => wanted = size.required_size,
                Err(EncryptError::EncryptExhausted) => return (used, Err(Error::EncryptError)),
            }
        }
    }
}

/// How many bytes the record at the beginning of `kept` still wants; `None` if it is not that
/// simple.
fn missing(kept: &[u8]) -> Option<usize> {
    // RFC 8446 §5.1: type, version (2), length (2).
    const HEADER: usize = 5;
    let Some(header) = kept.get(..HEADER) else {
        return Some(HEADER - kept.len());
    };
    let whole = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    whole.checked_sub(kept.len()).filter(|wanted| *wanted > 0)
}

/// Whether a former session was taken up again.
pub(super) fn is_resumed(common: &CommonState) -> bool {
    common.handshake_kind() == Some(HandshakeKind::Resumed)
}
