//! In GLib's main loop, as a guest.

use glib::MainContext;
use torsade::prelude::*;
use torsade_embedding::chores::{self, Chores};

#[path = "../examples/in_glib.rs"]
#[allow(dead_code, reason = "a test calls the parts and not `main`")]
mod in_glib;

#[test]
fn all_chores_are_done_by_posts_to_glib_alone() {
    let host = MainContext::new();
    let _owned = host.acquire().expect("nobody else runs it");
    let reactor = Reactor::new().expect("the system has descriptors left");
    let chores = Chores::begin(&reactor);
    let guest = in_glib::seat(&reactor, &host).expect("the system has threads left");
    let mut turns = 0;
    while !chores.is_done() {
        host.iteration(true);
        turns += 1;
    }
    chores.check(turns, chores::TURNS_MAX);
    drop(guest);
}
