//! The loop of somebody else's, which waits in the reactor's stead.
//!
//! A host waits for the descriptor, until the deadline that it was last told. What is asked for
//! outside of a turn after that may be due sooner: then the reactor wakes itself, as another
//! thread would, and so the host, which gives a turn and asks again. One write for each time
//! that the host has asked, at most; none where nobody has asked for the descriptor.

use std::cell::Cell;
use std::time::Instant;

use crate::agenda::Agenda;
use crate::core::Core;

/// What a host knows.
#[derive(Default)]
pub(crate) struct Host {
    /// Somebody has asked for the descriptor.
    is_there: Cell<bool>,
    /// The deadline that it was told last; `None`: that there is none.
    told: Cell<Option<Instant>>,
}

impl Core {
    /// A host asks for the descriptor, and may wait for it from now on.
    pub(crate) fn give_descriptor_to_host(&self) {
        self.host.is_there.set(true);
        self.tell_host(self.next_deadline());
    }

    /// A host asks until when it may wait.
    pub(crate) fn tell_host(&self, deadline: Option<Instant>) {
        // Inside a turn nobody waits yet: who does, asks when it is over.
        if self.host.is_there.get() && !self.running.get() {
            self.host.told.set(deadline);
            self.agenda.add(Agenda::HOSTED);
        }
    }

    /// There is something to do in the next turn.
    #[inline]
    pub(crate) fn put_on_agenda(&self, what: u8) {
        self.agenda.add(what);
        if self.agenda.has(Agenda::HOSTED) {
            self.wake_host();
        }
    }

    /// There is something to do then.
    #[inline]
    pub(crate) fn expect_turn_at(&self, deadline: Instant) {
        self.agenda.add(Agenda::TIMED);
        if self.agenda.has(Agenda::HOSTED) {
            self.wake_host_before(deadline);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_host_before(&self, deadline: Instant) {
        if self.host.told.get().is_none_or(|told| deadline < told) {
            self.wake_host();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_host(&self) {
        self.agenda.remove(Agenda::HOSTED);
        self.mailbox.wake_sleeper();
    }
}
