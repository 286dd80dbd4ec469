//! Whole lists of an LMS, and what may be concluded when one is compared with what it showed the last time. Pure.
//!
//! Both are streams in the order of row ids, so they are merged, a stretch at a time. A row that is new or looks otherwise says that its
//! learner is worth a read; so does one that is missing where it should have come. Nothing more is concluded: what became of the learner,
//! only a read of the learner tells.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// In how many nights every learner is read again, whatever the lists say: certificates and competencies stand in none.
pub const TURNS: u64 = 7;

/// The bytes of a digest. A change that goes unnoticed needs two rows of one id whose keyed hashes agree in all of them.
pub const DIGEST_BYTES: usize = 8;

/// What stands before an id that is a GUID, and before any other.
const GUID: u8 = 0;
const OTHER: u8 = 1;

/// What stands before the run of a row that was taken back.
const TAKEN_BACK: u8 = 2;

/// In which order of ids a portal gives a list that it was asked to sort by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sorting {
    /// As text.
    #[default]
    Text,
    /// As SQL Server compares GUIDs: by their last group first
    /// (<https://learn.microsoft.com/en-us/sql/connect/ado-net/sql/compare-guid-uniqueidentifier-values>).
    SqlServer,
}

impl Sorting {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Text, Self::SqlServer];

    /// Its word in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::SqlServer => "sql_server",
        }
    }

    /// That of a word of the ledger.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sorting| sorting.as_str() == word)
    }

    /// A row's id as bytes that sort as the list does; never empty.
    #[must_use]
    pub fn key(self, id: &str) -> Vec<u8> {
        match (self, packed_guid(id)) {
            (_, None) => tagged(OTHER, id.as_bytes()),
            (Self::Text, Some(bytes)) => tagged(GUID, &bytes),
            (Self::SqlServer, Some(bytes)) => {
                // The last two groups as they are written; the first three are kept with their bytes turned around.
                const ORDER: [usize; 16] = [10, 11, 12, 13, 14, 15, 8, 9, 7, 6, 5, 4, 3, 2, 1, 0];
                tagged(GUID, &ORDER.map(|place| bytes[place]))
            }
        }
    }

    /// Whether ids come in this order.
    #[must_use]
    pub fn fits<'a>(self, ids: impl Iterator<Item = &'a str>) -> bool {
        ids.map(|id| self.key(id)).is_sorted()
    }
}

/// A learner's id, as short as it can be kept.
#[must_use]
pub fn packed(id: &str) -> Vec<u8> {
    match packed_guid(id) {
        Some(bytes) => tagged(GUID, &bytes),
        None => tagged(OTHER, id.as_bytes()),
    }
}

/// The id that was packed; none if it was not.
#[must_use]
pub fn unpacked(bytes: &[u8]) -> Option<String> {
    match bytes.split_first()? {
        (&GUID, guid) => Some(Uuid::from_slice(guid).ok()?.hyphenated().to_string()),
        (&OTHER, text) => String::from_utf8(text.to_vec()).ok(),
        (_, _) => None,
    }
}

/// The bytes of a GUID in its one spelling; any other spelling is another id.
fn packed_guid(id: &str) -> Option<[u8; 16]> {
    let guid = Uuid::try_parse(id).ok()?;
    let mut spelled = [0; uuid::fmt::Hyphenated::LENGTH];
    (guid.hyphenated().encode_lower(&mut spelled) == id).then(|| guid.into_bytes())
}

fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + bytes.len());
    key.push(tag);
    key.extend_from_slice(bytes);
    key
}

/// In which of the `TURNS` nights a learner is read whatever the lists say; the same on every machine.
#[must_use]
pub fn turn_of(learner: &str) -> u64 {
    let digest = Sha256::digest(learner.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) % TURNS
}

/// What stands in the place of a digest when a read and the lists may not agree: the newest run of that time.
#[must_use]
pub fn taken_back(newest_run: i64) -> Vec<u8> {
    tagged(TAKEN_BACK, &newest_run.to_be_bytes())
}

/// The run of `taken_back`; none for a digest, which is shorter.
#[must_use]
pub fn taken_back_in(digest: &[u8]) -> Option<i64> {
    let (&TAKEN_BACK, run) = digest.split_first()? else { return None };
    Some(i64::from_be_bytes(run.try_into().ok()?))
}

/// A row of a list: shown now, or kept from the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow {
    /// Its id, as `Sorting::key` makes it.
    pub key: Vec<u8>,
    /// Whose it is, packed.
    pub learner: Vec<u8>,
    /// Of all that it says.
    pub digest: Vec<u8>,
}

