//! Forms with files: `multipart/form-data` (RFC 7578, RFC 2046 §5.1), as it comes in.
//!
//! A [`Multipart`] is fed bytes in any pieces and gives events: the head of a part, its data piece by
//! piece, its end, and the end of the form. What becomes of the data is its user's.
//!
//! ```
//! use http::HeaderValue;
//! use torsade_protocols::http::multipart::{Event, Multipart, MultipartLimits};
//!
//! let content_type = HeaderValue::from_static("multipart/form-data; boundary=xyz");
//! let mut form = Multipart::new(&content_type, MultipartLimits::default())?;
//! let body = b"--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--xyz--\r\n";
//! let mut rest = body.as_slice();
//! let mut seen = Vec::new();
//! while let Some(event) = form.receive(&mut rest)? {
//!     seen.push(match event {
//!         Event::PartHead(head) => format!("begin {}", head.name),
//!         Event::Data(data) => String::from_utf8_lossy(data).into_owned(),
//!         Event::PartEnd => "end".to_owned(),
//!         Event::End => "over".to_owned(),
//!     });
//! }
//! form.finish()?;
//! assert_eq!(seen, ["begin a", "1", "end", "over"]);
//! # Ok::<(), torsade_protocols::http::multipart::MultipartError>(())
//! ```
//!
//! # Order
//!
//! For each part a head, its data if there is any, and its end; then the end of the form, once. How the
//! bytes are cut makes no difference, save where data is cut.
//!
//! # Bounds
//!
//! Kept is the head of a part, up to [`MultipartLimits::head_max`], and nothing else: what may be the
//! beginning of a boundary need not be kept, since it is known what it says. The parts are counted.
//! How long the body may be is limited where it is received.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::{memchr, memmem, memrchr};

use super::values::{pieces, unquote};

/// What a form may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MultipartLimits {
    /// How many parts.
    pub parts_max: usize,
    /// How many bytes the head of a part, and what stands before the first part.
    pub head_max: usize,
    /// How many fields the head of a part.
    pub fields_max: usize,
}

impl Default for MultipartLimits {
    /// 200 parts with heads of 8 KiB and 16 fields.
    fn default() -> Self {
        Self {
            parts_max: 200,
            head_max: 8 << 10,
            fields_max: 16,
        }
    }
}

/// Why a body is no form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MultipartError {
    /// The `Content-Type` is not `multipart/form-data` with a boundary that can be one.
    #[error("the content type is not multipart/form-data with a boundary")]
    ContentType,
    /// There are more parts than are accepted.
    #[error("the form has more than {limit} parts")]
    TooManyParts {
        /// What is accepted.
        limit: usize,
    },
    /// The head of a part, or what stands before the first one, is longer than is accepted.
    #[error("the head of a part has more than {limit} bytes")]
    HeadTooLong {
        /// What is accepted, in bytes.
        limit: usize,
    },
    /// The head of a part has more fields than are accepted.
    #[error("the head of a part has more than {limit} fields")]
    TooManyFields {
        /// What is accepted.
        limit: usize,
    },
    /// The head of a part is no list of fields.
    #[error("the head of a part is not one of fields")]
    BadHead,
    /// A part has no `Content-Disposition: form-data` with a name (RFC 7578 §4.2).
    #[error("a part has no name")]
    NoName,
    /// Behind a boundary stands what is neither the end of its line nor the end of the form.
    #[error("a boundary does not end as it should")]
    BadBoundary,
    /// The body ended before the form did.
    #[error("the form ends too early")]
    Truncated,
}

/// What comes of a form.
#[derive(Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// A part begins.
    PartHead(PartHead),
    /// The next of its bytes: one at least.
    Data(&'a [u8]),
    /// The part has ended.
    PartEnd,
    /// The form has ended. What follows is skipped (RFC 2046 §5.1.1).
    End,
}

/// The head of a part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartHead {
    /// The name of the field.
    pub name: String,
    /// If it is a file, the name that it has on the client's side. It may be anything, `../../etc/passwd`
    /// too: show it, and never open it.
    pub filename: Option<String>,
    /// The `Content-Type` that the client says.
    pub content_type: Option<String>,
    /// All fields of the head.
    pub headers: HeaderMap,
}

