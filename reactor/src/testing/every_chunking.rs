//! The same bytes, in all the pieces that a network might make of them.

/// Up to this length every cut in three is tried, so that the work stays bearable: for 200
/// bytes that is 20 000 runs.
const THREE_PIECES_MAX: usize = 200;

/// Calls `check` with the same bytes in ever other chunks: whole, byte by byte, in pieces of
/// each size, and cut in two or, up to 200 bytes, in three, at every place. Some of the chunks
/// are empty.
///
/// For parsers and protocols: what they make of the bytes must not depend on the chunks. If
/// `check` panics, the chunks at hand are printed.
///
/// # Examples
///
/// ```
/// use torsade_reactor::testing::for_every_chunking;
///
/// for_every_chunking(b"one two three", |chunks| {
///     let mut spaces = 0;
///     for chunk in chunks {
///         spaces += chunk.iter().filter(|byte| **byte == b' ').count();
///     }
///     assert_eq!(spaces, 2);
/// });
/// ```
pub fn for_every_chunking(bytes: &[u8], mut check: impl FnMut(&[&[u8]])) {
    let mut check = |chunks: &[&[u8]]| {
        let shown = ShownOnPanic(chunks);
        check(shown.0);
    };
    for size in 1..=bytes.len() {
        check(&bytes.chunks(size).collect::<Vec<_>>());
    }
    for first in 0..=bytes.len() {
        let (front, rest) = bytes.split_at(first);
        if bytes.len() > THREE_PIECES_MAX {
            check(&[front, rest]);
            continue;
        }
        for second in 0..=rest.len() {
            let (middle, back) = rest.split_at(second);
            check(&[front, middle, back]);
        }
    }
}

struct ShownOnPanic<'a>(&'a [&'a [u8]]);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let chunks: Vec<String> = self
                .0
                .iter()
                .map(|chunk| format!("\"{}\"", chunk.escape_ascii()))
                .collect();
            #[expect(clippy::print_stderr, reason = "this is the report of a test")]
            {
                eprintln!("in the chunks [{}]", chunks.join(", "));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_chunking_has_all_bytes_and_all_cuts_are_among_them() {
        let mut seen = BTreeSet::new();
        for_every_chunking(b"abcd", |chunks| {
            assert_eq!(chunks.concat(), b"abcd");
            seen.insert(chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>());
        });
        let expected = [vec![1, 1, 1, 1], vec![2, 2], vec![4], vec![0, 1, 3]];
        for chunking in expected {
            assert!(seen.contains(&chunking), "{chunking:?}");
        }
        let mut runs = 0;
        for_every_chunking(&[0; THREE_PIECES_MAX + 1], |_| runs += 1);
        assert_eq!(runs, 2 * (THREE_PIECES_MAX + 1) + 1);
    }
}
