//! The erased error of a chain, and where it arose.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::iter;
use std::panic::Location;
use std::rc::Rc;

use crate::error::Interrupted;

/// Any error, with the place where it became a failure.
///
/// The default error type of a [`Deferred`](crate::Deferred). `?` makes one
/// from every [`std::error::Error`], remembering the line of the `?`; `trap`
/// takes the typed error out again. A backtrace is kept where the environment
/// asks for one (`RUST_LIB_BACKTRACE` or `RUST_BACKTRACE`).
///
/// Like `anyhow::Error`, a `Failure` is not itself a `std::error::Error`, for
/// otherwise `?` could not convert every error into it. Twisted's
/// `twisted.python.failure.Failure`.
///
/// # Examples
///
/// ```
/// use torsade_deferred::Failure;
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     Ok(text.parse()?)
/// }
///
/// let failure = parse("forty-two").unwrap_err();
/// assert!(failure.check::<std::num::ParseIntError>());
/// assert_eq!(failure.to_string(), "invalid digit found in string");
/// ```
pub struct Failure {
    cause: Cause,
}

// An `Interrupted` is kept inline, so that cancelling allocates nothing.
enum Cause {
    Interrupted(Interrupted, &'static Location<'static>),
    Error(Rc<dyn Erased>),
}

impl Failure {
    /// Makes a failure of an error, arisen at the caller's line.
    #[track_caller]
    pub fn new<E: Error + 'static>(error: E) -> Self {
        let origin = Location::caller();
        let cause = match into_type::<E, Interrupted>(error) {
            Ok(interrupted) => Cause::Interrupted(interrupted, origin),
            Err(error) => {
                let (backtrace, shared) = (Backtrace::capture(), Cell::new(false));
                Cause::Error(Rc::new(Raised {
                    error,
                    origin,
                    backtrace,
                    shared,
                }))
            }
        };
        Self { cause }
    }

    /// Makes a failure that is only a message.
    #[track_caller]
    pub fn message(text: impl Into<String>) -> Self {
        Self::new(Message(text.into()))
    }

    /// Says whether the error is an `E`.
    #[must_use]
    pub fn check<E: Error + 'static>(&self) -> bool {
        self.error().is::<E>()
    }

    /// Takes the error out if it is an `E`; otherwise gives the failure back,
    /// so that `?` passes it on to the next errback.
    ///
    /// The error of a failure that was [cloned](Clone), as [`share`](crate::Deferred::share)
    /// does, belongs to several and cannot be taken: look at it with
    /// [`check`](Failure::check) and [`downcast_ref`](Failure::downcast_ref).
    ///
    /// # Errors
    ///
    /// The failure itself, unchanged, when its error is not an `E`, or is shared.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_deferred::{Deferred, Failure, fail};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("no such row")]
    /// struct NotFound;
    ///
    /// let lookup: Deferred<u32> = fail(NotFound);
    /// let row = lookup.add_errback(|failure| failure.trap::<NotFound>().map(|NotFound| 0));
    /// assert!(matches!(row.into_result(), Ok(Ok(0))));
    /// ```
    pub fn trap<E: Error + 'static>(self) -> Result<E, Self> {
        match self.cause {
            Cause::Interrupted(interrupted, origin) => {
                into_type(interrupted).map_err(|interrupted| Self {
                    cause: Cause::Interrupted(interrupted, origin),
                })
            }
            Cause::Error(raised) if !raised.error().is::<E>() || raised.is_shared() => Err(Self {
                cause: Cause::Error(raised),
            }),
            Cause::Error(raised) => {
                let whole = raised
                    .into_any()
                    .downcast::<Raised<E>>()
                    .ok()
                    .and_then(Rc::into_inner);
                Ok(whole
                    .unwrap_or_else(|| unreachable!("an error of type E, and not shared"))
                    .error)
            }
        }
    }

    /// The error if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.error().downcast_ref()
    }

    /// The error itself.
    #[must_use]
    pub fn error(&self) -> &(dyn Error + 'static) {
        match &self.cause {
            Cause::Interrupted(interrupted, _) => interrupted,
            Cause::Error(raised) => raised.error(),
        }
    }

    /// The error and what caused it, outermost first.
    pub fn sources(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        iter::successors(Some(self.error()), |error: &&(dyn Error + 'static)| {
            (*error).source()
        })
    }

    /// Where the error became a failure: the line of the `?`, or of
    /// [`Failure::new`].
    #[must_use]
    pub fn origin(&self) -> &'static Location<'static> {
        match &self.cause {
            Cause::Interrupted(_, origin) => origin,
            Cause::Error(raised) => raised.origin(),
        }
    }

    /// The backtrace of the origin, if the environment asked for one.
    #[must_use]
    pub fn backtrace(&self) -> Option<&Backtrace> {
        match &self.cause {
            Cause::Interrupted(..) => None,
            Cause::Error(raised) => raised.backtrace(),
        }
    }

    /// The error alone, for code that speaks `Box<dyn Error>`.
    #[must_use]
    pub fn into_error(self) -> Box<dyn Error> {
        match self.cause {
            Cause::Interrupted(interrupted, _) => Box::new(interrupted),
            Cause::Error(raised) if raised.is_shared() => Box::new(Shared(raised)),
            Cause::Error(raised) => raised.into_error(),
        }
    }
}

