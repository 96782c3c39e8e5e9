//! Messages there and back: CPU time of the server for each.

use bench_rounds::{Result, Row, Server, Table, standing};

use crate::servers::{Contender, DATAGRAMS, STREAMS};

/// Connections, bytes of a message, messages on their way on each connection; and messages
/// in all, for a fifth of a second or two.
const STREAM_SHAPES: [[u64; 4]; 8] = [
    [1, 64, 1, 10_000],
    [4, 64, 1, 20_000],
    [50, 64, 1, 40_000],
    [500, 64, 1, 40_000],
    [5_000, 64, 1, 40_000],
    [50, 64, 16, 200_000],
    [4, 65_536, 1, 6_000],
    [50, 65_536, 1, 6_000],
];

/// The same for datagrams: clients, bytes, datagrams on their way for each. (On their way in all
/// no more than the system's buffer for a socket holds.)
const DATAGRAM_SHAPES: [[u64; 4]; 5] = [
    [1, 64, 1, 20_000],
    [16, 64, 1, 40_000],
    [100, 64, 1, 40_000],
    [1, 64, 64, 40_000],
    [16, 1_400, 4, 40_000],
];

/// Who is slow gets fewer messages, unless a connection would have fewer than this of them: the first message of
/// one costs more than those after it.
const EACH_MIN: u64 = 10;

pub fn streams(rounds: usize, shape: Option<[u64; 3]>) -> Result<()> {
    for shape in chosen(&STREAM_SHAPES, shape) {
        let [connections, size, depth, _] = shape;
        let mut table = Table::new(
            "echo",
            column(shape, "connections"),
            "us of CPU time a message",
        );
        if (size, depth) == (64, 1) {
            table = table.point("echo-connections", "connections", connections as f64);
        }
        measure(table, rounds, &STREAMS, "load", shape)?;
    }
    Ok(())
}

pub fn datagrams(rounds: usize, shape: Option<[u64; 3]>) -> Result<()> {
    for shape in chosen(&DATAGRAM_SHAPES, shape) {
        let table = Table::new("udp", column(shape, "clients"), "us of CPU time a datagram");
        measure(table, rounds, &DATAGRAMS, "load-datagrams", shape)?;
    }
    Ok(())
}

/// All of a table's shapes, or the one that was asked for.
fn chosen(all: &[[u64; 4]], shape: Option<[u64; 3]>) -> Vec<[u64; 4]> {
    let Some(shape) = shape else {
        return all.to_vec();
    };
    let known = all.iter().find(|known| known[..3] == shape);
    let [connections, size, depth] = shape;
    vec![known.copied().unwrap_or([connections, size, depth, 50_000])]
}

fn column([connections, size, depth, _]: [u64; 4], of: &str) -> String {
    let of = if connections == 1 {
        of.trim_end_matches('s')
    } else {
        of
    };
    let size = match size {
        65_536 => "64 KiB".to_owned(),
        size => format!("{size} B"),
    };
    let depth = match depth {
        1 => String::new(),
        depth => format!(", {depth} deep"),
    };
    format!("{connections} {of}, {size}{depth}")
}

fn measure(
    table: Table,
    rounds: usize,
    contenders: &[Contender],
    load: &str,
    shape: [u64; 4],
) -> Result<()> {
    let running: Vec<Result<Server>> = contenders.iter().map(Contender::start).collect();
    let mut rows = Vec::new();
    for (server, contender) in running.iter().zip(contenders) {
        let [connections, size, depth, messages] = shape;
        let messages = match messages / contender.slower {
            few if few < connections * EACH_MIN => messages,
            few => few,
        };
        rows.push(Row::new(contender.title, move || {
            standing(server)?.answer(load, &[connections, size, depth, messages])
        }));
    }
    table.run(rounds, &mut rows)
}
