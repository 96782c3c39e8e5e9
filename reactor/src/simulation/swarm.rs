//! One property, many seeds.

use std::any::Any;
use std::cell::RefCell;
use std::env;
use std::ops::RangeInclusive;
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
    seeds: RangeInclusive<u64>,
    alone: bool,
}

impl Swarm {
    /// A thousand seeds. `command` is how the caller's test is run, for the report.
    #[must_use]
    pub fn new(command: &str) -> Self {
        let swarm = Self {
            command: command.to_owned(),
            seeds: 0..=0,
            alone: false,
        };
        swarm.seeds(1000)
    }

    /// So many seeds, unless the environment says otherwise.
    ///
    /// # Panics
    ///
    /// If the environment has something there that is no number. If it is none, by `count` or by the
    /// environment: that would hold of every program.
    #[must_use]
    pub fn seeds(mut self, count: u64) -> Self {
        let first = number_from(FIRST).unwrap_or(0);
        let count = number_from(HOW_MANY).unwrap_or(count);
        assert!(
            count > 0,
            "a swarm of no seeds shows nothing: {}",
            self.command
        );
        self.seeds = first..=first.saturating_add(count - 1);
        if let Some(seed) = number_from(ONE_SEED) {
            (self.seeds, self.alone) = (seed..=seed, true);
        }
        self
    }

    /// Runs `property` for each seed, and prints the range of the seeds.
    ///
    /// # Panics
    ///
    /// If a seed fails; the message names it.
    pub fn run(&self, property: impl Fn(&Simulation)) {
        let (start, end) = (*self.seeds.start(), *self.seeds.end());
        tell(&format!("seeds {start} to {end}: {}", self.command));
        let mut told = os::now();
        for seed in self.seeds.clone() {
            if os::now() - told >= PROGRESS {
                told = os::now();
                tell(&format!("{} seeds hold, up to {end}", seed - start));
            }
            let Attempt {
                outcome,
                plans,
                trace,
            } = attempt(seed, Vec::new(), &property);
            if self.alone {
                tell(&trace);
            }
            if let Err(causes) = outcome {
                let (plans, with_those) = shrink(seed, plans, &causes, &property);
                panic!("{}", self.report(seed, &causes, &plans, &with_those));
            }
        }
    }

    fn report(
        &self,
        seed: u64,
        causes: &[String],
        plans: &[Vec<Fault>],
        with_those: &[String],
    ) -> String {
        let mut report = format!("seed {seed} fails:\n");
        report += &listed(causes);
        report += &format!("  run it alone: {ONE_SEED}={seed} {}\n", self.command);
        let faults: Vec<&Fault> = plans.iter().flatten().collect();
        report += match *faults {
            [] => "  it needs no fault",
            _ => "  it needs these faults:",
        };
        for fault in faults {
            report += &format!("\n    {fault}");
        }
        if with_those != causes {
            // Fewer faults may break something else.
            report += &format!("\n  with no others it fails so:\n{}", listed(with_those));
        }
        report
    }
}

/// One cause a line.
fn listed(causes: &[String]) -> String {
    let lines = causes
        .iter()
        .map(|cause| format!("    {}\n", cause.replace('\n', "\n      ")));
    lines.collect()
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
    /// One for each time that something was planned.
    plans: Vec<Vec<Fault>>,
    trace: String,
}

/// Runs a seed; plan by plan, `plans` take the place of the property's own.
fn attempt(seed: u64, plans: Vec<Vec<Fault>>, property: &impl Fn(&Simulation)) -> Attempt {
    // Panics and the others, each up to as many as are told: a flood of others hides no panic.
    let unhandled = Rc::new(RefCell::new([Vec::new(), Vec::new()]));
    let causes = Rc::clone(&unhandled);
    let guard = unhandled::set_hook(move |failure| {
        let cause = failure.to_string();
        let causes = &mut causes.borrow_mut()[usize::from(!cause.contains("a callback panicked"))];
        if causes.len() < CAUSES_MAX {
            causes.push(cause);
        }
    });
    let simulation = Simulation::new(seed);
    simulation.replace_plans(plans);
    let outcome = catch_unwind(AssertUnwindSafe(|| property(&simulation)));
    let (plans, trace) = (simulation.plans(), simulation.trace().to_string());
    // What goes with it may fail, too; but that is after the end.
    drop(guard);
    let mut causes: Vec<String> = unhandled.take().concat();
    causes.truncate(CAUSES_MAX);
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
        plans,
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

/// Takes faults out of plans as long as the property still fails; says how it fails with what is
/// left.
fn shrink(
    seed: u64,
    mut plans: Vec<Vec<Fault>>,
    causes: &[String],
    property: &impl Fn(&Simulation),
) -> (Vec<Vec<Fault>>, Vec<String>) {
    let mut causes = causes.to_vec();
    let mut runs = 0;
    for number in 0..plans.len() {
        // In halves, quarters, and at last one by one.
        let mut size = plans[number].len().div_ceil(2);
        while size > 0 && runs < SHRINKING_RUNS {
            let mut at = 0;
            while at < plans[number].len() && runs < SHRINKING_RUNS {
                let mut fewer = plans.clone();
                let end = (at + size).min(fewer[number].len());
                fewer[number].drain(at..end);
                runs += 1;
                if let Err(fails) = attempt(seed, fewer.clone(), property).outcome {
                    (plans, causes) = (fewer, fails);
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
    (plans, causes)
}
