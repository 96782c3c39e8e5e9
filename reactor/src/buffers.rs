//! Memory that a reactor lends to its connections.
//!
//! A connection that is silent has no buffer: it reads into one that all share, and has
//! one for unsent bytes only while there are some.

use std::cell::{Cell, RefCell};

/// How much one read takes at most. The reactor owns one such buffer for all of its
/// connections. 64 KiB, and what encryption adds to that much: one that is a few bytes short makes two
/// reads and two answers of each message of that size over TLS, and copies its last record.
pub(crate) const READ_SIZE: usize = 64 * 1024 + 256;

/// Buffers for unsent bytes that the reactor keeps for the next connection that needs
/// one, and the largest that it keeps.
const SPARE_BUFFERS: usize = 64;
const SPARE_SIZE_MAX: usize = 64 * 1024;
/// What a buffer for unsent bytes begins with: a few small messages.
const BUFFER_SIZE: usize = 4 * 1024;

/// Buffers for layers to work in that the reactor keeps: as many as are nested, and the largest
/// that it keeps.
const WORK_BUFFERS: usize = 8;
const WORK_SIZE_MAX: usize = 256 * 1024;

#[derive(Default)]
pub(crate) struct Buffers {
    /// Empty while it is lent, and until it is first needed.
    read: Cell<Box<[u8]>>,
    /// The buffer for unsent bytes that came back last; without memory, if it is lent.
    latest: Cell<Vec<u8>>,
    spare: RefCell<Vec<Vec<u8>>>,
    work: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Lends the buffer to read into.
    #[inline]
    pub(crate) fn take_for_reading(&self) -> Box<[u8]> {
        let buffer = self.read.take();
        if buffer.is_empty() {
            return buffer_to_read_into();
        }
        buffer
    }

    #[inline]
    pub(crate) fn return_from_reading(&self, buffer: Box<[u8]>) {
        self.read.set(buffer);
    }

    /// Lends memory to work in, with whatever is in it.
    pub(crate) fn take_for_work(&self) -> Vec<u8> {
        self.work.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn return_from_work(&self, buffer: Vec<u8>) {
        let mut work = self.work.borrow_mut();
        if buffer.capacity() <= WORK_SIZE_MAX && work.len() < WORK_BUFFERS {
            work.push(buffer);
        }
    }

    /// Lends memory for unsent bytes.
    #[inline]
    pub(crate) fn take_for_writing(&self) -> Vec<u8> {
        let latest = self.latest.take();
        if latest.capacity() > 0 {
            return latest;
        }
        self.take_spare()
    }

    #[cold]
    fn take_spare(&self) -> Vec<u8> {
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_SIZE))
    }

    #[inline]
    pub(crate) fn return_from_writing(&self, buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > SPARE_SIZE_MAX {
            return drop(buffer);
        }
        let earlier = self.latest.replace(buffer);
        if earlier.capacity() > 0 {
            self.keep_spare(earlier);
        }
    }

    #[cold]
    fn keep_spare(&self, buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

#[cold]
fn buffer_to_read_into() -> Box<[u8]> {
    vec![0; READ_SIZE].into_boxed_slice()
}
