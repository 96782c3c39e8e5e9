//! What TLS ends with where the configuration is rustls's own: revoked certificates, nothing in
//! common, something missing on this side. Each as a typed error, on both sides, also with programs
//! that we did not write.

use std::sync::Arc;

use torsade::protocols::tls::rustls::client::WebPkiServerVerifier;
use torsade::protocols::tls::rustls::crypto::{CryptoProvider, ring};
use torsade::protocols::tls::rustls::pki_types::pem::PemObject;
use torsade::protocols::tls::rustls::pki_types::{CertificateDer, UnixTime};
use torsade::protocols::tls::rustls::server::WebPkiClientVerifier;
use torsade::protocols::tls::rustls::time_provider::TimeProvider;
use torsade::protocols::tls::rustls::{
    self, AlertDescription, CipherSuite, Error, PeerIncompatible, RootCertStore,
};
use torsade::protocols::tls::{self, ClientConfig, ServerConfig, TlsError};

use super::authority::Authority;
use super::interop::{Files, Foreign, Server, converse, tool};
use super::speaker::{Speaker, Talk};

/// What both sides are told: the client first.
fn told(client: &ClientConfig, server: &ServerConfig) -> [TlsError; 2] {
    let talk = Talk::new((Speaker::default(), client), (Speaker::default(), server));
    talk.client.write("a secret");
    talk.run();
    assert_eq!(
        (talk.at_client.text(), talk.at_server.text()),
        Default::default()
    );
    [talk.at_client.error(), talk.at_server.error()]
}

fn alert(alert: AlertDescription) -> TlsError {
    TlsError::PeerAlert(alert)
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes());
    let added = store.add(root.expect("it is PEM"));
    added.expect("it is a certificate");
    Arc::new(store)
}

fn provider(suites: impl Fn(CipherSuite) -> bool) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| suites(suite.suite()));
    Arc::new(provider)
}

/// A client that asks whether certificates have been revoked, of those with this number.
fn suspicious_client(authority: &Authority, revoked: u64) -> ClientConfig {
    let provider = provider(|_| true);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority), provider.clone())
        .with_crls([authority.revoke(revoked)])
        .build();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_webpki_verifier(verifier.expect("the list is good"))
        .with_no_client_auth();
    Arc::new(config).into()
}

#[test]
fn a_certificate_that_has_been_revoked_is_refused_and_its_neighbor_is_not() {
    let authority = Authority::new();
    let client = suspicious_client(&authority, 7);
    let server = |number| {
        let signed = authority.sign_numbered("localhost", number);
        tls::server_config(signed.identity()).build().expect("good")
    };
    assert_eq!(
        told(&client, &server(7)),
        [
            TlsError::CertificateRevoked,
            alert(AlertDescription::CertificateRevoked)
        ]
    );
    let talk = Talk::new((Speaker::default(), &client), (Speaker::echo(), &server(8)));
    talk.client.write("no secret");
    talk.run();
    assert_eq!(talk.at_client.text(), "no secret");
}

#[test]
fn a_client_whose_certificate_has_been_revoked_is_turned_away() {
    let authority = Authority::new();
    let provider = provider(|_| true);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&authority), provider.clone())
        .with_crls([authority.revoke(7)])
        .build();
    let own = authority.sign("localhost");
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_client_cert_verifier(verifier.expect("the list is good"))
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(own.chain.as_bytes()).expect("it is PEM")],
            PemObject::from_pem_slice(own.key.as_bytes()).expect("it is PEM"),
        );
    let server = Arc::new(server.expect("the key fits")).into();
    let client = tls::client_config()
        .roots(authority.roots())
        .identity(authority.sign_numbered("alice", 7).identity());
    assert_eq!(
        told(&client.build().expect("good"), &server),
        [
            alert(AlertDescription::CertificateRevoked),
            TlsError::CertificateRevoked
        ]
    );
}

#[test]
fn peers_without_a_cipher_in_common_are_told_so() {
    let authority = Authority::new();
    let small = provider(|suite| suite == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let client = rustls::ClientConfig::builder_with_provider(small)
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots(&authority))
        .with_no_client_auth();
    let own = authority.sign("localhost");
    let large = provider(|suite| suite == CipherSuite::TLS13_AES_256_GCM_SHA384);
    let server = rustls::ServerConfig::builder_with_provider(large)
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(own.chain.as_bytes()).expect("it is PEM")],
            PemObject::from_pem_slice(own.key.as_bytes()).expect("it is PEM"),
        );
    let server = Arc::new(server.expect("the key fits"));
    assert_eq!(
        told(&Arc::new(client).into(), &server.into()),
        [
            alert(AlertDescription::HandshakeFailure),
            TlsError::Incompatible(PeerIncompatible::NoCipherSuitesInCommon)
        ]
    );
}

#[test]
fn a_certificate_for_another_purpose_is_a_bad_one() {
    let authority = Authority::new();
    let signed = authority.sign_with("localhost", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let server = tls::server_config(signed.identity()).build().expect("good");
    let [client, server] = told(&authority.client(), &server);
    assert!(matches!(client, TlsError::BadCertificate(_)), "{client:?}");
    let text = client.to_string();
    assert!(text.contains("not accepted"), "{text}");
    assert!(matches!(server, TlsError::PeerAlert(_)), "{server:?}");
}

/// A clock that has stopped for good.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn current_time(&self) -> Option<UnixTime> {
        None
    }
}

#[test]
fn what_is_missing_on_this_side_is_no_fault_of_the_peers() {
    let authority = Authority::new();
    let client = rustls::ClientConfig::builder_with_details(provider(|_| true), Arc::new(NoTime))
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots(&authority))
        .with_no_client_auth();
    let [client, server] = told(&Arc::new(client).into(), &authority.server());
    assert_eq!(client, TlsError::Local(Error::FailedToGetCurrentTime));
    assert!(
        matches!(server, TlsError::PeerAlert(_) | TlsError::HandshakeCutShort),
        "{server:?}"
    );
}

#[test]
fn openssl_s_server_with_a_revoked_certificate_is_refused() {
    let files = Files::new();
    let signed = files.authority.sign_numbered("localhost", 7);
    let Some(foreign) = Foreign::start(&files, &signed, &[]) else {
        return;
    };
    let (seen, end) = foreign.visit(&suspicious_client(&files.authority, 7), "a secret\n");
    assert_eq!(end, "CertificateRevoked");
    assert_eq!(seen.text(), "");
}

/// One that both programs have, and we do not: its keys can be had later.
const OLD: [&str; 3] = ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"];

#[test]
fn openssl_with_old_ciphers_alone_has_nothing_in_common_with_us() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    let Some(mut openssl) = tool("openssl") else {
        return;
    };
    openssl.arg("s_client").args(OLD);
    openssl.args(["-connect", &server.connect_argument()]);
    let said = converse(openssl, "a secret\n", "a secret\n");
    assert!(said.contains("handshake failure"), "{said}");
    let end = server.next_end();
    assert!(end.starts_with("Incompatible("), "{end}");
    let signed = files.authority.sign("localhost");
    let Some(foreign) = Foreign::start(&files, &signed, &OLD) else {
        return;
    };
    let (_, end) = foreign.visit(&files.authority.client(), "a secret\n");
    assert_eq!(end, "PeerAlert(HandshakeFailure)");
}
