//! What a range selects lies within the content, in order, and is no more than all of it.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::ranges::{
    ContentRange, MultipartRanges, RANGES_MAX, Selection, select,
};

fuzz_target!(|input: (u64, &[u8])| {
    let (length, text) = input;
    if let Ok(text) = std::str::from_utf8(text)
        && let Some(found) = ContentRange::parse(text)
    {
        if let Some(range) = found.range {
            assert!(range.len() > 0);
        }
        assert_eq!(ContentRange::parse(&found.to_string()), Some(found));
    }
    let Ok(value) = HeaderValue::from_bytes(&[b"bytes=", text].concat()) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert("range", value);
    let Selection::Parts(parts) = select(&headers, length) else {
        return;
    };
    assert!((1..=RANGES_MAX).contains(&parts.len()));
    assert!(
        parts
            .iter()
            .all(|part| part.first <= part.last && part.last < length)
    );
    assert!(parts.is_sorted_by(|left, right| left.last < right.first));
    let ranges = MultipartRanges::new(&parts, length, None, 1);
    let heads: u64 = ranges.parts().map(|(_, head)| head.len() as u64).sum();
    let data: u64 = parts.iter().map(|part| part.len()).sum();
    let expected = heads
        .saturating_add(data)
        .saturating_add(ranges.end().len() as u64);
    assert_eq!(ranges.content_length(), expected);
});
