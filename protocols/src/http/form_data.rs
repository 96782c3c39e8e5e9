//! Forms with files, on their way out: `multipart/form-data` (RFC 7578).

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use torsade_deferred::{Deferred, Failure, succeed};

use super::body::{Body, BodySender};
use super::client::{BadUrl, ClientRequest, ToUrl};
use super::values::ascii_value;

/// A form with files, for a [`Client`](super::Client) to send.
///
/// Files are any [`Body`]: they are read while they are sent, at the pace of the server, and need not fit
/// into memory. If the length of each is known, that of the whole is announced, else it is sent in chunks. A form of
/// text and bytes alone can be sent again where a request may be.
///
/// # Examples
///
/// ```no_run
/// use std::fs::File;
/// use torsade_protocols::http::{Body, Client, FormData};
///
/// # fn send(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
/// let photo = Body::file(File::open("photo.jpg")?)?;
/// let form = FormData::new()
///     .text("title", "the sea")
///     .file("photo", "photo.jpg", "image/jpeg", photo);
/// let answer = client.request(form.post("https://example.com/photos")?);
/// # drop(answer);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct FormData {
    parts: Vec<Part>,
    boundary: Option<u128>,
}

#[derive(Debug)]
struct Part {
    /// Without the line between the parts.
    head: String,
    content: Body,
}

impl FormData {
    /// A form without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A field with text.
    #[must_use]
    pub fn text(self, name: &str, text: impl Into<String>) -> Self {
        let head = format!(
            "Content-Disposition: form-data; name=\"{}\"\r\n\r\n",
            quoted(name)
        );
        self.part(head, Body::from(text.into()))
    }

    /// A file: with the name that it has for the server, its type, and what is in it.
    ///
    /// What cannot stand in a type (ends of lines above all) is left out of it.
    #[must_use]
    pub fn file(
        self,
        name: &str,
        file_name: &str,
        media_type: &str,
        content: impl Into<Body>,
    ) -> Self {
        let media_type: String = media_type.chars().filter(|it| !it.is_control()).collect();
        let head = format!(
            "Content-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\nContent-Type: {media_type}\r\n\r\n",
            quoted(name),
            quoted(file_name),
        );
        self.part(head, content.into())
    }

    fn part(mut self, head: String, content: Body) -> Self {
        self.parts.push(Part { head, content });
        self
    }

    /// What makes the line between the parts, which must not occur in them: a random number, unless this says which.
    #[must_use]
    pub fn boundary(mut self, number: u128) -> Self {
        self.boundary = Some(number);
        self
    }

    /// The `Content-Type` and the body.
    #[must_use]
    pub fn into_parts(self) -> (HeaderValue, Body) {
        let number = self.boundary.unwrap_or_else(random);
        let boundary = format!("torsade-{number:032x}");
        let content_type = ascii_value(&format!("multipart/form-data; boundary={boundary}"));
        let between = format!("--{boundary}\r\n");
        let end = format!("--{boundary}--\r\n");
        let mut rest = VecDeque::new();
        for part in self.parts {
            let head = Bytes::from(format!("{between}{}", part.head));
            rest.extend([head.into(), part.content, Body::from("\r\n")]);
        }
        rest.push_back(Body::from(end));
        (content_type, joined(rest))
    }

    /// A POST of it.
    ///
    /// # Errors
    ///
    /// [`BadUrl`]: that is none.
    pub fn post(self, url: impl ToUrl) -> Result<ClientRequest, BadUrl> {
        let uri = url.to_url().or(Err(BadUrl::Malformed))?;
        let (content_type, body) = self.into_parts();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        Ok(request)
    }
}

/// A name between quotes, as browsers write it (the HTML standard, "multipart form data").
fn quoted(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Whoever writes a part does not know it: the keys of hash maps are random.
fn random() -> u128 {
    let half = || u128::from(RandomState::new().build_hasher().finish());
    half() << 64 | half()
}

/// Bodies, one after the other, as one.
fn joined(bodies: VecDeque<Body>) -> Body {
    if bodies.iter().all(|body| body.as_bytes().is_some()) {
        let bytes = bodies.iter().filter_map(Body::as_bytes);
        return Body::from(bytes.collect::<Vec<_>>().concat());
    }
    let mut lengths = bodies.iter().map(Body::length);
    let length = lengths.try_fold(0_u64, |sum, length| sum.checked_add(length?));
    let (sender, body) = match length {
        Some(length) => Body::sized_channel(length),
        None => Body::channel(),
    };
    let joining = Joining {
        sender,
        rest: bodies,
    };
    // Whoever does not take it is no failure of ours.
    drop(joining.go_on());
    body
}

struct Joining {
    sender: BodySender,
    /// What is still to come.
    rest: VecDeque<Body>,
}

impl Joining {
    fn go_on(mut self) -> Deferred<()> {
        loop {
            if self.sender.is_full() {
                let ready = self.sender.ready();
                return ready.add_callbacks(move |()| self.go_on(), |_gone: Failure| succeed(()));
            }
            let Some(body) = self.rest.front_mut() else {
                self.sender.finish();
                return succeed(());
            };
            match body.next_piece().into_result() {
                Ok(piece) => {
                    if let Err(failure) = self.take(piece) {
                        self.sender.fail(failure);
                        return succeed(());
                    }
                }
                Err(waiting) => {
                    return waiting.add_both(move |piece| match self.take(piece) {
                        Ok(()) => self.go_on(),
                        Err(failure) => {
                            self.sender.fail(failure);
                            succeed(())
                        }
                    });
                }
            }
        }
    }

    /// A piece of the first, or its end.
    fn take(&mut self, piece: Result<Option<Bytes>, Failure>) -> Result<(), Failure> {
        match piece? {
            Some(piece) => self.sender.write(piece)?,
            None => drop(self.rest.pop_front()),
        }
        Ok(())
    }
}
