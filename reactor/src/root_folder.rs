//! A folder, and what is in it: nothing outside.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// A folder below which files are opened, whoever says which.
///
/// Everything here blocks, as files do. On Linux the system itself keeps the way below the root
/// (`openat2`), so nobody who moves folders meanwhile can lead it out. Elsewhere, and where `openat2` is
/// not to be had, the real path is found out and checked, and then opened: who can write below the root
/// may win that race.
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::path::Path;
/// use torsade_reactor::RootFolder;
///
/// let root = RootFolder::new("src");
/// let file = root.open(Path::new("lib.rs"))?;
/// assert!(file.metadata()?.is_file());
/// assert!(root.open(Path::new("../Cargo.toml")).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RootFolder {
    path: PathBuf,
    links: FollowLinks,
}

/// Which symbolic links below a [`RootFolder`] are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FollowLinks {
    /// None.
    Never,
    /// Those that lead to what is below the root, too. On Linux an absolute one does not, even then.
    #[default]
    Inside,
    /// All: whoever may write below the root may show whatever we may read.
    Anywhere,
}

/// What a [`RootFolder`] says of a file or a folder in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderEntry {
    /// Its name; those that are not UTF-8 are left out.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last changed, where the system says so.
    pub modified: Option<SystemTime>,
}

