//! What goes wrong in a simulation, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::link::{Latency, Link};
use crate::random::Random;

/// One thing that goes wrong, and is right again after a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// When, since the beginning.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// What. Hosts are counted in the order in which they were made.
    pub what: FaultKind,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing gets through between two hosts.
    Partition(usize, usize),
    /// Nothing gets through from the one to the other.
    Cut(usize, usize),
    /// What is sent between two hosts waits.
    Hold(usize, usize),
    /// A host is down.
    Crash(usize),
    /// A host is down, from its next write on: in the middle of a turn.
    CrashAtWrite(usize),
    /// The way between two hosts is bad.
    Degrade(usize, usize, Link),
    /// A host's clock runs too fast by so many millionths, or too slow; as
    /// [`Host::set_clock_drift`](super::Host::set_clock_drift), by 900 000 of them at most.
    Drift(usize, i32),
}

impl FaultKind {
    /// Panics if it is of a host that is not there.
    pub(super) fn check(&self, hosts: usize) {
        match self {
            Self::Partition(one, two)
            | Self::Cut(one, two)
            | Self::Hold(one, two)
            | Self::Degrade(one, two, _) => {
                check_host(*one, hosts);
                check_host(*two, hosts);
            }
            Self::Crash(host) | Self::CrashAtWrite(host) | Self::Drift(host, _) => {
                check_host(*host, hosts);
            }
        }
    }
}

#[track_caller]
fn check_host(host: usize, hosts: usize) {
    assert!(
        host < hosts,
        "there is no host {host}: there are {hosts}, counted from 0"
    );
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "from {:?} for {:?}: {:?}",
            self.at, self.lasts, self.what
        )
    }
}

/// How often what goes wrong, to draw a plan from.
///
/// Each rate is a number of faults in a minute of the simulation, for the whole network.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRates {
    /// Faults begin before that, in time since the beginning of the simulation, whenever they are
    /// injected.
    pub until: Duration,
    /// A fault lasts as long as this at most.
    pub lasts_max: Duration,
    /// Partitions between two hosts.
    pub partitions: f64,
    /// Partitions in one direction.
    pub cuts: f64,
    /// Times in which what is sent waits.
    pub holds: f64,
    /// Crashes; half of them in the middle of a turn.
    pub crashes: f64,
    /// Who may crash, counted as in a [`FaultKind`]; everybody, if it is empty.
    pub mortals: Vec<usize>,
    /// Times in which a link is slow and loses packets.
    pub degradations: f64,
    /// Clocks that begin to run wrong, by up to 10 %.
    pub drifts: f64,
}

impl Default for FaultRates {
    fn default() -> Self {
        Self {
            until: Duration::from_secs(60),
            lasts_max: Duration::from_secs(10),
            partitions: 2.0,
            cuts: 1.0,
            holds: 1.0,
            crashes: 2.0,
            mortals: Vec::new(),
            degradations: 2.0,
            drifts: 1.0,
        }
    }
}

impl FaultRates {
    /// The same without crashes: nothing that a host was told is forgotten.
    #[must_use]
    pub fn without_crashes(self) -> Self {
        Self {
            crashes: 0.0,
            ..self
        }
    }

    /// A plan for so many hosts from `now` on, in the order of time.
    pub(super) fn draw(&self, hosts: usize, now: Duration, random: &mut Random) -> Vec<Fault> {
        let mut faults = Vec::new();
        let lasts = self.until.saturating_sub(now);
        if hosts == 0 || lasts.is_zero() {
            return faults;
        }
        for mortal in &self.mortals {
            check_host(*mortal, hosts);
        }
        let mortal = |one: usize, random: &mut Random| match self.mortals.as_slice() {
            [] => one,
            mortals => mortals[random.index(mortals.len())],
        };
        type Make<'a> = &'a dyn Fn(usize, usize, &mut Random) -> FaultKind;
        // A host alone has no way to another one.
        let of_two = |rate: f64| if hosts > 1 { rate } else { 0.0 };
        let kinds: [(f64, Make<'_>); 6] = [
            (of_two(self.partitions), &|one, two, _| {
                FaultKind::Partition(one, two)
            }),
            (of_two(self.cuts), &|one, two, _| FaultKind::Cut(one, two)),
            (of_two(self.holds), &|one, two, _| FaultKind::Hold(one, two)),
            (self.crashes, &|one, _, random| {
                let one = mortal(one, random);
                if random.chance(0.5) {
                    FaultKind::CrashAtWrite(one)
                } else {
                    FaultKind::Crash(one)
                }
            }),
            (of_two(self.degradations), &degradation),
            (self.drifts, &|one, _, random| {
                FaultKind::Drift(one, 100_000 - random.below(200_001) as i32)
            }),
        ];
        for (rate, make) in kinds {
            for _ in 0..count(rate, lasts, random) {
                let one = random.index(hosts);
                let two = (one + 1 + random.index(hosts - 1)) % hosts;
                faults.push(Fault {
                    at: random.between(now, self.until),
                    lasts: random.between(Duration::ZERO, self.lasts_max),
                    what: make(one, two, random),
                });
            }
        }
        faults.sort_by_key(|fault| fault.at);
        faults
    }
}

fn degradation(one: usize, two: usize, random: &mut Random) -> FaultKind {
    let step = random.between(Duration::from_millis(1), Duration::from_millis(200));
    let loss = random.below(30) as f64 / 100.0;
    let link = Link {
        latency: Latency::LongTail {
            min: Duration::from_millis(1),
            step,
        },
        loss,
        // A way that loses much does the rest, too.
        duplication: loss / 4.0,
        reordering: loss,
        bandwidth: random.chance(0.5).then(|| 10_000 + random.below(1_000_000)),
        ..Link::default()
    };
    FaultKind::Degrade(one, two, link)
}

/// How many faults of a kind: the whole part of what the rate says, and one more with the
/// probability of the rest.
fn count(per_minute: f64, time: Duration, random: &mut Random) -> u64 {
    let millionths = (per_minute.max(0.0) * 1e6) as u64;
    let expected = u128::from(millionths) * time.as_millis() / 60_000;
    let whole = (expected / 1_000_000) as u64;
    let rest = (expected % 1_000_000) as u64;
    whole + u64::from(random.below(1_000_000) < rest)
}

/// A fault begins, or is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) begins: bool,
    pub(super) what: FaultKind,
}

