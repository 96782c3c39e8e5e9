//! A reactor in the loop of another, by descriptor and deadline: as in any loop that has
//! watches and timers.
//!
//! `cargo run --release --example inside_another`

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// A reactor's seat in another's loop. Dropping it leaves the guest where it is.
pub struct Seat {
    guest: Reactor,
    host: Reactor,
    /// The host's call that stands for the guest's next deadline.
    call: RefCell<Option<DelayedCall>>,
}

impl Seat {
    /// Has `host` drive `guest`, as long as the seat is held.
    pub fn take(guest: &Reactor, host: &Reactor) -> Result<Rc<Self>, Failure> {
        let seat = Rc::new(Self {
            guest: guest.clone(),
            host: host.clone(),
            call: RefCell::default(),
        });
        let weak = Rc::downgrade(&seat);
        let descriptor = guest.as_fd().try_clone_to_owned()?;
        host.add_reader(descriptor, move |watch| match weak.upgrade() {
            Some(seat) => seat.turn(),
            None => drop(watch.remove()),
        })?;
        seat.refresh();
        Ok(seat)
    }

    fn turn(self: &Rc<Self>) {
        let turned = self.guest.turn(Some(Duration::ZERO));
        turned.expect("the system can wait");
        self.refresh();
    }

    /// Sets the host's call to the guest's next deadline.
    pub fn refresh(self: &Rc<Self>) {
        let next = self.guest.next_deadline();
        let mut call = self.call.borrow_mut();
        if call.as_ref().and_then(DelayedCall::deadline) == next {
            return;
        }
        if let Some(call) = call.take() {
            call.cancel();
        }
        *call = next.map(|deadline| {
            let weak = Rc::downgrade(self);
            self.host.call_at(deadline, move || {
                if let Some(seat) = weak.upgrade() {
                    seat.turn();
                }
            })
        });
    }
}

/// Has the guest count to three, and then the host stop.
pub fn count(guest: &Reactor, host: &Reactor, print: impl Fn(&str) + Clone + 'static) {
    for number in 1..=3 {
        let print = print.clone();
        guest.call_later(Duration::from_millis(100 * number), move || {
            print(&format!("the guest counts {number}"));
        });
    }
    let host = host.clone();
    guest.call_later(Duration::from_millis(350), move || host.stop());
}

fn main() -> ExitCode {
    common::run("inside_another", |host| {
        let guest = Reactor::new()?;
        count(&guest, host, common::say);
        let _seat = Seat::take(&guest, host)?;
        host.run()?;
        Ok(())
    })
}
