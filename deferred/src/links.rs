//! Callbacks that leave a chain's types as they are.
//!
//! A callback that turns a `Deferred<T, E>` into another `Deferred<T, E>` needs no
//! node: it hangs on the node before it, in a list, and its input is handed to it on
//! the stack instead of being stored. Errbacks are always of this kind.
//!
//! # Design
//!
//! The list is linked through the boxes of the callbacks, so that adding one is
//! one allocation, a third of a node in size. What is added goes to the front;
//! it is turned round once, when its turn comes. Measured in `benches/`: a chain of a
//! million takes half the time that it took with a node for each callback.
//!
//! The box of a callback that captures nothing takes no memory; it is only the link that
//! does. So in a long list, as a loop makes it, such callbacks share one: a group. For
//! callbacks that capture, groups were tried, and took longer than links of their own.
//!
//! What a callback returns stays on the stack as a bare result: a Deferred is made of it
//! only where somebody is to hold one.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use crate::chain::{self, Outcome, Output, Returned, Step};
use crate::deferred::Deferred;
use crate::error::{ChainError, Interrupted};
use crate::unhandled::Trail;

/// The callbacks that hang on a node and have not run, in two lists.
pub(crate) struct Links<T, E: ChainError> {
    /// In the order in which they run; all of them before those of `added`.
    ready: Cell<Option<BoxedLink<T, E>>>,
    /// The last one added first.
    added: Cell<Option<BoxedLink<T, E>>>,
    last_added: Cell<Option<&'static Location<'static>>>,
    /// How many more the first of `added` has room for.
    room: Cell<u8>,
    /// How many of `added` capture nothing and are in no group.
    alone: Cell<u8>,
    /// Whether a callback that is added now has its turn here: until the node has its
    /// result, or passes on somebody else's.
    is_open: Cell<bool>,
}

/// How many callbacks without captures have a link of their own before groups are made: a
/// chain of the usual length is not to pay for room that it does not use.
const ALONE: u8 = 8;

/// How many a group holds: with 128 bytes it is of the largest size that the C library's
/// allocator hands out its quick way.
const MEMBERS: u8 = 6;

type BoxedLink<T, E> = Box<dyn HangingLink<T, E>>;
type BoxedMember<T, E> = Box<dyn Member<T, E>>;

/// What became of a node whose callbacks ran.
pub(crate) enum Driven<T, E: ChainError> {
    /// None is left.
    Outcome(Outcome<T, E>),
    /// One returned this, which is pending; the node stands behind it now.
    Waiting(Rc<dyn Output<T, E>>),
}

