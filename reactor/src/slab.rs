//! Values under small numbers that are never mistaken for one another.
//!
//! A [`Slab`] keeps what the loop registers: the driver's events carry a
//! [`Token`] as a `u64`, and the slab finds what it stands for.
//!
//! # Order
//!
//! A slot is reused under a new generation: the token of a value that was
//! removed finds nothing, also when an event with it is still on its way.
//! The last slot freed is the first one reused.
//!
//! A generation comes again after 2^32 reuses of the same slot. A token would
//! have to be kept for exactly that many to find a value that is not its own.

use std::mem;

/// Values of type `T` under generational tokens.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The slot to be reused next, the first of a list through the free slots.
    first_free: Option<u32>,
    len: usize,
}

/// Names a value in a [`Slab`] from its insertion until its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// The token as a number, for the driver to carry. Never `u64::MAX` or
    /// `u64::MAX - 1`, which the driver keeps for itself.
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The token of a number that [`to_u64`](Self::to_u64) made. Any other
    /// number makes a token that finds nothing, or some value of the slab.
    pub(crate) fn from_u64(number: u64) -> Self {
        Self {
            index: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

impl<T> Slab<T> {
    /// Creates an empty slab.
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            first_free: None,
            len: 0,
        }
    }

    /// Keeps `value`, and returns its token.
    ///
    /// # Panics
    ///
    /// When the slab holds 2^32 - 2 values.
    pub(crate) fn insert(&mut self, value: T) -> Token {
        self.insert_with(|_| value)
    }

    /// Keeps the value that `make` returns when it is told its own token.
    ///
    /// # Panics
    ///
    /// When the slab holds 2^32 - 2 values. A panic of `make` leaves the slab
    /// as it was.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        let index = self.first_free.unwrap_or_else(|| {
            let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            assert!(index <= INDEX_MAX, "the slab is full");
            index
        });
        let generation = self
            .slots
            .get(index as usize)
            .map_or(0, |slot| slot.generation);
        let token = Token { index, generation };
        let content = Content::Value(make(token));
        match self.slots.get_mut(index as usize) {
            None => self.slots.push(Slot {
                generation,
                content,
            }),
            Some(slot) => {
                let Content::Free { next } = mem::replace(&mut slot.content, content) else {
                    unreachable!("the list of free slots holds a used one");
                };
                self.first_free = next;
            }
        }
        self.len += 1;
        token
    }

    /// Takes a value out; `None` if its token is stale.
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        // Looked up first: the slot of a stale token must stay as it is.
        self.get(token)?;
        let slot = &mut self.slots[token.index as usize];
        let next = self.first_free.replace(token.index);
        let content = mem::replace(&mut slot.content, Content::Free { next });
        slot.generation = slot.generation.wrapping_add(1);
        self.len -= 1;
        match content {
            Content::Value(value) => Some(value),
            Content::Free { .. } => unreachable!("the value was found above"),
        }
    }

    /// Takes all values out, in the order of their slots. Their tokens find nothing from then on,
    /// not even what comes after them.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let tokens: Vec<_> = self.iter().map(|(token, _)| token).collect();
        let taken = tokens.into_iter().filter_map(|token| self.remove(token));
        taken.collect()
    }

    /// The value of a token, to change it; `None` if the token is stale.
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let slot = self.slots.get_mut(token.index as usize)?;
        match &mut slot.content {
            Content::Value(value) if slot.generation == token.generation => Some(value),
            _ => None,
        }
    }

    /// The value of a token; `None` if the token is stale.
    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        let slot = self.slots.get(token.index as usize)?;
        match &slot.content {
            Content::Value(value) if slot.generation == token.generation => Some(value),
            _ => None,
        }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All values with their tokens, in the order of their slots: the same use
    /// gives the same order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.slots
            .iter()
            .zip(0..)
            .filter_map(|(slot, index)| match &slot.content {
                Content::Value(value) => {
                    let generation = slot.generation;
                    Some((Token { index, generation }, value))
                }
                Content::Free { .. } => None,
            })
    }
}

#[derive(Debug)]
struct Slot<T> {
    /// Of the value that is here or, if the slot is free, of the next one.
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Value(T),
    Free { next: Option<u32> },
}

