//! How many bytes a second a connection may read and write.
//!
//! # Design
//!
//! A bucket is one point in time: when it would be full again. Bytes move it on by what they
//! cost, time passes by itself; so there is a timer only for who is held up, and none for who
//! is idle or within the limit.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::Deferred;

use crate::core::Core;
use crate::delayed_call::DelayedCall;
use crate::endpoints::{ClientEndpoint, ServerEndpoint};
use crate::policies::layer::{Policy, PolicyStream};
use crate::protocol::Acceptor;
use crate::reactor::Reactor;
use crate::sockets::Port;
use crate::stream::Stream;

/// What no limit lets anybody wait for at once.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// So many bytes a second, on the average; each connection has its own, unless it is
/// [`in_all`](RateLimit::in_all).
///
/// See [`RateLimitedServerEndpoint`].
#[derive(Clone, Debug)]
pub struct RateLimit {
    bytes_per_second: u64,
    burst: u64,
    shared: Option<Rc<Bucket>>,
}

impl RateLimit {
    /// At most so many bytes a second (none is one), with a [`burst`](RateLimit::burst) of one
    /// second's.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        Self {
            bytes_per_second,
            burst: bytes_per_second,
            shared: None,
        }
    }

    /// How many bytes may pass at once after a while of silence (none is one).
    #[must_use]
    pub fn burst(mut self, bytes: u64) -> Self {
        self.burst = bytes.max(1);
        self
    }

    /// The limit is one for all connections, and for all endpoints that are given a clone of
    /// it, in place of one for each: as Twisted's `ThrottlingFactory` has it.
    #[must_use]
    pub fn in_all(mut self) -> Self {
        self.shared = Some(Rc::default());
        self
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        u64::try_from(nanos).map_or(FOREVER, |nanos| Duration::from_nanos(nanos).min(FOREVER))
    }
}

/// Listens at the endpoint below; each connection reads and writes no faster than the limits
/// say. Twisted's `ThrottlingFactory`.
///
/// *Reading* stops when the burst is used up, and goes on when a quarter of it is there again:
/// the peer is slowed down as by any reader that is slow. What one read brings is never cut in
/// two, but paid for afterwards.
///
/// *Writing* tells the protocol [`write_paused`](crate::Protocol::write_paused), and in time
/// [`write_resumed`](crate::Protocol::write_resumed), and pauses its producer, as a slow peer
/// does. What is written all the same is sent at once, and paid for afterwards, so it is on who
/// heeds them that the limit holds; files are read and sent in pieces, not by `sendfile`.
///
/// Around a TLS endpoint the protocol's bytes count, below it those on the wire.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{RateLimit, RateLimitedServerEndpoint, TcpServerEndpoint};
///
/// // A megabyte a second for each who downloads, ten for everybody's uploads together.
/// let below = TcpServerEndpoint::new("127.0.0.1:8007");
/// let endpoint = RateLimitedServerEndpoint::new(below)
///     .writing(RateLimit::new(1_000_000).burst(64_000))
///     .reading(RateLimit::new(10_000_000).in_all());
/// # drop(endpoint);
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitedServerEndpoint<E> {
    below: E,
    rates: Rates,
}

impl<E: ServerEndpoint> RateLimitedServerEndpoint<E> {
    /// Listens at `below`; there is no limit until one is set.
    pub fn new(below: E) -> Self {
        Self {
            below,
            rates: Rates::default(),
        }
    }

    /// How fast connections may read.
    #[must_use]
    pub fn reading(mut self, limit: RateLimit) -> Self {
        self.rates.reading = Some(limit);
        self
    }

    /// How fast connections may write.
    #[must_use]
    pub fn writing(mut self, limit: RateLimit) -> Self {
        self.rates.writing = Some(limit);
        self
    }
}

impl<E: ServerEndpoint> ServerEndpoint for RateLimitedServerEndpoint<E> {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let metering = Metering {
            above: acceptor,
            rates: self.rates.clone(),
        };
        self.below.listen_streams(reactor, Rc::new(metering))
    }
}

#[derive(Clone, Debug, Default)]
struct Rates {
    reading: Option<RateLimit>,
    writing: Option<RateLimit>,
}

/// Connects to the endpoint below; the connection reads and writes no faster than the limits say,
/// as those of a [`RateLimitedServerEndpoint`] do.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{RateLimit, RateLimitedClientEndpoint, TcpClientEndpoint};
///
/// // All downloads together leave some of the line to others.
/// let downloads = RateLimit::new(1_000_000).in_all();
/// let below = TcpClientEndpoint::new("127.0.0.1:8007");
/// let endpoint = RateLimitedClientEndpoint::new(below).reading(downloads.clone());
/// # drop(endpoint);
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitedClientEndpoint<E> {
    below: E,
    rates: Rates,
}

impl<E: ClientEndpoint> RateLimitedClientEndpoint<E> {
    /// Connects to `below`; there is no limit until one is set.
    pub fn new(below: E) -> Self {
        Self {
            below,
            rates: Rates::default(),
        }
    }

    /// How fast connections may read.
    #[must_use]
    pub fn reading(mut self, limit: RateLimit) -> Self {
        self.rates.reading = Some(limit);
        self
    }

    /// How fast connections may write.
    #[must_use]
    pub fn writing(mut self, limit: RateLimit) -> Self {
        self.rates.writing = Some(limit);
        self
    }
}

