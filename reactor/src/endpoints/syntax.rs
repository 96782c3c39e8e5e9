//! How endpoints are written as text: Twisted's syntax.
//!
//! ```text
//! tcp:8007:interface=127.0.0.1:backlog=50
//! ─┬─ ──┬─ ─────────┬───────── ────┬─────
//! kind  │           └── by name ───┘
//!       └─ by place
//! ```
//!
//! A colon separates; the first `=` of a field makes it one by name; a backslash takes the
//! meaning from the character behind it.
//!
//! # Not here
//!
//! What any of it means: see `parsers.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

/// Writes `text` so that it stands for itself in the description of an endpoint: with a
/// backslash before each `:`, `=` and backslash. Twisted's `quoteStringArgument`, which leaves
/// `=` alone and so breaks what stands by its place.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{EndpointParsers, quote_endpoint_argument};
///
/// # fn main() -> Result<(), torsade_reactor::EndpointError> {
/// let interface = quote_endpoint_argument("::1");
/// assert_eq!(interface, r"\:\:1");
/// EndpointParsers::new().server(&format!("tcp:0:interface={interface}"))?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn quote_endpoint_argument(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, ':' | '=' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// Why a text is not the description of an endpoint.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// There is no such kind of endpoint, or none for this side.
    #[error(
        "{description:?} is no {side} endpoint: there is no kind {kind:?}, but {}",
        Listed(known)
    )]
    UnknownKind {
        /// The text.
        description: String,
        /// `"client"` or `"server"`.
        side: &'static str,
        /// What stands before the first colon.
        kind: String,
        /// The kinds that there are.
        known: Vec<String>,
    },
    /// An argument is missing.
    #[error("{description:?} is no endpoint: {argument:?} is missing, {expected}")]
    Missing {
        /// The text.
        description: String,
        /// Its name.
        argument: &'static str,
        /// What it would be.
        expected: &'static str,
    },
    /// An argument is not what it should be.
    #[error("{description:?} is no endpoint: {argument:?} is {value:?}, expected {expected}")]
    Invalid {
        /// The text.
        description: String,
        /// Its name.
        argument: &'static str,
        /// What is written there.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// There are more arguments than this kind takes, or one that it does not know.
    #[error(
        "{description:?} is no endpoint: {argument:?} is one argument too many, {kind:?} takes {}",
        Listed(known)
    )]
    Unexpected {
        /// The text.
        description: String,
        /// The kind of endpoint.
        kind: String,
        /// The name of the argument, or what stands there without one.
        argument: String,
        /// The names that it knows, in the order of their places.
        known: Vec<String>,
    },
    /// An argument is given twice: by its name twice, or by its name and by its place.
    #[error("{description:?} is no endpoint: {argument:?} is given twice")]
    Repeated {
        /// The text.
        description: String,
        /// Its name.
        argument: String,
    },
    /// The last character is a backslash that has nothing to take the meaning from.
    #[error("{description:?} is no endpoint: it ends with a single backslash")]
    Unfinished {
        /// The text.
        description: String,
    },
}

/// The text, as for `Display`: it is what a `main` that returns the error prints.
impl fmt::Debug for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Words with commas between them.
struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, word) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{word}")?;
        }
        Ok(())
    }
}

/// The description of an endpoint, taken apart: what a parser in
/// [`EndpointParsers`](super::EndpointParsers) reads.
///
/// Each argument is asked for once, in the order of the places: what is written without a
/// name belongs to the first that is asked for, as for a function of Python's. At the end,
/// [`finish`](Self::finish) sees that nothing is left.
#[derive(Clone, Debug)]
pub struct EndpointArguments {
    description: String,
    kind: String,
    rest: String,
    by_place: VecDeque<String>,
    by_name: BTreeMap<String, String>,
    /// What was asked for.
    known: Vec<String>,
}

