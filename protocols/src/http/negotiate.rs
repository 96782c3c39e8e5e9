//! What a client would rather have (RFC 9110 §12): codings and types, and `Vary`, which tells caches.
//!
//! A member of a list that is wrong is left out; the rest counts.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::values::{members, pair, pieces};

/// A coding of content that we can make and undo (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Coding {
    /// `gzip`: RFC 1952.
    Gzip,
    /// `deflate`: RFC 1950, zlib's format.
    Deflate,
    /// The content as it is.
    Identity,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Identity => "identity",
        }
    }

    /// The coding of that name, in any case; §8.4.1.3: `x-gzip` is `gzip`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            Some(Self::Gzip)
        } else if name.eq_ignore_ascii_case("deflate") {
            Some(Self::Deflate)
        } else if name.eq_ignore_ascii_case("identity") {
            Some(Self::Identity)
        } else {
            None
        }
    }

    /// Its name as the value of `Content-Encoding`, which [`Identity`](Self::Identity) must not have.
    #[must_use]
    pub fn to_value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

/// Chooses among the codings that a server offers, best first (RFC 9110 §12.5.3).
///
/// The client's weights decide, and where they are equal, the order of the offer. `Identity` counts as
/// offered last, if it is not in the offer. It is also what a client gets that forbids everything: an
/// answer is better than 415 or 406 (§12.5.3 leaves the choice).
#[must_use]
pub fn choose_coding(headers: &HeaderMap, offered: &[Coding]) -> Coding {
    // "If no Accept-Encoding header field is in the request, any content coding is considered
    // acceptable": but one that does not ask may not know any.
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return Coding::Identity;
    }
    let mut best = (0, Coding::Identity);
    for coding in offered.iter().copied().chain([Coding::Identity]) {
        let weight = coding_weight(headers, coding);
        if weight > best.0 {
            best = (weight, coding);
        }
    }
    best.1
}

/// The weight of a coding, in thousandths.
fn coding_weight(headers: &HeaderMap, coding: Coding) -> u16 {
    let mut any = None;
    for member in members(headers, &header::ACCEPT_ENCODING) {
        let Some((name, weight)) = weighted(member) else {
            continue;
        };
        if Coding::from_name(name) == Some(coding) {
            return weight;
        }
        if name == "*" {
            any = Some(weight);
        }
    }
    // Identity is acceptable unless it is excluded, and then the least wanted.
    any.unwrap_or(u16::from(coding == Coding::Identity))
}

/// Splits the weight off a member without other parameters; it is 1000 if none is given.
fn weighted(member: &str) -> Option<(&str, u16)> {
    let mut parts = pieces(member, b';');
    let name = parts.next()?;
    let weight = match parts.next() {
        Some(part) => weight(part)??,
        None => 1000,
    };
    Some((name, weight))
}

/// `None` if the parameter is no weight, `Some(None)` if it is a bad one (§12.4.2).
fn weight(parameter: &str) -> Option<Option<u16>> {
    let (name, value) = pair(parameter);
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    Some(value.and_then(|value| parse_weight(&value)))
}

/// §12.4.2: `0`, `1`, and up to three digits behind the point.
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{digits:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Chooses among the types that a server offers, best first (RFC 9110 §12.5.1).
///
/// Gives the index of the chosen one, `None` if the client accepts none of them. The most specific
/// range that fits a type gives its weight: `text/html;level=1`, `text/html`, `text/*`, `*/*`. Where
/// weights are equal, the order of the offer decides. Without an `Accept` everything is accepted.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use torsade_protocols::http::negotiate::choose_type;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("accept", HeaderValue::from_static("text/*;q=0.5, application/json"));
/// assert_eq!(choose_type(&headers, &["text/html", "application/json"]), Some(1));
/// assert_eq!(choose_type(&headers, &["image/png"]), None);
/// ```
#[must_use]
pub fn choose_type(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    if !headers.contains_key(header::ACCEPT) {
        return (!offered.is_empty()).then_some(0);
    }
    let mut best = (0, None);
    for (index, offer) in offered.iter().enumerate() {
        let weight = type_weight(headers, offer);
        if weight > best.0 {
            best = (weight, Some(index));
        }
    }
    best.1
}

fn type_weight(headers: &HeaderMap, offer: &str) -> u16 {
    let mut offered = pieces(offer, b';');
    let Some((kind, subtype)) = offered.next().and_then(|text| text.split_once('/')) else {
        return 0;
    };
    let parameters: Vec<_> = offered.map(pair).collect();
    let mut best = (0, 0);
    for member in members(headers, &header::ACCEPT) {
        let mut parts = pieces(member, b';');
        let Some((wanted_kind, wanted_subtype)) =
            parts.next().and_then(|text| text.split_once('/'))
        else {
            continue;
        };
        let mut specificity = match (wanted_kind, wanted_subtype) {
            ("*", "*") => 1,
            (wanted, "*") if wanted.eq_ignore_ascii_case(kind) => 2,
            (wanted, sub)
                if wanted.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) =>
            {
                3
            }
            _ => continue,
        };
        let mut member_weight = Some(1000);
        let mut fits = true;
        for part in parts {
            if let Some(weight) = weight(part) {
                member_weight = weight;
                // What follows the weight was an extension that nobody used (RFC 7231 §5.3.2).
                break;
            }
            let (name, value) = pair(part);
            specificity += 1;
            fits &= parameters.iter().any(|(offered_name, offered_value)| {
                let same = |left: &str, right: &str| left.eq_ignore_ascii_case(right);
                same(offered_name, name)
                    && same(
                        offered_value.as_deref().unwrap_or_default(),
                        value.as_deref().unwrap_or_default(),
                    )
            });
        }
        if let Some(weight) = member_weight
            && fits
            && specificity > best.0
        {
            best = (specificity, weight);
        }
    }
    best.1
}

