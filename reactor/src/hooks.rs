//! Calls at fixed places: in every turn, and when the reactor starts and stops.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};

use torsade_deferred::{Deferred, Failure, IntoDeferred};

use crate::dump::Held;
use crate::panics;
use crate::reactor::Reactor;

impl Reactor {
    /// Fires when the reactor has stopped: after the hooks before a shutdown and after its
    /// ports and connections were lost, among the hooks of [`Phase::During`]. What a server's
    /// `main` waits for under [`react`](crate::task::react), and whoever must know that all is
    /// over.
    ///
    /// # Errors
    ///
    /// `Abandoned`, if the reactor goes without having been stopped.
    ///
    /// # Cancellation
    ///
    /// Ends the waiting, and nothing else.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    /// use torsade_reactor::{Address, Protocol, Reactor, Transport, task::react};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    /// # }
    ///
    /// fn main() -> ExitCode {
    ///     react(|reactor| match reactor.listen_tcp(":8007", |_: &Address| Echo) {
    ///         Ok(_) => reactor.when_stopped(),
    ///         Err(error) => torsade_deferred::fail(error),
    ///     })
    /// }
    /// ```
    #[track_caller]
    #[must_use]
    pub fn when_stopped(&self) -> Deferred<()> {
        let (trigger, deferred) = Deferred::new();
        let hook = Rc::new(RefCell::new(None::<Hook>));
        let to_cancel = Rc::clone(&hook);
        trigger.on_cancel(move || {
            let hook = to_cancel.take();
            if let Some(hook) = hook {
                hook.remove();
            }
        });
        hook.replace(Some(
            self.on_shutdown(Phase::During, move || trigger.callback(())),
        ));
        deferred
    }
}

/// A place in the turn; see [`Reactor::add_hook`](crate::Reactor::add_hook).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Right before the loop waits for events. The last moment to schedule something for
    /// the next turn.
    Prepare,
    /// Right after the wait, before the events are delivered.
    Check,
    /// In every turn, before the wait; while there is such a hook, the loop does not
    /// wait, it only looks.
    Idle,
}

/// A part of starting or of stopping; see [`Reactor::on_startup`](crate::Reactor::on_startup)
/// and [`Reactor::on_shutdown`](crate::Reactor::on_shutdown).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// First. What these return is waited for, all of it, before the next phase.
    Before,
    /// Then. Connections and ports are lost at the beginning of this phase of a shutdown.
    During,
    /// Last.
    After,
}

/// A hook that can be taken away again. Dropping this does not do that.
#[derive(Clone)]
pub struct Hook {
    registered: Weak<dyn Registered>,
}

impl Hook {
    pub(crate) fn new(registered: Weak<dyn Registered>) -> Self {
        Self { registered }
    }

    /// Takes the hook away: it is not called again, what it holds is dropped now, or when
    /// it returns. False if it was gone.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn remove(&self) -> bool {
        self.registered.upgrade().is_some_and(|hook| hook.remove())
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.registered.strong_count() == 0 {
            "gone"
        } else {
            "there"
        };
        write!(f, "Hook({state})")
    }
}

pub(crate) trait Registered {
    fn remove(&self) -> bool;
}

/// A callback that is called again and again, and may remove itself.
pub(crate) struct TurnHook {
    origin: &'static Location<'static>,
    /// Taken out while it runs.
    callback: Cell<Option<Box<dyn FnMut()>>>,
    removed: Cell<bool>,
}

impl Registered for TurnHook {
    fn remove(&self) -> bool {
        let was_there = !self.removed.replace(true);
        // Detach, then drop.
        let callback = self.callback.take();
        drop(callback);
        was_there
    }
}

/// The hooks of one place in the turn, in the order in which they were added.
#[derive(Default)]
pub(crate) struct TurnHooks {
    hooks: RefCell<Vec<Rc<TurnHook>>>,
}

impl TurnHooks {
    #[track_caller]
    pub(crate) fn add(&self, callback: Box<dyn FnMut()>) -> Hook {
        let hook = Rc::new(TurnHook {
            origin: Location::caller(),
            callback: Cell::new(Some(callback)),
            removed: Cell::new(false),
        });
        let weak = Rc::downgrade(&hook);
        self.hooks.borrow_mut().push(hook);
        Hook::new(weak)
    }

    pub(crate) fn dump(&self, what: &str) -> Vec<Held> {
        let hooks = self.hooks.borrow();
        let there = hooks.iter().filter(|hook| !hook.removed.get());
        there
            .map(|hook| Held::new(format!("{what}, added"), Some(hook.origin), None))
            .collect()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.hooks.borrow().iter().all(|hook| hook.removed.get())
    }

    /// Whether there is not even one that was removed: what is asked in every turn.
    #[inline]
    pub(crate) fn has_none(&self) -> bool {
        self.hooks.borrow().is_empty()
    }