/// The last index in use. The two above it are those of `u64::MAX` and
/// `u64::MAX - 1`.
const INDEX_MAX: u32 = u32::MAX - 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn value_is_found_until_it_is_removed() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        let second = slab.insert("second");
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.get(first), Some(&"first"));
        *slab.get_mut(second).expect("second was inserted") = "changed";
        assert_eq!(slab.remove(second), Some("changed"));
        assert_eq!(slab.get(second), None);
        assert_eq!(slab.get_mut(second), None);
        assert_eq!(slab.remove(second), None);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn stale_token_of_a_reused_slot_finds_nothing() {
        let mut slab = Slab::new();
        let stale = slab.insert("old");
        slab.remove(stale);
        let token = slab.insert("new");
        assert_eq!(token.index, stale.index);
        assert_eq!(slab.get(stale), None);
        assert_eq!(slab.get_mut(stale), None);
        assert_eq!(slab.remove(stale), None);
        assert_eq!(slab.get(token), Some(&"new"));
    }

    #[test]
    fn token_of_a_free_slot_finds_nothing_even_before_its_value_comes() {
        let mut slab = Slab::new();
        let token = slab.insert(());
        slab.remove(token);
        let next = Token {
            index: token.index,
            generation: token.generation + 1,
        };
        assert_eq!(slab.get(next), None);
        assert_eq!(slab.remove(next), None);
        assert_eq!(slab.insert(()), next);
    }

    #[test]
    fn last_slot_freed_is_reused_first() {
        let mut slab = Slab::new();
        let tokens: Vec<_> = (0..4).map(|value| slab.insert(value)).collect();
        for freed in [1, 3, 0] {
            slab.remove(tokens[freed]);
        }
        let reused: Vec<_> = (0..4).map(|value| slab.insert(value).index).collect();
        assert_eq!(reused, [0, 3, 1, 4]);
    }

    #[test]
    fn value_is_told_its_own_token() {
        let mut slab = Slab::new();
        let first = slab.insert_with(|token| token);
        slab.remove(first);
        let second = slab.insert_with(|token| token);
        assert_eq!(slab.get(second), Some(&second));
    }

    #[test]
    fn panic_while_a_value_is_made_leaves_the_slab_as_it_was() {
        let mut slab = Slab::new();
        let freed = slab.insert(1);
        slab.remove(freed);
        for _ in 0..2 {
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                slab.insert_with(|_| panic!("no value"));
            }));
            assert!(unwound.is_err());
            assert_eq!(slab.len(), 0);
        }
        assert_eq!(slab.insert(2).index, freed.index);
        assert_eq!(slab.insert(3).index, freed.index + 1);
    }

    #[test]
    fn values_are_listed_in_the_order_of_their_slots() {
        let mut slab = Slab::new();
        let tokens: Vec<_> = (0..4).map(|value| slab.insert(value)).collect();
        slab.remove(tokens[1]);
        slab.remove(tokens[2]);
        let last = slab.insert(5);
        let listed: Vec<_> = slab.iter().map(|(token, value)| (token, *value)).collect();
        assert_eq!(listed, [(tokens[0], 0), (last, 5), (tokens[3], 3)]);
    }

    #[test]
    fn token_survives_the_way_through_a_number() {
        for (index, generation) in [(0, 0), (1, 2), (INDEX_MAX, u32::MAX), (7, u32::MAX)] {
            let token = Token { index, generation };
            assert_eq!(Token::from_u64(token.to_u64()), token);
        }
    }

    #[test]
    fn no_token_is_one_of_the_drivers_own_numbers() {
        let highest = Token {
            index: INDEX_MAX,
            generation: u32::MAX,
        };
        assert_eq!(highest.to_u64(), u64::MAX - 2);
    }

    #[test]
    fn tokens_of_what_was_taken_all_at_once_find_nothing_that_comes_later() {
        let mut slab = Slab::new();
        let mut tokens: Vec<_> = (0..4).map(|value| slab.insert(value)).collect();
        slab.remove(tokens.remove(1));
        assert_eq!(slab.take_all(), [0, 2, 3]);
        assert!(slab.is_empty() && slab.take_all().is_empty());
        for value in 4..8 {
            slab.insert(value);
        }
        assert!(tokens.iter().all(|token| slab.get(*token).is_none()));
    }

    #[test]
    fn generation_starts_over_after_the_last() {
        let mut slab = Slab::new();
        let token = slab.insert(());
        slab.remove(token);
        slab.slots[token.index as usize].generation = u32::MAX;
        let last = slab.insert(());
        assert_eq!(last.generation, u32::MAX);
        slab.remove(last);
        assert_eq!(slab.insert(()).generation, 0);
    }

    #[test]
    fn random_use_agrees_with_a_map() {
        let (mut slab, mut map) = (Slab::new(), BTreeMap::new());
        let (mut tokens, mut random) = (Vec::new(), 1_u64);
        for value in 0..20_000_u64 {
            // A linear congruential generator (Knuth's MMIX).
            random = random.wrapping_mul(6364136223846793005);
            random = random.wrapping_add(1442695040888963407);
            let draw = (random >> 33) as usize;
            if draw % 5 < 3 || tokens.is_empty() {
                let token = slab.insert(value);
                assert_eq!(map.insert(token.to_u64(), value), None);
                tokens.push(token);
            } else {
                let token = tokens[draw % tokens.len()];
                assert_eq!(slab.remove(token), map.remove(&token.to_u64()));
            }
            assert_eq!(slab.len(), map.len());
        }
        for token in tokens {
            assert_eq!(slab.get(token), map.get(&token.to_u64()));
        }
        assert_eq!(slab.iter().count(), map.len());
    }
}
