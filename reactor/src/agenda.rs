//! Whether a turn has something to do before it waits.

use std::cell::Cell;

/// What there may be to do other than to wait for events, in one byte: most turns of a busy
/// loop find nothing there, and look no further.
#[derive(Debug)]
pub(crate) struct Agenda(Cell<u8>);

impl Agenda {
    /// Something that neither an event nor a delayed call nor a thread brings.
    ///
    /// Invariant: not there only if `Core::is_calm`.
    pub(crate) const STIRRED: u8 = 1;
    /// Something is to be settled.
    ///
    /// Invariant: there exactly if `dirty` or `layers` is not empty.
    pub(crate) const UNSETTLED: u8 = 2;
    /// There are delayed calls, or were when the last full turn began.
    pub(crate) const TIMED: u8 = 4;
    /// A host waits, and is to be woken if there is anything new.
    ///
    /// Invariant: never there in a turn.
    pub(crate) const HOSTED: u8 = 8;

    /// Of a loop that has not turned: it looks at everything.
    pub(crate) fn new() -> Self {
        Self(Cell::new(Self::STIRRED))
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }

    #[inline]
    pub(crate) fn has(&self, what: u8) -> bool {
        self.0.get() & what != 0
    }

    #[inline]
    pub(crate) fn add(&self, what: u8) {
        self.0.set(self.0.get() | what);
    }

    #[inline]
    pub(crate) fn remove(&self, what: u8) {
        self.0.set(self.0.get() & !what);
    }
}
