//! Forms with files, from the body of a request: in pieces, or kept.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::vec;

use bytes::Bytes;
use http::{StatusCode, header};
use torsade_deferred::{Deferred, Failure, IntoDeferred, fail, maybe_deferred, succeed};

use super::body::Body;
use super::error::{BodyError, StatusError};
use super::forms::Form;
use super::multipart::{Event, Multipart, MultipartLimits, PartHead};
use super::request::Request;

/// A piece of a form with files, in order.
#[derive(Debug)]
pub enum FormPiece {
    /// A field or a file begins.
    Begin(PartHead),
    /// Some of its bytes: one at least.
    Data(Bytes),
    /// It is complete.
    End,
}

/// A form with files that comes in; see [`Request::multipart`].
#[derive(Debug)]
pub struct FormStream {
    parser: Multipart,
    body: Body,
}

/// Where files of a form are put, and how large they may be; see [`Request::read_upload`].
#[derive(Clone, Debug)]
pub struct UploadLimits {
    /// How many parts there may be, and how large their heads.
    pub parts: MultipartLimits,
    /// Bytes of all fields that are no files: 256 KiB. Above, 413.
    pub fields: usize,
    /// Bytes of a file, above which it is put into [`folder`](Self::folder): 256 KiB. Without a folder
    /// that is 413.
    pub memory: usize,
    /// Where files go that are larger: nowhere.
    pub folder: Option<PathBuf>,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            parts: MultipartLimits::default(),
            fields: 256 * 1024,
            memory: 256 * 1024,
            folder: None,
        }
    }
}

/// A form with files that has come.
#[derive(Debug, Default)]
pub struct Upload {
    /// The fields that are no files.
    pub fields: Form,
    /// The files, in their order.
    pub files: Vec<UploadedFile>,
}

/// A file of a form.
#[derive(Debug)]
pub struct UploadedFile {
    /// What the form says of it. Its file name is the client's word: show it, never open it.
    pub head: PartHead,
    length: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    Disk(TemporaryFile),
}

impl Request {
    /// The body as a form with files, `multipart/form-data`, to be taken in pieces.
    ///
    /// # Errors
    ///
    /// A [`StatusError`] of 415, if the body is something else.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_deferred::Deferred;
    /// use torsade_protocols::http::multipart::MultipartLimits;
    /// use torsade_protocols::http::{FormPiece, Request, StatusError};
    ///
    /// fn upload(mut request: Request) -> Result<Deferred<&'static str>, StatusError> {
    ///     let form = request.multipart(MultipartLimits::default())?;
    ///     let taken = form.for_each(|piece| match piece {
    ///         FormPiece::Begin(head) => println!("{}: {:?}", head.name, head.filename),
    ///         FormPiece::Data(data) => println!("{} bytes", data.len()),
    ///         FormPiece::End => println!("complete"),
    ///     });
    ///     Ok(taken.map(|()| "thank you"))
    /// }
    /// # drop(upload);
    /// ```
    pub fn multipart(&mut self, limits: MultipartLimits) -> Result<FormStream, StatusError> {
        let unsupported = || StatusError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let content_type = self.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.ok_or_else(unsupported)?;
        let parser = Multipart::new(content_type, limits).map_err(|_bad| unsupported())?;
        let body = self.take_body();
        Ok(FormStream { parser, body })
    }

    /// Reads the whole body as a form with files. Small files are kept in memory, larger ones in a
    /// folder, if there is one, from which they are removed when they are dropped. To write them blocks.
    ///
    /// Fails with a [`StatusError`] of 415 if the body is something else, of 413 if it is too much; with
    /// [`MultipartError`](super::multipart::MultipartError), which is answered with 400; as
    /// [`Body::for_each`] does, and with what the system says.
    ///
    /// How long the body may be in all is the server's limit: [`Site::body_max`](super::Site::body_max).
    ///
    /// # Cancellation
    ///
    /// The rest is not read, and files are removed.
    pub fn read_upload(&mut self, limits: UploadLimits) -> Deferred<Upload> {
        let form = match self.multipart(limits.parts) {
            Ok(form) => form,
            Err(error) => return fail(error),
        };
        let gathered = Rc::new(RefCell::new(Gathering::new(limits)));
        let gathering = Rc::clone(&gathered);
        let taken = form.for_each(move |piece| gathering.borrow_mut().take(piece));
        taken.map(move |()| std::mem::take(&mut gathered.borrow_mut().upload))
    }
}

