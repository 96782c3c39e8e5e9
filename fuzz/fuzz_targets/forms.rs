//! What is read of a form and written again reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::forms::Form;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(form) = Form::parse_with_limit(bytes, 20) {
        assert!(form.len() <= 20);
        let text = form.to_string();
        assert_eq!(Form::parse_with_limit(text.as_bytes(), 20), Ok(form));
    }
});
