//! What is left of a reactor whose simulated machine has crashed.

use std::io::{self, ErrorKind};
use std::mem;
use std::rc::Rc;

use crate::calls::Calls;
use crate::core::Core;
use crate::delayed_call::{Call, SoonCallback};
use crate::panics;
use crate::resolver::Lookups;
use crate::sources::Registered;
use crate::stream::Settle;
use crate::threads::Errands;
use crate::timers::Timers;

impl Core {
    /// The machine has crashed: what it drove is taken out without a word. Nothing of it is
    /// called any more, also not in the turn at hand.
    pub(crate) fn perish(self: &Rc<Self>) -> Remains {
        self.perished.set(true);
        // A stop that has been asked for comes to nothing; the loop is left at the end of this turn,
        // and never entered again.
        self.forget_stops();
        self.stir();
        self.mailbox.close();
        // Taken out of a slab that stays: an event of one of these is not to be taken for that of
        // what the callback at hand begins.
        let sources = self.sources.borrow_mut().take_all();
        for registered in &sources {
            registered.source.halt();
        }
        Remains {
            core: Rc::clone(self),
            timers: [&self.timers, &self.boot_timers].map(|timers| timers.replace(Timers::new())),
            soon: mem::replace(&mut *self.soon.borrow_mut(), Calls::new()),
            starting: self.when_running.take(),
            errands: self.errands.take(),
            lookups: self.lookups.take(),
            layers: self.layers.take(),
            sources,
        }
    }
}

/// What a reactor drove when its machine crashed. To drop it is to drop user code.
pub(crate) struct Remains {
    /// Its hooks and posts are still in it: nothing runs them any more. They go with the rest.
    core: Rc<Core>,
    timers: [Timers<Call>; 2],
    soon: Calls<SoonCallback>,
    starting: Vec<SoonCallback>,
    errands: Errands,
    lookups: Lookups,
    layers: Vec<Rc<dyn Settle>>,
    sources: Vec<Registered>,
}

/// What is heard of a loop whose machine is down.
pub(crate) fn crashed() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "the host has crashed")
}

impl Drop for Remains {
    fn drop(&mut self) {
        for registered in &self.sources {
            // The panic has been reported.
            let _ = panics::catch(|| Rc::clone(&registered.source).vanish());
        }
        let rest = (
            mem::replace(&mut self.timers, [Timers::new(), Timers::new()]),
            mem::replace(&mut self.soon, Calls::new()),
            mem::take(&mut self.starting),
            mem::take(&mut self.errands),
            mem::take(&mut self.lookups),
            mem::take(&mut self.layers),
        );
        let _ = panics::catch(|| drop(rest));
        // Who was dropped may have begun something new: a service, its next attempt.
        let _ = panics::catch(|| self.core.wind_up());
    }
}
