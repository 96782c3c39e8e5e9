//! Who asks, by a name and a password (RFC 7617): a layer around handlers.

use std::hint::black_box;
use std::rc::Rc;

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};

use super::error::StatusError;
use super::proxy::credentials;
use super::request::Request;
use super::response::{Answer, Handler};

/// The name under which a request was let in by [`basic_auth`]: its
/// [`Request::extension`](super::Request::extension).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BasicUser(pub String);

/// A layer that wants a name and a password, in UTF-8, which `check` knows or does not; else the answer is 401:
/// for [`Routes::wrap`](super::Routes::wrap) and [`wrap`](super::wrap).
///
/// `check` is called for each request that brings a name and a password, on the reactor's thread, and answers at
/// once. Who must wait for the answer writes a layer of their own. `realm` is what browsers show, and what they
/// keep passwords for. They come with every request, unencrypted unless the server speaks TLS.
///
/// # Panics
///
/// If `realm` has other than visible ASCII and spaces.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{BasicUser, Request, Routes, basic_auth, same_secret};
///
/// fn hello(request: Request) -> Option<String> {
///     let BasicUser(name) = request.extension()?;
///     Some(format!("hello {name}"))
/// }
/// let routes = Routes::new().get("/", hello)?.wrap(basic_auth("the shop", |user, password| {
///     user == "ali" && same_secret(password, "sesame")
/// }));
/// # drop(routes);
/// # Ok::<(), torsade_protocols::http::router::BadRoute>(())
/// ```
pub fn basic_auth(
    realm: &str,
    check: impl Fn(&str, &str) -> bool + 'static,
) -> impl Fn(Request, &Rc<dyn Handler>) -> Answer + 'static {
    let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
    let challenge = HeaderValue::from_str(&challenge).expect("a realm is visible ASCII");
    move |mut request, next| {
        let given = request.header_text(AUTHORIZATION.as_str());
        let given = given.and_then(credentials::basic);
        match given.filter(|(user, password)| check(user, password)) {
            Some((user, _)) => {
                request.set_extension(BasicUser(user));
                next.handle(request)
            }
            None => StatusError::new(StatusCode::UNAUTHORIZED)
                .with_header(WWW_AUTHENTICATE, challenge.clone())
                .into(),
        }
    }
}

/// Whether what was given is the secret. Takes as long for a wrong guess whose beginning is right as for one
/// that is all wrong: who measures learns nothing but lengths.
#[must_use]
pub fn same_secret(given: impl AsRef<[u8]>, secret: impl AsRef<[u8]>) -> bool {
    let (given, secret) = (given.as_ref(), secret.as_ref());
    let mut differs = u8::from(given.len() != secret.len());
    // `black_box`: so that the compiler does not stop at the first difference.
    for (given, known) in given.iter().zip(secret) {
        differs = black_box(differs | (given ^ known));
    }
    differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_as_itself_alone() {
        for (given, secret, expected) in [
            ("", "", true),
            ("sesame", "sesame", true),
            ("sesamE", "sesame", false),
            ("sesam", "sesame", false),
            ("sesame!", "sesame", false),
            ("", "sesame", false),
        ] {
            assert_eq!(same_secret(given, secret), expected, "{given} {secret}");
        }
    }
}
