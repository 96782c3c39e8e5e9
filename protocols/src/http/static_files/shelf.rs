//! Where files are found: what blocks, and may be done on a thread.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

use torsade_reactor::{FolderEntry, RootFolder};

use super::super::media_types;
use super::super::paths::SafePath;
use super::listing::LISTING_MAX;
use super::open_files::Opened;

/// A folder, and what is said of it.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub(super) root: RootFolder,
    pub(super) index: Vec<String>,
    /// What paths may leave out at the end of a name.
    pub(super) extensions: Vec<String>,
    pub(super) listing: bool,
    pub(super) precompressed: bool,
}

/// What there is for a path; `F` is an open file.
pub(super) enum Found<F = Rc<Opened>> {
    Nothing,
    /// It is there, and the system lets us not read it.
    Forbidden,
    /// A folder, which was not asked for as one.
    Folder,
    /// What is in a folder.
    Listing(Vec<FolderEntry>),
    File(FoundFile<F>),
}

pub(super) struct FoundFile<F = Rc<Opened>> {
    pub(super) file: F,
    /// The name that says its type.
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) modified: Option<SystemTime>,
    pub(super) is_gzip: bool,
    /// Whether another client might have got it in another coding.
    pub(super) varies: bool,
}

impl<F> FoundFile<F> {
    pub(super) fn new(file: F, metadata: &Metadata, name: String) -> Self {
        Self {
            file,
            name,
            length: metadata.len(),
            modified: metadata.modified().ok(),
            is_gzip: false,
            varies: false,
        }
    }
}

impl Found<File> {
    /// For the reactor's thread, when a file comes from another one.
    pub(super) fn shared(self) -> Found {
        match self {
            Self::Nothing => Found::Nothing,
            Self::Forbidden => Found::Forbidden,
            Self::Folder => Found::Folder,
            Self::Listing(entries) => Found::Listing(entries),
            Self::File(found) => Found::File(FoundFile {
                file: Rc::new(Opened::new(found.file)),
                name: found.name,
                length: found.length,
                modified: found.modified,
                is_gzip: found.is_gzip,
                varies: found.varies,
            }),
        }
    }
}

impl Shelf {
    pub(super) fn new(root: RootFolder) -> Self {
        Self {
            root,
            index: vec!["index.html".to_owned()],
            extensions: Vec::new(),
            listing: false,
            precompressed: false,
        }
    }

    /// Looks for a path; `is_folder` if it was asked for as one, with a slash. `open` opens what is below the
    /// root, and says what it is.
    pub(super) fn find<F>(
        &self,
        path: &SafePath,
        is_folder: bool,
        takes_gzip: bool,
        open: impl Fn(&Path) -> io::Result<(F, Metadata)>,
    ) -> io::Result<Found<F>> {
        let relative = path.relative();
        let outcome = if is_folder {
            self.find_in_folder(&relative, takes_gzip, &open)
        } else {
            self.find_named(&relative, takes_gzip, &open)
        };
        match outcome.map_err(|error| (error.kind(), error)) {
            Ok(found) => Ok(found),
            Err((kind, _)) if is_absence(kind) => Ok(Found::Nothing),
            Err((io::ErrorKind::PermissionDenied, _)) => Ok(Found::Forbidden),
            Err((_, error)) => Err(error),
        }
    }

    fn find_in_folder<F>(
        &self,
        relative: &Path,
        takes_gzip: bool,
        open: &impl Fn(&Path) -> io::Result<(F, Metadata)>,
    ) -> io::Result<Found<F>> {
        for name in &self.index {
            match self.find_file(&relative.join(name), takes_gzip, open) {
                Ok(found @ Found::File(_)) => return Ok(found),
                // A folder of that name is not what is meant.
                Ok(_) => {}
                Err(error) if is_absence(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        if !self.listing {
            return Ok(Found::Nothing);
        }
        let entries = self.root.list(relative, LISTING_MAX)?;
        Ok(Found::Listing(entries))
    }

    /// A file of this name, or of this name and one of the extensions.
    fn find_named<F>(
        &self,
        relative: &Path,
        takes_gzip: bool,
        open: &impl Fn(&Path) -> io::Result<(F, Metadata)>,
    ) -> io::Result<Found<F>> {
        let outcome = self.find_file(relative, takes_gzip, open);
        let (Err(error), Some(name)) = (&outcome, relative.file_name().and_then(|it| it.to_str()))
        else {
            return outcome;
        };
        if !is_absence(error.kind()) {
            return outcome;
        }
        for extension in &self.extensions {
            let longer = relative.with_file_name(format!("{name}.{extension}"));
            match self.find_file(&longer, takes_gzip, open) {
                // A folder of that name is not what is meant.
                Ok(Found::Folder) => {}
                Err(error) if is_absence(error.kind()) => {}
                found => return found,
            }
        }
        outcome
    }

    fn find_file<F>(
        &self,
        relative: &Path,
        takes_gzip: bool,
        open: &impl Fn(&Path) -> io::Result<(F, Metadata)>,
    ) -> io::Result<Found<F>> {
        let name = relative.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default().to_owned();
        let varies =
            self.precompressed && media_types::is_compressible(media_types::media_type(&name));
        if varies && takes_gzip {
            let packed = relative.with_file_name(format!("{name}.gz"));
            let opened = open(&packed);
            if let Ok(Found::File(found)) = opened.map(|opened| found(opened, name.clone())) {
                return Ok(Found::File(FoundFile {
                    is_gzip: true,
                    varies,
                    ..found
                }));
            }
        }
        let found = found(open(relative)?, name);
        Ok(match found {
            Found::File(file) => Found::File(FoundFile { varies, ..file }),
            other => other,
        })
    }
}

fn found<F>((file, metadata): (F, Metadata), name: String) -> Found<F> {
    if metadata.is_dir() {
        return Found::Folder;
    }
    Found::File(FoundFile::new(file, &metadata, name))
}

/// What says that there is no such file, in one way or another.
fn is_absence(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}