/// Adds a name to `Vary` (RFC 9110 §12.5.5), unless it is there, or everything is: `*`.
pub fn add_vary(headers: &mut HeaderMap, name: &HeaderName) {
    let is_there = members(headers, &header::VARY)
        .any(|member| member == "*" || member.eq_ignore_ascii_case(name.as_str()));
    if !is_there {
        headers.append(header::VARY, HeaderValue::from(name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::Coding::{Deflate, Gzip, Identity};
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("it is a value"));
        headers
    }

    #[track_caller]
    fn check_coding(accepted: &str, expected: Coding) {
        let headers = headers("accept-encoding", accepted);
        let chosen = choose_coding(&headers, &[Gzip, Deflate]);
        assert_eq!(chosen, expected, "{accepted}");
    }

    #[test]
    fn rfc9110_12_5_3_the_weights_of_the_client_decide_on_the_coding() {
        check_coding("gzip", Gzip);
        check_coding("GZIP", Gzip);
        check_coding("x-gzip", Gzip);
        check_coding("deflate", Deflate);
        check_coding("compress, gzip", Gzip);
        check_coding("deflate, gzip", Gzip);
        check_coding("gzip;q=0.5, deflate;q=0.501", Deflate);
        check_coding("gzip;q=1.0, identity; q=0.5, *;q=0", Gzip);
        check_coding("*", Gzip);
        check_coding("*;q=0.1, gzip;q=0", Deflate);
        check_coding("gzip, deflate, br, zstd", Gzip);
    }

    #[test]
    fn content_stays_as_it_is_for_whoever_asks_for_nothing_else() {
        check_coding("", Identity);
        check_coding("br", Identity);
        check_coding("gzip;q=0", Identity);
        check_coding("identity, gzip;q=0.9", Identity);
        check_coding("gzip;q=0.001, identity;q=0.002", Identity);
        check_coding("*;q=0", Identity);
        check_coding("identity;q=0, *;q=0", Identity);
        assert_eq!(choose_coding(&HeaderMap::new(), &[Gzip]), Identity);
    }

    #[test]
    fn rfc9110_12_4_2_a_bad_weight_leaves_its_member_out() {
        for weight in ["2", "1.001", "0.1234", "-1", "x", "", "0,5", ".5", "+0.5"] {
            check_coding(&format!("gzip;q={weight}"), Identity);
        }
        for weight in ["1", "1.", "1.000", "0.001", "0.5"] {
            check_coding(&format!("gzip;Q={weight}"), Gzip);
        }
        check_coding("gzip;level=9", Identity);
    }

    #[track_caller]
    fn check_type(accepted: &str, offered: &[&str], expected: Option<usize>) {
        let chosen = choose_type(&headers("accept", accepted), offered);
        assert_eq!(chosen, expected, "{accepted}");
    }

    #[test]
    fn rfc9110_12_5_1_the_most_specific_range_gives_the_weight() {
        let accepted = "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, \
                        text/plain;format=fixed;q=0.4, */*;q=0.5";
        let headers = headers("accept", accepted);
        for (kind, weight) in [
            ("text/plain;format=flowed", 1000),
            ("text/plain", 700),
            ("text/html", 300),
            ("image/jpeg", 500),
            ("text/plain;format=fixed", 400),
            ("text/html;level=3", 300),
        ] {
            assert_eq!(type_weight(&headers, kind), weight, "{kind}");
        }
    }

    #[test]
    fn the_best_type_is_chosen_and_the_first_of_equals() {
        let offered = ["text/html", "application/json"];
        check_type("*/*", &offered, Some(0));
        check_type("application/json", &offered, Some(1));
        check_type("Application/JSON, */*;q=0.1", &offered, Some(1));
        check_type("text/html;q=0, */*", &offered, Some(1));
        check_type("image/*", &offered, None);
        check_type("", &offered, None);
        check_type("nonsense", &offered, None);
        check_type("text/html;q=nonsense, */*;q=0.1", &offered, Some(0));
        assert_eq!(choose_type(&HeaderMap::new(), &offered), Some(0));
        assert_eq!(choose_type(&HeaderMap::new(), &[]), None);
        check_type(
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            &["application/json", "text/html; charset=utf-8"],
            Some(1),
        );
    }

    #[test]
    fn vary_names_each_field_once() {
        let mut headers = headers("vary", "Accept, Origin");
        add_vary(&mut headers, &header::ACCEPT);
        add_vary(&mut headers, &header::ACCEPT_ENCODING);
        add_vary(&mut headers, &header::ACCEPT_ENCODING);
        let found: Vec<_> = members(&headers, &header::VARY).collect();
        assert_eq!(found, ["Accept", "Origin", "accept-encoding"]);
        let mut headers = self::headers("vary", "*");
        add_vary(&mut headers, &header::ACCEPT);
        assert_eq!(headers.get_all(header::VARY).iter().count(), 1);
    }
}
