//! The first behaviours of a Deferred, and the depths it must bear.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;

use torsade_deferred::{Deferred, Failure, Interrupted, Trigger, fail, succeed, unhandled};

type Log = Rc<RefCell<Vec<String>>>;

fn log() -> (Log, impl Fn(&str) + Clone + 'static) {
    let log = Log::default();
    let writer = Rc::clone(&log);
    (log, move |text: &str| writer.borrow_mut().push(text.into()))
}

/// Runs `body` on a thread with a stack of 64 KiB.
fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(body)
        .expect("a thread starts");
    thread.join().expect("the body did not panic");
}

const MANY: usize = 1_000_000;

#[test]
fn a_chain_with_a_nested_deferred_gives_its_result() {
    let (inner_trigger, inner) = Deferred::<u32>::new();
    let (trigger, deferred) = Deferred::<String>::new();
    let result = deferred
        .add_callback(|text| Ok(text.trim().parse::<u32>()?))
        .add_callback(move |_| inner)
        .add_callback(|n| Ok(n + 1));
    trigger.callback("41".into());
    assert!(!result.is_fired());
    inner_trigger.callback(99);
    assert_eq!(result.into_result().unwrap().unwrap(), 100);
}

#[test]
fn an_error_skips_callbacks_and_an_errback_returns_to_them() {
    let (seen, note) = log();
    let (trigger, deferred) = Deferred::<u32>::new();
    let (a, b, c) = (note.clone(), note.clone(), note);
    deferred
        .add_callback(move |_| a("skipped"))
        .add_errback(move |failure| b(&failure.to_string()))
        .add_callback(move |()| c("on"))
        .add_errback(|_| -> Result<(), Failure> { unreachable!("nothing fails here") })
        .map(drop);
    trigger.errback(Failure::message("broken"));
    assert_eq!(*seen.borrow(), ["broken", "on"]);
}

#[test]
fn cancel_reaches_the_innermost_deferred() {
    let stopped = Rc::new(Cell::new(0));
    let counter = Rc::clone(&stopped);
    let (inner_trigger, inner) = Deferred::<u32>::new();
    inner_trigger.on_cancel(move || counter.set(counter.get() + 1));
    let (trigger, outer) = Deferred::<()>::new();
    let outer = outer.add_callback(move |()| inner).map(|n| n + 1);
    let canceller = outer.canceller();
    let result = outer.map(|n| n * 2);
    trigger.callback(());
    canceller.cancel();
    canceller.cancel();
    assert_eq!(stopped.get(), 1);
    assert_eq!(
        result
            .into_result()
            .unwrap()
            .unwrap_err()
            .trap::<Interrupted>()
            .unwrap(),
        Interrupted::Cancelled
    );
    inner_trigger.callback(1);
}

#[test]
fn a_hook_that_fires_decides_the_result_of_a_cancellation() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let held = Rc::new(RefCell::new(None::<Trigger<u32>>));
    let hook = Rc::clone(&held);
    trigger.on_cancel(move || hook.take().expect("held below").callback(7));
    held.replace(Some(trigger));
    deferred.cancel();
    assert_eq!(deferred.into_result().unwrap().unwrap(), 7);
}

#[test]
fn a_dropped_trigger_fails_its_deferred() {
    let (trigger, deferred) = Deferred::<u32>::new();
    drop(trigger);
    let failure = deferred.into_result().unwrap().unwrap_err();
    assert!(
        matches!(failure.downcast_ref(), Some(Interrupted::Abandoned { created }) if created.file().ends_with("depth.rs"))
    );
}

#[test]
fn a_panic_in_a_callback_is_the_failure_of_its_chain() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let result = deferred.add_callback(|_| -> Result<u32, Failure> { panic!("oh") });
    trigger.callback(1);
    assert_eq!(
        result.into_result().unwrap().unwrap_err().to_string(),
        "a callback panicked: oh"
    );
}

#[test]
fn an_unhandled_failure_is_reported_once_with_its_places() {
    let (seen, note) = log();
    let _guard = unhandled::set_hook(move |report| note(&report.to_string()));
    let (trigger, deferred) = Deferred::<u32>::new();
    drop(deferred.map(|n| n + 1));
    trigger.errback(Failure::message("lost"));
    let seen = seen.borrow();
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0].contains("lost") && seen[0].matches("depth.rs").count() == 3,
        "{seen:?}"
    );
}

