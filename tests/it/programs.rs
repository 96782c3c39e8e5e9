//! The examples as programs: how they start, fail to start, and end.
//!
//! They are built before this test runs when all targets are built, as `cargo test
//! --workspace` does; a test that cannot find them, or another program that it wants,
//! says so on standard error and is skipped. Under `TORSADE_REQUIRE_TOOLS=1` that is a
//! failure.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The servers whose first argument is their address.
const SERVERS: [&str; 3] = ["echo", "chat", "poetry_server"];

#[test]
fn a_server_on_a_port_in_use_says_so_in_one_line_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for name in SERVERS {
        let expected = format!("{name}: cannot listen on {address}: address already in use\n");
        check_refusal(name, &address, |line| line == expected);
    }
}

#[test]
fn a_server_on_a_privileged_port_says_so_in_one_line_and_exits_with_1() {
    match TcpListener::bind("127.0.0.1:81") {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        // Not a missing tool: whoever may do everything cannot see this.
        _ => return skipped("this user may listen on port 81"),
    }
    for name in SERVERS {
        let expected = format!("{name}: cannot listen on 127.0.0.1:81: permission denied\n");
        check_refusal(name, "127.0.0.1:81", |line| line == expected);
    }
}

#[test]
fn a_server_with_a_name_that_has_no_address_says_so_in_one_line_and_exits_with_1() {
    for name in SERVERS {
        let expected =
            format!("{name}: cannot listen on no-such-host.invalid:8007: unknown host: ");
        check_refusal(name, "no-such-host.invalid:8007", |line| {
            line.starts_with(&expected)
        });
    }
}

#[test]
fn a_server_with_something_that_is_no_address_says_so_in_one_line_and_exits_with_1() {
    for name in SERVERS {
        let expected = format!("{name}: cannot listen: \"nonsense\" is not an address: ");
        check_refusal(name, "nonsense", |line| line.starts_with(&expected));
    }
}

#[test]
fn the_poetry_client_reports_every_failure_and_exits_with_1() {
    let Some(mut client) = example("poetry_client") else {
        return;
    };
    let unused = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = unused.local_addr().expect("an address").to_string();
    drop(unused);
    let output = client.arg(&address).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "poetry_client: 1 of the poems did not come\n"
    );
    assert!(
        text(&output.stdout).contains(&format!("cannot connect to {address}: connection refused"))
    );
}

#[test]
fn sigterm_and_sigint_end_a_server_with_status_0_and_its_connections_closed() {
    for signal in [Signal::TERM, Signal::INT] {
        if signal == Signal::INT && is_sigint_ignored() {
            // A program started in the background by a shell without job control.
            skipped("SIGINT is ignored here, and so by every program started here");
            continue;
        }
        for name in SERVERS {
            let Some(mut server) = Running::start(name, &["127.0.0.1:0"]) else {
                return;
            };
            let address = server.address_after("listening on ");
            let mut connection = connect(address);
            // Whatever it is, the server has heard of the connection when it answers.
            connection.write_all(b"hello\n").expect("it is open");
            let mut heard = [0; 1];
            connection.read_exact(&mut heard).expect("it answers");
            server.signal(signal);
            read_to_end(&mut connection);
            assert_eq!(server.wait(), Some(0), "{name} on {signal:?}");
            assert_eq!(server.rest_of_errors(), "");
        }
    }
}

#[test]
fn the_demo_starts_every_server_and_ends_with_status_0_and_all_connections_closed() {
    let Some(mut demo) = Running::start("demo", &[]) else {
        return;
    };
    let servers = [
        "echo on ",
        "chat on ",
        "poetry on ",
        "requests on ",
        "web on ",
    ];
    let [echo, chat, poetry, requests, web] = servers.map(|name| demo.address_after(name));
    let mut echoing = connect(echo);
    check_exchange(&mut echoing, "hello\r\n", "hello\r\n");
    let mut chatting = connect(chat);
    check_exchange(
        &mut chatting,
        "ann\n",
        "* what is your name?\n* ann joined\n",
    );
    let mut listening = connect(poetry);
    check_exchange(&mut listening, "", "I'm Nobody!");
    let mut asking = connect(requests);
    check_exchange(&mut asking, "ann\n", "200 ann is 36 years old\n");
    let mut browsing = connect(web);
    check_exchange(
        &mut browsing,
        "GET /api/messages HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
    );

    // A second one takes other ports where these are taken, and says so.
    if let Some(mut second) = Running::start("demo", &[]) {
        let first_line = second.line();
        let noted = first_line == "echo: 127.0.0.1:8007 is in use, so it is on a free port";
        let place = first_line.strip_prefix("echo on ").map(str::to_owned);
        let place = place.unwrap_or_else(|| second.address_after("echo on ").to_string());
        assert_eq!(noted, place != "127.0.0.1:8007", "{first_line:?}");
        let address: SocketAddr = place.parse().expect("it prints an address");
        assert_ne!(address, echo);
        // It is in its loop when it answers.
        check_exchange(&mut connect(address), "hello\n", "hello\n");
        second.signal(Signal::TERM);
        assert_eq!(second.wait(), Some(0));
    }

    demo.signal(Signal::TERM);
    for mut connection in [echoing, chatting, listening, asking, browsing] {
        read_to_end(&mut connection);
    }
    assert_eq!(demo.wait(), Some(0));
    assert_eq!(
        demo.last_line(),
        "stopped: every port and every connection is closed"
    );
}

