//! The one command: builds everything, runs the tables, and writes them down.
//!
//! ```sh
//! cd benches
//! cargo run --release -p bench -- all                  # every table
//! cargo run --release -p bench -- echo timers          # these
//! cargo run --release -p bench -- all --rounds 20 --write
//! ```
//!
//! - `--rounds N`: how often each contender is run, turn about with the others; 5 without it.
//! - `--write`: puts the tables into `docs/performance.md`, each between its two marks, and the
//!   whole of what was measured and the plots into `docs/figures/`; not those in which something
//!   was wrong.
//! - `--no-build`: the programs are there already. Not together with `--write`: a table names the
//!   commit of its programs.
//!
//! Whatever is asked for, the results are in `target/bench-results/` afterwards: `NAME.jsonl`
//! with every cost of every round, `NAME.md`, `NAME.txt`, and the plots. Peers that are not
//! installed are listed as missing; one that does its work wrong fails the run, at its end.

mod builds;
mod machine;
mod markdown;
mod plot;
mod programs;
mod tables;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use bench_rounds::{Outcome, RESULTS, Result, beside, exit_code};

use self::machine::Run;
use self::tables::{TABLES, Table};

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

/// What the command is told when it is to measure builds.
const BUILDS: &str = "measure-builds";

fn main() -> ExitCode {
    let outcome = match env::args().nth(1).as_deref() {
        Some(BUILDS) => return exit_code(builds::measure()),
        _ => run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Orders {
    tables: Vec<&'static Table>,
    rounds: usize,
    write: bool,
    build: bool,
}

fn orders() -> Result<Orders> {
    let mut orders = Orders {
        tables: Vec::new(),
        rounds: ROUNDS,
        write: false,
        build: true,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "all" => orders.tables.extend(&TABLES),
            "--rounds" => orders.rounds = words.next().ok_or("how many rounds?")?.parse()?,
            "--write" => orders.write = true,
            "--no-build" => orders.build = false,
            name => match TABLES.iter().find(|table| table.name == name) {
                Some(table) => orders.tables.push(table),
                None => return Err(usage().into()),
            },
        }
    }
    if orders.tables.is_empty() {
        return Err(usage().into());
    }
    if orders.write && !orders.build {
        return Err("--write wants what it measures built: without --no-build".into());
    }
    Ok(orders)
}

fn usage() -> String {
    let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    format!(
        "usage: bench all|TABLE... [--rounds N] [--write] [--no-build]\ntables: {}",
        names.join(" ")
    )
}

fn run() -> Result<()> {
    let orders = orders()?;
    if orders.build {
        programs::build()?;
    }
    let results = results_folder()?;
    let mut wrong = Vec::new();
    for table in &orders.tables {
        if let Err(error) = measure(table, &orders, &results) {
            wrong.push(format!("{}: {error}", table.name));
        }
    }
    println!("written to {}", results.display());
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

/// One table: run, gathered, written down. An error if something in it was wrong.
fn measure(table: &Table, orders: &Orders, results: &Path) -> Result<()> {
    println!("== {}: {}\n", table.name, table.heading);
    let file = results.join(format!("{}.jsonl", table.name));
    if file.exists() {
        fs::remove_file(&file)?;
    }
    let begin = Run::begin(orders.rounds)?;
    let started = Instant::now();
    let (right, text) = match table.program {
        Some((program, arguments)) => run_program(program, arguments, orders.rounds, &file)?,
        None => (built(&file)?, String::new()),
    };
    let run = begin.end(table.name, started.elapsed())?;
    let outcomes = read(&file)?;
    let plots = plot::of(&outcomes);
    for (name, svg) in &plots {
        fs::write(results.join(format!("{name}.svg")), svg)?;
    }
    let plain = if outcomes.is_empty() {
        text
    } else {
        outcomes.iter().map(ToString::to_string).collect()
    };
    let plain = format!("{run}\n\n{plain}");
    let page = markdown::page(table, &outcomes, &plots, &run, &plain);
    fs::write(results.join(format!("{}.txt", table.name)), &plain)?;
    fs::write(results.join(format!("{}.md", table.name)), &page)?;
    println!("{run}\n");
    // A table that lacks what went wrong is not written over one that does not.
    right?;
    if orders.write {
        write_down(table, &page, &plain, &plots)?;
    }
    Ok(())
}

/// Runs the program of a table, and gives whether it was right, and what it said if it hands
/// nothing on.
fn run_program(
    program: &str,
    arguments: &[&str],
    rounds: usize,
    file: &Path,
) -> Result<(Result<()>, String)> {
    let mut command = Command::new(beside(program)?);
    command.args(arguments).env(RESULTS, file);
    if program == "bench-exact" {
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        return Ok((ended(program, output.status.success()), text));
    }
    let status = command.arg(rounds.to_string()).status()?;
    Ok((ended(program, status.success()), String::new()))
}

/// The table that this command measures itself: as a program, too, because it is told by its
/// environment where its results go.
fn built(file: &Path) -> Result<Result<()>> {
    let status = Command::new(env::current_exe()?)
        .arg(BUILDS)
        .env(RESULTS, file)
        .status()?;
    Ok(ended(BUILDS, status.success()))
}

fn ended(program: &str, well: bool) -> Result<()> {
    match well {
        true => Ok(()),
        false => Err(format!("{program} failed: see what it says above").into()),
    }
}

fn read(file: &Path) -> Result<Vec<Outcome>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(file)?;
    let outcomes = text.lines().map(serde_json::from_str);
    Ok(outcomes.collect::<std::result::Result<_, _>>()?)
}

/// The folder `benches`.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("")
}

/// Beside the programs: `target/bench-results`.
fn results_folder() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .ok_or("the program is in a folder")?;
    let folder = target.join("bench-results");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn write_down(table: &Table, page: &str, plain: &str, plots: &[(String, String)]) -> Result<()> {
    let docs = workspace().join("../docs");
    let figures = docs.join("figures");
    fs::create_dir_all(&figures)?;
    for (name, svg) in plots {
        fs::write(figures.join(format!("{name}.svg")), svg)?;
    }
    fs::write(figures.join(format!("{}.txt", table.name)), plain)?;
    let document = docs.join("performance.md");
    let text = fs::read_to_string(&document)?;
    fs::write(document, markdown::with(&text, table.name, page)?)?;
    Ok(())
}
