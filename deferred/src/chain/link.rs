//! One callback that waits for its turn.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;

use super::{
    Node, Outcome, Output, Pulled, Returned, Step, Taken, Upstream, call, is_next, peek, pull,
};
use crate::error::{ChainError, Interrupted};
use crate::links::{Driven, Links};
use crate::unhandled::Trail;

/// One callback that waits for its turn.
pub(crate) struct Link<I, IE: ChainError, T, E: ChainError, F> {
    state: Cell<LinkState<I, IE, T, E, F>>,
    links: Links<T, E>,
    next: Cell<Option<Rc<dyn Step>>>,
    trail: Trail,
}

//   Input ──run──▶ Running ──▶ Done ──take──▶ Taken
//                    │           ▲
//                    └─▶ Inner ──┘     Inner ──take──▶ Taken: "moved"
enum LinkState<I, IE: ChainError, T, E: ChainError, F> {
    /// Waits for the node before it, with the callback.
    Input(Rc<dyn Output<I, IE>>, F),
    /// The callback is on the stack.
    Running,
    /// The callback returned a Deferred that is still pending.
    Inner(Rc<dyn Output<T, E>>),
    Done(Outcome<T, E>),
    Taken,
}

impl<I, IE, T, E, F> Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Returned<T, E> + 'static,
{
    /// Puts a callback behind a pending node: the one allocation of a link.
    pub(crate) fn after(
        source: Rc<dyn Output<I, IE>>,
        place: &'static Location<'static>,
        callback: F,
    ) -> Rc<dyn Output<T, E>> {
        let trail = source.trail().then(place);
        let state = Cell::new(LinkState::Input(Rc::clone(&source), callback));
        let link = Rc::new(Self {
            state,
            links: Links::new(),
            next: Cell::new(None),
            trail,
        });
        source.set_next(Rc::clone(&link) as Rc<dyn Step>);
        link
    }

    /// Goes on with what the callback returned: through the callbacks that hang here, to
    /// whoever waits.
    fn drive(self: &Rc<Self>, returned: Returned<T, E>) -> Option<Rc<dyn Step>> {
        match self.links.drive(returned, self, self.trail) {
            Driven::Outcome(outcome) => {
                self.state.set(LinkState::Done(outcome));
                self.next.take()
            }
            Driven::Waiting(source) => {
                self.state.set(LinkState::Inner(source));
                // Whoever waits here already is to stand behind the source itself.
                if !self.links.is_open() {
                    self.next.take()
                } else {
                    None
                }
            }
        }
    }
}

impl<I, IE, T, E, F> Node for Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Returned<T, E> + 'static,
{
    fn upstream(&self) -> Upstream {
        let state = self.state.replace(LinkState::Taken);
        let upstream = match &state {
            LinkState::Input(source, _) => Upstream::Node(Rc::clone(source) as Rc<dyn Node>),
            LinkState::Inner(source) => Upstream::Node(Rc::clone(source) as Rc<dyn Node>),
            LinkState::Running | LinkState::Done(_) | LinkState::Taken => Upstream::Settled,
        };
        self.state.set(state);
        upstream
    }

    fn cancel(self: Rc<Self>, _: Interrupted) {
        // A link is cancelled through its source.
    }

    fn trail(&self) -> Trail {
        self.links.trail(self.trail)
    }

    fn is_done(&self) -> bool {
        let state = self.state.replace(LinkState::Taken);
        let done = matches!(state, LinkState::Done(_));
        self.state.set(state);
        done
    }

    fn forsake(&self) {
        drop(self.next.take());
    }

    fn is_for(&self, step: *const ()) -> bool {
        is_next(&self.next, step) || self.is_done()
    }
}

impl<I, IE, T, E, F> Output<T, E> for Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Returned<T, E> + 'static,
{
    fn take(&self) -> Taken<T, E> {
        match self.state.replace(LinkState::Taken) {
            LinkState::Done(outcome) => Taken::Outcome(outcome),
            LinkState::Inner(source) if !self.links.is_open() => Taken::Moved(source),
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

    fn links(&self) -> Option<&Links<T, E>> {
        Some(&self.links)
    }
}

impl<I, IE, T, E, F> Step for Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Returned<T, E> + 'static,
{
    fn run(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        let this = Rc::clone(&self) as Rc<dyn Step>;
        match self.state.replace(LinkState::Running) {
            LinkState::Input(source, callback) => match pull(source, &this) {
                // Detach, then call: the callback is on the stack, the node says so.
                Pulled::Outcome(outcome) => self.drive(call(callback, outcome.claim())),
                Pulled::Waiting(source) => {
                    self.state.set(LinkState::Input(source, callback));
                    None
                }
            },
            LinkState::Inner(source) => match pull(source, &this) {
                Pulled::Outcome(outcome) => self.drive(Returned::Result(outcome.claim())),
                Pulled::Waiting(source) => {
                    self.state.set(LinkState::Inner(source));
                    None
                }
            },
            // Its turn was put off, and meanwhile its source was asked directly.
            other => {
                self.state.set(other);
                None
            }
        }
    }

    fn downstream(&self) -> Option<Rc<dyn Step>> {
        peek(&self.next)
    }
}
