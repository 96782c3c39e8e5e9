//! What users implement, and the protocol that is made of it.

use std::fmt;
use std::mem;
use std::rc::{Rc, Weak};

use torsade_reactor::{ConnectionLost, Protocol, Transport};

use super::delivery::{Delivery, GoOn};
use super::split::{Delimiter, LineTooLong, Splitter};
use super::stream::LineStream;

/// What a line receiver holds: a [`Transport`] that knows lines, see [`LineStream`].
pub type LineTransport<H> = Transport<H, LineStream>;

/// One end of a conversation in lines, as callbacks.
///
/// Called on the reactor's thread, never two at a time for one connection.
///
/// # Order
///
/// As for a [`Protocol`]: `connection_made` first and once, `connection_lost` last and
/// once. Once the connection is being lost, no line is delivered any more, not even one
/// that has come already.
///
/// # Reentrancy
///
/// Every method may call everything. What it asks for holds for the next event, though
/// it may be in the same chunk.
///
/// Twisted's `LineReceiver`.
pub trait LineReceiver: Sized + 'static {
    /// Called once, before anything else, when the connection stands.
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        let _ = transport;
    }

    /// Called for each line, without its delimiter. Not called in raw mode.
    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]);

    /// Called in raw mode whenever bytes have come, in any pieces. If the raw data ends
    /// within `data`, give the rest to [`set_line_mode`](LineStream::set_line_mode).
    fn raw_data_received(&mut self, transport: &LineTransport<Self>, data: &[u8]) {
        let _ = (transport, data);
    }

    /// Called when a line is longer than it may be. By default the connection is lost
    /// with that reason.
    ///
    /// Override this to go on: the whole line is skipped, and the next one is delivered.
    fn line_length_exceeded(&mut self, transport: &LineTransport<Self>, error: LineTooLong) {
        transport.lose_connection_because(error);
    }

    /// Called when the peer has ended its stream, after the lines that came before. By
    /// default the connection is lost in order; see
    /// [`Protocol::read_connection_lost`].
    fn read_connection_lost(&mut self, transport: &LineTransport<Self>) {
        transport.lose_connection();
    }

    /// Called when the peer reads more slowly than this receiver writes; see
    /// [`Protocol::write_paused`].
    fn write_paused(&mut self, transport: &LineTransport<Self>) {
        let _ = transport;
    }

    /// Called when what is unsent has sunk to the low mark.
    fn write_resumed(&mut self, transport: &LineTransport<Self>) {
        let _ = transport;
    }

    /// Called when the connection will be lost as soon as this returns: the reactor stops, or a policy
    /// has run out of patience. For last words; see [`Protocol::about_to_be_lost`].
    fn about_to_be_lost(&mut self, transport: &LineTransport<Self>) {
        let _ = transport;
    }

    /// Called once, after everything else. The receiver is dropped when it returns.
    fn connection_lost(&mut self, reason: ConnectionLost) {
        drop(reason);
    }
}

/// The protocol that speaks lines with a [`LineReceiver`].
///
/// Lines end with `\r\n` and have at most 16384 bytes, unless it is told otherwise.
///
/// # Examples
///
/// ```
/// use torsade_protocols::lines::{Delimiter, LineReceiver, LineTransport, Lines};
///
/// struct Greeter;
///
/// impl LineReceiver for Greeter {
///     fn line_received(&mut self, transport: &LineTransport<Self>, name: &[u8]) {
///         transport.send_line(format!("Hello, {}!", name.escape_ascii()));
///     }
/// }
///
/// // For people with `nc`, whose lines end with `\n`.
/// let lines = Lines::new(Greeter).delimiter(Delimiter::LineFeed).max_length(80);
/// # drop(lines);
/// ```
pub struct Lines<H: LineReceiver> {
    stage: Stage<H>,
}

enum Stage<H: LineReceiver> {
    /// Not connected yet.
    Waiting {
        receiver: H,
        splitter: Splitter,
    },
    Connected(Rc<Delivery<H>>),
    /// For a moment, between the two.
    Between,
}