impl<T: 'static, E: ChainError> Links<T, E> {
    pub(crate) fn new() -> Self {
        Self {
            ready: Cell::new(None),
            added: Cell::new(None),
            last_added: Cell::new(None),
            room: Cell::new(0),
            alone: Cell::new(0),
            is_open: Cell::new(true),
        }
    }

    /// `IT` and `IE` are `T` and `E` by another name: the caller has compared the types.
    #[inline]
    pub(crate) fn push<IT, IE, F>(&self, place: &'static Location<'static>, callback: F)
    where
        IT: 'static,
        IE: ChainError,
        F: FnOnce(Result<IT, IE>) -> Returned<T, E> + 'static,
    {
        self.last_added.set(Some(place));
        let callback = Once {
            callback,
            input: PhantomData,
        };
        if size_of::<F>() == 0 && self.alone.get() == ALONE {
            return self.push_grouped(Box::new(callback));
        }
        if size_of::<F>() == 0 {
            self.alone.set(self.alone.get() + 1);
        } else {
            self.room.set(0);
        }
        let next = self.added.take();
        self.added.set(Some(Box::new(Hanging { callback, next })));
    }

    fn push_grouped(&self, callback: BoxedMember<T, E>) {
        let mut first = self.added.take();
        if let Some(group) = &mut first
            && let Some(room) = self.room.get().checked_sub(1)
        {
            self.room.set(room);
            group.adopt(callback);
        } else {
            self.room.set(MEMBERS - 1);
            let next = first.take();
            let mut group = Group::before(next);
            group.adopt(callback);
            first = Some(Box::new(group));
        }
        self.added.set(first);
    }

    /// What was added, in the order in which it runs.
    fn take_added(&self) -> Option<BoxedLink<T, E>> {
        self.room.set(0);
        self.alone.set(0);
        reversed(self.added.take())
    }

    pub(crate) fn is_empty(&self) -> bool {
        let (ready, added) = (self.ready.take(), self.added.take());
        let is_empty = ready.is_none() && added.is_none();
        self.ready.set(ready);
        self.added.set(added);
        is_empty
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Closes, if nothing hangs here: what comes now goes elsewhere. Says whether it did.
    pub(crate) fn close_if_empty(&self) -> bool {
        if self.is_empty() {
            self.is_open.set(false);
        }
        !self.is_open.get()
    }

    /// `trail`, with where the last of these was added.
    pub(crate) fn trail(&self, trail: Trail) -> Trail {
        self.last_added
            .get()
            .map_or(trail, |place| trail.then(place))
    }

    /// Runs the callbacks one after the other, those included that are added meanwhile,
    /// until none is left or one returns a Deferred that is pending.
    ///
    /// `node` is the one that they hang on, and `first` what the first of them gets.
    pub(crate) fn drive<N>(&self, first: Returned<T, E>, node: &Rc<N>, trail: Trail) -> Driven<T, E>
    where
        N: Step + 'static,
    {
        let mut turn = Turn {
            result: None,
            pending: None,
            rest: List(self.ready.take()),
        };
        turn.settle(first);
        loop {
            if let Some(source) = turn.pending.take() {
                let step = Rc::clone(node) as Rc<dyn Step>;
                if !chain::waits_for(&source, &step) {
                    source.set_next(step);
                    self.ready.set(turn.rest.0.take());
                    self.close_if_empty();
                    return Driven::Waiting(source);
                }
                let created = trail.created;
                turn.result = Some(Err(Interrupted::Abandoned { created }.into()));
            }
            if turn.rest.0.is_none() {
                turn.rest.0 = self.take_added();
            }
            if turn.rest.0.is_none() {
                self.is_open.set(false);
                let result = turn.result.take();
                let result = result.expect("what is not pending has left its result");
                return Driven::Outcome(Outcome::new(result, self.trail(trail)));
            }
            turn.run();
        }
    }
}

/// The callbacks that are ready, while they run.
struct Turn<T, E: ChainError> {
    /// What the next one gets.
    result: Option<Result<T, E>>,
    /// Where it will come from instead.
    pending: Option<Rc<dyn Output<T, E>>>,
    rest: List<T, E>,
}

impl<T: 'static, E: ChainError> Turn<T, E> {
    /// Runs them, until none is left or one returns a Deferred that is pending.
    fn run(&mut self) {
        // One catch for all: a panic in one is rare, what it would cost for each is not.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            while let Some(link) = self.rest.0.take() {
                link.call(self);
                if self.pending.is_some() {
                    return;
                }
            }
        }));
        if let Err(payload) = ran {
            self.result = Some(Err(Interrupted::from_panic(&*payload).into()));
        }
    }

    #[inline]
    fn settle(&mut self, returned: Returned<T, E>) {
        match returned {
            Returned::Result(result) => self.result = Some(result),
            Returned::Deferred(deferred) => self.wait_for(deferred),
        }
    }

    #[cold]
    fn wait_for(&mut self, deferred: Deferred<T, E>) {
        match deferred.into_outcome() {
            Ok(outcome) => self.result = Some(outcome.claim()),
            Err(source) => self.pending = Some(source),
        }
    }
}

/// A list of any length is dropped without recursion.
struct List<T, E: ChainError>(Option<BoxedLink<T, E>>);

impl<T, E: ChainError> Drop for List<T, E> {
    fn drop(&mut self) {
        while let Some(mut link) = self.0.take() {
            self.0 = link.next().take();
        }
    }
}

impl<T, E: ChainError> Drop for Links<T, E> {
    fn drop(&mut self) {
        drop(List(self.ready.take()));
        drop(List(self.added.take()));
    }
}

