//! The operations that are counted. Each does its work `count` times, on one thread, the
//! same way each time.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use torsade::prelude::*;
use torsade::reactor::testing::virtual_time_reactor;

use crate::{http, tls, udp};

/// Its name on the command line, and what it does so many times.
pub type Operation = (&'static str, fn(u64));

pub const OPERATIONS: [Operation; 21] = [
    ("call_soon", call_soon),
    ("call_from_thread", call_from_thread),
    ("timer_cancel", timer_cancel),
    ("timer_fire", |count| timer_fire(count, false)),
    ("timer_fire_capturing", |count| timer_fire(count, true)),
    ("turn", turn),
    ("echo_1", |count| echo(1, count)),
    ("echo_50", |count| echo(50, count)),
    ("echo_500", |count| echo(500, count)),
    ("echo_32k", echo_large),
    ("http_hello", http::hello),
    ("http_hello_16_deep", http::hello_16_deep),
    ("http_browser_16_deep", http::browser_16_deep),
    ("http_json", http::json),
    ("http_post", http::post),
    ("http_file", http::file),
    ("http_cached", http::cached),
    ("udp_1", |count| udp::echo(1, count)),
    ("udp_16", |count| udp::echo(16, count)),
    ("unix_datagrams", udp::echo_unix),
    ("tls_echo", tls::echo),
];

/// A byte that does not come for so long is lost.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
}

pub fn made() {
    MADE.set(MADE.get() + 1);
}

pub fn turn_until(reactor: &Reactor, count: u64) {
    while MADE.get() < count {
        reactor.turn(None).expect("it turns");
    }
}

/// A reactor that has turned once: the wheel of timers turns with it.
pub fn turning() -> Reactor {
    let reactor = Reactor::new().expect("a descriptor is left");
    reactor.call_soon(|| ());
    reactor.turn(Some(Duration::ZERO)).expect("it turns");
    reactor
}

fn call_soon(count: u64) {
    let reactor = turning();
    for done in 0..count {
        reactor.call_soon(made);
        if done % 100 == 99 {
            turn_until(&reactor, done + 1);
        }
    }
}

fn call_from_thread(count: u64) {
    let reactor = turning();
    let remote = reactor.remote();
    for done in 0..count {
        // Something is captured, as mostly: a call that holds nothing allocates nothing.
        remote.call_from_thread(move |_| MADE.set(done + 1));
        if done % 100 == 99 {
            turn_until(&reactor, done + 1);
        }
    }
}

/// A linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

fn timer_cancel(count: u64) {
    let reactor = turning();
    let mut random = Random(1);
    let mut timeout = || Duration::from_micros(30_000_000 + random.below(30_000_000));
    for _ in 0..10_000 {
        reactor.call_later(timeout(), made);
    }
    for _ in 0..count {
        assert!(reactor.call_later(timeout(), made).cancel());
    }
}

/// Timers within a second of virtual time, at ten instants in each of its milliseconds:
/// how many fire in a turn, and where they lie before, is the same each time.
fn timer_fire(count: u64, capturing: bool) {
    let reactor = virtual_time_reactor();
    let mut random = Random(1);
    let begin = reactor.now();
    for _ in 0..count {
        let deadline = begin + Duration::from_micros(random.below(10_000) * 100);
        if capturing {
            reactor.call_at(deadline, move || {
                black_box(deadline);
                made();
            });
        } else {
            reactor.call_at(deadline, made);
        }
    }
    turn_until(&reactor, count);
}

fn turn(count: u64) {
    let reactor = turning();
    let ready = eventfd(1, EventfdFlags::NONBLOCK).expect("a descriptor is left");
    let _watch = reactor
        .add_reader(ready, |_| made())
        .expect("it can be watched");
    turn_until(&reactor, count);
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
        made();
    }
}

/// Each connection asks, and then all answers are read: the clients are blocking sockets on
/// the same thread, so that the order is always the same.
fn echo(connections: u64, count: u64) {
    let (reactor, mut clients) = connected(connections);
    let (mut message, mut answer) = ([7; 64], [0; 64]);
    let mut asked = 0;
    while asked < count {
        for (client, number) in clients.iter_mut().zip(asked..) {
            number_it(&mut message, number);
            client.write_all(&message).expect("it stands");
        }
        turn_until(&reactor, asked + connections);
        for (client, number) in clients.iter_mut().zip(asked..) {
            number_it(&mut message, number);
            client.read_exact(&mut answer).expect("all of it comes");
            assert!(answer == message, "other bytes came back");
        }
        asked += connections;
    }
}

/// As much as a socket takes at once: the client waits for nobody.
fn echo_large(count: u64) {
    let (reactor, mut clients) = connected(1);
    let (mut message, mut answer) = (vec![7; 32 * 1024], vec![0; 32 * 1024]);
    for asked in 1..=count {
        number_it(&mut message, asked);
        clients[0].write_all(&message).expect("it stands");
        turn_until(&reactor, asked);
        clients[0].read_exact(&mut answer).expect("all of it comes");
        // Of all, it would be most of what is counted. What the first take is in both of two runs,
        // whose difference is the count.
        assert!(
            asked > COMPARED || answer == message,
            "other bytes came back"
        );
    }
}

/// So many of the large messages are compared: fewer than in any run.
const COMPARED: u64 = 500;

/// Makes a message one that was not sent before, so that an old answer is a wrong one.
pub fn number_it(message: &mut [u8], number: u64) {
    message[..8].copy_from_slice(&number.to_le_bytes());
}

fn connected(connections: u64) -> (Reactor, Vec<TcpStream>) {
    let reactor = turning();
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_peer: &Address| Echo)
        .expect("a port is free");
    let address = port.address().to_string();
    let clients = (0..connections)
        .map(|_| {
            let client = TcpStream::connect(&*address).expect("it listens");
            client
                .set_read_timeout(Some(SILENCE_MAX))
                .expect("it is not zero");
            reactor.turn(Some(Duration::ZERO)).expect("it turns");
            client
        })
        .collect();
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).expect("it turns");
    }
    (reactor, clients)
}
