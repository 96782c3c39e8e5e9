//! Files that stay open for a while, because they are asked for again.
//!
//! To open a file, to ask what it is and to close it are several calls to the system; to ask whether it is
//! still the same is one.
//!
//! # Bounds
//!
//! [`OpenFiles::limit`] files; the one that was not asked for the longest is closed for another. One that
//! was not asked for in the last ten seconds is closed within ten more: nothing wakes the loop while none is open.
//! As many paths are known, as requests write them; before one more, all of them are forgotten, and are known again when
//! they are asked for.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use torsade_reactor::{DelayedCall, Reactor, RootFolder};

use super::super::conditional::Validators;
use super::shelf::FoundFile;

/// How long a file stays open that nobody asks for: so that one that is deleted gives its room back.
const UNUSED: Duration = Duration::from_secs(10);

/// A file that is open, and what is said of it each time.
pub(super) struct Opened {
    pub(super) file: Rc<File>,
    pub(super) description: OnceCell<Description>,
}

/// What a response says of a file, whatever was asked.
pub(super) struct Description {
    pub(super) media_type: HeaderValue,
    pub(super) validators: Validators,
    pub(super) last_modified: Option<HeaderValue>,
}

impl Opened {
    pub(super) fn new(file: File) -> Self {
        Self {
            file: Rc::new(file),
            description: OnceCell::new(),
        }
    }
}

pub(super) struct OpenFiles {
    /// How many, at most.
    pub(super) limit: usize,
    /// How long the system is not asked again whether a file is still the same.
    pub(super) trust: Duration,
    /// By their paths below the root.
    files: RefCell<BTreeMap<OsString, OpenFile>>,
    /// Where paths lead that are written so in requests: to a file, whatever else is asked.
    known: RefCell<BTreeMap<Box<str>, OsString>>,
    /// Counts what was asked for.
    uses: Cell<u64>,
    look: RefCell<Option<DelayedCall>>,
}

struct OpenFile {
    file: Rc<Opened>,
    metadata: Metadata,
    last_use: u64,
    used_at: Instant,
    checked_at: Instant,
}

impl OpenFiles {
    pub(super) fn new(limit: usize, trust: Duration) -> Self {
        Self {
            limit,
            trust,
            files: RefCell::default(),
            known: RefCell::default(),
            uses: Cell::default(),
            look: RefCell::default(),
        }
    }

    /// As [`RootFolder::open_with_metadata`].
    pub(super) fn open(
        self: &Rc<Self>,
        root: &RootFolder,
        relative: &Path,
        reactor: &Reactor,
    ) -> io::Result<(Rc<Opened>, Metadata)> {
        let now = reactor.now();
        if let Some(found) = self.find(root, relative, now) {
            return Ok(found);
        }
        let (file, metadata) = root.open_with_metadata(relative)?;
        let file = Rc::new(Opened::new(file));
        if metadata.is_file() && self.limit > 0 {
            let kept = OpenFile {
                file: Rc::clone(&file),
                metadata: metadata.clone(),
                last_use: self.next_use(),
                used_at: now,
                checked_at: now,
            };
            self.keep(relative, kept);
            self.look_later(reactor);
        }
        Ok((file, metadata))
    }

    /// The file that a path leads to, if it was asked for by it before and all is known of it: it is open, and still
    /// the same.
    pub(super) fn open_again(
        &self,
        root: &RootFolder,
        written: &str,
        now: Instant,
    ) -> Option<FoundFile> {
        let known = self.known.borrow();
        let relative = Path::new(known.get(written)?);
        let (file, metadata) = self.find(root, relative, now)?;
        file.description.get()?;
        Some(FoundFile::new(file, &metadata, String::new()))
    }

    /// A path that is written so in requests leads to this file, if it is open: what was found by another name, with an
    /// extension that the path leaves out, must be looked for each time, as one without may be there then.
    pub(super) fn know(&self, written: &str, relative: &Path) {
        if !self.files.borrow().contains_key(relative.as_os_str()) {
            return;
        }
        let mut known = self.known.borrow_mut();
        if known.len() >= self.limit {
            known.clear();
        }
        known.insert(written.into(), relative.into());
    }

    /// One that is open, and still the same.
    fn find(
        &self,
        root: &RootFolder,
        relative: &Path,
        now: Instant,
    ) -> Option<(Rc<Opened>, Metadata)> {
        let mut files = self.files.borrow_mut();
        let open = files.get_mut(relative.as_os_str())?;
        if now.duration_since(open.checked_at) >= self.trust {
            if !root.is_still(relative, &open.metadata) {
                files.remove(relative.as_os_str());
                return None;
            }
            open.checked_at = now;
        }
        open.used_at = now;
        open.last_use = self.next_use();
        Some((Rc::clone(&open.file), open.metadata.clone()))
    }

    fn next_use(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    fn keep(&self, relative: &Path, file: OpenFile) {
        let mut files = self.files.borrow_mut();
        files.insert(relative.into(), file);
        if files.len() > self.limit {
            let oldest = files.iter().min_by_key(|(_, open)| open.last_use);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                files.remove(&oldest);
            }
        }
    }

    /// Has the clock looked at, if nobody does yet.
    fn look_later(self: &Rc<Self>, reactor: &Reactor) {
        let mut look = self.look.borrow_mut();
        if look.as_ref().is_some_and(DelayedCall::is_active) {
            return;
        }
        let (open, reactor_of_it) = (Rc::downgrade(self), reactor.downgrade());
        let call = reactor.call_later(UNUSED, move || {
            if let (Some(open), Some(reactor)) = (open.upgrade(), reactor_of_it.upgrade()) {
                open.close_unused(&reactor);
            }
        });
        // It keeps no program running.
        call.set_background(true);
        *look = Some(call);
    }

    fn close_unused(self: &Rc<Self>, reactor: &Reactor) {
        let now = reactor.now();
        self.look.take();
        let mut files = self.files.borrow_mut();
        files.retain(|_, open| now.duration_since(open.used_at) < UNUSED);
        if !files.is_empty() {
            self.look_later(reactor);
        }
    }
}

#[cfg(test)]
mod tests {
    use torsade_reactor::testing::virtual_time_reactor;

    use super::*;

    #[test]
    fn a_path_is_known_if_the_file_of_that_name_is_open() {
        let reactor = virtual_time_reactor();
        let root = RootFolder::new(env!("CARGO_MANIFEST_DIR"));
        let open = Rc::new(OpenFiles::new(2, Duration::ZERO));
        let file = Path::new("Cargo.toml");
        open.open(&root, file, &reactor).expect("it is there");
        // As it is found where `toml` is left out.
        open.know("Cargo", Path::new("Cargo"));
        assert!(open.known.borrow().is_empty());
        open.know("Cargo.toml", file);
        open.know("%43argo.toml", file);
        assert_eq!(open.known.borrow().len(), 2);
        open.know("C%61rgo.toml", file);
        assert_eq!(open.known.borrow().len(), 1, "the others are forgotten");
    }
}
