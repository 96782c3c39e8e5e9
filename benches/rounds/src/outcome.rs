//! What came out of a table: every cost of every contender, and what is said of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Cost, Point};

/// A table that was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Outcome {
    pub group: String,
    pub column: String,
    pub unit: String,
    pub point: Option<Point>,
    /// Ours first.
    pub contenders: Vec<Contender>,
}

/// What was measured of one.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Contender {
    pub title: String,
    /// By rounds.
    pub costs: Vec<f64>,
    /// In KiB, at its peak; the largest of the rounds.
    pub memory: Option<u64>,
    pub missing: Option<String>,
    pub failed: Option<String>,
}

/// The least, the middle, and where half of them are: what lies between two values is taken in
/// proportion, and the middle of an even number of them is the mean of two.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub minimum: f64,
    pub quarter: f64,
    pub median: f64,
    pub three_quarters: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (sorted.len() - 1) as f64 * share;
            let (below, above) = (
                sorted[place.floor() as usize],
                sorted[place.ceil() as usize],
            );
            below + (above - below) * place.fract()
        };
        (!sorted.is_empty()).then(|| Self {
            minimum: at(0.0),
            quarter: at(0.25),
            median: at(0.5),
            three_quarters: at(0.75),
        })
    }
}

impl Contender {
    pub(crate) fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            costs: Vec::new(),
            memory: None,
            missing: None,
            failed: None,
        }
    }

    pub(crate) fn take(&mut self, cost: Cost) {
        self.costs.push(cost.cost);
        self.memory = self.memory.max(cost.memory);
    }

    /// Why it has no costs, or not all.
    #[must_use]
    pub fn absence(&self) -> Option<String> {
        match (&self.failed, &self.missing) {
            (Some(why), _) => Some(format!("FAILED: {why}")),
            (None, Some(why)) => Some(format!("missing: {why}")),
            (None, None) => None,
        }
    }
}

impl Outcome {
    /// Ours to this one, within a round.
    #[must_use]
    pub fn ratio(&self, contender: &Contender) -> Option<Spread> {
        let ours = &self.contenders[0].costs;
        Spread::of(
            ours.iter()
                .zip(&contender.costs)
                .map(|(ours, it)| ours / it),
        )
    }

    /// Who did its work wrong; empty if nobody did.
    #[must_use]
    pub fn failures(&self) -> String {
        let failed = self.contenders.iter().filter_map(|it| {
            let why = it.failed.as_ref()?;
            Some(format!(
                "{}, {}: {} failed: {why}",
                self.group, self.column, it.title
            ))
        });
        failed.collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}; {}", self.group, self.column, self.unit)?;
        writeln!(
            f,
            "  {:44} {:>9} {:>9}   {:24} {:>9}",
            "", "minimum", "median", "ours to it (half of them)", "peak KiB"
        )?;
        for it in &self.contenders {
            match (
                it.absence(),
                Spread::of(it.costs.iter().copied()),
                self.ratio(it),
            ) {
                (Some(why), ..) => writeln!(f, "  {:44} {why}", it.title)?,
                (None, Some(costs), Some(ratio)) => writeln!(
                    f,
                    "  {:44} {:9.2} {:9.2}   {:.3} ({:.3} to {:.3})   {:>9}",
                    it.title,
                    costs.minimum,
                    costs.median,
                    ratio.median,
                    ratio.quarter,
                    ratio.three_quarters,
                    it.memory.map_or_else(String::new, |kib| kib.to_string()),
                )?,
                _ => writeln!(f, "  {:44} no rounds", it.title)?,
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> [f64; 4] {
        let spread = Spread::of(values.iter().copied()).expect("there are some");
        let Spread {
            minimum,
            quarter,
            median,
            three_quarters,
        } = spread;
        [minimum, quarter, median, three_quarters]
    }

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]), [1.0, 1.75, 2.5, 3.25]);
        assert_eq!(of(&[2.0, 1.0]), [1.0, 1.25, 1.5, 1.75]);
    }

    #[test]
    fn the_middle_of_an_odd_number_is_one_of_them() {
        assert_eq!(of(&[5.0, 1.0, 4.0, 2.0, 3.0]), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(of(&[7.0]), [7.0; 4]);
    }

    #[test]
    fn nothing_has_no_middle() {
        assert!(Spread::of([]).is_none());
    }
}
