//! What a site shares with its requests: those that have been answered, and are used again, as their memory
//! is there already; and which of them end with their client.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};

use super::request::Parts;
use super::server::SiteCore;

/// How many wait to be used again; the rest is freed.
const KEPT_MAX: usize = 64;

/// Memory for the requests of a site. One that is larger than most is not kept.
#[derive(Default)]
pub(super) struct Recycled {
    #[expect(
        clippy::vec_box,
        reason = "the box is what is kept: a request holds it"
    )]
    kept: RefCell<Vec<Box<Parts>>>,
    /// Those that [end with their client](super::request::Request::end_with_client), until they are over.
    ending: RefCell<BTreeSet<Place>>,
    /// Whose they are; it may be gone before the last of them.
    site: OnceCell<Weak<SiteCore>>,
}

/// Which request of a site: the number of its connection there, and its own on that.
pub(super) type Place = (u64, u64);

impl Recycled {
    /// Its requests are those of this site.
    pub(super) fn is_of(&self, site: &Rc<SiteCore>) {
        self.site.get_or_init(|| Rc::downgrade(site));
    }

    pub(super) fn site(&self) -> Weak<SiteCore> {
        self.site.get().cloned().unwrap_or_default()
    }

    /// An empty one.
    pub(super) fn take(&self) -> Box<Parts> {
        let kept = self.kept.borrow_mut().pop();
        let Some(mut parts) = kept else {
            return Box::new(Parts::empty());
        };
        parts.head.clear_text();
        parts
    }

    /// Takes it back, whatever is in it.
    pub(super) fn give_back(&self, mut parts: Box<Parts>) {
        // Detach, then call: what is dropped here may be anybody's. The head stays until it is used again.
        parts.clear_all_but_head();
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_MAX && parts.head.memory() <= 4096 {
            kept.push(parts);
        }
    }

    /// The method and the path of a request that nobody has any more, if they are still there: for the report
    /// that what answered it has failed.
    pub(super) fn name_of(&self, place: Place) -> Option<String> {
        let mut kept = self.kept.borrow_mut();
        let mut kept = kept.iter_mut().rev();
        let parts = kept.find(|parts| parts.place == place && !parts.head.is_empty())?;
        let name = format!("{} {}", parts.head.method(), parts.head.path());
        parts.head.forget_what_was_made();
        Some(name)
    }

    /// That one ends when its client ends its stream, if its connection is still there: nobody would forget it else.
    pub(super) fn end_with_client(&self, place: Place) {
        let site = self.site().upgrade();
        if site.is_some_and(|site| site.connection(place.0).is_some()) {
            self.ending.borrow_mut().insert(place);
        }
    }

    /// Whether that one does.
    pub(super) fn ends_with_client(&self, place: Place) -> bool {
        self.ending.borrow().contains(&place)
    }

    /// That one is over.
    pub(super) fn is_over(&self, place: Place) {
        let mut ending = self.ending.borrow_mut();
        if !ending.is_empty() {
            ending.remove(&place);
        }
    }

    /// All of that connection are over.
    pub(super) fn are_over(&self, connection: u64) {
        let mut ending = self.ending.borrow_mut();
        while let Some(&place) = ending
            .range((connection, 0)..=(connection, u64::MAX))
            .next()
        {
            ending.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_whose_connection_is_over_is_not_remembered() {
        let recycled = Recycled::default();
        recycled.end_with_client((0, 0));
        assert!(!recycled.ends_with_client((0, 0)));
    }
}
