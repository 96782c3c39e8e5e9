//! Every chunking of what a server says gives the same events, within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::fuzzed;

fuzz_target!(|input: (u8, Vec<(u8, bool)>, &[u8])| {
    let (size, asked, wire) = input;
    fuzzed::responses(&asked, wire, usize::from(size));
});
