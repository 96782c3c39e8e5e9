//! Responses on their way out.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use http::header::{CONTENT_LENGTH, UPGRADE};
use http::{Method, StatusCode, Version};
use torsade_deferred::Failure;
use torsade_reactor::{Address, Transport};

use super::super::body::{Body, Source};
use super::super::chunked;
use super::super::encode::{self, ResponseFacts};
use super::super::error::{BodyError, StatusError};
use super::super::head::{Framing, RequestHead};
use super::super::kept::KeptResponse;
use super::super::pipe::{Next, Reader};
use super::super::response::Response;
use super::super::upgrade::Upgraded;
use super::asked::Facts;
use super::connection::{OUT_MAX, ServerConnection};
use super::hold::ServerHold;
use super::{Access, SiteCore, report};

/// A body of this size or less is copied behind its head; a larger one is handed to the connection by itself, which
/// costs as much as to copy this.
const COPIED_MAX: usize = 4 * 1024;

/// A file of this size or less is read, not sent by the system.
const READ_MAX: u64 = 64 * 1024;

/// A response whose body is not all with the connection.
pub(super) struct Sending {
    pub(super) facts: Facts,
    status: StatusCode,
    reader: Rc<Reader>,
    chunked: bool,
    /// What is still promised, if the length is known.
    left: Option<u64>,
    sent: u64,
    /// The last to know for the log.
    peer: Address,
    began: Instant,
}

/// What the log says of a request.
#[derive(Debug)]
pub(super) struct AccessDraft {
    method: Method,
    target: String,
    version: Version,
    begun: SystemTime,
    at: Instant,
    referer: Option<String>,
    user_agent: Option<String>,
    forwarded_for: Option<String>,
}

impl AccessDraft {
    pub(super) fn new(head: &RequestHead, begun: SystemTime, at: Instant) -> Self {
        let text = |name| {
            let value = head.header(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        Self {
            method: head.method().clone(),
            target: head.target().to_owned(),
            version: head.version(),
            begun,
            at,
            referer: text("referer"),
            user_agent: text("user-agent"),
            // The last proxy may have added a field of its own.
            forwarded_for: text("x-forwarded-for").map(|_| {
                let fields = head.headers().get_all("x-forwarded-for").iter();
                let fields = fields.filter_map(|value| value.to_str().ok());
                fields.collect::<Vec<_>>().join(", ")
            }),
        }
    }
}

/// What became of a response.
struct Sent {
    status: StatusCode,
    bytes: u64,
    complete: bool,
}

impl SiteCore {
    fn log(&self, draft: AccessDraft, peer: Address, now: Instant, sent: &Sent) {
        if let Some(log) = &self.access_log {
            let access = Access {
                peer,
                method: draft.method,
                target: draft.target,
                version: draft.version,
                status: sent.status,
                bytes: sent.bytes,
                complete: sent.complete,
                begun: draft.begun,
                took: now.saturating_duration_since(draft.at),
                referer: draft.referer,
                user_agent: draft.user_agent,
                forwarded_for: draft.forwarded_for,
            };
            // What the log does is not the client's affair.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| log(&access))) {
                self.report_panic("the access log of a site", &*payload);
            }
        }
    }
}

impl Sending {
    /// The connection is gone.
    pub(super) fn broken_off(mut self, site: &SiteCore) {
        if let Some(draft) = self.facts.access.take() {
            let sent = Sent {
                status: self.status,
                bytes: self.sent,
                complete: false,
            };
            site.log(*draft, self.peer, self.began, &sent);
        }
    }
}

impl ServerConnection {
    /// Writes a whole response, if there is nothing to say of this body and nothing to decide. Whether it has.
    pub(super) fn send_usual(
        &mut self,
        transport: &Transport<Self>,
        facts: &mut Facts,
        body: &Body,
    ) -> bool {
        let (Source::Bytes(bytes), Some(media_type)) = (&body.source, body.media_type) else {
            return false;
        };
        if !facts.is_usual() {
            return false;
        }
        let length = bytes.len() as u64;
        let beginning = &self.site.calendar.beginning();
        encode::write_usual_response(&mut self.out, beginning, media_type, length);
        self.send_bytes(transport, bytes);
        self.leave_crossing(facts.number);
        self.response_sent(transport, facts, StatusCode::OK, length);
        true
    }

