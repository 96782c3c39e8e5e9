//! How long a connection may be silent.
//!
//! # Order
//!
//! A connection whose silence has lasted the whole period is lost, and one that spoke within it
//! is not, also if the loop comes late.
//!
//! # Design
//!
//! A sign of life reads the clock and is remembered; no timer moves. When the timer comes, it
//! goes back to sleep for what is left since the last one: one timer a connection, and one call
//! a period, however many messages there are.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::Deferred;

use crate::core::Core;
use crate::delayed_call::DelayedCall;
use crate::endpoints::ServerEndpoint;
use crate::error::ConnectionLost;
use crate::policies::layer::{Policy, PolicyStream};
use crate::protocol::Acceptor;
use crate::reactor::Reactor;
use crate::sockets::Port;
use crate::stream::Stream;
use crate::transport::Transport;

/// Twisted's `TimeoutFactory`.
const PERIOD: Duration = Duration::from_secs(30 * 60);

const SIGN_OF_LIFE: &str = "a sign of life";

/// How long a protocol's peer may be silent, as the protocol itself sees it: a field of the
/// protocol, which is off until [`set_timeout`](IdleTimeout::set_timeout), and ends with it.
///
/// Whatever counts as a sign of life (a line, a request, not a single byte) calls
/// [`reset_timeout`](IdleTimeout::reset_timeout), which is cheap. Twisted's `TimeoutMixin`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::testing::{memory_pair, virtual_time_reactor};
/// use torsade_reactor::{ConnectionLost, IdleTimeout, Protocol, Transport};
///
/// #[derive(Default)]
/// struct Impatient {
///     idle: IdleTimeout,
/// }
///
/// impl Protocol for Impatient {
///     fn connection_made(&mut self, transport: &Transport<Self>) {
///         self.idle.set_timeout(transport, Some(Duration::from_secs(60)));
///     }
///
///     fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
///         self.idle.reset_timeout();
///     }
///
///     fn connection_lost(&mut self, reason: ConnectionLost) {
///         assert!(matches!(reason, ConnectionLost::TimedOut { .. }));
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = virtual_time_reactor();
/// let pair = memory_pair(&reactor);
/// let server = Transport::connect(Impatient::default(), pair.server);
/// let wait = torsade_reactor::task::sleep(&reactor, Duration::from_secs(61));
/// reactor.run_until(wait)?;
/// assert!(!server.is_connected());
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct IdleTimeout {
    silence: RefCell<Option<Rc<Silence>>>,
}

impl IdleTimeout {
    /// Has the connection lost, in order, with [`ConnectionLost::TimedOut`], when `period` has
    /// passed without a [`reset_timeout`](IdleTimeout::reset_timeout); begins now. `None` turns
    /// it off. Answers the period before.
    ///
    /// # Reentrancy
    ///
    /// From any callback; the connection is not lost from inside this.
    pub fn set_timeout<P: 'static, S: Stream + ?Sized>(
        &self,
        transport: &Transport<P, S>,
        period: Option<Duration>,
    ) -> Option<Duration> {
        let limit = period.unwrap_or_default();
        self.set_timeout_calling(transport, period, move |_, transport| {
            transport
                .stream()
                .lose_connection(ConnectionLost::TimedOut {
                    waiting_for: SIGN_OF_LIFE,
                    limit,
                });
        })
    }

    /// As [`set_timeout`](IdleTimeout::set_timeout), but calls `timed_out` with the protocol,
    /// once, in place of losing the connection. Off from then on, until the next
    /// `set_timeout`. Twisted's `timeoutConnection`.
    pub fn set_timeout_calling<P: 'static, S: Stream + ?Sized>(
        &self,
        transport: &Transport<P, S>,
        period: Option<Duration>,
        timed_out: impl FnOnce(&mut P, &Transport<P, S>) + 'static,
    ) -> Option<Duration> {
        let silence = period.map(|period| {
            // Weak: this is kept by the protocol, which the transport keeps.
            let weak = transport.downgrade();
            let expire = move || {
                if let Some(transport) = weak.upgrade() {
                    transport.call(timed_out);
                }
            };
            Silence::begin(&transport.reactor(), period, || 0, expire)
        });
        // Detach, then drop: what it was to call is the user's.
        let previous = self.silence.replace(silence);
        previous.and_then(|silence| silence.running_period())
    }

    /// The peer has shown life: the period begins again. Nothing, while it is off.
    pub fn reset_timeout(&self) {
        if let Some(silence) = &*self.silence.borrow() {
            silence.interrupt();
        }
    }

    /// The period, unless it is off.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let silence = self.silence.borrow();
        silence
            .as_ref()
            .and_then(|silence| silence.running_period())
    }
}

impl fmt::Debug for IdleTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timeout() {
            Some(period) => write!(f, "IdleTimeout({period:?})"),
            None => f.write_str("IdleTimeout(off)"),
        }
    }
}

