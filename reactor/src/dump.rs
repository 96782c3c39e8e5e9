//! Everything that a reactor holds, for people to read.
//!
//! # Not here
//!
//! What the loop has done, and who kept it waiting: see `inspect.rs`.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::delayed_call::Time;
use crate::slab::{Slab, Token};

/// Everything that a reactor holds and waits for, at one moment; see
/// [`Reactor::dump`](crate::Reactor::dump). Shown line by line.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Dump {
    /// Delayed calls, the next one first, each with the time it has left.
    pub delayed_calls: Vec<Held>,
    /// Calls for the next turn, and for the next start.
    pub soon_calls: Vec<Held>,
    /// Ports, connections, attempts, watches and channels.
    pub sources: Vec<Held>,
    /// Watchers of signals.
    pub signal_watchers: Vec<Held>,
    /// Hooks in the turn, and of the start and the stop.
    pub hooks: Vec<Held>,
    /// Work on threads whose result the loop waits for; lookups of names are among it.
    pub thread_jobs: Vec<Held>,
    /// The reactor's pools, each with what its threads do.
    pub thread_pools: Vec<String>,
    /// Calls from other threads that have not been made.
    pub thread_calls: Vec<Held>,
    /// Futures that were spawned and have not come to their end.
    pub futures: Vec<Held>,
    /// Seats that the reactor has taken in loops of others.
    pub guests: Vec<Held>,
}

impl Dump {
    /// Whether nothing is held that could still call anything; pools, hooks and seats of guests do
    /// not count. For tests that prove that nothing was left behind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [
            &self.delayed_calls,
            &self.soon_calls,
            &self.thread_calls,
            &self.sources,
            &self.signal_watchers,
            &self.thread_jobs,
            &self.futures,
        ]
        .iter()
        .all(|held| held.is_empty())
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            &self.delayed_calls,
            &self.soon_calls,
            &self.thread_calls,
            &self.sources,
            &self.signal_watchers,
            &self.hooks,
            &self.thread_jobs,
            &self.futures,
            &self.guests,
        ];
        for held in lists.into_iter().flatten() {
            writeln!(f, "{held}")?;
        }
        for pool in &self.thread_pools {
            writeln!(f, "{pool}")?;
        }
        Ok(())
    }
}

/// One thing that a reactor holds, in a [`Dump`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Held {
    /// What it is, and its state.
    pub what: String,
    /// The line that asked for it: of a connection the one that listened or connected.
    /// `None` where the loop cannot know.
    pub origin: Option<&'static Location<'static>>,
    /// For how long it has been there; of a call that was put off, since then. As exact as the
    /// reactor can tell without looking at the clock for each call: on the side of too long,
    /// by 10 ms for a young one, by a part of its age for an old one. `None` for what goes in
    /// the next turn, or has no time.
    pub age: Option<Duration>,
}

