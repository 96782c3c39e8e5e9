//! The system calls and the allocations of a unit, counted by strace and by valgrind's memcheck, as
//! the instructions are by callgrind: once with a number of units and once with twice as many.

use std::env;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::Result;

/// What a unit may make of each: what it does, and a little for lists that grow now and then.
///
/// The clients are in the same process, so two of the calls of an echo (one to send, one to
/// receive) are theirs, three of those of a request (one that finds nothing yet), and part of what
/// `tls_echo` allocates. A file in memory is looked at, and a response of the cache is put together anew, once a second of
/// the measure, however many requests that is.
const BOUNDS: [(&str, f64, f64); 21] = [
    ("call_soon", 0.02, 0.02),
    ("call_from_thread", 0.03, 0.02),
    ("timer_cancel", 0.01, 0.02),
    ("timer_fire", 0.01, 0.2),
    ("timer_fire_capturing", 0.01, 0.2),
    ("turn", 1.01, 0.01),
    ("echo_1", 5.02, 0.02),
    ("echo_50", 4.05, 0.02),
    ("echo_500", 4.02, 0.02),
    ("echo_32k", 5.02, 0.02),
    ("http_hello", 6.05, 0.05),
    ("http_hello_16_deep", 0.4, 0.05),
    ("http_browser_16_deep", 0.4, 0.05),
    ("http_file", 6.05, 0.1),
    ("http_cached", 6.05, 2.3),
    ("http_json", 6.05, 2.05),
    ("http_post", 6.05, 1.05),
    ("udp_1", 5.1, 0.02),
    ("udp_16", 4.2, 0.02),
    ("unix_datagrams", 5.1, 1.05),
    ("tls_echo", 5.05, 4.05),
];

/// The bounds of an operation: system calls, allocations.
pub fn bounds_of(name: &str) -> (f64, f64) {
    let found = BOUNDS.iter().find(|(known, ..)| *known == name);
    let (_, calls, allocations) = found.expect("each operation has its bounds");
    (*calls, *allocations)
}

/// System calls of a unit.
pub fn system_calls(name: &str, units: u64) -> Result<f64> {
    each(units, |units| {
        let log = env::temp_dir().join(format!("bench-exact-{}", std::process::id()));
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-c", "-o"]).arg(&log);
        let ended = run(&mut command, name, units);
        let text = std::fs::read_to_string(&log);
        // It is there if strace is.
        let _ = std::fs::remove_file(&log);
        ended?;
        let text = text?;
        let total = text
            .lines()
            .find(|line| line.trim_end().ends_with(" total"));
        let total = total.ok_or("strace gives no total")?;
        Ok(total
            .split_whitespace()
            .nth(3)
            .ok_or("strace has another table")?
            .parse()?)
    })
}

/// Allocations of a unit.
pub fn allocations(name: &str, units: u64) -> Result<f64> {
    each(units, |units| {
        let mut command = Command::new("valgrind");
        command.args([
            "--tool=memcheck",
            "--leak-check=no",
            "--undef-value-errors=no",
        ]);
        let text = run(&mut command, name, units)?;
        let usage = text
            .lines()
            .find_map(|line| line.split_once("total heap usage: "));
        let (_, usage) = usage.ok_or("valgrind gives no total")?;
        let count = usage.split(' ').next().unwrap_or_default();
        Ok(count.replace(',', "").parse()?)
    })
}

/// What a unit takes: the difference between so many and twice as many.
pub fn each(units: u64, count: impl Fn(u64) -> Result<f64>) -> Result<f64> {
    Ok((count(2 * units)? - count(units)?) / units as f64)
}

/// Nothing here takes a tenth of it: what waits for something that is lost is not to hold up the others.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs an operation of this program under another, and gives what that said on standard error.
pub fn run(command: &mut Command, name: &str, units: u64) -> Result<String> {
    let tool = command.get_program().to_owned();
    let mut child = command
        .arg(env::current_exe()?)
        .args([name, &units.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", tool.display()))?;
    let mut stderr = child.stderr.take().ok_or("it was piped")?;
    let (tell, said) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        // Nobody listens any more if it took too long.
        let _ = tell.send(stderr.read_to_end(&mut text).map(|_| text));
    });
    let Ok(text) = said.recv_timeout(PATIENCE) else {
        child.kill()?;
        child.wait()?;
        return Err(format!("{name} under {} hangs", tool.display()).into());
    };
    let status = child.wait()?;
    let text = String::from_utf8_lossy(&text?).into_owned();
    match status.success() {
        true => Ok(text),
        false => Err(format!("{name} under {}: {text}", tool.display()).into()),
    }
}
