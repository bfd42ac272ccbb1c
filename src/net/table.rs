//! A table that grows in pieces of a fixed size: growing moves nothing, so that a core with many
//! connections never holds a second copy of the table, nor one that is half empty.

use std::ops::{Index, IndexMut};

/// Elements of a piece.
const PIECE: usize = 64;

/// Elements by their number. All pieces but the last are full.
pub(super) struct Table<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// Elements in the table.
    pub(super) fn len(&self) -> usize {
        let last = self.pieces.last().map_or(PIECE, Vec::len);
        self.pieces.len() * PIECE + last - PIECE
    }

    /// Adds an element behind the others; its number.
    pub(super) fn push(&mut self, value: T) -> usize {
        let number = self.len();
        if number.is_multiple_of(PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(last) = self.pieces.last_mut() {
            last.push(value);
        }
        number
    }

    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.pieces.get(number / PIECE)?.get(number % PIECE)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.pieces.get_mut(number / PIECE)?.get_mut(number % PIECE)
    }
}

impl<T> Index<usize> for Table<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: usize) -> &T {
        &self.pieces[number / PIECE][number % PIECE]
    }
}

impl<T> IndexMut<usize> for Table<T> {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.pieces[number / PIECE][number % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_number_and_their_place_in_memory() {
        let mut table = Table::new();
        assert!(table.len() == 0 && table.get(0).is_none());
        let mut places = Vec::new();
        for n in 0..3 * PIECE + 1 {
            assert_eq!(table.push(n), n);
            assert_eq!(table.len(), n + 1);
            places.push(&raw const table[n]);
        }
        for (n, place) in places.into_iter().enumerate() {
            assert_eq!((table.get(n), &raw const table[n]), (Some(&n), place));
        }
        table[PIECE] = 7;
        assert_eq!(table.get_mut(PIECE), Some(&mut 7));
        assert_eq!(table.get(3 * PIECE + 1), None);
    }
}
