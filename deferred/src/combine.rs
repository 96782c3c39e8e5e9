//! One Deferred of many: all of them, or the first.
//!
//! Written with the public methods of Deferreds alone, so that what is here can be
//! done anywhere.
//!
//! # Order
//!
//! Values come in the order of the inputs, whatever the order in which they fired.
//! A result runs its callbacks when the input's chain that completed it has come to
//! its end, before the call that fired that one returns.
//!
//! # Cancellation
//!
//! Cancelling a result cancels the inputs that are left, and the result is what
//! follows from their answers. That they were cancelled is reported of none of them. Nothing here waits for ever: empty inputs give an
//! empty list, or fail where there is nobody to win.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::mem;
use std::rc::Rc;

use crate::deferred::{Canceller, Deferred};
use crate::error::{ChainError, Interrupted};
use crate::failure::Failure;
use crate::trigger::Trigger;

/// The values of all inputs, or the first failure.
///
/// The other inputs go on after a failure; a failure among them is then reported as
/// unhandled, for nobody else will hear of it. Twisted's `gatherResults`.
///
/// # Errors
///
/// [`FirstError`], made into the chain's error type.
///
/// # Examples
///
/// ```
/// use torsade_deferred::{Deferred, Failure, FirstError, gather_results};
///
/// let (first_trigger, first) = Deferred::<u32>::new();
/// let (second_trigger, second) = Deferred::<u32>::new();
/// let both = gather_results([first, second]);
/// second_trigger.callback(2);
/// first_trigger.callback(1);
/// assert!(matches!(both.into_result(), Ok(Ok(values)) if values == [1, 2]));
/// ```
#[track_caller]
pub fn gather_results<T, E>(inputs: impl IntoIterator<Item = Deferred<T, E>>) -> Deferred<Vec<T>, E>
where
    T: 'static,
    E: ChainError + From<FirstError<E>>,
{
    gather(inputs, OnFailure::GoOn)
}

/// Like [`gather_results`], and cancels the inputs that are left at the first failure.
///
/// Their answers go nowhere, quietly.
#[track_caller]
pub fn gather_results_or_cancel<T, E>(
    inputs: impl IntoIterator<Item = Deferred<T, E>>,
) -> Deferred<Vec<T>, E>
where
    T: 'static,
    E: ChainError + From<FirstError<E>>,
{
    gather(inputs, OnFailure::CancelRest)
}

#[track_caller]
fn gather<T, E>(
    inputs: impl IntoIterator<Item = Deferred<T, E>>,
    on_failure: OnFailure,
) -> Deferred<Vec<T>, E>
where
    T: 'static,
    E: ChainError + From<FirstError<E>>,
{
    let inputs: Vec<_> = inputs.into_iter().collect();
    let (trigger, result) = Deferred::new();
    if inputs.is_empty() {
        trigger.callback(Vec::new());
        return result;
    }
    let rest = Rest::of(&inputs);
    rest.forward_from(&trigger);
    let values = RefCell::new(inputs.iter().map(|_| None).collect());
    let gathering = Rc::new(Gathering {
        values,
        left: Cell::new(inputs.len()),
        end: End::new(trigger),
    });
    for (index, input) in inputs.into_iter().enumerate() {
        let (gathering, rest) = (Rc::clone(&gathering), rest.clone());
        drop(input.add_both(move |result| match result {
            Ok(value) => {
                gathering.arrived(index, value);
                Ok(())
            }
            Err(error) => gathering.end.failed(index, error, on_failure, &rest),
        }));
    }
    result
}

#[derive(Clone, Copy)]
enum OnFailure {
    GoOn,
    CancelRest,
}

struct Gathering<T: 'static, E: ChainError> {
    values: RefCell<Vec<Option<T>>>,
    left: Cell<usize>,
    end: End<Vec<T>, E>,
}

impl<T: 'static, E: ChainError> Gathering<T, E> {
    fn arrived(&self, index: usize, value: T) {
        self.values.borrow_mut()[index] = Some(value);
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            // All there, unless one failed; then it was that one who fired.
            let values = self.values.take().into_iter().collect();
            self.end.fire_if(values);
        }
    }
}

