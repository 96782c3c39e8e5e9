//! Producers: who writes much, and is told when to write.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::time::Duration;

use torsade_deferred::Trigger;

use crate::error::ConnectionLost;
use crate::panics;
use crate::stream::Stream;
use crate::transport::Transport;

/// How often a pull producer is asked in one turn.
const PULLS_PER_TURN: usize = 8;

/// When a pull producer is asked again that had nothing to write.
const IDLE_PULL: Duration = Duration::from_millis(10);

/// Produces what a transport sends, and heeds its pace.
///
/// Registered with [`Transport::register_producer`]. Called on the reactor's thread, never
/// from inside a method of the transport save for `register_producer` itself. Twisted's
/// `IPushProducer` and `IPullProducer`.
///
/// # Reentrancy
///
/// Every method may call everything, `unregister_producer` included.
pub trait Producer: 'static {
    /// Called when more than the high mark is unsent: write no more for now. For a pull
    /// producer, never.
    fn pause_producing(&mut self);

    /// Called to let a push producer go on, after each pause and not otherwise. A pull producer
    /// is called whenever the transport takes more: it writes a piece, or unregisters. One that
    /// did neither is asked again after 10 ms.
    fn resume_producing(&mut self);

    /// Called when nobody wants any more, once and last: the connection is lost, or our stream has
    /// ended.
    fn stop_producing(&mut self);
}

/// Who sets the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streaming {
    /// The producer writes by itself, and pauses when it is told: Twisted's `streaming=True`.
    Push,
    /// The producer writes when it is asked, one piece at a time.
    Pull,
}

/// Another producer is registered; this one is given back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("another producer is registered with this transport")]
pub struct AlreadyProducing<T>(pub T);

impl<T> fmt::Debug for AlreadyProducing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a seat knows of producers: nothing, for most connections.
#[derive(Default)]
pub(crate) struct Production {
    registered: RefCell<Option<Box<Registered>>>,
    /// Who waits until the writer may go on.
    drains: Cell<Option<Box<Drains>>>,
}

/// In a box: hardly any connection ever has one.
#[derive(Default)]
struct Drains {
    waiting: Vec<Trigger<()>>,
    /// Somebody waits for a flush to see whether the connection is being lost then.
    is_minded: bool,
}

struct Registered {
    /// Taken out while it is called.
    producer: Option<Box<dyn Producer>>,
    streaming: Streaming,
    /// A call that pulls is scheduled.
    pulling: bool,
    /// The transport is to be lost when it unregisters.
    lose: Option<ConnectionLost>,
    /// Our stream is to be ended then.
    lose_write: bool,
    /// Tells it from one that took its place.
    number: u64,
}

impl Production {
    /// Keeps the reason until the producer unregisters; gives it back if there is none.
    pub(crate) fn lose_later(&self, reason: ConnectionLost) -> Result<(), ConnectionLost> {
        match self.registered.borrow_mut().as_mut() {
            Some(registered) => {
                registered.lose.get_or_insert(reason);
                Ok(())
            }
            None => Err(reason),
        }
    }

    /// Has our stream ended when the producer unregisters, if there is one.
    pub(crate) fn lose_write_later(&self) -> bool {
        match self.registered.borrow_mut().as_mut() {
            Some(registered) => {
                registered.lose_write = true;
                true
            }
            None => false,
        }
    }

    pub(crate) fn wait_to_drain(&self, trigger: Trigger<()>) {
        let mut drains = self.drains.take().unwrap_or_default();
        drains.waiting.push(trigger);
        self.drains.set(Some(drains));
    }

    pub(crate) fn take_drains(&self) -> Vec<Trigger<()>> {
        let Some(mut drains) = self.drains.take() else {
            return Vec::new();
        };
        let waiting = mem::take(&mut drains.waiting);
        self.drains.set(Some(drains).filter(|it| it.is_minded));
        waiting
    }

    /// Somebody is to mind those who wait: whether nobody does yet.
    pub(crate) fn mind_drains(&self) -> bool {
        let mut drains = self.drains.take().unwrap_or_default();
        let is_minded = mem::replace(&mut drains.is_minded, true);
        self.drains.set(Some(drains));
        !is_minded
    }

    /// They were minded: whether any wait still.
    pub(crate) fn end_minding(&self) -> bool {
        let Some(mut drains) = self.drains.take() else {
            return false;
        };
        drains.is_minded = false;
        let do_wait = !drains.waiting.is_empty();
        self.drains.set(Some(drains).filter(|_| do_wait));
        do_wait
    }

    /// The end.
    pub(crate) fn stop(&self) {
        let registered = self.registered.take();
        if let Some(mut producer) = registered.and_then(|registered| registered.producer) {
            // The panic has been reported; there is no connection left to lose.
            let _ = panics::catch(|| {
                producer.stop_producing();
                drop(producer);
            });
        }
    }

    fn streaming(&self) -> Option<Streaming> {
        let registered = self.registered.borrow();
        registered.as_ref().map(|registered| registered.streaming)
    }

