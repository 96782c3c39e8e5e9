//! A layer that changes nothing and sees everything.
//!
//! # Order
//!
//! The policy hears of the end before the receiver above does: whoever is told
//! `connection_lost` finds the place free.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};

use torsade_deferred::Deferred;

use crate::error::ConnectionLost;
use crate::flow::Limits;
use crate::stream::{FilePart, Receiver, Socket, Stream, WeakReceiver};

/// What a port's rule wants to know of one connection. Runs no user code.
pub(super) trait Policy: 'static {
    /// So many bytes came; none with the peer's end.
    fn received(&self, _bytes: usize) {}

    /// So many bytes were written; none with our end.
    fn written(&self, _bytes: usize) {}

    /// Whether who writes had better wait, or will be told so soon.
    fn is_choking(&self) -> bool {
        false
    }

    /// Whether files may be sent by the system.
    fn takes_files(&self) -> bool {
        true
    }

    /// The end, also of a connection that nobody has taken.
    fn connection_lost(&self);
}

/// The stream below, as a policy sees it.
///
/// Whoever is handed it holds it until it has a receiver, and the stream below does from then on:
/// dropped before, it is aborted. Until then it hears of the end all the same, by way of a
/// [`WeakReceiver`], and the stream below is paused.
pub(super) struct PolicyStream<P> {
    this: Weak<Self>,
    below: Rc<dyn Stream>,
    above: RefCell<Option<Rc<dyn Receiver>>>,
    policy: P,
    /// The user paused reading.
    paused: Cell<bool>,
    /// The policy holds reading up.
    reading_held: Cell<bool>,
    /// The writer was paused by the stream below, and did not go on since.
    choked: Cell<bool>,
    /// The same, by the policy.
    writing_held: Cell<bool>,
    /// That was the receiver before this one.
    choke_untold: Cell<bool>,
    /// The peer's stream has ended.
    read_ended: Cell<bool>,
    /// That was told to the receiver before this one.
    end_untold: Cell<bool>,
    /// It is the receiver of the stream below.
    seated: Cell<bool>,
    lost: Cell<bool>,
    /// Why it was lost, if that happened before somebody took it.
    untold: Cell<Option<Box<ConnectionLost>>>,
}

impl<P: Policy> PolicyStream<P> {
    pub(super) fn over(below: Rc<dyn Stream>, policy: P) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            below,
            above: RefCell::default(),
            policy,
            paused: Cell::default(),
            reading_held: Cell::default(),
            choked: Cell::default(),
            writing_held: Cell::default(),
            choke_untold: Cell::default(),
            read_ended: Cell::default(),
            end_untold: Cell::default(),
            seated: Cell::default(),
            lost: Cell::default(),
            untold: Cell::default(),
        })
    }

    /// Gives it to `take`, with the result; and sees to it that it hears of its end if nobody has sat
    /// down on it then.
    pub(super) fn hand_on<T>(self: Rc<Self>, take: impl FnOnce(Rc<dyn Stream>) -> T) -> T {
        let this = Rc::downgrade(&self);
        let taken = take(self);
        if let Some(this) = this.upgrade().filter(|this| !this.seated.get()) {
            this.below.pause_reading();
            this.below.set_receiver(WeakReceiver::to(&this));
        }
        taken
    }

    /// The receiver above has come: from here on the stream below holds this one.
    fn take_below(&self) {
        if self.lost.get() {
            // The stream below would say so once more, and not why.
            return;
        }
        if !self.seated.replace(true)
            && let Some(this) = self.this.upgrade()
        {
            // The stream below says so once more to its new receiver, if it still holds.
            self.choked.set(false);
            self.below.set_receiver(this);
        }
    }

    /// Loses the connection for a reason of the policy's; who is above has a last word.
    pub(super) fn lose(&self, reason: ConnectionLost) {
        if let Some(receiver) = self.receiver() {
            receiver.about_to_be_lost();
        }
        self.below.lose_connection(reason);
    }

    pub(super) fn policy(&self) -> &P {
        &self.policy
    }

    /// Reads nothing, whatever the user says, until this is taken back.
    pub(super) fn hold_reading(&self, on: bool) {
        if self.reading_held.replace(on) == on {
            return;
        }
        if on {
            self.below.pause_reading();
        } else {
            self.go_on_reading();
        }
    }

    /// Tells the writer to wait, or to go on unless the stream below has him wait, too. Calls
    /// the receiver.
    pub(super) fn hold_writing(&self, on: bool) {
        self.set_choked(&self.writing_held, on);
    }

    fn go_on_reading(&self) {
        if self.above.borrow().is_some() && !self.paused.get() && !self.reading_held.get() {
            self.below.resume_reading();
        }
    }

    fn is_choked(&self) -> bool {
        self.choked.get() || self.writing_held.get()
    }

    /// Tells the receiver, if that makes a difference.
    fn set_choked(&self, cause: &Cell<bool>, on: bool) {
        let before = self.is_choked();
        cause.set(on);
        let now = self.is_choked();
        if now == before || (!now && self.choke_untold.take()) {
            return;
        }
        match self.receiver() {
            Some(receiver) if now => receiver.write_paused(),
            Some(receiver) => receiver.write_resumed(),
            None => {}
        }
    }

    /// Has the receiver hear what the one before has heard and still holds; not from in here.
    fn tell_what_is_untold_later(&self) {
        let this = Weak::clone(&self.this);
        self.socket().reactor().call_soon(move || {
            if let Some(layer) = this.upgrade() {
                layer.tell_what_is_untold();
            }
        });
    }

    fn tell_what_is_untold(&self) {
        if self.choke_untold.take()
            && let Some(receiver) = self.receiver()
        {
            receiver.write_paused();
        }
        if self.end_untold.get()
            && !self.paused.get()
            && self.is_connected()
            && let Some(receiver) = self.receiver()
        {
            self.end_untold.set(false);
            receiver.read_connection_lost();
        }
    }

    fn receiver(&self) -> Option<Rc<dyn Receiver>> {
        self.above.borrow().clone()
    }
}

