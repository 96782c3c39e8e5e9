//! Water marks, limits, and the bytes that the system has not taken yet.

use std::time::Duration;

/// What a connection may hold and how long it may wait.
///
/// # Examples
///
/// ```
/// use torsade_reactor::Limits;
///
/// let limits = Limits { unsent_max: 1 << 20, ..Limits::default() };
/// assert!(limits.unsent_low < limits.unsent_high);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Above this many unsent bytes the writer is paused, and so is reading from the
    /// same peer, if it connected to us: 64 KiB.
    pub unsent_high: usize,
    /// At this many unsent bytes both go on: 16 KiB.
    pub unsent_low: usize,
    /// The cap: a connection that has more than this unsent when a callback has returned
    /// ends with [`ConnectionLost::Overrun`](crate::ConnectionLost::Overrun) if more is written,
    /// or if it has not sunk to the cap within [`flush`](Limits::flush): 16 MiB. So what one
    /// callback writes may be larger, if the peer then takes it, and memory that nobody takes
    /// is not held for ever. (Parts of files do not count: they are not in memory.)
    pub unsent_max: usize,
    /// How long a connection that is being lost may stand still before the rest is sent, and how long
    /// one beyond the cap may take to get below it: 30 s. Then it is aborted. A peer that takes the
    /// rest slowly is not cut off as long as it takes something; one that stops is after this time,
    /// or an eighth more at most. That is seen in steps, of what its system takes at once, and the whole
    /// close has no bound: a peer that takes a little now and then holds it. Who wants one sets a timer
    /// that aborts.
    pub flush: Duration,
    /// How long the system keeps a closed connection whose last bytes the peer has not
    /// acknowledged, so that they arrive even if the peer still sends: 5 s.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Twisted's and asyncio's mark.
            unsent_high: 64 * 1024,
            // asyncio's: resumed before it is empty, so that the peer never runs dry.
            unsent_low: 16 * 1024,
            unsent_max: 16 * 1024 * 1024,
            flush: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}

/// Bytes on their way out, in order.
///
/// Taken from the front as the system accepts them. It owns no memory while it is
/// empty; the reactor lends it a buffer.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    buffer: Vec<u8>,
    // Invariant: at most `buffer.len()`; equal to it only when both are 0.
    sent: usize,
}

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.buffer[self.sent..]
    }

    /// Appends `data`; takes memory from `lend` if it has none.
    #[inline]
    pub(crate) fn push(&mut self, data: &[u8], lend: impl FnOnce() -> Vec<u8>) {
        if data.is_empty() {
            return;
        }
        if self.buffer.capacity() == 0 {
            self.buffer = lend();
        }
        // Move the rest to the front when that costs less than what has left since the
        // last time: each byte moves at most once on the average.
        if self.sent > self.buffer.len() / 2 {
            self.close_the_gap();
        }
        self.buffer.extend_from_slice(data);
    }

    #[cold]
    fn close_the_gap(&mut self) {
        self.buffer.drain(..self.sent);
        self.sent = 0;
    }

    /// Drops the first `count` bytes: the system has them.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(
            count <= self.len(),
            "the system takes no more than it was given"
        );
        self.sent += count;
        if self.sent == self.buffer.len() {
            self.buffer.clear();
            self.sent = 0;
        }
    }

    /// Gives the memory back, and the bytes up.
    #[inline]
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        self.sent = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut outgoing = Outgoing::default();
        let (mut expected, mut seen) = (Vec::new(), Vec::new());
        for round in 0..200_u8 {
            let data = vec![round; usize::from(round) % 7];
            expected.extend_from_slice(&data);
            outgoing.push(&data, Vec::new);
            let count = outgoing.len().min(usize::from(round) % 5);
            seen.extend_from_slice(&outgoing.as_slice()[..count]);
            outgoing.consume(count);
            assert_eq!(expected.len() - seen.len(), outgoing.len());
        }
        seen.extend_from_slice(outgoing.as_slice());
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_empty_buffer_can_give_its_memory_back() {
        let mut outgoing = Outgoing::default();
        outgoing.push(b"abc", || Vec::with_capacity(64));
        outgoing.consume(3);
        assert!(outgoing.is_empty());
        assert_eq!(outgoing.take_buffer().capacity(), 64);
        outgoing.push(b"d", Vec::new);
        assert_eq!(outgoing.as_slice(), b"d");
    }
}
