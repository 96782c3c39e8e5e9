//! Checks of the header, for the fuzzer: built under `cfg(fuzzing)` alone.

use super::header::{BadHeader, Header, Parser};

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Option<(Header, usize)>, BadHeader> {
    let (mut parser, mut before) = (Parser::default(), 0);
    for chunk in chunks {
        if let Some((header, length)) = parser.receive(chunk)? {
            assert!(length <= chunk.len());
            return Ok(Some((header, before + length)));
        }
        before += chunk.len();
    }
    Ok(None)
}

/// Every chunking of a header gives the same header, of the same length.
pub fn headers(size: usize, bytes: &[u8]) {
    let whole = read(std::iter::once(bytes));
    assert_eq!(read(bytes.chunks(1)), whole);
    assert_eq!(read(bytes.chunks(size.max(1))), whole);
}
