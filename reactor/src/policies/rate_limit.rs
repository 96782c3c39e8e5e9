//! How many bytes a second a connection may read and write.
//!
//! # Design
//!
//! A bucket is one point in time: when it would be full again. Bytes move it on by what they
//! cost, time passes by itself; so there is a timer only for who is held up, and none for who
//! is idle or within the limit. Limits within one another are a bucket each: bytes are taken out
//! of all of them, and who is held up waits for the one that takes longest.
//!
//! # Bounds
//!
//! Of peers, a limit [per peer](RateLimit::per_peer) remembers at most twice as many as were
//! connected or had not paid yet for what passed when it looked last, or sixteen. It looks when a
//! newcomer would be more than that: what a peak leaves stays until as many others have come.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::iter;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::Deferred;

use crate::address::Address;
use crate::core::Core;
use crate::delayed_call::DelayedCall;
use crate::endpoints::{ClientEndpoint, ServerEndpoint};
use crate::policies::connection_limits::network;
use crate::policies::layer::{Policy, PolicyStream};
use crate::protocol::Acceptor;
use crate::reactor::Reactor;
use crate::sockets::Port;
use crate::stream::Stream;

/// What no limit lets anybody wait for at once.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Peers that a limit remembers before it looks which of them it may forget.
const PEERS_MIN: usize = 16;

/// So many bytes a second, on the average; each connection has its own, unless it is
/// [`in_all`](RateLimit::in_all) or [`per_peer`](RateLimit::per_peer).
///
/// Clones share what is shared: for several endpoints, or for both directions together.
/// See [`RateLimitedServerEndpoint`].
#[derive(Clone, Debug)]
pub struct RateLimit {
    rate: Rate,
    sharing: Sharing,
    within: Option<Box<Self>>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes_per_second: u64,
    burst: u64,
}

/// Whose bytes count together.
#[derive(Clone, Debug)]
enum Sharing {
    EachConnection,
    EachPeer(Rc<Peers>),
    All(Rc<Bucket>),
}

impl RateLimit {
    /// At most so many bytes a second (none is one), with a [`burst`](RateLimit::burst) of one
    /// second's.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        Self {
            rate: Rate {
                bytes_per_second,
                burst: bytes_per_second,
            },
            sharing: Sharing::EachConnection,
            within: None,
        }
    }

    /// How many bytes may pass at once after a while of silence (none is one).
    #[must_use]
    pub fn burst(mut self, bytes: u64) -> Self {
        self.rate.burst = bytes.max(1);
        self
    }

    /// The limit is one for all connections, and for all endpoints that are given a clone of
    /// it, in place of one for each: as Twisted's `ThrottlingFactory` has it.
    #[must_use]
    pub fn in_all(mut self) -> Self {
        self.sharing = Sharing::All(Rc::default());
        self
    }

    /// The limit is one for all connections of a peer, and for all endpoints that are given a
    /// clone of it, in place of one for each. Who comes again has no new burst.
    ///
    /// A peer is what it is for [`ConnectionLimits`](crate::ConnectionLimits): an IPv4 address, or a
    /// network of 64 bits of IPv6 addresses. Those without an IP address are one peer.
    #[must_use]
    pub fn per_peer(mut self) -> Self {
        self.sharing = Sharing::EachPeer(Rc::default());
        self
    }

    /// What passes counts in `larger` as well, and waits for whichever takes longer; `larger` may be
    /// within another one. Twisted's `htb`.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_reactor::{RateLimit, RateLimitedServerEndpoint, TcpServerEndpoint};
    ///
    /// // Each peer a megabyte a second, however many connections it has; ten for everybody together.
    /// let everybody = RateLimit::new(10_000_000).in_all();
    /// let peer = RateLimit::new(1_000_000).per_peer().within(everybody);
    /// let below = TcpServerEndpoint::new("127.0.0.1:8007");
    /// let endpoint = RateLimitedServerEndpoint::new(below).writing(peer);
    /// # drop(endpoint);
    /// ```
    #[must_use]
    pub fn within(mut self, larger: Self) -> Self {
        let larger = match self.within.take() {
            Some(before) => before.within(larger),
            None => larger,
        };
        self.within = Some(Box::new(larger));
        self
    }

    fn bucket(&self, peer: &Address, now: Instant) -> Rc<Bucket> {
        match &self.sharing {
            Sharing::EachConnection => Rc::default(),
            Sharing::EachPeer(peers) => peers.bucket(network(peer), now),
            Sharing::All(bucket) => Rc::clone(bucket),
        }
    }
}

