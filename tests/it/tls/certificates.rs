//! Who is accepted, and what is said of those who are not.

use torsade::protocols::tls::{
    self, ClientConfig, ConfigError, Identity, Roots, ServerConfig, TlsError, TlsStream, Versions,
};
use torsade::reactor::testing::{memory_pair, virtual_time_reactor};

use super::authority::{Authority, Signed};
use super::speaker::{Speaker, Talk};

#[track_caller]
fn check_refused(client: &ClientConfig, server: &ServerConfig, expected: &TlsError) {
    let talk = Talk::new((Speaker::default(), client), (Speaker::default(), server));
    talk.client.write("a secret");
    talk.run();
    assert_eq!(talk.at_client.error(), *expected);
    let told = talk.at_server.error();
    assert!(matches!(told, TlsError::PeerAlert(_)), "{told:?}");
    assert_eq!(talk.at_server.text(), "");
    talk.at_client.check(["made", "lost"]);
}

fn server(signed: &Signed) -> ServerConfig {
    let builder = tls::server_config(signed.identity());
    builder.build().expect("the key fits")
}

#[test]
fn bad_certificates_of_servers_are_refused_each_with_its_name() {
    let authority = Authority::new();
    let client = authority.client();
    let expired = server(&authority.sign_expired("localhost"));
    check_refused(&client, &expired, &TlsError::CertificateExpired);
    let early = server(&authority.sign_for_the_future("localhost"));
    check_refused(&client, &early, &TlsError::CertificateNotYetValid);
    let stranger = Authority::new().server();
    check_refused(&client, &stranger, &TlsError::UnknownAuthority);
    let other = server(&authority.sign("example.org"));
    let wrong = TlsError::WrongName {
        expected: "localhost".into(),
        presented: vec!["example.org".into()],
    };
    assert_eq!(
        wrong.to_string(),
        "the peer's certificate is not for localhost, but for example.org"
    );
    check_refused(&client, &other, &wrong);
    let address = server(&authority.sign("127.0.0.1"));
    let wrong = TlsError::WrongName {
        expected: "localhost".into(),
        presented: vec!["127.0.0.1".into()],
    };
    check_refused(&client, &address, &wrong);
}

/// What `openssl req -x509` makes, and everybody tries first.
#[test]
fn a_certificate_for_an_authority_is_refused_in_words_that_help() {
    let signed = Authority::sign_itself("localhost");
    let roots = Roots::from_pem(&signed.chain).expect("it is PEM");
    let client = tls::client_config().roots(roots).build();
    let client = client.expect("it is good");
    check_refused(&client, &server(&signed), &TlsError::CertificateOfAuthority);
    let text = TlsError::CertificateOfAuthority.to_string();
    assert!(text.contains("basicConstraints=CA:FALSE"), "{text}");
}

#[test]
fn a_server_is_known_by_its_ip_address_too() {
    let authority = Authority::new();
    let (client, other) = (authority.client(), server(&authority.sign("127.0.0.2")));
    for (server, is_right) in [(server(&authority.sign("127.0.0.1")), true), (other, false)] {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        let name = super::authority::name("127.0.0.1");
        let stream = TlsStream::client(pair.client, &client, name);
        let _server = TlsStream::server(pair.server, &server);
        let outcome = reactor.run_until(stream.handshake());
        assert_eq!(outcome.is_ok(), is_right, "{outcome:?}");
    }
}

#[test]
fn the_platform_s_roots_are_the_default_and_do_not_trust_just_anybody() {
    // On a machine without roots there is no configuration either: never one that trusts all.
    match tls::client_config().build() {
        Ok(client) => check_refused(
            &client,
            &Authority::new().server(),
            &TlsError::UnknownAuthority,
        ),
        Err(error) => assert!(matches!(error, ConfigError::NoRoots { .. }), "{error}"),
    }
}

fn mutual(authority: &Authority, required: bool, versions: Versions) -> ServerConfig {
    let builder = tls::server_config(authority.sign("localhost").identity()).versions(versions);
    let builder = match required {
        true => builder.require_client_certificate(authority.roots()),
        false => builder.accept_client_certificate(authority.roots()),
    };
    builder.build().expect("it is good")
}

