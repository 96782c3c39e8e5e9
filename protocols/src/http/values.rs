//! The grammar that values of fields share (RFC 9110 §5.6).

use http::HeaderValue;

/// A value of visible ASCII, which our own numbers, dates and words are.
pub(super) fn ascii_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it was written here, of visible ASCII alone")
}
