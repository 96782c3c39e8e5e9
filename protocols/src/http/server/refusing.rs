//! What is answered when something went wrong: to requests that break the rules, to clients that are too slow,
//! and for handlers that fail.

use http::StatusCode;
use torsade_deferred::{Failure, Interrupted};
use torsade_reactor::Transport;

use super::super::error::{BadMessage, BodyError, StatusError};
use super::super::response::Response;
use super::asked::{Asked, Facts};
use super::connection::ServerConnection;

impl ServerConnection {
    /// What is sent for a failure.
    pub(super) fn response_to(&self, number: u64, failure: &Failure) -> Response {
        let timed_out = matches!(failure.downcast_ref(), Some(Interrupted::TimedOut(_)));
        let status = match StatusError::status_of(failure) {
            _ if timed_out && self.site.limits.answer.is_some() => StatusCode::SERVICE_UNAVAILABLE,
            status => status,
        };
        let response = self.site.error_response(status, Some(failure));
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            self.site.report_failure((self.id(), number), failure);
        }
        response
    }

    /// A request that is refused by its head: the connection cannot go on, as its body is not read.
    pub(super) fn refuse_request(
        &mut self,
        transport: &Transport<Self>,
        mut facts: Facts,
        bad: BadMessage,
    ) {
        facts.persistent = false;
        self.closing = true;
        self.incoming = None;
        self.asked
            .push_back(Asked::answered(facts, Err(bad.into())));
        self.send_responses(transport);
    }

    /// What came is no request.
    pub(super) fn refuse(&mut self, transport: &Transport<Self>, bad: BadMessage) {
        self.closing = true;
        if let Some(incoming) = self.incoming.take() {
            // In the middle of a body: its reader hears of it, and answers with it or not.
            let number = incoming.number;
            if let Some(writer) = incoming.writer {
                writer.fail(BodyError::Malformed(bad).into());
            }
            let asked = self.asked.iter_mut().find(|it| it.facts.number == number);
            match asked {
                Some(asked) => {
                    asked.facts.persistent = false;
                    if asked.answer.is_none() {
                        asked.answer = Some(Err(bad.into()));
                    }
                }
                // Its response is under way.
                None => return self.lose_if_done(transport),
            }
            return self.send_responses(transport);
        }
        self.answer_nobody(bad.into());
        self.send_responses(transport);
    }

    /// An answer to what never became a request.
    fn answer_nobody(&mut self, failure: Failure) {
        let facts = Facts {
            number: self.requests(),
            is_head: false,
            is_connect: false,
            is_safe: true,
            is_1_0: false,
            persistent: false,
            access: None,
        };
        self.asked.push_back(Asked::answered(facts, Err(failure)));
    }

    /// A client that was too slow with a request, or with its body.
    pub(super) fn time_out(&mut self, transport: &Transport<Self>, error: BodyError) {
        self.enter(transport, |this, _| {
            this.closing = true;
            let number = this.incoming.as_ref().map(|it| it.number);
            if let Some(writer) = this.incoming.take().and_then(|it| it.writer) {
                writer.fail(error.into());
            }
            let waiting = this
                .asked
                .iter_mut()
                .find(|it| Some(it.facts.number) == number);
            let late = Failure::from(StatusError::new(StatusCode::REQUEST_TIMEOUT));
            match waiting {
                Some(asked) => {
                    asked.facts.persistent = false;
                    asked.answer.get_or_insert(Err(late));
                }
                None if number.is_none() => this.answer_nobody(late),
                // Its response is under way, or sent.
                None => {}
            }
            this.send_responses(transport);
            this.lose_if_done(transport);
        });
    }
}
