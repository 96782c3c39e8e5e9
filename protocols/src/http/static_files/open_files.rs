//! Files that stay open for a while, because they are asked for again; the small ones are in memory, too.
//!
//! To open a file, to ask what it is and to close it are several calls to the system; to ask whether it is
//! still the same is one, and one that is in memory is asked for that once in a while alone.
//!
//! # Invariant
//!
//! What is in memory is all of what the file had at one moment, and is that of which its metadata was said: it is read
//! when it has not been changed for [`SETTLED`], by a time that no program can set, so that a change after that has
//! another time, and looked at again when it has been read.
//!
//! # Bounds
//!
//! [`Keeping::files`] files; the one that was not asked for the longest is closed for another. One that
//! was not asked for in the last ten seconds is closed within ten more: nothing wakes the loop while none is open.
//! As many paths are known, as requests write them; before one more, all of them are forgotten, and are known again when
//! they are asked for. [`Keeping::memory`] bytes are in memory; so are all of these forgotten before more would be.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use torsade_reactor::{DelayedCall, FilePart, Reactor, RootFolder};

use super::super::conditional::Validators;
use super::super::kept::KeptResponse;
use super::shelf::FoundFile;

/// How long a file stays open that nobody asks for: so that one that is deleted gives its room back.
const UNUSED: Duration = Duration::from_secs(10);

/// A file that is larger is read each time, or sent by the system: what a call saves is little of that.
const IN_MEMORY_MAX: u64 = 64 * 1024;

/// How long ago a file must have been changed for its time to tell of the next change: two seconds are the largest
/// step of a file system that is in use (FAT).
const SETTLED: Duration = Duration::from_secs(2);

/// What a file in memory is counted for, beside its content: its fields, twice.
const OVERHEAD: usize = 1024;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    /// How many files, at most.
    pub(super) files: usize,
    /// How many bytes of them are in memory.
    pub(super) memory: usize,
    /// How long the system is not asked again whether a file that is in memory is still the same.
    pub(super) trust: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        const FILES: usize = 64;
        Self {
            files: FILES,
            // All of them, if they are so small.
            memory: FILES * (IN_MEMORY_MAX as usize + OVERHEAD),
            trust: Duration::from_secs(1),
        }
    }
}

/// A file that is open, and what is said of it each time.
pub(super) struct Opened {
    pub(super) file: Rc<File>,
    pub(super) description: OnceCell<Description>,
    in_memory: RefCell<Option<Rc<InMemory>>>,
}

/// What a response says of a file, whatever was asked.
pub(super) struct Description {
    pub(super) media_type: HeaderValue,
    pub(super) validators: Validators,
    pub(super) last_modified: Option<HeaderValue>,
}

/// All of a file.
pub(super) struct InMemory {
    pub(super) content: Bytes,
    /// What is answered to who asks for all of it, whatever else.
    pub(super) response: OnceCell<KeptResponse>,
    size: usize,
    /// Of all of them.
    used: Rc<Cell<usize>>,
}

impl Opened {
    pub(super) fn new(file: File) -> Self {
        Self {
            file: Rc::new(file),
            description: OnceCell::new(),
            in_memory: RefCell::default(),
        }
    }

    /// All of it, if it is in memory.
    pub(super) fn in_memory(&self) -> Option<Rc<InMemory>> {
        self.in_memory.borrow().clone()
    }

    fn kept_response(&self) -> Option<KeptResponse> {
        let in_memory = self.in_memory.borrow();
        in_memory.as_ref()?.response.get().cloned()
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.used.set(self.used.get() - self.size);
    }
}

