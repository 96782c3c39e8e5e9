//! The loop beside the loops that one would use instead: calls for the next turn, timers,
//! calls from other threads, a turn with one ready descriptor.
//!
//! `cargo run --release -p bench-loop -- [TABLE] [ROUNDS]`, where TABLE is one of
//! `call_soon`, `timers`, `call_from_thread`, `latency`, `turn`, or `all`. Each contender runs in a
//! process of its own, in rounds, turn about, and measures the CPU time of its process for
//! a unit of work. Each one counts its callbacks and checks that none came early.
//!
//! The peers in other languages are `peers/`, those in C and Go compiled on the way; what is not
//! installed is listed as missing.

mod call_soon;
mod from_threads;
mod latency;
mod on_may;
mod on_mio;
mod on_monoio;
mod on_smol;
mod peers;
mod timers;
mod turn;

use std::cell::Cell;
use std::env;
use std::process::{self, Command, ExitCode};

use bench_rounds::{Result, Row, cpu_time, measured, own_peak_memory, standing};

/// A contender: its name on the command line, its title, and what it does with so many
/// units.
type Contender = (&'static str, &'static str, fn(usize));

/// A table: its name, also for peers in other languages; the group that is asked for; what grows from size to size,
/// if anything; its contenders, ours first.
struct Table {
    name: &'static str,
    group: &'static str,
    axis: Option<&'static str>,
    sizes: &'static [usize],
    contenders: &'static [Contender],
    unit: &'static str,
}

const TABLES: [Table; 9] = [
    call_soon::EMPTY,
    call_soon::CAPTURING,
    timers::INSERT_AND_CANCEL,
    timers::REPLACE,
    timers::INSERT_AND_FIRE,
    from_threads::CALLS,
    latency::CALLS,
    turn::READY,
    turn::ANSWERED,
];

const NS_OF_CPU: &str = "ns of CPU time";

impl Table {
    fn of(&self, size: usize) -> bench_rounds::Table {
        let Some(axis) = self.axis else {
            return bench_rounds::Table::new(self.name, self.unit, self.unit);
        };
        let column = match size {
            latency::ASLEEP if self.name == "latency" => "asleep".to_owned(),
            latency::AWAKE if self.name == "latency" => "awake, with calls of its own".to_owned(),
            1 => format!("1 {}", axis.trim_end_matches('s')),
            1_000_000 => format!("a million {axis}"),
            size if size % 1000 == 0 => format!("{},000 {axis}", size / 1000),
            size => format!("{size} {axis}"),
        };
        let table = bench_rounds::Table::new(self.name, column, self.unit);
        if self.sizes.len() < 3 {
            return table;
        }
        table.point(self.name, axis, size as f64)
    }
}

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
    println!("{cost} {}", own_peak_memory());
}

/// As `#[tokio::main(flavor = "current_thread")]` builds it.
fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a descriptor is left")
}

/// Ends a process that was to be a contender: why it cannot be one.
fn missing(why: &str) -> ! {
    eprintln!("missing: {why}");
    process::exit(1);
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
            Err(_) => Err("the rounds are a number".into()),
        },
        _ => Err("usage: bench-loop [TABLE] [ROUNDS]".into()),
    };
    bench_rounds::exit_code(outcome)
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

fn tables(group: &str, rounds: usize) -> Result<()> {
    let chosen: Vec<_> = TABLES
        .iter()
        .filter(|table| group == "all" || table.group == group || table.name == group)
        .collect();
    if chosen.is_empty() {
        return Err(format!("there is no table {group}").into());
    }
    let own = &env::current_exe()?;
    let peers = &peers::all();
    for chosen in chosen {
        for size in chosen.sizes {
            let text = &size.to_string();
            let mut rows = Vec::new();
            for (name, title, _) in chosen.contenders {
                rows.push(Row::new(*title, move || {
                    measured(Command::new(own).args(["one", chosen.name, name, text]))
                }));
            }
            for (peer, program) in peers {
                let row = Row::new(peer.title(chosen.name), move || {
                    let program = standing(program)?;
                    measured(&mut peer.command(program, chosen.name, *size)?)
                });
                rows.push(row.seldom(peer.is_slow));
            }
            chosen.of(*size).run(rounds, &mut rows)?;
        }
    }
    Ok(())
}
