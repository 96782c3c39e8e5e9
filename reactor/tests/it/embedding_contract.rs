//! The contract with a host that waits by itself: if there is work, the descriptor is
//! readable or the deadline has passed, whatever was called from outside a turn.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use rustix::process::{getpid, kill_process};
use torsade_deferred::{Deferred, Failure};
use torsade_reactor::{
    Address, ChannelEvent, Interest, Mode, Phase, Place, Reactor, Signal, testing,
};

use crate::common::{End, Log, connect, is_readable, reactor};

/// What a host sees without waiting: `poll` with no time at all, and the deadline.
fn says_so(reactor: &Reactor) -> bool {
    is_readable(reactor, Some(Duration::ZERO))
        || reactor
            .next_deadline()
            .is_some_and(|deadline| deadline <= reactor.now())
}

/// Gives turns until there is nothing to do at once. The bound is the check against spinning.
#[track_caller]
fn calm(reactor: &Reactor) {
    for _ in 0..1_000 {
        let says_so = says_so(reactor);
        assert_eq!(says_so, reactor.is_work_pending());
        if !says_so {
            return;
        }
        reactor.turn(Some(Duration::ZERO)).expect("it can wait");
    }
    panic!("1000 turns, and the host is still asked for more");
}

/// Something is done from outside; the host must hear of it at once, and the turns that it
/// gives then must have done it.
#[track_caller]
fn check_now(reactor: &Reactor, act: impl FnOnce(), is_done: impl Fn() -> bool) {
    calm(reactor);
    assert!(!is_done(), "it is done already: this check shows nothing");
    act();
    // It was asked for both before, and waits by now.
    assert!(
        is_readable(reactor, Some(Duration::ZERO)),
        "the host is not told to ask again"
    );
    assert!(says_so(reactor), "work is pending and nothing says so");
    assert!(reactor.is_work_pending());
    calm(reactor);
    assert!(is_done(), "the host was let go before the work was done");
}

/// The same for what takes a moment in the world outside: the host waits for the descriptor
/// and the deadline, with a limit that is a failure.
#[track_caller]
fn check_soon(reactor: &Reactor, act: impl FnOnce(), is_done: impl Fn() -> bool) {
    calm(reactor);
    assert!(!is_done(), "it is done already: this check shows nothing");
    act();
    for _ in 0..10_000 {
        if is_done() {
            return calm(reactor);
        }
        let deadline = reactor.next_deadline();
        let limit = deadline.map_or(LONG, |deadline| {
            deadline.saturating_duration_since(reactor.now())
        });
        assert!(
            is_readable(reactor, Some(limit)) || deadline.is_some(),
            "stalled: work was pending and nothing said so"
        );
        reactor.turn(Some(Duration::ZERO)).expect("it can wait");
    }
    panic!("10 000 turns, and still not done");
}

const LONG: Duration = Duration::from_secs(20);

/// A flag, and a callback that raises it.
fn flag() -> (impl Fn() -> bool, impl Fn() + Clone + 'static) {
    let flag = Rc::new(Cell::new(false));
    let raised = Rc::clone(&flag);
    (move || raised.get(), move || flag.set(true))
}

#[test]
fn a_reactor_that_was_never_turned_is_woken_from_a_thread() {
    let reactor = reactor();
    assert!(!says_so(&reactor));
    let (remote, (is_made, raise)) = (reactor.remote(), flag());
    thread::spawn(move || remote.call_from_thread(|_| ()))
        .join()
        .expect("it posts and ends");
    // Asked for the descriptor alone: the host may wait already.
    assert!(
        is_readable(&reactor, Some(Duration::ZERO)),
        "the host sleeps on, and the call waits"
    );
    reactor.call_soon(raise);
    calm(&reactor);
    assert!(is_made());
}

#[test]
fn calls_from_outside_are_announced() {
    let reactor = reactor();
    let (is_made, raise) = flag();
    check_now(&reactor, || drop(reactor.call_soon(raise)), is_made);
    let (is_made, raise) = flag();
    let none = Duration::ZERO;
    check_now(&reactor, || drop(reactor.call_later(none, raise)), is_made);
    let (is_made, raise) = flag();
    let now = reactor.now();
    check_now(&reactor, || drop(reactor.call_at(now, raise)), is_made);
    let (is_made, raise) = flag();
    check_now(&reactor, || reactor.call_when_running(raise), is_made);
    let hook = reactor.add_hook(Place::Idle, || ());
    assert!(says_so(&reactor), "an idle hook wants every turn");
    hook.remove();
    calm(&reactor);
}

/// Whether the descriptor says anything: a host that waits for it and a deadline in the far
/// future would be woken.
fn wakes_host(reactor: &Reactor) -> bool {
    is_readable(reactor, Some(Duration::ZERO))
}

