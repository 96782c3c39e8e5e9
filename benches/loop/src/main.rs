//! The loop beside the loops that one would use instead: calls for the next turn, timers,
//! calls from other threads, a turn with one ready descriptor.
//!
//! `cargo run --release -p bench-loop -- [TABLE] [ROUNDS]`, where TABLE is one of
//! `call_soon`, `timers`, `call_from_thread`, `turn`, or `all`. Each contender runs in a
//! process of its own, in rounds, turn about, and measures the CPU time of its process for
//! a unit of work. Each one counts its callbacks and checks that none came early.
//!
//! libuv is a program in C, `peers/libuv.c`, compiled on the way; without a C compiler or
//! libuv's headers it is listed as missing.

mod call_soon;
mod from_threads;
mod libuv;
mod timers;
mod turn;

use std::cell::Cell;
use std::env;
use std::process::{Command, ExitCode};

use bench_rounds::{Row, cpu_time, table};

/// A contender: its name on the command line, its title, and what it does with so many
/// units.
type Contender = (&'static str, &'static str, fn(usize));

/// A table: its name, its title, its sizes, its contenders, and what libuv calls it.
struct Table {
    name: &'static str,
    group: &'static str,
    title: &'static str,
    sizes: &'static [usize],
    contenders: &'static [Contender],
    has_libuv: bool,
}

const TABLES: [Table; 9] = [
    call_soon::EMPTY,
    call_soon::CAPTURING,
    timers::INSERT_AND_CANCEL,
    timers::REPLACE,
    timers::INSERT_AND_FIRE,
    timers::INSERT_AND_FIRE_CAPTURING,
    from_threads::CALLS,
    turn::READY,
    turn::ANSWERED,
];

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

thread_local! {
    /// How often a callback of a contender was called on this thread.
    static MADE: Cell<usize> = const { Cell::new(0) };
}

fn made() {
    MADE.set(MADE.get() + 1);
}

/// Runs `work`, which is to make `count` callbacks, and gives the cost of one in
/// nanoseconds.
fn measure(count: usize, work: impl FnOnce()) -> f64 {
    let made_before = MADE.get();
    let before = cpu_time();
    work();
    let took = cpu_time() - before;
    assert_eq!(MADE.get() - made_before, count, "each is called once");
    took.as_nanos() as f64 / count as f64
}

/// Prints what the parent reads.
fn report(cost: f64) {
    println!("{cost}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["one", table, contender, size] => return one(table, contender, size),
        [] => tables("all", ROUNDS),
        [group] => tables(group, ROUNDS),
        [group, rounds] => match rounds.parse() {
            Ok(rounds) => tables(group, rounds),
            Err(_) => Err("the rounds are a number".to_owned()),
        },
        _ => Err("usage: bench-loop [TABLE] [ROUNDS]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn one(table: &str, contender: &str, size: &str) -> ExitCode {
    let found = TABLES
        .iter()
        .filter(|known| known.name == table)
        .flat_map(|table| table.contenders)
        .find(|(name, _, _)| *name == contender);
    match (found, size.parse()) {
        (Some((_, _, run)), Ok(size)) => {
            run(size);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

fn tables(group: &str, rounds: usize) -> Result<(), String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let own = own.to_string_lossy().into_owned();
    let libuv = libuv::program();
    let chosen: Vec<_> = TABLES
        .iter()
        .filter(|table| group == "all" || table.group == group || table.name == group)
        .collect();
    if chosen.is_empty() {
        return Err(format!("there is no table {group}"));
    }
    println!("CPU time in ns of the process (user and system), {rounds} rounds, turn about\n");
    for chosen in chosen {
        for size in chosen.sizes {
            let size = size.to_string();
            let mut rows = Vec::new();
            for (name, title, _) in chosen.contenders {
                let (own, size) = (&own, &size);
                rows.push(Row::new(*title, move || {
                    run(own, &["one", chosen.name, name, size])
                }));
            }
            if chosen.has_libuv {
                let (libuv, size) = (&libuv, &size);
                rows.push(Row::new("libuv", move || {
                    run(libuv.as_ref()?, &[chosen.name, size])
                }));
            }
            table(&format!("{}: {size}", chosen.title), rounds, &mut rows)?;
        }
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<f64, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .map_err(|_| format!("it says {text:?}, which is no number"))
}
