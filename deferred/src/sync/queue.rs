//! Values for whoever asks, or askers for whatever comes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::deferred::{Deferred, IntoDeferred};
use crate::failure::Failure;
use crate::line::Line;

/// A queue between those who put and those who wait to get.
///
/// At any time it holds values, or waiting getters, or nothing. A cheap clone:
/// another handle on the same queue. Twisted's `DeferredQueue`.
///
/// # Examples
///
/// ```
/// use torsade_deferred::{DeferredQueue, Failure};
///
/// let queue = DeferredQueue::with_limits(Some(1), None);
/// queue.put("a")?;
/// assert_eq!(queue.put("b").unwrap_err().value, "b"); // full: the value comes back
/// assert!(queue.get()?.is_fired());
/// # Ok::<(), Failure>(())
/// ```
pub struct DeferredQueue<T: 'static> {
    shelf: Rc<Shelf<T>>,
}

struct Shelf<T: 'static> {
    values: RefCell<VecDeque<T>>,
    getters: Rc<Line<T, Failure>>,
    size: Option<usize>,
    backlog: Option<usize>,
}

impl<T: 'static> DeferredQueue<T> {
    /// A queue without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(None, None)
    }

    /// A queue that stores at most `size` values and lets at most `backlog` getters wait.
    ///
    /// A `size` of 0 lets values through to waiting getters only; a `backlog` of 0 lets
    /// only those get who need not wait.
    #[must_use]
    pub fn with_limits(size: Option<usize>, backlog: Option<usize>) -> Self {
        let shelf = Shelf {
            values: RefCell::default(),
            getters: Line::new(),
            size,
            backlog,
        };
        Self {
            shelf: Rc::new(shelf),
        }
    }

    /// Gives a value to the getter that waits longest, or stores it.
    ///
    /// # Errors
    ///
    /// With the value, when as many are stored as may be.
    pub fn put(&self, value: T) -> Result<(), QueueOverflow<T>> {
        if let Some(getter) = self.shelf.getters.next() {
            getter.fire_soon(Ok(value));
            return Ok(());
        }
        let mut values = self.shelf.values.borrow_mut();
        match self.shelf.size {
            Some(size) if values.len() >= size => Err(QueueOverflow { value, size }),
            _ => {
                values.push_back(value);
                Ok(())
            }
        }
    }

    /// The oldest value, or the next to come.
    ///
    /// # Errors
    ///
    /// When as many wait as may.
    #[track_caller]
    pub fn get(&self) -> Result<Deferred<T>, QueueUnderflow> {
        let value = self.shelf.values.borrow_mut().pop_front();
        if let Some(value) = value {
            return Ok(Ok(value).into_deferred());
        }
        match self.shelf.backlog {
            Some(backlog) if self.shelf.getters.has(backlog) => Err(QueueUnderflow { backlog }),
            _ => Ok(self.shelf.getters.join(Location::caller())),
        }
    }

    /// How many values are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf.values.borrow().len()
    }

    /// Says whether no value is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for a value.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shelf.getters.len()
    }
}

impl<T: 'static> Clone for DeferredQueue<T> {
    fn clone(&self) -> Self {
        Self {
            shelf: Rc::clone(&self.shelf),
        }
    }
}

impl<T: 'static> Default for DeferredQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: 'static> fmt::Debug for DeferredQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DeferredQueue({} stored, {} waiting)",
            self.len(),
            self.waiting()
        )
    }
}

/// A value that found a [`DeferredQueue`] full.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full: it stores at most {size} values")]
pub struct QueueOverflow<T> {
    /// What was to be put.
    pub value: T,
    /// The queue's limit.
    pub size: usize,
}

// By hand, so that values need not be `Debug`.
impl<T> fmt::Debug for QueueOverflow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueOverflow")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Too many wait at a [`DeferredQueue`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wait at the queue: at most {backlog} may")]
pub struct QueueUnderflow {
    /// The queue's limit.
    pub backlog: usize,
}