#[test]
fn a_deadline_that_comes_forward_outside_of_a_turn_wakes_the_host_once() {
    let reactor = reactor();
    let none = || ();
    calm(&reactor);
    let first = reactor.call_later(LONG, none);
    assert!(wakes_host(&reactor), "there was no deadline before");
    calm(&reactor);
    let later = reactor.call_later(LONG * 2, none);
    assert!(!wakes_host(&reactor), "it wakes by itself before that");
    later.reset(LONG / 2);
    assert!(wakes_host(&reactor));
    calm(&reactor);
    first.reset(LONG);
    later.delay(LONG);
    assert!(!wakes_host(&reactor), "a later one may be found out later");
    // Who asks before it waits has been told.
    reactor.call_later(LONG / 4, none);
    reactor.turn(Some(Duration::ZERO)).expect("it can wait");
    assert!(!wakes_host(&reactor));
    // What is done in a turn is asked for when that is over.
    let handle = reactor.clone();
    reactor.call_soon(move || drop(handle.call_later(LONG / 8, none)));
    calm(&reactor);
    assert!(!wakes_host(&reactor));
}

#[test]
fn a_hook_before_the_shutdown_that_fires_outside_of_a_turn_wakes_the_host() {
    let reactor = reactor();
    let (trigger, closed) = Deferred::<()>::new();
    reactor.on_shutdown(Phase::Before, move || closed);
    let (has_stopped, raise) = flag();
    reactor.on_shutdown(Phase::After, raise);
    reactor.stop();
    check_now(&reactor, || trigger.callback(()), has_stopped);
}

#[test]
fn an_earlier_deadline_is_the_deadline_and_a_cancelled_one_is_none() {
    let reactor = reactor();
    let late = reactor.call_later(LONG, || ());
    assert_eq!(reactor.next_deadline(), late.deadline());
    let (is_made, raise) = flag();
    let early = reactor.call_later(LONG / 2, raise);
    assert_eq!(reactor.next_deadline(), early.deadline());
    assert!(!says_so(&reactor));
    early.delay(LONG);
    assert_eq!(reactor.next_deadline(), late.deadline());
    check_now(&reactor, || assert!(early.reset(Duration::ZERO)), is_made);
    assert_eq!(reactor.next_deadline(), late.deadline());
    late.cancel();
    assert_eq!(reactor.next_deadline(), None);
    assert!(!says_so(&reactor), "a cancelled call wants no turn");
}

#[test]
fn futures_that_wait_are_resumed_whoever_wakes_them() {
    let reactor = reactor();
    let (is_made, raise) = flag();
    // It wakes itself, once.
    let yields = || {
        let mut woken = false;
        std::future::poll_fn(move |task| {
            if std::mem::replace(&mut woken, true) {
                return std::task::Poll::Ready(());
            }
            task.waker().wake_by_ref();
            std::task::Poll::Pending
        })
    };
    let task = async move {
        yields().await;
        raise();
        Ok::<_, Failure>(())
    };
    check_now(&reactor, || drop(reactor.spawn(task)), is_made);
    // Another thread wakes it.
    let (is_made, raise) = flag();
    let (tell, told) = mpsc::channel::<Waker>();
    let waking = thread::spawn(move || told.recv().expect("it is told").wake());
    let mut tell = Some(tell);
    let task = async move {
        std::future::poll_fn(move |task| match tell.take() {
            Some(tell) => {
                tell.send(task.waker().clone()).expect("the thread waits");
                std::task::Poll::Pending
            }
            None => std::task::Poll::Ready(()),
        })
        .await;
        raise();
        Ok::<_, Failure>(())
    };
    check_soon(&reactor, || drop(reactor.spawn(task)), is_made);
    waking.join().expect("it wakes and ends");
}

#[test]
fn what_comes_from_other_threads_makes_the_descriptor_readable() {
    let reactor = reactor();
    let remote = reactor.remote();
    let on_thread = |act: Box<dyn FnOnce() + Send>| {
        thread::spawn(act).join().expect("it acts and ends");
        assert!(
            is_readable(&reactor, Some(Duration::ZERO)),
            "the host sleeps on"
        );
    };
    let (is_made, raise) = flag();
    let (sender, _channel) = reactor.channel(move |_, event| {
        if event == ChannelEvent::Message(3) {
            raise();
        }
    });
    check_now(
        &reactor,
        || {
            on_thread(Box::new(move || {
                (1..=3).for_each(|number| sender.send(number).expect("it is open"));
            }));
        },
        is_made,
    );
    let (is_closed, raise) = flag();
    let (sender, _channel) = reactor.bounded_channel::<()>(1, move |_, event| {
        assert_eq!(event, ChannelEvent::Closed);
        raise();
    });
    check_now(
        &reactor,
        || on_thread(Box::new(move || drop(sender))),
        is_closed,
    );
    let (is_pinged, raise) = flag();
    let (ping, _channel) = reactor.ping(move |_| raise());
    check_now(
        &reactor,
        || on_thread(Box::new(move || ping.ping())),
        is_pinged,
    );
    let (has_answer, raise) = flag();
    let answer = || reactor.defer_to_thread(|| Ok::<_, std::io::Error>(3));
    check_soon(
        &reactor,
        || drop(answer().add_callback(move |_| raise())),
        has_answer,
    );
    let (has_stopped, raise) = flag();
    reactor.on_shutdown(Phase::After, raise);
    check_now(
        &reactor,
        || on_thread(Box::new(move || remote.stop())),
        has_stopped,
    );
}

