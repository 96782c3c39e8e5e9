//! libuv, as a program in C that is compiled on the way.

use std::env;
use std::process::Command;

/// Compiles the program, and gives where it is; or says what is missing.
pub fn program() -> Result<String, String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/libuv.c");
    let place = env::current_exe()
        .map_err(|error| error.to_string())?
        .with_file_name("bench-loop-libuv");
    let output = Command::new("cc")
        .args(["-O3", "-Wall", "-Werror", "-o"])
        .arg(&place)
        .args([source, "-luv"])
        .output()
        .map_err(|error| format!("cc: {error}"))?;
    if output.status.success() {
        return Ok(place.to_string_lossy().into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("cc says no").to_owned())
}