/// The values of Deferreds of different types, or the first failure.
///
/// Otherwise like [`gather_results`].
///
/// # Examples
///
/// ```
/// use torsade_deferred::{Deferred, Failure, gather_tuple, succeed};
///
/// let (trigger, name) = Deferred::<&str>::new();
/// let age: Deferred<u8> = succeed(30);
/// let text = gather_tuple((name, age)).map(|(name, age)| format!("{name}, {age}"));
/// trigger.callback("Ann");
/// assert!(matches!(text.into_result(), Ok(Ok(text)) if text == "Ann, 30"));
/// ```
#[track_caller]
pub fn gather_tuple<G, E>(inputs: G) -> Deferred<G::Values, E>
where
    G: Gather<E>,
    E: ChainError + From<FirstError<E>>,
{
    inputs.gather()
}

/// A tuple of Deferreds; see [`gather_tuple`].
///
/// Implemented for two to eight of them.
pub trait Gather<E: ChainError + From<FirstError<E>>> {
    /// The tuple of their values.
    type Values: 'static;

    /// Does what [`gather_tuple`] does.
    fn gather(self) -> Deferred<Self::Values, E>;
}

macro_rules! gather_tuples {
    ($($deferred:ident $value:ident $index:tt),+) => {
        impl<$($value: 'static,)+ E: ChainError + From<FirstError<E>>> Gather<E>
            for ($(Deferred<$value, E>,)+)
        {
            type Values = ($($value,)+);

            #[track_caller]
            fn gather(self) -> Deferred<Self::Values, E> {
                let ($($deferred,)+) = self;
                let rest = Rest::new(vec![$($deferred.canceller()),+]);
                let (trigger, result) = Deferred::new();
                rest.forward_from(&trigger);
                let end = Rc::new(End::new(trigger));
                let values = Rc::new(($(Cell::new(None::<$value>),)+));
                let (all, last) = (Rc::clone(&values), Rc::clone(&end));
                let look = Rc::new(move || match ($(all.$index.take(),)+) {
                    ($(Some($deferred),)+) => last.fire_if(Some(($($deferred,)+))),
                    // Some are there: put them back.
                    ($($deferred,)+) => {
                        $(all.$index.set($deferred);)+
                    }
                });
                $({
                    let (values, look) = (Rc::clone(&values), Rc::clone(&look));
                    let (end, rest) = (Rc::clone(&end), rest.clone());
                    drop($deferred.add_both(move |result| match result {
                        Ok(value) => {
                            values.$index.set(Some(value));
                            look();
                            Ok(())
                        }
                        Err(error) => end.failed($index, error, OnFailure::GoOn, &rest),
                    }));
                })+
                result
            }
        }
    };
}

gather_tuples!(a A 0, b B 1);
gather_tuples!(a A 0, b B 1, c C 2);
gather_tuples!(a A 0, b B 1, c C 2, d D 3);
gather_tuples!(a A 0, b B 1, c C 2, d D 3, e F 4);
gather_tuples!(a A 0, b B 1, c C 2, d D 3, e F 4, f G 5);
gather_tuples!(a A 0, b B 1, c C 2, d D 3, e F 4, f G 5, g H 6);
gather_tuples!(a A 0, b B 1, c C 2, d D 3, e F 4, f G 5, g H 6, h I 7);

/// When a [`deferred_list`] fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FireOn {
    /// When all inputs have fired.
    #[default]
    All,
    /// At the first value, else when all have failed: Twisted's `fireOnOneCallback`.
    FirstValue,
    /// At the first failure, else when all have their values: `fireOnOneErrback`.
    FirstFailure,
}

/// What a [`deferred_list`] fires with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListResult<T, E> {
    /// The results of all inputs, in their order.
    All(Vec<Result<T, E>>),
    /// The first value, with [`FireOn::FirstValue`].
    First {
        /// Which input it came from.
        index: usize,
        /// The value.
        value: T,
    },
}

