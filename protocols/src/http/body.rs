//! What a message carries: bytes in memory, a part of a file, or what comes in time.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use torsade_deferred::{Deferred, Failure, IntoDeferred, Trigger, fail, maybe_deferred, succeed};
use torsade_reactor::FilePart;

use super::encode::PLAIN_TEXT;
use super::error::{BodyClosed, BodyError};
use super::pipe::{self, Demand, Next, Reader, Writer};
use super::upgrade::Upgraded;

/// How much of a body waits for a connection that is slower than who writes it.
const UNSENT: usize = 64 * 1024;

/// More than this that waits is a writer that does not heed [`BodySender::is_full`].
const UNSENT_MAX: usize = 16 * 1024 * 1024;

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// The body of a request or of a response.
///
/// Made from text, bytes, a file or a [`channel`](Body::channel); read whole ([`read`](Body::read)),
/// piece by piece ([`for_each`](Body::for_each), [`next_piece`](Body::next_piece)), or handed on as it
/// is: a server that answers with the body of a request that it made itself is a proxy, and whoever is
/// slower sets the pace.
///
/// A body that comes over a connection and is dropped unread is not read further.
pub struct Body {
    pub(super) source: Source,
    /// What a response says of it that has no `Content-Type` of its own.
    pub(super) media_type: Option<&'static str>,
}

pub(super) enum Source {
    Empty,
    Bytes(Bytes),
    File(FilePart),
    Pipe {
        reader: Rc<Reader>,
        length: Option<u64>,
    },
    /// No body: the connection is handed on.
    Upgrade(Box<dyn FnOnce(Upgraded)>),
}

impl Body {
    /// No bytes at all.
    #[must_use]
    pub fn empty() -> Self {
        Source::Empty.into()
    }

    /// Text of this type; `"text/html; charset=utf-8"`, for instance.
    #[must_use]
    pub fn text(media_type: &'static str, text: impl Into<String>) -> Self {
        let mut body = Self::from(text.into());
        body.media_type = Some(media_type);
        body
    }

    /// A page: `text/html` in UTF-8.
    #[must_use]
    pub fn html(text: impl Into<String>) -> Self {
        Self::text("text/html; charset=utf-8", text)
    }

