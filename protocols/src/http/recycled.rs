//! Heads that have been used, and are used again: their memory is there already.

use std::cell::RefCell;

use super::head::RequestHead;

/// How many wait to be used again; the rest is freed.
const KEPT_MAX: usize = 64;

/// Memory for heads. One that is larger than most is not kept.
#[derive(Debug, Default)]
pub(super) struct Heads {
    #[expect(
        clippy::vec_box,
        reason = "the box is what is kept: a request holds it"
    )]
    kept: RefCell<Vec<Box<RequestHead>>>,
}

impl Heads {
    /// An empty one.
    pub(super) fn take(&self) -> Box<RequestHead> {
        let kept = self.kept.borrow_mut().pop();
        kept.unwrap_or_else(|| Box::new(RequestHead::empty()))
    }

    /// Takes it back, whatever is in it.
    pub(super) fn give_back(&self, mut head: Box<RequestHead>) {
        head.clear();
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_MAX && head.memory() <= 4096 {
            kept.push(head);
        }
    }
}
