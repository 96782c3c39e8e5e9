//! Datagrams that the system did not take yet.
//!
//! # Order
//!
//! First in, first out.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// What a datagram counts besides its bytes, so that empty ones have a bound, too.
const OWN_SIZE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Invariant: the sum of what is in `waiting`, each with [`OWN_SIZE`].
    size: usize,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// `None`: to whom the port is connected.
    pub(super) to: Option<SocketAddr>,
    pub(super) data: Box<[u8]>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Appends a datagram, unless the queue would then have more than `limit`.
    pub(super) fn push(&mut self, data: &[u8], to: Option<SocketAddr>, limit: usize) -> bool {
        let size = self.size + data.len() + OWN_SIZE;
        if size > limit {
            return false;
        }
        self.size = size;
        self.waiting.push_back(Waiting {
            to,
            data: data.into(),
        });
        true
    }

    pub(super) fn front(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub(super) fn drop_front(&mut self) {
        if let Some(sent) = self.waiting.pop_front() {
            self.size -= sent.data.len() + OWN_SIZE;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_leaves_in_order_and_is_counted() {
        let mut queue = Queue::default();
        assert!(queue.push(b"one", None, 1000) && queue.push(b"", None, 1000));
        assert_eq!((queue.len(), queue.size()), (2, 3 + 2 * OWN_SIZE));
        let front = queue.front().map(|waiting| waiting.data.to_vec());
        assert_eq!(front.as_deref(), Some(&b"one"[..]));
        queue.drop_front();
        queue.drop_front();
        assert!(queue.is_empty());
        assert_eq!(queue.size(), 0);
    }

    #[test]
    fn datagrams_without_bytes_have_a_bound_too() {
        let mut queue = Queue::default();
        let taken = (0..1000).filter(|_| queue.push(b"", None, 640)).count();
        assert_eq!(taken, 10);
    }
}
