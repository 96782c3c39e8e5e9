//! Interim responses, which come before the one that counts: RFC 9110 §15.2.
//!
//! # Order
//!
//! Those of a request are sent when every response before its own has been, in the order in which they were asked
//! for, and before its own. One that is asked for from inside the handler is sent also if that answers at once.
//!
//! # Bounds
//!
//! [`INTERIMS_MAX`] bytes wait for their turn. They are hints: further ones are dropped, and all for a client that is
//! slow to take them.

use std::fmt;
use std::rc::Weak;

use http::{HeaderMap, StatusCode};
use torsade_reactor::Transport;

use super::super::encode;
use super::SiteCore;
use super::asked::Facts;
use super::connection::ServerConnection;

/// Of one request, as long as they cannot be sent.
const INTERIMS_MAX: usize = 16 * 1024;

/// Of all handlers that are on the stack.
const UNTAKEN_MAX: usize = 1000;

/// Sends interim responses to a request, before its response: 103 (Early Hints, RFC 8297) or 102. A cheap clone.
///
/// Made by [`Request::interim`](super::super::Request::interim); may be kept when the request is gone.
///
/// # Examples
///
/// A browser fetches the style while the page is made:
///
/// ```
/// use torsade_deferred::Deferred;
/// use torsade_protocols::http::{Body, HeaderMap, HeaderValue, Request, StatusCode, header};
///
/// fn page(request: Request, made: Deferred<String>) -> Deferred<Body> {
///     let mut hints = HeaderMap::new();
///     let style = HeaderValue::from_static("</style.css>; rel=preload; as=style");
///     hints.insert(header::LINK, style);
///     let sent = request.interim().send(StatusCode::EARLY_HINTS, &hints);
///     sent.expect("103 is one of them");
///     made.map(Body::html)
/// }
/// # drop(page);
/// ```
#[derive(Clone)]
pub struct Interim {
    site: Weak<SiteCore>,
    /// The connection, and the number of the request on it.
    place: (u64, u64),
}

/// A status that is none of an interim response: those are 100 to 199 without 101, which ends HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no interim response")]
pub struct NotInterim(pub StatusCode);

impl Interim {
    pub(in crate::http) fn new(site: Weak<SiteCore>, place: (u64, u64)) -> Self {
        Self { site, place }
    }

    /// Sends one with these fields, but for those that say how a message is framed.
    ///
    /// Does nothing when the response has begun, and for a client that speaks HTTP/1.0, which knows none of them.
    /// 100 (Continue) is not sent here: the server sends it by itself, when somebody begins to read the body.
    ///
    /// # Errors
    ///
    /// [`NotInterim`]: the caller's fault.
    ///
    /// # Reentrancy
    ///
    /// May be called from any callback.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) -> Result<(), NotInterim> {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(NotInterim(status));
        }
        if status == StatusCode::CONTINUE {
            return Ok(());
        }
        let Some(site) = self.site.upgrade() else {
            return Ok(());
        };
        let Some(transport) = site.connection(self.place.0) else {
            return Ok(());
        };
        let mut text = Vec::new();
        encode::write_interim(&mut text, status, headers);
        if !site.add_interim(self.place, text) {
            return Ok(());
        }
        // At once, unless its handler is on the stack: then that one's return is what it is sent at.
        transport.call(ServerConnection::interims_added);
        Ok(())
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interim").finish_non_exhaustive()
    }
}

/// An interim response that its connection has not taken, and whose it is.
pub(super) struct Untaken {
    place: (u64, u64),
    text: Vec<u8>,
}

impl SiteCore {
    fn add_interim(&self, place: (u64, u64), text: Vec<u8>) -> bool {
        let mut interims = self.interims.borrow_mut();
        let has_room = interims.len() < UNTAKEN_MAX;
        if has_room {
            interims.push(Untaken { place, text });
        }
        has_room
    }

    pub(super) fn has_interims(&self) -> bool {
        !self.interims.borrow().is_empty()
    }

    /// Nobody takes those of this connection any more.
    pub(super) fn forget_interims(&self, connection: u64) {
        let mut interims = self.interims.borrow_mut();
        interims.retain(|it| it.place.0 != connection);
    }
}

impl ServerConnection {
    /// What was asked for while the handler of this request was on the stack.
    pub(super) fn interims_of(&self, facts: &Facts) -> Vec<u8> {
        let place = (self.id(), facts.number);
        let mut text = Vec::new();
        self.site.interims.borrow_mut().retain(|it| {
            if it.place == place {
                append(&mut text, &it.text);
            }
            it.place != place
        });
        if facts.is_1_0 {
            text.clear();
        }
        text
    }

    fn interims_added(&mut self, transport: &Transport<Self>) {
        if !self.site.has_interims() {
            return;
        }
        self.enter(transport, |this, _| {
            let (id, is_congested) = (this.id(), this.congested);
            let (site, asked) = (&this.site, &mut this.asked);
            site.interims.borrow_mut().retain(|it| {
                let (connection, number) = it.place;
                let open = asked.iter_mut().find(|asked| {
                    let facts = &asked.facts;
                    facts.number == number && asked.answer.is_none() && !facts.is_1_0
                });
                if let Some(asked) = open.filter(|_| connection == id && !is_congested) {
                    append(&mut asked.interims, &it.text);
                }
                connection != id
            });
            this.send_interims();
        });
    }

    /// Sends those of the request whose turn it is.
    pub(super) fn send_interims(&mut self) {
        if self.sending.is_some() || self.lost {
            return;
        }
        if let Some(first) = self.asked.front_mut() {
            self.out.append(&mut first.interims);
        }
    }
}

fn append(kept: &mut Vec<u8>, text: &[u8]) {
    if kept.len() + text.len() <= INTERIMS_MAX {
        kept.extend_from_slice(text);
    }
}