    /// A value as JSON, with the type that says so.
    ///
    /// # Errors
    ///
    /// What `serde_json` says, of a map with keys that are no text for instance.
    pub fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let mut body = Self::from(serde_json::to_vec(value)?);
        body.media_type = Some(JSON);
        Ok(body)
    }

    /// All of a file. It is sent by the system itself where that can (`sendfile`), else read in pieces.
    ///
    /// # Errors
    ///
    /// What the system says when it is asked for the length.
    pub fn file(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::file_part(FilePart {
            file: Rc::new(file),
            offset: 0,
            length,
        }))
    }

    /// A part of a file.
    #[must_use]
    pub fn file_part(part: FilePart) -> Self {
        Self {
            source: match part.length {
                0 => Source::Empty,
                _ => Source::File(part),
            },
            media_type: Some(BINARY),
        }
    }

    /// A body that is written while it is sent, of a length that nobody knows yet.
    #[must_use]
    pub fn channel() -> (BodySender, Self) {
        Self::channel_of(None)
    }

    /// A body that is written while it is sent, of a length that is known. To write more or less
    /// than that is an error, and ends the connection: its peer has been promised this much.
    #[must_use]
    pub fn sized_channel(length: u64) -> (BodySender, Self) {
        Self::channel_of(Some(length))
    }

    fn channel_of(length: Option<u64>) -> (BodySender, Self) {
        let (writer, reader) = pipe::pipe(UNSENT);
        let body = Self::of_pipe(reader, length);
        let waiting: Waiting = Rc::default();
        let told = Rc::clone(&waiting);
        writer.on_demand(move |demand| {
            if demand == Demand::Wanted {
                return;
            }
            // Detach, then call.
            let triggers = told.take();
            for trigger in triggers {
                trigger.fire(match demand {
                    Demand::Gone => Err(BodyClosed.into()),
                    _ => Ok(()),
                });
            }
        });
        (BodySender { writer, waiting }, body)
    }

    pub(super) fn of_pipe(reader: Reader, length: Option<u64>) -> Self {
        let reader = Rc::new(reader);
        Source::Pipe { reader, length }.into()
    }

    pub(super) fn upgrade(then: impl FnOnce(Upgraded) + 'static) -> Self {
        Source::Upgrade(Box::new(then)).into()
    }

    /// Says of what type it is, for a response without a `Content-Type`.
    #[must_use]
    pub fn with_media_type(mut self, media_type: &'static str) -> Self {
        self.media_type = Some(media_type);
        self
    }

    /// How many bytes it has, if that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Empty | Source::Upgrade(_) => Some(0),
            Source::Bytes(bytes) => Some(bytes.len() as u64),
            Source::File(part) => Some(part.length),
            Source::Pipe { reader, length } => match length {
                None if reader.is_complete() => Some(reader.queued() as u64),
                length => *length,
            },
        }
    }

    /// Whether it is known to have no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length() == Some(0)
    }

    /// The bytes, if they are all in memory already.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Empty => Some(&[]),
            Source::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Whether it ends where its connection does: its sender said neither how long it is nor where it ends, so that
    /// nobody can tell whether it came whole (RFC 9112 §8). Only of responses; Twisted's `PotentialDataLoss`.
    ///
    /// Through TLS, an end that nobody vouches for is a failure of the body.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        match &self.source {
            Source::Pipe { reader, .. } => reader.ends_with_connection(),
            _ => false,
        }
    }

    /// Reads it all. Fires at once, if it is all there.
    ///
    /// Fails with [`BodyError::TooLong`] when more than `limit` bytes come, without reading on; with
    /// [`BodyError::ConnectionLost`] if the connection ends first, which has what had come. Twisted's `readBody`, and its
    /// `PartialDownloadError`.
    ///
    /// # Cancellation
    ///
    /// The rest is not read: as if it had been dropped.
    pub fn read(self, limit: usize) -> Deferred<Bytes> {
        let too_long = self.length().is_some_and(|length| length > limit as u64);
        if too_long {
            return fail(Failure::from(BodyError::TooLong { limit }));
        }
        if let Source::Bytes(bytes) = self.source {
            return succeed(bytes);
        }
        let kept = Rc::new(RefCell::new(BytesMut::new()));
        let (collected, cut) = (Rc::clone(&kept), Rc::clone(&kept));
        self.for_each(move |piece| {
            let mut kept = kept.borrow_mut();
            if kept.len() + piece.len() > limit {
                return Err(Failure::from(BodyError::TooLong { limit }));
            }
            kept.extend_from_slice(&piece);
            Ok(())
        })
        .map(move |_trailers| collected.take().freeze())
        .map_err(move |failure| match failure.downcast_ref() {
            Some(BodyError::ConnectionLost { reason, .. }) => {
                Failure::from(BodyError::ConnectionLost {
                    reason: reason.clone(),
                    received: cut.take().freeze(),
                })
            }
            _ => failure,
        })
    }

    /// Reads it all, as text.
    ///
    /// Fails as [`read`](Body::read) does, and with [`BodyError::NotText`].
    pub fn read_text(self, limit: usize) -> Deferred<String> {
        self.read(limit).add_callback(|bytes| {
            String::from_utf8(bytes.into())
                .map_err(|error| BodyError::NotText(error.utf8_error()).into())
        })
    }

    /// Reads it all, as JSON.
    ///
    /// Fails as [`read`](Body::read) does, and with what `serde_json` says.
    pub fn read_json<T: DeserializeOwned + 'static>(self, limit: usize) -> Deferred<T> {
        self.read(limit)
            .add_callback(|bytes| serde_json::from_slice(&bytes).map_err(Failure::from))
    }

    /// Calls `take` with each piece, in order; the next one comes when what it returned has fired, and
    /// is not read from the connection before. Fires with the trailers.
    ///
    /// A failure of `take` ends it, and is what this fails with.
    ///
    /// # Cancellation
    ///
    /// The rest is not read.
    pub fn for_each<R>(self, mut take: impl FnMut(Bytes) -> R + 'static) -> Deferred<HeaderMap>
    where
        R: IntoDeferred<Failure, Value = ()> + 'static,
    {
        let (trigger, deferred) = Deferred::new();
        let walk = Rc::new(Walk {
            reader: RefCell::new(self.into_reader()),
            take: RefCell::new(Some(Box::new(move |piece| maybe_deferred(|| take(piece))))),
            trigger: RefCell::new(Some(trigger)),
        });
        walk.begin();
        deferred
    }

    /// The next piece, or `None` at the end; for `async` code.
    ///
    /// Fails if the body does not come whole. To ask again before it has fired ends the waiting of
    /// who asked before, with `Abandoned`.
    pub fn next_piece(&mut self) -> Deferred<Option<Bytes>> {
        if !matches!(self.source, Source::Pipe { .. }) {
            let length = self.length();
            let whole = mem::take(self);
            if let Some(reader) = whole.into_reader() {
                self.source = Source::Pipe { reader, length };
            }
        }
        let Source::Pipe { reader, .. } = &self.source else {
            return succeed(None);
        };
        if let Some(result) = result_of(reader.next()) {
            return match result {
                Ok(piece) => succeed(piece),
                Err(failure) => fail(failure),
            };
        }
        let (trigger, deferred) = Deferred::new();
        let place = RefCell::new(Some(trigger));
        let weak = Rc::downgrade(reader);
        reader.on_data(move || {
            let Some(reader) = weak.upgrade() else { return };
            // What is given to nobody would be lost: whoever asks next gets it.
            let is_awaited = |it: &Trigger<_>| it.is_watched() && it.is_open();
            if !place.borrow().as_ref().is_some_and(is_awaited) {
                return;
            }
            if let Some(result) = result_of(reader.next()) {
                let trigger = place.take();
                reader.forget_on_data();
                if let Some(trigger) = trigger {
                    trigger.fire(result);
                }
            }
        });
        deferred
    }

    /// Has `change` make of what it fails with what is read of that, if it comes in time.
    pub(super) fn map_failure(&self, change: impl FnOnce(Failure) -> Failure + 'static) {
        if let Source::Pipe { reader, .. } = &self.source {
            reader.map_failure(change);
        }
    }

    /// The same once more, unless it comes in time.
    pub(super) fn try_clone(&self) -> Option<Self> {
        let source = match &self.source {
            Source::Empty => Source::Empty,
            Source::Bytes(bytes) => Source::Bytes(bytes.clone()),
            Source::File(part) => Source::File(part.clone()),
            Source::Pipe { .. } | Source::Upgrade(_) => return None,
        };
        let media_type = self.media_type;
        Some(Self { source, media_type })
    }

    /// A pipe that gives what this body holds; none, if it holds nothing.
    pub(super) fn into_reader(self) -> Option<Rc<Reader>> {
        match self.source {
            Source::Empty | Source::Upgrade(_) => None,
            Source::Bytes(bytes) => {
                let (writer, reader) = pipe::pipe(usize::MAX);
                writer.write(bytes);
                writer.finish(HeaderMap::new());
                Some(Rc::new(reader))
            }
            Source::File(part) => Some(file_reader(part)),
            Source::Pipe { reader, .. } => Some(reader),
        }
    }
}

