//! What one wait has brought.
//!
//! # Design
//!
//! The kernel lays its events down in [`Events`], and there the loop finds them: nothing is
//! translated or moved between its wait and whom an event is for. Other drivers put theirs
//! into the same form.

use std::fmt;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::descriptor::{Interest, Readiness};
use crate::slab::Token;
use crate::sys::poller::WAKE;

/// Events in the order in which they came.
#[derive(Default)]
pub(crate) struct Events(Vec<epoll::Event>);

/// Something happened to what is watched under this token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) change: Change,
}

/// What happened: a [`Readiness`] in one word, as epoll has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change(EventFlags);

/// What epoll has no flag for, or says only together with something else. It never reports
/// these bits.
const HANGUP: EventFlags = EventFlags::from_bits_retain(1 << 20);
const BROKEN: EventFlags = EventFlags::from_bits_retain(1 << 21);
const URGENT: EventFlags = EventFlags::from_bits_retain(1 << 22);

const MEANS_READABLE: EventFlags = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::RDHUP)
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);
const MEANS_WRITABLE: EventFlags = EventFlags::OUT
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);
const MEANS_HANGUP: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR)
    .union(HANGUP);
const MEANS_BROKEN: EventFlags = EventFlags::HUP.union(EventFlags::ERR).union(BROKEN);
const MEANS_URGENT: EventFlags = EventFlags::PRI.union(URGENT);

impl Events {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> {
        self.0.iter().map(|event| Event {
            token: Token::from_u64(event.data.u64()),
            change: Change(event.flags),
        })
    }

    /// Whether signals may have come: something woke the loop that is no source, or nothing did.
    #[inline]
    pub(crate) fn may_tell_of_signals(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|event| event.data.u64() == WAKE)
    }

    pub(crate) fn push(&mut self, token: Token, change: impl Into<Change>) {
        self.0.push(epoll::Event {
            flags: change.into().0,
            data: EventData::new_u64(token.to_u64()),
        });
    }

    /// For a system that lays events down itself.
    pub(crate) fn as_vec(&mut self) -> &mut Vec<epoll::Event> {
        &mut self.0
    }
}

impl Change {
    pub(crate) const EVERYTHING: Self = Self(EventFlags::IN.union(EventFlags::OUT));

    #[inline]
    pub(crate) fn is_readable(self) -> bool {
        self.0.intersects(MEANS_READABLE)
    }

    #[inline]
    pub(crate) fn is_writable(self) -> bool {
        self.0.intersects(MEANS_WRITABLE)
    }

    /// See [`Readiness::hangup`].
    #[inline]
    pub(crate) fn is_hangup(self) -> bool {
        self.0.intersects(MEANS_HANGUP)
    }

    /// Both directions are gone, or there is an error to be asked for.
    #[inline]
    pub(crate) fn is_broken(self) -> bool {
        self.0.intersects(MEANS_BROKEN)
    }

    /// Whether a read that is short may not be the last one: at the end of the peer's stream, or
    /// in front of urgent data.
    #[inline]
    pub(crate) fn makes_wary(self) -> bool {
        let wary = MEANS_HANGUP.union(MEANS_BROKEN).union(MEANS_URGENT);
        self.0.intersects(wary)
    }

    /// What it means to who wants to hear of no more than that.
    pub(crate) fn of_interest(self, interest: Interest) -> Readiness {
        let readiness = Readiness::from(self);
        Readiness {
            readable: readiness.readable && interest.is_read(),
            writable: readiness.writable && interest.is_write(),
            ..readiness
        }
    }
}

impl From<Readiness> for Change {
    fn from(readiness: Readiness) -> Self {
        let flag = |is_set, flag| if is_set { flag } else { EventFlags::empty() };
        Self(
            flag(readiness.readable, EventFlags::IN)
                | flag(readiness.writable, EventFlags::OUT)
                | flag(readiness.hangup, HANGUP)
                | flag(readiness.broken, BROKEN)
                | flag(readiness.urgent, URGENT),
        )
    }
}

impl From<Change> for Readiness {
    fn from(change: Change) -> Self {
        Self {
            readable: change.is_readable(),
            writable: change.is_writable(),
            hangup: change.is_hangup(),
            broken: change.is_broken(),
            urgent: change.0.intersects(MEANS_URGENT),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Readiness::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_survives_the_way_through_a_change() {
        for bits in 0_u8..32 {
            let readiness = Readiness {
                readable: bits & 1 != 0,
                writable: bits & 2 != 0,
                hangup: bits & 4 != 0,
                broken: bits & 8 != 0,
                urgent: bits & 16 != 0,
            };
            assert_eq!(Readiness::from(Change::from(readiness)), readiness);
        }
    }

    #[test]
    fn events_come_back_as_they_were_put_in() {
        let mut events = Events::default();
        for number in 0..3 {
            events.push(Token::from_u64(number), Change::EVERYTHING);
        }
        let tokens: Vec<_> = events.iter().map(|event| event.token.to_u64()).collect();
        assert_eq!((tokens, events.len()), (vec![0, 1, 2], 3));
        events.clear();
        assert!(events.iter().next().is_none());
    }
}