#[test]
fn nc_and_curl_talk_to_the_demo() {
    let Some(mut demo) = Running::start("demo", &[]) else {
        return;
    };
    let (echo, _) = (
        demo.address_after("echo on "),
        demo.address_after("chat on "),
    );
    let poetry = demo.address_after("poetry on ");
    // It is in its loop when it answers.
    check_exchange(&mut connect(echo), "hello\n", "hello\n");
    if let Some(mut nc) = tool("nc") {
        let port = echo.port().to_string();
        let output = feed(nc.args(["127.0.0.1", &port]), b"hello\nworld\n", 12);
        assert_eq!(output, "hello\nworld\n");
    }
    if let Some(mut curl) = tool("curl") {
        // It ends when the poem does.
        let url = format!("telnet://{poetry}");
        let output = curl
            .args(["--silent", "--max-time", "50", &url])
            .stdin(Stdio::null())
            .output();
        let output = output.expect("curl runs");
        assert!(
            text(&output.stdout).ends_with("To an admiring Bog!\n"),
            "{output:?}"
        );
    }
    demo.signal(Signal::TERM);
    assert_eq!(demo.wait(), Some(0));
}

/// Checks that a server refuses to start, with status 1 and one line.
#[track_caller]
fn check_refusal(name: &str, address: &str, is_expected: impl Fn(&str) -> bool) {
    let Some(mut server) = example(name) else {
        return;
    };
    let Output {
        status,
        stdout,
        stderr,
    } = server.arg(address).output().expect("it runs");
    let said = text(&stderr);
    assert!(is_expected(&said), "{name} said {said:?}");
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert_eq!((status.code(), text(&stdout).as_str()), (Some(1), ""));
}

/// Sends, and checks what is heard then.
#[track_caller]
fn check_exchange(connection: &mut TcpStream, send: &str, expected: &str) {
    connection.write_all(send.as_bytes()).expect("it is open");
    let mut heard = vec![0; expected.len()];
    connection.read_exact(&mut heard).expect("it answers");
    assert_eq!(text(&heard), expected);
}

/// An example that was built, next to this test.
fn example(name: &str) -> Option<Command> {
    let test = std::env::current_exe().expect("the test has a path");
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE/deps/TEST");
    let path: PathBuf = profile.join("examples").join(name);
    if !path.exists() {
        missing(&format!(
            "the example {name} is not built: cargo build --examples"
        ));
        return None;
    }
    Some(Command::new(path))
}

/// A program that we did not write.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !found {
        missing(&format!("{name} is not installed"));
        return None;
    }
    Some(Command::new(name))
}

#[track_caller]
pub(crate) fn missing(what: &str) {
    assert!(
        std::env::var_os("TORSADE_REQUIRE_TOOLS").is_none_or(|value| value != "1"),
        "{what}"
    );
    skipped(what);
}

pub(crate) fn skipped(what: &str) {
    // Past the capture of the test's output, so that it is seen although the test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// Gives `input` to a program, keeps its input open until it has said `expected` bytes.
fn feed(command: &mut Command, input: &[u8], expected: usize) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input).expect("it reads");
    let mut said = vec![0; expected];
    let outcome = child
        .stdout
        .take()
        .expect("it is piped")
        .read_exact(&mut said);
    drop(stdin);
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    outcome.expect("it says so much");
    text(&said)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).expect("it listens");
    // A hanging test fails instead.
    connection
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a good limit");
    connection
}

/// Reads until the peer has closed, in order or not.
#[track_caller]
fn read_to_end(connection: &mut TcpStream) {
    let outcome = connection.read_to_end(&mut Vec::new());
    let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    assert!(
        !outcome.as_ref().is_err_and(timed_out),
        "the connection is still open"
    );
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether this process, and so each that it starts, ignores SIGINT.
fn is_sigint_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (Signal::INT.as_raw() - 1)) != 0)
}

/// An example that runs; it is killed when the test fails.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        let mut command = example(name)?;
        Some(Self::spawn(command.args(arguments)))
    }

    fn spawn(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, stdout }
    }

    /// Starts an example under a program that starts what its arguments end with.
    pub(crate) fn start_under(
        mut starter: Command,
        options: impl IntoIterator<Item = OsString>,
        name: &str,
        arguments: &[&str],
    ) -> Option<Self> {
        let example = example(name)?;
        starter
            .args(options)
            .arg(example.get_program())
            .args(arguments);
        Some(Self::spawn(&mut starter))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it prints text");
        assert!(line.ends_with('\n'), "it goes on printing");
        line.trim_end().to_owned()
    }

    /// The address in the next line that begins like this.
    pub(crate) fn address_after(&mut self, beginning: &str) -> SocketAddr {
        loop {
            let line = self.line();
            if let Some(address) = line.strip_prefix(beginning) {
                return address.parse().expect("it prints an address");
            }
        }
    }

    fn last_line(&mut self) -> String {
        let mut rest = String::new();
        self.stdout
            .read_to_string(&mut rest)
            .expect("it prints text");
        rest.lines().last().unwrap_or_default().to_owned()
    }

    fn rest_of_errors(&mut self) -> String {
        let mut rest = String::new();
        let stderr = self.child.stderr.as_mut().expect("it is piped");
        stderr.read_to_string(&mut rest).expect("it prints text");
        rest
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Its exit status; `None` if a signal killed it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it is ours").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended already, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
