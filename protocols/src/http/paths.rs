//! From the path of a request to a path below a root: nothing that a client writes leads out of it.
//!
//! # Not here
//!
//! The file system is not looked at. A symbolic link below the root may lead anywhere: whoever opens
//! the file decides whether it is followed. So is it with names that a file system takes for the same,
//! such as those that differ in case.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Whether files that begin with a dot are there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DotFiles {
    /// They are not, except for `.well-known` (RFC 8615): `.git` and `.env` are nobody's business.
    #[default]
    Hide,
    /// They are as others.
    Show,
}

/// Why the path of a request leads nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPath {
    /// It does not begin with a slash. The answer is 400.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// It goes up with `..`, escaped or not. Clients resolve that themselves (RFC 3986 §5.2.4), so who
    /// sends it wants out. The answer is 400.
    #[error("the path goes up")]
    GoesUp,
    /// A segment has what no name of a file should have: a slash or a backslash that was escaped, a
    /// control character, or what means something else on this system. The answer is 400.
    #[error("a segment of the path is not the name of a file")]
    BadSegment,
    /// A segment is no UTF-8 when it is decoded. The answer is 400.
    #[error("the path is not UTF-8")]
    NotText,
    /// It leads to a file that is hidden. The answer is 404, as if it was not there.
    #[error("the path leads to a hidden file")]
    Hidden,
}

/// A path below some root: no part of it leads up, or elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SafePath {
    segments: Vec<String>,
    ends_with_slash: bool,
}

impl SafePath {
    /// Takes the path of a request, as it stands in the request line, without a query.
    ///
    /// Escapes are decoded once. Empty segments and `.` are left out.
    ///
    /// ```
    /// use torsade_protocols::http::paths::{BadPath, DotFiles, SafePath};
    ///
    /// let path = SafePath::new("/a%20b//c.html", DotFiles::Hide)?;
    /// assert_eq!(path.relative(), std::path::Path::new("a b/c.html"));
    /// let outside = SafePath::new("/%2e%2e/etc/passwd", DotFiles::Hide);
    /// assert_eq!(outside, Err(BadPath::GoesUp));
    /// # Ok::<(), BadPath>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BadPath`]
    pub fn new(request_path: &str, dot_files: DotFiles) -> Result<Self, BadPath> {
        let rest = request_path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
        let mut segments = Vec::new();
        let mut ends_with_slash = true;
        for segment in rest.split('/') {
            let segment = percent_decode_str(segment).decode_utf8();
            let segment = segment.ok().ok_or(BadPath::NotText)?;
            ends_with_slash = matches!(&*segment, "" | ".");
            if ends_with_slash {
                continue;
            }
            check_segment(&segment)?;
            if segment.starts_with('.')
                && dot_files == DotFiles::Hide
                && !(segments.is_empty() && segment == ".well-known")
            {
                return Err(BadPath::Hidden);
            }
            segments.push(segment.into_owned());
        }
        Ok(Self {
            segments,
            ends_with_slash,
        })
    }

    /// The path from the root; empty if it is the root itself.
    #[must_use]
    pub fn relative(&self) -> PathBuf {
        self.segments.iter().collect()
    }

    /// The path of the file below `root`.
    #[must_use]
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(self.relative())
    }

    /// The decoded names on the way.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(String::as_str)
    }

    /// Whether it is written as that of a folder.
    #[must_use]
    pub fn ends_with_slash(&self) -> bool {
        self.ends_with_slash
    }

    /// The path as it is to be written in a URL, with one slash at its beginning and between any two
    /// segments: what a redirect to a folder needs. One that repeated the client's `//host/..` would
    /// lead to another host.
    #[must_use]
    pub fn to_url_path(&self, ends_with_slash: bool) -> String {
        let mut url = String::new();
        for segment in &self.segments {
            url.push('/');
            url.extend(utf8_percent_encode(segment, &ESCAPED));
        }
        if ends_with_slash || url.is_empty() {
            url.push('/');
        }
        url
    }
}

