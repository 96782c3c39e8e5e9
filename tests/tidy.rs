//! The structural rules of the project, as checks. Each message says what to do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below these folders, with its path from the root, in order.
fn rust_files(folders: &[&str]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it is below the root");
                let text = fs::read_to_string(&path).expect("a source file is text");
                files.insert(name.to_string_lossy().replace('\\', "/"), text);
            }
        }
    }
    assert!(!files.is_empty(), "no source files were found");
    files
}

fn library_files() -> BTreeMap<String, String> {
    rust_files(&["src", "deferred/src", "reactor/src", "protocols/src"])
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Lines of code that contain a word: comments and doc lines do not count.
fn lines_with<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines()
        .enumerate()
        .filter(move |(_, line)| !line.trim_start().starts_with("//") && line.contains(word))
        .map(|(index, line)| (index + 1, line.trim()))
}

#[track_caller]
fn check_absent(files: &BTreeMap<String, String>, words: &[&str], instead: &str) {
    let mut found = Vec::new();
    for (name, text) in files {
        for word in words {
            found.extend(
                lines_with(without_tests(text), word)
                    .map(|(number, line)| format!("{name}:{number}: `{word}`: {line}")),
            );
        }
    }
    assert!(found.is_empty(), "{instead}\n{}", found.join("\n"));
}

#[test]
fn unsafe_code_lives_in_sys_alone() {
    let mut files = library_files();
    files.retain(|name, _| !name.starts_with("reactor/src/sys/"));
    check_absent(
        &files,
        &["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code"],
        "move it to reactor/src/sys/",
    );
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for (name, text) in rust_files(&["reactor/src/sys"]) {
        let blocks = lines_with(&text, "unsafe {").count();
        let reasons = text
            .lines()
            .filter(|line| line.trim_start().starts_with("// SAFETY:"))
            .count();
        assert!(
            reasons >= blocks,
            "{name}: {blocks} unsafe blocks, {reasons} reasons: add // SAFETY: lines"
        );
    }
}

#[test]
fn protocols_name_no_socket_and_no_clock() {
    check_absent(
        &rust_files(&["protocols/src"]),
        &[
            "std::net",
            "std::os",
            "rustix",
            "polling::",
            "Instant::now",
            "std::thread",
        ],
        "a protocol knows transports and the reactor's time, nothing below",
    );
}

#[test]
fn deferred_knows_no_world() {
    check_absent(
        &rust_files(&["deferred/src"]),
        &[
            "std::net",
            "std::fs",
            "std::os",
            "Instant::now",
            "thread::spawn",
            "torsade_reactor",
        ],
        "a Deferred knows values, failures and chains",
    );
}

#[test]
fn arrows_of_dependency_never_turn_round() {
    let allowed: [(&str, &[&str]); 3] = [
        ("deferred", &[]),
        // Itself: what its tests are built with.
        ("reactor", &["torsade-deferred", "torsade-reactor"]),
        ("protocols", &["torsade-deferred", "torsade-reactor"]),
    ];
    for (member, allowed) in allowed {
        let manifest =
            fs::read_to_string(root().join(member).join("Cargo.toml")).expect("it has a manifest");
        for line in manifest.lines().filter(|line| line.starts_with("torsade")) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or(line);
            assert!(
                allowed.contains(&name),
                "{member}/Cargo.toml: `{name}` is no dependency of {member}"
            );
        }
    }
}

#[test]
fn every_dependency_says_what_it_saves_us() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the root has a manifest");
    let (_, rest) = manifest
        .split_once("[workspace.dependencies]")
        .expect("dependencies are shared");
    let section = rest.split("\n[").next().unwrap_or(rest);
    let lines: Vec<&str> = section.lines().filter(|line| !line.is_empty()).collect();
    let mut seen = 0;
    for pair in lines
        .windows(2)
        .filter(|pair| !pair[1].starts_with('#') && !pair[1].starts_with("torsade"))
    {
        assert!(
            pair[0].starts_with('#'),
            "Cargo.toml: write above `{}` what it saves us",
            pair[1]
        );
        seen += 1;
    }
    assert!(
        seen > 0,
        "no third-party dependency was found: this check looks at the wrong place"
    );
}

#[test]
fn the_loop_fits_on_one_screen() {
    let core = fs::read_to_string(root().join("reactor/src/core.rs")).expect("the core is there");
    let (_, body) = core
        .split_once("    fn turn_in_full(")
        .expect("Core::turn_in_full is the loop");
    let lines = body.lines().take_while(|line| *line != "    }").count();
    assert!(
        lines <= 40,
        "Core::turn_in_full has {lines} lines: it is the picture of a turn, not its details"
    );
}

/// Files that were long when the rule was made; none may grow, and when one shrinks its
/// entry goes.
const LONG_FILES: [(&str, usize); 0] = [];
const LONG: usize = 800;

