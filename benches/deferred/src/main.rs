//! Deferreds beside the futures that one would use instead.
//!
//! `bench-deferred [ROUNDS]` runs each contender in a process of its own, in rounds, turn
//! about: the CPU time of a link. Twisted, asyncio and Node are there for the reader's orientation.
//!
//! The work is the same for all: a result that is to come, links behind it that
//! each add one and are type-erased (a chain's length is not part of its type), fired
//! from outside, the sum taken and compared, everything dropped.

#![expect(clippy::print_stdout, reason = "the table is what this is for")]

mod work;

use std::env;
use std::process::{Command, ExitCode};

use bench_rounds::{Missing, Result, Row, Table, measured, own_peak_memory, python, source};

use crate::work::{CONTENDERS, LINKS};

/// Unless an argument says otherwise.
const ROUNDS: usize = 9;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["one", contender, links] => one(contender, links),
        [] => tables(ROUNDS),
        [rounds] => rounds.parse().map_err(Into::into).and_then(tables),
        _ => Err("usage: bench-deferred [ROUNDS]".into()),
    };
    bench_rounds::exit_code(outcome)
}

fn one(contender: &str, links: &str) -> Result<()> {
    let found = CONTENDERS.iter().find(|it| it.name == contender);
    let contender = found.ok_or("there is no such contender")?;
    println!(
        "{} {}",
        work::measure(contender, links.parse()?),
        own_peak_memory()
    );
    Ok(())
}

fn tables(rounds: usize) -> Result<()> {
    let own = &env::current_exe()?;
    for links in LINKS {
        let text = &links.to_string();
        let mut rows = Vec::new();
        for it in &CONTENDERS {
            rows.push(Row::new(it.title, move || {
                measured(Command::new(own).args(["one", it.name, text]))
            }));
        }
        rows.push(Row::new("promises on Node", || {
            measured(&mut script(Command::new("node"), "node_chain.mjs", text))
        }));
        let asyncio = Row::new("asyncio: a task per link", || {
            measured(&mut script(python("asyncio")?, "asyncio_chain.py", text))
        });
        rows.push(asyncio.seldom(true));
        let twisted = Row::new("Twisted on CPython", || {
            if links > 10_000 {
                // It takes each callback from the front of a list.
                return Err(Missing::new("it is quadratic: minutes").into());
            }
            measured(&mut script(python("twisted")?, "twisted_chain.py", text))
        });
        rows.push(twisted.seldom(true));
        let column = match links {
            1_000_000 => "a million links".to_owned(),
            links if links >= 1_000 => format!("{},000 links", links / 1000),
            links => format!("{links} links"),
        };
        Table::new("deferred", column, "ns of CPU time a link")
            .point("deferred", "links", links as f64)
            .run(rounds, &mut rows)?;
    }
    Ok(())
}

fn script(mut command: Command, file: &str, links: &str) -> Command {
    let file = source(env!("CARGO_MANIFEST_DIR"), file);
    command.arg(file).arg(links);
    command
}