    /// Writes a response that was put together before.
    pub(super) fn send_kept(
        &mut self,
        transport: &Transport<Self>,
        mut facts: Facts,
        kept: &KeptResponse,
    ) {
        if !facts.is_usual() {
            return self.start_sending(transport, facts, kept.to_response());
        }
        kept.write_head(&mut self.out, &self.site.calendar.beginning());
        self.send_bytes(transport, kept.content());
        self.leave_crossing(facts.number);
        let length = kept.content().len() as u64;
        self.response_sent(transport, &mut facts, StatusCode::OK, length);
    }

    /// Sends all of a body, behind its head.
    fn send_bytes(&mut self, transport: &Transport<Self>, bytes: &[u8]) {
        if bytes.len() <= COPIED_MAX {
            self.out.extend_from_slice(bytes);
        } else {
            self.send_out(transport);
            self.send(transport, bytes);
        }
    }

    /// Writes the head of a response, and its body as far as it is there.
    pub(super) fn start_sending(
        &mut self,
        transport: &Transport<Self>,
        mut facts: Facts,
        mut response: Response,
    ) {
        // The rest stays where it is: to move it costs more than to write it.
        let Body { source, media_type } = mem::take(response.body_mut());
        let source = match source {
            Source::Upgrade(then) => {
                return self.hand_over(transport, facts, &response, then);
            }
            source => source,
        };
        if let Some(status) = instead_of(response.status(), &facts) {
            let response = self.site.error_response(status, None);
            return self.start_sending(transport, facts, response);
        }
        let (status, headers) = (response.status(), response.headers());
        // RFC 9110 §15.3.6: 205 has no content, and says so.
        let source = match status {
            StatusCode::RESET_CONTENT => Source::Empty,
            _ => source,
        };
        let is_body_sent = !facts.is_head && !encode::is_bodiless(status);
        let mut framing = framing_of(&source, facts.is_1_0);
        if framing == Framing::None && facts.is_head && headers.contains_key(CONTENT_LENGTH) {
            // It stands for the body that a GET would get.
            framing = Framing::UntilClose;
        }
        if framing == Framing::UntilClose && is_body_sent {
            facts.persistent = false;
        }
        if !facts.persistent {
            self.closing = true;
        }
        let before = self.out.len();
        let response_facts = ResponseFacts {
            to_1_0: facts.is_1_0,
            persistent: facts.persistent,
            framing,
            media_type: match source {
                Source::Empty => None,
                _ => media_type,
            },
            beginning: &self.site.calendar.beginning(),
        };
        encode::write_response(&mut self.out, status, headers, &response_facts);
        self.leave_crossing(facts.number);
        if !is_body_sent {
            return self.response_sent(transport, &mut facts, status, 0);
        }
        let reader = match source {
            Source::Empty | Source::Upgrade(_) => {
                return self.response_sent(transport, &mut facts, status, 0);
            }
            Source::Bytes(bytes) => {
                self.send_bytes(transport, &bytes);
                return self.response_sent(transport, &mut facts, status, bytes.len() as u64);
            }
            // Of a small one, a call to send it costs more than to read it and send it with the head.
            Source::File(part) if part.length <= READ_MAX => {
                if let Err(error) = part.read_into(&mut self.out) {
                    // Nothing of it has left.
                    self.out.truncate(before);
                    let place = (self.id(), facts.number);
                    self.site.report_failure(place, &error.into());
                    let status = StatusCode::INTERNAL_SERVER_ERROR;
                    let response = self.site.error_response(status, None);
                    return self.start_sending(transport, facts, response);
                }
                return self.response_sent(transport, &mut facts, status, part.length);
            }
            Source::File(part) => {
                self.send_out(transport);
                let length = part.length;
                let taken = transport.stream().write_file(part);
                self.note_congestion(transport);
                match taken {
                    Ok(()) => return self.response_sent(transport, &mut facts, status, length),
                    // The stream has no way but to be written to.
                    Err(part) => Body::file_part(part).into_reader(),
                }
            }
            Source::Pipe { reader, .. } => Some(reader),
        };
        let Some(reader) = reader else {
            return self.response_sent(transport, &mut facts, status, 0);
        };
        let weak = transport.downgrade();
        reader.on_data(move || {
            if let Some(transport) = weak.upgrade() {
                transport.call(Self::body_has_more);
            }
        });
        self.sending = Some(Sending {
            facts,
            status,
            reader,
            chunked: framing == Framing::Chunked,
            left: match framing {
                Framing::Length(length) => Some(length),
                _ => None,
            },
            sent: 0,
            peer: transport.peer(),
            began: transport.reactor().now(),
        });
        // Whoever called this goes on with it.
    }

