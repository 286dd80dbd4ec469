//! What whole lists showed last, and the use case that compares a page with it: a merge of two sorted streams, a stretch at a time.
//!
//! The promise of this table: whoever's row stands in it was read by us after the LMS showed that row, or is marked to be. So a row is kept
//! in the transaction that marks its learner, and a read that may not agree with the lists takes the learner's row back (`take_back`).

use std::sync::Arc;

use diesel::prelude::*;

use super::inbox::{mark_again, subject_row};
use super::runs::{Sweep, keep_sweep, mark_for_sweep};
use super::schema::{listed, listing, mark, run};
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::listing::{
    Begin, DIGEST_BYTES, Difference, Doubt, ListReading, ListRow, Sorting, Until, difference, merged, packed,
    taken_back, taken_back_in, turn_of, unpacked,
};
use crate::domain::subject::SubjectKind;

/// Most rows that are written in one transaction; the receiver's commits wait meanwhile. A page that shows nothing new is only read.
const TOUCHED_MAX: usize = 200;

/// Most rows of the last time that are looked at in one transaction: a page of them and some.
const KNOWN_MAX: usize = 1_200;

/// So many rows in a row do not come in an order by chance.
const TELLING_ROWS: usize = 8;

/// The name of the list of all learners.
pub const ALL_LEARNERS: &str = "";

/// A page of a list, as the LMS shows it now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListPage {
    /// The rows that are kept.
    pub rows: Vec<ShownRow>,
    /// How many rows the list has in all, if the LMS says.
    pub total: Option<u64>,
    /// Whether the list ends here.
    pub is_last: bool,
    /// Whether the page holds as many rows as belong there.
    pub is_whole: bool,
}

/// A row of a list, as the LMS shows it now.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownRow {
    /// Whose it is.
    pub learner: String,
    /// Its id; empty in the list of learners.
    pub row_id: String,
    /// What the client made of it.
    pub row: Vec<u8>,
}

impl ShownRow {
    fn id(&self) -> &str {
        if self.row_id.is_empty() { &self.learner } else { &self.row_id }
    }
}

/// For whom a list is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparing {
    /// For a sweep: who looks otherwise is marked, and of the list of learners those whose turn it is.
    Sweep {
        /// Tonight's turn.
        turn: u64,
        /// The newest sweep by lists that came to its end before.
        done_before: i64,
    },
    /// For a backfill, which reads all that it lists anyway: nobody is marked.
    Backfill,
}

/// What came of comparing a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListCounts {
    /// Rows that are new or look otherwise.
    pub changed: u64,
    /// Rows that should have come and did not.
    pub missing: u64,
    /// Learners who were not marked before.
    pub marked: u64,
    /// Of them, those whose turn it was.
    pub in_turn: u64,
}

impl Store {
    /// Compares the next page of a list with what it showed the last time, and keeps what it shows now, how far the sweep is, and the marks
    /// of all for whom something looks otherwise. Cut off anywhere, the page is read again, and what was kept is not found anew.
    ///
    /// # Errors
    /// The store failed.
    pub async fn compare_page(
        &self,
        portal: &str,
        sweep: Sweep,
        page: ListPage,
    ) -> Result<(Sweep, ListCounts), StoreError> {
        let Some(lists) = sweep.lists.clone() else { return Ok((sweep, ListCounts::default())) };
        let comparing = Comparing::Sweep { turn: lists.turn, done_before: lists.done_before };
        let (_, counts, sweep) = self.compare(portal, lists.reading, page, comparing, Some(sweep)).await?;
        Ok((sweep.expect("it was given"), counts))
    }

