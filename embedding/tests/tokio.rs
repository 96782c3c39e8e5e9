//! In tokio, by descriptor and deadline.

use std::cell::Cell;
use torsade::prelude::*;
use torsade_embedding::chores::{self, Chores};

#[path = "../examples/in_tokio.rs"]
#[allow(dead_code, reason = "a test calls the parts and not `main`")]
mod in_tokio;

#[tokio::test]
async fn all_chores_are_done_by_the_events_of_tokio_alone() {
    let reactor = Reactor::new().expect("the system has descriptors left");
    let chores = Chores::begin(&reactor);
    let turns = Cell::new(0);
    let goes_on = || {
        turns.set(turns.get() + 1);
        !chores.is_done()
    };
    in_tokio::drive(&reactor, goes_on)
        .await
        .expect("it can wait");
    chores.check(turns.get(), chores::TURNS_MAX);
}
