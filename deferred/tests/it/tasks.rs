//! `async` blocks as Deferreds, Deferreds as futures.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use torsade_deferred::{Canceller, Deferred, Failure, Interrupted, Resume, fail, succeed};

use crate::support::{
    Broken, Log, broken, check_cancelled, counted, failure, is_cancelled, on_a_small_stack,
    reports, value,
};

fn run(body: impl Future<Output = Result<u32, Failure>> + 'static) -> Deferred<u32> {
    Deferred::from_future(body)
}

/// #257
#[test]
fn a_body_runs_at_once_up_to_the_first_pending_deferred() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(async move {
        notes.note("started");
        let n = number.await?;
        notes.note("resumed");
        Ok(n)
    });
    log.check(&["started"]);
    trigger.callback(1);
    log.check(&["started", "resumed"]);
    assert_eq!(value(task), 1);
    let at_once = run(async { Ok(7) });
    assert!(at_once.is_fired());
    assert_eq!(value(at_once), 7);
}

/// #258
#[test]
fn awaiting_a_fired_deferred_goes_on_at_once() {
    assert_eq!(
        value(run(async { Ok(succeed::<u32, Failure>(1).await? + 1) })),
        2
    );
}

/// #261
#[test]
fn many_immediate_awaits_do_not_grow_the_stack() {
    on_a_small_stack(|| {
        let sum = run(async {
            let mut sum = 0;
            for _ in 0..5000 {
                sum += Deferred::<u32>::from_future(async { Ok(1) }).await?;
            }
            Ok(sum)
        });
        assert_eq!(value(sum), 5000);
    });
}

/// #262
#[test]
fn awaiting_many_fired_deferreds_does_not_grow_the_stack() {
    on_a_small_stack(|| {
        let sum = run(async {
            let mut sum = 0;
            for _ in 0..100_000 {
                sum += succeed::<u32, Failure>(1).await?;
            }
            Ok(sum)
        });
        assert_eq!(value(sum), 100_000);
    });
}

/// #263
#[test]
fn a_body_resumes_inside_the_call_that_fires() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(async move {
        let n = number.await?;
        notes.note("body");
        Ok(n)
    });
    trigger.callback(1);
    log.note("fired");
    log.check(&["body", "fired"]);
    value(task);
}

/// #264
#[test]
fn a_failure_comes_out_of_the_await() {
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(async move {
        Ok(number
            .await
            .map_or_else(|f| u32::from(f.check::<Broken>()), |_| 0))
    });
    trigger.errback(broken("x"));
    assert_eq!(value(task), 1);
}

/// #265
#[test]
fn a_failure_caught_by_a_body_is_handled() {
    let (log, _guard) = reports();
    let task = run(async { Ok(fail::<u32, Failure>(broken("x")).await.unwrap_or(3)) });
    assert_eq!(value(task), 3);
    log.check(&[]);
}

/// #266
#[test]
fn a_body_can_await_another_body() {
    let (trigger, number) = Deferred::<u32>::new();
    let plain = async move { number.await.map(|n| n * 2) };
    let inner = run(async move { Ok(plain.await? + 1) });
    let outer = run(async move { Ok(inner.await? * 10) });
    trigger.callback(1);
    assert_eq!(value(outer), 30);
}

/// #267
#[test]
fn the_result_is_what_the_body_returns() {
    assert_eq!(value(run(async { Ok(1) })), 1);
    value(Deferred::<()>::from_future(async { Ok(()) }));
}

/// #269
#[test]
fn an_error_that_leaves_the_body_fails_its_deferred_and_so_does_a_panic() {
    let task = run(async { Ok("x".parse::<u32>()?) });
    assert!(failure(task).check::<std::num::ParseIntError>());
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(async move {
        number.await?;
        panic!("oh")
    });
    trigger.callback(1);
    assert_eq!(failure(task).to_string(), "a callback panicked: oh");
}

/// #273
#[test]
fn nothing_keeps_a_body_alive_after_its_end() {
    let captured = Rc::new(());
    let held = Rc::clone(&captured);
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(async move {
        let n = number.await?;
        drop(held);
        Ok(n)
    });
    assert_eq!(Rc::strong_count(&captured), 2);
    trigger.callback(1);
    assert_eq!(Rc::strong_count(&captured), 1);
    value(task);
}

