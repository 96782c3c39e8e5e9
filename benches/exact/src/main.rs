//! What an operation costs in instructions, counted.
//!
//! `bench-exact` runs each operation under valgrind's callgrind, once with a number of units
//! and once with twice as many: the difference is what a unit costs, without the start. The
//! same program gives the same number each time, to a fraction of a percent, whatever else
//! the machine does; so a number can be a bound, which time cannot.
//!
//! `bench-exact check` fails where a unit costs more than its bound.

mod http;
mod work;

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};

use work::OPERATIONS;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [name, count] = words[..]
        && let Some(operation) = OPERATIONS.iter().find(|operation| operation.0 == name)
        && let Ok(count) = count.parse()
    {
        (operation.1)(count);
        return ExitCode::SUCCESS;
    }
    match all(words.contains(&"check")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what each operation costs. Whether all are within their bounds, or `check` is false.
fn all(check: bool) -> Result<bool, Box<dyn Error>> {
    let mut good = true;
    for (name, _) in OPERATIONS {
        let (units, bound) = measure_of(name);
        let cost = (instructions(name, 2 * units)? - instructions(name, units)?) / units as f64;
        let too_much = check && cost > bound;
        good &= !too_much;
        println!(
            "{name:24} {cost:8.0} instructions, bound {bound:5.0}{}",
            if too_much { "  TOO MUCH" } else { "" }
        );
    }
    Ok(good)
}

/// How many units make the cost of one repeat, and what it may be: a tenth more than it is.
fn measure_of(name: &str) -> (u64, f64) {
    match name {
        "call_soon" => (20_000, 145.0),
        "call_from_thread" => (20_000, 345.0),
        "timer_cancel" => (20_000, 495.0),
        "timer_fire" => (20_000, 1190.0),
        "timer_fire_capturing" => (20_000, 1650.0),
        "turn" => (10_000, 570.0),
        "echo_1" => (5_000, 1165.0),
        "echo_50" => (20_000, 745.0),
        "echo_500" => (40_000, 740.0),
        "echo_64k" => (2_000, 1085.0),
        "http_hello" => (4_000, 4030.0),
        "http_hello_16_deep" => (16_000, 1630.0),
        "http_browser_16_deep" => (8_000, 6060.0),
        "http_json" => (4_000, 4780.0),
        _ => (4_000, 5800.0),
    }
}

/// How many instructions the process takes, by callgrind's count.
fn instructions(name: &str, units: u64) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([name, &units.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : ").map(|(_, number)| number));
    match collected {
        Some(number) if output.status.success() => Ok(number.trim().parse()?),
        _ => Err(format!("{name}: {text}").into()),
    }
}