/// Listens at the endpoint below, and loses connections that are silent for too long: 30
/// minutes unless [`timeout`](TimeoutServerEndpoint::timeout) says otherwise.
///
/// Every read and every write begins the period again, and so does what is unsent when some of
/// it has left within a period: a long download is not silence, and a peer that stops taking
/// one is lost after two periods at the latest. Lost in order, with
/// [`ConnectionLost::TimedOut`]. Twisted's `TimeoutFactory`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::{TcpServerEndpoint, TimeoutServerEndpoint};
///
/// let below = TcpServerEndpoint::new("127.0.0.1:8007");
/// let endpoint = TimeoutServerEndpoint::new(below).timeout(Duration::from_secs(120));
/// # drop(endpoint);
/// ```
#[derive(Clone, Debug)]
pub struct TimeoutServerEndpoint<E> {
    below: E,
    period: Duration,
}

impl<E: ServerEndpoint> TimeoutServerEndpoint<E> {
    /// Listens at `below`.
    pub fn new(below: E) -> Self {
        Self {
            below,
            period: PERIOD,
        }
    }

    /// How long a connection may be silent.
    #[must_use]
    pub fn timeout(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }
}

impl<E: ServerEndpoint> ServerEndpoint for TimeoutServerEndpoint<E> {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let timing = Timing {
            above: acceptor,
            period: self.period,
        };
        self.below.listen_streams(reactor, Rc::new(timing))
    }
}

struct Timing {
    above: Rc<dyn Acceptor>,
    period: Duration,
}

impl Acceptor for Timing {
    fn accept(&self, below: Rc<dyn Stream>) {
        let (reactor, limit) = (below.socket().reactor(), self.period);
        let measured = Rc::downgrade(&below);
        let layer = Rc::new(OnceCell::<Weak<PolicyStream<Rc<Silence>>>>::new());
        let silent = Rc::clone(&layer);
        let unsent = move || measured.upgrade().map_or(0, |stream| stream.unsent());
        let expire = move || {
            if let Some(stream) = silent.get().and_then(Weak::upgrade) {
                stream.lose(ConnectionLost::TimedOut {
                    waiting_for: SIGN_OF_LIFE,
                    limit,
                });
            }
        };
        let silence = Silence::begin(&reactor, limit, unsent, expire);
        let stream = PolicyStream::over(below, silence);
        // It is empty until here.
        let _ = layer.set(Rc::downgrade(&stream));
        stream.hand_on(|stream| self.above.accept(stream));
    }

    fn start_listening(&self) {
        self.above.start_listening();
    }

    fn stop_listening(&self) {
        self.above.stop_listening();
    }
}

impl Policy for Rc<Silence> {
    fn received(&self, _: usize) {
        self.interrupt();
    }

    fn written(&self, _: usize) {
        self.interrupt();
    }

    fn connection_lost(&self) {
        self.end();
    }
}

/// A silence that may last for a period.
struct Silence {
    core: Weak<Core>,
    period: Duration,
    last_sign: Cell<Instant>,
    /// What waits to leave. That it moves is a sign of life, too.
    unsent: Box<dyn Fn() -> usize>,
    /// What it was when the timer came last.
    seen_unsent: Cell<usize>,
    timer: RefCell<Option<DelayedCall>>,
    expire: Cell<Option<Box<dyn FnOnce()>>>,
}

impl Silence {
    fn begin(
        reactor: &Reactor,
        period: Duration,
        unsent: impl Fn() -> usize + 'static,
        expire: impl FnOnce() + 'static,
    ) -> Rc<Self> {
        let silence = Rc::new(Self {
            core: Rc::downgrade(reactor.core()),
            period,
            last_sign: Cell::new(reactor.now()),
            seen_unsent: Cell::new(unsent()),
            unsent: Box::new(unsent),
            timer: RefCell::default(),
            expire: Cell::new(Some(Box::new(expire))),
        });
        silence.look_in(period);
        silence
    }

    fn interrupt(&self) {
        if let Some(core) = self.core.upgrade() {
            self.last_sign.set(core.now());
        }
    }

    /// `None` when it has expired.
    fn running_period(&self) -> Option<Duration> {
        self.timer.borrow().is_some().then_some(self.period)
    }

    fn look_in(self: &Rc<Self>, delay: Duration) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let weak = Rc::downgrade(self);
        let call = core.call_later(delay, move || {
            if let Some(silence) = weak.upgrade() {
                silence.look();
            }
        });
        self.timer.replace(Some(call));
    }

    fn look(self: &Rc<Self>) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let silent = core.now().saturating_duration_since(self.last_sign.get());
        let unsent = (self.unsent)();
        let moved = self.seen_unsent.replace(unsent) != unsent;
        if silent < self.period {
            self.look_in(self.period.saturating_sub(silent));
        } else if moved {
            self.look_in(self.period);
        } else if let Some(expire) = self.expire.take() {
            // Detach, then call.
            self.timer.take();
            expire();
        }
    }

    fn end(&self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.end();
    }
}
