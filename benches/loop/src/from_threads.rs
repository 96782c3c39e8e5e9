//! Calls from other threads: one or four of them post as fast as they can.

use std::thread;

use tokio::sync::mpsc;
use torsade::prelude::Reactor;

use crate::{
    NS_OF_CPU, Table, made, measure, missing, on_may, on_mio, on_monoio, on_smol, report,
    tokio_runtime,
};

/// Calls from threads into the loop, each with a number.
pub const CALLS: Table = Table {
    name: "call_from_thread",
    group: "call_from_thread",
    axis: Some("threads"),
    sizes: &[1, 4],
    contenders: &[
        ("ours", "torsade: call_from_thread", ours),
        (
            "tokio",
            "tokio: unbounded mpsc of boxed calls, recv_many",
            tokio_calls,
        ),
        (
            "tokio-numbers",
            "tokio: unbounded mpsc of numbers, recv_many",
            tokio_numbers,
        ),
        ("calloop", "calloop: channel of boxed calls", calloop),
        (
            "smol",
            "smol: unbounded channel of boxed calls, local task",
            on_smol::from_threads,
        ),
        (
            "may",
            "may: mpsc of boxed calls, coroutine",
            on_may::from_threads,
        ),
        (
            "mio",
            "mio: std's mpsc of boxed calls, Waker",
            on_mio::from_threads,
        ),
        ("monoio", "monoio", |_| missing(on_monoio::NO_THREADS)),
    ],
    unit: NS_OF_CPU,
};

/// Calls in all, whatever the number of threads.
pub const CALLS_MADE: usize = 1_000_000;

/// What a call brings, so that one is not like the other.
fn take(number: usize) {
    assert!(number < CALLS_MADE);
    made();
}

/// How many calls come from so many threads.
pub fn calls_of(threads: usize) -> usize {
    CALLS_MADE / threads * threads
}

/// A call with a number.
pub fn boxed(number: usize) -> Boxed {
    Box::new(move || take(number))
}

/// Runs a thread's part on so many of them while `listen` hears them.
pub fn threads<P: Fn(usize) + Send + 'static>(
    threads: usize,
    poster: impl Fn() -> P,
    listen: impl FnOnce(),
) {
    let each = CALLS_MADE / threads;
    report(measure(each * threads, || {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let post = poster();
                thread::spawn(move || (0..each).for_each(post))
            })
            .collect();
        listen();
        for thread in threads {
            thread.join().expect("it posts and ends");
        }
    }));
}

fn ours(count: usize) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let until = calls_of(count);
    threads(
        count,
        || {
            let remote = reactor.remote();
            move |number| remote.call_from_thread(move |_| take(number))
        },
        || {
            while crate::MADE.get() < until {
                reactor.turn(None).expect("it turns");
            }
        },
    );
}

pub type Boxed = Box<dyn FnOnce() + Send>;

fn tokio_calls(count: usize) {
    with_tokio(count, boxed, |call| call());
}

fn tokio_numbers(count: usize) {
    with_tokio(count, |number| number, take);
}

/// How many tokio's task takes from its channel at once.
const AT_ONCE: usize = 1024;

fn with_tokio<T: Send + 'static>(count: usize, make: fn(usize) -> T, hear: fn(T)) {
    let runtime = tokio_runtime();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let until = calls_of(count);
    threads(
        count,
        || {
            let sender = sender.clone();
            move |number| assert!(sender.send(make(number)).is_ok(), "somebody listens")
        },
        || {
            runtime.block_on(async {
                let task = tokio::spawn(async move {
                    let mut heard = Vec::with_capacity(AT_ONCE);
                    let mut left = until;
                    while left > 0 {
                        let count = receiver.recv_many(&mut heard, AT_ONCE).await;
                        assert_ne!(count, 0, "somebody posts");
                        heard.drain(..).for_each(hear);
                        left -= count;
                    }
                });
                task.await.expect("it ends");
            });
        },
    );
}

fn calloop(count: usize) {
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
    let until = calls_of(count);
    threads(
        count,
        || {
            let sender = sender.clone();
            move |number| {
                assert!(sender.send(boxed(number)).is_ok(), "somebody listens");
            }
        },
        || {
            while crate::MADE.get() < until {
                event_loop.dispatch(None, &mut ()).expect("it turns");
            }
        },
    );
}