/// #274
#[test]
fn cancelling_a_task_cancels_the_innermost_deferred_that_it_awaits() {
    let (_trigger, number, stopped) = counted();
    let inner = run(number);
    let middle = succeed(()).add_callback(move |()| inner);
    let outer = run(middle);
    outer.cancel();
    assert_eq!(stopped.get(), 1);
    check_cancelled(outer);
}

/// #275
#[test]
fn cancelled_comes_out_of_every_await_from_the_inside_out() {
    let log = Log::new();
    let (_trigger, number) = Deferred::<u32>::new();
    let level = |name: &'static str, awaited: Deferred<u32>| {
        let notes = log.clone();
        run(async move {
            let result = awaited.await;
            if result.as_ref().is_err_and(is_cancelled) {
                notes.note(name);
            }
            result
        })
    };
    let outer = level("outer", level("middle", level("inner", number)));
    outer.cancel();
    log.check(&["inner", "middle", "outer"]);
    check_cancelled(outer);
}

/// #276
#[test]
fn each_level_may_turn_the_cancellation_into_another_error() {
    let (_trigger, number) = Deferred::<u32>::new();
    let inner = run(async move { number.await.map_err(|_cancelled| broken("inner")) });
    let outer = run(async move {
        inner.await.map_err(|f| {
            if f.check::<Broken>() {
                broken("outer")
            } else {
                f
            }
        })
    });
    outer.cancel();
    assert_eq!(failure(outer).downcast_ref(), Some(&Broken("outer")));
}

/// #277
#[test]
fn each_level_may_turn_the_cancellation_into_a_value() {
    let (_trigger, number) = Deferred::<u32>::new();
    let inner = run(async move { Ok(number.await.unwrap_or(5)) });
    let outer = run(async move { Ok(inner.await? + 1) });
    outer.cancel();
    assert_eq!(value(outer), 6);
}

/// A body that cleans up, with an await, after what it waits for has failed.
fn cleaning_up(number: Deferred<u32>, cleanup: Deferred<u32>) -> Deferred<u32> {
    run(async move {
        let result = number.await;
        cleanup.await?;
        result
    })
}

/// #278
#[test]
fn a_cancelled_task_fires_when_its_body_has_ended() {
    let (_trigger, number) = Deferred::<u32>::new();
    let (cleanup_trigger, cleanup) = Deferred::<u32>::new();
    let task = cleaning_up(number, cleanup);
    task.cancel();
    assert!(!task.is_fired());
    cleanup_trigger.callback(0);
    check_cancelled(task);
}

/// #279
#[test]
fn cancelling_again_cancels_the_clean_up() {
    let (_trigger, number) = Deferred::<u32>::new();
    let (_cleanup_trigger, cleanup, stopped) = counted();
    let task = cleaning_up(number, cleanup);
    task.cancel();
    task.cancel();
    assert_eq!(stopped.get(), 1);
    check_cancelled(task);
}

/// #280
#[test]
fn a_task_is_cancelled_at_its_second_await() {
    let (trigger, first) = Deferred::<u32>::new();
    let (_second_trigger, second, stopped) = counted();
    let task = run(async move { Ok(first.await? + second.await?) });
    trigger.callback(1);
    task.cancel();
    assert_eq!(stopped.get(), 1);
    check_cancelled(task);
}

/// #281
#[test]
fn cancelling_goes_through_tasks_callbacks_and_plain_bodies_mixed() {
    let (_trigger, number, stopped) = counted();
    let plain = async move { Ok(number.await? + 1) };
    let task = run(async move {
        let n: Result<u32, Failure> = plain.await;
        Ok(n? + 1)
    });
    let chained = succeed(()).add_callback(move |()| task).map(|n| n + 1);
    let outer = run(chained);
    outer.cancel();
    assert_eq!(stopped.get(), 1);
    check_cancelled(outer);
}

/// #282
#[test]
fn cancelling_a_task_that_has_ended_is_nothing() {
    let task = run(async { Ok(1) });
    task.cancel();
    assert_eq!(value(task), 1);
}

/// #283
#[test]
fn a_running_body_that_cancels_itself_is_not_disturbed() {
    let own = Rc::new(RefCell::new(None::<Canceller>));
    let inside = Rc::clone(&own);
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(async move {
        let n = number.await?;
        inside.borrow().as_ref().expect("set below").cancel();
        Ok(n)
    });
    own.replace(Some(task.canceller()));
    trigger.callback(1);
    assert_eq!(value(task), 1);
}