    /// Keeps what a page shows for the first sweep after a backfill, which reads everybody whom it lists.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keep_page(
        &self,
        portal: &str,
        reading: ListReading,
        page: ListPage,
    ) -> Result<ListReading, StoreError> {
        let (reading, ..) = self.compare(portal, reading, page, Comparing::Backfill, None).await?;
        Ok(reading)
    }

    async fn compare(
        &self,
        portal: &str,
        reading: ListReading,
        page: ListPage,
        comparing: Comparing,
        mut sweep: Option<Sweep>,
    ) -> Result<(ListReading, ListCounts, Option<Sweep>), StoreError> {
        let portal = portal.to_owned();
        let now = self.clock.now().0;
        let page = Arc::new(page);
        let mut cleared = ListCounts::default();
        let mut comparison = loop {
            let (portal, reading, page) = (portal.clone(), reading.clone(), Arc::clone(&page));
            let open = move |tx: &mut Tx<'_>| Comparison::open(tx, &portal, &reading, &page, comparing, cleared, now);
            match self.writer.run("open_list", open).await? {
                Opened::Cleared(counts) => cleared = counts,
                Opened::Ready(comparison) => break *comparison,
            }
        };
        let mut is_done = false;
        while !is_done {
            (comparison, sweep, is_done) = self
                .writer
                .run("compare_list", move |tx| {
                    let is_done = comparison.step(tx, now)?;
                    if is_done {
                        comparison.end(tx.db, sweep.as_mut())?;
                    }
                    Ok((comparison, sweep, is_done))
                })
                .await?;
        }
        Ok((comparison.reading, comparison.counts, sweep))
    }

    /// The first list of a portal behind this one that ever showed a row; of courses that the LMS no longer names, too.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_after(&self, portal: &str, list: &str) -> Result<Option<String>, StoreError> {
        let (portal, list) = (portal.to_owned(), list.to_owned());
        self.writer
            .run("list_after", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                let behind = listing::table.filter(listing::portal_id.eq(portal_id).and(listing::name.gt(list)));
                Ok(behind.order(listing::name).select(listing::name).first(tx.db).optional()?)
            })
            .await
    }

    /// How many lists of enrolments are known of a portal, and how many pages they had in all.
    ///
    /// # Errors
    /// The store failed.
    pub async fn known_lists(&self, portal: &str) -> Result<(u64, u64), StoreError> {
        let portal = portal.to_owned();
        self.writer
            .run("known_lists", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                let pages: Vec<i64> = listing::table
                    .filter(listing::portal_id.eq(portal_id).and(listing::name.ne(ALL_LEARNERS)))
                    .select(listing::pages)
                    .load(tx.db)?;
                Ok((pages.len() as u64, pages.iter().map(|pages| pages.unsigned_abs()).sum()))
            })
            .await
    }
}

/// A page that is being compared, over as many transactions as it takes.
struct Comparison {
    portal_id: i64,
    listing_id: i64,
    comparing: Comparing,
    /// How far the list is, once the page is done.
    reading: ListReading,
    /// The total that this page said.
    total: Option<u64>,
    is_last: bool,
    /// What is still to be compared, in the order of keys, each once.
    rows: std::collections::VecDeque<ListRow>,
    /// What of the last time it answers for; nothing when the list is in doubt.
    stretch: Option<(Begin, Until)>,
    counts: ListCounts,
}

/// What came of opening a list.
enum Opened {
    /// Some rows that were kept in another order are gone; what that counted so far.
    Cleared(ListCounts),
    /// The page can be compared.
    Ready(Box<Comparison>),
}

