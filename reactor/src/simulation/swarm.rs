//! One property, many seeds.

use std::any::Any;
use std::cell::RefCell;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::unhandled;

use crate::driver::os;

use super::Simulation;
use super::plan::Fault;

/// Says which seed to run, and no other; its trace is printed.
const ONE_SEED: &str = "TORSADE_SEED";
/// Says how many seeds to run, in place of the number in the program.
const HOW_MANY: &str = "TORSADE_SEEDS";
/// Says where the seeds begin, in place of 0.
const FIRST: &str = "TORSADE_FIRST_SEED";

/// How long a swarm is silent.
const PROGRESS: Duration = Duration::from_secs(10);

/// Failures of one seed that are told. More of them say no more.
const CAUSES_MAX: usize = 8;

/// Runs tried to find out which faults a failure needs.
const SHRINKING_RUNS: usize = 300;

/// Runs a property of a program in one [`Simulation`] after the other, each with a seed of
/// its own, and says which seed breaks it.
///
/// A seed fails if the property panics, or if a failure is left unhandled anywhere: a panic
/// in a callback, a failed Deferred that nobody looks at. Then the faults of its plan that the
/// failure does not need are taken out one by one, and the rest is printed with the command
/// that runs this seed alone. What went wrong stands there one cause a line: panics of
/// callbacks first, the property's own last, because it may follow from the rest.
///
/// A run that takes long says every ten seconds on standard error how far it is.
///
/// The environment may ask for more: `TORSADE_SEEDS=100000` for so many seeds,
/// `TORSADE_FIRST_SEED=7` to begin there, `TORSADE_SEED=42` for this one alone, with its
/// trace.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::testing::{FaultRates, Swarm};
///
/// Swarm::new("cargo test time_passes_under_all_faults").seeds(20).run(|simulation| {
///     let (one, _two) = (simulation.host("one"), simulation.host("two"));
///     simulation.inject_faults(&FaultRates::default());
///     simulation.run_for(Duration::from_secs(120));
///     assert!(one.is_up(), "every fault is over");
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Swarm {
    command: String,
    seeds: Range<u64>,
    alone: bool,
}

impl Swarm {
    /// A thousand seeds. `command` is how the caller's test is run, for the report.
    #[must_use]
    pub fn new(command: &str) -> Self {
        let swarm = Self {
            command: command.to_owned(),
            seeds: 0..0,
            alone: false,
        };
        swarm.seeds(1000)
    }

    /// So many seeds, unless the environment says otherwise.
    ///
    /// # Panics
    ///
    /// If the environment has something there that is no number.
    #[must_use]
    pub fn seeds(mut self, count: u64) -> Self {
        let first = number_from(FIRST).unwrap_or(0);
        let count = number_from(HOW_MANY).unwrap_or(count);
        self.seeds = first..first.saturating_add(count);
        if let Some(seed) = number_from(ONE_SEED) {
            (self.seeds, self.alone) = (seed..seed + 1, true);
        }
        self
    }

    /// Runs `property` for each seed, and prints the range of the seeds.
    ///
    /// # Panics
    ///
    /// If a seed fails; the message names it.
    pub fn run(&self, property: impl Fn(&Simulation)) {
        let Range { start, end } = self.seeds;
        tell(&format!("seeds {start} to {}: {}", end - 1, self.command));
        let mut told = os::now();
        for seed in self.seeds.clone() {
            if os::now() - told >= PROGRESS {
                told = os::now();
                tell(&format!("{} of {} seeds hold", seed - start, end - start));
            }
            let attempt = attempt(seed, None, &property);
            if self.alone {
                tell(&attempt.trace);
            }
            if let Err(causes) = attempt.outcome {
                let faults = shrink(seed, attempt.faults, &property);
                panic!("{}", self.report(seed, &causes, &faults));
            }
        }
    }

    fn report(&self, seed: u64, causes: &[String], faults: &[Fault]) -> String {
        let mut report = format!("seed {seed} fails:\n");
        for cause in causes {
            report += &format!("    {}\n", cause.replace('\n', "\n      "));
        }
        report += &format!("  run it alone: {ONE_SEED}={seed} {}\n", self.command);
        report += match faults {
            [] => "  it needs no fault",
            _ => "  it needs these faults:",
        };
        for fault in faults {
            report += &format!("\n    {fault}");
        }
        report
    }
}

#[expect(clippy::print_stderr, reason = "this is the report of a test")]
fn tell(text: &str) {
    eprintln!("{text}");
}

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")),
    )
}

struct Attempt {
    /// What went wrong: panics of callbacks, other failures that nobody handled, and at last
    /// what the property itself says, for it may be the consequence of the rest.
    outcome: Result<(), Vec<String>>,
    faults: Vec<Fault>,
    trace: String,
}

fn attempt(seed: u64, faults: Option<Vec<Fault>>, property: &impl Fn(&Simulation)) -> Attempt {
    let unhandled = Rc::new(RefCell::new(Vec::new()));
    let causes = Rc::clone(&unhandled);
    let guard = unhandled::set_hook(move |failure| {
        let mut causes = causes.borrow_mut();
        if causes.len() < CAUSES_MAX {
            causes.push(failure.to_string());
        }
    });
    let simulation = Simulation::new(seed);
    simulation.replace_plan(faults);
    let outcome = catch_unwind(AssertUnwindSafe(|| property(&simulation)));
    let (faults, trace) = (simulation.faults(), simulation.trace().to_string());
    // What goes with it may fail, too; but that is after the end.
    drop(guard);
    let mut causes: Vec<String> = unhandled.take();
    causes.sort_by_key(|cause| !cause.contains("a callback panicked"));
    if let Err(panic) = outcome {
        let message = message_of(panic);
        causes.push(match causes.is_empty() {
            true => message,
            false => format!("and then: {message}"),
        });
    }
    let outcome = match causes.is_empty() {
        true => Ok(()),
        false => Err(causes),
    };
    Attempt {
        outcome,
        faults,
        trace,
    }
}

fn message_of(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => match panic.downcast::<&'static str>() {
            Ok(message) => (*message).to_owned(),
            // Not a message: somebody's own, to be passed on.
            Err(panic) => resume_unwind(panic),
        },
    }
}

/// Takes faults out of a plan as long as the property still fails.
fn shrink(seed: u64, mut faults: Vec<Fault>, property: &impl Fn(&Simulation)) -> Vec<Fault> {
    let mut runs = 0;
    // In halves, quarters, and at last one by one.
    let mut size = faults.len().div_ceil(2);
    while size > 0 && runs < SHRINKING_RUNS {
        let mut at = 0;
        while at < faults.len() && runs < SHRINKING_RUNS {
            let mut fewer = faults.clone();
            fewer.drain(at..(at + size).min(faults.len()));
            runs += 1;
            if attempt(seed, Some(fewer.clone()), property)
                .outcome
                .is_err()
            {
                faults = fewer;
            } else {
                at += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    faults
}
