//! From exec to listening: what one waits, and what the processor works.

use std::time::Instant;

use bench_rounds::{Cost, Result, Row, Server, Table};

use crate::servers::STREAMS;

pub fn measure(rounds: usize) -> Result<()> {
    let mut rows = Vec::new();
    for contender in &STREAMS {
        rows.push(Row::new(contender.title, || {
            let server = contender.start()?;
            Ok(Cost {
                cost: server.ran()? as f64 / 1e6,
                memory: Some(server.peak_memory()?),
            })
        }));
    }
    Table::new("startup", "CPU time", "ms from exec to listening").run(rounds, &mut rows)?;
    let mut rows = Vec::new();
    for contender in &STREAMS {
        rows.push(Row::new(contender.title, || {
            let mut command = contender.command("65792")?;
            let begin = Instant::now();
            let server = Server::that_says_where(&mut command)?;
            let took = begin.elapsed();
            drop(server);
            Ok(took.as_secs_f64() * 1e3)
        }));
    }
    Table::new("startup", "wall clock", "ms from exec to listening").run(rounds, &mut rows)
}
