//! The way from a port to whoever accepts, for layers that hand a stream on later than they got
//! it: after a handshake, after a header.
//!
//! # Order
//!
//! Above, `stop_listening` is called when the port has stopped and nobody is on the way any more:
//! whoever had been accepted before is still served.

use std::cell::Cell;
use std::rc::Rc;

use torsade_reactor::{Acceptor, Stream};

/// What lies in front of an acceptor.
pub(crate) struct Threshold {
    above: Rc<dyn Acceptor>,
    /// How many are on the way.
    under_way: Cell<usize>,
    /// The port has stopped, and above they have not been told.
    stopping: Cell<bool>,
}

impl Threshold {
    pub(crate) fn of(above: Rc<dyn Acceptor>) -> Rc<Self> {
        Rc::new(Self {
            above,
            under_way: Cell::default(),
            stopping: Cell::default(),
        })
    }

    /// One more is on the way, until what this gives is dropped.
    pub(crate) fn approach(self: &Rc<Self>) -> Approach {
        self.under_way.set(self.under_way.get() + 1);
        Approach {
            threshold: Rc::clone(self),
        }
    }

    pub(crate) fn start_listening(&self) {
        self.above.start_listening();
    }

    pub(crate) fn stop_listening(&self) {
        self.stopping.set(true);
        self.stop_if_deserted();
    }

    fn stop_if_deserted(&self) {
        if self.under_way.get() == 0 && self.stopping.replace(false) {
            self.above.stop_listening();
        }
    }
}

/// One stream on its way.
pub(crate) struct Approach {
    threshold: Rc<Threshold>,
}

impl Approach {
    /// It has arrived.
    pub(crate) fn hand_on(self, stream: Rc<dyn Stream>) {
        self.threshold.above.accept(stream);
    }
}

impl Drop for Approach {
    fn drop(&mut self) {
        let threshold = &self.threshold;
        threshold.under_way.set(threshold.under_way.get() - 1);
        threshold.stop_if_deserted();
    }
}
