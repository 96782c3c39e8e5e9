//! A file, sent.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, Trigger, fail};

use crate::error::NotFlushed;
use crate::producer::{AlreadyProducing, Producer, Streaming};
use crate::stream::{FilePart, Stream};
use crate::transport::Transport;

/// How much is read at a time, where the system cannot send the file by itself.
const CHUNK: usize = 64 * 1024;

type Transform = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// Sends a file, or a part of one, to a transport. Twisted's `FileSender`.
///
/// The system sends it by itself where it can (`sendfile`, on a socket); elsewhere, and with a
/// [`transform`](Self::transform), it is read in chunks of 64 KiB, as a pull producer, at the
/// pace of the peer. (Those reads block; a file on this machine is read at once as a rule.)
///
/// # Examples
///
/// ```no_run
/// use std::fs::File;
/// use torsade_reactor::{FileSender, Protocol, Transport};
///
/// struct Page;
///
/// impl Protocol for Page {
///     fn data_received(&mut self, transport: &Transport<Self>, _request: &[u8]) {
///         match File::open("index.html") {
///             Ok(file) => {
///                 let sent = FileSender::new(file).send(transport);
///                 transport.when(sent, |_, transport, _sent| transport.lose_connection());
///             }
///             Err(error) => transport.lose_connection_because(error),
///         }
///     }
/// }
/// ```
pub struct FileSender {
    file: Rc<File>,
    offset: u64,
    length: Option<u64>,
    transform: Option<Transform>,
}

impl FileSender {
    /// All of `file`, from its beginning. Its own position is neither used nor moved.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self {
            file: Rc::new(file),
            offset: 0,
            length: None,
            transform: None,
        }
    }

    /// Only `length` bytes from `offset`.
    #[must_use]
    pub fn part(mut self, offset: u64, length: u64) -> Self {
        (self.offset, self.length) = (offset, Some(length));
        self
    }

    /// Sends what `transform` makes of each chunk.
    #[must_use]
    pub fn transform(mut self, transform: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> Self {
        self.transform = Some(Box::new(transform));
        self
    }

    /// Sends it, after what was written before. Fires with the number of bytes of the file when
    /// the system has them all.
    ///
    /// Nothing else may write to the transport until then, where a file is read in chunks.
    ///
    /// Fails with [`NotFlushed`] if the connection is lost first, or our stream has ended; with
    /// [`AlreadyProducing`](crate::AlreadyProducing) if the transport has a producer; with what
    /// the system says if the file cannot be read, or with
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the part reaches beyond its end.
    ///
    /// # Cancellation
    ///
    /// No further chunk is read. What the system was given to send by itself it sends.
    pub fn send<P: 'static, S: Stream + ?Sized>(
        self,
        transport: &Transport<P, S>,
    ) -> Deferred<u64> {
        let length = match self.length_to_send() {
            Ok(length) => length,
            Err(error) => return fail(error),
        };
        if !transport.takes_writes() {
            return fail(NotFlushed);
        }
        if self.transform.is_none() {
            let part = FilePart {
                file: Rc::clone(&self.file),
                offset: self.offset,
                length,
            };
            if transport.stream().write_file(part).is_ok() {
                return transport.flush().add_callback(move |()| Ok(length));
            }
        }
        let (trigger, deferred) = Deferred::new();
        let weak = transport.downgrade();
        trigger.on_cancel(move || {
            if let Some(transport) = weak.upgrade() {
                transport.unregister_producer();
            }
        });
        let place = Rc::new(RefCell::new(Some(trigger)));
        let reading = Reading {
            sender: self,
            transport: transport.clone(),
            left: length,
            trigger: Rc::clone(&place),
        };
        let flushed = transport.clone();
        if transport
            .register_producer(reading, Streaming::Pull)
            .is_err()
            && let Some(trigger) = place.take()
        {
            trigger.errback(Failure::from(AlreadyProducing(())));
        }
        deferred.add_callback(move |()| flushed.flush().add_callback(move |()| Ok(length)))
    }

    /// The file's own length bounds it.
    fn length_to_send(&self) -> io::Result<u64> {
        let available = self.file.metadata()?.len().saturating_sub(self.offset);
        match self.length {
            Some(length) if length > available => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(length) => Ok(length),
            None => Ok(available),
        }
    }
}

impl fmt::Debug for FileSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSender")
            .field("file", &self.file)
            .field("offset", &self.offset)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// The file as a producer.
struct Reading<P: 'static, S: Stream + ?Sized> {
    sender: FileSender,
    transport: Transport<P, S>,
    left: u64,
    /// Shared with who waits for the first call.
    trigger: Rc<RefCell<Option<Trigger<()>>>>,
}

impl<P: 'static, S: Stream + ?Sized> Reading<P, S> {
    /// Reads the next chunk, and sends it.
    fn send_chunk(&mut self) -> io::Result<()> {
        let size = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; size];
        let count = match self.sender.file.read_at(&mut chunk, self.sender.offset) {
            Ok(0) if size > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            outcome => outcome?,
        };
        chunk.truncate(count);
        self.sender.offset += count as u64;
        self.left -= count as u64;
        match &mut self.sender.transform {
            Some(transform) => self.transport.write(transform(&chunk)),
            None => self.transport.write(chunk),
        }
        Ok(())
    }

    /// Detach, then call: the transport is free for the next when this fires.
    fn finish(&self, outcome: Result<(), Failure>) {
        let trigger = self.trigger.take();
        self.transport.unregister_producer();
        if let Some(trigger) = trigger {
            trigger.fire(outcome);
        }
    }
}

impl<P: 'static, S: Stream + ?Sized> Producer for Reading<P, S> {
    fn pause_producing(&mut self) {}

    fn resume_producing(&mut self) {
        match self.send_chunk() {
            Ok(()) if self.left == 0 => self.finish(Ok(())),
            Ok(()) => {}
            Err(error) => self.finish(Err(error.into())),
        }
    }

    fn stop_producing(&mut self) {
        let trigger = self.trigger.take();
        if let Some(trigger) = trigger {
            trigger.errback(Failure::from(NotFlushed));
        }
    }
}