    /// Detach, then call: the producer is out of its place meanwhile, and does not come back
    /// if it has unregistered.
    fn call(&self, call: impl FnOnce(&mut dyn Producer)) {
        let taken = self
            .registered
            .borrow_mut()
            .as_mut()
            .and_then(|registered| {
                let producer = registered.producer.take()?;
                Some((producer, registered.number))
            });
        let Some((mut producer, number)) = taken else {
            return;
        };
        call(&mut *producer);
        let mut place = self.registered.borrow_mut();
        match place.as_mut().filter(|place| place.number == number) {
            Some(registered) => registered.producer = Some(producer),
            None => {
                drop(place);
                drop(producer);
            }
        }
    }
}

impl<P: 'static, S: Stream + ?Sized> Transport<P, S> {
    /// Registers who writes to this transport, to be paused and resumed at its pace.
    ///
    /// A push producer begins resumed; if the transport is paused at this moment, it is told
    /// so at once. A pull producer is asked for the first time in the next turn. While one is
    /// registered, [`lose_connection`](Transport::lose_connection) waits for it: the connection
    /// goes on as before, and is lost when the producer unregisters; so does
    /// [`lose_write_connection`](Transport::lose_write_connection). On a connection that is
    /// lost or being lost, or whose write side has ended, `stop_producing` is called at once, and
    /// nothing is registered.
    ///
    /// # Errors
    ///
    /// The producer, if there is one already.
    pub fn register_producer<T: Producer>(
        &self,
        mut producer: T,
        streaming: Streaming,
    ) -> Result<(), AlreadyProducing<T>> {
        if !self.takes_writes() {
            producer.stop_producing();
            return Ok(());
        }
        let production = self.production();
        if production.registered.borrow().is_some() {
            return Err(AlreadyProducing(producer));
        }
        let registered = Registered {
            producer: Some(Box::new(producer)),
            streaming,
            pulling: false,
            lose: None,
            lose_write: false,
            number: self.next_number(),
        };
        production.registered.replace(Some(Box::new(registered)));
        match streaming {
            Streaming::Push if self.is_choked() => production.call(|it| it.pause_producing()),
            Streaming::Push => {}
            Streaming::Pull => self.pull_later(Duration::ZERO),
        }
        Ok(())
    }

    /// Lets the producer go: it has written everything. A connection that was to be lost is
    /// lost now, after that. Nothing, if there is none.
    pub fn unregister_producer(&self) {
        let registered = self.production().registered.take();
        let Some(mut registered) = registered else {
            return;
        };
        match registered.lose.take() {
            Some(reason) => {
                self.stream().lose_connection(reason);
                self.flush_drains();
            }
            None if registered.lose_write => self.stream().lose_write_connection(),
            None => {}
        }
        drop(registered);
    }

    /// For layers, on `write_paused`: pauses the producer and tells the protocol.
    pub fn write_paused(&self, tell: impl FnOnce(&mut P, &Self) + 'static) {
        self.set_choked(true);
        if self.production().streaming() == Some(Streaming::Push) {
            self.call_producer(|producer| producer.pause_producing());
        }
        self.call(tell);
    }

    /// For layers, on `write_resumed`: lets the producer go on and tells the protocol.
    pub fn write_resumed(&self, tell: impl FnOnce(&mut P, &Self) + 'static) {
        self.set_choked(false);
        match self.production().streaming() {
            Some(Streaming::Push) => self.call_producer(|producer| producer.resume_producing()),
            Some(Streaming::Pull) => self.pull_later(Duration::ZERO),
            None => {}
        }
        self.call(tell);
        self.end_drains();
    }

    pub(crate) fn takes_writes(&self) -> bool {
        self.stream().is_connected() && !self.stream().is_write_ended()
    }

    /// A panic of the producer's is the connection's end, as one of the protocol's is.
    fn call_producer(&self, call: impl FnOnce(&mut dyn Producer)) {
        if let Err(panicked) = panics::catch(|| self.production().call(call)) {
            let reason = ConnectionLost::panicked(&panicked);
            self.stream().abort_connection(reason);
        }
    }

    fn pull_later(&self, delay: Duration) {
        let mut registered = self.production().registered.borrow_mut();
        let Some(registered) = registered.as_mut() else {
            return;
        };
        if mem::replace(&mut registered.pulling, true) {
            return;
        }
        let (transport, number) = (self.clone(), registered.number);
        let pull = move || transport.pull(number);
        if delay.is_zero() {
            self.reactor().call_soon(pull);
        } else {
            // It lives as long as the connection does.
            drop(self.reactor().call_later(delay, pull));
        }
    }

    /// Asks the producer for more, within the bounds of a turn.
    fn pull(&self, number: u64) {
        let is_current = || {
            let mut registered = self.production().registered.borrow_mut();
            let current = registered.as_mut().filter(|it| it.number == number);
            current
                .map(|registered| registered.pulling = false)
                .is_some()
        };
        for _ in 0..PULLS_PER_TURN {
            if !is_current() || self.is_choked() || !self.stream().is_connected() {
                return;
            }
            if self.stream().is_write_ended() {
                // By somebody else: it writes for nobody.
                return self.production().stop();
            }
            if self.is_congested() {
                break;
            }
            let before = (self.writes(), self.unsent());
            self.call_producer(|producer| producer.resume_producing());
            if before == (self.writes(), self.unsent()) {
                return self.pull_later(IDLE_PULL);
            }
        }
        // What was written leaves first; if it does not, the marks say when to go on.
        self.pull_later(Duration::ZERO);
    }
}