impl Rate {
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
        let (reactor, peer) = (below.socket().reactor(), below.socket().peer());
        let meter = |limit: &RateLimit| Meter::new(limit, &peer, reactor.now());
        let meters = Meters {
            stream: OnceCell::new(),
            core: Rc::downgrade(reactor.core()),
            reading: self.reading.as_ref().map(meter),
            writing: self.writing.as_ref().map(meter),
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

/// One direction's buckets, and the timer while it is held up.
struct Meter {
    /// Its own, and those within which that is.
    buckets: Box<[(Rate, Rc<Bucket>)]>,
    timer: RefCell<Option<DelayedCall>>,
}

/// When it would be full again, if it is not.
#[derive(Debug, Default)]
struct Bucket(Cell<Option<Instant>>);

impl Bucket {
    /// Takes bytes out; whether more than the burst is gone.
    fn take(&self, rate: Rate, bytes: u64, now: Instant) -> bool {
        let debt = self.debt(now).saturating_add(rate.time_of(bytes));
        self.0.set(Some(now + debt.min(FOREVER)));
        debt > rate.time_of(rate.burst)
    }

    /// How long until a quarter of the burst is there.
    fn wait(&self, rate: Rate, now: Instant) -> Duration {
        let burst = rate.time_of(rate.burst);
        self.debt(now).saturating_sub(burst - burst / 4)
    }

    /// How long until it is full.
    fn debt(&self, now: Instant) -> Duration {
        let full_at = self.0.get();
        full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// The buckets of those who are connected, or have not paid yet.
#[derive(Debug, Default)]
struct Peers {
    buckets: RefCell<BTreeMap<Option<IpAddr>, Rc<Bucket>>>,
    /// With so many of them, it is looked which can be forgotten.
    look_at: Cell<usize>,
}

impl Peers {
    fn bucket(&self, peer: Option<IpAddr>, now: Instant) -> Rc<Bucket> {
        let mut buckets = self.buckets.borrow_mut();
        if buckets.len() >= self.look_at.get() {
            // A full one that nobody uses is as good as a new one.
            buckets.retain(|_, it| Rc::strong_count(it) > 1 || !it.debt(now).is_zero());
            self.look_at.set((2 * buckets.len()).max(PEERS_MIN));
        }
        Rc::clone(buckets.entry(peer).or_default())
    }
}

impl Meter {
    fn new(limit: &RateLimit, peer: &Address, now: Instant) -> Self {
        let limits = iter::successors(Some(limit), |limit| limit.within.as_deref());
        Self {
            buckets: limits
                .map(|limit| (limit.rate, limit.bucket(peer, now)))
                .collect(),
            timer: RefCell::default(),
        }
    }

    /// Takes bytes out; whether more than the burst is gone, of any.
    fn take(&self, bytes: u64, now: Instant) -> bool {
        let mut is_spent = false;
        for (rate, bucket) in &self.buckets {
            is_spent |= bucket.take(*rate, bytes, now);
        }
        is_spent
    }

    /// How long until a quarter of the burst is there, of all.
    fn wait(&self, now: Instant) -> Duration {
        let waits = self.buckets.iter();
        let longest = waits.map(|(rate, bucket)| bucket.wait(*rate, now)).max();
        longest.unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::driver::os;

    #[test]
    fn peers_that_are_gone_and_have_paid_are_forgotten_and_no_others() {
        let (peers, rate) = (Peers::default(), RateLimit::new(1000).rate);
        let peer = |number: u32| Some(IpAddr::from(Ipv4Addr::from(number)));
        let begun = os::now();
        let connected = peers.bucket(peer(0), begun);
        peers.bucket(peer(1), begun).take(rate, 3_000, begun);
        for number in 2..1000 {
            // Two seconds after the first has begun to pay.
            peers.bucket(peer(number), begun + Duration::from_secs(2));
            assert!(peers.buckets.borrow().len() <= PEERS_MIN);
        }
        let now = begun + Duration::from_secs(2);
        assert!(Rc::ptr_eq(&connected, &peers.bucket(peer(0), now)));
        let debt = |now| peers.bucket(peer(1), now).debt(now);
        assert_eq!(debt(now), Duration::from_secs(1));
        let later = now + Duration::from_secs(1);
        for number in 2..1000 {
            peers.bucket(peer(number), later);
        }
        assert!(!peers.buckets.borrow().contains_key(&peer(1)));
    }
}
