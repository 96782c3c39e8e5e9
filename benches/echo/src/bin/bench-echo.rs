//! Echo servers side by side: the CPU time of the server's process for a message.
//!
//! `cargo build --release --workspace`, then `bench-echo [ROUNDS] [CONNECTIONS SIZE DEPTH]`:
//! without a shape, all of the table's. In each round each server, in a process of its own
//! that lives as long as the table, answers one run of `load`, which checks every byte. What
//! is measured is what the kernel says that the server ran while the messages were on their
//! way: not its start, nor accepting or losing the connections.
//!
//! `bench-echo udp [ROUNDS] [CLIENTS SIZE DEPTH]`: the same with datagrams.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use bench_rounds::{Row, table};

/// Ours first.
const SERVERS: [(&str, &str); 5] = [
    ("echo-torsade", "torsade"),
    ("echo-epoll", "bare: epoll and nothing else"),
    ("echo-tokio", "tokio: current thread"),
    (LIBUV, "libuv"),
    ("echo-calloop", "calloop: a Generic source each"),
];

/// The same for datagrams.
const DATAGRAM_SERVERS: [(&str, &str); 4] = [
    ("datagrams-torsade", "torsade"),
    ("datagrams-epoll", "bare: epoll, edges, until nothing is left"),
    ("datagrams-level", "bare: epoll, level, one a wait"),
    ("datagrams-tokio", "tokio: current thread"),
];

/// A program in C, compiled on the way.
const LIBUV: &str = "echo-libuv";

/// Connections, bytes of a message, messages on their way on each connection; and messages
/// in all, for about a second.
const SHAPES: [(u64, u64, u64, u64); 7] = [
    (1, 64, 1, 50_000),
    (4, 64, 1, 100_000),
    (50, 64, 1, 200_000),
    (500, 64, 1, 200_000),
    (5_000, 64, 1, 200_000),
    (50, 64, 16, 1_000_000),
    (50, 65_536, 1, 50_000),
];

/// The same for datagrams: clients, bytes, datagrams on their way for each. (On their way in all
/// no more than the system's buffer for a socket holds.)
const DATAGRAM_SHAPES: [(u64, u64, u64, u64); 5] = [
    (1, 64, 1, 100_000),
    (16, 64, 1, 200_000),
    (100, 64, 1, 200_000),
    (1, 64, 64, 200_000),
    (16, 1_400, 4, 200_000),
];

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let udp = env::args().nth(1).is_some_and(|argument| argument == "udp");
    let (servers, load, all): (&[_], _, &[_]) = if udp {
        (&DATAGRAM_SERVERS, "load-datagrams", &DATAGRAM_SHAPES)
    } else {
        (&SERVERS, "load", &SHAPES)
    };
    let numbers: Vec<u64> = env::args()
        .skip(1 + usize::from(udp))
        .map(|number| number.parse())
        .collect::<Result<_, _>>()?;
    let (rounds, shapes) = match numbers[..] {
        [] => (ROUNDS, all.to_vec()),
        [rounds] => (rounds as usize, all.to_vec()),
        [rounds, connections, size, depth] => {
            let known = all
                .iter()
                .find(|shape| (shape.0, shape.1, shape.2) == (connections, size, depth));
            let messages = known.map_or(100_000, |shape| shape.3);
            (rounds as usize, vec![(connections, size, depth, messages)])
        }
        _ => return Err("usage: bench-echo [udp] [ROUNDS] [CONNECTIONS SIZE DEPTH]".into()),
    };
    println!(
        "CPU time in us of the server (user and system) a message, {rounds} rounds, turn about\n"
    );
    for (connections, size, depth, messages) in shapes {
        let running: Vec<_> = servers
            .iter()
            .map(|(name, _)| Server::start(name))
            .collect();
        let mut rows = Vec::new();
        for (server, (_, title)) in running.iter().zip(servers) {
            rows.push(Row::new(*title, move || {
                let server = server.as_ref().map_err(ToString::to_string)?;
                server
                    .answer(load, &[connections, size, depth, messages])
                    .map_err(|error| error.to_string())
            }));
        }
        let of = if udp { "clients" } else { "connections" };
        let title = format!("echo: {connections} {of}, {size} B, {depth} deep");
        table(&title, rounds, &mut rows)?;
    }
    Ok(())
}

/// A server in a process of its own, ended when this is dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(name: &str) -> Result<Self, Box<dyn Error>> {
        if name == LIBUV {
            compile_libuv()?;
        }
        let mut process = Command::new(beside(name)?).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("its output was piped")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            process,
            address: address.trim().to_owned(),
        })
    }

    /// Has it answer one load, and gives its CPU time for a message in microseconds.
    fn answer(&self, load: &str, shape: &[u64; 4]) -> Result<f64, Box<dyn Error>> {
        let mut load = Command::new(beside(load)?)
            .arg(&self.address)
            .args(shape.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut orders = load.stdin.take().ok_or("its input was piped")?;
        let mut lines = BufReader::new(load.stdout.take().ok_or("its output was piped")?).lines();
        let mut line = || {
            lines
                .next()
                .ok_or("the load ended early")?
                .map_err(Box::<dyn Error>::from)
        };
        line()?;
        let before = self.ran()?;
        writeln!(orders)?;
        let done = line()?;
        let took = self.ran()? - before;
        drop(orders);
        if !load.wait()?.success() {
            return Err("the load failed".into());
        }
        let messages: u64 = done.split(' ').next().unwrap_or_default().parse()?;
        Ok(took as f64 / messages as f64 / 1000.0)
    }

    /// How long it has run, in nanoseconds: proc(5), `schedstat`, of all of its threads.
    fn ran(&self) -> Result<u64, Box<dyn Error>> {
        let mut ran = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            ran += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(ran)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // They fail only for a process that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn compile_libuv() -> Result<(), Box<dyn Error>> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/libuv.c");
    let output = Command::new("cc")
        .args(["-O3", "-Wall", "-Werror", "-o"])
        .arg(beside(LIBUV)?)
        .args([source, "-luv"])
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("cc says no").into())
}

/// A program of this workspace.
fn beside(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    Ok(env::current_exe()?.with_file_name(name))
}
