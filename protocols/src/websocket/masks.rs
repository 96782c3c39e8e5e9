//! The keys that a client masks with: RFC 6455 §5.3 and §10.3. Pure.

use sha1_smol::{DIGEST_LENGTH, Sha1};

/// Keys that cannot be guessed from those before, without the seed; the same for the same seed.
///
/// # Design
///
/// SHA-1 of seed and count, which is here for the handshake anyway, gives five keys at a time. A generator of
/// the system's would make two runs of one simulation differ.
#[derive(Debug)]
pub(super) struct Masks {
    seed: [u8; 16],
    count: u64,
    keys: [u8; DIGEST_LENGTH],
    used: usize,
}

impl Masks {
    pub(super) fn new(seed: [u64; 2]) -> Self {
        let mut bytes = [0; 16];
        for (place, word) in bytes.chunks_exact_mut(8).zip(seed) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Self {
            seed: bytes,
            count: 0,
            keys: [0; DIGEST_LENGTH],
            used: DIGEST_LENGTH,
        }
    }

    pub(super) fn next(&mut self) -> [u8; 4] {
        let mut key = [0; 4];
        if self.used == DIGEST_LENGTH {
            let mut hash = Sha1::from(self.seed);
            hash.update(&self.count.to_le_bytes());
            self.keys = hash.digest().bytes();
            self.count += 1;
            self.used = 0;
        }
        key.copy_from_slice(&self.keys[self.used..][..4]);
        self.used += 4;
        key
    }

    /// For the handshake: §4.1, item 7.
    pub(super) fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        for piece in nonce.chunks_exact_mut(4) {
            piece.copy_from_slice(&self.next());
        }
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_keys_and_no_two_are_alike() {
        let (mut one, mut other) = (Masks::new([1, 2]), Masks::new([1, 2]));
        let mut third = Masks::new([1, 3]);
        let keys: Vec<_> = (0..1000).map(|_| one.next()).collect();
        assert!(keys.iter().all(|key| *key == other.next()));
        assert!(keys.iter().filter(|key| **key == third.next()).count() == 0);
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), keys.len());
    }
}