/// #284
#[test]
fn an_awaited_deferred_that_was_cancelled_may_fire_later() {
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(number);
    task.cancel();
    trigger.callback(1);
    check_cancelled(task);
}

/// #296
#[test]
fn a_failure_keeps_the_place_where_it_arose_through_any_number_of_awaits() {
    let (trigger, number) = Deferred::<u32>::new();
    let inner = run(async move { Ok(number.await? + 1) });
    let outer = run(async move { Ok(inner.await? + 1) });
    trigger.errback(broken("x"));
    let line = line!() - 1;
    assert_eq!(failure(outer).origin().line(), line);
}

/// #298
#[test]
fn dropping_the_cancelling_form_of_a_future_cancels_quietly() {
    let (log, _guard) = reports();
    let (_trigger, number, stopped) = counted();
    drop(number.cancel_on_drop());
    assert_eq!(stopped.get(), 1);
    log.check(&[]);
    let (trigger, number, stopped) = counted();
    let task = run(number.cancel_on_drop());
    trigger.callback(1);
    assert_eq!((value(task), stopped.get()), (1, 0));
}

/// #299
#[test]
fn the_failure_of_a_deferred_is_the_error_of_its_future() {
    let mut future = pin!(fail::<u32, Failure>(broken("x")));
    let polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(failure)) if failure.check::<Broken>()));
}

/// #300
#[test]
fn the_result_of_any_future_fires_its_deferred() {
    assert_eq!(value(run(std::future::ready(Ok(1)))), 1);
    assert!(failure(run(std::future::ready(Err(broken("x"))))).check::<Broken>());
}

/// #301
#[test]
fn cancelling_the_deferred_of_a_foreign_future_drops_the_future() {
    let captured = Rc::new(());
    let held = Rc::clone(&captured);
    let task = run(async move {
        let _held = held;
        pending::<()>().await;
        Ok(0)
    });
    task.cancel();
    assert_eq!(Rc::strong_count(&captured), 1);
    check_cancelled(task);
}

/// A future that is ready when its flag is set, and keeps the waker it was polled with.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<Mutex<(bool, Option<Waker>)>>);

