//! That no public function was passed over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::rows;

/// Files whose functions are in no row, and why.
const OTHERS: &[(&str, &str)] = &[
    ("address.rs", "values: they reach no reactor"),
    (
        "children.rs",
        "it takes processes, which disturb other tests: tests/children",
    ),
    ("connect_error.rs", "values: they reach no reactor"),
    ("endpoints/parsers.rs", "values: they reach no reactor"),
    ("endpoints/syntax.rs", "values: they reach no reactor"),
    ("endpoints/tcp.rs", "values: Reactor::connect and listen"),
    ("endpoints/unix.rs", "values: Reactor::connect and listen"),
    ("error.rs", "values: they reach no reactor"),
    ("driver/", "private"),
    ("simulation/", "a world that the test moves: simulation.rs"),
    ("service/", "what a reactor's functions make: service.rs"),
    ("root_folder.rs", "values: they reach no reactor"),
    ("slab.rs", "private"),
    ("sockets/options.rs", "values: they reach no reactor"),
    ("udp/options.rs", "values: they reach no reactor"),
    ("sys/", "private"),
    ("systemd.rs", "values: they reach no reactor"),
    ("timers/", "private"),
    ("calls.rs", "private"),
    ("standstill.rs", "values: they reach no reactor"),
    ("stream.rs", "what a Transport calls"),
    (
        "testing/",
        "a clock that the test moves: tests/tasks/manual_clock.rs",
    ),
];

/// Functions that are in no row, and why.
const VALUES: &[(&str, &str)] = &[
    (
        "ConnectionLimits::acceptor",
        "a value: LimitedServerEndpoint",
    ),
    ("ConnectionLimits::new", "a value"),
    ("ConnectionLimits::overflow", "a value"),
    ("ConnectionLimits::per_peer", "a value"),
    ("LimitedServerEndpoint::new", "a value: Reactor::listen"),
    ("RateLimit::burst", "a value"),
    ("RateLimit::in_all", "a value"),
    ("RateLimit::new", "a value"),
    ("RateLimit::per_peer", "a value"),
    ("RateLimit::within", "a value"),
    (
        "RateLimitedClientEndpoint::new",
        "a value: Reactor::connect",
    ),
    (
        "RateLimitedClientEndpoint::reading",
        "a value: Reactor::connect",
    ),
    (
        "RateLimitedClientEndpoint::writing",
        "a value: Reactor::connect",
    ),
    ("RateLimitedServerEndpoint::new", "a value: Reactor::listen"),
    (
        "RateLimitedServerEndpoint::reading",
        "a value: Reactor::listen",
    ),
    (
        "RateLimitedServerEndpoint::writing",
        "a value: Reactor::listen",
    ),
    ("TimeoutServerEndpoint::new", "a value: Reactor::listen"),
    ("TimeoutServerEndpoint::timeout", "a value: Reactor::listen"),
    ("MulticastGroup::address", "a value"),
    ("MulticastGroup::from_source", "a value"),
    (
        "MulticastGroup::on",
        "a value: DatagramTransport::join_group",
    ),
    ("Unsupported::capability", "a value"),
    ("Unsupported::find", "a value"),
    ("Hosts::host", "a value"),
    ("Hosts::new", "a value"),
    ("Hosts::or_else", "a value"),
    ("SendError::into_message", "a value"),
    ("Signal::from_number", "a value"),
    ("Signal::number", "a value"),
    ("Signal::end_process", "it does not return"),
    ("RemoteFailure::message", "a value"),
    ("RemoteFailure::origin", "a value"),
    ("RemoteFailure::interrupted", "a value"),
];

#[test]
fn every_public_function_is_in_a_row() {
    let found = public_functions();
    let rows: BTreeSet<_> = rows().map(|row| row.function.to_owned()).collect();
    assert_eq!(rows.len(), super::rows().count(), "a function has two rows");
    let values: BTreeSet<_> = VALUES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<_> = found
        .iter()
        .filter(|name| !rows.contains(*name) && !values.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "give each a row in reactor/tests/it/reentrancy/: {missing:?}"
    );
    let unknown: Vec<_> = rows
        .union(&values)
        .filter(|name| !found.contains(*name))
        .collect();
    assert!(unknown.is_empty(), "rows without a function: {unknown:?}");
}

/// Every `Type::function` that is public, and `task::function` for free ones.
fn public_functions() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut functions = BTreeSet::new();
    let mut folders = vec![sources.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.strip_prefix(&sources).expect("it is below");
            let name = name.to_str().expect("a name in ASCII").to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !OTHERS.iter().any(|(other, _)| name.starts_with(other)) {
                let text = fs::read_to_string(&path).expect("a source is text");
                note_functions(&text, &mut functions);
            }
        }
    }
    functions
}

fn note_functions(text: &str, functions: &mut BTreeSet<String>) {
    let mut implemented = String::new();
    for line in text.lines() {
        if line.starts_with("impl") {
            implemented = type_of_impl(line);
        }
        let declared = line.trim_start();
        let declared = ["pub fn ", "pub const fn ", "pub async fn "]
            .iter()
            .find_map(|start| declared.strip_prefix(start));
        let Some(declared) = declared else {
            continue;
        };
        let name = declared.split(['(', '<']).next().unwrap_or(declared);
        if line.starts_with(' ') {
            functions.insert(format!("{implemented}::{name}"));
        } else {
            functions.insert(format!("task::{name}"));
        }
    }
}

/// `Watch` of `impl<S: AsFd + 'static> Watch<S> {`.
fn type_of_impl(line: &str) -> String {
    let mut depth = 0;
    let after = line.trim_start_matches("impl");
    let start = after
        .char_indices()
        .find(|(_, character)| {
            depth += i32::from(*character == '<') - i32::from(*character == '>');
            depth == 0 && character.is_alphabetic()
        })
        .map_or(0, |(index, _)| index);
    let name = &after[start..];
    let end = name.find(|character: char| !character.is_alphanumeric());
    name[..end.unwrap_or(name.len())].to_owned()
}
