//! A gate in a chain: what pauses it, and what keeps a place in it.
//!
//! # Invariants
//!
//! A gate that is closed answers nobody. One that is open steps aside like any
//! passage, unless it is a chain's anchor: the place where that chain's
//! cancellers still look after it was given into another one.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};

use crate::chain::{self, Cursor, Node, Outcome, Output, Pulled, Step, Taken, Upstream};
use crate::error::{ChainError, Interrupted};
use crate::unhandled::Trail;

/// Keeps a Deferred paused; see [`Deferred::pause`](crate::Deferred::pause).
///
/// Dropping it lets the chain go on: at once, on this stack, if the result is
/// here.
#[must_use = "dropping the guard resumes the chain"]
pub struct Paused {
    /// Weak, so that a failure dropped with its Deferred is reported although
    /// somebody still holds the guard.
    gate: Option<Weak<dyn Resume>>,
}

impl Paused {
    pub(crate) fn new<T: 'static, E: ChainError>(gate: &Rc<Gate<T, E>>) -> Self {
        let gate = Rc::downgrade(gate);
        Self { gate: Some(gate) }
    }

    /// For a Deferred that has nothing to pause.
    pub(crate) fn nothing() -> Self {
        Self { gate: None }
    }

    fn gate(&self) -> Option<Rc<dyn Resume>> {
        self.gate.as_ref().and_then(Weak::upgrade)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Some(gate) = self.gate() {
            gate.resume();
        }
    }
}

impl fmt::Debug for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gate() {
            Some(gate) => write!(
                f,
                "Paused(the Deferred created at {})",
                gate.trail().created
            ),
            None => f.write_str("Paused(nothing that is left)"),
        }
    }
}

trait Resume: Node {
    fn resume(&self);
}

/// A node that passes a result on unchanged, when it is open.
pub(crate) struct Gate<T, E: ChainError> {
    state: Cell<GateState<T, E>>,
    closed: Cell<bool>,
    next: Cell<Option<Rc<dyn Step>>>,
    trail: Trail,
    /// Whose cancellers look here.
    anchor: Option<Rc<Cursor>>,
}

//   Waiting ──run──▶ Done ──take──▶ Taken
//      └─────────take: "moved"────────┘
enum GateState<T, E: ChainError> {
    Waiting(Rc<dyn Output<T, E>>),
    Done(Outcome<T, E>),
    Taken,
}

impl<T: 'static, E: ChainError> Gate<T, E> {
    /// Closed, with the result behind it.
    pub(crate) fn holding(outcome: Outcome<T, E>) -> Rc<Self> {
        let trail = outcome.trail;
        Self::new(GateState::Done(outcome), true, trail, None)
    }

    /// Closed, before the result is there.
    pub(crate) fn closed(source: Rc<dyn Output<T, E>>) -> Rc<Self> {
        Self::behind(source, true, None)
    }

    /// Open: only a place for cancellers to look at.
    pub(crate) fn anchored(source: Rc<dyn Output<T, E>>, cursor: Rc<Cursor>) -> Rc<Self> {
        let gate = Self::behind(source, false, Some(Rc::clone(&cursor)));
        cursor.point_to(Some(Rc::clone(&gate) as Rc<dyn Node>));
        gate
    }

    fn behind(source: Rc<dyn Output<T, E>>, closed: bool, anchor: Option<Rc<Cursor>>) -> Rc<Self> {
        let trail = source.trail();
        let gate = Self::new(
            GateState::Waiting(Rc::clone(&source)),
            closed,
            trail,
            anchor,
        );
        source.set_next(Rc::clone(&gate) as Rc<dyn Step>);
        gate
    }

    fn new(
        state: GateState<T, E>,
        closed: bool,
        trail: Trail,
        anchor: Option<Rc<Cursor>>,
    ) -> Rc<Self> {
        let (state, closed) = (Cell::new(state), Cell::new(closed));
        Rc::new(Self {
            state,
            closed,
            next: Cell::new(None),
            trail,
            anchor,
        })
    }

    fn is_anchor(&self) -> bool {
        self.anchor.as_ref().is_some_and(Cursor::is_used)
    }
}

impl<T: 'static, E: ChainError> Resume for Gate<T, E> {
    fn resume(&self) {
        self.closed.set(false);
        if self.is_done()
            && let Some(next) = self.next.take()
        {
            chain::run(next);
        }
    }
}

impl<T: 'static, E: ChainError> Node for Gate<T, E> {
    fn upstream(&self) -> Upstream {
        let state = self.state.replace(GateState::Taken);
        let upstream = match &state {
            GateState::Waiting(source) => Upstream::Node(Rc::clone(source) as Rc<dyn Node>),
            GateState::Done(_) if self.closed.get() => Upstream::Held,
            GateState::Done(_) | GateState::Taken => Upstream::Settled,
        };
        self.state.set(state);
        upstream
    }

    fn cancel(self: Rc<Self>, _: Interrupted) {
        // A gate is cancelled through its source.
    }

    fn trail(&self) -> Trail {
        self.trail
    }

    fn is_done(&self) -> bool {
        let state = self.state.replace(GateState::Taken);
        let done = matches!(state, GateState::Done(_));
        self.state.set(state);
        done && !self.closed.get()
    }

    fn forsake(&self) {
        drop(self.next.take());
    }

    fn is_for(&self, step: *const ()) -> bool {
        chain::is_next(&self.next, step) || self.is_done()
    }
}

impl<T: 'static, E: ChainError> Output<T, E> for Gate<T, E> {
    fn take(&self) -> Taken<T, E> {
        if self.closed.get() {
            return Taken::Pending;
        }
        match self.state.replace(GateState::Taken) {
            GateState::Done(outcome) => Taken::Outcome(outcome),
            GateState::Waiting(source) if !self.is_anchor() => Taken::Moved(source),
            other => {
                self.state.set(other);
                Taken::Pending
            }
        }
    }

    fn set_next(&self, next: Rc<dyn Step>) {
        drop(self.next.replace(Some(next)));
    }

    fn clear_next(&self) {
        drop(self.next.take());
    }
}

impl<T: 'static, E: ChainError> Step for Gate<T, E> {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        let source = match self.state.replace(GateState::Taken) {
            GateState::Waiting(source) => source,
            // Its turn was put off, and meanwhile its source was asked directly.
            other => {
                self.state.set(other);
                return None;
            }
        };
        match chain::pull(source, &(Rc::clone(&self) as Rc<dyn Step>)) {
            Pulled::Outcome(outcome) => {
                self.state
                    .set(GateState::Done(Outcome::new(outcome.claim(), self.trail)));
                if self.closed.get() {
                    None
                } else {
                    self.next.take()
                }
            }
            Pulled::Waiting(source) => {
                self.state.set(GateState::Waiting(source));
                None
            }
        }
    }

    fn downstream(&self) -> Option<Rc<dyn Step>> {
        chain::peek(&self.next)
    }
}
