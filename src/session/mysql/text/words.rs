//! Tables of words that are known when the gateway is compiled.

/// Slots of a table: a power of two, at least three times its words, so that most other words meet an empty
/// slot at once.
const SLOTS: usize = 512;

/// A list of words as a hash table.
pub(in super::super) struct Table {
    words: &'static [&'static [u8]],
    /// The key of the word in each slot; 0, which is that of no word, in an empty slot.
    keys: [u32; SLOTS],
    /// The index in `words` of the word in each slot.
    numbers: [u8; SLOTS],
}

/// What tells words apart at first sight: the length, the first two bytes and the last, letters in one case.
/// Few known words share one, and few others have that of a known word.
const fn key(len: u8, first: u8, second: u8, last: u8) -> u32 {
    u32::from_le_bytes([len, first | 0x20, second | 0x20, last | 0x20])
}

/// The slot at which the search for a key begins, below [`SLOTS`]. The factor was searched for: with it most
/// of the scanner's words are in that slot, and none is more than two beyond.
const fn first_slot(key: u32) -> u32 {
    key.wrapping_mul(0x8d64_b3ad) >> 23
}

/// A conversion that no trait does in a `const fn`.
const fn widen(slot: u32) -> usize {
    let (mut wide, mut rest) = (0, slot);
    while rest > 0 {
        (wide, rest) = (wide + 1, rest - 1);
    }
    wide
}

impl Table {
    /// Of words that are all in one case and have from two to 255 bytes each; at most 256 words.
    pub(in super::super) const fn new(words: &'static [&'static [u8]]) -> Self {
        let (mut keys, mut numbers) = ([0; SLOTS], [0; SLOTS]);
        let (mut at, mut number) = (0, 0_u8);
        while at < words.len() {
            let text = words[at];
            let (mut len, mut rest) = (0, text.len());
            while rest > 0 {
                (len, rest) = (len + 1, rest - 1);
            }
            let key = key(len, text[0], text[1], text[text.len() - 1]);
            let mut slot = widen(first_slot(key));
            while keys[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            (keys[slot], numbers[slot]) = (key, number);
            at += 1;
            number = number.wrapping_add(1);
        }
        Self {
            words,
            keys,
            numbers,
        }
    }

    /// The index of the word that `word` is, once each of its bytes is in the table's case by `fold`.
    #[inline]
    pub(in super::super) fn find(&self, word: &[u8], fold: impl Fn(u8) -> u8) -> Option<usize> {
        let ([first, second, ..], Some(last)) = (word, word.last()) else {
            return None;
        };
        let wanted = key(u8::try_from(word.len()).ok()?, *first, *second, *last);
        let mut slot = usize::try_from(first_slot(wanted)).ok()?;
        loop {
            let found = *self.keys.get(slot)?;
            if found == 0 {
                return None;
            }
            if found == wanted {
                let number = usize::from(*self.numbers.get(slot)?);
                // Byte by byte: for words as short as these that costs less than by the block.
                let mut pairs = word.iter().zip(*self.words.get(number)?);
                if pairs.all(|(byte, known)| fold(*byte) == *known) {
                    return Some(number);
                }
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}
