//! Timers: put in, taken out, fired, with many pending.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::task::noop_waker_ref;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::time::DelayQueue;
use torsade::prelude::Reactor;

use crate::{
    NS_OF_CPU, Table, made, measure, missing, on_may, on_monoio, on_smol, report, tokio_runtime,
};

/// Put in and cancelled at once, with so many pending.
pub const INSERT_AND_CANCEL: Table = Table {
    name: "timers_cancel",
    group: "timers",
    axis: Some("pending"),
    sizes: &[1_000, 10_000, 100_000, 1_000_000],
    contenders: &[
        ("ours", "torsade: call_later, cancel", |pending| {
            ours_cancels(pending, true)
        }),
        ("tokio", "tokio: sleep, polled and dropped", |pending| {
            tokio_cancels(pending, true)
        }),
        ("calloop", "calloop: Timer, removed", |pending| {
            calloop_cancels(pending, true)
        }),
        ("smol", "smol: Timer, polled and dropped", |pending| {
            on_smol::cancels(pending, true)
        }),
        ("monoio", "monoio: sleep, polled and dropped", |pending| {
            on_monoio::cancels(pending, true)
        }),
        ("may", "may", |_| missing(on_may::NO_TIMER)),
        ("mio", "mio", |_| missing(crate::on_mio::NO_TIMER)),
    ],
    unit: NS_OF_CPU,
};

/// Put in while the oldest is cancelled, with so many pending.
pub const REPLACE: Table = Table {
    name: "timers_replace",
    group: "timers",
    axis: Some("pending"),
    sizes: &[1_000, 10_000, 100_000, 1_000_000],
    contenders: &[
        ("ours", "torsade: call_later, cancel", |pending| {
            ours_cancels(pending, false)
        }),
        ("tokio", "tokio: sleep, polled and dropped", |pending| {
            tokio_cancels(pending, false)
        }),
        ("calloop", "calloop: Timer, removed", |pending| {
            calloop_cancels(pending, false)
        }),
        ("smol", "smol: Timer, polled and dropped", |pending| {
            on_smol::cancels(pending, false)
        }),
        ("monoio", "monoio: sleep, polled and dropped", |pending| {
            on_monoio::cancels(pending, false)
        }),
        ("may", "may", |_| missing(on_may::NO_TIMER)),
        ("mio", "mio", |_| missing(crate::on_mio::NO_TIMER)),
    ],
    unit: NS_OF_CPU,
};

/// Put in and fired within a tenth of a second, a million within one, their deadline captured
/// and checked; and ours with nothing captured.
pub const INSERT_AND_FIRE: Table = Table {
    name: "timers_fire",
    group: "timers",
    axis: Some("timers"),
    sizes: &[1_000, 10_000, 100_000, 1_000_000],
    contenders: &[
        ("ours", "torsade: call_at", |count| ours_fires(count, true)),
        (
            "ours-empty",
            "torsade: call_later, nothing captured nor checked",
            |count| {
                ours_fires(count, false);
            },
        ),
        ("tokio", "tokio: a task that sleeps", tokio_fires),
        ("tokio-queue", "tokio-util: DelayQueue", tokio_queue_fires),
        ("calloop", "calloop: Timer", calloop_fires),
        ("smol", "smol: a task that sleeps", on_smol::fires),
        ("monoio", "monoio: a task that sleeps", on_monoio::fires),
        ("may", "may: a coroutine that sleeps", on_may::fires),
        ("mio", "mio", |_| missing(crate::on_mio::NO_TIMER)),
    ],
    unit: NS_OF_CPU,
};

/// How many are put in and taken out.
pub const CANCELLED: usize = 500_000;

/// The same for calloop, which looks through all that are pending for the one to remove.
const CANCELLED_SLOWLY: usize = 2_000;

/// Timeouts of a server: half a minute to a minute, like those of nobody else.
pub struct Delays(u64);

impl Delays {
    pub fn new() -> Self {
        Self(1)
    }

