//! What docs/embedding.md shows of the programs here is what they say.

use std::fs;
use std::path::Path;

#[test]
fn the_chapter_shows_the_programs_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is there");
    let programs = ["in_calloop", "in_glib", "in_tokio"]
        .map(|name| read(&format!("examples/{name}.rs")))
        .concat();
    let chapter = read("../docs/embedding.md");
    let excerpts: Vec<&str> = chapter
        .split("```rust,ignore\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(
        excerpts.len(),
        programs.matches("//! A reactor in ").count()
    );
    for excerpt in excerpts {
        assert!(programs.contains(excerpt), "no program says:\n{excerpt}");
    }
}