#[test]
fn channels_that_hold_more_than_a_share_ask_for_more_turns() {
    let reactor = reactor();
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    let (sender, _channel) = reactor.channel(move |_, event| {
        if let ChannelEvent::Message(()) = event {
            counter.set(counter.get() + 1);
        }
    });
    check_now(
        &reactor,
        || (0..5_000).for_each(|_| sender.send(()).expect("it is open")),
        || count.get() == 5_000,
    );
}

#[test]
fn signals_make_the_descriptor_readable() {
    let reactor = reactor();
    let (has_come, raise) = flag();
    // Ignored by default: a test beside this one may raise it, too.
    let watcher = reactor.on_signal(Signal::WINCH, move |_| raise());
    let watcher = watcher.expect("it can be caught");
    check_soon(
        &reactor,
        || kill_process(getpid(), rustix::process::Signal::WINCH).expect("it is this process"),
        has_come,
    );
    watcher.remove();
    calm(&reactor);
}

fn count_lost(log: &Log) -> usize {
    let lines = log.lines();
    lines.iter().filter(|line| line.contains(" lost: ")).count()
}

#[test]
fn writes_and_endings_asked_for_outside_are_announced() {
    let (reactor, log) = (reactor(), Log::default());
    let (client, server) = (End::new("client", &log), End::new("server", &log));
    let received = Rc::clone(&server.received);
    let pair = connect(&reactor, client, server);
    let far = Rc::clone(&received);
    check_now(
        &reactor,
        || pair.client.write(b"to be sent"),
        || far.borrow().len() == 10,
    );
    // What came while nobody read is read when somebody does.
    pair.server.pause_reading();
    pair.client.write(b" and more");
    calm(&reactor);
    let far = Rc::clone(&received);
    check_now(
        &reactor,
        || pair.server.resume_reading(),
        || far.borrow().len() == 19,
    );
    // More than the peer's system takes, and more than a turn's share.
    let far = Rc::clone(&received);
    let size = 8 << 20;
    check_soon(
        &reactor,
        || pair.client.write(vec![0; size]),
        move || far.borrow().len() == size + 19,
    );
    let (was_visited, raise) = flag();
    pair.client.call(move |_, transport| {
        let again = transport.clone();
        // Its method is on the stack: this waits until it returns, which is at once.
        again.call(move |_, _| raise());
    });
    assert!(was_visited());
    let lost = log.clone();
    check_now(
        &reactor,
        || pair.client.lose_connection(),
        move || count_lost(&lost) == 2,
    );
}

#[test]
fn an_aborted_connection_is_lost_in_the_next_turn() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let lost = log.clone();
    check_now(
        &reactor,
        || pair.server.abort_connection(),
        move || count_lost(&lost) == 2,
    );
}

#[test]
fn ports_and_attempts_are_announced() {
    let reactor = reactor();
    let (was_accepted, raise) = flag();
    let accept = move |_: &Address| {
        raise();
        End::new("server", &Log::default())
    };
    let port = reactor.listen_tcp("127.0.0.1:0", accept).expect("loopback");
    let address = port.address().to_string();
    let mut peers = Vec::new();
    check_now(
        &reactor,
        || peers.push(TcpStream::connect(&address).expect("it listens")),
        was_accepted,
    );
    // What the peer says, and that it goes.
    let mut peer = peers.pop().expect("it was connected above");
    calm(&reactor);
    peer.write_all(b"hello").expect("it is connected");
    assert!(says_so(&reactor));
    calm(&reactor);
    drop(peer);
    assert!(says_so(&reactor));
    calm(&reactor);
    let (is_connected, raise) = flag();
    // A name: looked up on a thread.
    let name = format!("localhost:{}", address.rsplit(':').next().expect("a port"));
    let client = || reactor.connect_tcp(name.as_str(), |_| End::new("client", &Log::default()));
    check_soon(
        &reactor,
        || drop(client().add_callback(move |_| raise())),
        is_connected,
    );
    drop(port.stop_listening());
    assert!(
        !says_so(&reactor),
        "it is done already, and asks for nothing"
    );
    let (is_refused, raise) = flag();
    let client = || reactor.connect_tcp(address.as_str(), |_| End::new("none", &Log::default()));
    let refused = move |_: Result<_, Failure>| raise();
    check_soon(&reactor, || drop(client().add_both(refused)), is_refused);
}

