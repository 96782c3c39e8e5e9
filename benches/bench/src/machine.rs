//! Where, when and of what a table was taken.

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use bench_rounds::Result;

/// A run that has begun.
pub struct Begun {
    rounds: usize,
    commit: String,
    load: String,
}

/// A run that has ended: a line below its table.
pub struct Run {
    name: &'static str,
    rounds: usize,
    took: Duration,
    date: String,
    commit: String,
    rustc: String,
    kernel: String,
    processor: String,
    load: (String, String),
}

impl Run {
    pub fn begin(rounds: usize) -> Result<Begun> {
        Ok(Begun {
            rounds,
            commit: commit(),
            load: load()?,
        })
    }
}

impl Begun {
    pub fn end(self, name: &'static str, took: Duration) -> Result<Run> {
        Ok(Run {
            name,
            rounds: self.rounds,
            took,
            date: said("date", &["-u", "+%-d %B %Y, %H:%M UTC"]),
            commit: self.commit,
            rustc: said("rustc", &["--version"])
                .split(" (")
                .next()
                .unwrap_or_default()
                .to_owned(),
            kernel: said("uname", &["-sr"]),
            processor: processor()?,
            load: (self.load, load()?),
        })
    }
}

/// What the programs are built of: asked when they have just been.
fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let changed = said(
        "git",
        &[
            "-C",
            folder,
            "status",
            "--porcelain",
            "--untracked-files=no",
        ],
    );
    let mut commit = said("git", &["-C", folder, "rev-parse", "--short", "HEAD"]);
    if !changed.is_empty() && !only_figures(&changed) {
        commit.push_str(" with changes");
    }
    commit
}

/// What this command writes itself is no change of what is measured.
fn only_figures(changed: &str) -> bool {
    changed
        .lines()
        .all(|line| line.contains("docs/performance.md") || line.contains("docs/figures/"))
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`bench {} --rounds {}`, {}, commit {}, {}, {}, {}, load {} before and {} after; {} s",
            self.name,
            self.rounds,
            self.date,
            self.commit,
            self.rustc,
            self.kernel,
            self.processor,
            self.load.0,
            self.load.1,
            self.took.as_secs(),
        )
    }
}

/// Of the last minute.
fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let count = text
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name
        .unwrap_or("processor")
        .trim_start_matches([' ', '\t', ':']);
    Ok(format!("{count} cores of {name}"))
}

/// What a program prints; nothing if it is not there.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
