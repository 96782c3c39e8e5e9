//! Every chunking of a chunked body gives the same data and trailers; what is written can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::fuzzed;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fuzz_target!(|input: (u8, Vec<Vec<u8>>, Fields, &[u8])| {
    let (size, data, fields, wire) = input;
    fuzzed::chunked(usize::from(size), wire, &data, &fields);
});