impl<H: LineReceiver> Lines<H> {
    /// Seats `receiver` on the lines of a connection.
    pub fn new(receiver: H) -> Self {
        Self {
            stage: Stage::Waiting {
                receiver,
                splitter: Splitter::default(),
            },
        }
    }

    /// Ends lines with this, in both directions. By default [`Delimiter::CrLf`].
    #[must_use]
    pub fn delimiter(mut self, delimiter: impl Into<Delimiter>) -> Self {
        match &mut self.stage {
            // Nothing has come yet that could be given back.
            Stage::Waiting { splitter, .. } => drop(splitter.set_delimiter(delimiter.into())),
            Stage::Connected(delivery) => delivery.transport.set_delimiter(delimiter),
            Stage::Between => {}
        }
        self
    }

    /// Accepts lines up to this length, the delimiter not counted. By default 16384.
    #[must_use]
    pub fn max_length(mut self, max_length: usize) -> Self {
        match &mut self.stage {
            // Nothing has come yet that could be given back.
            Stage::Waiting { splitter, .. } => drop(splitter.set_max_length(max_length)),
            Stage::Connected(delivery) => delivery.transport.set_max_length(max_length),
            Stage::Between => {}
        }
        self
    }

    /// The receiver's own transport; `None` before `connection_made`.
    ///
    /// Who has connected and now holds a `Transport<Lines<H>>` finds it by
    /// [`ToLines`](super::ToLines).
    #[must_use]
    pub fn transport(&self) -> Option<&LineTransport<H>> {
        match &self.stage {
            Stage::Connected(delivery) => Some(&delivery.transport),
            Stage::Waiting { .. } | Stage::Between => None,
        }
    }

    fn delivery(&self) -> Option<&Delivery<H>> {
        match &self.stage {
            Stage::Connected(delivery) => Some(delivery),
            Stage::Waiting { .. } | Stage::Between => None,
        }
    }
}

impl<H: LineReceiver> Protocol for Lines<H> {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        let Stage::Waiting { receiver, splitter } = mem::replace(&mut self.stage, Stage::Between)
        else {
            unreachable!("a connection is made once");
        };
        let stream = LineStream::over(Rc::clone(transport.stream()), splitter);
        let delivery = Rc::new(Delivery {
            transport: Transport::over(receiver, Rc::clone(&stream)),
        });
        let weak = Rc::downgrade(&delivery);
        stream.set_delivery(weak as Weak<dyn GoOn>);
        self.stage = Stage::Connected(Rc::clone(&delivery));
        delivery.transport.call(H::connection_made);
    }

    fn data_received(&mut self, _transport: &Transport<Self>, data: &[u8]) {
        if let Some(delivery) = self.delivery() {
            delivery.data_received(data);
        }
    }

    fn read_connection_lost(&mut self, _transport: &Transport<Self>) {
        if let Some(delivery) = self.delivery() {
            delivery.read_connection_lost();
        }
    }

    fn write_paused(&mut self, _transport: &Transport<Self>) {
        if let Some(delivery) = self.delivery() {
            delivery.write_paused();
        }
    }

    fn write_resumed(&mut self, _transport: &Transport<Self>) {
        if let Some(delivery) = self.delivery() {
            delivery.write_resumed();
        }
    }

    fn about_to_be_lost(&mut self, _transport: &Transport<Self>) {
        if let Some(delivery) = self.delivery() {
            delivery.about_to_be_lost();
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        if let Some(delivery) = self.delivery() {
            delivery.connection_lost(reason);
        }
    }
}

/// A line receiver may keep its own transport, and so itself: where no end has come (the machine has
/// crashed), it is let go here.
impl<H: LineReceiver> Drop for Lines<H> {
    fn drop(&mut self) {
        if let Stage::Connected(delivery) = &self.stage {
            delivery.vanish();
        }
    }
}

impl<H: LineReceiver> fmt::Debug for Lines<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Waiting { .. } => f.write_str("Lines(not connected)"),
            Stage::Connected(delivery) => write!(f, "Lines({:?})", delivery.transport.stream()),
            Stage::Between => f.write_str("Lines(connecting)"),
        }
    }
}