impl Comparison {
    fn open(
        tx: &mut Tx<'_>,
        portal: &str,
        reading: &ListReading,
        page: &ListPage,
        comparing: Comparing,
        cleared: ListCounts,
        now: i64,
    ) -> Result<Opened, StoreError> {
        let portal_id = super::log::portal_id(tx.db, portal)?;
        let (listing_id, usual) = listing_row(tx.db, portal_id, &reading.list)?;
        let (sorting, doubt) = sorting_of(usual, reading, page);
        let rows = page.rows.iter().map(|row| {
            let mut digest = tx.sealer.blind("listed", &row.row);
            digest.truncate(DIGEST_BYTES);
            ListRow { key: sorting.key(row.id()), learner: packed(&row.learner), digest }
        });
        let mut rows: Vec<ListRow> = rows.collect();
        // A list of one page is one look, whatever its order.
        rows.sort_by(|left, right| left.key.cmp(&right.key));
        rows.dedup_by(|left, right| left.key == right.key);
        let ends = rows.first().zip(rows.last()).map(|(first, last)| (first.key.as_slice(), last.key.as_slice()));
        let stretch = reading.stretch(page.total, ends, page.is_last);
        let after = ends.map_or(&[][..], |(_, last)| last).max(reading.after.as_slice()).to_vec();
        let reading = ListReading {
            list: reading.list.clone(),
            page: reading.page + 1,
            after,
            total: if reading.page == 0 { page.total } else { reading.total },
            doubt,
        };
        let stretch = doubt.is_none().then_some((stretch.begin, stretch.until));
        let mut comparison = Self {
            portal_id,
            listing_id,
            comparing,
            reading,
            total: page.total,
            is_last: page.is_last,
            rows: rows.into(),
            stretch,
            counts: cleared,
        };
        if sorting == usual {
            return Ok(Opened::Ready(Box::new(comparison)));
        }
        if comparison.clear(tx, now)? {
            return Ok(Opened::Cleared(comparison.counts));
        }
        diesel::update(listing::table.find(listing_id)).set(listing::sorting.eq(sorting.as_str())).execute(tx.db)?;
        Ok(Opened::Ready(Box::new(comparison)))
    }

    /// Lets go of some rows that are kept in an order in which the list comes no more; answers whether there were any. Under their other keys
    /// nobody would find them, not even who takes one back.
    fn clear(&mut self, tx: &mut Tx<'_>, now: i64) -> Result<bool, StoreError> {
        let mut some = known_in(tx.db, self.listing_id, &Begin::Behind(Vec::new()), &Until::End)?;
        some.truncate(TOUCHED_MAX);
        for row in &some {
            diesel::delete(listed::table.find((self.listing_id, &row.key))).execute(tx.db)?;
            self.counts.missing += 1;
            match self.reading.list == ALL_LEARNERS {
                // Taken back they would be there again.
                true => self.mark(tx, &row.learner, now)?,
                false => self.lost(tx, &row.learner, now)?,
            }
        }
        Ok(!some.is_empty())
    }

    /// Compares some; answers whether that was the last.
    fn step(&mut self, tx: &mut Tx<'_>, now: i64) -> Result<bool, StoreError> {
        let known = match &self.stretch {
            Some((begin, until)) => known_in(tx.db, self.listing_id, begin, until)?,
            None => self.known_of_rows(tx.db)?,
        };
        // Behind the last of a full load there may be more, so rows that are shown there must wait.
        let horizon = known.last().filter(|_| known.len() == KNOWN_MAX).map(|row| row.key.clone());
        let is_within = |row: &ListRow| horizon.as_ref().is_none_or(|horizon| row.key <= *horizon);
        let shown: Vec<ListRow> = self.rows.iter().take_while(|row| is_within(row)).cloned().collect();
        let mut touched = 0;
        let mut reached = None;
        for (known, shown) in merged(&known, &shown) {
            if touched == TOUCHED_MAX {
                break;
            }
            touched += self.settle(tx, known, shown, now)?;
            if shown.is_some() {
                self.rows.pop_front();
            }
            reached = known.or(shown).map(|row| row.key.clone());
        }
        let is_cut = touched == TOUCHED_MAX || horizon.is_some();
        if let (Some((begin, _)), Some(reached)) = (&mut self.stretch, reached) {
            *begin = Begin::Behind(reached);
        }
        Ok(!is_cut)
    }

    /// What is known of the rows that are shown; for a list in whose order nobody can go along.
    fn known_of_rows(&self, db: &mut SqliteConnection) -> Result<Vec<ListRow>, StoreError> {
        let mut known = Vec::new();
        for row in &self.rows {
            let found = listed::table.find((self.listing_id, &row.key)).select((listed::learner, listed::digest));
            let found: Option<(Vec<u8>, Vec<u8>)> = found.first(db).optional()?;
            known.extend(found.map(|(learner, digest)| ListRow { key: row.key.clone(), learner, digest }));
        }
        Ok(known)
    }