    /// Calls each with `call`. One that is added meanwhile waits for the next turn.
    pub(crate) fn run(&self, call: impl Fn(&'static Location<'static>, &mut dyn FnMut())) {
        let hooks = self.hooks.borrow().clone();
        for hook in hooks {
            let Some(mut callback) = hook.callback.take() else {
                continue;
            };
            call(hook.origin, &mut callback);
            if hook.removed.get() {
                // The panic has been reported.
                let _ = panics::catch(|| drop(callback));
            } else {
                hook.callback.set(Some(callback));
            }
        }
        let removed: Vec<_> = self
            .hooks
            .borrow_mut()
            .extract_if(.., |hook| hook.removed.get())
            .collect();
        drop(removed);
    }

    pub(crate) fn clear(&self) {
        let hooks = self.hooks.take();
        drop(hooks);
    }
}

/// A callback of one start or one stop.
pub(crate) struct PhaseHook {
    origin: &'static Location<'static>,
    callback: Cell<Option<PhaseCall>>,
}

type PhaseCall = Box<dyn FnOnce() -> Deferred<()>>;

impl Registered for PhaseHook {
    fn remove(&self) -> bool {
        let callback = self.callback.take();
        callback.is_some()
    }
}

/// The hooks of one event, start or stop: three phases, of which the first is waited for.
#[derive(Default)]
pub(crate) struct PhaseHooks {
    before: RefCell<Vec<Rc<PhaseHook>>>,
    during: RefCell<Vec<Rc<PhaseHook>>>,
    after: RefCell<Vec<Rc<PhaseHook>>>,
    /// The lines that added those of the first phase that have not fired.
    waiting: RefCell<Rc<RefCell<Vec<&'static Location<'static>>>>>,
}

impl PhaseHooks {
    #[track_caller]
    pub(crate) fn add<R>(&self, phase: Phase, callback: impl FnOnce() -> R + 'static) -> Hook
    where
        R: IntoDeferred<Failure, Value = ()>,
    {
        let callback: PhaseCall = Box::new(move || callback().into_deferred());
        let hook = Rc::new(PhaseHook {
            origin: Location::caller(),
            callback: Cell::new(Some(callback)),
        });
        let weak = Rc::downgrade(&hook);
        self.list(phase).borrow_mut().push(hook);
        Hook::new(weak)
    }

    /// Calls the hooks of a phase, each with `call`, which is given the line that added it, too.
    /// Those of `Before` are waited for, and one that fires calls `fired`; a failure of one is
    /// reported as unhandled, and the others are called all the same, as long as it `goes_on`.
    pub(crate) fn run(
        &self,
        phase: Phase,
        goes_on: impl Fn() -> bool,
        fired: impl Fn() + Clone + 'static,
        call: impl Fn(&'static Location<'static>, &mut dyn FnMut()),
    ) {
        let mut hooks = self.list(phase).take().into_iter();
        while goes_on()
            && let Some(hook) = hooks.next()
        {
            let Some(callback) = hook.callback.take() else {
                continue;
            };
            let (mut callback, origin) = (Some(callback), hook.origin);
            call(origin, &mut || {
                let Some(callback) = callback.take() else {
                    return;
                };
                let deferred = callback();
                if phase == Phase::Before && !deferred.is_fired() {
                    let waiting = Rc::clone(&self.waiting.borrow());
                    waiting.borrow_mut().push(origin);
                    let fired = fired.clone();
                    drop(deferred.add_both(move |result| {
                        let mut waiting = waiting.borrow_mut();
                        // Those of one line are alike.
                        let place = waiting.iter().position(|line| *line == origin);
                        waiting.swap_remove(place.expect("it was put there above"));
                        drop(waiting);
                        fired();
                        result
                    }));
                }
            });
        }
        self.list(phase).borrow_mut().extend(hooks);
    }

    pub(crate) fn dump(&self, event: &str) -> Vec<Held> {
        let mut held = Vec::new();
        for phase in [Phase::Before, Phase::During, Phase::After] {
            for hook in &*self.list(phase).borrow() {
                // Detached for a look: nothing runs in between.
                let callback = hook.callback.take();
                if callback.is_some() {
                    let what = format!("hook for {event}, {phase:?}, added");
                    held.push(Held::new(what, Some(hook.origin), None));
                }
                hook.callback.set(callback);
            }
        }
        let waiting = self.waiting_for();
        if !waiting.is_empty() {
            let what = format!("{event} waits for {} hooks", waiting.len());
            held.push(Held::new(what, None, None));
        }
        held
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.borrow().borrow().is_empty()
    }

    /// The lines that added the hooks that are waited for.
    pub(crate) fn waiting_for(&self) -> Vec<&'static Location<'static>> {
        self.waiting.borrow().borrow().clone()
    }

    /// Waits no longer; who fires after this is not counted.
    pub(crate) fn give_up(&self) {
        self.waiting.take();
    }

    pub(crate) fn clear(&self) {
        let lists = [self.before.take(), self.during.take(), self.after.take()];
        drop(lists);
    }

    fn list(&self, phase: Phase) -> &RefCell<Vec<Rc<PhaseHook>>> {
        match phase {
            Phase::Before => &self.before,
            Phase::During => &self.during,
            Phase::After => &self.after,
        }
    }
}
