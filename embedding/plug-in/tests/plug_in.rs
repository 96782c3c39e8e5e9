//! A plug-in that is loaded at run time has statics and thread-locals of its own. The loop
//! needs none of them, but signals belong to the process.

use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::process::Signal;

/// Where Cargo has put the plug-in: beside this program.
fn plug_in() -> PathBuf {
    let test = env::current_exe().expect("this is a program");
    test.with_file_name("libtorsade_plug_in.so")
}

/// Runs the host with so many plug-ins, each from a file of its own: one file is loaded once.
fn host(scenario: &str, plug_ins: usize) -> Output {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(scenario);
    fs::create_dir_all(&directory).expect("the directory is ours");
    let copies = (0..plug_ins).map(|number| {
        let copy = directory.join(format!("plug_in_{number}.so"));
        fs::copy(plug_in(), &copy).expect("Cargo has built the plug-in");
        copy
    });
    Command::new(env!("CARGO_BIN_EXE_host"))
        .arg(scenario)
        .args(copies)
        .output()
        .expect("Cargo has built the host")
}

#[track_caller]
fn check_printed(output: &Output, expected: &str) {
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_copy_in_a_process_hears_of_a_signal() {
    let output = host("all_hear", 3);
    check_printed(&output, "1\n1\n1\n1\n2\n");
    assert!(output.status.success());
}

#[test]
fn signal_ends_the_program_as_before_when_copies_have_left_in_the_order_of_their_coming() {
    let output = host("first_leaves_first", 3);
    check_printed(&output, "all have left\n");
    assert_eq!(output.status.signal(), Some(Signal::USR1.as_raw()));
}

#[test]
fn copy_that_was_covered_may_come_back_and_go_again() {
    let output = host("comes_back", 1);
    check_printed(&output, "1 1\n2\n");
    assert_eq!(output.status.signal(), Some(Signal::USR1.as_raw()));
}

#[test]
fn plug_in_uses_the_loop_of_its_host() {
    let output = host("host_loop", 2);
    check_printed(&output, "2\n");
    assert!(output.status.success());
}
