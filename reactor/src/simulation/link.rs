//! What lies between two hosts.

use std::time::Duration;

use crate::random::Random;

/// How long a packet takes from one host to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Latency {
    /// Always the same.
    Fixed(Duration),
    /// Anything between the two.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Mostly short, sometimes long: half of the packets take at most one `step` more than
    /// `min`, half of the rest one more, and so on without end.
    LongTail {
        /// The shortest.
        min: Duration,
        /// What half of the packets do not exceed.
        step: Duration,
    },
}

impl Latency {
    pub(super) fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Fixed(latency) => latency,
            Self::Uniform { min, max } => random.between(min, max),
            Self::LongTail { min, step } => {
                let steps = random.next().trailing_zeros();
                min + step * steps + random.between(Duration::ZERO, step)
            }
        }
    }
}

/// The way from one host to another, in one direction.
///
/// By default a good network in one building: half a millisecond, nothing lost, no bound on
/// bandwidth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// How long a packet takes.
    pub latency: Latency,
    /// Bytes a second; `None` for no bound.
    pub bandwidth: Option<u64>,
    /// Bytes that wait for the bandwidth at most; what is more is lost.
    pub queue_max: usize,
    /// How much of what is sent is lost, from 0 to 1. A stream sends it again, later.
    pub loss: f64,
    /// How many datagrams arrive twice, from 0 to 1. A stream does not notice such a thing.
    pub duplication: f64,
    /// How many datagrams make a detour, from 0 to 1: they take up to five times as long, and
    /// others overtake them. (Where the latency varies, they overtake each other anyway.) A
    /// stream keeps its order.
    pub reordering: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Latency::Fixed(Duration::from_micros(500)),
            bandwidth: None,
            queue_max: 256 * 1024,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
        }
    }
}

impl Link {
    /// A link with this latency, and otherwise the default.
    #[must_use]
    pub fn with_latency(latency: Latency) -> Self {
        Self {
            latency,
            ..Self::default()
        }
    }
}

/// What a link is doing.
#[derive(Clone, Debug)]
pub(super) struct LinkState {
    pub(super) link: Link,
    /// What it is like for a while: the newest counts. One for each fault that lasts.
    pub(super) degraded: Vec<Link>,
    /// Nothing gets through.
    pub(super) cut: Stop,
    /// What gets through waits.
    pub(super) held: Stop,
    /// When what is queued for the bandwidth has left.
    busy_until: Duration,
}

/// Who stops a link. It works again when all of them have let go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stop {
    /// The test, in both directions or in one.
    both_ways: bool,
    one_way: bool,
    /// Faults of the plan that last.
    planned: u32,
}

/// One of those who stop a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopBy {
    BothWays,
    OneWay,
    Plan,
}

impl Stop {
    pub(super) fn set(&mut self, by: StopBy, stops: bool) {
        match by {
            StopBy::BothWays => self.both_ways = stops,
            StopBy::OneWay => self.one_way = stops,
            StopBy::Plan if stops => self.planned += 1,
            StopBy::Plan => self.planned -= 1,
        }
    }

    pub(super) fn is_set(self) -> bool {
        self.both_ways || self.one_way || self.planned > 0
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives(Duration),
    Lost,
}

impl LinkState {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            degraded: Vec::new(),
            cut: Stop::default(),
            held: Stop::default(),
            busy_until: Duration::ZERO,
        }
    }

    pub(super) fn current(&self) -> Link {
        self.degraded.last().copied().unwrap_or(self.link)
    }

    /// Sends a packet of this size at `now`.
    pub(super) fn send(&mut self, now: Duration, size: usize, random: &mut Random) -> Fate {
        let link = self.current();
        if self.cut.is_set() || random.chance(link.loss) {
            return Fate::Lost;
        }
        let latency = link.latency.draw(random);
        let Some(bandwidth) = link.bandwidth else {
            return Fate::Arrives(now + latency);
        };
        let nanos = |bytes: usize| {
            let nanos = bytes as u128 * 1_000_000_000 / u128::from(bandwidth.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let begins = self.busy_until.max(now);
        if begins - now > nanos(link.queue_max) {
            return Fate::Lost;
        }
        self.busy_until = begins.saturating_add(nanos(size));
        Fate::Arrives(self.busy_until.saturating_add(latency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bandwidth_makes_packets_wait_for_those_before_and_a_full_queue_loses_them() {
        let link = Link {
            latency: Latency::Fixed(SECOND),
            bandwidth: Some(1000),
            queue_max: 1500,
            ..Link::default()
        };
        let mut state = LinkState::new(link);
        let mut random = Random::new(1);
        let mut send = |now| state.send(now, 1000, &mut random);
        assert_eq!(send(Duration::ZERO), Fate::Arrives(SECOND * 2));
        assert_eq!(send(Duration::ZERO), Fate::Arrives(SECOND * 3));
        assert_eq!(send(Duration::ZERO), Fate::Lost);
        assert_eq!(send(SECOND * 9), Fate::Arrives(SECOND * 11));
    }

    #[test]
    fn latencies_keep_to_what_they_say() {
        let (min, max) = (Duration::from_millis(1), Duration::from_millis(5));
        let mut random = Random::new(3);
        let mut longer = 0;
        for _ in 0..1000 {
            let uniform = Latency::Uniform { min, max }.draw(&mut random);
            assert!((min..=max).contains(&uniform));
            let tail = Latency::LongTail { min, step: max }.draw(&mut random);
            assert!(tail >= min);
            longer += usize::from(tail > min + max);
        }
        assert!((400..600).contains(&longer), "{longer} of 1000");
    }
}
