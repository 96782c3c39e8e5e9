//! Calls from other threads.

use std::cell::{Cell, RefCell};
use std::env;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, Trigger};
use torsade_reactor::task::sleep;
use torsade_reactor::{BlockingCallError, Phase, Reactor, Remote};

use crate::common::{End, count_unhandled, reactor};

#[test]
fn a_call_from_a_thread_wakes_the_sleeping_loop() {
    let reactor = reactor();
    let remote = reactor.remote();
    let thread = thread::spawn(move || remote.call_from_thread(Reactor::stop));
    reactor.run().unwrap();
    thread.join().unwrap();
}

#[test]
fn a_call_posted_before_running_is_made_when_it_runs() {
    let reactor = reactor();
    reactor.remote().stop();
    reactor.run().unwrap();
}

/// How many calls each thread of the stress test posts: in a release build, 2 500 000 take
/// some seconds.
const CALLS_EACH: &str = "TORSADE_TEST_CALLS_EACH";

fn calls_of_each_thread() -> usize {
    match env::var(CALLS_EACH) {
        Ok(number) => number.parse().expect("a number of calls"),
        Err(_) => 25_000,
    }
}

#[test]
fn calls_of_four_threads_all_arrive_each_threads_in_order() {
    thread_local! {
        static NEXT: Cell<[usize; 4]> = const { Cell::new([0; 4]) };
    }
    let each = calls_of_each_thread();
    let reactor = reactor();
    let threads: Vec<_> = (0..4)
        .map(|index: usize| {
            let remote = reactor.remote();
            thread::spawn(move || {
                for number in 0..each {
                    remote.call_from_thread(move |reactor| {
                        let mut next = NEXT.get();
                        assert_eq!(next[index], number, "of thread {index}");
                        next[index] += 1;
                        NEXT.set(next);
                        if next == [each; 4] {
                            reactor.stop();
                        }
                    });
                }
            })
        })
        .collect();
    reactor.run().unwrap();
    assert_eq!(NEXT.get(), [each; 4]);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_call_from_a_call_waits_for_the_next_turn() {
    let reactor = reactor();
    let (done, finished) = mpsc::channel();
    fn again(remote: Remote, left: usize, done: mpsc::Sender<()>) {
        let next = remote.clone();
        remote.call_from_thread(move |_| match left {
            0 => done.send(()).unwrap(),
            _ => again(next, left - 1, done),
        });
    }
    again(reactor.remote(), 3, done);
    for _ in 0..3 {
        reactor.turn(None).unwrap();
        assert!(finished.try_recv().is_err());
    }
    reactor.turn(None).unwrap();
    assert!(finished.try_recv().is_ok());
}

#[test]
fn posting_to_a_reactor_that_is_gone_does_nothing() {
    let remote = reactor().remote();
    remote.call_from_thread(|_| unreachable!("there is nobody to call"));
    remote.stop();
}

#[test]
fn remote_crosses_threads_and_reactor_does_not() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Remote>();
}

#[test]
fn call_to_a_reactor_that_is_gone_is_handed_back_if_wanted() {
    let reactor = reactor();
    let remote = reactor.remote();
    let (called, calls) = mpsc::channel();
    let call = called.clone();
    assert!(
        remote
            .try_call_from_thread(move |_| call.send("in time").unwrap())
            .is_ok()
    );
    reactor.turn(None).unwrap();
    drop(reactor);
    let gone = remote
        .try_call_from_thread(move |_| called.send("too late").unwrap())
        .unwrap_err();
    (gone.call)(&self::reactor());
    assert_eq!(calls.iter().collect::<Vec<_>>(), ["in time", "too late"]);
}

#[test]
fn remote_knows_the_thread_of_its_reactor() {
    let remote = reactor().remote();
    assert!(remote.is_reactor_thread());
    let elsewhere = thread::spawn(move || remote.is_reactor_thread());
    assert!(!elsewhere.join().unwrap());
}

/// Runs a reactor beside a thread that makes blocking calls, until the thread ends.
fn beside<T: Send + 'static>(work: impl FnOnce(&Remote) -> T + Send + 'static) -> T {
    let reactor = reactor();
    let remote = reactor.remote();
    let worker = thread::spawn(move || {
        let result = work(&remote);
        remote.stop();
        result
    });
    reactor.run().unwrap();
    worker.join().unwrap()
}

#[test]
fn blocking_call_runs_on_the_loop_and_gives_its_value() {
    let here = thread::current().id();
    let there = beside(|remote| remote.blocking_call(|_| Ok(thread::current().id())));
    assert_eq!(there.unwrap(), here);
}

#[test]
fn blocking_call_waits_for_a_deferred() {
    let answer = beside(|remote| {
        remote.blocking_call(|reactor| {
            let (trigger, deferred) = Deferred::<u32>::new();
            reactor.call_soon(|| trigger.callback(42));
            deferred
        })
    });
    assert_eq!(answer.unwrap(), 42);
}