pub(super) struct OpenFiles {
    pub(super) keeping: Keeping,
    /// By their paths below the root.
    files: RefCell<BTreeMap<OsString, OpenFile>>,
    /// Where paths lead that are written so in requests: to a file, whatever else is asked.
    known: RefCell<BTreeMap<Box<str>, OsString>>,
    /// Bytes in memory.
    used: Rc<Cell<usize>>,
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

/// What there is for a path that was asked for before.
pub(super) enum Again {
    Response(KeptResponse),
    File(FoundFile),
}

impl OpenFiles {
    pub(super) fn new(keeping: Keeping) -> Self {
        Self {
            keeping,
            files: RefCell::default(),
            known: RefCell::default(),
            used: Rc::default(),
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
        let both = |open: &OpenFile| (Rc::clone(&open.file), open.metadata.clone());
        if let Some(found) = self.find(root, relative, reactor, both) {
            return Ok(found);
        }
        let (file, metadata) = root.open_with_metadata(relative)?;
        let file = Rc::new(Opened::new(file));
        if metadata.is_file() && self.keeping.files > 0 {
            let now = reactor.now();
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
    /// the same. Its response, if that is the same whatever else is asked, and `for_all` of it.
    pub(super) fn open_again(
        &self,
        root: &RootFolder,
        written: &str,
        reactor: &Reactor,
        for_all: bool,
    ) -> Option<Again> {
        let known = self.known.borrow();
        let relative = Path::new(known.get(written)?);
        let again = self.find(root, relative, reactor, |open| {
            if let Some(response) = open.file.kept_response().filter(|_| for_all) {
                return Some(Again::Response(response));
            }
            open.file.description.get()?;
            let file = Rc::clone(&open.file);
            // It is described anew when the clock was put back.
            let name = relative.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or_default().to_owned();
            let found = FoundFile::new(file, &open.metadata, name);
            Some(Again::File(found))
        });
        again?
    }

    /// A path that is written so in requests leads to this file, if it is open: what was found by another name, with an
    /// extension that the path leaves out, must be looked for each time, as one without may be there then.
    pub(super) fn know(&self, written: &str, relative: &Path) {
        if !self.files.borrow().contains_key(relative.as_os_str()) {
            return;
        }
        let mut known = self.known.borrow_mut();
        if known.len() >= self.keeping.files {
            known.clear();
        }
        known.insert(written.into(), relative.into());
    }

    /// One that is open, and still the same.
    fn find<T>(
        &self,
        root: &RootFolder,
        relative: &Path,
        reactor: &Reactor,
        of: impl FnOnce(&OpenFile) -> T,
    ) -> Option<T> {
        let now = reactor.now();
        let mut files = self.files.borrow_mut();
        let open = files.get_mut(relative.as_os_str())?;
        let is_trusted = now.duration_since(open.checked_at) < self.keeping.trust
            && open.file.in_memory.borrow().is_some();
        if is_trusted {
            return Some(of(self.used_now(open, now)));
        }
        if self.look(&mut files, root, relative, reactor).is_none() {
            files.remove(relative.as_os_str());
            return None;
        }
        let open = files.get_mut(relative.as_os_str())?;
        Some(of(self.used_now(open, now)))
    }

    fn used_now<'a>(&self, open: &'a mut OpenFile, now: Instant) -> &'a OpenFile {
        open.used_at = now;
        open.last_use = self.next_use();
        open
    }

    /// Asks the system whether a file that is open is still what stands at its path, and takes a small one into memory:
    /// it is asked for again. `None` if it is another one.
    fn look(
        &self,
        files: &mut BTreeMap<OsString, OpenFile>,
        root: &RootFolder,
        relative: &Path,
        reactor: &Reactor,
    ) -> Option<()> {
        let open = files.get_mut(relative.as_os_str())?;
        let is_still = |open: &OpenFile| root.is_still(relative, &open.metadata).then_some(());
        is_still(open)?;
        open.checked_at = reactor.now();
        let length = open.metadata.len();
        let size = length as usize + OVERHEAD;
        if !(1..=IN_MEMORY_MAX).contains(&length) || size > self.keeping.memory {
            return Some(());
        }
        if !is_settled(&open.metadata, reactor.system_time()) {
            // The clock may have been put back: what is said of it would be of the future.
            open.file.in_memory.take();
            return Some(());
        }
        if open.file.in_memory.borrow().is_some() {
            return Some(());
        }
        let content = read(&open.file.file, &open.metadata);
        is_still(open)?;
        let file = Rc::clone(&open.file);
        if self.used.get() + size > self.keeping.memory {
            for open in files.values() {
                open.file.in_memory.take();
            }
        }
        file.in_memory
            .replace(content.map(|content| self.counted(content, size)));
        Some(())
    }

    fn counted(&self, content: Vec<u8>, size: usize) -> Rc<InMemory> {
        self.used.set(self.used.get() + size);
        Rc::new(InMemory {
            content: content.into(),
            response: OnceCell::new(),
            size,
            used: Rc::clone(&self.used),
        })
    }

    fn next_use(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    fn keep(&self, relative: &Path, file: OpenFile) {
        let mut files = self.files.borrow_mut();
        files.insert(relative.into(), file);
        if files.len() > self.keeping.files {
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

/// Whether a change from now on has another time. The time of modification alone does not say so: whoever copies a file may
/// write to it and set that back.
fn is_settled(metadata: &Metadata, now: SystemTime) -> bool {
    let since = now.duration_since(RootFolder::changed_at(metadata));
    since.is_ok_and(|since| since >= SETTLED)
}

/// All of a file of which that was said; `None` if it cannot be read, which who sends it will see.
fn read(file: &Rc<File>, metadata: &Metadata) -> Option<Vec<u8>> {
    let part = FilePart {
        file: Rc::clone(file),
        offset: 0,
        length: metadata.len(),
    };
    let mut content = Vec::new();
    part.read_into(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use torsade_reactor::task;
    use torsade_reactor::testing::virtual_time_reactor;

    use super::*;

    fn put(folder: &tempfile::TempDir, name: &str, length: usize) -> io::Result<()> {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![b'x'; length])?;
        let file = File::options().append(true).open(path)?;
        file.set_modified(SystemTime::UNIX_EPOCH)
    }

    fn wait_until(reactor: &Reactor, at: SystemTime) {
        let delay = at.duration_since(reactor.system_time());
        let slept = task::sleep(reactor, delay.expect("it is to come"));
        reactor.run_until(slept).expect("time passes");
    }

    /// Whose time is long after everything that the system did.
    fn long_after() -> Reactor {
        let reactor = virtual_time_reactor();
        let century = Duration::from_secs(86_400 * 365 * 100);
        wait_until(&reactor, reactor.system_time() + century);
        reactor
    }

    #[test]
    fn a_path_is_known_if_the_file_of_that_name_is_open() {
        let reactor = virtual_time_reactor();
        let root = RootFolder::new(env!("CARGO_MANIFEST_DIR"));
        let open = Rc::new(OpenFiles::new(Keeping {
            files: 2,
            ..Keeping::default()
        }));
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

    #[test]
    fn what_is_in_memory_has_a_bound_and_is_given_back() -> io::Result<()> {
        const LENGTH: usize = 1000;
        let reactor = long_after();
        let folder = tempfile::tempdir()?;
        let root = RootFolder::new(folder.path());
        let names: Vec<String> = (0..5).map(|number| format!("{number}")).collect();
        for name in names
            .iter()
            .chain([&"empty".to_owned(), &"large".to_owned()])
        {
            let length = match &**name {
                "empty" => 0,
                "large" => IN_MEMORY_MAX as usize + 1,
                _ => LENGTH,
            };
            put(&folder, name, length)?;
        }
        let open = Rc::new(OpenFiles::new(Keeping {
            memory: 3 * (LENGTH + OVERHEAD) + LENGTH,
            ..Keeping::default()
        }));
        let ask = |name: &str| {
            let (opened, _) = open.open(&root, Path::new(name), &reactor)?;
            assert!(open.used.get() <= open.keeping.memory);
            Ok::<_, io::Error>(opened.in_memory())
        };
        assert!(ask("0")?.is_none(), "it is not asked for again yet");
        for name in ["empty", "large", "empty", "large"] {
            assert!(ask(name)?.is_none(), "{name}");
        }
        for name in names.iter().chain(&names) {
            ask(name)?;
            let in_memory = ask(name)?.expect("it is asked for again");
            assert_eq!(in_memory.content.len(), LENGTH);
        }
        assert_ne!(open.used.get(), 0);
        open.files.borrow_mut().clear();
        assert_eq!(open.used.get(), 0);
        Ok(())
    }

    #[test]
    fn as_many_files_as_stay_open_are_in_memory_if_they_are_small() -> io::Result<()> {
        let (folder, reactor) = (tempfile::tempdir()?, long_after());
        let root = RootFolder::new(folder.path());
        let open = Rc::new(OpenFiles::new(Keeping::default()));
        let names: Vec<String> = (0..open.keeping.files).map(|it| format!("{it}")).collect();
        for name in &names {
            put(&folder, name, IN_MEMORY_MAX as usize)?;
        }
        for name in names.iter().chain(&names) {
            open.open(&root, Path::new(name), &reactor)?;
        }
        let files = open.files.borrow();
        let in_memory = files.values().filter(|it| it.file.in_memory().is_some());
        assert_eq!(in_memory.count(), names.len());
        Ok(())
    }

    #[test]
    fn a_file_whose_time_was_set_back_is_in_memory_when_the_system_says_that_it_is_old()
    -> io::Result<()> {
        let (folder, reactor) = (tempfile::tempdir()?, virtual_time_reactor());
        let root = RootFolder::new(folder.path());
        put(&folder, "file", 3)?;
        let open = Rc::new(OpenFiles::new(Keeping::default()));
        let is_kept = || {
            let opened = open.open(&root, Path::new("file"), &reactor);
            opened.map(|(opened, _)| opened.in_memory().is_some())
        };
        let metadata = folder.path().join("file").metadata()?;
        assert_eq!(metadata.modified()?, SystemTime::UNIX_EPOCH);
        let changed_at = RootFolder::changed_at(&metadata);
        for since in [Duration::ZERO, SETTLED - Duration::from_millis(1)] {
            wait_until(&reactor, changed_at + since);
            for _ in 0..3 {
                assert!(!is_kept()?, "{since:?}");
            }
        }
        wait_until(&reactor, changed_at + SETTLED);
        assert!(is_kept()?);
        Ok(())
    }
}