    fn draw(&mut self) -> u64 {
        // A linear congruential generator (Knuth's MMIX); the C program has the same.
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn timeout(&mut self) -> Duration {
        Duration::from_micros(30_000_000 + self.draw() % 30_000_000)
    }

    /// Of one of so many: within a tenth of a second, or a second.
    pub fn short(&mut self, count: usize) -> Duration {
        let window = if count < 1_000_000 {
            100_000
        } else {
            1_000_000
        };
        Duration::from_micros(self.draw() % window)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this measures; nothing is virtual here"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// A callback that has a deadline, and is not early.
pub fn check(deadline: Instant) {
    assert!(now() >= deadline, "a timer came early");
    made();
}

/// `put` makes a timer, `take` takes it out again. `at_once`: the same one; else the oldest.
pub fn cancels<T>(
    (pending, count): (usize, usize),
    at_once: bool,
    mut put: impl FnMut(Duration) -> T,
    take: impl Fn(T),
) {
    let mut delays = Delays::new();
    let mut queue: VecDeque<T> = VecDeque::with_capacity(pending + 1);
    queue.extend((0..pending).map(|_| put(delays.timeout())));
    let mut work = |count| {
        for _ in 0..count {
            let timer = put(delays.timeout());
            let taken = if at_once {
                timer
            } else {
                queue.push_back(timer);
                queue.pop_front().expect("one was pushed")
            };
            take(taken);
            made();
        }
    };
    work(count / 10);
    report(measure(count, || work(count)));
}

fn ours_cancels(pending: usize, at_once: bool) {
    let reactor = Reactor::new().expect("a descriptor is left");
    // The wheel begins to turn with the loop.
    reactor.call_later(Duration::ZERO, || ());
    reactor.turn(Some(Duration::ZERO)).expect("it turns");
    cancels(
        (pending, CANCELLED),
        at_once,
        |delay| reactor.call_later(delay, made),
        |call| assert!(call.cancel()),
    );
}

fn tokio_cancels(pending: usize, at_once: bool) {
    let runtime = tokio_runtime();
    runtime.block_on(async {
        cancels(
            (pending, CANCELLED),
            at_once,
            |delay| {
                let mut sleep = Box::pin(tokio::time::sleep(delay));
                register(sleep.as_mut());
                sleep
            },
            drop,
        );
    });
}

/// A timer that is a future is registered when it is polled.
pub fn register(sleep: Pin<&mut impl Future>) {
    let polled = sleep.poll(&mut Context::from_waker(noop_waker_ref()));
    assert!(polled.is_pending());
}

/// Calloop looks through all timers for the one to remove, and for each that fires.
fn calloop_bears(timers: usize) {
    if timers > 1_000 {
        missing("it looks through all timers for each: minutes");
    }
}

fn calloop_cancels(pending: usize, at_once: bool) {
    calloop_bears(pending);
    let event_loop = calloop::EventLoop::<()>::try_new().expect("a descriptor is left");
    let handle = event_loop.handle();
    cancels(
        (pending, CANCELLED_SLOWLY),
        at_once,
        |delay| {
            let timer = calloop::timer::Timer::from_duration(delay);
            handle
                .insert_source(timer, |_, (), ()| {
                    made();
                    calloop::timer::TimeoutAction::Drop
                })
                .expect("it is inserted")
        },
        |token| handle.remove(token),
    );
}

fn ours_fires(count: usize, capturing: bool) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let mut delays = Delays::new();
    report(measure(count, || {
        for _ in 0..count {
            let delay = delays.short(count);
            if capturing {
                let deadline = now() + delay;
                reactor.call_at(deadline, move || check(deadline));
            } else {
                reactor.call_later(delay, made);
            }
        }
        let until = crate::MADE.get() + count;
        while crate::MADE.get() < until {
            reactor.turn(None).expect("it turns");
        }
    }));
}

fn tokio_fires(count: usize) {
    let runtime = tokio_runtime();
    let mut delays = Delays::new();
    // `tokio::spawn` is dearer.
    let local = LocalSet::new();
    report(measure(count, || {
        local.block_on(&runtime, async {
            let until = crate::MADE.get() + count;
            let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
            for _ in 0..count {
                let deadline = now() + delays.short(count);
                let sleep = tokio::time::sleep_until(deadline.into());
                drop(spawn_local(sleeper(sleep, deadline, until, sender.clone())));
            }
            receiver.recv().await.expect("the last one says so");
        });
    }));
}

/// A task that sleeps, and is not early; the last of them says that it was. (The channel belongs to no
/// runtime: all tasks that sleep have it.)
pub async fn sleeper(
    sleep: impl Future,
    deadline: Instant,
    until: usize,
    sender: tokio::sync::mpsc::Sender<()>,
) {
    sleep.await;
    check(deadline);
    if crate::MADE.get() == until {
        sender.try_send(()).expect("there is room for one");
    }
}

fn tokio_queue_fires(count: usize) {
    let runtime = tokio_runtime();
    let mut delays = Delays::new();
    report(measure(count, || {
        runtime.block_on(async {
            let mut queue = DelayQueue::new();
            for _ in 0..count {
                let deadline = now() + delays.short(count);
                queue.insert_at(deadline, deadline.into());
            }
            let mut queue = pin!(queue);
            poll_fn(|context| {
                loop {
                    match queue.as_mut().poll_expired(context) {
                        Poll::Ready(Some(expired)) => check(expired.into_inner()),
                        Poll::Ready(None) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        });
    }));
}

fn calloop_fires(count: usize) {
    calloop_bears(count);
    let mut event_loop = calloop::EventLoop::<()>::try_new().expect("a descriptor is left");
    let handle = event_loop.handle();
    let mut delays = Delays::new();
    report(measure(count, || {
        for _ in 0..count {
            let deadline = now() + delays.short(count);
            let timer = calloop::timer::Timer::from_deadline(deadline);
            handle
                .insert_source(timer, move |_, (), ()| {
                    check(deadline);
                    calloop::timer::TimeoutAction::Drop
                })
                .expect("it is inserted");
        }
        let until = crate::MADE.get() + count;
        while crate::MADE.get() < until {
            event_loop.dispatch(None, &mut ()).expect("it turns");
        }
    }));
}
