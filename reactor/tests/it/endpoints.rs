//! Endpoints as values and as text, names, and how connecting fails.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, fail};
use torsade_reactor::{
    Address, AddressError, AdoptError, AdoptedServerEndpoint, ClientEndpoint, ConnectError,
    EndpointError, EndpointParsers, Hosts, IpFamily, ListenError, Port, Reactor, Resolve,
    TcpClientEndpoint, TcpServerEndpoint, UnixServerEndpoint, quote_endpoint_argument,
};

use crate::common::{End, Log, reactor, run_while};

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

fn end(_: &Address) -> End {
    End::new("end", &Log::default())
}

fn listen(reactor: &Reactor, text: &str) -> Port {
    let endpoint = EndpointParsers::new().server(text).expect("it is right");
    let listening = reactor.listen(&endpoint, end);
    reactor.run_until(listening).expect("loopback can listen")
}

fn port_of(port: &Port) -> u16 {
    port.address().port().expect("it is a TCP port")
}

/// A port of 127.0.0.1 that nobody listens on.
fn closed_port(reactor: &Reactor) -> u16 {
    let port = listen(reactor, "tcp:0:interface=127.0.0.1");
    drop(port.stop_listening());
    port_of(&port)
}

/// What connecting to `endpoint` fails with.
#[track_caller]
fn refusal(reactor: &Reactor, endpoint: &TcpClientEndpoint) -> ConnectError {
    let connecting = reactor.connect(endpoint, end);
    let failure = reactor.run_until(connecting).expect_err("it must fail");
    failure.trap().expect("it is a ConnectError")
}

#[test]
fn both_sides_are_made_from_text() {
    let reactor = reactor();
    for (server, host) in [
        ("tcp:0:interface=127.0.0.1:backlog=5", "127.0.0.1"),
        ("tcp4:port=0", "127.0.0.1"),
        ("TCP:0:interface=localhost", "localhost"),
        (r"tcp6:0:interface=\:\:1", r"\:\:1"),
        (r"tcp:0:interface=\:\:1", r"\:\:1"),
    ] {
        let port = listen(&reactor, server);
        let client = format!("tcp:{host}:{}:timeout=5", port_of(&port));
        let endpoint = EndpointParsers::new().client(&client).expect("it is right");
        let transport = reactor
            .run_until(reactor.connect(&endpoint, end))
            .expect("somebody listens");
        assert_eq!(transport.peer().port(), port.address().port());
        drop(port.stop_listening());
    }
}

#[track_caller]
fn check_wrong(made: Result<impl Sized, EndpointError>, expected: &str) {
    let error = made.err().expect("it is wrong");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_wrong_text_is_told_with_what_would_be_right() {
    let parsers = EndpointParsers::new();
    check_wrong(
        parsers.server("tpc:80"),
        "\"tpc:80\" is no server endpoint: there is no kind \"tpc\", but systemd, tcp, tcp4, tcp6, unix",
    );
    check_wrong(
        parsers.client("tcp:example.com"),
        "\"tcp:example.com\" is no endpoint: \"port\" is missing, a port from 0 to 65535",
    );
    check_wrong(
        parsers.server("tcp:http"),
        "\"tcp:http\" is no endpoint: \"port\" is \"http\", expected a port from 0 to 65535",
    );
    check_wrong(
        parsers.server("tcp:80:interface=::1"),
        "\"tcp:80:interface=::1\" is no endpoint: \"interface\" is given twice",
    );
    check_wrong(
        parsers.server("tcp:80:iface=x"),
        "\"tcp:80:iface=x\" is no endpoint: \"iface\" is one argument too many, \
         \"tcp\" takes port, interface, backlog",
    );
    check_wrong(
        parsers.client("tcp:x:1:timeout=soon"),
        "\"tcp:x:1:timeout=soon\" is no endpoint: \"timeout\" is \"soon\", \
         expected a number of seconds",
    );
    check_wrong(
        parsers.client("tcp:x:1:timeout=-1"),
        "\"tcp:x:1:timeout=-1\" is no endpoint: \"timeout\" is \"-1\", \
         expected a number of seconds",
    );
}

#[test]
fn a_kind_of_ones_own_may_wrap_the_rest_of_the_text() {
    let seen = Rc::new(Cell::new(false));
    let mut parsers = EndpointParsers::new();
    let wrapped = Rc::clone(&seen);
    parsers.add_server("wrap", move |arguments, parsers| {
        wrapped.set(true);
        parsers.server(arguments.rest())
    });
    assert!(parsers.server(r"wrap:tcp:80:interface=\:\:1").is_ok());
    assert!(seen.get());
    let error = parsers.client("wrap:tcp:x:80").err();
    assert!(matches!(
        error,
        Some(EndpointError::UnknownKind { side: "client", .. })
    ));
}

#[test]
fn what_is_wrong_with_an_address_comes_through_the_deferred() {
    let reactor = reactor();
    let connecting = reactor.connect(&TcpClientEndpoint::new("nowhere"), end);
    let failure = reactor.run_until(connecting).expect_err("there is no port");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ConnectError::Address(AddressError { .. }))
    ));
    let listening = reactor.listen(&TcpServerEndpoint::new("nowhere"), end);
    let failure = reactor.run_until(listening).expect_err("there is no port");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ListenError::Address(_))
    ));
    let taken = listen(&reactor, "tcp:0:interface=127.0.0.1");
    let listening = reactor.listen(&TcpServerEndpoint::new(taken.address()), end);
    let failure = reactor.run_until(listening).expect_err("it is taken");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ListenError::InUse { .. })
    ));
}