impl<T, E> ListResult<T, E> {
    /// The results of all inputs, if it was them that the list waited for.
    #[must_use]
    pub fn all(self) -> Option<Vec<Result<T, E>>> {
        match self {
            Self::All(results) => Some(results),
            Self::First { .. } => None,
        }
    }
}

/// The results of all inputs, values and failures, in the order of the inputs.
///
/// Failures count as handled here: they are in the list (Twisted's `consumeErrors`,
/// for the inputs are moved in and have no other reader). When the list fires early, the
/// inputs that are left go on; a failure of theirs is reported as unhandled. Twisted's
/// `DeferredList`.
///
/// # Errors
///
/// With [`FireOn::FirstFailure`]: [`FirstError`], made into the chain's error type.
#[track_caller]
pub fn deferred_list<T, E>(
    inputs: impl IntoIterator<Item = Deferred<T, E>>,
    fire_on: FireOn,
) -> Deferred<ListResult<T, E>, E>
where
    T: 'static,
    E: ChainError + From<FirstError<E>>,
{
    let inputs: Vec<_> = inputs.into_iter().collect();
    let (trigger, result) = Deferred::new();
    if inputs.is_empty() {
        trigger.callback(ListResult::All(Vec::new()));
        return result;
    }
    let rest = Rest::of(&inputs);
    rest.forward_from(&trigger);
    let results = RefCell::new(inputs.iter().map(|_| None).collect());
    let list = Rc::new(List {
        results,
        left: Cell::new(inputs.len()),
        fire_on,
        rest,
        end: End::new(trigger),
    });
    for (index, input) in inputs.into_iter().enumerate() {
        let list = Rc::clone(&list);
        drop(input.add_both(move |result| list.arrived(index, result)));
    }
    result
}

struct List<T: 'static, E: ChainError> {
    results: RefCell<Vec<Option<Result<T, E>>>>,
    left: Cell<usize>,
    fire_on: FireOn,
    rest: Rest,
    end: End<ListResult<T, E>, E>,
}

impl<T: 'static, E: ChainError + From<FirstError<E>>> List<T, E> {
    fn arrived(&self, index: usize, result: Result<T, E>) -> Result<(), E> {
        self.left.set(self.left.get() - 1);
        match (result, self.fire_on) {
            (Ok(value), FireOn::FirstValue) => {
                self.end.fire_if(Some(ListResult::First { index, value }));
                // Those who failed before lost; that is known now.
                drop(self.results.take());
            }
            (Err(error), FireOn::FirstFailure) => {
                return self.end.failed(index, error, OnFailure::GoOn, &self.rest);
            }
            (Err(error), FireOn::FirstValue) if self.end.is_over() => {
                if !self.rest.asked_for(&error) {
                    return Err(error);
                }
            }
            (result, _) => {
                if let Some(place) = self.results.borrow_mut().get_mut(index) {
                    *place = Some(result);
                }
                if self.left.get() == 0 {
                    let results = self.results.take().into_iter().collect::<Option<_>>();
                    self.end.fire_if(results.map(ListResult::All));
                }
            }
        }
        Ok(())
    }
}

/// The first value, with the index of its input; the losers are cancelled.
///
/// What becomes of a loser goes nowhere, quietly: that is what losing means. Twisted's
/// `race`.
///
/// # Errors
///
/// [`FailureGroup`] with all failures, when all inputs fail; at once when there are none.
#[track_caller]
pub fn race<T, E>(inputs: impl IntoIterator<Item = Deferred<T, E>>) -> Deferred<(usize, T), E>
where
    T: 'static,
    E: ChainError + From<FailureGroup<E>>,
{
    first_value(inputs, Losers::Cancelled)
}

/// The first value, with the index of its input; the others go on unheard.
///
/// # Errors
///
/// [`FailureGroup`] with all failures, when all inputs fail; at once when there are none.
#[track_caller]
pub fn any<T, E>(inputs: impl IntoIterator<Item = Deferred<T, E>>) -> Deferred<(usize, T), E>
where
    T: 'static,
    E: ChainError + From<FailureGroup<E>>,
{
    first_value(inputs, Losers::GoOn)
}

