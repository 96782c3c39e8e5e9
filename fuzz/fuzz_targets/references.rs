//! Where a redirect leads can be asked for, is read the same again, and gets no foreign credentials.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::fuzzed;

fuzz_target!(|input: (&str, &[u8])| {
    let (base, reference) = input;
    fuzzed::references(base, reference);
});