impl EndpointArguments {
    /// Takes a text apart.
    pub(crate) fn read(description: &str) -> Result<Self, EndpointError> {
        let mut arguments = Self {
            description: description.to_owned(),
            kind: String::new(),
            rest: String::new(),
            by_place: VecDeque::new(),
            by_name: BTreeMap::new(),
            known: Vec::new(),
        };
        let mut fields = Fields {
            left: description,
            ended: false,
        };
        let unfinished = || EndpointError::Unfinished {
            description: description.to_owned(),
        };
        if let Some(field) = fields.next() {
            // The first is the kind, whatever there is in it.
            arguments.kind = match field.ok_or_else(unfinished)? {
                (kind, None) => kind,
                (kind, Some(more)) => format!("{kind}={more}"),
            };
        }
        fields.left.clone_into(&mut arguments.rest);
        for field in fields {
            match field.ok_or_else(unfinished)? {
                (value, None) => arguments.by_place.push_back(value),
                (name, Some(value)) => {
                    if arguments.by_name.contains_key(&name) {
                        return Err(arguments.repeated(name));
                    }
                    arguments.by_name.insert(name, value);
                }
            }
        }
        Ok(arguments)
    }

    /// What stands before the first colon.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What stands behind the first colon, as it is written. For kinds that wrap another
    /// endpoint: `haproxy:tcp:80`. Who reads this reads no arguments.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// The argument of this name, if it is there.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Repeated`]: it is there by its place, too.
    pub fn take(&mut self, name: &'static str) -> Result<Option<String>, EndpointError> {
        self.known.push(name.to_owned());
        match (self.by_place.pop_front(), self.by_name.remove(name)) {
            (Some(_), Some(_)) => Err(self.repeated(name.to_owned())),
            (by_place, by_name) => Ok(by_place.or(by_name)),
        }
    }

    /// The argument of this name, which must be there; `expected` says what it would be.
    ///
    /// # Errors
    ///
    /// As for [`take`](Self::take), and [`EndpointError::Missing`].
    pub fn required(
        &mut self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<String, EndpointError> {
        let taken = self.take(name)?;
        taken.ok_or_else(|| EndpointError::Missing {
            description: self.description.clone(),
            argument: name,
            expected,
        })
    }

    /// The argument of this name, if it is there, as a `T`; `expected` says what it would be.
    ///
    /// # Errors
    ///
    /// As for [`take`](Self::take), and [`EndpointError::Invalid`].
    pub fn parse<T: FromStr>(
        &mut self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, EndpointError> {
        let Some(text) = self.take(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.invalid(name, text, expected)),
        }
    }

    /// The argument of this name, which is 0 or 1, or as well `no` or `yes`, `false` or `true`.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse).
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, EndpointError> {
        match self.take(name)? {
            None => Ok(None),
            Some(text) => match text.to_ascii_lowercase().as_str() {
                "1" | "yes" | "true" => Ok(Some(true)),
                "0" | "no" | "false" => Ok(Some(false)),
                _ => Err(self.invalid(name, text, "0 or 1")),
            },
        }
    }

    /// The error for an argument that is not what it should be.
    #[must_use]
    pub fn invalid(
        &self,
        argument: &'static str,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> EndpointError {
        EndpointError::Invalid {
            description: self.description.clone(),
            argument,
            value: value.into(),
            expected: expected.into(),
        }
    }

    /// Sees that every argument has been asked for.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Unexpected`].
    pub fn finish(mut self) -> Result<(), EndpointError> {
        let left = self.by_place.pop_front();
        let left = left.or_else(|| self.by_name.pop_first().map(|(name, _)| name));
        match left {
            None => Ok(()),
            Some(argument) => Err(EndpointError::Unexpected {
                description: self.description,
                kind: self.kind,
                argument,
                known: self.known,
            }),
        }
    }

    /// The error for a kind that there is not.
    pub(crate) fn unknown(self, side: &'static str, known: Vec<String>) -> EndpointError {
        EndpointError::UnknownKind {
            description: self.description,
            side,
            kind: self.kind,
            known,
        }
    }

    fn repeated(&self, argument: String) -> EndpointError {
        EndpointError::Repeated {
            description: self.description.clone(),
            argument,
        }
    }
}

/// The fields of a text, with what is escaped in them resolved.
struct Fields<'a> {
    left: &'a str,
    ended: bool,
}

