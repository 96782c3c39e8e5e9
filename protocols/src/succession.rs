//! Who gets what comes in place of the protocol that a layer was made for, once its stream has been given another
//! receiver.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade_reactor::Receiver;

/// Who has taken over, if anybody has, and what is known there of the marks.
#[derive(Default)]
pub(crate) struct Succession {
    successor: RefCell<Option<Rc<dyn Receiver>>>,
    /// The stream below has paused the writer, and not let it go on since.
    choked: Cell<bool>,
    /// The successor has been told of that.
    told_choked: Cell<bool>,
}

impl Succession {
    pub(crate) fn successor(&self) -> Option<Rc<dyn Receiver>> {
        self.successor.borrow().clone()
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.successor.borrow().is_some()
    }

    /// Gives over to this one, and says whether it has to be told [of the marks](Self::tell_of_marks), when nobody is called
    /// from inside a method of the stream.
    pub(crate) fn give_over(&self, successor: Rc<dyn Receiver>) -> bool {
        let previous = self.successor.replace(Some(successor));
        drop(previous);
        // Another one: it does not know what the one before was told.
        self.told_choked.set(false);
        self.choked.get()
    }

    /// The end.
    pub(crate) fn take(&self) -> Option<Rc<dyn Receiver>> {
        self.successor.take()
    }

    /// The stream below says that the writer is to pause, or may go on.
    pub(crate) fn set_choked(&self, choked: bool) {
        self.choked.set(choked);
    }

    /// Whether the writer is to pause.
    #[cfg(feature = "websocket")]
    pub(crate) fn is_choked(&self) -> bool {
        self.choked.get()
    }

    /// Tells the successor to pause, or to go on, if it does not know.
    pub(crate) fn tell_of_marks(&self) {
        let Some(successor) = self.successor() else {
            return;
        };
        let choked = self.choked.get();
        if choked == self.told_choked.replace(choked) {
            return;
        }
        match choked {
            true => successor.write_paused(),
            false => successor.write_resumed(),
        }
    }
}