    /// Keeps what one row shows, and marks whom that is about; answers how many rows that wrote.
    fn settle(
        &mut self,
        tx: &mut Tx<'_>,
        known: Option<&ListRow>,
        shown: Option<&ListRow>,
        now: i64,
    ) -> Result<usize, StoreError> {
        let Some(difference) = difference(known, shown) else {
            return self.give_turn(tx, shown, now);
        };
        match difference {
            Difference::New(row) => {
                keep(tx.db, self.listing_id, row)?;
                self.counts.changed += 1;
                self.gained(tx, &row.learner, now)?;
            }
            Difference::Changed { known, shown } => {
                if !self.is_in_suspense(known) {
                    keep(tx.db, self.listing_id, shown)?;
                }
                self.counts.changed += 1;
                self.gained(tx, &shown.learner, now)?;
                if known.learner != shown.learner {
                    self.lost(tx, &known.learner, now)?;
                }
            }
            Difference::Missing(row) => {
                diesel::delete(listed::table.find((self.listing_id, &row.key))).execute(tx.db)?;
                self.counts.missing += 1;
                self.lost(tx, &row.learner, now)?;
            }
        }
        Ok(1)
    }

    /// Whether a row that was taken back stays so. What a read saw then may be gone before its own list is read, and only a read after a
    /// whole pass over the lists tells: the learner is read tonight, and again.
    fn is_in_suspense(&self, known: &ListRow) -> bool {
        match (self.comparing, taken_back_in(&known.digest)) {
            (Comparing::Sweep { done_before, .. }, Some(run)) => done_before <= run,
            (Comparing::Backfill, _) | (_, None) => false,
        }
    }

    /// A row came to a learner, or became another. A backfill stages it, and reads them.
    fn gained(&mut self, tx: &mut Tx<'_>, learner: &[u8], now: i64) -> Result<(), StoreError> {
        match self.comparing {
            Comparing::Sweep { .. } => self.mark(tx, learner, now),
            Comparing::Backfill => Ok(()),
        }
    }

    /// A learner's row is gone, or went to another. A backfill may have staged it for them before: so the sweep after it reads them.
    fn lost(&mut self, tx: &mut Tx<'_>, learner: &[u8], now: i64) -> Result<(), StoreError> {
        match self.comparing {
            Comparing::Sweep { .. } => self.mark(tx, learner, now),
            Comparing::Backfill => take_back(tx.db, self.portal_id, &unpack(learner)?),
        }
    }

    /// Marks a learner whom a list shows otherwise than it did. A read that is under way began before the list was read, so it does not
    /// count: the mark gets a new generation.
    fn mark(&mut self, tx: &mut Tx<'_>, learner: &[u8], now: i64) -> Result<(), StoreError> {
        let subject_id = learner_row(tx.db, self.portal_id, learner)?;
        let marked = mark::table.find(subject_id);
        let is_marked: bool = diesel::select(diesel::dsl::exists(marked)).get_result(tx.db)?;
        mark_again(tx.db, subject_id, now, "sweep")?;
        self.counts.marked += u64::from(!is_marked);
        Ok(())
    }

    /// Marks a learner who looks as before, if it is their turn.
    fn give_turn(&mut self, tx: &mut Tx<'_>, shown: Option<&ListRow>, now: i64) -> Result<usize, StoreError> {
        let (Comparing::Sweep { turn, .. }, Some(row)) = (self.comparing, shown) else { return Ok(0) };
        if self.reading.list != ALL_LEARNERS || turn_of(&unpack(&row.learner)?) != turn {
            return Ok(0);
        }
        let subject_id = learner_row(tx.db, self.portal_id, &row.learner)?;
        let marked = u64::from(mark_for_sweep(tx.db, subject_id, now)?);
        self.counts.marked += marked;
        self.counts.in_turn += marked;
        Ok(1)
    }

