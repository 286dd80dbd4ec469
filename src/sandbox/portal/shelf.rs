//! Rows by position, and positions by id: a million rows in little memory, and no search for each of their fields.

use std::collections::BTreeMap;

use uuid::Uuid;

/// Rows that have an id. A position is never used twice, so one that is kept after its row was removed finds nothing.
pub(super) struct Shelf<T> {
    rows: Vec<Option<(Uuid, T)>>,
    at: BTreeMap<Uuid, u32>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), at: BTreeMap::new() }
    }
}

impl<T> Shelf<T> {
    /// Adds a row; its position.
    pub(super) fn insert(&mut self, id: Uuid, row: T) -> u32 {
        let at = self.next();
        self.rows.push(Some((id, row)));
        self.at.insert(id, at);
        at
    }

    /// The position of the next row.
    pub(super) fn next(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("a sandbox holds fewer than 2^32 rows")
    }

    /// Adds many rows; to an empty shelf much faster than one by one.
    pub(super) fn fill(&mut self, rows: Vec<(Uuid, T)>) {
        let at = rows.iter().map(|(id, _)| *id).zip(self.next()..);
        if self.at.is_empty() {
            self.at = at.collect();
        } else {
            self.at.extend(at);
        }
        self.rows.extend(rows.into_iter().map(Some));
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.rows.get(at as usize)?.as_ref().map(|(_, row)| row)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.rows.get_mut(at as usize)?.as_mut().map(|(_, row)| row)
    }

    /// The id of the row there; nil, which nothing has, when it was removed.
    pub(super) fn id(&self, at: u32) -> Uuid {
        self.rows.get(at as usize).and_then(Option::as_ref).map_or(Uuid::nil(), |(id, _)| *id)
    }

    /// The position of a row.
    pub(super) fn find(&self, id: Uuid) -> Option<u32> {
        self.at.get(&id).copied()
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let (id, row) = self.rows.get_mut(at as usize)?.take()?;
        self.at.remove(&id);
        Some(row)
    }

    /// All rows with their positions and ids, in the order of their coming.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Uuid, &T)> {
        (0..).zip(&self.rows).filter_map(|(at, row)| row.as_ref().map(|(id, row)| (at, *id, row)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, _, row)| row)
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }
}