#[test]
fn a_name_is_tried_at_all_its_addresses() {
    let reactor = reactor();
    let port = listen(&reactor, "tcp:0:interface=127.0.0.1");
    // Nobody listens at the first.
    reactor.set_resolver(Hosts::new().host("two.test", [[127, 0, 0, 2], LOOPBACK]));
    let endpoint = TcpClientEndpoint::new(("two.test", port_of(&port)));
    let connecting = reactor.connect(&endpoint, end);
    let transport = reactor.run_until(connecting).expect("one of them listens");
    assert_eq!(transport.peer(), port.address());
}

#[test]
fn the_errors_of_all_addresses_are_kept() {
    let reactor = reactor();
    let number = closed_port(&reactor);
    reactor.set_resolver(Hosts::new().host("two.test", [LOOPBACK, [127, 0, 0, 2]]));
    let error = refusal(&reactor, &TcpClientEndpoint::new(("two.test", number)));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to two.test:{number} (127.0.0.1:{number}): connection refused; \
             127.0.0.2:{number}: connection refused"
        )
    );
    assert_eq!(error.attempts().count(), 2);
}

#[test]
fn an_attempt_may_come_from_an_address_of_ones_choice() {
    let (reactor, log) = (reactor(), Log::default());
    let peers = log.clone();
    let anywhere = TcpServerEndpoint::new("127.0.0.1:0");
    let listening = reactor.listen(&anywhere, move |peer: &Address| {
        peers.add(peer.ip().expect("it is TCP"));
        end(peer)
    });
    let port = reactor.run_until(listening).expect("loopback can listen");
    let local = SocketAddr::from(([127, 0, 0, 3], 0));
    let endpoint = TcpClientEndpoint::new(port.address()).local_address(local);
    let connecting = reactor.connect(&endpoint, end);
    let transport = reactor.run_until(connecting).expect("somebody listens");
    assert_eq!(transport.host().ip(), Some(local.ip()));
    run_while(&reactor, || log.lines().is_empty());
    log.check(["127.0.0.3"]);

    // RFC 5737: 192.0.2.0/24 is nobody's.
    let local = SocketAddr::from(([192, 0, 2, 1], 0));
    let endpoint = TcpClientEndpoint::new(port.address()).local_address(local);
    let error = refusal(&reactor, &endpoint);
    assert!(matches!(error, ConnectError::Bind { local: told, .. } if told == local));
}

#[test]
fn addresses_of_a_family_that_is_not_wanted_are_not_tried() {
    let reactor = reactor();
    let port = listen(&reactor, "tcp:0:interface=127.0.0.1");
    let endpoint = TcpClientEndpoint::new(port.address());
    let v6 = endpoint.clone().family(IpFamily::V6);
    assert!(matches!(
        refusal(&reactor, &v6),
        ConnectError::UnknownHost { .. }
    ));
    let local = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0));
    assert!(matches!(
        refusal(&reactor, &endpoint.clone().local_address(local)),
        ConnectError::UnknownHost { .. }
    ));
    let v4 = endpoint.family(IpFamily::V4);
    assert!(reactor.run_until(reactor.connect(&v4, end)).is_ok());
}

