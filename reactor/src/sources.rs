//! What events come for, as the reactor keeps it.
//!
//! # Whose they are
//!
//! A source is registered under the line on whose behalf the loop works at that moment, and
//! while its events are delivered, the loop works on behalf of the same line. So a
//! connection shows who listened or connected, without a field in each.

use std::cell::Cell;
use std::fmt;
use std::mem;
use std::panic::Location;
use std::rc::Rc;
use std::time::Instant;

use crate::core::{Core, Source};
use crate::driver::{Change, Events};
use crate::slab::Token;

/// A source as the reactor keeps it.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) source: Rc<dyn Source>,
    pub(crate) origin: Option<&'static Location<'static>>,
    pub(crate) since: Instant,
}

/// A source and the line that asked for it, as shown in reports.
pub(crate) struct Shown<'a>(
    pub(crate) &'a dyn Source,
    pub(crate) Option<&'static Location<'static>>,
);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)?;
        match self.1 {
            Some(origin) => write!(f, ", added at {origin}"),
            None => Ok(()),
        }
    }
}

impl Core {
    pub(crate) fn add_source<S: Source + 'static>(
        &self,
        make: impl FnOnce(Token) -> Rc<S>,
    ) -> Rc<S> {
        let mut made = None;
        self.sources.borrow_mut().insert_with(|token| {
            let source = make(token);
            made = Some(Rc::clone(&source));
            Registered {
                source,
                origin: self.origin.get(),
                since: self.now(),
            }
        });
        made.expect("insert_with calls what it is given")
    }

    /// Puts another source under a token: an attempt becomes a connection.
    pub(crate) fn replace_source(&self, token: Token, source: Rc<dyn Source>) {
        let replaced = self
            .sources
            .borrow_mut()
            .get_mut(token)
            .map(|registered| mem::replace(&mut registered.source, source));
        drop(replaced);
    }

    pub(crate) fn remove_source(&self, token: Token) {
        let removed = self.sources.borrow_mut().remove(token);
        drop(removed);
        // Its descriptor goes with it.
        for port in self.starving.take() {
            self.ready_again(port);
        }
    }

    /// Has a source called in the turn after some other is gone, and its descriptor with it.
    pub(crate) fn ready_with_a_descriptor(&self, token: Token) {
        let mut starving = self.starving.borrow_mut();
        if !starving.contains(&token) {
            starving.push(token);
        }
    }

    pub(crate) fn source(&self, token: Token) -> Option<Rc<dyn Source>> {
        let sources = self.sources.borrow();
        Some(Rc::clone(&sources.get(token)?.source))
    }

    pub(crate) fn source_and_origin(
        &self,
        token: Token,
    ) -> Option<(Rc<dyn Source>, Option<&'static Location<'static>>)> {
        let sources = self.sources.borrow();
        let registered = sources.get(token)?;
        Some((Rc::clone(&registered.source), registered.origin))
    }

    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    pub(crate) fn dispatch(&self, events: &Events) {
        for event in events.iter() {
            self.deliver(event.token, event.change);
        }
        self.stop_watch.count_turn(events.len() as u64);
    }

    /// Tells a source that something changed. Not to be called from inside user code.
    #[inline]
    pub(crate) fn deliver(&self, token: Token, change: impl Into<Change>) {
        let change = change.into();
        self.call_source(token, |source| source.ready(change));
    }

    #[inline]
    pub(crate) fn call_source(&self, token: Token, call: impl FnOnce(Rc<dyn Source>)) {
        // A stale token, of a source that an earlier event removed, finds nobody.
        let Some((source, origin)) = self.source_and_origin(token) else {
            return;
        };
        self.origin.set(origin);
        if self.is_stirred() && self.stop_watch.is_running() {
            return self.call_timed(source, call);
        }
        call(source);
        self.settle();
        self.origin.set(None);
    }

    #[inline(never)]
    fn call_timed(&self, source: Rc<dyn Source>, call: impl FnOnce(Rc<dyn Source>)) {
        // To be named in a report, if there is to be one.
        let (timed, origin) = (Rc::clone(&source), self.origin.get());
        call(source);
        self.settle();
        self.origin.set(None);
        self.lap(&Shown(&*timed, origin));
    }

    pub(crate) fn origin(&self) -> Option<&'static Location<'static>> {
        self.origin.get()
    }

    /// Does `work` on behalf of who is at `origin`: the sources that it registers, and those
    /// that come of their events, show it in reports.
    pub(crate) fn on_behalf_of<T>(
        &self,
        origin: &'static Location<'static>,
        work: impl FnOnce() -> T,
    ) -> T {
        let before = self.origin.replace(Some(origin));
        let _restore = Restore(&self.origin, before);
        work()
    }
}

struct Restore<'a>(
    &'a Cell<Option<&'static Location<'static>>>,
    Option<&'static Location<'static>>,
);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}
