//! The shortest layer that changes bytes: each is veiled on its way, and unveiled.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use torsade_deferred::Deferred;
use torsade_reactor::{ConnectionLost, Limits, Receiver, Settle, Socket, Stream};

/// What is written during one callback is veiled when that returns, as a layer does that
/// makes records of it.
pub(crate) struct Veil {
    me: Weak<Self>,
    below: Rc<dyn Stream>,
    above: RefCell<Option<Rc<dyn Receiver>>>,
    unveiled: RefCell<Vec<u8>>,
    settling: Cell<bool>,
    choked: Cell<bool>,
    choke_untold: Cell<bool>,
    read_ended: Cell<bool>,
    end_untold: Cell<bool>,
    paused: Cell<bool>,
}

impl Veil {
    pub(crate) fn over(below: Rc<dyn Stream>) -> Rc<dyn Stream> {
        Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            below,
            above: RefCell::default(),
            unveiled: RefCell::default(),
            settling: Cell::default(),
            choked: Cell::default(),
            choke_untold: Cell::default(),
            read_ended: Cell::default(),
            end_untold: Cell::default(),
            paused: Cell::default(),
        })
    }

    fn strong(&self) -> Rc<Self> {
        self.me.upgrade().expect("somebody holds it, to call it")
    }

    fn hand_down(&self) {
        let bytes = self.unveiled.take();
        if !bytes.is_empty() {
            self.below.write(&veiled(&bytes));
        }
    }

    fn receiver(&self) -> Option<Rc<dyn Receiver>> {
        self.above.borrow().clone()
    }

    /// For a receiver that came behind it.
    fn tell_of_the_end_soon(&self) {
        if !self.end_untold.get() || self.paused.get() {
            return;
        }
        let layer = self.strong();
        self.socket().reactor().call_soon(move || {
            if let Some(receiver) = layer.receiver()
                && layer.is_connected()
                && !layer.paused.get()
                && layer.end_untold.take()
            {
                receiver.read_connection_lost();
            }
        });
    }
}

fn veiled(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x55).collect()
}

impl Settle for Veil {
    fn settle(self: Rc<Self>) {
        self.settling.set(false);
        self.hand_down();
    }
}

impl Stream for Veil {
    fn write(&self, data: &[u8]) {
        if !self.below.is_connected() {
            return;
        }
        self.unveiled.borrow_mut().extend_from_slice(data);
        if !self.settling.replace(true) {
            self.socket().reactor().settle_later(self.strong());
        }
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        self.hand_down();
        self.below.lose_connection(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.unveiled.take();
        self.below.abort_connection(reason);
    }

    fn lose_write_connection(&self) {
        self.hand_down();
        self.below.lose_write_connection();
    }

    fn pause_reading(&self) {
        self.paused.set(true);
        self.below.pause_reading();
    }

    fn resume_reading(&self) {
        self.paused.set(false);
        self.tell_of_the_end_soon();
        self.below.resume_reading();
    }

    fn is_connected(&self) -> bool {
        self.below.is_connected()
    }

    fn unsent(&self) -> usize {
        self.unveiled.borrow().len() + self.below.unsent()
    }

    fn is_congested(&self) -> bool {
        self.below.is_congested()
    }

    fn flush(&self) -> Deferred<()> {
        self.hand_down();
        self.below.flush()
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn set_limits(&self, limits: Limits) {
        self.below.set_limits(limits);
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        let before = self.receiver();
        let is_another = !before.is_some_and(|it| Rc::ptr_eq(&it, &receiver));
        let previous = self.above.replace(Some(receiver));
        if previous.is_none() {
            self.below.set_receiver(self.strong());
        }
        drop(previous);
        if is_another && self.read_ended.get() {
            self.end_untold.set(true);
            self.tell_of_the_end_soon();
        }
        if is_another && self.choked.get() {
            self.choke_untold.set(true);
            let veil = self.strong();
            self.socket().reactor().call_soon(move || {
                if veil.choke_untold.take()
                    && let Some(receiver) = veil.receiver()
                {
                    receiver.write_paused();
                }
            });
        }
    }

    fn socket(&self) -> &dyn Socket {
        self.below.socket()
    }

    fn below(&self) -> Option<&Rc<dyn Stream>> {
        Some(&self.below)
    }
}

impl Receiver for Veil {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        if let Some(receiver) = self.receiver() {
            receiver.data_received(&veiled(data));
        }
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.read_ended.set(true);
        if let Some(receiver) = self.receiver() {
            receiver.read_connection_lost();
        }
    }

    fn write_paused(self: Rc<Self>) {
        self.choked.set(true);
        if let Some(receiver) = self.receiver() {
            receiver.write_paused();
        }
    }

    fn write_resumed(self: Rc<Self>) {
        self.choked.set(false);
        if self.choke_untold.take() {
            return;
        }
        if let Some(receiver) = self.receiver() {
            receiver.write_resumed();
        }
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.unveiled.take();
        // Detach, then call: a receiver that comes later is told by the stream below.
        let receiver = self.above.take();
        if let Some(receiver) = receiver {
            receiver.connection_lost(reason);
        }
    }
}