#[test]
fn the_limit_of_a_connection_can_be_changed() {
    let reactor = reactor();
    let port = listen(&reactor, "tcp:0:interface=127.0.0.1");
    // Calls that are due come before what sockets have to say.
    let endpoint = TcpClientEndpoint::new(port.address()).timeout(Duration::ZERO);
    let error = refusal(&reactor, &endpoint);
    assert!(matches!(error, ConnectError::TimedOut { limit, .. } if limit.is_zero()));
    assert!(!reactor.dump().to_string().contains("attempt"));
}

#[test]
fn a_protocol_that_is_not_built_is_a_failure_and_closes_the_connection() {
    let (reactor, log) = (reactor(), Log::default());
    let seen = log.clone();
    let anywhere = TcpServerEndpoint::new("127.0.0.1:0");
    let listening = reactor.listen(&anywhere, move |_: &Address| End::new("server", &seen));
    let port = reactor.run_until(listening).expect("loopback can listen");
    let endpoint = TcpClientEndpoint::new(port.address());
    let connecting = reactor.connect(&endpoint, |_| None::<End>);
    let failure = reactor.run_until(connecting).expect_err("it is refused");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ConnectError::NoProtocol { .. })
    ));
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: Done"]);
}

#[test]
fn a_protocol_that_is_there_already_is_connected() {
    let (reactor, log) = (reactor(), Log::default());
    let port = listen(&reactor, "tcp:0:interface=127.0.0.1");
    let endpoint = TcpClientEndpoint::new(port.address());
    let connecting = reactor.connect_protocol(&endpoint, End::new("client", &log));
    let transport = reactor.run_until(connecting).expect("somebody listens");
    log.check(["client made"]);
    assert!(transport.is_connected());
}

#[test]
fn cancelling_ends_the_lookup_and_the_attempts() {
    let reactor = reactor();
    let cancelled = Rc::new(Cell::new(false));
    reactor.set_resolver(Silent(Rc::clone(&cancelled)));
    check_cancelled(&reactor, &TcpClientEndpoint::new("name.test:1"));
    assert!(cancelled.get());
    let port = listen(&reactor, "tcp:0:interface=127.0.0.1");
    check_cancelled(&reactor, &TcpClientEndpoint::new(port.address()));
    assert_eq!(
        reactor.dump().sources.len(),
        1,
        "the port is left, and nothing else"
    );
}

#[track_caller]
fn check_cancelled(reactor: &Reactor, endpoint: &TcpClientEndpoint) {
    let connecting = endpoint.connect_stream(reactor);
    connecting.cancel();
    let outcome = connecting.map(drop).into_result();
    let failure = outcome.expect("it has fired").expect_err("cancelled");
    assert!(failure.check::<Interrupted>(), "{failure}");
    assert!(
        reactor.dump().delayed_calls.is_empty(),
        "{}",
        reactor.dump()
    );
}

/// Never answers.
struct Silent(Rc<Cell<bool>>);

impl Resolve for Silent {
    fn resolve(&self, _: &Reactor, _: &str, _: u16) -> Deferred<Vec<SocketAddr>> {
        let (trigger, deferred) = Deferred::new();
        let cancelled = Rc::clone(&self.0);
        trigger.on_cancel(move || cancelled.set(true));
        std::mem::forget(trigger);
        deferred
    }
}

/// Fails with what is no `io::Error`.
struct Broken;

impl Resolve for Broken {
    fn resolve(&self, _: &Reactor, _: &str, _: u16) -> Deferred<Vec<SocketAddr>> {
        fail(Failure::message("broken"))
    }
}

#[test]
fn whatever_a_resolver_fails_with_reaches_who_connects() {
    let reactor = reactor();
    reactor.set_resolver(Hosts::new());
    let endpoint = TcpClientEndpoint::new("name.test:1");
    let error = refusal(&reactor, &endpoint);
    assert!(matches!(error, ConnectError::UnknownHost { .. }), "{error}");
    reactor.set_resolver(Hosts::new().host("name.test", <[[u8; 4]; 0]>::default()));
    let error = refusal(&reactor, &endpoint);
    assert!(matches!(error, ConnectError::UnknownHost { .. }), "{error}");
    reactor.set_resolver(Broken);
    let error = refusal(&reactor, &endpoint);
    assert_eq!(error.to_string(), "cannot connect to name.test:1: broken");
}

/// Says which names it was asked for.
struct Asked(Rc<RefCell<Vec<String>>>);

impl Resolve for Asked {
    fn resolve(&self, _: &Reactor, host: &str, _: u16) -> Deferred<Vec<SocketAddr>> {
        self.0.borrow_mut().push(host.to_owned());
        fail(io::Error::from(io::ErrorKind::NotFound))
    }
}

