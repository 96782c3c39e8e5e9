//! A table as a piece of `docs/performance.md`, and the piece in its place.

use std::fmt::Write;

use bench_rounds::{Contender, Outcome, Result, Spread};

use crate::machine::Run;
use crate::tables::Table;

/// What stands between the marks of a table.
pub fn page(
    table: &Table,
    outcomes: &[Outcome],
    plots: &[(String, String)],
    run: &Run,
    plain: &str,
) -> String {
    let mut page = format!("## {}\n\n", table.heading);
    if !table.says.is_empty() {
        page += &format!("{}\n\n", table.says);
    }
    for (group, above) in table.groups {
        let columns: Vec<&Outcome> = outcomes.iter().filter(|it| it.group == *group).collect();
        if columns.is_empty() {
            continue;
        }
        if !above.is_empty() {
            page += &format!("{above}\n\n");
        }
        page += &matrix(&columns);
    }
    if outcomes.is_empty() {
        let text = plain.split_once("\n\n").map_or(plain, |(_, text)| text);
        page += &format!("```text\n{text}```\n\n");
    }
    for (name, _) in plots {
        page += &format!(
            "![{}](figures/{name}.svg)\n\n",
            name.replace(['-', '_'], " ")
        );
    }
    let name = table.name;
    page + &format!("{run}. [All of it](figures/{name}.txt).\n")
}

/// A line for each contender, a column for each outcome: the median, and ours to it.
fn matrix(columns: &[&Outcome]) -> String {
    let mut text = String::from("| |");
    let units: Vec<&str> = columns.iter().map(|it| &*it.unit).collect();
    let one_unit = units.iter().all(|unit| unit == &units[0]);
    for column in columns {
        let unit = if one_unit || column.unit == column.column {
            String::new()
        } else {
            format!(", {}", column.unit)
        };
        text += &format!(" {}{unit} |", column.column);
    }
    let all = || columns.iter().flat_map(|column| &column.contenders);
    let with_memory = all().any(|it| it.memory.is_some());
    if with_memory {
        text += " peak, MiB |";
    }
    text += "\n|---|";
    text += &"---|".repeat(columns.len() + usize::from(with_memory));
    text += "\n";
    let rounds = all().map(|it| it.costs.len()).max().unwrap_or_default();
    let mut absences: Vec<(String, Vec<&str>)> = Vec::new();
    let mut seldom: Vec<&str> = Vec::new();
    let ours = &columns[0].contenders[0].title;
    for title in titles(columns) {
        text += &format!("| {title} |");
        let mut memory = None;
        for column in columns {
            let found = column.contenders.iter().find(|it| it.title == title);
            let Some(it) = found else {
                // It takes no part in that.
                text += " - |";
                continue;
            };
            memory = memory.max(it.memory);
            text += &format!(" {} |", cell(column, it, it.title == *ours));
            if let Some(why) = it.absence() {
                let note = format!("{}: {why}", it.title);
                match absences.iter_mut().find(|(known, _)| *known == note) {
                    Some((_, in_columns)) => in_columns.push(&column.column),
                    None => absences.push((note, vec![&column.column])),
                }
            } else if it.costs.len() < rounds && !seldom.contains(&&*it.title) {
                seldom.push(&it.title);
            }
        }
        if let Some(kib) = memory {
            text += &format!(" {:.1} |", kib as f64 / 1024.0);
        } else if with_memory {
            text += " |";
        }
        text += "\n";
    }
    text += "\n";
    let unit = if one_unit {
        format!("In {}: the", units[0])
    } else {
        "The".to_owned()
    };
    let of_rounds = if rounds > 1 {
        "median of the rounds, and ours to it within a round (in the middle half of them)"
    } else {
        "value of one run, and ours to it"
    };
    let _ = writeln!(text, "{unit} {of_rounds}.\n");
    let mut notes: Vec<String> = Vec::new();
    for (note, in_columns) in absences {
        notes.push(match in_columns.len() == columns.len() {
            true => note,
            false => format!("{note} ({})", in_columns.join("; ")),
        });
    }
    if !seldom.is_empty() {
        notes.push(format!(
            "In the first five rounds alone: {}",
            seldom.join(", ")
        ));
    }
    if !notes.is_empty() {
        let _ = writeln!(text, "{}.\n", notes.join(". "));
    }
    text
}

/// Who takes part in any of the columns: each behind whoever stands before it in its own.
fn titles<'a>(columns: &[&'a Outcome]) -> Vec<&'a str> {
    let mut titles: Vec<&str> = Vec::new();
    for column in columns {
        let mut place = 0;
        for contender in &column.contenders {
            match titles.iter().position(|title| *title == contender.title) {
                Some(known) => place = known + 1,
                None => {
                    titles.insert(place, &contender.title);
                    place += 1;
                }
            }
        }
    }
    titles
}

fn cell(column: &Outcome, it: &Contender, ours: bool) -> String {
    if let Some(why) = it.absence() {
        return why.split(':').next().unwrap_or_default().to_owned();
    }
    let Some(costs) = Spread::of(it.costs.iter().copied()) else {
        return String::new();
    };
    let median = figures(costs.median);
    match column.ratio(it) {
        Some(ratio) if !ours => {
            let is = format!("{:.2}", ratio.median);
            // Where we are not first, it is said loudly.
            let is = if ratio.median > 1.0 {
                format!("**{is}**")
            } else {
                is
            };
            if it.costs.len() == 1 {
                return format!("{median}, {is}");
            }
            format!(
                "{median}, {is} ({:.2} to {:.2})",
                ratio.quarter, ratio.three_quarters
            )
        }
        _ => median,
    }
}

/// Three digits that count.
pub fn figures(value: f64) -> String {
    match value {
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A document with this page in the place of the last one.
pub fn with(document: &str, name: &str, page: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- bench: {name} -->\n"),
        format!("<!-- end of bench: {name} -->\n"),
    );
    let (before, rest) = document
        .split_once(&begin)
        .ok_or_else(|| format!("no place for it: {begin}"))?;
    let (_, after) = rest
        .split_once(&end)
        .ok_or_else(|| format!("it has no end: {end}"))?;
    Ok(format!("{before}{begin}{page}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, titles: &[&str]) -> Outcome {
        let contenders = titles.iter().map(|title| Contender {
            title: (*title).to_owned(),
            costs: vec![1.0, 2.0],
            memory: None,
            missing: None,
            failed: None,
        });
        Outcome {
            group: "group".to_owned(),
            column: name.to_owned(),
            unit: "us".to_owned(),
            point: None,
            contenders: contenders.collect(),
        }
    }

    #[test]
    fn who_takes_part_in_a_later_column_alone_has_a_line_of_its_own() {
        let columns = [
            column("hello", &["ours", "nginx", "Node"]),
            column("a file", &["ours", "ours, opened", "nginx", "nginx, read"]),
        ];
        let columns: Vec<&Outcome> = columns.iter().collect();
        let expected = ["ours", "ours, opened", "nginx", "nginx, read", "Node"];
        assert_eq!(titles(&columns), expected);
        let text = matrix(&columns);
        assert!(text.contains("\n| nginx, read | - | 1.50, 1.00 "), "{text}");
        assert!(
            text.contains("\n| Node | 1.50, 1.00 (1.00 to 1.00) | - |\n"),
            "{text}"
        );
    }
}
