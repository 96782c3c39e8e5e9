//! Who asks: names and passwords (RFC 7617).

use torsade::protocols::http::{BasicUser, Request, Site, basic_auth, same_secret, wrap};

use super::Client;
use super::programs::{Background, curl};

fn site() -> Site {
    let hello = |request: Request| {
        let BasicUser(name) = request.extension()?;
        Some(format!("hello {name}"))
    };
    Site::new(wrap(
        hello,
        basic_auth("the \"shop\"", |user, password| {
            user == "älí" && same_secret(password, "öpen:sesame")
        }),
    ))
}

#[test]
fn rfc7617_2_who_is_not_known_is_asked_for_a_name() {
    let client = Client::of(&site());
    for field in [
        "",
        "Authorization: Basic eDp5\r\n",
        "Authorization: Basic\r\n",
        "Authorization: Bearer w6Rsw606w7ZwZW46c2VzYW1l\r\n",
        "Authorization: Basic w6Rsw606w7ZwZW46c2VzYW1\r\n",
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        let answer = client.answers();
        assert!(
            answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
            "{field}: {answer}"
        );
        let challenge = "www-authenticate: Basic realm=\"the \\\"shop\\\"\", charset=\"UTF-8\"\r\n";
        assert!(answer.contains(challenge), "{answer}");
    }
}

#[test]
fn rfc7617_2_1_who_is_known_is_let_in_by_a_name_in_utf_8() {
    let client = Client::of(&site());
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic w6Rsw606w7ZwZW46c2VzYW1l\r\n\r\n");
    assert!(client.answers().ends_with("\r\n\r\nhello älí"));
}

#[test]
fn curl_logs_in() {
    let server = Background::listening(|reactor| {
        let site = site();
        site.listen(reactor, "127.0.0.1:0")
            .expect("there is a port")
    });
    let show = "-w %{http_code}";
    for (user, expected) in [
        ("älí:öpen:sesame", "hello älí 200"),
        ("älí:x", "401 Unauthorized\n 401"),
    ] {
        let Some(got) = curl(&server, "/", &["-u", user, show]) else {
            return;
        };
        assert_eq!(got, expected);
    }
}
