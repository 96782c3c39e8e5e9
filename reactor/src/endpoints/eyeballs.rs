//! Which address of a name to try when: RFC 8305, "Happy Eyeballs".
//!
//! A plain value: addresses and the time come in, the next address to try comes out.
//!
//! # Order
//!
//! As the resolver gave them (RFC 6724 §6 sorts them), but with the families taking turns,
//! beginning with the first one's (§4). The first at once; each further one a delay after the
//! one before it, or at once when any has failed (§5). Those begun before go on meanwhile.
//!
//! # Bounds
//!
//! One attempt per delay, and one per failure: within a limit of 30 s and with a delay of
//! 250 ms at most 120 at the same time, however many addresses a name has.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an attempt has before the next begins beside it: RFC 8305 §8.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// RFC 8305 §8: "MUST NOT be less than 10 milliseconds".
const ATTEMPT_DELAY_MIN: Duration = Duration::from_millis(10);

/// The addresses of a name, and how far the attempts have come.
pub(crate) struct Eyeballs {
    waiting: VecDeque<SocketAddr>,
    /// Attempts that have begun and not failed.
    running: usize,
    delay: Duration,
    /// When the next may begin although others go on; `None` for at once.
    next_at: Option<Instant>,
}

impl Eyeballs {
    pub(crate) fn new(addresses: impl IntoIterator<Item = SocketAddr>, delay: Duration) -> Self {
        Self {
            waiting: interleave(addresses),
            running: 0,
            delay: delay.max(ATTEMPT_DELAY_MIN),
            next_at: None,
        }
    }

    /// The address to try now, which is then being tried. To be asked until it gives none.
    pub(crate) fn poll_attempt(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.next_at.is_some_and(|next_at| now < next_at) {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.running += 1;
        // As good as never, beyond what a clock can say.
        self.next_at = now.checked_add(self.delay).or(self.next_at);
        Some(address)
    }

    /// When to ask for the next, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next_at.filter(|_| !self.waiting.is_empty())
    }

    /// One of those being tried has failed.
    pub(crate) fn attempt_failed(&mut self) {
        debug_assert!(self.running > 0, "what failed was begun");
        self.running = self.running.saturating_sub(1);
        self.next_at = None;
    }

    /// Whether everything was tried, and failed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }
}

/// Lets the families take turns, each in its own order.
fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut addresses = addresses.into_iter().peekable();
    let first_is_v4 = addresses.peek().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.is_ipv4() == first_is_v4);
    let mut taking_turns = VecDeque::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return taking_turns;
        }
        taking_turns.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use crate::driver::os;

    use super::*;

    const DELAY: Duration = ATTEMPT_DELAY;

    /// Addresses as `4a 6b`: the family, and a letter for the port.
    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace()
            .map(|word| {
                let port = u16::from(word.as_bytes()[1]);
                match word.as_bytes()[0] {
                    b'4' => ([127, 0, 0, 1], port).into(),
                    _ => ([0, 0, 0, 0, 0, 0, 0, 1], port).into(),
                }
            })
            .collect()
    }

    fn shown(addresses: impl IntoIterator<Item = SocketAddr>) -> String {
        let words: Vec<_> = addresses
            .into_iter()
            .map(|address| {
                let family = if address.is_ipv4() { '4' } else { '6' };
                let letter = u8::try_from(address.port()).map_or('?', char::from);
                format!("{family}{letter}")
            })
            .collect();
        words.join(" ")
    }

    /// All that is to be tried at this moment.
    fn tries(eyeballs: &mut Eyeballs, now: Instant) -> String {
        let mut tried = Vec::new();
        while let Some(address) = eyeballs.poll_attempt(now) {
            tried.push(address);
        }
        shown(tried)
    }

    #[track_caller]
    fn check_order(given: &str, expected: &str) {
        assert_eq!(shown(interleave(addresses(given))), expected);
    }

    #[test]
    fn rfc8305_4_families_take_turns_from_that_of_the_first_address() {
        check_order("6a 6b 4c 4d", "6a 4c 6b 4d");
        check_order("4a 6b 6c 6d", "4a 6b 6c 6d");
        check_order("6a 6b 6c 4d", "6a 4d 6b 6c");
        check_order("4a 4b", "4a 4b");
        check_order("", "");
    }

    #[test]
    fn rfc8305_5_the_next_begins_a_delay_after_the_one_before() {
        let begin = os::now();
        let mut eyeballs = Eyeballs::new(addresses("6a 4b 6c"), DELAY);
        assert_eq!(tries(&mut eyeballs, begin), "6a");
        assert_eq!(eyeballs.deadline(), Some(begin + DELAY));
        let early = begin + DELAY - Duration::from_nanos(1);
        assert_eq!(tries(&mut eyeballs, early), "");
        // A late turn does not begin two at once.
        let late = begin + 10 * DELAY;
        assert_eq!(tries(&mut eyeballs, late), "4b");
        assert_eq!(eyeballs.deadline(), Some(late + DELAY));
        assert_eq!(tries(&mut eyeballs, late + DELAY), "6c");
        assert_eq!(eyeballs.deadline(), None, "there is no further one");
    }

    #[test]
    fn a_failure_begins_the_next_at_once_and_its_delay_anew() {
        let begin = os::now();
        let mut eyeballs = Eyeballs::new(addresses("6a 4b 6c"), DELAY);
        assert_eq!(tries(&mut eyeballs, begin), "6a");
        eyeballs.attempt_failed();
        let soon = begin + Duration::from_millis(1);
        assert_eq!(tries(&mut eyeballs, soon), "4b");
        assert_eq!(eyeballs.deadline(), Some(soon + DELAY));
        assert_eq!(tries(&mut eyeballs, begin + DELAY), "");
        assert!(!eyeballs.is_exhausted());
    }

    #[test]
    fn it_is_exhausted_when_the_last_one_running_has_failed() {
        let begin = os::now();
        let mut eyeballs = Eyeballs::new(addresses("6a 4b"), DELAY);
        assert_eq!(tries(&mut eyeballs, begin), "6a");
        assert_eq!(tries(&mut eyeballs, begin + DELAY), "4b");
        eyeballs.attempt_failed();
        assert!(!eyeballs.is_exhausted(), "one goes on");
        eyeballs.attempt_failed();
        assert!(eyeballs.is_exhausted());
        assert!(Eyeballs::new([], DELAY).is_exhausted());
    }

    #[test]
    fn rfc8305_8_no_delay_is_shorter_than_ten_milliseconds() {
        let begin = os::now();
        let mut eyeballs = Eyeballs::new(addresses("6a 4b"), Duration::ZERO);
        assert_eq!(tries(&mut eyeballs, begin), "6a");
        assert_eq!(eyeballs.deadline(), Some(begin + ATTEMPT_DELAY_MIN));
    }
}