/// Reads a form as it comes in.
#[derive(Debug)]
pub struct Multipart {
    /// What stands between parts: the end of a line, two dashes, the boundary.
    delimiter: Vec<u8>,
    limits: MultipartLimits,
    state: State,
    /// How many bytes of the delimiter have come, that were not given as data.
    matched: usize,
    /// The head, so far.
    head: Vec<u8>,
    parts: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Before the first boundary; so many bytes were skipped.
    Preamble { skipped: usize },
    /// Behind a boundary: the end of the line, or two dashes.
    Boundary(Tail),
    /// In the head of a part.
    Head,
    /// In the data of a part.
    Data,
    /// Behind the last boundary, which is still to be told.
    Ending,
    /// Behind the end.
    Epilogue,
    /// It was bad before.
    Broken(MultipartError),
}

/// What came behind a boundary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tail {
    Nothing,
    Dash,
    /// Spaces and tabs, and how many (RFC 2046 §5.1.1: "transport-padding").
    Padding(usize),
    CarriageReturn,
}

impl Multipart {
    /// A reader for a body of that type.
    ///
    /// # Errors
    ///
    /// [`MultipartError::ContentType`]: the answer is 415.
    pub fn new(
        content_type: &HeaderValue,
        limits: MultipartLimits,
    ) -> Result<Self, MultipartError> {
        let text = content_type.to_str().ok();
        let boundary = text.and_then(boundary).ok_or(MultipartError::ContentType)?;
        Ok(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            limits,
            state: State::Preamble { skipped: 0 },
            // At the beginning of the body no line ends before the boundary.
            matched: 2,
            head: Vec::new(),
            parts: 0,
        })
    }

    /// Takes bytes from the beginning of `input` and gives the next event, or `None` if it has taken
    /// all of them and needs more.
    ///
    /// # Errors
    ///
    /// [`MultipartError`], and from then on always: the answer is 400.
    pub fn receive<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'e>>, MultipartError> {
        loop {
            if self.state == State::Data {
                // Its event may be of the bytes here, so it leaves the loop.
                if input.is_empty() {
                    return Ok(None);
                }
                break;
            }
            match self.step(input) {
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Ok(None),
                Ok(Step::Head(head)) => return Ok(Some(Event::PartHead(head))),
                Ok(Step::End) => return Ok(Some(Event::End)),
                Err(error) => {
                    self.state = State::Broken(error);
                    return Err(error);
                }
            }
        }
        Ok(self.receive_data(input))
    }

    /// Tells that the body has ended.
    ///
    /// # Errors
    ///
    /// [`MultipartError::Truncated`] if the form has not, or what was wrong before.
    pub fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::Epilogue => Ok(()),
            State::Broken(error) => Err(error),
            _ => Err(MultipartError::Truncated),
        }
    }

    /// Everything but data.
    fn step(&mut self, input: &mut &[u8]) -> Result<Step, MultipartError> {
        match self.state {
            State::Ending => {
                self.state = State::Epilogue;
                return Ok(Step::End);
            }
            State::Broken(error) => return Err(error),
            _ if input.is_empty() => return Ok(Step::Wait),
            State::Preamble { skipped } => {
                let found = self.find_delimiter(input);
                let skipped = match found {
                    Found::Data(data) => skipped + data.len(),
                    Found::Held(count) => skipped + count,
                    Found::Delimiter | Found::Nothing => skipped,
                };
                self.state = match found {
                    Found::Delimiter => State::Boundary(Tail::Nothing),
                    _ => State::Preamble { skipped },
                };
                self.check_head(skipped)?;
            }
            State::Boundary(tail) => {
                let (byte, rest) = input.split_first().expect("there is input");
                *input = rest;
                self.state = self.behind_boundary(tail, *byte)?;
            }
            State::Head => return self.receive_head(input),
            State::Epilogue => *input = &[],
            State::Data => unreachable!("data leaves the loop"),
        }
        Ok(Step::Again)
    }

    fn behind_boundary(&mut self, tail: Tail, byte: u8) -> Result<State, MultipartError> {
        Ok(match (tail, byte) {
            (Tail::Nothing, b'-') => State::Boundary(Tail::Dash),
            (Tail::Dash, b'-') => State::Ending,
            (Tail::Nothing, b' ' | b'\t') => State::Boundary(Tail::Padding(1)),
            (Tail::Padding(count), b' ' | b'\t') => {
                self.check_head(count)?;
                State::Boundary(Tail::Padding(count + 1))
            }
            (Tail::Nothing | Tail::Padding(_), b'\r') => State::Boundary(Tail::CarriageReturn),
            (Tail::CarriageReturn, b'\n') => {
                if self.parts == self.limits.parts_max {
                    let limit = self.parts;
                    return Err(MultipartError::TooManyParts { limit });
                }
                self.parts += 1;
                State::Head
            }
            _ => return Err(MultipartError::BadBoundary),
        })
    }

    fn receive_head(&mut self, input: &mut &[u8]) -> Result<Step, MultipartError> {
        // Line by line, until one is empty.
        let end = memchr(b'\n', input).map_or(input.len(), |at| at + 1);
        let (line, rest) = input.split_at(end);
        self.check_head(self.head.len() + line.len())?;
        self.head.extend_from_slice(line);
        *input = rest;
        if self.head != b"\r\n" && !self.head.ends_with(b"\r\n\r\n") {
            return Ok(Step::Again);
        }
        let head = parse_head(&self.head, self.limits.fields_max)?;
        self.head = Vec::new();
        self.state = State::Data;
        self.matched = 0;
        Ok(Step::Head(head))
    }

    fn check_head(&self, length: usize) -> Result<(), MultipartError> {
        let limit = self.limits.head_max;
        if length > limit {
            return Err(MultipartError::HeadTooLong { limit });
        }
        Ok(())
    }

    fn receive_data<'e, 'i: 'e>(&'e mut self, input: &mut &'i [u8]) -> Option<Event<'e>> {
        match self.find_delimiter(input) {
            Found::Data(data) => Some(Event::Data(data)),
            Found::Held(count) => Some(Event::Data(&self.delimiter[..count])),
            Found::Delimiter => {
                self.state = State::Boundary(Tail::Nothing);
                Some(Event::PartEnd)
            }
            Found::Nothing => None,
        }
    }

    /// Takes what stands before the delimiter, or the delimiter, or all that there is.
    fn find_delimiter<'a>(&mut self, input: &mut &'a [u8]) -> Found<'a> {
        if self.matched > 0 {
            let missing = &self.delimiter[self.matched..];
            let common = input
                .iter()
                .zip(missing)
                .take_while(|(found, wanted)| found == wanted)
                .count();
            *input = &input[common..];
            self.matched += common;
            if self.matched == self.delimiter.len() {
                self.matched = 0;
                return Found::Delimiter;
            }
            if input.is_empty() {
                return Found::Nothing;
            }
            // A carriage return is in the delimiter at its beginning alone, so another match cannot
            // begin within what was matched.
            return Found::Held(std::mem::take(&mut self.matched));
        }
        let end = match memmem::find(input, &self.delimiter) {
            Some(0) => {
                *input = &input[self.delimiter.len()..];
                return Found::Delimiter;
            }
            Some(at) => at,
            None => {
                let from = input.len().saturating_sub(self.delimiter.len() - 1);
                match memrchr(b'\r', &input[from..]) {
                    Some(at) if self.delimiter.starts_with(&input[from + at..]) => from + at,
                    _ => input.len(),
                }
            }
        };
        let (data, rest) = input.split_at(end);
        *input = rest;
        if !data.is_empty() {
            return Found::Data(data);
        }
        // What is left may be the beginning of the delimiter.
        self.matched = input.len();
        *input = &[];
        Found::Nothing
    }
}