fn reversed<T, E: ChainError>(mut list: Option<BoxedLink<T, E>>) -> Option<BoxedLink<T, E>> {
    let mut reversed = None;
    while let Some(mut link) = list {
        list = std::mem::replace(link.next(), reversed);
        reversed = Some(link);
    }
    reversed
}

/// A callback in the list, whatever it captured, or a group.
trait HangingLink<T, E: ChainError> {
    fn next(&mut self) -> &mut Option<BoxedLink<T, E>>;

    /// Takes in one more, if it is a group with room.
    fn adopt(&mut self, _: BoxedMember<T, E>) {
        unreachable!("the list knows where there is room")
    }

    /// Calls back with the result of the turn and leaves there what comes of it. What is
    /// behind this one is the rest of the turn then.
    fn call(self: Box<Self>, turn: &mut Turn<T, E>);
}

/// A callback in a group.
trait Member<T, E: ChainError> {
    fn call(self: Box<Self>, turn: &mut Turn<T, E>);
}

/// A callback that takes the result of a chain, whose types it knows by another name.
struct Once<IT, IE, F> {
    callback: F,
    input: PhantomData<fn(IT, IE)>,
}

impl<IT, IE, F> Once<IT, IE, F> {
    #[inline]
    fn call_back<T, E>(self, turn: &mut Turn<T, E>)
    where
        T: 'static,
        E: ChainError,
        IT: 'static,
        IE: ChainError,
        F: FnOnce(Result<IT, IE>) -> Returned<T, E>,
    {
        let input = (&mut turn.result as &mut dyn Any).downcast_mut::<Option<Result<IT, IE>>>();
        if let Some(input) = input.and_then(Option::take) {
            turn.settle((self.callback)(input));
        }
    }
}

impl<T, E, IT, IE, F> Member<T, E> for Once<IT, IE, F>
where
    T: 'static,
    E: ChainError,
    IT: 'static,
    IE: ChainError,
    F: FnOnce(Result<IT, IE>) -> Returned<T, E>,
{
    fn call(self: Box<Self>, turn: &mut Turn<T, E>) {
        self.call_back(turn);
    }
}

/// One that stands alone.
struct Hanging<T, E: ChainError, IT, IE, F> {
    callback: Once<IT, IE, F>,
    next: Option<BoxedLink<T, E>>,
}

impl<T, E, IT, IE, F> HangingLink<T, E> for Hanging<T, E, IT, IE, F>
where
    T: 'static,
    E: ChainError,
    IT: 'static,
    IE: ChainError,
    F: FnOnce(Result<IT, IE>) -> Returned<T, E>,
{
    fn next(&mut self) -> &mut Option<BoxedLink<T, E>> {
        &mut self.next
    }

    fn call(self: Box<Self>, turn: &mut Turn<T, E>) {
        let Self { callback, next } = *self;
        turn.rest.0 = next;
        callback.call_back(turn);
    }
}

/// Callbacks that follow one another and capture nothing.
struct Group<T, E: ChainError> {
    members: [Option<BoxedMember<T, E>>; MEMBERS as usize],
    /// How many of them have run.
    ran: u8,
    len: u8,
    next: Option<BoxedLink<T, E>>,
}

impl<T, E: ChainError> Group<T, E> {
    fn before(next: Option<BoxedLink<T, E>>) -> Self {
        Self {
            members: [const { None }; MEMBERS as usize],
            ran: 0,
            len: 0,
            next,
        }
    }
}

impl<T: 'static, E: ChainError> HangingLink<T, E> for Group<T, E> {
    fn next(&mut self) -> &mut Option<BoxedLink<T, E>> {
        &mut self.next
    }

    fn adopt(&mut self, member: BoxedMember<T, E>) {
        self.members[usize::from(self.len)] = Some(member);
        self.len += 1;
    }

    fn call(mut self: Box<Self>, turn: &mut Turn<T, E>) {
        let member = self.members[usize::from(self.ran)].take();
        self.ran += 1;
        turn.rest.0 = if self.ran < self.len {
            Some(self)
        } else {
            self.next.take()
        };
        if let Some(member) = member {
            member.call(turn);
        }
    }
}
