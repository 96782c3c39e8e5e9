//! A connection that was handed out and has no receiver yet: whoever was given it holds it, and
//! the reactor does not, so that it goes when it is dropped.

use std::fmt;
use std::rc::{Rc, Weak};

use crate::core::Source;
use crate::driver::Change;
use crate::sockets::connection::{Connection, Ending};

/// Stands under the token of such a connection.
struct Unseated(Weak<Connection>);

impl Connection {
    /// From here on whoever was given it holds it, and not the reactor, until it has a receiver
    /// or is to be closed in order. Nobody would ever read what was dropped before that.
    pub(crate) fn let_go(self: &Rc<Self>) {
        if self.ending.get() == Ending::Open && !self.is_seated() {
            let mut rarities = self.rarities.borrow_mut();
            rarities.get_or_insert_default().let_go = Some(Rc::downgrade(self));
            let unseated = Rc::new(Unseated(Rc::downgrade(self)));
            self.core.replace_source(self.token, unseated);
        }
    }

    pub(super) fn hold_on(&self) {
        let this = match self.rarities.borrow_mut().as_mut() {
            Some(rarities) => rarities.let_go.take().and_then(|this| this.upgrade()),
            None => return,
        };
        if let Some(this) = this {
            self.core.replace_source(self.token, this);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The reactor holds on to it up to its end, unless it was let go.
        if self.ending.get() == Ending::Lost {
            return;
        }
        self.core.remove_source(self.token);
        if let Some(socket) = self.socket.take() {
            socket.reset_on_drop();
        }
    }
}

impl Source for Unseated {
    fn ready(self: Rc<Self>, change: Change) {
        if let Some(connection) = self.0.upgrade() {
            connection.ready(change);
        }
    }

    fn again(self: Rc<Self>) {
        if let Some(connection) = self.0.upgrade() {
            connection.again();
        }
    }

    fn settle(self: Rc<Self>) {
        if let Some(connection) = self.0.upgrade() {
            connection.settle();
        }
    }

    fn stop(self: Rc<Self>) {
        if let Some(connection) = self.0.upgrade() {
            connection.stop();
        }
    }

    fn halt(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.halt();
        }
    }

    fn vanish(self: Rc<Self>) {
        if let Some(connection) = self.0.upgrade() {
            connection.vanish();
        }
    }

    fn is_background(&self) -> bool {
        let connection = self.0.upgrade();
        connection.is_none_or(|connection| connection.is_background())
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(connection) = self.0.upgrade() {
            connection.describe(f)?;
        }
        f.write_str(", nobody receives")
    }
}
