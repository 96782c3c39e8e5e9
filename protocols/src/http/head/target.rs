//! The target of a request, in one of its four forms.

use std::cell::OnceCell;

use http::{Method, Uri};

use super::super::error::BadMessage;

/// RFC 9112 §3.2. Gives the length of the path of the origin form; a target of another form is parsed
/// at once, and the length is 0.
pub(super) fn check_target(
    method: &Method,
    target: &str,
    uri: &OnceCell<Uri>,
) -> Result<usize, BadMessage> {
    let bytes = target.as_bytes();
    if bytes.first() == Some(&b'/') && method != Method::CONNECT {
        let mut path = bytes.len();
        for (at, byte) in bytes.iter().enumerate().rev() {
            if !IN_TARGET[usize::from(*byte)] {
                return Err(BadMessage::Target);
            }
            if *byte == b'?' {
                path = at;
            }
        }
        return Ok(path);
    }
    let parsed: Uri = target.parse().or(Err(BadMessage::Target))?;
    let fits = if method == Method::CONNECT {
        // §3.2.3: the authority form, which has a port.
        parsed.scheme().is_none() && parsed.port_u16().is_some() && parsed.path().is_empty()
    } else if target == "*" {
        // §3.2.4.
        method == Method::OPTIONS
    } else {
        // §3.2.2: the absolute form, without credentials (RFC 9110 §4.2.4).
        let plain = parsed
            .authority()
            .is_some_and(|it| !it.as_str().contains('@'));
        parsed.scheme().is_some() && plain && target.is_ascii()
    };
    if !fits {
        return Err(BadMessage::Target);
    }
    // Nobody else has set it: the head was empty.
    let _ = uri.set(parsed);
    Ok(0)
}

/// What may stand in a target: what RFC 3986 allows, and what browsers send all the same.
pub(in crate::http) const IN_TARGET: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = b'!' as usize;
    while byte < 0x7f {
        allowed[byte] = !matches!(byte as u8, b'"' | b'#' | b'<' | b'>' | b'`');
        byte += 1;
    }
    allowed
};