impl Held {
    pub(crate) fn new(
        what: String,
        origin: Option<&'static Location<'static>>,
        age: Option<Duration>,
    ) -> Self {
        Self { what, origin, age }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(origin) = self.origin {
            write!(f, " at {origin}")?;
        }
        match self.age {
            Some(age) => write!(f, ", {age:?} ago"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Core {
    pub(crate) fn dump(&self) -> Dump {
        let now = self.now();
        Dump {
            delayed_calls: self.delayed_calls(now),
            soon_calls: self.waiting_calls(),
            sources: self.held_sources(),
            signal_watchers: self.signals.dump(),
            hooks: self.held_hooks(),
            thread_jobs: self.errands.borrow().dump(now),
            thread_pools: self.held_pools(),
            thread_calls: self.thread_calls(),
            futures: self.listed.dump(Kind::Future, now),
            guests: self.listed.dump(Kind::Guest, now),
        }
    }

    fn delayed_calls(&self, now: Instant) -> Vec<Held> {
        let mut calls = Vec::new();
        for (time, kind) in [
            (Time::Running, "call"),
            (Time::Boot, "call of the boot clock"),
        ] {
            let clock = self.time(time);
            for (deadline, sequence, call) in self.timers(time).borrow().iter() {
                let left = deadline.saturating_duration_since(clock);
                let ages = match time {
                    Time::Running => &self.ages,
                    Time::Boot => &self.boot_ages,
                };
                let age = ages.age(now, sequence);
                let what = format!("{kind} in {left:?}, scheduled");
                calls.push((
                    left,
                    sequence,
                    Held::new(what, Some(call.origin), Some(age)),
                ));
            }
        }
        calls.sort_by_key(|(left, sequence, _)| (*left, *sequence));
        calls.into_iter().map(|(.., held)| held).collect()
    }

    fn waiting_calls(&self) -> Vec<Held> {
        let (soon, starting) = (self.soon.borrow(), self.when_running.borrow());
        let soon = soon
            .iter()
            .map(|call| ("call for the next turn, scheduled", call));
        let starting = starting
            .iter()
            .map(|call| ("call when running, scheduled", call));
        soon.chain(starting)
            .map(|(what, call)| Held::new(what.to_owned(), Some(call.origin), None))
            .collect()
    }

    fn thread_calls(&self) -> Vec<Held> {
        let what = "call from a thread, posted";
        let origins = self.mailbox.origins().into_iter();
        origins
            .map(|origin| Held::new(what.to_owned(), Some(origin), None))
            .collect()
    }

    /// Every source, and what a report says of it.
    pub(crate) fn held_with_tokens(&self) -> Vec<(Token, Held)> {
        let now = self.now();
        let sources = self.sources.borrow();
        let held = sources.iter().map(|(token, registered)| {
            let age = now.saturating_duration_since(registered.since);
            let what = format!("{}, added", registered.source);
            (token, Held::new(what, registered.origin, Some(age)))
        });
        held.collect()
    }

    fn held_sources(&self) -> Vec<Held> {
        let held = self.held_with_tokens().into_iter();
        held.map(|(_, held)| held).collect()
    }

    fn held_hooks(&self) -> Vec<Held> {
        let turn = [
            ("hook for prepare", &self.prepare),
            ("hook for check", &self.check),
            ("hook for idle", &self.idle),
        ];
        let phases = [("startup", &self.startup), ("shutdown", &self.shutdown)];
        let turn = turn.into_iter().flat_map(|(what, hooks)| hooks.dump(what));
        let phases = phases
            .into_iter()
            .flat_map(|(what, hooks)| hooks.dump(what));
        turn.chain(phases).collect()
    }

    fn held_pools(&self) -> Vec<String> {
        let own = self
            .thread_pool
            .borrow()
            .as_ref()
            .map(|pool| format!("{pool:?}"));
        own.into_iter()
            .chain(self.lookups.borrow().dump())
            .collect()
    }
}

/// What the loop need not know, noted for reports alone.
pub(crate) struct Listed {
    entries: RefCell<Slab<Entry>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Future,
    Guest,
}

struct Entry {
    kind: Kind,
    origin: &'static Location<'static>,
    since: Instant,
}

/// Strikes an entry off the list when it is dropped.
pub(crate) struct OnTheList {
    core: Weak<Core>,
    token: Token,
}

impl Drop for OnTheList {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.listed.entries.borrow_mut().remove(self.token);
        }
    }
}

impl Listed {
    pub(crate) fn new() -> Self {
        Self {
            entries: RefCell::new(Slab::new()),
        }
    }

    /// Notes the caller's line, as long as what is given back lives.
    #[track_caller]
    pub(crate) fn add(core: &Rc<Core>, kind: Kind) -> OnTheList {
        let entry = Entry {
            kind,
            origin: Location::caller(),
            since: core.now(),
        };
        OnTheList {
            token: core.listed.entries.borrow_mut().insert(entry),
            core: Rc::downgrade(core),
        }
    }

    fn dump(&self, kind: Kind, now: Instant) -> Vec<Held> {
        let what = match kind {
            Kind::Future => "future, spawned",
            Kind::Guest => "seat of a guest, taken",
        };
        let entries = self.entries.borrow();
        let listed = entries.iter().map(|(_, entry)| entry);
        listed
            .filter(|entry| entry.kind == kind)
            .map(|entry| {
                let age = now.saturating_duration_since(entry.since);
                Held::new(what.to_owned(), Some(entry.origin), Some(age))
            })
            .collect()
    }
}

/// When things were scheduled that are numbered in order, without a look at the clock for
/// each: at some moments it is noted which number is next.
#[derive(Debug)]
pub(crate) struct Ages {
    /// Ascending, in both.
    ///
    /// Invariant: not empty, at most [`MARKS_MAX`].
    marks: RefCell<Vec<(Instant, u64)>>,
}

/// So many moments are remembered, close together if they are recent. Over a month, that is
/// one for each third of an age.
const MARKS_MAX: usize = 64;

/// What is younger than this is not told apart.
const MARK_EVERY: Duration = Duration::from_millis(10);

impl Ages {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            marks: RefCell::new(vec![(now, 0)]),
        }
    }

    /// At `now` the next number is `next`.
    pub(crate) fn mark(&self, now: Instant, next: u64) {
        let mut marks = self.marks.borrow_mut();
        let Some((last, number)) = marks.last_mut() else {
            return;
        };
        if now.saturating_duration_since(*last) < MARK_EVERY {
            return;
        }
        if *number == next {
            // Nothing came in between: what comes is younger than was known.
            *last = now;
            return;
        }
        if marks.len() == MARKS_MAX {
            forget_one(now, &mut marks);
        }
        marks.push((now, next));
    }

    /// How long it is, at `now`, since that number was given, at most.
    pub(crate) fn age(&self, now: Instant, number: u64) -> Duration {
        let marks = self.marks.borrow();
        let after = marks.partition_point(|(_, next)| *next <= number);
        let (before, _) = marks[after.saturating_sub(1)];
        now.saturating_duration_since(before)
    }
}

/// Forgets the mark whose neighbours are closest together, for their age.
fn forget_one(now: Instant, marks: &mut Vec<(Instant, u64)>) {
    let gap = |neighbours: &[(Instant, u64)]| {
        let (before, at, after) = (neighbours[0].0, neighbours[1].0, neighbours[2].0);
        let age = now.saturating_duration_since(at).as_secs_f64();
        after.saturating_duration_since(before).as_secs_f64() / age.max(f64::EPSILON)
    };
    let gaps = marks.windows(3).map(gap).enumerate();
    let least = gaps.min_by(|(_, one), (_, other)| one.total_cmp(other));
    if let Some((index, _)) = least {
        marks.remove(index + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::os;

    #[test]
    fn ages_are_too_long_by_10_ms_at_first_and_by_a_part_of_the_age_later() {
        let begin = os::now();
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let ages = Ages::new(begin);
        // One a millisecond for ten seconds.
        for millis in 0..10_000 {
            ages.mark(at(millis), millis);
        }
        assert!(ages.marks.borrow().len() <= MARKS_MAX);
        for millis in 0..10_000 {
            let (age, true_age) = (ages.age(at(10_000), millis), at(10_000) - at(millis));
            let error = age.checked_sub(true_age).expect("never too short");
            let bound = Duration::from_millis(10) + true_age / 3;
            assert!(error <= bound, "{age:?} instead of {true_age:?}");
        }
        // A long rest, and then another one.
        ages.mark(at(60_000), 10_000);
        assert_eq!(ages.age(at(61_000), 10_000), Duration::from_secs(1));
    }
}
