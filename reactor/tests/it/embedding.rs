//! A seat in somebody else's loop: driven by turns, or by descriptor and deadline, the
//! reactor never stalls.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use torsade_reactor::{Guest, Phase, Place, Reactor};

use crate::common::{End, Log, check_signals_are_blocked, connect, is_readable, reactor};

/// A host that can only wait for a descriptor and a deadline. It gives the reactor a turn
/// when either says so, and counts how often it had to.
#[track_caller]
fn host(reactor: &Reactor, mut goes_on: impl FnMut() -> bool) -> usize {
    let mut turns = 0;
    while goes_on() {
        let deadline = reactor.next_deadline();
        let limit = deadline.map(|deadline| deadline.saturating_duration_since(reactor.now()));
        // Far more than anything here takes: to reach it is to have stalled.
        let limit = limit.unwrap_or(Duration::from_secs(20));
        assert!(
            is_readable(reactor, Some(limit)) || deadline.is_some(),
            "stalled: work was pending and nothing said so"
        );
        reactor.turn(Some(Duration::ZERO)).unwrap();
        turns += 1;
        assert!(turns < 100_000, "the descriptor or the deadline spins");
    }
    turns
}

#[test]
fn an_echo_runs_on_descriptor_and_deadline_alone() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log).on_data(|transport, data| transport.write(data));
    let client = End::new("client", &log);
    let received = Rc::clone(&client.received);
    let pair = connect(&reactor, client, server);
    let size = 10_000_000;
    pair.client.write(vec![1; size]);
    host(&reactor, || received.borrow().len() < size);
    pair.client.lose_connection();
    host(&reactor, || log.lines().len() < 4);
}

#[test]
fn delayed_soon_and_thread_calls_are_made_on_descriptor_and_deadline_alone() {
    let reactor = reactor();
    let steps = Rc::new(Cell::new(0));
    let (handle, count) = (reactor.clone(), Rc::clone(&steps));
    fn step(reactor: &Reactor, count: Rc<Cell<usize>>, left: usize) {
        count.set(count.get() + 1);
        let next = reactor.clone();
        match left {
            0 => {}
            _ if left.is_multiple_of(2) => {
                drop(reactor.call_soon(move || step(&next, count, left - 1)))
            }
            _ => drop(reactor.call_later(Duration::from_micros(200), move || {
                step(&next, count, left - 1)
            })),
        }
    }
    reactor.call_soon(move || step(&handle, count, 100));
    let turns = host(&reactor, || steps.get() < 101);
    assert!(turns < 600, "{turns} turns for 101 steps");
    // From another thread, at any moment of the host's loop.
    let remote = reactor.remote();
    let thread = thread::spawn(move || {
        for _ in 0..1_000 {
            remote.call_from_thread(|reactor| drop(reactor.call_soon(|| ())));
        }
        remote.call_from_thread(Reactor::stop);
    });
    let stopped = Rc::new(Cell::new(false));
    let flag = Rc::clone(&stopped);
    reactor.on_shutdown(Phase::After, move || flag.set(true));
    host(&reactor, || !stopped.get());
    thread.join().unwrap();
}

/// A host that can only be posted to.
#[track_caller]
fn posted_host(reactor: &Reactor, mut goes_on: impl FnMut() -> bool) {
    let (post, posts) = mpsc::channel();
    let guest = Guest::new(reactor, move || post.send(()).unwrap_or_default()).unwrap();
    guest.turn().unwrap();
    while goes_on() {
        let posted = posts.recv_timeout(Duration::from_secs(20));
        posted.expect("stalled: work was pending and nobody was asked to do it");
        guest.turn().unwrap();
    }
}

#[test]
fn an_echo_with_delays_and_threads_runs_as_a_guest() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log).on_data(|transport, data| transport.write(data));
    let client = End::new("client", &log);
    let received = Rc::clone(&client.received);
    let pair = connect(&reactor, client, server);
    let size = 3_000_000;
    let late = Rc::new(Cell::new(false));
    let flag = Rc::clone(&late);
    pair.client.write(vec![1; size]);
    reactor.call_later(Duration::from_millis(3), move || flag.set(true));
    let remote = reactor.remote();
    let stopped = Rc::new(Cell::new(false));
    let flag = Rc::clone(&stopped);
    posted_host(&reactor, || received.borrow().len() < size || !late.get());
    reactor.on_shutdown(Phase::After, move || flag.set(true));
    let thread = thread::spawn(move || remote.stop());
    posted_host(&reactor, || !stopped.get());
    thread.join().unwrap();
}

/// As good as never, for what is to come at once; and long enough to see that nothing comes.
const LONG: Duration = Duration::from_secs(20);
const WHILE: Duration = Duration::from_millis(50);

/// A guest that was turned once and has nothing to do.
fn idle_guest(reactor: &Reactor) -> (Guest, mpsc::Receiver<()>) {
    let (post, posts) = mpsc::channel();
    let guest = Guest::new(reactor, move || post.send(()).unwrap_or_default()).unwrap();
    guest.turn().unwrap();
    // The helper waits by now, for ever.
    assert_eq!(posts.recv_timeout(WHILE), Err(RecvTimeoutError::Timeout));
    (guest, posts)
}