    /// Keeps how far the sweep is, and at its end how many pages the list has.
    fn end(&mut self, db: &mut SqliteConnection, sweep: Option<&mut Sweep>) -> Result<(), StoreError> {
        if self.is_last {
            let pages = i64::from(self.reading.page);
            let row = listing::table.find(self.listing_id).filter(listing::pages.ne(pages));
            diesel::update(row).set(listing::pages.eq(pages)).execute(db)?;
        }
        let Some(sweep) = sweep else { return Ok(()) };
        sweep.counts.learners += self.counts.marked;
        let Some(lists) = &mut sweep.lists else { return Ok(()) };
        if self.reading.list == ALL_LEARNERS {
            sweep.counts.total_first = sweep.counts.total_first.or(self.reading.total);
            sweep.counts.total_last = self.total;
        }
        lists.reading = self.reading.clone();
        lists.is_list_done = self.is_last;
        lists.lists += u64::from(self.is_last);
        lists.changed += self.counts.changed;
        lists.missing += self.counts.missing;
        lists.in_turn += self.counts.in_turn;
        keep_sweep(db, sweep)
    }
}

/// A read of a learner and the lists may not agree: it learned less than they show, or saw what may be gone again before they show it. So
/// the next sweep must not find the learner unchanged, and must miss them if they are gone by then: their row says nothing from now on.
pub(super) fn take_back(db: &mut SqliteConnection, portal_id: i64, learner: &str) -> Result<(), StoreError> {
    let Some((listing_id, key)) = place_of(db, portal_id, learner)? else { return Ok(()) };
    let digest = taken_back(newest_run(db)?);
    keep(db, listing_id, &ListRow { key, learner: packed(learner), digest })
}

/// The same where the LMS says that there is no such learner: whom no list ever showed may never have been.
pub(super) fn take_back_if_listed(db: &mut SqliteConnection, portal_id: i64, learner: &str) -> Result<(), StoreError> {
    let Some((listing_id, key)) = place_of(db, portal_id, learner)? else { return Ok(()) };
    let digest = taken_back(newest_run(db)?);
    diesel::update(listed::table.find((listing_id, key))).set(listed::digest.eq(digest)).execute(db)?;
    Ok(())
}

fn newest_run(db: &mut SqliteConnection) -> Result<i64, StoreError> {
    let newest: Option<i64> = run::table.select(diesel::dsl::max(run::id)).first(db)?;
    Ok(newest.unwrap_or(0))
}

/// Where a learner stands in the list of all; none before it was read.
fn place_of(db: &mut SqliteConnection, portal_id: i64, learner: &str) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
    let found: Option<(i64, String)> = listing::table
        .filter(listing::portal_id.eq(portal_id).and(listing::name.eq(ALL_LEARNERS)))
        .select((listing::id, listing::sorting))
        .first(db)
        .optional()?;
    Ok(found.map(|(id, sorting)| (id, parsed(&sorting).key(learner))))
}

/// In which order a list comes, and whether nothing can be concluded from it.
fn sorting_of(usual: Sorting, reading: &ListReading, page: &ListPage) -> (Sorting, Option<Doubt>) {
    let fits = |sorting: &Sorting| sorting.fits(page.rows.iter().map(ShownRow::id));
    if !page.is_whole {
        return (usual, reading.doubt.or(Some(Doubt::Short)));
    }
    let is_one_look = reading.page == 0 && page.is_last;
    if is_one_look || fits(&usual) {
        return (usual, reading.doubt);
    }
    let is_telling = page.rows.len() >= TELLING_ROWS;
    match Sorting::ALL.into_iter().find(|sorting| is_telling && fits(sorting)) {
        Some(sorting) if reading.page == 0 => (sorting, reading.doubt),
        // The pages before had too few rows to tell: they went along in the wrong order, and the next night will in the right one.
        Some(sorting) => (sorting, reading.doubt.or(Some(Doubt::Unordered))),
        None => (usual, reading.doubt.or(Some(Doubt::Unordered))),
    }
}

