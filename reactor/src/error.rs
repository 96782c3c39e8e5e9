//! How connections end, and what can go wrong before they begin.

use std::fmt;
use std::io;
use std::time::Duration;

use torsade_deferred::{Failure, Interrupted};

use crate::address::AddressError;

/// Why a connection is no more. Given to `connection_lost`, exactly once.
///
/// A clean end is one of them: see [`is_clean`](ConnectionLost::is_clean).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionLost {
    /// Either side closed it in order; everything that was written has been handed to
    /// the system. TCP cannot tell a peer that was done from one that died and whose system
    /// closed for it: a protocol that must know says so in its bytes. Twisted's
    /// `ConnectionDone`.
    #[error("connection closed cleanly")]
    Done,
    /// `abort_connection` was called here.
    #[error("connection aborted")]
    Aborted,
    /// The peer took longer than a limit allows.
    #[error("connection lost: {waiting_for} took longer than {limit:?}")]
    TimedOut {
        /// What the peer was to do.
        waiting_for: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// More was written than the peer read, up to the limit on unsent bytes.
    #[error("connection lost: more than {limit} bytes unsent, the peer does not read")]
    Overrun {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A file that was being sent ended before the part that was to be sent of it.
    #[error("connection lost: a file ended {missing} bytes before the part to be sent of it")]
    FileTooShort {
        /// How much of the part there was not.
        missing: u64,
    },
    /// The system says that the connection is broken.
    #[error("connection lost: {0}")]
    Io(#[source] io::Error),
    /// A callback of the protocol panicked.
    #[error("connection lost: a callback of its protocol panicked: {message}")]
    Panicked {
        /// The panic's message, if it was text.
        message: Box<str>,
    },
    /// The protocol gave up, with this reason; see `lose_connection_because`.
    #[error("connection lost: {0}")]
    Failed(Failure),
    /// The reactor stopped.
    #[error("connection lost: the reactor stopped")]
    Stopped,
}

impl ConnectionLost {
    /// Whether nothing went wrong: [`Done`](ConnectionLost::Done).
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Done)
    }

    pub(crate) fn panicked(interrupted: &Interrupted) -> Self {
        match interrupted {
            Interrupted::Panicked { message } => Self::Panicked {
                message: message.clone(),
            },
            other => Self::Panicked {
                message: other.to_string().into(),
            },
        }
    }
}

/// What `flush` waited for did not happen: the connection was lost first, for the reason
/// that `connection_lost` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was lost before everything was sent")]
pub struct NotFlushed;

/// Why a port does not listen.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another socket listens there.
    #[error("cannot listen on {address}: address already in use")]
    InUse {
        /// The address, as it was given.
        address: String,
    },
    /// The process may not listen there: a port below 1024, as a rule.
    #[error("cannot listen on {address}: permission denied")]
    NotPermitted {
        /// The address, as it was given.
        address: String,
    },
    /// The name has no address.
    #[error("cannot listen on {address}: unknown host: {source}")]
    UnknownHost {
        /// The address, as it was given.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The text is not an address.
    #[error("cannot listen: {0}")]
    Address(#[from] AddressError),
    /// The system refused for another reason.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address, as it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why the loop does not run.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It runs already: called from inside one of its own callbacks.
    #[error("the reactor is running already")]
    AlreadyRunning,
    /// `stop` or `crash` ended the loop before the result came.
    #[error("the reactor stopped before the result came")]
    Stopped,
    /// It was made in another process, of which this one is a fork. What it waits with and
    /// what it drives are the parent's, and stay so: here it does not run, watches are neither
    /// begun, changed nor ended, and dropping it lets go of nothing. Make a reactor of this
    /// process's own; or fork first, and make the reactor then.
    ///
    /// Signals that the parent's reactor has watchers for, or is stopped by, do nothing here.
    #[error("the reactor was made before a fork, in another process")]
    Forked,
    /// The system could not wait.
    #[error("the reactor cannot wait for events: {0}")]
    Io(#[from] io::Error),
}

impl From<RunError> for io::Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Io(error) => error,
            other => Self::other(other),
        }
    }
}

/// The text, as for `Display`: it is what a `main` that returns the error prints.
macro_rules! debug_as_display {
    ($($error:ty),*) => {$(
        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

debug_as_display!(AddressError, ListenError, RunError);
