//! Whether one more receive is worth its system call.
//!
//! A datagram says nothing of the next one: whoever asks until nothing is left pays for the answer
//! that nothing is. Where datagrams come one at a time that is a receive in vain for each; where
//! they come together it is one for many, and not to ask would be a wait for each.
//!
//! # Design
//!
//! What was found out last is taken to hold for a while, and for longer each time that it is
//! confirmed, up to [`REST_MAX`]: so much of a burst comes one at a time before it is noticed. Only for
//! a socket that is watched as a level: nothing is lost there by not asking.

use std::cell::Cell;

/// So many wakes in a row are content with one datagram before one asks for a second again.
const REST_MAX: u8 = 15;

#[derive(Debug, Default)]
pub(super) struct Eagerness {
    /// How many wakes the next answer "nothing" is good for, less one.
    rest: Cell<u8>,
    /// How many of them are still to come.
    left: Cell<u8>,
}

impl Eagerness {
    /// A wake has brought its first datagram: whether to ask for a second.
    pub(super) fn asks_again(&self) -> bool {
        match self.left.get() {
            0 => true,
            left => {
                self.left.set(left - 1);
                false
            }
        }
    }

    /// It was asked for a second: whether there was one.
    pub(super) fn learn(&self, was_there: bool) {
        let rest = if was_there {
            0
        } else {
            (2 * self.rest.get() + 1).min(REST_MAX)
        };
        self.rest.set(rest);
        self.left.set(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it asks, in each of so many wakes, of which this many datagrams are there.
    fn wakes(eagerness: &Eagerness, datagrams: usize, count: usize) -> Vec<bool> {
        let wakes = (0..count).map(|_| {
            let asks = eagerness.asks_again();
            if asks {
                eagerness.learn(datagrams > 1);
            }
            asks
        });
        wakes.collect()
    }

    #[test]
    fn one_at_a_time_it_asks_less_and_less_but_does_not_stop() {
        let eagerness = Eagerness::default();
        let asked: Vec<usize> = wakes(&eagerness, 1, 64)
            .iter()
            .enumerate()
            .filter_map(|(wake, asks)| asks.then_some(wake))
            .collect();
        assert_eq!(asked, [0, 2, 6, 14, 30, 46, 62]);
    }

    #[test]
    fn many_at_once_it_asks_each_time() {
        assert_eq!(wakes(&Eagerness::default(), 2, 5), [true; 5]);
    }

    #[test]
    fn a_burst_is_noticed_within_bounds_and_forgotten_at_once() {
        let eagerness = Eagerness::default();
        wakes(&eagerness, 1, 1000);
        let until_noticed = wakes(&eagerness, 2, 100);
        let noticed = until_noticed.iter().position(|asks| *asks);
        assert!(noticed <= Some(REST_MAX.into()), "{noticed:?}");
        assert!(until_noticed[REST_MAX.into()..].iter().all(|asks| *asks));
        assert_eq!(wakes(&eagerness, 1, 3), [true, false, true]);
    }
}
