//! Numbers that look random and are the same for the same seed, on every machine.
//!
//! # Design
//!
//! SplitMix64 (Steele, Lea and Flood 2014): one word of state, good enough to choose
//! among events, and short enough that no version of any library changes what a seed
//! means. No floating-point function is involved: those differ between machines.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream of numbers of its own, so that drawing from one moves no other.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, and without, `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: no division, and a bias of 2^-64 times the bound.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A time from `min` to `max`.
    pub(crate) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let span = max.saturating_sub(min).as_nanos() as u64;
        min + Duration::from_nanos(self.below(span.saturating_add(1)))
    }

    /// Whether something happens that does so with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        // Multiplying by a power of two is exact everywhere.
        probability > 0.0 && ((self.next() >> 32) as f64) < probability * 4_294_967_296.0
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.index(end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        // From the reference implementation, by its author.
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(first, published);
    }

    #[test]
    fn what_is_drawn_keeps_its_bounds() {
        let mut random = Random::new(7);
        let (short, long) = (Duration::from_millis(2), Duration::from_millis(3));
        for bound in 1..1000 {
            assert!(random.below(bound) < bound);
            let drawn = random.between(short, long);
            assert!((short..=long).contains(&drawn), "{drawn:?}");
            assert!(!random.chance(0.0) && random.chance(1.0));
        }
        assert_eq!(random.below(0), 0);
        let mut items = [1, 2, 3, 4, 5];
        random.shuffle(&mut items);
        items.sort_unstable();
        assert_eq!(items, [1, 2, 3, 4, 5]);
    }
}
