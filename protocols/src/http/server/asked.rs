//! Requests whose responses have not begun, and what of a request matters to its response.

use http::Method;
use torsade_deferred::Failure;

use super::super::head::RequestHead;
use super::super::response::Response;
use super::sending::AccessDraft;

/// A request that has not been answered, or not in its turn.
pub(super) struct Asked {
    pub(super) facts: Facts,
    pub(super) answer: Option<Result<Response, Failure>>,
    /// Interim responses that have not been sent: it is not its turn.
    pub(super) interims: Vec<u8>,
}

impl Asked {
    pub(super) fn answered(facts: Facts, answer: Result<Response, Failure>) -> Self {
        Self {
            facts,
            answer: Some(answer),
            interims: Vec::new(),
        }
    }
}

/// What of a request matters to its response.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) number: u64,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
    /// Others may be under way beside it: RFC 9110 §9.2.1.
    pub(super) is_safe: bool,
    pub(super) is_1_0: bool,
    pub(super) persistent: bool,
    pub(super) access: Option<Box<AccessDraft>>,
}

impl Facts {
    pub(super) fn new(head: &RequestHead, number: u64, access: Option<Box<AccessDraft>>) -> Self {
        // One comparison for most.
        let (is_head, is_connect, is_safe) = match *head.method() {
            Method::GET => (false, false, true),
            Method::HEAD => (true, false, true),
            Method::CONNECT => (false, true, false),
            ref other => (false, false, other.is_safe()),
        };
        Self {
            number,
            is_head,
            is_connect,
            is_safe,
            is_1_0: head.is_1_0(),
            persistent: head.is_persistent(),
            access,
        }
    }

    /// Whether nothing of the request says that its response is written in another way than most.
    pub(super) fn is_usual(&self) -> bool {
        self.persistent && !self.is_1_0 && !self.is_head && !self.is_connect
    }
}