impl Bell {
    pub(crate) fn ring(&self) {
        let waker = {
            let mut bell = self.0.lock().expect("no test panics with it");
            bell.0 = true;
            bell.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Bell {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut bell = self.0.lock().expect("no test panics with it");
        if bell.0 {
            return Poll::Ready(());
        }
        bell.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

#[test]
fn a_foreign_future_woken_on_this_thread_resumes_its_task() {
    let bell = Bell::default();
    let awaited = bell.clone();
    let task = run(async move {
        awaited.await;
        Ok(1)
    });
    assert!(!task.is_fired());
    bell.ring();
    assert_eq!(value(task), 1);
}

#[test]
fn a_task_that_nobody_holds_is_resumed_by_a_foreign_future_too() {
    let log = Log::new();
    let notes = log.clone();
    let bell = Bell::default();
    let awaited = bell.clone();
    drop(run(async move {
        awaited.await;
        notes.note("done");
        Ok(1)
    }));
    bell.ring();
    log.check(&["done"]);
}

#[test]
fn a_wake_from_another_thread_is_carried_home() {
    let (mailbox, letters) = mpsc::channel::<Resume>();
    let bell = Bell::default();
    let awaited = bell.clone();
    let body = async move {
        awaited.await;
        Ok(1)
    };
    let mailbox = Mutex::new(mailbox);
    let task = Deferred::<u32>::from_future_with(
        body,
        Arc::new(move |resume| {
            mailbox
                .lock()
                .expect("nobody panics")
                .send(resume)
                .expect("the test receives");
        }),
    );
    thread::spawn(move || bell.ring())
        .join()
        .expect("ringing does not panic");
    let resume = letters.recv().expect("it was sent before the thread ended");
    let resume = thread::scope(|scope| {
        scope
            .spawn(|| resume.run().expect_err("not its thread"))
            .join()
            .expect("it does not panic")
    });
    assert!(!task.is_fired());
    resume.run().expect("this is its thread");
    assert_eq!(value(task), 1);
}

#[test]
fn a_wake_from_another_thread_without_a_way_home_loses_nothing_but_time() {
    let bell = Bell::default();
    let awaited = bell.clone();
    let (trigger, number) = Deferred::<u32>::new();
    let task = run(async move {
        let mut bell = pin!(awaited);
        let mut number = pin!(number);
        poll_fn(move |context| match bell.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Ok(1)),
            Poll::Pending => number.as_mut().poll(context),
        })
        .await
    });
    thread::spawn(move || bell.ring())
        .join()
        .expect("ringing does not panic");
    assert!(!task.is_fired());
    // What wakes it on its own thread finds the bell rung.
    trigger.callback(2);
    assert_eq!(value(task), 1);
}

#[test]
fn a_body_that_yields_is_polled_again() {
    let task = run(async {
        for _ in 0..100 {
            let mut yielded = false;
            poll_fn(|context| {
                if yielded {
                    return Poll::Ready(());
                }
                yielded = true;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        Ok(3)
    });
    assert_eq!(value(task), 3);
}

/// Polls both until both are ready.
async fn both(a: Deferred<u32>, b: Deferred<u32>) -> (Result<u32, Failure>, Result<u32, Failure>) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_result, mut b_result) = (None, None);
    poll_fn(move |context| {
        if a_result.is_none()
            && let Poll::Ready(result) = a.as_mut().poll(context)
        {
            a_result = Some(result);
        }
        if b_result.is_none()
            && let Poll::Ready(result) = b.as_mut().poll(context)
        {
            b_result = Some(result);
        }
        match (a_result.take(), b_result.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_result, b_result) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

#[test]
fn a_body_that_awaits_two_at_once_resumes_for_either_and_is_cancelled_through_both() {
    let (a_trigger, a) = Deferred::<u32>::new();
    let (b_trigger, b) = Deferred::<u32>::new();
    let sum = run(async move {
        let (a, b) = both(a, b).await;
        Ok(a? + b?)
    });
    b_trigger.callback(2);
    a_trigger.callback(1);
    assert_eq!(value(sum), 3);
    let (_a_trigger, a, a_stopped) = counted();
    let (_b_trigger, b, b_stopped) = counted();
    let task = run(async move {
        let (a, b) = both(a, b).await;
        Ok(a? + b?)
    });
    task.cancel();
    assert_eq!((a_stopped.get(), b_stopped.get()), (1, 1));
    check_cancelled(task);
}

#[test]
fn what_a_select_lost_may_fire_after_the_body_has_ended() {
    let (slow_trigger, slow) = Deferred::<u32>::new();
    let (trigger, quick) = Deferred::<u32>::new();
    let task = run(async move {
        let (mut slow, mut quick) = (slow, quick);
        poll_fn(move |context| match Pin::new(&mut quick).poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Pin::new(&mut slow).poll(context),
        })
        .await
    });
    trigger.callback(1);
    slow_trigger.callback(2);
    assert_eq!(value(task), 1);
}

#[test]
fn a_task_that_awaits_itself_fails_with_abandoned() {
    let own = Rc::new(Cell::new(None::<Deferred<u32>>));
    let inside = Rc::clone(&own);
    let (trigger, number) = Deferred::<u32>::new();
    let seen = Log::new();
    let notes = seen.clone();
    let task = run(async move {
        number.await?;
        let itself = inside.take().expect("set below");
        let result = itself.await;
        notes.note(
            result
                .as_ref()
                .is_err_and(|f| matches!(f.downcast_ref(), Some(Interrupted::Abandoned { .. }))),
        );
        result
    });
    own.set(Some(task));
    let (log, _guard) = reports();
    trigger.callback(1);
    seen.check(&["true"]);
    // Its own result went down with it.
    assert_eq!(log.len(), 1);
}

#[test]
fn a_deferred_awaited_to_its_end_and_used_again_is_abandoned_and_does_not_panic() {
    let mut deferred: Deferred<u32> = succeed(1);
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut deferred).poll(&mut context).is_ready());
    let again = Pin::new(&mut deferred).poll(&mut context);
    assert!(matches!(again, Poll::Ready(Err(failure)) if failure.check::<Interrupted>()));
    assert!(deferred.pause().to_owned_text().contains("nothing"));
    assert!(matches!(
        failure(deferred.map(|n| n + 1)).downcast_ref(),
        Some(Interrupted::Abandoned { .. })
    ));
}

trait ToOwnedText {
    fn to_owned_text(&self) -> String;
}

impl<T: std::fmt::Debug> ToOwnedText for T {
    fn to_owned_text(&self) -> String {
        format!("{self:?}")
    }
}
