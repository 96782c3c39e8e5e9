//! `tls:` and `ssl:` endpoints from text.

use torsade::prelude::*;

use super::authority::Authority;
use super::speaker::Speaker;

#[test]
fn both_sides_are_made_from_text_and_talk() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let signed = authority.sign("localhost");
    let (ca, chain) = (
        write("ca.pem", &authority.pem()),
        write("chain.pem", &signed.chain),
    );
    let key = write("key.pem", &signed.key);
    let server =
        format!("ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}:extraCertChain={ca}");
    let server = torsade::server_from_string(&server).expect("it is well formed");
    let reactor = Reactor::new().expect("a reactor");
    let listening = reactor.listen(&server, |_: &Address| Speaker::echo());
    let port = reactor.run_until(listening).expect("a free port");
    let number = port.address().port().expect("TCP has one");
    let folder = folder.path().display();
    for roots in [format!("trustRoots={ca}"), format!("trustRoots={folder}")] {
        for place in [
            format!("tls:localhost:{number}:{roots}:timeout=20"),
            format!("tls:localhost:{roots}:endpoint=tcp\\:127.0.0.1\\:{number}"),
        ] {
            let client = torsade::client_from_string(&place).expect("it is well formed");
            let connecting = reactor.connect(&client, |_| Speaker::default());
            let transport = reactor.run_until(connecting).expect("it connects");
            assert!(tls::session(&transport).is_some());
            transport.abort_connection();
        }
    }
}

#[test]
fn texts_that_are_wrong_say_what_is_wrong() {
    let error = |text: &str| match torsade::client_from_string(text) {
        Ok(_) => panic!("{text} is accepted"),
        Err(error) => error.to_string(),
    };
    assert!(error("tls").contains("\"host\" is missing"));
    assert!(error("tls:a b:443").contains("expected a name"));
    let missing = error("tls:localhost:443:trustRoots=/nonexistent.pem");
    assert!(
        missing.contains("cannot read /nonexistent.pem"),
        "{missing}"
    );
    let missing = match torsade::server_from_string("ssl:443:privateKey=/nonexistent.pem") {
        Ok(_) => panic!("there is no key"),
        Err(error) => error.to_string(),
    };
    assert!(
        missing.contains("cannot read /nonexistent.pem"),
        "{missing}"
    );
}