/// How a list differs at one row from what it showed the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference<'a> {
    /// Not there before.
    New(&'a ListRow),
    /// There before, and otherwise.
    Changed {
        /// As it was.
        known: &'a ListRow,
        /// As it is.
        shown: &'a ListRow,
    },
    /// It should have come here, and did not.
    Missing(&'a ListRow),
}

/// Compares two rows of one id, or one of them with nothing.
#[must_use]
pub fn difference<'a>(known: Option<&'a ListRow>, shown: Option<&'a ListRow>) -> Option<Difference<'a>> {
    match (known, shown) {
        (None, None) => None,
        (None, Some(shown)) => Some(Difference::New(shown)),
        (Some(known), None) => Some(Difference::Missing(known)),
        (Some(known), Some(shown)) if known == shown => None,
        (Some(known), Some(shown)) => Some(Difference::Changed { known, shown }),
    }
}

/// Merges two stretches that are sorted by key: each key once, with the row of either side.
pub fn merged<'a>(
    known: &'a [ListRow],
    shown: &'a [ListRow],
) -> impl Iterator<Item = (Option<&'a ListRow>, Option<&'a ListRow>)> {
    let (mut known, mut shown) = (known.iter().peekable(), shown.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (known.peek(), shown.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(known), Some(shown)) => known.key.cmp(&shown.key),
        };
        let takes_known = order.is_le().then(|| known.next()).flatten();
        let takes_shown = order.is_ge().then(|| shown.next()).flatten();
        Some((takes_known, takes_shown))
    })
}

/// How far one list was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListReading {
    /// Which: empty for all learners, else the course.
    pub list: String,
    /// The next page.
    pub page: u32,
    /// The key of the last row that was compared; empty before the first.
    pub after: Vec<u8>,
    /// The total that its first page said.
    pub total: Option<u64>,
    /// Why nothing is concluded from what it does not show.
    pub doubt: Option<Doubt>,
}

/// Why a list is compared row by row, and proves nothing missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// It has several pages, and comes in no order that we know.
    Unordered,
    /// A page held other than the rows that belong there.
    Short,
}

impl ListReading {
    /// Before the first page of a list.
    #[must_use]
    pub fn of(list: String) -> Self {
        Self { list, ..Self::default() }
    }

    /// The stretch of the last time that a page answers for: what is known there and not shown is missing.
    ///
    /// One page is one look of the LMS, so between its rows nothing can hide. Between two pages, and behind the last, a row may have slipped
    /// through while the list moved: there something is concluded only if the total is still that of the first page.
    #[must_use]
    pub fn stretch(&self, total: Option<u64>, keys: Option<(&[u8], &[u8])>, is_last: bool) -> Stretch {
        let is_steady = self.page == 0 || total == self.total;
        let until = match keys {
            _ if is_last && is_steady => Until::End,
            Some((_, last)) => Until::With(last.to_vec()),
            None => Until::Nowhere,
        };
        match keys {
            // Rows that moved to a later page come twice; they are compared again.
            Some((first, _)) if !is_steady || first <= self.after.as_slice() => {
                Stretch { begin: Begin::With(first.to_vec()), until }
            }
            Some(_) | None => Stretch { begin: Begin::Behind(self.after.clone()), until },
        }
    }
}

/// A part of what a list showed the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub begin: Begin,
    /// Where it ends.
    pub until: Until,
}

/// Where a stretch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the row of this key.
    With(Vec<u8>),
    /// With the first row behind this key.
    Behind(Vec<u8>),
}