/// What was found before the next delimiter.
enum Found<'a> {
    Data(&'a [u8]),
    /// So many bytes of the delimiter, which came before and are none of it.
    Held(usize),
    Delimiter,
    /// Nothing that is known to be data.
    Nothing,
}

enum Step {
    Again,
    Wait,
    Head(PartHead),
    End,
}

/// The boundary of a `multipart/form-data` (RFC 2046 §5.1.1): 1 to 70 characters.
fn boundary(content_type: &str) -> Option<String> {
    let mut parts = pieces(content_type, b';');
    let media_type = parts.next()?;
    if !media_type.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| unquote(value.trim()))
    })?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let is_good = (1..=70).contains(&boundary.len())
        && boundary.bytes().all(allowed)
        && !boundary.ends_with(' ');
    is_good.then(|| boundary.into_owned())
}

fn parse_head(bytes: &[u8], fields_max: usize) -> Result<PartHead, MultipartError> {
    let mut fields = vec![httparse::EMPTY_HEADER; fields_max];
    let parsed = match httparse::parse_headers(bytes, &mut fields) {
        // One that ends before it does has an end of a line that is none.
        Ok(httparse::Status::Complete((length, parsed))) if length == bytes.len() => parsed,
        Err(httparse::Error::TooManyHeaders) => {
            let limit = fields_max;
            return Err(MultipartError::TooManyFields { limit });
        }
        Ok(_) | Err(_) => return Err(MultipartError::BadHead),
    };
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok();
        let value = HeaderValue::from_bytes(field.value).ok();
        let (Some(name), Some(value)) = (name, value) else {
            return Err(MultipartError::BadHead);
        };
        headers.append(name, value);
    }
    let disposition = headers.get(header::CONTENT_DISPOSITION);
    let disposition = disposition.ok_or(MultipartError::NoName)?;
    let disposition = String::from_utf8_lossy(disposition.as_bytes());
    let (name, filename) = parse_disposition(&disposition).ok_or(MultipartError::NoName)?;
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Ok(PartHead {
        name,
        filename,
        content_type,
        headers,
    })
}