/// The same failure for another: both hold the one error.
impl Clone for Failure {
    fn clone(&self) -> Self {
        let cause = match &self.cause {
            Cause::Interrupted(interrupted, origin) => {
                Cause::Interrupted(interrupted.clone(), origin)
            }
            Cause::Error(raised) => {
                raised.share();
                Cause::Error(Rc::clone(raised))
            }
        };
        Self { cause }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl From<Failure> for Box<dyn Error> {
    fn from(failure: Failure) -> Self {
        failure.into_error()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, at {}", self.origin())?;
        for source in self.sources().skip(1) {
            write!(f, "\n  caused by: {source}")?;
        }
        if let Some(backtrace) = self.backtrace() {
            write!(f, "\n{backtrace}")?;
        }
        Ok(())
    }
}

/// The error of [`Failure::message`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Message(String);

/// An error that several hold, as one that can be boxed.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.error())]
struct Shared(Rc<dyn Erased>);

struct Raised<E> {
    error: E,
    origin: &'static Location<'static>,
    backtrace: Backtrace,
    /// Once cloned, the error can never be taken: not by whom is left in the end
    /// either, for that would depend on the order of drops.
    shared: Cell<bool>,
}

/// A `Raised<E>` whose `E` is forgotten.
trait Erased {
    fn error(&self) -> &(dyn Error + 'static);
    fn origin(&self) -> &'static Location<'static>;
    fn backtrace(&self) -> Option<&Backtrace>;
    fn share(&self);
    fn is_shared(&self) -> bool;
    fn into_error(self: Rc<Self>) -> Box<dyn Error>;
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
}

impl fmt::Debug for dyn Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.error(), f)
    }
}

impl<E: Error + 'static> Erased for Raised<E> {
    fn error(&self) -> &(dyn Error + 'static) {
        &self.error
    }

    fn origin(&self) -> &'static Location<'static> {
        self.origin
    }

    fn backtrace(&self) -> Option<&Backtrace> {
        (self.backtrace.status() == BacktraceStatus::Captured).then_some(&self.backtrace)
    }

    fn share(&self) {
        self.shared.set(true);
    }

    fn is_shared(&self) -> bool {
        self.shared.get()
    }

    fn into_error(self: Rc<Self>) -> Box<dyn Error> {
        match Rc::try_unwrap(self) {
            Ok(raised) => Box::new(raised.error),
            Err(raised) => Box::new(Shared(raised)),
        }
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

/// Gives a value its type back, if it is this one.
pub(crate) fn into_type<From: 'static, To: 'static>(value: From) -> Result<To, From> {
    let mut value = Some(value);
    if let Some(value) = (&mut value as &mut dyn Any)
        .downcast_mut::<Option<To>>()
        .and_then(Option::take)
    {
        return Ok(value);
    }
    match value {
        Some(value) => Err(value),
        None => unreachable!("it is only taken where this returns"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::ParseIntError;

    use super::*;

    fn parse(text: &str) -> Result<u32, Failure> {
        Ok(text.parse()?)
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the settings are unusable")]
    struct Unusable(#[source] ParseIntError);

    #[test]
    fn question_mark_remembers_its_own_line() {
        let failure = parse("x").unwrap_err();
        assert!(failure.origin().file().ends_with("failure.rs"));
        assert_eq!(failure.origin().line(), line!() - 11);
    }

    #[test]
    fn trap_takes_the_typed_error_out() {
        let error = parse("x")
            .unwrap_err()
            .trap::<ParseIntError>()
            .expect("it is a ParseIntError");
        assert_eq!(error, "x".parse::<u32>().unwrap_err());
    }

    #[test]
    fn trap_of_another_type_gives_the_failure_back() {
        let failure = parse("x").unwrap_err().trap::<fmt::Error>().unwrap_err();
        assert!(failure.check::<ParseIntError>());
    }

    #[test]
    fn an_interruption_is_trapped_like_any_other_error() {
        let failure = Failure::from(Interrupted::Cancelled);
        assert_eq!(
            failure.downcast_ref::<Interrupted>(),
            Some(&Interrupted::Cancelled)
        );
        assert_eq!(
            failure.trap::<Interrupted>().expect("it is one"),
            Interrupted::Cancelled
        );
    }

    #[test]
    fn sources_run_from_the_error_to_its_first_cause() {
        let failure = Failure::from(Unusable("x".parse::<u32>().unwrap_err()));
        let texts: Vec<String> = failure.sources().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["the settings are unusable", "invalid digit found in string"]
        );
        assert!(format!("{failure:?}").contains("caused by: invalid digit"));
    }

    #[test]
    fn a_shared_error_is_looked_at_and_never_taken() {
        let failure = parse("x").unwrap_err();
        let copy = failure.clone();
        assert!(copy.check::<ParseIntError>());
        assert!(copy.trap::<ParseIntError>().is_err());
        let failure = failure.trap::<ParseIntError>().unwrap_err();
        assert_eq!(
            failure.into_error().to_string(),
            "invalid digit found in string"
        );
    }

    #[test]
    fn into_error_keeps_the_type() {
        let error = parse("x").unwrap_err().into_error();
        assert!(error.is::<ParseIntError>());
    }
}
