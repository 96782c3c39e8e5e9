//! What users write for a URL.

use http::Uri;

use super::url;

/// What can be taken for a URL: text, or a [`Uri`].
///
/// Text is taken as browsers take it: the host may be a name of any script (UTS 46), and letters of all kinds
/// behind it are percent-encoded. A `Uri` has its host in ASCII already.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::ToUrl;
///
/// let uri = "https://b\u{fc}cher.example/\u{e4}".to_url().expect("a URL");
/// assert_eq!(uri, "https://xn--bcher-kva.example/%C3%A4");
/// ```
pub trait ToUrl {
    /// The URL.
    ///
    /// # Errors
    ///
    /// The text, which is none.
    fn to_url(self) -> Result<Uri, String>;

    /// Whether it ends with the host, and names nothing there; only text can. See [`Client::options`](super::Client::options).
    fn is_bare(&self) -> bool {
        false
    }
}

impl ToUrl for Uri {
    fn to_url(self) -> Result<Uri, String> {
        Ok(self)
    }
}

impl ToUrl for &Uri {
    fn to_url(self) -> Result<Uri, String> {
        Ok(self.clone())
    }
}

impl ToUrl for &str {
    fn to_url(self) -> Result<Uri, String> {
        url::parse(self).or(Err(self.to_owned()))
    }

    fn is_bare(&self) -> bool {
        url::is_bare(self)
    }
}

impl ToUrl for String {
    fn to_url(self) -> Result<Uri, String> {
        self.as_str().to_url()
    }

    fn is_bare(&self) -> bool {
        url::is_bare(self)
    }
}

impl ToUrl for &String {
    fn to_url(self) -> Result<Uri, String> {
        self.as_str().to_url()
    }

    fn is_bare(&self) -> bool {
        url::is_bare(self)
    }
}

/// A URL that nobody has understood, or not looked at, to be shown.
pub(super) fn without_credentials(url: &str) -> String {
    let begin = url.find("//").map_or(0, |at| at + 2);
    let end = url[begin..].find(['/', '?', '#']);
    let end = end.map_or(url.len(), |at| begin + at);
    match url[begin..end].rfind('@') {
        Some(at) => [&url[..begin], &url[begin + at + 1..]].concat(),
        None => url.to_owned(),
    }
}
