//! Which proxy a request goes through, if any. Pure: who connects is in `connect.rs`.

use core::net::IpAddr;
use std::fmt;
use std::rc::Rc;

use http::HeaderValue;

use super::url::{self, BadUrl, Origin, Url};

/// A proxy that speaks HTTP: requests to `http` URLs are sent to it as they are (RFC 9112 §3.2.2), those
/// to `https` URLs, and those that [ask for another protocol](super::Client::upgrade), through a tunnel that it makes
/// (RFC 9110 §9.3.6), so that it sees none of them.
#[derive(Clone)]
pub struct Proxy {
    pub(super) origin: Rc<Origin>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy at this URL: `http://proxy:3128`, or `http://user:password@proxy:3128`.
    ///
    /// # Errors
    ///
    /// It is no URL, or its scheme is not `http`.
    pub fn new(url: &str) -> Result<Self, BadUrl> {
        let url = Url::new(url::parse(url)?)?;
        if url.is_https {
            return Err(BadUrl::Scheme {
                scheme: "https".into(),
            });
        }
        Ok(Self {
            origin: Rc::new(url.origin()),
            authorization: url.authorization(),
        })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        write!(f, "Proxy({})", self.origin)
    }
}

/// Which requests go through which proxy.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{Proxies, Proxy};
///
/// # fn main() -> Result<(), torsade_protocols::http::BadUrl> {
/// let proxies = Proxies::all(Proxy::new("http://proxy.example:3128")?)
///     .except("localhost, 127.0.0.0/8, .internal.example");
/// # drop(proxies);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Exception>,
}

impl Proxies {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// This one for everything.
    #[must_use]
    pub fn all(proxy: Proxy) -> Self {
        Self {
            http: Some(proxy.clone()),
            https: Some(proxy),
            except: Vec::new(),
        }
    }

    /// This one for `http` URLs.
    #[must_use]
    pub fn http(mut self, proxy: Proxy) -> Self {
        self.http = Some(proxy);
        self
    }

    /// This one for `https` URLs.
    #[must_use]
    pub fn https(mut self, proxy: Proxy) -> Self {
        self.https = Some(proxy);
        self
    }

    /// Asks these hosts directly: a list with commas, as in `NO_PROXY`.
    ///
    /// A name stands for itself and what is below it, with a dot before it or not; an address for
    /// itself, `10.0.0.0/8` for a network, `*` for everything. With `:port`, for that port alone.
    #[must_use]
    pub fn except(mut self, list: &str) -> Self {
        let members = list.split([',', ' ']).map(str::trim);
        let members = members.filter(|member| !member.is_empty());
        self.except.extend(members.map(Exception::new));
        self
    }

    /// What the environment says: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`. The last
    /// three may be written large, too; `HTTP_PROXY` is not read, since a CGI program has it from
    /// whoever asks it.
    ///
    /// # Errors
    ///
    /// A value is no URL of a proxy.
    pub fn from_environment() -> Result<Self, BadUrl> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    pub(super) fn from_variables(value: impl Fn(&str) -> Option<String>) -> Result<Self, BadUrl> {
        let value = |name: &str| value(name).filter(|value| !value.trim().is_empty());
        let either = |name: &str| value(name).or_else(|| value(&name.to_ascii_uppercase()));
        let proxy = |text: Option<String>| -> Result<Option<Proxy>, BadUrl> {
            let Some(text) = text else { return Ok(None) };
            let text = text.trim();
            // As curl takes it.
            if text.contains("://") {
                Proxy::new(text).map(Some)
            } else {
                Proxy::new(&format!("http://{text}")).map(Some)
            }
        };
        let all = proxy(either("all_proxy"))?;
        let proxies = Self {
            http: proxy(value("http_proxy"))?.or_else(|| all.clone()),
            https: proxy(either("https_proxy"))?.or(all),
            except: Vec::new(),
        };
        Ok(match either("no_proxy") {
            Some(list) => proxies.except(&list),
            None => proxies,
        })
    }

    /// The one that requests for `origin` go through.
    pub(super) fn for_origin(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = if origin.is_https() {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        };
        let is_excepted = || self.except.iter().any(|except| except.includes(origin));
        proxy.filter(|_| !is_excepted())
    }
}

