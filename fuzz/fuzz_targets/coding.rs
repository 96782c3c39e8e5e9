//! What is encoded comes back, what comes in never gives more than it may, and the pieces in which it
//! comes make no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::coding::{DecodeError, Decoder, Encoder};
use torsade_protocols::http::negotiate::Coding;

const LIMIT: u64 = 100_000;

fn decode(
    coding: Coding,
    input: &[u8],
    size: usize,
    room: usize,
) -> (Vec<u8>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new(coding, LIMIT);
    let mut content = Vec::new();
    for chunk in input.chunks(size.max(1)) {
        let mut rest = chunk;
        loop {
            let before = content.len();
            match decoder.decode(rest, &mut content, room) {
                Ok(used) => rest = &rest[used..],
                Err(error) => return (content, Err(error)),
            }
            assert!(content.len() - before <= room);
            assert!(content.len() as u64 <= LIMIT);
            if rest.is_empty() && content.len() - before < room {
                break;
            }
        }
    }
    let end = decoder.finish();
    (content, end)
}

fuzz_target!(|input: (u8, u8, u8, &[u8])| {
    let (coding, size, room, bytes) = input;
    let coding = [Coding::Gzip, Coding::Deflate, Coding::Identity][usize::from(coding % 3)];
    let (size, room) = (usize::from(size), usize::from(room).max(1));
    let whole = decode(coding, bytes, usize::MAX, 1 << 20);
    let pieces = decode(coding, bytes, size, room);
    // What is known to be bad is known at the same byte, but how much came out before may differ.
    assert_eq!(pieces.1, whole.1);
    if whole.1.is_ok() {
        assert_eq!(pieces.0, whole.0);
    }

    let mut encoder = Encoder::with_level(coding, u32::from(input.1 % 10));
    let mut coded = Vec::new();
    for chunk in bytes.chunks(size.max(1)) {
        encoder.encode(chunk, &mut coded);
        if room % 2 == 0 {
            encoder.flush(&mut coded);
        }
    }
    encoder.finish(&mut coded);
    let back = decode(coding, &coded, size, room);
    assert_eq!(back, (bytes.to_vec(), Ok(())));
});
