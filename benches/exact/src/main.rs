//! What an operation costs in instructions, system calls and allocations, counted.
//!
//! `bench-exact` runs each operation under valgrind's callgrind, once with a number of units
//! and once with twice as many: the difference is what a unit costs, without the start. The
//! same program gives the same number each time, to a fraction of a percent, whatever else
//! the machine does; so a number can be a bound, which time cannot. The same under strace and
//! under memcheck gives the system calls and the allocations.
//!
//! `bench-exact check` fails, and marks it with `!`, where a unit costs more than its bounds. `bench-exact OPERATION`
//! measures one.

mod counted;
mod http;
mod tls;
mod udp;
mod work;

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};

use work::OPERATIONS;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

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
    match all(words.contains(&"check"), &words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what each operation costs. Whether all are within their bounds, or `check` is false.
fn all(check: bool, only: &[&str]) -> Result<bool> {
    let mut good = true;
    println!(
        "{:24} {:>18} {:>18} {:>18}",
        "a unit, and its bound", "instructions", "system calls", "allocations"
    );
    for (name, _) in OPERATIONS {
        if only.iter().any(|word| *word != "check") && !only.contains(&name) {
            continue;
        }
        let (units, bound) = measure_of(name);
        let (calls_bound, allocations_bound) = counted::bounds_of(name);
        let few = (units / 10).max(1_000);
        let costs = [
            (
                counted::each(units, |units| instructions(name, units))?,
                bound,
                0,
            ),
            (counted::system_calls(name, few)?, calls_bound, 2),
            (counted::allocations(name, few)?, allocations_bound, 2),
        ];
        print!("{name:24}");
        for (cost, bound, digits) in costs {
            let too_much = check && cost > bound;
            good &= !too_much;
            let mark = if too_much { '!' } else { ' ' };
            // Growing lists may have grown before: then it is a little below nothing.
            print!(" {:>9.digits$}{mark} {bound:>7.digits$}", cost.max(0.0));
        }
        println!();
    }
    Ok(good)
}

/// How many units make the cost of one repeat, and what it may be: a tenth more than it is.
fn measure_of(name: &str) -> (u64, f64) {
    match name {
        "call_soon" => (20_000, 145.0),
        "call_from_thread" => (20_000, 195.0),
        "timer_cancel" => (20_000, 490.0),
        "timer_fire" => (20_000, 1190.0),
        "timer_fire_capturing" => (20_000, 1205.0),
        "turn" => (10_000, 295.0),
        "echo_1" => (5_000, 780.0),
        "echo_50" => (20_000, 560.0),
        "echo_500" => (40_000, 555.0),
        "echo_32k" => (2_000, 810.0),
        "http_hello" => (4_000, 3625.0),
        "http_hello_16_deep" => (16_000, 1445.0),
        "http_browser_16_deep" => (8_000, 5540.0),
        "http_json" => (4_000, 4360.0),
        "http_post" => (4_000, 5780.0),
        "http_file" => (4_000, 5_010.0),
        "http_cached" => (4_000, 6_120.0),
        "udp_1" => (5_000, 915.0),
        "udp_16" => (20_000, 565.0),
        "unix_datagrams" => (5_000, 1_565.0),
        _ => (2_000, 10_925.0),
    }
}

/// How many instructions the process takes, by callgrind's count.
fn instructions(name: &str, units: u64) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    let text = counted::run(&mut command, name, units)?;
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : ").map(|(_, number)| number));
    Ok(collected
        .ok_or("valgrind gives no number")?
        .trim()
        .parse()?)
}