fn client_with(authority: &Authority, signed: &Signed) -> ClientConfig {
    let builder = tls::client_config().roots(authority.roots());
    builder
        .identity(signed.identity())
        .build()
        .expect("it is good")
}

#[test]
fn a_client_without_a_certificate_is_turned_away_where_one_is_required() {
    let authority = Authority::new();
    for versions in [Versions::Tls12, Versions::Tls13] {
        let server = mutual(&authority, true, versions);
        let talk = Talk::new(
            (Speaker::default(), &authority.client()),
            (Speaker::default(), &server),
        );
        talk.client.write("let me in");
        talk.run();
        assert_eq!(talk.at_server.error(), TlsError::NoCertificate);
        let told = talk.at_client.error();
        assert!(matches!(told, TlsError::PeerAlert(_)), "{told:?}");
        assert_eq!(talk.at_server.text(), "");
    }
}

#[test]
fn a_client_s_certificate_is_seen_where_it_is_asked_for() {
    let authority = Authority::new();
    for required in [true, false] {
        let server = mutual(&authority, required, Versions::Both);
        let client = client_with(&authority, &authority.sign("alice"));
        let talk = Talk::new((Speaker::default(), &client), (Speaker::default(), &server));
        talk.run();
        let session = tls::session(&talk.server).expect("it is secured");
        assert_eq!(session.peer_certificates().len(), 1);
    }
    let server = mutual(&authority, false, Versions::Both);
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::default(), &server),
    );
    talk.run();
    let session = tls::session(&talk.server).expect("it is secured");
    assert!(session.peer_certificates().is_empty());
}

#[test]
fn bad_certificates_of_clients_are_refused() {
    let authority = Authority::new();
    let server = mutual(&authority, true, Versions::Both);
    let stranger = client_with(&authority, &Authority::new().sign("mallory"));
    let expired = client_with(&authority, &authority.sign_expired("alice"));
    for (client, expected) in [
        (stranger, TlsError::UnknownAuthority),
        (expired, TlsError::CertificateExpired),
    ] {
        let talk = Talk::new((Speaker::default(), &client), (Speaker::default(), &server));
        talk.run();
        assert_eq!(talk.at_server.error(), expected);
    }
}

#[test]
fn no_application_protocol_in_common_is_told_on_both_sides() {
    let authority = Authority::new();
    let client = tls::client_config().roots(authority.roots()).alpn(["h2"]);
    let server = tls::server_config(authority.sign("localhost").identity()).alpn(["smtp"]);
    let (client, server) = (client.build().expect("good"), server.build().expect("good"));
    let talk = Talk::new((Speaker::default(), &client), (Speaker::default(), &server));
    talk.run();
    assert_eq!(talk.at_client.error(), TlsError::NoCommonProtocol);
    assert_eq!(talk.at_server.error(), TlsError::NoCommonProtocol);
}

#[test]
fn no_version_in_common_is_told_on_both_sides() {
    let authority = Authority::new();
    for (old, new) in [
        (Versions::Tls12, Versions::Tls13),
        (Versions::Tls13, Versions::Tls12),
    ] {
        let client = tls::client_config().roots(authority.roots()).versions(old);
        let server = tls::server_config(authority.sign("localhost").identity()).versions(new);
        let (client, server) = (client.build().expect("good"), server.build().expect("good"));
        let talk = Talk::new((Speaker::default(), &client), (Speaker::default(), &server));
        talk.run();
        assert_eq!(talk.at_client.error(), TlsError::NoCommonVersion);
        assert_eq!(talk.at_server.error(), TlsError::NoCommonVersion);
    }
}

/// Which certificate a server shows to whoever asks for `name`.
fn shown_to(authority: &Authority, server: &ServerConfig, name: &str) -> Vec<u8> {
    use std::rc::Rc;
    use torsade::prelude::*;
    use torsade::protocols::tls::TlsStream;
    use torsade::reactor::testing::{memory_pair, virtual_time_reactor};
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let server = TlsStream::server(pair.server, server);
    // One that takes every name: what is shown is the question here.
    let client = TlsStream::client(
        pair.client,
        &authority.client(),
        super::authority::name(name),
    );
    Transport::connect(
        Speaker::default(),
        Rc::clone(&client) as Rc<dyn torsade::reactor::Stream>,
    );
    pair.pump.run().expect("it rests");
    let session = client
        .session()
        .unwrap_or_else(|| panic!("{name} is shown a wrong one"));
    drop(server);
    session.peer_certificates()[0].to_vec()
}

