//! Cookies: reading `Cookie`, writing and reading `Set-Cookie` (RFC 6265bis, the draft that browsers
//! keep).
//!
//! A server reads with [`request_cookies`] and answers with a [`Cookie`]. A client keeps them in a
//! [`CookieJar`](super::cookie_jar::CookieJar).
//!
//! # Design
//!
//! A value of our own: the `cookie` crate brings the `time` crate with it, for dates that are a dozen
//! lines here.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};

use super::dates::format_date;
use super::values::{ascii_value, is_token, trim};

/// How many cookies of a request are read.
pub const REQUEST_COOKIES_MAX: usize = 200;

/// §5.6: how long name and value may be together, in bytes.
pub(super) const NAME_AND_VALUE_MAX: usize = 4096;

/// §5.6: how long the value of an attribute may be, in bytes.
const ATTRIBUTE_MAX: usize = 1024;

/// The cookies of a request, name and value, in the order in which they stand there.
///
/// Names may occur twice: the first one is of the longer path. Values are as they were sent, quotes
/// and all (§4.1.1 makes them part of the value). At most [`REQUEST_COOKIES_MAX`] are given; pieces
/// without an equals sign, and fields that are no text, are skipped.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use torsade_protocols::http::cookies::request_cookies;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("cookie", HeaderValue::from_static("id=31d4; theme=dark"));
/// let cookies: Vec<_> = request_cookies(&headers).collect();
/// assert_eq!(cookies, [("id", "31d4"), ("theme", "dark")]);
/// ```
pub fn request_cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|piece| piece.split_once('='))
        .map(|(name, value)| (trim(name), trim(value)))
        .take(REQUEST_COOKIES_MAX)
}

/// Where a browser sends a cookie along when the request comes from another site.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SameSite {
    /// Nowhere.
    Strict,
    /// Where somebody follows a link.
    Lax,
    /// Everywhere; browsers want [`secure`](Cookie::secure) with it.
    None,
}

/// A cookie, as a server sets it.
///
/// ```
/// use std::time::Duration;
/// use torsade_protocols::http::cookies::{Cookie, SameSite};
///
/// let cookie = Cookie::new("id", "31d4")?
///     .path("/")?
///     .max_age(Duration::from_secs(3600))
///     .secure()
///     .http_only()
///     .same_site(SameSite::Lax);
/// let expected = "id=31d4; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax";
/// assert_eq!(cookie.to_value(), expected);
/// # Ok::<(), torsade_protocols::http::cookies::BadCookie>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cookie {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) path: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) expires: Option<SystemTime>,
    pub(super) max_age: Option<MaxAge>,
    pub(super) is_secure: bool,
    pub(super) is_http_only: bool,
    pub(super) same_site: Option<SameSite>,
}

/// What `Max-Age` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MaxAge {
    /// §5.6.2: zero or less: it is over.
    Over,
    Left(Duration),
}

/// What cannot be written as a cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadCookie {
    /// The name is no token (§4.1.1).
    #[error("the name of a cookie is not a token")]
    Name,
    /// The value has a space, a comma, a semicolon, a quote, a backslash or what is not visible ASCII
    /// (§4.1.1). Encode it: in percents, or in base64.
    #[error("the value of a cookie has a character that it cannot have")]
    Value,
    /// A path or a domain has a semicolon, or what is not visible ASCII.
    #[error("an attribute of a cookie has a character that it cannot have")]
    Attribute,
    /// Name and value have more than 4096 bytes together, and browsers drop it (§5.6).
    #[error("the cookie is too long")]
    TooLong,
}

impl Cookie {
    /// A cookie for the host that sets it, below the folder of the request, until the browser ends.
    ///
    /// # Errors
    ///
    /// [`BadCookie`]
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Result<Self, BadCookie> {
        let (name, value) = (name.into(), value.into());
        if !is_token(&name) {
            return Err(BadCookie::Name);
        }
        // §4.1.1: cookie-octet.
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        if !value.bytes().all(allowed) {
            return Err(BadCookie::Value);
        }
        if name.len() + value.len() > NAME_AND_VALUE_MAX {
            return Err(BadCookie::TooLong);
        }
        Ok(Self::bare(name, value))
    }

    /// What takes a cookie away: the same name, with a date that has passed. Path and domain must be
    /// those with which it was set.
    ///
    /// # Errors
    ///
    /// [`BadCookie::Name`]
    pub fn removal(name: impl Into<String>) -> Result<Self, BadCookie> {
        let mut cookie = Self::new(name, "")?;
        cookie.expires = Some(SystemTime::UNIX_EPOCH);
        cookie.max_age = Some(MaxAge::Over);
        Ok(cookie)
    }

