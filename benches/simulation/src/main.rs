//! How much a simulation costs: CPU time for a message, and for a short simulation.
//!
//! `cargo run --release -p bench-simulation [ROUNDS]`

use std::cell::Cell;
use std::env;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use torsade_reactor::testing::Simulation;
use torsade_reactor::{Address, Protocol, Transport};

const SIZE: usize = 64;
const MESSAGES: u64 = 500_000;
const SIMULATIONS: u64 = 500;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

/// Sends a message, and the next when its echo is complete.
struct Pinger {
    left: Rc<Cell<u64>>,
    missing: usize,
}

impl Protocol for Pinger {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.write([7; SIZE]);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        assert!(
            data.iter().all(|byte| *byte == 7),
            "an echo is what was sent"
        );
        self.missing -= data.len();
        if self.missing > 0 {
            return;
        }
        self.missing = SIZE;
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            transport.lose_connection();
        } else {
            transport.write([7; SIZE]);
        }
    }
}

/// Two hosts and so many messages there and back.
fn ping(seed: u64, round_trips: u64) {
    let simulation = Simulation::new(seed);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(|reactor| {
        reactor
            .listen_tcp(":7", |_: &Address| Echo)
            .expect("the port is free");
    });
    let left = Rc::new(Cell::new(round_trips));
    let counter = Rc::clone(&left);
    let pinger = move |_: &Address| Pinger {
        left: counter,
        missing: SIZE,
    };
    drop(client.reactor().connect_tcp((server.ip(), 7), pinger));
    simulation.run_until_idle();
    assert_eq!(left.get(), 0, "every message came back");
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn main() {
    let rounds = env::args()
        .nth(1)
        .map_or(5, |text| text.parse().expect("a number of rounds"));
    let (mut message, mut simulation) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let begun = cpu();
        ping(round, MESSAGES / 2);
        let after = cpu();
        for seed in 0..SIMULATIONS {
            ping(seed, 50);
        }
        message.push((after - begun).as_secs_f64() / MESSAGES as f64);
        simulation.push((cpu() - after).as_secs_f64() / SIMULATIONS as f64);
    }
    message.sort_by(f64::total_cmp);
    simulation.sort_by(f64::total_cmp);
    println!(
        "{:.0} ns of CPU a message ({:.2} million a second)",
        message[message.len() / 2] * 1e9,
        1e-6 / message[message.len() / 2],
    );
    println!(
        "{:.0} us of CPU a simulation of 2 hosts and 100 messages ({:.0} a second)",
        simulation[simulation.len() / 2] * 1e6,
        1.0 / simulation[simulation.len() / 2],
    );
}
