//! Programs that ask much and count what they get: `ab`, `wrk`, `h2load`.
//!
//! A program that is missing is said so on standard error, and is a failure under
//! `TORSADE_REQUIRE_TOOLS=1`.

use super::programs::{Background, run};

/// What the program prints when it is given this, and the address of a server.
#[track_caller]
fn printed(program: &str, arguments: &[&str], path: &str) -> Option<String> {
    let server = Background::start();
    let url = format!("http://{}{path}", server.address);
    let mut all = arguments.to_vec();
    all.push(&url);
    let output = run(program, &all)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{all:?}: {text} {errors}");
    Some(text)
}

/// The number behind a word.
#[track_caller]
fn number(text: &str, word: &str) -> u64 {
    let (_, behind) = text.split_once(word).expect(word);
    let digits: String = behind
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().expect("a number")
}

#[test]
fn ab_gets_every_answer_with_and_without_keep_alive() {
    // HTTP/1.0, with `Connection: Keep-Alive` or without.
    for (keep, kept) in [("-k", 2000), ("-q", 0)] {
        let arguments = [keep, "-q", "-n", "2000", "-c", "20", "-s", "20"];
        let Some(text) = printed("ab", &arguments, "/hello") else {
            return;
        };
        assert_eq!(number(&text, "Complete requests:"), 2000, "{text}");
        assert_eq!(number(&text, "Failed requests:"), 0, "{text}");
        assert!(!text.contains("Non-2xx"), "{text}");
        if kept > 0 {
            assert_eq!(number(&text, "Keep-Alive requests:"), kept, "{text}");
        }
    }
}

#[test]
fn ab_sends_bodies() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![b'p'; 10_000]).expect("it is written");
    let name = file.path().to_str().expect("it has a name");
    let arguments = ["-q", "-k", "-n", "500", "-c", "10", "-s", "20", "-p", name];
    let arguments = [&arguments[..], &["-T", "text/plain"]].concat();
    let Some(text) = printed("ab", &arguments, "/echo") else {
        return;
    };
    assert_eq!(number(&text, "Complete requests:"), 500, "{text}");
    assert_eq!(number(&text, "Failed requests:"), 0, "{text}");
    assert_eq!(number(&text, "HTML transferred:"), 5_000_000, "{text}");
}

#[test]
fn wrk_sees_no_error() {
    for path in ["/hello", "/chunks"] {
        let arguments = ["-t", "1", "-c", "50", "-d", "1s", "--timeout", "20s"];
        let Some(text) = printed("wrk", &arguments, path) else {
            return;
        };
        assert!(!text.contains("Socket errors"), "{text}");
        assert!(!text.contains("Non-2xx"), "{text}");
        let requests = text.lines().find(|line| line.contains("requests in"));
        let requests = requests.expect("it says how many").trim_start();
        assert!(!requests.starts_with("0 "), "{text}");
    }
}

#[test]
fn h2load_pipelines_in_http_1_1() {
    let arguments = ["--h1", "-n", "3000", "-c", "10", "-m", "16"];
    let Some(text) = printed("h2load", &arguments, "/hello") else {
        return;
    };
    let expected =
        "3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("status codes: 3000 2xx"), "{text}");
}
