//! Calls for the next turn: a thousand a turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{LocalSet, spawn_local, yield_now};
use torsade::prelude::Reactor;

use crate::{
    NS_OF_CPU, Table, made, measure, missing, on_may, on_mio, on_monoio, on_smol, report,
    tokio_runtime,
};

/// A callback that captures nothing, a thousand a turn.
pub const EMPTY: Table = Table {
    name: "call_soon",
    group: "call_soon",
    axis: None,
    sizes: &[1_000_000],
    contenders: &[
        ("ours", "torsade: call_soon", |count| ours(count, || made)),
        ("tokio", "tokio: spawn_local of a ready future", |count| {
            with_tokio(count, || async { made() });
        }),
        ("calloop", "calloop: insert_idle", |count| {
            with_calloop(count, || made)
        }),
        ("bare", "bare: a VecDeque of boxed calls", |count| {
            bare(count, || made)
        }),
        ("smol", "smol: a task of a ready future", |count| {
            on_smol::calls(count, || async { made() });
        }),
        ("monoio", "monoio: a task of a ready future", |count| {
            on_monoio::calls(count, || async { made() });
        }),
        ("may", "may: a coroutine", on_may::calls),
        ("mio", "mio", |_| missing(on_mio::NO_CALL)),
    ],
    unit: NS_OF_CPU,
};

/// What a callback carries: something that has to be dropped, and a number.
type Captured = (Rc<()>, u64);

/// A callback that captures an `Rc` and a number, a thousand a turn.
pub const CAPTURING: Table = Table {
    name: "call_soon_capturing",
    group: "call_soon",
    axis: None,
    sizes: &[1_000_000],
    contenders: &[
        ("ours", "torsade: call_soon", |count| {
            let captured = captured();
            ours(count, move || capturing(captured.clone()));
        }),
        ("tokio", "tokio: spawn_local of a ready future", |count| {
            let captured = captured();
            with_tokio(count, move || ready(captured.clone()));
        }),
        ("calloop", "calloop: insert_idle", |count| {
            let captured = captured();
            with_calloop(count, move || capturing(captured.clone()));
        }),
        ("bare", "bare: a VecDeque of boxed calls", |count| {
            let captured = captured();
            bare(count, move || capturing(captured.clone()));
        }),
        ("smol", "smol: a task of a ready future", |count| {
            let captured = captured();
            on_smol::calls(count, move || ready(captured.clone()));
        }),
        ("monoio", "monoio: a task of a ready future", |count| {
            let captured = captured();
            on_monoio::calls(count, move || ready(captured.clone()));
        }),
        ("may", "may: a coroutine", |_| {
            missing("its coroutines move from thread to thread: no `Rc`");
        }),
        ("mio", "mio", |_| missing(on_mio::NO_CALL)),
    ],
    unit: NS_OF_CPU,
};

pub const BATCH: usize = 1000;

fn captured() -> Captured {
    (Rc::new(()), 1)
}

fn capturing(captured: Captured) -> impl FnOnce() + 'static {
    move || {
        black_box(&captured);
        made();
    }
}

fn ready(captured: Captured) -> impl Future<Output = ()> + 'static {
    let call = capturing(captured);
    async move { call() }
}

fn ours<F: FnOnce() + 'static>(count: usize, mut call: impl FnMut() -> F) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let mut batch = || {
        for _ in 0..BATCH {
            reactor.call_soon(call());
        }
        reactor.turn(Some(Duration::ZERO)).expect("it turns");
    };
    batch();
    report(measure(count, || (0..count / BATCH).for_each(|_| batch())));
}

/// In a `LocalSet` also where the futures could be sent: `tokio::spawn` is dearer.
fn with_tokio<F: Future<Output = ()> + 'static>(count: usize, mut call: impl FnMut() -> F) {
    let runtime = tokio_runtime();
    let batches = batches(count, || drop(spawn_local(call())), yield_now);
    LocalSet::new().block_on(&runtime, batches);
}

/// A thousand tasks, and the others' turn until all have run; first once, then as often as is measured.
pub async fn batches(count: usize, mut spawn: impl FnMut(), pause: impl AsyncFn()) {
    let mut cost = 0.0;
    for batches in [1, count / BATCH] {
        let before = bench_rounds::cpu_time();
        let made_before = crate::MADE.get();
        for _ in 0..batches {
            let until = crate::MADE.get() + BATCH;
            (0..BATCH).for_each(|_| spawn());
            while crate::MADE.get() < until {
                pause().await;
            }
        }
        assert_eq!(crate::MADE.get() - made_before, batches * BATCH);
        let took = bench_rounds::cpu_time() - before;
        cost = took.as_nanos() as f64 / (batches * BATCH) as f64;
    }
    report(cost);
}

fn with_calloop<F: FnOnce() + 'static>(count: usize, mut call: impl FnMut() -> F) {
    let mut event_loop = calloop::EventLoop::<()>::try_new().expect("a descriptor is left");
    let handle = event_loop.handle();
    let mut batch = || {
        for _ in 0..BATCH {
            let call = call();
            handle.insert_idle(move |()| call());
        }
        event_loop
            .dispatch(Some(Duration::ZERO), &mut ())
            .expect("it turns");
    };
    batch();
    report(measure(count, || (0..count / BATCH).for_each(|_| batch())));
}

fn bare<F: FnOnce() + 'static>(count: usize, mut call: impl FnMut() -> F) {
    let queue: RefCell<VecDeque<Box<dyn FnOnce()>>> = RefCell::default();
    let mut batch = || {
        for _ in 0..BATCH {
            queue.borrow_mut().push_back(Box::new(call()));
        }
        let mut calls = mem::take(&mut *queue.borrow_mut());
        for call in calls.drain(..) {
            call();
        }
        *queue.borrow_mut() = calls;
    };
    batch();
    report(measure(count, || (0..count / BATCH).for_each(|_| batch())));
}
