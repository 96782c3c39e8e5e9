//! Lines of an access log, in the Common and the Combined format that every log reader knows.
//!
//! ```
//! use std::time::{Duration, UNIX_EPOCH};
//! use torsade_protocols::http::access_log::Entry;
//!
//! let entry = Entry {
//!     peer: "192.0.2.1",
//!     user: None,
//!     at: UNIX_EPOCH + Duration::from_secs(971_182_536),
//!     request: "GET /a.gif HTTP/1.1",
//!     status: 200,
//!     body_length: 2326,
//!     referer: None,
//!     user_agent: Some(b"curl/8.0"),
//! };
//! let mut line = String::new();
//! entry.write_combined(&mut line);
//! assert_eq!(
//!     line,
//!     "192.0.2.1 - - [10/Oct/2000:12:55:36 +0000] \"GET /a.gif HTTP/1.1\" 200 2326 \"-\" \"curl/8.0\"\n"
//! );
//! ```
//!
//! # Bounds
//!
//! What a client says is written without quotes, control characters and bytes above ASCII, so that it
//! cannot end the line, forge another or move a terminal; and at most [`FIELD_MAX`] bytes of it.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::dates::format_date;

/// How many bytes of a client's text are written.
pub const FIELD_MAX: usize = 4096;

/// What a line says of a request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Who asked: an address, or what a trusted proxy says.
    pub peer: &'a str,
    /// Who that is, if they said and it was checked.
    pub user: Option<&'a str>,
    /// When the request came.
    pub at: SystemTime,
    /// The request line: method, target and version.
    pub request: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// How many bytes its body had.
    pub body_length: u64,
    /// The field `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The field `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
}

impl Entry<'_> {
    /// Appends a line in the Common Log Format, with its end.
    pub fn write_common(&self, line: &mut String) {
        self.write_start(line);
        line.push('\n');
    }

    /// Appends a line in the Combined format, with its end: the Common one, `Referer`, `User-Agent`.
    pub fn write_combined(&self, line: &mut String) {
        self.write_start(line);
        for field in [self.referer, self.user_agent] {
            line.push_str(" \"");
            escape(field.unwrap_or(b"-"), line);
            line.push('"');
        }
        line.push('\n');
    }

    fn write_start(&self, line: &mut String) {
        word(self.peer, line);
        line.push_str(" - ");
        word(self.user.unwrap_or_default(), line);
        line.push_str(" [");
        write_time(self.at, line);
        line.push_str("] \"");
        escape(self.request.as_bytes(), line);
        write!(line, "\" {} ", self.status).expect("a string takes everything");
        match self.body_length {
            0 => line.push('-'),
            length => write!(line, "{length}").expect("a string takes everything"),
        }
    }
}

/// `06/Nov/1994:08:49:37 +0000`, from `Sun, 06 Nov 1994 08:49:37 GMT`.
fn write_time(at: SystemTime, line: &mut String) {
    let date = format_date(at);
    let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    write!(line, "{day}/{month}/{year}:{time} +0000").expect("a string takes everything");
}

/// Text that stands without quotes, where a space would begin the next field.
fn word(text: &str, line: &mut String) {
    if text.is_empty() {
        return line.push('-');
    }
    let begin = line.len();
    escape(text.as_bytes(), line);
    if line[begin..].contains(' ') {
        let escaped = line.split_off(begin).replace(' ', "\\x20");
        line.push_str(&escaped);
    }
}

fn escape(text: &[u8], line: &mut String) {
    for &byte in text.iter().take(FIELD_MAX) {
        match byte {
            b'"' | b'\\' => line.extend(['\\', char::from(byte)]),
            0x20..0x7f => line.push(char::from(byte)),
            _ => write!(line, "\\x{byte:02x}").expect("a string takes everything"),
        }
    }
    if text.len() > FIELD_MAX {
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            peer: "2001:db8::1",
            user: Some("ada"),
            at: UNIX_EPOCH + Duration::from_secs(784_111_777),
            request: "HEAD / HTTP/1.0",
            status: 404,
            body_length: 0,
            referer: Some(b"http://a/?b"),
            user_agent: None,
        }
    }

    fn combined(entry: Entry<'_>) -> String {
        let mut line = String::new();
        entry.write_combined(&mut line);
        line
    }

    #[test]
    fn both_formats_begin_alike() {
        let start = "2001:db8::1 - ada [06/Nov/1994:08:49:37 +0000] \"HEAD / HTTP/1.0\" 404 -";
        let mut line = String::new();
        entry().write_common(&mut line);
        assert_eq!(line, format!("{start}\n"));
        assert_eq!(
            combined(entry()),
            format!("{start} \"http://a/?b\" \"-\"\n")
        );
    }

    #[test]
    fn nothing_that_a_client_says_ends_its_field() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let line = combined(Entry {
            peer: "a b\n\"",
            user: Some("x \r\\ y"),
            request: "GET /\"\n\u{1b}[2J\u{e9} HTTP/1.1",
            user_agent: Some(&every_byte),
            ..entry()
        });
        assert!(line.is_ascii());
        assert_eq!(
            line.matches(|it: char| it.is_control()).count(),
            1,
            "its end"
        );
        assert!(line.starts_with("a\\x20b\\x0a\\\" - x\\x20\\x0d\\\\\\x20y ["));
        assert!(line.contains("\"GET /\\\"\\x0a\\x1b[2J\\xc3\\xa9 HTTP/1.1\" 404"));
        // Quotes that are not escaped: three pairs.
        let unescaped = line.replace("\\\\", "").replace("\\\"", "");
        assert_eq!(unescaped.matches('"').count(), 6);
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = vec![b'x'; FIELD_MAX + 1];
        let line = combined(Entry {
            user_agent: Some(&long),
            ..entry()
        });
        assert!(line.ends_with(&format!("\"{}...\"\n", "x".repeat(FIELD_MAX))));
    }

    #[test]
    fn an_empty_name_is_a_dash() {
        let line = combined(Entry {
            peer: "",
            user: Some(""),
            ..entry()
        });
        assert!(line.starts_with("- - - ["));
    }
}
