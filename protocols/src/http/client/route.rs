//! The way to an origin: directly, or through a proxy.

use http::HeaderValue;

use super::proxy::Proxy;
use super::url::Origin;

/// Which connections a request can go on: one that goes through a tunnel to an `http` origin is another than a plain
/// one through the same proxy, as that is the proxy's.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Where it ends; of plain requests through a proxy, the proxy.
    pub(super) origin: Origin,
    /// It is told the whole URL: it is a proxy.
    pub(super) absolute: bool,
    /// The proxy that makes a tunnel to the origin, or that is asked itself.
    pub(super) proxy: Option<Proxy>,
    pub(super) tunnel: Option<Proxy>,
}

impl Route {
    /// What two routes differ in: the rest follows from it.
    fn key(&self) -> (&Origin, bool) {
        (&self.origin, self.absolute)
    }

    /// Whether it leads there without a proxy.
    pub(super) fn is_direct(&self) -> bool {
        self.proxy.is_none() && self.tunnel.is_none()
    }

    pub(super) fn proxy_authorization(&self) -> Option<&HeaderValue> {
        self.proxy.as_ref()?.authorization.as_ref()
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Route {}

impl PartialOrd for Route {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Route {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
