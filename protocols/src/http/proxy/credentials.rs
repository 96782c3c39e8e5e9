//! Credentials of the scheme `Basic`: RFC 7617. Pure.

use super::super::values::trim;

/// User and password of the value of a `Proxy-Authorization` or `Authorization` field.
pub(in crate::http) fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(decoded(trim(encoded))?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Base64 (RFC 4648 §4), with its padding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let data = text.trim_end_matches('=');
    if text.len() - data.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in data.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    // §3.5: what is left over has to be nothing, or two texts say the same.
    (bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<(&str, &str)>) {
        let found = basic(value);
        let found = found
            .as_ref()
            .map(|(user, password)| (&**user, &**password));
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn user_and_password_are_what_stands_around_the_first_colon() {
        check(
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            Some(("Aladdin", "open sesame")),
        );
        check("basic  dGVzdDoxMjPCow==", Some(("test", "123\u{a3}")));
        check("BASIC YTpiOmM=", Some(("a", "b:c")));
        check("Basic Og==", Some(("", "")));
    }

    #[test]
    fn what_is_no_such_value_is_none() {
        for value in [
            "",
            "Basic",
            "Basic ",
            "Bearer YTpi",
            "Basic YTp",
            "Basic YTpi=",
            "Basic Y===",
            "Basic YQ==",
            "Basic YTp*",
            "Basic Oh==",
            "Basic gDpi",
        ] {
            check(value, None);
        }
    }
}