impl<E: ClientEndpoint> ClientEndpoint for RateLimitedClientEndpoint<E> {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let rates = self.rates.clone();
        self.below
            .connect_stream(reactor)
            .add_callback(move |below| Ok(rates.meter(below).hand_on(|stream| stream)))
    }
}

impl Rates {
    fn meter(&self, below: Rc<dyn Stream>) -> Rc<PolicyStream<Meters>> {
        let meters = Meters {
            stream: OnceCell::new(),
            core: Rc::downgrade(below.socket().reactor().core()),
            reading: self.reading.clone().map(Meter::new),
            writing: self.writing.clone().map(Meter::new),
        };
        let stream = PolicyStream::over(below, meters);
        // It is empty until here.
        let _ = stream.policy().stream.set(Rc::downgrade(&stream));
        stream
    }
}

struct Metering {
    above: Rc<dyn Acceptor>,
    rates: Rates,
}

impl Acceptor for Metering {
    fn accept(&self, below: Rc<dyn Stream>) {
        let stream = self.rates.meter(below);
        stream.hand_on(|stream| self.above.accept(stream));
    }

    fn start_listening(&self) {
        self.above.start_listening();
    }

    fn stop_listening(&self) {
        self.above.stop_listening();
    }
}

/// Both directions of one connection.
struct Meters {
    stream: OnceCell<Weak<PolicyStream<Self>>>,
    core: Weak<Core>,
    reading: Option<Meter>,
    writing: Option<Meter>,
}

#[derive(Clone, Copy)]
enum Direction {
    Reading,
    Writing,
}

impl Meters {
    fn meter(&self, direction: Direction) -> Option<&Meter> {
        match direction {
            Direction::Reading => self.reading.as_ref(),
            Direction::Writing => self.writing.as_ref(),
        }
    }

    fn count(&self, direction: Direction, bytes: usize) {
        let (Some(meter), Some(core)) = (self.meter(direction), self.core.upgrade()) else {
            return;
        };
        let is_spent = meter.take(bytes as u64, core.now());
        if !is_spent || meter.timer.borrow().is_some() {
            return;
        }
        match direction {
            Direction::Reading => self.look(direction),
            // Whoever writes is told when the write has returned.
            Direction::Writing => self.look_in(direction, &core, Duration::ZERO),
        }
    }

    fn look_in(&self, direction: Direction, core: &Rc<Core>, delay: Duration) {
        let (Some(meter), Some(stream)) = (self.meter(direction), self.stream.get()) else {
            return;
        };
        let weak = Weak::clone(stream);
        let call = core.call_later(delay, move || {
            if let Some(stream) = weak.upgrade() {
                stream.policy().look(direction);
            }
        });
        meter.timer.replace(Some(call));
    }

    /// Holds the direction up or lets it go on.
    fn look(&self, direction: Direction) {
        let (Some(meter), Some(core)) = (self.meter(direction), self.core.upgrade()) else {
            return;
        };
        let Some(stream) = self.stream.get().and_then(Weak::upgrade) else {
            return;
        };
        let wait = meter.wait(core.now());
        meter.timer.take();
        let is_held = !wait.is_zero();
        if is_held {
            self.look_in(direction, &core, wait);
        }
        match direction {
            Direction::Reading => stream.hold_reading(is_held),
            Direction::Writing => stream.hold_writing(is_held),
        }
    }
}

impl Policy for Meters {
    fn received(&self, bytes: usize) {
        self.count(Direction::Reading, bytes);
    }

    fn written(&self, bytes: usize) {
        self.count(Direction::Writing, bytes);
    }

    fn is_choking(&self) -> bool {
        let timer = self.writing.as_ref().map(|meter| meter.timer.borrow());
        timer.is_some_and(|timer| timer.is_some())
    }

    fn takes_files(&self) -> bool {
        self.writing.is_none()
    }

    fn connection_lost(&self) {
        for meter in [&self.reading, &self.writing].into_iter().flatten() {
            meter.end();
        }
    }
}

/// One direction's bucket, and the timer while it is held up.
struct Meter {
    limit: RateLimit,
    bucket: Rc<Bucket>,
    timer: RefCell<Option<DelayedCall>>,
}

/// When it would be full again, if it is not.
#[derive(Debug, Default)]
struct Bucket(Cell<Option<Instant>>);

impl Meter {
    fn new(limit: RateLimit) -> Self {
        Self {
            bucket: limit.shared.clone().unwrap_or_default(),
            limit,
            timer: RefCell::default(),
        }
    }

    /// Takes bytes out; whether more than the burst is gone.
    fn take(&self, bytes: u64, now: Instant) -> bool {
        let full_at = self.bucket.0.get().map_or(now, |at| at.max(now));
        let debt = (full_at - now).saturating_add(self.limit.time_of(bytes));
        self.bucket.0.set(Some(now + debt.min(FOREVER)));
        debt > self.limit.time_of(self.limit.burst)
    }

    /// How long until a quarter of the burst is there.
    fn wait(&self, now: Instant) -> Duration {
        let debt = self
            .bucket
            .0
            .get()
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let burst = self.limit.time_of(self.limit.burst);
        debt.saturating_sub(burst - burst / 4)
    }

    fn end(&self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end();
    }
}
