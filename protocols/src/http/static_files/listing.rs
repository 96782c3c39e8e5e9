//! The page that shows what is in a folder.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use torsade_reactor::FolderEntry;

use super::super::dates::format_date;
use super::super::paths::DotFiles;

/// How many names a page has at most.
pub(super) const LISTING_MAX: usize = 10_000;

/// RFC 3986 §2.3.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `folder` is its path as it stands in a URL, with a slash at its end.
pub(super) fn page(folder: &str, entries: &[FolderEntry], dot_files: DotFiles) -> String {
    let title = percent_decode_str(folder).decode_utf8_lossy();
    let title = html(&title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1>\n<table>\n"
    );
    if folder != "/" {
        page.push_str("<tr><td><a href=\"../\">../</a></td></tr>\n");
    }
    for entry in entries {
        if dot_files == DotFiles::Hide && entry.name.starts_with('.') {
            continue;
        }
        let slash = if entry.is_folder { "/" } else { "" };
        let link = utf8_percent_encode(&entry.name, &ESCAPED);
        let name = html(&entry.name);
        let changed = entry.modified.map(format_date).unwrap_or_default();
        let length = match entry.is_folder {
            true => String::new(),
            false => entry.length.to_string(),
        };
        writeln!(
            page,
            "<tr><td><a href=\"./{link}{slash}\">{name}{slash}</a></td>\
             <td>{changed}</td><td align=\"right\">{length}</td></tr>"
        )
        .expect("a string takes everything");
    }
    page.push_str("</table></body></html>\n");
    page
}

/// Text, as it stands in a page, between tags or in quotes.
fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
