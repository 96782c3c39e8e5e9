//! Deferreds beside the futures that one would use instead.
//!
//! `cargo run --release -p bench-deferred` runs each contender in a process of its
//! own, in rounds, turn about, and prints the medians of the CPU time per link.
//! With `--orientation`, Twisted on CPython and promises on Node as well, where they
//! are installed; these are there for the reader's orientation and decide nothing.
//!
//! The work is the same for all: a result that is to come, links behind it that
//! each add one and are type-erased (a chain's length is not part of its type), fired
//! from outside, the sum taken, everything dropped.

#![expect(clippy::print_stdout, reason = "the table is what this is for")]

mod work;

use std::env;
use std::process::{Command, ExitCode};

use crate::work::{CONTENDERS, Shape};

const ROUNDS: usize = 9;

/// The peers, from the first, whose chains are polled by recursion.
const NEED_STACK: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["one", contender, shape] => {
            let (Some(contender), Some(shape)) = (
                CONTENDERS.iter().find(|c| c.name == *contender),
                Shape::named(shape),
            ) else {
                return ExitCode::FAILURE;
            };
            println!("{}", work::measure(contender, shape));
            ExitCode::SUCCESS
        }
        [] => table(false),
        ["--orientation"] => table(true),
        _ => ExitCode::FAILURE,
    }
}

fn table(with_orientation: bool) -> ExitCode {
    let Ok(own) = env::current_exe() else {
        return ExitCode::FAILURE;
    };
    let own = own.to_string_lossy().into_owned();
    let folder = env!("CARGO_MANIFEST_DIR");
    let mut rows: Vec<(String, Vec<String>)> = CONTENDERS
        .iter()
        .map(|c| {
            (
                c.title.to_string(),
                vec![own.clone(), "one".into(), c.name.into()],
            )
        })
        .collect();
    if with_orientation {
        rows.push((
            "Twisted on CPython".into(),
            vec!["python3".into(), format!("{folder}/twisted_chain.py")],
        ));
        rows.push((
            "promises on Node".into(),
            vec!["node".into(), format!("{folder}/node_chain.mjs")],
        ));
    }
    println!("CPU time in ns per link (user and system), median of {ROUNDS} rounds, turn about\n");
    for shape in [Shape::Short, Shape::Long] {
        let mut times: Vec<Vec<f64>> = rows.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (row, times) in rows.iter().zip(&mut times) {
                times.extend(run(&row.1, shape));
            }
        }
        println!("{}", shape.title());
        let mut medians = Vec::new();
        for ((title, _), times) in rows.iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            match times.get(times.len() / 2) {
                Some(median) => {
                    println!(
                        "  {title:44} {median:8.1}   ({:.1} to {:.1})",
                        times[0],
                        times[times.len() - 1]
                    );
                    medians.push(*median);
                }
                None => println!("  {title:44} not to be had here"),
            }
        }
        if let [ours, peers @ ..] = &medians[..medians.len().min(CONTENDERS.len())] {
            let cheapest = |peers: &[f64]| peers.iter().copied().fold(f64::INFINITY, f64::min);
            println!("  ours to the cheapest peer: {:.2}", ours / cheapest(peers));
            let on_any_stack = &peers[peers.len().min(NEED_STACK)..];
            println!(
                "  ours to the cheapest that any stack bears: {:.2}\n",
                ours / cheapest(on_any_stack)
            );
        }
    }
    ExitCode::SUCCESS
}

fn run(command: &[String], shape: Shape) -> Option<f64> {
    let output = Command::new(&command[0])
        .args(&command[1..])
        .arg(shape.name())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