#[test]
fn a_deferred_that_waits_for_itself_fails() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let own = Rc::new(RefCell::new(None));
    let loops = Rc::clone(&own);
    let tail = deferred.add_callback(move |_| loops.take().expect("set below"));
    let failed = Rc::new(Cell::new(false));
    let seen = Rc::clone(&failed);
    let _report = unhandled::set_hook(move |_| seen.set(true));
    own.replace(Some(tail.map(|n: u32| n + 1)));
    trigger.callback(1);
    assert!(failed.get());
}

#[test]
fn a_deferred_is_awaited() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let (trigger, deferred) = Deferred::<u32>::new();
    let mut sum = pin!(async move { deferred.await.map(|n| n + 1) });
    let mut context = Context::from_waker(Waker::noop());
    assert!(sum.as_mut().poll(&mut context).is_pending());
    trigger.callback(1);
    assert!(matches!(
        sum.as_mut().poll(&mut context),
        Poll::Ready(Ok(2))
    ));
}

#[test]
fn a_million_links_fire_on_a_small_stack() {
    on_a_small_stack(|| {
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            deferred = deferred.map(|n| n + 1);
        }
        trigger.callback(0);
        assert_eq!(deferred.into_result().unwrap().unwrap(), MANY);
    });
}

#[test]
fn a_million_links_are_cancelled_and_dropped_on_a_small_stack() {
    on_a_small_stack(|| {
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            deferred = deferred.map(|n| n + 1);
        }
        deferred.cancel();
        assert!(deferred.into_result().unwrap().is_err());
        drop(trigger);
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            deferred = deferred.map(|n| n + 1);
        }
        let deferred = deferred.add_errback(|_| Ok(0));
        drop(trigger);
        drop(deferred);
    });
}

#[test]
fn a_million_nested_deferreds_fire_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut triggers = Vec::new();
        let (last, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            let (trigger, outer) = Deferred::<()>::new();
            triggers.push(trigger);
            let inner = deferred;
            deferred = outer.add_callback(move |()| inner).map(|n| n + 1);
        }
        for trigger in triggers.into_iter().rev() {
            trigger.callback(());
        }
        last.callback(0);
        assert_eq!(deferred.into_result().unwrap().unwrap(), MANY);
    });
}

#[test]
fn a_million_nested_deferreds_fired_from_the_inside_out() {
    on_a_small_stack(|| {
        let mut triggers = Vec::new();
        let (last, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            let (trigger, outer) = Deferred::<()>::new();
            triggers.push(trigger);
            let inner = deferred;
            deferred = outer.add_callback(move |()| inner).map(|n| n + 1);
        }
        last.callback(0);
        for trigger in triggers {
            trigger.callback(());
        }
        assert_eq!(deferred.into_result().unwrap().unwrap(), MANY);
    });
}

#[test]
fn a_million_triggers_that_own_triggers_are_dropped_on_a_small_stack() {
    on_a_small_stack(|| {
        let _quiet = unhandled::set_hook(|_| ());
        let (mut trigger, first) = Deferred::<()>::new();
        drop(first);
        for _ in 0..MANY {
            let (outer, deferred) = Deferred::<()>::new();
            drop(deferred.add_callback(move |()| trigger.callback(())));
            trigger = outer;
        }
        drop(trigger);
    });
}

#[test]
fn a_million_chained_triggers_fire_on_a_small_stack() {
    on_a_small_stack(|| {
        let (first, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            let (trigger, next) = Deferred::<usize>::new();
            deferred.map(|n| n + 1).chain_into(trigger);
            deferred = next;
        }
        first.callback(0);
        assert_eq!(deferred.into_result().unwrap().unwrap(), MANY);
    });
}

#[test]
fn a_step_that_returns_itself_for_ever_stays_small() {
    // Each step hands its trigger out and returns a chain that ends in the next step.
    fn step(door: Rc<RefCell<Option<Trigger<usize>>>>) -> Deferred<()> {
        let (trigger, deferred) = Deferred::<usize>::new();
        door.replace(Some(trigger));
        deferred.add_callback(move |n| if n == 0 { succeed(()) } else { step(door) })
    }
    let door = Rc::new(RefCell::new(None));
    let whole = step(Rc::clone(&door));
    for left in (0..10_000).rev() {
        assert!(!whole.is_fired());
        let trigger: Trigger<usize> = door.take().expect("each step leaves its trigger");
        trigger.callback(left);
    }
    assert!(whole.is_fired());
    drop(fail::<(), Failure>(Interrupted::Cancelled).add_errback(drop));
}
