//! That no statement of the catalogue was passed over.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// Sections 2.12 to 2.15. Those before are the other crate's.
const STATEMENTS: RangeInclusive<usize> = 303..=405;

/// Each number stands once: in the doc line of a test, or in the table "Different on
/// purpose".
#[test]
fn every_statement_has_its_test_or_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut note =
        |number: usize, place: &str| places.entry(number).or_default().push(place.into());

    let tests = fs::read_dir(root.join("tests/tasks")).expect("the tests are there");
    for test in tests {
        let path = test.expect("a folder can be read").path();
        let source = fs::read_to_string(&path).expect("a source can be read");
        let lines: Vec<&str> = source.lines().collect();
        for pair in lines.windows(2) {
            if let Some(numbers) = pair[0].strip_prefix("/// #") {
                assert_eq!(
                    pair[1],
                    "#[test]",
                    "{} has a number without a test",
                    path.display()
                );
                numbers_in(numbers).for_each(|number| note(number, "a test"));
            }
        }
    }

    let semantics =
        fs::read_to_string(root.join("../docs/task-semantics.md")).expect("it is there");
    let table = semantics
        .split_once("## Different on purpose")
        .expect("the table is there")
        .1;
    for row in table.lines().take_while(|line| !line.starts_with("## ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if let Some(numbers) = cells[0].strip_prefix('#') {
            assert!(
                cells.len() == 3 && cells[2].len() > 10,
                "row {numbers} gives no reason"
            );
            numbers_in(numbers).for_each(|number| note(number, "a row"));
        }
    }

    let missing: Vec<usize> = STATEMENTS
        .filter(|number| !places.contains_key(number))
        .collect();
    assert!(missing.is_empty(), "passed over: {missing:?}");
    let wrong: Vec<_> = places
        .iter()
        .filter(|(number, places)| !STATEMENTS.contains(number) || places.len() != 1)
        .collect();
    assert!(wrong.is_empty(), "not exactly once: {wrong:?}");
}

/// The numbers of "338, #339".
fn numbers_in(text: &str) -> impl Iterator<Item = usize> {
    text.split(',').map(|number| {
        number
            .trim()
            .trim_start_matches('#')
            .parse()
            .expect("a number")
    })
}
