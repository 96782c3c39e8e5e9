//! The same promises, kept by the driver that waits the portable way.

use std::env;
use std::process::Command;

use crate::common::PORTABLE;

/// Runs all the other tests of this binary once more, with that driver.
#[test]
fn every_promise_holds_on_the_portable_wait() {
    if env::var_os(PORTABLE).is_some() {
        return;
    }
    let tests = env::current_exe().expect("a running program has a path");
    let output = Command::new(tests)
        .env(PORTABLE, "1")
        .args(["--skip", "every_promise_holds_on_the_portable_wait"])
        .output()
        .expect("it starts, for it runs now");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("test result: ok."),
        "{said}"
    );
    assert!(!said.contains(" 0 passed"), "{said}");
}