impl<P: Policy> Stream for PolicyStream<P> {
    fn write(&self, data: &[u8]) {
        self.below.write(data);
        self.policy.written(data.len());
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reading_held.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.below.try_read(buffer)?;
        self.policy.received(count);
        Ok(count)
    }

    fn write_file(&self, part: FilePart) -> Result<(), FilePart> {
        if !self.policy.takes_files() {
            return Err(part);
        }
        let length = usize::try_from(part.length).unwrap_or(usize::MAX);
        self.below.write_file(part)?;
        self.policy.written(length);
        Ok(())
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        // It has its place until it is lost, whoever holds it.
        self.take_below();
        self.below.lose_connection(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.take_below();
        self.below.abort_connection(reason);
    }

    fn lose_write_connection(&self) {
        self.below.lose_write_connection();
        self.policy.written(0);
    }

    fn pause_reading(&self) {
        self.paused.set(true);
        self.below.pause_reading();
    }

    fn resume_reading(&self) {
        self.paused.set(false);
        self.go_on_reading();
        if self.end_untold.get() {
            self.tell_what_is_untold_later();
        }
    }

    fn is_connected(&self) -> bool {
        self.below.is_connected()
    }

    fn unsent(&self) -> usize {
        self.below.unsent()
    }

    fn is_congested(&self) -> bool {
        self.below.is_congested() || self.policy.is_choking()
    }

    fn flush(&self) -> Deferred<()> {
        self.below.flush()
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn set_limits(&self, limits: Limits) {
        self.below.set_limits(limits);
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        if self.lost.get() {
            return match self.untold.take() {
                Some(reason) => {
                    let reactor = self.socket().reactor();
                    reactor.call_soon(move || receiver.connection_lost(*reason));
                }
                // The one before was told. The stream below tells this one, too.
                None => self.below.set_receiver(receiver),
            };
        }
        let is_another = !self.receiver().is_some_and(|it| Rc::ptr_eq(&it, &receiver));
        let previous = self.above.replace(Some(receiver));
        if previous.is_none() {
            self.take_below();
            self.go_on_reading();
        }
        let is_untold = is_another && (self.is_choked() || self.read_ended.get());
        if is_untold {
            self.choke_untold.set(self.is_choked());
            self.end_untold.set(self.read_ended.get());
            self.tell_what_is_untold_later();
        }
        drop(previous);
    }

    fn socket(&self) -> &dyn Socket {
        self.below.socket()
    }

    fn below(&self) -> Option<&Rc<dyn Stream>> {
        Some(&self.below)
    }
}

impl<P: Policy> Receiver for PolicyStream<P> {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        self.policy.received(data.len());
        if let Some(receiver) = self.receiver() {
            receiver.data_received(data);
        }
    }

    fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
        self.policy.received(data.len());
        if let Some(receiver) = self.receiver() {
            receiver.data_received_mut(data);
        }
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.read_ended.set(true);
        self.policy.received(0);
        if let Some(receiver) = self.receiver() {
            receiver.read_connection_lost();
        }
    }

    fn write_paused(self: Rc<Self>) {
        self.set_choked(&self.choked, true);
    }

    fn write_resumed(self: Rc<Self>) {
        self.set_choked(&self.choked, false);
    }

    fn vanish(self: Rc<Self>) {
        if let Some(receiver) = self.receiver() {
            receiver.vanish();
        }
    }

    fn about_to_be_lost(self: Rc<Self>) {
        if let Some(receiver) = self.receiver() {
            receiver.about_to_be_lost();
        }
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.lost.set(true);
        self.policy.connection_lost();
        // Detach, then call.
        let receiver = self.above.take();
        match receiver {
            Some(receiver) => receiver.connection_lost(reason),
            None => self.untold.set(Some(Box::new(reason))),
        }
    }
}

impl<P> Drop for PolicyStream<P> {
    fn drop(&mut self) {
        // Nobody will ever read it or close it, unless it is closing already.
        if !self.seated.get() && self.below.is_connected() {
            self.below.abort_connection(ConnectionLost::Aborted);
        }
    }
}
