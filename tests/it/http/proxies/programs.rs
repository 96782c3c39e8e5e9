//! Programs that we did not write, in front of our proxies and behind them.
//!
//! A program that is missing is said so on standard error, and is a failure under
//! `TORSADE_REQUIRE_TOOLS=1`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{Client, ForwardProxy, ReverseProxy, Site};
use torsade::reactor::TcpServerEndpoint;

use super::super::programs::{Background, run};
use super::examples::{forward_proxy, reverse_proxy};
use crate::programs::missing;
use crate::tls::examples::tls_echo;

/// A reverse proxy in front of this.
fn reverse(upstream: &str) -> Background {
    let upstream = format!("http://{upstream}");
    Background::listening(move |reactor| {
        let proxy = ReverseProxy::new(&Client::new(reactor), upstream).expect("a URL");
        let site = Site::new(proxy).body_max(|_, _| reverse_proxy::BODY_MAX);
        let server = site.listen(reactor, "127.0.0.1:0");
        server.expect("there is a port")
    })
}

/// A forward proxy that reaches everything on this host, for `ali` with `sesame`.
fn forward() -> Background {
    Background::listening(|reactor| {
        let proxy = ForwardProxy::new(&Client::new(reactor))
            .allow_local()
            .tunnel_ports(|_| true)
            .basic_auth("out", |user, password| {
                (user, password) == ("ali", "sesame")
            });
        let site = Site::new(proxy).body_max(|_, _| reverse_proxy::BODY_MAX);
        let server = site.listen(reactor, "127.0.0.1:0");
        server.expect("there is a port")
    })
}

/// What curl prints.
#[track_caller]
fn curl(arguments: &[&str]) -> Option<String> {
    let usual = ["--silent", "--show-error", "--max-time", "20"];
    let output = run("curl", &[&usual[..], arguments].concat())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks for everything that the origin has, by curl; `None` if there is no curl.
///
/// nginx (1.22) stands still, in some of ten runs and before any server, when a response comes while its
/// request's body is sent: there is no echo through it.
#[track_caller]
fn check_with_curl(base: &str, by: &[&str], echoes: bool) -> Option<()> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), vec![b'u'; 5_000_000]).expect("it is written");
    let name = file.path().to_str().expect("it has a name");
    let data = format!("@{name}");
    let ask = |path: &str, arguments: &[&str]| {
        let url = format!("{base}{path}");
        curl(&[by, arguments, &[&url]].concat())
    };
    let size = ["-o", "/dev/null", "-w", "%{size_download}"];
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    for version in ["--http1.1", "--http1.0"] {
        assert_eq!(ask("/hello", &[version])?, "hello", "{version}");
        let sized = [&size[..], &[version]].concat();
        assert_eq!(ask("/big", &sized)?, "3000000", "{version}");
        assert_eq!(ask("/chunks", &sized)?, "1000000", "{version}");
    }
    let head = ask("/hello", &["--head"])?;
    assert!(
        head.to_ascii_lowercase().contains("content-length: 5\r\n"),
        "{head}"
    );
    assert_eq!(ask("/none", &status)?, "204");
    assert_eq!(ask("/nowhere", &status)?, "404");
    for arguments in [
        vec!["--data-binary", &data],
        vec!["--data-binary", &data, "-H", "Expect: 100-continue"],
        vec!["-T", name, "-H", "Transfer-Encoding: chunked"],
        vec![
            "-T",
            name,
            "-H",
            "Transfer-Encoding: chunked",
            "-H",
            "Expect: 100-continue",
        ],
        vec!["--data-binary", &data, "--http2"],
    ] {
        assert_eq!(ask("/length", &arguments)?, "5000000", "{arguments:?}");
        let echo = [&size[..], &arguments].concat();
        if !echoes {
            continue;
        }
        assert_eq!(ask("/echo", &echo)?, "5000000", "{arguments:?}");
    }
    Some(())
}

#[test]
fn curl_is_served_through_the_reverse_proxy() {
    let origin = Background::start();
    let proxy = reverse(&origin.address);
    check_with_curl(&format!("http://{}", proxy.address), &[], true);
}