#[derive(Clone, Copy)]
enum Losers {
    Cancelled,
    GoOn,
}

#[track_caller]
fn first_value<T, E>(
    inputs: impl IntoIterator<Item = Deferred<T, E>>,
    losers: Losers,
) -> Deferred<(usize, T), E>
where
    T: 'static,
    E: ChainError + From<FailureGroup<E>>,
{
    let inputs: Vec<_> = inputs.into_iter().collect();
    let (trigger, result) = Deferred::new();
    if inputs.is_empty() {
        trigger.errback(FailureGroup::new(Vec::new()));
        return result;
    }
    let rest = Rest::of(&inputs);
    rest.forward_from(&trigger);
    let failures = RefCell::new(inputs.iter().map(|_| None).collect());
    let race = Rc::new(Race {
        failures,
        left: Cell::new(inputs.len()),
        end: End::new(trigger),
    });
    for (index, input) in inputs.into_iter().enumerate() {
        let (race, rest) = (Rc::clone(&race), rest.clone());
        drop(input.add_both(move |result| match result {
            Ok(value) => race.won(index, value, losers, &rest),
            Err(error) => race.lost(index, error),
        }));
    }
    result
}

struct Race<T: 'static, E: ChainError> {
    failures: RefCell<Vec<Option<E>>>,
    left: Cell<usize>,
    end: End<(usize, T), E>,
}

impl<T: 'static, E: ChainError + From<FailureGroup<E>>> Race<T, E> {
    fn won(&self, index: usize, value: T, losers: Losers, rest: &Rest) {
        self.left.set(self.left.get() - 1);
        if self.end.is_over() {
            return;
        }
        self.end.fire_if(Some((index, value)));
        drop(self.failures.take());
        match losers {
            Losers::Cancelled => rest.cancel(),
            Losers::GoOn => rest.forget(),
        }
    }

    fn lost(&self, index: usize, error: E) {
        self.left.set(self.left.get() - 1);
        if self.end.is_over() {
            return;
        }
        self.failures.borrow_mut()[index] = Some(error);
        if self.left.get() == 0 {
            let failures = self
                .failures
                .take()
                .into_iter()
                .flatten()
                .enumerate()
                .collect();
            self.end.fire(Err(FailureGroup::new(failures).into()));
        }
    }
}

/// The trigger of a result, until it is fired.
struct End<T: 'static, E: ChainError> {
    trigger: Cell<Option<Trigger<T, E>>>,
}

impl<T: 'static, E: ChainError> End<T, E> {
    fn new(trigger: Trigger<T, E>) -> Self {
        Self {
            trigger: Cell::new(Some(trigger)),
        }
    }

    fn is_over(&self) -> bool {
        let trigger = self.trigger.take();
        let is_over = trigger.is_none();
        self.trigger.set(trigger);
        is_over
    }

    fn fire(&self, result: Result<T, E>) {
        if let Some(trigger) = self.trigger.take() {
            trigger.fire_soon(result);
        }
    }

    fn fire_if(&self, value: Option<T>) {
        if let Some(value) = value {
            self.fire(Ok(value));
        }
    }

    /// Fires with the first failure. A further one comes back, to be reported, unless
    /// the rest was cancelled, or the result was, and so it was asked for.
    fn failed(&self, index: usize, error: E, on_failure: OnFailure, rest: &Rest) -> Result<(), E>
    where
        E: From<FirstError<E>>,
    {
        match (self.is_over(), on_failure) {
            (false, OnFailure::GoOn) => self.fire(Err(FirstError { index, error }.into())),
            (false, OnFailure::CancelRest) => {
                self.fire(Err(FirstError { index, error }.into()));
                rest.cancel();
            }
            (true, OnFailure::GoOn) if !rest.asked_for(&error) => return Err(error),
            (true, OnFailure::GoOn | OnFailure::CancelRest) => {}
        }
        Ok(())
    }
}