    fn bare(name: String, value: String) -> Self {
        Self {
            name,
            value,
            path: None,
            domain: None,
            expires: None,
            max_age: None,
            is_secure: false,
            is_http_only: false,
            same_site: None,
        }
    }

    /// Below which path it is sent; `/` for the whole host.
    ///
    /// # Errors
    ///
    /// [`BadCookie::Attribute`]
    pub fn path(mut self, path: impl Into<String>) -> Result<Self, BadCookie> {
        self.path = Some(attribute(path.into())?);
        Ok(self)
    }

    /// To which domain it is sent, with all hosts in it. Without one, only to the host that sets it.
    ///
    /// # Errors
    ///
    /// [`BadCookie::Attribute`]
    pub fn domain(mut self, domain: impl Into<String>) -> Result<Self, BadCookie> {
        self.domain = Some(attribute(domain.into())?);
        Ok(self)
    }

    /// How long it is kept, in whole seconds.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(match age.as_secs() {
            0 => MaxAge::Over,
            _ => MaxAge::Left(age),
        });
        self
    }

    /// Until when it is kept; [`max_age`](Self::max_age) goes before it.
    #[must_use]
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// It is sent over TLS alone.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.is_secure = true;
        self
    }

    /// Scripts of the page do not see it.
    #[must_use]
    pub fn http_only(mut self) -> Self {
        self.is_http_only = true;
        self
    }

    /// What happens to it in requests that other sites make. Browsers take [`SameSite::Lax`] if
    /// nothing is said.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = Some(same_site);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// As the value of `Set-Cookie`, one field for each cookie.
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        ascii_value(&self.to_string())
    }

    /// Reads a `Set-Cookie` as browsers do (§5.6), which is far more tolerant than what servers should
    /// send. `None` if it is to be ignored: no text, no name and no value, control characters, or too
    /// long.
    ///
    /// Of an attribute that occurs twice the last one counts; one that is not known is ignored.
    #[must_use]
    pub fn parse(value: &HeaderValue) -> Option<ReceivedCookie> {
        let text = std::str::from_utf8(value.as_bytes()).ok()?;
        // §5.6 step 1; a tab may be there.
        if text.contains(|it: char| it.is_ascii_control() && it != '\t') {
            return None;
        }
        let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        let (name, value) = (trim(name), trim(value));
        if name.is_empty() && value.is_empty() || name.len() + value.len() > NAME_AND_VALUE_MAX {
            return None;
        }
        let mut cookie = Self::bare(name.to_owned(), value.to_owned());
        for attribute in attributes.split(';') {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (name, value) = (trim(name), trim(value));
            if value.len() <= ATTRIBUTE_MAX {
                cookie.receive_attribute(&name.to_ascii_lowercase(), value);
            }
        }
        Some(ReceivedCookie { cookie })
    }

    fn receive_attribute(&mut self, name: &str, value: &str) {
        match name {
            // §5.6.1
            "expires" => {
                if let Some(at) = parse_cookie_date(value) {
                    self.expires = Some(at);
                }
            }
            // §5.6.2
            "max-age" => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return;
                }
                let is_over = value.starts_with('-') || digits.bytes().all(|it| it == b'0');
                let seconds = digits.parse().unwrap_or(u64::MAX);
                self.max_age = Some(match is_over {
                    true => MaxAge::Over,
                    false => MaxAge::Left(Duration::from_secs(seconds)),
                });
            }
            // §5.6.3
            "domain" => {
                let domain = value.strip_prefix('.').unwrap_or(value);
                self.domain = Some(domain.to_ascii_lowercase());
            }
            // §5.6.4: what is no path stands for the default.
            "path" => self.path = value.starts_with('/').then(|| value.to_owned()),
            "secure" => self.is_secure = true,
            "httponly" => self.is_http_only = true,
            // §5.6.7
            "samesite" => {
                self.same_site = match &*value.to_ascii_lowercase() {
                    "none" => Some(SameSite::None),
                    "strict" => Some(SameSite::Strict),
                    "lax" => Some(SameSite::Lax),
                    _ => None,
                };
            }
            _ => {}
        }
    }
}

/// A cookie, as a client received it: its name and its value may be anything that a server sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedCookie {
    pub(super) cookie: Cookie,
}

impl ReceivedCookie {
    /// Its name, perhaps empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.cookie.name
    }

    /// Its value, as it was sent.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.cookie.value
    }

    /// What it says of requests from other sites.
    #[must_use]
    pub fn same_site(&self) -> Option<SameSite> {
        self.cookie.same_site
    }

    /// Whether it is kept from scripts.
    #[must_use]
    pub fn is_http_only(&self) -> bool {
        self.cookie.is_http_only
    }
}

