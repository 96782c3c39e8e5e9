//! How long a call from another thread takes to be made: by the wall clock, from the post to
//! the call, with the loop asleep in its wait, and awake with calls of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::yield_now;
use torsade::prelude::Reactor;

use crate::from_threads::Boxed;
use crate::{Table, missing, on_may, on_mio, on_monoio, on_smol, report, tokio_runtime};

/// The median of a process's posts.
pub const CALLS: Table = Table {
    name: "latency",
    group: "latency",
    axis: Some("loops"),
    sizes: &[ASLEEP, AWAKE],
    contenders: &[
        ("ours", "torsade: call_from_thread", ours),
        (
            "tokio",
            "tokio: unbounded mpsc of boxed calls, a task",
            tokio_calls,
        ),
        ("calloop", "calloop: channel of boxed calls", calloop),
        (
            "smol",
            "smol: unbounded channel of boxed calls, local task",
            on_smol::latency,
        ),
        (
            "may",
            "may: mpsc of boxed calls, coroutine",
            on_may::latency,
        ),
        (
            "mio",
            "mio: std's mpsc of boxed calls, Waker",
            on_mio::latency,
        ),
        ("monoio", "monoio", |_| missing(on_monoio::NO_THREADS)),
    ],
    unit: "ns of the wall clock from post to call",
};

/// Calls that the loop always has of its own: no size, but how it goes.
pub const ASLEEP: usize = 0;
pub const AWAKE: usize = 1;

/// How many are posted, each when the one before was made.
pub const POSTS: usize = 2_000;

#[expect(
    clippy::disallowed_methods,
    reason = "this measures; nothing is virtual here"
)]
fn now() -> Instant {
    Instant::now()
}

/// What was measured, on the loop's side.
#[derive(Clone, Default)]
pub struct Heard {
    took: Rc<RefCell<Vec<Duration>>>,
}

impl Heard {
    pub fn count(&self) -> usize {
        self.took.borrow().len()
    }

    /// One call was made, that was posted then.
    fn one(&self, posted: Instant, made: &AtomicUsize) {
        self.took.borrow_mut().push(now() - posted);
        made.store(self.count(), Ordering::Release);
    }

    /// The median, without those that found everything cold.
    pub fn report(&self) {
        let mut took = self.took.borrow_mut().split_off(POSTS / 10);
        took.sort();
        report(took[took.len() / 2].as_nanos() as f64);
    }
}

/// Posts from a thread, each when the one before was made; and a little later, so that a loop
/// that has nothing to do sleeps.
pub fn poster(
    made: &Arc<AtomicUsize>,
    mut post: impl FnMut(Instant) + Send + 'static,
) -> thread::JoinHandle<()> {
    let made = Arc::clone(made);
    thread::spawn(move || {
        for posted in 0..POSTS {
            while made.load(Ordering::Acquire) < posted {
                std::hint::spin_loop();
            }
            let until = now() + Duration::from_micros(50);
            while now() < until {
                std::hint::spin_loop();
            }
            post(now());
        }
    })
}

thread_local! {
    static HEARD: Heard = Heard::default();
}

pub fn heard() -> Heard {
    HEARD.with(Clone::clone)
}

fn ours(busy: usize) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let made = Arc::new(AtomicUsize::new(0));
    let (remote, count) = (reactor.remote(), Arc::clone(&made));
    let thread = poster(&made, move |posted| {
        let count = Arc::clone(&count);
        remote.call_from_thread(move |_| heard().one(posted, &count));
    });
    if busy == AWAKE {
        again(&reactor);
    }
    while heard().count() < POSTS {
        reactor.turn(None).expect("it turns");
    }
    thread.join().expect("it posts and ends");
    heard().report();
}

/// A call that schedules itself.
fn again(reactor: &Reactor) {
    let own = reactor.clone();
    reactor.call_soon(move || again(&own));
}

pub fn boxed(posted: Instant, count: &Arc<AtomicUsize>) -> Boxed {
    let count = Arc::clone(count);
    Box::new(move || heard().one(posted, &count))
}

fn tokio_calls(busy: usize) {
    let runtime = tokio_runtime();
    let made = Arc::new(AtomicUsize::new(0));
    let (sender, mut receiver) = mpsc::unbounded_channel::<Boxed>();
    let count = Arc::clone(&made);
    let thread = poster(&made, move |posted| {
        assert!(
            sender.send(boxed(posted, &count)).is_ok(),
            "somebody listens"
        );
    });
    runtime.block_on(async {
        if busy == AWAKE {
            drop(tokio::spawn(async {
                loop {
                    yield_now().await;
                }
            }));
        }
        let task = tokio::spawn(async move {
            for _ in 0..POSTS {
                receiver.recv().await.expect("somebody posts")();
            }
        });
        task.await.expect("it ends");
    });
    thread.join().expect("it posts and ends");
    heard().report();
}

fn calloop(busy: usize) {
    let mut event_loop = calloop::EventLoop::<()>::try_new().expect("a descriptor is left");
    let (sender, channel) = calloop::channel::channel::<Boxed>();
    event_loop
        .handle()
        .insert_source(channel, |event, (), ()| {
            if let calloop::channel::Event::Msg(call) = event {
                call();
            }
        })
        .expect("it is inserted");
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let thread = poster(&made, move |posted| {
        assert!(
            sender.send(boxed(posted, &count)).is_ok(),
            "somebody listens"
        );
    });
    let patience = (busy == AWAKE).then_some(Duration::ZERO);
    while heard().count() < POSTS {
        event_loop.dispatch(patience, &mut ()).expect("it turns");
    }
    thread.join().expect("it posts and ends");
    heard().report();
}