#[test]
fn blocking_call_gives_the_failure_with_its_causes_and_its_line() {
    let (count, _guard) = count_unhandled();
    let answer = beside(|remote| {
        remote.blocking_call(|_| Err::<(), _>(Failure::from("x".parse::<u32>().unwrap_err())))
    });
    let Err(BlockingCallError::Failed(failure)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(failure.message(), "invalid digit found in string");
    assert_eq!(failure.origin().file(), file!());
    assert_eq!(failure.interrupted(), None);
    assert_eq!(count.get(), 0, "who waited has it");
}

#[test]
fn panic_in_a_blocking_call_is_its_failure_and_the_loop_goes_on() {
    let (count, _guard) = count_unhandled();
    let answers = beside(|remote| {
        let panicked = remote.blocking_call(|_| -> Result<(), Failure> { panic!("on the loop") });
        (panicked, remote.blocking_call(|_| Ok(1)))
    });
    let (Err(BlockingCallError::Failed(failure)), Ok(1)) = answers else {
        panic!("{answers:?}");
    };
    assert!(matches!(
        failure.interrupted(),
        Some(Interrupted::Panicked { .. })
    ));
    assert_eq!(count.get(), 0);
}

#[test]
fn blocking_call_whose_deferred_is_abandoned_is_no_hang() {
    let answer = beside(|remote| remote.blocking_call(|_| Deferred::<()>::new().1));
    let Err(BlockingCallError::Failed(failure)) = answer else {
        panic!("{answer:?}");
    };
    assert!(matches!(
        failure.interrupted(),
        Some(Interrupted::Abandoned { .. })
    ));
}

#[test]
fn blocking_call_on_the_reactors_own_thread_is_refused() {
    let reactor = reactor();
    let answer = reactor.remote().blocking_call(|_| Ok(1));
    assert!(matches!(answer, Err(BlockingCallError::OnReactorThread)));
}

#[test]
fn blocking_call_to_a_reactor_that_is_gone_is_refused() {
    let remote = reactor().remote();
    let answer = thread::spawn(move || remote.blocking_call(|_| Ok(1)));
    let answer = answer.join().unwrap();
    assert!(matches!(answer, Err(BlockingCallError::Gone)), "{answer:?}");
}

/// A thread that waits for a Deferred which nobody fires while the trigger is kept.
fn wait_for_ever(reactor: &Reactor) -> thread::JoinHandle<Result<(), BlockingCallError>> {
    thread_local! {
        static KEPT: RefCell<Vec<Trigger<()>>> = const { RefCell::new(Vec::new()) };
    }
    let remote = reactor.remote();
    let worker = thread::spawn(move || {
        remote.blocking_call(|_| {
            let (trigger, deferred) = Deferred::<()>::new();
            KEPT.with_borrow_mut(|kept| kept.push(trigger));
            deferred
        })
    });
    while KEPT.with_borrow(Vec::is_empty) {
        reactor.turn(None).unwrap();
    }
    worker
}

#[test]
fn blocking_call_under_way_fails_when_its_reactor_goes() {
    let reactor = reactor();
    let worker = wait_for_ever(&reactor);
    drop(reactor);
    let answer = worker.join().unwrap();
    assert!(matches!(answer, Err(BlockingCallError::Gone)), "{answer:?}");
}

#[test]
fn blocking_call_under_way_fails_when_its_reactor_stops_and_so_does_the_next() {
    let reactor = reactor();
    let worker = wait_for_ever(&reactor);
    reactor.stop();
    reactor.run().unwrap();
    let answer = worker.join().unwrap();
    assert!(
        matches!(answer, Err(BlockingCallError::Stopped)),
        "{answer:?}"
    );
    let remote = reactor.remote();
    let late = thread::spawn(move || remote.blocking_call(|_| Ok(1)));
    let answer = late.join().unwrap();
    assert!(
        matches!(answer, Err(BlockingCallError::Stopped)),
        "{answer:?}"
    );
}

#[test]
fn blocking_call_that_has_not_begun_when_its_reactor_stops_is_never_made() {
    let reactor = reactor();
    let (worker, handle) = (Rc::new(Cell::new(None)), reactor.clone());
    let slot = Rc::clone(&worker);
    reactor.call_soon(move || {
        let remote = handle.remote();
        slot.set(Some(thread::spawn(move || {
            remote.blocking_call(|_| -> Result<(), Failure> { panic!("it was given up") })
        })));
        while handle.dump().thread_calls.is_empty() {
            thread::yield_now();
        }
        handle.stop();
    });
    reactor.run().unwrap();
    let worker = worker.take().expect("it was started in the run");
    let answer = worker.join().unwrap();
    assert!(
        matches!(answer, Err(BlockingCallError::Stopped)),
        "{answer:?}"
    );
    let (count, _guard) = count_unhandled();
    reactor.turn(None).unwrap();
    assert_eq!(reactor.dump().thread_calls.len(), 0);
    assert_eq!(count.get(), 0);
}

#[test]
fn what_is_posted_to_a_reactor_that_is_gone_is_dropped_though_a_port_is_kept() {
    let reactor = reactor();
    let remote = reactor.remote();
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &_| None::<End>)
        .unwrap();
    // Some before it goes, some while it does, some after.
    let (answer, answered) = mpsc::channel::<()>();
    let posting = thread::spawn(move || {
        for _ in 0..1000 {
            let answer = answer.clone();
            remote.call_from_thread(move |_| drop(answer));
        }
    });
    thread::yield_now();
    drop(reactor);
    posting.join().unwrap();
    assert_eq!(
        answered.try_recv(),
        Err(mpsc::TryRecvError::Disconnected),
        "posts are still held"
    );
    drop(port);
}