/// RFC 3986 §3.3: what may not stand in a segment as it is, and what a page could take for more.
const ESCAPED: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn check_segment(segment: &str) -> Result<(), BadPath> {
    if segment == ".." {
        return Err(BadPath::GoesUp);
    }
    let is_forbidden = |character: char| character.is_control() || matches!(character, '/' | '\\');
    if segment.contains(is_forbidden) {
        return Err(BadPath::BadSegment);
    }
    // Streams of files and drives; names of devices; ends that are cut off.
    if cfg!(windows) && (segment.contains(':') || segment.ends_with(['.', ' '])) {
        return Err(BadPath::BadSegment);
    }
    // What this system thinks of it.
    let mut components = Path::new(segment).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => Ok(()),
        _ => Err(BadPath::BadSegment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Result<&str, BadPath>) {
        let found = SafePath::new(path, DotFiles::Hide).map(|found| found.relative());
        assert_eq!(found, expected.map(PathBuf::from), "{path}");
    }

    #[test]
    fn a_path_is_decoded_once() {
        check("/", Ok(""));
        check("/a/b.html", Ok("a/b.html"));
        check("/a%20b/%c3%a9", Ok("a b/\u{e9}"));
        check("/a+b", Ok("a+b"));
        check("/%2561", Ok("%61"));
        check("/%252e%252e/a", Ok("%2e%2e/a"));
        check("/100%", Ok("100%"));
    }

    #[test]
    fn empty_segments_and_single_dots_are_left_out() {
        check("//a///b/", Ok("a/b"));
        check("/./a/.", Ok("a"));
        check("/%2e/a", Ok("a"));
        for (path, ends_with_slash) in [
            ("/", true),
            ("/a", false),
            ("/a/", true),
            ("/a/.", true),
            ("/a//", true),
        ] {
            let found = SafePath::new(path, DotFiles::Hide).expect(path);
            assert_eq!(found.ends_with_slash(), ends_with_slash, "{path}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        for path in [
            "/..",
            "/../a",
            "/a/../b",
            "/a/..",
            "/%2e%2e/a",
            "/.%2E/a",
            "/a/%2e./b",
            "//..",
        ] {
            check(path, Err(BadPath::GoesUp));
        }
        for path in ["", "a", "../a", "*", "http://host/a", "\\a"] {
            check(path, Err(BadPath::NotAbsolute));
        }
        for path in [
            "/..%2fa",
            "/a%2f..%2fb",
            "/%2fetc",
            "/..%5ca",
            "/..\\a",
            "/a%5c..",
            "/a%00.html",
            "/%0a",
            "/a%7f",
            "/%c2%80",
        ] {
            check(path, Err(BadPath::BadSegment));
        }
        // An overlong slash, and half a character.
        check("/%c0%af", Err(BadPath::NotText));
        check("/%e2%82", Err(BadPath::NotText));
    }

    #[test]
    fn hidden_files_are_hidden_unless_they_are_wanted() {
        for path in [
            "/.git/config",
            "/a/.env",
            "/%2eenv",
            "/...",
            "/a/.well-known/b",
        ] {
            check(path, Err(BadPath::Hidden));
            assert!(SafePath::new(path, DotFiles::Show).is_ok(), "{path}");
        }
        check("/.well-known/acme", Ok(".well-known/acme"));
        let up = SafePath::new("/..", DotFiles::Show);
        assert_eq!(up, Err(BadPath::GoesUp));
    }

    #[test]
    fn whatever_comes_the_result_stays_below_the_root() {
        // Every path of up to four of these pieces.
        let pieces = ["/", "..", ".", "%2e", "%2f", "%5c", "\\", "a", "%00", "C:"];
        let root = Path::new("/root/folder");
        for index in 0..pieces.len().pow(4) {
            let mut path = "/".to_owned();
            let mut rest = index;
            for _ in 0..4 {
                path.push_str(pieces[rest % pieces.len()]);
                rest /= pieces.len();
            }
            let Ok(found) = SafePath::new(&path, DotFiles::Show) else {
                continue;
            };
            let below = found.below(root);
            let mut components = below.strip_prefix(root).expect("it is below").components();
            assert!(
                components.all(|it| matches!(it, Component::Normal(_))),
                "{path}"
            );
        }
    }

    #[test]
    fn a_redirect_stays_on_this_host_and_reads_the_same() {
        let found = SafePath::new("//evil.example/a%20b", DotFiles::Hide).expect("it is safe");
        assert_eq!(found.to_url_path(true), "/evil.example/a%20b/");
        assert_eq!(found.to_url_path(false), "/evil.example/a%20b");
        let root = SafePath::new("/", DotFiles::Hide).expect("it is safe");
        assert_eq!(root.to_url_path(false), "/");
        let odd = SafePath::new("/%3Ca%3F%23%25%22%C3%A9", DotFiles::Hide).expect("it is safe");
        let again = SafePath::new(&odd.to_url_path(false), DotFiles::Hide);
        assert_eq!(again.as_ref(), Ok(&odd));
        assert_eq!(odd.segments().collect::<Vec<_>>(), ["<a?#%\"\u{e9}"]);
    }
}
