//! Two connections that become one: what comes from either goes out at the other.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Canceller, Deferred, Failure, Trigger};

use crate::delayed_call::DelayedCall;
use crate::error::ConnectionLost;
use crate::standstill::Standstill;
use crate::stream::{Receiver, Stream};

/// How much a [`tunnel`] carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from the first stream to the second.
    pub forth: u64,
    /// Bytes from the second stream to the first.
    pub back: u64,
}

/// Wires two streams to each other, and fires when both connections are over. Twisted's
/// `portforward`.
///
/// What comes from either is written to the other, as it comes. Who reads slowly slows the
/// other down: while more than [`Limits::unsent_high`](crate::Limits::unsent_high) waits for
/// it, nothing is read from the other, so that neither direction holds more than that and one
/// read. When one side ends its stream, the other's is ended behind the bytes before; when
/// both have, or one is lost in order, the rest is sent and both are lost. When one is cut off, the
/// other is aborted behind what was read before: what came must not look like everything.
///
/// The streams' receivers are replaced: a protocol that hands its
/// [`stream`](crate::Transport::stream) over is told nothing more. Reading that was paused goes
/// on; what waited for a slow side before counts, too. A side that sends everything before it
/// reads anything is read all the same ([`Stream::set_throttled`](crate::Stream::set_throttled)).
///
/// # Cancellation
///
/// Aborts both connections.
///
/// # Examples
///
/// ```
/// use torsade_reactor::testing::{memory_pair, virtual_time_reactor};
/// use torsade_reactor::{Protocol, Transport, tunnel};
///
/// struct Says(&'static str);
///
/// impl Protocol for Says {
///     fn connection_made(&mut self, transport: &Transport<Self>) {
///         transport.write(self.0);
///     }
///
///     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
///         assert_ne!(data, self.0.as_bytes());
///         transport.lose_connection();
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = virtual_time_reactor();
/// let (front, back) = (memory_pair(&reactor), memory_pair(&reactor));
/// Transport::connect(Says("question"), front.client);
/// Transport::connect(Says("answer"), back.server);
/// let carried = reactor.run_until(tunnel(front.server, back.client))?;
/// assert_eq!((carried.forth, carried.back), (8, 6));
/// # Ok(())
/// # }
/// ```
pub fn tunnel(first: Rc<dyn Stream>, second: Rc<dyn Stream>) -> Deferred<Carried> {
    connect(first, second).1
}

/// As [`tunnel`], and ends both connections when nothing has moved for a while, in either direction: after
/// `idle` at the earliest, and twice that at the latest.
///
/// What has been written and leaves bit by bit moves, too. The connections are aborted, since who takes
/// nothing for so long cannot be sent the rest.
///
/// # Cancellation
///
/// Aborts both connections.
pub fn tunnel_with_timeout(
    first: Rc<dyn Stream>,
    second: Rc<dyn Stream>,
    idle: Duration,
) -> Deferred<Carried> {
    let (passage, deferred) = connect(first, second);
    passage.watch(idle);
    deferred
}

fn connect(first: Rc<dyn Stream>, second: Rc<dyn Stream>) -> (Rc<Passage>, Deferred<Carried>) {
    let (trigger, deferred) = Deferred::new();
    let passage = Rc::new(Passage {
        streams: [first, second],
        carried: Default::default(),
        ended: Default::default(),
        lost: Default::default(),
        trigger: RefCell::default(),
        seen: Cell::default(),
        timer: RefCell::default(),
    });
    let weak = Rc::downgrade(&passage);
    trigger.on_cancel(move || {
        if let Some(passage) = weak.upgrade() {
            for stream in &passage.streams {
                stream.abort_connection(ConnectionLost::Aborted);
            }
        }
    });
    passage.trigger.replace(Some(trigger));
    for near in [0, 1] {
        let receiver = Rc::new(Mouth {
            passage: Rc::clone(&passage),
            near,
        });
        passage.streams[near].set_receiver(receiver);
    }
    for stream in &passage.streams {
        // The marks pace it, each direction by itself; nobody else does from here on.
        stream.set_throttled(false);
        stream.resume_reading();
    }
    (passage, deferred)
}

/// Both directions; the index is that of the stream that bytes come from.
struct Passage {
    streams: [Rc<dyn Stream>; 2],
    carried: [Cell<u64>; 2],
    ended: [Cell<bool>; 2],
    lost: [Cell<bool>; 2],
    trigger: RefCell<Option<Trigger<Carried>>>,
    /// What had moved when the timer came last: carried and unsent, each way.
    seen: Cell<[u64; 4]>,
    timer: RefCell<Option<DelayedCall>>,
}

