//! Everything from everywhere: every public function, from every kind of callback, on what
//! the callback belongs to, on a sibling, and on what is gone.
//!
//! [`rows`] and its neighbours say what each function answers; [`places`] are the callbacks; [`complete`]
//! fails when a public function is in no row. To add a function is to add its row.

mod complete;
mod connection;
mod datagrams;
mod handles;
mod places;
mod rows;
mod tasks;
mod transports;
mod world;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::thread;

use torsade_reactor::Reactor;

use crate::common::count_unhandled;

use places::Place;
use rows::Row;
use world::{ON, World};

/// Turns that pass after the function was called, before anything is judged.
const SETTLED: usize = 5;

/// Turns that a callback has to come, and its consequences: they do not wait, so this is
/// for the threads of some places.
const TURNS_MAX: usize = 300_000;

/// Which function was called on what.
type Seen = BTreeSet<(&'static str, &'static str)>;

#[test]
fn every_function_has_its_stated_result_in_every_callback() {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for place in places::PLACES.iter().chain(datagrams::PLACES) {
        for row in rows() {
            wrong.extend(check(place, row, &mut seen));
        }
    }
    for row in rows() {
        for (on, expected) in ON.into_iter().zip(row.expected) {
            // A row that is never put to the test would state nothing.
            if expected.is_empty() == seen.contains(&(row.function, on)) {
                wrong.push(format!("{} on {on}, stated: {expected:?}", row.function));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{} wrong",
        wrong.join("\n"),
        wrong.len()
    );
}

/// What there is to be called.
fn rows() -> impl Iterator<Item = &'static Row> {
    let lists = [
        rows::ROWS,
        handles::ROWS,
        transports::ROWS,
        tasks::ROWS,
        datagrams::ROWS,
    ];
    lists.into_iter().flatten()
}

/// Calls one function in one callback of a reactor of its own; says what was not as stated.
fn check(place: &'static Place, row: &'static Row, seen: &mut Seen) -> Vec<String> {
    let (unhandled, guard) = count_unhandled();
    let world = World::new(place, row);
    (place.arrange)(&world);
    let mut runs = 0;
    while let Some(reactor) = world.reactor() {
        runs += 1;
        keep_going(&reactor, &world, Rc::new(Cell::new(0)));
        // The function may have been one that ends the run; in the second one the rest comes.
        reactor.run().expect("the loop can wait");
        if runs == 1 {
            world.note_early_end();
        } else {
            world.end();
        }
    }
    drop(guard);
    seen.extend(world.seen());
    let mut wrong = world.verdict();
    if unhandled.get() != 0 {
        wrong.push(format!("{} failures were reported", unhandled.get()));
    }
    let at = |problem| format!("{} in {}: {problem}", row.function, place.name);
    wrong.into_iter().map(at).collect()
}

/// Keeps the loop from waiting, and stops it when all is settled.
fn keep_going(reactor: &Reactor, world: &Rc<World>, turns: Rc<Cell<usize>>) {
    // A handle in here would keep the reactor, where the run ends early.
    let weak = Rc::downgrade(world);
    reactor.call_soon(move || {
        let there = weak.upgrade();
        let Some((world, handle)) = there.and_then(|world| Some((world.clone(), world.reactor()?)))
        else {
            return;
        };
        turns.set(turns.get() + 1);
        if world.turn_is_last() || turns.get() > TURNS_MAX {
            handle.stop();
        } else {
            if turns.get() > 100 {
                // It waits for a thread.
                thread::yield_now();
            }
            keep_going(&handle, &world, turns);
        }
    });
}