#[test]
fn no_file_holds_two_ideas_unseen() {
    for (name, text) in library_files() {
        let lines = without_tests(&text).lines().count();
        let limit = LONG_FILES
            .iter()
            .find(|(long, _)| *long == name)
            .map_or(LONG, |(_, lines)| *lines);
        assert!(
            lines <= limit,
            "{name} has {lines} lines without tests (limit {limit}): are there two ideas in it?"
        );
    }
}

#[test]
fn tests_are_sentences_that_always_run() {
    let files = rust_files(&[
        "src",
        "deferred",
        "reactor",
        "protocols",
        "examples",
        "embedding/examples",
        "embedding/plug-in",
        "embedding/src",
        "embedding/tests",
        "tests",
    ]);
    let mut tests = 0;
    for (name, text) in &files {
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            assert!(
                !line.starts_with("#[ignore"),
                "{name}: an ignored test is a test that does not exist"
            );
            if line != "#[test]" {
                continue;
            }
            let Some(function) = lines.find(|line| line.starts_with("fn ")) else {
                continue;
            };
            tests += 1;
            let title = function
                .trim_start_matches("fn ")
                .split('(')
                .next()
                .unwrap_or_default();
            assert!(
                title.contains('_') && !title.starts_with("test_"),
                "{name}: `{title}` is not a sentence"
            );
        }
    }
    assert!(
        tests > 100,
        "only {tests} tests were found: this check looks at the wrong place"
    );
}

#[test]
fn ci_calls_the_commands_of_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let ci = fs::read_to_string(root().join(".ci/run")).expect("there is a CI script");
    let demo = fs::read_to_string(root().join(".ci/demo")).expect("there is a script for the demo");
    assert!(readme.contains("cargo test --workspace") && ci.contains("\ncargo test --workspace\n"));
    assert!(readme.contains("cargo run --release --example demo"));
    assert!(
        demo.contains("cargo run --quiet --release --example demo") && ci.contains("\n.ci/demo\n")
    );
}

/// The pages that a reader is led to, with their texts.
fn documents() -> impl Iterator<Item = (PathBuf, String)> {
    let mut documents: Vec<PathBuf> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ]
    .map(|name| root().join(name))
    .into();
    documents.extend(
        fs::read_dir(root().join("docs"))
            .expect("there are docs")
            .map(|entry| entry.expect("the folder can be read").path())
            .filter(|path| path.is_file()),
    );
    documents.into_iter().map(|document| {
        let text = fs::read_to_string(&document).expect("a document is text");
        (document, text)
    })
}

/// What rustdoc hides, a reader of the page sees: programs on it are shown whole.
#[test]
fn programs_of_the_documents_hide_nothing() {
    for (document, text) in documents() {
        let (mut in_block, mut in_program) = (false, false);
        for (number, line) in text.lines().enumerate() {
            if let Some(language) = line.strip_prefix("```") {
                in_block = !in_block;
                in_program = in_block && !["sh", "text", "toml"].contains(&language);
            }
            let is_hidden = line.trim_start().starts_with("# ") || line.trim() == "#";
            assert!(
                !in_program || !is_hidden,
                "{}:{}: a hidden line: {line}",
                document.display(),
                number + 1
            );
        }
    }
}

#[test]
fn local_links_of_the_documents_lead_somewhere() {
    for (document, text) in documents() {
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or(link);
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap_or(Path::new(".")).join(target);
            assert!(
                path.exists(),
                "{}: the link to {target} leads nowhere",
                document.display()
            );
        }
    }
}

/// Words of the tables that are the language's, or the standard library's.
const NOT_OURS: [&str; 10] = [
    "Ok", "Err", "none", "Debug", "Display", "await", "async", "move", "return", "Result",
];

#[test]
fn every_name_in_coming_from_twisted_exists() {
    let page = fs::read_to_string(root().join("docs/coming-from-twisted.md")).expect("it is there");
    let sources: String = library_files().into_values().collect();
    let mut missing = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let ours = row.split(" | ").nth(1).unwrap_or_default();
        // What stands between backticks, every second piece.
        for code in ours.split('`').skip(1).step_by(2) {
            let words =
                code.split(|character: char| !character.is_alphanumeric() && character != '_');
            for word in words.filter(|word| word.len() > 1 && !NOT_OURS.contains(word)) {
                let is_defined = ["fn ", "struct ", "enum ", "trait ", "mod "]
                    .iter()
                    .any(|kind| is_followed(&sources, &format!("{kind}{word}")))
                    // A variant.
                    || (word.starts_with(char::is_uppercase)
                        && is_followed(&sources, &format!("\n    {word}")));
                if !is_defined {
                    missing.push(format!("{word} in {row}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such name:\n{}", missing.join("\n"));
}

/// Whether `text` has these words, and not as the beginning of a longer one.
fn is_followed(text: &str, words: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(words)
        .any(|(index, _)| !text[index + words.len()..].starts_with(is_word))
}