/// Waits until so many calls are posted, which nobody takes meanwhile.
fn wait_for_posts(remote: &Remote, count: usize) {
    while format!("{remote:?}") != format!("Remote({count} calls posted)") {
        thread::yield_now();
    }
}

#[test]
fn blocking_call_whose_caller_was_told_of_the_stop_is_not_made_for_the_next_runs_caller() {
    type Caller = thread::JoinHandle<Result<u8, BlockingCallError>>;
    let reactor = reactor();
    let made = Arc::new(AtomicBool::new(false));
    let first = Rc::new(RefCell::new(None::<Caller>));
    let (remote, flag, slot) = (reactor.remote(), Arc::clone(&made), Rc::clone(&first));
    // The last moment of the first run.
    reactor.on_shutdown(Phase::After, move || {
        let (caller, flag) = (remote.clone(), Arc::clone(&flag));
        slot.replace(Some(thread::spawn(move || {
            caller.blocking_call(move |_| {
                flag.store(true, Ordering::Relaxed);
                Ok(1)
            })
        })));
        wait_for_posts(&remote, 1);
    });
    reactor.stop();
    reactor.run().unwrap();
    let told = first.take().unwrap().join().unwrap();
    assert!(matches!(told, Err(BlockingCallError::Stopped)), "{told:?}");
    // The first moment of the second.
    let second = Rc::new(RefCell::new(None::<Caller>));
    let (remote, slot) = (reactor.remote(), Rc::clone(&second));
    reactor.on_startup(Phase::Before, move || {
        let caller = remote.clone();
        slot.replace(Some(thread::spawn(move || {
            let answer = caller.blocking_call(|_| Ok(2));
            caller.stop();
            answer
        })));
        wait_for_posts(&remote, 2);
    });
    reactor.run().unwrap();
    let answer = second.take().unwrap().join().unwrap();
    assert!(matches!(answer, Ok(2)), "{answer:?}");
    assert!(
        !made.load(Ordering::Relaxed),
        "made after its caller was told that it will not be"
    );
}

#[test]
fn answer_of_a_call_comes_while_its_thread_does_something_else() {
    let answers = beside(|remote| {
        let nap = remote.defer_from_thread(|reactor| sleep(reactor, Duration::from_millis(1)));
        let value = remote.defer_from_thread(|_| Ok(42));
        let failure = remote.defer_from_thread(|_| Err::<(), _>(Failure::message("out of luck")));
        (value.wait(), failure.wait(), nap.wait())
    });
    let (value, failure, nap) = answers;
    assert_eq!((value.unwrap(), nap.unwrap()), (42, ()));
    assert!(
        matches!(failure, Err(BlockingCallError::Failed(failure)) if failure.message() == "out of luck")
    );
}

#[test]
fn cancelling_a_call_that_has_begun_cancels_what_it_returned() {
    let (says, stopped) = mpsc::channel();
    let (begins, begun) = mpsc::channel();
    let answer = beside(move |remote| {
        let call = remote.defer_from_thread(move |_| {
            let (trigger, deferred) = Deferred::<()>::new();
            trigger.on_cancel(move || says.send(()).unwrap());
            begins.send(()).unwrap();
            // Nobody fires it.
            deferred.add_both(move |result| {
                drop(trigger);
                result
            })
        });
        begun.recv().unwrap();
        assert_eq!(format!("{call:?}"), "RemoteCall(waiting)");
        call.cancel();
        call.wait()
    });
    let Err(BlockingCallError::Failed(failure)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(failure.interrupted(), Some(&Interrupted::Cancelled));
    stopped.recv().unwrap();
}

#[test]
fn call_that_is_cancelled_before_it_began_is_not_made() {
    let reactor = reactor();
    let call = reactor
        .remote()
        .defer_from_thread(|_| unreachable!("it was cancelled") as ());
    call.cancel();
    assert!(call.try_wait().is_none());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(matches!(
        call.try_wait(),
        Some(Err(BlockingCallError::Failed(failure)))
            if failure.interrupted() == Some(&Interrupted::Cancelled)
    ));
    call.cancel();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(call.try_wait().is_none(), "it is given once");
    assert_eq!(format!("{call:?}"), "RemoteCall(answered)");
}

#[test]
fn call_whose_handle_is_dropped_is_made_and_the_end_of_the_reactor_is_an_answer() {
    let (reactor, made) = (reactor(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&made);
    drop(reactor.remote().defer_from_thread(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let remote = reactor.remote();
    let pending = remote.defer_from_thread(|_| ());
    drop(reactor);
    assert!(matches!(pending.wait(), Err(BlockingCallError::Gone)));
    assert!(matches!(
        remote.defer_from_thread(|_| ()).wait(),
        Err(BlockingCallError::Gone)
    ));
}
