//! A list of hosts that are asked directly is what its members are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::fuzzed;

fuzz_target!(|input: (Vec<String>, Vec<String>, Vec<String>)| {
    let (lists, hosts, values) = input;
    fuzzed::proxy_lists(&lists, &hosts, &values);
});
