//! https: TLS by default, and no way around it that nobody asked for.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::{Body, BodyError, Client, Origin, Request, Site};
use torsade::protocols::tls::{ClientConfig, ServerConfig, TlsError, TlsStream};
use torsade::reactor::testing::{MemoryPair, memory_pair, virtual_time_reactor};
use torsade::reactor::{ClientEndpoint, Factory, Stream};

use super::ClientErrorKind;
use crate::tls::authority::Authority;

/// Leads to a site that speaks TLS, in memory.
struct ToSite {
    site: Site,
    config: ServerConfig,
}

impl ClientEndpoint for ToSite {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let MemoryPair { client, server, .. } = memory_pair(reactor);
        let protocol = self.site.clone().build_protocol(&server.socket().peer());
        let secured = TlsStream::server(server, &self.config);
        Transport::connect(protocol.expect("nobody is refused"), secured);
        succeed(client)
    }
}

fn client_of(reactor: &Reactor, config: &ClientConfig, server: &ServerConfig) -> Client {
    let site = Site::new(|request: Request| match request.path() {
        "/cut" => {
            let stream = Rc::clone(request.stream());
            let below = Rc::clone(stream.below().expect("TLS lies over it"));
            let (sender, body) = Body::channel();
            let reactor = request.reactor();
            reactor.call_later(std::time::Duration::from_secs(1), move || {
                sender.write("half").expect("it is read");
                // Without the alert that says that this is the end.
                below.lose_connection(ConnectionLost::Done);
            });
            body
        }
        "/secure" => Body::from(request.is_secure().to_string()),
        _ => Body::from("safe"),
    });
    let server = server.clone();
    Client::new(reactor)
        .tls(config)
        .connector(move |_: &Origin| ToSite {
            site: site.clone(),
            config: server.clone(),
        })
}

#[test]
fn https_speaks_tls_and_the_connection_is_kept() {
    let (reactor, authority) = (virtual_time_reactor(), Authority::new());
    let client = client_of(&reactor, &authority.client(), &authority.server());
    for _ in 0..2 {
        let text = client.get_text("https://localhost/", 100);
        assert_eq!(reactor.run_until(text).expect("it is answered"), "safe");
    }
    assert_eq!(client.pool().open, 1);
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_spoken_to() {
    let reactor = virtual_time_reactor();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let client = client_of(&reactor, &ours.client(), &theirs.server());
    let refused = |url: &str| {
        let failure = reactor.run_until(client.get(url).map(drop));
        let failure = failure.expect_err("it is not spoken to");
        let error = failure.trap::<http::ClientError>();
        let error = error.expect("a client's error");
        match error.kind() {
            ClientErrorKind::Tls(failure) => failure.downcast_ref::<TlsError>().cloned(),
            other => panic!("it failed otherwise: {other}"),
        }
    };
    assert_eq!(
        refused("https://localhost/"),
        Some(TlsError::UnknownAuthority)
    );
    assert_eq!(client.pool().open, 0);
}

#[test]
fn a_server_of_another_name_is_not_spoken_to() {
    let (reactor, authority) = (virtual_time_reactor(), Authority::new());
    let client = client_of(&reactor, &authority.client(), &authority.server());
    let failure = reactor.run_until(client.get("https://elsewhere.example/").map(drop));
    let text = failure.expect_err("it is not spoken to").to_string();
    assert!(text.contains("not for elsewhere.example"), "{text}");
}

#[test]
fn a_body_that_is_cut_below_tls_is_not_whole() {
    let (reactor, authority) = (virtual_time_reactor(), Authority::new());
    let client = client_of(&reactor, &authority.client(), &authority.server());
    let response = reactor.run_until(client.get("https://localhost/cut"));
    let read = response.expect("it begins").into_body().read(100);
    let failure = reactor.run_until(read).expect_err("it is cut");
    assert!(failure.check::<BodyError>(), "{failure}");
}

#[test]
fn each_host_may_have_its_own_way_of_tls() {
    let reactor = virtual_time_reactor();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (client_of_theirs, asked) = (theirs.client(), Rc::new(RefCell::new(Vec::new())));
    let log = Rc::clone(&asked);
    let client = client_of(&reactor, &ours.client(), &theirs.server()).tls_for(move |origin| {
        log.borrow_mut().push(origin.to_string());
        (origin.port() == 444).then(|| client_of_theirs.clone())
    });
    let text = client.get_text("https://localhost:444/", 100);
    assert_eq!(reactor.run_until(text).expect("it is trusted"), "safe");
    let refused = reactor.run_until(client.get_text("https://localhost/", 100));
    assert!(refused.is_err(), "all others have the usual one");
    assert_eq!(
        *asked.borrow(),
        ["https://localhost:444", "https://localhost"]
    );
}

#[test]
fn a_request_knows_whether_it_came_through_tls() {
    let (reactor, authority) = (virtual_time_reactor(), Authority::new());
    let client = client_of(&reactor, &authority.client(), &authority.server());
    let text = client.get_text("https://localhost/secure", 100);
    assert_eq!(reactor.run_until(text).expect("it is answered"), "true");
    let plain = super::client_of(&reactor, |request: Request| request.is_secure().to_string());
    let text = plain.get_text("http://localhost/secure", 100);
    assert_eq!(reactor.run_until(text).expect("it is answered"), "false");
}
