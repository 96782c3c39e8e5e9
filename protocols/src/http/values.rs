//! The grammar that values of fields share (RFC 9110 §5.6): lists, tokens, quoted strings,
//! parameters.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A value of visible ASCII, which our own numbers, dates and words are.
pub(super) fn ascii_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it was written here, of visible ASCII alone")
}

/// §5.6.2: whether a character may stand in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// §5.6.3: spaces and tabs around.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The members of a list, over all fields of that name that are text (§5.6.1, §5.3).
pub(super) fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| pieces(text, b','))
}

/// What stands between separators that are in no quotes, trimmed; empty pieces are left out.
pub(super) fn pieces(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = unquoted(rest, separator).unwrap_or(rest.len());
            let piece = trim(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    })
}

/// Where a byte of ASCII stands outside of quotes.
fn unquoted(text: &str, wanted: u8) -> Option<usize> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => return byte == wanted && !is_quoted,
        }
        false
    })
}

/// Splits `name=value`; the value is `None` if there is no equals sign.
pub(super) fn pair(piece: &str) -> (&str, Option<Cow<'_, str>>) {
    match piece.split_once('=') {
        Some((name, value)) => (trim(name), Some(unquote(trim(value)))),
        None => (piece, None),
    }
}

/// §5.6.4: what a quoted string says; other text says itself.
pub(super) fn unquote(text: &str) -> Cow<'_, str> {
    let Some(quoted) = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    else {
        return Cow::Borrowed(text);
    };
    if !quoted.contains('\\') {
        return Cow::Borrowed(quoted);
    }
    let mut said = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => said.extend(characters.next()),
            other => said.push(other),
        }
    }
    Cow::Owned(said)
}

/// §5.6.4: text in quotes, where it is no token.
pub(super) fn quote_if_needed(text: &str) -> Cow<'_, str> {
    if is_token(text) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '\\' | '"') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_where_no_quotes_are() {
        let split = |text| pieces(text, b',').collect::<Vec<_>>();
        assert_eq!(split("a, b ,\tc"), ["a", "b", "c"]);
        assert_eq!(split(",,a,, ,"), ["a"]);
        assert_eq!(split(""), [""; 0]);
        assert_eq!(
            split(r#"a="x,y", b="\",", c"#),
            [r#"a="x,y""#, r#"b="\",""#, "c"]
        );
        // A quote that does not end reaches to the end.
        assert_eq!(split("a, \"b, c"), ["a", "\"b, c"]);
    }

    #[test]
    fn a_list_goes_on_in_the_next_field() {
        let mut headers = HeaderMap::new();
        for value in ["a, b", "\u{e9}", "c"] {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("it is a value");
            headers.append("vary", value);
        }
        let found: Vec<_> = members(&headers, &http::header::VARY).collect();
        assert_eq!(found, ["a", "b", "c"]);
    }

    #[test]
    fn a_quoted_string_says_what_is_in_it() {
        for (text, said) in [
            ("x", "x"),
            ("\"\"", ""),
            ("\"x y\"", "x y"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("\"", "\""),
            (r#""\""#, ""),
        ] {
            assert_eq!(unquote(text), said, "{text}");
        }
        assert_eq!(pair("a = \"b\""), ("a", Some(Cow::Borrowed("b"))));
        assert_eq!(pair("a"), ("a", None));
        assert_eq!(quote_if_needed("a"), "a");
        assert_eq!(unquote(&quote_if_needed(r#"a "\ b"#)), r#"a "\ b"#);
        assert_eq!(quote_if_needed(""), "\"\"");
    }
}
