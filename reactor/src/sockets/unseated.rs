//! A connection that was handed out and has no receiver yet: whoever was given it holds it, and
//! the reactor does not, so that it goes when it is dropped.

use std::fmt;
use std::rc::{Rc, Weak};

use crate::core::{Core, Source};
use crate::descriptor::Readiness;
use crate::slab::Token;
use crate::sockets::Connection;

/// Stands under the token of such a connection.
struct Unseated(Weak<Connection>);

/// Has the reactor let go of a connection that is under this token.
pub(super) fn stand_in(core: &Core, token: Token, connection: &Rc<Connection>) {
    let unseated = Rc::new(Unseated(Rc::downgrade(connection)));
    core.replace_source(token, unseated);
}

impl Source for Unseated {
    fn ready(self: Rc<Self>, readiness: Readiness) {
        if let Some(connection) = self.0.upgrade() {
            connection.ready(readiness);
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
