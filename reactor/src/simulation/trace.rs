//! What happened in a simulation, in order.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// A host asked another for a connection.
    Connecting {
        /// Who asked.
        from: SocketAddr,
        /// Who was asked.
        to: SocketAddr,
    },
    /// The connection is made: both hosts know that the other does, and somebody listens there.
    Connected {
        /// Who asked.
        from: SocketAddr,
        /// Who was asked.
        to: SocketAddr,
    },
    /// Nobody listens there.
    Refused {
        /// Who asked.
        from: SocketAddr,
        /// Who was asked.
        to: SocketAddr,
    },
    /// A request came to a host, and too many wait there already to be accepted.
    Dropped {
        /// Who asked.
        from: SocketAddr,
        /// Who was asked.
        to: SocketAddr,
    },
    /// Bytes left one host for the other.
    Sent {
        /// Whose bytes.
        from: SocketAddr,
        /// Where to.
        to: SocketAddr,
        /// How many.
        len: usize,
        /// Whether the stream ends behind them.
        end: bool,
    },
    /// Bytes arrived.
    Arrived {
        /// Whose bytes.
        from: SocketAddr,
        /// Where.
        to: SocketAddr,
        /// How many.
        len: usize,
        /// Whether the stream ends behind them.
        end: bool,
    },
    /// Something was sent and will not arrive.
    Lost {
        /// Who sent it.
        from: SocketAddr,
        /// Where to.
        to: SocketAddr,
    },
    /// A host told the other that it knows nothing of their connection.
    Reset {
        /// Who told.
        from: SocketAddr,
        /// Who was told.
        to: SocketAddr,
    },
    /// A host gave up on a peer that is silent.
    GaveUp {
        /// Who gave up.
        from: SocketAddr,
        /// On whom.
        to: SocketAddr,
    },
    /// A datagram left a host.
    DatagramSent {
        /// Whose it is.
        from: SocketAddr,
        /// Where to.
        to: SocketAddr,
        /// How many bytes.
        len: usize,
    },
    /// A datagram arrived, and waits to be received.
    DatagramArrived {
        /// Whose it is.
        from: SocketAddr,
        /// Where.
        to: SocketAddr,
        /// How many bytes.
        len: usize,
    },
    /// A datagram will not arrive.
    DatagramLost {
        /// Whose it is.
        from: SocketAddr,
        /// Where to.
        to: SocketAddr,
        /// How many bytes.
        len: usize,
    },
    /// A datagram arrived, and too many wait to be received there already.
    DatagramDropped {
        /// Whose it is.
        from: SocketAddr,
        /// Where.
        to: SocketAddr,
        /// How many bytes.
        len: usize,
    },
    /// A datagram arrived, and nobody listens there.
    DatagramRefused {
        /// Whose it is.
        from: SocketAddr,
        /// Where.
        to: SocketAddr,
    },
    /// Somebody did something to a host or a link, or wrote this down.
    Note(Rc<str>),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = |end| if end { " and the end" } else { "" };
        match self {
            Self::Connecting { from, to } => write!(f, "{from} -> {to} connects"),
            Self::Connected { from, to } => write!(f, "{from} -> {to} is connected"),
            Self::Refused { from, to } => write!(f, "{from} -> {to} is refused"),
            Self::Dropped { from, to } => write!(f, "{from} -> {to} finds no room"),
            Self::Sent { from, to, len, end } => {
                write!(f, "{from} -> {to} sends {len} bytes{}", ending(*end))
            }
            Self::Arrived { from, to, len, end } => {
                write!(f, "{from} -> {to} gets {len} bytes{}", ending(*end))
            }
            Self::Lost { from, to } => write!(f, "{from} -> {to} is lost"),
            Self::Reset { from, to } => write!(f, "{from} -> {to} resets"),
            Self::GaveUp { from, to } => write!(f, "{from} -> {to} gives up"),
            Self::DatagramSent { from, to, len } => {
                write!(f, "{from} -> {to} sends a datagram of {len} bytes")
            }
            Self::DatagramArrived { from, to, len } => {
                write!(f, "{from} -> {to} gets a datagram of {len} bytes")
            }
            Self::DatagramLost { from, to, len } => {
                write!(f, "{from} -> {to} a datagram of {len} bytes is lost")
            }
            Self::DatagramDropped { from, to, len } => {
                write!(f, "{from} -> {to} a datagram of {len} bytes finds no room")
            }
            Self::DatagramRefused { from, to } => {
                write!(f, "{from} -> {to} nobody listens for datagrams")
            }
            Self::Note(text) => f.write_str(text),
        }
    }
}

