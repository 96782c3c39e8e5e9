//! Every chunking of a form gives the same events, and no more data than came.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::multipart::{Event, Multipart, MultipartLimits};

/// What comes of it, with adjoining data joined.
fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<Vec<u8>>) {
    let content_type = HeaderValue::from_static("multipart/form-data; boundary=x");
    let limits = MultipartLimits {
        parts_max: 5,
        head_max: 100,
        fields_max: 3,
    };
    let mut form = Multipart::new(&content_type, limits).expect("it is a form");
    let (mut seen, mut data) = (Vec::new(), vec![Vec::new()]);
    for chunk in chunks {
        let mut rest = chunk;
        loop {
            match form.receive(&mut rest) {
                Ok(Some(Event::Data(more))) => {
                    assert!(!more.is_empty());
                    data.last_mut()
                        .expect("there is one")
                        .extend_from_slice(more);
                }
                Ok(Some(event)) => {
                    seen.push(format!("{event:?}"));
                    data.push(Vec::new());
                }
                Ok(None) => {
                    assert!(rest.is_empty());
                    break;
                }
                Err(error) => {
                    seen.push(format!("{error:?}"));
                    assert_eq!(form.finish(), Err(error));
                    return (seen, data);
                }
            }
        }
    }
    seen.push(format!("{:?}", form.finish()));
    (seen, data)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, body) = input;
    let whole = read(std::iter::once(body));
    let length: usize = whole.1.iter().map(Vec::len).sum();
    assert!(length <= body.len());
    assert_eq!(read(body.chunks(1)), whole);
    assert_eq!(read(body.chunks(usize::from(size).max(1))), whole);
});
