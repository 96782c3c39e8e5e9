//! Into which pieces bytes fall on their way.

use crate::random::Random;

/// How much a reader gets at once of what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chunking {
    /// Whatever the seed draws: often everything, sometimes less, sometimes one byte.
    #[default]
    Drawn,
    /// Everything that is there.
    Whole,
    /// At most so many bytes; 1 for the smallest pieces that there are.
    AtMost(usize),
}

impl Chunking {
    /// How many of `there` bytes, at least one.
    pub(super) fn draw(self, there: usize, random: &mut Random) -> usize {
        match self {
            Self::Whole => there,
            Self::AtMost(most) => there.min(most.max(1)),
            Self::Drawn => match random.below(8) {
                0 => 1,
                1..=2 => 1 + random.index(there),
                _ => there,
            },
        }
    }
}