impl RootFolder {
    /// What is below `path`, which is looked up each time: a folder that is exchanged for another is
    /// seen at once.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            links: FollowLinks::default(),
        }
    }

    /// Says which symbolic links are followed. That the root itself is one makes no difference.
    #[must_use]
    pub fn follow_links(mut self, links: FollowLinks) -> Self {
        self.links = links;
        self
    }

    /// The root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what is there, a folder as well as a file, for reading; the empty path is the root.
    ///
    /// Never waits for who writes into a pipe: what is neither file nor folder is refused.
    ///
    /// # Errors
    ///
    /// What the system says. [`NotFound`](io::ErrorKind::NotFound) also for a path that is not
    /// relative, goes up or leads out, and for what is no file.
    pub fn open(&self, relative: &Path) -> io::Result<File> {
        let (file, _) = self.open_with_metadata(relative)?;
        Ok(file)
    }

    /// As [`open`](Self::open), with what the system says of it, which had to be asked anyway.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with_metadata(&self, relative: &Path) -> io::Result<(File, Metadata)> {
        let below = |component| matches!(component, Component::Normal(_));
        if !relative.components().all(below) {
            return Err(not_found());
        }
        let file = match self.links {
            FollowLinks::Anywhere => open_path(&self.path.join(relative), OFlags::empty()),
            links => open_below(&self.path, relative, links),
        }?;
        let metadata = file.metadata()?;
        if metadata.is_file() || metadata.is_dir() {
            Ok((file, metadata))
        } else {
            Err(not_found())
        }
    }

    /// Whether what is there is still the file of which this was said when it was [opened](Self::open_with_metadata),
    /// and has not been changed since: one call to the system, where to open it again takes several.
    ///
    /// A file that was written to, replaced, renamed away and back, or given other rights is another one, as
    /// far as the system's clock for such things can tell (some milliseconds).
    #[must_use]
    pub fn is_still(&self, relative: &Path, known: &Metadata) -> bool {
        let path = self.path.join(relative);
        let found = match self.links {
            FollowLinks::Never => path.symlink_metadata(),
            // One that leads out leads to another file.
            FollowLinks::Inside | FollowLinks::Anywhere => path.metadata(),
        };
        let identity = |it: &Metadata| {
            let changed = (it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec());
            (it.dev(), it.ino(), it.len(), changed)
        };
        found.is_ok_and(|found| identity(&found) == identity(known))
    }

    /// When a file was changed last: its content, which a program may say was at another time, or anything else of it, which
    /// only the system says. Whichever is later; by the system's clock.
    #[must_use]
    pub fn changed_at(known: &Metadata) -> SystemTime {
        let changed_at = since_epoch(known.ctime(), known.ctime_nsec());
        known
            .modified()
            .map_or(changed_at, |modified| modified.max(changed_at))
    }

    /// What is in a folder, at most `limit` entries of it, by name. Links that [`open`](Self::open) would
    /// not follow are left out, and so is what is neither file nor folder.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), and if it is no folder.
    pub fn list(&self, relative: &Path, limit: usize) -> io::Result<Vec<FolderEntry>> {
        let folder = self.open(relative)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if matches!(name, "." | "..") {
                continue;
            }
            if entries.len() == limit {
                break;
            }
            let name = name.to_owned();
            entries.extend(self.entry(&folder, relative, name));
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    /// What is said of something in `folder`, which is at `relative`.
    fn entry(&self, folder: &File, relative: &Path, name: String) -> Option<FolderEntry> {
        let found = rustix::fs::statat(folder, &*name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let (is_folder, length, modified) = match FileType::from_raw_mode(found.st_mode) {
            FileType::Symlink => {
                let (_, target) = self.open_with_metadata(&relative.join(&name)).ok()?;
                (target.is_dir(), target.len(), target.modified().ok())
            }
            kind @ (FileType::RegularFile | FileType::Directory) => {
                let seconds = u64::try_from(found.st_mtime).ok();
                let modified = seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
                let length = u64::try_from(found.st_size).ok()?;
                (kind == FileType::Directory, length, modified)
            }
            _ => return None,
        };
        Some(FolderEntry {
            name,
            is_folder,
            length,
            modified,
        })
    }
}

/// The epoch itself, for what is before.
fn since_epoch(seconds: i64, nanoseconds: i64) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let nanoseconds = u32::try_from(nanoseconds).unwrap_or_default();
    UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// `O_NONBLOCK`: who opens a pipe without it waits for somebody to write.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

fn open_path(path: &Path, flags: OFlags) -> io::Result<File> {
    let opened = rustix::fs::open(path, FLAGS | flags, Mode::empty())?;
    Ok(File::from(opened))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_below(root: &Path, relative: &Path, links: FollowLinks) -> io::Result<File> {
    use rustix::fs::ResolveFlags;
    use rustix::io::Errno;

    let folder = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if links == FollowLinks::Never {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let name = match relative.as_os_str() {
        name if name.is_empty() => Path::new("."),
        _ => relative,
    };
    match rustix::fs::openat2(&folder, name, FLAGS, Mode::empty(), resolve) {
        Ok(opened) => Ok(File::from(opened)),
        // It leads out, or is a link where none is followed.
        Err(Errno::XDEV | Errno::LOOP) => Err(not_found()),
        // Linux before 5.6, or a sandbox that does not know it.
        Err(Errno::NOSYS | Errno::PERM) => open_real_path(root, relative, links),
        // Somebody moves folders about, and the kernel cannot tell whether the way leads out.
        Err(Errno::AGAIN) => open_real_path(root, relative, links),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open_below(root: &Path, relative: &Path, links: FollowLinks) -> io::Result<File> {
    open_real_path(root, relative, links)
}

fn open_real_path(root: &Path, relative: &Path, links: FollowLinks) -> io::Result<File> {
    let root = root.canonicalize()?;
    let real = root.join(relative).canonicalize()?;
    let is_below = match links {
        FollowLinks::Never => real == root.join(relative),
        _ => real.starts_with(&root),
    };
    if !is_below {
        return Err(not_found());
    }
    open_path(&real, OFlags::NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root with links in it, and a secret beside it.
    fn folders() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("there is room");
        let root = place.path().join("root");
        let made = (|| {
            fs::create_dir_all(root.join("folder"))?;
            fs::write(place.path().join("secret"), "secret")?;
            fs::write(root.join("folder/file"), "file")?;
            symlink("folder/file", root.join("inside"))?;
            symlink("folder", root.join("folder-link"))?;
            symlink("../secret", root.join("outside"))?;
            symlink(place.path().join("secret"), root.join("outside-absolute"))?;
            symlink("..", root.join("up"))?;
            symlink("circle", root.join("circle"))?;
            symlink("nothing", root.join("nowhere"))
        })();
        made.expect("they can be made");
        place
    }

    fn content(file: io::Result<File>) -> Result<String, io::ErrorKind> {
        let mut text = String::new();
        let mut file = file.map_err(|error| error.kind())?;
        file.read_to_string(&mut text)
            .map_err(|error| error.kind())?;
        Ok(text)
    }

    /// Each way to open: the system's own, and the one for systems that have none.
    #[track_caller]
    fn check(root: &RootFolder, path: &str, expected: Result<&str, io::ErrorKind>) {
        let expected = expected.map(str::to_owned);
        assert_eq!(content(root.open(Path::new(path))), expected, "{path}");
        if root.links != FollowLinks::Anywhere && !path.contains("..") {
            let opened = open_real_path(&root.path, Path::new(path), root.links);
            assert_eq!(content(opened).is_ok(), expected.is_ok(), "{path}");
        }
    }

    const OUT: Result<&str, io::ErrorKind> = Err(io::ErrorKind::NotFound);

    #[test]
    fn links_are_followed_as_far_as_they_stay_inside() {
        let place = folders();
        let root = RootFolder::new(place.path().join("root"));
        for path in ["folder/file", "inside", "folder-link/file", "folder//file"] {
            check(&root, path, Ok("file"));
        }
        for path in [
            "outside",
            "outside-absolute",
            "up/secret",
            "nowhere",
            "circle",
        ] {
            check(&root, path, OUT);
        }
        for path in [
            "../secret",
            "/etc/passwd",
            "folder/../folder/file",
            "./inside",
        ] {
            assert_eq!(
                content(root.open(Path::new(path))),
                OUT.map(str::to_owned),
                "{path}"
            );
        }
    }

    #[test]
    fn links_are_followed_nowhere_or_anywhere_if_that_is_asked_for() {
        let place = folders();
        let root = RootFolder::new(place.path().join("root"));
        let never = root.clone().follow_links(FollowLinks::Never);
        check(&never, "folder/file", Ok("file"));
        for path in ["inside", "folder-link/file", "outside"] {
            check(&never, path, OUT);
        }
        let anywhere = root.follow_links(FollowLinks::Anywhere);
        check(&anywhere, "outside", Ok("secret"));
        check(&anywhere, "up/secret", Ok("secret"));
        check(&anywhere, "../secret", OUT);
    }

    #[test]
    fn the_root_may_be_a_link_and_be_exchanged() {
        let place = folders();
        let current = place.path().join("current");
        symlink("root", &current).expect("it can be made");
        let root = RootFolder::new(&current).follow_links(FollowLinks::Never);
        check(&root, "folder/file", Ok("file"));
        fs::remove_file(&current).expect("it is there");
        symlink("root/folder", &current).expect("it can be made");
        check(&root, "file", Ok("file"));
    }

    #[test]
    fn a_file_is_another_one_when_it_is_changed_or_replaced_or_out_of_reach() {
        let place = folders();
        let root = RootFolder::new(place.path().join("root"));
        let path = Path::new("folder/file");
        let at = place.path().join("root/folder/file");
        let known = || root.open_with_metadata(path).expect("it is there").1;
        let first = known();
        assert!(root.is_still(path, &first));
        fs::write(&at, "more than that").expect("it is ours");
        assert!(!root.is_still(path, &first), "another length");
        let second = known();
        let other = place.path().join("other");
        fs::write(&other, "more than that").expect("there is room");
        fs::rename(&other, &at).expect("it is ours");
        assert!(!root.is_still(path, &second), "another file");
        let third = known();
        fs::rename(place.path().join("root/folder"), place.path().join("away")).expect("ours");
        assert!(!root.is_still(path, &third), "it is gone");
        symlink("../away", place.path().join("root/folder")).expect("it can be made");
        assert!(root.open(path).is_err(), "the link leads out");
    }

    #[test]
    fn a_file_was_changed_when_the_system_says_so_or_later() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let at = place.path().join("file");
        fs::write(&at, "what it says")?;
        let file = File::options().append(true).open(&at)?;
        file.set_modified(UNIX_EPOCH)?;
        let metadata = file.metadata()?;
        let by_system = since_epoch(metadata.ctime(), metadata.ctime_nsec());
        assert!(by_system > UNIX_EPOCH);
        assert_eq!(RootFolder::changed_at(&metadata), by_system);
        let later = by_system + Duration::from_secs(3600);
        file.set_modified(later)?;
        assert_eq!(RootFolder::changed_at(&file.metadata()?), later);
        Ok(())
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let place = folders();
        let pipe = place.path().join("root/pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).expect("it can be made");
        let root = RootFolder::new(place.path().join("root"));
        let opened = root.open(Path::new("pipe"));
        assert_eq!(
            opened.expect_err("it is no file").kind(),
            io::ErrorKind::NotFound
        );
        let names = root.list(Path::new(""), 100).expect("it is a folder");
        assert!(names.iter().all(|entry| entry.name != "pipe"));
    }

    #[test]
    fn a_folder_is_listed_without_what_leads_out() {
        let place = folders();
        let root = RootFolder::new(place.path().join("root"));
        let listed = |root: &RootFolder, limit| {
            let entries = root.list(Path::new(""), limit).expect("it is a folder");
            let shown = entries.into_iter().map(|entry| {
                assert!(entry.modified.is_some());
                match entry.is_folder {
                    true => format!("{}/", entry.name),
                    false => format!("{} {}", entry.name, entry.length),
                }
            });
            shown.collect::<Vec<_>>()
        };
        assert_eq!(listed(&root, 100), ["folder/", "folder-link/", "inside 4"]);
        let never = root.clone().follow_links(FollowLinks::Never);
        assert_eq!(listed(&never, 100), ["folder/"]);
        assert!(listed(&root, 2).len() <= 2);
        assert!(root.list(Path::new("inside"), 10).is_err(), "it is a file");
    }
}
