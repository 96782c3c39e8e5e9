//! Connections that have gone on in another protocol, and a server that stops.

use std::fmt;
use std::rc::{Rc, Weak};

use torsade_reactor::{Reactor, WeakReactor};

use super::SiteCore;

/// Has a [`Server`](super::Server) that stops wait for a connection that was handed on, until this is dropped; made by
/// [`Upgraded::hold_server`](super::super::Upgraded::hold_server).
pub struct ServerHold {
    site: Weak<SiteCore>,
    id: u64,
}

/// What the server knows of it.
pub(super) struct Held {
    reactor: WeakReactor,
    on_stop: Option<Box<dyn FnOnce()>>,
}

impl ServerHold {
    /// One for the connection with this number.
    pub(super) fn new(site: &Rc<SiteCore>, id: u64, reactor: &Reactor) -> Self {
        let held = Held {
            reactor: reactor.downgrade(),
            on_stop: None,
        };
        let before = site.holds.borrow_mut().insert(id, held);
        debug_assert!(before.is_none(), "a connection is handed on once");
        Self {
            site: Rc::downgrade(site),
            id,
        }
    }

    /// Has `call` called when the server stops, for the protocol to end in order; in the next turn, if it stops already.
    /// Of several calls, the last counts. When the hold is gone, none does.
    ///
    /// # Reentrancy
    ///
    /// May be called from every callback, and calls nothing before it returns.
    pub fn on_stop(&self, call: impl FnOnce() + 'static) {
        let Some(site) = self.site.upgrade() else {
            return;
        };
        let before = match site.holds.borrow_mut().get_mut(&self.id) {
            Some(held) => held.on_stop.replace(Box::new(call)),
            None => None,
        };
        drop(before);
        if site.stopping.get() {
            site.tell_holder(self.id);
        }
    }
}

impl SiteCore {
    /// Those who hold the server are told that it stops, soon.
    pub(super) fn tell_holders(self: &Rc<Self>) {
        let ids: Vec<u64> = self.holds.borrow().keys().copied().collect();
        for id in ids {
            self.tell_holder(id);
        }
    }

    fn tell_holder(self: &Rc<Self>, id: u64) {
        let (call, reactor) = match self.holds.borrow_mut().get_mut(&id) {
            Some(held) => (held.on_stop.take(), held.reactor.upgrade()),
            None => return,
        };
        let (Some(call), Some(reactor)) = (call, reactor) else {
            return;
        };
        let site = Rc::downgrade(self);
        reactor.call_soon(move || {
            let is_held = |site: Rc<Self>| site.holds.borrow().contains_key(&id);
            if site.upgrade().is_some_and(is_held) {
                call();
            }
        });
    }
}

impl Drop for ServerHold {
    fn drop(&mut self) {
        if let Some(site) = self.site.upgrade() {
            let held = site.holds.borrow_mut().remove(&self.id);
            drop(held);
            site.look_whether_over();
        }
    }
}

impl fmt::Debug for ServerHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHold").finish_non_exhaustive()
    }
}
