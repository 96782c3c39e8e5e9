//! Files of a folder, served.
//!
//! # Not here
//!
//! What may stand in a path is `paths.rs`; that nothing outside the root is opened is
//! [`RootFolder`]'s, whatever links there are.

mod listing;
mod open_files;
mod parts;
mod shelf;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderMap, HeaderValue, LAST_MODIFIED,
};
use http::{Method, StatusCode};
use torsade_reactor::{FilePart, FollowLinks, RootFolder};

use super::body::Body;
use super::conditional::{ETag, Validators, range_applies};
use super::dates::date_value;
use super::error::StatusError;
use super::kept::KeptResponse;
use super::media_types;
use super::negotiate::{Coding, add_vary, choose_coding};
use super::paths::{BadPath, DotFiles, SafePath};
use super::ranges::{self, ByteRange, ContentRange, MultipartRanges, Selection};
use super::request::Request;
use super::response::{Answer, Handler, Response, answer_conditionally, redirect};
use super::routes::not_allowed;

use self::open_files::{Again, Description, InMemory, Keeping, OpenFiles};
use self::shelf::{Found, FoundFile, Shelf};

/// Serves the files of a folder: to be nested below a prefix, or to be a whole site.
///
/// Types by the ends of names; `ETag`, `Last-Modified` and what clients ask with them; one part or
/// several (`Range`, `If-Range`), so that downloads can be resumed and films be wound; `index.html`; a folder
/// without its slash is redirected. Sent by the system itself where it can (`sendfile`). Methods other
/// than GET and HEAD get 405.
///
/// Nothing outside the folder is opened, whatever the path says and wherever links lead; see
/// [`follow_links`](Self::follow_links). Names that begin with a dot are not there, `.well-known` except; see
/// [`dot_files`](Self::dot_files).
///
/// Files are opened on the reactor's thread, which takes some microseconds where the folder is on a disk of
/// this machine. Where it may take longer, a network's folder for instance, say
/// [`open_on_threads`](Self::open_on_threads). A file that is asked for again is still open
/// ([`keep_open`](Self::keep_open)), a small one in memory ([`keep_in_memory`](Self::keep_in_memory)); the system is asked
/// each time whether it is still what stands there, for one in memory once a second ([`trust_for`](Self::trust_for)).
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{HeaderValue, Request, Routes, StaticFiles};
///
/// let files = StaticFiles::new("public")
///     .cache_control(HeaderValue::from_static("public, max-age=3600"))
///     .precompressed();
/// let routes = Routes::new()
///     .get("/", |_: Request| "hello")?
///     .nest("/static", files)?;
/// # drop(routes);
/// # Ok::<(), torsade_protocols::http::router::BadRoute>(())
/// ```
#[derive(Clone)]
pub struct StaticFiles {
    /// Where files are found; on threads, too.
    shelf: Arc<Shelf>,
    /// Not on threads.
    open_files: Rc<OpenFiles>,
    options: Rc<Options>,
}

#[derive(Clone, Default)]
struct Options {
    dot_files: DotFiles,
    on_threads: bool,
    cache_control: Option<HeaderValue>,
    /// By ending, before the table.
    media_types: Vec<(String, HeaderValue)>,
    not_found: Option<Rc<dyn Handler>>,
}

