//! In calloop, by descriptor and deadline.

use calloop::EventLoop;
use torsade::prelude::*;
use torsade_embedding::chores::{self, Chores};

#[path = "../examples/in_calloop.rs"]
#[allow(dead_code, reason = "a test calls the parts and not `main`")]
mod in_calloop;

#[test]
fn all_chores_are_done_by_the_events_of_calloop_alone() {
    let mut host = EventLoop::<()>::try_new().expect("the system has descriptors left");
    let reactor = Reactor::new().expect("the system has descriptors left");
    let chores = Chores::begin(&reactor);
    let seat = in_calloop::Seat::take(&reactor, host.handle()).expect("calloop takes it");
    let mut turns = 0;
    while !chores.is_done() {
        host.dispatch(None, &mut ()).expect("calloop can wait");
        turns += 1;
    }
    chores.check(turns, chores::TURNS_MAX);
    drop(seat);
}