/// The record of a simulation.
///
/// Two runs of a seed have equal traces, on any machine. It displays as one line for each
/// event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    events: Vec<(Duration, Happening)>,
    /// Events beyond the bound, of which only the fingerprint is kept.
    left_out: usize,
    fingerprint: u64,
}

/// Events that a trace keeps: some hundred MiB. The fingerprint goes on.
const KEPT_MAX: usize = 2_000_000;

impl Trace {
    /// The events and when they happened, since the beginning.
    #[must_use]
    pub fn events(&self) -> &[(Duration, Happening)] {
        &self.events
    }

    /// A number that is equal for equal traces, whatever their length.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The lines that contain `text`.
    pub fn find(&self, text: &str) -> impl Iterator<Item = String> {
        let lines = self.events.iter().map(|(at, what)| line(*at, what));
        lines.filter(move |line| line.contains(text))
    }

    pub(super) fn add(&mut self, at: Duration, what: Happening) {
        let mut mixed = self.fingerprint ^ at.as_nanos() as u64;
        let mut mix = |number: u64| {
            mixed = (mixed ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed ^= mixed >> 32;
        };
        let mut mix_ends = |kind: u64, from: &SocketAddr, to: &SocketAddr| {
            mix(kind);
            mix(number(from));
            mix(number(to));
        };
        match &what {
            Happening::Connecting { from, to } => mix_ends(1, from, to),
            Happening::Connected { from, to } => mix_ends(2, from, to),
            Happening::Refused { from, to } => mix_ends(3, from, to),
            Happening::Sent { from, to, len, end } => {
                mix_ends(4 + (*len as u64) * 16 + u64::from(*end) * 8, from, to);
            }
            Happening::Arrived { from, to, len, end } => {
                mix_ends(5 + (*len as u64) * 16 + u64::from(*end) * 8, from, to);
            }
            Happening::Lost { from, to } => mix_ends(6, from, to),
            Happening::Reset { from, to } => mix_ends(7, from, to),
            Happening::GaveUp { from, to } => mix_ends(9, from, to),
            Happening::DatagramSent { from, to, len } => {
                mix_ends(10 + (*len as u64) * 16, from, to);
            }
            Happening::DatagramArrived { from, to, len } => {
                mix_ends(11 + (*len as u64) * 16, from, to);
            }
            Happening::DatagramLost { from, to, len } => {
                mix_ends(12 + (*len as u64) * 16, from, to);
            }
            Happening::DatagramDropped { from, to, len } => {
                mix_ends(13 + (*len as u64) * 16, from, to);
            }
            Happening::DatagramRefused { from, to } => mix_ends(14, from, to),
            Happening::Dropped { from, to } => mix_ends(15, from, to),
            Happening::Note(text) => text.bytes().for_each(|byte| mix(u64::from(byte))),
        }
        self.fingerprint = mixed;
        if self.events.len() < KEPT_MAX {
            self.events.push((at, what));
        } else {
            self.left_out += 1;
        }
    }
}

fn number(address: &SocketAddr) -> u64 {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => u64::from(u32::from(ip)),
        std::net::IpAddr::V6(ip) => u128::from(ip) as u64,
    };
    ip << 16 | u64::from(address.port())
}

fn line(at: Duration, what: &Happening) -> String {
    format!("{:>14.6} s  {what}", at.as_secs_f64())
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, what) in &self.events {
            writeln!(f, "{}", line(*at, what))?;
        }
        if self.left_out > 0 {
            writeln!(f, "and {} more events", self.left_out)?;
        }
        Ok(())
    }
}