impl StaticFiles {
    /// The files below `root`, which is looked up for each request.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            shelf: Arc::new(Shelf::new(RootFolder::new(root))),
            open_files: Rc::new(OpenFiles::new(Keeping::default())),
            options: Rc::default(),
        }
    }

    fn shelved(mut self, change: impl FnOnce(&mut Shelf)) -> Self {
        change(Arc::make_mut(&mut self.shelf));
        self.close_files()
    }

    fn optional(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Rc::make_mut(&mut self.options));
        self.close_files()
    }

    /// What was opened and described by other rules is not for these.
    fn close_files(self) -> Self {
        self.keeping(|_| {})
    }

    fn keeping(mut self, change: impl FnOnce(&mut Keeping)) -> Self {
        let mut keeping = self.open_files.keeping;
        change(&mut keeping);
        self.open_files = Rc::new(OpenFiles::new(keeping));
        self
    }

    /// Which files stand for a folder, the first one that is there: `index.html`, unless this says
    /// otherwise.
    #[must_use]
    pub fn index<I: IntoIterator<Item: Into<String>>>(self, names: I) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.shelved(|shelf| shelf.index = names)
    }

    /// What a path may leave out at the end of a name: with `["html"]`, `/about` is `about.html`, if there is no
    /// `about`. The first one that is there. Twisted's `ignoreExt`.
    #[must_use]
    pub fn ignore_extensions<I: IntoIterator<Item: Into<String>>>(self, extensions: I) -> Self {
        let extensions = extensions.into_iter().map(Into::into).collect();
        self.shelved(|shelf| shelf.extensions = extensions)
    }

    /// Shows what is in a folder without an index, with 10,000 names at most. Otherwise that is 404.
    #[must_use]
    pub fn listing(self) -> Self {
        self.shelved(|shelf| shelf.listing = true)
    }

    /// Which symbolic links are followed: those that stay inside, unless this says otherwise.
    #[must_use]
    pub fn follow_links(self, links: FollowLinks) -> Self {
        self.shelved(|shelf| shelf.root = shelf.root.clone().follow_links(links))
    }

    /// Sends `page.html.gz` for `page.html` to who takes gzip, if it is there. It is up to you that
    /// both say the same.
    #[must_use]
    pub fn precompressed(self) -> Self {
        self.shelved(|shelf| shelf.precompressed = true)
    }

    /// Whether files that begin with a dot are there: they are not, unless this says otherwise.
    #[must_use]
    pub fn dot_files(self, dot_files: DotFiles) -> Self {
        self.optional(|options| options.dot_files = dot_files)
    }

    /// Looks for files and opens them on the reactor's [thread pool](torsade_reactor::Reactor::defer_to_thread).
    #[must_use]
    pub fn open_on_threads(self) -> Self {
        self.optional(|options| options.on_threads = true)
    }

    /// How many files stay open between requests, those that were asked for last: 64, unless this says otherwise;
    /// none with 0, and none on threads.
    ///
    /// The system is asked before each response whether what stands at the path is still that file, unchanged, so nobody
    /// gets what has been replaced; for one that is [in memory](Self::keep_in_memory), not [each time](Self::trust_for). One
    /// that nobody asks for is closed within twenty seconds: until then one that was deleted keeps its room on the disk.
    #[must_use]
    pub fn keep_open(self, files: usize) -> Self {
        self.keeping(|keeping| keeping.files = files)
    }

    /// How many bytes of files that are open are in memory, too, each counted for 1 KiB more than it has: a little more than 4 MiB,
    /// room for 64 of the largest, unless this says otherwise; none with 0.
    ///
    /// They are those of up to 64 KiB that were asked for twice, and have not been changed for two seconds, by what the
    /// system says and not by the time that whoever wrote them has set. (Where time is virtual, that is in the future.) What is
    /// answered is all of what the file had when it was last looked at, or all of what it has now, and no mixture. (Who
    /// writes to files through a mapping tells the system late; serve such with 0.)
    #[must_use]
    pub fn keep_in_memory(self, bytes: usize) -> Self {
        self.keeping(|keeping| keeping.memory = bytes)
    }

    /// How long a file that is [in memory](Self::keep_in_memory) is taken for unchanged, without asking the system: a
    /// second, unless this says otherwise. Whoever replaces or deletes a file has to wait this long until nobody gets the
    /// old one; with [`Duration::ZERO`], not at all.
    #[must_use]
    pub fn trust_for(self, time: Duration) -> Self {
        self.keeping(|keeping| keeping.trust = time)
    }

    /// The `Cache-Control` of every file: none, unless this says it, so that clients guess.
    #[must_use]
    pub fn cache_control(self, value: HeaderValue) -> Self {
        self.optional(|options| options.cache_control = Some(value))
    }

    /// The type of files whose names end in `.extension`, in any case, where the
    /// [table](media_types) does not know it or says something else.
    #[must_use]
    pub fn media_type(self, extension: impl Into<String>, media_type: HeaderValue) -> Self {
        let extension = extension.into();
        self.optional(|options| options.media_types.push((extension, media_type)))
    }

    /// Answers requests for what is not there. Without it that is 404.
    #[must_use]
    pub fn not_found(self, handler: impl Handler) -> Self {
        self.optional(|options| options.not_found = Some(Rc::new(handler)))
    }

    fn answer(&self, request: Request, path: &SafePath, found: Found) -> Answer {
        match found {
            Found::Nothing => self.nothing(request),
            Found::Forbidden => StatusError::new(StatusCode::FORBIDDEN).into(),
            Found::Folder => {
                let mut location = request.path_above().to_owned();
                location.push_str(&path.to_url_path(true));
                if let Some(query) = request.query() {
                    location.push('?');
                    location.push_str(query);
                }
                Answer::Now(redirect(StatusCode::MOVED_PERMANENTLY, &location))
            }
            Found::Listing(entries) => {
                let folder = format!("{}{}", request.path_above(), path.to_url_path(true));
                let page = listing::page(&folder, &entries, self.options.dot_files);
                Answer::Now(Response::new(Body::html(page)))
            }
            Found::File(file) => self.answer_with(&request, file),
        }
    }

    fn nothing(&self, request: Request) -> Answer {
        match &self.options.not_found {
            Some(handler) => handler.handle(request),
            None => StatusError::not_found().into(),
        }
    }

    fn answer_with(&self, request: &Request, found: FoundFile) -> Answer {
        let now = request.reactor().system_time();
        let described_anew;
        // One of another name, or one that says that it comes from the future, is described each time.
        let stays = !found.is_gzip && found.modified.is_none_or(|at| at <= now);
        let description = if stays {
            let description = &found.file.description;
            description.get_or_init(|| self.describe(&found, now))
        } else {
            described_anew = self.describe(&found, now);
            &described_anew
        };
        let in_memory = found.file.in_memory();
        if let Some(in_memory) = &in_memory
            && stays
            && !found.varies
            && request.asks_for_all()
        {
            let kept = in_memory.response.get_or_init(|| {
                let headers = self.fields(&found, description);
                KeptResponse::new(headers, in_memory.content.clone())
            });
            return Answer::Kept(kept.clone());
        }
        Answer::Now(self.response(request, &found, description, in_memory.as_deref(), now))
    }

    /// What is said of a file that is sent.
    fn fields(&self, found: &FoundFile, description: &Description) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, description.media_type.clone());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(etag) = &description.validators.etag {
            headers.insert(ETAG, etag.to_value());
        }
        if let Some(value) = &description.last_modified {
            headers.insert(LAST_MODIFIED, value.clone());
        }
        if let Some(value) = &self.options.cache_control {
            headers.insert(CACHE_CONTROL, value.clone());
        }
        if found.varies {
            add_vary(&mut headers, &ACCEPT_ENCODING);
        }
        headers
    }

    /// All of a file, or the part that is asked for, if it is asked for.
    fn response(
        &self,
        request: &Request,
        found: &FoundFile,
        description: &Description,
        in_memory: Option<&InMemory>,
        now: SystemTime,
    ) -> Response {
        let Description {
            media_type,
            validators,
            ..
        } = description;
        let length = found.length;
        let in_file = |offset, length| FilePart {
            file: Rc::clone(&found.file.file),
            offset,
            length,
        };
        let of_file = |part: ByteRange| in_file(part.first, part.len());
        // A file is shorter than that when it is in memory.
        let of_memory = |content: &Bytes, part: ByteRange| {
            content.slice(part.first as usize..=part.last as usize)
        };
        let mut headers = self.fields(found, description);
        let wants_part = request.header("range").is_some();
        let selection =
            if wants_part && range_applies(request.method(), request.headers(), validators, now) {
                ranges::select(request.headers(), length)
            } else {
                Selection::Whole
            };
        let (status, body) = match selection {
            Selection::Whole => {
                let body = match in_memory {
                    Some(it) => it.content.clone().into(),
                    None => Body::file_part(in_file(0, length)),
                };
                (StatusCode::OK, body)
            }
            Selection::Parts(parts) if parts.len() == 1 => {
                let range = ContentRange::part(parts[0], length);
                headers.insert(CONTENT_RANGE, range.to_value());
                let body = match in_memory {
                    Some(it) => of_memory(&it.content, parts[0]).into(),
                    None => Body::file_part(of_file(parts[0])),
                };
                (StatusCode::PARTIAL_CONTENT, body)
            }
            Selection::Parts(parts) => {
                let boundary = boundary(validators, &parts, now);
                let layout = MultipartRanges::new(&parts, length, Some(media_type), boundary);
                headers.insert(CONTENT_TYPE, layout.content_type());
                let body = match in_memory {
                    Some(it) => parts::body_in_memory(&layout, |part| of_memory(&it.content, part)),
                    None => parts::body_of_file(&layout, of_file),
                };
                (StatusCode::PARTIAL_CONTENT, body)
            }
            Selection::NotSatisfiable => {
                headers.remove(CONTENT_TYPE);
                let range = ContentRange::unsatisfied(length);
                headers.insert(CONTENT_RANGE, range.to_value());
                (StatusCode::RANGE_NOT_SATISFIABLE, Body::empty())
            }
        };
        if found.is_gzip && status != StatusCode::RANGE_NOT_SATISFIABLE {
            headers.insert(CONTENT_ENCODING, Coding::Gzip.to_value());
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        answer_conditionally(request, validators, response)
    }

    fn describe(&self, found: &FoundFile, now: SystemTime) -> Description {
        // RFC 9110 §8.8.2.1: never later than the response.
        let last_modified = found.modified.map(|at| at.min(now));
        Description {
            media_type: self.type_of(&found.name),
            validators: Validators {
                etag: found.modified.map(|at| ETag::of_file(found.length, at)),
                last_modified,
            },
            last_modified: last_modified.map(date_value),
        }
    }

    fn type_of(&self, name: &str) -> HeaderValue {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        let own = self.options.media_types.iter().rev().find(|(known, _)| {
            extension.is_some_and(|extension| extension.eq_ignore_ascii_case(known))
        });
        match own {
            Some((_, media_type)) => media_type.clone(),
            None => HeaderValue::from_static(media_types::media_type(name)),
        }
    }
}

