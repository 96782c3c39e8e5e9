//! Through proxies: a tunnel in front of clients, an upgrade in front of servers.

use std::collections::BTreeMap;

use torsade::protocols::http::{
    Client, ClientError, ClientErrorKind, ForwardProxy, Handler, Proxies, Proxy, ReverseProxy,
    Server, StatusCode,
};
use torsade::protocols::websocket::{CloseCode, HandshakeError, Origins, WebSocketClient};
use torsade::reactor::testing::{Host, Simulation, failure_of, success_of};

use super::*;
use crate::tls::authority::Authority;

const SECOND: Duration = Duration::from_secs(1);

/// A server, a client, and a proxy between them.
struct Scene {
    simulation: Simulation,
    hosts: BTreeMap<&'static str, Host>,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        let simulation = Simulation::new(1);
        let hosts = ["server", "proxy", "client"].map(|name| (name, simulation.host(name)));
        Self {
            hosts: hosts.into(),
            simulation,
            authority: Authority::new(),
        }
    }

    fn reactor(&self, host: &str) -> Reactor {
        self.hosts[host].reactor()
    }

    /// Listens on port 80, or on 443 with TLS.
    fn listen(&self, host: &str, handler: impl Handler, is_secure: bool) -> Server {
        let (reactor, site) = (self.reactor(host), Site::new(handler));
        if !is_secure {
            return site.listen(&reactor, ":80").expect("the port is free");
        }
        let identity = self.authority.sign(host).identity();
        let config = tls::server_config(identity).build().expect("it is good");
        let endpoint = TlsServerEndpoint::new(TcpServerEndpoint::new(":443"), &config);
        let listening = site.listen_at(&reactor, &endpoint);
        reactor.run_until(listening).expect("the port is free")
    }

    /// A server that says what it is told.
    fn echo(&self, sockets: WebSocketServer, is_secure: bool) -> (Server, Rc<Book>) {
        let scribe = Scribe::new(|transport, text| transport.send(text));
        let book = Rc::clone(&scribe.book);
        let handler = move |request: Request| sockets.accept(&request, scribe.clone());
        (self.listen("server", handler, is_secure), book)
    }

    fn forward(&self, proxy: ForwardProxy) -> ForwardProxy {
        let site = Site::new(proxy.clone());
        let listening = site.listen(&self.reactor("proxy"), ":3128");
        drop(listening.expect("the port is free"));
        proxy
    }

    /// A client that uses no proxy.
    fn http(&self) -> Client {
        Client::new(&self.reactor("client")).tls(&self.authority.client())
    }

    /// One that uses that proxy.
    fn proxied(&self) -> Client {
        let proxy = Proxy::new("http://proxy:3128").expect("a URL");
        self.http().proxies(Proxies::all(proxy))
    }

    fn connect(&self, http: Client, url: &str) -> (Deferred<ScribeTransport>, Rc<Book>) {
        let scribe = Scribe::quiet();
        let book = Rc::clone(&scribe.book);
        let client = WebSocketClient::over(http, &self.reactor("client"));
        let connecting = client.connect(url, scribe);
        self.simulation.run_for(SECOND);
        (connecting, book)
    }

    /// Messages of all lengths come back, pings are answered, and both ends hear of the end.
    #[track_caller]
    fn check_talk(&self, http: Client, url: &str, (server, theirs): &(Server, Rc<Book>)) {
        let (connecting, ours) = self.connect(http, url);
        let transport = success_of(connecting);
        let mut expected = vec!["opened".to_owned()];
        for length in [0, 1, 125, 126, 70_000, 300_000] {
            let text = "x".repeat(length);
            transport.send(&text);
            expected.push(format!("text {text}"));
        }
        self.simulation.run_for(SECOND * 10);
        let mut came = ours.take();
        came.retain(|line| !line.starts_with("write "));
        assert!(came == expected, "{url}");
        let ping = transport.ping();
        self.simulation.run_for(SECOND);
        success_of(ping);
        let stopped = server.stop();
        self.simulation.run_for(SECOND);
        success_of(stopped);
        for book in [theirs, &ours] {
            let closed = book.closed();
            assert_eq!(closed.code, CloseCode::GOING_AWAY);
            assert!(closed.is_clean, "{closed:?}");
        }
    }
}

