//! Requests that have been answered, and are used again: their memory is there already.

use std::cell::RefCell;

use super::request::Parts;

/// How many wait to be used again; the rest is freed.
const KEPT_MAX: usize = 64;

/// Memory for requests. One that is larger than most is not kept.
#[derive(Default)]
pub(super) struct Recycled {
    #[expect(
        clippy::vec_box,
        reason = "the box is what is kept: a request holds it"
    )]
    kept: RefCell<Vec<Box<Parts>>>,
}

impl Recycled {
    /// An empty one.
    pub(super) fn take(&self) -> Box<Parts> {
        let kept = self.kept.borrow_mut().pop();
        kept.unwrap_or_else(|| Box::new(Parts::empty()))
    }

    /// Takes it back, whatever is in it.
    pub(super) fn give_back(&self, mut parts: Box<Parts>) {
        // Detach, then call: what is dropped here may be anybody's.
        parts.clear();
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_MAX && parts.head.memory() <= 4096 {
            kept.push(parts);
        }
    }
}