/// What `next_piece` fires with.
fn result_of(next: Next) -> Option<Result<Option<Bytes>, Failure>> {
    match next {
        Next::Data(piece) => Some(Ok(Some(piece))),
        Next::End(Ok(_)) => Some(Ok(None)),
        Next::End(Err(failure)) => Some(Err(failure)),
        Next::Nothing => None,
    }
}

/// A pipe that reads a part of a file as it is emptied.
fn file_reader(part: FilePart) -> Rc<Reader> {
    let (writer, reader) = pipe::pipe(UNSENT);
    let feed = Rc::new(FileFeed {
        part: RefCell::new(part),
        writer: RefCell::new(None),
    });
    let feeding = Rc::clone(&feed);
    writer.on_demand(move |demand| match demand {
        Demand::Wanted | Demand::Room => feeding.feed(),
        Demand::Gone => {
            let writer = feeding.writer.take();
            drop(writer);
        }
    });
    feed.writer.replace(Some(writer));
    Rc::new(reader)
}

struct FileFeed {
    part: RefCell<FilePart>,
    /// Until the end.
    writer: RefCell<Option<Writer>>,
}

impl FileFeed {
    /// Reads until the pipe is full.
    fn feed(&self) {
        // Detach, then call: out of its place, so that what the reader does meanwhile only asks.
        let Some(writer) = self.writer.take() else {
            return;
        };
        while !writer.is_full() {
            match self.read_piece() {
                Ok(None) => return writer.finish(HeaderMap::new()),
                Ok(Some(piece)) => writer.write(piece),
                Err(error) => return writer.fail(error.into()),
            }
        }
        self.writer.replace(Some(writer));
    }