/// A member of the list of hosts that are asked directly.
#[derive(Clone, Debug)]
struct Exception {
    host: ExceptedHost,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum ExceptedHost {
    All,
    /// In lower case, without a dot before it.
    Name(String),
    Network(IpAddr, u32),
}

impl Exception {
    fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let (host, port) = match text.rsplit_once(':') {
            // A colon inside of an address of version 6 is none before a port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                match port.parse() {
                    Ok(port) => (host, Some(port)),
                    Err(_) => (&*text, None),
                }
            }
            _ => (&*text, None),
        };
        let (address, prefix) = match host.split_once('/') {
            Some((address, prefix)) => (address, prefix.parse().ok()),
            None => (host, None),
        };
        let host = match address.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => ExceptedHost::Network(address, prefix.unwrap_or(128)),
            Err(_) if host == "*" => ExceptedHost::All,
            Err(_) => ExceptedHost::Name(host.trim_matches('.').to_owned()),
        };
        Self { host, port }
    }

    fn includes(&self, origin: &Origin) -> bool {
        if self.port.is_some_and(|port| port != origin.port()) {
            return false;
        }
        let host = origin.host();
        match &self.host {
            ExceptedHost::All => true,
            ExceptedHost::Name(name) => {
                let host = host.trim_end_matches('.');
                host.strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            ExceptedHost::Network(network, prefix) => {
                let address = host.trim_matches(['[', ']']).parse();
                address.is_ok_and(|address| is_in(address, *network, *prefix))
            }
        }
    }
}

/// Whether the first bits are the same.
fn is_in(address: IpAddr, network: IpAddr, prefix: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= prefix.min(32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= prefix.min(128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&text.parse().expect("a URI")).expect("an origin")
    }

    fn proxy(url: &str) -> Proxy {
        Proxy::new(url).expect("a proxy")
    }

    /// The proxy for an origin.
    fn chosen(proxies: &Proxies, url: &str) -> String {
        match proxies.for_origin(&origin(url)) {
            Some(proxy) => proxy.origin.to_string(),
            None => "direct".into(),
        }
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        let check = |list: &str, url: &str, is_direct: bool| {
            let proxies = Proxies::all(proxy("http://proxy")).except(list);
            let expected = if is_direct { "direct" } else { "http://proxy" };
            assert_eq!(chosen(&proxies, url), expected, "{list} {url}");
        };
        check("", "http://a.example/", false);
        check("*", "http://a.example/", true);
        check("a.example", "http://a.example/", true);
        check("a.example", "http://A.EXAMPLE/", true);
        check("a.example", "http://b.a.example/", true);
        check(".a.example", "http://a.example/", true);
        check("a.example", "http://ba.example/", false);
        check("x, a.example", "https://a.example/", true);
        check("a.example:81", "http://a.example/", false);
        check("a.example:81", "http://a.example:81/", true);
        check("10.1.2.3", "http://10.1.2.3/", true);
        check("10.1.2.3", "http://10.1.2.4/", false);
        check("10.0.0.0/8", "http://10.1.2.4/", true);
        check("10.0.0.0/8", "http://11.1.2.4/", false);
        check("::1", "http://[::1]/", true);
        check("[::1]:80", "http://[::1]/", true);
        check("[::1]:80", "http://[::1]:81/", false);
        check("fd00::/8", "http://[fd12::1]/", true);
        check("0.0.0.0/0", "http://[fd12::1]/", false);
    }

    #[test]
    fn the_environment_says_which() {
        let of = |variables: &'static [(&'static str, &'static str)]| {
            let value = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name)?;
                Some(found.1.to_owned())
            };
            Proxies::from_variables(value).expect("they are right")
        };
        let both = of(&[
            ("http_proxy", "one:3128"),
            ("HTTPS_PROXY", "http://two:3129/"),
        ]);
        assert_eq!(chosen(&both, "http://a/"), "http://one:3128");
        assert_eq!(chosen(&both, "https://a/"), "http://two:3129");
        let all = of(&[("ALL_PROXY", "http://all:1"), ("no_proxy", "a")]);
        assert_eq!(chosen(&all, "http://b/"), "http://all:1");
        assert_eq!(chosen(&all, "https://a/"), "direct");
        // What a CGI program finds there is a header of the request.
        let cgi = of(&[("HTTP_PROXY", "evil:1")]);
        assert_eq!(chosen(&cgi, "http://a/"), "direct");
        assert_eq!(chosen(&of(&[("all_proxy", " ")]), "http://a/"), "direct");
    }

    #[test]
    fn a_password_is_in_no_report() {
        let proxy = proxy("http://me:secret@proxy:3128");
        assert_eq!(format!("{proxy:?}"), "Proxy(http://proxy:3128)");
        let value = proxy.authorization.expect("it has one");
        assert_eq!(value, "Basic bWU6c2VjcmV0");
        assert!(value.is_sensitive());
    }

    #[test]
    fn proxies_speak_http() {
        assert!(Proxy::new("https://proxy").is_err());
        assert!(Proxy::new("socks5://proxy").is_err());
        assert!(Proxy::new("proxy").is_err());
    }
}
