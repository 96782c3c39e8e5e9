//! Where files are found: what blocks, and may be done on a thread.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use torsade_reactor::{FolderEntry, RootFolder};

use super::super::media_types;
use super::super::paths::SafePath;
use super::listing::LISTING_MAX;

/// A folder, and what is said of it.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub(super) root: RootFolder,
    pub(super) index: Vec<String>,
    pub(super) listing: bool,
    pub(super) precompressed: bool,
}

/// What there is for a path.
pub(super) enum Found {
    Nothing,
    /// It is there, and the system lets us not read it.
    Forbidden,
    /// A folder, which was not asked for as one.
    Folder,
    /// What is in a folder.
    Listing(Vec<FolderEntry>),
    File(FoundFile),
}

pub(super) struct FoundFile {
    pub(super) file: File,
    /// The name that says its type.
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) modified: Option<SystemTime>,
    pub(super) is_gzip: bool,
    /// Whether another client might have got it in another coding.
    pub(super) varies: bool,
}

impl Shelf {
    pub(super) fn new(root: RootFolder) -> Self {
        Self {
            root,
            index: vec!["index.html".to_owned()],
            listing: false,
            precompressed: false,
        }
    }

    /// Looks for a path; `is_folder` if it was asked for as one, with a slash.
    pub(super) fn find(
        &self,
        path: &SafePath,
        is_folder: bool,
        takes_gzip: bool,
    ) -> io::Result<Found> {
        let relative = path.relative();
        let outcome = if is_folder {
            self.find_in_folder(&relative, takes_gzip)
        } else {
            self.find_file(&relative, takes_gzip)
        };
        match outcome.map_err(|error| (error.kind(), error)) {
            Ok(found) => Ok(found),
            Err((kind, _)) if is_absence(kind) => Ok(Found::Nothing),
            Err((io::ErrorKind::PermissionDenied, _)) => Ok(Found::Forbidden),
            Err((_, error)) => Err(error),
        }
    }

    fn find_in_folder(&self, relative: &Path, takes_gzip: bool) -> io::Result<Found> {
        for name in &self.index {
            match self.find_file(&relative.join(name), takes_gzip) {
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

    fn find_file(&self, relative: &Path, takes_gzip: bool) -> io::Result<Found> {
        let name = relative.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default().to_owned();
        let varies =
            self.precompressed && media_types::is_compressible(media_types::media_type(&name));
        if varies && takes_gzip {
            let packed = relative.with_file_name(format!("{name}.gz"));
            let opened = self.root.open_with_metadata(&packed);
            if let Ok(Found::File(found)) = opened.map(|opened| found(opened, name.clone())) {
                return Ok(Found::File(FoundFile {
                    is_gzip: true,
                    varies,
                    ..found
                }));
            }
        }
        let found = found(self.root.open_with_metadata(relative)?, name);
        Ok(match found {
            Found::File(file) => Found::File(FoundFile { varies, ..file }),
            other => other,
        })
    }
}

fn found((file, metadata): (File, Metadata), name: String) -> Found {
    if metadata.is_dir() {
        return Found::Folder;
    }
    Found::File(FoundFile {
        file,
        name,
        length: metadata.len(),
        modified: metadata.modified().ok(),
        is_gzip: false,
        varies: false,
    })
}

/// What says that there is no such file, in one way or another.
fn is_absence(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}
