//! How the benches measure: contenders turn about in rounds, and a table of them.
//!
//! What is measured is CPU time, of user and system together. The wall clock of a machine
//! that others use says nothing; and even CPU time drifts, with the clock rate and with
//! what the neighbours do to the caches. So all contenders of a table run once in each
//! round, each round begins with another one, and ratios are taken within a round.
//!
//! A contender that is not there is listed as missing. One that is there and does its work
//! wrong (a byte that is lost, a timer that is early) fails the run.

mod outcome;
mod programs;
mod server;
mod silence;

use std::env;
use std::error::Error;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use outcome::{Contender, Outcome, Spread};
pub use programs::{beside, compile_c, compile_go, measured, own_peak_memory, python, source};
pub use server::{Server, standing};
pub use silence::{SILENCE_MAX, wait};

/// Where the outcome of each table goes as well, a line of JSON each: for the `bench` command.
pub const RESULTS: &str = "BENCH_RESULTS";

/// What a unit cost, and what the process had in memory at its peak.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub cost: f64,
    /// In KiB, `VmHWM` of proc(5), if it was asked for.
    pub memory: Option<u64>,
}

impl From<f64> for Cost {
    fn from(cost: f64) -> Self {
        Self { cost, memory: None }
    }
}

/// Why a contender is not there, or cannot do this. Any other error is work done wrong.
#[derive(Clone, Debug)]
pub struct Missing(pub String);

impl Missing {
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Missing {}

/// What a row, and all that it calls, gives.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A line of a table. The first of a table is ours.
pub struct Row<'a> {
    title: String,
    rounds_max: usize,
    run: Box<dyn FnMut() -> Result<Cost> + 'a>,
}

impl<'a> Row<'a> {
    /// `run` runs once, and gives the cost of a unit; or says why there is none.
    pub fn new<C: Into<Cost>>(
        title: impl Into<String>,
        mut run: impl FnMut() -> Result<C> + 'a,
    ) -> Self {
        Self {
            title: title.into(),
            rounds_max: usize::MAX,
            run: Box::new(move || run().map(Into::into)),
        }
    }

    /// It takes part in the first five rounds alone, if `slow`: it would take most of the time, and nobody
    /// compares its last digits. The table says so.
    #[must_use]
    pub fn seldom(mut self, slow: bool) -> Self {
        if slow {
            self.rounds_max = SELDOM;
        }
        self
    }
}

const SELDOM: usize = 5;

/// What a table is of.
pub struct Table {
    /// The tables that belong together, and stand as the columns of one: `echo`.
    pub group: &'static str,
    /// Its column: `50 connections, 64 B`.
    pub column: String,
    /// What a cost is: `us of CPU time a message`.
    pub unit: &'static str,
    /// The plot that it is a point of, if any.
    pub point: Option<Point>,
}

/// A point of a plot of cost against size: the plot, and how large it is here.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct Point {
    pub plot: String,
    /// What grows: `connections`.
    pub axis: String,
    pub at: f64,
}

impl Table {
    #[must_use]
    pub fn new(group: &'static str, column: impl Into<String>, unit: &'static str) -> Self {
        Self {
            group,
            column: column.into(),
            unit,
            point: None,
        }
    }

    /// It is a point of this plot.
    #[must_use]
    pub fn point(mut self, plot: impl Into<String>, axis: impl Into<String>, at: f64) -> Self {
        self.point = Some(Point {
            plot: plot.into(),
            axis: axis.into(),
            at,
        });
        self
    }

    /// Runs all rows in rounds, turn about, and prints the table. It goes to the file that
    /// `BENCH_RESULTS` names as well.
    ///
    /// # Errors
    ///
    /// What ours says if it cannot be measured. If another does its work wrong, it is printed, and
    /// the program ends badly in the end: [`exit_code`].
    pub fn run(self, rounds: usize, rows: &mut [Row<'_>]) -> Result<()> {
        let mut contenders: Vec<Contender> =
            rows.iter().map(|row| Contender::new(&row.title)).collect();
        for round in 0..rounds {
            // Each begins a round as often as the others: none is always behind the same neighbour.
            for place in 0..rows.len() {
                let index = (place + round) % rows.len();
                let (row, contender) = (&mut rows[index], &mut contenders[index]);
                let absent = contender.missing.is_some() || contender.failed.is_some();
                if absent || round >= row.rounds_max {
                    continue;
                }
                match (row.run)() {
                    Ok(cost) => contender.take(cost),
                    Err(why) if index == 0 => return Err(format!("{}: {why}", row.title).into()),
                    Err(why) if why.is::<Missing>() => contender.missing = Some(why.to_string()),
                    Err(why) => contender.failed = Some(why.to_string()),
                }
            }
        }
        self.end(contenders)
    }

    /// Prints the table without any costs: what all of them are measured with is not there.
    ///
    /// # Errors
    ///
    /// If the file that `BENCH_RESULTS` names cannot be written.
    pub fn without(self, why: &Missing, titles: &[&str]) -> Result<()> {
        let mut contenders: Vec<Contender> = titles.iter().map(|it| Contender::new(it)).collect();
        for contender in &mut contenders {
            contender.missing = Some(why.to_string());
        }
        self.end(contenders)
    }

    fn end(self, contenders: Vec<Contender>) -> Result<()> {
        let outcome = Outcome {
            group: self.group.to_owned(),
            column: self.column,
            unit: self.unit.to_owned(),
            point: self.point,
            contenders,
        };
        print!("{outcome}");
        outcome.hand_on()?;
        let failures = outcome.failures();
        if !failures.is_empty() {
            eprintln!("{failures}");
            WRONG.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Whether a contender of a table did its work wrong. The tables after it are measured all the same.
static WRONG: AtomicBool = AtomicBool::new(false);

/// How the program of a bench ends: badly if it could not do its work, or if somebody did theirs
/// wrong.
#[must_use]
pub fn exit_code(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) if WRONG.load(Ordering::Relaxed) => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Outcome {
    /// Appends it to the file that the `bench` command reads, if there is one.
    fn hand_on(&self) -> Result<()> {
        if let Some(path) = env::var_os(RESULTS) {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{}", serde_json::to_string(self)?)?;
        }
        Ok(())
    }
}

/// User and system time of this process, all of its threads.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn each_round_begins_with_another_contender() {
        let order = RefCell::new(String::new());
        let row = |name: &'static str| {
            let order = &order;
            Row::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(1.0)
            })
        };
        let mut rows = [row("a"), row("b").seldom(true), row("c")];
        let table = Table::new("order", "of rounds", "runs");
        table.run(6, &mut rows).expect("all of them run");
        drop(rows);
        // `b` is in the first five rounds alone.
        assert_eq!(order.take(), "abcbcacababcbcaca");
    }
}
