//! What allocates, counted.
//!
//! A binary of its own, because the allocator is the whole program's. Each test counts
//! what its own thread allocates.

#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one counts and passes on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;

use torsade_deferred::{Deferred, DeferredLock, Failure, Interrupted, Trigger, fail, succeed};

struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; the
// counters are thread-locals without a destructor, which allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.set(MADE.get() + 1);
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: `pointer` came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = MADE.get();
    let result = black_box(work());
    (MADE.get() - before, result)
}

#[test]
fn a_new_deferred_is_one_allocation() {
    let (count, (_trigger, _deferred)) = allocations(Deferred::<u32>::new);
    assert_eq!(count, 1);
}

#[test]
fn each_link_added_before_firing_is_one_allocation() {
    for links in [1, 3, 100] {
        let (trigger, mut deferred) = Deferred::<u32>::new();
        let captured = 1;
        let (count, deferred) = allocations(|| {
            for _ in 0..links {
                deferred = deferred.map(move |n| n + captured);
            }
            deferred
        });
        assert_eq!(count, links as usize);
        let (firing, ()) = allocations(|| trigger.callback(0));
        assert_eq!(firing, 0);
        assert!(matches!(deferred.into_result(), Ok(Ok(n)) if n == links));
    }
}

#[test]
fn links_of_every_kind_are_one_allocation() {
    let (_trigger, deferred) = Deferred::<u32>::new();
    let (count, _deferred) = allocations(|| {
        deferred
            .add_callback(Ok)
            .add_errback(Err)
            .add_callbacks(Ok, Err)
            .add_both(|result| result)
            .map(|n| n)
            .map_err(|failure| failure)
            .map(f64::from)
            .map(|x| x as u32)
    });
    assert_eq!(count, 8);
}

#[test]
fn links_added_to_a_fired_deferred_allocate_nothing() {
    let (count, deferred) = allocations(|| {
        let deferred: Deferred<u32> = succeed(1);
        deferred
            .map(|n| n + 1)
            .add_callback(|n| Ok(n + 1))
            .add_callback(|n| succeed(n + 1))
            .add_errback(Err)
    });
    assert_eq!(count, 0);
    assert!(matches!(deferred.into_result(), Ok(Ok(4))));
}

#[test]
fn succeed_and_a_failure_without_a_box_allocate_nothing() {
    let (count, _) = allocations(|| succeed::<u32, Failure>(1).into_result().is_ok());
    assert_eq!(count, 0);
    let (count, _) = allocations(|| {
        fail::<u32, Failure>(Interrupted::Cancelled)
            .into_result()
            .is_ok()
    });
    assert_eq!(count, 0);
}

#[test]
fn cancelling_allocates_nothing() {
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.map(|n| n + 1).add_errback(|_| Ok(0));
    let (count, ()) = allocations(|| deferred.cancel());
    assert_eq!(count, 0);
    assert!(matches!(deferred.into_result(), Ok(Ok(0))));
}

#[test]
fn awaiting_a_fired_deferred_allocates_nothing() {
    // The body and its node are what is counted, however often it awaits.
    let bodies = [1, 1000].map(|awaits| {
        allocations(|| {
            Deferred::<u32>::from_future(async move {
                let mut sum = 0;
                for _ in 0..awaits {
                    sum += succeed::<u32, Failure>(1).await?;
                }
                Ok(sum)
            })
        })
    });
    let [(once, _), (often, _)] = bodies;
    assert!(
        once <= 4,
        "the body, its node and the first lending of a waker, not {once}"
    );
    assert_eq!(often, 2);
}

#[test]
fn awaiting_a_pending_deferred_in_a_task_allocates_nothing() {
    let door = Rc::new(RefCell::new(None::<Trigger<u32>>));
    let inside = Rc::clone(&door);
    let task = Deferred::<u32>::from_future(async move {
        let mut sum = 0;
        for _ in 0..100 {
            let (trigger, number) = Deferred::<u32>::new();
            inside.replace(Some(trigger));
            sum += number.await?;
        }
        Ok(sum)
    });
    let (count, ()) = allocations(|| {
        while let Some(trigger) = door.take() {
            trigger.callback(1);
        }
    });
    // The 99 new Deferreds that the body makes, and nothing for awaiting them.
    assert_eq!(count, 99);
    assert!(matches!(task.into_result(), Ok(Ok(100))));
}

#[test]
fn a_free_lock_is_acquired_without_an_allocation() {
    let lock = DeferredLock::new();
    let (count, permit) = allocations(|| lock.acquire());
    assert_eq!(count, 0);
    drop(permit);
}

fn step(door: Rc<RefCell<Option<Trigger<bool>>>>) -> Deferred<()> {
    let (trigger, deferred) = Deferred::<bool>::new();
    door.replace(Some(trigger));
    deferred.add_callback(move |goes_on| if goes_on { step(door) } else { succeed(()) })
}

#[test]
fn a_step_that_returns_itself_for_ever_runs_in_constant_memory() {
    let door = Rc::new(RefCell::new(None));
    let whole = step(Rc::clone(&door));
    let mut after_a_thousand = 0;
    for round in 0..100_000 {
        let trigger = door.take().expect("each step leaves its trigger");
        trigger.callback(true);
        if round == 1000 {
            after_a_thousand = LIVE_BYTES.get();
        }
    }
    assert_eq!(LIVE_BYTES.get(), after_a_thousand);
    assert!(!whole.is_fired());
    door.take().expect("the last one").callback(false);
    assert!(whole.is_fired());
}

#[test]
fn a_step_that_is_paused_or_has_a_canceller_runs_in_constant_memory_too() {
    let door = Rc::new(RefCell::new(None));
    fn step(door: Rc<RefCell<Option<Trigger<u32>>>>) -> Deferred<()> {
        let (trigger, deferred) = Deferred::<u32>::new();
        door.replace(Some(trigger));
        let mut next = deferred.add_callback(move |_| step(door));
        drop(next.canceller());
        drop(next.pause());
        next
    }
    let _whole = step(Rc::clone(&door));
    let mut after_a_thousand = 0;
    for round in 0..20_000 {
        let trigger = door.take().expect("each step leaves its trigger");
        trigger.callback(round);
        if round == 1000 {
            after_a_thousand = LIVE_BYTES.get();
        }
    }
    assert_eq!(LIVE_BYTES.get(), after_a_thousand);
}

#[test]
fn everything_is_freed() {
    let before = LIVE_BYTES.get();
    for round in 0..3 {
        let (trigger, deferred) = Deferred::<String>::new();
        let (inner_trigger, inner) = Deferred::<String>::new();
        let deferred = deferred.add_callback(move |text| inner.map(move |more| text + &more));
        match round {
            0 => {
                trigger.callback("a".into());
                inner_trigger.callback("b".into());
            }
            1 => {
                trigger.callback("a".into());
                deferred.cancel();
            }
            _ => drop(trigger),
        }
        drop(deferred.add_both(drop));
    }
    assert_eq!(LIVE_BYTES.get(), before);
}
