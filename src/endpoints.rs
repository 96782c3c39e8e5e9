//! Endpoints from text, with every kind that the features of this crate bring.

use std::rc::Rc;

use torsade_reactor::{ClientEndpoint, EndpointError, EndpointParsers, ServerEndpoint};

/// Every kind of endpoint that this crate was built with; add your own with
/// [`add_client`](EndpointParsers::add_client) and [`add_server`](EndpointParsers::add_server).
#[must_use]
pub fn endpoint_parsers() -> EndpointParsers {
    #[cfg_attr(
        not(any(feature = "haproxy", feature = "tls")),
        expect(unused_mut, reason = "nothing is added")
    )]
    let mut parsers = EndpointParsers::new();
    #[cfg(feature = "haproxy")]
    torsade_protocols::haproxy::add_endpoint_kinds(&mut parsers);
    #[cfg(feature = "tls")]
    torsade_protocols::tls::add_endpoint_kinds(&mut parsers);
    parsers
}

/// The client endpoint that a text describes, such as `tcp:example.com:80:timeout=5`.
/// Twisted's `clientFromString`; the kinds are `tcp:`, `tcp4:`, `tcp6:` and `unix:`
/// ([`EndpointParsers`]), and with their features `tls:` and `ssl:`
/// ([`torsade_protocols::tls::add_endpoint_kinds`]) and `haproxy:`.
///
/// # Errors
///
/// What is wrong with the text, and what would be right.
///
/// # Examples
///
/// ```
/// use torsade::prelude::*;
///
/// # fn main() -> Result<(), Failure> {
/// struct Quiet;
///
/// impl Protocol for Quiet {
///     fn data_received(&mut self, _transport: &Transport<Self>, _data: &[u8]) {}
/// }
///
/// let reactor = Reactor::new()?;
/// let server = torsade::server_from_string("tcp:0:interface=127.0.0.1")?;
/// let port = reactor.run_until(reactor.listen(&server, |_: &Address| Quiet))?;
/// let number = port.address().port().unwrap_or(0);
/// let client = torsade::client_from_string(&format!("tcp:localhost:{number}"))?;
/// let transport = reactor.run_until(reactor.connect(&client, |_| Quiet))?;
/// assert!(transport.is_connected());
/// # Ok(())
/// # }
/// ```
pub fn client_from_string(description: &str) -> Result<Rc<dyn ClientEndpoint>, EndpointError> {
    endpoint_parsers().client(description)
}

/// The server endpoint that a text describes, such as `tcp:8007:interface=127.0.0.1`.
/// Twisted's `serverFromString`; the kinds are `tcp:`, `tcp4:`, `tcp6:` and `unix:`
/// ([`EndpointParsers`]), and with their features `tls:` and `ssl:`
/// ([`torsade_protocols::tls::add_endpoint_kinds`]) and `haproxy:`.
///
/// # Errors
///
/// What is wrong with the text, and what would be right.
pub fn server_from_string(description: &str) -> Result<Rc<dyn ServerEndpoint>, EndpointError> {
    endpoint_parsers().server(description)
}
