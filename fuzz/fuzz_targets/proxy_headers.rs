//! Every chunking of the PROXY protocol's header gives the same header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torsade_protocols::haproxy::fuzzed;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    fuzzed::headers(usize::from(size), bytes);
});