#[test]
fn a_server_shows_the_certificate_that_is_asked_for() {
    let authority = Authority::new();
    let identity = |name| authority.sign(name).identity();
    let server = tls::server_config(identity("localhost"))
        .identity_for("one.example.org", identity("one.example.org"))
        .identity_for("*.example.org", identity("*.example.org"))
        .build()
        .expect("it is good");
    let one = shown_to(&authority, &server, "one.example.org");
    let any = shown_to(&authority, &server, "TWO.example.org");
    let default = shown_to(&authority, &server, "localhost");
    assert!(one != any && any != default && one != default);
}

#[test]
fn certificates_are_replaced_while_the_server_runs() {
    let authority = Authority::new();
    let identity = |name| authority.sign(name).identity();
    let server = tls::server_config(identity("localhost"))
        .identity_for("example.org", identity("example.org"))
        .build()
        .expect("it is good");
    let certificates = server.certificates().expect("it is ours").clone();
    let (first, named) = (
        shown_to(&authority, &server, "localhost"),
        shown_to(&authority, &server, "example.org"),
    );
    certificates.reload(identity("localhost")).expect("it fits");
    assert_ne!(shown_to(&authority, &server, "localhost"), first);
    assert_eq!(shown_to(&authority, &server, "example.org"), named);
    certificates
        .reload_for("EXAMPLE.org", identity("example.org"))
        .expect("it fits");
    assert_ne!(shown_to(&authority, &server, "example.org"), named);
    let unknown = certificates.reload_for("example.com", identity("example.com"));
    assert!(matches!(unknown, Err(ConfigError::UnknownName { .. })));
    // A pair that does not fit changes nothing.
    let now = shown_to(&authority, &server, "localhost");
    let (one, other) = (authority.sign("localhost"), authority.sign("localhost"));
    let wrong = Identity::from_pem(one.chain, other.key).expect("it is PEM");
    assert!(matches!(
        certificates.reload(wrong),
        Err(ConfigError::Rejected(_))
    ));
    assert_eq!(shown_to(&authority, &server, "localhost"), now);
}

#[test]
fn roots_come_from_files_and_directories() {
    let (one, two) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let empty = Roots::from_directory(directory.path());
    assert!(matches!(empty, Err(ConfigError::NoRoots { .. })));
    for (name, text) in [
        ("one.pem", one.pem()),
        ("two.txt", two.pem()),
        ("broken.pem", "-----BEGIN CERTIFICATE-----\nx".into()),
    ] {
        std::fs::write(path(name), text).expect("it can be written");
    }
    std::fs::create_dir(path("folder.pem")).expect("it can be made");
    let roots = Roots::from_directory(directory.path()).expect("there is one");
    let client = tls::client_config()
        .roots(roots.clone())
        .build()
        .expect("good");
    check_refused(&client, &two.server(), &TlsError::UnknownAuthority);
    let both = roots.and(Roots::from_pem_file(path("two.txt")).expect("a certificate"));
    let client = tls::client_config().roots(both).build().expect("good");
    for server in [one.server(), two.server()] {
        let talk = Talk::new((Speaker::default(), &client), (Speaker::default(), &server));
        talk.run();
        assert!(tls::session(&talk.client).is_some());
    }
}

#[test]
fn what_cannot_be_used_is_refused_before_anybody_connects() {
    let signed = Authority::new().sign("localhost");
    let missing = Identity::from_pem_files("/nonexistent/chain.pem", "/nonexistent/key.pem");
    let text = missing.expect_err("there is no such file").to_string();
    assert!(
        text.starts_with("cannot read /nonexistent/chain.pem: "),
        "{text}"
    );
    let swapped = Identity::from_pem(&signed.key, &signed.chain);
    assert!(matches!(swapped, Err(ConfigError::NoCertificate { .. })));
    let keyless = Identity::from_pem(&signed.chain, "");
    assert!(matches!(keyless, Err(ConfigError::NoKey { .. })));
    assert!(matches!(Roots::of([]), Err(ConfigError::NoRoots { .. })));
    let shown = format!("{:?}", signed.identity());
    assert_eq!(shown, "Identity(1 certificates)", "and not the key");
}
