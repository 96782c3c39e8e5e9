//! Several parts of a file, as one body.

use bytes::Bytes;
use http::HeaderMap;
use torsade_deferred::{Deferred, Failure};
use torsade_reactor::FilePart;

use super::super::body::{Body, BodySender};
use super::super::pipe;
use super::super::ranges::{ByteRange, MultipartRanges};

/// How much of a part is read at a time.
const PIECE: usize = 64 * 1024;

/// Parts of what is in memory.
pub(super) fn body_in_memory(layout: &MultipartRanges, part: impl Fn(ByteRange) -> Bytes) -> Body {
    let (writer, reader) = pipe::pipe(usize::MAX);
    for (range, head) in layout.parts() {
        writer.write(Bytes::copy_from_slice(head));
        writer.write(part(range));
    }
    writer.write(Bytes::copy_from_slice(layout.end()));
    writer.finish(HeaderMap::new());
    Body::of_pipe(reader, Some(layout.content_length()))
}

/// Parts that are read as they are sent.
pub(super) fn body_of_file(layout: &MultipartRanges, part: impl Fn(ByteRange) -> FilePart) -> Body {
    let (sender, body) = Body::sized_channel(layout.content_length());
    let parts = layout
        .parts()
        .map(|(range, head)| (head.to_vec(), part(range)));
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    let writing = Writing {
        sender,
        parts,
        end: layout.end().to_vec(),
    };
    // Whoever does not take it is no failure of ours, and the sender says so itself.
    drop(writing.go_on());
    body
}

struct Writing {
    sender: BodySender,
    /// What is still to come, the last first.
    parts: Vec<(Vec<u8>, FilePart)>,
    end: Vec<u8>,
}

impl Writing {
    fn go_on(mut self) -> Deferred<()> {
        while !self.sender.is_full() {
            match self.write() {
                Ok(true) => {}
                Ok(false) => {
                    self.sender.finish();
                    return torsade_deferred::succeed(());
                }
                Err(failure) => {
                    self.sender.fail(failure);
                    return torsade_deferred::succeed(());
                }
            }
        }
        let ready = self.sender.ready();
        ready.add_callbacks(move |()| self.go_on(), |_gone: Failure| Ok(()))
    }

    /// Writes a piece; `false` if it was the last.
    fn write(&mut self) -> Result<bool, Failure> {
        let Some((head, part)) = self.parts.last_mut() else {
            self.sender.write(std::mem::take(&mut self.end))?;
            return Ok(false);
        };
        if !head.is_empty() {
            self.sender.write(std::mem::take(head))?;
        }
        let piece = part.take_piece(PIECE)?;
        let is_over = part.length == 0;
        self.sender.write(piece)?;
        if is_over {
            self.parts.pop();
        }
        Ok(true)
    }
}
