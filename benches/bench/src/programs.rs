//! How the programs are built: each with the features that its package asks for.

use std::process::Command;

use bench_rounds::Result;

/// What is built in one go. Cargo gives a crate all the features that anybody in a build asks for, and features cost:
/// with turmoil's wishes tokio watches for signals in every program, with calloop's `tracing` asks `log` as well. So
/// together are those that want the same of tokio.
const GROUPS: [&[&str]; 7] = [
    &["echo-peers"],
    &[
        "echo-bench",
        "forward-bench",
        "load",
        "reverse-proxy-bench",
        "tls-bench",
        "websocket-bench",
    ],
    &["bench-loop", "http-client-bench"],
    &["http-bench"],
    &["bench-simulation"],
    &["bench-deferred"],
    // As CI builds it that holds its figures to bounds.
    &["bench-exact"],
];

/// Everything, in the way in which it is measured.
pub fn build() -> Result<()> {
    for group in GROUPS {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--release", "--manifest-path"])
            .arg(crate::workspace().join("Cargo.toml"));
        for package in group {
            cargo.args(["--package", package]);
        }
        crate::ended("cargo build", cargo.status()?.success())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_package_that_others_run_is_built_once() {
        let mut packages = Vec::new();
        for entry in fs::read_dir(crate::workspace()).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            let Ok(text) = fs::read_to_string(&manifest) else {
                continue;
            };
            let name = text.lines().find_map(|line| line.strip_prefix("name = \""));
            packages.push(name.unwrap().trim_end_matches('"').to_owned());
        }
        // The one that runs, and a library.
        packages.retain(|name| !["bench", "bench-rounds"].contains(&&**name));
        packages.sort();
        let mut built = GROUPS.concat();
        built.sort_unstable();
        assert_eq!(built, packages);
    }
}
