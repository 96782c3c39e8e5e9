//! The connections of a client, by where they lead, and the line of those who wait for one.
//!
//! # Order
//!
//! Who has waited longest is served first, among those for one route always; among all, when it is the
//! number of all connections that they wait for.
//!
//! # Bounds
//!
//! [`ClientLimits::per_origin`] and [`ClientLimits::connections`](super::ClientLimits::connections) count
//! connections and attempts to connect; [`ClientLimits::waiting`](super::ClientLimits::waiting) counts who
//! waits and has no attempt of its own.
//!
//! [`ClientLimits::per_origin`]: super::ClientLimits::per_origin

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use torsade_deferred::{Canceller, Failure, Trigger};
use torsade_reactor::{Stream, Transport};

use super::connection::ClientConnection;
use super::error::{self, ClientErrorKind};
use super::exchange::Exchange;
use super::{ClientCore, Route, connect};

/// All connections of a client.
#[derive(Default)]
pub(super) struct Pool {
    lanes: RefCell<BTreeMap<Rc<Route>, Lane>>,
    /// Of all lanes: connections and attempts.
    open: Cell<usize>,
    /// Of all lanes: who waits, and how many attempts are made for them.
    waiting: Cell<usize>,
    attempts: Cell<usize>,
    next_number: Cell<u64>,
    /// Somebody goes through the line: an attempt that fails at once must not do so again from inside.
    serving: Cell<bool>,
    /// Who waits for the last connection to end.
    closing: RefCell<Vec<Trigger<()>>>,
}

/// The connections of one route.
///
/// Invariant: there is none idle while somebody waits.
#[derive(Default)]
struct Lane {
    /// The one that was used last is at the end.
    idle: Vec<Idle>,
    /// Connections and attempts.
    open: usize,
    attempts: Vec<Attempt>,
    /// The number says since when.
    waiting: VecDeque<(u64, Rc<Exchange>)>,
}

struct Idle {
    id: u64,
    transport: Transport<ClientConnection>,
}

struct Attempt {
    id: u64,
    canceller: Option<Canceller>,
    /// Whoever it was made for has given up: its failure is nobody's.
    is_needless: bool,
}

impl Lane {
    /// Whether somebody waits for whom no connection is being made, and one may be.
    fn wants_attempt(&self, per_origin: usize) -> bool {
        self.waiting.len() > self.attempts.len() && self.open < per_origin
    }
}

impl Pool {
    fn number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    pub(super) fn idle(&self) -> usize {
        self.lanes
            .borrow()
            .values()
            .map(|lane| lane.idle.len())
            .sum()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    fn with_lane<T>(&self, route: &Rc<Route>, visit: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = self.lanes.borrow_mut();
        let outcome = match lanes.get_mut(route) {
            Some(lane) => visit(lane),
            None => visit(lanes.entry(Rc::clone(route)).or_default()),
        };
        drop(lanes);
        outcome
    }

    fn forget_empty(&self, route: &Rc<Route>) {
        let mut lanes = self.lanes.borrow_mut();
        if let Some(lane) = lanes.get(route)
            && lane.open == 0
            && lane.waiting.is_empty()
        {
            let lane = lanes.remove(route);
            drop(lanes);
            drop(lane);
        }
    }

    /// The connection that was used last, of those that have nothing to do.
    fn take_idle(&self, route: &Rc<Route>) -> Option<Transport<ClientConnection>> {
        self.with_lane(route, |lane| {
            while let Some(idle) = lane.idle.pop() {
                if idle.transport.is_connected() {
                    return Some(idle.transport);
                }
            }
            None
        })
    }

    fn take_first(&self, route: &Rc<Route>) -> Option<Rc<Exchange>> {
        let (_, exchange) = self.with_lane(route, |lane| lane.waiting.pop_front())?;
        self.waiting.set(self.waiting.get() - 1);
        Some(exchange)
    }

    fn take_all_idle(&self) -> Vec<Transport<ClientConnection>> {
        let mut lanes = self.lanes.borrow_mut();
        let idle = lanes.values_mut().flat_map(|lane| lane.idle.drain(..));
        idle.map(|idle| idle.transport).collect()
    }

    /// A connection that has nothing to do, of any route.
    fn take_any_idle(&self) -> Option<Transport<ClientConnection>> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.values_mut().find(|lane| !lane.idle.is_empty())?;
        Some(lane.idle.remove(0).transport)
    }

