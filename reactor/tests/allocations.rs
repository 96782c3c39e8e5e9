//! What allocates, counted.
//!
//! A binary of its own, because the allocator is the whole program's. Each test counts
//! what its own thread allocates.

#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one counts and passes on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use torsade_reactor::{Address, Protocol, Reactor, Transport, testing};

struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has and has not given back.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; the
// counter is a thread-local without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.set(MADE.get() + 1);
        HELD.set(HELD.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: `pointer` came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CALLS: usize = 100;

/// How many allocations `work` makes when it is done for the second time: lists that grow
/// have their room by then.
fn allocations(mut work: impl FnMut()) -> usize {
    work();
    let before = MADE.get();
    work();
    MADE.get() - before
}

/// Runs one turn without waiting.
fn turn(reactor: &Reactor) {
    reactor.turn(Some(Duration::ZERO)).expect("it turns");
}

fn counter() -> (Rc<Cell<usize>>, impl Fn() -> Rc<Cell<usize>>) {
    let counter = Rc::new(Cell::new(0));
    let own = Rc::clone(&counter);
    (counter, move || Rc::clone(&own))
}

#[test]
fn a_call_for_the_next_turn_is_one_allocation_and_none_if_it_captures_nothing() {
    let reactor = testing::virtual_time_reactor();
    let (made, counter) = counter();
    let capturing = allocations(|| {
        for _ in 0..CALLS {
            let counter = counter();
            reactor.call_soon(move || counter.set(counter.get() + 1));
        }
        turn(&reactor);
    });
    assert_eq!((capturing, made.get()), (CALLS, 2 * CALLS));
    let empty = allocations(|| {
        for _ in 0..CALLS {
            reactor.call_soon(|| ());
        }
        turn(&reactor);
    });
    assert_eq!(empty, 0);
}

#[test]
fn a_delayed_call_that_captures_little_is_no_allocation_whether_it_is_made_or_cancelled() {
    let reactor = testing::virtual_time_reactor();
    let (made, counter) = counter();
    let schedule = |delay| {
        let counter = counter();
        reactor.call_later(delay, move || counter.set(counter.get() + 1))
    };
    let fired = allocations(|| {
        for _ in 0..CALLS {
            schedule(Duration::ZERO);
        }
        turn(&reactor);
    });
    assert_eq!((fired, made.get()), (0, 2 * CALLS));
    // Soon, and in places of the wheel that are otherwise empty.
    for delay in [Duration::ZERO, Duration::from_secs(30)] {
        let cancelled = allocations(|| {
            for _ in 0..CALLS {
                assert!(schedule(delay).cancel());
            }
        });
        assert_eq!(cancelled, 0, "after {delay:?}");
    }
    assert_eq!(made.get(), 2 * CALLS);
}

#[test]
fn a_call_from_a_thread_is_one_allocation_if_it_captures_much_and_none_otherwise() {
    let reactor = testing::virtual_time_reactor();
    let remote = reactor.remote();
    let captured = Arc::new(());
    // Twice before it is counted: posts and those being made have a list each.
    let work = |much: bool| {
        for _ in 0..CALLS {
            let captured = Arc::clone(&captured);
            if much {
                let ballast = [0_usize; 3];
                remote.call_from_thread(move |_| drop((captured, ballast)));
            } else {
                remote.call_from_thread(move |_| drop(captured));
            }
        }
        turn(&reactor);
    };
    work(true);
    assert_eq!(allocations(|| work(true)), CALLS);
    assert_eq!(allocations(|| work(false)), 0);
    assert_eq!(Arc::strong_count(&captured), 1);
}

#[test]
fn turns_allocate_nothing() {
    let reactor = Reactor::new().expect("a descriptor is left");
    let count = allocations(|| (0..CALLS).for_each(|_| turn(&reactor)));
    assert_eq!(count, 0);
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

#[test]
fn an_echo_allocates_nothing() {
    let reactor = Reactor::new().expect("a descriptor is left");
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_peer: &Address| Echo)
        .expect("a port is free");
    let mut peer = TcpStream::connect(port.address().to_string()).expect("it listens");
    peer.set_nonblocking(true).expect("it can be");
    let mut echo = || {
        peer.write_all(b"hello").expect("there is room");
        let mut heard = [0; 5];
        while peer.read(&mut heard).is_err() {
            turn(&reactor);
        }
        assert_eq!(&heard, b"hello");
    };
    echo();
    let count = allocations(|| (0..CALLS).for_each(|_| echo()));
    assert_eq!(count, 0);
}

/// A protocol without a state.
struct Idle;

impl Protocol for Idle {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
}

/// How many idle connections to hold: as many as this says, else [`CONNECTIONS`].
const CONNECTIONS_WANTED: &str = "TORSADE_TEST_IDLE_CONNECTIONS";
const CONNECTIONS: usize = 2_000;

/// Set in a second process of this binary: where to connect, and how often.
const CONNECTS: &str = "TORSADE_TEST_CONNECTS";

/// As many descriptors as the system lets this process have.
fn raise_the_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum, anybody may");
}

/// The program of the next test. As a test of this process there is nothing to do.
#[test]
fn a_second_process_holds_connections_until_its_input_ends() {
    let Ok(asked) = env::var(CONNECTS) else {
        return;
    };
    raise_the_limit();
    let (address, count) = asked.split_once(' ').expect("an address and a number");
    let count: usize = count.parse().expect("a number");
    let connections: Vec<_> = (0..count)
        .map(|_| TcpStream::connect(address).expect("it listens"))
        .collect();
    // Until its parent has seen enough, or is gone.
    let read = io::stdin().read_to_end(&mut Vec::new());
    read.expect("it is a pipe");
    drop(connections);
}

#[test]
fn an_idle_connection_holds_at_most_512_bytes_and_wakes_nobody() {
    raise_the_limit();
    let count = env::var(CONNECTIONS_WANTED).map_or(CONNECTIONS, |text| {
        text.parse().expect("it is a number of connections")
    });
    let reactor = Reactor::new().expect("there are descriptors left");
    let (accepted, counter) = counter();
    let accepting = counter();
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            accepting.set(accepting.get() + 1);
            Idle
        })
        .expect("loopback can listen");
    let accept = |count: usize| {
        let peers = Command::new(env::current_exe().expect("a running program has a path"))
            .env(CONNECTS, format!("{} {count}", port.address()))
            .args([
                "--exact",
                "a_second_process_holds_connections_until_its_input_ends",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs already");
        let expected = accepted.get() + count;
        while accepted.get() < expected {
            reactor
                .turn(Some(Duration::from_secs(10)))
                .expect("the loop can wait");
        }
        peers
    };
    let first = accept(1);
    let before = HELD.get();
    let peers = accept(count);
    turn(&reactor);
    let each = (HELD.get() - before) / count;
    assert!(each <= 512, "{each} bytes each");
    let turns = reactor.statistics().events;
    turn(&reactor);
    assert_eq!(reactor.statistics().events, turns, "somebody was woken");
    assert_eq!(reactor.next_deadline(), None, "somebody wants a turn");
    if env::var_os(CONNECTIONS_WANTED).is_some() {
        let said = writeln!(io::stderr(), "{count} connections, {each} bytes each");
        said.expect("somebody reads");
    }
    for mut peers in [first, peers] {
        drop(peers.stdin.take());
        assert!(peers.wait().expect("it is ours").success());
    }
}