#[test]
fn names_of_every_script_reach_the_resolver_in_ascii() {
    let reactor = reactor();
    let names = Rc::new(RefCell::default());
    reactor.set_resolver(Asked(Rc::clone(&names)));
    let text = EndpointParsers::new().client("tcp:Bücher.test:1");
    let connecting = text.expect("it is one").connect_stream(&reactor);
    assert!(reactor.run_until(connecting).is_err());
    refusal(&reactor, &TcpClientEndpoint::new("bücher.test:1"));
    refusal(&reactor, &TcpClientEndpoint::new("Plain.test:1"));
    let listening = reactor.listen(&TcpServerEndpoint::new(("例え.test", 0)), end);
    assert!(reactor.run_until(listening).is_err());
    assert!(
        reactor
            .run_until(reactor.resolve("bücher.test", 1))
            .is_err()
    );
    let asked = names.take();
    let bücher = "xn--bcher-kva.test";
    let expected = [bücher, bücher, "Plain.test", "xn--r8jz45g.test", bücher];
    assert_eq!(asked, expected);
}

#[test]
fn a_table_of_hosts_finds_names_of_every_script() {
    let reactor = reactor();
    reactor.set_resolver(Hosts::new().host("BÜCHER.test", [LOOPBACK]));
    let found = reactor.run_until(reactor.resolve("bücher.test", 7));
    assert_eq!(found.expect("it is there"), [(LOOPBACK, 7).into()]);
}

#[test]
fn what_no_host_is_called_is_told_through_the_deferred_and_asked_of_nobody() {
    let reactor = reactor();
    let names = Rc::new(RefCell::default());
    reactor.set_resolver(Asked(Rc::clone(&names)));
    let error = refusal(&reactor, &TcpClientEndpoint::new("ü%.test:1"));
    assert!(matches!(error, ConnectError::Address(_)), "{error}");
    let listening = reactor.listen(&TcpServerEndpoint::new(("\u{ad}", 0)), end);
    let failure = reactor.run_until(listening).expect_err("no name");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ListenError::Address(_))
    ));
    let failure = reactor
        .run_until(reactor.resolve("ü b", 1))
        .expect_err("no name");
    assert!(failure.check::<AddressError>());
    assert!(names.take().is_empty());
}

#[test]
fn an_endpoint_listens_on_a_name_by_the_reactors_resolver() {
    let reactor = reactor();
    reactor.set_resolver(Hosts::new().host("here.test", [LOOPBACK]));
    let port = listen(&reactor, "tcp:0:interface=here.test");
    assert_eq!(port.address().ip(), Some(LOOPBACK.into()));
    let listening = reactor.listen(&TcpServerEndpoint::new("gone.test:0"), end);
    let failure = reactor.run_until(listening).expect_err("it is unknown");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ListenError::UnknownHost { source, .. }) if source.kind() == io::ErrorKind::NotFound
    ));
}

#[test]
fn numbers_need_no_resolver_and_keep_their_interface() {
    let reactor = reactor();
    reactor.set_resolver(Broken);
    for (host, expected) in [
        ("127.0.0.1", "127.0.0.1:80"),
        ("::1", "[::1]:80"),
        ("fe80::1%1", "[fe80::1%1]:80"),
        // The loopback interface is the first of every Linux.
        ("fe80::1%lo", "[fe80::1%1]:80"),
    ] {
        let found = reactor.resolve(host, 80).into_result();
        let addresses = found.expect("at once").expect("a number is an address");
        assert_eq!(
            addresses.first().map(ToString::to_string).as_deref(),
            Some(expected)
        );
    }
    let unknown = reactor.resolve("fe80::1%nowhere0", 80).into_result();
    assert!(unknown.expect("at once").is_err());
}

#[test]
fn unix_sockets_are_endpoints_too() {
    let reactor = reactor();
    let folder = tempfile::tempdir().expect("a folder");
    let path = quote_endpoint_argument(&folder.path().join("a:b=c").to_string_lossy());
    let port = listen(&reactor, &format!("unix:{path}:mode=600:lockfile=0"));
    let mode = fs::metadata(folder.path().join("a:b=c")).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let text = format!("unix:path={path}:timeout=5");
    let endpoint = EndpointParsers::new().client(&text).expect("it is right");
    let connecting = reactor.connect(&endpoint, end);
    let transport = reactor.run_until(connecting).expect("somebody listens");
    assert!(transport.is_connected());
    drop(port.stop_listening());
    let failure = reactor.run_until(reactor.connect(&endpoint, end));
    let failure = failure.expect_err("nobody listens any more");
    assert!(failure.check::<ConnectError>(), "{failure}");
    let wrong = UnixServerEndpoint::new("/x".repeat(200).as_str());
    let failure = reactor.run_until(reactor.listen(&wrong, end));
    let failure = failure.expect_err("it is too long");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ListenError::Address(_))
    ));
    check_wrong(
        EndpointParsers::new().server("unix:/x:mode=999"),
        "\"unix:/x:mode=999\" is no endpoint: \"mode\" is \"999\", \
         expected permission bits in octal, such as 660",
    );
}