impl Iterator for Fields<'_> {
    /// A field, and what stands behind its first `=`; `None` if it ends with a backslash.
    type Item = Option<(String, Option<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let (mut name, mut value) = (String::new(), None::<String>);
        let mut characters = self.left.char_indices();
        self.ended = true;
        while let Some((at, character)) = characters.next() {
            let literal = match character {
                ':' => {
                    self.left = &self.left[at + 1..];
                    self.ended = false;
                    return Some(Some((name, value)));
                }
                '=' if value.is_none() => {
                    value = Some(String::new());
                    continue;
                }
                '\\' => match characters.next() {
                    Some((_, escaped)) => escaped,
                    None => return Some(None),
                },
                other => other,
            };
            value.as_mut().unwrap_or(&mut name).push(literal);
        }
        self.left = "";
        Some(Some((name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text, and shows it as kind, places, names.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match EndpointArguments::read(text) {
            Ok(read) => format!("{} {:?} {:?}", read.kind, read.by_place, read.by_name),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn colons_separate_and_the_first_equals_sign_names() {
        check("tcp", r#"tcp [] {}"#);
        check("tcp:", r#"tcp [""] {}"#);
        check("tcp:80", r#"tcp ["80"] {}"#);
        check(
            "tcp:80:interface=::1",
            r#"tcp ["80", "", "1"] {"interface": ""}"#,
        );
        check("a:b=c=d:e=", r#"a [] {"b": "c=d", "e": ""}"#);
        check("a:b:c=d:e", r#"a ["b", "e"] {"c": "d"}"#);
        check("", r#" [] {}"#);
    }

    #[test]
    fn a_backslash_takes_the_meaning_from_what_follows() {
        check(r"a\:b:c", r#"a:b ["c"] {}"#);
        check(
            r"tcp:80:interface=\:\:1",
            r#"tcp ["80"] {"interface": "::1"}"#,
        );
        check(r"a:b\=c", r#"a ["b=c"] {}"#);
        check(r"a:\\:\x", r#"a ["\\", "x"] {}"#);
        let text = r"a:b\";
        check(
            text,
            &format!("{text:?} is no endpoint: it ends with a single backslash"),
        );
    }

    #[test]
    fn what_was_quoted_is_read_as_it_was_by_place_and_by_name() {
        for text in ["", "::1", r"C:\x=y", "=", ":", r"\", "plain", "ü:é"] {
            let quoted = quote_endpoint_argument(text);
            let description = format!("kind:{quoted}:name={quoted}");
            let mut read = EndpointArguments::read(&description).expect("it is quoted");
            assert_eq!(read.take("first"), Ok(Some(text.to_owned())));
            assert_eq!(read.take("name"), Ok(Some(text.to_owned())));
            assert_eq!(read.finish(), Ok(()));
        }
    }

    #[test]
    fn an_argument_that_is_given_twice_is_named() {
        check(
            "a:b=c:b=d",
            r#""a:b=c:b=d" is no endpoint: "b" is given twice"#,
        );
        let mut read = EndpointArguments::read("a:1:port=2").expect("it is well formed");
        let error = read.take("port").expect_err("by place and by name");
        assert_eq!(
            error.to_string(),
            r#""a:1:port=2" is no endpoint: "port" is given twice"#
        );
    }

    #[test]
    fn what_is_left_is_named_together_with_what_would_be_right() {
        let mut read = EndpointArguments::read("tcp:1:2:3").expect("it is well formed");
        let asked = [read.take("host"), read.take("port")];
        assert!(asked.iter().all(Result::is_ok));
        assert_eq!(
            read.finish().expect_err("there is a third").to_string(),
            r#""tcp:1:2:3" is no endpoint: "3" is one argument too many, "tcp" takes host, port"#
        );
        let read = EndpointArguments::read("x:y=1").expect("it is well formed");
        assert_eq!(
            read.finish().expect_err("nobody took y").to_string(),
            r#""x:y=1" is no endpoint: "y" is one argument too many, "x" takes none"#
        );
    }

    #[test]
    fn the_rest_is_as_it_was_written() {
        let read = EndpointArguments::read(r"haproxy:tcp:80:interface=\:\:1");
        assert_eq!(
            read.expect("it is well formed").rest(),
            r"tcp:80:interface=\:\:1"
        );
        let read = EndpointArguments::read("haproxy").expect("it is well formed");
        assert_eq!((read.kind(), read.rest()), ("haproxy", ""));
    }
}