impl Passage {
    /// Has somebody look after `idle` whether anything has moved.
    fn watch(self: &Rc<Self>, idle: Duration) {
        if self.lost.iter().all(Cell::get) {
            return;
        }
        let weak = Rc::downgrade(self);
        let reactor = self.streams[0].socket().reactor();
        let timer = reactor.call_later(idle, move || {
            if let Some(passage) = weak.upgrade() {
                passage.look(idle);
            }
        });
        self.timer.replace(Some(timer));
    }

    fn look(self: &Rc<Self>, idle: Duration) {
        let [forth, back] = [0, 1].map(|from| self.carried[from].get());
        let [first, second] = [0, 1].map(|near| self.streams[near].unsent() as u64);
        let now = [forth, back, first, second];
        if self.seen.replace(now) != now {
            return self.watch(idle);
        }
        for stream in &self.streams {
            stream.abort_connection(ConnectionLost::TimedOut {
                waiting_for: "anything to move in the tunnel",
                limit: idle,
            });
        }
    }

    fn lose_both(&self) {
        for stream in &self.streams {
            stream.lose_connection(ConnectionLost::Done);
        }
    }
}

/// What receives at one of the two streams.
struct Mouth {
    passage: Rc<Passage>,
    near: usize,
}

impl Mouth {
    fn near(&self) -> &dyn Stream {
        &*self.passage.streams[self.near]
    }

    fn far(&self) -> &dyn Stream {
        &*self.passage.streams[1 - self.near]
    }
}

impl Mouth {
    /// The near side was cut off: who is at the far one must not take what came for everything.
    fn abort_far(&self) {
        let far = Rc::clone(&self.passage.streams[1 - self.near]);
        far.pause_reading();
        let flushed = far.flush();
        let still = Rc::new(Still {
            stream: Rc::clone(&far),
            waiting: flushed.canceller(),
            standstill: Standstill::begin(&*far, far.limits().flush),
            timer: RefCell::default(),
        });
        still.look_in(still.standstill.first_look());
        // Dropped: whether all of it could be sent or not, it ends here.
        drop(flushed.add_both(move |_| {
            if let Some(timer) = still.timer.take() {
                timer.cancel();
            }
            far.abort_connection(ConnectionLost::Aborted);
            Ok::<_, Failure>(())
        }));
    }
}

/// Gives up waiting for a stream that stands still.
struct Still {
    stream: Rc<dyn Stream>,
    waiting: Canceller,
    standstill: Standstill,
    timer: RefCell<Option<DelayedCall>>,
}

impl Still {
    fn look_in(self: &Rc<Self>, delay: Duration) {
        let weak = Rc::downgrade(self);
        let look = move || {
            if let Some(still) = weak.upgrade() {
                match still.standstill.look(&*still.stream) {
                    Some(delay) => still.look_in(delay),
                    None => still.waiting.cancel(),
                }
            }
        };
        let timer = self.stream.socket().reactor().call_later(delay, look);
        self.timer.replace(Some(timer));
    }
}

impl Receiver for Mouth {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        self.far().write(data);
        let carried = &self.passage.carried[self.near];
        carried.set(carried.get() + data.len() as u64);
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.passage.ended[self.near].set(true);
        if self.passage.ended[1 - self.near].get() {
            self.passage.lose_both();
        } else {
            self.far().lose_write_connection();
        }
    }

    /// The near side does not take what the far one sends.
    fn write_paused(self: Rc<Self>) {
        self.far().pause_reading();
    }

    fn write_resumed(self: Rc<Self>) {
        self.far().resume_reading();
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.passage.lost[self.near].set(true);
        if !self.passage.lost[1 - self.near].get() {
            // What was read from here before is still to be sent there.
            if reason.is_clean() {
                return self.passage.lose_both();
            }
            return self.abort_far();
        }
        // Detach, then call.
        let trigger = self.passage.trigger.take();
        if let Some(timer) = self.passage.timer.take() {
            timer.cancel();
        }
        let [forth, back] = [0, 1].map(|from| self.passage.carried[from].get());
        if let Some(trigger) = trigger {
            trigger.callback(Carried { forth, back });
        }
    }
}

impl fmt::Debug for Mouth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mouth({:?})", self.near().socket().peer())
    }
}
