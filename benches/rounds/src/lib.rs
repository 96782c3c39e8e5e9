//! How the benches measure: contenders turn about in rounds, and a table of them.
//!
//! What is measured is CPU time, of user and system together. The wall clock of a machine
//! that others use says nothing; and even CPU time drifts, with the clock rate and with
//! what the neighbours do to the caches. So all contenders of a table run once in each
//! round, and ratios are taken within a round.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A line of a table. The first of a table is ours.
pub struct Row<'a> {
    pub title: String,
    /// Runs once, and gives the cost of a unit; or says why there is none.
    pub run: Box<dyn FnMut() -> Result<f64, String> + 'a>,
}

impl<'a> Row<'a> {
    pub fn new(title: impl Into<String>, run: impl FnMut() -> Result<f64, String> + 'a) -> Self {
        Self {
            title: title.into(),
            run: Box::new(run),
        }
    }
}

/// Runs all rows in rounds, turn about, and prints the table.
///
/// # Errors
///
/// What ours says if it cannot be measured. A peer that is missing, or fails, is listed as
/// such.
pub fn table(title: &str, rounds: usize, rows: &mut [Row<'_>]) -> Result<(), String> {
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    let mut missing: Vec<Option<String>> = vec![None; rows.len()];
    for _ in 0..rounds {
        for (index, row) in rows.iter_mut().enumerate() {
            if missing[index].is_some() {
                continue;
            }
            match (row.run)() {
                Ok(cost) => costs[index].push(cost),
                Err(why) if index == 0 => return Err(format!("{}: {why}", row.title)),
                Err(why) => missing[index] = Some(why),
            }
        }
    }
    println!("{title}");
    println!(
        "  {:44} {:>9} {:>9}   ours to it (half of the rounds)",
        "", "minimum", "median"
    );
    let ours = costs[0].clone();
    for (row, (costs, missing)) in rows.iter().zip(costs.iter().zip(missing)) {
        if let Some(why) = missing {
            println!("  {:44} missing: {why}", row.title);
            continue;
        }
        let mut ratios: Vec<f64> = ours.iter().zip(costs).map(|(ours, it)| ours / it).collect();
        ratios.sort_by(f64::total_cmp);
        let mut costs = costs.clone();
        costs.sort_by(f64::total_cmp);
        println!(
            "  {:44} {:9.2} {:9.2}   {:.3} ({:.3} to {:.3})",
            row.title,
            costs[0],
            at(&costs, 0.5),
            at(&ratios, 0.5),
            at(&ratios, 0.25),
            at(&ratios, 0.75),
        );
    }
    println!();
    Ok(())
}

/// The value that this share of the sorted ones does not exceed.
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// User and system time of this process, all of its threads.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