impl Handler for StaticFiles {
    fn handle(&self, request: Request) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let allow = HeaderValue::from_static("GET, HEAD");
            return not_allowed(request.method(), allow);
        }
        // What is sent may depend on more than the path; and what was opened on a thread is not kept.
        let is_by_path = !self.shelf.precompressed && !self.options.on_threads;
        if is_by_path {
            let (root, reactor) = (&self.shelf.root, request.reactor());
            let (path, for_all) = (request.path_below(), request.asks_for_all());
            match self.open_files.open_again(root, path, &reactor, for_all) {
                Some(Again::Response(kept)) => return Answer::Kept(kept),
                Some(Again::File(found)) => return self.answer_with(&request, found),
                None => {}
            }
        }
        let path = match SafePath::new(request.path_below(), self.options.dot_files) {
            Ok(path) => path,
            Err(BadPath::Hidden) => return self.nothing(request),
            Err(_) => return StatusError::new(StatusCode::BAD_REQUEST).into(),
        };
        // `/static` itself is where the folder is nested, without its slash.
        let is_folder = path.ends_with_slash() && request.path() != request.path_above();
        let takes_gzip = self.shelf.precompressed
            && choose_coding(request.headers(), &[Coding::Gzip]) == Coding::Gzip;
        if !self.options.on_threads {
            let (root, reactor) = (&self.shelf.root, request.reactor());
            let open = |relative: &Path| self.open_files.open(root, relative, &reactor);
            return match self.shelf.find(&path, is_folder, takes_gzip, open) {
                Ok(found) => {
                    if is_by_path && !path.ends_with_slash() && matches!(found, Found::File(_)) {
                        self.open_files.know(request.path_below(), &path.relative());
                    }
                    self.answer(request, &path, found)
                }
                Err(error) => Answer::Failed(error.into()),
            };
        }
        let (shelf, wanted) = (Arc::clone(&self.shelf), path.clone());
        let finding = request.reactor().defer_to_thread(move || {
            let open = |relative: &Path| shelf.root.open_with_metadata(relative);
            shelf.find(&wanted, is_folder, takes_gzip, open)
        });
        let this = self.clone();
        Answer::Later(
            finding.add_callback(move |found| {
                this.answer(request, &path, found.shared()).into_deferred()
            }),
        )
    }
}

impl fmt::Debug for StaticFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticFiles")
            .field("shelf", &self.shelf)
            .finish_non_exhaustive()
    }
}

/// A line that is not in the content, as far as anybody can know. No random number, so that a
/// simulation that is run again gives the same bytes.
pub(super) fn boundary(validators: &Validators, parts: &[ByteRange], now: SystemTime) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        now.hash(&mut hasher);
        validators.last_modified.hash(&mut hasher);
        for part in parts {
            (part.first, part.last).hash(&mut hasher);
        }
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}