    fn read_piece(&self) -> io::Result<Option<Bytes>> {
        let mut part = self.part.borrow_mut();
        if part.length == 0 {
            return Ok(None);
        }
        let piece = part.take_piece(UNSENT)?;
        Ok(Some(piece.into()))
    }
}

/// A body that is walked through.
struct Walk {
    /// `None` at the end, and from the beginning if there is nothing.
    reader: RefCell<Option<Rc<Reader>>>,
    /// Out of its place while it is called, and while it is waited for.
    take: RefCell<Option<Take>>,
    trigger: RefCell<Option<Trigger<HeaderMap>>>,
}

type Take = Box<dyn FnMut(Bytes) -> Deferred<()>>;

impl Walk {
    fn begin(self: Rc<Self>) {
        let reader = self.reader.borrow().clone();
        let Some(reader) = reader else {
            return self.finish(Ok(HeaderMap::new()));
        };
        let weak = Rc::downgrade(&self);
        if let Some(trigger) = &*self.trigger.borrow() {
            trigger.on_cancel(move || {
                if let Some(walk) = weak.upgrade() {
                    walk.let_go();
                }
            });
        }
        // The pipe keeps the walk, until its end.
        let walk = Rc::clone(&self);
        reader.on_data(move || walk.go_on());
        self.go_on();
    }

    fn go_on(self: &Rc<Self>) {
        loop {
            // Detach, then call: what comes meanwhile is taken when it returns.
            let Some(mut take) = self.take.take() else {
                return;
            };
            let reader = self.reader.borrow().clone();
            let Some(reader) = reader else { return };
            let piece = match reader.next() {
                Next::Data(piece) => piece,
                Next::End(outcome) => return self.finish(outcome),
                Next::Nothing => {
                    self.take.replace(Some(take));
                    return;
                }
            };
            match take(piece).into_result() {
                Ok(Ok(())) => {
                    self.take.replace(Some(take));
                }
                Ok(Err(failure)) => return self.finish(Err(failure)),
                Err(waiting) => {
                    let walk = Rc::clone(self);
                    // Dropped: both ends are handled.
                    drop(waiting.add_both(move |outcome| match outcome {
                        Ok(()) => {
                            walk.take.replace(Some(take));
                            walk.go_on();
                        }
                        Err(failure) => walk.finish(Err(failure)),
                    }));
                    return;
                }
            }
        }
    }

    /// Nobody reads any more.
    fn let_go(&self) {
        let reader = self.reader.take();
        if let Some(reader) = reader {
            reader.forget_on_data();
        }
    }

