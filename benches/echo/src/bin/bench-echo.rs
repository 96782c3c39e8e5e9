//! Echo servers side by side. Each is a process of its own; what is measured is what the
//! kernel says that it ran (proc(5), `schedstat`), and its memory.
//!
//! `bench-echo [TABLE] [ROUNDS] [CONNECTIONS SIZE DEPTH]`, where TABLE is one of
//!
//! - `echo`, which is what it does without one: CPU time for a message. Each server lives as
//!   long as the table, and in each round answers one run of `load`, which checks every byte.
//!   Its start, and accepting and losing the connections, are not in it;
//! - `udp`: the same with datagrams;
//! - `accepts`: CPU time for a connection that is made, used once or not at all, and lost;
//! - `idle`: memory for each of 10,000 connections that have spoken once and are silent;
//! - `startup`: from exec to listening.
//!
//! Connections are without Nagle everywhere, and everybody reads a little more than 64 KiB at once, except
//! where a table says otherwise.

use std::env;
use std::process::ExitCode;

use bench_rounds::Result;
use echo_bench::{accepts, echo, idle, startup};

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    bench_rounds::exit_code(run())
}

fn run() -> Result<()> {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let named = words
        .first()
        .is_some_and(|word| word.parse::<u64>().is_err());
    let table = if named {
        words.remove(0)
    } else {
        "echo".to_owned()
    };
    let numbers: Vec<u64> = words
        .iter()
        .map(|number| number.parse())
        .collect::<std::result::Result<_, _>>()?;
    let (rounds, shape) = match numbers[..] {
        [] => (ROUNDS, None),
        [rounds] => (rounds as usize, None),
        [rounds, connections, size, depth] => (rounds as usize, Some([connections, size, depth])),
        _ => return Err("usage: bench-echo [TABLE] [ROUNDS] [CONNECTIONS SIZE DEPTH]".into()),
    };
    match &*table {
        "echo" => echo::streams(rounds, shape),
        "udp" => echo::datagrams(rounds, shape),
        "accepts" => accepts::measure(rounds),
        "idle" => idle::measure(rounds),
        "startup" => startup::measure(rounds),
        other => Err(format!("there is no table {other}").into()),
    }
}