/// Where a stretch ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// With the row of this key.
    With(Vec<u8>),
    /// With the list.
    End,
    /// Before it begins: the page shows nothing, and proves nothing.
    Nowhere,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: u8, digest: u8) -> ListRow {
        ListRow { key: vec![key], learner: vec![9], digest: vec![digest] }
    }

    #[test]
    fn two_sorted_stretches_are_merged_and_each_difference_is_named() {
        let known = [row(1, 0), row(2, 0), row(4, 0)];
        let shown = [row(2, 1), row(3, 0), row(4, 0)];
        let found: Vec<String> = merged(&known, &shown)
            .filter_map(|(known, shown)| difference(known, shown))
            .map(|difference| match difference {
                Difference::New(row) => format!("new {}", row.key[0]),
                Difference::Changed { shown, .. } => format!("changed {}", shown.key[0]),
                Difference::Missing(row) => format!("missing {}", row.key[0]),
            })
            .collect();
        assert_eq!(found, ["missing 1", "changed 2", "new 3"]);
        let other = ListRow { learner: vec![8], ..row(1, 0) };
        assert!(difference(Some(&known[0]), Some(&other)).is_some(), "it went to another learner");
    }

    #[test]
    fn ids_are_kept_short_and_read_back_as_they_were() {
        for id in ["a14c149a-2ce0-41d4-b532-02189ad3cb22", "A14C149A-2CE0-41D4-B532-02189AD3CB22", "12345", "", "é"] {
            assert_eq!(unpacked(&packed(id)).as_deref(), Some(id));
        }
        assert_eq!(packed("a14c149a-2ce0-41d4-b532-02189ad3cb22").len(), 17);
        assert_ne!(packed("a14c149a-2ce0-41d4-b532-02189ad3cb22"), packed("a14c149a2ce041d4b53202189ad3cb22"));
    }

    #[test]
    fn what_was_taken_back_is_no_digest_and_no_digest_was_taken_back() {
        assert_eq!(taken_back_in(&taken_back(7)), Some(7));
        assert_eq!(taken_back_in(&[TAKEN_BACK; DIGEST_BYTES]), None);
        assert_eq!(taken_back_in(&[]), None);
    }

    #[test]
    fn the_order_of_sql_server_is_that_of_its_own_documentation() {
        // Each differs from the one before in one group only, and Microsoft's page sorts them so.
        let ascending = [
            "01020304-0506-0708-090a-0b0c0d0e0f10",
            "ff020304-0506-0708-090a-0b0c0d0e0f10",
            "01020304-05ff-0708-090a-0b0c0d0e0f10",
            "01020304-0506-07ff-090a-0b0c0d0e0f10",
            "01020304-0506-0708-09ff-0b0c0d0e0f10",
            "01020304-0506-0708-090a-0b0c0d0e0fff",
        ];
        assert!(Sorting::SqlServer.fits(ascending.into_iter()) && !Sorting::Text.fits(ascending.into_iter()));
        let of_first_group = ["02000001-0000-0000-0000-000000000000", "01000002-0000-0000-0000-000000000000"];
        assert!(Sorting::SqlServer.fits(of_first_group.into_iter()), "the first group is compared from its end");
        for sorting in Sorting::ALL {
            assert_eq!(Sorting::parse(sorting.as_str()), Some(sorting));
        }
    }

    #[test]
    fn every_learner_has_one_turn_and_the_turns_are_about_equal() {
        let mut turns = [0; TURNS as usize];
        for number in 0..7_000 {
            turns[turn_of(&format!("learner {number}")) as usize] += 1;
        }
        assert!(turns.iter().all(|count| (900..1_100).contains(count)), "{turns:?}");
    }

    #[test]
    fn what_a_page_does_not_show_is_missing_only_where_nothing_can_have_slipped_through() {
        let at =
            |page, after: &[u8]| ListReading { page, after: after.to_vec(), total: Some(9), ..ListReading::default() };
        let (row, behind) = (|key: u8| Begin::With(vec![key]), |key: &[u8]| Begin::Behind(key.to_vec()));
        let table = [
            ("the first page", at(0, &[]), Some(9), Some((4, 7)), false, behind(&[]), Until::With(vec![7])),
            ("a later page", at(1, &[7]), Some(9), Some((8, 9)), false, behind(&[7]), Until::With(vec![9])),
            ("the last page", at(1, &[7]), Some(9), Some((8, 9)), true, behind(&[7]), Until::End),
            ("rows moved", at(1, &[7]), Some(8), Some((8, 9)), true, row(8), Until::With(vec![9])),
            ("rows come twice", at(1, &[7]), Some(9), Some((6, 9)), false, row(6), Until::With(vec![9])),
            ("the only page", at(0, &[]), Some(9), Some((4, 7)), true, behind(&[]), Until::End),
            ("an empty list", at(0, &[]), Some(0), None, true, behind(&[]), Until::End),
            ("an empty last page", at(1, &[7]), Some(9), None, true, behind(&[7]), Until::End),
            ("a page of nothing that we keep", at(1, &[7]), Some(9), None, false, behind(&[7]), Until::Nowhere),
            ("an end that came too soon", at(1, &[7]), Some(7), None, true, behind(&[7]), Until::Nowhere),
        ];
        for (what, reading, total, keys, is_last, begin, until) in table {
            let keys: Option<([u8; 1], [u8; 1])> = keys.map(|(first, last)| ([first], [last]));
            let keys = keys.as_ref().map(|(first, last)| (first.as_slice(), last.as_slice()));
            assert_eq!(reading.stretch(total, keys, is_last), Stretch { begin, until }, "{what}");
        }
    }
}