#[test]
fn curl_is_served_through_the_forward_proxy_and_its_tunnels() {
    let (origin, proxy) = (Background::start(), forward());
    let (base, by) = (
        format!("http://{}", origin.address),
        format!("http://{}", proxy.address),
    );
    let user = ["--proxy", &by, "--proxy-user", "ali:sesame"];
    if check_with_curl(&base, &user, true).is_none() {
        return;
    }
    check_with_curl(&base, &[&user[..], &["--proxytunnel"]].concat(), true);
    let status = ["--proxy", &by, "-o", "/dev/null", "-w", "%{http_code}"];
    let url = format!("{base}/hello");
    let refused = curl(&[&status[..], &[&url]].concat());
    assert_eq!(refused.as_deref(), Some("407"));
}

#[test]
fn curl_speaks_tls_through_a_tunnel() {
    let own = tls_echo::make_identity("localhost").expect("it is made");
    let roots = tempfile::NamedTempFile::new().expect("a file");
    fs::write(roots.path(), &own.certificate).expect("it is written");
    let identity = own.identity;
    let origin = Background::listening(move |reactor| {
        let config = tls::server_config(identity).build().expect("it is good");
        let below = TcpServerEndpoint::new("127.0.0.1:0");
        let endpoint = TlsServerEndpoint::new(below, &config);
        let site = Site::new(|_: http::Request| "safe");
        let server = reactor.run_until(site.listen_at(reactor, &endpoint));
        server.expect("there is a port")
    });
    let proxy = forward();
    let port = origin.address.rsplit(':').next().unwrap_or_default();
    let (url, by) = (
        format!("https://localhost:{port}/"),
        format!("http://{}", proxy.address),
    );
    let roots = roots.path().to_str().expect("it has a name");
    let arguments = [
        "--cacert",
        roots,
        "--proxy-user",
        "ali:sesame",
        "--proxy",
        &by,
        &url,
    ];
    if let Some(body) = curl(&arguments) {
        assert_eq!(body, "safe");
    }
}

const PYTHON: &str = "\
import http.client, socket, sys
proxy, origin, way = sys.argv[1:]
def connect():
    host, port = proxy.rsplit(':', 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    if way == 'tunnel':
        host, port = origin.rsplit(':', 1)
        connection.set_tunnel(host, int(port), headers=headers)
    return connection
headers = {} if way == 'reverse' else {'Proxy-Authorization': 'Basic YWxpOnNlc2FtZQ=='}
base = 'http://' + origin if way == 'forward' else ''
connection = connect()
for index in range(50):
    connection.request('GET', base + '/hello', headers=headers)
    assert connection.getresponse().read() == b'hello'
    body = bytes(index for _ in range(index * 100))
    connection.request('POST', base + '/echo', body=iter([body, b'end']), encode_chunked=True,
                       headers={'Transfer-Encoding': 'chunked', **headers})
    assert connection.getresponse().read() == body + b'end'
connection.request('HEAD', base + '/chunks', headers=headers)
response = connection.getresponse()
assert response.status == 200 and response.read() == b''
connection.close()
if way == 'reverse':
    host, port = proxy.rsplit(':', 1)
    stream = socket.create_connection((host, int(port)), timeout=20)
    stream.sendall(b'GET /socket HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n')
    head = b''
    while not head.endswith(b'\\r\\n\\r\\n'): head += stream.recv(1)
    assert head.startswith(b'HTTP/1.1 101 '), head
    sent = bytes(range(256)) * 400
    stream.sendall(sent)
    stream.shutdown(socket.SHUT_WR)
    got = b''
    while True:
        data = stream.recv(65536)
        if not data: break
        got += data
    assert got == sent, len(got)
print('good')
";

fn check_with_python(proxy: &str, origin: &str, way: &str) {
    let Some(output) = run("python3", &["-c", PYTHON, proxy, origin, way]) else {
        return;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "good\n", "{way}: {errors}");
}

#[test]
fn python_is_served_through_both_proxies_and_tunnels() {
    let origin = Background::start();
    let (reverse, forward) = (reverse(&origin.address), forward());
    check_with_python(&reverse.address, &origin.address, "reverse");
    check_with_python(&forward.address, &origin.address, "forward");
    check_with_python(&forward.address, &origin.address, "tunnel");
}

/// A program that serves until it is dropped.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago: nginx does not say which one it got.
fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("it has one").port()
}