/// The inputs of a result, to be cancelled.
#[derive(Clone)]
struct Rest {
    inputs: Rc<Inputs>,
}

struct Inputs {
    cancellers: RefCell<Vec<Canceller>>,
    is_cancelled: Cell<bool>,
}

impl Rest {
    fn new(cancellers: Vec<Canceller>) -> Self {
        Self {
            inputs: Rc::new(Inputs {
                cancellers: RefCell::new(cancellers),
                is_cancelled: Cell::new(false),
            }),
        }
    }

    fn of<T: 'static, E: ChainError>(inputs: &[Deferred<T, E>]) -> Self {
        Self::new(inputs.iter().map(Deferred::canceller).collect())
    }

    fn forward_from<T: 'static, E: ChainError>(&self, trigger: &Trigger<T, E>) {
        let rest = self.clone();
        trigger.forward_cancel(move || rest.cancel());
    }

    /// Cancels all that are pending, and keeps those that still are: they may be
    /// cancelled again.
    fn cancel(&self) {
        self.inputs.is_cancelled.set(true);
        // Detach, then call: an answer may end the race and come back here.
        let mut cancellers = mem::take(&mut *self.inputs.cancellers.borrow_mut());
        for canceller in &cancellers {
            canceller.cancel();
        }
        cancellers.retain(Canceller::is_pending);
        self.inputs.cancellers.borrow_mut().append(&mut cancellers);
    }

    /// Whether this failure is what the cancellation was for, where the error type lets that
    /// be seen.
    fn asked_for<E: ChainError>(&self, error: &E) -> bool {
        self.inputs.is_cancelled.get()
            && Interrupted::seen_in(error) == Some(&Interrupted::Cancelled)
    }

    fn forget(&self) {
        self.inputs.cancellers.take();
    }
}

/// The failure that ended a gathering, and whose it was. Twisted's `FirstError`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstError<E> {
    /// Which input failed.
    pub index: usize,
    /// Its failure.
    pub error: E,
}

impl<E: fmt::Display> fmt::Display for FirstError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {} failed: {}", self.index, self.error)
    }
}

impl<E: fmt::Debug + fmt::Display + 'static> Error for FirstError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        source_of(&self.error)
    }
}

/// The failures of several operations, and whose they were. Twisted's
/// `FailureGroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureGroup<E> {
    failures: Vec<(usize, E)>,
}

impl<E> FailureGroup<E> {
    pub(crate) fn new(failures: Vec<(usize, E)>) -> Self {
        Self { failures }
    }

    /// Each failure with the index of its operation: of [`race`] and [`any`] in the order
    /// of the inputs, of a [`TaskGroup`](crate::TaskGroup) in the order in which they
    /// happened.
    #[must_use]
    pub fn failures(&self) -> &[(usize, E)] {
        &self.failures
    }

    /// The failures themselves.
    #[must_use]
    pub fn into_failures(self) -> Vec<(usize, E)> {
        self.failures
    }
}

impl<E: fmt::Display> fmt::Display for FailureGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failures.as_slice() {
            [] => f.write_str("there was nothing to succeed"),
            [(index, error)] => write!(f, "operation {index} failed: {error}"),
            [(index, error), rest @ ..] => {
                write!(
                    f,
                    "operation {index} failed: {error} (and {} more)",
                    rest.len()
                )
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display + 'static> Error for FailureGroup<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures
            .first()
            .and_then(|(_, error)| source_of(error))
    }
}

/// An error type of a chain need not be a `std::error::Error`; these can be shown as one.
fn source_of<E: 'static>(error: &E) -> Option<&(dyn Error + 'static)> {
    let error = error as &dyn Any;
    match error.downcast_ref::<Failure>() {
        Some(failure) => Some(failure.error()),
        None => error
            .downcast_ref::<Interrupted>()
            .map(|error| error as &(dyn Error + 'static)),
    }
}
