//! Requests that a client has pipelined: which of them may be asked at once.
//!
//! # Order
//!
//! RFC 9112 §9.3.2: those with safe methods go on together; any other one waits for the responses to those
//! before it on its connection, and those behind it wait for its own. To wait for the head is enough.
//!
//! # Bounds
//!
//! As many wait as the server takes of one connection:
//! [`ServerLimits::pipelined`](super::super::ServerLimits::pipelined).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::rc::{Rc, Weak};

use http::Method;
use torsade_deferred::{Deferred, Trigger, succeed};
use torsade_reactor::Stream;

/// One lane for each connection on which something is under way.
#[derive(Default)]
pub(super) struct Lanes {
    /// By the place of the stream, which each lane keeps.
    lanes: RefCell<BTreeMap<usize, Lane>>,
}

struct Lane {
    /// Kept so that no other gets its place meanwhile.
    stream: Rc<dyn Stream>,
    /// How many are under way; one, if it is none of the safe ones.
    under_way: usize,
    is_safe: bool,
    waiting: VecDeque<(bool, Trigger<Turn>)>,
    /// Those who wait are looked at soon.
    goes_on: bool,
}

impl Lane {
    fn admits(&self, is_safe: bool) -> bool {
        self.under_way == 0 || (self.is_safe && is_safe)
    }

    fn admit(&mut self, is_safe: bool) {
        self.under_way += 1;
        self.is_safe = is_safe;
    }
}

/// The right to be asked, until it is dropped.
pub(super) struct Turn {
    lanes: Weak<Lanes>,
    key: usize,
}

impl Lanes {
    /// Fires when it is this request's turn: at once, as a rule.
    pub(super) fn enter(
        self: &Rc<Self>,
        stream: &Rc<dyn Stream>,
        method: &Method,
    ) -> Deferred<Turn> {
        let key = Rc::as_ptr(stream).cast::<()>() as usize;
        let is_safe = method.is_safe();
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(key).or_insert_with(|| Lane {
            stream: Rc::clone(stream),
            under_way: 0,
            is_safe,
            waiting: VecDeque::new(),
            goes_on: false,
        });
        if lane.waiting.is_empty() && lane.admits(is_safe) {
            lane.admit(is_safe);
            drop(lanes);
            return succeed(self.turn(key));
        }
        let (trigger, deferred) = Deferred::new();
        lane.waiting.push_back((is_safe, trigger));
        deferred
    }

    fn turn(self: &Rc<Self>, key: usize) -> Turn {
        Turn {
            lanes: Rc::downgrade(self),
            key,
        }
    }

    /// One is over. Whoever waits follows soon, but not at once: a client that goes away takes back all of
    /// its requests, one after the other, and none of them is to be asked in between.
    fn leave(self: &Rc<Self>, key: usize) {
        let mut lanes = self.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(&key) else {
            return;
        };
        lane.under_way -= 1;
        if lane.waiting.is_empty() {
            let over = (lane.under_way == 0).then(|| lanes.remove(&key));
            drop(lanes);
            return drop(over);
        }
        if !mem::replace(&mut lane.goes_on, true) {
            let reactor = lane.stream.socket().reactor();
            let weak = Rc::downgrade(self);
            reactor.call_soon(move || {
                if let Some(lanes) = weak.upgrade() {
                    lanes.go_on(key);
                }
            });
        }
    }

    fn go_on(self: &Rc<Self>, key: usize) {
        let (mut admitted, mut taken_back) = (Vec::new(), Vec::new());
        let mut lanes = self.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(&key) else {
            return;
        };
        lane.goes_on = false;
        while let Some((is_safe, trigger)) = lane.waiting.pop_front() {
            if !trigger.is_open() {
                taken_back.push(trigger);
            } else if lane.admits(is_safe) {
                lane.admit(is_safe);
                admitted.push(trigger);
            } else {
                lane.waiting.push_front((is_safe, trigger));
                break;
            }
        }
        let over = (lane.under_way == 0).then(|| lanes.remove(&key));
        // Detach, then call.
        drop(lanes);
        drop((over, taken_back));
        for trigger in admitted {
            trigger.callback(self.turn(key));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(lanes) = self.lanes.upgrade() {
            lanes.leave(self.key);
        }
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lanes({})", self.lanes.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use torsade_reactor::Reactor;
    use torsade_reactor::testing::{MemoryStream, success_of, virtual_time_reactor};

    use super::*;

    fn turn(reactor: &Reactor) {
        let turned = reactor.turn(Some(Duration::ZERO));
        turned.expect("it can be turned");
    }

    #[test]
    fn safe_requests_go_together_and_others_alone_and_in_order() {
        let (lanes, reactor) = (Rc::<Lanes>::default(), virtual_time_reactor());
        let [stream, other] = [(); 2].map(|()| MemoryStream::new(&reactor) as Rc<dyn Stream>);
        let enter = |method: &Method| lanes.enter(&stream, method);
        let first = success_of(enter(&Method::GET));
        let second = success_of(enter(&Method::HEAD));
        let post = enter(&Method::POST);
        let put = enter(&Method::PUT);
        let behind = [enter(&Method::GET), enter(&Method::GET)];
        drop(success_of(lanes.enter(&other, &Method::POST)));
        drop(first);
        turn(&reactor);
        assert!(!post.is_fired());
        drop(second);
        assert!(!post.is_fired(), "soon, and not at once");
        turn(&reactor);
        let post = success_of(post);
        assert!(!put.is_fired());
        drop(post);
        turn(&reactor);
        let put = success_of(put);
        assert!(behind.iter().all(|it| !it.is_fired()));
        drop(put);
        turn(&reactor);
        assert!(behind.iter().all(Deferred::is_fired));
        drop(behind);
        assert_eq!(format!("{lanes:?}"), "Lanes(0)");
    }

    #[test]
    fn those_that_are_taken_back_keep_nobody() {
        let (lanes, reactor) = (Rc::<Lanes>::default(), virtual_time_reactor());
        let stream = MemoryStream::new(&reactor) as Rc<dyn Stream>;
        let first = success_of(lanes.enter(&stream, &Method::POST));
        let mut waiting = [(); 4]
            .map(|()| lanes.enter(&stream, &Method::POST))
            .into_iter();
        for _ in 0..2 {
            let second = waiting.next().expect("there are four");
            second.cancel();
            // Who takes it back knows.
            drop(second.map(drop).add_errback(|_| Ok(())));
        }
        drop(first);
        turn(&reactor);
        let third = waiting.next().expect("there are four");
        drop(success_of(third));
        turn(&reactor);
        drop(success_of(waiting.next().expect("there are four")));
        assert_eq!(format!("{lanes:?}"), "Lanes(0)");
    }
}