    fn finish(&self, outcome: Result<HeaderMap, Failure>) {
        self.let_go();
        let trigger = self.trigger.take();
        if let Some(trigger) = trigger {
            trigger.fire(outcome);
        }
    }
}

/// Writes a [`Body::channel`]. Dropped before [`finish`](BodySender::finish), it breaks the body off: the
/// peer sees that it is not whole.
pub struct BodySender {
    writer: Writer,
    waiting: Waiting,
}

/// Who waits for room.
type Waiting = Rc<RefCell<Vec<Trigger<()>>>>;

impl BodySender {
    /// Sends a piece, in time. Never blocks.
    ///
    /// Who writes much asks [`is_full`](Self::is_full), or waits for [`ready`](Self::ready): what is
    /// written all the same is kept, up to 16 MiB, and more than that breaks the body off.
    ///
    /// # Errors
    ///
    /// [`BodyClosed`]: nobody takes it any more.
    pub fn write(&self, piece: impl Into<Bytes>) -> Result<(), BodyClosed> {
        if !self.writer.is_read() {
            return Err(BodyClosed);
        }
        if self.writer.queued() > UNSENT_MAX {
            self.writer
                .abort(Failure::from(BodyError::Overrun { limit: UNSENT_MAX }));
            return Err(BodyClosed);
        }
        self.writer.write(piece.into());
        Ok(())
    }

    /// Whether it holds enough: more than 64 KiB.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// Whether somebody takes it, or may still.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.writer.is_read()
    }

    /// Fires when there is room: at once, if there is. Fails with [`BodyClosed`] when nobody takes it
    /// any more.
    pub fn ready(&self) -> Deferred<()> {
        if !self.writer.is_read() {
            return fail(Failure::from(BodyClosed));
        }
        if !self.writer.is_full() {
            return succeed(());
        }
        let (trigger, deferred) = Deferred::new();
        self.waiting.borrow_mut().push(trigger);
        deferred
    }

    /// Ends the body.
    pub fn finish(self) {
        self.writer.finish(HeaderMap::new());
    }

    /// Ends the body with trailers. They are sent where that is possible: chunked, in HTTP/1.1.
    pub fn finish_with_trailers(self, trailers: HeaderMap) {
        self.writer.finish(trailers);
    }

    /// Breaks the body off. Its reader in this process gets `failure`; a peer sees that it is not
    /// whole.
    pub fn fail(self, failure: impl Into<Failure>) {
        self.writer.fail(failure.into());
    }
}