    /// The route of who has waited longest, of those for whom a connection may be made.
    fn longest_waiting(&self, per_origin: usize) -> Option<(u64, Rc<Route>)> {
        let lanes = self.lanes.borrow();
        lanes
            .iter()
            .filter(|(_, lane)| lane.wants_attempt(per_origin))
            .filter_map(|(route, lane)| Some((lane.waiting.front()?.0, route)))
            .min_by_key(|(number, _)| *number)
            .map(|(number, route)| (number, Rc::clone(route)))
    }

    /// Ends what has nothing to do, when the client is gone.
    pub(super) fn end(&self) {
        for transport in self.take_all_idle() {
            transport.lose_connection();
        }
        let lanes = self.lanes.take();
        let attempts = lanes.into_values().flat_map(|lane| lane.attempts);
        for attempt in attempts {
            if let Some(canceller) = attempt.canceller {
                canceller.cancel();
            }
        }
    }
}

impl ClientCore {
    /// Gives the exchange a connection: one that has nothing to do, unless it wants a `fresh` one; else
    /// the next that is free.
    pub(super) fn acquire(self: &Rc<Self>, exchange: &Rc<Exchange>, fresh: bool) {
        let route = exchange.route();
        if fresh {
            // It may have to make room for the new one.
            if let Some(idle) = self.pool.take_idle(&route) {
                idle.lose_connection();
            }
        } else if let Some(transport) = self.pool.take_idle(&route) {
            return exchange.start_on(&transport);
        }
        let pool = &self.pool;
        let limit = self.settings.limits.waiting;
        if pool.waiting.get() >= pool.attempts.get() + limit && !self.may_connect(&route) {
            return exchange.fail(ClientErrorKind::Overloaded { limit });
        }
        let number = pool.number();
        pool.with_lane(&route, |lane| {
            lane.waiting.push_back((number, Rc::clone(exchange)));
        });
        pool.waiting.set(pool.waiting.get() + 1);
        exchange.is_waiting(number);
        self.serve(&route);
    }

    fn may_connect(&self, route: &Rc<Route>) -> bool {
        let limits = &self.settings.limits;
        let open = self.pool.with_lane(route, |lane| lane.open);
        open < limits.per_origin.max(1) && self.pool.open.get() < limits.connections.max(1)
    }

    /// Makes as many connections for a route as are wanted and allowed.
    fn serve(self: &Rc<Self>, route: &Rc<Route>) {
        let limits = &self.settings.limits;
        let per_origin = limits.per_origin.max(1);
        loop {
            let wants = self
                .pool
                .with_lane(route, |lane| lane.wants_attempt(per_origin));
            if !wants {
                break;
            }
            if self.pool.open.get() >= limits.connections.max(1) {
                // Its end makes room, in time.
                if let Some(idle) = self.pool.take_any_idle() {
                    idle.lose_connection();
                }
                break;
            }
            self.start_attempt(Rc::clone(route));
        }
        self.pool.forget_empty(route);
    }

    fn start_attempt(self: &Rc<Self>, route: Rc<Route>) {
        let pool = &self.pool;
        let id = pool.number();
        pool.open.set(pool.open.get() + 1);
        pool.attempts.set(pool.attempts.get() + 1);
        pool.with_lane(&route, |lane| {
            lane.open += 1;
            lane.attempts.push(Attempt {
                id,
                canceller: None,
                is_needless: false,
            });
        });
        let Some(reactor) = self.reactor.upgrade() else {
            return self.attempt_over(&route, id, Err(ClientErrorKind::Closed.into()));
        };
        let connecting = connect::connect(&self.settings, &reactor, &route);
        let canceller = connecting.canceller();
        pool.with_lane(&route, |lane| {
            if let Some(attempt) = lane.attempts.iter_mut().find(|it| it.id == id) {
                attempt.canceller = Some(canceller);
            }
        });
        let weak = Rc::downgrade(self);
        // Dropped: both ends are handled.
        drop(connecting.add_both(move |outcome| match weak.upgrade() {
            Some(client) => client.attempt_over(&route, id, outcome),
            None => {
                if let Ok(stream) = outcome {
                    stream.lose_connection(torsade_reactor::ConnectionLost::Done);
                }
            }
        }));
    }

