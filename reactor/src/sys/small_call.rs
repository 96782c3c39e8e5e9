//! A call with what it has captured, without an allocation if that is little.
//!
//! A `Box<dyn FnOnce>` is an allocation for each call that captures anything. Most capture a
//! handle and a number: a [`SmallCall`] keeps up to so many words in itself, and boxes what is
//! larger. Where a call is made on one thread and dropped on another, the allocator
//! was most of what it cost.
//!
//! # Soundness
//!
//! The closure's type is forgotten, and known again to the two functions of its [`Table`]. It lies
//! in `space` from `keep` until `call` or the drop takes it out, whichever comes; `call` takes
//! the whole `SmallCall`, whose drop then does not run. To move a `SmallCall` is to move the
//! closure, as any value may be moved.

use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};

use crate::reactor::Reactor;

/// What is kept in place.
type Space<const WORDS: usize> = MaybeUninit<[usize; WORDS]>;

/// An `FnOnce(&A)`, and no more than that: neither `Send` nor `Sync`, whatever it is.
pub(crate) struct SmallCall<A: 'static, const WORDS: usize> {
    /// Holds the closure that `table` is of.
    space: Space<WORDS>,
    table: &'static Table<A, WORDS>,
    not_send: PhantomData<*mut ()>,
}

/// What is done with closures of one type.
struct Table<A, const WORDS: usize> {
    /// Takes the closure out of the space and calls it.
    call: unsafe fn(*mut Space<WORDS>, &A),
    /// Takes the closure out of the space and drops it.
    drop: unsafe fn(*mut Space<WORDS>),
}

impl<A, const WORDS: usize> SmallCall<A, WORDS> {
    #[inline]
    pub(crate) fn new<F: FnOnce(&A) + 'static>(call: F) -> Self {
        if fits::<F, WORDS>() {
            Self::keep(call)
        } else {
            Self::keep(Box::new(call))
        }
    }

    #[inline]
    fn keep<F: FnOnce(&A) + 'static>(call: F) -> Self {
        assert!(
            fits::<F, WORDS>(),
            "what is larger is boxed, and a box fits"
        );
        let mut space = Space::<WORDS>::uninit();
        // SAFETY: `F` is neither larger than the space nor of a stricter alignment, as was
        // just seen, and nothing else refers to the space.
        unsafe { space.as_mut_ptr().cast::<F>().write(call) };
        Self {
            space,
            table: Of::<F, A, WORDS>::TABLE,
            not_send: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn call(self, argument: &A) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the table is that of the closure in the space, which nobody has taken out: only
        // this and the drop do, and `ManuallyDrop` keeps that from running.
        unsafe { (this.table.call)(&raw mut this.space, argument) }
    }
}

impl<A, const WORDS: usize> Drop for SmallCall<A, WORDS> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as for `call`, where this does not run.
        unsafe { (self.table.drop)(&raw mut self.space) }
    }
}

const fn fits<F, const WORDS: usize>() -> bool {
    let (size, align) = (size_of::<Space<WORDS>>(), align_of::<Space<WORDS>>());
    size_of::<F>() <= size && align_of::<F>() <= align
}

/// Makes the table of a type.
struct Of<F, A, const WORDS: usize>(PhantomData<(F, A)>);

impl<F: FnOnce(&A) + 'static, A: 'static, const WORDS: usize> Of<F, A, WORDS> {
    const TABLE: &'static Table<A, WORDS> = &Table {
        call: Self::call,
        drop: Self::drop,
    };

    /// # Safety
    ///
    /// An `F` lies in the space, and is not taken out again.
    unsafe fn call(space: *mut Space<WORDS>, argument: &A) {
        // SAFETY: the caller's promise. From here on it is this function's, a panic included.
        let call = unsafe { space.cast::<F>().read() };
        call(argument);
    }

    /// # Safety
    ///
    /// As for `call`.
    unsafe fn drop(space: *mut Space<WORDS>) {
        // SAFETY: the caller's promise.
        drop(unsafe { space.cast::<F>().read() });
    }
}

/// A call for the reactor, from any thread.
pub(crate) struct SendCall(SmallCall<Reactor, 3>);

// SAFETY: what is in it is `Send`, as its one constructor demands, and nothing else of it is
// bound to a thread.
unsafe impl Send for SendCall {}

impl SendCall {
    #[inline]
    pub(crate) fn new(call: impl FnOnce(&Reactor) + Send + 'static) -> Self {
        Self(SmallCall::new(call))
    }

    #[inline]
    pub(crate) fn call(self, reactor: &Reactor) {
        self.0.call(reactor);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;

    /// Calls and drops a call that captures an `Rc` and `ballast`, and says what became of
    /// the `Rc`.
    fn look_at<T: 'static>(ballast: T) {
        let (held, made) = (Rc::new(()), Rc::new(Cell::new(0)));
        let make = |ballast: T| {
            let (held, made) = (Rc::clone(&held), Rc::clone(&made));
            SmallCall::<u32, 2>::new(move |number| {
                let _all = (&held, &ballast);
                made.set(made.get() + *number);
            })
        };
        let call = make(ballast);
        assert_eq!(Rc::strong_count(&held), 2);
        // Moved, as into a queue and out of it.
        let queue = vec![call];
        queue.into_iter().for_each(|call| call.call(&7));
        assert_eq!((made.get(), Rc::strong_count(&held)), (7, 1));
    }

    #[test]
    fn a_call_is_made_with_what_it_captured_whether_that_is_little_or_much() {
        look_at(());
        look_at(1_u8);
        look_at([1_u64; 100]);
        look_at(String::from("on the heap"));
    }

    #[test]
    fn a_call_that_is_aligned_more_strictly_than_its_space_is_made() {
        #[repr(align(64))]
        struct Aligned(u8);
        let (aligned, seen) = (Aligned(7), Rc::new(Cell::new(0)));
        let told = Rc::clone(&seen);
        let call = SmallCall::<(), 2>::new(move |()| {
            let aligned = aligned;
            assert_eq!((&raw const aligned).addr() % 64, 0);
            told.set(aligned.0);
        });
        call.call(&());
        assert_eq!(seen.get(), 7);
    }

    #[test]
    fn a_call_that_is_not_made_drops_what_it_captured_once() {
        for much in [false, true] {
            let held = Rc::new(());
            let own = Rc::clone(&held);
            let call: SmallCall<(), 2> = if much {
                let ballast = [0_u64; 8];
                SmallCall::new(move |()| drop((own, ballast)))
            } else {
                SmallCall::new(move |()| drop(own))
            };
            assert_eq!(Rc::strong_count(&held), 2);
            drop(call);
            assert_eq!(Rc::strong_count(&held), 1);
        }
    }

    #[test]
    fn a_call_that_panics_drops_what_it_captured_once() {
        for much in [false, true] {
            let held = Rc::new(());
            let own = Rc::clone(&held);
            let ballast = [0_u64; 8];
            let call: SmallCall<(), 2> = if much {
                SmallCall::new(move |()| panic!("{:?}", (&own, ballast)))
            } else {
                SmallCall::new(move |()| panic!("{own:?}"))
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| call.call(&())));
            assert!(outcome.is_err());
            assert_eq!(Rc::strong_count(&held), 1);
        }
    }

    #[test]
    fn what_is_small_needs_no_box() {
        assert!(fits::<[usize; 3], 3>());
        assert!(!fits::<[usize; 4], 3>());
        // A queue of them is no larger than it must be.
        assert_eq!(
            size_of::<Option<SmallCall<(), 3>>>(),
            4 * size_of::<usize>()
        );
    }
}
