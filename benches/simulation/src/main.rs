//! How much a simulation costs: CPU time for a message, and for a short simulation; beside the same program on
//! the system's loopback, and in turmoil.
//!
//! `bench-simulation [ROUNDS]` runs each contender in a process of its own, in rounds, turn about.
//!
//! The work is the same for all: a client sends 64 B, waits for their echo, compares it, and sends the next. A
//! message takes a millisecond of virtual time in both simulations: turmoil goes on by a millisecond at a time
//! (unless it is told otherwise), ours jumps to what comes next.

use std::cell::Cell;
use std::env;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::Duration;

use bench_rounds::{Result, Row, Table, cpu_time, measured, own_peak_memory};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use torsade_reactor::testing::{Latency, Link, Simulation};
use torsade_reactor::{Address, Protocol, Reactor, Transport};

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

const SIZE: usize = 64;
const LATENCY: Duration = Duration::from_millis(1);

/// What is measured: the column, the messages there and back of a run, how many runs, and whether a unit is a
/// message or a run.
struct Shape {
    column: &'static str,
    round_trips: u64,
    runs: u64,
    unit: &'static str,
    units: u64,
}

const SHAPES: [Shape; 2] = [
    Shape {
        column: "a message",
        round_trips: 50_000,
        runs: 1,
        unit: "ns of CPU time a message",
        units: 100_000,
    },
    Shape {
        column: "a simulation of 100 messages",
        round_trips: 50,
        runs: 200,
        unit: "ns of CPU time a simulation",
        units: 200,
    },
];

/// Who takes part: a name, a title, and what runs so many messages there and back by a seed.
type Contender = (&'static str, &'static str, fn(u64, u64));

/// Ours first.
const CONTENDERS: [Contender; 3] = [
    ("simulated", "torsade: Simulation", simulated),
    ("loopback", "torsade: the system's loopback", on_loopback),
    ("turmoil", "turmoil, on tokio", in_turmoil),
];

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
fn simulated(seed: u64, round_trips: u64) {
    let simulation = Simulation::new(seed);
    simulation.set_default_link(Link::with_latency(Latency::Fixed(LATENCY)));
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(|reactor| {
        reactor
            .listen_tcp(":7", |_: &Address| Echo)
            .expect("the port is free");
    });
    let left = Rc::new(Cell::new(round_trips));
    let connecting = client
        .reactor()
        .connect_tcp((server.ip(), 7), pinger(&left));
    drop(connecting);
    simulation.run_until_idle();
    assert_eq!(left.get(), 0, "every message came back");
}

/// The same on the system, without latency: both ends in one loop.
fn on_loopback(_seed: u64, round_trips: u64) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| Echo)
        .expect("a port is free");
    let left = Rc::new(Cell::new(round_trips));
    drop(reactor.connect_tcp(port.address(), pinger(&left)));
    while left.get() > 0 {
        reactor.turn(None).expect("it turns");
    }
}

fn pinger(left: &Rc<Cell<u64>>) -> impl FnOnce(&Address) -> Pinger + 'static {
    let left = Rc::clone(left);
    move |_| Pinger {
        left,
        missing: SIZE,
    }
}

/// The same in turmoil, as its documentation has it.
fn in_turmoil(seed: u64, round_trips: u64) {
    let mut simulation = turmoil::Builder::new()
        .rng_seed(seed)
        .min_message_latency(LATENCY)
        .max_message_latency(LATENCY)
        .simulation_duration(Duration::from_secs(86_400))
        .build();
    simulation.host("server", || async {
        let listener = turmoil::net::TcpListener::bind("0.0.0.0:7").await?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let left = Rc::new(Cell::new(round_trips));
    let counter = Rc::clone(&left);
    simulation.client("client", async move {
        let mut stream = turmoil::net::TcpStream::connect("server:7").await?;
        stream.set_nodelay(true)?;
        while counter.get() > 0 {
            let mut message = [7; SIZE];
            stream.write_all(&message).await?;
            message.fill(0);
            stream.read_exact(&mut message).await?;
            assert_eq!(message, [7; SIZE], "an echo is what was sent");
            counter.set(counter.get() - 1);
        }
        Ok(())
    });
    simulation.run().expect("the client ends well");
    assert_eq!(left.get(), 0, "every message came back");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["one", contender, shape] => one(contender, shape),
        [] => tables(ROUNDS),
        [rounds] => rounds.parse().map_err(Into::into).and_then(tables),
        _ => Err("usage: bench-simulation [ROUNDS]".into()),
    };
    bench_rounds::exit_code(outcome)
}

fn one(contender: &str, shape: &str) -> Result<()> {
    let found = CONTENDERS.iter().find(|it| it.0 == contender);
    let run = found.ok_or("there is no such contender")?.2;
    let shape = &SHAPES[shape.parse::<usize>()?];
    run(0, shape.round_trips.min(1_000));
    let before = cpu_time();
    for seed in 0..shape.runs {
        run(seed, shape.round_trips);
    }
    let took = cpu_time() - before;
    let cost = took.as_nanos() as f64 / shape.units as f64;
    println!("{cost} {}", own_peak_memory());
    Ok(())
}

fn tables(rounds: usize) -> Result<()> {
    let own = &env::current_exe()?;
    for (index, shape) in SHAPES.iter().enumerate() {
        let mut rows = Vec::new();
        for (name, title, _) in CONTENDERS {
            rows.push(Row::new(title, move || {
                measured(Command::new(own).args(["one", name, &index.to_string()]))
            }));
        }
        Table::new("simulation", shape.column, shape.unit).run(rounds, &mut rows)?;
    }
    Ok(())
}