/// nginx, with these servers.
fn nginx(folder: &Path, servers: &str) -> Option<Served> {
    let here = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
         events {{}}\nhttp {{ access_log off; client_max_body_size 64m;\n\
         client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;\n\
         uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;\n{servers}\n}}\n"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).expect("it can be written");
    let mut nginx = Command::new("nginx");
    let child = nginx.arg("-c").arg(&path).stderr(Stdio::null()).spawn();
    child.ok().map(Served)
}

/// It listens when it does; until then it refuses.
fn wait_for(url: &str) {
    let reactor = Reactor::new().expect("there is a loop");
    let client = Client::new(&reactor);
    let begin = reactor.now();
    while let Err(failure) = reactor.run_until(client.get(url).map(drop)) {
        let waited = reactor.now() - begin;
        assert!(waited < Duration::from_secs(20), "{failure}");
        let pause = sleep(&reactor, Duration::from_millis(10));
        reactor.run_until(pause).expect("nobody stops it");
    }
}

#[test]
fn nginx_in_front_of_the_reverse_proxy_and_behind_it_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let origin = Background::start();
    let [behind, before_1_0, before_1_1] = [(); 3].map(|()| free_port());
    let proxy = reverse(&format!("127.0.0.1:{behind}"));
    let servers = format!(
        "upstream proxy {{ server {proxy}; keepalive 4; }}\n\
         server {{ listen 127.0.0.1:{behind}; location / {{ proxy_pass http://{origin};\n\
         proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off; }} }}\n\
         server {{ listen 127.0.0.1:{before_1_0}; location / {{ proxy_pass http://{proxy}; }} }}\n\
         server {{ listen 127.0.0.1:{before_1_1}; location / {{ proxy_pass http://proxy;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_request_buffering off; }} }}",
        proxy = proxy.address,
        origin = origin.address,
    );
    let Some(_nginx) = nginx(folder.path(), &servers) else {
        return missing("nginx");
    };
    for port in [behind, before_1_0, before_1_1] {
        wait_for(&format!("http://127.0.0.1:{port}/hello"));
    }
    check_with_curl(&format!("http://{}", proxy.address), &[], false);
    check_with_curl(&format!("http://127.0.0.1:{before_1_0}"), &[], false);
    check_with_curl(&format!("http://127.0.0.1:{before_1_1}"), &[], false);
}

/// As they are started: what they print is looked at by whoever starts them.
#[test]
fn the_examples_take_their_arguments() {
    let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let of = |text| reverse_proxy::Options::parse(arguments(text).into_iter());
    let expected = reverse_proxy::Options {
        upstreams: arguments("http://a http://b"),
        address: ":80".into(),
        cache: Some(64),
    };
    let options = of("http://a --cache 64 http://b :80").expect("it is right");
    assert_eq!(options, expected);
    let expected = reverse_proxy::Options {
        upstreams: arguments("http://a"),
        ..Default::default()
    };
    assert_eq!(of("http://a").expect("it is right"), expected);
    for wrong in ["http://a --cache", "http://a --cache x"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
    let of = |text| forward_proxy::Options::parse(arguments(text).into_iter());
    let options =
        of("--user ali:a:b :3128 --port 8443 --port 22 --local --cache 64").expect("it is right");
    let expected = forward_proxy::Options {
        address: ":3128".into(),
        user: Some(("ali".into(), "a:b".into())),
        ports: vec![8443, 22],
        local: true,
        cache: Some(64),
    };
    assert_eq!(options, expected);
    for wrong in ["--user", "--user ali", "--port", "--port x", "--cache"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}