    fn attempt_over(
        self: &Rc<Self>,
        route: &Rc<Route>,
        id: u64,
        outcome: Result<Rc<dyn Stream>, Failure>,
    ) {
        let pool = &self.pool;
        pool.attempts.set(pool.attempts.get() - 1);
        let attempt = pool.with_lane(route, |lane| {
            let at = lane.attempts.iter().position(|it| it.id == id);
            at.map(|at| lane.attempts.swap_remove(at))
        });
        let is_needless = attempt.is_some_and(|it| it.is_needless);
        match outcome {
            Ok(stream) => {
                let connection = ClientConnection::new(self, Rc::clone(route), id);
                let transport = Transport::connect(connection, stream);
                self.is_free(route, id, transport);
            }
            Err(failure) => {
                let first = match is_needless {
                    true => None,
                    false => pool.take_first(route),
                };
                self.connection_over(route, id);
                if let Some(first) = first {
                    first.fail(error::kind_of(failure));
                }
            }
        }
    }

    /// A connection has nothing to do.
    pub(super) fn is_free(
        self: &Rc<Self>,
        route: &Rc<Route>,
        id: u64,
        transport: Transport<ClientConnection>,
    ) {
        if self.gives_way(route) {
            return transport.lose_connection();
        }
        if let Some(exchange) = self.pool.take_first(route) {
            return exchange.start_on(&transport);
        }
        if self.closed.get() {
            return transport.lose_connection();
        }
        transport.set_background(true);
        self.pool
            .with_lane(route, |lane| lane.idle.push(Idle { id, transport }));
    }

    /// Whether somebody has waited longer for another route, to which no connection may be made
    /// because there are so many.
    fn gives_way(&self, route: &Rc<Route>) -> bool {
        let limits = &self.settings.limits;
        let is_short = self.pool.open.get() >= limits.connections.max(1);
        if !is_short || self.pool.waiting.get() == 0 {
            return false;
        }
        let here = self.pool.with_lane(route, |lane| {
            lane.waiting.front().map(|(number, _)| *number)
        });
        match self.pool.longest_waiting(limits.per_origin.max(1)) {
            Some((number, other)) => other != *route && here.is_none_or(|here| number < here),
            None => false,
        }
    }

    /// A connection, or an attempt, is no more.
    pub(super) fn connection_over(self: &Rc<Self>, route: &Rc<Route>, id: u64) {
        let pool = &self.pool;
        pool.open.set(pool.open.get() - 1);
        let idle = pool.with_lane(route, |lane| {
            lane.open -= 1;
            let at = lane.idle.iter().position(|it| it.id == id);
            at.map(|at| lane.idle.remove(at))
        });
        drop(idle);
        pool.forget_empty(route);
        if !pool.serving.replace(true) {
            self.serve_all();
            pool.serving.set(false);
        }
        self.note_end();
    }

    /// Makes as many connections as are wanted and allowed, for whoever has waited longest.
    fn serve_all(self: &Rc<Self>) {
        let (pool, limits) = (&self.pool, &self.settings.limits);
        while pool.waiting.get() > 0 && pool.open.get() < limits.connections.max(1) {
            let Some((_, route)) = pool.longest_waiting(limits.per_origin.max(1)) else {
                return;
            };
            self.start_attempt(route);
        }
    }

    /// Somebody who waits gives up.
    pub(super) fn leave_line(self: &Rc<Self>, route: &Rc<Route>, number: u64) {
        let pool = &self.pool;
        let (left, needless) = pool.with_lane(route, |lane| {
            let at = lane.waiting.iter().position(|(it, _)| *it == number);
            let left = at.and_then(|at| lane.waiting.remove(at));
            // The connection that was being made for it, and for nobody else.
            let is_needless = left.is_some() && lane.attempts.len() > lane.waiting.len();
            let needless = is_needless.then(|| lane.attempts.last_mut()).flatten();
            let canceller = needless.and_then(|attempt| {
                attempt.is_needless = true;
                attempt.canceller.take()
            });
            (left, canceller)
        });
        if left.is_some() {
            pool.waiting.set(pool.waiting.get() - 1);
        }
        if let Some(canceller) = needless {
            canceller.cancel();
        }
        pool.forget_empty(route);
        self.note_end();
    }

    /// Closes what has nothing to do; gives whether something is left.
    pub(super) fn close_idle(&self) {
        for transport in self.pool.take_all_idle() {
            transport.lose_connection();
        }
    }

    /// Has `trigger` fired when nothing is left.
    pub(super) fn when_over(&self, trigger: Trigger<()>) {
        self.pool.closing.borrow_mut().push(trigger);
        self.note_end();
    }

    fn note_end(&self) {
        let is_over = self.pool.open.get() == 0 && self.pool.waiting.get() == 0;
        if is_over && self.closed.get() {
            // Detach, then call.
            let triggers = self.pool.closing.take();
            for trigger in triggers {
                trigger.callback(());
            }
        }
    }
}