/// The row of a list, made when it is first read, and its order.
fn listing_row(db: &mut SqliteConnection, portal_id: i64, name: &str) -> Result<(i64, Sorting), StoreError> {
    let is_it = listing::portal_id.eq(portal_id).and(listing::name.eq(name));
    let found: Option<(i64, String)> =
        listing::table.filter(is_it).select((listing::id, listing::sorting)).first(db).optional()?;
    if let Some((id, sorting)) = found {
        return Ok((id, parsed(&sorting)));
    }
    let sorting = Sorting::default();
    let id = diesel::insert_into(listing::table)
        .values((
            listing::portal_id.eq(portal_id),
            listing::name.eq(name),
            listing::sorting.eq(sorting.as_str()),
            listing::pages.eq(1_i64),
        ))
        .returning(listing::id)
        .get_result(db)?;
    Ok((id, sorting))
}

fn parsed(sorting: &str) -> Sorting {
    Sorting::parse(sorting).expect("a CHECK constraint spells the orders")
}

/// What was kept of a stretch, the first of it.
fn known_in(
    db: &mut SqliteConnection,
    listing_id: i64,
    begin: &Begin,
    until: &Until,
) -> Result<Vec<ListRow>, StoreError> {
    let columns = (listed::row_key, listed::learner, listed::digest);
    let rows = listed::table.filter(listed::listing_id.eq(listing_id)).order(listed::row_key).select(columns);
    let rows = rows.limit(KNOWN_MAX as i64).into_boxed();
    let rows = match begin {
        Begin::With(key) => rows.filter(listed::row_key.ge(key)),
        Begin::Behind(key) => rows.filter(listed::row_key.gt(key)),
    };
    let rows = match until {
        Until::With(key) => rows.filter(listed::row_key.le(key)),
        Until::End => rows,
        Until::Nowhere => return Ok(Vec::new()),
    };
    let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = rows.load(db)?;
    Ok(rows.into_iter().map(|(key, learner, digest)| ListRow { key, learner, digest }).collect())
}

fn keep(db: &mut SqliteConnection, listing_id: i64, row: &ListRow) -> Result<(), StoreError> {
    diesel::replace_into(listed::table)
        .values((
            listed::listing_id.eq(listing_id),
            listed::row_key.eq(&row.key),
            listed::learner.eq(&row.learner),
            listed::digest.eq(&row.digest),
        ))
        .execute(db)?;
    Ok(())
}

fn learner_row(db: &mut SqliteConnection, portal_id: i64, learner: &[u8]) -> Result<i64, StoreError> {
    subject_row(db, portal_id, SubjectKind::Learner, &unpack(learner)?)
}

