//! Media types of files, by the ends of their names.
//!
//! # Design
//!
//! A table of what the web is made of, rather than a crate with every type that was ever registered:
//! who serves something else says so. Types are those of IANA's registry, as nginx and Apache give them.

/// What is said of content that is not known (RFC 9110 §8.3).
pub const UNKNOWN: &str = "application/octet-stream";

/// The type of a file with that name, or that path; [`UNKNOWN`] if its ending is not in the table.
///
/// Text says that it is in UTF-8, which is what files are in today (RFC 9110 §8.3.2).
///
/// ```
/// use torsade_protocols::http::media_types::media_type;
///
/// assert_eq!(media_type("docs/index.HTML"), "text/html; charset=utf-8");
/// assert_eq!(media_type("logo.png"), "image/png");
/// assert_eq!(media_type("README"), "application/octet-stream");
/// ```
#[must_use]
pub fn media_type(name: &str) -> &'static str {
    let name = name.rsplit('/').next().unwrap_or(name);
    let extension = match name.rsplit_once('.') {
        // `.html` is a hidden file without an ending.
        Some((stem, extension)) if !stem.is_empty() => extension,
        _ => return UNKNOWN,
    };
    of_extension(extension).unwrap_or(UNKNOWN)
}

/// The type of files with that ending, without its dot, in any case.
#[must_use]
pub fn of_extension(extension: &str) -> Option<&'static str> {
    if extension.len() > LONGEST {
        return None;
    }
    let extension = extension.to_ascii_lowercase();
    let found = TYPES.binary_search_by(|(known, _)| (*known).cmp(&extension));
    found.ok().map(|index| TYPES[index].1)
}

/// Whether content of that type becomes shorter when it is compressed: text does, images do not.
#[must_use]
pub fn is_compressible(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or(media_type).trim();
    let media_type = media_type.to_ascii_lowercase();
    media_type.starts_with("text/")
        || ["+json", "+xml", "+text"]
            .iter()
            .any(|suffix| media_type.ends_with(suffix))
        || COMPRESSIBLE.contains(&media_type.as_str())
}

const COMPRESSIBLE: [&str; 9] = [
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "application/x-ndjson",
    "application/rtf",
    "font/otf",
    "font/ttf",
    "image/bmp",
];

/// Bytes of the longest ending in the table.
const LONGEST: usize = 11;

/// In the order of the endings.
const TYPES: [(&str, &str); 105] = [
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("br", "application/x-brotli"),
    ("bz2", "application/x-bzip2"),
    ("c", "text/plain; charset=utf-8"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("conf", "text/plain; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("deb", "application/vnd.debian.binary-package"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("h", "text/plain; charset=utf-8"),
    ("heic", "image/heic"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("ini", "text/plain; charset=utf-8"),
    ("jar", "application/java-archive"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonl", "application/x-ndjson"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("log", "text/plain; charset=utf-8"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("markdown", "text/markdown; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("mid", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mkv", "video/matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("ndjson", "application/x-ndjson"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    (
        "pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    ("ps", "application/postscript"),
    ("py", "text/x-python; charset=utf-8"),
    ("rar", "application/vnd.rar"),
    ("rs", "text/rust; charset=utf-8"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("sh", "text/x-shellscript; charset=utf-8"),
    ("sql", "application/sql"),
    ("svg", "image/svg+xml"),
    ("svgz", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("text", "text/plain; charset=utf-8"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xml", "text/xml; charset=utf-8"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("zip", "application/zip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_of_types() {
        assert!(TYPES.is_sorted_by(|left, right| left.0 < right.0));
        let longest = TYPES.iter().map(|(extension, _)| extension.len()).max();
        assert_eq!(longest, Some(LONGEST));
        for (extension, media_type) in TYPES {
            assert_eq!(of_extension(extension), Some(media_type));
            assert!(media_type.contains('/'));
            let is_text = media_type.starts_with("text/");
            assert_eq!(media_type.ends_with("; charset=utf-8"), is_text);
        }
    }

    #[test]
    fn the_last_ending_of_the_last_segment_decides() {
        for (name, expected) in [
            ("a.tar.gz", "application/gzip"),
            ("/a.html/b", UNKNOWN),
            ("a/b.PNG", "image/png"),
            (".html", UNKNOWN),
            ("a/.png", UNKNOWN),
            ("a.", UNKNOWN),
            ("", UNKNOWN),
            ("a.unheard-of-ending", UNKNOWN),
        ] {
            assert_eq!(media_type(name), expected, "{name}");
        }
    }

    #[test]
    fn text_is_compressed_and_images_are_not() {
        for name in ["a.html", "a.css", "a.js", "a.json", "a.svg", "a.wasm"] {
            assert!(is_compressible(media_type(name)), "{name}");
        }
        for name in ["a.png", "a.zip", "a.mp4", "a.woff2", "a"] {
            assert!(!is_compressible(media_type(name)), "{name}");
        }
        assert!(is_compressible("Application/Problem+JSON; charset=utf-8"));
    }
}
