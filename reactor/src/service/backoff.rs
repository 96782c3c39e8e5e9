//! How long to wait before the next attempt.

use std::time::Duration;

use crate::random::Random;

/// Says how long a [`ClientService`](super::ClientService) waits before it tries again.
///
/// Implemented by [`Backoff`], and by closures. Twisted's `retryPolicy`.
pub trait RetryPolicy {
    /// Called when an attempt has failed or a connection was lost, after so many failures in a
    /// row before this one: 0 for the first, and after a connection that was ready.
    fn delay(&mut self, failed_attempts: u32) -> Duration;
}

impl<F: FnMut(u32) -> Duration> RetryPolicy for F {
    fn delay(&mut self, failed_attempts: u32) -> Duration {
        self(failed_attempts)
    }
}

/// Waits that grow from one failure to the next, up to a bound, and a random bit on top.
/// Twisted's `backoffPolicy`.
///
/// The wait is `initial * factor ^ failures`, at most `max`; a random time from zero up to
/// `jitter` is added after that, so that a thousand clients whose server comes back do not all
/// come in the same moment.
///
/// The same seed gives the same waits. A service that is given no policy has this one, with a
/// seed that its reactor gives: random on the system, the same each time in virtual time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::{Backoff, RetryPolicy};
///
/// let mut backoff = Backoff::new(1).jitter(Duration::ZERO).max(Duration::from_secs(5));
/// let waits: Vec<_> = (0..6).map(|failures| backoff.delay(failures).as_secs_f64()).collect();
/// assert_eq!(waits, [1.0, 1.5, 2.25, 3.375, 5.0, 5.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    factor: f64,
    jitter: Duration,
    random: Random,
}

/// Beyond this the power is as good as infinite; Twisted's bound.
const EXPONENT_MAX: u32 = 100;

impl Backoff {
    /// 1 s at first, half as much again after each failure, 60 s at most, and up to 1 s on
    /// top. Give each process another `seed`, and a test always the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            factor: 1.5,
            jitter: Duration::from_secs(1),
            random: Random::new(seed),
        }
    }

    /// The wait after the first failure: 1 s unless this says otherwise.
    #[must_use]
    pub fn initial(mut self, wait: Duration) -> Self {
        self.initial = wait;
        self
    }

    /// The longest wait, without the random bit: 60 s unless this says otherwise.
    #[must_use]
    pub fn max(mut self, wait: Duration) -> Self {
        self.max = wait;
        self
    }

    /// By how much a wait is longer than the one before: 1.5 unless this says otherwise. What is
    /// less than 1, or no number, counts as 1.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// The end of the random bit: 1 s unless this says otherwise.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }
}

impl RetryPolicy for Backoff {
    fn delay(&mut self, failed_attempts: u32) -> Duration {
        let exponent = failed_attempts.min(EXPONENT_MAX);
        let power = (0..exponent).fold(1.0, |power, _| power * self.factor);
        let seconds = self.initial.as_secs_f64() * power;
        // What no `Duration` can hold is more than the longest wait.
        let wait = Duration::try_from_secs_f64(seconds).map_or(self.max, |wait| wait.min(self.max));
        wait.saturating_add(self.random.between(Duration::ZERO, self.jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_random_bit_is_added_after_the_bound_and_is_at_most_its_end() {
        let mut backoff = Backoff::new(7);
        let mut waits = Vec::new();
        for _ in 0..1000 {
            let wait = backoff.delay(1000);
            assert!(wait >= Duration::from_secs(60) && wait <= Duration::from_secs(61));
            waits.push(wait);
        }
        let (low, high) = (60_100, 60_900);
        assert!(
            waits.iter().any(|wait| wait.as_millis() < low),
            "it is spread"
        );
        assert!(
            waits.iter().any(|wait| wait.as_millis() > high),
            "it is spread"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_waits_and_another_gives_others() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8)
                .map(|failures| backoff.delay(failures))
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn no_setting_makes_a_wait_that_is_no_time() {
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            let mut backoff = Backoff::new(1).factor(factor).jitter(Duration::ZERO);
            assert_eq!(backoff.delay(0), Duration::from_secs(1));
            assert!(backoff.delay(u32::MAX) <= Duration::from_secs(60));
        }
        let mut longest = Backoff::new(1).initial(Duration::MAX).max(Duration::MAX);
        assert_eq!(longest.delay(5), Duration::MAX);
    }
}
