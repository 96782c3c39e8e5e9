//! The beginning of a head, of which the rest has not come.

/// Bytes that are kept until their head is complete: as many as whoever parses them allows.
#[derive(Debug, Default)]
pub(in crate::http) struct Unfinished {
    text: Vec<u8>,
    /// How much of that is known not to be the end.
    searched: usize,
}

impl Unfinished {
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(in crate::http) fn len(&self) -> usize {
        self.text.len()
    }

    pub(in crate::http) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Keeps the first bytes, which have been looked at.
    pub(in crate::http) fn begin(&mut self, data: &[u8]) {
        self.text.extend_from_slice(data);
        self.searched = 0;
    }

    /// Keeps more. Whether the end may have come with it, an empty line: only then it is parsed again, so that bytes
    /// that come one by one cost no square.
    pub(in crate::http) fn add(&mut self, data: &[u8]) -> bool {
        self.text.extend_from_slice(data);
        let begin = self.searched.saturating_sub(3);
        self.searched = self.text.len();
        memchr::memchr_iter(b'\n', &self.text[begin..]).any(|at| {
            let rest = &self.text[begin + at + 1..];
            rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
        })
    }

    /// It is complete, and has been parsed.
    pub(in crate::http) fn clear(&mut self) {
        self.text.clear();
    }
}
