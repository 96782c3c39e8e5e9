//! Who is woken, what a body no longer waits for, and what becomes of what it dropped.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use torsade_deferred::{Deferred, DeferredQueue, Failure, Resume};

use crate::support::{check_cancelled, counted, reports, value};
use crate::tasks::Bell;

fn run(body: impl Future<Output = Result<u32, Failure>> + 'static) -> Deferred<u32> {
    Deferred::from_future(body)
}

#[test]
fn a_wake_finds_its_own_task_after_another_one_has_had_the_waker() {
    let bell = Bell::default();
    let awaited = bell.clone();
    let first = run(async move {
        awaited.await;
        Ok(1)
    });
    let (trigger, number) = Deferred::<u32>::new();
    // Rung inside a chain, the first task is polled when nobody has its waker any more.
    drop(number.add_callback(move |_| bell.ring()));
    trigger.callback(0);
    assert_eq!(value(first), 1);
    let bell = Bell::default();
    let awaited = bell.clone();
    let second = run(async move {
        awaited.await;
        Ok(2)
    });
    bell.ring();
    assert_eq!(value(second), 2);
}

#[test]
fn a_task_whose_waker_nobody_has_is_kept_by_nobody() {
    let captured = Rc::new(());
    let held = Rc::clone(&captured);
    let bell = Bell::default();
    let awaited = bell.clone();
    let task = run(async move {
        let _held = held;
        awaited.await;
        pending::<()>().await;
        Ok(1)
    });
    drop(task);
    assert_eq!(Rc::strong_count(&captured), 2);
    let (trigger, number) = Deferred::<u32>::new();
    drop(number.add_callback(move |_| bell.ring()));
    trigger.callback(0);
    assert_eq!(Rc::strong_count(&captured), 1);
}

/// The first of two that is ready; the other is dropped.
async fn first_of(a: Deferred<u32>, b: Deferred<()>) -> Option<Result<u32, Failure>> {
    let (mut a, mut b) = (a, b);
    poll_fn(move |context| {
        if let Poll::Ready(result) = Pin::new(&mut a).poll(context) {
            return Poll::Ready(Some(result));
        }
        Pin::new(&mut b).poll(context).map(|_| None)
    })
    .await
}

#[test]
fn a_value_is_not_given_to_a_getter_that_a_select_has_dropped() {
    let queue = DeferredQueue::<u32>::new();
    let values = queue.clone();
    let (stop, stopped) = Deferred::<()>::new();
    let (_gate_trigger, gate) = Deferred::<u32>::new();
    let _task = run(async move {
        let get = values.get()?;
        assert!(first_of(get, stopped).await.is_none());
        gate.await
    });
    stop.callback(());
    queue.put(1).expect("the queue has no limit");
    assert_eq!(queue.len(), 1);
}

#[test]
fn cancelling_a_body_that_awaits_a_foreign_future_drops_it_whatever_it_dropped_before() {
    let (log, _guard) = reports();
    let captured = Rc::new(());
    let held = Rc::clone(&captured);
    let (_slow_trigger, slow, slow_stopped) = counted();
    let (stop, stopped) = Deferred::<()>::new();
    let task = run(async move {
        let _held = held;
        assert!(first_of(slow, stopped).await.is_none());
        pending::<()>().await;
        Ok(0)
    });
    stop.callback(());
    task.cancel();
    assert_eq!(Rc::strong_count(&captured), 1);
    // Dropping a Deferred does not cancel it.
    assert_eq!(slow_stopped.get(), 0);
    check_cancelled(task);
    log.check(&[]);
}

#[test]
fn cancelling_a_body_cancels_what_it_awaits_and_not_what_it_has_given_to_another() {
    let (_given_trigger, given, given_stopped) = counted();
    let (_kept_trigger, kept, kept_stopped) = counted();
    let others = Rc::new(Cell::new(None));
    let other = Rc::clone(&others);
    let task = run(async move {
        let mut given = Some(given);
        poll_fn(|context| {
            let polled = Pin::new(given.as_mut().expect("polled once")).poll(context);
            assert!(polled.is_pending());
            Poll::Ready(())
        })
        .await;
        other.set(given.take().map(run));
        kept.await
    });
    task.cancel();
    assert_eq!((given_stopped.get(), kept_stopped.get()), (0, 1));
    check_cancelled(task);
    drop(others.take());
}

#[test]
fn cancelling_a_body_that_is_about_to_go_on_is_nothing() {
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(number);
    let canceller = task.canceller();
    let (outer_trigger, outer) = Deferred::<()>::new();
    drop(outer.add_callback(move |()| {
        trigger.fire_soon(Ok(7));
        canceller.cancel();
    }));
    outer_trigger.callback(());
    assert_eq!(value(task), 7);
}

#[test]
fn a_dropped_deferred_keeps_no_waker() {
    struct Counting(AtomicU32);
    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counting = Arc::new(Counting(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&counting));
    let (trigger, mut number) = Deferred::<u32>::new();
    let polled = Pin::new(&mut number).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop((number, waker));
    assert_eq!(Arc::strong_count(&counting), 1);
    assert!(!trigger.is_watched());
    trigger.callback(1);
    assert_eq!(counting.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_wake_after_one_that_was_dropped_on_its_way_arrives() {
    let letters = Arc::new(Mutex::new(Vec::<Resume>::new()));
    let mailbox = Arc::clone(&letters);
    let wakers = Rc::new(Cell::new(None::<Waker>));
    let waker = Rc::clone(&wakers);
    let polls = Rc::new(Cell::new(0));
    let count = Rc::clone(&polls);
    let body = poll_fn(move |context| {
        count.set(count.get() + 1);
        waker.set(Some(context.waker().clone()));
        Poll::<Result<u32, Failure>>::Pending
    });
    let _task = Deferred::<u32>::from_future_with(
        body,
        Arc::new(move |resume| mailbox.lock().expect("nobody panics").push(resume)),
    );
    let waker = wakers.take().expect("it was polled");
    waker.wake_by_ref();
    let lost = letters.lock().expect("nobody panics").pop();
    drop(lost);
    waker.wake_by_ref();
    let arrived = letters.lock().expect("nobody panics").pop();
    arrived
        .expect("a second")
        .run()
        .expect("this is its thread");
    assert_eq!(polls.get(), 2);
    // Several wakes are one, while the first is on its way.
    waker.wake_by_ref();
    waker.wake_by_ref();
    assert_eq!(letters.lock().expect("nobody panics").len(), 1);
}