/// RFC 7578 §4.2: `form-data; name="..."; filename="..."`. `filename*` is not to be used there, and is
/// ignored.
fn parse_disposition(text: &str) -> Option<(String, Option<String>)> {
    let (kind, mut rest) = text.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut filename) = (None, None);
    while let Some((key, behind)) = rest.split_once('=') {
        let (value, behind) = parameter(behind.trim_start());
        // Of what occurs twice the first counts.
        match key.trim_matches([';', ' ', '\t']) {
            key if key.eq_ignore_ascii_case("name") => name = name.or(Some(value)),
            key if key.eq_ignore_ascii_case("filename") => filename = filename.or(Some(value)),
            _ => {}
        }
        rest = behind;
    }
    Some((name?, filename))
}

/// The value at the beginning of `text`, and what is behind it.
///
/// Browsers write a quote as `%22` (WHATWG HTML, "multipart form data"), others as `\"`. A backslash
/// before anything else is one: some send the whole path of a file on Windows.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        let behind = &quoted[at + character.len_utf8()..];
        match character {
            '"' => return (value.replace("%22", "\""), behind),
            '\\' if behind.starts_with(['"', '\\']) => {
                value.extend(characters.next().map(|(_, escaped)| escaped));
            }
            other => value.push(other),
        }
    }
    (value.replace("%22", "\""), "")
}

#[cfg(test)]
mod tests {
    use torsade_reactor::testing::for_every_chunking;

    use super::*;

    fn reader(limits: MultipartLimits) -> Multipart {
        let content_type = HeaderValue::from_static("multipart/form-data; boundary=xy");
        Multipart::new(&content_type, limits).expect("it is a form")
    }