/// As in `Set-Cookie` (§4.1).
impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)?;
        if let Some(path) = &self.path {
            write!(f, "; Path={path}")?;
        }
        if let Some(domain) = &self.domain {
            write!(f, "; Domain={domain}")?;
        }
        if let Some(at) = self.expires {
            write!(f, "; Expires={}", format_date(at))?;
        }
        match self.max_age {
            Some(MaxAge::Over) => f.write_str("; Max-Age=0")?,
            Some(MaxAge::Left(age)) => write!(f, "; Max-Age={}", age.as_secs())?,
            None => {}
        }
        if self.is_secure {
            f.write_str("; Secure")?;
        }
        if self.is_http_only {
            f.write_str("; HttpOnly")?;
        }
        f.write_str(match self.same_site {
            Some(SameSite::Strict) => "; SameSite=Strict",
            Some(SameSite::Lax) => "; SameSite=Lax",
            Some(SameSite::None) => "; SameSite=None",
            None => "",
        })
    }
}

fn attribute(text: String) -> Result<String, BadCookie> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    if !text.is_empty() && text.len() <= ATTRIBUTE_MAX && text.bytes().all(allowed) {
        Ok(text)
    } else {
        Err(BadCookie::Attribute)
    }
}

/// §5.1.1: the dates that servers write in cookies, in about any order and with about any separators.
fn parse_cookie_date(text: &str) -> Option<SystemTime> {
    let is_delimiter =
        |byte: char| matches!(byte, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~');
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|it| !it.is_empty()) {
        if time.is_none()
            && let Some(found) = parse_time(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = leading_number(token, 1, 2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = parse_month(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = leading_number(token, 2, 4)
        {
            year = Some(found);
        }
    }
    let (hour, minute, second) = time?;
    let (day, month) = (day?, month?);
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if !(1..=31).contains(&day) || year < 1601 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let month_length = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day > month_length {
        return None;
    }
    // Dates before 1970 have passed in any case.
    if year < 1970 {
        return Some(SystemTime::UNIX_EPOCH);
    }
    let leap_days = |year: u32| year / 4 - year / 100 + year / 400;
    let days_before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
        + days_before[month as usize - 1]
        + u32::from(is_leap && month > 2)
        + day
        - 1;
    let seconds = u64::from(days) * 86_400 + u64::from((hour * 60 + minute) * 60 + second);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn parse_time(token: &str) -> Option<(u32, u32, u32)> {
    let mut parts = token.splitn(3, ':');
    let hour = parts.next().filter(|it| it.len() <= 2)?;
    let minute = parts.next().filter(|it| it.len() <= 2)?;
    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    Some((hour, minute, leading_number(parts.next()?, 1, 2)?))
}

/// So many digits, and then none.
fn leading_number(token: &str, at_least: usize, at_most: usize) -> Option<u32> {
    let digits = token.bytes().take_while(u8::is_ascii_digit).count();
    if !(at_least..=at_most).contains(&digits) {
        return None;
    }
    token[..digits].parse().ok()
}

/// From 1 to 12.
fn parse_month(token: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let start = token.get(..3)?.to_ascii_lowercase();
    (1..)
        .zip(MONTHS)
        .find_map(|(number, month)| (month == start).then_some(number))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn parse(text: &str) -> Option<Cookie> {
        let value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
        Cookie::parse(&value).map(|received| received.cookie)
    }

    #[test]
    fn the_cookies_of_a_request_are_read_in_order() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("it is a value");
                headers.append("cookie", value);
            }
            let cookies = request_cookies(&headers);
            cookies
                .map(|(name, value)| format!("{name}:{value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&["a=b; c=d", "a=e"]), ["a:b", "c:d", "a:e"]);
        assert_eq!(
            read(&["a=b;c=\"d e\";; =f;g;h=i=j"]),
            ["a:b", "c:\"d e\"", ":f", "h:i=j"]
        );
        assert_eq!(read(&["", ";", "$Version=1"]), ["$Version:1"]);
        assert_eq!(read(&["a=\u{e9}"]), ["a:\u{e9}"]);
        let many = "a=b;".repeat(REQUEST_COOKIES_MAX + 1);
        assert_eq!(read(&[&many]).len(), REQUEST_COOKIES_MAX);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let cookie = Cookie::new("id", "31d4")
            .and_then(|it| it.path("/a"))
            .and_then(|it| it.domain("example.com"))
            .expect("it is good")
            .expires(UNIX_EPOCH + Duration::from_secs(784_111_777))
            .max_age(Duration::from_secs(60))
            .secure()
            .http_only()
            .same_site(SameSite::None);
        let text = "id=31d4; Path=/a; Domain=example.com; Expires=Sun, 06 Nov 1994 08:49:37 GMT; \
                    Max-Age=60; Secure; HttpOnly; SameSite=None";
        assert_eq!(cookie.to_value(), text);
        assert_eq!(parse(text), Some(cookie));
        let removal = Cookie::removal("id").expect("it is good");
        let text = "id=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0";
        assert_eq!(removal.to_value(), text);
        assert_eq!(parse(text), Some(removal));
    }

    #[test]
    fn what_could_end_a_cookie_or_a_field_is_refused() {
        for name in ["", "a b", "a=b", "a;b", "a\r\n", "\u{e9}"] {
            assert_eq!(Cookie::new(name, "x"), Err(BadCookie::Name), "{name}");
        }
        for value in ["a b", "a,b", "a;b", "\"a\"", "a\\", "a\r\n", "\u{e9}"] {
            assert_eq!(Cookie::new("x", value), Err(BadCookie::Value), "{value}");
        }
        let cookie = Cookie::new("x", "").expect("it is good");
        for path in ["", "/;Secure", "/\r\n", "/ "] {
            assert_eq!(
                cookie.clone().path(path),
                Err(BadCookie::Attribute),
                "{path}"
            );
            assert_eq!(cookie.clone().domain(path), Err(BadCookie::Attribute));
        }
        let long = "x".repeat(NAME_AND_VALUE_MAX);
        assert_eq!(Cookie::new("x", long), Err(BadCookie::TooLong));
    }

    #[test]
    fn rfc6265bis_5_6_a_set_cookie_is_read_as_browsers_do() {
        for (text, name, value) in [
            ("a=b", "a", "b"),
            (" a = b ; x", "a", "b"),
            ("a=b=c", "a", "b=c"),
            ("a=", "a", ""),
            ("=b", "", "b"),
            ("b", "", "b"),
            ("a=\"b c\"", "a", "\"b c\""),
        ] {
            let cookie = parse(text).expect(text);
            assert_eq!((cookie.name(), cookie.value()), (name, value), "{text}");
        }
        for text in ["", "=", ";a=b", " ; "] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(
            parse(&format!("a={}", "x".repeat(NAME_AND_VALUE_MAX))),
            None
        );
    }

    #[test]
    fn rfc6265bis_5_6_the_last_of_equal_attributes_counts() {
        let cookie =
            parse("a=b; path=/x; PATH=/y; max-age=1; Max-Age=x; domain=.A.example; foo=bar");
        let cookie = cookie.expect("it is one");
        assert_eq!(cookie.path.as_deref(), Some("/y"));
        assert_eq!(cookie.domain.as_deref(), Some("a.example"));
        assert_eq!(cookie.max_age, Some(MaxAge::Left(Duration::from_secs(1))));
        assert_eq!(parse("a=b; path=/x; path=y").and_then(|it| it.path), None);
        let long = "x".repeat(ATTRIBUTE_MAX);
        let cookie = parse(&format!("a=b; path=/x; path=/{long}")).expect("it is one");
        assert_eq!(cookie.path.as_deref(), Some("/x"));
        for (text, expected) in [
            ("0", Some(MaxAge::Over)),
            ("-5", Some(MaxAge::Over)),
            ("00", Some(MaxAge::Over)),
            (
                "99999999999999999999999",
                Some(MaxAge::Left(Duration::from_secs(u64::MAX))),
            ),
            ("+5", None),
            ("-", None),
            ("1.5", None),
        ] {
            let cookie = parse(&format!("a=b; max-age={text}")).expect("it is one");
            assert_eq!(cookie.max_age, expected, "{text}");
        }
    }

    #[test]
    fn rfc6265bis_5_1_1_dates_are_read_in_every_order() {
        let expected = Some(UNIX_EPOCH + Duration::from_secs(784_111_777));
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "1994 november 6 8:49:37",
            "06/NOV/94_08:49:37x",
        ] {
            assert_eq!(parse_cookie_date(text), expected, "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "06 Nov 1994",
            "08:49:37",
            "32 Nov 1994 08:49:37",
            "06 Nov 1994 24:49:37",
            "06 Nov 1600 08:49:37",
            "31 Feb 1994 08:49:37",
            "06 Nov 1994 08:49",
            "6 No\u{e9} 1994 08:49:37",
        ] {
            assert_eq!(parse_cookie_date(text), None, "{text}");
        }
        assert_eq!(parse_cookie_date("06 Nov 1900 08:49:37"), Some(UNIX_EPOCH));
        // Every day of 200 years, and what `httpdate` says of it.
        for day in 0..200 * 365 {
            let at = UNIX_EPOCH + Duration::from_secs(day * 86_400 + 86_399);
            assert_eq!(parse_cookie_date(&format_date(at)), Some(at));
        }
    }
}
