//! Forms and query strings: `application/x-www-form-urlencoded`, as browsers write it (WHATWG URL §5).
//!
//! # Bounds
//!
//! A form has at most so many fields as its reader allows, [`FIELDS_MAX`] by default: a megabyte of
//! `&&a&&a` is a million fields. How long a body may be is limited where it is received.

use std::borrow::Cow;
use std::fmt;

/// How many fields a form has at most, unless its reader says otherwise.
pub const FIELDS_MAX: usize = 1_000;

/// A form has more fields than are accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the form has more than {limit} fields")]
pub struct TooManyFields {
    /// What is accepted.
    pub limit: usize,
}

/// The fields of a form or a query string, in their order; names may occur several times.
///
/// ```
/// use torsade_protocols::http::forms::Form;
///
/// let form = Form::parse(b"name=Ada+Lovelace&tag=a&tag=b%26c")?;
/// assert_eq!(form.get("name"), Some("Ada Lovelace"));
/// assert_eq!(form.get_all("tag").collect::<Vec<_>>(), ["a", "b&c"]);
/// assert_eq!(form.to_string(), "name=Ada+Lovelace&tag=a&tag=b%26c");
/// # Ok::<(), torsade_protocols::http::forms::TooManyFields>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// An empty form, to be filled and written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a body, or what stands behind the question mark of a target, with at most
    /// [`FIELDS_MAX`] fields.
    ///
    /// There is no bad syntax: what is no escape stands for itself, and bytes that are no UTF-8
    /// become U+FFFD, as the standard has it.
    ///
    /// # Errors
    ///
    /// [`TooManyFields`]; nothing of the form is kept then.
    pub fn parse(bytes: &[u8]) -> Result<Self, TooManyFields> {
        Self::parse_with_limit(bytes, FIELDS_MAX)
    }

    /// Reads a form of at most `limit` fields.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_with_limit(bytes: &[u8], limit: usize) -> Result<Self, TooManyFields> {
        let mut fields = Vec::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            if fields.len() == limit {
                return Err(TooManyFields { limit });
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { fields })
    }

    /// Adds a field behind the others.
    pub fn append(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.push((name.into(), value.into()));
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// The values of all fields of that name.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter();
        fields.filter_map(move |(found, value)| (found == name).then_some(value.as_str()))
    }

    /// All fields, name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields.iter();
        fields.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// As a body, or behind a question mark.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(&self.fields);
        f.write_str(&text.finish())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Form {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let fields = fields.into_iter();
        Self {
            fields: fields
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}

/// Decodes the escapes of a path or a name, where a plus is a plus; `None` if that gives no UTF-8.
#[must_use]
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let form = Form::parse(text.as_bytes()).expect("it is short");
        assert_eq!(form.iter().collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        check("", &[]);
        check("&&", &[]);
        check("a=b", &[("a", "b")]);
        check("a", &[("a", "")]);
        check("=b", &[("", "b")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=b&a=c&", &[("a", "b"), ("a", "c")]);
        check("a+b=c%2Bd%20e", &[("a b", "c+d e")]);
        check("%C3%A9=%e2%82%ac", &[("\u{e9}", "\u{20ac}")]);
        // A semicolon separates nothing: two readers that differ on that can be played off.
        check("a=b;c=d", &[("a", "b;c=d")]);
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        check("a=%", &[("a", "%")]);
        check("a=%4", &[("a", "%4")]);
        check("a=%zz", &[("a", "%zz")]);
        check("a=%ff", &[("a", "\u{fffd}")]);
        check("a=%00", &[("a", "\0")]);
    }

    #[test]
    fn a_form_with_too_many_fields_is_refused() {
        let limit = |text: &str| Form::parse_with_limit(text.as_bytes(), 2).map(|it| it.len());
        assert_eq!(limit("a&b"), Ok(2));
        assert_eq!(limit("a&&b&"), Ok(2));
        assert_eq!(limit("a&b&c"), Err(TooManyFields { limit: 2 }));
        let many = "a&".repeat(FIELDS_MAX);
        assert!(Form::parse(many.as_bytes()).is_ok());
        assert!(Form::parse(format!("{many}a").as_bytes()).is_err());
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let mut form: Form = [("a b", "c&d"), ("\u{e9}", "=+%"), ("", "")]
            .into_iter()
            .collect();
        form.append("a b", "\r\n");
        let text = form.to_string();
        assert!(text.is_ascii());
        assert_eq!(Form::parse(text.as_bytes()), Ok(form));
        assert!(Form::new().is_empty());
    }

    #[test]
    fn a_plus_in_a_path_is_a_plus() {
        assert_eq!(percent_decode("a+b%20c").as_deref(), Some("a+b c"));
        assert_eq!(percent_decode("%ff"), None);
    }
}