/// What of a plan is still to begin, and to end.
///
/// # Order
///
/// By time; what is equal, in the order of the plan.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    changes: BTreeMap<(Duration, u64), (Change, Duration)>,
    last_number: u64,
}

impl Agenda {
    /// Replaces what has not begun. What has begun ends as it was planned.
    pub(super) fn plan(&mut self, faults: &[Fault]) {
        self.changes.retain(|_, (change, _)| !change.begins);
        for fault in faults {
            let ends = fault.at.saturating_add(fault.lasts);
            self.insert(fault.at, true, fault.what.clone(), ends);
        }
    }

    fn insert(&mut self, at: Duration, begins: bool, what: FaultKind, ends: Duration) {
        self.last_number += 1;
        let key = (at, self.last_number);
        self.changes.insert(key, (Change { begins, what }, ends));
    }

    pub(super) fn next_time(&self) -> Option<Duration> {
        self.changes.keys().next().map(|(at, _)| *at)
    }

    /// What is due by `now` and was not taken before.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Change> {
        let first = self.changes.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (change, ends) = first.remove();
        if change.begins {
            self.insert(ends, false, change.what.clone(), ends);
        }
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plan_replaces_what_has_not_begun_and_lets_the_rest_end() {
        let second = Duration::from_secs(1);
        let fault = |at, lasts, host| Fault {
            at: second * at,
            lasts: second * lasts,
            what: FaultKind::Crash(host),
        };
        let mut agenda = Agenda::default();
        agenda.plan(&[fault(1, 9, 0), fault(5, 1, 1)]);
        assert_eq!(agenda.take_due(Duration::ZERO), None);
        assert_eq!(agenda.next_time(), Some(second));
        let begun = agenda.take_due(second * 2).expect("the first has begun");
        assert!(begun.begins && begun.what == FaultKind::Crash(0));
        agenda.plan(&[fault(3, 0, 2)]);
        let mut rest = Vec::new();
        while let Some(Change { begins, what }) = agenda.take_due(second * 20) {
            rest.push((begins, what));
        }
        let (third, first) = (FaultKind::Crash(2), FaultKind::Crash(0));
        assert_eq!(
            rest,
            [(true, third.clone()), (false, third), (false, first)]
        );
    }

    #[test]
    fn a_plan_keeps_to_its_rates_and_its_times() {
        let rates = FaultRates {
            until: Duration::from_secs(600),
            partitions: 1.5,
            crashes: 0.0,
            ..FaultRates::default()
        };
        let plan = rates.draw(3, Duration::ZERO, &mut Random::new(5));
        let partitions = plan
            .iter()
            .filter(|fault| matches!(fault.what, FaultKind::Partition(..)));
        assert_eq!(partitions.count(), 15);
        for fault in &plan {
            assert!(fault.at <= rates.until && fault.lasts <= rates.lasts_max);
            let crash = matches!(fault.what, FaultKind::Crash(_) | FaultKind::CrashAtWrite(_));
            assert!(!crash, "{fault}");
            if let FaultKind::Partition(one, two) | FaultKind::Cut(one, two) = fault.what {
                assert_ne!(one, two);
            }
        }
        assert!(plan.is_sorted_by_key(|fault| fault.at));
        assert!(
            rates
                .draw(0, Duration::ZERO, &mut Random::new(5))
                .is_empty()
        );
        assert_eq!(rates.draw(3, Duration::ZERO, &mut Random::new(5)), plan);
    }
}
