//! Programs of this workspace, and how those that are not in Rust come to be.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Cost, Missing, Result};

/// A program of this workspace: it stands beside the one that runs.
///
/// # Errors
///
/// If the system does not say where that is.
pub fn beside(name: &str) -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name(name))
}

/// A file of a peer, by the folder of its package: `source(env!("CARGO_MANIFEST_DIR"), "peers/x.c")`.
#[must_use]
pub fn source(package: &str, file: &str) -> PathBuf {
    Path::new(package).join(file)
}

/// Compiles a program in C that uses libuv.
///
/// # Errors
///
/// [`Missing`] if there is no compiler, or no libuv. What the compiler says of our program.
pub fn compile_c(name: &str, source: &Path) -> Result<PathBuf> {
    let program = beside(name)?;
    let mut command = Command::new("cc");
    command
        .args(["-O3", "-Wall", "-Werror", "-o"])
        .arg(&program);
    compiled(command.arg(source).arg("-luv"), source, program).map_err(|why| {
        // Not ours to fail for: another program that asks for it has no success either.
        match why.is::<Missing>() || has_libuv() {
            true => why,
            false => Missing::new(why).into(),
        }
    })
}

/// Whether a program that does nothing can be compiled with it.
fn has_libuv() -> bool {
    let mut command = Command::new("cc");
    command
        .args([
            "-include",
            "uv.h",
            "-x",
            "c",
            "-",
            "-o",
            "/dev/null",
            "-luv",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut compiles = || -> Result<bool> {
        let mut compiler = command.spawn()?;
        let mut program = compiler.stdin.take().ok_or("its input was piped")?;
        program.write_all(b"int main(void) { return 0; }")?;
        drop(program);
        Ok(compiler.wait()?.success())
    };
    compiles().unwrap_or(false)
}

/// Compiles a program in Go.
///
/// # Errors
///
/// [`Missing`] if there is no compiler. What it says of our program.
pub fn compile_go(name: &str, source: &Path) -> Result<PathBuf> {
    let program = beside(name)?;
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(&program);
    compiled(command.arg(source), source, program)
}

/// Unless it is there and newer than its source.
fn compiled(command: &mut Command, source: &Path, program: PathBuf) -> Result<PathBuf> {
    let written = |path: &Path| fs::metadata(path).and_then(|it| it.modified());
    if written(&program).is_ok_and(|at| written(source).is_ok_and(|source| source < at)) {
        return Ok(program);
    }
    let name = command.get_program().to_owned();
    let output = command
        .output()
        .map_err(|error| Missing(format!("{}: {error}", name.display())))?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("the compiler says no");
    Err(first.into())
}

/// Python, if it has the module.
///
/// # Errors
///
/// [`Missing`] if it has not.
pub fn python(module: &str) -> Result<Command> {
    let output = Command::new("python3")
        .args(["-c", &format!("import {module}")])
        .output()
        .map_err(|error| Missing(format!("python3: {error}")))?;
    if !output.status.success() {
        return Err(Missing(format!("python3 has no {module}")).into());
    }
    Ok(Command::new("python3"))
}

/// Nothing that is measured takes a tenth of this: one that hangs is not to hold up the others.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a contender that measures itself: it prints what a unit cost, and its peak memory in
/// KiB if it knows.
///
/// # Errors
///
/// What it says on standard error if it fails, or that it has not come to an end in two minutes; [`Missing`] if
/// it says that it is `missing: ...`.
pub fn measured(command: &mut Command) -> Result<Cost> {
    let name = command.get_program().to_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Missing(format!("{}: {error}", name.display())))?;
    let process = Pid::from_child(&child);
    let (ended, end) = mpsc::channel::<()>();
    let watching = thread::spawn(move || {
        let hangs = end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        // It fails only for a process that has ended.
        hangs && kill_process(process, Signal::KILL).is_ok()
    });
    let output = child.wait_with_output()?;
    drop(ended);
    if watching.join().unwrap_or_default() {
        return Err(format!("it did not end in {PATIENCE:?}").into());
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        return Err(match said.strip_prefix("missing: ") {
            Some(why) => Missing::new(why).into(),
            None => said.into(),
        });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let cost = words.next().unwrap_or_default().parse();
    Ok(Cost {
        cost: cost.map_err(|_| format!("it says {text:?}, which is no number"))?,
        memory: words.next().and_then(|word| word.parse().ok()),
    })
}

/// What this process had in memory at its peak, in KiB.
///
/// # Panics
///
/// Without proc(5).
#[must_use]
pub fn own_peak_memory() -> u64 {
    memory_of("self", "VmHWM:").expect("proc(5) is there")
}

/// A line of a process's status, in KiB.
pub(crate) fn memory_of(process: &str, line: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let words = found.ok_or("a process has memory")?;
    Ok(words.trim().trim_end_matches(" kB").parse()?)
}
