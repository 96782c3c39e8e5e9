//! The small errors of this crate: why a result never came.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::Location;
use std::time::Duration;

use crate::failure::Failure;

/// Why a Deferred failed although its operation reported no error of its own.
///
/// Every error type of a chain can be made from one (see [`ChainError`]), so
/// that cancelling, timing out and forgetting to fire end in the errback of
/// the chain like any other failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Interrupted {
    /// Somebody called `cancel`, and what was cancelled gave no better answer.
    #[error("cancelled")]
    Cancelled,
    /// A timeout ended the operation after this time.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// Nobody is left who could fire it: its [`Trigger`](crate::Trigger) was
    /// dropped unfired, or it was made to wait for itself.
    #[error("abandoned: nothing is left that could fire the Deferred created at {created}")]
    Abandoned {
        /// Where the Deferred was created.
        created: &'static Location<'static>,
    },
    /// A callback of the chain panicked. The panic hook has run already.
    #[error("a callback panicked: {message}")]
    Panicked {
        /// The panic's message, if it was text.
        message: Box<str>,
    },
}

impl Interrupted {
    /// Describes a caught panic.
    #[must_use]
    pub fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(a payload that is not text)");
        Self::Panicked {
            message: message.into(),
        }
    }

    /// The interruption that `error` is, if it is of a type that one can look into.
    pub(crate) fn seen_in<E: 'static>(error: &E) -> Option<&Self> {
        let error = error as &dyn Any;
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.downcast_ref();
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.get_ref()?.downcast_ref();
        }
        if let Some(error) = error.downcast_ref::<Box<dyn Error>>() {
            return error.downcast_ref();
        }
        if let Some(error) = error.downcast_ref::<Box<dyn Error + Send + Sync>>() {
            return error.downcast_ref();
        }
        error.downcast_ref()
    }
}

/// Keeps the kind where `std::io` has one for it.
impl From<Interrupted> for io::Error {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            // Not `ErrorKind::Interrupted`: std's own loops retry that one.
            Interrupted::TimedOut(_) => Self::new(io::ErrorKind::TimedOut, interrupted),
            _ => Self::other(interrupted),
        }
    }
}

/// What a chain's error type can do: be made from an [`Interrupted`], and be
/// shown in the report of an unhandled failure.
///
/// Implemented for every type that qualifies: [`Failure`](crate::Failure),
/// `Box<dyn Error>`, `std::io::Error`, and your own enums with
/// `impl From<Interrupted>`.
pub trait ChainError: From<Interrupted> + fmt::Display + 'static {}

impl<E: From<Interrupted> + fmt::Display + 'static> ChainError for E {}
