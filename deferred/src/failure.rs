//! The erased error of a chain, and where it arose.

use std::any::{Any, TypeId};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt;
use std::iter;
use std::panic::Location;

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
    Error(Box<dyn Erased>),
}

impl Failure {
    /// Makes a failure of an error, arisen at the caller's line.
    #[track_caller]
    pub fn new<E: Error + 'static>(error: E) -> Self {
        let origin = Location::caller();
        let mut error = Some(error);
        // `Some` above, and taken once in each branch.
        if TypeId::of::<E>() == TypeId::of::<Interrupted>()
            && let Some(interrupted) =
                (&mut error as &mut dyn Any).downcast_mut::<Option<Interrupted>>().and_then(Option::take)
        {
            return Self { cause: Cause::Interrupted(interrupted, origin) };
        }
        let error = error.expect("only an Interrupted is taken out above");
        let backtrace = Backtrace::capture();
        Self { cause: Cause::Error(Box::new(Raised { error, origin, backtrace })) }
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
    /// # Errors
    ///
    /// The failure itself, unchanged, when its error is not an `E`.
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
        if !self.check::<E>() {
            return Err(self);
        }
        match self.cause {
            Cause::Interrupted(interrupted, _) => {
                let mut slot = Some(interrupted);
                let error = (&mut slot as &mut dyn Any).downcast_mut::<Option<E>>().and_then(Option::take);
                Ok(error.expect("check says that E is Interrupted"))
            }
            Cause::Error(raised) => {
                let raised = raised.into_any().downcast::<Raised<E>>();
                Ok(raised.expect("check says that the error is an E").error)
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
        iter::successors(Some(self.error()), |error: &&(dyn Error + 'static)| (*error).source())
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
            Cause::Error(raised) => raised.into_error(),
        }
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

struct Raised<E> {
    error: E,
    origin: &'static Location<'static>,
    backtrace: Backtrace,
}

/// A `Raised<E>` whose `E` is forgotten.
trait Erased {
    fn error(&self) -> &(dyn Error + 'static);
    fn origin(&self) -> &'static Location<'static>;
    fn backtrace(&self) -> Option<&Backtrace>;
    fn into_error(self: Box<Self>) -> Box<dyn Error>;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
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

    fn into_error(self: Box<Self>) -> Box<dyn Error> {
        Box::new(self.error)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
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
        let error = parse("x").unwrap_err().trap::<ParseIntError>().expect("it is a ParseIntError");
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
        assert_eq!(failure.downcast_ref::<Interrupted>(), Some(&Interrupted::Cancelled));
        assert_eq!(failure.trap::<Interrupted>().expect("it is one"), Interrupted::Cancelled);
    }

    #[test]
    fn sources_run_from_the_error_to_its_first_cause() {
        let failure = Failure::from(Unusable("x".parse::<u32>().unwrap_err()));
        let texts: Vec<String> = failure.sources().map(ToString::to_string).collect();
        assert_eq!(texts, ["the settings are unusable", "invalid digit found in string"]);
        assert!(format!("{failure:?}").contains("caused by: invalid digit"));
    }

    #[test]
    fn into_error_keeps_the_type() {
        let error = parse("x").unwrap_err().into_error();
        assert!(error.is::<ParseIntError>());
    }
}