fn unpack(learner: &[u8]) -> Result<String, StoreError> {
    unpacked(learner).ok_or_else(|| StoreError::Mismatch("a listed row names no learner".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::ReadRecords;
    use crate::store::ByLists;
    use crate::store::tests::{Ledger, lms_id};

    const COURSE: &str = "3765aaaa-2ce0-41d4-b532-02189ad3cb22";

    /// A page of enrolments, each with its number, of ten learners in turn.
    fn page(numbers: impl Iterator<Item = u32>, says: &str) -> ListPage {
        let row = |number: u32| ShownRow {
            learner: lms_id(number % 10),
            row_id: lms_id(number),
            row: format!("{number} {says}").into_bytes(),
        };
        ListPage { rows: numbers.map(row).collect(), total: Some(9), is_last: true, is_whole: true }
    }

    async fn compared(ledger: &Ledger, list: &str, page: ListPage) -> (Sweep, ListCounts) {
        compared_after(ledger, list, page, i64::MAX).await
    }

    async fn compared_after(ledger: &Ledger, list: &str, page: ListPage, done_before: i64) -> (Sweep, ListCounts) {
        let sweep = ledger.store.begin_sweep("main").await.expect("begins");
        let reading = ListReading::of(list.to_owned());
        let lists = ByLists { reading, turn: 99, done_before, ..ByLists::default() };
        let sweep = Sweep { lists: Some(lists), ..sweep };
        ledger.store.compare_page("main", sweep, page).await.expect("compares")
    }

    #[tokio::test]
    async fn a_page_that_answers_for_far_more_rows_than_it_has_is_compared_in_many_small_transactions() {
        let ledger = Ledger::new().await;
        let first = ListReading::of(COURSE.to_owned());
        ledger.store.keep_page("main", first, page(0..3_000, "a")).await.expect("is kept");
        // Nothing of it was marked: whoever fills the table reads everybody.
        assert!(matches!(
            ledger.store.next_subject("main").await.expect("asks"),
            crate::store::NextSubject::Rest(None)
        ));
        let (sweep, counts) = compared(&ledger, COURSE, page([1_500].into_iter(), "a")).await;
        assert_eq!(counts, ListCounts { changed: 0, missing: 2_999, marked: 10, in_turn: 0 });
        let kept = ledger.store.begin_sweep("main").await.expect("goes on");
        assert_eq!((kept.lists, kept.counts.learners), (sweep.lists, 10));
        assert_eq!(compared(&ledger, COURSE, page([1_500].into_iter(), "a")).await.1, ListCounts::default());
        assert_eq!(compared(&ledger, COURSE, page([1_500].into_iter(), "b")).await.1.changed, 1);
    }

    #[tokio::test]
    async fn a_page_with_a_row_too_few_proves_nothing_missing_and_still_shows_what_changed() {
        let ledger = Ledger::new().await;
        let first = ListReading::of(COURSE.to_owned());
        ledger.store.keep_page("main", first, page(0..5, "a")).await.expect("is kept");
        let short = ListPage { is_whole: false, ..page([1, 3].into_iter(), "b") };
        let (sweep, counts) = compared(&ledger, COURSE, short).await;
        assert_eq!((counts.changed, counts.missing), (2, 0));
        assert_eq!(sweep.lists.and_then(|lists| lists.reading.doubt), Some(Doubt::Short));
    }

    #[tokio::test]
    async fn a_row_that_went_to_another_learner_marks_both() {
        let ledger = Ledger::new().await;
        let first = ListReading::of(COURSE.to_owned());
        ledger.store.keep_page("main", first, page(0..1, "a")).await.expect("is kept");
        let mut moved = page(0..1, "a");
        moved.rows[0].learner = lms_id(7);
        assert_eq!(compared(&ledger, COURSE, moved).await.1.marked, 2);
    }

    #[tokio::test]
    async fn a_read_that_may_not_agree_with_the_lists_is_repeated_until_all_of_them_were_read_since() {
        let ledger = Ledger::new().await;
        let everybody = || {
            let row = ShownRow { learner: lms_id(1), row_id: String::new(), row: b"a".to_vec() };
            ListPage { rows: vec![row], total: Some(1), is_last: true, is_whole: true }
        };
        ledger.store.keep_page("main", ListReading::default(), everybody()).await.expect("is kept");
        let complete = std::collections::BTreeSet::from([learnsync_sdk::RecordKind::Completion]);
        for what in ["something new", "less than before"] {
            match what {
                "something new" => ledger.completes(1, "Ada", "Byron").await,
                _ => {
                    ledger.later(60_000);
                    ledger.hook(1).await;
                    let records = ReadRecords { records: Vec::new(), complete: complete.clone() };
                    assert_eq!(ledger.read(1, records).await.suspected_absent, 1);
                }
            }
            let mut found = Vec::new();
            for done_before in [0, 0, i64::MAX, i64::MAX] {
                found.push(compared_after(&ledger, ALL_LEARNERS, everybody(), done_before).await.1.changed);
            }
            assert_eq!(found, [1, 1, 1, 0], "{what}");
        }
    }
}