#[test]
fn changes_to_a_watch_count_at_once() {
    let reactor = reactor();
    let (mut near, far) = UnixStream::pair().expect("the system has descriptors left");
    near.write_all(b"abc").expect("there is room");
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    let mut watches = Vec::new();
    // Each callback takes one byte: the rest keeps the level.
    check_now(
        &reactor,
        || {
            let watch = reactor.add_reader(far, move |watch| {
                let source = watch.source().expect("it is watched");
                (&*source).read_exact(&mut [0]).expect("it is readable");
                counter.set(counter.get() + 1);
            });
            watches.push(watch.expect("a socket can be watched"));
        },
        || count.get() == 3,
    );
    let watch = watches.pop().expect("it was made above");
    watch.disable();
    near.write_all(b"d").expect("there is room");
    assert!(!says_so(&reactor), "a watch that rests asks for nothing");
    check_now(
        &reactor,
        || watch.enable().expect("it can be watched"),
        || count.get() == 4,
    );
    watch.disable();
    near.write_all(b"e").expect("there is room");
    // It is writable, and readable.
    check_now(
        &reactor,
        || {
            let armed = watch.set_interest(Interest::Write, Mode::OneShot);
            armed.expect("it rests");
            watch.enable().expect("it can be watched");
        },
        || count.get() == 5,
    );
    near.write_all(b"f").expect("there is room");
    assert!(!says_so(&reactor), "its one shot is over");
    check_now(
        &reactor,
        || {
            let level = watch.set_interest(Interest::Read, Mode::Level);
            level.expect("it rests");
            watch.enable().expect("it can be watched");
        },
        || count.get() == 6,
    );
    watch.remove();
    drop(near);
    assert!(!says_so(&reactor), "nobody watches any more");
}

#[test]
fn what_is_always_ready_asks_for_every_turn_until_it_rests() {
    let reactor = reactor();
    let file = std::fs::File::open("/dev/null").expect("every system has it");
    let (is_ready, raise) = flag();
    let mut watches = Vec::new();
    let left = Cell::new(3);
    check_now(
        &reactor,
        || {
            let watch = reactor.add_reader(file, move |watch| {
                left.set(left.get() - 1);
                if left.get() == 0 {
                    raise();
                    watch.disable();
                }
            });
            watches.push(watch.expect("it is always ready"));
        },
        is_ready,
    );
}

#[test]
fn more_events_than_a_turn_takes_leave_the_descriptor_readable() {
    let reactor = reactor();
    let count = Rc::new(Cell::new(0));
    let mut near_ends = Vec::new();
    for _ in 0..300 {
        let (near, far) = UnixStream::pair().expect("the system has descriptors left");
        let counter = Rc::clone(&count);
        let watch = reactor.add_reader(far, move |watch| {
            let source = watch.source().expect("it is watched");
            (&*source).read_exact(&mut [0]).expect("it is readable");
            counter.set(counter.get() + 1);
        });
        watch.expect("a socket can be watched");
        near_ends.push(near);
    }
    check_now(
        &reactor,
        || {
            for near in &mut near_ends {
                near.write_all(b"x").expect("there is room");
            }
        },
        || count.get() == 300,
    );
}

#[test]
fn a_stop_that_waits_for_its_hooks_goes_on_when_they_fire() {
    let reactor = reactor();
    let (trigger, waited_for) = Deferred::<()>::new();
    reactor.on_shutdown(Phase::Before, move || waited_for);
    let (has_stopped, raise) = flag();
    reactor.on_shutdown(Phase::After, raise);
    let handle = reactor.clone();
    reactor.stop();
    assert!(says_so(&reactor));
    calm(&handle);
    check_now(&handle, || trigger.callback(()), has_stopped);
    handle.crash();
    assert!(says_so(&handle), "the turn that leaves is still to come");
    calm(&handle);
}

#[test]
fn a_reactor_in_virtual_time_has_its_deadline_alone() {
    let reactor = testing::virtual_time_reactor();
    assert!(!reactor.is_work_pending());
    reactor.call_later(Duration::from_secs(1), || ());
    assert!(!reactor.is_work_pending());
    reactor.call_soon(|| ());
    assert!(reactor.is_work_pending());
}
