//! Programs under a tracer: idle ones make no system call, and interrupted ones lose nothing.
//!
//! The programs are tests of this binary, in a process of their own.

use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use torsade_reactor::{Address, Signal};

use crate::common::{End, Log, PORTABLE, reactor};

/// Set in a second process of this binary that is to be idle.
const IDLE: &str = "TORSADE_TEST_IDLE";

/// How many seconds to listen for system calls; 1 unless this says otherwise.
const IDLE_SECONDS: &str = "TORSADE_TEST_IDLE_SECONDS";

/// This binary under a tracer, or `None` with a loud message. The portable way to wait makes
/// other calls, and is not traced.
pub(crate) fn traced(options: &[&str], log: &tempfile::TempPath) -> Option<Command> {
    if env::var_os(PORTABLE).is_some() {
        return None;
    }
    if Command::new("strace").arg("--version").output().is_err() {
        assert!(
            env::var_os("TORSADE_REQUIRE_TOOLS").is_none_or(|value| value != "1"),
            "strace is not installed"
        );
        let _ = writeln!(io::stderr(), "SKIPPED: strace is not installed");
        return None;
    }
    let mut command = Command::new("strace");
    command
        .args(["-f", "-q", "-e", "signal=none", "-o"])
        .arg::<&std::path::Path>(log)
        .args(options)
        .arg(env::current_exe().expect("a running program has a path"));
    Some(command)
}

pub(crate) fn log_file() -> tempfile::TempPath {
    let log = tempfile::NamedTempFile::new();
    log.expect("there is room").into_temp_path()
}

/// The program of the next test. As a test of this process there is nothing to do.
#[test]
fn a_second_process_is_idle_until_its_input_ends() {
    if env::var_os(IDLE).is_none() {
        return;
    }
    let (reactor, log) = (reactor(), Log::default());
    let name = move |_: &Address| End::new("idle", &log);
    let port = reactor.listen_tcp("127.0.0.1:0", name.clone()).unwrap();
    let transports = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..10 {
        let made = reactor.connect_tcp(port.address(), name.clone());
        let made = reactor.run_until(made).unwrap();
        transports.borrow_mut().push(made);
    }
    reactor.call_later(Duration::from_secs(3600), || ());
    let _watcher = reactor.on_signal(Signal::USR1, |_| ()).unwrap();
    let remote = reactor.remote();
    let holder = thread::spawn(move || {
        // It keeps the remote, and waits for something else.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        remote.stop();
    });
    // When all is settled, from inside the loop that is about to wait.
    let say = reactor.clone();
    reactor.call_later(Duration::from_millis(50), move || {
        say.call_soon(|| writeln!(io::stdout(), "\nidle").expect("somebody reads"));
    });
    reactor.run().unwrap();
    holder.join().unwrap();
}

#[test]
fn idle_reactor_with_everything_that_can_wait_makes_no_system_call() {
    let log = log_file();
    let Some(mut program) = traced(&[], &log) else {
        return;
    };
    let mut program = program
        .env(IDLE, "1")
        .args([
            "--exact",
            "traced::a_second_process_is_idle_until_its_input_ends",
        ])
        .arg("--nocapture")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it is installed");
    let mut lines = BufReader::new(program.stdout.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "idle")));
    let before = waiting(&log);
    let seconds = env::var(IDLE_SECONDS)
        .ok()
        .and_then(|text| text.parse().ok());
    // Nothing is asserted of how long it lasts, only that nothing happens in it.
    let (_keeps_open, never) = mpsc::channel::<()>();
    let silence = Duration::from_secs(seconds.unwrap_or(1));
    assert!(never.recv_timeout(silence).is_err());
    let after = fs::read_to_string(&log).expect("the tracer writes text");
    let (_, calls) = after.split_at(before.len());
    assert_eq!(calls, "", "an idle reactor made system calls");
    drop(program.stdin.take());
    lines.for_each(drop);
    assert!(program.wait().expect("it is ours").success());
}

/// What the log says once the loop waits again.
fn waiting(log: &tempfile::TempPath) -> String {
    loop {
        let text = fs::read_to_string(log).expect("the tracer writes text");
        // A call that has not returned has no end of line yet, or one that says so.
        let last = text.lines().last().unwrap_or_default();
        if last.contains("epoll_pwait") && !last.contains(" = ") {
            return text;
        }
        thread::yield_now();
    }
}

/// Runs other tests of this binary with every third of these calls interrupted.
fn check_interrupted(calls: &str, tests: &[&str]) {
    let log = log_file();
    // Every third: with every other, one of two reactors that wait in turn would never wait.
    let inject = format!("inject={calls}:error=EINTR:when=1+3");
    let trace = format!("trace={calls}");
    let Some(mut program) = traced(&["-e", &trace, "-e", &inject], &log) else {
        return;
    };
    let output = program
        .args(tests)
        .args(SKIPPED)
        .output()
        .expect("it is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("test result: ok.") && !said.contains(" 0 passed"),
        "{said}"
    );
}

/// Tests that make such calls of their own and take no interruption, or count turns.
const SKIPPED: [&str; 10] = [
    "--skip",
    "the_places_of_a_turn",
    "--skip",
    "a_timer_below_a_millisecond",
    "--skip",
    "urgent_data",
    "--skip",
    "everything_accepted_before",
    "--skip",
    "signals_come_after_the_wait",
];

const WAITS: &str = "epoll_wait,epoll_pwait,epoll_pwait2,poll,ppoll";

#[test]
fn timers_and_calls_from_threads_are_kept_though_every_third_wait_is_interrupted() {
    let tests = [
        "ordering::",
        "remote::",
        "channel::",
        "embedding::",
        "running::",
        "boot_clock::",
        "futures::",
        "hooks::",
        "signals::",
        "threads::",
    ];
    check_interrupted(WAITS, &tests);
}

#[test]
fn calls_from_threads_come_though_every_third_wake_up_is_interrupted() {
    check_interrupted("write", &["remote::", "channel::", "embedding::"]);
}

#[test]
fn connections_keep_their_promises_though_every_third_call_of_theirs_is_interrupted() {
    let calls = "accept4,connect,recvfrom,sendto,sendmsg";
    check_interrupted(calls, &["transport::", "endings::"]);
}
