//! What a connection remembers of itself, in one word: several are asked at once.

use std::cell::Cell;

#[derive(Default)]
pub(super) struct Flags(Cell<u32>);

impl Flags {
    /// There may be something to read: an event said so, and no read has said
    /// otherwise since.
    pub(super) const READABLE: u32 = 1;
    /// The system took everything it was given, as far as we know.
    pub(super) const WRITABLE: u32 = 1 << 1;
    /// The peer's end has been announced, or an error, or a read may have stopped in front of urgent data:
    /// a short read is not the last one.
    pub(super) const WARY: u32 = 1 << 2;
    /// The peer's stream has ended.
    pub(super) const READ_ENDED: u32 = 1 << 3;
    /// Our stream is to end, or has ended, after what is unsent.
    pub(super) const WRITE_ENDING: u32 = 1 << 4;
    pub(super) const WRITE_ENDED: u32 = 1 << 5;
    /// The user paused reading.
    pub(super) const PAUSED: u32 = 1 << 6;
    /// There is a receiver, or has been. Nothing is read before.
    pub(super) const SEATED: u32 = 1 << 7;
    /// Somebody waits for a flush.
    pub(super) const AWAITED: u32 = 1 << 8;
    /// There is something among the bytes that are unsent.
    pub(super) const ATTACHED: u32 = 1 << 9;
    /// The turn's share of a file has been sent.
    pub(super) const FILE_RESTS: u32 = 1 << 10;
    /// More is unsent than the high mark, and the writer has been told.
    pub(super) const CHOKED: u32 = 1 << 11;
    /// That was the receiver before this one.
    pub(super) const CHOKE_UNTOLD: u32 = 1 << 12;
    /// More was unsent than the cap when the last callback returned. Invariant: then
    /// `excess_limit` runs, while the connection is open.
    pub(super) const OVERFULL: u32 = 1 << 13;
    /// Nothing is read while it is choked: a peer that does not take answers gets to ask
    /// no more. So it is for accepted connections, and not for those made from here: two
    /// ends that both stop reading while they write would wait for each other for ever.
    pub(super) const THROTTLES: u32 = 1 << 14;
    /// The loop may come to its end though this is there.
    pub(super) const BACKGROUND: u32 = 1 << 15;
    /// To be settled: in the reactor's list for that, or the next of all (see `settle_what_was_told`).
    pub(super) const DIRTY: u32 = 1 << 16;
    /// In the reactor's list of sources with something left to do.
    pub(super) const AGAIN: u32 = 1 << 17;
    /// Its receiver is being told of data, and will be settled when that returns.
    pub(super) const TELLING: u32 = 1 << 18;
    /// It may be told of room to send that it does not want: it asked for that when it was refused, or
    /// while it connected.
    pub(super) const ROOM_WATCHED: u32 = 1 << 19;

    /// The system says that it is broken, and what has come is to be read before anything is sent.
    pub(super) const BROKEN: u32 = 1 << 20;

    /// The peer's stream has ended, and that was told to the receiver before this one.
    pub(super) const END_UNTOLD: u32 = 1 << 21;

    /// What was written while it was broken, beyond the cap, was dropped.
    pub(super) const SPILT: u32 = 1 << 22;

    /// Whether any of `flags` is set.
    #[inline]
    pub(super) fn has(&self, flags: u32) -> bool {
        self.0.get() & flags != 0
    }

    /// Whether of `among` exactly `these` are set.
    #[inline]
    pub(super) fn are(&self, these: u32, among: u32) -> bool {
        self.0.get() & among == these
    }

    #[inline]
    pub(super) fn add(&self, flags: u32) {
        self.0.set(self.0.get() | flags);
    }

    #[inline]
    pub(super) fn remove(&self, flags: u32) {
        self.0.set(self.0.get() & !flags);
    }

    /// Sets a flag or takes it away, and says whether it was set before.
    #[inline]
    pub(super) fn replace(&self, flag: u32, set: bool) -> bool {
        let before = self.has(flag);
        if set {
            self.add(flag);
        } else {
            self.remove(flag);
        }
        before
    }
}