    /// Sends what the body has, as long as the peer takes it. Whether the response is all sent.
    pub(super) fn pump(&mut self, transport: &Transport<Self>) -> bool {
        loop {
            let is_congested = transport.is_congested() || self.lost;
            let Some(sending) = &mut self.sending else {
                return true;
            };
            if is_congested {
                return false;
            }
            match sending.reader.next() {
                Next::Nothing => return false,
                Next::Data(piece) => {
                    let size = piece.len() as u64;
                    sending.sent += size;
                    if let Some(left) = &mut sending.left {
                        match left.checked_sub(size) {
                            Some(rest) => *left = rest,
                            None => return self.break_off(transport, None),
                        }
                    }
                    let chunked = sending.chunked;
                    if piece.len() <= COPIED_MAX {
                        if chunked {
                            chunked::write_chunk(&mut self.out, &piece);
                        } else {
                            self.out.extend_from_slice(&piece);
                        }
                        if self.out.len() > OUT_MAX {
                            self.send_out(transport);
                        }
                    } else {
                        if chunked {
                            chunked::write_size(&mut self.out, piece.len());
                        }
                        self.send_out(transport);
                        self.send(transport, &piece);
                        if chunked {
                            self.out.extend_from_slice(b"\r\n");
                        }
                    }
                }
                Next::End(Err(failure)) => return self.break_off(transport, Some(failure)),
                Next::End(Ok(trailers)) => {
                    if sending.left.is_some_and(|left| left > 0) {
                        return self.break_off(transport, None);
                    }
                    if sending.chunked {
                        chunked::write_end(&mut self.out, &trailers);
                    }
                    if let Some(sending) = self.sending.take() {
                        let Sending {
                            mut facts,
                            status,
                            sent,
                            ..
                        } = sending;
                        self.response_sent(transport, &mut facts, status, sent);
                    }
                    return true;
                }
            }
        }
    }

    /// The body does not come to its end: the peer must not take it for whole.
    fn break_off(&mut self, transport: &Transport<Self>, failure: Option<Failure>) -> bool {
        if let Some(sending) = self.sending.take() {
            let failure = failure.unwrap_or_else(|| {
                BodyError::WrongLength {
                    announced: sending.sent.saturating_add(sending.left.unwrap_or(0)),
                    actual: sending.sent,
                }
                .into()
            });
            let place = (self.id(), sending.facts.number);
            sending.broken_off(&self.site);
            // As with those that come before a response: others are a peer's fault, or told already.
            if StatusError::status_of(&failure) == StatusCode::INTERNAL_SERVER_ERROR {
                self.site.report_failure(place, &failure);
            }
        }
        self.closing = true;
        self.lost = true;
        self.send_out(transport);
        transport.abort_connection();
        false
    }

    /// The client has ended its stream: if its next response [ends with that](super::super::request::Request::end_with_client),
    /// so do those that follow, and the connection.
    pub(super) fn give_up_half_closed(&mut self, transport: &Transport<Self>) {
        let next = match &self.sending {
            Some(sending) => Some(sending.facts.number),
            None => self.next_unanswered(),
        };
        let ends = |number| self.site.recycled.ends_with_client((self.id(), number));
        if self.lost || !next.is_some_and(ends) {
            return;
        }
        self.closing = true;
        self.lost = true;
        self.send_out(transport);
        let Some(sending) = self.sending.take() else {
            return transport.lose_connection();
        };
        // What it has of that response must not be taken for all of it.
        sending.broken_off(&self.site);
        transport.abort_connection();
    }

    fn body_has_more(&mut self, transport: &Transport<Self>) {
        self.resume_sending(transport);
    }

