//! The echo server in projects of their own, each built once from nothing: how many crates, how
//! long, how large.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bench_rounds::{Missing, Result, Row, Table};

/// How many of the projects are ours: what is missing of those is wrong.
const OURS: usize = 2;

/// A project: its title, its dependency, its program, and whose lock file says
/// which versions.
struct Project {
    title: &'static str,
    dependency: &'static str,
    program: &'static str,
    lock: &'static str,
}

/// Ours first.
const PROJECTS: [Project; 7] = [
    Project {
        title: "torsade, default features",
        dependency: "torsade = { path = \"ROOT\" }",
        program: "echo/src/bin/echo-torsade.rs",
        lock: "../Cargo.lock",
    },
    Project {
        title: "torsade, smallest set",
        dependency: "torsade = { path = \"ROOT\", default-features = false }",
        program: "echo/src/bin/echo-torsade.rs",
        lock: "../Cargo.lock",
    },
    Project {
        title: "tokio: rt, net, io-util, macros",
        dependency: "tokio = { version = \"1\", features = [\"rt\", \"net\", \"io-util\", \"macros\"] }",
        program: "echo-peers/src/bin/echo-tokio.rs",
        lock: "Cargo.lock",
    },
    Project {
        title: "tokio: full",
        dependency: "tokio = { version = \"1\", features = [\"full\"] }",
        program: "echo-peers/src/bin/echo-tokio.rs",
        lock: "Cargo.lock",
    },
    Project {
        title: "calloop",
        dependency: "calloop = \"0.14\"",
        program: "echo-peers/src/bin/echo-calloop.rs",
        lock: "Cargo.lock",
    },
    Project {
        title: "mio",
        dependency: "mio = { version = \"1\", features = [\"net\", \"os-poll\"] }",
        program: "echo-peers/src/bin/echo-mio.rs",
        lock: "Cargo.lock",
    },
    Project {
        title: "smol",
        dependency: "smol = \"2\"",
        program: "echo-peers/src/bin/echo-smol.rs",
        lock: "Cargo.lock",
    },
];

/// What a build was.
struct Built {
    crates: f64,
    /// Of processor time, and of waiting.
    seconds: (f64, f64),
    kib: f64,
}

pub fn measure() -> Result<()> {
    let built: Vec<Result<Built>> = PROJECTS.iter().map(build).collect();
    let columns: [(&str, fn(&Built) -> f64); 4] = [
        ("crates", |it| it.crates),
        ("s of CPU time", |it| it.seconds.0),
        ("s by the wall clock", |it| it.seconds.1),
        ("KiB of the program", |it| it.kib),
    ];
    for (column, of) in columns {
        let mut rows = Vec::new();
        for (index, (built, project)) in built.iter().zip(&PROJECTS).enumerate() {
            rows.push(Row::new(project.title, move || match built {
                Ok(built) => Ok(of(built)),
                Err(why) if index >= OURS && why.is::<Missing>() => Err(Missing::new(why).into()),
                Err(why) => Err(why.to_string().into()),
            }));
        }
        Table::new("build", column, column).run(1, &mut rows)?;
    }
    Ok(())
}

fn build(project: &Project) -> Result<Built> {
    let folder = Folder::new()?;
    let benches = crate::workspace();
    let root = fs::canonicalize(benches.join(".."))?;
    let dependency = project.dependency.replace("ROOT", &root.to_string_lossy());
    let manifest = format!(
        "[package]\nname = \"echo\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependency}\n\n\
         [profile.release]\nstrip = true\n\n[workspace]\n"
    );
    fs::write(folder.0.join("Cargo.toml"), manifest)?;
    fs::copy(benches.join(project.lock), folder.0.join("Cargo.lock"))?;
    fs::create_dir(folder.0.join("src"))?;
    let program = fs::read_to_string(benches.join(project.program))?;
    // The one thing that the servers have in common.
    let program = program.replace("echo_peers::buffer_size()", "64 * 1024 + 256");
    fs::write(folder.0.join("src/main.rs"), program)?;
    // What is not downloaded is not there; what is, and is not built, is wrong.
    let crates = crates(&folder.0).map_err(Missing::new)?;
    let (cpu, wall) = (children_ran()?, Instant::now());
    cargo(&folder.0, &["build", "--release", "--quiet"])?;
    let seconds = (children_ran()? - cpu, wall.elapsed().as_secs_f64());
    let size = fs::metadata(folder.0.join("target/release/echo"))?.len();
    Ok(Built {
        crates,
        seconds,
        kib: size as f64 / 1024.0,
    })
}

/// All that is compiled for it, itself apart.
fn crates(folder: &Path) -> Result<f64> {
    let tree = cargo(
        folder,
        &[
            "tree",
            "-e",
            "normal,build",
            "--prefix",
            "none",
            "--no-dedupe",
        ],
    )?;
    let names: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (proc-macro)"))
        .collect();
    Ok((names.len() - 1) as f64)
}

fn cargo(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("cargo")
        .args(arguments)
        .arg("--offline")
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("cargo says no").into())
}

/// Seconds of processor time of the children that have ended: proc(5), `stat`, in the ticks of
/// which Linux has a hundred a second.
fn children_ran() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(") ").ok_or("a process has a name")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = fields[13].parse::<f64>()? + fields[14].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// Where a project is, while this lives.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = env::temp_dir().join(format!("bench-build-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's folder for it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