#[test]
fn an_adopted_socket_is_listened_on_once() {
    let reactor = reactor();
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback can listen");
    let address = socket.local_addr().expect("it is bound");
    let endpoint = AdoptedServerEndpoint::new(socket);
    let port = reactor.run_until(reactor.listen(&endpoint, end));
    assert_eq!(port.expect("it listens").address(), address.into());
    let connecting = reactor.connect(&TcpClientEndpoint::new(address), end);
    assert!(reactor.run_until(connecting).is_ok());
    let failure = reactor.run_until(reactor.listen(&endpoint, end));
    let failure = failure.expect_err("it was taken");
    assert!(failure.check::<io::Error>(), "{failure}");
    let file = fs::File::open("Cargo.toml").expect("it is there");
    let failure = reactor.run_until(reactor.listen(&AdoptedServerEndpoint::new(file), end));
    assert!(failure.expect_err("it is no socket").check::<AdoptError>());
}

#[test]
fn a_failure_to_listen_arose_in_this_crate_and_not_in_the_standard_library() {
    let reactor = reactor();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    let listening = reactor.listen(&TcpServerEndpoint::new(&*address), end);
    let failure = reactor.run_until(listening).expect_err("it is taken");
    assert!(
        failure.origin().file().ends_with("endpoints/tcp.rs"),
        "{:?}",
        failure.origin()
    );
}

/// The number of an interface, as Linux tells it.
fn interface_number(name: &str) -> u32 {
    let path = format!("/sys/class/net/{name}/ifindex");
    let text = fs::read_to_string(path).expect("Linux has it");
    text.trim().parse().expect("it is a number")
}

/// An address of this machine that is good on one link alone, and the link's name.
fn link_local() -> Option<(Ipv6Addr, String)> {
    const LINK: &str = "20";
    // Address, interface, length of the prefix, scope, flags, name.
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let address = u128::from_str_radix(fields.first()?, 16).ok()?;
        (fields.get(3) == Some(&LINK)).then(|| (address.into(), (*fields[5]).to_owned()))
    })
}

#[test]
fn who_listens_and_connects_on_one_link_sees_the_link_on_both_sides() {
    let Some((ip, link)) = link_local() else {
        // Past the capture of the test's output.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: no interface has a link-local address"
        );
        return;
    };
    let (reactor, log) = (reactor(), Log::default());
    let place = Rc::new(RefCell::new(None));
    let (slot, to_log) = (Rc::clone(&place), log.clone());
    let endpoint = TcpServerEndpoint::new(format!("[{ip}%{link}]:0"));
    let listening = reactor.listen(&endpoint, move |_: &Address| {
        let slot = Rc::clone(&slot);
        End::new("server", &to_log).on_made(move |transport| {
            slot.replace(Some(transport.clone()));
        })
    });
    let port = reactor.run_until(listening).expect("it is our own");
    let number = port.address().port().expect("TCP has one");
    // By the interface's name and by its number; bound to the same link.
    let index = interface_number(&link);
    for host in [format!("{ip}%{link}"), format!("{ip}%{index}")] {
        let endpoint = TcpClientEndpoint::new(format!("[{host}]:{number}"))
            .local_address(SocketAddrV6::new(ip, 0, 0, index));
        let connecting = reactor.connect(&endpoint, |_| End::new("client", &Log::default()));
        let client = reactor.run_until(connecting).expect("it listens");
        run_while(&reactor, || place.borrow().is_none());
        let server = place.take().expect("it was made above");
        for address in [client.peer(), client.host(), server.peer(), server.host()] {
            let Address::Tcp(SocketAddr::V6(address)) = address else {
                panic!("{address} is none of IPv6");
            };
            assert_eq!((*address.ip(), address.scope_id()), (ip, index));
        }
        client.abort_connection();
    }
}