impl fmt::Debug for BodySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodySender")
            .field("queued", &self.writer.queued())
            .field("is_read", &self.is_read())
            .finish_non_exhaustive()
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Source> for Body {
    fn from(source: Source) -> Self {
        Self {
            source,
            media_type: None,
        }
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            source: if bytes.is_empty() {
                Source::Empty
            } else {
                Source::Bytes(bytes)
            },
            media_type: Some(BINARY),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text)).with_media_type(PLAIN_TEXT)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::from(Bytes::from_static(text.as_bytes())).with_media_type(PLAIN_TEXT)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.source {
            Source::Empty => "empty",
            Source::Bytes(_) => "bytes",
            Source::File(_) => "file",
            Source::Pipe { .. } => "pipe",
            Source::Upgrade(_) => "upgrade",
        };
        match self.length() {
            Some(length) => write!(f, "Body({kind}, {length} bytes)"),
            None => write!(f, "Body({kind})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use torsade_reactor::testing::{failure_of, no_result, success_of};

    use super::*;

    #[test]
    fn a_body_in_memory_is_read_at_once() {
        assert_eq!(success_of(Body::from("abc").read(3)), "abc");
        assert_eq!(success_of(Body::empty().read(0)), "");
        let failure = failure_of(Body::from("abc").read(2));
        assert_eq!(
            failure.downcast_ref(),
            Some(&BodyError::TooLong { limit: 2 })
        );
    }

    #[test]
    fn a_channel_gives_what_was_written_and_its_end() {
        let (sender, body) = Body::channel();
        sender.write("ab").expect("it is read");
        let read = body.read(10);
        no_result(&read);
        sender.write("cd").expect("it is read");
        sender.finish();
        assert_eq!(success_of(read), "abcd");
    }

    #[test]
    fn a_sender_that_is_dropped_breaks_the_body_off() {
        let (sender, body) = Body::channel();
        sender.write("ab").expect("it is read");
        let read = body.read(10);
        drop(sender);
        assert_eq!(failure_of(read).downcast_ref(), Some(&BodyError::Abandoned));
    }

    #[test]
    fn a_body_that_is_dropped_tells_its_sender() {
        let (sender, body) = Body::channel();
        sender.write(vec![0; UNSENT + 1]).expect("it is kept");
        let ready = sender.ready();
        no_result(&ready);
        drop(body);
        assert!(failure_of(ready).check::<BodyClosed>());
        assert_eq!(sender.write("x"), Err(BodyClosed));
    }

    #[test]
    fn the_reader_sets_the_pace() {
        let (sender, mut body) = Body::channel();
        sender.write(vec![1; UNSENT]).expect("it is kept");
        assert!(!sender.is_full());
        sender.write(vec![2; 10]).expect("it is kept");
        assert!(sender.is_full());
        let ready = sender.ready();
        no_result(&ready);
        assert_eq!(
            success_of(body.next_piece()).map(|piece| piece.len()),
            Some(UNSENT)
        );
        success_of(ready);
        assert!(!sender.is_full());
    }

    #[test]
    fn each_piece_waits_for_the_one_before() {
        let (sender, body) = Body::channel();
        let (trigger, first) = Deferred::<()>::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (log, mut first) = (Rc::clone(&seen), Some(first));
        let walked = body.for_each(move |piece| {
            log.borrow_mut().push(piece);
            first.take().unwrap_or_else(|| succeed(()))
        });
        sender.write("a").expect("it is read");
        sender.write("b").expect("it is kept");
        sender.finish();
        assert_eq!(*seen.borrow(), ["a"]);
        trigger.callback(());
        assert_eq!(*seen.borrow(), ["a", "b"]);
        assert!(success_of(walked).is_empty());
    }

    #[test]
    fn a_piece_that_nobody_waits_for_any_more_is_not_lost() {
        let (sender, mut body) = Body::channel();
        drop(body.next_piece());
        sender.write("a").expect("it is kept");
        assert_eq!(success_of(body.next_piece()).as_deref(), Some(&b"a"[..]));
        let cancelled = body.next_piece();
        cancelled.cancel();
        sender.write("b").expect("it is kept");
        assert_eq!(success_of(body.next_piece()).as_deref(), Some(&b"b"[..]));
        drop(cancelled.add_errback(|_| Ok(None)));
    }

    #[test]
    fn cancelling_lets_the_body_go() {
        let (sender, body) = Body::channel();
        let read = body.read(10);
        read.cancel();
        assert!(!sender.is_read());
        drop(read.add_errback(|_| Ok(Bytes::new())));
    }

    #[test]
    fn json_goes_there_and_back() {
        let body = Body::json(&[1, 2, 3]).expect("it can be written");
        assert_eq!(body.media_type, Some(JSON));
        assert_eq!(success_of(body.read_json::<Vec<u8>>(100)), [1, 2, 3]);
        assert!(failure_of(Body::from("[").read_json::<Vec<u8>>(100)).check::<serde_json::Error>());
    }

    #[test]
    fn a_file_is_read_in_pieces() {
        let mut file = tempfile::tempfile().expect("a file");
        let content: Vec<u8> = (0..200_000_u32).map(|byte| byte as u8).collect();
        io::Write::write_all(&mut file, &content).expect("it takes them");
        let body = Body::file(file).expect("it has a length");
        assert_eq!(body.length(), Some(200_000));
        assert_eq!(success_of(body.read(200_000)), content);
    }
}
