//! The body of a request, on its way out.

use std::rc::Rc;

use torsade_deferred::Failure;
use torsade_reactor::Transport;

use super::super::body::Body;
use super::super::chunked;
use super::super::error::BodyError;
use super::super::head::Framing;
use super::super::pipe::{Next, Reader};
use super::connection::ClientConnection;
use super::error::ClientErrorKind;
use super::exchange::Content;

/// A body of this size or less is copied behind its head; a larger one goes by itself.
const COPIED_MAX: usize = 8 * 1024;

/// What was put together is handed to the connection when it is this much.
const OUT_MAX: usize = 64 * 1024;

/// A body that is not all with the connection.
pub(super) enum Sending {
    /// It waits for the server's word: RFC 9110 §10.1.1. How it is framed stays: the head that says so has been sent.
    HeldBack(Content, Framing),
    Flowing {
        reader: Rc<Reader>,
        chunked: bool,
        /// What was promised, if the length is known.
        announced: Option<u64>,
        sent: u64,
    },
}

impl Sending {
    pub(super) fn is_held_back(&self) -> bool {
        matches!(self, Self::HeldBack(..))
    }
}

impl ClientConnection {
    /// Sends a body, framed as its head says, or waits for the server's word before that.
    pub(super) fn begin_sending(
        &mut self,
        transport: &Transport<Self>,
        (content, framing): (Content, Framing),
        waits: bool,
    ) {
        if waits && framing != Framing::None {
            self.sending = Some(Sending::HeldBack(content, framing));
        } else {
            self.send(transport, content, framing);
        }
    }

    /// The server wants the body, or says nothing.
    pub(super) fn may_continue(&mut self, transport: &Transport<Self>) {
        if let Some(Sending::HeldBack(content, framing)) =
            self.sending.take_if(|sending| sending.is_held_back())
        {
            self.send(transport, content, framing);
        }
    }

    fn send(&mut self, transport: &Transport<Self>, content: Content, framing: Framing) {
        let reader = match content {
            Content::Empty | Content::Spent => return,
            Content::Bytes(bytes) => {
                if bytes.len() <= COPIED_MAX {
                    self.out.extend_from_slice(&bytes);
                } else {
                    self.send_out(transport);
                    transport.write(&bytes);
                }
                return;
            }
            Content::File(part) => {
                self.send_out(transport);
                match transport.stream().write_file(part) {
                    Ok(()) => return,
                    // The stream has no way but to be written to.
                    Err(part) => Body::file_part(part).into_reader(),
                }
            }
            Content::Stream { reader, .. } => Some(reader),
        };
        let Some(reader) = reader else { return };
        let weak = transport.downgrade();
        reader.on_data(move || {
            if let Some(transport) = weak.upgrade() {
                transport.call(Self::go_on);
            }
        });
        self.sending = Some(Sending::Flowing {
            reader,
            chunked: framing == Framing::Chunked,
            announced: match framing {
                Framing::Length(length) => Some(length),
                // The head says so: what came all the same would be taken for the next request.
                Framing::None => Some(0),
                Framing::Chunked | Framing::UntilClose => None,
            },
            sent: 0,
        });
        self.pump(transport);
    }

    /// There is more of the body, or room for it.
    pub(super) fn go_on(&mut self, transport: &Transport<Self>) {
        if self.ending || self.sending.is_none() {
            return;
        }
        self.pump(transport);
        self.leave(transport);
    }

    /// Sends what the body has, as long as the peer takes it.
    fn pump(&mut self, transport: &Transport<Self>) {
        loop {
            if self.choked || self.ending {
                return;
            }
            if transport.is_congested() {
                // If that does not change when the callback at hand has returned, somebody says so;
                // if it does, nobody.
                return self.go_on_later(transport);
            }
            let Some(Sending::Flowing {
                reader,
                chunked,
                announced,
                sent,
            }) = &mut self.sending
            else {
                return;
            };
            let chunked = *chunked;
            match reader.next() {
                Next::Nothing => return,
                Next::Data(piece) => {
                    let size = piece.len() as u64;
                    *sent += size;
                    self.watch.note_flow(piece.len());
                    if announced.is_some_and(|announced| *sent > announced) {
                        return self.wrong_length(transport);
                    }
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
                        transport.write(&piece);
                        if chunked {
                            self.out.extend_from_slice(b"\r\n");
                        }
                    }
                }
                Next::End(Err(failure)) => return self.body_failed(transport, failure),
                Next::End(Ok(trailers)) => {
                    if announced.is_some_and(|announced| *sent < announced) {
                        return self.wrong_length(transport);
                    }
                    if chunked {
                        chunked::write_end(&mut self.out, &trailers);
                    }
                    self.sending = None;
                    return;
                }
            }
        }
    }

    fn go_on_later(&mut self, transport: &Transport<Self>) {
        let weak = transport.downgrade();
        transport.reactor().call_soon(move || {
            if let Some(transport) = weak.upgrade() {
                transport.call(Self::go_on);
            }
        });
    }

    fn wrong_length(&mut self, transport: &Transport<Self>) {
        if let Some(Sending::Flowing {
            announced: Some(announced),
            sent,
            ..
        }) = &self.sending
        {
            let (announced, actual) = (*announced, *sent);
            let error = BodyError::WrongLength { announced, actual };
            self.body_failed(transport, error.into());
        }
    }

    /// The body does not come to its end: the server must not take it for whole.
    fn body_failed(&mut self, transport: &Transport<Self>, failure: Failure) {
        self.out.clear();
        self.break_off(transport, |exchange| {
            exchange.failure(ClientErrorKind::RequestBody(failure))
        });
    }
}