#[test]
fn rfc6455_4_1_through_a_forward_proxy_both_schemes_go_by_connect() {
    for (url, is_secure) in [("ws://server/chat", false), ("wss://server/chat", true)] {
        let scene = Scene::new();
        let proxy = ForwardProxy::new(&Client::new(&scene.reactor("proxy")));
        let tunnels = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&tunnels);
        let proxy = proxy
            .tunnel_ports(|port| matches!(port, 80 | 443))
            .on_tunnel_over(move |tunnel| log.borrow_mut().push(tunnel.target.clone()));
        let proxy = scene.forward(proxy);
        let server = scene.echo(WebSocketServer::new(), is_secure);
        scene.check_talk(scene.proxied(), url, &server);
        scene.simulation.run_for(SECOND * 60);
        let port = if is_secure { 443 } else { 80 };
        assert_eq!(tunnels.take(), [format!("server:{port}")]);
        assert_eq!(proxy.tunnels(), 0);
    }
}

#[test]
fn a_forward_proxy_that_makes_no_such_tunnel_is_told_of() {
    let scene = Scene::new();
    let proxy = ForwardProxy::new(&Client::new(&scene.reactor("proxy")));
    scene.forward(proxy);
    let _server = scene.echo(WebSocketServer::new(), false);
    let (connecting, _) = scene.connect(scene.proxied(), "ws://server/chat");
    let failure = failure_of(connecting);
    let error: ClientError = failure.trap().expect("a client's error");
    assert!(
        matches!(error.kind(), ClientErrorKind::Proxy(StatusCode::FORBIDDEN)),
        "{error}"
    );
}

#[test]
fn through_a_reverse_proxy_it_goes_as_an_upgrade() {
    for (in_front, behind) in [(false, false), (true, false), (false, true), (true, true)] {
        let scene = Scene::new();
        let scheme = |is_secure: bool, plain: &str| match is_secure {
            true => format!("{plain}s"),
            false => plain.to_owned(),
        };
        let asking = Client::new(&scene.reactor("proxy")).tls(&scene.authority.client());
        let proxy = ReverseProxy::new(&asking, format!("{}://server/in", scheme(behind, "http")));
        let _proxy = scene.listen("proxy", proxy.expect("a URL"), in_front);
        let server = scene.echo(WebSocketServer::new(), behind);
        let url = format!("{}://proxy/chat", scheme(in_front, "ws"));
        scene.check_talk(scene.http(), &url, &server);
    }
}

#[test]
fn what_the_server_behind_a_reverse_proxy_refuses_is_refused() {
    let scene = Scene::new();
    let asking = Client::new(&scene.reactor("proxy"));
    let proxy = ReverseProxy::new(&asking, "http://server").expect("a URL");
    let _proxy = scene.listen("proxy", proxy, false);
    let sockets = WebSocketServer::new().origins(Origins::Only(Vec::new()));
    let _server = scene.echo(sockets, false);
    let client = WebSocketClient::over(scene.http(), &scene.reactor("client"));
    let origin = http::HeaderValue::from_static("http://evil.example");
    let client = client.header(http::header::ORIGIN, origin);
    let connecting = client.connect("ws://proxy/", Scribe::quiet());
    scene.simulation.run_for(SECOND);
    let failure = failure_of(connecting);
    let error: HandshakeError = failure.trap().expect("an answer that is none");
    let HandshakeError::Refused { status, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[test]
fn a_proxy_that_stops_neither_tells_its_tunnels_nor_waits_for_them() {
    let scene = Scene::new();
    let asking = Client::new(&scene.reactor("proxy"));
    let proxy = ReverseProxy::new(&asking, "http://server").expect("a URL");
    let proxy = scene.listen("proxy", proxy, false);
    let (_server, theirs) = scene.echo(WebSocketServer::new(), false);
    let (connecting, ours) = scene.connect(scene.http(), "ws://proxy/chat");
    let transport = success_of(connecting);
    success_of(proxy.stop());
    scene.simulation.run_for(SECOND);
    assert!(!ours.is_closed() && !theirs.is_closed());
    ours.take();
    transport.send("still there");
    scene.simulation.run_for(SECOND);
    assert_eq!(ours.take(), ["text still there"]);
}