    fn response_sent(
        &mut self,
        transport: &Transport<Self>,
        facts: &mut Facts,
        status: StatusCode,
        bytes: u64,
    ) {
        if let Some(draft) = facts.access.take() {
            let sent = Sent {
                status,
                bytes,
                complete: true,
            };
            let now = transport.reactor().now();
            self.site.log(*draft, transport.peer(), now, &sent);
        }
        self.site.recycled.is_over((self.id(), facts.number));
        if self.out.len() > OUT_MAX {
            self.send_out(transport);
        }
        if !facts.persistent {
            // RFC 9112 §9.6: no response follows one that says `close`.
            self.forget_requests();
        }
        self.lose_if_done(transport);
    }

    /// The response goes out, and with it the connection to another protocol.
    fn hand_over(
        &mut self,
        transport: &Transport<Self>,
        facts: Facts,
        response: &Response,
        then: Box<dyn FnOnce(Upgraded)>,
    ) {
        let (status, headers) = (response.status(), response.headers());
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        if !self.is_at_crossing(facts.number) || (is_switch && facts.is_connect) {
            // Nobody asked for it, or with a body: what comes next is that.
            drop(then);
            let status = match facts.is_connect && !is_switch {
                true => StatusCode::BAD_REQUEST,
                false => StatusCode::UPGRADE_REQUIRED,
            };
            let mut response = self.site.error_response(status, None);
            // RFC 9110 §15.5.22: with what could have been asked for.
            if let Some(protocol) = headers.get(UPGRADE) {
                let fields = response.headers_mut();
                fields.insert(UPGRADE, protocol.clone());
            }
            return self.start_sending(transport, facts, response);
        }
        let response_facts = ResponseFacts {
            to_1_0: facts.is_1_0,
            persistent: true,
            // RFC 9110 §9.3.6: neither has a length.
            framing: Framing::UntilClose,
            media_type: None,
            beginning: &self.site.calendar.beginning(),
        };
        encode::write_response(&mut self.out, status, headers, &response_facts);
        self.send_out(transport);
        self.closing = true;
        self.lost = true;
        self.handing_over = true;
        let (leaving, stream) = (transport.clone(), Rc::clone(transport.stream()));
        // When the chunk at hand has been taken in: what is left of it is the other protocol's.
        transport.call(move |this, _| {
            let reactor = stream.socket().reactor();
            // Before the connection is over: a server that stops would not wait for the next protocol.
            let hold = ServerHold::new(&this.site, this.id(), &reactor);
            let upgraded = Upgraded::new(stream, this.take_rest()).with_hold(hold);
            this.site.connection_over(this.id());
            this.watch.stop();
            leaving.leave(|_| {});
            then(upgraded);
        });
    }

    /// Hands what was put together to the connection.
    pub(super) fn send_out(&mut self, transport: &Transport<Self>) {
        if !self.out.is_empty() {
            transport.write(&self.out);
            self.out.clear();
            self.note_congestion(transport);
        }
    }

    fn send(&mut self, transport: &Transport<Self>, bytes: &[u8]) {
        transport.write(bytes);
        self.note_congestion(transport);
    }
}

/// What is sent in place of a status that would have the client take what follows for something else.
fn instead_of(status: StatusCode, facts: &Facts) -> Option<StatusCode> {
    if status.is_informational() {
        // RFC 9110 §15.2: it would wait for another one.
        let problem = format!("{status} is no answer: another response would have to follow");
        report(Failure::message(problem));
        return Some(StatusCode::INTERNAL_SERVER_ERROR);
    }
    // RFC 9110 §9.3.6: it would take that for a tunnel.
    let is_tunnel = facts.is_connect && status.is_success();
    is_tunnel.then_some(StatusCode::NOT_IMPLEMENTED)
}

/// How a body is framed: RFC 9112 §6.
fn framing_of(source: &Source, is_1_0: bool) -> Framing {
    let length = match source {
        Source::Empty | Source::Upgrade(_) => return Framing::None,
        Source::Bytes(bytes) => bytes.len() as u64,
        Source::File(part) => part.length,
        Source::Pipe { reader, length } => match length {
            None if reader.is_complete() => reader.queued() as u64,
            Some(length) => *length,
            None if is_1_0 => return Framing::UntilClose,
            None => return Framing::Chunked,
        },
    };
    Framing::Length(length)
}