impl FormStream {
    /// Calls `take` with each piece, in order; the next one comes when what it returned has fired, and
    /// no more is read from the connection before. Fires at the end of the form.
    ///
    /// Fails as [`Body::for_each`] does, and with
    /// [`MultipartError`](super::multipart::MultipartError), which is answered with 400. A failure of
    /// `take` ends it.
    ///
    /// # Cancellation
    ///
    /// The rest is not read.
    pub fn for_each<R>(self, mut take: impl FnMut(FormPiece) -> R + 'static) -> Deferred<()>
    where
        R: IntoDeferred<Failure, Value = ()> + 'static,
    {
        let parser = Rc::new(RefCell::new(self.parser));
        let parsing = Rc::clone(&parser);
        let take: Box<dyn FnMut(FormPiece) -> Deferred<()>> =
            Box::new(move |piece| maybe_deferred(|| take(piece)));
        let take: Rc<Take> = Rc::new(Cell::new(Some(take)));
        let fed =
            self.body.for_each(
                move |chunk| match pieces_of(&mut parsing.borrow_mut(), &chunk) {
                    Ok(pieces) => hand_on(pieces.into_iter(), Rc::clone(&take)),
                    Err(failure) => fail(failure),
                },
            );
        fed.add_callback(move |_trailers| Ok(parser.borrow().finish()?))
    }
}

/// Out of its place while it is called.
type Take = Cell<Option<Box<dyn FnMut(FormPiece) -> Deferred<()>>>>;

fn pieces_of(parser: &mut Multipart, chunk: &[u8]) -> Result<Vec<FormPiece>, Failure> {
    let (mut pieces, mut rest) = (Vec::new(), chunk);
    while let Some(event) = parser.receive(&mut rest)? {
        match event {
            Event::PartHead(head) => pieces.push(FormPiece::Begin(head)),
            Event::Data(data) => pieces.push(FormPiece::Data(Bytes::copy_from_slice(data))),
            Event::PartEnd => pieces.push(FormPiece::End),
            Event::End => {}
        }
    }
    Ok(pieces)
}

fn hand_on(mut pieces: vec::IntoIter<FormPiece>, take: Rc<Take>) -> Deferred<()> {
    for piece in pieces.by_ref() {
        // Detach, then call. Nobody else calls it: the next chunk waits for this one.
        let Some(mut call) = take.take() else {
            break;
        };
        let outcome = call(piece).into_result();
        take.set(Some(call));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return fail(failure),
            Err(waiting) => return waiting.add_callback(move |()| hand_on(pieces, take)),
        }
    }
    succeed(())
}

/// A form that is being kept.
struct Gathering {
    upload: Upload,
    limits: UploadLimits,
    /// Bytes that the fields may still have.
    fields_left: usize,
    part: Option<Part>,
}

enum Part {
    Field { name: String, value: Vec<u8> },
    File(UploadedFile),
}

impl Gathering {
    fn new(limits: UploadLimits) -> Self {
        Self {
            upload: Upload::default(),
            fields_left: limits.fields,
            limits,
            part: None,
        }
    }

    fn take(&mut self, piece: FormPiece) -> Result<(), Failure> {
        match piece {
            FormPiece::Begin(head) => self.part = Some(self.begin(head)?),
            FormPiece::Data(data) => match &mut self.part {
                Some(Part::Field { value, .. }) => {
                    let left = self.fields_left.checked_sub(data.len());
                    let limit = self.limits.fields;
                    self.fields_left = left.ok_or(BodyError::TooLong { limit })?;
                    value.extend_from_slice(&data);
                }
                Some(Part::File(file)) => file.append(&data, &self.limits)?,
                None => {}
            },
            FormPiece::End => match self.part.take() {
                Some(Part::Field { name, value }) => {
                    let value = String::from_utf8(value)
                        .map_err(|error| BodyError::NotText(error.utf8_error()))?;
                    self.upload.fields.append(name, value);
                }
                Some(Part::File(file)) => self.upload.files.push(file),
                None => {}
            },
        }
        Ok(())
    }

    fn begin(&mut self, head: PartHead) -> Result<Part, Failure> {
        if head.filename.is_some() {
            return Ok(Part::File(UploadedFile {
                head,
                length: 0,
                content: Content::Memory(Vec::new()),
            }));
        }
        // Names count as well: there may be many without a value.
        let left = self.fields_left.checked_sub(head.name.len());
        let limit = self.limits.fields;
        self.fields_left = left.ok_or(BodyError::TooLong { limit })?;
        Ok(Part::Field {
            name: head.name,
            value: Vec::new(),
        })
    }
}

impl UploadedFile {
    fn append(&mut self, data: &[u8], limits: &UploadLimits) -> Result<(), Failure> {
        self.length += data.len() as u64;
        if let Content::Memory(bytes) = &mut self.content {
            if self.length <= limits.memory as u64 {
                bytes.extend_from_slice(data);
                return Ok(());
            }
            let limit = limits.memory;
            let folder = limits.folder.as_ref().ok_or(BodyError::TooLong { limit })?;
            let mut file = TemporaryFile::new(folder)?;
            file.file.write_all(bytes)?;
            self.content = Content::Disk(file);
        }
        if let Content::Disk(file) = &mut self.content {
            file.file.write_all(data)?;
        }
        Ok(())
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Its bytes, if they are in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes),
            Content::Disk(_) => None,
        }
    }

    /// Where it is, if that is on the disk.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::Memory(_) => None,
            Content::Disk(file) => Some(&file.path),
        }
    }

    /// Keeps it under this name, which must be free; on the same file system as the folder that it is in.
    /// The name is yours to choose: what the client calls it may be anything.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn persist(self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut file = match self.content {
            Content::Memory(bytes) => {
                let mut file = File::options().write(true).create_new(true).open(path)?;
                return file.write_all(&bytes);
            }
            Content::Disk(file) => file,
        };
        // A link, and not a new name, so that a file that is there is not overwritten.
        fs::hard_link(&file.path, path)?;
        file.file.flush()
    }
}

/// A file that is removed when it is dropped.
struct TemporaryFile {
    file: File,
    path: PathBuf,
}

impl TemporaryFile {
    fn new(folder: &Path) -> io::Result<Self> {
        // Random numbers that the standard library has. One that is taken is a coincidence; several
        // are something else.
        const ATTEMPTS: u8 = 16;
        let mut attempt = 0;
        loop {
            let number = RandomState::new().hash_one(attempt);
            let path = folder.join(format!(".upload-{number:016x}"));
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may have been taken away, and there is nobody to tell.
        drop(fs::remove_file(&self.path));
    }
}

impl fmt::Debug for TemporaryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemporaryFile({})", self.path.display())
    }
}