#[test]
fn a_guest_that_is_turned_between_posts_hears_of_the_new_deadline() {
    let reactor = reactor();
    let (guest, posts) = idle_guest(&reactor);
    for delay in [10, 1, 0] {
        let made = Rc::new(Cell::new(false));
        let flag = Rc::clone(&made);
        reactor.call_later(Duration::from_millis(delay), move || flag.set(true));
        guest.turn().unwrap();
        while !made.get() {
            posts
                .recv_timeout(LONG)
                .expect("stalled: the call is due and nobody was asked to make it");
            guest.turn().unwrap();
        }
        // The latest deadline counts, also if it is later than the one before.
        let call = reactor.call_later(Duration::from_millis(10), || ());
        guest.turn().unwrap();
        call.cancel();
        guest.turn().unwrap();
        // Each of the two calls has it ask, and so has each of their times, if the helper comes to that
        // before the turn that makes it needless.
        let mut asked = 0;
        while posts.recv_timeout(WHILE).is_ok() {
            asked += 1;
            assert!(asked <= 4, "asked to come by for nothing");
        }
    }
}

#[test]
fn the_helper_of_a_guest_that_leaves_ends_however_often_it_was_turned() {
    for turns in 0..4 {
        let reactor = reactor();
        let (guest, posts) = idle_guest(&reactor);
        reactor.call_later(LONG, || ());
        for _ in 0..turns {
            guest.turn().unwrap();
        }
        drop(guest);
        // The call has it ask once, if it comes to that before the next turn.
        let end = posts.recv_timeout(LONG);
        let end = end.and_then(|()| posts.recv_timeout(LONG));
        // What it posts with is dropped at its end.
        assert_eq!(
            end,
            Err(RecvTimeoutError::Disconnected),
            "after {turns} turns"
        );
    }
}

#[test]
fn a_guest_is_asked_to_come_by_for_what_is_asked_for_outside() {
    let reactor = reactor();
    let (guest, posts) = idle_guest(&reactor);
    let made = Rc::new(Cell::new(0));
    let count = |made: &Rc<Cell<usize>>| {
        let made = Rc::clone(made);
        move || made.set(made.get() + 1)
    };
    let come_by_until = |number| {
        while made.get() < number {
            posts
                .recv_timeout(LONG)
                .expect("stalled: a call is due and nobody was asked to make it");
            guest.turn().unwrap();
        }
    };
    for number in 1..=3 {
        reactor.call_later(Duration::from_millis(1), count(&made));
        come_by_until(number);
    }
    reactor.call_soon(count(&made));
    come_by_until(4);
}

#[test]
fn a_call_from_the_host_between_turns_makes_the_deadline_pass() {
    let reactor = reactor();
    assert_eq!(reactor.next_deadline(), None);
    let call = reactor.call_later(Duration::from_secs(5), || ());
    assert_eq!(reactor.next_deadline(), call.deadline());
    let soon = reactor.call_soon(|| ());
    assert!(reactor.next_deadline().unwrap() <= reactor.now());
    soon.cancel();
    call.cancel();
    assert_eq!(reactor.next_deadline(), None);
    reactor.remote().call_from_thread(|_| ());
    assert!(reactor.next_deadline().unwrap() <= reactor.now());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let hook = reactor.add_hook(Place::Idle, || ());
    assert!(reactor.next_deadline().unwrap() <= reactor.now());
    hook.remove();
    assert_eq!(reactor.next_deadline(), None);
}

#[test]
fn one_reactor_runs_inside_another() {
    let (outer, inner, log) = (reactor(), reactor(), Log::default());
    let server = End::new("server", &log).on_data(|transport, data| transport.write(data));
    let client = End::new("client", &log);
    let received = Rc::clone(&client.received);
    let pair = connect(&inner, client, server);
    let descriptor = inner.as_fd().try_clone_to_owned().unwrap();
    let driven = inner.clone();
    outer
        .add_reader(descriptor, move |_| {
            driven.turn(Some(Duration::ZERO)).unwrap()
        })
        .unwrap();
    // The inner one's deadlines, asked for before each wait.
    let (asked, handle) = (inner.clone(), outer.clone());
    outer.add_hook(Place::Prepare, move || {
        if let Some(deadline) = asked.next_deadline() {
            let driven = asked.clone();
            handle.call_at(deadline, move || driven.turn(Some(Duration::ZERO)).unwrap());
        }
    });
    let late = Rc::new(Cell::new(false));
    let flag = Rc::clone(&late);
    pair.client.write(vec![3; 1_000_000]);
    inner.call_later(Duration::from_millis(5), move || flag.set(true));
    crate::common::run_while(&outer, || {
        received.borrow().len() < 1_000_000 || !late.get()
    });
}

#[test]
fn the_helper_of_a_guest_blocks_all_signals() {
    let reactor = reactor();
    let (post, posts) = mpsc::channel();
    let posts_where_it_is_checked = move || {
        check_signals_are_blocked();
        let _ = post.send(());
    };
    let guest = Guest::new(&reactor, posts_where_it_is_checked).unwrap();
    guest.turn().unwrap();
    reactor.remote().call_from_thread(|_| ());
    posts.recv().expect("it checked, and nothing is wrong");
}