    /// What comes of it, with adjoining data joined.
    fn read(mut form: Multipart, chunks: &[&[u8]]) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        let mut data = Vec::new();
        let flush = |data: &mut Vec<u8>, seen: &mut Vec<String>| {
            if !data.is_empty() {
                seen.push(format!(
                    "{:?}",
                    String::from_utf8_lossy(&std::mem::take(data))
                ));
            }
        };
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                let event = match form.receive(&mut rest) {
                    Ok(Some(event)) => event,
                    Ok(None) => {
                        assert!(rest.is_empty(), "all is taken");
                        break;
                    }
                    Err(error) => {
                        flush(&mut data, &mut seen);
                        seen.push(error.to_string());
                        assert_eq!(form.finish(), Err(error));
                        return seen;
                    }
                };
                if let Event::Data(more) = event {
                    assert!(!more.is_empty());
                    data.extend_from_slice(more);
                    continue;
                }
                flush(&mut data, &mut seen);
                seen.push(match event {
                    Event::PartHead(head) => match head.filename {
                        Some(filename) => format!("{} is {filename}", head.name),
                        None => head.name,
                    },
                    Event::PartEnd => ".".to_owned(),
                    Event::End => "over".to_owned(),
                    Event::Data(_) => unreachable!("it was joined"),
                });
            }
        }
        flush(&mut data, &mut seen);
        if let Err(error) = form.finish() {
            seen.push(error.to_string());
        }
        seen
    }

    #[track_caller]
    fn check_with(limits: MultipartLimits, body: &[u8], expected: &[&str]) {
        assert_eq!(read(reader(limits), &[body]), expected);
        for_every_chunking(body, |chunks| {
            assert_eq!(read(reader(limits), chunks), expected);
        });
    }

    #[track_caller]
    fn check(body: &str, expected: &[&str]) {
        check_with(MultipartLimits::default(), body.as_bytes(), expected);
    }

    /// A part without the boundary in front of it.
    fn part(name: &str, data: &str) -> String {
        format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{data}\r\n--xy")
    }

    #[test]
    fn every_chunking_gives_the_same_events() {
        let (a, b) = (part("a", "1"), part("b", ""));
        check(
            &format!("--xy{a}{b}--"),
            &["a", "\"1\"", ".", "b", ".", "over"],
        );
        check("--xy--\r\n", &["over"]);
        check("--xy--", &["over"]);
    }

    #[test]
    fn rfc2046_5_1_1_what_stands_before_and_behind_is_skipped() {
        let a = part("a", "1");
        let expected = ["a", "\"1\"", ".", "over"];
        check(
            &format!("preamble\r\n\r\n--xy \t{a}-- \r\nepilogue\r\n--xy--"),
            &expected,
        );
        check(&format!("--x\r\n--\r\n--xy{a}--"), &expected);
        check(&format!("\r\n--xy{a}--\r\n"), &expected);
        // Not at the beginning of a line, it is no boundary.
        check(&format!(" --xy\r\n--xy{a}--"), &expected);
    }

    #[test]
    fn what_looks_like_a_boundary_is_data() {
        for data in [
            "\r\n--x",
            "\r\n-",
            "\r\n",
            "\r",
            "\n--xy",
            "--xy",
            "\r\r\n--x\r\n\r\n--",
            "\r\n--x\r",
            "\r\n\r\n--\rx",
        ] {
            let body = format!("--xy{}--", part("a", data));
            check(&body, &["a", &format!("{data:?}"), ".", "over"]);
        }
    }

    #[test]
    fn a_form_that_is_long_is_given_piece_by_piece() {
        let data = "0123456\r\n".repeat(1_000);
        let body = format!("--xy{}--", part("a", &data));
        for size in [1, 7, 64, 10_000] {
            let chunks: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
            let seen = read(reader(MultipartLimits::default()), &chunks);
            assert_eq!(seen, ["a", &format!("{data:?}"), ".", "over"]);
        }
    }

    #[test]
    fn a_head_says_what_its_part_is() {
        let mut form = reader(MultipartLimits::default());
        let mut body =
            b"--xy\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\
            content-type: text/plain\r\nX-Other: 1\r\n\r\n"
                .as_slice();
        let Ok(Some(Event::PartHead(head))) = form.receive(&mut body) else {
            panic!("there is a head");
        };
        assert_eq!(
            (head.name.as_str(), head.filename.as_deref()),
            ("f", Some("a.txt"))
        );
        assert_eq!(head.content_type.as_deref(), Some("text/plain"));
        assert_eq!(head.headers.get("x-other").expect("it is there"), "1");
        assert_eq!(form.receive(&mut body), Ok(None));
    }

    #[test]
    fn rfc7578_4_2_names_are_read_as_browsers_and_others_write_them() {
        for (text, name, filename) in [
            ("form-data; name=a", "a", None),
            ("Form-Data ;NAME = \"a b\"", "a b", None),
            (
                "form-data; name=\"a;b=c\"; filename=\"\"",
                "a;b=c",
                Some(""),
            ),
            ("form-data; filename=x.txt; name=\"a\"", "a", Some("x.txt")),
            (
                r#"form-data; name="a\"b\\c"; filename="C:\dir\f""#,
                "a\"b\\c",
                Some(r"C:\dir\f"),
            ),
            ("form-data; name=\"a%22b\"", "a\"b", None),
            (
                "form-data; name=\"\u{e9}\"; filename*=UTF-8''x",
                "\u{e9}",
                None,
            ),
            ("form-data; name=\"a\"; name=\"b\"", "a", None),
            ("form-data; name=\"a", "a", None),
            ("form-data; other; name=\"a\"", "", None),
        ] {
            let found = parse_disposition(text);
            if name.is_empty() {
                // A parameter without a value swallows the next name.
                assert_eq!(found, None, "{text}");
                continue;
            }
            let expected = (name.to_owned(), filename.map(str::to_owned));
            assert_eq!(found, Some(expected), "{text}");
        }
        for text in [
            "",
            "form-data",
            "form-data; filename=a",
            "attachment; name=a",
        ] {
            assert_eq!(parse_disposition(text), None, "{text}");
        }
    }

    #[test]
    fn a_content_type_needs_a_boundary() {
        let new = |text: &str| {
            let value = HeaderValue::from_str(text).expect("it is a value");
            Multipart::new(&value, MultipartLimits::default()).map(|it| it.delimiter)
        };
        for (text, delimiter) in [
            ("multipart/form-data; boundary=a", "\r\n--a"),
            (
                "Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"",
                "\r\n--a b",
            ),
            (
                "multipart/form-data;boundary=----WebKitFormBoundaryA/b",
                "\r\n------WebKitFormBoundaryA/b",
            ),
        ] {
            assert_eq!(new(text), Ok(delimiter.as_bytes().to_vec()), "{text}");
        }
        let long = format!("multipart/form-data; boundary={}", "a".repeat(71));
        for text in [
            "",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            &long,
            "multipart/form-data; boundary=\"a \"",
            "multipart/mixed; boundary=a",
            "multipart/form-data; boundary=a*b",
        ] {
            assert_eq!(new(text), Err(MultipartError::ContentType), "{text}");
        }
    }

    #[test]
    fn what_is_no_form_is_told() {
        let a = part("a", "1");
        let begun = ["a", "\"1\"", "."];
        let and = |last: &'static str| [begun.as_slice(), &[last]].concat();
        check("", &["the form ends too early"]);
        check("nothing", &["the form ends too early"]);
        check(&format!("--xy{a}"), &and("the form ends too early"));
        check(&format!("--xy{a}-"), &and("the form ends too early"));
        check(
            &format!("--xy{a}-x"),
            &and("a boundary does not end as it should"),
        );
        check(
            &format!("--xy{a}z"),
            &and("a boundary does not end as it should"),
        );
        check(
            &format!("--xy{a}\n"),
            &and("a boundary does not end as it should"),
        );
        check(
            &format!("--xy{a}\r\r"),
            &and("a boundary does not end as it should"),
        );
        check("--xy\r\n\r\n1\r\n--xy--", &["a part has no name"]);
        check(
            "--xy\r\nContent-Disposition: form-data\r\n\r\n",
            &["a part has no name"],
        );
        check(
            "--xy\r\na: b\n\nc: d\r\n\r\n",
            &["the head of a part is not one of fields"],
        );
        check(
            "--xy\r\na b: c\r\n\r\n",
            &["the head of a part is not one of fields"],
        );
    }

    #[test]
    fn a_form_has_limits() {
        let limits = MultipartLimits {
            parts_max: 2,
            head_max: 60,
            fields_max: 2,
        };
        let parts = part("a", "").repeat(2);
        let body = format!("--xy{parts}--");
        check_with(limits, body.as_bytes(), &["a", ".", "a", ".", "over"]);
        let body = format!("--xy{parts}{}--", part("a", ""));
        let expected = ["a", ".", "a", ".", "the form has more than 2 parts"];
        check_with(limits, body.as_bytes(), &expected);
        let long = "the head of a part has more than 60 bytes";
        let body = format!("--xy{}--", part(&"a".repeat(30), ""));
        check_with(limits, body.as_bytes(), &[long]);
        check_with(limits, &[b'x'; 70], &[long]);
        check_with(limits, "\r\n--".repeat(100).as_bytes(), &[long]);
        check_with(
            limits,
            format!("--xy{}", " ".repeat(70)).as_bytes(),
            &[long],
        );
        check_with(
            limits,
            b"--xy\r\na: b\r\nc: d\r\ne: f\r\n\r\n",
            &["the head of a part has more than 2 fields"],
        );
    }
}
